//! Parsing compound packets. See the parent module.

use super::super::packet::MAX_PACKET;
use super::super::twcc::TransportFeedback;
use super::{NtpTime, ReportBlock, RtcpError, SenderReport, format, packet_type};

/// A compound packet whose framing was checked: versions, lengths, padding.
#[derive(Clone, Copy, Debug)]
pub struct Compound<'a> {
    packets: &'a [u8],
}

impl<'a> Compound<'a> {
    /// Checks the framing of every packet (RFC 3550 A.2, without its demand that a report
    /// comes first: RFC 5506).
    pub fn parse(packets: &'a [u8]) -> Result<Self, RtcpError> {
        if packets.is_empty() {
            return Err(RtcpError::Short);
        }
        if packets.len() > MAX_PACKET {
            return Err(RtcpError::Long);
        }
        let mut rest = packets;
        while !rest.is_empty() {
            let (packet, next) = split_first(rest)?;
            if packet[0] & 0x20 != 0 {
                let count = usize::from(packet[packet.len() - 1]);
                let fits = count != 0 && count.is_multiple_of(4) && count <= packet.len() - 4;
                if !next.is_empty() || !fits {
                    return Err(RtcpError::Padding);
                }
            }
            rest = next;
        }
        Ok(Compound { packets })
    }

    /// The packets in order. A packet with a bad body is an error of its own and does not
    /// end the iteration.
    pub fn iter(&self) -> Packets<'a> {
        Packets { rest: self.packets }
    }
}

impl<'a> IntoIterator for &Compound<'a> {
    type Item = Result<RtcpPacket<'a>, RtcpError>;
    type IntoIter = Packets<'a>;

    fn into_iter(self) -> Packets<'a> {
        self.iter()
    }
}

fn split_first(bytes: &[u8]) -> Result<(&[u8], &[u8]), RtcpError> {
    let Some(header) = bytes.first_chunk::<4>() else {
        return Err(RtcpError::Short);
    };
    if header[0] >> 6 != 2 {
        return Err(RtcpError::Version);
    }
    let len = 4 * (usize::from(u16::from_be_bytes([header[2], header[3]])) + 1);
    bytes.split_at_checked(len).ok_or(RtcpError::Length)
}

/// Iterates over the packets of a [`Compound`].
#[derive(Clone, Debug)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<RtcpPacket<'a>, RtcpError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let (packet, rest) = split_first(self.rest).expect("framing was checked");
        self.rest = rest;
        Some(RtcpPacket::parse(packet))
    }
}

