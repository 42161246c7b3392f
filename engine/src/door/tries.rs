//! The rule: wrong tries are free, then slowed, then locked out, by source.
//!
//! Time is an argument, memory is bounded. Who a source is and what a try is for are not its
//! business.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Source;

/// How wrong tries are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Wrong tries that cost no wait. More is kinder to typing mistakes; fewer slows a guesser sooner.
    pub free_tries: u32,
    /// Wait after the first wrong try that is not free; doubles with each further one.
    pub first_wait: Duration,
    /// Longest wait between two tries before the lock-out.
    pub longest_wait: Duration,
    /// Wrong tries after which the source is locked out. Higher spares offices that share one address;
    /// lower leaves a guesser fewer tries.
    pub lockout_after: u32,
    /// How long the lock-out lasts.
    pub lockout: Duration,
    /// Time after which one wrong try is forgotten. A right try forgets none: otherwise whoever knows
    /// one room could use it to guess all others.
    pub forget_one_after: Duration,
}

impl Default for Patience {
    /// Three free tries, then 2, 4, 8 ... 30 s; ten wrong tries lock out for 15 minutes; one is forgotten
    /// every 5 minutes. A source can so test about 1,000 of 900 million codes a day.
    fn default() -> Self {
        Self {
            free_tries: 3,
            first_wait: Duration::from_secs(2),
            longest_wait: Duration::from_secs(30),
            lockout_after: 10,
            lockout: Duration::from_secs(15 * 60),
            forget_one_after: Duration::from_secs(5 * 60),
        }
    }
}

/// Why a source may not try now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Held {
    /// Too soon after a wrong try.
    #[error("too soon after a wrong try, wait {} s", seconds(*.wait))]
    Slowed {
        /// Time until the next try is looked at.
        wait: Duration,
    },
    /// Too many wrong tries.
    #[error("locked out after too many wrong tries, wait {} s", seconds(*.wait))]
    LockedOut {
        /// Time until the next try is looked at.
        wait: Duration,
    },
}

/// Wrong tries by source. Bounded memory, no clock of its own.
#[derive(Debug)]
pub struct Tries {
    patience: Patience,
    sources: HashMap<Source, Record>,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    /// Wrong tries not yet forgotten.
    wrong: u32,
    /// Tries begun whose outcome is not known yet.
    pending: u32,
    /// From when `forget_one_after` is counted.
    since: Instant,
    /// No try is looked at before this moment.
    not_before: Instant,
    is_locked_out: bool,
}

impl Tries {
    /// Sources remembered at once, about 130 bytes each. More withstands a larger botnet before the
    /// least suspicious sources are forgotten early.
    pub const MOST_SOURCES: usize = 65_536;

    /// No wrong try so far.
    pub fn new(patience: Patience) -> Self {
        Self {
            patience,
            sources: HashMap::new(),
        }
    }

    /// Asks whether `source` may try now. Every `Ok` is followed by [`Self::right`], [`Self::wrong`] or
    /// [`Self::withdraw`]; until then the try counts as one that may turn out wrong, so that a thousand
    /// parallel tries do not slip in under the count of the first.
    ///
    /// # Errors
    /// [`Held`] with the time to wait. A try made while held changes nothing.
    pub fn begin(&mut self, now: Instant, source: Source) -> Result<(), Held> {
        let source = source.counted();
        if self.sources.len() >= Self::MOST_SOURCES && !self.sources.contains_key(&source) {
            self.make_room(now);
        }
        let patience = &self.patience;
        let record = self.sources.entry(source).or_insert(Record {
            wrong: 0,
            pending: 0,
            since: now,
            not_before: now,
            is_locked_out: false,
        });
        record.forget(now, patience);
        if now < record.not_before {
            let wait = record.not_before - now;
            return Err(if record.is_locked_out {
                Held::LockedOut { wait }
            } else {
                Held::Slowed { wait }
            });
        }
        if record.wrong + record.pending >= patience.lockout_after {
            return Err(Held::Slowed {
                wait: patience.first_wait,
            });
        }
        record.pending += 1;
        Ok(())
    }

    /// The try begun by `source` was right.
    pub fn right(&mut self, source: Source) {
        self.settle(&source.counted());
    }

    /// The try begun by `source` was not judged (the directory failed, the caller went away).
    pub fn withdraw(&mut self, source: Source) {
        self.settle(&source.counted());
    }

