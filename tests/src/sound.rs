//! Ears: how loud a tone is in what a peer wrote down.

/// 16-bit mono PCM as a peer recorded it.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Samples a second.
    pub rate: u32,
    /// The sound.
    pub samples: Vec<i16>,
}

/// A level in decibels below a full-scale sine; 0 is as loud as can be.
pub type Dbfs = f64;

/// Lower than any level that can be measured: stands for silence.
pub const SILENCE: Dbfs = -120.0;

impl Recording {
    /// From little-endian bytes.
    #[must_use]
    pub fn from_bytes(rate: u32, bytes: &[u8]) -> Self {
        let samples = bytes
            .chunks_exact(2)
            .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
            .collect();
        Self { rate, samples }
    }

    /// The last `seconds`, where what came before (a prompt, a ramp) is not the subject.
    #[must_use]
    pub fn last(&self, seconds: f64) -> Self {
        let wanted = (seconds * f64::from(self.rate)) as usize;
        let from = self.samples.len().saturating_sub(wanted);
        Self {
            rate: self.rate,
            samples: self.samples[from..].to_vec(),
        }
    }

    /// Length in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.rate)
    }

    /// Level of a sine of `hertz` that must be there: the median over one-second windows, so that
    /// one dropout of a busy machine does not hide a tone.
    #[must_use]
    pub fn tone(&self, hertz: f64) -> Dbfs {
        let levels = self.levels(hertz);
        levels.get(levels.len() / 2).copied().unwrap_or(SILENCE)
    }

    /// Level of a sine of `hertz` that must not be there: the loudest one-second window, so that
    /// even a short leak is seen.
    #[must_use]
    pub fn leak(&self, hertz: f64) -> Dbfs {
        self.levels(hertz).last().copied().unwrap_or(SILENCE)
    }

    /// Levels of a sine in each second, quietest first.
    ///
    /// A Hann window keeps the other tones out (side lobes fall at 18 dB an octave), and the
    /// loudest of a few near frequencies allows for clock drift.
    fn levels(&self, hertz: f64) -> Vec<Dbfs> {
        let window = self.rate as usize;
        let mut levels: Vec<Dbfs> = self
            .samples
            .chunks(window)
            .filter(|chunk| chunk.len() == window || self.samples.len() < window)
            .map(|chunk| {
                [-0.4, 0.0, 0.4]
                    .iter()
                    .map(|off| self.bin(chunk, hertz + off))
                    .fold(SILENCE, f64::max)
            })
            .collect();
        levels.sort_by(f64::total_cmp);
        levels
    }

    fn bin(&self, samples: &[i16], hertz: f64) -> Dbfs {
        let n = samples.len();
        if n < 2 {
            return SILENCE;
        }
        let (mut re, mut im) = (0.0, 0.0);
        for (i, sample) in samples.iter().enumerate() {
            let window = 0.5 - 0.5 * (std::f64::consts::TAU * i as f64 / (n - 1) as f64).cos();
            let phase = std::f64::consts::TAU * hertz * i as f64 / f64::from(self.rate);
            let value = f64::from(*sample) / 32_768.0 * window;
            re += value * phase.cos();
            im += value * phase.sin();
        }
        // The Hann window halves the amplitude; a sine's peak is twice its bin.
        let amplitude = 4.0 * re.hypot(im) / n as f64;
        (20.0 * amplitude.max(1e-6).log10()).max(SILENCE)
    }

    /// Root mean square level of everything.
    #[must_use]
    pub fn loudness(&self) -> Dbfs {
        if self.samples.is_empty() {
            return SILENCE;
        }
        let sum: f64 = self
            .samples
            .iter()
            .map(|s| (f64::from(*s) / 32_768.0).powi(2))
            .sum();
        let rms = (sum / self.samples.len() as f64).sqrt();
        (20.0 * (rms * std::f64::consts::SQRT_2).max(1e-6).log10()).max(SILENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(rate: u32, tones: &[(f64, f64)]) -> Recording {
        let samples = (0..rate * 2)
            .map(|i| {
                let t = f64::from(i) / f64::from(rate);
                let v: f64 = tones
                    .iter()
                    .map(|(hertz, level)| level * (std::f64::consts::TAU * hertz * t).sin())
                    .sum();
                (v * 32_767.0) as i16
            })
            .collect();
        Recording { rate, samples }
    }

    #[test]
    fn a_tone_is_measured_and_its_neighbour_is_not() {
        let heard = sine(48_000, &[(440.0, 0.25), (1_000.0, 0.025)]);
        assert!(
            (heard.tone(440.0) + 12.0).abs() < 0.5,
            "{}",
            heard.tone(440.0)
        );
        assert!(
            (heard.tone(1_000.0) + 32.0).abs() < 0.5,
            "{}",
            heard.tone(1_000.0)
        );
        assert!(heard.tone(620.0) < -75.0, "{}", heard.tone(620.0));
    }

    #[test]
    fn a_short_leak_is_seen() {
        let mut heard = sine(48_000, &[(440.0, 0.25)]);
        let leak = sine(48_000, &[(1_000.0, 0.25)]);
        heard.samples[60_000..90_000].copy_from_slice(&leak.samples[60_000..90_000]);
        assert!(heard.leak(1_000.0) > -20.0, "{}", heard.leak(1_000.0));
        assert!(heard.leak(1_700.0) < -60.0, "{}", heard.leak(1_700.0));
    }

    #[test]
    fn silence_is_silent() {
        let heard = Recording {
            rate: 8_000,
            samples: vec![0; 8_000],
        };
        assert_eq!(heard.tone(440.0), SILENCE);
        assert_eq!(heard.loudness(), SILENCE);
    }
}
