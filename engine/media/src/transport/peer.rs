//! A browser-like client of [`WebRtcTransport`](super::WebRtcTransport) for tests, load generators
//! and the synthetic call: full ICE (`is`), active DTLS (`dimpl`), SCTP (`sctp-proto`).
//!
//! Sans-IO like the rest. Shares no code with the server side but the DCEP messages, so that
//! one proves the other. What serves calls never uses it: built for tests or feature `peer`.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use dimpl::{Dtls, Output};
use is::{Candidate, IceAgent, IceAgentEvent, IceCreds, Sha1HmacProvider};
use sctp_proto::{
    Association, AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event,
    Payload, PayloadProtocolIdentifier as Ppid, ReliabilityType, StreamEvent,
};

use super::certificate::fingerprint_of;
use super::dcep::{Limit, Message, Reliability};
use super::{
    Certificate, DataChannel, DatagramKind, Fingerprint, IceCredentials, KeyingMaterial,
    RemoteParameters, SrtpProfile, classify,
};

/// The client.
pub struct Peer {
    local: SocketAddr,
    ice: IceAgent,
    server: Option<RemoteParameters>,
    nominated: Option<(SocketAddr, SocketAddr)>,
    dtls: Dtls,
    fingerprint: Fingerprint,
    server_fingerprint: Option<Fingerprint>,
    keying: Option<(KeyingMaterial, SrtpProfile)>,
    is_connected: bool,
    endpoint: Endpoint,
    association: Option<(AssociationHandle, Association)>,
    opens: Vec<DataChannel>,
    streams: Vec<(u16, DataChannel, bool)>,
    /// An OPEN may overtake the COOKIE-ACK; it can be acknowledged only after that.
    unacknowledged: Vec<u16>,
    dtls_deadline: Option<Instant>,
    outputs: VecDeque<PeerOutput>,
}

/// What [`Peer::poll`] returns.
#[derive(Debug, PartialEq, Eq)]
pub enum PeerOutput {
    /// Send this datagram.
    Datagram {
        /// From which of the client's addresses.
        from: SocketAddr,
        /// Destination.
        to: SocketAddr,
        /// The bytes.
        bytes: Bytes,
    },
    /// ICE and DTLS stand.
    Connected {
        /// Keys named as the *server* sees them: the client sends with
        /// [`KeyingMaterial::remote_key`].
        keying: KeyingMaterial,
        /// What the server chose.
        profile: SrtpProfile,
    },
    /// A channel can be written to.
    DataOpen(DataChannel),
    /// A message came.
    Data(DataChannel, Bytes),
    /// The server said good-bye or the handshake failed.
    Closed,
}

#[derive(Debug)]
struct Hmac;

impl Sha1HmacProvider for Hmac {
    fn sha1_hmac(&self, key: &[u8], payloads: &[&[u8]]) -> [u8; 20] {
        use aws_lc_rs::hmac;
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
        let mut context = hmac::Context::with_key(&key);
        payloads.iter().for_each(|payload| context.update(payload));
        context
            .sign()
            .as_ref()
            .try_into()
            .expect("SHA-1 has 20 bytes")
    }
}

const SCTP_PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);

impl Peer {
    /// A client at `local` that will open `opens` once connected.
    pub fn new(
        now: Instant,
        local: SocketAddr,
        credentials: &IceCredentials,
        certificate: &Certificate,
        opens: &[DataChannel],
    ) -> Self {
        let creds = IceCreds {
            ufrag: credentials.ufrag.clone(),
            pass: credentials.pwd.clone(),
        };
        let mut ice = IceAgent::with_hmac(creds, &Hmac);
        ice.set_controlling(true);
        ice.add_local_candidate(host(local));
        let mut dtls = Dtls::new_12(certificate.config(), certificate.certificate(), now);
        dtls.set_active(true);
        let mut config = EndpointConfig::new();
        config.max_payload_size(1100);
        Self {
            local,
            ice,
            server: None,
            nominated: None,
            dtls,
            fingerprint: certificate.fingerprint(),
            server_fingerprint: None,
            keying: None,
            is_connected: false,
            endpoint: Endpoint::new(Arc::new(config), None),
            association: None,
            opens: opens.to_vec(),
            streams: Vec::new(),
            unacknowledged: Vec::new(),
            dtls_deadline: None,
            outputs: VecDeque::new(),
        }
    }

