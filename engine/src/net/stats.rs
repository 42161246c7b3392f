//! What a worker counts: written by its thread alone, read by whoever scrapes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use palabre_media::ids::WorkerIndex;
use palabre_media::sfu::Counters;

macro_rules! counts {
    ($($(#[doc = $doc:literal])* $field:ident,)*) => {
        /// Live counters of one worker. Plain adds by one thread: no shared cache line is
        /// contended, a reader may be a few packets behind.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub(super) struct Counts {
            $(pub(super) $field: Count,)*
            pub(super) router: Mutex<Counters>,
        }

        /// One reading of a worker's counters. They only grow, but for `sessions`.
        #[derive(Clone, Debug, Default)]
        #[non_exhaustive]
        pub struct WorkerStats {
            /// Which worker.
            pub worker: usize,
            $($(#[doc = $doc])* pub $field: u64,)*
            /// What its router counted: media in and out, repairs, drops by reason.
            pub router: Counters,
        }

        impl Counts {
            pub(super) fn read(&self, worker: WorkerIndex) -> WorkerStats {
                WorkerStats {
                    worker: usize::from(worker.0),
                    $($field: self.$field.0.load(Ordering::Relaxed),)*
                    router: self.router.lock().map(|router| router.clone()).unwrap_or_default(),
                }
            }
        }
    };
}

counts! {
    /// Gauge: sessions it owns.
    sessions,
    /// Datagrams received.
    packets_in,
    /// Bytes received.
    bytes_in,
    /// Receive calls that failed.
    receive_errors,
    /// Datagrams sent.
    packets_out,
    /// Bytes sent.
    bytes_out,
    /// Trains sent: `packets_out / trains` is the mean train length.
    trains,
    /// System calls that sent them.
    send_calls,
    /// Trains sent datagram by datagram because the kernel refused to cut them.
    fallbacks,
    /// Datagrams the kernel did not take.
    send_drops,
    /// Media for other members dropped because their ring was full.
    ring_drops,
    /// Datagrams passed on to the session's owner (roaming peers).
    passed_on,
    /// Datagrams from addresses of no session, here or elsewhere.
    strangers,
    /// Commands that the session refused.
    commands_refused,
    /// Reliable data packets among them, refused because too many waited for the peer.
    reliable_refused,
    /// Times the thread woke from sleep.
    wake_ups,
    /// Bugs contained: a panic cost a session or all sessions of the worker.
    panics,
}

impl WorkerStats {
    /// Mean number of datagrams in one train, 0 before the first.
    pub fn mean_train(&self) -> f64 {
        if self.trains == 0 {
            0.0
        } else {
            self.packets_out as f64 / self.trains as f64
        }
    }
}

/// A counter with one writer.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, count: u64) {
        // One writer: no read-modify-write instruction is needed.
        self.0
            .store(self.0.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }

    pub(super) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}
