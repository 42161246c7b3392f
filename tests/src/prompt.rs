//! Ears for words: which of the prompts that the product ships are said in a recording, and when.
//!
//! A prompt is found by its waveform, after whatever codec it went through: the normalised correlation of its pieces with the
//! recording, all pieces at one delay but for what a jitter buffer may have moved. Works below 1 kHz, where most of a voice is
//! and every codec keeps it.

use std::path::{Path, PathBuf};

use crate::sound::Recording;

/// Samples a second at which sounds are compared: fine enough to find a delay for what is below [`BAND`].
const RATE: u32 = 4_000;

/// Hertz above which nothing is compared.
const BAND: f64 = 900.0;

/// Samples of one piece, 0.3 s: longer tells voices apart better, shorter bears more of a jitter buffer's cuts.
const PIECE: usize = RATE as usize * 3 / 10;

/// Samples that a piece may be away from where the first one puts it, either way.
const SLIP: usize = RATE as usize / 8;

/// A piece this much alike is worth a look at the others.
const PROMISING: f64 = 0.75;

/// Mean likeness of all pieces from which a prompt counts as said, unless another is more alike at the same time. In telephone
/// sound a prompt is 0.9 to 1 like itself; prompts that share words ("muted", "unmuted") are up to 0.86 like each other, and
/// one short word is up to 0.8 like something in a long sentence: so the one most alike is the one that is said.
const SAID: f64 = 0.7;

/// A prompt as it ships.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// Language and name, as `fr/room-full`.
    pub name: String,
    pieces: Vec<Vec<f32>>,
    /// The piece with the most sound in it.
    loudest: usize,
}

/// A prompt found in a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// Language and name.
    pub name: String,
    /// Seconds from the start of the recording.
    pub at: f64,
    /// Its length in seconds.
    pub seconds: f64,
    /// Mean likeness of its pieces, at most 1.
    pub likeness: f64,
}

/// Folder of the prompts.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sip-gateway/prompts")
}

/// The recording `name`, as it ships.
///
/// # Panics
/// When it is not there, or not 16-bit mono sound.
#[must_use]
pub fn recording(name: &str) -> Recording {
    let path = folder().join(format!("{name}.wav"));
    let file = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(&file[20..24], &[1, 0, 1, 0], "{name} is mono PCM");
    let rate = u32::from_le_bytes(file[24..28].try_into().expect("four bytes"));
    let data = file.windows(4).position(|four| four == b"data");
    let data = data.expect("a WAV file has data") + 8;
    Recording::from_bytes(rate, &file[data..])
}

/// All sentences that ship, in both languages.
///
/// # Panics
/// When they cannot be read.
#[must_use]
pub fn shipped() -> Vec<Prompt> {
    let mut names = Vec::new();
    for language in ["en", "fr"] {
        let files = std::fs::read_dir(folder().join(language)).expect("the prompts' folder");
        for file in files {
            let file = file.expect("a file").file_name();
            let name = file.to_string_lossy();
            if let Some(name) = name.strip_suffix(".wav") {
                names.push(format!("{language}/{name}"));
            }
        }
    }
    names.sort();
    names.iter().map(|name| Prompt::new(name)).collect()
}

/// The prompts said in `heard`, whole, in the order they were.
#[must_use]
pub fn said(prompts: &[Prompt], heard: &Recording) -> Vec<Said> {
    let heard = narrow(heard);
    let mut alike: Vec<Said> = prompts
        .iter()
        .flat_map(|prompt| prompt.find(&heard))
        .filter(|said| said.likeness >= SAID)
        .collect();
    alike.sort_by(|one, other| other.likeness.total_cmp(&one.likeness));
    let mut said: Vec<Said> = Vec::new();
    for one in alike {
        let apart = |other: &Said| {
            one.at + one.seconds <= other.at + 0.1 || other.at + other.seconds <= one.at + 0.1
        };
        if said.iter().all(apart) {
            said.push(one);
        }
    }
    said.sort_by(|one, other| one.at.total_cmp(&other.at));
    said
}

