//! The certificate of the pages: the one that the box signs itself, what one says of itself, and
//! whether a new one may take its place.

use std::net::{Ipv4Addr, Ipv6Addr};

use aws_lc_rs::digest;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{KeyPair, PublicKeyData};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use x509_cert::Certificate;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::stick::MAX_FILE;

/// The most certificates in a chain: the box's own and those that issued it.
const MAX_CHAIN: usize = 10;

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Whose it is (RFC 4514).
    pub subject: String,
    /// Who vouches for it.
    pub issuer: String,
    /// Names and addresses that it is good for.
    pub names: Vec<String>,
    /// From when, seconds since 1970.
    pub not_before: u64,
    /// Until when, seconds since 1970.
    pub not_after: u64,
    /// SHA-256, as browsers show it.
    pub fingerprint: String,
    /// Whether nobody but the box vouches for it.
    pub self_signed: bool,
}

/// Why a certificate may not take the place of the one that is there.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "each sentence says it")]
pub enum Refused {
    #[error("the chain is no PEM of 1 to 10 certificates: {0}")]
    Chain(String),
    #[error("the key is no PEM of a private key without a password, RSA, ECDSA or Ed25519")]
    Key,
    #[error("the key is not the one of the first certificate")]
    OtherKey,
    #[error("the certificate has ended")]
    Ended,
    #[error("the certificate names no host")]
    NoName,
}

impl Refused {
    /// A word for programs, which never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Chain(_) => "certificate-chain",
            Self::Key => "certificate-key",
            Self::OtherKey => "certificate-other-key",
            Self::Ended => "certificate-ended",
            Self::NoName => "certificate-no-name",
        }
    }
}

fn chain(pem: &str) -> Result<Vec<Certificate>, Refused> {
    if pem.len() as u64 > MAX_FILE {
        return Err(Refused::Chain("it is longer than 64 KiB".to_owned()));
    }
    let read = Certificate::load_pem_chain(pem.as_bytes());
    let certificates = read.map_err(|error| Refused::Chain(error.to_string()))?;
    match certificates.len() {
        1..=MAX_CHAIN => Ok(certificates),
        other => Err(Refused::Chain(format!("it has {other}"))),
    }
}

fn names(certificate: &Certificate) -> Vec<String> {
    let tbs = certificate.tbs_certificate();
    let Ok(Some((_, SubjectAltName(names)))) = tbs.get_extension::<SubjectAltName>() else {
        return Vec::new();
    };
    let shown = |name: &GeneralName| match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        GeneralName::IpAddress(bytes) => {
            let bytes = bytes.as_bytes();
            let v4 = <[u8; 4]>::try_from(bytes).map(|b| Ipv4Addr::from(b).to_string());
            let v6 = <[u8; 16]>::try_from(bytes).map(|b| Ipv6Addr::from(b).to_string());
            v4.or(v6).ok()
        }
        _ => None,
    };
    names.iter().filter_map(shown).collect()
}

/// What the first certificate of a PEM text says; nothing when there is none.
pub fn facts(pem: &str) -> Option<Facts> {
    let chain = chain(pem).ok()?;
    let certificate = chain.first()?;
    let tbs = certificate.tbs_certificate();
    let (from, until) = (tbs.validity().not_before, tbs.validity().not_after);
    Some(Facts {
        subject: tbs.subject().to_string(),
        issuer: tbs.issuer().to_string(),
        names: names(certificate),
        not_before: from.to_unix_duration().as_secs(),
        not_after: until.to_unix_duration().as_secs(),
        fingerprint: fingerprint(pem)?,
        self_signed: tbs.subject() == tbs.issuer(),
    })
}

/// Whether the pages can be served with this certificate and key, at `now` (seconds since 1970).
///
/// # Errors
/// The first thing that stands in the way.
pub fn check(pem: &str, key: &str, now: u64) -> Result<(), Refused> {
    let chain = chain(pem)?;
    let certificate = chain.first().ok_or(Refused::OtherKey)?;
    let tbs = certificate.tbs_certificate();
    if key.len() as u64 > MAX_FILE {
        return Err(Refused::Key);
    }
    let pair = KeyPair::from_pem(key).map_err(|_| Refused::Key)?;
    let own = tbs.subject_public_key_info().subject_public_key.raw_bytes();
    if own != pair.der_bytes() {
        return Err(Refused::OtherKey);
    }
    // The program reads PEM more strictly: what it would not serve must not take the place of what it serves.
    if !serves(pem, key) {
        return Err(Refused::Key);
    }
    if tbs.validity().not_after.to_unix_duration().as_secs() <= now {
        return Err(Refused::Ended);
    }
    match names(certificate).is_empty() {
        true => Err(Refused::NoName),
        false => Ok(()),
    }
}

