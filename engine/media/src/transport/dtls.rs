//! The passive side of a DTLS 1.2 handshake and the record layer behind it.
//!
//! Owns the fingerprint check: no key and no application byte leaves before the peer's
//! certificate is the announced one. Never sends media.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use dimpl::{Dtls, Output};

use super::certificate::{Certificate, fingerprint_of};
use super::{CloseReason, DatagramRefusal, Fingerprint, KeyingMaterial, SrtpProfile};

/// DTLS datagrams accepted before the handshake is complete.
///
/// An honest peer needs about six, and as many again for each lost flight. Higher costs CPU
/// to whoever passed one ICE check and then floods us.
const MAX_HANDSHAKE_DATAGRAMS: u32 = 200;

/// Decrypted messages held while the peer's fingerprint is not known yet.
const MAX_HELD: usize = 16;

/// Largest record we may be handed to encrypt, with room for header and tag.
const BUFFER: usize = 2048;

pub(super) struct DtlsServer {
    certificate: Certificate,
    dtls: Option<Dtls>,
    announced: Option<Fingerprint>,
    seen: Option<Fingerprint>,
    keying: Option<(KeyingMaterial, SrtpProfile)>,
    has_finished: bool,
    state: State,
    handshake_datagrams: u32,
    held: VecDeque<Bytes>,
    deadline: Option<Instant>,
    /// What the handshake calls for; drained by the owner.
    pub(super) outputs: VecDeque<DtlsOutput>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Handshake,
    Connected,
    Closed,
}

#[derive(Debug)]
pub(super) enum DtlsOutput {
    Datagram(Bytes),
    Connected(KeyingMaterial, SrtpProfile),
    /// One decrypted record: an SCTP packet.
    Application(Bytes),
    Closed(CloseReason),
}

/// Whether a datagram is whole records, one after the other: type, version, epoch, number, length, and so many bytes
/// (RFC 6347 §4.1; the version of a first ClientHello may be DTLS 1.0's).
fn is_records(mut datagram: &[u8]) -> bool {
    /// change_cipher_spec to tls12_cid, as IANA registered them.
    const TYPES: std::ops::RangeInclusive<u8> = 20..=25;
    while let Some((header, rest)) = datagram.split_first_chunk::<13>() {
        let [kind, major, minor, .., high, low] = *header;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if !TYPES.contains(&kind) || major != 0xFE || minor < 0xFD || rest.len() < length {
            return false;
        }
        datagram = &rest[length..];
        if datagram.is_empty() {
            return true;
        }
    }
    false
}

impl DtlsServer {
    pub(super) fn new(certificate: Certificate) -> Self {
        Self {
            certificate,
            dtls: None,
            announced: None,
            seen: None,
            keying: None,
            has_finished: false,
            state: State::Handshake,
            handshake_datagrams: 0,
            held: VecDeque::new(),
            deadline: None,
            outputs: VecDeque::new(),
        }
    }

    pub(super) fn set_fingerprint(&mut self, fingerprint: Fingerprint) {
        if self.state == State::Handshake {
            self.announced = Some(fingerprint);
            self.conclude();
        }
    }

    pub(super) fn handle(&mut self, now: Instant, datagram: &[u8]) -> Result<(), DatagramRefusal> {
        match self.state {
            State::Closed => return Err(DatagramRefusal::Closed),
            // The association would drop it too, but in silence.
            _ if !is_records(datagram) => return Err(DatagramRefusal::DtlsMalformed),
            State::Handshake if self.handshake_datagrams >= MAX_HANDSHAKE_DATAGRAMS => {
                return Err(DatagramRefusal::DtlsFlood);
            }
            State::Handshake => self.handshake_datagrams += 1,
            State::Connected => {}
        }
        let certificate = &self.certificate;
        let dtls = self.dtls.get_or_insert_with(|| {
            Dtls::new_12(certificate.config(), certificate.certificate(), now)
        });
        let outcome = dtls
            .handle_timeout(now)
            .and_then(|()| dtls.handle_packet(datagram));
        self.drain();
        if outcome.is_err() {
            self.fail(CloseReason::DtlsFailed);
        }
        Ok(())
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.state == State::Closed || self.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        let Some(dtls) = &mut self.dtls else { return };
        let outcome = dtls.handle_timeout(now);
        self.drain();
        if outcome.is_err() {
            self.fail(CloseReason::DtlsFailed);
        } else if self.deadline.is_some_and(|deadline| deadline <= now) {
            // A timer that stays due after it ran would spin the worker.
            self.deadline = None;
        }
    }

