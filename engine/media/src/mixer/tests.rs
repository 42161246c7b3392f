use std::collections::HashMap;
use std::f32::consts::TAU;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::codec::dtmf::TelephoneEvent;
use crate::codec::{g711, g722};
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

enum Encoder {
    Opus(Box<opus::Encoder>),
    G722(Box<g722::Encoder>),
    Pcma,
    Pcmu,
}

enum Decoder {
    Opus(Box<opus::Decoder>),
    G722(Box<g722::Decoder>),
    Pcma,
    Pcmu,
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
            encoder: match codec {
                LegCodec::Opus => {
                    Encoder::Opus(Box::new(opus::Encoder::new(opus::Quality::default())))
                }
                LegCodec::G722 => Encoder::G722(Box::default()),
                LegCodec::Pcma => Encoder::Pcma,
                LegCodec::Pcmu => Encoder::Pcmu,
            },
            decoder: match codec {
                LegCodec::Opus => Decoder::Opus(Box::default()),
                LegCodec::G722 => Decoder::G722(Box::default()),
                LegCodec::Pcma => Decoder::Pcma,
                LegCodec::Pcmu => Decoder::Pcmu,
            },
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
                telephone_event: Some(EVENT),
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
        let pcm = samples.iter().map(|s| (s * 32_767.0) as i16);
        let payload = match &mut self.encoder {
            Encoder::Opus(encoder) => encoder
                .encode(samples.as_slice().try_into().unwrap())
                .to_vec(),
            Encoder::G722(encoder) => {
                let mut payload = Vec::new();
                encoder.encode(&pcm.collect::<Vec<_>>(), &mut payload);
                payload
            }
            Encoder::Pcma => pcm.map(g711::linear_to_alaw).collect(),
            Encoder::Pcmu => pcm.map(g711::linear_to_ulaw).collect(),
        };
        let datagram = self.datagram(PAYLOAD_TYPE, &payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.sample += length;
        Some(datagram)
    }

