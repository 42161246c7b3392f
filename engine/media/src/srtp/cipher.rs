//! The transforms on one packet with one session key: AEAD_AES_GCM (RFC 7714) and
//! AES_CM with HMAC_SHA1_80 (RFC 3711 §4.1.1, §4.2.1).
//!
//! Keyed contexts are made once. No state changes here: indices come from the caller.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;

use super::{SrtpError, SrtpKeyError, SrtpProfile};

/// Bytes of the GCM tag.
const GCM_TAG: usize = 16;
/// Bytes kept of the HMAC-SHA1 output.
const SHA1_TAG: usize = 10;
/// Bytes in front of the encrypted part of an RTCP packet.
const RTCP_CLEAR: usize = 8;
/// Bytes of the trailing word of an SRTCP packet.
const TRAILER: usize = 4;
/// The flag in the trailing word that says the packet is encrypted.
const ENCRYPTED: u32 = 0x8000_0000;

pub(super) enum Cipher {
    Gcm {
        key: LessSafeKey,
        salt: [u8; 12],
    },
    /// Apart: its keys are 1.7 KiB, and it is the fallback.
    Cm(Box<CounterMode>),
}

pub(super) struct CounterMode {
    key: EncryptingKey,
    mac: hmac::Key,
    salt: [u8; 14],
}

