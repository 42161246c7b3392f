//! RTCP of one leg: what it received of the peer, what the peer received of it (RFC 3550 §6.4).
//!
//! Owns the numbers. Sockets are the thread's; time comes in.

use std::time::{Duration, Instant};

use palabre_media::rtp::rtcp::{
    Compound, NtpTime, ReportBlock, RtcpPacket, RtcpWriter, SenderReport,
};
use palabre_media::rtp::{RtpHeader, SequenceExtender};

/// Mean time between reports (RFC 3550 §6.2: five seconds at least); each is randomised by half.
const INTERVAL: Duration = Duration::from_secs(5);

/// What is known of the stream from the peer.
#[derive(Debug)]
struct Received {
    ssrc: u32,
    first: u64,
    extender: SequenceExtender,
    packets: u64,
    /// At the last report: expected and received.
    prior: (u64, u64),
    transit: Option<i64>,
    jitter: f64,
}

/// What the peer's report says of our stream.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Feedback {
    /// Part lost in the last interval, 0 to 1.
    pub(super) loss: f32,
    /// Round trip, when it could be measured.
    pub(super) round_trip: Option<Duration>,
}

/// Reports of one leg.
#[derive(Debug)]
pub(super) struct Reports {
    received: Option<Received>,
    /// Middle bits of the peer's last sender report, and when it came.
    sender_report: Option<(u32, Instant)>,
    feedback: Feedback,
    due: Instant,
    random: u32,
    epoch: Instant,
}

impl Reports {
    /// `seed` spreads the legs' reports in time.
    pub(super) fn new(now: Instant, seed: u32) -> Self {
        let mut reports = Self {
            received: None,
            sender_report: None,
            feedback: Feedback::default(),
            due: now,
            random: seed,
            epoch: now,
        };
        reports.schedule(now);
        reports
    }

    fn schedule(&mut self, now: Instant) {
        self.random = self
            .random
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        let share = f64::from(self.random >> 8) / f64::from(1u32 << 24);
        self.due = now + INTERVAL.mul_f64(0.5 + share);
    }

    /// A packet of the leg arrived. `clock_rate` is its timestamps' unit.
    pub(super) fn packet(&mut self, now: Instant, header: &RtpHeader, clock_rate: u32) {
        if self.received.as_ref().is_none_or(|r| r.ssrc != header.ssrc) {
            let mut extender = SequenceExtender::default();
            let first = extender.extend(header.sequence);
            self.received = Some(Received {
                ssrc: header.ssrc,
                first,
                extender,
                packets: 0,
                prior: (0, 0),
                transit: None,
                jitter: 0.0,
            });
            self.sender_report = None;
        }
        let arrival = now.saturating_duration_since(self.epoch).as_micros() as i64;
        let Some(received) = &mut self.received else {
            return;
        };
        received.extender.extend(header.sequence);
        received.packets += 1;
        let arrival = arrival * i64::from(clock_rate) / 1_000_000;
        let transit = i64::from((arrival as u32).wrapping_sub(header.timestamp) as i32);
        if let Some(last) = received.transit {
            let difference = (transit - last).unsigned_abs() as f64;
            received.jitter += (difference - received.jitter) / 16.0;
        }
        received.transit = Some(transit);
    }

    /// Takes a compound packet; `true` when the peer says goodbye. `ours` is our SSRC.
    pub(super) fn incoming(
        &mut self,
        now: Instant,
        ntp: NtpTime,
        ours: u32,
        packet: &[u8],
    ) -> bool {
        let Ok(compound) = Compound::parse(packet) else {
            return false;
        };
        let mut goodbye = false;
        for part in compound.iter() {
            match part {
                Ok(RtcpPacket::SenderReport(report, blocks)) => {
                    self.sender_report = Some((report.ntp.middle(), now));
                    self.blocks(ntp, ours, blocks);
                }
                Ok(RtcpPacket::ReceiverReport { blocks, .. }) => self.blocks(ntp, ours, blocks),
                Ok(RtcpPacket::Goodbye(mut sources)) => {
                    let theirs = self.received.as_ref().map(|r| r.ssrc);
                    goodbye |= sources.any(|source| Some(source) == theirs);
                }
                _ => {}
            }
        }
        goodbye
    }

    fn blocks(&mut self, ntp: NtpTime, ours: u32, mut blocks: impl Iterator<Item = ReportBlock>) {
        if let Some(block) = blocks.find(|b| b.ssrc == ours) {
            self.feedback.loss = f32::from(block.fraction_lost) / 256.0;
            self.feedback.round_trip = block.round_trip(ntp).or(self.feedback.round_trip);
        }
    }

    /// What the peer said last.
    pub(super) fn feedback(&self) -> Feedback {
        self.feedback
    }

    /// Writes the report that is due; returns its length, 0 when none is. `sent` is our SSRC, current
    /// timestamp, packets and octets.
    pub(super) fn outgoing(
        &mut self,
        now: Instant,
        ntp: NtpTime,
        sent: (u32, u32, u32, u32),
        name: &str,
        buffer: &mut [u8],
    ) -> usize {
        if now < self.due {
            return 0;
        }
        self.schedule(now);
        self.write(now, ntp, sent, name, false, buffer)
    }

