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

use crate::rtp::RtpError;

/// Protection profiles (RFC 5764 §4.1.2, RFC 7714 §14.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SrtpProfile {
    /// `SRTP_AEAD_AES_128_GCM`
    AeadAes128Gcm,
    /// `SRTP_AEAD_AES_256_GCM`
    AeadAes256Gcm,
    /// `SRTP_AES128_CM_HMAC_SHA1_80`
    Aes128CmHmacSha1_80,
}

impl SrtpProfile {
    /// Every profile, best first: GCM costs a sixth of counter mode with SHA-1, and the
    /// 128-bit key a tenth less than the 256-bit one.
    pub const PREFERENCE: [SrtpProfile; 3] = [
        SrtpProfile::AeadAes128Gcm,
        SrtpProfile::AeadAes256Gcm,
        SrtpProfile::Aes128CmHmacSha1_80,
    ];

    /// Name in the registry of DTLS-SRTP protection profiles.
    pub const fn name(self) -> &'static str {
        match self {
            SrtpProfile::AeadAes128Gcm => "SRTP_AEAD_AES_128_GCM",
            SrtpProfile::AeadAes256Gcm => "SRTP_AEAD_AES_256_GCM",
            SrtpProfile::Aes128CmHmacSha1_80 => "SRTP_AES128_CM_HMAC_SHA1_80",
        }
    }

    /// Length of the master key, in bytes.
    pub const fn key_len(self) -> usize {
        match self {
            SrtpProfile::AeadAes128Gcm | SrtpProfile::Aes128CmHmacSha1_80 => 16,
            SrtpProfile::AeadAes256Gcm => 32,
        }
    }

    /// Length of the master salt, in bytes.
    pub const fn salt_len(self) -> usize {
        match self {
            SrtpProfile::AeadAes128Gcm | SrtpProfile::AeadAes256Gcm => 12,
            SrtpProfile::Aes128CmHmacSha1_80 => 14,
        }
    }

    /// Length of what DTLS exports: both keys and both salts (RFC 5764 §4.2), in bytes.
    pub const fn keying_material_len(self) -> usize {
        2 * (self.key_len() + self.salt_len())
    }

    /// Bytes an SRTP packet is longer than its RTP packet.
    pub const fn rtp_overhead(self) -> usize {
        match self {
            SrtpProfile::AeadAes128Gcm | SrtpProfile::AeadAes256Gcm => 16,
            SrtpProfile::Aes128CmHmacSha1_80 => 10,
        }
    }

    /// Bytes an SRTCP packet is longer than its RTCP packet.
    pub const fn rtcp_overhead(self) -> usize {
        self.rtp_overhead() + 4
    }
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
    if material.len() != profile.keying_material_len() {
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
