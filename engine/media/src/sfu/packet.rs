//! A media packet after ingest: what forwarding needs to know, and the payload, shared.
//!
//! One buffer per packet whatever the number of receivers and workers. Buffers come from a
//! [`PacketPool`] and return to it by themselves when the last holder lets go.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::command::{Codec, Layer};
use crate::codec::vp8::Vp8Descriptor;
use crate::ids::TrackId;
use crate::rtp::AudioLevel;

/// Largest payload carried, in bytes: an Ethernet path's largest UDP datagram less RTP header.
pub const MAX_PAYLOAD: usize = 1_460;

/// What is known of a packet beside its payload.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor {
    /// The track it belongs to.
    pub track: TrackId,
    /// The encoding it belongs to.
    pub layer: Layer,
    /// Its codec.
    pub codec: Codec,
    /// Marker bit.
    pub marker: bool,
    /// Whether a key frame starts in this packet (always false for audio).
    pub key_frame: bool,
    /// Whether it was the newest of its encoding when it arrived; false for late packets.
    pub in_order: bool,
    /// Grows by one whenever the encoding's source starts anew (another SSRC, end of a mute):
    /// numbers and timestamps before and after do not compare.
    pub epoch: u16,
    /// VP8's payload descriptor, when the payload has one.
    pub vp8: Option<Vp8Descriptor>,
    /// Loudness, when the sender tells it.
    pub audio_level: Option<AudioLevel>,
    /// Extended sequence number of the source, per encoding.
    pub sequence: u64,
    /// The source's timestamp, per encoding.
    pub timestamp: u32,
    /// When it arrived.
    pub arrival: Instant,
    /// Where the encoding's timestamps lie in time: from sender reports, or from the first
    /// arrival until there is one.
    pub clock: ClockMapping,
}

/// `timestamp` was sampled at `at`, on our clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockMapping {
    /// The instant.
    pub at: Instant,
    /// The timestamp.
    pub timestamp: u32,
}

/// A packet on its way from its source to every receiver.
#[derive(Clone)]
pub struct Packet {
    /// What is known of it.
    pub descriptor: Descriptor,
    length: u16,
    bytes: [u8; MAX_PAYLOAD],
}

impl Packet {
    /// The payload, plain, without padding.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl std::fmt::Debug for Packet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packet")
            .field("descriptor", &self.descriptor)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// Buffers looked at before a new one is made. A higher value finds a free buffer behind
/// long-held ones, at a few nanoseconds each.
const PROBES: usize = 4;

/// Gives out packets and takes their buffers back; it only grows to what is held at once.
#[derive(Debug)]
pub struct PacketPool {
    /// Oldest first: histories let go of packets in about the order they were given.
    buffers: VecDeque<Arc<Packet>>,
    capacity: usize,
}

impl PacketPool {
    /// A pool keeping at most `capacity` buffers of about 1.6 KB. Packets beyond it are served
    /// from the allocator.
    pub fn new(capacity: usize) -> Self {
        PacketPool {
            buffers: VecDeque::new(),
            capacity,
        }
    }

    /// A packet with a copy of `payload`; `None` when it is longer than [`MAX_PAYLOAD`].
    pub fn packet(&mut self, descriptor: Descriptor, payload: &[u8]) -> Option<Arc<Packet>> {
        if payload.len() > MAX_PAYLOAD {
            return None;
        }
        let mut buffer = self.free().unwrap_or_else(|| {
            Arc::new(Packet {
                descriptor,
                length: 0,
                bytes: [0; MAX_PAYLOAD],
            })
        });
        let packet = Arc::get_mut(&mut buffer).expect("a free buffer has one holder");
        packet.descriptor = descriptor;
        packet.length = payload.len() as u16;
        packet.bytes[..payload.len()].copy_from_slice(payload);
        if self.buffers.len() < self.capacity {
            self.buffers.push_back(Arc::clone(&buffer));
        }
        Some(buffer)
    }

    /// Buffers known to the pool, in use or not.
    pub fn len(&self) -> usize {
        self.buffers.len()
    }

    /// Whether nothing was ever given out.
    pub fn is_empty(&self) -> bool {
        self.buffers.is_empty()
    }

    fn free(&mut self) -> Option<Arc<Packet>> {
        for _ in 0..PROBES.min(self.buffers.len()) {
            let mut buffer = self.buffers.pop_front()?;
            if Arc::get_mut(&mut buffer).is_some() {
                return Some(buffer);
            }
            self.buffers.push_back(buffer);
        }
        None
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods)] // where a test's clock begins
    pub(in super::super) fn start_of_clock() -> Instant {
        Instant::now()
    }

    pub(in super::super) fn descriptor() -> Descriptor {
        let arrival = start_of_clock();
        Descriptor {
            track: TrackId(1),
            layer: 0,
            codec: Codec::Vp8,
            marker: false,
            key_frame: false,
            in_order: true,
            epoch: 0,
            vp8: None,
            audio_level: None,
            sequence: 0x1_0000,
            timestamp: 0,
            arrival,
            clock: ClockMapping {
                at: arrival,
                timestamp: 0,
            },
        }
    }

    #[test]
    fn buffers_come_back_when_the_last_holder_lets_go() {
        let mut pool = PacketPool::new(8);
        let first = pool.packet(descriptor(), b"one").unwrap();
        let second = pool.packet(descriptor(), b"two").unwrap();
        assert_eq!(
            (first.payload(), second.payload()),
            (&b"one"[..], &b"two"[..])
        );
        let address = Arc::as_ptr(&first);
        drop(first);
        let third = pool.packet(descriptor(), b"three").unwrap();
        assert_eq!(Arc::as_ptr(&third), address);
        assert_eq!(
            (second.payload(), third.payload()),
            (&b"two"[..], &b"three"[..])
        );
        assert_eq!(pool.len(), 2);
    }

    #[test]
    fn the_pool_is_bounded_and_refuses_what_does_not_fit() {
        let mut pool = PacketPool::new(4);
        let held: Vec<_> = (0..20)
            .map(|_| pool.packet(descriptor(), b"x").unwrap())
            .collect();
        assert_eq!((pool.len(), held.len()), (4, 20));
        assert!(pool.packet(descriptor(), &[0; MAX_PAYLOAD + 1]).is_none());
        assert!(pool.packet(descriptor(), &[0; MAX_PAYLOAD]).is_some());
    }
}