/// Names of what is [`said`].
#[must_use]
pub fn names(said: &[Said]) -> Vec<&str> {
    said.iter().map(|said| said.name.as_str()).collect()
}

impl Prompt {
    /// The one of this name.
    ///
    /// # Panics
    /// When there is none, or it holds no sound.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let sound = narrow(&recording(name));
        let peak = sound.iter().fold(0f32, |peak, s| peak.max(s.abs()));
        let loud = |sample: &f32| sample.abs() > peak / 30.0;
        let start = sound.iter().position(loud).expect("it holds sound");
        let end = sound.iter().rposition(loud).expect("it holds sound") + 1;
        let pieces: Vec<Vec<f32>> = sound[start..end]
            .chunks_exact(PIECE)
            .map(<[f32]>::to_vec)
            .collect();
        assert!(!pieces.is_empty(), "{name} is too short to be known again");
        let loudest = (0..pieces.len())
            .max_by(|a, b| energy(&pieces[*a]).total_cmp(&energy(&pieces[*b])))
            .expect("there is one");
        Self {
            name: name.to_owned(),
            pieces,
            loudest,
        }
    }

    /// Wherever its loudest piece may be, with how much the rest is alike there.
    fn find(&self, heard: &[f32]) -> Vec<Said> {
        let scores = likenesses(&self.pieces[self.loudest], heard, 0..heard.len());
        let mut found = Vec::new();
        let mut at = 0;
        while at < scores.len() {
            // The best of its neighbourhood.
            let end = (at + PIECE).min(scores.len());
            let best = (at..end).max_by(|a, b| scores[*a].total_cmp(&scores[*b]));
            let best = best.expect("not empty");
            let around = best.saturating_sub(PIECE)..(best + PIECE).min(scores.len());
            if scores[best] >= PROMISING && around.clone().all(|i| scores[i] <= scores[best]) {
                found.push(self.verify(heard, best));
            }
            at = end;
        }
        found
    }

    /// How much all is alike when the loudest piece is at `at`: the mean over its pieces, each as loud as it is.
    fn verify(&self, heard: &[f32], at: usize) -> Said {
        let (mut sum, mut weight) = (0.0, 0.0);
        let end = at + (self.pieces.len() - self.loudest) * PIECE;
        if end > heard.len() {
            // It is still being said.
            weight = f64::INFINITY;
        }
        for (number, piece) in self.pieces.iter().enumerate() {
            let place = (at + number * PIECE).checked_sub(self.loudest * PIECE);
            let loud = energy(piece).sqrt();
            weight += loud;
            if let Some(place) = place {
                let range = place.saturating_sub(SLIP)..place + SLIP + 1;
                let best = likenesses(piece, heard, range);
                sum += loud * best.into_iter().fold(0.0, f64::max);
            }
        }
        let start = at as f64 - (self.loudest * PIECE) as f64;
        Said {
            name: self.name.clone(),
            at: start.max(0.0) / f64::from(RATE),
            seconds: (self.pieces.len() * PIECE) as f64 / f64::from(RATE),
            likeness: sum / weight,
        }
    }
}

fn energy(samples: &[f32]) -> f64 {
    samples.iter().map(|s| f64::from(*s).powi(2)).sum()
}

/// Normalised correlation of `piece` with `heard` at each delay of `range` at which it fits. Every other sample is enough:
/// nothing is above [`BAND`].
fn likenesses(piece: &[f32], heard: &[f32], range: std::ops::Range<usize>) -> Vec<f64> {
    let sparse: Vec<f32> = piece.iter().copied().step_by(2).collect();
    let own: f32 = sparse.iter().map(|s| s * s).sum();
    let end = range.end.min((heard.len() + 1).saturating_sub(piece.len()));
    (range.start..end.max(range.start))
        .map(|at| {
            let (mut product, mut energy) = (0f32, 0f32);
            for (one, other) in sparse.iter().zip(heard[at..].iter().step_by(2)) {
                product += one * other;
                energy += other * other;
            }
            // Against the noise of a silent line, nothing is alike.
            let floor = sparse.len() as f32 * 1e-7;
            f64::from(product / (own * energy.max(floor)).sqrt())
        })
        .collect()
}

