//! One leg as the mixer thread keeps it: its sockets, its latch, its reports, its owner's channel.
//!
//! Owns everything of a leg but its sound, which is a [`Line`] here while the leg is alone and in the
//! room's mixer otherwise.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use palabre_media::codec::opus::Quality;
use palabre_media::ids::{LegId, TrackId};
use palabre_media::mixer::{Line, LineDrop, LineParameters, StreamStart};
use palabre_media::rtp::rtcp::NtpTime;
use tokio::sync::mpsc;

use super::command::{LegEvent, LegParameters, LegUpdate, RoomId};
use super::latch::Latch;
use super::reports::Reports;
use super::stats::Counters;

/// Datagrams read from one socket at a time: 320 ms of sound. A flood waits its turn, and is lost.
const BATCH: usize = 16;
/// Largest datagram looked at.
const MAX_DATAGRAM: usize = 2_048;

/// A leg's seat in a room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) room: RoomId,
    pub(super) track: TrackId,
}

#[derive(Debug)]
pub(super) struct Station {
    pub(super) id: LegId,
    rtp: UdpSocket,
    rtcp: Option<UdpSocket>,
    remote_rtcp: Option<SocketAddr>,
    latch: Latch,
    pub(super) parameters: LineParameters,
    pub(super) events: mpsc::Sender<LegEvent>,
    reports: Reports,
    name: String,
    last_heard: Instant,
    timed_out: bool,
    pub(super) muted: bool,
    pub(super) place: Option<Place>,
    /// `None` while the room's mixer has it.
    pub(super) line: Option<Line>,
    /// The voice was loud enough to be reported last time.
    pub(super) audible: bool,
    /// Next extended sequence number of the voice track.
    pub(super) voice_sequence: u64,
}

/// Our side of a new stream, from the OS' randomness.
pub(super) fn stream_start() -> StreamStart {
    let mut bytes = [0; 10];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system gives random bytes");
    StreamStart {
        ssrc: u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
        timestamp: u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        sequence: u16::from_be_bytes([bytes[8], bytes[9]]),
    }
}

impl Station {
    pub(super) fn new(
        id: LegId,
        now: Instant,
        parameters: LegParameters,
        events: mpsc::Sender<LegEvent>,
        quality: Quality,
    ) -> Self {
        let line = LineParameters {
            codec: parameters.codec,
            payload_type: parameters.payload_type,
            receive_payload_type: parameters.receive_payload_type,
            packet_time: parameters.packet_time,
            telephone_event: parameters
                .telephone_event
                .map(|(payload_type, _)| payload_type),
            sends: parameters.direction.sends(),
            receives: parameters.direction.receives(),
        };
        let start = stream_start();
        Self {
            id,
            rtp: parameters.rtp,
            rtcp: parameters.rtcp,
            remote_rtcp: parameters.remote_rtcp,
            latch: Latch::new(parameters.remote),
            parameters: line,
            events,
            reports: Reports::new(now, start.ssrc),
            // RFC 7022 §4.2: a name for this call only, that tells nothing.
            name: format!("{:08x}{:08x}", start.timestamp, start.ssrc.rotate_left(16)),
            last_heard: now,
            timed_out: false,
            muted: false,
            place: None,
            line: Some(Line::new(line, quality, start)),
            audible: false,
            voice_sequence: u64::from(start.sequence),
        }
    }

    /// Applies a renegotiation; `line` is the leg's, wherever it is.
    pub(super) fn update(&mut self, now: Instant, update: LegUpdate, line: Option<&mut Line>) {
        if let Some(remote) = update.remote {
            self.latch.describe(remote);
        }
        if let Some(remote) = update.remote_rtcp {
            self.remote_rtcp = Some(remote);
        }
        if let Some((codec, payload_type)) = update.codec {
            self.parameters.codec = codec;
            self.parameters.payload_type = payload_type;
            self.parameters.receive_payload_type = payload_type;
        }
        if let Some(payload_type) = update.receive_payload_type {
            self.parameters.receive_payload_type = payload_type;
        }
        if let Some(packet_time) = update.packet_time {
            self.parameters.packet_time = packet_time;
        }
        if let Some(event) = update.telephone_event {
            self.parameters.telephone_event = event.map(|(payload_type, _)| payload_type);
        }
        if let Some(direction) = update.direction {
            self.parameters.sends = direction.sends();
            self.parameters.receives = direction.receives();
        }
        self.last_heard = now;
        self.timed_out = false;
        if let Some(line) = line {
            line.update(self.parameters);
        }
    }

