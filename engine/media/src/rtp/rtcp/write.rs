//! Writing compound packets into a caller's buffer. See the parent module.

use super::super::packet::WriteError;
use super::super::twcc::Arrivals;
use super::{Feedback, ReportBlock, SenderReport, format, packet_type};

/// Appends packets to a buffer; a packet that does not fit leaves the buffer as it was.
///
/// Nothing is reserved for an SRTCP trailer: leave room behind [`Self::len`].
#[derive(Debug)]
pub struct RtcpWriter<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

impl<'a> RtcpWriter<'a> {
    /// An empty compound packet in `buffer`.
    pub fn new(buffer: &'a mut [u8]) -> Self {
        RtcpWriter { buffer, len: 0 }
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes still free.
    pub fn room(&self) -> usize {
        self.buffer.len() - self.len
    }

    /// SR with at most 31 report blocks.
    pub fn sender_report(
        &mut self,
        report: &SenderReport,
        blocks: &[ReportBlock],
    ) -> Result<(), WriteError> {
        self.packet(packet_type::SENDER_REPORT, blocks.len(), |body| {
            body.word(report.ssrc)?;
            body.word((report.ntp.0 >> 32) as u32)?;
            body.word(report.ntp.0 as u32)?;
            body.word(report.rtp_timestamp)?;
            body.word(report.packets)?;
            body.word(report.octets)?;
            blocks.iter().try_for_each(|block| body.report_block(block))
        })
    }

    /// RR with at most 31 report blocks.
    pub fn receiver_report(&mut self, ssrc: u32, blocks: &[ReportBlock]) -> Result<(), WriteError> {
        self.packet(packet_type::RECEIVER_REPORT, blocks.len(), |body| {
            body.word(ssrc)?;
            blocks.iter().try_for_each(|block| body.report_block(block))
        })
    }

    /// SDES with the canonical name of one source, 255 bytes at most.
    pub fn canonical_name(&mut self, ssrc: u32, name: &str) -> Result<(), WriteError> {
        let len = u8::try_from(name.len()).map_err(|_| WriteError::Range)?;
        self.packet(packet_type::SOURCE_DESCRIPTION, 1, |body| {
            body.word(ssrc)?;
            body.bytes(&[1, len])?;
            body.bytes(name.as_bytes())?;
            // At least one zero byte ends the items, up to a 32-bit boundary.
            body.bytes(&[0; 4][..4 - (2 + name.len()) % 4])
        })
    }

    /// BYE of at most 31 sources.
    pub fn goodbye(&mut self, sources: &[u32]) -> Result<(), WriteError> {
        self.packet(packet_type::GOODBYE, sources.len(), |body| {
            sources.iter().try_for_each(|source| body.word(*source))
        })
    }

    /// Generic NACK of `sequences`, packed best when they ascend. Writes nothing when there
    /// are none.
    pub fn nack(
        &mut self,
        parties: Feedback,
        sequences: impl IntoIterator<Item = u16>,
    ) -> Result<(), WriteError> {
        let mut sequences = sequences.into_iter();
        let Some(first) = sequences.next() else {
            return Ok(());
        };
        self.packet(
            packet_type::TRANSPORT_FEEDBACK,
            usize::from(format::NACK),
            |body| {
                body.parties(parties)?;
                let (mut base, mut following) = (first, 0u16);
                for sequence in sequences {
                    match sequence.wrapping_sub(base) {
                        0 => {}
                        distance @ 1..=16 => following |= 1 << (distance - 1),
                        _ => {
                            body.word((u32::from(base) << 16) | u32::from(following))?;
                            (base, following) = (sequence, 0);
                        }
                    }
                }
                body.word((u32::from(base) << 16) | u32::from(following))
            },
        )
    }

    /// PLI.
    pub fn pli(&mut self, parties: Feedback) -> Result<(), WriteError> {
        self.packet(
            packet_type::PAYLOAD_FEEDBACK,
            usize::from(format::PLI),
            |body| body.parties(parties),
        )
    }

    /// FIR for one stream; `command` grows by one with each new request and stays on repeats.
    pub fn fir(&mut self, sender: u32, media: u32, command: u8) -> Result<(), WriteError> {
        self.packet(
            packet_type::PAYLOAD_FEEDBACK,
            usize::from(format::FIR),
            |body| {
                body.parties(Feedback { sender, media: 0 })?;
                body.word(media)?;
                body.bytes(&[command, 0, 0, 0])
            },
        )
    }

    /// Feedback on the packets in `arrivals` not yet reported, as many as fit. False: there
    /// was nothing to report, and nothing was written.
    pub fn transport_feedback(
        &mut self,
        parties: Feedback,
        arrivals: &mut Arrivals,
    ) -> Result<bool, WriteError> {
        if !arrivals.is_pending() {
            return Ok(false);
        }
        let fmt = usize::from(format::TRANSPORT_WIDE);
        self.packet(packet_type::TRANSPORT_FEEDBACK, fmt, |body| {
            body.parties(parties)?;
            let start = body.len;
            body.len += arrivals.write(&mut body.buffer[start..])?;
            Ok(())
        })?;
        Ok(true)
    }

    fn packet(
        &mut self,
        packet_type: u8,
        count: usize,
        body: impl FnOnce(&mut Body<'_>) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        if count > 31 {
            return Err(WriteError::Range);
        }
        let mut packet = Body {
            buffer: &mut self.buffer[self.len..],
            len: 0,
        };
        packet.bytes(&[0x80 | count as u8, packet_type, 0, 0])?;
        body(&mut packet)?;
        let len = packet.len;
        debug_assert!(len.is_multiple_of(4), "RTCP packets are whole words");
        let words = u16::try_from(len / 4 - 1).map_err(|_| WriteError::Range)?;
        packet.buffer[2..4].copy_from_slice(&words.to_be_bytes());
        self.len += len;
        Ok(())
    }
}

struct Body<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

impl Body<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let end = self.len + bytes.len();
        let Some(room) = self.buffer.get_mut(self.len..end) else {
            return Err(WriteError::Full);
        };
        room.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    fn word(&mut self, word: u32) -> Result<(), WriteError> {
        self.bytes(&word.to_be_bytes())
    }

    fn parties(&mut self, parties: Feedback) -> Result<(), WriteError> {
        self.word(parties.sender)?;
        self.word(parties.media)
    }

    fn report_block(&mut self, block: &ReportBlock) -> Result<(), WriteError> {
        // The field saturates (RFC 3550 A.3).
        let lost = block.cumulative_lost.clamp(-0x80_0000, 0x7F_FFFF) as u32 & 0xFF_FFFF;
        self.word(block.ssrc)?;
        self.word((u32::from(block.fraction_lost) << 24) | lost)?;
        self.word(block.highest_sequence)?;
        self.word(block.jitter)?;
        self.word(block.last_sender_report)?;
        self.word(block.delay)
    }
}