/// The sound below [`BAND`] at [`RATE`], by a windowed sinc of 4 ms to either side.
fn narrow(sound: &Recording) -> Vec<f32> {
    let reach = sound.rate as usize / 250;
    let cutoff = BAND / f64::from(sound.rate);
    let taps: Vec<f32> = (0..=2 * reach)
        .map(|n| {
            let x = n as f64 - reach as f64;
            let turn = std::f64::consts::TAU * cutoff * x;
            let sinc = if x == 0.0 { 1.0 } else { turn.sin() / turn };
            let window = 0.5 + 0.5 * (std::f64::consts::PI * x / (reach + 1) as f64).cos();
            (2.0 * cutoff * sinc * window / 32_768.0) as f32
        })
        .collect();
    let step = (sound.rate / RATE) as usize;
    (0..sound.samples.len() / step)
        .map(|n| {
            let first = (n * step) as isize - reach as isize;
            let tap = |(k, tap): (usize, &f32)| {
                let at = usize::try_from(first + k as isize).ok()?;
                Some(tap * f32::from(*sound.samples.get(at)?))
            };
            taps.iter().enumerate().filter_map(tap).sum()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use palabre_media::codec::g711::{alaw_to_linear, linear_to_alaw};

    /// At 8 kHz through G.711, 6 dB quieter, with a lost packet in the middle and some silence before.
    fn by_telephone(names: &[&str]) -> Recording {
        let mut samples = vec![0i16; 5_003];
        for name in names {
            let sound = recording(name);
            let step = sound.rate as usize / 8_000;
            let said = sound.samples.chunks_exact(step).map(|group| {
                let sum: i32 = group.iter().map(|s| i32::from(*s)).sum();
                alaw_to_linear(linear_to_alaw((sum / (2 * step as i32)) as i16))
            });
            samples.extend(said);
            samples.extend([0; 2_000]);
        }
        let middle = samples.len() / 2;
        samples[middle..middle + 160].fill(0);
        Recording {
            rate: 8_000,
            samples,
        }
    }

    #[test]
    fn what_is_said_is_known_and_nothing_else() {
        let prompts = shipped();
        assert!(prompts.len() > 40, "{}", prompts.len());
        for spoken in [
            &["fr/room-full", "fr/goodbye"][..],
            &["fr/wrong-code", "fr/try-again", "fr/wrong-code"],
            &["en/room-full"],
            &["en/welcome", "en/enter-code"],
        ] {
            let heard = said(&prompts, &by_telephone(spoken));
            assert_eq!(names(&heard), spoken, "{heard:.2?}");
        }
    }

    #[test]
    fn prompts_that_share_words_are_told_apart() {
        let spoken = [
            "fr/muted",
            "fr/unmuted",
            "fr/muted-by-host",
            "fr/joined",
            "fr/wrong-code",
            "fr/unknown-meeting",
            "fr/room-closed",
            "fr/room-full",
            "en/muted",
            "en/unmuted",
            "en/joined",
        ];
        let heard = said(&shipped(), &by_telephone(&spoken));
        assert_eq!(names(&heard), spoken, "{heard:.2?}");
    }

    #[test]
    fn tones_noise_silence_and_half_a_prompt_are_no_prompt() {
        let prompts = shipped();
        let mut state = 1u32;
        let noise = (0..40_000).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 20) as i16 - 2_048
        });
        let tone = (0..40_000).map(|n| ((f64::from(n) * 0.3).sin() * 8_000.0) as i16);
        let mut half = by_telephone(&["fr/room-full"]);
        half.samples.truncate(5_003 + 6_000);
        for samples in [
            noise.collect(),
            tone.collect(),
            vec![0; 40_000],
            half.samples,
        ] {
            let heard = Recording {
                rate: 8_000,
                samples,
            };
            assert_eq!(said(&prompts, &heard), []);
        }
    }
}
