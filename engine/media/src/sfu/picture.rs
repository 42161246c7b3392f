//! Keeps VP8's counters continuous when a subscription changes encoding (RFC 7741 §4.2:
//! receivers take a jump for lost frames).

use crate::codec::vp8::{Vp8Counters, Vp8Descriptor};

/// The offsets in force for one subscription.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PictureContinuity {
    offset: Vp8Counters,
    /// Counters of the newest frame sent.
    newest: Option<Vp8Counters>,
}

impl PictureContinuity {
    /// The stream goes on with `descriptor`, the first packet of a key frame of another
    /// encoding: it must follow the newest frame directly.
    pub(super) fn switch(&mut self, descriptor: &Vp8Descriptor) {
        if let Some(newest) = self.newest {
            let step = Vp8Counters {
                picture_id: 1,
                tl0_picture_index: 1,
                key_index: 1,
            };
            self.offset = newest.plus(step).minus(descriptor.counters());
        }
    }

    /// The counters under which a packet goes out.
    pub(super) fn counters(&mut self, descriptor: &Vp8Descriptor) -> Vp8Counters {
        let counters = descriptor.counters().plus(self.offset);
        let newer = |newest: Vp8Counters| counters.minus(newest).picture_id < 1 << 14;
        if self.newest.is_none_or(newer) {
            self.newest = Some(counters);
        }
        counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(picture_id: u16, tl0: u8, key: u8) -> Vp8Descriptor {
        let [high, low] = (0x8000 | picture_id).to_be_bytes();
        Vp8Descriptor::parse(&[0x90, 0xF0, high, low, tl0, 0x20 | key]).unwrap()
    }

    #[test]
    fn counters_follow_each_other_across_a_change_and_its_wrap() {
        let mut continuity = PictureContinuity::default();
        continuity.switch(&frame(0x7FFE, 255, 31));
        assert_eq!(
            continuity.counters(&frame(0x7FFE, 255, 31)),
            frame(0x7FFE, 255, 31).counters()
        );
        continuity.counters(&frame(0x7FFF, 255, 31));
        continuity.switch(&frame(500, 7, 3));
        assert_eq!(
            continuity.counters(&frame(500, 7, 3)),
            frame(0, 0, 0).counters()
        );
        assert_eq!(
            continuity.counters(&frame(502, 8, 3)),
            frame(2, 1, 0).counters()
        );
        // A late packet keeps its place and does not move the newest back.
        assert_eq!(
            continuity.counters(&frame(501, 7, 3)),
            frame(1, 0, 0).counters()
        );
        continuity.switch(&frame(9, 9, 9));
        assert_eq!(
            continuity.counters(&frame(9, 9, 9)),
            frame(3, 2, 1).counters()
        );
    }
}
