//! The RTP packet of RFC 3550 §5: a parsed view of offsets and a streaming writer.
//!
//! Neither side owns bytes. Extension elements are read and written by [`super::ext`];
//! payload formats are none of this file's business.

use super::ext::{ExtensionForm, Extensions};

/// Length of the fixed header (RFC 3550 §5.1), in bytes.
pub const FIXED_HEADER: usize = 12;

/// Largest packet looked at, in bytes. Above any UDP payload that crosses an Ethernet
/// path, jumbo frames included; offsets then fit 16 bits.
pub const MAX_PACKET: usize = 16_384;

/// Profile word that announces one-byte extension elements (RFC 8285 §4.2).
pub(super) const ONE_BYTE: u16 = 0xBEDE;
/// Profile word of two-byte extension elements without its 4 application bits (RFC 8285 §4.3).
pub(super) const TWO_BYTE: u16 = 0x1000;

/// Why a packet is not RTP. Packets are dropped and counted under this reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(u8)]
pub enum RtpError {
    /// Fewer than the 12 bytes of the fixed header.
    #[error("shorter than the fixed header")]
    Short,
    /// Longer than [`MAX_PACKET`].
    #[error("longer than any packet we accept")]
    Long,
    /// The version field is not 2.
    #[error("version is not 2")]
    Version,
    /// The list of contributing sources runs past the end.
    #[error("list of contributing sources runs past the end")]
    Csrc,
    /// The header extension runs past the end.
    #[error("header extension runs past the end")]
    Extension,
    /// The padding count is zero or runs past the payload.
    #[error("padding count is zero or larger than the payload")]
    Padding,
    /// A retransmission without the original sequence number (RFC 4588 §4).
    #[error("retransmission without original sequence number")]
    Retransmission,
}

impl RtpError {
    /// Every reason, in the order of their `as u8` index: one counter each.
    pub const ALL: [RtpError; 7] = [
        RtpError::Short,
        RtpError::Long,
        RtpError::Version,
        RtpError::Csrc,
        RtpError::Extension,
        RtpError::Padding,
        RtpError::Retransmission,
    ];
}

/// A parsed RTP header: values of the fixed part and offsets of the rest.
///
/// Offsets are valid for the slice it was parsed from only; the accessors take that slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpHeader {
    /// Payload type, 0 to 127.
    pub payload_type: u8,
    /// Marker bit.
    pub marker: bool,
    /// Sequence number.
    pub sequence: u16,
    /// Media timestamp, in units of the codec's clock rate.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Number of contributing sources, 0 to 15.
    pub csrc_count: u8,
    /// The "defined by profile" word when the packet has a header extension.
    pub extension_profile: Option<u16>,
    /// First byte of the extension's elements.
    pub extension_start: u16,
    /// Length of header, contributing sources and extension: the clear part of an SRTP packet.
    pub header_len: u16,
    /// First byte of the payload: `header_len`, two more after [`super::rtx::decapsulate`].
    pub payload_start: u16,
    /// End of the payload; padding starts here.
    pub payload_end: u16,
    /// Padding after the payload, in bytes, its count byte included.
    pub padding: u8,
}

impl RtpHeader {
    /// Parses a plain packet, padding included (RFC 3550 §5.1).
    pub fn parse(packet: &[u8]) -> Result<Self, RtpError> {
        let mut header = Self::parse_protected(packet)?;
        if packet[0] & 0x20 != 0 {
            let count = packet[packet.len() - 1];
            let payload = packet.len() - usize::from(header.header_len);
            if count == 0 || usize::from(count) > payload {
                return Err(RtpError::Padding);
            }
            header.padding = count;
            header.payload_end -= u16::from(count);
        }
        Ok(header)
    }

