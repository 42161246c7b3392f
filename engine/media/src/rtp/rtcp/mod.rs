//! RTCP: compound packets of RFC 3550 §6 with the feedback of RFC 4585 and RFC 5104.
//!
//! Reading borrows from the packet and never allocates; what a packet makes a caller
//! loop over is bounded by its length. Reduced-size packets (RFC 5506) are accepted.

mod read;
mod write;

use std::time::Duration;

pub use read::{Chunks, Feedback, Fir, FirEntries, Nack, NackSequences, Remb, ReportBlocks};
pub use read::{Compound, RtcpPacket, Sources};
pub use write::RtcpWriter;

/// Packet types (RFC 3550 §12.1, RFC 4585 §6.1).
pub(super) mod packet_type {
    pub(in super::super) const SENDER_REPORT: u8 = 200;
    pub(in super::super) const RECEIVER_REPORT: u8 = 201;
    pub(in super::super) const SOURCE_DESCRIPTION: u8 = 202;
    pub(in super::super) const GOODBYE: u8 = 203;
    pub(in super::super) const TRANSPORT_FEEDBACK: u8 = 205;
    pub(in super::super) const PAYLOAD_FEEDBACK: u8 = 206;
}

/// Feedback message types within 205 and 206 (RFC 4585 §6.2 and §6.3, RFC 5104 §4.3.1).
pub(super) mod format {
    pub(in super::super) const NACK: u8 = 1;
    pub(in super::super) const TRANSPORT_WIDE: u8 = 15;
    pub(in super::super) const PLI: u8 = 1;
    pub(in super::super) const FIR: u8 = 4;
    pub(in super::super) const APPLICATION_LAYER: u8 = 15;
}

/// Why a packet is not RTCP. Packets are dropped and counted under this reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(u8)]
pub enum RtcpError {
    /// Fewer than the 4 bytes of a header, or an empty packet.
    #[error("shorter than a header")]
    Short,
    /// Longer than any packet we accept.
    #[error("longer than any packet we accept")]
    Long,
    /// The version field is not 2.
    #[error("version is not 2")]
    Version,
    /// A length field runs past the end.
    #[error("length runs past the end")]
    Length,
    /// A padding count that does not fit, or padding before the last packet.
    #[error("padding count does not fit")]
    Padding,
    /// A count of blocks, sources or chunks that does not fit the length.
    #[error("count does not fit the length")]
    Count,
    /// A feedback message whose content contradicts itself.
    #[error("feedback message contradicts itself")]
    Feedback,
}

impl RtcpError {
    /// Every reason, in the order of their `as u8` index: one counter each.
    pub const ALL: [RtcpError; 7] = [
        RtcpError::Short,
        RtcpError::Long,
        RtcpError::Version,
        RtcpError::Length,
        RtcpError::Padding,
        RtcpError::Count,
        RtcpError::Feedback,
    ];
}

/// Sender information of a sender report (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderReport {
    /// Who reports.
    pub ssrc: u32,
    /// Wall clock of the sender when the report left.
    pub ntp: NtpTime,
    /// The same instant on the media clock.
    pub rtp_timestamp: u32,
    /// Packets sent since the start.
    pub packets: u32,
    /// Payload bytes sent since the start.
    pub octets: u32,
}

/// Reception report block (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ReportBlock {
    /// The stream reported on.
    pub ssrc: u32,
    /// Lost packets of the last interval, in 256ths of those expected.
    pub fraction_lost: u8,
    /// Lost packets since the start, 24 bits signed.
    pub cumulative_lost: i32,
    /// Highest sequence number received, with its count of cycles above.
    pub highest_sequence: u32,
    /// Interarrival jitter, in units of the media clock.
    pub jitter: u32,
    /// [`NtpTime::middle`] of the last sender report received, 0 for none.
    pub last_sender_report: u32,
    /// Time since that report arrived, in 65,536ths of a second.
    pub delay: u32,
}

impl ReportBlock {
    /// Round-trip time, by the middle bits of our clock when the report arrived
    /// (RFC 3550 §6.4.1). `None` without a sender report or when clocks jumped.
    pub fn round_trip(&self, now: NtpTime) -> Option<Duration> {
        if self.last_sender_report == 0 {
            return None;
        }
        let units = now
            .middle()
            .wrapping_sub(self.last_sender_report)
            .wrapping_sub(self.delay) as i32;
        // Rounding at both ends can make a short trip slightly negative.
        if units < -66 {
            return None;
        }
        Some(Duration::from_micros(
            units.max(0) as u64 * 1_000_000 / 65_536,
        ))
    }
}

/// NTP timestamp: seconds since 1900 in 32.32 fixed point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct NtpTime(pub u64);

/// Seconds from the NTP to the Unix era.
const NTP_UNIX_OFFSET: u64 = 2_208_988_800;

impl NtpTime {
    /// From the time since the Unix era.
    pub fn from_unix(since: Duration) -> Self {
        let seconds = since.as_secs().wrapping_add(NTP_UNIX_OFFSET);
        let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
        NtpTime((seconds << 32) | fraction)
    }

    /// The middle 32 bits, as report blocks refer to it.
    pub fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }
}
