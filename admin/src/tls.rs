//! HTTPS of our own: the certificate, which is read again when its files change, and the handshakes.
//!
//! HTTP/1.1 is all that is offered (ALPN). A browser opens a connection of its own for each WebSocket in any case, the
//! pages are a handful of files, and HTTP/2 would bring streams, windows and resets that each want a limit.

mod certificate;
mod handshake;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use certificate::{CERTIFICATE, Certificate, Files, KEY, Stamps};
pub(crate) use handshake::Failed;
use handshake::Handshakes;

use crate::app::App;
use crate::config::AdminConfig;
use crate::metrics::Metrics;
use crate::store::{UnixSeconds, now};

/// How long a handshake may take. Longer helps people on bad networks, shorter frees half-open connections sooner.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Of the connections allowed, one in so many may be in its handshake: the others stay for people who are in. Each can
/// make us keep 64 KiB of a message it never ends.
const HANDSHAKES_SHARE: usize = 4;

/// First byte of a TLS connection: a record of the handshake (RFC 8446, 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// HTTPS was asked for and cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// One of the two keys stands alone.
    #[error(
        "{set} is set and {missing} is not: HTTPS needs certificate and key; set {missing} too, or remove {set}"
    )]
    Half {
        /// The key of the configuration that is there.
        set: &'static str,
        /// The one that is not.
        missing: &'static str,
    },
    /// A file is not there, or may not be read.
    #[error("cannot read {} (key {key}): {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The key of the configuration that names it.
        key: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is no certificate and no key.
    #[error("{} (key {key}) is longer than 256 KiB", .path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The key of the configuration that names it.
        key: &'static str,
    },
    /// No certificate in the file.
    #[error("{} (key http.tls_certificate) holds no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----", .path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The first certificate is not understood.
    #[error("the first certificate in {} (key http.tls_certificate) is not an X.509 certificate of version 3", .path.display())]
    BadCertificate {
        /// The file.
        path: PathBuf,
    },
    /// No private key in the file.
    #[error("{} (key http.tls_key) holds no private key in PEM that opens without a passphrase", .path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The private key is not understood.
    #[error("the private key in {} (key http.tls_key) is damaged or of a kind that browsers do not take; use ECDSA P-256 or P-384, or RSA of 2048 bits or more", .path.display())]
    BadKey {
        /// The file.
        path: PathBuf,
    },
    /// Certificate and key are not of each other.
    #[error(
        "the private key in {} (key http.tls_key) does not belong to the first certificate in {} (key http.tls_certificate)",
        .key.display(), .certificate.display()
    )]
    Mismatch {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// Links would begin with what this box does not speak.
    #[error(
        "http.public_url begins with http:// and http.tls_certificate makes this box speak https; write https:// there"
    )]
    PlainPublicUrl,
    /// There is no https to send anybody to.
    #[error(
        "http.redirect_bind sends people to https, which nobody speaks here; set http.tls_certificate and http.tls_key, \
         or an http.public_url that begins with https://"
    )]
    NothingToRedirectTo,
}

/// The certificate in use and the door to it.
pub(crate) struct Tls {
    files: Files,
    provider: Arc<CryptoProvider>,
    acceptor: TlsAcceptor,
    shown: Arc<Shown>,
    /// The files as they were when they were last read, well or not.
    read: Mutex<Stamps>,
    is_looking: AtomicBool,
    handshakes: Arc<Handshakes>,
}

/// The certificate that clients are shown.
#[derive(Debug)]
struct Shown(RwLock<Certificate>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.with(|certificate| Arc::clone(&certificate.certified)))
    }
}

impl Shown {
    fn with<T>(&self, look: impl FnOnce(&Certificate) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, certificate: Certificate) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = certificate;
    }
}

/// What a connection turned out to be.
pub(crate) enum Greeted {
    /// Encrypted.
    Tls(Box<TlsStream<TcpStream>>),
    /// HTTP in plain text, not read yet.
    Plain(TcpStream),
}