    /// The try begun by `source` was wrong: returns the wait before its next one, zero when still free.
    pub fn wrong(&mut self, now: Instant, source: Source) -> Duration {
        let source = source.counted();
        self.settle(&source);
        let patience = &self.patience;
        let record = self.sources.entry(source).or_insert(Record {
            wrong: 0,
            pending: 0,
            since: now,
            not_before: now,
            is_locked_out: false,
        });
        if record.wrong == 0 {
            record.since = now;
        }
        record.wrong = record.wrong.saturating_add(1);
        if record.wrong >= patience.lockout_after {
            record.not_before = now + patience.lockout;
            record.is_locked_out = true;
            return patience.lockout;
        }
        let Some(slowed) = record.wrong.checked_sub(patience.free_tries + 1) else {
            return Duration::ZERO;
        };
        let wait = patience
            .first_wait
            .saturating_mul(1u32.checked_shl(slowed).unwrap_or(u32::MAX))
            .min(patience.longest_wait);
        record.not_before = record.not_before.max(now + wait);
        wait
    }

    /// Sources remembered now.
    pub fn len(&self) -> usize {
        self.sources.len()
    }

    /// Whether no source is remembered.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    fn settle(&mut self, source: &Source) {
        if let Some(record) = self.sources.get_mut(source) {
            record.pending = record.pending.saturating_sub(1);
            if record.pending == 0 && record.wrong == 0 {
                self.sources.remove(source);
            }
        }
    }

    /// Drops what is forgotten anyway, then the least suspicious eighth, so that the cost is spread over
    /// many tries even when an attacker fills the table. Sources with a try pending stay.
    fn make_room(&mut self, now: Instant) {
        let patience = &self.patience;
        self.sources.retain(|_, record| {
            record.forget(now, patience);
            record.wrong > 0 || record.pending > 0
        });
        if self.sources.len() < Self::MOST_SOURCES {
            return;
        }
        let mut suspicion: Vec<_> = self.sources.values().map(Record::suspicion).collect();
        let eighth = suspicion.len() / 8;
        let (_, threshold, _) = suspicion.select_nth_unstable(eighth);
        let threshold = *threshold;
        let mut to_drop = eighth.max(1);
        self.sources.retain(|_, record| {
            let is_dropped = to_drop > 0 && record.pending == 0 && record.suspicion() <= threshold;
            to_drop -= usize::from(is_dropped);
            !is_dropped
        });
    }
}

impl Record {
    /// How much it would help an attacker if this record were dropped.
    fn suspicion(&self) -> (u32, Instant) {
        (self.wrong, self.since)
    }

    fn forget(&mut self, now: Instant, patience: &Patience) {
        if self.is_locked_out {
            if now < self.not_before {
                return;
            }
            // After a lock-out the free tries are gone: the next wrong try waits longest at once.
            self.is_locked_out = false;
            self.wrong = patience.lockout_after.saturating_sub(2);
            self.since = self.not_before;
        }
        if self.wrong == 0 || patience.forget_one_after.is_zero() {
            return;
        }
        let elapsed = now.saturating_duration_since(self.since);
        let forgotten = elapsed.as_nanos() / patience.forget_one_after.as_nanos();
        let forgotten = u32::try_from(forgotten).unwrap_or(u32::MAX).min(self.wrong);
        self.wrong -= forgotten;
        self.since += patience.forget_one_after * forgotten;
    }
}

