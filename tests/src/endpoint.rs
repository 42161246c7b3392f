//! Half a browser for the simulator: publishes and receives over SRTP with known keys, and
//! checks what it gets. The handshake is not its subject.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use palabre_media::codec::vp8::Vp8Descriptor;
use palabre_media::ids::{MediaKind, SubscriptionId, TrackId};
use palabre_media::rtp::rtcp::{Compound, Feedback, NtpTime, RtcpPacket, RtcpWriter, SenderReport};
use palabre_media::rtp::{
    AudioLevel, ExtensionForm, ExtensionIds, Label, PacketWriter, RtpFields, SequenceExtender, rtx,
};
use palabre_media::sfu::{Codec, Encoding, ReceiveParameters, SendParameters};
use palabre_media::srtp::{DtlsRole, SrtpReceiver, SrtpSender, from_keying_material};
use palabre_media::transport::{
    DataChannel, DatagramKind, DatagramRefusal, IceCredentials, KeyingMaterial, RemoteParameters,
    SendDataError, SrtpProfile, Transport, TransportConfig, TransportEvent, TransportOutput,
    classify,
};

/// Extension ids both ends agree on.
pub const EXTENSIONS: ExtensionIds = ExtensionIds {
    audio_level: Some(1),
    mid: Some(4),
    rid: Some(10),
    repaired_rid: Some(11),
    abs_send_time: Some(2),
    transport_cc: Some(3),
};

/// Payload types both ends agree on.
pub const OPUS: u8 = 111;
/// VP8.
pub const VP8: u8 = 96;
/// VP8's retransmissions.
pub const VP8_RTX: u8 = 97;

const PROFILE: SrtpProfile = SrtpProfile::AeadAes128Gcm;

/// The exporter output two ends of a session derive from its ufrag.
fn exported(ufrag: &str) -> Vec<u8> {
    let length = 2 * (PROFILE.key_len() + PROFILE.salt_len());
    ufrag
        .bytes()
        .cycle()
        .enumerate()
        .map(|(at, byte)| byte ^ at as u8)
        .take(length)
        .collect()
}

/// A transport whose handshake is one STUN request: keys follow from the ufrag.
#[derive(Debug)]
pub struct FixedKeys {
    ufrag: String,
    outputs: VecDeque<TransportOutput>,
    remote: Option<SocketAddr>,
}

impl FixedKeys {
    /// The transport of the session with these parameters.
    pub fn new(config: &TransportConfig) -> Self {
        FixedKeys {
            ufrag: config.local.ufrag.clone(),
            outputs: VecDeque::new(),
            remote: None,
        }
    }
}

impl Transport for FixedKeys {
    fn handle_datagram(
        &mut self,
        _: Instant,
        from: SocketAddr,
        _: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), DatagramRefusal> {
        if classify(datagram) != DatagramKind::Stun {
            return Err(DatagramRefusal::DtlsUnknownAddress);
        }
        if self.remote.is_none() {
            let keying = KeyingMaterial::from_exporter(PROFILE, &exported(&self.ufrag))
                .expect("the length is the profile's");
            let connected = TransportEvent::DtlsConnected {
                keying,
                profile: PROFILE,
            };
            self.outputs.push_back(TransportOutput::Event(connected));
        }
        if self.remote != Some(from) {
            self.remote = Some(from);
            let nominated = TransportEvent::IceConnected { remote: from };
            self.outputs.push_back(TransportOutput::Event(nominated));
        }
        Ok(())
    }

    fn handle_timeout(&mut self, _: Instant) {}

    fn poll(&mut self) -> Option<TransportOutput> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn set_remote(&mut self, _: Instant, _: RemoteParameters) {}

    fn restart_ice(&mut self, _: Instant, local: IceCredentials, _: Option<IceCredentials>) {
        self.ufrag = local.ufrag;
    }

    fn send_data(&mut self, _: Instant, _: DataChannel, _: &[u8]) -> Result<(), SendDataError> {
        Err(SendDataError::NotOpen)
    }

    fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    fn close(&mut self, _: Instant) {
        let closed = TransportEvent::Closed(palabre_media::transport::CloseReason::Local);
        self.outputs.push_back(TransportOutput::Event(closed));
    }
}

