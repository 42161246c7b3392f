//! What was sent lately on one stream, for answering NACKs by retransmission.
//!
//! A ring by outgoing sequence number; the payload handle is whatever the caller shares
//! between subscribers (an index, an `Arc`). It never sends and never copies payloads.

use std::time::{Duration, Instant};

/// A packet that can be sent again.
#[derive(Clone, Debug)]
pub struct Sent<H> {
    /// Its outgoing sequence number.
    pub sequence: u16,
    /// When it, or its latest retransmission, was sent.
    pub sent_at: Instant,
    /// Times it was sent again.
    pub resent: u8,
    /// The caller's reference to payload and header values.
    pub handle: H,
}

/// Ring of the latest packets sent, at most `capacity`.
#[derive(Clone, Debug)]
pub struct SendHistory<H> {
    ring: Box<[Option<Sent<H>>]>,
}

/// A packet is sent again at most this often: more only feeds a congested link.
pub const MAX_RESENT: u8 = 5;

impl<H> SendHistory<H> {
    /// A ring for `capacity` packets, rounded up to a power of two, 65,536 at most. A higher
    /// value answers later NACKs and holds payloads longer.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, 1 << 16).next_power_of_two();
        SendHistory {
            ring: (0..capacity).map(|_| None).collect(),
        }
    }

    /// Notes a packet, forgetting the one a ring's length before.
    pub fn insert(&mut self, sequence: u16, now: Instant, handle: H) {
        let slot = self.slot(sequence);
        self.ring[slot] = Some(Sent {
            sequence,
            sent_at: now,
            resent: 0,
            handle,
        });
    }

    /// The packet with this number, if it is still held.
    pub fn find(&self, sequence: u16) -> Option<&Sent<H>> {
        self.ring[self.slot(sequence)]
            .as_ref()
            .filter(|sent| sent.sequence == sequence)
    }

    /// The packet to send again for a NACK: held, not (re)sent within `interval` (about one
    /// round trip: the earlier one may still be on its way) and not sent too often. Counts as
    /// sent now.
    pub fn resend(&mut self, sequence: u16, now: Instant, interval: Duration) -> Option<&H> {
        let slot = self.slot(sequence);
        let sent = self.ring[slot]
            .as_mut()
            .filter(|sent| sent.sequence == sequence)?;
        let recent = sent.resent > 0 && now.saturating_duration_since(sent.sent_at) < interval;
        if recent || sent.resent >= MAX_RESENT {
            return None;
        }
        sent.resent += 1;
        sent.sent_at = now;
        Some(&sent.handle)
    }

    /// Forgets every packet, releasing the handles.
    pub fn clear(&mut self) {
        self.ring.fill_with(|| None);
    }

    /// Forgets packets last sent before `instant`, releasing their handles.
    pub fn forget_before(&mut self, instant: Instant) {
        for entry in &mut self.ring {
            if entry.as_ref().is_some_and(|sent| sent.sent_at < instant) {
                *entry = None;
            }
        }
    }

    fn slot(&self, sequence: u16) -> usize {
        usize::from(sequence) & (self.ring.len() - 1)
    }
}
