//! SRTP and SRTCP (RFC 3711, RFC 7714): keys, contexts, replay protection.
//!
//! Works in place in the caller's buffers and allocates only when a stream appears. It
//! neither negotiates nor knows streams beyond their SSRC.

mod cipher;
mod kdf;
mod receiver;
mod replay;
mod sender;

#[cfg(test)]
mod tests;

pub use receiver::{MAX_STREAMS, SrtpReceiver, Unprotected};
pub use sender::SrtpSender;

pub use crate::transport::SrtpProfile;

use crate::rtp::RtpError;
use crate::transport::KeyingMaterial;

impl SrtpProfile {
    /// Bytes an SRTP packet is longer than its RTP packet.
    pub const fn rtp_overhead(self) -> usize {
        match self {
            SrtpProfile::AeadAes128Gcm | SrtpProfile::AeadAes256Gcm => 16,
            SrtpProfile::AesCm128HmacSha1_80 => 10,
        }
    }

    /// Bytes an SRTCP packet is longer than its RTCP packet.
    pub const fn rtcp_overhead(self) -> usize {
        self.rtp_overhead() + 4
    }
}

/// Both directions of a session whose DTLS server we were.
pub fn contexts(
    profile: SrtpProfile,
    keying: &KeyingMaterial,
) -> Result<(SrtpSender, SrtpReceiver), SrtpKeyError> {
    let ours = MasterKey {
        key: keying.local_key(),
        salt: keying.local_salt(),
    };
    let theirs = MasterKey {
        key: keying.remote_key(),
        salt: keying.remote_salt(),
    };
    Ok((
        SrtpSender::new(profile, ours)?,
        SrtpReceiver::new(profile, theirs)?,
    ))
}

/// Our side of the DTLS handshake the keys come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DtlsRole {
    /// We opened: `a=setup:active`.
    Client,
    /// We answered: `a=setup:passive`.
    Server,
}

/// Both directions of one DTLS-SRTP session, from the exporter's output for the label
/// `EXTRACTOR-dtls_srtp` (RFC 5764 §4.2).
pub fn from_keying_material(
    profile: SrtpProfile,
    material: &[u8],
    role: DtlsRole,
) -> Result<(SrtpSender, SrtpReceiver), SrtpKeyError> {
    if material.len() != 2 * (profile.key_len() + profile.salt_len()) {
        return Err(SrtpKeyError);
    }
    let (keys, salts) = material.split_at(2 * profile.key_len());
    let (client_key, server_key) = keys.split_at(profile.key_len());
    let (client_salt, server_salt) = salts.split_at(profile.salt_len());
    let client = MasterKey {
        key: client_key,
        salt: client_salt,
    };
    let server = MasterKey {
        key: server_key,
        salt: server_salt,
    };
    let (ours, theirs) = match role {
        DtlsRole::Client => (client, server),
        DtlsRole::Server => (server, client),
    };
    Ok((
        SrtpSender::new(profile, ours)?,
        SrtpReceiver::new(profile, theirs)?,
    ))
}

/// Master key and salt of one direction (RFC 3711 §3.2.1).
#[derive(Clone, Copy)]
pub struct MasterKey<'a> {
    /// [`SrtpProfile::key_len`] bytes.
    pub key: &'a [u8],
    /// [`SrtpProfile::salt_len`] bytes.
    pub salt: &'a [u8],
}

/// Key material of the wrong length for its profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key material of the wrong length for its profile")]
pub struct SrtpKeyError;

/// Why a packet was not protected or not accepted. Received packets are dropped and counted
/// under this reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SrtpError {
    /// The clear header, or the padding once decrypted, is not RTP.
    #[error("not RTP: {0}")]
    Header(#[from] RtpError),
    /// Too short for header, tag and index.
    #[error("too short for header, tag and index")]
    Short,
    /// The authentication tag is wrong.
    #[error("authentication failed")]
    Authentication,
    /// A packet with this index was accepted before.
    #[error("repeated packet")]
    Repeated,
    /// Older than the replay window, or from before the stream's first packet.
    #[error("older than the replay window")]
    Old,
    /// More streams than one session may have.
    #[error("too many streams")]
    Streams,
    /// The index space of the key is used up (RFC 3711 §9.2).
    #[error("the key's index space is used up")]
    Exhausted,
    /// The buffer has no room for the tag.
    #[error("the buffer has no room for the tag")]
    Full,
}