/// A binding request that names `ufrag`.
pub fn binding_request(ufrag: &str) -> Vec<u8> {
    let user = format!("{ufrag}:peer");
    let padded = user.len().next_multiple_of(4);
    let mut request = vec![0, 1];
    request.extend(((4 + padded) as u16).to_be_bytes());
    request.extend([0x21, 0x12, 0xA4, 0x42]);
    request.extend([9; 12]);
    request.extend([0x00, 0x06]);
    request.extend((user.len() as u16).to_be_bytes());
    request.extend(user.bytes());
    request.resize(24 + padded, 0);
    request
}

/// What a track published by an [`Endpoint`] is like.
#[derive(Clone, Copy, Debug)]
pub struct Publication {
    /// Its name.
    pub track: TrackId,
    /// Audio or video.
    pub kind: MediaKind,
    /// Encodings.
    pub layers: u8,
}

const RIDS: [&str; 3] = ["q", "h", "f"];

impl Publication {
    fn mid(&self) -> Label {
        Label::read(self.track.0.to_string().as_bytes()).expect("digits are visible")
    }

    /// What the router is told of it.
    pub fn receive_parameters(&self) -> ReceiveParameters {
        let is_video = self.kind == MediaKind::Video;
        let rid = |layer: u8| match self.layers {
            1 => None,
            _ => RIDS[usize::from(layer)].parse().ok(),
        };
        ReceiveParameters {
            track: self.track,
            kind: self.kind,
            mid: self.mid(),
            codec: if is_video { Codec::Vp8 } else { Codec::Opus },
            payload_type: if is_video { VP8 } else { OPUS },
            rtx_payload_type: is_video.then_some(VP8_RTX),
            clock_rate: if is_video { 90_000 } else { 48_000 },
            // As browsers do, a section lists the extensions it uses only.
            extensions: match self.kind {
                MediaKind::Video => ExtensionIds {
                    audio_level: None,
                    ..EXTENSIONS
                },
                MediaKind::Audio => ExtensionIds {
                    rid: None,
                    repaired_rid: None,
                    ..EXTENSIONS
                },
            },
            encodings: (0..self.layers)
                .map(|layer| Encoding {
                    rid: rid(layer),
                    ..Encoding::default()
                })
                .collect(),
        }
    }

    /// What the router is told of a subscription to it.
    pub fn send_parameters(&self, subscription: u64, with_rtx: bool) -> SendParameters {
        let receive = self.receive_parameters();
        let ssrc = 0x1000_0000 + 2 * subscription as u32;
        let with_rtx = with_rtx && self.kind == MediaKind::Video;
        SendParameters {
            track: self.track,
            subscription: SubscriptionId(subscription),
            kind: self.kind,
            mid: receive.mid,
            ssrc,
            rtx_ssrc: with_rtx.then_some(ssrc + 1),
            codec: receive.codec,
            payload_type: receive.payload_type,
            rtx_payload_type: with_rtx.then_some(VP8_RTX),
            clock_rate: receive.clock_rate,
            extensions: EXTENSIONS,
            max_layer: 3,
        }
    }
}

/// One encoding being sent.
struct Outgoing {
    publication: Publication,
    layer: u8,
    ssrc: u32,
    next: u64,
    next_rtx: u64,
    /// Timestamp at the endpoint's start: encodings do not share a timeline.
    origin: u32,
    frame: u32,
    tl0: u8,
    key_index: u8,
    key_wanted: bool,
    due: Instant,
    /// Plain packets by number, for retransmission.
    history: BTreeMap<u64, Vec<u8>>,
    packets: u32,
    enabled: bool,
}

/// A packet that was received, each number once.
#[derive(Clone, Debug)]
pub struct Got {
    /// Timestamp.
    pub timestamp: u32,
    /// Marker bit.
    pub marker: bool,
    /// Payload.
    pub payload: Vec<u8>,
    /// Arrival.
    pub at: Instant,
    /// Whether it came as a retransmission.
    pub repaired: bool,
}

