//! One peer connection: transport, keys, tracks received, tracks sent.
//!
//! Everything is addressed by SSRC, never by searching media sections. Which session gets a
//! datagram and which subscriptions a packet is the router's business.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::clock::PeerClock;
use super::command::{
    CommandError, Event, Layer, Link, Quality, ReceiveParameters, SendParameters,
};
use super::drops::DropReason;
use super::egress::Egress;
use super::forward::Subscription;
use super::packet::{Descriptor, Packet};
use super::received::{Received, Role};
use super::reception::{Arrival, Reception};
use super::report::{Compounds, REPORTER};
use super::router::Shared;
use crate::codec::{av1, h264, vp8, vp9};
use crate::ids::{MediaKind, SessionId, SubscriptionId, TrackId};
use crate::rtp::rtcp::{Compound, Feedback, ReportBlock, RtcpPacket};
use crate::rtp::twcc::Arrivals;
use crate::rtp::{ExtensionIds, ExtensionValues, rtx};
use crate::sfu::Codec;
use crate::srtp::{self, SrtpReceiver};
use crate::transport::{CloseReason, Transport, TransportEvent, TransportOutput};

/// How often transport-wide feedback is sent while packets arrive. A lower value lets the
/// sender's estimator react sooner at one packet each.
const TRANSPORT_FEEDBACK: Duration = Duration::from_millis(60);

/// How often sender and receiver reports are sent.
const REPORTS: Duration = Duration::from_secs(1);

/// Round trip assumed until one is measured.
const RTT: Duration = Duration::from_millis(80);

/// Packets sent longer ago than this are not kept for sending again.
const HISTORY: Duration = Duration::from_secs(3);

/// Addresses one peer may be reached from at a time (candidates of one browser, old and new).
const ADDRESSES: usize = 8;

/// One peer connection.
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) transport: Box<dyn Transport + Send>,
    pub(super) egress: Egress,
    srtp: Option<SrtpReceiver>,
    /// Addresses that passed a check with this session's password, oldest first.
    pub(super) addresses: Vec<SocketAddr>,
    /// Names under which checks find this session: the current one and those before a restart.
    pub(super) ufrags: Vec<String>,
    /// Tracks the peer sends.
    pub(super) received: Vec<Option<Received>>,
    streams: Vec<Stream>,
    extensions: ExtensionIds,
    arrivals: Arrivals,
    feedback_due: Option<Instant>,
    clock: PeerClock,
    /// Tracks the peer gets.
    pub(super) sent: Vec<Option<Subscription>>,
    /// From an SSRC we send under to its place in `sent`.
    sent_by_ssrc: HashMap<u32, usize>,
    rtt: Option<Duration>,
    reports_due: Instant,
    quality_due: Instant,
    /// When something is next due; never later than that.
    pub(super) wake: Instant,
    pub(super) closed: Option<CloseReason>,
}

/// What an SSRC we receive stands for.
#[derive(Clone, Copy, Debug)]
struct Stream {
    ssrc: u32,
    place: usize,
    role: Role,
}

impl Session {
    pub(super) fn new(
        now: Instant,
        id: SessionId,
        ufrag: String,
        transport: Box<dyn Transport + Send>,
    ) -> Self {
        Session {
            id,
            transport,
            egress: Egress::new(now),
            srtp: None,
            addresses: Vec::new(),
            ufrags: vec![ufrag],
            received: Vec::new(),
            streams: Vec::new(),
            extensions: ExtensionIds::default(),
            arrivals: Arrivals::new(now),
            feedback_due: None,
            clock: PeerClock::default(),
            sent: Vec::new(),
            sent_by_ssrc: HashMap::new(),
            rtt: None,
            reports_due: now + REPORTS,
            quality_due: now + super::QUALITY_INTERVAL,
            wake: now,
            closed: None,
        }
    }

    pub(super) fn wake_by(&mut self, at: Instant) {
        self.wake = self.wake.min(at);
    }

    /// Remembers that `address` belongs to this peer; the one it replaces, if any.
    pub(super) fn add_address(&mut self, address: SocketAddr) -> Option<SocketAddr> {
        if self.addresses.contains(&address) {
            return None;
        }
        self.addresses.push(address);
        if self.addresses.len() <= ADDRESSES {
            return None;
        }
        let in_use = self.transport.remote();
        let oldest = self
            .addresses
            .iter()
            .position(|address| Some(*address) != in_use);
        oldest.map(|oldest| self.addresses.remove(oldest))
    }

    /// Takes everything the transport has to say.
    pub(super) fn poll_transport(&mut self, now: Instant, shared: &mut Shared) {
        while let Some(output) = self.transport.poll() {
            match output {
                TransportOutput::Datagram { to, bytes } => {
                    self.egress.datagram(&mut shared.trains, to, &bytes);
                }
                TransportOutput::Event(event) => self.transport_event(now, event, shared),
            }
        }
        if let Some(deadline) = self.transport.deadline() {
            self.wake_by(deadline);
        }
    }

