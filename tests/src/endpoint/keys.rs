//! A transport whose keys both ends know: it stands in for ICE and DTLS, which are not the simulator's subject.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use palabre_media::transport::{
    DataChannel, DatagramKind, DatagramRefusal, IceCredentials, KeyingMaterial, RemoteParameters,
    SendDataError, SrtpProfile, Transport, TransportConfig, TransportEvent, TransportOutput,
    classify,
};

pub(super) const PROFILE: SrtpProfile = SrtpProfile::AeadAes128Gcm;

/// The exporter output two ends of a session derive from its ufrag.
pub(super) fn exported(ufrag: &str) -> Vec<u8> {
    let length = 2 * (PROFILE.key_len() + PROFILE.salt_len());
    ufrag
        .bytes()
        .cycle()
        .enumerate()
        .map(|(at, byte)| byte ^ at as u8)
        .take(length)
        .collect()
}

/// A transport whose handshake is one STUN request: keys follow from the ufrag.
#[derive(Debug)]
pub struct FixedKeys {
    ufrag: String,
    outputs: VecDeque<TransportOutput>,
    remote: Option<SocketAddr>,
}

impl FixedKeys {
    /// The transport of the session with these parameters.
    pub fn new(config: &TransportConfig) -> Self {
        FixedKeys {
            ufrag: config.local.ufrag.clone(),
            outputs: VecDeque::new(),
            remote: None,
        }
    }
}

impl Transport for FixedKeys {
    fn handle_datagram(
        &mut self,
        _: Instant,
        from: SocketAddr,
        _: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), DatagramRefusal> {
        if classify(datagram) != DatagramKind::Stun {
            return Err(DatagramRefusal::DtlsUnknownAddress);
        }
        if self.remote.is_none() {
            let keying = KeyingMaterial::from_exporter(PROFILE, &exported(&self.ufrag))
                .expect("the length is the profile's");
            let connected = TransportEvent::DtlsConnected {
                keying,
                profile: PROFILE,
            };
            self.outputs.push_back(TransportOutput::Event(connected));
        }
        if self.remote != Some(from) {
            self.remote = Some(from);
            let nominated = TransportEvent::IceConnected { remote: from };
            self.outputs.push_back(TransportOutput::Event(nominated));
        }
        Ok(())
    }

    fn handle_timeout(&mut self, _: Instant) {}

    fn poll(&mut self) -> Option<TransportOutput> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn set_remote(&mut self, _: Instant, _: RemoteParameters) {}

    fn restart_ice(&mut self, _: Instant, local: IceCredentials, _: Option<IceCredentials>) {
        self.ufrag = local.ufrag;
    }

    fn send_data(&mut self, _: Instant, _: DataChannel, _: &[u8]) -> Result<(), SendDataError> {
        Err(SendDataError::NotOpen)
    }

    fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    fn close(&mut self, _: Instant) {
        let closed = TransportEvent::Closed(palabre_media::transport::CloseReason::Local);
        self.outputs.push_back(TransportOutput::Event(closed));
    }
}

/// A binding request that names `ufrag`.
pub fn binding_request(ufrag: &str) -> Vec<u8> {
    let user = format!("{ufrag}:peer");
    let padded = user.len().next_multiple_of(4);
    let mut request = vec![0, 1];
    request.extend(((4 + padded) as u16).to_be_bytes());
    request.extend([0x21, 0x12, 0xA4, 0x42]);
    request.extend([9; 12]);
    request.extend([0x00, 0x06]);
    request.extend((user.len() as u16).to_be_bytes());
    request.extend(user.bytes());
    request.resize(24 + padded, 0);
    request
}