/// One stream being received.
#[derive(Debug, Default)]
pub struct Incoming {
    /// Packets by extended number.
    pub packets: BTreeMap<u64, Got>,
    extender: SequenceExtender,
    rtx: HashMap<u64, (Instant, u8)>,
    /// Numbers that came twice under the same SSRC or once repaired and once not.
    pub duplicates: u64,
    /// Padding bytes received.
    pub padding: u64,
    /// Last sender report: (NTP, timestamp).
    pub reported: Option<(NtpTime, u32)>,
    reported_at: Option<Instant>,
    asked_key: Option<Instant>,
    /// Numbers below this are settled.
    settled: u64,
}

/// Half a browser.
pub struct Endpoint {
    ufrag: String,
    sender: SrtpSender,
    receiver: SrtpReceiver,
    start: Instant,
    outgoing: Vec<Outgoing>,
    /// Streams received, by media SSRC.
    pub incoming: HashMap<u32, Incoming>,
    due: Instant,
    transport_sequence: u16,
    queue: VecDeque<Vec<u8>>,
    /// Feedback messages on our own packets.
    pub transport_feedback: u64,
    /// Packets of ours reported as arrived.
    pub transport_arrivals: u64,
    /// Key frames asked of us.
    pub key_frames_asked: u64,
    /// Packets asked of us again.
    pub nacked: u64,
    /// Level of the audio it publishes, in -dBov.
    pub loudness: u8,
    connected: bool,
}

const FRAME: Duration = Duration::from_millis(33);
const SOUND: Duration = Duration::from_millis(20);
const TICK: Duration = Duration::from_millis(20);

/// Requests for one packet at most. More than browsers make: a burst on the way of sparse
/// requests must not look like a fault of the router.
const TRIES: u8 = 30;

impl Endpoint {
    /// The peer of the session with this ufrag.
    pub fn new(now: Instant, ufrag: &str) -> Self {
        let (sender, receiver) = from_keying_material(PROFILE, &exported(ufrag), DtlsRole::Client)
            .expect("the length is the profile's");
        Endpoint {
            ufrag: ufrag.to_owned(),
            sender,
            receiver,
            start: now,
            outgoing: Vec::new(),
            incoming: HashMap::new(),
            due: now,
            transport_sequence: 0,
            queue: VecDeque::new(),
            transport_feedback: 0,
            transport_arrivals: 0,
            key_frames_asked: 0,
            nacked: 0,
            loudness: 20,
            connected: false,
        }
    }

    /// Starts to publish.
    pub fn publish(&mut self, now: Instant, publication: Publication) {
        for layer in 0..publication.layers {
            let ssrc = 100 * publication.track.0 as u32 + 10 * u32::from(layer) + 1;
            self.outgoing.push(Outgoing {
                publication,
                layer,
                ssrc,
                next: 100 + u64::from(ssrc % 50_000),
                next_rtx: 1,
                origin: ssrc.wrapping_mul(0x9E37_79B9),
                frame: 0,
                tl0: ssrc as u8,
                key_index: ssrc as u8 & 31,
                key_wanted: true,
                due: now + Duration::from_millis(u64::from(layer)),
                history: BTreeMap::new(),
                packets: 0,
                enabled: true,
            });
        }
    }

    /// Stops or restarts one encoding.
    pub fn enable(&mut self, track: TrackId, layer: u8, enabled: bool) {
        for outgoing in &mut self.outgoing {
            if outgoing.publication.track == track && outgoing.layer == layer {
                outgoing.enabled = enabled;
            }
        }
    }

    /// When it next has something to do.
    pub fn deadline(&self) -> Instant {
        self.outgoing
            .iter()
            .map(|o| o.due)
            .chain([self.due])
            .min()
            .expect("the tick is due")
    }

    /// The next datagram to send.
    pub fn poll(&mut self) -> Option<Vec<u8>> {
        self.queue.pop_front()
    }

