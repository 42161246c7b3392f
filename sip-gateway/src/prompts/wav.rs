//! Reads the WAV files of prompts and brings them to 48 kHz. Files come from the operator, so every length is checked.

use thiserror::Error;

/// Sample rate of everything the mixer plays.
pub(super) const RATE: u32 = 48_000;

/// Longest prompt: more lets an operator play an announcement, and each second held costs 96 kB.
const LONGEST_SECONDS: usize = 60;

/// Filter taps per output sample. More cuts images above the source's band more sharply (16 taps: better than 60 dB from 0.6 of
/// its rate), at one multiplication each, once per prompt.
const TAPS: usize = 16;

/// Why a recording cannot be played.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WavError {
    /// Not a RIFF/WAVE file, or cut short.
    #[error("this is not a WAV file, or it is cut short")]
    NotWav,
    /// Compressed, stereo, or not 16 bits a sample.
    #[error("the sound must be uncompressed, mono, 16 bits a sample")]
    Format,
    /// A rate that does not divide 48 kHz.
    #[error("the sample rate is {0} Hz; it must be 8000, 16000, 24000 or 48000")]
    Rate(u32),
    /// Too long.
    #[error("the sound is longer than {LONGEST_SECONDS} s")]
    TooLong,
}

/// Samples of a WAV file with their rate in hertz.
pub(super) fn read(file: &[u8]) -> Result<(Vec<i16>, u32), WavError> {
    let word = |at: usize| {
        let bytes = file.get(at..at + 4).ok_or(WavError::NotWav)?;
        Ok::<u32, WavError>(u32::from_le_bytes(bytes.try_into().expect("four bytes")))
    };
    if file.get(..4) != Some(b"RIFF") || file.get(8..12) != Some(b"WAVE") {
        return Err(WavError::NotWav);
    }
    let mut rate = None;
    let mut at = 12;
    loop {
        let id = file.get(at..at + 4).ok_or(WavError::NotWav)?;
        let length = word(at + 4)? as usize;
        let body = file.get(at + 8..).ok_or(WavError::NotWav)?;
        match id {
            b"fmt " => {
                // wFormatTag 1 (PCM) and nChannels 1, then the rate; wBitsPerSample at 14.
                if body.get(..4) != Some(&[1, 0, 1, 0]) || body.get(14..16) != Some(&[16, 0]) {
                    return Err(WavError::Format);
                }
                rate = Some(word(at + 12)?);
            }
            b"data" => {
                let rate = rate.ok_or(WavError::Format)?;
                if ![8_000, 16_000, 24_000, RATE].contains(&rate) {
                    return Err(WavError::Rate(rate));
                }
                let data = body.get(..length).ok_or(WavError::NotWav)?;
                if data.len() / 2 > LONGEST_SECONDS * rate as usize {
                    return Err(WavError::TooLong);
                }
                let samples = data
                    .chunks_exact(2)
                    .map(|pair| i16::from_le_bytes([pair[0], pair[1]]));
                return Ok((samples.collect(), rate));
            }
            _ => {}
        }
        // Chunks are padded to even lengths.
        at = at
            .checked_add(8 + length + length % 2)
            .ok_or(WavError::NotWav)?;
    }
}

/// Interpolates to 48 kHz by a windowed-sinc filter; a rate of 48 kHz passes unchanged.
pub(super) fn upsample(samples: &[i16], rate: u32) -> Vec<i16> {
    let factor = (RATE / rate) as usize;
    if factor == 1 {
        return samples.to_vec();
    }
    let half = (TAPS / 2) as isize;
    let phases: Vec<[f32; TAPS]> = (0..factor)
        .map(|phase| {
            let mut taps = [0.0; TAPS];
            for (tap, value) in taps.iter_mut().enumerate() {
                let x = (tap as isize - half + 1) as f64 - phase as f64 / factor as f64;
                *value = kernel(x) as f32;
            }
            // Every phase passes a constant unchanged: no tone at the source's rate.
            let sum: f32 = taps.iter().sum();
            taps.map(|value| value / sum)
        })
        .collect();
    let mut out = Vec::with_capacity(samples.len() * factor);
    for at in 0..samples.len() as isize {
        for taps in &phases {
            let value: f32 = taps
                .iter()
                .enumerate()
                .map(|(tap, gain)| {
                    let index = at + tap as isize - half + 1;
                    let sample = usize::try_from(index).ok().and_then(|i| samples.get(i));
                    gain * f32::from(sample.copied().unwrap_or(0))
                })
                .sum();
            out.push(value.round().clamp(-32_768.0, 32_767.0) as i16);
        }
    }
    out
}

