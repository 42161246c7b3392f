//! Which worker owns a session, and what waits for those that no packet has reached yet.
//!
//! Looked at when a check comes with a ufrag the worker does not know, and for each command;
//! never per media packet.

use std::time::{Duration, Instant};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use palabre_media::ids::{SessionId, WorkerIndex};
use palabre_media::sfu::{Command, SessionConfig};

/// Commands kept for a session before its first packet. A participant in a large room gets one
/// for each track it will receive.
const MAX_BACKLOG: usize = 4_096;

/// How long a session may wait for its first packet. Higher forgives slower clients, each
/// waiting one costs a kilobyte.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ufrags by which one session is found: that of its last ICE restart and the one before, whose
/// checks may still be on their way. More would let a client that restarts for ever fill memory.
const UFRAGS: usize = 2;

#[derive(Debug, Default)]
pub(super) struct Table {
    by_ufrag: DashMap<String, SessionId>,
    sessions: DashMap<SessionId, Slot>,
}

#[derive(Debug)]
struct Slot {
    ufrags: Vec<String>,
    state: State,
}

#[derive(Debug)]
enum State {
    Waiting {
        config: Box<SessionConfig>,
        backlog: Vec<Command>,
        since: Instant,
    },
    Owned(WorkerIndex),
}

/// What a worker finds out about a ufrag.
#[derive(Debug)]
pub(super) enum Claim {
    /// It is the worker's from now on.
    Adopted(Box<SessionConfig>, Vec<Command>),
    /// Another worker has it.
    Owned(WorkerIndex),
    Unknown,
}

/// What becomes of a command.
#[derive(Debug)]
pub(super) enum Delivery {
    /// It waits with the session.
    Kept,
    /// This worker must get it.
    To(WorkerIndex, Command),
    /// The session never began, and is gone now.
    Closed,
    UnknownSession,
    BacklogFull,
}

impl Table {
    /// Lets a session wait for its first packet; false when its name or ufrag is taken.
    pub(super) fn open(&self, now: Instant, config: SessionConfig) -> bool {
        let (session, ufrag) = (config.session, config.transport.local.ufrag.clone());
        let Entry::Vacant(slot) = self.sessions.entry(session) else {
            return false;
        };
        let Entry::Vacant(name) = self.by_ufrag.entry(ufrag.clone()) else {
            return false;
        };
        name.insert(session);
        let backlog = Vec::new();
        let state = State::Waiting {
            config: Box::new(config),
            backlog,
            since: now,
        };
        slot.insert(Slot {
            ufrags: vec![ufrag],
            state,
        });
        true
    }

    /// Asks for the session of a ufrag on behalf of `worker`, on which a check for it landed.
    pub(super) fn claim(&self, ufrag: &str, worker: WorkerIndex) -> Claim {
        let Some(session) = self.by_ufrag.get(ufrag).map(|session| *session) else {
            return Claim::Unknown;
        };
        let Some(mut slot) = self.sessions.get_mut(&session) else {
            return Claim::Unknown;
        };
        match std::mem::replace(&mut slot.state, State::Owned(worker)) {
            State::Waiting {
                config, backlog, ..
            } => Claim::Adopted(config, backlog),
            State::Owned(owner) => {
                slot.state = State::Owned(owner);
                Claim::Owned(owner)
            }
        }
    }

    pub(super) fn deliver(&self, session: SessionId, command: Command) -> Delivery {
        // Lock order: sessions, then by_ufrag, as everywhere.
        let Some(mut slot) = self.sessions.get_mut(&session) else {
            return Delivery::UnknownSession;
        };
        if let Command::RestartIce { local, .. } = &command
            && !slot.ufrags.contains(&local.ufrag)
        {
            slot.ufrags.push(local.ufrag.clone());
            self.by_ufrag.insert(local.ufrag.clone(), session);
            while slot.ufrags.len() > UFRAGS {
                let old = slot.ufrags.remove(0);
                self.by_ufrag.remove(&old);
            }
        }
        match &mut slot.state {
            State::Owned(worker) => Delivery::To(*worker, command),
            State::Waiting { .. } if matches!(command, Command::Close) => {
                drop(slot);
                self.remove(session);
                Delivery::Closed
            }
            State::Waiting { backlog, .. } if backlog.len() >= MAX_BACKLOG => Delivery::BacklogFull,
            State::Waiting { backlog, .. } => {
                backlog.push(command);
                Delivery::Kept
            }
        }
    }

