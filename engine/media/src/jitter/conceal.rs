//! Concealment for codecs that have none: the last pitch periods again, faded when it lasts.
//!
//! Owns a short history of what was played. Opus conceals by itself and does not use this.

/// Pitch looked for: 66 to 400 Hz.
const MIN_PERIOD_US: usize = 2_500;
const MAX_PERIOD_US: usize = 15_000;
/// Repeated sound is left as it is for this long, then faded to nothing over `FADE_US`.
/// Longer hides longer gaps, and buzzes.
const HOLD_US: usize = 60_000;
const FADE_US: usize = 60_000;
/// Overlap between concealment and what comes after it.
const MERGE_US: usize = 5_000;

/// Concealer of one stream at one sampling rate.
#[derive(Debug)]
pub(super) struct Concealer {
    rate: usize,
    /// Newest last; twice the longest period plus the overlap.
    history: Vec<f32>,
    /// The period being repeated, and where in it.
    period: Vec<f32>,
    phase: usize,
    /// Samples concealed in a row.
    run: usize,
}

impl Concealer {
    pub(super) fn new(rate: u32) -> Self {
        let rate = rate as usize;
        let length = samples(rate, 2 * MAX_PERIOD_US + MERGE_US);
        Self {
            rate,
            history: vec![0.0; length],
            period: Vec::with_capacity(samples(rate, MAX_PERIOD_US)),
            phase: 0,
            run: 0,
        }
    }

    /// Sound that will be played: remembered, and its first 5 ms blended with a concealment before it.
    pub(super) fn played(&mut self, sound: &mut [f32]) {
        if self.run > 0 {
            let overlap = samples(self.rate, MERGE_US).min(sound.len());
            for (n, sample) in sound[..overlap].iter_mut().enumerate() {
                let share = (n + 1) as f32 / (overlap + 1) as f32;
                *sample = *sample * share + self.next() * (1.0 - share);
            }
            self.run = 0;
        }
        self.remember(sound);
    }

    /// Fills `output` with concealment.
    pub(super) fn conceal(&mut self, output: &mut [f32]) {
        if self.run == 0 {
            self.find_period();
        }
        for sample in output.iter_mut() {
            *sample = self.next();
        }
    }

    pub(super) fn reset(&mut self) {
        self.history.fill(0.0);
        self.run = 0;
    }

    fn remember(&mut self, sound: &[f32]) {
        let length = self.history.len();
        if sound.len() >= length {
            self.history.copy_from_slice(&sound[sound.len() - length..]);
        } else {
            self.history.copy_within(sound.len().., 0);
            self.history[length - sound.len()..].copy_from_slice(sound);
        }
    }

    fn next(&mut self) -> f32 {
        let hold = samples(self.rate, HOLD_US);
        let fade = samples(self.rate, FADE_US);
        let gain = 1.0 - (self.run.saturating_sub(hold)) as f32 / fade as f32;
        self.run += 1;
        if gain <= 0.0 || self.period.is_empty() {
            return 0.0;
        }
        let sample = self.period[self.phase];
        self.phase = (self.phase + 1) % self.period.len();
        sample * gain
    }

    /// The lag at which the newest sound best resembles what came before it.
    fn find_period(&mut self) {
        let (min, max) = (
            samples(self.rate, MIN_PERIOD_US),
            samples(self.rate, MAX_PERIOD_US),
        );
        let length = self.history.len();
        let recent = &self.history[length - max..];
        let mut best = (min, f32::MIN);
        for lag in min..=max {
            let earlier = &self.history[length - max - lag..length - lag];
            let (mut product, mut energy) = (0.0f32, 1e-9f32);
            for (a, b) in recent.iter().zip(earlier) {
                product += a * b;
                energy += b * b;
            }
            // Correlation normalised by the earlier energy only: the recent one is common to all lags.
            let score = product.max(0.0) * product.max(0.0) / energy;
            if score > best.1 {
                best = (lag, score);
            }
        }
        let lag = best.0;
        self.period.clear();
        self.period.extend_from_slice(&self.history[length - lag..]);
        // The period's end must lead into its beginning: its last quarter is blended with what
        // preceded the period, so that repetition has no step.
        let blend = lag / 4;
        for n in 0..blend {
            let share = (n + 1) as f32 / (blend + 1) as f32;
            let before = self.history[length - lag - blend + n];
            let end = &mut self.period[lag - blend + n];
            *end = *end * (1.0 - share) + before * share;
        }
        self.phase = 0;
    }
}

fn samples(rate: usize, micros: usize) -> usize {
    rate * micros / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(rate: f32, hertz: f32, from: usize, length: usize) -> Vec<f32> {
        (from..from + length)
            .map(|n| (n as f32 * hertz / rate * std::f32::consts::TAU).sin() * 0.3)
            .collect()
    }

    #[test]
    fn a_voiced_sound_goes_on_then_fades() {
        for rate in [8_000u32, 16_000] {
            let mut concealer = Concealer::new(rate);
            let frame = rate as usize / 50;
            let mut before = tone(rate as f32, 205.0, 0, frame * 4);
            concealer.played(&mut before);
            let mut gap = vec![0.0; frame * 2];
            concealer.conceal(&mut gap);
            let wanted = tone(rate as f32, 205.0, frame * 4, frame * 2);
            let error: f32 = gap.iter().zip(&wanted).map(|(a, b)| (a - b).powi(2)).sum();
            let power: f32 = wanted.iter().map(|s| s * s).sum();
            assert!(error < 0.15 * power, "{rate}: {}", error / power);
            let mut rest = vec![0.0; frame * 6];
            concealer.conceal(&mut rest);
            assert!(rest[frame * 4 + 1..].iter().all(|&s| s == 0.0));
        }
    }

    #[test]
    fn no_step_where_sound_comes_back() {
        let mut concealer = Concealer::new(8_000);
        let mut before = tone(8_000.0, 150.0, 0, 640);
        concealer.played(&mut before);
        let mut gap = vec![0.0; 160];
        concealer.conceal(&mut gap);
        let mut after = tone(8_000.0, 150.0, 900, 160);
        concealer.played(&mut after);
        let mut all = before;
        all.extend(gap);
        all.extend(after);
        let largest = all
            .windows(2)
            .map(|w| (w[1] - w[0]).abs())
            .fold(0.0, f32::max);
        // A 150 Hz tone of 0.3 moves 0.035 a sample; a hard splice moved up to 0.6.
        assert!(largest < 0.1, "{largest}");
    }

    #[test]
    fn concealing_silence_is_silence() {
        let mut concealer = Concealer::new(16_000);
        let mut gap = vec![1.0; 320];
        concealer.conceal(&mut gap);
        assert!(gap.iter().all(|&s| s == 0.0));
    }
}