    /// What its description would say.
    pub fn parameters(&self) -> RemoteParameters {
        let creds = self.ice.local_credentials();
        let ice = IceCredentials {
            ufrag: creds.ufrag.clone(),
            pwd: creds.pass.clone(),
        };
        RemoteParameters {
            ice,
            fingerprint: self.fingerprint,
        }
    }

    /// Tells the server's description, with the addresses it may be reached at; checks start. Addresses
    /// ICE has no use for (link-local, multicast) are left out.
    pub fn set_remote(
        &mut self,
        now: Instant,
        server: RemoteParameters,
        addresses: impl IntoIterator<Item = SocketAddr>,
    ) {
        let ice = &server.ice;
        self.ice.set_remote_credentials(IceCreds {
            ufrag: ice.ufrag.clone(),
            pass: ice.pwd.clone(),
        });
        for address in addresses {
            if let Ok(candidate) = Candidate::host(address, is::Protocol::Udp) {
                self.ice.add_remote_candidate(candidate);
            }
        }
        self.server = Some(server);
        self.handle_timeout(now);
    }

    /// Moves to another local address, as a telephone leaving its Wi-Fi does.
    pub fn roam(&mut self, now: Instant, local: SocketAddr) {
        self.ice.add_local_candidate(host(local));
        self.ice.invalidate_candidate(&host(self.local));
        self.local = local;
        self.handle_timeout(now);
    }

    /// Restarts ICE on both sides with these credentials.
    pub fn restart_ice(
        &mut self,
        now: Instant,
        ours: &IceCredentials,
        server: &IceCredentials,
        address: SocketAddr,
    ) {
        let creds = |c: &IceCredentials| IceCreds {
            ufrag: c.ufrag.clone(),
            pass: c.pwd.clone(),
        };
        self.ice.ice_restart(creds(ours), true);
        self.ice.set_remote_credentials(creds(server));
        self.ice.add_remote_candidate(host(address));
        self.handle_timeout(now);
    }

    /// Takes a STUN or DTLS datagram; says whether it was one.
    pub fn handle(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> bool {
        match classify(datagram) {
            DatagramKind::Stun => {
                if let Ok(message) = is::stun::StunMessage::parse(datagram) {
                    let packet = is::stun::StunPacket {
                        proto: is::Protocol::Udp,
                        source: from,
                        destination: self.local,
                        message,
                    };
                    self.ice.handle_packet(now, packet);
                }
            }
            DatagramKind::Dtls => {
                let outcome = self
                    .dtls
                    .handle_timeout(now)
                    .and_then(|()| self.dtls.handle_packet(datagram));
                if outcome.is_err() {
                    self.outputs.push_back(PeerOutput::Closed);
                }
            }
            _ => return false,
        }
        self.settle(now);
        true
    }

    /// Runs timers.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.ice.handle_timeout(now);
        if self.nominated.is_some() && self.dtls.handle_timeout(now).is_err() {
            self.outputs.push_back(PeerOutput::Closed);
        }
        if let Some((_, association)) = &mut self.association {
            association.handle_timeout(now);
        }
        self.settle(now);
    }

    /// The next output, until `None`.
    pub fn poll(&mut self) -> Option<PeerOutput> {
        self.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] is next needed.
    pub fn deadline(&mut self) -> Option<Instant> {
        let sctp = self
            .association
            .as_ref()
            .and_then(|(_, association)| association.poll_timeout());
        [self.ice.poll_timeout(), self.dtls_deadline, sctp]
            .into_iter()
            .flatten()
            .min()
    }

