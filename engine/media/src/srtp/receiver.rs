//! The receiving direction of a session. See the parent module.

use super::cipher::Cipher;
use super::replay::Streams;
use super::{MasterKey, SrtpError, SrtpKeyError, SrtpProfile, kdf};
use crate::rtp::RtpHeader;

/// Most streams a session may have at a time, RTP and RTCP each. A publisher with camera,
/// screen and microphone, three layers and retransmission, has 13; each costs 140 bytes.
pub const MAX_STREAMS: usize = 512;

/// Words of the RTP window: 1,024 packets, about a second of a 10 Mbit/s stream, so that
/// late retransmissions under the original number still pass.
const RTP_WINDOW: usize = 16;

/// Words of the RTCP window: 128 packets.
const RTCP_WINDOW: usize = 2;

/// Checks and decrypts what one session receives.
pub struct SrtpReceiver {
    profile: SrtpProfile,
    rtp: Cipher,
    rtcp: Cipher,
    rtp_streams: Streams<RTP_WINDOW>,
    rtcp_streams: Streams<RTCP_WINDOW>,
}

/// A packet that was authentic and new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unprotected {
    /// The parsed header, padding taken off the payload.
    pub header: RtpHeader,
    /// Length of the plain packet at the start of the buffer.
    pub len: usize,
    /// Extended sequence number: rollover counter and sequence number.
    pub index: u64,
}

impl SrtpReceiver {
    /// A context with keys derived from `master`.
    pub fn new(profile: SrtpProfile, master: MasterKey<'_>) -> Result<Self, SrtpKeyError> {
        let (rtp, rtcp) = kdf::ciphers(profile, master)?;
        Ok(Self::with_ciphers(profile, rtp, rtcp))
    }

    pub(super) fn with_ciphers(profile: SrtpProfile, rtp: Cipher, rtcp: Cipher) -> Self {
        SrtpReceiver {
            profile,
            rtp,
            rtcp,
            rtp_streams: Streams::new(MAX_STREAMS),
            rtcp_streams: Streams::new(MAX_STREAMS),
        }
    }

    /// The profile in use.
    pub fn profile(&self) -> SrtpProfile {
        self.profile
    }

    /// Checks, decrypts in place and parses an SRTP packet. On error the buffer's content is
    /// unspecified and no state changed, except that a decrypted packet with bad padding counts
    /// as seen.
    pub fn unprotect_rtp(&mut self, packet: &mut [u8]) -> Result<Unprotected, SrtpError> {
        let clear = RtpHeader::parse_protected(packet)?;
        let place = self.rtp_streams.find(clear.ssrc);
        let index = match place {
            Some(place) => {
                let window = self.rtp_streams.window(place);
                let index = nearest(window.highest(), clear.sequence).ok_or(SrtpError::Old)?;
                window.check(index)?;
                index
            }
            None if self.rtp_streams.is_full() => return Err(SrtpError::Streams),
            None => u64::from(clear.sequence),
        };
        let len = self
            .rtp
            .open_rtp(packet, usize::from(clear.header_len), clear.ssrc, index)?;
        self.rtp_streams.accept(place, clear.ssrc, index);
        let header = RtpHeader::parse(&packet[..len])?;
        Ok(Unprotected { header, len, index })
    }

    /// Checks and decrypts an SRTCP packet in place; the length of the compound RTCP packet.
    pub fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let index = u64::from(self.rtcp.rtcp_index(packet)?);
        let ssrc = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
        let place = self.rtcp_streams.find(ssrc);
        match place {
            Some(place) => self.rtcp_streams.window(place).check(index)?,
            None if self.rtcp_streams.is_full() => return Err(SrtpError::Streams),
            None => {}
        }
        let len = self.rtcp.open_rtcp(packet, ssrc)?;
        self.rtcp_streams.accept(place, ssrc, index);
        Ok(len)
    }

    /// Makes room for another stream in place of one that ended. Its old packets would be
    /// accepted again: call it when nothing is routed by this SSRC any more.
    pub fn forget(&mut self, ssrc: u32) {
        self.rtp_streams.remove(ssrc);
        self.rtcp_streams.remove(ssrc);
    }
}

/// The index of `sequence` nearest to the highest accepted (RFC 3711 §3.3.1); `None` before
/// the stream's start.
fn nearest(highest: u64, sequence: u16) -> Option<u64> {
    let distance = sequence.wrapping_sub(highest as u16) as i16;
    highest
        .checked_add_signed(i64::from(distance))
        .filter(|index| index >> 48 == 0)
}

impl std::fmt::Debug for SrtpReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SrtpReceiver")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}