    /// Sends what is due.
    pub fn run(&mut self, now: Instant) {
        if !self.connected {
            self.connected = true;
            self.queue.push_back(binding_request(&self.ufrag));
        }
        for at in 0..self.outgoing.len() {
            while self.outgoing[at].due <= now {
                let outgoing = &mut self.outgoing[at];
                outgoing.due += match outgoing.publication.kind {
                    MediaKind::Video => FRAME,
                    MediaKind::Audio => SOUND,
                };
                if outgoing.enabled {
                    self.send_frame(now, at);
                }
            }
        }
        if self.due <= now {
            self.due = now + TICK;
            self.report(now);
        }
    }

    fn send_frame(&mut self, now: Instant, at: usize) {
        let elapsed = now - self.start;
        let outgoing = &mut self.outgoing[at];
        let is_video = outgoing.publication.kind == MediaKind::Video;
        let rate = if is_video { 90_000 } else { 48_000 };
        let ticks = (elapsed.as_micros() as u64 * rate / 1_000_000) as u32;
        let timestamp = outgoing.origin.wrapping_add(ticks);
        let frame = outgoing.frame;
        outgoing.frame += 1;
        let is_key = is_video && std::mem::take(&mut outgoing.key_wanted);
        if is_key {
            outgoing.key_index = (outgoing.key_index + 1) & 31;
        }
        outgoing.tl0 = outgoing.tl0.wrapping_add(1);
        // A key frame takes several packets; sizes differ by a byte as encoders' do.
        let count = if is_key {
            6
        } else {
            2 + u32::from(outgoing.layer)
        };
        let count = if is_video { count } else { 1 };
        for packet in 0..count {
            let outgoing = &self.outgoing[at];
            let mut payload = Vec::new();
            if is_video {
                let [high, low] = (0x8000 | (frame as u16 & 0x7FFF)).to_be_bytes();
                payload.extend([0x80 | if packet == 0 { 0x10 } else { 0 }, 0xF0, high, low]);
                payload.extend([outgoing.tl0, outgoing.key_index]);
                payload.push(u8::from(!is_key));
            }
            payload.push(outgoing.layer);
            payload.extend(frame.to_be_bytes());
            payload.extend([packet as u8, count as u8]);
            let length = match (is_video, packet + 1 == count) {
                (false, _) => 100,
                (true, true) => 300 + (frame as usize * 37) % 500,
                (true, false) => 1_000 + (frame as usize + packet as usize) % 2,
            };
            payload.resize(length, frame as u8);
            let marker = packet + 1 == count;
            self.send_packet(at, timestamp, marker && is_video, payload);
        }
    }

    fn send_packet(&mut self, at: usize, timestamp: u32, marker: bool, payload: Vec<u8>) {
        let outgoing = &mut self.outgoing[at];
        let index = outgoing.next;
        outgoing.next += 1;
        outgoing.packets += 1;
        let fields = RtpFields {
            payload_type: if outgoing.publication.kind == MediaKind::Video {
                VP8
            } else {
                OPUS
            },
            marker,
            sequence: index as u16,
            timestamp,
            ssrc: outgoing.ssrc,
        };
        self.transport_sequence = self.transport_sequence.wrapping_add(1);
        let transport_sequence = self.transport_sequence;
        let outgoing = &self.outgoing[at];
        let level = (outgoing.publication.kind == MediaKind::Audio).then_some(self.loudness);
        let packet = write(outgoing, &fields, transport_sequence, level, None, &payload);
        let outgoing = &mut self.outgoing[at];
        outgoing.history.insert(index, packet.clone());
        if outgoing.history.len() > 1_000 {
            outgoing.history.pop_first();
        }
        self.protect(packet, index);
    }

    fn protect(&mut self, mut packet: Vec<u8>, index: u64) {
        let len = packet.len();
        packet.resize(len + 16, 0);
        let len = self
            .sender
            .protect_rtp(&mut packet, len, index)
            .expect("there is room");
        packet.truncate(len);
        self.queue.push_back(packet);
    }

