//! RTCP of both directions: what the peer reports and asks for, what is reported to it and asked
//! of it, and how the media fared.

use std::time::{Duration, Instant};

use super::super::command::{Link, Quality};
use super::super::drops::DropReason;
use super::super::report::{Compounds, REPORTER};
use super::super::router::Shared;
use super::{HISTORY, REPORTS, RTT, Session, Stream, TRANSPORT_FEEDBACK, smooth};
use crate::ids::MediaKind;
use crate::rtp::rtcp::{Compound, Feedback, ReportBlock, RtcpPacket};

impl Session {
    /// Takes in one SRTCP packet.
    pub(in crate::sfu) fn control(
        &mut self,
        now: Instant,
        datagram: &mut [u8],
        shared: &mut Shared,
    ) -> Result<(), DropReason> {
        let srtp = self.srtp.as_mut().ok_or(DropReason::NoKeys)?;
        let len = srtp.unprotect_rtcp(datagram)?;
        let compound = Compound::parse(&datagram[..len]).map_err(DropReason::Rtcp)?;
        for packet in &compound {
            match packet {
                Ok(packet) => self.control_packet(now, packet, shared),
                Err(error) => shared.counters.drop(DropReason::Rtcp(error)),
            }
        }
        Ok(())
    }

    fn control_packet(&mut self, now: Instant, packet: RtcpPacket<'_>, shared: &mut Shared) {
        match packet {
            RtcpPacket::SenderReport(report, blocks) => {
                let stream = self
                    .streams
                    .iter()
                    .find(|stream| stream.ssrc == report.ssrc);
                if let Some(Stream { place, role, .. }) = stream.copied()
                    && let Some(received) = &mut self.received[place]
                    && let Some(reception) =
                        &mut received.sources[usize::from(role.layer)].reception
                    && !role.rtx
                {
                    reception.sender_report(now, &report, &mut self.clock);
                }
                blocks.for_each(|block| self.report_block(now, block, shared));
            }
            RtcpPacket::ReceiverReport { blocks, .. } => {
                blocks.for_each(|block| self.report_block(now, block, shared));
            }
            RtcpPacket::Nack(nack) => {
                let rtt = self.rtt;
                let Some(&place) = self.sent_by_ssrc.get(&nack.parties.media) else {
                    return;
                };
                let Some(subscription) = &mut self.sent[place] else {
                    return;
                };
                for sequence in nack.sequences() {
                    let (egress, trains) = (&mut self.egress, &mut shared.trains);
                    match subscription.resend(now, sequence, rtt, egress, trains) {
                        true => shared.counters.resent += 1,
                        false => shared.counters.not_resent += 1,
                    }
                }
            }
            RtcpPacket::Pli(parties) => self.picture_lost(parties.media, shared),
            RtcpPacket::Fir(fir) => {
                fir.entries()
                    .for_each(|(ssrc, _)| self.picture_lost(ssrc, shared));
            }
            RtcpPacket::Remb(_)
            | RtcpPacket::TransportFeedback(_)
            | RtcpPacket::SourceDescription(_)
            | RtcpPacket::Goodbye(_)
            | RtcpPacket::Other { .. } => {}
        }
    }

    fn report_block(&mut self, now: Instant, block: ReportBlock, shared: &Shared) {
        let Some(subscription) = self.sent_mut(block.ssrc) else {
            return;
        };
        subscription.reported(block);
        if let Some(rtt) = block.round_trip(shared.wall.ntp(now)) {
            self.rtt = Some(smooth(self.rtt, rtt));
        }
    }

    fn picture_lost(&mut self, ssrc: u32, shared: &mut Shared) {
        if let Some(subscription) = self.sent_mut(ssrc)
            && let Some(layer) = subscription.gate.layer()
        {
            shared
                .key_frames
                .push((subscription.parameters.track, layer));
        }
    }

