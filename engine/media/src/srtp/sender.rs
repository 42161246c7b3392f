//! The sending direction of a session. See the parent module.

use super::cipher::Cipher;
use super::{MasterKey, SrtpError, SrtpKeyError, SrtpProfile, kdf};
use crate::rtp::RtpHeader;

/// Protects what one session sends.
///
/// RTP indices come from the caller, who numbers the packets anyway: there is no state for
/// each stream, so packets of any stream may be protected in any order.
pub struct SrtpSender {
    profile: SrtpProfile,
    rtp: Cipher,
    rtcp: Cipher,
    /// Index of the next SRTCP packet. One counter for all sources: each then sees a growing
    /// index, as RFC 3711 §3.4 demands.
    rtcp_index: u32,
}

impl SrtpSender {
    /// A context with keys derived from `master`.
    pub fn new(profile: SrtpProfile, master: MasterKey<'_>) -> Result<Self, SrtpKeyError> {
        let (rtp, rtcp) = kdf::ciphers(profile, master)?;
        Ok(Self::with_ciphers(profile, rtp, rtcp, 1))
    }

    pub(super) fn with_ciphers(
        profile: SrtpProfile,
        rtp: Cipher,
        rtcp: Cipher,
        rtcp_index: u32,
    ) -> Self {
        SrtpSender {
            profile,
            rtp,
            rtcp,
            rtcp_index,
        }
    }

    /// The profile in use.
    pub fn profile(&self) -> SrtpProfile {
        self.profile
    }

    /// Protects the RTP packet in `buffer[..len]` in place; the length of the SRTP packet,
    /// [`SrtpProfile::rtp_overhead`] more.
    ///
    /// `index` is the packet's extended sequence number: its low 16 bits are those in the
    /// header, those above are the rollover counter, which receivers expect to start at zero.
    /// Never protect two different packets of one SSRC under one index: with GCM that gives
    /// the key away (RFC 7714 §13.1). A repeated packet must be the same bytes, header
    /// extensions included; use RFC 4588 retransmission otherwise.
    #[inline]
    pub fn protect_rtp(
        &self,
        buffer: &mut [u8],
        len: usize,
        index: u64,
    ) -> Result<usize, SrtpError> {
        let packet = buffer.get(..len).ok_or(SrtpError::Full)?;
        let header = RtpHeader::parse_protected(packet)?;
        debug_assert_eq!(header.sequence, index as u16, "index and header disagree");
        if index >> 48 != 0 {
            return Err(SrtpError::Exhausted);
        }
        self.rtp.seal_rtp(
            buffer,
            len,
            usize::from(header.header_len),
            header.ssrc,
            index,
        )
    }

    /// Protects the compound RTCP packet in `buffer[..len]` in place; the length of the SRTCP
    /// packet, [`SrtpProfile::rtcp_overhead`] more.
    pub fn protect_rtcp(&mut self, buffer: &mut [u8], len: usize) -> Result<usize, SrtpError> {
        let packet = buffer.get(..len).ok_or(SrtpError::Full)?;
        let clear = packet.first_chunk::<8>().ok_or(SrtpError::Short)?;
        let ssrc = u32::from_be_bytes([clear[4], clear[5], clear[6], clear[7]]);
        if self.rtcp_index >> 31 != 0 {
            return Err(SrtpError::Exhausted);
        }
        let total = self.rtcp.seal_rtcp(buffer, len, ssrc, self.rtcp_index)?;
        self.rtcp_index += 1;
        Ok(total)
    }
}

impl std::fmt::Debug for SrtpSender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SrtpSender")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}
