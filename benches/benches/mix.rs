//! The mixer against the loop everybody writes first: decode everybody, sum, encode for everybody.
//!
//! A figure is milliseconds of CPU time per second of conference (1,000 = one core), RTP parsing and
//! playout included on our side, sockets on neither. Both sides use the same codecs with the same settings.
#![allow(clippy::print_stdout)] // a bench prints its table

use std::time::{Duration, Instant};

use palabre_benches::{Case, is_measuring, measure};
use palabre_media::codec::{LegCodec, g711, opus};
use palabre_media::ids::LegId;
use palabre_media::mixer::{
    Line, LineParameters, Mixer, MixerParameters, Sink, StreamStart, Voice,
};

const TICKS_PER_SECOND: f64 = 50.0;
/// Length of the speech that is repeated, in ticks.
const LOOP: usize = 250;

fn main() {
    println!(
        "mixer: ms of CPU per second of conference, {} talkers mixed",
        MixerParameters::default().talkers
    );
    println!(
        "{:<28} {:>9} {:>9} {:>7} {:>14}",
        "participants", "mixer", "naive", "ratio", "us/tick/leg"
    );
    for codec in [LegCodec::Pcma, LegCodec::Opus] {
        for (legs, talking) in [(10, 3), (50, 3), (150, 3), (350, 3), (50, 50)] {
            bench(codec, legs, talking);
        }
    }
}

fn bench(codec: LegCodec, legs: usize, talking: usize) {
    let voices = voices(codec, talking);
    let mut conference = Conference::new(codec, legs, voices.clone());
    let mut naive = Naive::new(codec, legs, voices);
    if is_measuring() {
        // Talkers chosen, encoders made, delays settled.
        for _ in 0..50 {
            conference.tick();
        }
    }
    let measured = measure(vec![
        Case::new("mixer", || conference.tick()),
        Case::new("naive", || naive.tick()),
    ]);
    let per_second = |n: usize| measured[n].median * TICKS_PER_SECOND / 1e6;
    println!(
        "{:<28} {:>9.1} {:>9.1} {:>7.3} {:>14.2}",
        format!("{legs} {codec:?}, {talking} talk"),
        per_second(0),
        per_second(1),
        per_second(0) / per_second(1),
        measured[0].median / 1e3 / legs as f64,
    );
}

/// Speech-like sound: harmonics of a gliding pitch under a syllable envelope, another for each talker.
fn speech(talker: usize) -> Vec<[f32; 960]> {
    let mut phase = 0.0f64;
    (0..LOOP)
        .map(|tick| {
            std::array::from_fn(|n| {
                let t = (tick * 960 + n) as f64 / 48_000.0;
                let pitch = 100.0 + 7.0 * talker as f64 + 25.0 * (t * 2.0 + talker as f64).sin();
                phase += pitch / 48_000.0;
                let envelope = 0.4 + 0.6 * (t * 20.0 + talker as f64).sin().abs();
                let voice: f64 = (1..12)
                    .map(|h| (phase * f64::from(h) * std::f64::consts::TAU).sin() / f64::from(h))
                    .sum();
                (0.1 * envelope * voice) as f32
            })
        })
        .collect()
}

/// Payloads of each talker.
fn voices(codec: LegCodec, talking: usize) -> Vec<Vec<Vec<u8>>> {
    (0..talking)
        .map(|talker| {
            let mut encoder = opus::Encoder::new(opus::Quality::default());
            speech(talker)
                .iter()
                .map(|frame| match codec {
                    LegCodec::Opus => encoder.encode(frame).to_vec(),
                    _ => narrow(frame).map(g711::linear_to_alaw).to_vec(),
                })
                .collect()
        })
        .collect()
}

fn narrow(frame: &[f32; 960]) -> [i16; 160] {
    std::array::from_fn(|n| (frame[n * 6] * 32_767.0) as i16)
}

/// Counts what would be sent.
#[derive(Default)]
struct Bytes(usize);

impl Sink for Bytes {
    fn send(&mut self, _: LegId, datagram: &[u8]) {
        self.0 += datagram.len();
    }
    fn voice(&mut self, _: LegId, voice: Voice<'_>) {
        self.0 += voice.payload.len();
    }
    fn digit(&mut self, _: LegId, _: char) {}
    fn play_finished(&mut self, _: LegId) {}
}

/// Ours.
struct Conference {
    mixer: Mixer,
    codec: LegCodec,
    voices: Vec<Vec<Vec<u8>>>,
    now: Instant,
    tick: usize,
    datagram: Vec<u8>,
}

