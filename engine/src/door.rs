//! The door: exchanges a code or a link for a room, and makes guessing hopeless.
//!
//! The one home of "wrong tries are slowed per source, then locked out for a while", used by the page and
//! the telephone menu alike. [`Tries`] is the rule itself, with time as an argument; [`Door`] adds the
//! clock, the lock and the directory. It never decides who a source is: the caller says so.

mod source;
mod tries;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::directory::{Directory, DirectoryError, RoomCode, RoomTicket};
use tries::seconds;

pub use source::{Source, network};
pub use tries::{Held, Patience, Tries};

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
    use std::net::IpAddr;

    use super::*;
    use crate::directory::BoxFuture;

    fn source(last: u8) -> Source {
        Source::Address(IpAddr::from([192, 0, 2, last]))
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
