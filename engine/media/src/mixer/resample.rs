//! Between 48 kHz and the 8 and 16 kHz of telephones: polyphase FIR filters with integer factors.
//!
//! Owns filter history; about 1 ms of delay each way. It never changes the length of a tick.

use std::sync::LazyLock;

/// Taps per phase: more separates the bands better and delays longer (24 = 1.5 ms at 8 kHz).
const TAPS: usize = 24;
/// Kaiser window shape: 6.5 keeps images and aliases about 65 dB down.
const BETA: f64 = 6.5;

/// Low-pass for a factor, cut off at 0.94 of the lower rate's half; gain 1.
fn design(factor: usize) -> Vec<f32> {
    let length = TAPS * factor;
    let middle = (length - 1) as f64 / 2.0;
    let cutoff = 0.94 / factor as f64;
    let bessel = |x: f64| {
        let (mut sum, mut term) = (1.0, 1.0);
        for k in 1..40 {
            term *= (x / (2.0 * f64::from(k))).powi(2);
            sum += term;
        }
        sum
    };
    let taps: Vec<f64> = (0..length)
        .map(|n| {
            let t = n as f64 - middle;
            let x = t * cutoff * std::f64::consts::PI;
            let sinc = if x == 0.0 { 1.0 } else { x.sin() / x };
            let edge = (1.0 - (t / (middle + 1.0)).powi(2)).max(0.0).sqrt();
            sinc * bessel(BETA * edge)
        })
        .collect();
    let sum: f64 = taps.iter().sum();
    taps.iter().map(|t| (t / sum) as f32).collect()
}

struct Filter {
    /// For decimation: the taps, newest sample first reversed (the filter is symmetric).
    taps: Vec<f32>,
    /// For interpolation: `TAPS` taps of each phase, oldest sample first, gain `factor`.
    phases: Vec<[f32; TAPS]>,
}

fn filter(factor: usize) -> &'static Filter {
    static THREE: LazyLock<Filter> = LazyLock::new(|| make(3));
    static SIX: LazyLock<Filter> = LazyLock::new(|| make(6));
    match factor {
        3 => &THREE,
        6 => &SIX,
        _ => unreachable!("only 8 and 16 kHz meet 48 kHz"),
    }
}

fn make(factor: usize) -> Filter {
    let taps = design(factor);
    let phases = (0..factor)
        .map(|phase| std::array::from_fn(|k| taps[phase + (TAPS - 1 - k) * factor] * factor as f32))
        .collect();
    Filter { taps, phases }
}

/// Dot product in eight lanes, so that the compiler uses vector registers.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    for (x, y) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        for i in 0..8 {
            lanes[i] += x[i] * y[i];
        }
    }
    lanes.iter().sum()
}

/// From 8 or 16 kHz to 48 kHz.
#[derive(Clone, Debug)]
pub(super) struct Upsampler {
    factor: usize,
    history: Vec<f32>,
}

impl Upsampler {
    /// `rate` is 8,000 or 16,000 Hz.
    pub(super) fn new(rate: u32) -> Self {
        Self {
            factor: 48_000 / rate as usize,
            history: vec![0.0; TAPS - 1],
        }
    }

    /// Converts a whole tick: `output` is `factor` times as long as `input`.
    pub(super) fn run(&mut self, input: &[f32], output: &mut [f32]) {
        let filter = filter(self.factor);
        self.history.extend_from_slice(input);
        for (n, chunk) in output.chunks_exact_mut(self.factor).enumerate() {
            let window = &self.history[n..n + TAPS];
            for (sample, phase) in chunk.iter_mut().zip(&filter.phases) {
                *sample = dot(window, phase);
            }
        }
        self.history.drain(..input.len());
    }
}

/// From 48 kHz to 8 or 16 kHz.
#[derive(Clone, Debug)]
pub(super) struct Downsampler {
    factor: usize,
    history: Vec<f32>,
}

impl Downsampler {
    /// `rate` is 8,000 or 16,000 Hz.
    pub(super) fn new(rate: u32) -> Self {
        let factor = 48_000 / rate as usize;
        Self {
            factor,
            history: vec![0.0; TAPS * factor - factor],
        }
    }

    /// Converts a whole tick: `output` is `factor` times shorter than `input`.
    pub(super) fn run(&mut self, input: &[f32], output: &mut [f32]) {
        let filter = filter(self.factor);
        self.history.extend_from_slice(input);
        for (n, sample) in output.iter_mut().enumerate() {
            let start = n * self.factor;
            *sample = dot(
                &self.history[start..start + filter.taps.len()],
                &filter.taps,
            );
        }
        self.history.drain(..input.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(rate: usize, hertz: f32, length: usize) -> Vec<f32> {
        (0..length)
            .map(|n| (n as f32 * hertz / rate as f32 * std::f32::consts::TAU).sin() * 0.5)
            .collect()
    }

    fn power(signal: &[f32]) -> f32 {
        signal.iter().map(|s| s * s).sum::<f32>() / signal.len() as f32
    }

    fn up(rate: usize, input: &[f32]) -> Vec<f32> {
        let mut output = vec![0.0; input.len() * 48_000 / rate];
        let mut upsampler = Upsampler::new(rate as u32);
        let tick = rate / 50;
        for (i, o) in input.chunks(tick).zip(output.chunks_mut(960)) {
            upsampler.run(i, o);
        }
        output
    }

    fn down(rate: usize, input: &[f32]) -> Vec<f32> {
        let mut output = vec![0.0; input.len() * rate / 48_000];
        let mut downsampler = Downsampler::new(rate as u32);
        for (i, o) in input.chunks(960).zip(output.chunks_mut(rate / 50)) {
            downsampler.run(i, o);
        }
        output
    }

    #[test]
    fn a_tone_in_the_band_keeps_its_level_both_ways() {
        for (rate, tones) in [
            (8_000, [200.0, 1_000.0, 3_000.0]),
            (16_000, [200.0, 3_000.0, 6_500.0]),
        ] {
            for hertz in tones {
                let signal = tone(rate, hertz, rate);
                let there = up(rate, &signal);
                let back = down(rate, &there);
                for result in [&there, &back] {
                    let decibel = 10.0 * (power(&result[result.len() / 4..]) / 0.125).log10();
                    assert!(decibel.abs() < 0.5, "{rate} {hertz}: {decibel} dB");
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_the_band_is_gone() {
        for (rate, hertz) in [
            (8_000, 5_000.0),
            (8_000, 12_000.0),
            (16_000, 9_500.0),
            (16_000, 15_000.0),
        ] {
            let heard = down(rate, &tone(48_000, hertz, 48_000));
            let decibel = 10.0 * (power(&heard[rate / 4..]) / 0.125).log10();
            assert!(decibel < -50.0, "{rate} {hertz}: {decibel} dB");
        }
        // The image of 1 kHz at 7 kHz: what is left after the tone itself is taken out.
        let there = up(8_000, &tone(8_000, 1_000.0, 8_000));
        let image = crate::mixer::tests::tone_power(&there[12_000..], 7_000.0, 48_000);
        assert!(10.0 * (image / 0.125).log10() < -50.0);
    }
}
