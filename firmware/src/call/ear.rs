//! What somebody in the call hears, cut into looks of a quarter of a second, and whether it is right.

use std::collections::VecDeque;
use std::fmt;

use palabre_media::tone::{self, Dbfs, SILENCE, Sine};

/// Looks a second. More would not tell the tones' neighbours apart, fewer would take longer.
const LOOKS_A_SECOND: u32 = 4;

/// Looks that count, the newest: a second. One of them may be wrong, for a busy machine drops packets.
const LOOKS: usize = 4;

/// How loud the tones are played: as loud as a voice near its microphone.
const PLAYED: Dbfs = -14.0;

/// How far a tone may be from what was played. Codecs change it by less than 1 dB, a lost packet by 1.
const NEAR: Dbfs = 6.0;

/// How far everything together may be above the tone: this much is a third of its power.
const BESIDE: Dbfs = 1.5;

/// How far below what is beside the tone the other tone is no part of it. Noise is at -25 in any one place.
const AMONG: Dbfs = 10.0;

/// How far below the tone a tone that must not be there has to stay. Noise as loud as [`BESIDE`] allows is at
/// -30 in any one place.
const BELOW: Dbfs = 25.0;

/// How far below what was played a sound is no tone at all: noise as loud as a tone is at -25 in any one place.
const FAINT: Dbfs = 15.0;

/// Who plays what. Neither is a harmonic of the other, nor near a key's tone or the pitch of a voice. Both have whole turns
/// in a packet of 20 ms: one that is lost makes a tone shorter, not another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// The guest's, 1,050 Hz.
    Guest,
    /// The telephone's, 650 Hz.
    Telephone,
}

impl Tone {
    const ALL: [Self; 2] = [Self::Guest, Self::Telephone];

    fn hertz(self) -> f64 {
        match self {
            Self::Guest => 1_050.0,
            Self::Telephone => 650.0,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Guest => Self::Telephone,
            Self::Telephone => Self::Guest,
        }
    }

    /// The tone at `rate` samples a second.
    pub(crate) fn sine(self, rate: u32) -> Sine {
        Sine::new(self.hertz(), PLAYED, rate)
    }
}

/// One look.
#[derive(Clone, Copy, Debug)]
struct Look {
    all: Dbfs,
    /// In the order of [`Tone::ALL`].
    tones: [Dbfs; 2],
}

impl Look {
    fn of(&self, tone: Tone) -> Dbfs {
        self.tones[tone as usize]
    }
}

/// The tone was heard and nothing else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Heard {
    /// Its level.
    pub(crate) level: Dbfs,
    /// That of the other tone, which was not there.
    pub(crate) other: Dbfs,
}

/// What was heard instead.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Amiss {
    /// Not a second of sound yet.
    Little,
    /// No tone worth the name.
    Silence,
    /// The tone, at this level.
    Level(Dbfs),
    /// The tone, and the other tone at this level.
    Leak(Dbfs),
    /// The tone, and sound that is none.
    Noise,
}

impl fmt::Display for Amiss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Little => f.write_str("hardly any sound came"),
            Self::Silence => f.write_str("the tone was not in what came"),
            Self::Level(level) => {
                write!(f, "the tone came at {level:.0} dBFS instead of {PLAYED:.0}")
            }
            Self::Leak(level) => write!(f, "the other tone came with it, at {level:.0} dBFS"),
            Self::Noise => f.write_str("other sound came with the tone"),
        }
    }
}

/// The ear.
#[derive(Debug)]
pub(crate) struct Ear {
    rate: u32,
    samples: Vec<f32>,
    looks: VecDeque<Look>,
}

impl Ear {
    /// An ear for `rate` samples a second.
    pub(crate) fn new(rate: u32) -> Self {
        Self {
            rate,
            samples: Vec::new(),
            looks: VecDeque::with_capacity(LOOKS),
        }
    }

    /// Takes what comes next.
    pub(crate) fn hear(&mut self, samples: &[f32]) {
        self.samples.extend_from_slice(samples);
        let length = (self.rate / LOOKS_A_SECOND) as usize;
        while self.samples.len() >= length {
            let look = &self.samples[..length];
            let level = |tone: Tone| tone::level(look.iter().copied(), tone.hertz(), self.rate);
            if self.looks.len() == LOOKS {
                self.looks.pop_front();
            }
            self.looks.push_back(Look {
                all: tone::loudness(look.iter().copied()),
                tones: Tone::ALL.map(level),
            });
            self.samples.drain(..length);
        }
    }

    /// Forgets what was heard: what comes from now on is judged.
    pub(crate) fn forget(&mut self) {
        self.samples.clear();
        self.looks.clear();
    }

    /// How loud a tone was lately, leaving out one look.
    pub(crate) fn level(&self, tone: Tone) -> Dbfs {
        self.but_the_lowest(|look| look.of(tone))
    }

