//! The door: exchanges a code or a link for a room, and makes guessing hopeless.
//!
//! The one home of "wrong tries are slowed per source, then locked out for a while", used by the page and
//! the telephone menu alike. [`Tries`] is the rule itself, with time as an argument; [`Door`] adds the
//! clock, the lock and the directory. It never decides who a source is: the caller says so.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::directory::{Directory, DirectoryError, RoomCode, RoomTicket};

/// Who is trying. `Debug` hides it: addresses and telephone numbers stay out of logs.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// A machine on the network. IPv6 addresses count by their /64, which one subscriber holds whole.
    Address(IpAddr),
    /// A telephone: the address of the trunk or phone it comes through, and the number it shows
    /// (empty when hidden: hidden callers of one trunk are one source).
    Caller {
        /// Where the SIP message came from.
        through: IpAddr,
        /// The calling number or SIP user part.
        number: String,
    },
}

impl Source {
    /// Longest calling number kept; a longer one is cut, so that a peer cannot make us remember essays.
    const LONGEST_NUMBER: usize = 64;

    /// The same source in the form tries are counted by.
    fn counted(self) -> Self {
        match self {
            Self::Address(address) => Self::Address(network(address)),
            Self::Caller { through, number } => Self::Caller {
                through: network(through),
                number: number.chars().take(Self::LONGEST_NUMBER).collect(),
            },
        }
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Address(_) => "Source::Address(…)",
            Self::Caller { .. } => "Source::Caller(…)",
        })
    }
}

/// The part of an address that one subscriber cannot change at will: IPv4 whole, IPv6 by its /64.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let mut segments = v6.segments();
            segments[4..].fill(0);
            IpAddr::V6(segments.into())
        }
    }
}

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

/// Why the door stays shut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not nine digits. Counts as no try: nothing was guessed.
    #[error("a room code has nine digits and does not start with zero")]
    Malformed,
    /// The code opens no room.
    #[error("no room has this code")]
    Unknown {
        /// Time before the next try is looked at; zero while tries are free.
        wait: Duration,
    },
    /// Too soon after a wrong try; the code was not looked at.
    #[error("too soon after a wrong code, wait {} s", seconds(*.wait))]
    Slowed {
        /// Time before the next try is looked at.
        wait: Duration,
    },
    /// Too many wrong codes from this source; the code was not looked at.
    #[error("too many wrong codes, wait {} s", seconds(*.wait))]
    LockedOut {
        /// Time before the next try is looked at.
        wait: Duration,
    },
    /// The directory failed; the try does not count.
    #[error("rooms cannot be looked up now: {0}")]
    Unavailable(DirectoryError),
}

impl From<Held> for Refusal {
    fn from(held: Held) -> Self {
        match held {
            Held::Slowed { wait } => Self::Slowed { wait },
            Held::LockedOut { wait } => Self::LockedOut { wait },
        }
    }
}

/// Whole seconds a person has to wait, rounded up.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// Counts of what the door answered since the start, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DoorCounts {
    /// Tries that opened a room.
    pub opened: u64,
    /// Texts that were no code.
    pub malformed: u64,
    /// Codes and links that open no room.
    pub unknown: u64,
    /// Tries refused unseen: too soon after a wrong one.
    pub slowed: u64,
    /// Tries refused unseen: the source is locked out.
    pub locked_out: u64,
    /// Tries the directory could not answer.
    pub unavailable: u64,
}

/// The one door of all rooms. Cheap to clone; clones share the count of wrong tries.
#[derive(Clone)]
pub struct Door {
    shared: Arc<Shared>,
}

struct Shared {
    directory: Arc<dyn Directory>,
    state: Mutex<State>,
}

struct State {
    tries: Tries,
    counts: DoorCounts,
}

impl Door {
    /// A door in front of `directory`.
    pub fn new(directory: Arc<dyn Directory>, patience: Patience) -> Self {
        let state = State {
            tries: Tries::new(patience),
            counts: DoorCounts::default(),
        };
        Self {
            shared: Arc::new(Shared {
                directory,
                state: Mutex::new(state),
            }),
        }
    }

    /// Opens the room that has this code.
    ///
    /// # Errors
    /// [`Refusal`]; its `wait` is what the source has to be told.
    pub async fn open(&self, source: Source, code: &str) -> Result<RoomTicket, Refusal> {
        match RoomCode::parse(code) {
            Ok(code) => {
                self.attempt(source, self.shared.directory.room_by_code(&code))
                    .await
            }
            Err(_) => {
                self.with(|state| state.counts.malformed += 1);
                Err(Refusal::Malformed)
            }
        }
    }

    /// Opens the room whose join link carries this slug.
    ///
    /// # Errors
    /// [`Refusal`]; a slug is never `Malformed`, only unknown.
    pub async fn open_link(&self, source: Source, slug: &str) -> Result<RoomTicket, Refusal> {
        self.attempt(source, self.shared.directory.room_by_slug(slug))
            .await
    }

