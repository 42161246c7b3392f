//! How many handshakes are under way, and why one fails.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::Error;
use tokio::sync::oneshot;

/// Why a handshake did not end well: the label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// The client closed, or its connection broke.
    Closed,
    /// It took too long.
    Slow,
    /// Too many were under way, and this was the oldest.
    Displaced,
    /// The client spoke HTTP without TLS.
    Plain,
    /// The client sent an alert: most often, it does not know who issued the certificate.
    Refused,
    /// No version, cipher or protocol in common.
    Incompatible,
    /// What came is no TLS.
    Malformed,
}

impl Failed {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Slow => "slow",
            Self::Displaced => "displaced",
            Self::Plain => "plain",
            Self::Refused => "refused",
            Self::Incompatible => "incompatible",
            Self::Malformed => "malformed",
        }
    }

    pub(super) fn of(error: &io::Error) -> Self {
        let tls = error.get_ref().and_then(|cause| cause.downcast_ref());
        match tls {
            Some(Error::AlertReceived(_)) => Self::Refused,
            Some(Error::PeerIncompatible(_) | Error::NoApplicationProtocol) => Self::Incompatible,
            Some(_) => Self::Malformed,
            None => Self::Closed,
        }
    }
}

/// The handshakes under way. A newcomer that finds no room takes the place of the oldest: one that is well on its way
/// ends within moments, one that is left half open on purpose never does.
pub(super) struct Handshakes {
    most: usize,
    under_way: Mutex<UnderWay>,
}

#[derive(Default)]
struct UnderWay {
    count: u64,
    by_age: BTreeMap<u64, oneshot::Sender<Infallible>>,
}

/// One handshake's place; dropping it frees it.
pub(super) struct Turn {
    handshakes: Arc<Handshakes>,
    age: u64,
}

/// Completes when the place has gone to somebody else.
pub(super) type Lost = oneshot::Receiver<Infallible>;

impl Handshakes {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            under_way: Mutex::default(),
        })
    }

    pub(super) fn enter(handshakes: &Arc<Self>) -> (Turn, Lost) {
        let (keep, lost) = oneshot::channel();
        let mut under_way = handshakes.lock();
        while under_way.by_age.len() >= handshakes.most {
            under_way.by_age.pop_first();
        }
        let age = under_way.count;
        under_way.count += 1;
        under_way.by_age.insert(age, keep);
        let turn = Turn {
            handshakes: Arc::clone(handshakes),
            age,
        };
        (turn, lost)
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.handshakes.lock().by_age.remove(&self.age);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_longest_makes_room_and_whoever_is_done_frees_it() {
        let handshakes = Handshakes::new(2);
        let (first, lost_first) = Handshakes::enter(&handshakes);
        let (second, mut lost_second) = Handshakes::enter(&handshakes);
        let (third, mut lost_third) = Handshakes::enter(&handshakes);
        assert!(lost_first.await.is_err(), "its place is gone");
        assert!(lost_second.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        drop((first, second));
        assert_eq!(handshakes.lock().by_age.len(), 1);
        let (fourth, _lost) = Handshakes::enter(&handshakes);
        assert!(lost_third.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        drop((third, fourth));
        assert!(handshakes.lock().by_age.is_empty());
    }

    #[test]
    fn failures_are_told_apart() {
        let of = |error: Error| Failed::of(&io::Error::new(io::ErrorKind::InvalidData, error));
        let alert = Error::AlertReceived(rustls::AlertDescription::UnknownCA);
        assert_eq!(of(alert), Failed::Refused);
        assert_eq!(of(Error::NoApplicationProtocol), Failed::Incompatible);
        assert_eq!(of(Error::DecryptError), Failed::Malformed);
        let broken = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(Failed::of(&broken), Failed::Closed);
    }
}
