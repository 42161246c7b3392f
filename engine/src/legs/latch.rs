//! Where a leg's RTP really comes from: symmetric RTP (RFC 4961) for peers behind address translation.
//!
//! Owns the choice of address. It never opens a socket. An address is believed when it sends what only
//! the peer would: a negotiated payload type under one SSRC with consecutive numbers.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Consistent packets an address other than the SDP's must send. More resists guessing better, fewer
/// opens the sound sooner (20 ms each).
const PROOF: u8 = 3;
/// The address in use must have been silent this long before another may take over.
const SILENCE: Duration = Duration::from_secs(2);
/// Numbers a candidate's packet may be ahead of its last: small losses are no reason to begin again.
const STRIDE: u16 = 10;

#[derive(Clone, Copy, Debug)]
struct Candidate {
    address: SocketAddr,
    ssrc: u32,
    sequence: u16,
    seen: u8,
}

/// The latch of one leg.
#[derive(Debug)]
pub(super) struct Latch {
    described: Option<SocketAddr>,
    current: Option<SocketAddr>,
    heard: Option<Instant>,
    candidate: Option<Candidate>,
}

impl Latch {
    /// `described` is the SDP's address, if it names one.
    pub(super) fn new(described: Option<SocketAddr>) -> Self {
        Self {
            described,
            current: None,
            heard: None,
            candidate: None,
        }
    }

    /// The SDP was given anew. The same address says nothing new: the peer is where it was found, and a
    /// new proof would cost it the first packets after each hold.
    pub(super) fn describe(&mut self, described: SocketAddr) {
        if self.described != Some(described) {
            *self = Self::new(Some(described));
        }
    }

    /// Where to send, once it is known.
    pub(super) fn target(&self) -> Option<SocketAddr> {
        self.current.or(self.described)
    }

    /// Whether RTCP from this host may be the peer's.
    pub(super) fn trusts(&self, host: IpAddr) -> bool {
        self.target()
            .is_some_and(|target| canonical(target.ip()) == canonical(host))
    }

    /// Whether a packet recognised as the leg's audio is used; moves the latch when it is time.
    pub(super) fn accepts(
        &mut self,
        now: Instant,
        from: SocketAddr,
        ssrc: u32,
        sequence: u16,
    ) -> bool {
        let in_use = self.current == Some(from);
        if in_use || (self.current.is_none() && Some(from) == self.described) {
            self.current = Some(from);
            self.heard = Some(now);
            return true;
        }
        let seen = match self.candidate {
            Some(c)
                if c.address == from
                    && c.ssrc == ssrc
                    && (1..=STRIDE).contains(&sequence.wrapping_sub(c.sequence)) =>
            {
                c.seen.saturating_add(1)
            }
            _ => 1,
        };
        self.candidate = Some(Candidate {
            address: from,
            ssrc,
            sequence,
            seen,
        });
        let silent = self
            .heard
            .is_none_or(|heard| now.saturating_duration_since(heard) >= SILENCE);
        if seen >= PROOF && silent {
            self.current = Some(from);
            self.heard = Some(now);
            self.candidate = None;
            return true;
        }
        false
    }
}

/// IPv4 in IPv6 clothes is IPv4: a dual-stack socket reports it so.
fn canonical(host: IpAddr) -> IpAddr {
    host.to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn the_described_address_counts_at_once() {
        let mut latch = Latch::new(Some(address(1)));
        assert!(latch.accepts(Instant::now(), address(1), 7, 100));
        assert_eq!(latch.target(), Some(address(1)));
    }

    #[test]
    fn without_a_description_whoever_sends_like_the_peer_is_found() {
        let now = Instant::now();
        let mut latch = Latch::new(None);
        assert_eq!(latch.target(), None);
        assert!(!latch.trusts(address(1).ip()));
        assert!(!latch.accepts(now, address(1), 7, 1));
        assert!(!latch.accepts(now, address(1), 7, 2));
        assert!(latch.accepts(now, address(1), 7, 3));
        assert_eq!(latch.target(), Some(address(1)));
    }

    #[test]
    fn another_address_counts_after_three_consistent_packets() {
        let now = Instant::now();
        let mut latch = Latch::new(Some(address(1)));
        assert!(!latch.accepts(now, address(2), 7, 65_535));
        assert!(!latch.accepts(now, address(2), 7, 0));
        assert_eq!(latch.target(), Some(address(1)));
        assert!(latch.accepts(now, address(2), 7, 3));
        assert_eq!(latch.target(), Some(address(2)));
        assert!(latch.trusts(address(9).ip()));
    }

    #[test]
    fn the_same_description_again_forgets_nothing_another_forgets_all() {
        let now = Instant::now();
        let mut latch = Latch::new(Some(address(1)));
        for n in 0..3 {
            latch.accepts(now, address(2), 7, n);
        }
        latch.describe(address(1));
        assert_eq!(latch.target(), Some(address(2)));
        assert!(latch.accepts(now, address(2), 7, 3));
        latch.describe(address(4));
        assert_eq!(latch.target(), Some(address(4)));
        assert!(!latch.accepts(now, address(2), 7, 4));
    }

    #[test]
    fn guesses_are_not_consistent() {
        let now = Instant::now();
        let mut latch = Latch::new(Some(address(1)));
        for n in 0..1_000u32 {
            assert!(!latch.accepts(now, address(2), n, 100));
            assert!(!latch.accepts(now, address(2), 5, (n * 1_000) as u16));
            assert!(!latch.accepts(now, address(2 + n as u16 % 2), 5, 10));
        }
    }

    #[test]
    fn an_address_in_use_is_left_only_when_it_falls_silent() {
        let t = Instant::now();
        let mut latch = Latch::new(Some(address(1)));
        assert!(latch.accepts(t, address(1), 7, 1));
        for n in 0..50 {
            assert!(!latch.accepts(t + Duration::from_millis(n * 20), address(2), 8, n as u16));
        }
        let later = t + SILENCE;
        assert!(latch.accepts(later, address(2), 8, 50));
        assert_eq!(latch.target(), Some(address(2)));
        assert!(!latch.accepts(later, address(1), 7, 2));
    }
}