    /// Parses the clear part of an SRTP packet (RFC 3711 §3.1): padding is encrypted, so it is
    /// neither checked nor taken off, and the payload still carries the authentication tag.
    pub fn parse_protected(packet: &[u8]) -> Result<Self, RtpError> {
        let Some(fixed) = packet.first_chunk::<FIXED_HEADER>() else {
            return Err(RtpError::Short);
        };
        if packet.len() > MAX_PACKET {
            return Err(RtpError::Long);
        }
        if fixed[0] >> 6 != 2 {
            return Err(RtpError::Version);
        }
        let csrc_count = fixed[0] & 0x0F;
        let mut header_len = FIXED_HEADER + 4 * usize::from(csrc_count);
        if packet.len() < header_len {
            return Err(RtpError::Csrc);
        }
        let mut extension_profile = None;
        let mut extension_start = header_len;
        if fixed[0] & 0x10 != 0 {
            let Some(word) = packet[header_len..].first_chunk::<4>() else {
                return Err(RtpError::Extension);
            };
            extension_profile = Some(u16::from_be_bytes([word[0], word[1]]));
            extension_start = header_len + 4;
            header_len = extension_start + 4 * usize::from(u16::from_be_bytes([word[2], word[3]]));
            if packet.len() < header_len {
                return Err(RtpError::Extension);
            }
        }
        Ok(RtpHeader {
            payload_type: fixed[1] & 0x7F,
            marker: fixed[1] & 0x80 != 0,
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
            csrc_count,
            extension_profile,
            extension_start: extension_start as u16,
            header_len: header_len as u16,
            payload_start: header_len as u16,
            payload_end: packet.len() as u16,
            padding: 0,
        })
    }

    /// The payload without padding.
    pub fn payload<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        &packet[usize::from(self.payload_start)..usize::from(self.payload_end)]
    }

    /// Length of the payload without padding, in bytes.
    pub fn payload_len(&self) -> usize {
        usize::from(self.payload_end - self.payload_start)
    }

    /// The header extension's elements (RFC 8285); none when there is no extension or its
    /// profile word is of neither form.
    pub fn extensions<'a>(&self, packet: &'a [u8]) -> Extensions<'a> {
        match self.extension_profile {
            Some(profile) => Extensions::new(
                profile,
                &packet[usize::from(self.extension_start)..usize::from(self.header_len)],
            ),
            None => Extensions::none(),
        }
    }

    /// Contributing sources, in order.
    pub fn csrcs<'a>(&self, packet: &'a [u8]) -> impl Iterator<Item = u32> + 'a {
        let end = FIXED_HEADER + 4 * usize::from(self.csrc_count);
        packet[FIXED_HEADER..end]
            .chunks_exact(4)
            .map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]]))
    }

    /// The fixed fields, to write the packet again.
    pub fn fields(&self) -> RtpFields {
        RtpFields {
            payload_type: self.payload_type,
            marker: self.marker,
            sequence: self.sequence,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
        }
    }
}

/// The fields of the fixed header a writer chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpFields {
    /// Payload type, 0 to 127; the high bit is ignored.
    pub payload_type: u8,
    /// Marker bit.
    pub marker: bool,
    /// Sequence number.
    pub sequence: u16,
    /// Media timestamp, in units of the codec's clock rate.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
}

/// Why a packet or report could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The buffer is too small.
    #[error("the buffer is too small")]
    Full,
    /// An extension id or length that its form cannot carry (RFC 8285 §4.2, §4.3).
    #[error("extension element does not fit its form")]
    Element,
    /// A part came after a later one, e.g. an extension after the payload.
    #[error("parts written out of order")]
    Order,
    /// A value its field cannot carry, e.g. more than 31 report blocks.
    #[error("value does not fit its field")]
    Range,
}

/// Writes one packet into a caller's buffer: sources, extension elements, payload, padding,
/// in that order; every part is optional.
///
/// Nothing is reserved for an SRTP tag: leave room behind the returned length.
#[derive(Debug)]
pub struct PacketWriter<'a> {
    buffer: &'a mut [u8],
    len: usize,
    stage: Stage,
    form: ExtensionForm,
    extension_start: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Sources,
    Extensions,
    Payload,
    Padded,
}

