//! Keys of a telephone: named events in RTP (RFC 4733) and tones in the sound itself.
//!
//! Owns telling one press from its repetitions, and how long a leg must stay silent while a key sounds.
//! It never decides what a key means.

use std::time::{Duration, Instant};

/// One `telephone-event` payload (RFC 4733 §2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TelephoneEvent {
    /// Event code: 0-9 digits, 10 `*`, 11 `#`, 12-15 `A`-`D`; others are not keys.
    pub event: u8,
    /// The event is over.
    pub end: bool,
    /// Level in -dBm0, 0 to 63.
    pub volume: u8,
    /// Duration so far, in timestamp units.
    pub duration: u16,
}

impl TelephoneEvent {
    /// Reads the first event of a payload; `None` when it is shorter than four bytes.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let &[event, flags, high, low, ..] = payload else {
            return None;
        };
        Some(Self {
            event,
            end: flags & 0x80 != 0,
            volume: flags & 0x3f,
            duration: u16::from_be_bytes([high, low]),
        })
    }

    /// The payload. The reserved bit is zero.
    pub fn write(&self) -> [u8; 4] {
        let [high, low] = self.duration.to_be_bytes();
        [
            self.event,
            u8::from(self.end) << 7 | (self.volume & 0x3f),
            high,
            low,
        ]
    }

    /// The key, when the event is one.
    pub fn key(&self) -> Option<char> {
        KEYS.get(usize::from(self.event)).copied()
    }
}

/// Keys by RFC 4733 event code (§3.2).
const KEYS: [char; 16] = [
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '*', '#', 'A', 'B', 'C', 'D',
];

/// Event code of a key.
pub fn event_code(key: char) -> Option<u8> {
    KEYS.iter()
        .position(|&k| k == key.to_ascii_uppercase())
        .map(|code| code as u8)
}

/// An event whose end was lost is over after this long without a packet. Senders repeat every 20 to
/// 50 ms; less would split a press on a lossy line, more would keep the leg mute longer.
const LOST_END: Duration = Duration::from_millis(100);
/// The voice stays mute this long after the end, for the tone's tail in the ordinary audio.
const TAIL: Duration = Duration::from_millis(50);

/// Tells presses from the packets of one leg's `telephone-event` stream. Works at any clock rate:
/// timestamps are only compared.
#[derive(Clone, Debug, Default)]
pub struct EventDetector {
    last: Option<Press>,
}

#[derive(Clone, Copy, Debug)]
struct Press {
    event: u8,
    timestamp: u32,
    /// Where the event's next segment would begin (RFC 4733 §2.5.1.3), when it is a long one.
    next_segment: u32,
    ended: bool,
    heard: Instant,
}

impl EventDetector {
    /// Takes one packet; returns the key when it begins a press. Repetitions, the three end packets,
    /// later segments of a long press and late packets of an older one return `None`.
    pub fn packet(&mut self, now: Instant, timestamp: u32, event: TelephoneEvent) -> Option<char> {
        let key = event.key();
        let next_segment = timestamp.wrapping_add(event.duration.into());
        if let Some(last) = &mut self.last {
            let age = timestamp.wrapping_sub(last.timestamp) as i32;
            if age < 0 && now.duration_since(last.heard) < Duration::from_secs(5) {
                return None;
            }
            let same = age == 0 && event.event == last.event;
            let segment =
                event.event == last.event && !last.ended && timestamp == last.next_segment;
            if same || segment {
                last.timestamp = timestamp;
                last.next_segment = next_segment;
                last.ended |= event.end;
                if !same {
                    last.ended = event.end;
                }
                last.heard = now;
                return None;
            }
            if age == 0 {
                // Two events cannot share a timestamp: a broken or hostile sender, the first one counts.
                return None;
            }
        }
        key?;
        self.last = Some(Press {
            event: event.event,
            timestamp,
            next_segment,
            ended: event.end,
            heard: now,
        });
        key
    }

    /// Whether the leg's voice must be kept out of the mix: from the press to 50 ms after its end.
    pub fn sounding(&self, now: Instant) -> bool {
        self.last.is_some_and(|press| {
            let hold = if press.ended { TAIL } else { LOST_END + TAIL };
            now.saturating_duration_since(press.heard) < hold
        })
    }
}

