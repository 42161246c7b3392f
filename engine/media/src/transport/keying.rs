//! SRTP keys exported from a DTLS handshake (RFC 5764 §4.2, RFC 7714 §12).

use std::fmt;

/// How SRTP packets of a session are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SrtpProfile {
    /// `AEAD_AES_256_GCM` (RFC 7714): our first choice.
    AeadAes256Gcm,
    /// `AEAD_AES_128_GCM` (RFC 7714).
    AeadAes128Gcm,
    /// `AES_CM_128_HMAC_SHA1_80` (RFC 3711): about six times the CPU per packet.
    AesCm128HmacSha1_80,
}

impl SrtpProfile {
    /// Bytes in a master key.
    pub fn key_len(self) -> usize {
        match self {
            Self::AeadAes256Gcm => 32,
            Self::AeadAes128Gcm | Self::AesCm128HmacSha1_80 => 16,
        }
    }

    /// Bytes in a master salt.
    pub fn salt_len(self) -> usize {
        match self {
            Self::AeadAes256Gcm | Self::AeadAes128Gcm => 12,
            Self::AesCm128HmacSha1_80 => 14,
        }
    }

    /// The registered name, also the label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AeadAes256Gcm => "AEAD_AES_256_GCM",
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
        }
    }
}

/// Master keys and salts of both directions, as the DTLS *server* (which we always are) uses
/// them. Shows nothing when printed.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyingMaterial {
    profile: SrtpProfile,
    bytes: Vec<u8>,
}

impl KeyingMaterial {
    /// Splits exporter output laid out as RFC 5764 §4.2 says: client key, server key, client
    /// salt, server salt. `None` when the length is not the profile's.
    pub fn from_exporter(profile: SrtpProfile, bytes: &[u8]) -> Option<Self> {
        let expected = 2 * (profile.key_len() + profile.salt_len());
        (bytes.len() == expected).then(|| Self {
            profile,
            bytes: bytes.to_vec(),
        })
    }

    /// Key for packets the peer sends.
    pub fn remote_key(&self) -> &[u8] {
        &self.bytes[..self.profile.key_len()]
    }

    /// Key for packets we send.
    pub fn local_key(&self) -> &[u8] {
        let key = self.profile.key_len();
        &self.bytes[key..2 * key]
    }

    /// Salt for packets the peer sends.
    pub fn remote_salt(&self) -> &[u8] {
        let (key, salt) = (self.profile.key_len(), self.profile.salt_len());
        &self.bytes[2 * key..2 * key + salt]
    }

    /// Salt for packets we send.
    pub fn local_salt(&self) -> &[u8] {
        let (key, salt) = (self.profile.key_len(), self.profile.salt_len());
        &self.bytes[2 * key + salt..]
    }
}

impl fmt::Debug for KeyingMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyingMaterial")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exporter_output_is_split_client_first() {
        for profile in [
            SrtpProfile::AeadAes256Gcm,
            SrtpProfile::AeadAes128Gcm,
            SrtpProfile::AesCm128HmacSha1_80,
        ] {
            let (key, salt) = (profile.key_len(), profile.salt_len());
            let bytes = [vec![1; key], vec![2; key], vec![3; salt], vec![4; salt]].concat();
            let keying = KeyingMaterial::from_exporter(profile, &bytes).unwrap();
            assert_eq!(keying.remote_key(), vec![1; key]);
            assert_eq!(keying.local_key(), vec![2; key]);
            assert_eq!(keying.remote_salt(), vec![3; salt]);
            assert_eq!(keying.local_salt(), vec![4; salt]);
            assert_eq!(KeyingMaterial::from_exporter(profile, &bytes[1..]), None);
        }
    }

    #[test]
    fn keys_are_not_printed() {
        let keying =
            KeyingMaterial::from_exporter(SrtpProfile::AeadAes128Gcm, &[0xAB; 56]).unwrap();
        assert!(!format!("{keying:?}").contains("171"));
    }
}