impl<'a> PacketWriter<'a> {
    /// Writes the fixed header. Elements will be written in `form`.
    pub fn start(
        buffer: &'a mut [u8],
        fields: &RtpFields,
        form: ExtensionForm,
    ) -> Result<Self, WriteError> {
        let Some(fixed) = buffer.first_chunk_mut::<FIXED_HEADER>() else {
            return Err(WriteError::Full);
        };
        fixed[0] = 0x80;
        fixed[1] = (fields.payload_type & 0x7F) | (u8::from(fields.marker) << 7);
        fixed[2..4].copy_from_slice(&fields.sequence.to_be_bytes());
        fixed[4..8].copy_from_slice(&fields.timestamp.to_be_bytes());
        fixed[8..12].copy_from_slice(&fields.ssrc.to_be_bytes());
        Ok(PacketWriter {
            buffer,
            len: FIXED_HEADER,
            stage: Stage::Sources,
            form,
            extension_start: 0,
        })
    }

    /// Appends a contributing source; at most 15.
    pub fn csrc(&mut self, source: u32) -> Result<(), WriteError> {
        if self.stage != Stage::Sources {
            return Err(WriteError::Order);
        }
        if self.buffer[0] & 0x0F == 0x0F {
            return Err(WriteError::Range);
        }
        self.append(&source.to_be_bytes())?;
        self.buffer[0] += 1;
        Ok(())
    }

    /// Appends an extension element, opening the extension block with the first.
    pub fn extension(&mut self, id: u8, value: &[u8]) -> Result<(), WriteError> {
        if self.stage > Stage::Extensions {
            return Err(WriteError::Order);
        }
        let element = self.form.element_header(id, value.len())?;
        let open = if self.stage == Stage::Sources { 4 } else { 0 };
        // Room for the last word's filling, so that closing the block cannot fail.
        if self.buffer.len() < self.len + open + element.len() + value.len() + 3 {
            return Err(WriteError::Full);
        }
        if self.stage == Stage::Sources {
            self.append(&self.form.profile().to_be_bytes())?;
            self.append(&[0, 0])?;
            self.extension_start = self.len;
            self.buffer[0] |= 0x10;
            self.stage = Stage::Extensions;
        }
        self.append(element.as_slice())?;
        self.append(value)
    }

    /// Appends bytes to the payload; call it once per contiguous part.
    pub fn payload(&mut self, part: &[u8]) -> Result<(), WriteError> {
        if self.stage > Stage::Payload {
            return Err(WriteError::Order);
        }
        self.close_extensions();
        self.stage = Stage::Payload;
        self.append(part)
    }

    /// Appends `count` bytes of padding, count byte included, and sets the padding bit.
    /// Zero adds nothing.
    pub fn pad(&mut self, count: u8) -> Result<(), WriteError> {
        if self.stage == Stage::Padded {
            return Err(WriteError::Order);
        }
        if count == 0 {
            return Ok(());
        }
        self.close_extensions();
        let end = self.len + usize::from(count);
        let Some(padding) = self.buffer.get_mut(self.len..end) else {
            return Err(WriteError::Full);
        };
        padding.fill(0);
        padding[usize::from(count) - 1] = count;
        self.buffer[0] |= 0x20;
        self.len = end;
        self.stage = Stage::Padded;
        Ok(())
    }

    /// Ends the packet; its length in bytes.
    pub fn finish(mut self) -> usize {
        self.close_extensions();
        self.len
    }

    fn close_extensions(&mut self) {
        if self.stage != Stage::Extensions {
            return;
        }
        while !(self.len - self.extension_start).is_multiple_of(4) {
            self.buffer[self.len] = 0;
            self.len += 1;
        }
        let words = ((self.len - self.extension_start) / 4) as u16;
        let start = self.extension_start;
        self.buffer[start - 2..start].copy_from_slice(&words.to_be_bytes());
        self.stage = Stage::Payload;
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let end = self.len + bytes.len();
        let Some(room) = self.buffer.get_mut(self.len..end) else {
            return Err(WriteError::Full);
        };
        room.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }
}
