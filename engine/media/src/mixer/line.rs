//! One telephone leg between its RTP and the mix: decoding, keys, prompts, the outgoing RTP stream.
//!
//! Owns everything of a leg that outlives its stay in a room. Sockets and RTCP are the shell's; who
//! hears whom is the [`super::Mixer`]'s.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::branch::Branch;
use super::packetizer::{MAX_PAYLOAD, Packetizer, packet_millis};
use super::resample::Upsampler;
use super::{Sink, dbov};
use crate::codec::dtmf::{EventDetector, TelephoneEvent, ToneDetector};
use crate::codec::{LegCodec, opus};
use crate::ids::LegId;
use crate::jitter::{Playout, PlayoutCounts};
use crate::rtp::{RtpError, RtpFields, RtpHeader};

/// RFC 3389 comfort noise (RFC 3551 table 4).
const COMFORT_NOISE: u8 = 13;
/// Another SSRC takes a leg over after this many of its packets in a row: transfers and restarts do
/// that, stray packets do not.
const TAKE_OVER: u8 = 3;
/// A voice softer than this for `VOICE_HANG` ticks is not sent to the room's web participants (dBov).
const VOICE_GATE: f32 = -60.0;
const VOICE_HANG: u8 = 25;
/// Longest datagram of ours: header and one payload.
const DATAGRAM: usize = 12 + MAX_PAYLOAD;

/// What the SDP offer/answer settled about a leg's audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineParameters {
    /// Codec, both ways.
    pub codec: LegCodec,
    /// Its payload type in what we send: the number in the peer's description (RFC 3264 §5.1).
    pub payload_type: u8,
    /// Its payload type in what we receive: the number in ours. The peer's own number is taken as
    /// well, for peers that use one both ways.
    pub receive_payload_type: u8,
    /// Payload type of `telephone-event` in what we receive.
    pub telephone_event: Option<u8>,
    /// Sound per packet the peer asked for (`a=ptime`, RFC 8866 §6.4): 10 to 60 ms in tens, of
    /// Opus 20, 40 or 60 ms; else the nearest below.
    pub packet_time: Duration,
    /// Whether we send.
    pub sends: bool,
    /// Whether its voice counts.
    pub receives: bool,
}

/// Where the outgoing RTP stream begins: from the OS' randomness, by the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamStart {
    /// Our SSRC.
    pub ssrc: u32,
    /// First sequence number.
    pub sequence: u16,
    /// First timestamp.
    pub timestamp: u32,
}

/// Why a datagram was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LineDrop {
    /// Not RTP.
    Rtp(RtpError),
    /// A payload type that was not negotiated.
    PayloadType,
    /// An SSRC that is not (yet) the leg's.
    Source,
    /// A telephone event too short to read.
    Event,
}

/// One leg's audio.
#[derive(Debug)]
pub struct Line {
    parameters: LineParameters,
    quality: opus::Quality,
    playout: Playout,
    up: Option<Upsampler>,
    events: EventDetector,
    tones: Option<ToneDetector>,
    source: Option<u32>,
    rival: (u32, u8),
    muted: bool,
    prompt: Option<(Arc<[i16]>, usize)>,
    /// The prompt's part of this tick.
    prompt_tick: Option<Box<[f32; 960]>>,
    /// Own mix: as a talker, under a prompt, or outside any room.
    pub(super) own: Option<Branch>,
    /// Ticks since the own mix has not been needed.
    pub(super) own_idle: u32,
    native: Vec<f32>,
    /// This tick at 48 kHz; valid once `upsampled`.
    frame: Box<[f32; 960]>,
    upsampled: bool,
    level: f32,
    /// Loudest tick since the last [`Line::take_loudest`].
    loudest: f32,
    quiet: u8,
    voice: Option<opus::Encoder>,
    voice_timestamp: u32,
    voice_on: bool,
    timestamp: u32,
    packetizer: Packetizer,
    stream: Stream,
}

