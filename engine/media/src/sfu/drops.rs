//! Why packets were not used, and how often. Nothing is logged or answered for them.

use crate::rtp::RtpError;
use crate::rtp::rtcp::RtcpError;
use crate::srtp::SrtpError;
use crate::transport::DatagramRefusal;

/// Why a datagram, or the media in it, was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// Neither STUN, DTLS, RTP nor RTCP by its first bytes (RFC 7983).
    Unclassified,
    /// A STUN message without a usable user name.
    StunUser,
    /// Refused by the session's transport.
    Transport(DatagramRefusal),
    /// Media before the DTLS handshake is complete.
    NoKeys,
    /// Not RTP.
    Rtp(RtpError),
    /// SRTP authentication failed.
    Authentication,
    /// An SRTP or SRTCP packet came twice.
    Replayed,
    /// Older than the replay window.
    Old,
    /// More streams than a session may have.
    TooManyStreams,
    /// Other SRTP failure.
    Srtp,
    /// Not RTCP.
    Rtcp(RtcpError),
    /// No track goes with this SSRC, media section or payload type.
    UnknownStream,
    /// A payload type that was not negotiated for its track.
    PayloadType,
    /// The payload is longer than [`super::packet::MAX_PAYLOAD`].
    Oversize,
    /// Came twice, original and retransmission, or after it was given up.
    Duplicate,
    /// A probe's padding on the retransmission stream.
    Probe,
    /// Of a muted track.
    Muted,
}

impl DropReason {
    /// Number of reasons: the length of a table of counters.
    pub const COUNT: usize = 14 + 9 + RtpError::ALL.len() + RtcpError::ALL.len();

    /// Its place in a table of counters.
    pub fn index(self) -> usize {
        const TRANSPORT: usize = 14;
        const RTP: usize = TRANSPORT + 9;
        const RTCP: usize = RTP + RtpError::ALL.len();
        match self {
            DropReason::Unclassified => 0,
            DropReason::StunUser => 1,
            DropReason::NoKeys => 2,
            DropReason::Authentication => 3,
            DropReason::Replayed => 4,
            DropReason::Old => 5,
            DropReason::TooManyStreams => 6,
            DropReason::Srtp => 7,
            DropReason::UnknownStream => 8,
            DropReason::PayloadType => 9,
            DropReason::Oversize => 10,
            DropReason::Duplicate => 11,
            DropReason::Probe => 12,
            DropReason::Muted => 13,
            DropReason::Transport(refusal) => TRANSPORT + refusal as usize,
            DropReason::Rtp(error) => RTP + error as usize,
            DropReason::Rtcp(error) => RTCP + error as usize,
        }
    }

    /// Its name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            DropReason::Unclassified => "unclassified",
            DropReason::StunUser => "stun_user",
            DropReason::NoKeys => "no_keys",
            DropReason::Authentication => "authentication",
            DropReason::Replayed => "replayed",
            DropReason::Old => "old",
            DropReason::TooManyStreams => "too_many_streams",
            DropReason::Srtp => "srtp",
            DropReason::UnknownStream => "unknown_stream",
            DropReason::PayloadType => "payload_type",
            DropReason::Oversize => "oversize",
            DropReason::Duplicate => "duplicate",
            DropReason::Probe => "probe",
            DropReason::Muted => "muted",
            DropReason::Transport(refusal) => refusal.as_str(),
            DropReason::Rtp(RtpError::Short) => "rtp_short",
            DropReason::Rtp(RtpError::Long) => "rtp_long",
            DropReason::Rtp(RtpError::Version) => "rtp_version",
            DropReason::Rtp(RtpError::Csrc) => "rtp_csrc",
            DropReason::Rtp(RtpError::Extension) => "rtp_extension",
            DropReason::Rtp(RtpError::Padding) => "rtp_padding",
            DropReason::Rtp(RtpError::Retransmission) => "rtp_retransmission",
            DropReason::Rtcp(RtcpError::Short) => "rtcp_short",
            DropReason::Rtcp(RtcpError::Long) => "rtcp_long",
            DropReason::Rtcp(RtcpError::Version) => "rtcp_version",
            DropReason::Rtcp(RtcpError::Length) => "rtcp_length",
            DropReason::Rtcp(RtcpError::Padding) => "rtcp_padding",
            DropReason::Rtcp(RtcpError::Count) => "rtcp_count",
            DropReason::Rtcp(RtcpError::Feedback) => "rtcp_feedback",
        }
    }
}