/// Whole seconds a person has to wait, rounded up.
pub(super) fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn source(last: u8) -> Source {
        Source::Address(IpAddr::from([192, 0, 2, last]))
    }

    fn fail(tries: &mut Tries, now: Instant, who: Source) -> Duration {
        tries.begin(now, who.clone()).unwrap();
        tries.wrong(now, who)
    }

    #[test]
    fn wrong_tries_are_free_then_slowed_then_locked_out() {
        let mut tries = Tries::new(Patience::default());
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..10 {
            let wait = fail(&mut tries, now, source(1));
            waits.push(wait.as_secs());
            now += wait;
        }
        assert_eq!(waits, [0, 0, 0, 2, 4, 8, 16, 30, 30, 900]);
    }

    #[test]
    fn a_held_source_is_told_how_long_and_others_are_not_held() {
        let mut tries = Tries::new(Patience::default());
        let now = Instant::now();
        for _ in 0..4 {
            fail(&mut tries, now, source(1));
        }
        let wait = Duration::from_secs(2);
        assert_eq!(tries.begin(now, source(1)), Err(Held::Slowed { wait }));
        assert_eq!(tries.begin(now, source(2)), Ok(()));
    }

    #[test]
    fn a_right_try_does_not_wipe_the_slate() {
        let mut tries = Tries::new(Patience::default());
        let now = Instant::now();
        for _ in 0..3 {
            fail(&mut tries, now, source(1));
        }
        tries.begin(now, source(1)).unwrap();
        tries.right(source(1));
        assert_eq!(fail(&mut tries, now, source(1)), Duration::from_secs(2));
    }

    #[test]
    fn wrong_tries_are_forgotten_with_time() {
        let mut tries = Tries::new(Patience::default());
        let now = Instant::now();
        for _ in 0..3 {
            fail(&mut tries, now, source(1));
        }
        let later = now + Duration::from_secs(15 * 60);
        assert_eq!(fail(&mut tries, later, source(1)), Duration::ZERO);
    }

    #[test]
    fn after_a_lockout_patience_is_short() {
        let patience = Patience::default();
        let mut tries = Tries::new(patience.clone());
        let mut now = Instant::now();
        for _ in 0..10 {
            now += fail(&mut tries, now, source(1));
        }
        assert_eq!(fail(&mut tries, now, source(1)), patience.longest_wait);
        now += patience.longest_wait;
        assert_eq!(fail(&mut tries, now, source(1)), patience.lockout);
        assert!(matches!(
            tries.begin(now, source(1)),
            Err(Held::LockedOut { .. })
        ));
    }

    #[test]
    fn parallel_tries_cannot_outrun_the_count() {
        let mut tries = Tries::new(Patience::default());
        let now = Instant::now();
        let begun = (0..1_000)
            .filter(|_| tries.begin(now, source(1)).is_ok())
            .count();
        assert_eq!(begun, 10);
        for _ in 0..begun {
            tries.wrong(now, source(1));
        }
        assert!(matches!(
            tries.begin(now, source(1)),
            Err(Held::LockedOut { .. })
        ));
    }

    #[test]
    fn addresses_of_one_subscriber_are_one_source() {
        let mut tries = Tries::new(Patience::default());
        let now = Instant::now();
        for host in 0..4u16 {
            let address = IpAddr::from([0x2001, 0xdb8, 0, 7, host, host, 0, 1]);
            fail(&mut tries, now, Source::Address(address));
        }
        let address = Source::Address(IpAddr::from([0x2001, 0xdb8, 0, 7, 9, 9, 9, 9]));
        assert!(tries.begin(now, address).is_err());
        assert_eq!(tries.len(), 1);
        let mapped = Source::Address("::ffff:192.0.2.1".parse().unwrap());
        assert_eq!(mapped.counted(), source(1));
    }

    #[test]
    fn memory_is_bounded_and_the_worst_sources_are_kept() {
        let mut tries = Tries::new(Patience::default());
        let now = Instant::now();
        for _ in 0..10 {
            tries.begin(now, source(1)).unwrap();
        }
        for _ in 0..10 {
            tries.wrong(now, source(1));
        }
        for number in 0..Tries::MOST_SOURCES + 10_000 {
            let who = Source::Caller {
                through: IpAddr::from([192, 0, 2, 9]),
                number: number.to_string(),
            };
            fail(&mut tries, now, who);
        }
        assert!(tries.len() <= Tries::MOST_SOURCES);
        assert!(matches!(
            tries.begin(now, source(1)),
            Err(Held::LockedOut { .. })
        ));
    }

    proptest! {
        /// Whatever the timing, a source never sees more than the tries its patience allows.
        #[test]
        fn tries_seen_never_outrun_the_allowance(steps in proptest::collection::vec(0u64..40_000, 1..400)) {
            let patience = Patience::default();
            let mut tries = Tries::new(patience.clone());
            let start = Instant::now();
            let mut now = start;
            let mut seen = 0u64;
            for step in steps {
                now += Duration::from_millis(step);
                if tries.begin(now, source(1)).is_ok() {
                    tries.wrong(now, source(1));
                    seen += 1;
                }
                let elapsed = (now - start).as_secs();
                let allowed = u64::from(patience.lockout_after)
                    + elapsed / patience.forget_one_after.as_secs()
                    + 2 * (elapsed / patience.lockout.as_secs() + 1);
                prop_assert!(seen <= allowed, "{seen} tries in {elapsed} s");
            }
        }
    }
}
