//! Payload formats: audio codecs of the mixer, telephone events, and what the forwarder must read of video.
//!
//! Owns bits inside an RTP payload. It never sees a header, a clock or a room.

pub mod av1;
pub mod dtmf;
pub mod g711;
pub mod g722;
pub mod h264;
mod leg;
pub mod opus;
mod opus_state;
pub mod vp8;
pub mod vp9;

pub(crate) use leg::quantise;
pub use leg::{Decoder, Encoder};

/// Audio codec of a telephone leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LegCodec {
    /// RFC 7587, decoded and encoded at 48 kHz mono.
    Opus,
    /// ITU-T G.722 at 64 kbit/s: 16 kHz audio with an 8 kHz RTP clock (RFC 3551 §4.5.2).
    G722,
    /// ITU-T G.711 A-law.
    Pcma,
    /// ITU-T G.711 mu-law.
    Pcmu,
}

impl LegCodec {
    /// Sampling rate of the audio in Hz.
    pub const fn sample_rate(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            Self::G722 => 16_000,
            Self::Pcma | Self::Pcmu => 8_000,
        }
    }

    /// Rate of the RTP timestamp in Hz. G.722 keeps the 8 kHz of an old error (RFC 3551 §4.5.2).
    pub const fn clock_rate(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            Self::G722 | Self::Pcma | Self::Pcmu => 8_000,
        }
    }

    /// Static payload type (RFC 3551 table 4); Opus has none.
    pub const fn static_payload_type(self) -> Option<u8> {
        match self {
            Self::Opus => None,
            Self::G722 => Some(9),
            Self::Pcma => Some(8),
            Self::Pcmu => Some(0),
        }
    }
}