impl Cipher {
    /// A cipher on session keys, as derived.
    pub(super) fn new(
        profile: SrtpProfile,
        key: &[u8],
        salt: &[u8],
        mac_key: &[u8],
    ) -> Result<Self, SrtpKeyError> {
        let algorithm = match profile {
            SrtpProfile::AeadAes128Gcm => &AES_128_GCM,
            SrtpProfile::AeadAes256Gcm => &AES_256_GCM,
            SrtpProfile::AesCm128HmacSha1_80 => {
                let unbound = UnboundCipherKey::new(&AES_128, key).map_err(|_| SrtpKeyError)?;
                return Ok(Cipher::Cm(Box::new(CounterMode {
                    key: EncryptingKey::ctr(unbound).map_err(|_| SrtpKeyError)?,
                    mac: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, mac_key),
                    salt: salt.try_into().map_err(|_| SrtpKeyError)?,
                })));
            }
        };
        let unbound = UnboundKey::new(algorithm, key).map_err(|_| SrtpKeyError)?;
        Ok(Cipher::Gcm {
            key: LessSafeKey::new(unbound),
            salt: salt.try_into().map_err(|_| SrtpKeyError)?,
        })
    }

    fn tag_len(&self) -> usize {
        match self {
            Cipher::Gcm { .. } => GCM_TAG,
            Cipher::Cm(_) => SHA1_TAG,
        }
    }

    /// Encrypts the packet in `buffer[..len]` behind its header and appends the tag.
    #[inline]
    pub(super) fn seal_rtp(
        &self,
        buffer: &mut [u8],
        len: usize,
        header_len: usize,
        ssrc: u32,
        index: u64,
    ) -> Result<usize, SrtpError> {
        let total = len + self.tag_len();
        let packet = buffer.get_mut(..total).ok_or(SrtpError::Full)?;
        match self {
            Cipher::Gcm { key, salt } => {
                let (header, rest) = packet.split_at_mut(header_len);
                let (payload, tag) = rest.split_at_mut(len - header_len);
                let nonce = gcm_nonce(salt, ssrc, index);
                let sealed = key
                    .seal_in_place_separate_tag(nonce, Aad::from(&*header), payload)
                    .expect("a packet is shorter than the limit of GCM");
                tag.copy_from_slice(sealed.as_ref());
            }
            Cipher::Cm(cm) => {
                let CounterMode { key, mac, salt } = &**cm;
                apply_key_stream(key, salt, ssrc, index, &mut packet[header_len..len]);
                let tag = rtp_mac(mac, &packet[..len], index);
                packet[len..].copy_from_slice(&tag.as_ref()[..SHA1_TAG]);
            }
        }
        Ok(total)
    }

    /// Checks the tag and decrypts in place; the length without tag.
    #[inline]
    pub(super) fn open_rtp(
        &self,
        packet: &mut [u8],
        header_len: usize,
        ssrc: u32,
        index: u64,
    ) -> Result<usize, SrtpError> {
        let len = packet
            .len()
            .checked_sub(self.tag_len())
            .ok_or(SrtpError::Short)?;
        if len < header_len {
            return Err(SrtpError::Short);
        }
        match self {
            Cipher::Gcm { key, salt } => {
                let (header, sealed) = packet.split_at_mut(header_len);
                key.open_in_place(gcm_nonce(salt, ssrc, index), Aad::from(&*header), sealed)
                    .map_err(|_| SrtpError::Authentication)?;
            }
            Cipher::Cm(cm) => {
                let CounterMode { key, mac, salt } = &**cm;
                let tag = rtp_mac(mac, &packet[..len], index);
                verify_slices_are_equal(&tag.as_ref()[..SHA1_TAG], &packet[len..])
                    .map_err(|_| SrtpError::Authentication)?;
                apply_key_stream(key, salt, ssrc, index, &mut packet[header_len..len]);
            }
        }
        Ok(len)
    }

    /// Encrypts the compound packet in `buffer[..len]` behind its first 8 bytes and appends
    /// tag and index (RFC 3711 §3.4, RFC 7714 §9.2).
    pub(super) fn seal_rtcp(
        &self,
        buffer: &mut [u8],
        len: usize,
        ssrc: u32,
        index: u32,
    ) -> Result<usize, SrtpError> {
        let total = len + self.tag_len() + TRAILER;
        let packet = buffer.get_mut(..total).ok_or(SrtpError::Full)?;
        let trailer = (ENCRYPTED | index).to_be_bytes();
        match self {
            Cipher::Gcm { key, salt } => {
                let mut aad = [0; RTCP_CLEAR + TRAILER];
                aad[..RTCP_CLEAR].copy_from_slice(&packet[..RTCP_CLEAR]);
                aad[RTCP_CLEAR..].copy_from_slice(&trailer);
                let nonce = gcm_nonce(salt, ssrc, u64::from(index));
                let tag = key
                    .seal_in_place_separate_tag(nonce, Aad::from(aad), &mut packet[RTCP_CLEAR..len])
                    .expect("a packet is shorter than the limit of GCM");
                packet[len..len + GCM_TAG].copy_from_slice(tag.as_ref());
                packet[len + GCM_TAG..].copy_from_slice(&trailer);
            }
            Cipher::Cm(cm) => {
                let CounterMode { key, mac, salt } = &**cm;
                let payload = &mut packet[RTCP_CLEAR..len];
                apply_key_stream(key, salt, ssrc, u64::from(index), payload);
                packet[len..len + TRAILER].copy_from_slice(&trailer);
                let tag = hmac::sign(mac, &packet[..len + TRAILER]);
                packet[len + TRAILER..].copy_from_slice(&tag.as_ref()[..SHA1_TAG]);
            }
        }
        Ok(total)
    }

    /// The index an SRTCP packet says it has, not yet authenticated.
    pub(super) fn rtcp_index(&self, packet: &[u8]) -> Result<u32, SrtpError> {
        if packet.len() < RTCP_CLEAR + self.tag_len() + TRAILER {
            return Err(SrtpError::Short);
        }
        Ok(self.trailer(packet) & !ENCRYPTED)
    }

    /// Checks the tag and decrypts in place; the length without tag and index. A packet that
    /// says it is not encrypted is accepted if it is authentic (RFC 3711 §3.4). `packet` has
    /// the length that [`Self::rtcp_index`] demands.
    pub(super) fn open_rtcp(&self, packet: &mut [u8], ssrc: u32) -> Result<usize, SrtpError> {
        let word = self.trailer(packet);
        let (trailer, index) = (word.to_be_bytes(), u64::from(word & !ENCRYPTED));
        let len = packet.len() - self.tag_len() - TRAILER;
        match self {
            Cipher::Gcm { key, salt } if word & ENCRYPTED != 0 => {
                let mut aad = [0; RTCP_CLEAR + TRAILER];
                aad[..RTCP_CLEAR].copy_from_slice(&packet[..RTCP_CLEAR]);
                aad[RTCP_CLEAR..].copy_from_slice(&trailer);
                let sealed = &mut packet[RTCP_CLEAR..len + GCM_TAG];
                key.open_in_place(gcm_nonce(salt, ssrc, index), Aad::from(aad), sealed)
                    .map_err(|_| SrtpError::Authentication)?;
            }
            Cipher::Gcm { key, salt } => {
                let mut tag = [0; GCM_TAG];
                tag.copy_from_slice(&packet[len..len + GCM_TAG]);
                // Authenticated are the packet and the trailer, which the tag stands between.
                packet[len..len + TRAILER].copy_from_slice(&trailer);
                let aad = Aad::from(&packet[..len + TRAILER]);
                key.open_in_place(gcm_nonce(salt, ssrc, index), aad, &mut tag)
                    .map_err(|_| SrtpError::Authentication)?;
            }
            Cipher::Cm(cm) => {
                let CounterMode { key, mac, salt } = &**cm;
                let (authentic, received) = packet.split_at_mut(len + TRAILER);
                let tag = hmac::sign(mac, authentic);
                verify_slices_are_equal(&tag.as_ref()[..SHA1_TAG], received)
                    .map_err(|_| SrtpError::Authentication)?;
                if word & ENCRYPTED != 0 {
                    apply_key_stream(key, salt, ssrc, index, &mut authentic[RTCP_CLEAR..len]);
                }
            }
        }
        Ok(len)
    }

    /// The trailing word: last with GCM, in front of the tag with HMAC.
    fn trailer(&self, packet: &[u8]) -> u32 {
        let end = match self {
            Cipher::Gcm { .. } => packet.len(),
            Cipher::Cm(_) => packet.len() - SHA1_TAG,
        };
        let word: [u8; TRAILER] = packet[end - TRAILER..end].try_into().expect("four bytes");
        u32::from_be_bytes(word)
    }
}

