//! Sines: made, and measured in a sound. For ears that check what the box carries.
//!
//! It never decides whether a sound is right.

use std::f64::consts::{SQRT_2, TAU};

/// A level in decibels below a full-scale sine; 0 is as loud as can be.
pub type Dbfs = f64;

/// Lower than any level that can be measured: stands for silence.
pub const SILENCE: Dbfs = -120.0;

/// A sine without an end.
#[derive(Clone, Debug)]
pub struct Sine {
    amplitude: f64,
    /// Part of a turn between two samples.
    step: f64,
    turn: f64,
}

impl Sine {
    /// A sine of `hertz`, as loud as `level` says, at `rate` samples a second.
    pub fn new(hertz: f64, level: Dbfs, rate: u32) -> Self {
        Self {
            amplitude: 10f64.powf(level / 20.0),
            step: hertz / f64::from(rate),
            turn: 0.0,
        }
    }
}

impl Iterator for Sine {
    type Item = f32;

    fn next(&mut self) -> Option<f32> {
        let sample = self.amplitude * (TAU * self.turn).sin();
        self.turn = (self.turn + self.step).fract();
        Some(sample as f32)
    }
}

/// Level of a sine of `hertz` in samples of -1.0..=1.0, `rate` of them a second.
///
/// A Hann window keeps other sines out: side lobes fall at 18 dB an octave. Two sines are told apart
/// when they differ by four turns in the whole sound.
pub fn level(samples: impl ExactSizeIterator<Item = f32>, hertz: f64, rate: u32) -> Dbfs {
    let count = samples.len();
    if count < 2 {
        return SILENCE;
    }
    // Goertzel's recursion: one bin of a Fourier transform, in two values of state.
    let coefficient = 2.0 * (TAU * hertz / f64::from(rate)).cos();
    let (mut last, mut before) = (0.0, 0.0);
    // One turn over the whole sound, a step a sample: a cosine for each would cost ten times as much.
    let (rise, run) = (TAU / (count - 1) as f64).sin_cos();
    let (mut sin, mut cos) = (0.0, 1.0);
    for sample in samples {
        let window = 0.5 - 0.5 * cos;
        (sin, cos) = (sin * run + cos * rise, cos * run - sin * rise);
        let next = window * f64::from(sample) + coefficient * last - before;
        (last, before) = (next, last);
    }
    let power = last * last + before * before - coefficient * last * before;
    // The Hann window halves the amplitude; a sine's peak is twice its bin.
    decibels(4.0 * power.max(0.0).sqrt() / count as f64)
}

/// Level of everything in the samples: that of a sine of the same power.
pub fn loudness(samples: impl ExactSizeIterator<Item = f32>) -> Dbfs {
    let count = samples.len().max(1) as f64;
    let power: f64 = samples.map(|sample| f64::from(sample).powi(2)).sum();
    decibels((power / count).sqrt() * SQRT_2)
}

fn decibels(amplitude: f64) -> Dbfs {
    (20.0 * amplitude.max(1e-6).log10()).max(SILENCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 8_000;

    /// A quarter of a second of these sines.
    fn sound(sines: &[(f64, Dbfs)]) -> Vec<f32> {
        let mut sines: Vec<Sine> = sines
            .iter()
            .map(|&(hertz, level)| Sine::new(hertz, level, RATE))
            .collect();
        (0..RATE / 4)
            .map(|_| sines.iter_mut().filter_map(Iterator::next).sum())
            .collect()
    }

    fn at(samples: &[f32], hertz: f64) -> Dbfs {
        level(samples.iter().copied(), hertz, RATE)
    }

    #[test]
    fn a_sine_is_as_loud_as_it_was_made_and_its_neighbours_are_not() {
        let samples = sound(&[(620.0, -14.0), (1_040.0, -40.0)]);
        assert!((at(&samples, 620.0) + 14.0).abs() < 0.1);
        assert!((at(&samples, 1_040.0) + 40.0).abs() < 0.1);
        // 16 Hz are four turns in a quarter of a second.
        for beside in [604.0, 636.0, 900.0, 1_240.0, 3_000.0] {
            let level = at(&samples, beside);
            assert!(level < -45.0, "{beside} Hz: {level}");
        }
        let all = loudness(samples.iter().copied());
        assert!((all + 14.0).abs() < 0.1, "{all}");
    }

    #[test]
    fn a_sine_cut_anywhere_goes_on_where_it_was() {
        let whole: Vec<f32> = Sine::new(1_040.0, -14.0, RATE).take(400).collect();
        let mut sine = Sine::new(1_040.0, -14.0, RATE);
        let pieces: Vec<f32> = [160, 1, 239]
            .iter()
            .flat_map(|&count| sine.by_ref().take(count).collect::<Vec<_>>())
            .collect();
        assert_eq!(whole, pieces);
    }

    #[test]
    fn silence_is_silent_and_noise_is_no_sine() {
        for samples in [vec![], vec![0.0], vec![0.0; 2_000]] {
            assert_eq!(at(&samples, 620.0), SILENCE);
            assert_eq!(loudness(samples.iter().copied()), SILENCE);
        }
        let mut state = 1u32;
        let noise: Vec<f32> = (0..2_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                f32::from((state >> 16) as i16) / 32_768.0
            })
            .collect();
        let all = loudness(noise.iter().copied());
        assert!(all > -3.0 && at(&noise, 620.0) < all - 15.0, "{all}");
    }
}
