//! Asking a source for key frames: many want one, few requests go out, one comes.

use std::time::{Duration, Instant};

/// Shortest time between two requests for one encoding. A lower value repairs pictures
/// sooner after loss; each key frame costs about ten ordinary ones.
pub(super) const INTERVAL: Duration = Duration::from_millis(400);

/// Requests without an answer at most; packets that still wait for a key frame ask anew.
const TRIES: u8 = 8;

/// Whether a key frame of one encoding is wanted, and when to ask.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeyFrameRequest {
    wanted: bool,
    asked: Option<Instant>,
    tries: u8,
}

impl KeyFrameRequest {
    /// Somebody needs one.
    pub(super) fn want(&mut self) {
        if !self.wanted {
            self.wanted = true;
            self.tries = 0;
        }
    }

    /// One starts to arrive.
    pub(super) fn arrived(&mut self) {
        self.wanted = false;
    }

    /// When to ask next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let asked = self.asked.filter(|_| self.wanted)?;
        Some(asked + INTERVAL)
    }

    /// Whether to ask at `now`; counts as asked.
    pub(super) fn ask(&mut self, now: Instant) -> bool {
        let early = self.asked.is_some_and(|asked| now < asked + INTERVAL);
        if !self.wanted || early {
            return false;
        }
        if self.tries >= TRIES {
            self.wanted = false;
            return false;
        }
        self.asked = Some(now);
        self.tries += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::tests::start_of_clock;
    use super::*;

    #[test]
    fn many_wishes_make_one_request_repeated_until_the_key_frame_comes() {
        let start = start_of_clock();
        let mut request = KeyFrameRequest::default();
        assert!(!request.ask(start));
        for _ in 0..50 {
            request.want();
        }
        assert!(request.ask(start));
        request.want();
        assert!(!request.ask(start + INTERVAL / 2));
        assert_eq!(request.deadline(), Some(start + INTERVAL));
        assert!(request.ask(start + INTERVAL));
        request.arrived();
        assert_eq!(request.deadline(), None);
        assert!(!request.ask(start + 9 * INTERVAL));
        // Wanted again right after one came: not before the interval is over.
        request.want();
        assert!(request.ask(start + 9 * INTERVAL));
        request.arrived();
        request.want();
        assert!(!request.ask(start + 9 * INTERVAL + INTERVAL / 3));
        assert!(request.ask(start + 10 * INTERVAL));
    }

    #[test]
    fn a_silent_source_is_left_alone_after_a_while() {
        let mut now = start_of_clock();
        let mut request = KeyFrameRequest::default();
        request.want();
        let mut asked = 0;
        for _ in 0..100 {
            asked += u32::from(request.ask(now));
            now += INTERVAL;
        }
        assert_eq!(asked, u32::from(TRIES));
        request.want();
        assert!(request.ask(now));
    }
}