    /// From where to where media goes.
    pub fn path(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.nominated
    }

    /// Sends on an open channel; says whether it was accepted.
    pub fn send_data(&mut self, now: Instant, channel: DataChannel, payload: &[u8]) -> bool {
        let open = self
            .streams
            .iter()
            .find(|(_, known, is_open)| *known == channel && *is_open);
        let Some(&(id, ..)) = open else { return false };
        let Some((_, association)) = &mut self.association else {
            return false;
        };
        let accepted = association
            .stream(id)
            .and_then(|mut stream| stream.write_with_ppi(payload, Ppid::Binary))
            .is_ok();
        self.settle(now);
        accepted
    }

    /// Ends the DTLS association.
    pub fn close(&mut self, now: Instant) {
        let _ = self.dtls.close();
        self.settle(now);
    }

    fn settle(&mut self, now: Instant) {
        self.settle_ice(now);
        while self.settle_dtls(now) | self.settle_sctp(now) {}
    }

    fn settle_ice(&mut self, now: Instant) {
        while let Some(transmit) = self.ice.poll_transmit() {
            self.outputs.push_back(PeerOutput::Datagram {
                from: transmit.source,
                to: transmit.destination,
                bytes: Vec::from(transmit.contents).into(),
            });
        }
        while let Some(event) = self.ice.poll_event() {
            if let IceAgentEvent::NominatedSend {
                source,
                destination,
                ..
            } = event
            {
                let is_first = self.nominated.replace((source, destination)).is_none();
                if is_first && self.dtls.handle_timeout(now).is_err() {
                    self.outputs.push_back(PeerOutput::Closed);
                }
            }
        }
    }

