//! Packets a received stream lacks: what to ask for again, when, and when to give up.
//!
//! Bounded whatever the peer sends; knows neither SSRCs nor RTCP.

use std::time::{Duration, Instant};

/// Missing packets kept per stream. A higher value repairs longer bursts, at 48 bytes each.
const LIMIT: usize = 256;

/// Wait before the first request. A higher value asks less for packets that are only out of
/// order; a lower one repairs sooner.
const REORDER: Duration = Duration::from_millis(5);

/// Requests for one packet at most: more only feeds a congested link.
const TRIES: u8 = 10;

/// Age at which a packet is no longer worth asking for: decoders have given up by then.
const LIFETIME: Duration = Duration::from_millis(1_500);

/// Shortest time between two requests for one packet, whatever the round trip.
const INTERVAL: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug)]
struct Entry {
    sequence: u64,
    since: Instant,
    asked: Option<Instant>,
    tries: u8,
}

/// The missing packets of one stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Missing {
    /// Ascending by number.
    entries: Vec<Entry>,
}

/// A packet that was missing and came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Recovered {
    /// Time since the one request for it: a round-trip sample.
    pub(super) answer: Option<Duration>,
}

impl Missing {
    /// Notes that `from..to` were skipped. False: too many to repair, all are forgotten.
    pub(super) fn skip(&mut self, from: u64, to: u64, now: Instant) -> bool {
        if to.saturating_sub(from) > LIMIT as u64 {
            self.entries.clear();
            return false;
        }
        let surplus = (self.entries.len() + (to - from) as usize).saturating_sub(LIMIT);
        self.entries.drain(..surplus);
        self.entries.extend((from..to).map(|sequence| Entry {
            sequence,
            since: now,
            asked: None,
            tries: 0,
        }));
        true
    }

    /// Takes out a late packet; `None` when it was not missing: a duplicate, or too late.
    pub(super) fn recover(&mut self, sequence: u64, now: Instant) -> Option<Recovered> {
        let at = self
            .entries
            .binary_search_by_key(&sequence, |entry| entry.sequence)
            .ok()?;
        let entry = self.entries.remove(at);
        let answer = entry
            .asked
            .filter(|_| entry.tries == 1)
            .map(|asked| now.saturating_duration_since(asked));
        Some(Recovered { answer })
    }

    /// Collects what to ask for now into `wanted`, ascending, and forgets what is hopeless;
    /// how many that were.
    pub(super) fn collect(&mut self, now: Instant, rtt: Duration, wanted: &mut Vec<u16>) -> usize {
        let before = self.entries.len();
        self.entries.retain(|entry| {
            entry.tries < TRIES && now.saturating_duration_since(entry.since) < LIFETIME
        });
        for entry in &mut self.entries {
            if entry.due(rtt) <= now {
                entry.asked = Some(now);
                entry.tries += 1;
                wanted.push(entry.sequence as u16);
            }
        }
        before - self.entries.len()
    }

    /// When [`Self::collect`] next has something to do.
    pub(super) fn deadline(&self, rtt: Duration) -> Option<Instant> {
        self.entries.iter().map(|entry| entry.due(rtt)).min()
    }
}

impl Entry {
    fn due(&self, rtt: Duration) -> Instant {
        match self.asked {
            None => self.since + REORDER,
            Some(asked) => asked + (rtt + rtt / 4).max(INTERVAL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::tests::start_of_clock;
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_gap_is_asked_for_after_the_reorder_wait_and_again_after_a_round_trip() {
        let start = start_of_clock();
        let mut missing = Missing::default();
        let mut wanted = Vec::new();
        assert!(missing.skip(10, 13, start));
        assert_eq!(missing.deadline(100 * MS), Some(start + REORDER));
        missing.collect(start + 4 * MS, 100 * MS, &mut wanted);
        assert!(wanted.is_empty());
        missing.collect(start + 5 * MS, 100 * MS, &mut wanted);
        assert_eq!(wanted, [10, 11, 12]);
        let answered = missing.recover(11, start + 65 * MS).unwrap();
        assert_eq!(answered.answer, Some(60 * MS));
        assert_eq!(missing.recover(11, start + 65 * MS), None, "a duplicate");
        wanted.clear();
        missing.collect(start + 100 * MS, 100 * MS, &mut wanted);
        assert!(wanted.is_empty());
        missing.collect(start + 130 * MS, 100 * MS, &mut wanted);
        assert_eq!(wanted, [10, 12]);
    }

    #[test]
    fn requests_end_and_memory_is_bounded() {
        let start = start_of_clock();
        let mut missing = Missing::default();
        let mut wanted = Vec::new();
        missing.skip(0, 2, start);
        let (mut now, mut given_up) = (start, 0);
        while let Some(at) = missing.deadline(10 * MS) {
            now = at;
            given_up += missing.collect(now, 10 * MS, &mut wanted);
        }
        assert_eq!((wanted.len(), given_up), (2 * usize::from(TRIES), 2));
        assert!(now - start < LIFETIME);
        for burst in 0..1_000u64 {
            missing.skip(burst * 300, burst * 300 + 200, start);
            assert!(missing.entries.len() <= LIMIT);
            assert!(missing.entries.is_sorted_by_key(|entry| entry.sequence));
        }
        assert!(!missing.skip(1_000_000, 2_000_000, start));
        assert_eq!(missing.deadline(MS), None);
    }
}