/// The outgoing RTP stream.
#[derive(Debug)]
struct Stream {
    ssrc: u32,
    sequence: u16,
    /// The next packet follows one without a pause.
    goes_on: bool,
    packets: u32,
    octets: u32,
    datagram: Box<[u8; DATAGRAM]>,
}

impl Line {
    /// A leg outside any room.
    pub fn new(parameters: LineParameters, quality: opus::Quality, start: StreamStart) -> Self {
        let mut line = Self {
            parameters,
            quality,
            playout: Playout::new(parameters.codec),
            up: None,
            events: EventDetector::default(),
            tones: None,
            source: None,
            rival: (0, 0),
            muted: false,
            prompt: None,
            prompt_tick: None,
            own: None,
            own_idle: 0,
            native: Vec::new(),
            frame: Box::new([0.0; 960]),
            upsampled: false,
            level: -127.0,
            loudest: -127.0,
            quiet: VOICE_HANG,
            voice: None,
            voice_timestamp: start.timestamp,
            voice_on: false,
            timestamp: start.timestamp,
            packetizer: Packetizer::default(),
            stream: Stream {
                ssrc: start.ssrc,
                sequence: start.sequence,
                goes_on: false,
                packets: 0,
                octets: 0,
                datagram: Box::new([0; DATAGRAM]),
            },
        };
        line.adopt_codec();
        line
    }

    fn adopt_codec(&mut self) {
        let rate = self.parameters.codec.sample_rate();
        self.playout = Playout::new(self.parameters.codec);
        self.up = (rate != 48_000).then(|| Upsampler::new(rate));
        let in_band = rate != 48_000 && self.parameters.telephone_event.is_none();
        self.tones = in_band.then(|| ToneDetector::new(rate));
        self.native = vec![0.0; self.playout.tick_samples()];
        self.source = None;
        self.own = None;
        self.packetizer.clear();
    }

    /// Applies a renegotiation. The outgoing stream keeps its SSRC and goes on.
    pub fn update(&mut self, parameters: LineParameters) {
        let codec_changed = parameters.codec != self.parameters.codec;
        let events_changed =
            parameters.telephone_event.is_some() != self.parameters.telephone_event.is_some();
        self.parameters = parameters;
        if codec_changed || events_changed {
            self.adopt_codec();
        }
    }

    /// What is in force.
    pub fn parameters(&self) -> LineParameters {
        self.parameters
    }

    /// A muted line's voice is silence everywhere; its keys still count.
    pub fn set_muted(&mut self, muted: bool) {
        self.muted = muted;
    }

    /// Plays 16-bit 48 kHz mono sound to this line only, from the next tick on; replaces what plays.
    pub fn play(&mut self, prompt: Arc<[i16]>) {
        self.prompt = Some((prompt, 0));
    }

    /// Stops the prompt.
    pub fn stop_playing(&mut self) {
        self.prompt = None;
    }

    /// Whether the datagram could be this line's audio: RTP of a negotiated payload type.
    pub fn recognises(&self, datagram: &[u8]) -> Option<RtpHeader> {
        let header = RtpHeader::parse(datagram).ok()?;
        self.negotiated(header.payload_type).then_some(header)
    }

    fn negotiated(&self, payload_type: u8) -> bool {
        payload_type == self.parameters.receive_payload_type
            || payload_type == self.parameters.payload_type
            || Some(payload_type) == self.parameters.telephone_event
            || payload_type == COMFORT_NOISE
    }

    /// The SSRC heard on this line.
    pub fn source(&self) -> Option<u32> {
        self.source
    }

