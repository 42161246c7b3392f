//! Counters of the mixer thread: written by it alone, read by anybody.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counters, as atomics.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: AtomicU64,)*
            pub(super) heartbeat: Heartbeat,
        }

        /// Counters of the mixer thread at one moment. All but the gauges only grow.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct MixerStats {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            pub(super) fn snapshot(&self) -> MixerStats {
                MixerStats {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                }
            }
        }
    };
}

counters! {
    /// Gauge: rooms that have a mix.
    rooms,
    /// Gauge: legs.
    legs,
    /// Ticks of 20 ms.
    ticks,
    /// Ticks that began more than 20 ms late.
    overruns,
    /// Time spent mixing, in microseconds.
    busy_micros,
    /// RTP packets used.
    rtp_received,
    /// RTP packets sent.
    rtp_sent,
    /// RTP packets the kernel refused to send.
    send_errors,
    /// Datagrams that were not RTP or of no negotiated payload type.
    drop_malformed,
    /// Datagrams from an address or source not (yet) believed.
    drop_stranger,
    /// RTCP packets read.
    rtcp_received,
    /// Packets of watched tracks.
    track_packets,
    /// Frames of watched tracks decoded.
    decoded_frames,
    /// Leg ticks served by a mix of their own.
    own_mixes,
    /// Packets of legs' voices given to the mesh (once, however many watch).
    voice_packets,
    /// Leg events lost because nobody took them.
    events_lost,
    /// Commands that named an unknown leg, room or track.
    commands_lost,
    /// Rooms whose mix failed.
    failed_rooms,
    /// Legs dropped because of a bug in our code.
    failed_legs,
    /// Ticks cut short by a bug in our code that was no room's and no leg's.
    panics,
}

/// When the thread last finished a tick.
#[derive(Debug)]
pub(super) struct Heartbeat {
    begun: Instant,
    /// Milliseconds from `begun`.
    last: AtomicU64,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            last: AtomicU64::new(0),
        }
    }
}

impl Heartbeat {
    pub(super) fn beat(&self) {
        let since = self.begun.elapsed().as_millis() as u64;
        self.last.store(since, Ordering::Relaxed);
    }

    /// How long since the last beat, or since the start when there was none.
    pub(super) fn silence(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.begun.elapsed().saturating_sub(last)
    }
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, amount: u64) {
        // One writer: a load and a store are enough, and cheaper than an atomic addition.
        counter.store(
            counter.load(Ordering::Relaxed).wrapping_add(amount),
            Ordering::Relaxed,
        );
    }
}
