//! What the engine counts. Counters only grow; gauges are the state now.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that any thread may add to. Relaxed: readers want a figure, not an order.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A state that several shards share: each adds and takes away its own part.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    /// Replaces this shard's part.
    pub(crate) fn replace(&self, before: &mut u64, now: u64) {
        self.0
            .fetch_add(now.wrapping_sub(*before), Ordering::Relaxed);
        *before = now;
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counts {
    ($($(#[doc = $doc:literal])* $field:ident: $ty:ident),* $(,)?) => {
        /// Live figures of the signalling side, shared by shards and handles.
        #[derive(Debug, Default)]
        pub(crate) struct Counts {
            $(pub(crate) $field: $ty,)*
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
                    $($field: self.$field.read(),)*
                }
            }
        }
    };
}

counts! {
    /// Gauge: rooms open.
    rooms: Gauge,
    /// Gauge: participants in rooms, telephones included.
    participants: Gauge,
    /// Gauge: announced tracks.
    tracks: Gauge,
    /// Gauge: tracks being sent to somebody, once for each receiver.
    subscriptions: Gauge,
    /// Gauge: telephone legs in rooms.
    legs: Gauge,
    /// Counter: participants let in.
    joins_total: Counter,
    /// Counter: participants refused.
    joins_refused_total: Counter,
    /// Counter: participants that took their session up again.
    resumes_total: Counter,
    /// Counter: signal requests received.
    signal_requests_total: Counter,
    /// Counter: signal requests that were refused or made no sense.
    signal_requests_refused_total: Counter,
    /// Counter: signal messages sent.
    signal_responses_total: Counter,
    /// Counter: signal connections closed because the client did not read.
    signal_slow_consumers_total: Counter,
    /// Counter: data packets received from participants.
    data_packets_total: Counter,
    /// Counter: data packets dropped (malformed, too long, not allowed, or lossy and too many waited).
    data_packets_dropped_total: Counter,
    /// Counter: reliable data packets lost because too many waited, on their way in or out.
    data_reliable_refused_total: Counter,
    /// Counter: commands that the media workers did not take, being overloaded.
    media_commands_refused_total: Counter,
    /// Counter: times nothing came any more of a track that is not muted.
    track_stalls_total: Counter,
    /// Counter: peer connections that came to stand with AEAD_AES_256_GCM.
    connected_gcm_256_total: Counter,
    /// Counter: peer connections that came to stand with AEAD_AES_128_GCM.
    connected_gcm_128_total: Counter,
    /// Counter: peer connections that came to stand with AES_CM_128_HMAC_SHA1_80.
    connected_cm_128_total: Counter,
    /// Counter: rooms dropped because of a bug in our code.
    room_panics_total: Counter,
    /// Counter: inputs or ticks of a shard cut short because of a bug in our code.
    shard_panics_total: Counter,
    /// Counter: telephone legs, mixes and ticks of the mixer lost because of a bug in our code.
    mixer_panics_total: Counter,
}
