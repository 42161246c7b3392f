//! RTP header extension elements (RFC 8285) and the ones we read and write.
//!
//! Which id means what is negotiated per session ([`ExtensionIds`]); this file never guesses.

use std::fmt;
use std::time::Duration;

use super::packet::{ONE_BYTE, RtpHeader, TWO_BYTE, WriteError};

/// The two encodings of elements in an extension block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExtensionForm {
    /// Ids 1 to 14, values of 1 to 16 bytes (RFC 8285 §4.2).
    #[default]
    OneByte,
    /// Ids 1 to 255, values of 0 to 255 bytes (RFC 8285 §4.3).
    TwoByte,
}

/// The one or two bytes in front of an element's value.
#[derive(Clone, Copy)]
pub(super) struct ElementHeader {
    bytes: [u8; 2],
    len: u8,
}

impl ElementHeader {
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }
}

impl ExtensionForm {
    pub(super) fn profile(self) -> u16 {
        match self {
            ExtensionForm::OneByte => ONE_BYTE,
            ExtensionForm::TwoByte => TWO_BYTE,
        }
    }

    pub(super) fn element_header(self, id: u8, len: usize) -> Result<ElementHeader, WriteError> {
        match self {
            ExtensionForm::OneByte if (1..=14).contains(&id) && (1..=16).contains(&len) => {
                Ok(ElementHeader {
                    bytes: [(id << 4) | (len as u8 - 1), 0],
                    len: 1,
                })
            }
            ExtensionForm::TwoByte if id >= 1 && len <= 255 => Ok(ElementHeader {
                bytes: [id, len as u8],
                len: 2,
            }),
            _ => Err(WriteError::Element),
        }
    }
}

/// One element: its local id and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    /// Negotiated local identifier.
    pub id: u8,
    /// The element's value.
    pub value: &'a [u8],
}

/// Iterates over the elements of an extension block of either form.
///
/// A truncated element or the reserved id 15 of the one-byte form ends the iteration
/// (RFC 8285 §4.2): earlier elements stay usable, the packet is not refused.
#[derive(Clone, Debug)]
pub struct Extensions<'a> {
    rest: &'a [u8],
    form: ExtensionForm,
}

impl<'a> Extensions<'a> {
    /// Elements in `block` under the profile word `profile`; none for an unknown profile.
    pub fn new(profile: u16, block: &'a [u8]) -> Self {
        match profile {
            ONE_BYTE => Extensions {
                rest: block,
                form: ExtensionForm::OneByte,
            },
            word if word & 0xFFF0 == TWO_BYTE => Extensions {
                rest: block,
                form: ExtensionForm::TwoByte,
            },
            _ => Self::none(),
        }
    }

    /// No element.
    pub fn none() -> Self {
        Extensions {
            rest: &[],
            form: ExtensionForm::OneByte,
        }
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = Extension<'a>;

    fn next(&mut self) -> Option<Extension<'a>> {
        loop {
            let (&first, rest) = self.rest.split_first()?;
            if first == 0 {
                self.rest = rest;
                continue;
            }
            let (id, len, rest) = match self.form {
                ExtensionForm::OneByte => (first >> 4, usize::from(first & 0x0F) + 1, rest),
                ExtensionForm::TwoByte => match rest.split_first() {
                    Some((&len, rest)) => (first, usize::from(len), rest),
                    None => {
                        self.rest = &[];
                        return None;
                    }
                },
            };
            let reserved = self.form == ExtensionForm::OneByte && id == 15;
            if reserved || rest.len() < len {
                self.rest = &[];
                return None;
            }
            let (value, rest) = rest.split_at(len);
            self.rest = rest;
            // One-byte id 0 with a length is padding by RFC 8285 §4.2: skipped with its value.
            if id == 0 {
                continue;
            }
            return Some(Extension { id, value });
        }
    }
}