    /// Encrypts one SCTP packet.
    pub(super) fn send(&mut self, now: Instant, packet: &[u8]) {
        if self.state != State::Connected {
            return;
        }
        let dtls = self
            .dtls
            .as_mut()
            .expect("connected means there is an association");
        let outcome = dtls
            .handle_timeout(now)
            .and_then(|()| dtls.send_application_data(packet).map(|_| ()));
        // Drained at once: the record layer queues few datagrams.
        self.drain();
        if outcome.is_err() {
            self.fail(CloseReason::DtlsFailed);
        }
    }

    pub(super) fn close(&mut self) {
        if self.state == State::Closed {
            return;
        }
        if let Some(dtls) = &mut self.dtls
            && dtls.close().is_ok()
        {
            self.drain();
        }
        self.fail(CloseReason::Local);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline.filter(|_| self.state != State::Closed)
    }

    pub(super) fn is_connected(&self) -> bool {
        self.state == State::Connected
    }

    fn drain(&mut self) {
        let Some(dtls) = &mut self.dtls else { return };
        let mut buffer = vec![0; BUFFER];
        loop {
            match dtls.poll_output(&mut buffer) {
                Output::Packet(packet) => {
                    self.outputs
                        .push_back(DtlsOutput::Datagram(Bytes::copy_from_slice(packet)));
                }
                Output::BufferTooSmall { needed } => buffer.resize(needed, 0),
                Output::Timeout(at) => {
                    self.deadline = Some(at);
                    break;
                }
                Output::Connected => self.has_finished = true,
                Output::PeerCert(der) => self.seen = Some(fingerprint_of(der)),
                Output::KeyingMaterial(bytes, profile) => {
                    let profile = match profile {
                        dimpl::SrtpProfile::AEAD_AES_256_GCM => SrtpProfile::AeadAes256Gcm,
                        dimpl::SrtpProfile::AEAD_AES_128_GCM => SrtpProfile::AeadAes128Gcm,
                        dimpl::SrtpProfile::AES128_CM_SHA1_80 => SrtpProfile::AesCm128HmacSha1_80,
                        _ => continue,
                    };
                    self.keying = KeyingMaterial::from_exporter(profile, &bytes)
                        .map(|keying| (keying, profile));
                }
                Output::ApplicationData(packet) => {
                    let packet = Bytes::copy_from_slice(packet);
                    if self.state == State::Connected {
                        self.outputs.push_back(DtlsOutput::Application(packet));
                    } else if self.held.len() < MAX_HELD {
                        self.held.push_back(packet);
                    }
                }
                Output::CloseNotify => {
                    self.fail(CloseReason::Remote);
                    return;
                }
                _ => {}
            }
        }
        self.conclude();
    }

    /// Moves on once the handshake has finished and the fingerprint is known.
    fn conclude(&mut self) {
        let (State::Handshake, true, Some(announced)) =
            (self.state, self.has_finished, &self.announced)
        else {
            return;
        };
        let is_announced = self.seen.is_some_and(|seen| {
            aws_lc_rs::constant_time::verify_slices_are_equal(&seen.0, &announced.0).is_ok()
        });
        if !is_announced {
            return self.fail(CloseReason::FingerprintMismatch);
        }
        let Some((keying, profile)) = self.keying.take() else {
            return self.fail(CloseReason::NoSrtpProfile);
        };
        self.state = State::Connected;
        self.outputs
            .push_back(DtlsOutput::Connected(keying, profile));
        self.outputs
            .extend(self.held.drain(..).map(DtlsOutput::Application));
    }

    fn fail(&mut self, reason: CloseReason) {
        if self.state != State::Closed {
            self.state = State::Closed;
            self.held.clear();
            self.outputs.push_back(DtlsOutput::Closed(reason));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_records_and_nothing_else_are_handed_on() {
        let record = |kind: u8, minor: u8, payload: &[u8]| {
            let mut bytes = vec![kind, 0xFE, minor, 0, 0, 0, 0, 0, 0, 0, 1];
            bytes.extend((payload.len() as u16).to_be_bytes());
            bytes.extend(payload);
            bytes
        };
        let (hello, data) = (record(22, 0xFF, b"hello"), record(23, 0xFD, b""));
        assert!(is_records(&hello) && is_records(&data));
        assert!(is_records(&[hello.clone(), data.clone()].concat()));
        for cut in 0..hello.len() {
            assert!(!is_records(&hello[..cut]), "{cut}");
            assert!(
                cut == 0 || !is_records(&[&data[..], &hello[..cut]].concat()),
                "{cut}"
            );
        }
        assert!(!is_records(&record(26, 0xFD, b"x")) && !is_records(&record(19, 0xFD, b"x")));
        assert!(!is_records(&record(22, 0x03, b"x")));
    }
}
