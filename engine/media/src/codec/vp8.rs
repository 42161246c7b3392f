//! VP8 payload descriptor (RFC 7741 §4.2): read, and patched in place.
//!
//! Only what forwarding needs: where a key frame starts, and the counters that must stay
//! continuous when the stream changes encoding. Never looks at the compressed picture
//! beyond the bit that says key frame.

/// A payload descriptor's fields and where the counters lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vp8Descriptor {
    /// A partition of the frame starts in this packet (S bit).
    pub partition_start: bool,
    /// Partition number.
    pub partition: u8,
    /// No other frame refers to this one (N bit).
    pub non_reference: bool,
    /// Picture counter, when present.
    pub picture_id: Option<PictureId>,
    /// Counter of base temporal layer frames, when present.
    pub tl0_picture_index: Option<u8>,
    /// Temporal layer and its synchronisation bit, when present.
    pub temporal: Option<(u8, bool)>,
    /// Counter of key frames modulo 32, when present.
    pub key_index: Option<u8>,
    /// Length of the descriptor in bytes.
    pub length: u8,
    picture_id_at: u8,
    tl0_at: u8,
    key_index_at: u8,
}

/// A picture counter: its value modulo 2^7 or 2^15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureId {
    /// The value.
    pub value: u16,
    /// Whether it takes 15 bits; 7 otherwise.
    pub wide: bool,
}

impl Vp8Descriptor {
    /// Reads the descriptor in front of `payload`; `None` when it is cut off.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let &first = payload.first()?;
        let mut descriptor = Vp8Descriptor {
            partition_start: first & 0x10 != 0,
            partition: first & 0x07,
            non_reference: first & 0x20 != 0,
            picture_id: None,
            tl0_picture_index: None,
            temporal: None,
            key_index: None,
            length: 1,
            picture_id_at: 0,
            tl0_at: 0,
            key_index_at: 0,
        };
        if first & 0x80 == 0 {
            return Some(descriptor);
        }
        let &extension = payload.get(1)?;
        let mut at = 2u8;
        if extension & 0x80 != 0 {
            let &byte = payload.get(usize::from(at))?;
            descriptor.picture_id_at = at;
            if byte & 0x80 != 0 {
                let &low = payload.get(usize::from(at) + 1)?;
                let value = u16::from_be_bytes([byte & 0x7F, low]);
                descriptor.picture_id = Some(PictureId { value, wide: true });
                at += 2;
            } else {
                descriptor.picture_id = Some(PictureId {
                    value: u16::from(byte),
                    wide: false,
                });
                at += 1;
            }
        }
        if extension & 0x40 != 0 {
            descriptor.tl0_picture_index = Some(*payload.get(usize::from(at))?);
            descriptor.tl0_at = at;
            at += 1;
        }
        if extension & 0x30 != 0 {
            let &byte = payload.get(usize::from(at))?;
            if extension & 0x20 != 0 {
                descriptor.temporal = Some((byte >> 6, byte & 0x20 != 0));
            }
            if extension & 0x10 != 0 {
                descriptor.key_index = Some(byte & 0x1F);
            }
            descriptor.key_index_at = at;
            at += 1;
        }
        descriptor.length = at;
        Some(descriptor)
    }

    /// Whether the first partition of a frame starts here.
    pub fn is_frame_start(&self) -> bool {
        self.partition_start && self.partition == 0
    }

    /// Writes the counters that are present into `payload`, whose descriptor this is. Widths do
    /// not change, so neither does any length.
    pub fn patch(&self, payload: &mut [u8], counters: Vp8Counters) {
        if let Some(id) = self.picture_id {
            let at = usize::from(self.picture_id_at);
            let [high, low] = counters.picture_id.to_be_bytes();
            if id.wide {
                payload[at] = 0x80 | high;
                payload[at + 1] = low;
            } else {
                payload[at] = low & 0x7F;
            }
        }
        if self.tl0_picture_index.is_some() {
            payload[usize::from(self.tl0_at)] = counters.tl0_picture_index;
        }
        if self.key_index.is_some() {
            let byte = &mut payload[usize::from(self.key_index_at)];
            *byte = (*byte & 0xE0) | (counters.key_index & 0x1F);
        }
    }

    /// The counters as they are; zero for absent ones.
    pub fn counters(&self) -> Vp8Counters {
        Vp8Counters {
            picture_id: self.picture_id.map_or(0, |id| id.value),
            tl0_picture_index: self.tl0_picture_index.unwrap_or(0),
            key_index: self.key_index.unwrap_or(0),
        }
    }
}

/// The counters of a descriptor, or offsets to add to them: every one wraps at its own width.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vp8Counters {
    /// Modulo 2^15.
    pub picture_id: u16,
    /// Modulo 2^8.
    pub tl0_picture_index: u8,
    /// Modulo 2^5.
    pub key_index: u8,
}

impl Vp8Counters {
    /// Counter by counter, `self + other`.
    pub fn plus(self, other: Self) -> Self {
        Vp8Counters {
            picture_id: self.picture_id.wrapping_add(other.picture_id) & 0x7FFF,
            tl0_picture_index: self.tl0_picture_index.wrapping_add(other.tl0_picture_index),
            key_index: self.key_index.wrapping_add(other.key_index) & 0x1F,
        }
    }

    /// Counter by counter, `self - other`.
    pub fn minus(self, other: Self) -> Self {
        Vp8Counters {
            picture_id: self.picture_id.wrapping_sub(other.picture_id) & 0x7FFF,
            tl0_picture_index: self.tl0_picture_index.wrapping_sub(other.tl0_picture_index),
            key_index: self.key_index.wrapping_sub(other.key_index) & 0x1F,
        }
    }
}