    fn transport_event(&mut self, now: Instant, event: TransportEvent, shared: &mut Shared) {
        let session = self.id;
        match event {
            TransportEvent::IceConnected { remote } => self.egress.set_destination(remote),
            TransportEvent::DtlsConnected { keying, profile } => {
                let (sender, receiver) =
                    srtp::contexts(profile, &keying).expect("keying is the profile's");
                self.egress.set_keys(sender);
                self.srtp = Some(receiver);
                self.reports_due = now + REPORTS;
                shared
                    .events
                    .push_back(Event::Connected { session, profile });
            }
            TransportEvent::DataOpen(channel) => {
                shared
                    .events
                    .push_back(Event::DataOpen { session, channel });
            }
            TransportEvent::Data { channel, payload } => {
                shared.events.push_back(Event::Data {
                    session,
                    channel,
                    payload,
                });
            }
            TransportEvent::Closed(reason) => self.closed = Some(reason),
        }
    }

    // Tracks received.

    /// Accepts a track, or changes its parameters; whether it is new.
    pub(super) fn receive(
        &mut self,
        parameters: ReceiveParameters,
        limit: usize,
    ) -> Result<bool, CommandError> {
        self.extensions = merged(self.extensions, parameters.extensions);
        if let Some(place) = self.place_of(parameters.track) {
            if let Some(received) = &mut self.received[place] {
                received.update(parameters);
            }
            self.index_sources(place);
            return Ok(false);
        }
        if self.received.iter().flatten().count() >= limit {
            return Err(CommandError::TooManyTracks);
        }
        let place = self
            .received
            .iter()
            .position(Option::is_none)
            .unwrap_or_else(|| {
                self.received.push(None);
                self.received.len() - 1
            });
        self.received[place] = Some(Received::new(parameters));
        self.index_sources(place);
        Ok(true)
    }

    /// Enters the SSRCs that the description named.
    fn index_sources(&mut self, place: usize) {
        self.streams.retain(|stream| stream.place != place);
        let Some(received) = &self.received[place] else {
            return;
        };
        for (layer, source) in (0..).zip(&received.sources) {
            for (ssrc, rtx) in [(source.ssrc, false), (source.rtx_ssrc, true)] {
                if let Some(ssrc) = ssrc {
                    self.streams.retain(|stream| stream.ssrc != ssrc);
                    self.streams.push(Stream {
                        ssrc,
                        place,
                        role: Role { layer, rtx },
                    });
                }
            }
        }
    }

    pub(super) fn stop_receive(&mut self, track: TrackId) -> Option<Received> {
        let place = self.place_of(track)?;
        if let Some(srtp) = &mut self.srtp {
            for stream in self.streams.iter().filter(|stream| stream.place == place) {
                srtp.forget(stream.ssrc);
            }
        }
        self.streams.retain(|stream| stream.place != place);
        self.received[place].take()
    }

    fn place_of(&self, track: TrackId) -> Option<usize> {
        self.received.iter().position(|received| {
            received
                .as_ref()
                .is_some_and(|r| r.parameters.track == track)
        })
    }

    pub(super) fn received_mut(&mut self, track: TrackId) -> Option<&mut Received> {
        self.received
            .iter_mut()
            .flatten()
            .find(|received| received.parameters.track == track)
    }

    /// Somebody needs a key frame of a track this peer sends.
    pub(super) fn want_key_frame(&mut self, now: Instant, track: TrackId, layer: Layer) {
        let Some(received) = self.received_mut(track) else {
            return;
        };
        if received.parameters.kind == MediaKind::Audio || received.muted {
            return;
        }
        if let Some(layer) = received.nearest(layer) {
            let request = &mut received.sources[usize::from(layer)].key_frame;
            request.want();
            let at = request.deadline().unwrap_or(now);
            self.wake_by(at.max(now));
        }
    }