impl From<SrtpError> for DropReason {
    fn from(error: SrtpError) -> Self {
        match error {
            SrtpError::Header(error) => DropReason::Rtp(error),
            SrtpError::Authentication => DropReason::Authentication,
            SrtpError::Repeated => DropReason::Replayed,
            SrtpError::Old => DropReason::Old,
            SrtpError::Streams => DropReason::TooManyStreams,
            SrtpError::Short | SrtpError::Exhausted | SrtpError::Full => DropReason::Srtp,
        }
    }
}

/// What a router counted since it started.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Media packets taken in.
    pub received: u64,
    /// Media packets sent to subscribers.
    pub forwarded: u64,
    /// Payload bytes taken in.
    pub received_bytes: u64,
    /// Payload bytes sent to subscribers.
    pub forwarded_bytes: u64,
    /// Packets sent again.
    pub resent: u64,
    /// NACKed packets we no longer had, or had just sent again.
    pub not_resent: u64,
    /// Packets we asked for again.
    pub nacked: u64,
    /// Missing packets that were repaired or came late.
    pub recovered: u64,
    /// Missing packets given up.
    pub given_up: u64,
    /// Key frames asked of sources.
    pub key_frames_requested: u64,
    dropped: [(Option<DropReason>, u64); DropReason::COUNT],
}

impl Default for Counters {
    fn default() -> Self {
        Counters {
            received: 0,
            forwarded: 0,
            received_bytes: 0,
            forwarded_bytes: 0,
            resent: 0,
            not_resent: 0,
            nacked: 0,
            recovered: 0,
            given_up: 0,
            key_frames_requested: 0,
            dropped: [(None, 0); DropReason::COUNT],
        }
    }
}

impl Counters {
    pub(super) fn drop(&mut self, reason: DropReason) {
        let (name, count) = &mut self.dropped[reason.index()];
        *name = Some(reason);
        *count += 1;
    }

    /// How many were dropped for `reason`.
    pub fn dropped_for(&self, reason: DropReason) -> u64 {
        self.dropped[reason.index()].1
    }

    /// Every reason for which something was dropped, with how many.
    pub fn dropped(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        self.dropped
            .iter()
            .filter_map(|(reason, count)| Some(((*reason)?, *count)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_place_of_its_own() {
        let plain = [
            DropReason::Unclassified,
            DropReason::StunUser,
            DropReason::NoKeys,
            DropReason::Authentication,
            DropReason::Replayed,
            DropReason::Old,
            DropReason::TooManyStreams,
            DropReason::Srtp,
            DropReason::UnknownStream,
            DropReason::PayloadType,
            DropReason::Oversize,
            DropReason::Duplicate,
            DropReason::Probe,
            DropReason::Muted,
        ];
        let refusals = [
            DatagramRefusal::NotTransport,
            DatagramRefusal::StunMalformed,
            DatagramRefusal::StunUnexpected,
            DatagramRefusal::StunWrongUser,
            DatagramRefusal::StunIntegrity,
            DatagramRefusal::DtlsUnknownAddress,
            DatagramRefusal::DtlsMalformed,
            DatagramRefusal::DtlsFlood,
            DatagramRefusal::Closed,
        ];
        let all: Vec<_> = plain
            .into_iter()
            .chain(refusals.map(DropReason::Transport))
            .chain(RtpError::ALL.map(DropReason::Rtp))
            .chain(RtcpError::ALL.map(DropReason::Rtcp))
            .collect();
        let mut counters = Counters::default();
        for (at, reason) in all.iter().enumerate() {
            assert_eq!(reason.index(), at, "{reason:?}");
            counters.drop(*reason);
        }
        assert_eq!(all.len(), DropReason::COUNT);
        assert_eq!(
            counters
                .dropped()
                .map(|(reason, _)| reason)
                .collect::<Vec<_>>(),
            all
        );
        assert!(all.iter().all(|reason| counters.dropped_for(*reason) == 1));
    }
}