/// Makes a certificate that the box signs itself, and its key: in PEM. Valid for ten years from
/// `created` (seconds since 1970): the clock of a new box may be wrong, the image's is not.
pub fn self_signed(host: &str, created: u64) -> Result<(String, String), rcgen::Error> {
    let names = vec![
        host.to_owned(),
        format!("{host}.local"),
        "localhost".to_owned(),
    ];
    let mut asked = rcgen::CertificateParams::new(names)?;
    asked.distinguished_name = rcgen::DistinguishedName::new();
    asked
        .distinguished_name
        .push(rcgen::DnType::CommonName, host);
    let created = i64::try_from(created)
        .ok()
        .and_then(|s| time::OffsetDateTime::from_unix_timestamp(s).ok());
    let from = created
        .unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
        .max(rcgen::date_time_ymd(2025, 1, 1));
    asked.not_before = from;
    asked.not_after = from.checked_add(time::Duration::days(3650)).unwrap_or(from);
    asked.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let certificate = asked.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// The SHA-256 of the first certificate of a PEM text, as browsers show it: `AB:CD:…`.
pub fn fingerprint(pem: &str) -> Option<String> {
    let der = first_block(pem, "CERTIFICATE")?;
    let hash = digest::digest(&digest::SHA256, &der);
    let pairs: Vec<String> = hash
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    Some(pairs.join(":"))
}

/// The SHA-256 of the public key of the first certificate of a PEM text, in base64: what a browser is told to trust whoever
/// vouches for it (RFC 7469, 2.4).
pub fn pin(pem: &str) -> Option<String> {
    let der = CertificateDer::from(first_block(pem, "CERTIFICATE")?);
    let key = ParsedCertificate::try_from(&der).ok()?;
    let hash = digest::digest(&digest::SHA256, &key.subject_public_key_info());
    Some(BASE64_STANDARD.encode(hash))
}

/// Whether the program can serve this certificate with this key.
pub(crate) fn serves(chain: &str, key: &str) -> bool {
    let served = || {
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
        CertifiedKey::from_der(chain.ok()?, key.ok()?, &default_provider()).ok()
    };
    served().is_some()
}

pub(crate) fn first_block(pem: &str, ends: &str) -> Option<Vec<u8>> {
    let start = pem.lines().skip_while(|line| {
        !(line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&format!("{ends}-----")))
    });
    let body: String = start
        .skip(1)
        .take_while(|line| !line.starts_with("-----"))
        .map(str::trim)
        .collect();
    let der = BASE64_STANDARD.decode(body).ok()?;
    (!der.is_empty()).then_some(der)
}

#[cfg(test)]
mod tests {
    use super::*;
    use palabre_init::mutate::Seeded;

    const NOW: u64 = 1_790_000_000;

    #[test]
    fn a_certificate_says_whose_it_is_and_until_when() {
        let (pem, key) = self_signed("palabre-ab7f", NOW).unwrap();
        let facts = facts(&pem).unwrap();
        assert_eq!(facts.subject, "CN=palabre-ab7f");
        assert_eq!(
            facts.names,
            ["palabre-ab7f", "palabre-ab7f.local", "localhost"]
        );
        assert_eq!(facts.not_before, NOW);
        assert_eq!(facts.not_after, NOW + 3650 * 86_400);
        assert!(facts.self_signed);
        assert_eq!(Some(facts.fingerprint), fingerprint(&pem));
        assert_eq!(check(&pem, &key, NOW), Ok(()));
    }

    #[test]
    fn a_certificate_of_others_is_taken_with_its_chain() {
        let issuer_key =
            KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
        let issuer_key = issuer_key.unwrap();
        let mut asked = rcgen::CertificateParams::default();
        let name = &mut asked.distinguished_name;
        name.push(rcgen::DnType::CommonName, "Authority");
        asked.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = asked.self_signed(&issuer_key).unwrap();
        let issuer = rcgen::Issuer::from_params(&asked, &issuer_key);
        for algorithm in [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ED25519,
            &rcgen::PKCS_RSA_SHA256,
        ] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let names = ["meet.example.org".to_owned(), "192.0.2.10".to_owned()];
            let asked = rcgen::CertificateParams::new(names).unwrap();
            let own = asked.signed_by(&key, &issuer).unwrap();
            let chain = own.pem() + &authority.pem();
            assert_eq!(check(&chain, &key.serialize_pem(), NOW), Ok(()));
            let facts = facts(&chain).unwrap();
            assert!(!facts.self_signed);
            assert_eq!(facts.names, ["meet.example.org", "192.0.2.10"]);
            // In the wrong order the key is another's.
            let turned = authority.pem() + &own.pem();
            let refused = check(&turned, &key.serialize_pem(), NOW);
            assert_eq!(refused, Err(Refused::OtherKey));
        }
    }

    #[test]
    fn what_would_not_serve_is_refused_with_the_reason() {
        let (pem, key) = self_signed("box", NOW).unwrap();
        let (_, other) = self_signed("box", NOW).unwrap();
        let code = |pem: &str, key: &str, now| check(pem, key, now).unwrap_err().code();
        assert_eq!(code(&pem, &other, NOW), "certificate-other-key");
        assert_eq!(code(&pem, &pem, NOW), "certificate-key");
        let sealed =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert_eq!(code(&pem, sealed, NOW), "certificate-key");
        let unnamed = key.replace("PRIVATE KEY", "KEY");
        assert_eq!(code(&pem, &unnamed, NOW), "certificate-key");
        assert_eq!(code(&key, &key, NOW), "certificate-chain");
        assert_eq!(code("", &key, NOW), "certificate-chain");
        assert_eq!(code(&pem.repeat(11), &key, NOW), "certificate-chain");
        assert_eq!(code(&"x".repeat(70_000), &key, NOW), "certificate-chain");
        assert_eq!(code(&pem, &key, NOW + 3650 * 86_400), "certificate-ended");
        let nameless = rcgen::CertificateParams::default();
        let own = KeyPair::generate().unwrap();
        let nameless = nameless.self_signed(&own).unwrap().pem();
        assert_eq!(
            code(&nameless, &own.serialize_pem(), NOW),
            "certificate-no-name"
        );
    }

    #[test]
    fn damage_is_refused_and_never_a_panic() {
        let (pem, key) = self_signed("box", NOW).unwrap();
        let mut seeded = Seeded(3);
        for _ in 0..3_000 {
            let mut bytes = pem.clone().into_bytes();
            seeded.damage(&mut bytes);
            let text = String::from_utf8_lossy(&bytes);
            let _ = facts(&text);
            let _ = check(&text, &key, NOW);
        }
    }
}
