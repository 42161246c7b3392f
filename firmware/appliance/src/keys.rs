//! The keys that sign updates: two public ones in every image (the current and the next), so that
//! a rotation strands no box, and the private ones on the build side.

use std::fs;
use std::io;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

/// Who vouches for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// Keys made on the spot: anybody can have them. Never for a box in service.
    Development,
    /// Keys that somebody guards.
    Release,
}

impl Channel {
    /// The word in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Release => "release",
        }
    }
}

/// A public key and who made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// The 32 bytes of RFC 8032.
    pub bytes: [u8; 32],
    /// Whether it is for development.
    pub channel: Channel,
}

impl PublicKey {
    /// Reads one line: `ed25519 <64 hexadecimal digits> development|release`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let (kind, digits, channel) = (words.next()?, words.next()?, words.next()?);
        if kind != "ed25519" || words.next().is_some() || digits.len() != 64 {
            return None;
        }
        let channel = match channel {
            "development" => Channel::Development,
            "release" => Channel::Release,
            _ => return None,
        };
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            let high = char::from(pair[0]).to_digit(16)?;
            let low = char::from(pair[1]).to_digit(16)?;
            *byte = (high << 4 | low) as u8;
        }
        Some(Self { bytes, channel })
    }

    /// The line that [`PublicKey::parse`] reads.
    pub fn line(&self) -> String {
        let digits = crate::bundle::hex(&self.bytes);
        format!("ed25519 {digits} {}\n", self.channel.name())
    }

    /// Whether `signature` is this key's over `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.bytes)
            .verify(message, signature)
            .is_ok()
    }
}

/// Reads `current.pub` and `next.pub` of a folder. The next one may be absent, not unreadable.
pub fn trusted(folder: &Path) -> io::Result<Vec<PublicKey>> {
    let mut keys = Vec::new();
    for name in ["current.pub", "next.pub"] {
        let path = folder.join(name);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && name == "next.pub" => continue,
            other => other.map_err(|error| named(&path, error))?,
        };
        keys.push(PublicKey::parse(&text).ok_or_else(|| invalid(&path, "is not a public key"))?);
    }
    Ok(keys)
}

/// Where the 32 bytes of a key are in the public half of RFC 8410, after what says that it is one.
const SPKI: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// The public half, for releases, of a PEM file: a private key (PKCS#8), or, of a key that stays in a token, the public one
/// (RFC 8410), as openssl writes them.
///
/// # Errors
/// When the file cannot be read or is neither.
pub fn public_of(path: &Path) -> io::Result<PublicKey> {
    let text = fs::read_to_string(path).map_err(|error| named(path, error))?;
    if !text.contains("BEGIN PUBLIC KEY") {
        return Ok(PrivateKey::read(path)?.public(Channel::Release));
    }
    let bytes = from_pem(&text)
        .and_then(|der| <[u8; 32]>::try_from(der.strip_prefix(&SPKI)?).ok())
        .ok_or_else(|| invalid(path, "is not an Ed25519 public key in PEM"))?;
    Ok(PublicKey {
        bytes,
        channel: Channel::Release,
    })
}

/// Whether a folder of the build side suits images of `channel`: both public keys are there, are two, and are of it, and no
/// certificate of a release is one of those that are made for development.
///
/// # Errors
/// With the file that does not.
pub fn check(folder: &Path, channel: Channel) -> io::Result<()> {
    let mut seen = Vec::new();
    for name in ["bundle-current.pub", "bundle-next.pub"] {
        let path = folder.join(name);
        let text = fs::read_to_string(&path).map_err(|error| named(&path, error))?;
        let key = PublicKey::parse(&text).ok_or_else(|| {
            invalid(&path, "is not a line `ed25519 HEX release`; `firmware/fw keys public FILE` makes one of a PEM file")
        })?;
        if key.channel != channel {
            let what = format!(
                "is a key for {}, not {}",
                key.channel.name(),
                channel.name()
            );
            return Err(invalid(&path, &what));
        }
        if seen.contains(&key.bytes) {
            return Err(invalid(
                &path,
                "is the current key again: a lost one could not be replaced",
            ));
        }
        seen.push(key.bytes);
    }
    let path = folder.join("secureboot.crt");
    let text = fs::read_to_string(&path).map_err(|error| named(&path, error))?;
    let certificate = from_pem(&text).ok_or_else(|| invalid(&path, "is no certificate in PEM"))?;
    let word = b"DEVELOPMENT";
    if channel == Channel::Release && certificate.windows(word.len()).any(|part| part == word) {
        return Err(invalid(&path, "is a certificate for development"));
    }
    Ok(())
}

