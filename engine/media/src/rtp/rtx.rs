//! Retransmission payload format (RFC 4588, session-multiplexed on one transport by SSRC).
//!
//! Sending: write the packet again under the retransmission SSRC and payload type with
//! [`osn`] as first payload part. Receiving: [`decapsulate`].

use super::packet::{RtpError, RtpHeader};

/// Bytes a retransmission is longer than its original.
pub const OVERHEAD: usize = 2;

/// First part of a retransmission's payload: the original sequence number (RFC 4588 §4).
pub fn osn(original: u16) -> [u8; OVERHEAD] {
    original.to_be_bytes()
}

/// The header the original packet had: number from the payload, SSRC and payload type as given.
///
/// Offsets stay those of the retransmission, with the payload starting two bytes later, so
/// nothing is copied. A retransmission with an empty payload is padding for a bandwidth
/// probe, not a packet: [`RtpError::Retransmission`].
pub fn decapsulate(
    header: &RtpHeader,
    packet: &[u8],
    ssrc: u32,
    payload_type: u8,
) -> Result<RtpHeader, RtpError> {
    let payload = header.payload(packet);
    let Some(osn) = payload.first_chunk::<OVERHEAD>() else {
        return Err(RtpError::Retransmission);
    };
    Ok(RtpHeader {
        sequence: u16::from_be_bytes(*osn),
        ssrc,
        payload_type,
        payload_start: header.payload_start + OVERHEAD as u16,
        ..*header
    })
}