    fn protect_rtcp(&mut self, write: impl FnOnce(&mut RtcpWriter<'_>)) {
        let mut buffer = vec![0; 1_400];
        let mut writer = RtcpWriter::new(&mut buffer[..1_300]);
        write(&mut writer);
        let len = writer.len();
        if len > 0 {
            let len = self
                .sender
                .protect_rtcp(&mut buffer, len)
                .expect("there is room");
            buffer.truncate(len);
            self.queue.push_back(buffer);
        }
    }

    fn ntp(&self, now: Instant) -> NtpTime {
        NtpTime::from_unix(Duration::from_secs(1_700_000_000) + (now - self.start))
    }

    /// Reports, NACKs and picture losses.
    fn report(&mut self, now: Instant) {
        let second = (now - self.start).as_millis() % 1_000 < TICK.as_millis();
        if second {
            let ntp = self.ntp(now);
            let elapsed = (now - self.start).as_micros() as u64;
            let reports: Vec<_> = self
                .outgoing
                .iter()
                .filter(|outgoing| outgoing.packets > 0)
                .map(|outgoing| {
                    let rate = match outgoing.publication.kind {
                        MediaKind::Video => 90_000,
                        MediaKind::Audio => 48_000,
                    };
                    SenderReport {
                        ssrc: outgoing.ssrc,
                        ntp,
                        rtp_timestamp: outgoing
                            .origin
                            .wrapping_add((elapsed * rate / 1_000_000) as u32),
                        packets: outgoing.packets,
                        octets: 0,
                    }
                })
                .collect();
            for report in reports {
                self.protect_rtcp(|writer| {
                    writer.sender_report(&report, &[]).expect("there is room");
                });
            }
        }
        let mut asks: Vec<(u32, Vec<u16>, bool)> = Vec::new();
        for (&ssrc, incoming) in &mut self.incoming {
            let wanted = incoming.wanted(now);
            let key = incoming.lacks_picture(now);
            asks.push((ssrc, wanted, key));
        }
        asks.sort();
        for (media, wanted, key) in asks {
            let parties = Feedback { sender: 7, media };
            if let Some(incoming) = self.incoming.get(&media).filter(|_| second) {
                let block = incoming.block(media, now);
                self.protect_rtcp(|writer| {
                    writer.receiver_report(7, &[block]).expect("there is room");
                });
            }
            for wanted in wanted.chunks(64) {
                self.protect_rtcp(|writer| {
                    writer
                        .nack(parties, wanted.iter().copied())
                        .expect("there is room");
                });
            }
            if key {
                self.protect_rtcp(|writer| writer.pli(parties).expect("there is room"));
            }
        }
    }

    /// Takes a datagram from the router.
    pub fn receive(&mut self, now: Instant, mut datagram: Vec<u8>) {
        match classify(&datagram) {
            DatagramKind::Rtcp => {
                // A duplicated datagram is refused, as it must be.
                if let Ok(len) = self.receiver.unprotect_rtcp(&mut datagram) {
                    self.receive_control(now, &datagram[..len]);
                }
            }
            DatagramKind::Rtp => {
                if let Ok(plain) = self.receiver.unprotect_rtp(&mut datagram) {
                    let mut header = plain.header;
                    let packet = &datagram[..plain.len];
                    let repaired = header.payload_type == VP8_RTX;
                    if repaired {
                        header = rtx::decapsulate(&header, packet, header.ssrc - 1, VP8)
                            .expect("the router sends no probes");
                    }
                    let incoming = self.incoming.entry(header.ssrc).or_default();
                    let sequence = incoming.extender.extend(header.sequence);
                    incoming.padding += u64::from(header.padding);
                    let got = Got {
                        timestamp: header.timestamp,
                        marker: header.marker,
                        payload: header.payload(packet).to_vec(),
                        at: now,
                        repaired,
                    };
                    if let Some(before) = incoming.packets.insert(sequence, got) {
                        // A retransmission may cross its original; a number given to two
                        // different packets is a fault.
                        assert_eq!(
                            before.payload, incoming.packets[&sequence].payload,
                            "number {sequence} was used twice"
                        );
                        incoming.duplicates += 1;
                    }
                }
            }
            kind => panic!("the router sent {kind:?}"),
        }
    }

    fn receive_control(&mut self, now: Instant, compound: &[u8]) {
        let compound = Compound::parse(compound).expect("the router writes RTCP");
        for packet in &compound {
            match packet.expect("the router writes RTCP") {
                RtcpPacket::Nack(nack) => {
                    for sequence in nack.sequences() {
                        self.nacked += 1;
                        self.resend(nack.parties.media, sequence);
                    }
                }
                RtcpPacket::Pli(parties) => {
                    for outgoing in &mut self.outgoing {
                        if outgoing.ssrc == parties.media {
                            outgoing.key_wanted = true;
                            self.key_frames_asked += 1;
                        }
                    }
                }
                RtcpPacket::TransportFeedback(feedback) => {
                    self.transport_feedback += 1;
                    self.transport_arrivals += feedback.arrivals().count() as u64;
                }
                RtcpPacket::SenderReport(report, _) => {
                    let incoming = self.incoming.entry(report.ssrc).or_default();
                    incoming.reported = Some((report.ntp, report.rtp_timestamp));
                    incoming.reported_at = Some(now);
                }
                _ => {}
            }
        }
    }

    fn resend(&mut self, ssrc: u32, sequence: u16) {
        let Some(at) = self
            .outgoing
            .iter()
            .position(|outgoing| outgoing.ssrc == ssrc)
        else {
            return;
        };
        let outgoing = &mut self.outgoing[at];
        let held = outgoing
            .history
            .iter()
            .find(|(index, _)| **index as u16 == sequence);
        let Some((&original, packet)) = held else {
            return;
        };
        let header = palabre_media::rtp::RtpHeader::parse(packet).expect("we wrote it");
        let mut payload = rtx::osn(original as u16).to_vec();
        payload.extend(header.payload(packet));
        let index = outgoing.next_rtx;
        outgoing.next_rtx += 1;
        let fields = RtpFields {
            payload_type: VP8_RTX,
            sequence: index as u16,
            ssrc: outgoing.ssrc + 1,
            ..header.fields()
        };
        self.transport_sequence = self.transport_sequence.wrapping_add(1);
        let transport_sequence = self.transport_sequence;
        let outgoing = &self.outgoing[at];
        let repaired = Some(());
        let packet = write(
            outgoing,
            &fields,
            transport_sequence,
            None,
            repaired,
            &payload,
        );
        self.protect(packet, index);
    }
}

fn write(
    outgoing: &Outgoing,
    fields: &RtpFields,
    transport_sequence: u16,
    level: Option<u8>,
    repaired: Option<()>,
    payload: &[u8],
) -> Vec<u8> {
    let mut buffer = vec![0; 1_500];
    let mut writer =
        PacketWriter::start(&mut buffer, fields, ExtensionForm::OneByte).expect("there is room");
    let mut element = |id: Option<u8>, value: &[u8]| {
        writer
            .extension(id.expect("negotiated"), value)
            .expect("there is room");
    };
    element(EXTENSIONS.mid, outgoing.publication.mid().as_bytes());
    if outgoing.publication.layers > 1 {
        let id = if repaired.is_some() {
            EXTENSIONS.repaired_rid
        } else {
            EXTENSIONS.rid
        };
        element(id, RIDS[usize::from(outgoing.layer)].as_bytes());
    }
    element(EXTENSIONS.transport_cc, &transport_sequence.to_be_bytes());
    if let Some(level) = level {
        let level = AudioLevel { voice: true, level };
        element(EXTENSIONS.audio_level, &level.to_bytes());
    }
    writer.payload(payload).expect("there is room");
    let len = writer.finish();
    buffer.truncate(len);
    buffer
}

impl Incoming {
    /// Missing numbers to ask for now.
    fn wanted(&mut self, now: Instant) -> Vec<u16> {
        let Some(highest) = self.extender.highest() else {
            return Vec::new();
        };
        let first = *self
            .packets
            .first_key_value()
            .expect("there is a highest")
            .0;
        self.settled = self.settled.max(first).max(highest.saturating_sub(500));
        let mut wanted = Vec::new();
        let mut settled = true;
        for number in self.settled..highest {
            if self.packets.contains_key(&number) {
                if settled {
                    self.settled = number + 1;
                }
                continue;
            }
            settled = false;
            let (asked, tries) = self.rtx.entry(number).or_insert((now, 0));
            if *tries < TRIES && (*tries == 0 || now - *asked >= Duration::from_millis(60)) {
                (*asked, *tries) = (now, *tries + 1);
                wanted.push(number as u16);
            }
        }
        wanted
    }

