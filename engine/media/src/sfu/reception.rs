//! What is known of one stream while it is received: losses, jitter, its clock.
//!
//! The statistics of RFC 3550 §6.4.1 and Appendix A; never sees a packet's bytes.

use std::time::{Duration, Instant};

use super::clock::{PeerClock, units};
use super::missing::Missing;
use super::packet::ClockMapping;
use crate::rtp::rtcp::{ReportBlock, SenderReport};

/// Reception state of one SSRC.
#[derive(Clone, Debug)]
pub(super) struct Reception {
    pub(super) missing: Missing,
    first: u64,
    highest: u64,
    /// Packets under their own number: repaired ones do not count (they were lost).
    received: u64,
    /// (expected, received) at the last report.
    before: (u64, u64),
    /// (expected, received, bytes) at the last quality report.
    quality: (u64, u64, u64),
    bytes: u64,
    /// In units of the clock, times 16 (RFC 3550 A.8).
    jitter: u32,
    transit: u32,
    origin: Instant,
    pub(super) clock: ClockMapping,
    sender_report: Option<(u32, Instant)>,
    pub(super) last_arrival: Instant,
}

/// How a packet relates to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The newest so far.
    InOrder,
    /// One that was missing; `answer` is the time since it was asked for, if it was once.
    Late { answer: Option<Duration> },
    /// Seen before, or given up.
    Unwanted,
    /// The newest, after so many missing ones that repair is hopeless.
    AfterBreak,
}

impl Reception {
    /// Starts with the packet `sequence`.
    pub(super) fn new(now: Instant, sequence: u64, timestamp: u32) -> Self {
        Reception {
            missing: Missing::default(),
            first: sequence,
            highest: sequence.wrapping_sub(1),
            received: 0,
            before: (0, 0),
            quality: (0, 0, 0),
            bytes: 0,
            jitter: 0,
            transit: 0u32.wrapping_sub(timestamp),
            origin: now,
            clock: ClockMapping { at: now, timestamp },
            sender_report: None,
            last_arrival: now,
        }
    }

    /// The extended number of a retransmission's original.
    pub(super) fn extend(&self, sequence: u16) -> Option<u64> {
        let distance = i64::from(sequence.wrapping_sub(self.highest as u16) as i16);
        self.highest.checked_add_signed(distance)
    }

    /// Whether `sequence` is not newer than all seen.
    pub(super) fn is_late(&self, sequence: u64) -> bool {
        sequence <= self.highest
    }

    /// Notes a packet that came under its own number.
    pub(super) fn arrive(
        &mut self,
        now: Instant,
        sequence: u64,
        timestamp: u32,
        bytes: usize,
        clock_rate: u32,
    ) -> Arrival {
        self.last_arrival = now;
        self.received += 1;
        self.bytes += bytes as u64;
        let transit =
            units(now.saturating_duration_since(self.origin), clock_rate).wrapping_sub(timestamp);
        let difference = (transit.wrapping_sub(self.transit) as i32).unsigned_abs();
        self.transit = transit;
        // A jump of the sender's clock is no jitter.
        if difference < clock_rate {
            self.jitter = self.jitter + difference - ((self.jitter + 8) >> 4);
        }
        self.place(now, sequence)
    }

    /// Notes a packet that came as a retransmission.
    pub(super) fn repaired(&mut self, now: Instant, sequence: u64) -> Arrival {
        self.last_arrival = now;
        self.place(now, sequence)
    }

    fn place(&mut self, now: Instant, sequence: u64) -> Arrival {
        let next = self.highest.wrapping_add(1);
        if sequence == next {
            self.highest = sequence;
            return Arrival::InOrder;
        }
        if sequence > next {
            self.highest = sequence;
            return match self.missing.skip(next, sequence, now) {
                true => Arrival::InOrder,
                false => Arrival::AfterBreak,
            };
        }
        match self.missing.recover(sequence, now) {
            Some(recovered) => Arrival::Late {
                answer: recovered.answer,
            },
            None => Arrival::Unwanted,
        }
    }

    /// Takes a sender report of this stream.
    pub(super) fn sender_report(
        &mut self,
        now: Instant,
        report: &SenderReport,
        peer: &mut PeerClock,
    ) {
        self.sender_report = Some((report.ntp.middle(), now));
        // Senders without a wall clock write zero (RFC 3550 §6.4.1).
        if report.ntp.0 != 0 {
            self.clock = ClockMapping {
                at: peer.place(report.ntp, now),
                timestamp: report.rtp_timestamp,
            };
        }
    }

    fn expected(&self) -> u64 {
        self.highest.wrapping_add(1).wrapping_sub(self.first)
    }

