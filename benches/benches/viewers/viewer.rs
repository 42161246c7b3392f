//! A guest that receives, counts, and reports as a browser does.

use std::time::{Duration, Instant};

use palabre_call::{DATAGRAM, Guest, Received, VP8};
use palabre_media::rtp::SequenceExtender;
use palabre_media::rtp::rtcp::{Compound, Feedback, NtpTime, ReportBlock, RtcpPacket};
use palabre_media::rtp::twcc::Arrivals;

/// Between a viewer's transport-wide feedback messages, as libwebrtc's default.
pub(crate) const FEEDBACK: Duration = Duration::from_millis(100);

/// Between a viewer's receiver reports.
pub(crate) const REPORT: Duration = Duration::from_secs(1);

/// A guest that receives.
pub(crate) struct Viewer {
    pub(crate) guest: Guest,
    ssrc: u32,
    extender: SequenceExtender,
    pub(crate) received: u64,
    /// Expected and received when it last reported.
    reported: (u64, u64),
    arrivals: Arrivals,
    feedback: Instant,
    report: Instant,
    signals: Instant,
    /// Bytes of its last datagram.
    pub(crate) datagram: usize,
    last_sender_report: Option<(NtpTime, Instant)>,
}

impl Viewer {
    pub(crate) fn new(guest: Guest) -> Self {
        let now = Instant::now();
        Self {
            guest,
            ssrc: 0,
            extender: SequenceExtender::default(),
            received: 0,
            reported: (0, 0),
            arrivals: Arrivals::new(now),
            feedback: now,
            report: now,
            signals: now,
            datagram: 0,
            last_sender_report: None,
        }
    }

    /// The newest number, and packets received.
    pub(crate) fn mark(&self) -> (u64, u64) {
        (self.extender.highest().unwrap_or(0), self.received)
    }

    pub(crate) fn run(&mut self, now: Instant) {
        self.guest.run(now).expect("the program listens");
        let mut buffer = [0; DATAGRAM];
        while let Some(received) = self.guest.subscriber.receive(&mut buffer) {
            match received {
                Received::Rtp { header, datagram } => {
                    let number = header
                        .extensions(&buffer[..datagram])
                        .find(|extension| extension.id == self.guest.transport_cc)
                        .and_then(|extension| extension.value.try_into().ok());
                    if let Some(number) = number {
                        self.arrivals.insert(u16::from_be_bytes(number), now);
                    }
                    if header.payload_type == VP8 {
                        self.ssrc = header.ssrc;
                        self.extender.extend(header.sequence);
                        self.received += 1;
                        self.datagram = datagram;
                    }
                }
                Received::Rtcp { len } => {
                    let compound =
                        Compound::parse(&buffer[..len]).expect("the program writes RTCP");
                    for packet in compound.into_iter().flatten() {
                        if let RtcpPacket::SenderReport(report, _) = packet {
                            self.last_sender_report = Some((report.ntp, now));
                        }
                    }
                }
            }
        }
        if self.signals <= now {
            self.signals = now + FEEDBACK / 2;
            self.guest.run_signal(now).expect("the program answers");
        }
        let parties = Feedback {
            sender: 1,
            media: self.ssrc,
        };
        if self.feedback <= now && self.arrivals.is_pending() {
            self.feedback = now + FEEDBACK;
            let arrivals = &mut self.arrivals;
            self.guest.subscriber.send_rtcp(|writer| {
                writer
                    .transport_feedback(parties, arrivals)
                    .expect("there is room");
            });
        }
        if self.report <= now && self.received > 0 {
            self.report = now + REPORT;
            let block = self.block(now);
            self.guest.subscriber.send_rtcp(|writer| {
                writer.receiver_report(1, &[block]).expect("there is room");
                writer.canonical_name(1, "bench").expect("there is room");
            });
        }
    }

    pub(crate) fn block(&mut self, now: Instant) -> ReportBlock {
        let (highest, received) = self.mark();
        let expected = highest.saturating_sub(self.reported.0);
        let got = received - self.reported.1;
        let is_first = self.reported.0 == 0;
        self.reported = (highest, received);
        let lost = if is_first {
            0
        } else {
            expected.saturating_sub(got)
        };
        ReportBlock {
            ssrc: self.ssrc,
            fraction_lost: (lost * 256 / expected.max(1)).min(255) as u8,
            highest_sequence: highest as u32,
            last_sender_report: self.last_sender_report.map_or(0, |(ntp, _)| ntp.middle()),
            delay: self.last_sender_report.map_or(0, |(_, at)| {
                ((now - at).as_micros() * 65_536 / 1_000_000) as u32
            }),
            ..ReportBlock::default()
        }
    }
}