/// Sinc under a Blackman window of `TAPS` samples, `x` in samples of the source.
fn kernel(x: f64) -> f64 {
    use std::f64::consts::PI;
    // Cut a little under the source's half rate: what is there is mostly image.
    const CUT: f64 = 0.92;
    let position = x / TAPS as f64 + 0.5;
    if !(0.0..=1.0).contains(&position) {
        return 0.0;
    }
    let window = 0.42 - 0.5 * (2.0 * PI * position).cos() + 0.08 * (4.0 * PI * position).cos();
    let sinc = if x == 0.0 {
        1.0
    } else {
        (PI * CUT * x).sin() / (PI * CUT * x)
    };
    sinc * window
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wav(rate: u32, samples: &[i16]) -> Vec<u8> {
        let mut file = b"RIFF\0\0\0\0WAVELIST\x03\0\0\0abc\0fmt \x10\0\0\0\x01\0\x01\0".to_vec();
        file.extend(rate.to_le_bytes());
        file.extend((rate * 2).to_le_bytes());
        file.extend([2, 0, 16, 0]);
        file.extend(b"data");
        file.extend((samples.len() as u32 * 2).to_le_bytes());
        file.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
        file
    }

    #[test]
    fn other_chunks_are_passed_over() {
        assert_eq!(read(&wav(8_000, &[1, -2, 3])), Ok((vec![1, -2, 3], 8_000)));
    }

    #[test]
    fn what_cannot_be_played_is_refused() {
        assert_eq!(read(b"OggS"), Err(WavError::NotWav));
        assert_eq!(read(&wav(44_100, &[0; 10])), Err(WavError::Rate(44_100)));
        assert_eq!(read(&wav(8_000, &vec![0; 500_000])), Err(WavError::TooLong));
        let mut stereo = wav(8_000, &[0; 10]);
        let channels = 12 + 12 + 8 + 2;
        stereo[channels] = 2;
        assert_eq!(read(&stereo), Err(WavError::Format));
        let whole = wav(8_000, &[0; 10]);
        assert_eq!(read(&whole[..whole.len() - 1]), Err(WavError::NotWav));
    }

    #[test]
    fn a_tone_keeps_its_level_and_gains_no_image() {
        for (rate, hertz) in [(8_000u32, 1_000.0), (16_000, 3_000.0)] {
            let tone = |rate: u32, n: usize| {
                (2.0 * std::f64::consts::PI * hertz * n as f64 / f64::from(rate)).sin() * 10_000.0
            };
            let source: Vec<i16> = (0..rate as usize).map(|n| tone(rate, n) as i16).collect();
            let out = upsample(&source, rate);
            assert_eq!(out.len(), RATE as usize);
            let middle = 1_000..out.len() - 1_000;
            let error: f64 = middle
                .clone()
                .map(|n| (f64::from(out[n]) - tone(RATE, n)).powi(2))
                .sum();
            let signal: f64 = middle.map(|n| tone(RATE, n).powi(2)).sum();
            let ratio = 10.0 * (signal / error).log10();
            assert!(ratio > 50.0, "{rate} Hz: {ratio:.1} dB");
        }
    }

    proptest! {
        #[test]
        fn no_file_panics(mut file in proptest::collection::vec(any::<u8>(), 0..200), keep in any::<bool>()) {
            if keep {
                let head = wav(8_000, &[0; 20]);
                let length = file.len().min(head.len());
                for (byte, original) in file[..length].iter_mut().zip(head) {
                    if *byte % 16 != 0 {
                        *byte = original;
                    }
                }
            }
            let _ = read(&file);
        }
    }
}
