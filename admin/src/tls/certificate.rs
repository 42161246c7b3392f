//! The two files of a certificate: read, checked against each other, and asked for their dates.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use x509_cert::der::Decode as _;

use super::TlsError;
use crate::store::UnixSeconds;

/// Key of the configuration that names the certificate.
pub(super) const CERTIFICATE: &str = "http.tls_certificate";

/// Key of the configuration that names the private key.
pub(super) const KEY: &str = "http.tls_key";

/// Longest file read: a chain of ten certificates takes some 20 KiB.
const LONGEST: u64 = 256 * 1024;

/// Where certificate and key are.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// By what a file is known to be the one read before. The time of change, unlike that of modification, cannot be set:
/// it tells of every write, every replacement and every change of rights.
type Stamp = (u64, u64, u64, i64, i64);

/// Both files as they were at one look; `None` for one that is not there.
pub(super) type Stamps = [Option<Stamp>; 2];

/// A certificate that can be shown, and what it says of itself.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) certified: Arc<CertifiedKey>,
    /// From when to when it is valid, unless that cannot be read.
    pub(super) valid: Option<(UnixSeconds, UnixSeconds)>,
    /// Whether it names itself as its issuer: no authority stands behind it.
    pub(super) is_self_signed: bool,
}

impl Files {
    pub(super) fn stamps(&self) -> Stamps {
        [&self.certificate, &self.key].map(|path| {
            let stamp = |file: Metadata| {
                (
                    file.dev(),
                    file.ino(),
                    file.size(),
                    file.ctime(),
                    file.ctime_nsec(),
                )
            };
            std::fs::metadata(path).ok().map(stamp)
        })
    }

    /// Reads both, and refuses a key that does not belong to the certificate.
    pub(super) fn read(&self, provider: &CryptoProvider) -> Result<Certificate, TlsError> {
        let path = || self.certificate.clone();
        let text = text(&self.certificate, CERTIFICATE)?;
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&text)
            .collect::<Result<_, _>>()
            .map_err(|_| TlsError::NoCertificate { path: path() })?;
        let Some(first) = chain.first() else {
            return Err(TlsError::NoCertificate { path: path() });
        };
        let (valid, is_self_signed) = facts(first);
        let text = self::text(&self.key, KEY)?;
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|_| TlsError::NoKey {
            path: self.key.clone(),
        })?;
        let key = provider.key_provider.load_private_key(key);
        let key = key.map_err(|_| TlsError::BadKey {
            path: self.key.clone(),
        })?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(_)) => {
                return Err(TlsError::Mismatch {
                    certificate: path(),
                    key: self.key.clone(),
                });
            }
            Err(_) => return Err(TlsError::BadCertificate { path: path() }),
        }
        Ok(Certificate {
            certified: Arc::new(certified),
            valid,
            is_self_signed,
        })
    }
}

fn text(path: &Path, key: &'static str) -> Result<Vec<u8>, TlsError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        File::open(path)?.take(LONGEST + 1).read_to_end(&mut text)?;
        Ok(text)
    };
    let path = || path.to_owned();
    match read() {
        Ok(text) if text.len() as u64 <= LONGEST => Ok(text),
        Ok(_) => Err(TlsError::TooLong { path: path(), key }),
        Err(source) => Err(TlsError::Unreadable {
            path: path(),
            key,
            source,
        }),
    }
}

/// Dates, and whether issuer and subject are the same. What is stricter than the handshake here is no reason to refuse.
fn facts(certificate: &CertificateDer<'_>) -> (Option<(UnixSeconds, UnixSeconds)>, bool) {
    let Ok(certificate) = x509_cert::Certificate::from_der(certificate) else {
        return (None, false);
    };
    let certificate = certificate.tbs_certificate();
    let seconds = |time: x509_cert::time::Time| {
        UnixSeconds::try_from(time.to_unix_duration().as_secs()).unwrap_or(UnixSeconds::MAX)
    };
    let validity = certificate.validity();
    let valid = (seconds(validity.not_before), seconds(validity.not_after));
    (Some(valid), certificate.issuer() == certificate.subject())
}
