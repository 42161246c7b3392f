//! Key derivation with AES in counter mode (RFC 3711 §4.3, RFC 6188 §3, RFC 7714 §11).
//!
//! The key derivation rate is zero: each session key is derived once.

use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;

use super::cipher::Cipher;
use super::{MasterKey, SrtpKeyError, SrtpProfile};

/// Labels of the RTP keys (RFC 3711 §4.3.1): encryption, authentication, salt.
const RTP: [u8; 3] = [0, 1, 2];
/// Labels of the RTCP keys (RFC 3711 §4.3.2).
const RTCP: [u8; 3] = [3, 4, 5];

/// Session ciphers for RTP and RTCP.
pub(super) fn ciphers(
    profile: SrtpProfile,
    master: MasterKey<'_>,
) -> Result<(Cipher, Cipher), SrtpKeyError> {
    if master.key.len() != profile.key_len() || master.salt.len() != profile.salt_len() {
        return Err(SrtpKeyError);
    }
    Ok((
        cipher(profile, master, RTP)?,
        cipher(profile, master, RTCP)?,
    ))
}

fn cipher(
    profile: SrtpProfile,
    master: MasterKey<'_>,
    [encryption, authentication, salting]: [u8; 3],
) -> Result<Cipher, SrtpKeyError> {
    let mut key = [0; 32];
    let key = &mut key[..profile.key_len()];
    derive(master, encryption, key)?;
    let mut mac_key = [0; 20];
    derive(master, authentication, &mut mac_key)?;
    let mut salt = [0; 14];
    let salt = &mut salt[..profile.salt_len()];
    derive(master, salting, salt)?;
    Cipher::new(profile, key, salt, &mac_key)
}

/// Fills `key` with the key stream for `label`.
pub(super) fn derive(master: MasterKey<'_>, label: u8, key: &mut [u8]) -> Result<(), SrtpKeyError> {
    let algorithm = match master.key.len() {
        16 => &AES_128,
        32 => &AES_256,
        _ => return Err(SrtpKeyError),
    };
    // The salt is padded to 14 bytes (RFC 7714 §11); the label lands on byte 7 of the block,
    // whose last two bytes count blocks.
    let mut block = [0; 16];
    block[..master.salt.len()].copy_from_slice(master.salt);
    block[7] ^= label;
    key.fill(0);
    let unbound = UnboundCipherKey::new(algorithm, master.key).map_err(|_| SrtpKeyError)?;
    let stream = EncryptingKey::ctr(unbound).map_err(|_| SrtpKeyError)?;
    stream
        .less_safe_encrypt(key, EncryptionContext::Iv128(FixedLength::from(block)))
        .map_err(|_| SrtpKeyError)?;
    Ok(())
}