/// 00 00, SSRC, index in 48 bits, all XOR salt (RFC 7714 §8.1); an SRTCP index of 31 bits
/// gives the form of §9.1.
#[inline]
fn gcm_nonce(salt: &[u8; 12], ssrc: u32, index: u64) -> Nonce {
    let value = (u128::from(ssrc) << 48) | u128::from(index);
    let mut block = [0; 16];
    block[4..].copy_from_slice(salt);
    let block = (u128::from_be_bytes(block) ^ value).to_be_bytes();
    let mut nonce = [0; NONCE_LEN];
    nonce.copy_from_slice(&block[4..]);
    Nonce::assume_unique_for_key(nonce)
}

/// The initial counter block: salt, SSRC and index at bits 16, 64 and 16 (RFC 3711 §4.1.1).
fn apply_key_stream(key: &EncryptingKey, salt: &[u8; 14], ssrc: u32, index: u64, data: &mut [u8]) {
    let value = (u128::from(ssrc) << 64) | (u128::from(index) << 16);
    let mut block = [0; 16];
    block[..14].copy_from_slice(salt);
    let block = (u128::from_be_bytes(block) ^ value).to_be_bytes();
    key.less_safe_encrypt(data, EncryptionContext::Iv128(FixedLength::from(block)))
        .expect("counter mode takes any length");
}

/// HMAC over packet and rollover counter (RFC 3711 §4.2).
fn rtp_mac(key: &hmac::Key, packet: &[u8], index: u64) -> hmac::Tag {
    let mut mac = hmac::Context::with_key(key);
    mac.update(packet);
    mac.update(&((index >> 16) as u32).to_be_bytes());
    mac.sign()
}
