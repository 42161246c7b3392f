//! A frame made shorter or longer by one period of its own sound, so that delay can change unheard.
//!
//! Owns the splice (overlap-add at the best matching lag). It never decides when.

/// Lags tried: 2.5 ms to half a frame, at most 10 ms.
const MIN_LAG_US: usize = 2_500;
const MAX_LAG_US: usize = 10_000;

/// Best lag and how well the sound repeats at it, 0 to 1 (1 = exactly; silence counts as 1).
fn best_lag(frame: &[f32], rate: usize) -> Option<(usize, f32)> {
    let min = rate * MIN_LAG_US / 1_000_000;
    let max = (rate * MAX_LAG_US / 1_000_000).min(frame.len() / 2);
    // Every third sample at 48 kHz is enough to find a lag: speech has little above 8 kHz.
    let step = (rate / 16_000).max(1);
    let mut best: Option<(usize, f32)> = None;
    let mut lag = max;
    while lag >= min && lag > 0 {
        let (mut product, mut first, mut second) = (0.0f32, 1e-9f32, 1e-9f32);
        for n in (0..lag).step_by(step) {
            let (a, b) = (frame[n], frame[n + lag]);
            product += a * b;
            first += a * a;
            second += b * b;
        }
        let likeness = if first + second < 1e-6 {
            1.0
        } else {
            product / (first * second).sqrt()
        };
        // Longest first, so that of equals the one that helps most wins.
        if best.is_none_or(|(_, l)| likeness > l) {
            best = Some((lag, likeness));
        }
        lag = lag.saturating_sub(step);
    }
    best
}

/// Takes one period out of `frame` when it repeats at least as well as `likeness`; returns the samples removed.
pub(super) fn shorten(frame: &mut Vec<f32>, rate: u32, likeness: f32) -> usize {
    match best_lag(frame, rate as usize) {
        Some((lag, l)) if l >= likeness => {
            for n in 0..lag {
                let share = (n + 1) as f32 / (lag + 1) as f32;
                frame[n] = frame[n] * (1.0 - share) + frame[n + lag] * share;
            }
            frame.drain(lag..2 * lag);
            lag
        }
        _ => 0,
    }
}

/// Plays one period of `frame` twice when it repeats at least as well as `likeness`; returns the samples added.
pub(super) fn lengthen(frame: &mut Vec<f32>, rate: u32, likeness: f32) -> usize {
    match best_lag(frame, rate as usize) {
        Some((lag, l)) if l >= likeness => {
            let mut bridge = Vec::with_capacity(lag);
            for n in 0..lag {
                let share = (n + 1) as f32 / (lag + 1) as f32;
                bridge.push(frame[n + lag] * (1.0 - share) + frame[n] * share);
            }
            frame.splice(lag..lag, bridge);
            lag
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(length: usize) -> Vec<f32> {
        (0..length)
            .map(|n| (n as f32 * 210.0 / 48_000.0 * std::f32::consts::TAU).sin() * 0.3)
            .collect()
    }

    fn largest_step(sound: &[f32]) -> f32 {
        sound
            .windows(2)
            .map(|w| (w[1] - w[0]).abs())
            .fold(0.0, f32::max)
    }

    #[test]
    fn a_periodic_sound_changes_length_without_a_step() {
        let smooth = largest_step(&tone(960)) * 1.2;
        let mut shorter = tone(960);
        let removed = shorten(&mut shorter, 48_000, 0.9);
        assert!((120..=480).contains(&removed));
        assert_eq!(shorter.len(), 960 - removed);
        assert!(largest_step(&shorter) < smooth);
        let mut longer = tone(960);
        let added = lengthen(&mut longer, 48_000, 0.9);
        assert_eq!(longer.len(), 960 + added);
        assert!(largest_step(&longer) < smooth);
        // The frame's ends are untouched: its neighbours still fit.
        assert_eq!(longer[0], tone(960)[0]);
        assert_eq!(longer.last(), tone(960).last());
        assert_eq!(shorter.last(), tone(960).last());
    }

    #[test]
    fn noise_is_left_alone_and_silence_gives_the_longest_lag() {
        let mut state = 1u32;
        let mut noise: Vec<f32> = (0..960)
            .map(|_| {
                state = state.wrapping_mul(1664525).wrapping_add(1013904223);
                (state >> 8) as f32 / (1 << 24) as f32 - 0.5
            })
            .collect();
        assert_eq!(shorten(&mut noise, 48_000, 0.9), 0);
        assert_eq!(shorten(&mut vec![0.0; 960], 48_000, 0.9), 480);
        assert_eq!(lengthen(&mut vec![0.0; 160], 8_000, 0.9), 80);
        assert_eq!(lengthen(&mut Vec::new(), 8_000, 0.9), 0);
    }
}
