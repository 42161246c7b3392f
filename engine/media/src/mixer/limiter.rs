//! Keeps a mix under full scale: look-ahead gain, so that loud sums are turned down, never clipped.
//!
//! Owns 2 ms of delay and a gain. Cloning it is the copy a new N-1 mix begins with.

/// Look-ahead: 2 ms at 48 kHz. Longer is smoother and later.
const BLOCK: usize = 96;
/// Ceiling: -1 dBFS leaves room for what codecs overshoot.
const CEILING: f32 = 0.891;
/// Gain regained per block: full recovery from half in about 100 ms.
const RELEASE: f32 = 0.01;

/// Look-ahead peak limiter for 48 kHz ticks.
#[derive(Clone, Debug)]
pub(super) struct Limiter {
    held: [f32; BLOCK],
    /// Gain the held block needs.
    needed: f32,
    /// Gain at the beginning of the held block.
    gain: f32,
}

impl Limiter {
    pub(super) fn new() -> Self {
        Self {
            held: [0.0; BLOCK],
            needed: 1.0,
            gain: 1.0,
        }
    }

    /// Limits a tick in place, delayed by one block.
    pub(super) fn run(&mut self, tick: &mut [f32; 960]) {
        for block in tick.as_chunks_mut::<BLOCK>().0 {
            let peak = block.iter().fold(0.0f32, |peak, s| peak.max(s.abs()));
            let needed = if peak > CEILING { CEILING / peak } else { 1.0 };
            let end = self.needed.min(needed).min(self.gain + RELEASE);
            let held = std::mem::replace(&mut self.held, *block);
            if self.gain == 1.0 && end == 1.0 {
                *block = held;
            } else {
                let step = (end - self.gain) / BLOCK as f32;
                for (n, (sample, held)) in block.iter_mut().zip(held).enumerate() {
                    *sample = held * (self.gain + step * (n + 1) as f32);
                }
            }
            self.gain = end;
            self.needed = needed;
        }
    }

    /// Whether nothing is left to come out.
    pub(super) fn is_empty(&self) -> bool {
        self.held.iter().all(|&s| s == 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(signal: impl Fn(usize) -> f32, ticks: usize) -> Vec<f32> {
        let mut limiter = Limiter::new();
        let mut output = Vec::new();
        for t in 0..ticks {
            let mut tick = std::array::from_fn(|n| signal(t * 960 + n));
            limiter.run(&mut tick);
            output.extend(tick);
        }
        output
    }

    #[test]
    fn soft_sound_passes_unchanged_two_milliseconds_later() {
        let signal = |n: usize| (n as f32 * 0.05).sin() * 0.8;
        let output = run(signal, 3);
        assert!(output[..96].iter().all(|&s| s == 0.0));
        assert!((96..2880).all(|n| output[n] == signal(n - 96)));
    }

    #[test]
    fn no_sample_ever_exceeds_the_ceiling() {
        for level in [1.0f32, 2.0, 5.0, 16.0] {
            let output = run(
                |n| {
                    if n % 5_000 > 2_000 {
                        (n as f32 * 0.05).sin() * level
                    } else {
                        0.1
                    }
                },
                50,
            );
            let peak = output.iter().fold(0.0f32, |p, s| p.max(s.abs()));
            assert!(peak <= CEILING + 1e-6, "{level}: {peak}");
        }
        let click = run(|n| if n == 1_000 { 10.0 } else { 0.0 }, 3);
        assert!(click[1_096] <= CEILING + 1e-6 && click[1_096] > 0.8);
    }
}
