//! One decoder for every codec a source may send: payload bytes to samples at the codec's own rate.

use crate::codec::{LegCodec, g711, g722, opus};

/// Longest G.711 or G.722 packet looked at, in samples: 120 ms at 16 kHz, as Opus' own limit.
const MAX_PCM_SAMPLES: usize = 1_920;

/// Decoder state of one stream.
#[derive(Debug)]
pub(super) enum Decoder {
    Opus(Box<opus::Decoder>),
    G722(Box<g722::Decoder>),
    Pcma,
    Pcmu,
}

impl Decoder {
    pub(super) fn new(codec: LegCodec) -> Self {
        match codec {
            LegCodec::Opus => Self::Opus(Box::default()),
            LegCodec::G722 => Self::G722(Box::default()),
            LegCodec::Pcma => Self::Pcma,
            LegCodec::Pcmu => Self::Pcmu,
        }
    }

    /// Decodes a packet into `output`, replacing its content; `false` when the packet is broken.
    pub(super) fn decode(&mut self, payload: &[u8], output: &mut Vec<f32>) -> bool {
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

    pub(super) fn opus(&mut self) -> Option<&mut opus::Decoder> {
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
