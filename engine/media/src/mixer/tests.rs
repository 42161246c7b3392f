//! Telephones and web tracks of tones around one mixer, on a virtual clock.

mod line;
mod mix;

use std::collections::HashMap;
use std::f32::consts::TAU;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::codec::{Decoder, Encoder};
use crate::rtp::RtpHeader;

/// Mean power of the part of `signal` at `hertz`.
pub(super) fn tone_power(signal: &[f32], hertz: f32, rate: u32) -> f32 {
    let (mut real, mut imaginary) = (0.0f64, 0.0f64);
    for (n, sample) in signal.iter().enumerate() {
        let angle = f64::from(hertz) * n as f64 / f64::from(rate) * std::f64::consts::TAU;
        real += f64::from(*sample) * angle.cos();
        imaginary += f64::from(*sample) * angle.sin();
    }
    let length = signal.len() as f64;
    (2.0 * (real * real + imaginary * imaginary) / (length * length)) as f32
}

fn decibel(power: f32) -> f32 {
    10.0 * power.max(1e-13).log10()
}

#[allow(clippy::disallowed_methods)] // where a test's clock begins
fn start() -> Instant {
    Instant::now()
}

/// A telephone: sends a tone, records what it hears.
struct Phone {
    id: LegId,
    codec: LegCodec,
    hertz: f32,
    amplitude: f32,
    encoder: Encoder,
    decoder: Decoder,
    sequence: u16,
    sample: usize,
    heard: Vec<f32>,
    headers: Vec<RtpHeader>,
    talks: bool,
}

const PAYLOAD_TYPE: u8 = 96;
const EVENT: u8 = 101;

impl Phone {
    fn new(id: u64, codec: LegCodec, hertz: f32) -> Self {
        Self {
            id: LegId(id),
            codec,
            hertz,
            amplitude: 0.2,
            encoder: Encoder::new(codec),
            decoder: Decoder::new(codec),
            sequence: 65_500,
            sample: 0,
            heard: Vec::new(),
            headers: Vec::new(),
            talks: true,
        }
    }

    fn line(&self) -> Line {
        Line::new(
            LineParameters {
                codec: self.codec,
                payload_type: PAYLOAD_TYPE,
                receive_payload_type: PAYLOAD_TYPE,
                telephone_event: Some(EVENT),
                packet_time: Duration::from_millis(20),
                sends: true,
                receives: true,
            },
            opus::Quality::default(),
            StreamStart {
                ssrc: 1_000 + self.id.0 as u32,
                sequence: 65_530,
                timestamp: 0u32.wrapping_sub(2_000),
            },
        )
    }

    fn datagram(&self, payload_type: u8, payload: &[u8]) -> Vec<u8> {
        let timestamp = (self.sample as u64 * u64::from(self.codec.clock_rate())
            / u64::from(self.codec.sample_rate())) as u32;
        let mut datagram = vec![0x80, payload_type];
        datagram.extend(self.sequence.to_be_bytes());
        datagram.extend(timestamp.to_be_bytes());
        datagram.extend((self.id.0 as u32).to_be_bytes());
        datagram.extend(payload);
        datagram
    }