    /// Whether a picture loss should be told: numbers were given up.
    fn lacks_picture(&mut self, now: Instant) -> bool {
        let given_up = self.rtx.iter().any(|(number, (asked, tries))| {
            *tries >= TRIES && now - *asked < TICK * 2 && !self.packets.contains_key(number)
        });
        let early = self
            .asked_key
            .is_some_and(|at| now - at < Duration::from_millis(500));
        if given_up && !early {
            self.asked_key = Some(now);
        }
        given_up && !early
    }

    fn block(&self, ssrc: u32, now: Instant) -> palabre_media::rtp::rtcp::ReportBlock {
        palabre_media::rtp::rtcp::ReportBlock {
            ssrc,
            highest_sequence: self.extender.highest().unwrap_or(0) as u32,
            last_sender_report: self.reported.map_or(0, |(ntp, _)| ntp.middle()),
            delay: self.reported_at.map_or(0, |at| {
                ((now - at).as_micros() as u64 * 65_536 / 1_000_000) as u32
            }),
            ..Default::default()
        }
    }

    /// Numbers between the first and the last that never came, leaving out those after `until`.
    pub fn holes(&self, until: Instant) -> Vec<u64> {
        let Some((&first, _)) = self.packets.first_key_value() else {
            return Vec::new();
        };
        let last = self
            .packets
            .iter()
            .rfind(|(_, got)| got.at <= until)
            .map_or(first, |e| *e.0);
        (first..last)
            .filter(|number| !self.packets.contains_key(number))
            .collect()
    }

