//! How loud a track is, for speaking indications: who starts is told at once, who pauses between
//! words still speaks, who fell silent has ended.

use std::time::{Duration, Instant};

use super::command::Level;
use crate::rtp::AudioLevel;

/// Packets at least this loud count as voice while nobody speaks, in -dBov (LiveKit's default).
const START: u8 = 35;

/// Packets at least this loud count as voice while somebody speaks. The distance to [`START`] is
/// what a voice at the edge may waver: more keeps softer noise going, less flickers.
const STAY: u8 = 40;

/// Share of voice packets in an interval that begins speech, in percent (LiveKit's default).
const START_SHARE: u32 = 40;

/// Share of voice packets in an interval that continues speech, in percent. A higher value ends
/// speech between words, a lower one lets single clicks go on for it.
const STAY_SHARE: u32 = 10;

/// Speech ends this long after its last voice packet, at the next interval. A lower value flickers
/// between words, and where an encoder sends one packet each 400 ms for what it takes for noise.
const HOLD: Duration = Duration::from_millis(600);

/// Weight of the newest interval: about two intervals shape the level. A higher value reacts
/// faster and reports more.
const WEIGHT: f32 = 2.0 / 3.0;

/// Level changes below this are not reported, in dB.
const STEP: u8 = 3;

/// Loudness of one track.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Loudness {
    packets: u32,
    voiced: u32,
    /// Sum of amplitudes of voice packets, full scale 1.
    amplitude: f32,
    /// The last voice packet of the interval.
    voiced_at: Option<Instant>,
    speech: Option<Speech>,
}

/// What is known of a track while it speaks.
#[derive(Clone, Copy, Debug)]
struct Speech {
    smoothed: f32,
    reported: Level,
    heard_at: Instant,
}

impl Loudness {
    pub(super) fn note(&mut self, now: Instant, level: AudioLevel) {
        let threshold = if self.speech.is_some() { STAY } else { START };
        self.packets += 1;
        if level.level <= threshold {
            self.voiced += 1;
            self.amplitude += Level(level.level).linear();
            self.voiced_at = Some(now);
        }
    }

    /// Ends an interval; the level when it changed enough to be told.
    pub(super) fn interval(&mut self, now: Instant) -> Option<Level> {
        let share = if self.speech.is_some() {
            STAY_SHARE
        } else {
            START_SHARE
        };
        let is_voice = self.voiced * 100 >= self.packets * share;
        let heard_at = self.voiced_at.filter(|_| is_voice);
        let amplitude = self.amplitude / self.voiced.max(1) as f32;
        *self = Loudness {
            speech: self.speech,
            ..Loudness::default()
        };
        match (&mut self.speech, heard_at) {
            (None, None) => None,
            (None, Some(heard_at)) => {
                let reported = level(amplitude);
                self.speech = Some(Speech {
                    smoothed: amplitude,
                    reported,
                    heard_at,
                });
                Some(reported)
            }
            (Some(speech), Some(heard_at)) => {
                speech.heard_at = heard_at;
                speech.smoothed += (amplitude - speech.smoothed) * WEIGHT;
                let level = level(speech.smoothed);
                let changed = speech.reported.0.abs_diff(level.0) >= STEP;
                changed.then(|| {
                    speech.reported = level;
                    level
                })
            }
            (Some(speech), None) => {
                let is_over = now.saturating_duration_since(speech.heard_at) >= HOLD;
                if is_over { self.silence() } else { None }
            }
        }
    }

    /// The track ends or is muted: silence, when something else was told before.
    pub(super) fn silence(&mut self) -> Option<Level> {
        let spoke = self.speech.is_some();
        *self = Loudness::default();
        spoke.then_some(Level::SILENT)
    }
}

