//! Which encoding of a track a subscription gets, and when it may change.
//!
//! Sound has one encoding and starts anywhere; video starts and changes at key frames only.

use std::time::{Duration, Instant};

use super::command::{Layer, MAX_LAYERS};
use super::packet::Descriptor;
use crate::ids::MediaKind;

/// An encoding without packets for this long is taken for switched off by its sender. A lower
/// value freezes pictures for less time, and mistakes a low frame rate for an end.
const SWITCHED_OFF: Duration = Duration::from_millis(600);

/// When packets of each encoding of a track last arrived.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Activity {
    last: [Option<Instant>; MAX_LAYERS],
}

impl Activity {
    pub(super) fn note(&mut self, layer: Layer, now: Instant) {
        self.last[usize::from(layer)] = Some(now);
    }

    /// Encodings that arrive, one bit each.
    pub(super) fn mask(&self, now: Instant) -> u8 {
        let mut mask = 0;
        for (layer, last) in self.last.iter().enumerate() {
            let arrives = last.is_some_and(|at| now.saturating_duration_since(at) < SWITCHED_OFF);
            mask |= u8::from(arrives) << layer;
        }
        mask
    }
}

/// Lets through the packets of one encoding at a time.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    kind: MediaKind,
    pub(super) paused: bool,
    max_layer: Layer,
    /// What the downlink can carry, whatever is asked for.
    pub(super) affordable: Layer,
    /// The encoding forwarded, and which start of its source.
    current: Option<(Layer, u16)>,
}

/// What the gate makes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    /// It goes on in the current stream.
    Forward,
    /// It starts the stream anew: numbers and clocks are to be continued across the seam.
    Switch,
    /// It is not for this subscription.
    Withhold,
    /// It is not for this subscription until there is a key frame of its encoding.
    Await,
}

impl Gate {
    pub(super) fn new(kind: MediaKind, max_layer: Layer) -> Self {
        Gate {
            kind,
            paused: false,
            max_layer: max_layer.min(MAX_LAYERS as Layer - 1),
            affordable: MAX_LAYERS as Layer - 1,
            current: None,
        }
    }

    pub(super) fn set(&mut self, paused: bool, max_layer: Layer) {
        self.max_layer = max_layer.min(MAX_LAYERS as Layer - 1);
        if paused {
            self.current = None;
        }
        self.paused = paused;
    }

    /// The encoding forwarded now.
    pub(super) fn layer(&self) -> Option<Layer> {
        self.current.map(|(layer, _)| layer)
    }

    /// The encoding forwarded now, and which start of its source.
    pub(super) fn source(&self) -> Option<(Layer, u16)> {
        self.current
    }

    /// The encoding to forward, out of those that arrive: the best one allowed, else the
    /// least above.
    pub(super) fn target(&self, active: u8) -> Option<Layer> {
        let allowed = (1u8 << (self.max_layer.min(self.affordable) + 1)) - 1;
        match (active & allowed, active) {
            (_, 0) => None,
            (0, above) => Some(above.trailing_zeros() as Layer),
            (within, _) => Some(7 - within.leading_zeros() as Layer),
        }
    }

    /// What to do with a packet while the encodings in `active` arrive.
    pub(super) fn pass(&mut self, packet: &Descriptor, active: u8) -> Passage {
        if self.paused {
            return Passage::Withhold;
        }
        let from = (packet.layer, packet.epoch);
        if self.current == Some(from) {
            return Passage::Forward;
        }
        if self.kind == MediaKind::Audio {
            // An old start's late packet must not bring it back.
            let newer = |(_, epoch): (Layer, u16)| packet.epoch.wrapping_sub(epoch) < 1 << 15;
            if self.current.is_none_or(newer) && packet.in_order {
                self.current = Some(from);
                return Passage::Switch;
            }
            return Passage::Withhold;
        }
        if self.target(active) != Some(packet.layer) {
            return Passage::Withhold;
        }
        if packet.key_frame && packet.in_order {
            self.current = Some(from);
            return Passage::Switch;
        }
        Passage::Await
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::tests::{descriptor, start_of_clock};
    use super::*;

    #[test]
    fn the_best_allowed_encoding_is_the_target_else_the_least_above() {
        let mut gate = Gate::new(MediaKind::Video, 1);
        assert_eq!(gate.target(0b000), None);
        assert_eq!(gate.target(0b111), Some(1));
        assert_eq!(gate.target(0b101), Some(0));
        assert_eq!(gate.target(0b100), Some(2));
        gate.set(false, 200);
        assert_eq!(gate.target(0b111), Some(2));
        gate.affordable = 0;
        assert_eq!(gate.target(0b111), Some(0));
    }

    #[test]
    fn video_changes_at_key_frames_only_and_keeps_the_old_encoding_until_then() {
        let mut gate = Gate::new(MediaKind::Video, 2);
        let packet = |layer, key_frame| {
            let mut packet = descriptor();
            (packet.layer, packet.key_frame) = (layer, key_frame);
            packet
        };
        assert_eq!(gate.pass(&packet(0, false), 0b001), Passage::Await);
        assert_eq!(gate.pass(&packet(0, true), 0b001), Passage::Switch);
        assert_eq!(gate.pass(&packet(2, false), 0b101), Passage::Await);
        assert_eq!(gate.pass(&packet(0, false), 0b101), Passage::Forward);
        assert_eq!(gate.pass(&packet(1, true), 0b111), Passage::Withhold);
        assert_eq!(gate.pass(&packet(2, true), 0b111), Passage::Switch);
        assert_eq!(gate.pass(&packet(0, true), 0b111), Passage::Withhold);
        // The best encoding stalls: the next one takes over at its key frame.
        assert_eq!(gate.pass(&packet(1, true), 0b011), Passage::Switch);
        gate.set(true, 2);
        assert_eq!(gate.pass(&packet(1, true), 0b011), Passage::Withhold);
        gate.set(false, 2);
        assert_eq!(gate.pass(&packet(1, false), 0b011), Passage::Await);
    }

    #[test]
    fn a_key_frame_that_comes_late_starts_nothing() {
        let mut gate = Gate::new(MediaKind::Video, 2);
        let mut packet = descriptor();
        (packet.key_frame, packet.in_order) = (true, false);
        assert_eq!(gate.pass(&packet, 1), Passage::Await);
    }

    #[test]
    fn sound_starts_anywhere_and_follows_a_restarted_source() {
        let mut gate = Gate::new(MediaKind::Audio, 0);
        let mut packet = descriptor();
        assert_eq!(gate.pass(&packet, 1), Passage::Switch);
        assert_eq!(gate.pass(&packet, 1), Passage::Forward);
        packet.epoch = 1;
        assert_eq!(gate.pass(&packet, 1), Passage::Switch);
        packet.epoch = 0;
        assert_eq!(gate.pass(&packet, 1), Passage::Withhold);
    }

    #[test]
    fn an_encoding_is_active_until_it_stalls() {
        let start = start_of_clock();
        let mut activity = Activity::default();
        activity.note(0, start);
        activity.note(2, start + SWITCHED_OFF / 2);
        assert_eq!(activity.mask(start + SWITCHED_OFF / 2), 0b101);
        assert_eq!(activity.mask(start + SWITCHED_OFF), 0b100);
        assert_eq!(activity.mask(start + Duration::from_secs(9)), 0);
    }
}
