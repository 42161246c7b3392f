//! The part of STUN (RFC 8489) an ICE-lite agent needs: reading authenticated binding
//! requests, writing their answers.
//!
//! Never sends requests, never allocates while reading, never answers what is not
//! authenticated.

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::hmac;

use super::DatagramRefusal;
use super::parameters::IceCredentials;

const HEADER: usize = 20;
pub(super) const MAGIC_COOKIE: u32 = 0x2112_A442;
const FINGERPRINT_XOR: u32 = 0x5354_554E;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_INDICATION: u16 = 0x0011;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;
const ICE_CONTROLLING: u16 = 0x802A;

const INTEGRITY_LEN: usize = 20;
/// Attributes in one message. Browsers send eight or nine; more is somebody playing.
const MAX_ATTRIBUTES: usize = 32;

pub(super) type TransactionId = [u8; 12];

/// A binding request that is well formed. Not yet authenticated: see [`Self::is_authentic`].
#[derive(Debug)]
pub(super) struct BindingRequest<'a> {
    message: &'a [u8],
    integrity_at: usize,
    /// USERNAME up to the first colon: our ufrag.
    pub(super) local_ufrag: &'a str,
    /// USERNAME behind the first colon: the peer's ufrag.
    pub(super) remote_ufrag: &'a str,
    pub(super) transaction: TransactionId,
    pub(super) use_candidate: bool,
    /// The peer claims the controlled role, which is always ours (RFC 8445 §6.1.1).
    pub(super) is_controlled: bool,
    /// First comprehension-required attribute we do not know (RFC 8489 §6.3.1).
    pub(super) unknown_required: Option<u16>,
}

impl<'a> BindingRequest<'a> {
    /// Reads a datagram that [`classify`](super::classify) calls STUN.
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, DatagramRefusal> {
        use DatagramRefusal::{StunMalformed, StunUnexpected};

        let (header, body) = message.split_at_checked(HEADER).ok_or(StunMalformed)?;
        let kind = u16::from_be_bytes([header[0], header[1]]);
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let cookie = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        if length != body.len() || !length.is_multiple_of(4) || cookie != MAGIC_COOKIE {
            return Err(StunMalformed);
        }
        match kind {
            BINDING_REQUEST => {}
            // Keep-alives without authentication (RFC 8445 §11), and answers to requests
            // that we, being lite, never send.
            BINDING_INDICATION | BINDING_SUCCESS | BINDING_ERROR => return Err(StunUnexpected),
            _ => return Err(StunUnexpected),
        }

        let mut username = None;
        let mut integrity_at = None;
        let mut has_priority = false;
        let mut use_candidate = false;
        let mut is_controlled = false;
        let mut unknown_required = None;
        let mut at = HEADER;
        for _ in 0..MAX_ATTRIBUTES {
            if at == message.len() {
                break;
            }
            let (kind, value) = attribute_at(message, at).ok_or(StunMalformed)?;
            match kind {
                FINGERPRINT => {
                    let is_last = at + 8 == message.len() && value.len() == 4;
                    if !is_last || value != fingerprint(&message[..at]) {
                        return Err(StunMalformed);
                    }
                }
                // Only FINGERPRINT counts behind MESSAGE-INTEGRITY (RFC 8489 §14.5).
                _ if integrity_at.is_some() => {}
                MESSAGE_INTEGRITY if value.len() == INTEGRITY_LEN => integrity_at = Some(at),
                USERNAME if value.len() <= 513 => {
                    let text = std::str::from_utf8(value).map_err(|_| StunMalformed)?;
                    username = Some(text.split_once(':').ok_or(StunMalformed)?);
                }
                PRIORITY if value.len() == 4 => has_priority = true,
                USE_CANDIDATE if value.is_empty() => use_candidate = true,
                ICE_CONTROLLED if value.len() == 8 => is_controlled = true,
                ICE_CONTROLLING if value.len() == 8 => {}
                MESSAGE_INTEGRITY | USERNAME | PRIORITY | USE_CANDIDATE | ICE_CONTROLLED
                | ICE_CONTROLLING => return Err(StunMalformed),
                0x8000.. => {}
                _ => unknown_required = unknown_required.or(Some(kind)),
            }
            at += 4 + value.len().next_multiple_of(4);
        }
        let (local_ufrag, remote_ufrag) = username.ok_or(StunMalformed)?;
        // RFC 8445 §7.1.1 requires PRIORITY; without it this is a check by no ICE agent.
        if at != message.len() || !has_priority {
            return Err(StunMalformed);
        }
        Ok(Self {
            message,
            integrity_at: integrity_at.ok_or(StunMalformed)?,
            local_ufrag,
            remote_ufrag,
            transaction: message[8..20].try_into().expect("the header has 20 bytes"),
            use_candidate,
            is_controlled,
            unknown_required,
        })
    }

    /// Whether MESSAGE-INTEGRITY was made with this password (RFC 8489 §14.5).
    pub(super) fn is_authentic(&self, pwd: &str) -> bool {
        integrity_holds(self.message, self.integrity_at, pwd)
    }
}

