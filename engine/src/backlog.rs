//! How many data packets of each participant wait for the shard, and which may join them.
//!
//! A flood of data must not delay mutes and joins, fill memory, or cost the others their own
//! packets. Counts only: the packets are elsewhere.

use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use palabre_media::ids::SessionId;
use palabre_media::transport::DataChannel;

/// Packets of one session that may wait: more rides out longer bursts, fewer bounds what one
/// client can delay (about 10 us each) and fill (64 KiB each at worst).
const RELIABLE: usize = 512;
/// The same for packets that may be lost: they go first.
const LOSSY: usize = 128;

/// Packets of all sessions that may wait, and beyond which lossy ones go.
const ALL: usize = 4_096;
const ALL_LOSSY: usize = 2_048;

/// Reliable packets that a session may have waiting whatever the others do.
const OWN: usize = 4;

/// Data packets on their way from the workers to a shard.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    all: AtomicUsize,
    /// No entry is zero.
    sessions: DashMap<SessionId, usize>,
}

impl Backlog {
    /// Whether one more packet of this session may wait; it then does.
    pub(crate) fn admit(&self, session: SessionId, channel: DataChannel) -> bool {
        // Two workers may both be the last one admitted: the bound is no law of nature.
        let all = self.all.load(Ordering::Relaxed);
        let reliable = channel == DataChannel::Reliable;
        let mut waiting = self.sessions.entry(session).or_default();
        let admitted = if reliable {
            *waiting < OWN || (*waiting < RELIABLE && all < ALL)
        } else {
            *waiting < LOSSY && all < ALL_LOSSY
        };
        if admitted {
            *waiting += 1;
            self.all.fetch_add(1, Ordering::Relaxed);
        }
        let is_empty = *waiting == 0;
        drop(waiting);
        if is_empty {
            self.sessions
                .remove_if(&session, |_, waiting| *waiting == 0);
        }
        admitted
    }

    /// A packet of this session waits no more.
    pub(crate) fn took(&self, session: SessionId) {
        self.all.fetch_sub(1, Ordering::Relaxed);
        self.sessions.remove_if_mut(&session, |_, waiting| {
            *waiting -= 1;
            *waiting == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(backlog: &Backlog, session: u64, channel: DataChannel, packets: usize) -> usize {
        (0..packets)
            .filter(|_| backlog.admit(SessionId(session), channel))
            .count()
    }

    #[test]
    fn a_flood_of_one_costs_the_others_nothing_and_lossy_goes_first() {
        let backlog = Backlog::default();
        assert_eq!(admitted(&backlog, 1, DataChannel::Lossy, 10_000), LOSSY);
        assert_eq!(
            admitted(&backlog, 1, DataChannel::Reliable, 10_000),
            RELIABLE - LOSSY
        );
        assert_eq!(admitted(&backlog, 1, DataChannel::Reliable, 1), 0);
        assert_eq!(admitted(&backlog, 2, DataChannel::Reliable, 100), 100);
        assert_eq!(admitted(&backlog, 3, DataChannel::Lossy, 100), 100);
    }

    #[test]
    fn a_crowd_of_floods_leaves_each_its_own() {
        let backlog = Backlog::default();
        for session in 0..20 {
            admitted(&backlog, session, DataChannel::Reliable, 10_000);
        }
        assert_eq!(admitted(&backlog, 99, DataChannel::Lossy, 10), 0);
        assert_eq!(admitted(&backlog, 99, DataChannel::Reliable, 10), OWN);
        assert!(backlog.all.load(Ordering::Relaxed) <= ALL + 21 * OWN);
    }

    #[test]
    fn what_was_taken_makes_room_and_leaves_nothing_behind() {
        let backlog = Backlog::default();
        for _ in 0..3 {
            let waiting = admitted(&backlog, 1, DataChannel::Reliable, 1_000);
            assert_eq!(waiting, RELIABLE);
            assert!(!backlog.admit(SessionId(1), DataChannel::Lossy));
            for _ in 0..waiting {
                backlog.took(SessionId(1));
            }
            assert_eq!(backlog.all.load(Ordering::Relaxed), 0);
            assert!(backlog.sessions.is_empty());
        }
    }

    #[test]
    fn a_refused_stranger_is_not_remembered() {
        let backlog = Backlog::default();
        for session in 0..20 {
            admitted(&backlog, session, DataChannel::Reliable, RELIABLE);
        }
        let known = backlog.sessions.len();
        assert!(!backlog.admit(SessionId(99), DataChannel::Lossy));
        assert_eq!(backlog.sessions.len(), known);
    }
}
