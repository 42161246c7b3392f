//! One encoder and one decoder for every codec of a telephone leg: samples at the codec's own rate to
//! payload bytes, and back.

use super::{LegCodec, g711, g722, opus};

/// Longest G.711 or G.722 packet looked at, in samples: 120 ms at 16 kHz, as Opus' own limit.
const MAX_PCM_SAMPLES: usize = 1_920;

/// Encoder state of one stream.
#[derive(Debug)]
pub enum Encoder {
    /// With the mixer's usual quality.
    Opus(Box<opus::Encoder>),
    /// Of 16 kHz samples.
    G722(Box<g722::Encoder>),
    /// A-law.
    Pcma,
    /// mu-law.
    Pcmu,
}

impl Encoder {
    /// A fresh encoder.
    pub fn new(codec: LegCodec) -> Self {
        match codec {
            LegCodec::Opus => Self::Opus(Box::new(opus::Encoder::new(opus::Quality::default()))),
            LegCodec::G722 => Self::G722(Box::default()),
            LegCodec::Pcma => Self::Pcma,
            LegCodec::Pcmu => Self::Pcmu,
        }
    }

    /// Encodes samples of -1.0..=1.0 into `payload`, replacing its content. Opus takes 20 ms at a time:
    /// of any other length it makes nothing.
    pub fn encode(&mut self, samples: &[f32], payload: &mut Vec<u8>) {
        payload.clear();
        let pcm = samples.iter().map(|&sample| quantise(sample));
        match self {
            Self::Opus(encoder) => {
                if let Ok(frame) = samples.try_into() {
                    payload.extend_from_slice(encoder.encode(frame));
                }
            }
            Self::G722(encoder) => encoder.encode(&pcm.collect::<Vec<_>>(), payload),
            Self::Pcma => payload.extend(pcm.map(g711::linear_to_alaw)),
            Self::Pcmu => payload.extend(pcm.map(g711::linear_to_ulaw)),
        }
    }
}

/// Decoder state of one stream.
#[derive(Debug)]
pub enum Decoder {
    /// Any legal packet.
    Opus(Box<opus::Decoder>),
    /// To 16 kHz samples.
    G722(Box<g722::Decoder>),
    /// A-law.
    Pcma,
    /// mu-law.
    Pcmu,
}

impl Decoder {
    /// A fresh decoder.
    pub fn new(codec: LegCodec) -> Self {
        match codec {
            LegCodec::Opus => Self::Opus(Box::default()),
            LegCodec::G722 => Self::G722(Box::default()),
            LegCodec::Pcma => Self::Pcma,
            LegCodec::Pcmu => Self::Pcmu,
        }
    }

    /// Decodes a packet into `output`, replacing its content; `false` when the packet is broken.
    pub fn decode(&mut self, payload: &[u8], output: &mut Vec<f32>) -> bool {
        output.clear();
        match self {
            Self::Opus(decoder) => {
                let Some(length) = opus::duration(payload) else {
                    return false;
                };
                output.resize(length, 0.0);
                match decoder.decode(payload, output) {
                    Ok(decoded) => output.truncate(decoded),
                    Err(_) => output.clear(),
                }
            }
            Self::G722(decoder) => {
                let payload = &payload[..payload.len().min(MAX_PCM_SAMPLES / 2)];
                decoder.decode(payload, |sample| output.push(linear(sample)));
            }
            Self::Pcma => output.extend(pcm(payload).map(|b| linear(g711::alaw_to_linear(b)))),
            Self::Pcmu => output.extend(pcm(payload).map(|b| linear(g711::ulaw_to_linear(b)))),
        }
        !output.is_empty()
    }

    pub(crate) fn opus(&mut self) -> Option<&mut opus::Decoder> {
        match self {
            Self::Opus(decoder) => Some(decoder),
            _ => None,
        }
    }
}

fn pcm(payload: &[u8]) -> impl Iterator<Item = u8> + '_ {
    payload.iter().copied().take(MAX_PCM_SAMPLES)
}

fn linear(sample: i16) -> f32 {
    f32::from(sample) / 32_768.0
}

/// The nearest 16-bit sample.
pub(crate) fn quantise(sample: f32) -> i16 {
    (sample * 32_767.0).round().clamp(-32_768.0, 32_767.0) as i16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tone::{self, Sine};

    #[test]
    fn a_tone_comes_through_every_codec() {
        for codec in [
            LegCodec::Opus,
            LegCodec::G722,
            LegCodec::Pcma,
            LegCodec::Pcmu,
        ] {
            let rate = codec.sample_rate();
            let mut sine = Sine::new(1_040.0, -14.0, rate);
            let (mut encoder, mut decoder) = (Encoder::new(codec), Decoder::new(codec));
            let (mut payload, mut piece, mut heard) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..25 {
                let samples: Vec<f32> = sine.by_ref().take(rate as usize / 50).collect();
                encoder.encode(&samples, &mut payload);
                assert!(decoder.decode(&payload, &mut piece), "{codec:?}");
                assert_eq!(piece.len(), samples.len());
                heard.extend_from_slice(&piece);
            }
            // The first half is each codec's own delay and settling.
            let settled = &heard[heard.len() / 2..];
            let level = tone::level(settled.iter().copied(), 1_040.0, rate);
            assert!((level + 14.0).abs() < 1.0, "{codec:?}: {level}");
        }
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        for codec in [LegCodec::Opus, LegCodec::Pcma] {
            let mut output = vec![1.0];
            assert!(!Decoder::new(codec).decode(&[], &mut output));
            assert!(output.is_empty());
        }
        let mut payload = vec![1];
        Encoder::new(LegCodec::Opus).encode(&[0.0; 480], &mut payload);
        assert!(payload.is_empty(), "10 ms is no frame of ours");
    }
}
