//! What the engine counts. Counters only grow; gauges are the state now.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counts {
    ($($(#[doc = $doc:literal])* $field:ident),* $(,)?) => {
        /// Live counters of the signalling side, shared by shards and handles.
        #[derive(Debug, Default)]
        pub(crate) struct Counts {
            $(pub(crate) $field: AtomicU64,)*
        }

        /// One reading of every counter and gauge of the engine.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct MetricsSnapshot {
            $($(#[doc = $doc])* pub $field: u64,)*
        }

        impl Counts {
            pub(crate) fn read(&self) -> MetricsSnapshot {
                MetricsSnapshot {
                    $($field: self.$field.load(Ordering::Relaxed),)*
                }
            }
        }
    };
}

counts! {
    /// Gauge: rooms open.
    rooms,
    /// Gauge: participants in rooms, telephones included.
    participants,
    /// Gauge: published tracks.
    tracks,
    /// Gauge: tracks being sent to somebody.
    subscriptions,
    /// Gauge: telephone legs in rooms.
    legs,
    /// Counter: participants let in.
    joins_total,
    /// Counter: participants refused.
    joins_refused_total,
    /// Counter: participants that took their session up again.
    resumes_total,
    /// Counter: signal requests received.
    signal_requests_total,
    /// Counter: signal requests that were refused or made no sense.
    signal_requests_refused_total,
    /// Counter: signal messages sent.
    signal_responses_total,
    /// Counter: signal connections closed because the client did not read.
    signal_slow_consumers_total,
    /// Counter: data packets received from participants.
    data_packets_total,
    /// Counter: data packets dropped (malformed, too long, not allowed).
    data_packets_dropped_total,
    /// Counter: rooms dropped because of a bug in our code.
    room_panics_total,
}
