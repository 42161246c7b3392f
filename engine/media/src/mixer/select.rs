//! Who is heard: the K loudest, with enough hysteresis that nobody flickers.
//!
//! Owns scores and the chosen set. Levels come from RFC 6464 or from energy; it never sees samples.

/// Sources softer than this are silence (dBov).
pub(super) const GATE: f32 = -60.0;
/// A newcomer displaces the weakest talker when it is this much louder (dB) for so many ticks in a
/// row.
const MARGIN: f32 = 6.0;
const CHALLENGE_TICKS: u8 = 3;
/// A talker keeps the place this long after falling silent: 400 ms bridges the pauses between words.
const HANG_TICKS: u8 = 20;
/// Decay of a score in dB per tick.
const DECAY: f32 = 1.5;
const SILENCE: f32 = -127.0;

/// Selection state of one source, kept beside it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    score: f32,
    chosen: bool,
    challenge: u8,
    quiet: u8,
}

impl Default for Candidate {
    fn default() -> Self {
        Self {
            score: SILENCE,
            chosen: false,
            challenge: 0,
            quiet: 0,
        }
    }
}

impl Candidate {
    pub(super) fn chosen(&self) -> bool {
        self.chosen
    }

    /// Level of this tick in dBov; a rise counts at once, a fall by and by.
    pub(super) fn level(&mut self, dbov: f32) {
        self.score = dbov.max(self.score - DECAY).max(SILENCE);
        if dbov > GATE {
            self.quiet = 0;
        } else {
            self.quiet = self.quiet.saturating_add(1);
            self.challenge = 0;
        }
    }

    /// Out at once: muted or gone.
    pub(super) fn silence(&mut self) {
        *self = Self::default();
    }
}

/// Chooses at most `talkers` of the candidates.
pub(super) fn select<'a>(
    talkers: usize,
    candidates: impl Iterator<Item = &'a mut Candidate>,
    scratch: &mut Vec<(f32, usize)>,
) -> u64 {
    let mut all: Vec<&mut Candidate> = candidates.collect();
    for candidate in &mut all {
        if candidate.chosen && candidate.quiet >= HANG_TICKS {
            candidate.chosen = false;
        }
    }
    let mut chosen = all.iter().filter(|c| c.chosen).count();
    scratch.clear();
    scratch.extend(
        all.iter()
            .enumerate()
            .filter(|(_, c)| !c.chosen && c.quiet == 0 && c.score > GATE)
            .map(|(n, c)| (c.score, n)),
    );
    scratch.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut changes = 0;
    for &(score, n) in scratch.iter() {
        if chosen < talkers {
            all[n].chosen = true;
            all[n].challenge = 0;
            chosen += 1;
            changes += 1;
            continue;
        }
        let weakest = all
            .iter()
            .enumerate()
            .filter(|(_, c)| c.chosen)
            .min_by(|a, b| a.1.score.total_cmp(&b.1.score))
            .map(|(n, c)| (n, c.score));
        let Some((weakest, least)) = weakest else {
            break;
        };
        if score < least + MARGIN {
            all[n].challenge = 0;
            continue;
        }
        all[n].challenge += 1;
        if all[n].challenge >= CHALLENGE_TICKS {
            all[weakest].chosen = false;
            all[n].chosen = true;
            all[n].challenge = 0;
            changes += 1;
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Room {
        candidates: Vec<Candidate>,
        scratch: Vec<(f32, usize)>,
    }

    impl Room {
        fn new(count: usize) -> Self {
            Self {
                candidates: vec![Candidate::default(); count],
                scratch: Vec::new(),
            }
        }

        fn tick(&mut self, talkers: usize, levels: &[f32]) -> Vec<usize> {
            for (c, l) in self.candidates.iter_mut().zip(levels) {
                c.level(*l);
            }
            select(talkers, self.candidates.iter_mut(), &mut self.scratch);
            (0..self.candidates.len())
                .filter(|&n| self.candidates[n].chosen())
                .collect()
        }
    }

    #[test]
    fn a_free_place_is_taken_at_once_by_the_loudest() {
        let mut room = Room::new(4);
        assert_eq!(room.tick(2, &[-30.0, -20.0, -25.0, -90.0]), [1, 2]);
    }

    #[test]
    fn a_slightly_louder_newcomer_waits_a_much_louder_one_enters_after_sixty_ms() {
        let mut room = Room::new(3);
        assert_eq!(room.tick(2, &[-20.0, -20.0, -90.0]), [0, 1]);
        for _ in 0..20 {
            assert_eq!(room.tick(2, &[-20.0, -20.0, -16.0]), [0, 1]);
        }
        assert_eq!(room.tick(2, &[-20.0, -21.0, -10.0]), [0, 1]);
        assert_eq!(room.tick(2, &[-20.0, -21.0, -10.0]), [0, 1]);
        assert_eq!(room.tick(2, &[-20.0, -21.0, -10.0]), [0, 2]);
    }

    #[test]
    fn a_cough_now_and_then_takes_no_place() {
        let mut room = Room::new(3);
        room.tick(2, &[-20.0, -20.0, -90.0]);
        for _ in 0..10 {
            assert_eq!(room.tick(2, &[-20.0, -20.0, -5.0]), [0, 1]);
            assert_eq!(room.tick(2, &[-20.0, -20.0, -5.0]), [0, 1]);
            assert_eq!(room.tick(2, &[-20.0, -20.0, -90.0]), [0, 1]);
        }
    }

    #[test]
    fn a_pause_between_words_keeps_the_place_for_400_ms() {
        let mut room = Room::new(1);
        room.tick(2, &[-20.0]);
        for _ in 0..19 {
            assert_eq!(room.tick(2, &[-90.0]), [0]);
        }
        assert!(room.tick(2, &[-90.0]).is_empty());
    }

    #[test]
    fn silence_is_never_chosen_and_never_more_than_k() {
        let mut room = Room::new(10);
        assert!(room.tick(4, &[-61.0; 10]).is_empty());
        for _ in 0..50 {
            assert!(room.tick(4, &[-10.0; 10]).len() == 4);
        }
    }
}
