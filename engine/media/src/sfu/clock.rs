//! Wall clocks: ours for sender reports, a peer's as its sender reports tell it.
//!
//! Instants come from the caller; nothing here reads a clock.

use std::time::{Duration, Instant};

use super::packet::ClockMapping;
use crate::rtp::rtcp::NtpTime;

/// Our wall clock: what NTP time it was at one instant.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    /// The instant.
    pub at: Instant,
    /// Its NTP time.
    pub ntp: NtpTime,
}

impl WallClock {
    /// The NTP time of `now`.
    pub fn ntp(&self, now: Instant) -> NtpTime {
        match now.checked_duration_since(self.at) {
            Some(after) => NtpTime(self.ntp.0.wrapping_add(fixed_point(after))),
            None => NtpTime(self.ntp.0.wrapping_sub(fixed_point(self.at - now))),
        }
    }
}

/// 32.32 fixed point seconds.
fn fixed_point(duration: Duration) -> u64 {
    (duration.as_secs() << 32) | ((u64::from(duration.subsec_nanos()) << 32) / 1_000_000_000)
}

fn duration(fixed_point: u64) -> Duration {
    let nanos = ((fixed_point & 0xFFFF_FFFF) * 1_000_000_000) >> 32;
    Duration::new(fixed_point >> 32, nanos as u32)
}

/// Difference beyond which a peer's clock has jumped rather than drifted.
const JUMP: Duration = Duration::from_secs(5);

/// How fast the estimate gives way to a later arrival: clocks drift apart by far less than
/// 1 ms per report, congestion adds far more.
const DRIFT: Duration = Duration::from_micros(500);

/// Places a peer's NTP times on our clock. One per session, so that sound and picture of one
/// peer stay aligned.
///
/// The fastest report so far tells the offset: its delay was shortest.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PeerClock {
    base: Option<(NtpTime, Instant)>,
}

impl PeerClock {
    /// When, on our clock, it was `ntp` for the peer; its report arrived at `arrival`.
    pub(super) fn place(&mut self, ntp: NtpTime, arrival: Instant) -> Instant {
        let placed = self.base.and_then(|(base, at)| {
            if ntp >= base {
                at.checked_add(duration(ntp.0 - base.0).min(Duration::from_secs(1 << 20)))
            } else {
                at.checked_sub(duration(base.0 - ntp.0).min(Duration::from_secs(1 << 20)))
            }
        });
        let at = match placed {
            None => arrival,
            Some(placed) if placed >= arrival => arrival,
            Some(placed) if arrival - placed > JUMP => arrival,
            Some(placed) => (placed + DRIFT).min(arrival),
        };
        self.base = Some((ntp, at));
        at
    }
}

impl ClockMapping {
    /// The timestamp at `instant`, at `clock_rate` units per second.
    pub fn timestamp_at(&self, instant: Instant, clock_rate: u32) -> u32 {
        match instant.checked_duration_since(self.at) {
            Some(after) => self.timestamp.wrapping_add(units(after, clock_rate)),
            None => self
                .timestamp
                .wrapping_sub(units(self.at - instant, clock_rate)),
        }
    }

    /// When `timestamp` was sampled: the instant nearest to the mapping's.
    pub fn instant_of(&self, timestamp: u32, clock_rate: u32) -> Option<Instant> {
        let difference = timestamp.wrapping_sub(self.timestamp) as i32;
        let span = Duration::from_nanos(
            u64::from(difference.unsigned_abs()) * 1_000_000_000 / u64::from(clock_rate.max(1)),
        );
        if difference >= 0 {
            self.at.checked_add(span)
        } else {
            self.at.checked_sub(span)
        }
    }
}

/// `duration` in units of `clock_rate` per second, modulo 2^32.
pub(super) fn units(duration: Duration, clock_rate: u32) -> u32 {
    let nanos = u64::from(duration.subsec_nanos()) * u64::from(clock_rate) / 1_000_000_000;
    duration
        .as_secs()
        .wrapping_mul(u64::from(clock_rate))
        .wrapping_add(nanos) as u32
}

#[cfg(test)]
mod tests {
    use super::super::packet::tests::start_of_clock;
    use super::*;

    #[test]
    fn our_ntp_time_advances_with_the_instant() {
        let at = start_of_clock();
        let wall = WallClock {
            at,
            ntp: NtpTime(7 << 32),
        };
        assert_eq!(
            wall.ntp(at + Duration::from_millis(1_500)).0,
            (8 << 32) | (1 << 31)
        );
        assert_eq!(wall.ntp(at + Duration::from_secs(3)), NtpTime(10 << 32));
    }

    #[test]
    fn the_fastest_report_places_the_clock_and_delayed_ones_hardly_move_it() {
        let start = start_of_clock();
        let mut peer = PeerClock::default();
        let second = Duration::from_secs(1);
        assert_eq!(
            peer.place(NtpTime(100 << 32), start + 40 * DRIFT),
            start + 40 * DRIFT
        );
        assert_eq!(
            peer.place(NtpTime(101 << 32), start + second),
            start + second
        );
        let late = peer.place(NtpTime(102 << 32), start + 2 * second + 300 * DRIFT);
        assert_eq!(late, start + 2 * second + DRIFT);
        let jumped = start + 20 * second;
        assert_eq!(peer.place(NtpTime(103 << 32), jumped), jumped);
    }

    #[test]
    fn timestamps_and_instants_map_both_ways_across_the_wrap() {
        let at = start_of_clock() + Duration::from_secs(100);
        let mapping = ClockMapping {
            at,
            timestamp: u32::MAX - 10,
        };
        let later = at + Duration::from_millis(20);
        let timestamp = mapping.timestamp_at(later, 90_000);
        assert_eq!(timestamp, 1_789);
        assert_eq!(mapping.instant_of(timestamp, 90_000), Some(later));
        let before = at - Duration::from_millis(20);
        assert_eq!(
            mapping.timestamp_at(before, 90_000),
            (u32::MAX - 10) - 1_800
        );
        assert_eq!(
            mapping.instant_of((u32::MAX - 10) - 1_800, 90_000),
            Some(before)
        );
    }
}