    /// Reads what came to the sockets; keys go to `digits`.
    pub(super) fn drain(
        &mut self,
        now: Instant,
        ntp: NtpTime,
        line: &mut Line,
        counters: &Counters,
        digits: &mut Vec<char>,
    ) {
        let mut buffer = [0; MAX_DATAGRAM];
        for _ in 0..BATCH {
            let (length, from) = match self.rtp.recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // An ICMP error of an earlier send: the socket is as good as before.
                Err(_) => continue,
            };
            let datagram = &buffer[..length];
            // RFC 5761 §4: RTCP packet types are 192 to 223 where RTP has marker and payload type.
            if datagram
                .get(1)
                .is_some_and(|byte| (192..=223).contains(byte))
            {
                self.control(now, ntp, from, datagram, line, counters);
            } else {
                self.audio(now, from, datagram, line, counters, digits);
            }
        }
        for _ in 0..BATCH {
            let Some(Ok((length, from))) = self.rtcp.as_ref().map(|s| s.recv_from(&mut buffer))
            else {
                break;
            };
            self.control(now, ntp, from, &buffer[..length], line, counters);
        }
    }

    fn audio(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        line: &mut Line,
        counters: &Counters,
        digits: &mut Vec<char>,
    ) {
        let Some(header) = line.recognises(datagram) else {
            return Counters::add(&counters.drop_malformed, 1);
        };
        if !self.latch.accepts(now, from, header.ssrc, header.sequence) {
            return Counters::add(&counters.drop_stranger, 1);
        }
        self.last_heard = now;
        self.timed_out = false;
        match line.receive(now, datagram) {
            Ok((header, key)) => {
                Counters::add(&counters.rtp_received, 1);
                self.reports
                    .packet(now, &header, self.parameters.codec.clock_rate());
                digits.extend(key);
            }
            Err(LineDrop::Source) => Counters::add(&counters.drop_stranger, 1),
            Err(_) => Counters::add(&counters.drop_malformed, 1),
        }
    }

    fn control(
        &mut self,
        now: Instant,
        ntp: NtpTime,
        from: SocketAddr,
        datagram: &[u8],
        line: &Line,
        counters: &Counters,
    ) {
        if !self.latch.trusts(from.ip()) {
            return Counters::add(&counters.drop_stranger, 1);
        }
        Counters::add(&counters.rtcp_received, 1);
        // The call's end is SIP's to say: a goodbye only ends a stream, and another may follow.
        self.reports.incoming(now, ntp, line.sent().0, datagram);
        // A held peer sends RTCP only (RFC 3264 §8.4): the line is alive.
        self.last_heard = now;
        self.timed_out = false;
    }

    /// Sends an RTP datagram.
    pub(super) fn send(&self, datagram: &[u8], counters: &Counters) {
        // None for a call that came in on hold: it is not spoken to.
        let Some(target) = self.latch.target() else {
            return;
        };
        match self.rtp.send_to(datagram, target) {
            Ok(_) => Counters::add(&counters.rtp_sent, 1),
            Err(_) => Counters::add(&counters.send_errors, 1),
        }
    }

    /// Sends the RTCP report when it is due, or the last one with a goodbye.
    pub(super) fn report(&mut self, now: Instant, ntp: NtpTime, line: &Line, goodbye: bool) {
        let mut buffer = [0; 512];
        let sent = line.sent();
        let length = if goodbye {
            self.reports
                .goodbye(now, ntp, sent, &self.name, &mut buffer)
        } else {
            self.reports
                .outgoing(now, ntp, sent, &self.name, &mut buffer)
        };
        if length == 0 {
            return;
        }
        if goodbye {
            self.sum_up(line);
        }
        let rtp = self.latch.target();
        let (socket, target) = match &self.rtcp {
            None => (&self.rtp, self.remote_rtcp.or(rtp)),
            Some(socket) => {
                let next = rtp.map(|rtp| SocketAddr::new(rtp.ip(), rtp.port().wrapping_add(1)));
                (socket, self.remote_rtcp.or(next))
            }
        };
        let Some(target) = target else { return };
        // A lost report is followed by another one.
        let _ = socket.send_to(&buffer[..length], target);
    }

    /// The call's quality, for who looks into a complaint: no address, no name.
    fn sum_up(&self, line: &Line) {
        let feedback = self.reports.feedback();
        let counts = line.playout_counts();
        tracing::debug!(
            leg = self.id.0,
            heard = counts.played,
            concealed = counts.concealed,
            late = counts.late,
            far_end_loss = feedback.loss,
            round_trip = ?feedback.round_trip,
            "telephone leg closed"
        );
    }

    /// Whether the leg has just been silent for too long: for `limit` when both ends speak, else for
    /// `held`.
    pub(super) fn timed_out(&mut self, now: Instant, limit: Duration, held: Duration) -> bool {
        // Who holds a call offers `sendonly` for the music it may play, and most play none.
        let both_speak = self.parameters.sends && self.parameters.receives;
        let limit = if both_speak { limit } else { held };
        let silent = now.saturating_duration_since(self.last_heard) >= limit;
        let news = silent && !self.timed_out;
        self.timed_out |= news;
        news
    }

    /// Tells the owner.
    pub(super) fn tell(&self, event: LegEvent, counters: &Counters) {
        if self.events.try_send(event).is_err() {
            Counters::add(&counters.events_lost, 1);
        }
    }
}