    /// Takes a datagram; returns its header when it was used, and the key it begins, if any.
    pub fn receive(
        &mut self,
        now: Instant,
        datagram: &[u8],
    ) -> Result<(RtpHeader, Option<char>), LineDrop> {
        let header = RtpHeader::parse(datagram).map_err(LineDrop::Rtp)?;
        if !self.negotiated(header.payload_type) {
            return Err(LineDrop::PayloadType);
        }
        if self.source != Some(header.ssrc) {
            let count = if self.rival.0 == header.ssrc {
                self.rival.1 + 1
            } else {
                1
            };
            self.rival = (header.ssrc, count);
            if self.source.is_some() && count < TAKE_OVER {
                return Err(LineDrop::Source);
            }
            self.rival = (0, 0);
            self.source = Some(header.ssrc);
            self.playout.reset();
        }
        let payload = header.payload(datagram);
        if Some(header.payload_type) == self.parameters.telephone_event {
            self.playout.push_other(header.sequence);
            let event = TelephoneEvent::parse(payload).ok_or(LineDrop::Event)?;
            let key = self.events.packet(now, header.timestamp, event);
            return Ok((header, key));
        }
        if !self.parameters.receives {
            return Ok((header, None));
        }
        if header.payload_type == COMFORT_NOISE
            && self.parameters.receive_payload_type != COMFORT_NOISE
        {
            self.playout
                .push_noise(now, header.sequence, header.timestamp);
        } else {
            self.playout
                .push(now, header.sequence, header.timestamp, payload);
        }
        Ok((header, None))
    }

    /// Makes this tick's sound of the voice and of the prompt. Keys found in the sound are told.
    pub(super) fn hear(&mut self, id: LegId, now: Instant, sink: &mut impl Sink) {
        self.upsampled = false;
        self.playout.pull(now, &mut self.native);
        if let Some(tones) = &mut self.tones {
            tones.samples(&self.native, |key| sink.digit(id, key));
        }
        let key_sounds =
            self.events.sounding(now) || self.tones.as_ref().is_some_and(ToneDetector::sounding);
        if self.muted || key_sounds || !self.parameters.receives {
            self.native.fill(0.0);
        }
        self.level = dbov(&self.native);
        self.loudest = self.loudest.max(self.level);
        self.quiet = if self.level > VOICE_GATE {
            0
        } else {
            self.quiet.saturating_add(1)
        };
        self.advance_prompt(id, sink);
    }

    fn advance_prompt(&mut self, id: LegId, sink: &mut impl Sink) {
        let Some((prompt, position)) = &mut self.prompt else {
            self.prompt_tick = None;
            return;
        };
        let tick = self.prompt_tick.get_or_insert_with(|| Box::new([0.0; 960]));
        let rest = &prompt[*position..];
        for (n, sample) in tick.iter_mut().enumerate() {
            *sample = rest.get(n).map_or(0.0, |&s| f32::from(s) / 32_768.0);
        }
        *position += 960.min(rest.len());
        if *position == prompt.len() {
            self.prompt = None;
            sink.play_finished(id);
        }
    }

    /// Loudest 20 ms since the last call, in -dBov (RFC 6464): 127 is silence.
    pub fn take_loudest(&mut self) -> u8 {
        let loudest = std::mem::replace(&mut self.loudest, -127.0);
        (-loudest).clamp(0.0, 127.0) as u8
    }

    /// Level of this tick in dBov.
    pub(super) fn level(&self) -> f32 {
        self.level
    }

    /// The voice of this tick at 48 kHz. Resampled at first use: most legs of a room are silent.
    pub(super) fn frame(&mut self) -> &[f32; 960] {
        if !self.upsampled {
            self.upsampled = true;
            match &mut self.up {
                Some(up) => up.run(&self.native, &mut self.frame[..]),
                None => self.frame.copy_from_slice(&self.native),
            }
        }
        &self.frame
    }

    /// The prompt's part of this tick.
    pub(super) fn prompt_tick(&self) -> Option<&[f32; 960]> {
        self.prompt_tick.as_deref()
    }

    /// Encodes the voice for the room's other doors, when it is not silent.
    pub(super) fn speak(&mut self, id: LegId, sink: &mut impl Sink) {
        self.voice_timestamp = self.voice_timestamp.wrapping_add(960);
        if self.quiet >= VOICE_HANG {
            self.voice_on = false;
            return;
        }
        self.frame();
        let quality = self.quality;
        let encoder = self
            .voice
            .get_or_insert_with(|| opus::Encoder::new(quality));
        let payload = encoder.encode(&self.frame);
        let marker = !std::mem::replace(&mut self.voice_on, true);
        sink.voice(
            id,
            Voice {
                payload,
                timestamp: self.voice_timestamp,
                marker,
                level: (-self.level).clamp(0.0, 127.0) as u8,
            },
        );
    }