const ROWS: [f32; 4] = [697.0, 770.0, 852.0, 941.0];
const COLUMNS: [f32; 4] = [1209.0, 1336.0, 1477.0, 1633.0];
const LAYOUT: [[char; 4]; 4] = [
    ['1', '2', '3', 'A'],
    ['4', '5', '6', 'B'],
    ['7', '8', '9', 'C'],
    ['*', '0', '#', 'D'],
];
/// 12.75 ms: 102 samples at 8 kHz put each DTMF frequency near the middle of a bin 78 Hz wide.
/// Longer resolves better, shorter hears shorter presses.
const WINDOW_AT_8K: usize = 102;
/// How much louder the column tone may be than the row tone, and the row than the column: lines
/// lose more of the higher tone. 4 and 8 dB, as power ratios.
const NORMAL_TWIST: f32 = 2.512;
const REVERSE_TWIST: f32 = 6.310;
/// The two tones must hold this part of the window's energy. Speech rarely puts more than half there.
const PURITY: f32 = 0.75;
/// The column tone's second harmonic must stay 10 dB below it: vowels have harmonics, telephones do
/// not. (Harmonics of row tones fall on column tones and say nothing.)
const HARMONIC: f32 = 0.1;
/// Quietest tone believed, as mean power of full scale: -42 dBov.
const FLOOR: f32 = 6.3e-5;

/// Finds DTMF tones in 8 or 16 kHz audio (for legs without `telephone-event`).
#[derive(Clone, Debug)]
pub struct ToneDetector {
    window: usize,
    /// 2 cos(2 pi f / rate): rows, columns, then the columns' second harmonics.
    coefficients: [f32; 12],
    states: [[f32; 2]; 12],
    energy: f32,
    count: usize,
    candidate: Option<char>,
    reported: Option<char>,
    misses: u8,
}

impl ToneDetector {
    /// A detector for audio at `rate` Hz (8,000 or 16,000).
    pub fn new(rate: u32) -> Self {
        let mut coefficients = [0.0; 12];
        for (i, hertz) in ROWS.into_iter().chain(COLUMNS).enumerate() {
            let angle = std::f32::consts::TAU * hertz / rate as f32;
            coefficients[i] = 2.0 * angle.cos();
            if i >= 4 {
                coefficients[i + 4] = 2.0 * (2.0 * angle).cos();
            }
        }
        Self {
            window: WINDOW_AT_8K * rate as usize / 8_000,
            coefficients,
            states: [[0.0; 2]; 12],
            energy: 0.0,
            count: 0,
            candidate: None,
            reported: None,
            misses: 0,
        }
    }

    /// Takes samples in -1.0..=1.0; calls `key` once per press, at its second window.
    pub fn samples(&mut self, samples: &[f32], mut key: impl FnMut(char)) {
        for &sample in samples {
            for (state, c) in self.states.iter_mut().zip(&self.coefficients) {
                let next = sample + c * state[0] - state[1];
                *state = [next, state[0]];
            }
            self.energy += sample * sample;
            self.count += 1;
            if self.count == self.window {
                let found = self.verdict();
                if let Some(pressed) = self.window_end(found) {
                    key(pressed);
                }
            }
        }
    }

    /// Whether a key sounds now, from its first window on: the voice must be kept out of the mix.
    pub fn sounding(&self) -> bool {
        self.candidate.is_some() || self.reported.is_some()
    }

    fn window_end(&mut self, found: Option<char>) -> Option<char> {
        self.states = [[0.0; 2]; 12];
        self.energy = 0.0;
        self.count = 0;
        if found.is_some() && found == self.reported {
            self.misses = 0;
            return None;
        }
        if self.reported.is_some() {
            self.misses += 1;
            if self.misses >= 2 {
                self.reported = None;
                self.misses = 0;
            }
        }
        let confirmed = found.is_some() && found == self.candidate && self.reported.is_none();
        self.candidate = found;
        if confirmed {
            self.reported = found;
            self.candidate = None;
            return found;
        }
        None
    }

