//! Ears for 16-bit mono sound.

/// Root mean square in dB relative to full scale.
pub(crate) fn loudness(samples: &[i16]) -> f64 {
    let square = |sample: &i16| (f64::from(*sample) / 32_768.0).powi(2);
    let sum: f64 = samples.iter().map(square).sum();
    10.0 * (sum / samples.len().max(1) as f64).max(1e-12).log10()
}

/// Share of the energy that is at `hertz`, from 0 to 1 for a pure tone.
pub(crate) fn purity(samples: &[i16], rate: u32, hertz: f64) -> f64 {
    let (mut re, mut im, mut all) = (0.0, 0.0, 0.0);
    for (n, sample) in samples.iter().enumerate() {
        let turn = std::f64::consts::TAU * hertz * n as f64 / f64::from(rate);
        let value = f64::from(*sample);
        re += value * turn.cos();
        im += value * turn.sin();
        all += value * value;
    }
    if all == 0.0 {
        return 0.0;
    }
    2.0 * (re * re + im * im) / (samples.len() as f64 * all)
}