/// One packet of a compound.
#[derive(Clone, Debug)]
pub enum RtcpPacket<'a> {
    /// SR, with its report blocks.
    SenderReport(SenderReport, ReportBlocks<'a>),
    /// RR of `ssrc`, with its report blocks.
    ReceiverReport {
        /// Who reports.
        ssrc: u32,
        /// What it received.
        blocks: ReportBlocks<'a>,
    },
    /// SDES: canonical names of sources.
    SourceDescription(Chunks<'a>),
    /// BYE: sources that leave.
    Goodbye(Sources<'a>),
    /// Generic NACK (RFC 4585 §6.2.1).
    Nack(Nack<'a>),
    /// Picture loss indication (RFC 4585 §6.3.1).
    Pli(Feedback),
    /// Full intra request (RFC 5104 §4.3.1).
    Fir(Fir<'a>),
    /// Receiver estimated maximum bitrate (draft-alvestrand-rmcat-remb-03).
    Remb(Remb<'a>),
    /// Transport-wide congestion control feedback.
    TransportFeedback(TransportFeedback<'a>),
    /// APP, XR, or anything else of this packet type: well framed, not looked at.
    Other {
        /// Packet type.
        packet_type: u8,
        /// Count or format field.
        format: u8,
    },
}

impl<'a> RtcpPacket<'a> {
    /// `packet` has the framing of [`Compound::parse`].
    fn parse(packet: &'a [u8]) -> Result<Self, RtcpError> {
        let count = packet[0] & 0x1F;
        let mut body = &packet[4..];
        if packet[0] & 0x20 != 0 {
            let padding = usize::from(packet[packet.len() - 1]);
            let Some(len) = body.len().checked_sub(padding) else {
                return Err(RtcpError::Padding);
            };
            body = &body[..len];
        }
        match packet[1] {
            packet_type::SENDER_REPORT => {
                let (fixed, rest) = body.split_first_chunk::<24>().ok_or(RtcpError::Count)?;
                let report = SenderReport {
                    ssrc: word(fixed, 0),
                    ntp: NtpTime((u64::from(word(fixed, 4)) << 32) | u64::from(word(fixed, 8))),
                    rtp_timestamp: word(fixed, 12),
                    packets: word(fixed, 16),
                    octets: word(fixed, 20),
                };
                Ok(RtcpPacket::SenderReport(
                    report,
                    ReportBlocks::parse(count, rest)?,
                ))
            }
            packet_type::RECEIVER_REPORT => {
                let (fixed, rest) = body.split_first_chunk::<4>().ok_or(RtcpError::Count)?;
                let blocks = ReportBlocks::parse(count, rest)?;
                Ok(RtcpPacket::ReceiverReport {
                    ssrc: u32::from_be_bytes(*fixed),
                    blocks,
                })
            }
            packet_type::SOURCE_DESCRIPTION => Ok(RtcpPacket::SourceDescription(Chunks {
                rest: body,
                left: count,
            })),
            packet_type::GOODBYE => {
                let sources = body.get(..4 * usize::from(count)).ok_or(RtcpError::Count)?;
                Ok(RtcpPacket::Goodbye(Sources { words: sources }))
            }
            packet_type::TRANSPORT_FEEDBACK | packet_type::PAYLOAD_FEEDBACK => {
                Self::parse_feedback(packet[1], count, body)
            }
            packet_type => Ok(RtcpPacket::Other {
                packet_type,
                format: count,
            }),
        }
    }

    fn parse_feedback(packet_type: u8, fmt: u8, body: &'a [u8]) -> Result<Self, RtcpError> {
        let (fixed, fci) = body.split_first_chunk::<8>().ok_or(RtcpError::Count)?;
        let parties = Feedback {
            sender: word(fixed, 0),
            media: word(fixed, 4),
        };
        match (packet_type, fmt) {
            (packet_type::TRANSPORT_FEEDBACK, format::NACK) => {
                if fci.is_empty() || !fci.len().is_multiple_of(4) {
                    return Err(RtcpError::Feedback);
                }
                Ok(RtcpPacket::Nack(Nack {
                    parties,
                    entries: fci,
                }))
            }
            (packet_type::TRANSPORT_FEEDBACK, format::TRANSPORT_WIDE) => {
                TransportFeedback::parse(parties, fci).map(RtcpPacket::TransportFeedback)
            }
            (packet_type::PAYLOAD_FEEDBACK, format::PLI) => Ok(RtcpPacket::Pli(parties)),
            (packet_type::PAYLOAD_FEEDBACK, format::FIR) => {
                if fci.is_empty() || !fci.len().is_multiple_of(8) {
                    return Err(RtcpError::Feedback);
                }
                Ok(RtcpPacket::Fir(Fir {
                    parties,
                    entries: fci,
                }))
            }
            (packet_type::PAYLOAD_FEEDBACK, format::APPLICATION_LAYER)
                if fci.starts_with(b"REMB") =>
            {
                let (fixed, sources) = fci.split_first_chunk::<8>().ok_or(RtcpError::Feedback)?;
                let sources = sources
                    .get(..4 * usize::from(fixed[4]))
                    .ok_or(RtcpError::Feedback)?;
                let exponent = u32::from(fixed[5] >> 2);
                let mantissa = u64::from(word(fixed, 4) & 0x3_FFFF);
                // A rate above 64 bits is no limit at all.
                let bitrate = match mantissa {
                    0 => 0,
                    _ if exponent > mantissa.leading_zeros() => u64::MAX,
                    _ => mantissa << exponent,
                };
                let sources = Sources { words: sources };
                Ok(RtcpPacket::Remb(Remb {
                    sender: parties.sender,
                    bitrate,
                    sources,
                }))
            }
            _ => Ok(RtcpPacket::Other {
                packet_type,
                format: fmt,
            }),
        }
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The two SSRCs in front of every feedback message (RFC 4585 §6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feedback {
    /// Who sends the message.
    pub sender: u32,
    /// The media source it is about; 0 in messages that name it elsewhere.
    pub media: u32,
}

/// Iterates over report blocks.
#[derive(Clone, Debug)]
pub struct ReportBlocks<'a> {
    blocks: &'a [u8],
}

impl<'a> ReportBlocks<'a> {
    fn parse(count: u8, body: &'a [u8]) -> Result<Self, RtcpError> {
        // What follows the blocks is a profile-specific extension (RFC 3550 §6.4.3): skipped.
        let blocks = body
            .get(..24 * usize::from(count))
            .ok_or(RtcpError::Count)?;
        Ok(ReportBlocks { blocks })
    }
}

impl Iterator for ReportBlocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let (block, rest) = self.blocks.split_first_chunk::<24>()?;
        self.blocks = rest;
        let lost = word(block, 4);
        Some(ReportBlock {
            ssrc: word(block, 0),
            fraction_lost: (lost >> 24) as u8,
            // Sign extension of the lower 24 bits.
            cumulative_lost: ((lost << 8) as i32) >> 8,
            highest_sequence: word(block, 8),
            jitter: word(block, 12),
            last_sender_report: word(block, 16),
            delay: word(block, 20),
        })
    }
}

/// Iterates over source identifiers.
#[derive(Clone, Debug)]
pub struct Sources<'a> {
    words: &'a [u8],
}

impl Iterator for Sources<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let (source, rest) = self.words.split_first_chunk::<4>()?;
        self.words = rest;
        Some(u32::from_be_bytes(*source))
    }
}

/// Iterates over the canonical names of a source description (RFC 3550 §6.5.1).
///
/// Chunks without a canonical name and other items are skipped; a chunk cut short ends it.
#[derive(Clone, Debug)]
pub struct Chunks<'a> {
    rest: &'a [u8],
    left: u8,
}

impl<'a> Iterator for Chunks<'a> {
    type Item = (u32, &'a [u8]);

    fn next(&mut self) -> Option<(u32, &'a [u8])> {
        while self.left > 0 {
            self.left -= 1;
            let (source, items) = self.rest.split_first_chunk::<4>()?;
            let mut at = 0;
            let mut name = None;
            loop {
                match *items.get(at)? {
                    0 => break,
                    kind => {
                        let len = usize::from(*items.get(at + 1)?);
                        let value = items.get(at + 2..at + 2 + len)?;
                        if kind == 1 && name.is_none() {
                            name = Some(value);
                        }
                        at += 2 + len;
                    }
                }
            }
            // The list ends with one to four zero bytes, up to a 32-bit boundary.
            self.rest = items.get((at / 4 + 1) * 4..).unwrap_or_default();
            if let Some(name) = name {
                return Some((u32::from_be_bytes(*source), name));
            }
        }
        None
    }
}

/// Generic NACK.
#[derive(Clone, Copy, Debug)]
pub struct Nack<'a> {
    /// Who asks, and for which stream.
    pub parties: Feedback,
    entries: &'a [u8],
}

impl<'a> Nack<'a> {
    /// The sequence numbers asked for, at most 17 for each 4 bytes.
    pub fn sequences(&self) -> NackSequences<'a> {
        NackSequences {
            entries: self.entries,
            base: 0,
            pending: 0,
        }
    }
}

/// Iterates over the sequence numbers of a [`Nack`].
#[derive(Clone, Debug)]
pub struct NackSequences<'a> {
    entries: &'a [u8],
    base: u16,
    /// Bit n: `base + n` is still to be given.
    pending: u32,
}