impl Conference {
    fn new(codec: LegCodec, legs: usize, voices: Vec<Vec<Vec<u8>>>) -> Self {
        let mut mixer = Mixer::new(MixerParameters::default());
        let parameters = LineParameters {
            codec,
            payload_type: 96,
            receive_payload_type: 96,
            packet_time: Duration::from_millis(20),
            telephone_event: Some(101),
            sends: true,
            receives: true,
        };
        for leg in 0..legs {
            let start = StreamStart {
                ssrc: leg as u32,
                sequence: 0,
                timestamp: 0,
            };
            let line = Line::new(parameters, opus::Quality::default(), start);
            mixer.add_leg(LegId(leg as u64), line);
        }
        Self {
            mixer,
            codec,
            voices,
            now: Instant::now(),
            tick: 0,
            datagram: Vec::new(),
        }
    }

    fn tick(&mut self) -> usize {
        let timestamp = self.tick as u32 * (self.codec.clock_rate() / 50);
        for (leg, voice) in self.voices.iter().enumerate() {
            self.datagram.clear();
            self.datagram.extend([0x80, 96]);
            self.datagram.extend((self.tick as u16).to_be_bytes());
            self.datagram.extend(timestamp.to_be_bytes());
            self.datagram.extend((leg as u32).to_be_bytes());
            self.datagram.extend(&voice[self.tick % LOOP]);
            let line = self
                .mixer
                .line_mut(LegId(leg as u64))
                .expect("a seated leg");
            line.receive(self.now, &self.datagram)
                .expect("a good packet");
        }
        let mut bytes = Bytes::default();
        self.mixer
            .tick(self.now + Duration::from_millis(1), &mut bytes);
        self.now += Duration::from_millis(20);
        self.tick += 1;
        bytes.0
    }
}

/// The loop everybody writes first.
struct Naive {
    codec: LegCodec,
    voices: Vec<Vec<Vec<u8>>>,
    decoders: Vec<opus::Decoder>,
    encoders: Vec<opus::Encoder>,
    frames: Vec<[f32; 960]>,
    tick: usize,
}

impl Naive {
    fn new(codec: LegCodec, legs: usize, voices: Vec<Vec<Vec<u8>>>) -> Self {
        let opus = codec == LegCodec::Opus;
        Self {
            codec,
            decoders: voices
                .iter()
                .filter(|_| opus)
                .map(|_| opus::Decoder::default())
                .collect(),
            encoders: (0..legs)
                .filter(|_| opus)
                .map(|_| opus::Encoder::new(opus::Quality::default()))
                .collect(),
            frames: vec![[0.0; 960]; legs],
            voices,
            tick: 0,
        }
    }

    fn tick(&mut self) -> usize {
        let at = self.tick % LOOP;
        self.tick += 1;
        if self.codec == LegCodec::Opus {
            return self.tick_opus(at);
        }
        // At 8 kHz throughout: the cheapest way there is for G.711 alone.
        let mut sum = [0i32; 160];
        let mut heard = vec![[0i16; 160]; self.voices.len()];
        for (voice, heard) in self.voices.iter().zip(&mut heard) {
            for ((sample, byte), sum) in heard.iter_mut().zip(&voice[at]).zip(&mut sum) {
                *sample = g711::alaw_to_linear(*byte);
                *sum += i32::from(*sample);
            }
        }
        let mut bytes = 0;
        for leg in 0..self.frames.len() {
            let own = heard.get(leg);
            let payload: [u8; 160] = std::array::from_fn(|n| {
                let mix = sum[n] - own.map_or(0, |own| i32::from(own[n]));
                g711::linear_to_alaw(mix.clamp(-32_768, 32_767) as i16)
            });
            bytes += std::hint::black_box(payload).len();
        }
        bytes
    }

    fn tick_opus(&mut self, at: usize) -> usize {
        let mut sum = [0.0f32; 960];
        for ((decoder, voice), frame) in self
            .decoders
            .iter_mut()
            .zip(&self.voices)
            .zip(&mut self.frames)
        {
            decoder.decode(&voice[at], frame).expect("a good packet");
            for (sum, sample) in sum.iter_mut().zip(frame.iter()) {
                *sum += sample;
            }
        }
        let mut bytes = 0;
        for (encoder, frame) in self.encoders.iter_mut().zip(&self.frames) {
            let mix = std::array::from_fn(|n| (sum[n] - frame[n]).clamp(-1.0, 1.0));
            bytes += encoder.encode(&mix).len();
        }
        bytes
    }
}