    /// Writes the last report, with a goodbye.
    pub(super) fn goodbye(
        &mut self,
        now: Instant,
        ntp: NtpTime,
        sent: (u32, u32, u32, u32),
        name: &str,
        buffer: &mut [u8],
    ) -> usize {
        self.write(now, ntp, sent, name, true, buffer)
    }

    fn write(
        &mut self,
        now: Instant,
        ntp: NtpTime,
        sent: (u32, u32, u32, u32),
        name: &str,
        goodbye: bool,
        buffer: &mut [u8],
    ) -> usize {
        let (ssrc, rtp_timestamp, packets, octets) = sent;
        let block = self.block(now);
        let blocks = block.as_slice();
        let mut writer = RtcpWriter::new(buffer);
        let mut write = || {
            if packets > 0 {
                let report = SenderReport {
                    ssrc,
                    ntp,
                    rtp_timestamp,
                    packets,
                    octets,
                };
                writer.sender_report(&report, blocks)?;
            } else {
                writer.receiver_report(ssrc, blocks)?;
            }
            writer.canonical_name(ssrc, name)?;
            if goodbye {
                writer.goodbye(&[ssrc])?;
            }
            Ok::<usize, palabre_media::rtp::WriteError>(writer.len())
        };
        write().unwrap_or(0)
    }

    fn block(&mut self, now: Instant) -> Option<ReportBlock> {
        let sender_report = self.sender_report;
        let received = self.received.as_mut()?;
        let highest = received.extender.highest()?;
        let expected = highest - received.first + 1;
        let (prior_expected, prior_packets) = received.prior;
        let interval = expected - prior_expected;
        let lost = interval.saturating_sub(received.packets - prior_packets);
        received.prior = (expected, received.packets);
        let fraction = (lost * 256).checked_div(interval).unwrap_or(0).min(255);
        let cumulative = (expected as i64 - received.packets as i64).clamp(-0x80_0000, 0x7f_ffff);
        let (last, delay) = sender_report.map_or((0, 0), |(middle, at)| {
            let delay = now.saturating_duration_since(at).as_micros() * 65_536 / 1_000_000;
            (middle, u32::try_from(delay).unwrap_or(u32::MAX))
        });
        Some(ReportBlock {
            ssrc: received.ssrc,
            fraction_lost: fraction as u8,
            cumulative_lost: cumulative as i32,
            highest_sequence: (highest - (received.first & !0xffff)) as u32,
            jitter: received.jitter as u32,
            last_sender_report: last,
            delay,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(ssrc: u32, sequence: u16, timestamp: u32) -> RtpHeader {
        let mut packet = vec![0x80, 8];
        packet.extend(sequence.to_be_bytes());
        packet.extend(timestamp.to_be_bytes());
        packet.extend(ssrc.to_be_bytes());
        RtpHeader::parse(&packet).unwrap()
    }

    #[test]
    fn two_ends_tell_each_other_loss_and_round_trip() {
        let t = Instant::now();
        let ms = |n: u64| t + Duration::from_millis(n);
        let ntp = |n: u64| NtpTime::from_unix(Duration::from_millis(1_700_000_000_000 + n));
        let (mut a, mut b) = (Reports::new(t, 1), Reports::new(t, 2));
        for n in 0..100u32 {
            // Every tenth packet of B is lost on the way to A.
            if n % 10 != 5 {
                a.packet(
                    ms(u64::from(n) * 20),
                    &header(2, 65_500u16.wrapping_add(n as u16), n * 160),
                    8_000,
                );
            }
        }
        let mut buffer = [0; 256];
        // B reports first, A answers 500 ms later, the way takes 40 ms each time.
        let length = b.outgoing(ms(8_000), ntp(8_000), (2, 1, 100, 16_000), "b", &mut buffer);
        assert!(length > 0);
        assert!(!a.incoming(ms(8_040), ntp(8_040), 1, &buffer[..length]));
        let length = a.outgoing(ms(8_540), ntp(8_540), (1, 1, 0, 0), "a", &mut buffer);
        assert!(!b.incoming(ms(8_580), ntp(8_580), 2, &buffer[..length]));
        let feedback = b.feedback();
        assert!((feedback.loss - 0.1).abs() < 0.01, "{feedback:?}");
        let trip = feedback.round_trip.unwrap().as_millis();
        assert!((79..=81).contains(&trip), "{trip}");
        assert!(a.incoming(ms(9_000), ntp(9_000), 1, {
            let length = b.goodbye(ms(9_000), ntp(9_000), (2, 1, 100, 16_000), "b", &mut buffer);
            &buffer[..length]
        }));
    }

    #[test]
    fn reports_come_every_five_seconds_or_so() {
        let t = Instant::now();
        let mut reports = Reports::new(t, 3);
        let mut buffer = [0; 256];
        let count = (0..6_000u64)
            .filter(|n| {
                let now = t + Duration::from_millis(n * 20);
                reports.outgoing(now, NtpTime(0), (1, 0, 1, 1), "x", &mut buffer) > 0
            })
            .count();
        assert!((18..=32).contains(&count), "{count}");
        assert!(!reports.incoming(t, NtpTime(0), 1, &[0x81, 200, 0, 99]));
    }
}