    /// Takes in one SRTP packet; what there is to forward of it.
    pub(super) fn ingest(
        &mut self,
        now: Instant,
        datagram: &mut [u8],
        shared: &mut Shared,
    ) -> Result<Option<Arc<Packet>>, DropReason> {
        let srtp = self.srtp.as_mut().ok_or(DropReason::NoKeys)?;
        let plain = srtp.unprotect_rtp(datagram)?;
        let packet = &datagram[..plain.len];
        let mut header = plain.header;
        let values = ExtensionValues::read(&header, packet, &self.extensions);
        if let Some(sequence) = values.transport_sequence {
            self.arrivals.insert(sequence, now);
            if self.feedback_due.is_none() {
                self.feedback_due = Some(now + TRANSPORT_FEEDBACK);
                self.wake_by(now + TRANSPORT_FEEDBACK);
            }
        }
        let known = self
            .streams
            .iter()
            .find(|stream| stream.ssrc == header.ssrc)
            .copied();
        let stream = match known {
            Some(stream) => stream,
            None => self.learn(&header, &values, shared.limits.streams)?,
        };
        let Stream { place, role, .. } = stream;
        let received = self.received[place]
            .as_mut()
            .ok_or(DropReason::UnknownStream)?;
        let parameters = &received.parameters;
        let rate = parameters.clock_rate;
        let source = &mut received.sources[usize::from(role.layer)];

        let (sequence, arrival) = if role.rtx {
            let (Some(ssrc), Some(reception)) = (source.ssrc, &mut source.reception) else {
                // A retransmission of what never came by itself: nothing to place it by.
                return Err(DropReason::UnknownStream);
            };
            if Some(header.payload_type) != parameters.rtx_payload_type {
                return Err(DropReason::PayloadType);
            }
            header = rtx::decapsulate(&header, packet, ssrc, parameters.payload_type)
                .map_err(|_| DropReason::Probe)?;
            let sequence = reception
                .extend(header.sequence)
                .ok_or(DropReason::Duplicate)?;
            // It repairs what was missing; it cannot be the newest.
            if !reception.is_late(sequence) {
                return Err(DropReason::Duplicate);
            }
            (sequence, reception.repaired(now, sequence))
        } else {
            if header.payload_type != parameters.payload_type {
                return Err(DropReason::PayloadType);
            }
            let reception = source
                .reception
                .get_or_insert_with(|| Reception::new(now, plain.index, header.timestamp));
            let bytes = header.payload_len();
            (
                plain.index,
                reception.arrive(now, plain.index, header.timestamp, bytes, rate),
            )
        };
        let reception = source.reception.as_ref().expect("it was just noted");
        match arrival {
            Arrival::InOrder => {
                if parameters.kind == MediaKind::Video
                    && let Some(at) = reception.missing.deadline(self.rtt.unwrap_or(RTT))
                {
                    self.wake = self.wake.min(at);
                }
            }
            Arrival::AfterBreak => {
                source.key_frame.want();
                self.wake = self.wake.min(now);
            }
            Arrival::Late { answer } => {
                shared.counters.recovered += 1;
                if let Some(answer) = answer.filter(|_| role.rtx) {
                    self.rtt = Some(smooth(self.rtt, answer));
                }
            }
            Arrival::Unwanted => return Err(DropReason::Duplicate),
        }

        let payload = header.payload(packet);
        let in_order = matches!(arrival, Arrival::InOrder | Arrival::AfterBreak);
        let key_frame = starts_key_frame(parameters.codec, payload);
        if key_frame && in_order {
            source.key_frame.arrived();
        }
        if let Some(level) = values.audio_level.filter(|_| !received.muted) {
            received.loudness.note(level);
        }
        if received.seen & (1 << role.layer) == 0 {
            received.seen |= 1 << role.layer;
            shared.events.push_back(Event::TrackActive {
                session: self.id,
                track: parameters.track,
                mid: parameters.mid,
                codec: parameters.codec,
                layers: received.seen,
            });
        }
        if received.muted {
            return Err(DropReason::Muted);
        }
        let is_vp8 = parameters.codec == Codec::Vp8;
        let descriptor = Descriptor {
            track: parameters.track,
            layer: role.layer,
            codec: parameters.codec,
            marker: header.marker,
            key_frame,
            in_order,
            epoch: source.epoch,
            vp8: if is_vp8 {
                vp8::Vp8Descriptor::parse(payload)
            } else {
                None
            },
            audio_level: values.audio_level,
            sequence,
            timestamp: header.timestamp,
            arrival: now,
            clock: reception.clock,
        };
        shared.counters.received += 1;
        shared.counters.received_bytes += payload.len() as u64;
        let packet = shared
            .pool
            .packet(descriptor, payload)
            .ok_or(DropReason::Oversize)?;
        Ok(Some(packet))
    }

    /// Finds out what a new SSRC stands for.
    fn learn(
        &mut self,
        header: &crate::rtp::RtpHeader,
        values: &ExtensionValues,
        limit: usize,
    ) -> Result<Stream, DropReason> {
        let ssrc = header.ssrc;
        let mut roles = self
            .received
            .iter()
            .enumerate()
            .filter_map(|(place, received)| {
                Some((place, received.as_ref()?.role(header, values)?))
            });
        let found = roles.next();
        // Without a media section's name two tracks with one payload type cannot be told apart.
        let ambiguous = values.mid.is_none() && roles.next().is_some();
        let Some((place, role)) = found.filter(|_| !ambiguous) else {
            // Otherwise each forged-looking stream of an honest peer would hold a replay window.
            if let Some(srtp) = &mut self.srtp {
                srtp.forget(ssrc);
            }
            return Err(DropReason::UnknownStream);
        };
        let received = self.received[place].as_mut().expect("it has a role");
        let source = &mut received.sources[usize::from(role.layer)];
        let before = if role.rtx {
            source.rtx_ssrc.replace(ssrc)
        } else {
            source.restart();
            source.ssrc.replace(ssrc)
        };
        if let Some(before) = before {
            self.streams.retain(|stream| stream.ssrc != before);
            if let Some(srtp) = &mut self.srtp {
                srtp.forget(before);
            }
        }
        if self.streams.len() >= limit {
            return Err(DropReason::TooManyStreams);
        }
        let stream = Stream { ssrc, place, role };
        self.streams.push(stream);
        Ok(stream)
    }