/// A level that is active, however soft.
fn level(amplitude: f32) -> Level {
    Level((-20.0 * amplitude.log10()).round().clamp(0.0, 126.0) as u8)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)] // where a test's clock begins

    use super::*;
    use crate::mutate::Random;
    use crate::sfu::LEVELS_INTERVAL;

    /// Milliseconds of one packet.
    const PACKET: u64 = 20;

    /// One track on a virtual clock whose intervals begin at `phase`.
    struct Track {
        loudness: Loudness,
        start: Instant,
        elapsed: u64,
        next_interval: u64,
        told: Vec<(u64, Level)>,
    }

    impl Track {
        fn new(phase: u64) -> Self {
            Self {
                loudness: Loudness::default(),
                start: Instant::now(),
                elapsed: 0,
                next_interval: phase,
                told: Vec::new(),
            }
        }

        /// `millis` of packets of which `level` says the level, none where it says `None`.
        fn run(&mut self, millis: u64, mut level: impl FnMut(u64) -> Option<u8>) {
            let begin = self.elapsed;
            while self.elapsed < begin + millis {
                let now = self.start + Duration::from_millis(self.elapsed);
                if self.elapsed >= self.next_interval {
                    self.next_interval += LEVELS_INTERVAL.as_millis() as u64;
                    let told = self.loudness.interval(now);
                    self.told.extend(told.map(|level| (self.elapsed, level)));
                }
                if let Some(level) = level(self.elapsed - begin) {
                    self.loudness.note(now, AudioLevel { voice: true, level });
                }
                self.elapsed += PACKET;
            }
        }

        /// When it was told that speech began or ended.
        fn changes(&self) -> Vec<(u64, bool)> {
            let mut changes: Vec<(u64, bool)> = Vec::new();
            for (at, level) in &self.told {
                let before = changes.last().is_some_and(|(_, active)| *active);
                if level.is_active() != before {
                    changes.push((*at, level.is_active()));
                }
            }
            changes
        }
    }

    #[test]
    fn a_steady_tone_starts_once_and_does_not_end() {
        let mut random = Random::new(0x5EA);
        for level in 0..=START {
            for phase in (0..400).step_by(100) {
                let mut track = Track::new(phase);
                track.run(60_000, |_| {
                    // An encoder's ripple of a decibel either way, one packet of twenty lost.
                    let ripple = random.below(3) as u8;
                    let is_lost = random.below(20) == 0;
                    (!is_lost).then(|| (level + ripple).saturating_sub(1))
                });
                let changes = track.changes();
                assert!(
                    matches!(changes[..], [(at, true)] if at <= 1_600),
                    "{level}: {changes:?}"
                );
                assert!(track.told.len() < 4, "{level}: {:?}", track.told);
            }
        }
    }

    #[test]
    fn a_tone_the_encoder_takes_for_noise_goes_on() {
        for phase in (0..400).step_by(PACKET as usize) {
            let mut track = Track::new(phase);
            // Discontinuous transmission: a packet each 400 ms, up to 60 ms late.
            track.run(60_000, |at| {
                let lateness = Random::new(at / 400).below(4) as u64 * PACKET;
                (at % 400 == lateness).then_some(25)
            });
            let changes = track.changes();
            assert!(matches!(changes[..], [(_, true)]), "{phase}: {changes:?}");
        }
    }

    #[test]
    fn words_and_the_pauses_between_them_are_one_speech() {
        for phase in (0..500).step_by(PACKET as usize) {
            for pause in [Some(127), Some(60), None] {
                let mut track = Track::new(phase);
                track.run(60_000, |at| if at % 500 < 200 { Some(22) } else { pause });
                let changes = track.changes();
                assert!(
                    matches!(changes[..], [(at, true)] if at <= 2_100),
                    "{phase} {pause:?}: {changes:?}"
                );
                assert_eq!(track.told.len(), 1, "{:?}", track.told);
            }
        }
    }

    #[test]
    fn silence_ends_speech_within_a_second() {
        for phase in (0..400).step_by(PACKET as usize) {
            for rest in [Some(127), Some(STAY + 1), None] {
                let mut track = Track::new(phase);
                track.run(3_000, |_| Some(20));
                track.run(10_000, |_| rest);
                let changes = track.changes();
                let [(_, true), (end, false)] = changes[..] else {
                    panic!("{phase}: {changes:?}");
                };
                assert!((3_400..=4_000).contains(&end), "{phase}: {end}");
                assert_eq!(track.told.last().unwrap().1, Level::SILENT);
            }
        }
    }

    #[test]
    fn clicks_and_quiet_rooms_neither_start_nor_continue_speech() {
        let mut track = Track::new(0);
        track.run(10_000, |at| Some(if at % 400 < 140 { 5 } else { 127 }));
        track.run(10_000, |_| Some(START + 1));
        assert_eq!(track.told, [], "35 % of the packets, and too soft");
        track.run(1_000, |_| Some(20));
        track.run(10_000, |at| Some(if at % 500 == 0 { 5 } else { 127 }));
        let changes = track.changes();
        assert!(
            matches!(changes[..], [(_, true), (end, false)] if end <= 22_000),
            "{changes:?}"
        );
    }

    #[test]
    fn a_level_is_told_as_it_is_and_when_it_changes() {
        let mut track = Track::new(0);
        track.run(5_000, |_| Some(30));
        track.run(5_000, |_| Some(10));
        track.run(5_000, |_| Some(12));
        let levels: Vec<u8> = track.told.iter().map(|(_, level)| level.0).collect();
        assert_eq!(levels.first(), Some(&30), "from the first interval on");
        let last = *levels.last().unwrap();
        assert!((10..=12).contains(&last), "{levels:?}");
        assert!(levels.len() <= 4, "{levels:?}");
    }

    #[test]
    fn a_muted_speaker_goes_quiet_at_once() {
        let mut track = Track::new(400);
        assert_eq!(track.loudness.silence(), None);
        track.run(500, |_| Some(10));
        assert_eq!(track.loudness.silence(), Some(Level::SILENT));
        assert_eq!(track.loudness.silence(), None);
    }
}