/// What is between the lines of a PEM file (RFC 7468).
fn from_pem(text: &str) -> Option<Vec<u8>> {
    let body: String = text
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    BASE64_STANDARD.decode(body).ok()
}

/// A private key of the build side.
#[derive(Debug)]
pub struct PrivateKey(Ed25519KeyPair);

impl PrivateKey {
    /// A new key from the randomness of the system.
    ///
    /// # Panics
    /// When the system has no randomness.
    pub fn generate() -> Self {
        Self(Ed25519KeyPair::generate().expect("the system has randomness"))
    }

    /// Reads a PKCS#8 PEM file, as `openssl genpkey -algorithm ed25519` writes too.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(path).map_err(|error| named(path, error))?;
        let key = from_pem(&text).and_then(|der| Ed25519KeyPair::from_pkcs8(&der).ok());
        key.map(Self)
            .ok_or_else(|| invalid(path, "is not an Ed25519 private key in PKCS#8 PEM"))
    }

    /// Its public half.
    pub fn public(&self, channel: Channel) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.public_key().as_ref());
        PublicKey { bytes, channel }
    }

    /// Signs.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.0.sign(message).as_ref());
        signature
    }

    fn pem(&self) -> String {
        let der: Pkcs8V1Der<'_> = self.0.as_der().expect("a key that was made can be written");
        let body = BASE64_STANDARD.encode(der.as_ref());
        format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
    }
}

/// Makes every key that a build for development needs in `folder`. What is there stays.
pub fn make_for_development(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let marker = "Keys for development, made on the spot. A release build refuses this folder.\n";
    write_new(&folder.join("DEVELOPMENT"), marker, 0o644)?;
    for name in ["bundle-current", "bundle-next"] {
        let (private, public) = (
            folder.join(format!("{name}.key")),
            folder.join(format!("{name}.pub")),
        );
        if !private.exists() {
            write_new(&private, &PrivateKey::generate().pem(), 0o600)?;
        }
        let line = PrivateKey::read(&private)?
            .public(Channel::Development)
            .line();
        write_new(&public, &line, 0o644)?;
    }
    let secure_boot = folder.join("secureboot.key");
    if !secure_boot.exists() {
        let key = rsa()?;
        let mut asked = rcgen::CertificateParams::default();
        asked.distinguished_name = rcgen::DistinguishedName::new();
        asked
            .distinguished_name
            .push(rcgen::DnType::CommonName, "Palabre DEVELOPMENT Secure Boot");
        asked.not_before = rcgen::date_time_ymd(2025, 1, 1);
        asked.not_after = rcgen::date_time_ymd(2055, 1, 1);
        let certificate = asked.self_signed(&key).map_err(io::Error::other)?;
        write_new(&folder.join("secureboot.crt"), &certificate.pem(), 0o644)?;
        write_new(&secure_boot, &key.serialize_pem(), 0o600)?;
    }
    let policy = folder.join("pcr.key");
    if !policy.exists() {
        let key = rsa()?;
        write_new(&folder.join("pcr.pub"), &key.public_key_pem(), 0o644)?;
        write_new(&policy, &key.serialize_pem(), 0o600)?;
    }
    Ok(())
}

/// Firmware knows RSA of 2048 bits for certain, and no Ed25519.
fn rsa() -> io::Result<rcgen::KeyPair> {
    rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)
        .map_err(io::Error::other)
}