    /// What the door answered so far.
    pub fn counts(&self) -> DoorCounts {
        self.with(|state| state.counts)
    }

    async fn attempt(
        &self,
        source: Source,
        lookup: crate::directory::BoxFuture<'_, Result<Option<RoomTicket>, DirectoryError>>,
    ) -> Result<RoomTicket, Refusal> {
        let pending = self.begin(source)?;
        let found = lookup.await;
        pending.settle(found)
    }

    fn begin(&self, source: Source) -> Result<Pending<'_>, Refusal> {
        self.with(
            |state| match state.tries.begin(Instant::now(), source.clone()) {
                Ok(()) => Ok(()),
                Err(held) => {
                    match held {
                        Held::Slowed { .. } => state.counts.slowed += 1,
                        Held::LockedOut { .. } => state.counts.locked_out += 1,
                    }
                    Err(Refusal::from(held))
                }
            },
        )?;
        Ok(Pending {
            door: self,
            source: Some(source),
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        // A panic elsewhere leaves whole records behind: counting goes on.
        change(
            &mut self
                .shared
                .state
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

/// A try begun; dropped unsettled (the asker hung up) it is withdrawn.
struct Pending<'a> {
    door: &'a Door,
    source: Option<Source>,
}

impl Pending<'_> {
    fn settle(
        mut self,
        found: Result<Option<RoomTicket>, DirectoryError>,
    ) -> Result<RoomTicket, Refusal> {
        let source = self.source.take().expect("a try is settled once");
        self.door.with(|state| match found {
            Ok(Some(ticket)) => {
                state.tries.right(source);
                state.counts.opened += 1;
                Ok(ticket)
            }
            Ok(None) => {
                state.counts.unknown += 1;
                Err(Refusal::Unknown {
                    wait: state.tries.wrong(Instant::now(), source),
                })
            }
            Err(error) => {
                state.tries.withdraw(source);
                state.counts.unavailable += 1;
                Err(Refusal::Unavailable(error))
            }
        })
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some(source) = self.source.take() {
            self.door.with(|state| state.tries.withdraw(source));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::BoxFuture;
    use proptest::prelude::*;

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

    #[test]
    fn sources_do_not_show_in_logs() {
        let caller = Source::Caller {
            through: IpAddr::from([192, 0, 2, 1]),
            number: "+33123456789".into(),
        };
        let shown = format!("{:?} {caller:?}", source(1));
        assert!(!shown.contains(char::is_numeric), "{shown}");
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

    struct OneRoom {
        fails: bool,
    }

    impl Directory for OneRoom {
        fn room_by_code(
            &self,
            code: &RoomCode,
        ) -> BoxFuture<'_, Result<Option<RoomTicket>, DirectoryError>> {
            let code = *code;
            Box::pin(async move {
                if self.fails {
                    return Err(DirectoryError {
                        cause: "disk full".into(),
                    });
                }
                Ok((code.as_str() == "123456789").then(|| RoomTicket {
                    room: "r".into(),
                    title: "Room".into(),
                    code,
                    max_participants: None,
                }))
            })
        }
    }

    #[tokio::test]
    async fn the_door_opens_on_the_right_code_only() {
        let door = Door::new(Arc::new(OneRoom { fails: false }), Patience::default());
        assert_eq!(door.open(source(1), "123 456 789").await.unwrap().room, "r");
        assert_eq!(door.open(source(1), "12").await, Err(Refusal::Malformed));
        for _ in 0..3 {
            let refused = door.open(source(1), "987654321").await;
            assert_eq!(
                refused,
                Err(Refusal::Unknown {
                    wait: Duration::ZERO
                })
            );
        }
        let refused = door.open(source(1), "987654321").await;
        assert_eq!(
            refused,
            Err(Refusal::Unknown {
                wait: Duration::from_secs(2)
            })
        );
        let refused = door.open(source(1), "123456789").await;
        assert!(
            matches!(refused, Err(Refusal::Slowed { .. })),
            "{refused:?}"
        );
        assert!(door.open(source(2), "123456789").await.is_ok());
        let refused = door.open_link(source(2), "abc").await;
        assert!(matches!(refused, Err(Refusal::Unknown { .. })));
        let counts = door.counts();
        assert_eq!(
            (
                counts.opened,
                counts.unknown,
                counts.slowed,
                counts.malformed
            ),
            (2, 5, 1, 1)
        );
    }

    #[tokio::test]
    async fn a_failing_directory_costs_the_source_nothing() {
        let door = Door::new(Arc::new(OneRoom { fails: true }), Patience::default());
        for _ in 0..50 {
            let refused = door.open(source(1), "123456789").await;
            assert!(matches!(refused, Err(Refusal::Unavailable(_))));
        }
    }

    #[tokio::test]
    async fn a_try_given_up_is_withdrawn() {
        let door = Door::new(Arc::new(OneRoom { fails: false }), Patience::default());
        for _ in 0..50 {
            drop(door.begin(source(1)).unwrap());
        }
        assert!(door.with(|state| state.tries.is_empty()));
    }
}