    fn hear(&mut self, datagram: &[u8]) {
        let header = RtpHeader::parse(datagram).unwrap();
        let payload = header.payload(datagram);
        self.headers.push(header);
        let linear = |s: i16| f32::from(s) / 32_768.0;
        match &mut self.decoder {
            Decoder::Opus(decoder) => {
                let mut samples = [0.0; 960];
                assert_eq!(decoder.decode(payload, &mut samples), Ok(960));
                self.heard.extend(samples);
            }
            Decoder::G722(decoder) => decoder.decode(payload, |s| self.heard.push(linear(s))),
            Decoder::Pcma => self
                .heard
                .extend(payload.iter().map(|&b| linear(g711::alaw_to_linear(b)))),
            Decoder::Pcmu => self
                .heard
                .extend(payload.iter().map(|&b| linear(g711::ulaw_to_linear(b)))),
        }
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

/// Each hears every other's tone and never its own: at least 40 dB between them.
fn matrix(room: &Room, own: impl Fn(usize) -> f32, others: &[f32]) {
    for (n, phone) in room.phones.iter().enumerate() {
        let mine = phone.level_of(own(n));
        for hertz in others.iter().filter(|&&h| h != own(n)) {
            let level = phone.level_of(*hertz);
            assert!(
                level > -26.0,
                "{:?} {n} hears {hertz} Hz at {level} dB",
                phone.codec
            );
            assert!(
                level - mine > 40.0,
                "{:?} {n}: own at {mine}, {hertz} Hz at {level}",
                phone.codec
            );
        }
    }
}

#[test]
fn everybody_hears_all_others_and_not_himself() {
    for codec in [
        LegCodec::Pcma,
        LegCodec::Pcmu,
        LegCodec::G722,
        LegCodec::Opus,
    ] {
        // What a speech codec adds to a mix of tones is not the mixer's: the own tone is looked for
        // where only the codec's noise could hide it, with two other tones.
        let tones = &TONES[..3];
        let phones = tones
            .iter()
            .enumerate()
            .map(|(n, &hertz)| Phone::new(n as u64, codec, hertz))
            .collect();
        let mut room = Room::new(16, phones);
        room.run(150);
        matrix(&room, |n| tones[n], tones);
    }
}

#[test]
fn six_phones_of_all_codecs_and_three_web_tracks() {
    let codecs = [
        LegCodec::Pcma,
        LegCodec::G722,
        LegCodec::Opus,
        LegCodec::Pcmu,
        LegCodec::G722,
        LegCodec::Pcma,
    ];
    let phones = codecs
        .iter()
        .zip(TONES)
        .enumerate()
        .map(|(n, (&codec, hertz))| Phone::new(n as u64, codec, hertz))
        .collect();
    let mut room = Room::new(16, phones);
    room.web(1, 310.0, true);
    room.web(2, 1_700.0, false);
    room.web(3, 2_400.0, true);
    for web in &mut room.webs {
        web.amplitude = 0.1;
    }
    for phone in &mut room.phones {
        phone.amplitude = 0.1;
    }
    room.run(150);
    for (n, phone) in room.phones.iter().enumerate() {
        let own = phone.level_of(TONES[n]);
        for hertz in TONES
            .iter()
            .copied()
            .chain([310.0, 1_700.0, 2_400.0])
            .filter(|&h| h != TONES[n])
        {
            let level = phone.level_of(hertz);
            assert!(
                level > -32.0,
                "{:?} hears {hertz} Hz at {level}",
                phone.codec
            );
            // Nine tones at once are harder on speech codecs than voices: 20 dB is theirs.
            assert!(
                level - own > 20.0,
                "{:?} {n}: own {own}, {hertz} Hz {level}",
                phone.codec
            );
        }
    }
    // The sum before any codec is exact: see `the_sum_lacks_exactly_oneself`.
}

#[test]
fn the_sum_lacks_exactly_oneself() {
    let tones = &TONES[..4];
    let phones = tones
        .iter()
        .enumerate()
        .map(|(n, &hertz)| Phone::new(n as u64, LegCodec::Pcma, hertz))
        .collect();
    let mut room = Room::new(16, phones);
    let mut mixes: Vec<Vec<f32>> = vec![Vec::new(); 4];
    for _ in 0..100 {
        room.run(1);
        for (n, mix) in mixes.iter_mut().enumerate() {
            let line = room.mixer.line_mut(LegId(n as u64)).unwrap();
            mix.extend(line.own.as_ref().map_or([0.0; 960], |own| *own.sound()));
        }
    }
    for (n, mix) in mixes.iter().enumerate() {
        let mix = &mix[mix.len() - 48_000..];
        let own = decibel(tone_power(mix, tones[n], 48_000));
        for hertz in tones.iter().filter(|&&h| h != tones[n]) {
            assert!(
                decibel(tone_power(mix, *hertz, 48_000)) - own > 55.0,
                "{n} {own}"
            );
        }
    }
}

#[test]
fn listeners_share_one_encode_and_hear_the_k_loudest() {
    let mut phones: Vec<Phone> = (0..5)
        .map(|n| Phone::new(n, LegCodec::Opus, TONES[n as usize]))
        .collect();
    for phone in &mut phones[2..] {
        phone.talks = false;
    }
    let mut room = Room::new(2, phones);
    room.run(100);
    let listeners = &room.phones[2..];
    for phone in listeners {
        assert!(phone.level_of(TONES[0]) > -26.0);
        assert!(phone.level_of(TONES[1]) > -26.0);
        assert_eq!(phone.heard, listeners[0].heard);
    }
    // A third, softer voice is not let in; much louder than the weakest, it is.
    room.phones[2].talks = true;
    room.phones[2].amplitude = 0.15;
    room.run(60);
    assert!(room.phones[3].level_of(TONES[2]) < -45.0);
    room.phones[2].amplitude = 0.7;
    room.run(60);
    assert!(room.phones[3].level_of(TONES[2]) > -20.0);
}

#[test]
fn a_listener_who_begins_to_talk_hears_no_change() {
    // Two runs, the same but for one listener beginning to talk: what it hears of the others is the
    // same bytes up to the tick it is selected, and the same sound after.
    for codec in [LegCodec::Opus, LegCodec::G722, LegCodec::Pcma] {
        let run = |talks: bool| {
            let mut phones = vec![
                Phone::new(0, LegCodec::Pcma, 440.0),
                Phone::new(1, codec, 1_000.0),
            ];
            phones[1].talks = false;
            let mut room = Room::new(4, phones);
            room.run(60);
            room.phones[1].talks = talks;
            room.run(60);
            assert_eq!(room.mixer.line_mut(LegId(1)).unwrap().own.is_some(), talks);
            room.phones.remove(1).heard
        };
        let (talking, listening) = (run(true), run(false));
        let first = talking.iter().zip(&listening).position(|(a, b)| a != b);
        assert_eq!(first, None, "{codec:?} of {}", talking.len());
    }
}

#[test]
fn rtp_is_continuous_across_every_change() {
    for codec in [LegCodec::Pcma, LegCodec::G722, LegCodec::Opus] {
        let mut phones = vec![
            Phone::new(0, LegCodec::Pcma, 440.0),
            Phone::new(1, codec, 1_000.0),
        ];
        phones[1].talks = false;
        let mut room = Room::new(4, phones);
        room.run(20);
        room.phones[1].talks = true;
        room.run(40);
        room.phones[1].talks = false;
        room.run(40);
        room.phones[0].talks = false;
        room.run(80);
        room.phones[0].talks = true;
        room.run(40);
        let headers = &room.phones[1].headers;
        let step = codec.clock_rate() / 50;
        for pair in headers.windows(2) {
            assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
            let time = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
            assert_eq!(time % step, 0);
            assert_eq!(pair[1].marker, time != step, "marker after a pause only");
            assert_eq!(pair[1].ssrc, pair[0].ssrc);
        }
        assert!(headers[0].marker);
        if codec == LegCodec::Opus {
            assert!(headers.len() < 200, "{}", headers.len());
        } else {
            assert_eq!(headers.len(), 220);
        }
        // Back on the shared mix after the talk spurt.
        assert!(room.mixer.line_mut(LegId(1)).unwrap().own.is_none());
    }
}

#[test]
fn the_mix_of_silence_is_silence() {
    for codec in [LegCodec::Pcma, LegCodec::G722, LegCodec::Opus] {
        let mut phones: Vec<Phone> = (0..3).map(|n| Phone::new(n, codec, 440.0)).collect();
        for phone in &mut phones {
            phone.talks = false;
        }
        let mut room = Room::new(4, phones);
        room.web(1, 1_000.0, true);
        room.webs[0].amplitude = 0.0;
        room.run(100);
        assert!(room.mixer.sum.iter().all(|&s| s == 0.0));
        assert!(room.mixer.shared.is_silent());
        for phone in &room.phones {
            let level = dbov(&phone.heard[phone.heard.len() / 2..]);
            assert!(
                (-80.0..-58.0).contains(&level),
                "{codec:?} comfort noise at {level}"
            );
        }
        assert_eq!(room.mixer.counts().decoded, 0);
    }
}

#[test]
fn loud_voices_together_never_clip() {
    let mut phones: Vec<Phone> = (0..6)
        .map(|n| Phone::new(n, LegCodec::Pcmu, TONES[n as usize]))
        .collect();
    for phone in &mut phones[..5] {
        phone.amplitude = 0.95;
    }
    phones[5].talks = false;
    let mut room = Room::new(16, phones);
    room.run(100);
    for phone in &room.phones {
        let peak = phone.last(1.0).iter().fold(0.0f32, |p, s| p.max(s.abs()));
        // The limiter's ceiling, the ripple of the filter to 8 kHz and half a mu-law step.
        assert!((0.5..0.97).contains(&peak), "{peak}");
    }
    // Turned down, not cut: the sum's products between tones stay far below the tones.
    let listener = &room.phones[5];
    assert!(listener.level_of(TONES[0]) - listener.level_of(2.0 * TONES[0] - 37.0) > 20.0);
}

#[test]
fn a_muted_leg_is_heard_nowhere_but_its_keys_are() {
    let phones = vec![
        Phone::new(0, LegCodec::Pcma, 440.0),
        Phone::new(1, LegCodec::Pcma, 880.0),
    ];
    let mut room = Room::new(4, phones);
    room.mixer.set_watched(LegId(0), true);
    room.run(60);
    assert!(decibel(tone_power(&room.voices[&LegId(0)][24_000..], 440.0, 48_000)) > -26.0);
    room.mixer.line_mut(LegId(0)).unwrap().set_muted(true);
    room.run(60);
    let before = room.out.voices.len();
    room.run(50);
    assert_eq!(room.out.voices.len(), before, "no packets while muted");
    assert!(room.phones[1].level_of(440.0) < -60.0);
    let event = TelephoneEvent {
        event: 5,
        end: false,
        volume: 10,
        duration: 160,
    };
    let datagram = room.phones[0].datagram(EVENT, &event.write());
    let (_, key) = room
        .mixer
        .line_mut(LegId(0))
        .unwrap()
        .receive(room.t0 + Duration::from_secs(4), &datagram)
        .unwrap();
    assert_eq!(key, Some('5'));
}

#[test]
fn a_voice_becomes_an_opus_track_with_levels() {
    let phones = vec![
        Phone::new(0, LegCodec::G722, 3_000.0),
        Phone::new(1, LegCodec::Pcma, 440.0),
    ];
    let mut room = Room::new(4, phones);
    room.mixer.set_watched(LegId(0), true);
    room.run(100);
    room.phones[0].talks = false;
    room.run(60);
    room.phones[0].talks = true;
    room.run(50);
    let voices = &room.out.voices;
    assert!(
        voices.iter().all(|v| v.0 == LegId(0)),
        "only the watched leg is encoded"
    );
    assert!(voices.len() > 150 && voices.len() < 190, "{}", voices.len());
    let markers = voices.iter().filter(|v| v.3).count();
    assert_eq!(markers, 2);
    for pair in voices.windows(2) {
        assert_eq!(pair[1].2.wrapping_sub(pair[0].2) % 960, 0);
    }
    // A sine of 0.2 has -17 dBov.
    assert!((15..=19).contains(&voices[60].4), "{}", voices[60].4);
    assert!(
        decibel(tone_power(
            &room.voices[&LegId(0)][24_000..72_000],
            3_000.0,
            48_000
        )) > -26.0
    );
}

#[test]
fn a_prompt_is_heard_by_one_leg_over_the_room() {
    let mut phones: Vec<Phone> = (0..3)
        .map(|n| Phone::new(n, LegCodec::G722, TONES[n as usize]))
        .collect();
    phones[1].talks = false;
    phones[2].talks = false;
    let mut room = Room::new(4, phones);
    room.run(50);
    let prompt: Arc<[i16]> = (0..48_000)
        .map(|n| ((n as f32 * 2_500.0 / 48_000.0 * TAU).sin() * 6_000.0) as i16)
        .collect();
    room.mixer.line_mut(LegId(1)).unwrap().play(prompt);
    room.run(45);
    assert!(room.phones[1].level_of(2_500.0) > -26.0);
    assert!(room.phones[1].level_of(TONES[0]) > -26.0);
    assert!(room.phones[2].level_of(2_500.0) < -60.0);
    assert!(room.out.finished.is_empty());
    room.run(6);
    assert_eq!(room.out.finished, [LegId(1)]);
}

#[test]
fn a_line_alone_hears_prompts_and_reports_keys_in_the_sound() {
    let t0 = start();
    for codec in [LegCodec::Pcma, LegCodec::G722] {
        let mut phone = Phone::new(1, codec, 0.0);
        let mut parameters = phone.line().parameters();
        parameters.telephone_event = None;
        let start = StreamStart {
            ssrc: 1,
            sequence: 2,
            timestamp: 3,
        };
        let mut line = Line::new(parameters, opus::Quality::default(), start);
        line.play(
            (0..9_600)
                .map(|n| ((n as f32 * 0.13).sin() * 9_000.0) as i16)
                .collect(),
        );
        let mut out = Out::default();
        let rate = codec.sample_rate() as f32;
        for tick in 0..100u64 {
            let now = t0 + Duration::from_millis(tick * 20);
            let length = phone.codec.sample_rate() as usize / 50;
            let pcm: Vec<i16> = (0..length)
                .map(|n| {
                    let t = (phone.sample + n) as f32 / rate * TAU;
                    let on = (20..25).contains(&tick) || (60..65).contains(&tick);
                    if on {
                        ((t * 770.0).sin() * 4_000.0 + (t * 1_209.0).sin() * 4_000.0) as i16
                    } else {
                        0
                    }
                })
                .collect();
            let payload = match &mut phone.encoder {
                Encoder::G722(encoder) => {
                    let mut payload = Vec::new();
                    encoder.encode(&pcm, &mut payload);
                    payload
                }
                _ => pcm.into_iter().map(g711::linear_to_alaw).collect(),
            };
            let datagram = phone.datagram(PAYLOAD_TYPE, &payload);
            line.receive(now, &datagram).unwrap();
            phone.sequence = phone.sequence.wrapping_add(1);
            phone.sample += length;
            line.tick_alone(LegId(1), now + Duration::from_millis(2), &mut out);
        }
        assert_eq!(out.digits, [(LegId(1), '4'), (LegId(1), '4')], "{codec:?}");
        assert_eq!(out.finished, [LegId(1)]);
        assert_eq!(out.datagrams.len(), 100);
        for (_, datagram) in &out.datagrams {
            phone.hear(datagram);
        }
        let tick = phone.codec.sample_rate() as usize / 50;
        assert!(dbov(&phone.heard[tick * 3..tick * 9]) > -20.0);
        assert!(dbov(&phone.heard[tick * 20..]) < -55.0);
    }
}

#[test]
fn strangers_are_refused_and_a_new_source_takes_over_after_three_packets() {
    let t0 = start();
    let mut phone = Phone::new(1, LegCodec::Pcma, 440.0);
    let mut line = phone.line();
    let mut other = Phone::new(2, LegCodec::Pcma, 880.0);
    line.receive(t0, &phone.speak().unwrap()).unwrap();
    for _ in 0..2 {
        assert_eq!(
            line.receive(t0, &other.speak().unwrap()).unwrap_err(),
            LineDrop::Source
        );
    }
    line.receive(t0, &other.speak().unwrap()).unwrap();
    assert_eq!(line.source(), Some(2));
    let wrong = phone.datagram(77, &[0; 160]);
    assert_eq!(line.receive(t0, &wrong).unwrap_err(), LineDrop::PayloadType);
    assert!(matches!(
        line.receive(t0, &[1, 2, 3]),
        Err(LineDrop::Rtp(_))
    ));
}

#[test]
fn any_datagram_is_used_or_refused() {
    let t0 = start();
    let mut seed = 5u64;
    let mut random = move || {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (seed >> 33) as u32
    };
    let mut room = Room::new(
        4,
        vec![
            Phone::new(1, LegCodec::Opus, 440.0),
            Phone::new(2, LegCodec::G722, 700.0),
        ],
    );
    let mut out = Out::default();
    for step in 0..20_000u64 {
        let now = t0 + Duration::from_millis(step);
        let phone = &mut room.phones[step as usize % 2];
        let mut datagram = phone.speak().unwrap();
        for _ in 0..random() % 8 {
            let at = random() as usize % datagram.len();
            datagram[at] = random() as u8;
        }
        datagram.truncate(datagram.len() - random() as usize % 8);
        // Refusals are the point; only panics and growth would fail.
        let _ = room
            .mixer
            .line_mut(phone.id)
            .unwrap()
            .receive(now, &datagram);
        if step % 10 == 0 {
            room.mixer.tick(now, &mut out);
            out.datagrams.clear();
        }
    }
}