fn write_new(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    match options.write(true).create_new(true).mode(mode).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(named(path, error)),
    }
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn invalid(path: &Path, what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{} {what}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn development_keys_are_made_once_and_sign() {
        let folder = tempfile::tempdir().unwrap();
        make_for_development(folder.path()).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let before = read("bundle-current.key");
        make_for_development(folder.path()).unwrap();
        assert_eq!(before, read("bundle-current.key"));
        let public = PublicKey::parse(&read("bundle-current.pub")).unwrap();
        assert_eq!(public.channel, Channel::Development);
        let private = PrivateKey::read(&folder.path().join("bundle-current.key")).unwrap();
        let signature = private.sign(b"words");
        assert!(public.verifies(b"words", &signature));
        assert!(!public.verifies(b"other", &signature));
        let next = PublicKey::parse(&read("bundle-next.pub")).unwrap();
        assert!(!next.verifies(b"words", &signature));
        assert!(read("secureboot.crt").contains("BEGIN CERTIFICATE"));
        assert!(read("pcr.pub").contains("BEGIN PUBLIC KEY"));
    }

    #[test]
    fn keys_of_a_release_are_told_from_those_of_development() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        make_for_development(folder.path()).unwrap();
        make_for_development(other.path()).unwrap();
        let file = |name: &str| folder.path().join(name);
        check(folder.path(), Channel::Development).unwrap();
        let refused = |what: &str| {
            let error = check(folder.path(), Channel::Release).unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
        };
        refused("bundle-current.pub is a key for development");
        let current = public_of(&file("bundle-current.key")).unwrap();
        assert_eq!(current.channel, Channel::Release);
        fs::write(file("bundle-current.pub"), current.line()).unwrap();
        refused("bundle-next.pub is a key for development");
        fs::write(file("bundle-next.pub"), current.line()).unwrap();
        refused("bundle-next.pub is the current key again");
        // As `openssl pkey -pubout` writes it: RFC 8410, section 10.1.
        let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        fs::write(file("next.pem"), pem).unwrap();
        let next = public_of(&file("next.pem")).unwrap();
        assert!(
            next.line()
                .starts_with("ed25519 19bf44096984cdfe8541bac167dc3b96")
        );
        fs::write(file("bundle-next.pub"), next.line()).unwrap();
        refused("secureboot.crt is a certificate for development");
        fs::write(file("bundle-next.pub"), pem).unwrap();
        refused("bundle-next.pub is not a line");
        fs::remove_file(file("bundle-next.pub")).unwrap();
        refused("bundle-next.pub");
        fs::write(file("next.pem"), pem.replace("MCow", "MCox")).unwrap();
        assert!(public_of(&file("next.pem")).is_err());
    }

    #[test]
    fn a_line_that_is_no_key_is_refused() {
        let good = PublicKey {
            bytes: [7; 32],
            channel: Channel::Release,
        }
        .line();
        assert!(PublicKey::parse(&good).is_some());
        for wrong in [
            "".to_owned(),
            good.replace("ed25519", "rsa"),
            good.replace("release", "other"),
            format!("{} more", good.trim()),
            good.replacen("07", "", 1),
            good.replacen("07", "+7", 1),
        ] {
            assert_eq!(PublicKey::parse(&wrong), None, "{wrong}");
        }
        let folder = tempfile::tempdir().unwrap();
        assert!(trusted(folder.path()).is_err());
        fs::write(folder.path().join("current.pub"), &good).unwrap();
        assert_eq!(trusted(folder.path()).unwrap().len(), 1);
        fs::write(folder.path().join("next.pub"), "junk").unwrap();
        assert!(trusted(folder.path()).is_err());
    }

    /// RFC 8032, section 7.1, test 2.
    #[test]
    fn the_standard_vector_verifies() {
        let line =
            "ed25519 3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c release";
        let signature = [
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da",
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ]
        .concat();
        let signature: Vec<u8> = (0..64)
            .map(|i| u8::from_str_radix(&signature[2 * i..2 * i + 2], 16).unwrap())
            .collect();
        assert!(
            PublicKey::parse(line)
                .unwrap()
                .verifies(&[0x72], &signature)
        );
    }
}