/// Whether a key frame starts in this payload (RFC 7741 §4.3: P bit of the payload header).
pub fn starts_key_frame(payload: &[u8]) -> bool {
    Vp8Descriptor::parse(payload).is_some_and(|descriptor| {
        descriptor.is_frame_start()
            && payload
                .get(usize::from(descriptor.length))
                .is_some_and(|byte| byte & 0x01 == 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutate::{Random, mutate};

    /// X, I+L+T+K, 15-bit picture id 0x1234, TL0 9, TID 2 Y key index 17, key frame header.
    const FULL: [u8; 7] = [0x90, 0xF0, 0x92, 0x34, 9, 0xA0 | 17, 0x10];

    #[test]
    fn every_field_of_a_full_descriptor_is_read() {
        let descriptor = Vp8Descriptor::parse(&FULL).unwrap();
        assert_eq!(
            descriptor.picture_id,
            Some(PictureId {
                value: 0x1234,
                wide: true
            })
        );
        assert_eq!(descriptor.tl0_picture_index, Some(9));
        assert_eq!(descriptor.temporal, Some((2, true)));
        assert_eq!(descriptor.key_index, Some(17));
        assert_eq!(descriptor.length, 6);
        assert!(descriptor.is_frame_start());
        assert!(starts_key_frame(&FULL));
    }

    #[test]
    fn a_delta_frame_or_a_later_partition_is_no_key_frame() {
        assert!(starts_key_frame(&[0x10, 0x00]));
        assert!(!starts_key_frame(&[0x10, 0x01]));
        assert!(!starts_key_frame(&[0x00, 0x00]));
        assert!(!starts_key_frame(&[0x11, 0x00]));
        assert!(!starts_key_frame(&[0x10]));
    }

    #[test]
    fn every_truncation_is_refused() {
        for length in 0..6 {
            assert_eq!(Vp8Descriptor::parse(&FULL[..length]), None, "{length}");
        }
    }

    #[test]
    fn patching_changes_the_counters_and_nothing_else() {
        let mut payload = FULL;
        let descriptor = Vp8Descriptor::parse(&payload).unwrap();
        let counters = Vp8Counters {
            picture_id: 0x7FFF,
            tl0_picture_index: 255,
            key_index: 31,
        };
        descriptor.patch(&mut payload, counters);
        let patched = Vp8Descriptor::parse(&payload).unwrap();
        assert_eq!(patched.counters(), counters);
        assert_eq!(patched.temporal, descriptor.temporal);
        assert_eq!(
            (payload[0], payload[1], payload[6]),
            (FULL[0], FULL[1], FULL[6])
        );
        descriptor.patch(&mut payload, descriptor.counters());
        assert_eq!(payload, FULL);
    }

    #[test]
    fn a_narrow_picture_id_stays_narrow() {
        let mut payload = [0x90, 0x80, 0x7F, 0x01];
        let descriptor = Vp8Descriptor::parse(&payload).unwrap();
        let next = descriptor.counters().plus(Vp8Counters {
            picture_id: 1,
            ..Default::default()
        });
        descriptor.patch(&mut payload, next);
        assert_eq!(payload, [0x90, 0x80, 0x00, 0x01]);
    }

    #[test]
    fn mutated_descriptors_stay_inside_their_payload_and_are_patched_in_place() {
        let mut random = Random::new(0x7741);
        let seeds: [&[u8]; 4] = [
            &FULL,
            &[0x10, 0x00, 1, 2],
            &[0x90, 0x80, 0x7F, 0x01],
            &[0xB0, 0x60, 5, 0x40, 1],
        ];
        let mut read = 0;
        for _ in 0..20_000 {
            let mut payload = seeds[random.below(seeds.len())].to_vec();
            mutate(&mut random, &mut payload);
            let starts_key = starts_key_frame(&payload);
            let Some(descriptor) = Vp8Descriptor::parse(&payload) else {
                assert!(!starts_key, "{payload:02x?}");
                continue;
            };
            read += 1;
            let length = usize::from(descriptor.length);
            assert!((1..=6).contains(&length) && length <= payload.len());
            assert!(!starts_key || length < payload.len(), "{payload:02x?}");
            // The packet itself is all that is read: what follows the descriptor changes nothing.
            assert_eq!(Vp8Descriptor::parse(&payload[..length]), Some(descriptor));
            let counters = Vp8Counters {
                picture_id: random.next() as u16 & 0x7FFF,
                tl0_picture_index: random.next() as u8,
                key_index: random.next() as u8 & 0x1F,
            };
            let mut patched = payload.clone();
            descriptor.patch(&mut patched, counters);
            assert_eq!(patched[length..], payload[length..]);
            let again = Vp8Descriptor::parse(&patched).expect("of the same shape");
            let mask = if again.picture_id.is_some_and(|id| id.wide) {
                0x7FFF
            } else {
                0x7F
            };
            let expected = Vp8Descriptor {
                picture_id: descriptor.picture_id.map(|id| PictureId {
                    value: counters.picture_id & mask,
                    ..id
                }),
                tl0_picture_index: descriptor
                    .tl0_picture_index
                    .map(|_| counters.tl0_picture_index),
                key_index: descriptor.key_index.map(|_| counters.key_index),
                ..descriptor
            };
            assert_eq!(again, expected, "{payload:02x?}");
            descriptor.patch(&mut patched, descriptor.counters());
            assert_eq!(patched, payload);
        }
        assert!(read > 10_000, "{read} were descriptors");
    }
}
