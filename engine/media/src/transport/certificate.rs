//! The process's DTLS certificate: self-signed, ECDSA P-256, known to peers by its fingerprint.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dimpl::DtlsCertificate;

use super::Fingerprint;

/// Largest DTLS datagram of a handshake, in bytes. 1,200 passes every path that QUIC passes.
const MTU: usize = 1200;

/// How long a handshake may take from the first ClientHello (`dimpl` retransmits within it).
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// A certificate with its private key and the settings of every handshake made with it.
///
/// Made once per process and shared by all transports; cloning is cheap.
#[derive(Clone)]
pub struct Certificate {
    inner: Arc<Inner>,
}

struct Inner {
    certificate: DtlsCertificate,
    fingerprint: Fingerprint,
    config: Arc<dimpl::Config>,
}

/// The operating system gave no randomness or the key could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the DTLS certificate could not be generated")]
pub struct CertificateError;

impl Certificate {
    /// Makes a key and a certificate valid for a year.
    ///
    /// Takes randomness and the date from the operating system: call it from the shell, once.
    pub fn generate() -> Result<Self, CertificateError> {
        let certificate =
            dimpl::certificate::generate_self_signed_certificate().map_err(|_| CertificateError)?;
        let config = dimpl::Config::builder()
            .mtu(MTU)
            .handshake_timeout(HANDSHAKE_TIMEOUT)
            // A lost flight costs this much; libwebrtc's client starts at 50 ms.
            .flight_start_rto(Duration::from_millis(400))
            .flight_retries(7)
            // The address has passed an authenticated ICE check before its first ClientHello is
            // looked at, which proves what the cookie would prove. Saves one round trip.
            .use_server_cookie(false)
            .require_client_certificate(true)
            .build()
            .map_err(|_| CertificateError)?;
        let fingerprint = fingerprint_of(&certificate.certificate);
        let inner = Inner {
            certificate,
            fingerprint,
            config: Arc::new(config),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// What our descriptions say as `a=fingerprint`.
    pub fn fingerprint(&self) -> Fingerprint {
        self.inner.fingerprint
    }

    pub(super) fn config(&self) -> Arc<dimpl::Config> {
        self.inner.config.clone()
    }

    pub(super) fn certificate(&self) -> DtlsCertificate {
        self.inner.certificate.clone()
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificate")
            .field(&self.inner.fingerprint)
            .finish()
    }
}

/// SHA-256 of a certificate in DER.
pub(super) fn fingerprint_of(der: &[u8]) -> Fingerprint {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
    Fingerprint(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}
