//! What is being said on one call: sounds one after the other, and how to notice the end of each.
//! It plays nothing itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::prompts::{Prompts, Say};

/// A word that a sound has ended is believed this long before its time: the mixer's tick and ours differ by one or two.
const EARLY: Duration = Duration::from_millis(60);

/// Without a word that a sound has ended, it has ended this long after its time.
const LATE: Duration = Duration::from_secs(2);

/// The announcement of one call.
#[derive(Debug, Default)]
pub(crate) struct Speech {
    queue: VecDeque<Say>,
    /// When the sound that plays ends.
    ends: Option<Instant>,
}

impl Speech {
    /// Forgets what was to be said; returns the first sound of what is said instead.
    pub(crate) fn begin(
        &mut self,
        now: Instant,
        said: Vec<Say>,
        prompts: &Prompts,
    ) -> Option<Arc<[i16]>> {
        self.queue = said.into();
        self.next(now, prompts)
    }

    /// The next sound to play, or `None` when all is said.
    pub(crate) fn next(&mut self, now: Instant, prompts: &Prompts) -> Option<Arc<[i16]>> {
        let sound = self.queue.pop_front().map(|say| prompts.sound(say));
        self.ends = sound.as_ref().map(|sound| {
            let microseconds = sound.len() as u64 * 1_000 / 48;
            now + Duration::from_micros(microseconds)
        });
        sound
    }

    /// Says nothing more; whether something was being said.
    pub(crate) fn stop(&mut self) -> bool {
        self.queue.clear();
        self.ends.take().is_some()
    }

    /// Whether the sound that plays can be over by now.
    pub(crate) fn may_have_ended(&self, now: Instant) -> bool {
        self.ends.is_some_and(|ends| now + EARLY >= ends)
    }

    /// When the sound counts as over even if nobody says so.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.ends.map(|ends| ends + LATE)
    }
}