    /// A report block, and a new interval (RFC 3550 A.3).
    pub(super) fn report(&mut self, ssrc: u32, now: Instant) -> ReportBlock {
        let expected = self.expected();
        let interval = expected - self.before.0;
        let lost = interval.saturating_sub(self.received - self.before.1);
        self.before = (expected, self.received);
        let fraction = (lost << 8).checked_div(interval).unwrap_or(0).min(255);
        let (last, delay) = match self.sender_report {
            Some((middle, at)) => (middle, units(now.saturating_duration_since(at), 65_536)),
            None => (0, 0),
        };
        ReportBlock {
            ssrc,
            fraction_lost: fraction as u8,
            cumulative_lost: (expected as i64 - self.received as i64).clamp(-0x80_0000, 0x7F_FFFF)
                as i32,
            highest_sequence: self.highest as u32,
            jitter: self.jitter >> 4,
            last_sender_report: last,
            delay,
        }
    }

    /// Packets received, bytes, fraction lost and jitter since the last call.
    pub(super) fn quality(&mut self, clock_rate: u32) -> (u64, u64, u64, Duration) {
        let now = (self.expected(), self.received, self.bytes);
        let before = std::mem::replace(&mut self.quality, now);
        let received = now.1 - before.1;
        let lost = (now.0 - before.0).saturating_sub(received);
        let jitter = Duration::from_micros(
            u64::from(self.jitter >> 4) * 1_000_000 / u64::from(clock_rate.max(1)),
        );
        (received, lost, now.2 - before.2, jitter)
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::tests::start_of_clock;
    use super::*;
    use crate::rtp::rtcp::NtpTime;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn losses_are_counted_as_in_appendix_a3() {
        let start = start_of_clock();
        let mut reception = Reception::new(start, 100, 0);
        for sequence in (100..200).filter(|sequence| sequence % 4 != 0 || *sequence == 100) {
            reception.arrive(start, sequence, 0, 10, 90_000);
        }
        // Repairs fill the picture, not the statistics.
        assert!(matches!(
            reception.repaired(start, 104),
            Arrival::Late { .. }
        ));
        let block = reception.report(7, start);
        assert_eq!((block.ssrc, block.cumulative_lost), (7, 24));
        assert_eq!(block.fraction_lost, (24 * 256 / 100) as u8);
        assert_eq!(block.highest_sequence, 199);
        assert_eq!(reception.report(7, start).fraction_lost, 0);
    }

    #[test]
    fn order_duplicates_and_breaks_are_told_apart() {
        let start = start_of_clock();
        let mut reception = Reception::new(start, 10, 0);
        let mut arrive = |sequence| reception.arrive(start, sequence, 0, 1, 90_000);
        assert_eq!(arrive(10), Arrival::InOrder);
        assert_eq!(arrive(13), Arrival::InOrder);
        assert_eq!(arrive(12), Arrival::Late { answer: None });
        assert_eq!(arrive(12), Arrival::Unwanted);
        assert_eq!(arrive(13), Arrival::Unwanted);
        assert_eq!(arrive(9), Arrival::Unwanted);
        assert_eq!(arrive(5_000), Arrival::AfterBreak);
        assert_eq!(reception.extend(4_999), Some(4_999));
        assert_eq!(reception.extend(6), Some(6));
    }

    #[test]
    fn jitter_converges_to_the_deviation_of_arrivals() {
        let start = start_of_clock();
        let mut reception = Reception::new(start, 0, 0);
        for packet in 0..500u32 {
            let deviation = if packet % 2 == 0 {
                Duration::ZERO
            } else {
                5 * MS
            };
            let arrival = start + 20 * MS * packet + deviation;
            reception.arrive(arrival, u64::from(packet), packet * 960, 10, 48_000);
        }
        let jitter = reception.report(1, start).jitter;
        assert!(
            (230..=250).contains(&jitter),
            "{jitter} units of 5 ms = 240"
        );
    }

    #[test]
    fn a_sender_report_is_referred_to_and_places_the_clock() {
        let start = start_of_clock();
        let mut reception = Reception::new(start, 0, 500);
        assert_eq!(
            reception.clock,
            ClockMapping {
                at: start,
                timestamp: 500
            }
        );
        let report = SenderReport {
            ssrc: 1,
            ntp: NtpTime(0x1234_5678_9ABC_DEF0),
            rtp_timestamp: 4_000,
            packets: 0,
            octets: 0,
        };
        reception.sender_report(start + 10 * MS, &report, &mut PeerClock::default());
        assert_eq!(
            reception.clock,
            ClockMapping {
                at: start + 10 * MS,
                timestamp: 4_000
            }
        );
        let block = reception.report(1, start + 510 * MS);
        assert_eq!(
            (block.last_sender_report, block.delay),
            (0x5678_9ABC, 32_768)
        );
    }
}
