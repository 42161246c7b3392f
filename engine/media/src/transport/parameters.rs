//! What two ends tell each other in their descriptions, and what a transport is told at birth.

use std::fmt;
use std::time::Duration;

/// ICE user name fragment and password of one side (RFC 8445 §5.3).
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// `a=ice-ufrag`: 4 to 256 ice-chars.
    pub ufrag: String,
    /// `a=ice-pwd`: 22 to 256 ice-chars.
    pub pwd: String,
}

impl IceCredentials {
    /// Bytes of randomness that [`from_random`](Self::from_random) needs.
    pub const RANDOM_LEN: usize = 27;

    /// Credentials from 27 random bytes: 72 bits of ufrag (which is also the key that finds a
    /// session, so it must not repeat) and 144 bits of password.
    pub fn from_random(random: &[u8; Self::RANDOM_LEN]) -> Self {
        const ICE_CHARS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let text: String = random
            .chunks_exact(3)
            .flat_map(|chunk| {
                let bits = u32::from_be_bytes([0, chunk[0], chunk[1], chunk[2]]);
                [18, 12, 6, 0].map(|shift| char::from(ICE_CHARS[(bits >> shift) as usize & 63]))
            })
            .collect();
        let (ufrag, pwd) = text.split_at(12);
        Self {
            ufrag: ufrag.to_owned(),
            pwd: pwd.to_owned(),
        }
    }
}

impl fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceCredentials")
            .field("ufrag", &self.ufrag)
            .finish_non_exhaustive()
    }
}

/// SHA-256 of a certificate in DER (RFC 8122 §5), as in `a=fingerprint:sha-256`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// A fingerprint that is not 32 hexadecimal bytes joined by colons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sha-256 fingerprint is 32 hexadecimal bytes joined by colons")]
pub struct FingerprintError;

impl std::str::FromStr for Fingerprint {
    type Err = FingerprintError;

    /// Reads `AB:CD:…`, either case.
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let mut bytes = [0; 32];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or(FingerprintError)?;
            if part.len() != 2 || !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(FingerprintError);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| FingerprintError)?;
        }
        if parts.next().is_some() {
            Err(FingerprintError)
        } else {
            Ok(Self(bytes))
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let colon = if index == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// What the peer's description says about its transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteParameters {
    /// Its ICE credentials.
    pub ice: IceCredentials,
    /// Its certificate.
    pub fingerprint: Fingerprint,
}

/// Who creates the data channels of a connection.
///
/// Channels the peer opens with a known label are served in both `Accept` and `Open`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataChannelPolicy {
    /// There are none: SCTP is ignored.
    None,
    /// The peer opens them (a LiveKit publisher connection).
    #[default]
    Accept,
    /// We open them as soon as the association is up (a LiveKit subscriber connection).
    Open,
}

/// Limits and choices of one transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportConfig {
    /// Our ICE credentials.
    pub local: IceCredentials,
    /// Data channels.
    pub data: DataChannelPolicy,
    /// Silence after which the peer is gone. Also the time a peer has for its first check.
    pub ice_timeout: Duration,
    /// Largest data message in bytes, either way.
    pub max_message_size: usize,
    /// Bytes queued on one data channel before [`SendDataError::QueueFull`](super::SendDataError).
    ///
    /// Higher rides out longer stalls of a slow peer and costs that much memory per channel.
    pub max_queued: usize,
}

impl TransportConfig {
    /// The defaults around these credentials: 64 KiB messages, 1 MiB queues, 15 s timeout.
    pub fn new(local: IceCredentials) -> Self {
        Self {
            local,
            data: DataChannelPolicy::default(),
            ice_timeout: super::DEFAULT_ICE_TIMEOUT,
            max_message_size: 64 * 1024,
            max_queued: 1024 * 1024,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_have_the_lengths_of_rfc_8445_and_only_ice_chars() {
        let credentials = IceCredentials::from_random(&std::array::from_fn(|i| (i * 37) as u8));
        assert_eq!(credentials.ufrag.len(), 12);
        assert_eq!(credentials.pwd.len(), 24);
        let all = format!("{}{}", credentials.ufrag, credentials.pwd);
        assert!(
            all.bytes()
                .all(|c| c.is_ascii_alphanumeric() || c == b'+' || c == b'/')
        );
        assert!(!format!("{credentials:?}").contains(&credentials.pwd));
    }

    #[test]
    fn a_fingerprint_is_read_back_as_written_and_nothing_else_is_read() {
        let fingerprint = Fingerprint(std::array::from_fn(|i| (i * 9) as u8));
        let text = fingerprint.to_string();
        assert_eq!(text.parse(), Ok(fingerprint));
        assert_eq!(text.to_lowercase().parse(), Ok(fingerprint));
        for bad in [
            &text[3..],
            &format!("{text}:00"),
            &text.replace("12", "+2"),
            "",
            ":",
        ] {
            assert_eq!(bad.parse::<Fingerprint>(), Err(FingerprintError), "{bad}");
        }
    }
}