impl Iterator for NackSequences<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if self.pending == 0 {
            let (entry, rest) = self.entries.split_first_chunk::<4>()?;
            self.entries = rest;
            self.base = u16::from_be_bytes([entry[0], entry[1]]);
            self.pending = (u32::from(u16::from_be_bytes([entry[2], entry[3]])) << 1) | 1;
        }
        let bit = self.pending.trailing_zeros();
        self.pending &= self.pending - 1;
        Some(self.base.wrapping_add(bit as u16))
    }
}

/// Full intra request.
#[derive(Clone, Copy, Debug)]
pub struct Fir<'a> {
    /// Who asks; the media source is in the entries.
    pub parties: Feedback,
    entries: &'a [u8],
}

impl<'a> Fir<'a> {
    /// The streams asked for, each with the command sequence number that tells repeats.
    pub fn entries(&self) -> FirEntries<'a> {
        FirEntries {
            entries: self.entries,
        }
    }
}

/// Iterates over (SSRC, command sequence number) of a [`Fir`].
#[derive(Clone, Debug)]
pub struct FirEntries<'a> {
    entries: &'a [u8],
}

impl Iterator for FirEntries<'_> {
    type Item = (u32, u8);

    fn next(&mut self) -> Option<(u32, u8)> {
        let (entry, rest) = self.entries.split_first_chunk::<8>()?;
        self.entries = rest;
        Some((word(entry, 0), entry[4]))
    }
}

/// Receiver estimated maximum bitrate.
#[derive(Clone, Debug)]
pub struct Remb<'a> {
    /// Who estimates.
    pub sender: u32,
    /// Bits per second for all sources together.
    pub bitrate: u64,
    /// The sources it is about.
    pub sources: Sources<'a>,
}
