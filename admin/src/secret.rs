//! Random names and secrets, and the form in which secrets are kept.
//!
//! All randomness of this crate comes from here, from the operating system's generator. Nothing here logs.

use std::fmt;

use aws_lc_rs::digest;
use palabre_engine::directory::RoomCode;

/// Fills `bytes` from the operating system's generator.
///
/// # Panics
/// When the system has no randomness: nothing secret may be made then.
pub(crate) fn random(bytes: &mut [u8]) {
    aws_lc_rs::rand::fill(bytes).expect("the operating system provides randomness");
}

/// A room code nobody can predict.
pub(crate) fn room_code() -> RoomCode {
    RoomCode::draw(&mut random)
}

/// Lower-case letters and digits that are not mistaken for each other (Crockford's base 32).
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// `letters` random letters of 5 bits each.
pub(crate) fn random_text(letters: usize) -> String {
    let mut bytes = vec![0u8; letters];
    random(&mut bytes);
    bytes
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte & 31)]))
        .collect()
}

/// A text that opens something. `Debug` hides it, and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes charge of a secret text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for whoever must show or send it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// SHA-256 of a secret that is long and random, so that nothing slower is needed.
pub(crate) fn hash(secret: &str) -> Vec<u8> {
    digest::digest(&digest::SHA256, secret.as_bytes())
        .as_ref()
        .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_texts_differ_and_use_the_alphabet() {
        let (a, b) = (random_text(32), random_text(32));
        assert_ne!(a, b);
        assert!(a.bytes().all(|letter| ALPHABET.contains(&letter)));
    }

    #[test]
    fn a_secret_does_not_show_in_logs() {
        assert_eq!(format!("{:?}", Secret::new("hunter2".into())), "Secret(…)");
    }
}