    /// Whether `tone`, and nothing else, was heard in the last second.
    pub(crate) fn judge(&self, tone: Tone) -> Result<Heard, Amiss> {
        if self.looks.len() < LOOKS {
            return Err(Amiss::Little);
        }
        let level = self.level(tone);
        if level < PLAYED - FAINT {
            return Err(Amiss::Silence);
        }
        let other = -self.but_the_lowest(|look| -look.of(tone.other()));
        let all = level - self.but_the_lowest(|look| look.of(tone) - look.all);
        if all > level + BESIDE && other < rest(all, level) - AMONG {
            return Err(Amiss::Noise);
        }
        if other > level - BELOW {
            return Err(Amiss::Leak(other));
        }
        if (level - PLAYED).abs() > NEAR {
            return Err(Amiss::Level(level));
        }
        Ok(Heard { level, other })
    }

    /// The lowest figure of the looks but one.
    fn but_the_lowest(&self, figure: impl Fn(&Look) -> Dbfs) -> Dbfs {
        let mut figures: Vec<Dbfs> = self.looks.iter().map(figure).collect();
        figures.sort_by(Dbfs::total_cmp);
        figures.get(1).copied().unwrap_or(SILENCE)
    }
}

/// What is left of `all` without its `part`.
fn rest(all: Dbfs, part: Dbfs) -> Dbfs {
    let power = |level: Dbfs| 10f64.powf(level / 10.0);
    10.0 * (power(all) - power(part)).max(1e-12).log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 8_000;

    /// A second and a quarter of these tones and this much noise.
    fn sound(tones: &[(Tone, Dbfs)], noise: f32) -> Vec<f32> {
        let mut sines: Vec<Sine> = tones
            .iter()
            .map(|&(tone, level)| Sine::new(tone.hertz(), level, RATE))
            .collect();
        let mut state = 1u32;
        (0..RATE + RATE / LOOKS_A_SECOND)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let random = f32::from((state >> 16) as i16) / 32_768.0;
                sines.iter_mut().filter_map(Iterator::next).sum::<f32>() + random * noise
            })
            .collect()
    }

    fn judge(samples: &[f32]) -> Result<Heard, Amiss> {
        let mut ear = Ear::new(RATE);
        // As it comes: 20 ms a packet.
        for packet in samples.chunks(160) {
            ear.hear(packet);
        }
        ear.judge(Tone::Guest)
    }

    #[test]
    fn the_tone_alone_is_right() {
        let heard = judge(&sound(&[(Tone::Guest, PLAYED)], 0.003)).expect("it is right");
        assert!((heard.level - PLAYED).abs() < 0.2, "{heard:?}");
        assert!(heard.other < -50.0, "{heard:?}");
    }

    #[test]
    fn what_is_not_right_is_named() {
        assert_eq!(judge(&[0.1; 4_000]), Err(Amiss::Little));
        assert_eq!(judge(&sound(&[], 0.0)), Err(Amiss::Silence));
        // A loud something is not the tone.
        assert_eq!(judge(&sound(&[], 0.5)), Err(Amiss::Silence));
        let other = sound(&[(Tone::Telephone, PLAYED)], 0.0);
        assert_eq!(judge(&other), Err(Amiss::Silence));
        let quiet = judge(&sound(&[(Tone::Guest, PLAYED - 10.0)], 0.0));
        assert!(matches!(quiet, Err(Amiss::Level(level)) if (level + 24.0).abs() < 0.2));
        for leak in [PLAYED, -34.0] {
            let both = sound(&[(Tone::Guest, PLAYED), (Tone::Telephone, leak)], 0.0);
            let judged = judge(&both);
            let is_told = matches!(judged, Err(Amiss::Leak(level)) if (level - leak).abs() < 0.5);
            assert!(is_told, "{judged:?}");
        }
        let noisy = sound(&[(Tone::Guest, PLAYED)], 0.3);
        assert_eq!(judge(&noisy), Err(Amiss::Noise));
    }

    #[test]
    fn one_look_may_be_lost_and_two_may_not() {
        let mut samples = sound(&[(Tone::Guest, PLAYED)], 0.0);
        samples[4_000..4_400].fill(0.0);
        assert!(judge(&samples).is_ok());
        samples[2_000..6_000].fill(0.0);
        assert_eq!(judge(&samples), Err(Amiss::Silence));
    }

    #[test]
    fn only_the_last_second_counts_and_it_can_be_forgotten() {
        let mut ear = Ear::new(RATE);
        ear.hear(&sound(&[(Tone::Telephone, PLAYED)], 0.0));
        ear.hear(&sound(&[(Tone::Guest, PLAYED)], 0.0));
        assert!(ear.judge(Tone::Guest).is_ok());
        ear.forget();
        assert_eq!(ear.judge(Tone::Guest), Err(Amiss::Little));
        assert_eq!(ear.level(Tone::Guest), SILENCE);
    }
}
