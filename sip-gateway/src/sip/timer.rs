//! SIP's timer values and one ordered set of alarms. Never reads a clock.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The values all timers of RFC 3261 §17 are made of, from one RTT estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// RTT estimate: first retransmission.
    pub t1: Duration,
    /// Longest pause between retransmissions of non-INVITE requests and INVITE responses: 8 T1.
    pub t2: Duration,
    /// How long a message stays in the network: 10 T1.
    pub t4: Duration,
    /// 64 T1: timers B, F, H, J, L, M.
    pub give_up: Duration,
    /// Timer D: how long to absorb repeated refusals of an INVITE over UDP.
    pub d: Duration,
}

impl Timers {
    /// With the default T1 of 500 ms these are the RFC's 4 s, 5 s, 32 s and 32 s.
    pub fn new(t1: Duration) -> Timers {
        Timers {
            t1,
            t2: t1 * 8,
            t4: t1 * 10,
            give_up: t1 * 64,
            d: t1 * 64,
        }
    }
}

/// At most one alarm per owner, earliest first, removed exactly: nothing stale is kept.
#[derive(Debug)]
pub struct Alarms<K> {
    set: BTreeSet<(Instant, K)>,
}

impl<K> Default for Alarms<K> {
    fn default() -> Self {
        Alarms {
            set: BTreeSet::new(),
        }
    }
}

impl<K: Ord + Copy> Alarms<K> {
    /// Moves the alarm of `owner`; `held` is where its owner remembers it.
    pub fn set(&mut self, owner: K, held: &mut Option<Instant>, at: Option<Instant>) {
        if *held == at {
            return;
        }
        if let Some(old) = held.take() {
            self.set.remove(&(old, owner));
        }
        if let Some(at) = at {
            self.set.insert((at, owner));
        }
        *held = at;
    }

    /// The earliest alarm.
    pub fn first(&self) -> Option<Instant> {
        self.set.first().map(|(at, _)| *at)
    }

    /// Takes the earliest alarm not after `now`. Its owner must forget it.
    pub fn due(&mut self, now: Instant) -> Option<K> {
        let (at, _) = self.set.first()?;
        if *at > now {
            return None;
        }
        self.set.pop_first().map(|(_, owner)| owner)
    }

    /// Alarms set.
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// None is set.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }
}