    /// One tick outside any room: prompts and comfort noise.
    pub fn tick_alone(&mut self, id: LegId, now: Instant, sink: &mut impl Sink) {
        self.hear(id, now, sink);
        let mix = self.prompt_tick.as_deref().copied().unwrap_or([0.0; 960]);
        let quality = self.quality;
        self.own
            .get_or_insert_with(|| Branch::new(quality))
            .feed(&mix);
        self.send_own(id, sink);
    }

    /// Sends this tick of the own mix.
    pub(super) fn send_own(&mut self, id: LegId, sink: &mut impl Sink) {
        let Some(mut own) = self.own.take() else {
            return;
        };
        let payload = own.payload(self.parameters.codec);
        self.send(id, payload, sink);
        self.own = Some(own);
    }

    /// Sends this tick: the next packet of the stream, or, with `None`, the passing of its time.
    pub(super) fn send(&mut self, id: LegId, payload: Option<&[u8]>, sink: &mut impl Sink) {
        let timestamp = self.timestamp;
        let LineParameters {
            codec,
            payload_type,
            sends,
            packet_time,
            ..
        } = self.parameters;
        self.timestamp = timestamp.wrapping_add(codec.clock_rate() / 50);
        let (packetizer, stream) = (&mut self.packetizer, &mut self.stream);
        let mut send = |timestamp, payload: &[u8]| {
            sink.send(id, stream.packet(payload_type, timestamp, payload));
        };
        match payload.filter(|payload| sends && payload.len() <= MAX_PAYLOAD) {
            Some(payload) => {
                let millis = packet_millis(codec, packet_time);
                packetizer.push(codec, millis, timestamp, payload, send);
            }
            None => {
                if sends {
                    packetizer.flush(&mut send);
                } else {
                    packetizer.clear();
                }
                stream.goes_on = false;
            }
        }
    }

    /// SSRC, current timestamp, packets and octets sent: what a sender report says (RFC 3550 §6.4.1).
    pub fn sent(&self) -> (u32, u32, u32, u32) {
        (
            self.stream.ssrc,
            self.timestamp,
            self.stream.packets,
            self.stream.octets,
        )
    }

    /// What playout had to do.
    pub fn playout_counts(&self) -> PlayoutCounts {
        self.playout.counts()
    }
}

impl Stream {
    /// The next packet.
    fn packet(&mut self, payload_type: u8, timestamp: u32, payload: &[u8]) -> &[u8] {
        let fields = RtpFields {
            payload_type,
            marker: !std::mem::replace(&mut self.goes_on, true),
            sequence: self.sequence,
            timestamp,
            ssrc: self.ssrc,
        };
        self.sequence = self.sequence.wrapping_add(1);
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload.len() as u32);
        let datagram = &mut self.datagram[..12 + payload.len()];
        write_header(&mut datagram[..12], &fields);
        datagram[12..].copy_from_slice(payload);
        datagram
    }
}

fn write_header(header: &mut [u8], fields: &RtpFields) {
    header[0] = 0x80;
    header[1] = u8::from(fields.marker) << 7 | fields.payload_type & 0x7f;
    header[2..4].copy_from_slice(&fields.sequence.to_be_bytes());
    header[4..8].copy_from_slice(&fields.timestamp.to_be_bytes());
    header[8..12].copy_from_slice(&fields.ssrc.to_be_bytes());
}

/// One Opus packet of a leg's voice, for the forwarder.
#[derive(Clone, Copy, Debug)]
pub struct Voice<'a> {
    /// 20 ms of Opus.
    pub payload: &'a [u8],
    /// At 48 kHz; advances in silence too.
    pub timestamp: u32,
    /// First packet after silence.
    pub marker: bool,
    /// Loudness in -dBov (RFC 6464).
    pub level: u8,
}