/// The attribute at `at`: its type and value without padding.
fn attribute_at(message: &[u8], at: usize) -> Option<(u16, &[u8])> {
    let head = message.get(at..at + 4)?;
    let kind = u16::from_be_bytes([head[0], head[1]]);
    let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
    let value = message.get(at + 4..at + 4 + length)?;
    message.get(at + 4..at + 4 + length.next_multiple_of(4))?;
    Some((kind, value))
}

fn integrity_holds(message: &[u8], at: usize, pwd: &str) -> bool {
    let mut context = integrity_context(pwd);
    context.update(&message[..2]);
    // The length field as if the message ended behind MESSAGE-INTEGRITY.
    let length = (at - HEADER + 4 + INTEGRITY_LEN) as u16;
    context.update(&length.to_be_bytes());
    context.update(&message[4..at]);
    let value = &message[at + 4..at + 4 + INTEGRITY_LEN];
    aws_lc_rs::constant_time::verify_slices_are_equal(context.sign().as_ref(), value).is_ok()
}

fn integrity_context(pwd: &str) -> hmac::Context {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, pwd.as_bytes());
    hmac::Context::with_key(&key)
}

/// FINGERPRINT of the bytes before it (RFC 8489 §14.7).
fn fingerprint(before: &[u8]) -> [u8; 4] {
    (crc32(before) ^ FINGERPRINT_XOR).to_be_bytes()
}

/// CRC-32 of ITU-T V.42, the one of FINGERPRINT.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let mut value = index as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 {
                    (value >> 1) ^ 0xEDB8_8320
                } else {
                    value >> 1
                };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        TABLE[((crc ^ u32::from(*byte)) & 0xFF) as usize] ^ (crc >> 8)
    })
}

/// The answer to an authentic request: XOR-MAPPED-ADDRESS is where it came from.
pub(super) fn binding_success(
    transaction: TransactionId,
    from: SocketAddr,
    local: &IceCredentials,
) -> Vec<u8> {
    let mut writer = Writer::new(BINDING_SUCCESS, transaction);
    writer.xor_mapped_address(from);
    writer.finish(&local.pwd)
}

/// 487: the peer claims our role (RFC 8445 §7.3.1.1). A lite agent is always controlled.
pub(super) fn role_conflict(transaction: TransactionId, local: &IceCredentials) -> Vec<u8> {
    let mut writer = Writer::new(BINDING_ERROR, transaction);
    writer.attribute(ERROR_CODE, b"\0\0\x04\x57Role Conflict");
    writer.finish(&local.pwd)
}

/// 420: an attribute we had to understand and do not (RFC 8489 §6.3.1.1).
pub(super) fn unknown_attribute(
    transaction: TransactionId,
    attribute: u16,
    local: &IceCredentials,
) -> Vec<u8> {
    let mut writer = Writer::new(BINDING_ERROR, transaction);
    writer.attribute(ERROR_CODE, b"\0\0\x04\x14Unknown Attribute");
    writer.attribute(UNKNOWN_ATTRIBUTES, &attribute.to_be_bytes());
    writer.finish(&local.pwd)
}

struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn new(kind: u16, transaction: TransactionId) -> Self {
        let mut bytes = Vec::with_capacity(96);
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(MAGIC_COOKIE.to_be_bytes());
        bytes.extend(transaction);
        Self { bytes }
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.bytes.extend(kind.to_be_bytes());
        self.bytes.extend((value.len() as u16).to_be_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn xor_mapped_address(&mut self, address: SocketAddr) {
        let port = address.port() ^ (MAGIC_COOKIE >> 16) as u16;
        let mut value = [0; 20];
        value[2..4].copy_from_slice(&port.to_be_bytes());
        // A socket for both families shows IPv4 peers as ::ffff:a.b.c.d; the peer knows itself as
        // a.b.c.d.
        let length = match address.ip().to_canonical() {
            IpAddr::V4(ip) => {
                value[1] = 1;
                let ip = u32::from(ip) ^ MAGIC_COOKIE;
                value[4..8].copy_from_slice(&ip.to_be_bytes());
                8
            }
            IpAddr::V6(ip) => {
                value[1] = 2;
                // The mask is the magic cookie and the transaction id, as they stand in the header.
                for ((to, octet), mask) in value[4..]
                    .iter_mut()
                    .zip(ip.octets())
                    .zip(&self.bytes[4..20])
                {
                    *to = octet ^ mask;
                }
                20
            }
        };
        self.attribute(XOR_MAPPED_ADDRESS, &value[..length]);
    }

    fn finish(mut self, pwd: &str) -> Vec<u8> {
        self.set_length(4 + INTEGRITY_LEN);
        let mut context = integrity_context(pwd);
        context.update(&self.bytes);
        let tag = context.sign();
        self.attribute(MESSAGE_INTEGRITY, tag.as_ref());
        self.set_length(8);
        let fingerprint = fingerprint(&self.bytes);
        self.attribute(FINGERPRINT, &fingerprint);
        self.bytes
    }

    /// Sets the length field for a message that still gets `more` bytes.
    fn set_length(&mut self, more: usize) {
        let length = (self.bytes.len() - HEADER + more) as u16;
        self.bytes[2..4].copy_from_slice(&length.to_be_bytes());
    }
}

#[cfg(test)]
mod tests;