    fn speak(&mut self) -> Option<Vec<u8>> {
        let rate = self.codec.sample_rate();
        let length = rate as usize / 50;
        let amplitude = if self.talks { self.amplitude } else { 0.0 };
        let samples: Vec<f32> = (self.sample..self.sample + length)
            .map(|n| (n as f32 * self.hertz / rate as f32 % 1.0 * TAU).sin() * amplitude)
            .collect();
        let mut payload = Vec::new();
        self.encoder.encode(&samples, &mut payload);
        let datagram = self.datagram(PAYLOAD_TYPE, &payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.sample += length;
        Some(datagram)
    }

    fn hear(&mut self, datagram: &[u8]) {
        let header = RtpHeader::parse(datagram).unwrap();
        let payload = header.payload(datagram);
        self.headers.push(header);
        let mut samples = Vec::new();
        assert!(self.decoder.decode(payload, &mut samples));
        self.heard.extend(samples);
    }

    /// The last `seconds` heard.
    fn last(&self, seconds: f32) -> &[f32] {
        let length = (seconds * self.codec.sample_rate() as f32) as usize;
        &self.heard[self.heard.len() - length..]
    }

    fn level_of(&self, hertz: f32) -> f32 {
        decibel(tone_power(self.last(0.5), hertz, self.codec.sample_rate()))
    }
}

#[derive(Default)]
struct Out {
    datagrams: Vec<(LegId, Vec<u8>)>,
    voices: Vec<(LegId, Vec<u8>, u32, bool, u8)>,
    digits: Vec<(LegId, char)>,
    finished: Vec<LegId>,
}

impl Sink for Out {
    fn send(&mut self, leg: LegId, datagram: &[u8]) {
        self.datagrams.push((leg, datagram.to_vec()));
    }
    fn voice(&mut self, leg: LegId, v: Voice<'_>) {
        self.voices
            .push((leg, v.payload.to_vec(), v.timestamp, v.marker, v.level));
    }
    fn digit(&mut self, leg: LegId, key: char) {
        self.digits.push((leg, key));
    }
    fn play_finished(&mut self, leg: LegId) {
        self.finished.push(leg);
    }
}

/// A web participant: an Opus tone with or without RFC 6464 levels.
struct Web {
    track: TrackId,
    hertz: f32,
    encoder: opus::Encoder,
    announces: bool,
    amplitude: f32,
}

struct Room {
    mixer: Mixer,
    phones: Vec<Phone>,
    webs: Vec<Web>,
    t0: Instant,
    tick: u64,
    voices: HashMap<LegId, Vec<f32>>,
    decoders: HashMap<LegId, opus::Decoder>,
    out: Out,
}

impl Room {
    fn new(talkers: usize, phones: Vec<Phone>) -> Self {
        let mut mixer = Mixer::new(MixerParameters {
            talkers,
            ..MixerParameters::default()
        });
        for phone in &phones {
            mixer.add_leg(phone.id, phone.line());
        }
        Self {
            mixer,
            phones,
            webs: Vec::new(),
            t0: start(),
            tick: 0,
            voices: HashMap::new(),
            decoders: HashMap::new(),
            out: Out::default(),
        }
    }

    fn web(&mut self, track: u64, hertz: f32, announces: bool) {
        self.mixer.add_track(TrackId(track));
        self.webs.push(Web {
            track: TrackId(track),
            hertz,
            encoder: opus::Encoder::new(opus::Quality::default()),
            announces,
            amplitude: 0.2,
        });
    }

    fn run(&mut self, ticks: u64) {
        for _ in 0..ticks {
            let now = self.t0 + Duration::from_millis(self.tick * 20);
            for phone in &mut self.phones {
                if let Some(datagram) = phone.speak()
                    && let Some(line) = self.mixer.line_mut(phone.id)
                {
                    line.receive(now, &datagram).unwrap();
                }
            }
            for web in &mut self.webs {
                let n = self.tick as usize * 960;
                let samples = std::array::from_fn(|i| {
                    ((n + i) as f32 * web.hertz / 48_000.0 % 1.0 * TAU).sin() * web.amplitude
                });
                let level = (-dbov(&samples)) as u8;
                let payload = web.encoder.encode(&samples);
                let level = web.announces.then_some(level);
                self.mixer
                    .track_packet(now, web.track, self.tick, n as u32, level, payload);
            }
            let mut out = Out::default();
            self.mixer.tick(now + Duration::from_millis(1), &mut out);
            for (leg, datagram) in &out.datagrams {
                let phone = self.phones.iter_mut().find(|p| p.id == *leg).unwrap();
                phone.hear(datagram);
            }
            for (leg, payload, ..) in &out.voices {
                let mut samples = [0.0; 960];
                self.decoders
                    .entry(*leg)
                    .or_default()
                    .decode(payload, &mut samples)
                    .unwrap();
                self.voices.entry(*leg).or_default().extend(samples);
            }
            self.out.voices.extend(out.voices);
            self.out.digits.extend(out.digits);
            self.out.finished.extend(out.finished);
            self.tick += 1;
        }
    }
}

const TONES: [f32; 6] = [440.0, 620.0, 880.0, 1_130.0, 1_490.0, 2_010.0];