impl Tls {
    /// Reads certificate and key, when the configuration names them.
    ///
    /// An expired certificate is no reason to refuse, only to warn: browsers warn of it too, and telephones, which need
    /// none, would be lost with the pages.
    pub(crate) fn open(config: &AdminConfig) -> Result<Option<Arc<Self>>, TlsError> {
        let half = |set, missing| Err(TlsError::Half { set, missing });
        let files = match (&config.tls_certificate, &config.tls_key) {
            (Some(certificate), Some(key)) => Files {
                certificate: certificate.clone(),
                key: key.clone(),
            },
            (Some(_), None) => return half(CERTIFICATE, KEY),
            (None, Some(_)) => return half(KEY, CERTIFICATE),
            (None, None) if config.redirect_bind.is_some() && !config.is_public_https() => {
                return Err(TlsError::NothingToRedirectTo);
            }
            (None, None) => return Ok(None),
        };
        if config.public_url.is_some() && !config.is_public_https() {
            return Err(TlsError::PlainPublicUrl);
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let read = files.stamps();
        let certificate = files.read(&provider)?;
        warn_of_dates(&certificate);
        let shown = Arc::new(Shown(RwLock::new(certificate)));
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider has ciphers for TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Some(Arc::new(Self {
            files,
            provider,
            acceptor: TlsAcceptor::from(Arc::new(server)),
            shown,
            read: Mutex::new(read),
            is_looking: AtomicBool::new(false),
            handshakes: Handshakes::new(config.connections / HANDSHAKES_SHARE),
        })))
    }

    /// Whether no authority stands behind the certificate.
    pub(crate) fn is_self_signed(&self) -> bool {
        self.shown.with(|certificate| certificate.is_self_signed)
    }

    /// Until when the certificate is valid, if that can be read.
    pub(crate) fn valid_until(&self) -> Option<UnixSeconds> {
        self.shown
            .with(|certificate| certificate.valid.map(|(_, until)| until))
    }

    /// Brings a new connection through its handshake, within its time and unless too many others came after it.
    pub(crate) async fn greet(
        self: &Arc<Self>,
        stream: TcpStream,
        app: &App,
    ) -> Result<Greeted, Failed> {
        let (turn, lost) = Handshakes::enter(&self.handshakes);
        let greeted = tokio::select! {
            greeted = timeout(HANDSHAKE, self.handshake(stream, app)) => greeted.unwrap_or(Err(Failed::Slow)),
            _ = lost => Err(Failed::Displaced),
        };
        drop(turn);
        greeted
    }

    async fn handshake(self: &Arc<Self>, stream: TcpStream, app: &App) -> Result<Greeted, Failed> {
        let mut first = [0];
        match stream.peek(&mut first).await {
            Ok(1..) => {}
            _ => return Err(Failed::Closed),
        }
        // Methods of HTTP are upper case, and no record of TLS has such a number.
        if first[0].is_ascii_uppercase() {
            return Ok(Greeted::Plain(stream));
        }
        if first[0] != HANDSHAKE_RECORD {
            return Err(Failed::Malformed);
        }
        self.look(app).await;
        match self.acceptor.accept(stream).await {
            Ok(stream) => Ok(Greeted::Tls(Box::new(stream))),
            Err(error) => Err(Failed::of(&error)),
        }
    }

    /// Takes certificate and key anew when their files are others than before: whoever connects after a renewal sees it.
    ///
    /// One look at a time; whoever comes meanwhile is shown the certificate there is. A disk that hangs so holds up one
    /// connection.
    async fn look(self: &Arc<Self>, app: &App) {
        if self.is_looking.swap(true, Ordering::Acquire) {
            return;
        }
        let looking = Looking(Arc::clone(self));
        let app = app.clone();
        // It ends by itself, whether or not this connection still waits.
        let _ = spawn_blocking(move || looking.0.renew(&app.metrics)).await;
    }

    fn renew(&self, metrics: &Metrics) {
        let stamps = self.files.stamps();
        {
            let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            if *read == stamps {
                return;
            }
            // Before the files are read: what changes meanwhile is seen by the next look.
            *read = stamps;
        }
        match self.files.read(&self.provider) {
            Ok(certificate) => {
                tracing::info!("the certificate of http.tls_certificate was read anew");
                warn_of_dates(&certificate);
                self.shown.replace(certificate);
                metrics.certificate_read("taken");
            }
            Err(error) => {
                // Between the writing of the one file and of the other they do not match: the next look settles it.
                tracing::warn!(%error, "the certificate changed and was not taken; the one before stays in use");
                metrics.certificate_read("refused");
            }
        }
    }
}

/// One look at the files, until it is dropped.
struct Looking(Arc<Tls>);

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.is_looking.store(false, Ordering::Release);
    }
}

fn warn_of_dates(certificate: &Certificate) {
    match certificate.valid {
        Some((_, until)) if until < now() => tracing::warn!(
            "the certificate of http.tls_certificate has expired: browsers will warn of this box"
        ),
        Some((from, _)) if from > now() => tracing::warn!(
            "the certificate of http.tls_certificate is not valid yet; is the clock of this machine right?"
        ),
        _ => {}
    }
}
