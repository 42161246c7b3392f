//! The sounds callers hear: recorded phrases in each language, and tones made here, as PCM at 48 kHz.
//!
//! Owns the recordings and their replacement by the operator's. It never decides what is said when: that is
//! [`menu`](crate::menu) and [`call`](crate::call).

mod phrase;
mod wav;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use thiserror::Error;

pub use phrase::{Language, Phrase};
pub use wav::WavError;

/// One thing a caller hears; a sequence of them makes an announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Say {
    /// A recorded phrase.
    Phrase(Language, Phrase),
    /// A breath between two sentences: 0.3 s.
    Pause,
    /// Two rising notes: somebody, or you, came in.
    JoinTone,
}

/// A recording of the operator's folder cannot be played.
#[derive(Debug, Error)]
pub enum PromptError {
    /// It cannot be read.
    #[error("cannot read the prompt {} (key sip.prompts): {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not in a format played here.
    #[error("cannot play the prompt {} (key sip.prompts): {source}", path.display())]
    Unplayable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: WavError,
    },
}

/// Every sound, ready to be played. Recordings are brought to 48 kHz when first wanted, then kept: a box that nobody calls, or
/// whose callers never hear a phrase, does not pay for it.
#[derive(Debug)]
pub struct Prompts {
    recordings: Vec<Recording>,
    pause: Arc<[i16]>,
    join: Arc<[i16]>,
}

#[derive(Debug, Default)]
struct Recording {
    /// The operator's, checked when the program starts.
    own: Option<Vec<u8>>,
    ready: OnceLock<Arc<[i16]>>,
}

impl Prompts {
    /// The recordings that ship with the program.
    #[must_use]
    pub fn shipped() -> Self {
        let count = Language::ALL.len() * Phrase::ALL.len();
        Self {
            recordings: (0..count).map(|_| Recording::default()).collect(),
            pause: vec![0; 14_400].into(),
            join: notes(&[587.33, 880.0]),
        }
    }

    /// The same, with the files found in `folder/fr` and `folder/en` instead of those of the same name.
    ///
    /// # Errors
    /// [`PromptError`] for the first file that is there but cannot be used.
    pub fn with_folder(folder: &Path) -> Result<Self, PromptError> {
        let mut prompts = Self::shipped();
        for language in Language::ALL {
            for phrase in Phrase::ALL.iter().copied() {
                let name = format!("{}.wav", phrase.file());
                let path = folder.join(language.code()).join(name);
                let file = match std::fs::read(&path) {
                    Ok(file) => file,
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                    Err(source) => return Err(PromptError::Unreadable { path, source }),
                };
                wav::read(&file).map_err(|source| PromptError::Unplayable { path, source })?;
                prompts.recordings[index(language, phrase)].own = Some(file);
            }
        }
        Ok(prompts)
    }

    /// The sound itself: 16-bit mono PCM at 48 kHz.
    #[must_use]
    pub fn sound(&self, say: Say) -> Arc<[i16]> {
        match say {
            Say::Pause => self.pause.clone(),
            Say::JoinTone => self.join.clone(),
            Say::Phrase(language, phrase) => {
                let recording = &self.recordings[index(language, phrase)];
                let ready = recording.ready.get_or_init(|| {
                    let file = match &recording.own {
                        Some(file) => file.as_slice(),
                        None => phrase.shipped(language),
                    };
                    let (samples, rate) =
                        wav::read(file).expect("a recording was checked before it was taken");
                    wav::upsample(&samples, rate).into()
                });
                ready.clone()
            }
        }
    }
}

fn index(language: Language, phrase: Phrase) -> usize {
    language as usize * Phrase::ALL.len() + phrase as usize
}

/// Soft notes of 0.14 s each at -24 dB, a fade at both ends of each so that none clicks.
fn notes(hertz: &[f64]) -> Arc<[i16]> {
    const LENGTH: usize = 6_720;
    const FADE: f64 = 960.0;
    const AMPLITUDE: f64 = 2_900.0;
    let note = |hertz: f64| {
        (0..LENGTH).map(move |n| {
            let edge = (n.min(LENGTH - n) as f64 / FADE).min(1.0);
            let turn = std::f64::consts::TAU * hertz * n as f64 / f64::from(wav::RATE);
            (turn.sin() * AMPLITUDE * edge) as i16
        })
    };
    hertz.iter().flat_map(|hertz| note(*hertz)).collect()
}

#[cfg(test)]
mod tests;