    /// Forgets a session.
    pub(super) fn remove(&self, session: SessionId) {
        if let Some((_, slot)) = self.sessions.remove(&session) {
            for ufrag in slot.ufrags {
                self.by_ufrag.remove(&ufrag);
            }
        }
    }

    /// Forgets every session that waited too long, and says which.
    pub(super) fn sweep(&self, now: Instant) -> Vec<SessionId> {
        let is_stale = |slot: &Slot| match slot.state {
            State::Waiting { since, .. } => now.saturating_duration_since(since) >= PATIENCE,
            State::Owned(_) => false,
        };
        let stale: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|entry| is_stale(entry.value()))
            .map(|entry| *entry.key())
            .collect();
        // A check may have come in between: only what is still stale goes.
        stale
            .into_iter()
            .filter_map(|session| self.sessions.remove_if(&session, |_, slot| is_stale(slot)))
            .map(|(session, slot)| {
                for ufrag in slot.ufrags {
                    self.by_ufrag.remove(&ufrag);
                }
                session
            })
            .collect()
    }

    /// Sessions of one worker.
    pub(super) fn owned_by(&self, worker: WorkerIndex) -> Vec<SessionId> {
        let is_its = |slot: &Slot| matches!(slot.state, State::Owned(owner) if owner == worker);
        let entries = self.sessions.iter();
        entries
            .filter(|entry| is_its(entry.value()))
            .map(|entry| *entry.key())
            .collect()
    }

    pub(super) fn waiting(&self) -> usize {
        let is_waiting = |slot: &Slot| matches!(slot.state, State::Waiting { .. });
        self.sessions
            .iter()
            .filter(|entry| is_waiting(entry.value()))
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palabre_media::transport::{IceCredentials, TransportConfig};

    const HERE: WorkerIndex = WorkerIndex(0);
    const THERE: WorkerIndex = WorkerIndex(1);

    fn credentials(seed: u8) -> IceCredentials {
        IceCredentials::from_random(&[seed; IceCredentials::RANDOM_LEN])
    }

    fn config(session: u64, seed: u8) -> SessionConfig {
        SessionConfig {
            session: SessionId(session),
            transport: TransportConfig::new(credentials(seed)),
            remote: None,
        }
    }

    #[test]
    fn commands_wait_in_order_until_the_first_worker_takes_the_session() {
        let table = Table::default();
        assert!(table.open(Instant::now(), config(1, 1)));
        for track in 0..3 {
            let command = Command::StopReceive(palabre_media::ids::TrackId(track));
            assert!(matches!(
                table.deliver(SessionId(1), command),
                Delivery::Kept
            ));
        }
        let Claim::Adopted(taken, backlog) = table.claim(&credentials(1).ufrag, HERE) else {
            panic!("it waits");
        };
        assert_eq!(taken.session, SessionId(1));
        let tracks: Vec<u64> = backlog
            .iter()
            .map(|command| match command {
                Command::StopReceive(track) => track.0,
                _ => panic!("not sent"),
            })
            .collect();
        assert_eq!(tracks, [0, 1, 2]);
        assert!(matches!(
            table.claim(&credentials(1).ufrag, THERE),
            Claim::Owned(HERE)
        ));
        assert!(matches!(
            table.deliver(SessionId(1), Command::Close),
            Delivery::To(HERE, Command::Close)
        ));
    }

    #[test]
    fn names_and_ufrags_are_taken_once_and_free_again_after_removal() {
        let table = Table::default();
        let now = Instant::now();
        assert!(table.open(now, config(1, 1)));
        assert!(!table.open(now, config(1, 2)));
        assert!(!table.open(now, config(2, 1)));
        table.remove(SessionId(1));
        assert!(matches!(
            table.claim(&credentials(1).ufrag, HERE),
            Claim::Unknown
        ));
        assert!(table.open(now, config(2, 1)));
        assert!(matches!(
            table.deliver(SessionId(9), Command::Close),
            Delivery::UnknownSession
        ));
    }

    #[test]
    fn a_session_is_found_by_its_ufrag_after_an_ice_restart() {
        let table = Table::default();
        assert!(table.open(Instant::now(), config(1, 1)));
        let _ = table.claim(&credentials(1).ufrag, HERE);
        let restart = Command::RestartIce {
            local: credentials(5),
            remote: None,
        };
        assert!(matches!(
            table.deliver(SessionId(1), restart),
            Delivery::To(HERE, _)
        ));
        assert!(matches!(
            table.claim(&credentials(5).ufrag, THERE),
            Claim::Owned(HERE)
        ));
        table.remove(SessionId(1));
        assert!(matches!(
            table.claim(&credentials(5).ufrag, THERE),
            Claim::Unknown
        ));
    }

    #[test]
    fn a_session_that_restarts_for_ever_is_found_by_its_last_two_ufrags() {
        let table = Table::default();
        assert!(table.open(Instant::now(), config(1, 1)));
        let _ = table.claim(&credentials(1).ufrag, HERE);
        let restarted = |n: u16| {
            let mut random = [0; IceCredentials::RANDOM_LEN];
            random[..2].copy_from_slice(&n.to_be_bytes());
            random[2..].fill(77);
            IceCredentials::from_random(&random)
        };
        let ufrags: Vec<String> = (0..1_000).map(|n| restarted(n).ufrag).collect();
        for n in 0..1_000 {
            let command = Command::RestartIce {
                local: restarted(n),
                remote: None,
            };
            assert!(matches!(
                table.deliver(SessionId(1), command),
                Delivery::To(HERE, _)
            ));
        }
        assert_eq!(table.by_ufrag.len(), UFRAGS);
        for (n, ufrag) in ufrags.iter().enumerate() {
            let claim = table.claim(ufrag, THERE);
            if n < 998 {
                assert!(matches!(claim, Claim::Unknown), "restart {n}");
            } else {
                assert!(matches!(claim, Claim::Owned(HERE)), "restart {n}");
            }
        }
        table.remove(SessionId(1));
        assert!(table.by_ufrag.is_empty());
    }

    #[test]
    fn who_never_comes_is_forgotten() {
        let table = Table::default();
        let now = Instant::now();
        assert!(table.open(now, config(1, 1)));
        assert!(table.open(now, config(2, 2)));
        let _ = table.claim(&credentials(2).ufrag, HERE);
        assert!(table.sweep(now + PATIENCE / 2).is_empty());
        assert_eq!(table.sweep(now + PATIENCE), [SessionId(1)]);
        assert_eq!(table.waiting(), 0);
        assert_eq!(table.owned_by(HERE), [SessionId(2)]);
    }

    #[test]
    fn the_backlog_is_bounded_and_closing_ends_the_wait() {
        let table = Table::default();
        assert!(table.open(Instant::now(), config(1, 1)));
        let command = || Command::StopReceive(palabre_media::ids::TrackId(1));
        for _ in 0..MAX_BACKLOG {
            assert!(matches!(
                table.deliver(SessionId(1), command()),
                Delivery::Kept
            ));
        }
        assert!(matches!(
            table.deliver(SessionId(1), command()),
            Delivery::BacklogFull
        ));
        assert!(matches!(
            table.deliver(SessionId(1), Command::Close),
            Delivery::Closed
        ));
        assert_eq!(table.waiting(), 0);
    }
}