    fn verdict(&self) -> Option<char> {
        let length = self.window as f32;
        // Goertzel power, scaled so that a sine of mean power P gives P.
        let power = |i: usize| {
            let [s1, s2] = self.states[i];
            (s1 * s1 + s2 * s2 - self.coefficients[i] * s1 * s2) * 2.0 / (length * length)
        };
        let strongest = |from: usize| {
            (from..from + 4)
                .max_by(|&a, &b| power(a).total_cmp(&power(b)))
                .expect("four candidates")
        };
        let (row, column) = (strongest(0), strongest(4));
        let (low, high) = (power(row), power(column));
        let total = self.energy / length;
        let others_quiet = |from: usize, best: usize| {
            (from..from + 4).all(|i| i == best || power(i) * 4.0 < power(best))
        };
        let tone = low > FLOOR
            && high > FLOOR
            && low < high * REVERSE_TWIST
            && high < low * NORMAL_TWIST
            && low + high > PURITY * total
            && others_quiet(0, row)
            && others_quiet(4, column)
            && power(column + 4) < high * HARMONIC;
        tone.then(|| LAYOUT[row][column - 4])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutate::{Random, mutate};

    fn event(code: u8, duration: u16, end: bool) -> TelephoneEvent {
        TelephoneEvent {
            event: code,
            end,
            volume: 10,
            duration,
        }
    }

    #[allow(clippy::disallowed_methods)] // where a test's clock begins
    fn start() -> Instant {
        Instant::now()
    }

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn parse_is_the_inverse_of_write() {
        for code in 0..=255 {
            for (end, duration) in [(false, 0), (true, 160), (true, 65535)] {
                let e = event(code, duration, end);
                assert_eq!(TelephoneEvent::parse(&e.write()), Some(e));
            }
        }
        assert_eq!(TelephoneEvent::parse(&[1, 2, 3]), None);
        // RFC 4733 §2.3: the reserved bit is ignored.
        let parsed = TelephoneEvent::parse(&[11, 0x4a, 1, 0x40]).unwrap();
        assert_eq!(parsed, event(11, 320, false));
        assert_eq!(parsed.key(), Some('#'));
        assert_eq!(event_code('#'), Some(11));
        assert_eq!(event_code('d'), Some(15));
        assert_eq!(event_code('x'), None);
    }

    #[test]
    fn one_press_is_reported_once() {
        let t = start();
        let mut detector = EventDetector::default();
        let mut keys = String::new();
        // 8 kHz, four packets, three ends, one of them late; then the same key again.
        for (base, ms) in [(1_000u32, 0), (9_000, 1_000)] {
            for (n, end) in [
                (1, false),
                (2, false),
                (3, false),
                (4, true),
                (4, true),
                (4, true),
            ] {
                let now = after(t, ms + n * 20);
                keys.extend(detector.packet(now, base, event(5, n as u16 * 160, end)));
                assert!(detector.sounding(now));
            }
        }
        assert_eq!(keys, "55");
        assert!(detector.sounding(after(t, 1_100)));
        assert!(!detector.sounding(after(t, 1_140)));
    }

    #[test]
    fn a_lost_end_is_the_end_and_does_not_repeat_the_key() {
        let t = start();
        let mut detector = EventDetector::default();
        assert_eq!(detector.packet(t, 480_000, event(1, 960, false)), Some('1'));
        assert!(detector.sounding(after(t, 140)));
        assert!(!detector.sounding(after(t, 151)));
        // A straggler of the same press, then a late packet of an older one.
        assert_eq!(
            detector.packet(after(t, 300), 480_000, event(1, 1920, true)),
            None
        );
        assert_eq!(
            detector.packet(after(t, 310), 470_000, event(3, 1920, true)),
            None
        );
        assert_eq!(
            detector.packet(after(t, 400), 500_000, event(2, 960, false)),
            Some('2')
        );
    }

    #[test]
    fn a_key_whose_first_packets_are_lost_is_still_heard() {
        let t = start();
        let mut detector = EventDetector::default();
        assert_eq!(detector.packet(t, 100, event(11, 1600, true)), Some('#'));
        assert_eq!(detector.packet(t, 100, event(11, 1600, true)), None);
    }

    #[test]
    fn a_long_press_in_segments_is_one_press() {
        let t = start();
        let mut detector = EventDetector::default();
        assert_eq!(
            detector.packet(t, 0u32.wrapping_sub(100), event(7, 65535, false)),
            Some('7')
        );
        assert_eq!(detector.packet(t, 65435, event(7, 160, false)), None);
        assert_eq!(detector.packet(t, 65435, event(7, 320, true)), None);
    }

    #[test]
    fn events_that_are_no_keys_are_ignored() {
        let t = start();
        let mut detector = EventDetector::default();
        assert_eq!(detector.packet(t, 1, event(36, 160, false)), None);
        assert!(!detector.sounding(t));
        // A packet ten seconds older by timestamp is believed after five seconds (the peer restarted).
        assert_eq!(detector.packet(t, 900_000, event(1, 160, true)), Some('1'));
        assert_eq!(
            detector.packet(after(t, 6_000), 5, event(2, 160, true)),
            Some('2')
        );
    }

    fn tones(rate: u32, low: f32, high: f32, ms: usize, amplitudes: (f32, f32)) -> Vec<f32> {
        (0..rate as usize * ms / 1000)
            .map(|n| {
                let t = n as f32 / rate as f32 * std::f32::consts::TAU;
                amplitudes.0 * (t * low).sin() + amplitudes.1 * (t * high).sin()
            })
            .collect()
    }

    fn heard(rate: u32, audio: &[f32]) -> String {
        let mut keys = String::new();
        let mut detector = ToneDetector::new(rate);
        for frame in audio.chunks(rate as usize / 50) {
            detector.samples(frame, |key| keys.push(key));
        }
        keys
    }

    #[test]
    fn every_key_is_heard_once_at_both_rates() {
        for rate in [8_000, 16_000] {
            for (r, row) in ROWS.iter().enumerate() {
                for (c, column) in COLUMNS.iter().enumerate() {
                    for (drift, amplitudes) in
                        [(1.0, (0.2, 0.2)), (1.012, (0.1, 0.13)), (0.988, (0.2, 0.1))]
                    {
                        let mut audio = vec![0.0; 333];
                        for _ in 0..2 {
                            audio.extend(tones(rate, row * drift, column * drift, 70, amplitudes));
                            audio.extend(vec![0.0; rate as usize * 60 / 1000]);
                        }
                        let key = LAYOUT[r][c];
                        assert_eq!(heard(rate, &audio), format!("{key}{key}"), "{rate} {drift}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_key_through_g711_is_heard() {
        use crate::codec::g711::{alaw_to_linear, linear_to_alaw};
        let audio: Vec<f32> = tones(8_000, 852.0, 1336.0, 100, (0.1, 0.1))
            .into_iter()
            .map(|s| f32::from(alaw_to_linear(linear_to_alaw((s * 32768.0) as i16))) / 32768.0)
            .collect();
        assert_eq!(heard(8_000, &audio), "8");
    }

    #[test]
    fn neither_single_tones_nor_noise_nor_harmonic_sounds_are_keys() {
        for hertz in [440.0, 697.0, 941.0, 1209.0, 1477.0, 2000.0] {
            assert_eq!(
                heard(8_000, &tones(8_000, hertz, hertz * 1.7, 500, (0.3, 0.0))),
                ""
            );
        }
        let mut state = 1u32;
        let noise: Vec<f32> = (0..80_000)
            .map(|_| {
                state = state.wrapping_mul(1664525).wrapping_add(1013904223);
                (state >> 8) as f32 / (1 << 24) as f32 - 0.5
            })
            .collect();
        assert_eq!(heard(8_000, &noise), "");
        // Vowel-like: all harmonics of pitches from 80 to 300 Hz.
        let mut phase = 0.0f32;
        let vowel: Vec<f32> = (0..160_000)
            .map(|n| {
                phase += (80.0 + n as f32 / 160_000.0 * 220.0) / 8_000.0;
                (1..14)
                    .map(|h| (phase * h as f32 * std::f32::consts::TAU).sin() / h as f32)
                    .sum::<f32>()
                    * 0.15
            })
            .collect();
        assert_eq!(heard(8_000, &vowel), "");
    }

    #[test]
    fn mutated_events_are_read_whole_and_never_repeat_or_stick() {
        let mut random = Random::new(0x4733);
        let mut detector = EventDetector::default();
        let (mut now, mut timestamp) = (start(), 0u32);
        let mut pressed = 0;
        for _ in 0..20_000 {
            let mut payload = event(random.below(18) as u8, 160, random.below(3) == 0)
                .write()
                .to_vec();
            mutate(&mut random, &mut payload);
            let parsed = TelephoneEvent::parse(&payload);
            assert_eq!(parsed.is_some(), payload.len() >= 4, "{payload:02x?}");
            let Some(event) = parsed else { continue };
            let [code, flags, high, low] = event.write();
            assert_eq!(
                [code, flags, high, low][..2],
                [payload[0], payload[1] & 0xBF]
            );
            assert_eq!([high, low], payload[2..4]);
            // Mostly the same press or the next, sometimes any moment at all.
            timestamp = match random.below(8) {
                0..4 => timestamp,
                4..7 => timestamp.wrapping_add(random.below(20_000) as u32),
                _ => random.next() as u32,
            };
            now += Duration::from_millis(random.below(40) as u64);
            if let Some(key) = detector.packet(now, timestamp, event) {
                pressed += 1;
                assert_eq!(Some(key), event.key());
                assert!(detector.sounding(now));
            }
            let again = detector.packet(now, timestamp, event);
            assert_eq!(again, None, "a repeated packet is no second press");
            assert!(
                !detector.sounding(after(now, 150)),
                "silence ends any press"
            );
        }
        assert!(pressed > 1_000, "{pressed} presses");
    }
}
