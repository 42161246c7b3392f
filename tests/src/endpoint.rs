//! Half a browser for the simulator: publishes and receives over SRTP with known keys, and
//! checks what it gets. The handshake is not its subject.

mod incoming;
mod keys;
mod publication;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use palabre_media::ids::{MediaKind, TrackId};
use palabre_media::rtp::rtcp::{Compound, Feedback, NtpTime, RtcpPacket, RtcpWriter, SenderReport};
use palabre_media::rtp::{AudioLevel, ExtensionForm, ExtensionIds, PacketWriter, RtpFields, rtx};
use palabre_media::srtp::{DtlsRole, SrtpReceiver, SrtpSender, from_keying_material};
use palabre_media::transport::{DatagramKind, classify};

pub use incoming::{Frame, Got, Incoming};
pub use keys::{FixedKeys, binding_request};
use keys::{PROFILE, exported};
pub use publication::Publication;
use publication::RIDS;

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
    /// Plain RTP and RTCP as it is sent, when somebody wants to know.
    pub plain: Option<Vec<Vec<u8>>>,
    connected: bool,
}

const FRAME: Duration = Duration::from_millis(33);
const SOUND: Duration = Duration::from_millis(20);
const TICK: Duration = Duration::from_millis(20);

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
            plain: None,
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

    /// Seals any bytes at all as an RTP packet of this peer, after `rollovers` rounds of its SSRC's numbers, and sends them;
    /// whether they can be sealed, which takes a header that can be read.
    pub fn forge_rtp(&mut self, plain: &[u8], rollovers: u32) -> bool {
        let Some(&[high, low]) = plain.get(2..4) else {
            return false;
        };
        let index = u64::from(rollovers) << 16 | u64::from(u16::from_be_bytes([high, low]));
        let mut packet = plain.to_vec();
        packet.resize(plain.len() + 16, 0);
        let sealed = self.sender.protect_rtp(&mut packet, plain.len(), index);
        sealed.is_ok_and(|len| {
            packet.truncate(len);
            self.queue.push_back(packet);
            true
        })
    }

    /// The same as RTCP, which takes eight bytes.
    pub fn forge_rtcp(&mut self, plain: &[u8]) -> bool {
        let mut packet = plain.to_vec();
        packet.resize(plain.len() + 20, 0);
        let sealed = self.sender.protect_rtcp(&mut packet, plain.len());
        sealed.is_ok_and(|len| {
            packet.truncate(len);
            self.queue.push_back(packet);
            true
        })
    }

    fn protect(&mut self, mut packet: Vec<u8>, index: u64) {
        self.plain
            .iter_mut()
            .for_each(|all| all.push(packet.clone()));
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
            self.plain
                .iter_mut()
                .for_each(|all| all.push(buffer[..len].to_vec()));
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