    /// Frames of VP8 that came whole, in order.
    pub fn frames(&self) -> Vec<Frame> {
        let mut frames: Vec<Frame> = Vec::new();
        let mut open: Option<(Frame, u64, u8)> = None;
        for (&number, got) in &self.packets {
            let Some(descriptor) = Vp8Descriptor::parse(&got.payload) else {
                panic!("a payload without descriptor");
            };
            let body = &got.payload[usize::from(descriptor.length) + 1..];
            let is_key = got.payload[usize::from(descriptor.length)] & 1 == 0;
            let (layer, packet, count) = (body[0], body[5], body[6]);
            let source = u32::from_be_bytes([body[1], body[2], body[3], body[4]]);
            let counters = descriptor.counters();
            if packet == 0 {
                assert!(descriptor.is_frame_start());
                let frame = Frame {
                    source,
                    layer,
                    is_key,
                    picture_id: counters.picture_id,
                    tl0: counters.tl0_picture_index,
                    key_index: counters.key_index,
                    timestamp: got.timestamp,
                    first: number,
                    at: got.at,
                };
                open = Some((frame, number, 0));
            }
            let Some((frame, last, next)) = &mut open else {
                continue;
            };
            let follows = packet == 0 || number == *last + 1;
            if !follows || frame.source != source || frame.layer != layer || packet != *next {
                open = None;
                continue;
            }
            assert_eq!(got.timestamp, frame.timestamp, "one frame, one timestamp");
            assert_eq!(
                counters.picture_id, frame.picture_id,
                "one frame, one picture id"
            );
            assert_eq!(got.marker, packet + 1 == count);
            assert!(
                body[7..].iter().all(|byte| *byte == source as u8),
                "the payload is intact"
            );
            (*last, *next) = (number, packet + 1);
            frame.at = frame.at.max(got.at);
            if packet + 1 == count {
                frames.push(frame.clone());
                open = None;
            }
        }
        frames
    }
}

/// A frame that came whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its number at the source.
    pub source: u32,
    /// The encoding it belongs to.
    pub layer: u8,
    /// Whether it is a key frame.
    pub is_key: bool,
    /// Picture id as received.
    pub picture_id: u16,
    /// TL0PICIDX as received.
    pub tl0: u8,
    /// KEYIDX as received.
    pub key_index: u8,
    /// Timestamp as received.
    pub timestamp: u32,
    /// Number of its first packet.
    pub first: u64,
    /// When its last packet came.
    pub at: Instant,
}