/// Local ids of the extensions in use on one session, by negotiation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ExtensionIds {
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level` (RFC 6464).
    pub audio_level: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:mid` (RFC 9143).
    pub mid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id` (RFC 8852).
    pub rid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id` (RFC 8852).
    pub repaired_rid: Option<u8>,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time`.
    pub abs_send_time: Option<u8>,
    /// `http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01`.
    pub transport_cc: Option<u8>,
}

/// Values of the elements we know, read in one pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtensionValues {
    /// Level of the audio in this packet.
    pub audio_level: Option<AudioLevel>,
    /// The media section the packet belongs to.
    pub mid: Option<Mid>,
    /// The simulcast encoding the packet belongs to.
    pub rid: Option<Rid>,
    /// The simulcast encoding a retransmission belongs to.
    pub repaired_rid: Option<Rid>,
    /// When the sender handed the packet to its network.
    pub abs_send_time: Option<AbsSendTime>,
    /// Transport-wide sequence number.
    pub transport_sequence: Option<u16>,
}

impl ExtensionValues {
    /// Reads the elements that `ids` names; a value of the wrong length counts as absent.
    pub fn read(header: &RtpHeader, packet: &[u8], ids: &ExtensionIds) -> Self {
        let mut values = ExtensionValues::default();
        for Extension { id, value } in header.extensions(packet) {
            let id = Some(id);
            if id == ids.transport_cc {
                values.transport_sequence = value
                    .first_chunk::<2>()
                    .map(|bytes| u16::from_be_bytes(*bytes));
            } else if id == ids.abs_send_time {
                values.abs_send_time = AbsSendTime::read(value);
            } else if id == ids.audio_level {
                values.audio_level = AudioLevel::read(value);
            } else if id == ids.mid {
                values.mid = Label::read(value);
            } else if id == ids.rid {
                values.rid = Label::read(value);
            } else if id == ids.repaired_rid {
                values.repaired_rid = Label::read(value);
            }
        }
        values
    }
}

/// Client-to-mixer audio level (RFC 6464).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AudioLevel {
    /// The sender's voice activity flag.
    pub voice: bool,
    /// Loudness in -dBov: 0 is the loudest, 127 is silence.
    pub level: u8,
}

impl AudioLevel {
    /// Reads an element's value; only its first byte counts.
    pub fn read(value: &[u8]) -> Option<Self> {
        let &byte = value.first()?;
        Some(AudioLevel {
            voice: byte & 0x80 != 0,
            level: byte & 0x7F,
        })
    }

    /// The element's value; a level above 127 is written as silence.
    pub fn to_bytes(self) -> [u8; 1] {
        [(u8::from(self.voice) << 7) | self.level.min(127)]
    }
}

/// Absolute send time: seconds modulo 64 in 6.18 fixed point (24 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AbsSendTime(pub u32);

impl AbsSendTime {
    /// From the time since any fixed instant: receivers use differences only.
    pub fn from_elapsed(elapsed: Duration) -> Self {
        let seconds = (elapsed.as_secs() & 0x3F) as u32;
        let fraction = (u64::from(elapsed.subsec_nanos()) << 18) / 1_000_000_000;
        AbsSendTime((seconds << 18) | fraction as u32)
    }

    /// Reads an element's value.
    pub fn read(value: &[u8]) -> Option<Self> {
        let bytes: &[u8; 3] = value.try_into().ok()?;
        Some(AbsSendTime(u32::from_be_bytes([
            0, bytes[0], bytes[1], bytes[2],
        ])))
    }

    /// The element's value.
    pub fn to_bytes(self) -> [u8; 3] {
        let [_, bytes @ ..] = self.0.to_be_bytes();
        bytes
    }
}

/// A short SDES identifier kept in place: 1 to 16 visible ASCII bytes.
///
/// RFC 8852 §3.1 restricts rids to letters and digits and browsers write mids of one to
/// three digits; longer ones could not use the one-byte form and count as absent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label {
    bytes: [u8; 16],
    len: u8,
}

/// Identifier of a media section (RFC 9143).
pub type Mid = Label;
/// Identifier of a simulcast encoding (RFC 8851).
pub type Rid = Label;

impl Label {
    /// A label of these bytes, if they are 1 to 16 visible ASCII characters.
    pub fn read(value: &[u8]) -> Option<Self> {
        if value.is_empty() || value.len() > 16 || !value.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        let mut bytes = [0; 16];
        bytes[..value.len()].copy_from_slice(value);
        Some(Label {
            bytes,
            len: value.len() as u8,
        })
    }

    /// The label's text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("a label holds ASCII only")
    }

    /// The label's bytes, as an element's value.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl std::str::FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        Label::read(text.as_bytes()).ok_or(LabelError)
    }
}

/// Text that is not 1 to 16 visible ASCII characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not 1 to 16 visible ASCII characters")]
pub struct LabelError;