    fn settle_dtls(&mut self, now: Instant) -> bool {
        let Some((from, to)) = self.nominated else {
            return false;
        };
        let mut has_application = false;
        let mut buffer = vec![0; 4096];
        loop {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(packet) => {
                    let bytes = Bytes::copy_from_slice(packet);
                    self.outputs
                        .push_back(PeerOutput::Datagram { from, to, bytes });
                }
                Output::BufferTooSmall { needed } => buffer.resize(needed, 0),
                Output::Timeout(at) => {
                    self.dtls_deadline = Some(at).filter(|at| *at > now);
                    break;
                }
                Output::PeerCert(der) => self.server_fingerprint = Some(fingerprint_of(der)),
                Output::KeyingMaterial(bytes, profile) => {
                    let profile = match profile {
                        dimpl::SrtpProfile::AEAD_AES_256_GCM => SrtpProfile::AeadAes256Gcm,
                        dimpl::SrtpProfile::AEAD_AES_128_GCM => SrtpProfile::AeadAes128Gcm,
                        _ => SrtpProfile::AesCm128HmacSha1_80,
                    };
                    self.keying = KeyingMaterial::from_exporter(profile, &bytes)
                        .map(|keying| (keying, profile));
                }
                Output::ApplicationData(packet) => {
                    has_application = true;
                    let packet = Bytes::copy_from_slice(packet);
                    match self.endpoint.handle(now, SCTP_PEER, None, None, packet) {
                        Some((_, DatagramEvent::AssociationEvent(event))) => {
                            if let Some((_, association)) = &mut self.association {
                                association.handle_event(event);
                            }
                        }
                        Some((_, DatagramEvent::NewAssociation(_))) | None => {}
                    }
                }
                Output::CloseNotify => self.outputs.push_back(PeerOutput::Closed),
                _ => {}
            }
        }
        let announced = self.server.as_ref().map(|server| server.fingerprint);
        if !self.is_connected
            && self.server_fingerprint == announced
            && let Some((keying, profile)) = self.keying.take()
        {
            self.is_connected = true;
            self.outputs
                .push_back(PeerOutput::Connected { keying, profile });
            self.association = self.endpoint.connect(ClientConfig::new(), SCTP_PEER).ok();
            return true;
        }
        has_application
    }

    fn settle_sctp(&mut self, now: Instant) -> bool {
        loop {
            let Some((_, association)) = &mut self.association else {
                return false;
            };
            let Some(event) = association.poll() else {
                break;
            };
            match event {
                Event::Connected => self.open_channels(),
                Event::Stream(StreamEvent::Opened { id } | StreamEvent::Readable { id }) => {
                    self.read(id);
                }
                _ => {}
            }
        }
        let Some((_, association)) = &mut self.association else {
            return false;
        };
        // A refused write would consume a sequence number: nothing is written before.
        if !association.is_handshaking() {
            for id in self.unacknowledged.drain(..) {
                let _ = association.stream(id).and_then(|mut stream| {
                    stream.write_with_ppi(&Message::Ack.write(), Ppid::Dcep)
                });
            }
        }
        let mut packets = Vec::new();
        while let Some(transmit) = association.poll_transmit(now) {
            if let Payload::RawEncode(raw) = transmit.payload {
                packets.extend(raw);
            }
        }
        for packet in &packets {
            if self.dtls.send_application_data(packet).is_err() {
                return false;
            }
            // At once: the record layer queues few datagrams.
            self.settle_dtls(now);
        }
        !packets.is_empty()
    }

    fn open_channels(&mut self) {
        let Some((_, association)) = &mut self.association else {
            return;
        };
        for (id, channel) in (0..).step_by(2).zip(self.opens.clone()) {
            let is_reliable = channel == DataChannel::Reliable;
            let limit = if is_reliable {
                Limit::Never
            } else {
                Limit::Retransmissions(0)
            };
            let reliability = Reliability {
                unordered: !is_reliable,
                limit,
            };
            let open = Message::Open {
                reliability,
                label: channel.label().as_bytes(),
            }
            .write();
            if let Ok(mut stream) = association.open_stream(id, Ppid::Binary)
                && stream.write_with_ppi(&open, Ppid::Dcep).is_ok()
            {
                if !is_reliable {
                    let _ = stream.set_reliability_params(true, ReliabilityType::Rexmit, 0);
                }
                self.streams.push((id, channel, false));
            }
        }
    }

    fn read(&mut self, id: u16) {
        loop {
            let Some((_, association)) = &mut self.association else {
                return;
            };
            let Ok(mut stream) = association.stream(id) else {
                return;
            };
            let Ok(Some(chunks)) = stream.read_sctp() else {
                return;
            };
            let mut message = vec![0; chunks.len()];
            if chunks.read(&mut message).is_err() {
                return;
            }
            if chunks.ppi == Ppid::Dcep {
                match Message::parse(&message) {
                    Some(Message::Ack) => {
                        for (_, channel, is_open) in
                            self.streams.iter_mut().filter(|(known, ..)| *known == id)
                        {
                            *is_open = true;
                            self.outputs.push_back(PeerOutput::DataOpen(*channel));
                        }
                    }
                    Some(Message::Open { label, .. }) => {
                        self.unacknowledged.push(id);
                        if let Some(channel) = DataChannel::from_label(label) {
                            self.streams.push((id, channel, true));
                            self.outputs.push_back(PeerOutput::DataOpen(channel));
                        }
                    }
                    None => {}
                }
            } else if let Some((_, channel, _)) =
                self.streams.iter().find(|(known, ..)| *known == id)
            {
                let payload = if chunks.ppi == Ppid::BinaryEmpty {
                    Bytes::new()
                } else {
                    message.into()
                };
                self.outputs.push_back(PeerOutput::Data(*channel, payload));
            }
        }
    }
}

fn host(address: SocketAddr) -> Candidate {
    Candidate::host(address, is::Protocol::Udp).expect("a usable address")
}