    pub(super) fn feedback(&mut self, now: Instant, shared: &mut Shared) {
        let rtt = self.rtt.unwrap_or(RTT);
        let reports = now >= self.reports_due;
        let mut compounds = Compounds::new(&mut self.egress, &mut shared.trains);
        if reports {
            self.reports_due = now + REPORTS;
            for subscription in self.sent.iter_mut().flatten() {
                if let Some(report) = subscription.sender_report(now, &shared.wall) {
                    compounds.add(|writer| writer.sender_report(&report, &[]));
                }
                subscription.forget_before(now.checked_sub(HISTORY).unwrap_or(now));
            }
            let mut blocks = [ReportBlock::default(); 31];
            let mut count = 0;
            for source in self
                .received
                .iter_mut()
                .flatten()
                .flat_map(|r| &mut r.sources)
            {
                if let (Some(ssrc), Some(reception)) = (source.ssrc, &mut source.reception)
                    && count < blocks.len()
                {
                    blocks[count] = reception.report(ssrc, now);
                    count += 1;
                }
            }
            if count > 0 {
                compounds.add(|writer| writer.receiver_report(REPORTER, &blocks[..count]));
            }
        }
        for received in self.received.iter_mut().flatten() {
            let is_video = received.parameters.kind == MediaKind::Video;
            for source in &mut received.sources {
                let (Some(media), Some(reception)) = (source.ssrc, &mut source.reception) else {
                    continue;
                };
                let parties = Feedback {
                    sender: REPORTER,
                    media,
                };
                shared.wanted.clear();
                let given_up = reception.missing.collect(now, rtt, &mut shared.wanted);
                shared.counters.given_up += given_up as u64;
                if !is_video {
                    // Sound is concealed or carries its own redundancy: never asked for again.
                    continue;
                }
                shared.counters.nacked += shared.wanted.len() as u64;
                for wanted in shared.wanted.chunks(128) {
                    compounds.add(|writer| writer.nack(parties, wanted.iter().copied()));
                }
                if source.key_frame.ask(now) {
                    shared.counters.key_frames_requested += 1;
                    compounds.add(|writer| writer.pli(parties));
                }
            }
        }
        if self.feedback_due.is_some_and(|due| due <= now) {
            let parties = Feedback {
                sender: REPORTER,
                media: self.streams.first().map_or(0, |s| s.ssrc),
            };
            let arrivals = &mut self.arrivals;
            // A message that does not fit everything is followed by another; the window bounds
            // how many.
            for _ in 0..4 {
                if !arrivals.is_pending() {
                    break;
                }
                compounds.add(|writer| writer.transport_feedback(parties, arrivals));
            }
            self.feedback_due = arrivals.is_pending().then_some(now + TRANSPORT_FEEDBACK);
        }
        compounds.flush();
    }

    /// How the media fared since the last call.
    pub(super) fn quality(&mut self) -> Quality {
        let (mut uplink, mut expected, mut lost) = (Link::default(), 0, 0);
        for received in self.received.iter_mut().flatten() {
            let rate = received.parameters.clock_rate;
            for reception in received
                .sources
                .iter_mut()
                .filter_map(|s| s.reception.as_mut())
            {
                let (packets, missing, bytes, jitter) = reception.quality(rate);
                uplink.packets += packets;
                uplink.bytes += bytes;
                expected += packets + missing;
                lost += missing;
                uplink.jitter = uplink.jitter.max(jitter);
            }
        }
        uplink.loss = if expected == 0 {
            0.0
        } else {
            lost as f32 / expected as f32
        };
        let mut downlink = Link::default();
        let (mut weighted, mut weight) = (0.0, 0u64);
        for subscription in self.sent.iter_mut().flatten() {
            let (packets, bytes) = std::mem::take(&mut subscription.interval);
            downlink.packets += packets;
            downlink.bytes += bytes;
            if let Some(block) = subscription.reported {
                weighted += f32::from(block.fraction_lost) / 256.0 * packets as f32;
                weight += packets;
                let rate = u64::from(subscription.parameters.clock_rate.max(1));
                let jitter = Duration::from_micros(u64::from(block.jitter) * 1_000_000 / rate);
                downlink.jitter = downlink.jitter.max(jitter);
            }
        }
        downlink.loss = if weight == 0 {
            0.0
        } else {
            weighted / weight as f32
        };
        Quality {
            session: self.id,
            uplink,
            downlink,
            rtt: self.rtt,
        }
    }
}