    // Tracks sent.

    /// Starts a subscription; its place.
    pub(super) fn send(
        &mut self,
        parameters: SendParameters,
        limit: usize,
    ) -> Result<usize, CommandError> {
        if self.sent.iter().flatten().count() >= limit {
            return Err(CommandError::TooManySubscriptions);
        }
        let place = self
            .sent
            .iter()
            .position(Option::is_none)
            .unwrap_or_else(|| {
                self.sent.push(None);
                self.sent.len() - 1
            });
        self.sent_by_ssrc.insert(parameters.ssrc, place);
        self.sent[place] = Some(Subscription::new(parameters));
        Ok(place)
    }

    pub(super) fn subscription_place(&self, subscription: SubscriptionId) -> Option<usize> {
        self.sent.iter().position(|sent| {
            sent.as_ref()
                .is_some_and(|sent| sent.parameters.subscription == subscription)
        })
    }

    /// Ends the subscription at `place`; its track.
    pub(super) fn stop_send(&mut self, place: usize) -> Option<TrackId> {
        let subscription = self.sent[place].take()?;
        self.sent_by_ssrc.remove(&subscription.parameters.ssrc);
        Some(subscription.parameters.track)
    }

    fn sent_mut(&mut self, ssrc: u32) -> Option<&mut Subscription> {
        let place = *self.sent_by_ssrc.get(&ssrc)?;
        self.sent[place].as_mut()
    }

    // RTCP.

    /// Takes in one SRTCP packet.
    pub(super) fn control(
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

    // Time.

    /// Does everything that is due, and sets the next [`Self::wake`].
    pub(super) fn run(&mut self, now: Instant, shared: &mut Shared) {
        if self.transport.deadline().is_some_and(|at| at <= now) {
            self.transport.handle_timeout(now);
        }
        self.poll_transport(now, shared);
        if self.srtp.is_some() {
            self.feedback(now, shared);
        }
        if now >= self.quality_due {
            self.quality_due = now + super::QUALITY_INTERVAL;
            let quality = self.quality();
            shared.events.push_back(Event::Quality(quality));
        }
        let rtt = self.rtt.unwrap_or(RTT);
        let tracks = self
            .received
            .iter()
            .flatten()
            .filter_map(|r| r.deadline(rtt))
            .min();
        let deadlines = [
            self.transport.deadline(),
            self.srtp.is_some().then_some(self.reports_due),
            Some(self.quality_due),
            self.feedback_due,
            tracks,
        ];
        let next = deadlines
            .into_iter()
            .flatten()
            .min()
            .expect("quality is always due");
        // A deadline in the past would spin: what was due has just been done.
        self.wake = next.max(now + Duration::from_millis(1));
    }

    fn feedback(&mut self, now: Instant, shared: &mut Shared) {
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
    fn quality(&mut self) -> Quality {
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

/// RFC 6298 §2 in spirit: an eighth of each new sample.
fn smooth(before: Option<Duration>, sample: Duration) -> Duration {
    match before {
        None => sample,
        Some(before) => (before * 7 + sample) / 8,
    }
}

/// The ids of all sections together: within a bundle one id means one extension (RFC 8843
/// §9.1), but a section lists those it uses only.
fn merged(before: ExtensionIds, section: ExtensionIds) -> ExtensionIds {
    ExtensionIds {
        audio_level: section.audio_level.or(before.audio_level),
        mid: section.mid.or(before.mid),
        rid: section.rid.or(before.rid),
        repaired_rid: section.repaired_rid.or(before.repaired_rid),
        abs_send_time: section.abs_send_time.or(before.abs_send_time),
        transport_cc: section.transport_cc.or(before.transport_cc),
    }
}

fn starts_key_frame(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::Vp8 => vp8::starts_key_frame(payload),
        Codec::Vp9 => vp9::starts_key_frame(payload),
        Codec::H264 => h264::starts_key_frame(payload),
        Codec::Av1 => av1::starts_key_frame(payload),
        Codec::Opus | Codec::G722 | Codec::Pcma | Codec::Pcmu => false,
    }
}
