//! One peer connection of a guest: its socket, full ICE and DTLS, SRTP both ways.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Instant;

use palabre_media::rtp::RtpHeader;
use palabre_media::rtp::rtcp::RtcpWriter;
use palabre_media::srtp::{MasterKey, SrtpReceiver, SrtpSender};
use palabre_media::transport::peer::{Peer, PeerOutput};
use palabre_media::transport::{
    Certificate, DataChannel, DatagramKind, IceCredentials, KeyingMaterial, RemoteParameters,
    SrtpProfile, classify,
};

/// Longer than any datagram of a call.
pub(crate) const DATAGRAM: usize = 2_048;

/// The connection.
pub(crate) struct Connection {
    socket: UdpSocket,
    peer: Peer,
    is_described: bool,
    keys: Option<Keys>,
    pub(crate) is_closed: bool,
}

/// Media from the server.
pub(crate) enum Received {
    /// A packet, and the bytes it had on the wire.
    Rtp { header: RtpHeader, datagram: usize },
    /// A compound packet of this length.
    Rtcp { len: usize },
}

struct Keys {
    sender: SrtpSender,
    receiver: SrtpReceiver,
    to: SocketAddr,
}

impl Connection {
    /// Not connected yet; opens these data channels once it is.
    pub(crate) fn new(at: IpAddr, certificate: &Certificate, opens: &[DataChannel]) -> Self {
        let socket = UdpSocket::bind((at, 0)).expect("there are free ports");
        socket.set_nonblocking(true).expect("sockets can");
        let local = socket.local_addr().expect("it is bound");
        let mut random = [0; IceCredentials::RANDOM_LEN];
        aws_lc_rs::rand::fill(&mut random).expect("the system has randomness");
        let ours = IceCredentials::from_random(&random);
        Self {
            socket,
            peer: Peer::new(Instant::now(), local, &ours, certificate, opens),
            is_described: false,
            keys: None,
            is_closed: false,
        }
    }

    /// Its transport lines in a description.
    pub(crate) fn description(&self, setup: &str) -> String {
        let ours = self.peer.parameters();
        format!(
            "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=ice-options:trickle\r\n\
             a=fingerprint:sha-256 {}\r\na=setup:{setup}\r\n",
            ours.ice.ufrag, ours.ice.pwd, ours.fingerprint
        )
    }

    /// Reads the server's end from its first description; checks start.
    pub(crate) fn set_remote(&mut self, now: Instant, sdp: &str) {
        if std::mem::replace(&mut self.is_described, true) {
            return;
        }
        let value = |attribute: &str| {
            sdp.lines()
                .find_map(|line| line.strip_prefix(attribute))
                .unwrap_or_else(|| panic!("the server says {attribute}"))
                .trim()
        };
        let server = RemoteParameters {
            ice: IceCredentials {
                ufrag: value("a=ice-ufrag:").to_owned(),
                pwd: value("a=ice-pwd:").to_owned(),
            },
            fingerprint: value("a=fingerprint:sha-256 ").parse().expect("it is one"),
        };
        let words: Vec<&str> = value("a=candidate:").split(' ').collect();
        let to = SocketAddr::new(
            words[4].parse().expect("an address"),
            words[5].parse().expect("a port"),
        );
        self.peer.set_remote(now, server, to);
        self.flush();
    }

    /// What the server chose, once connected.
    pub(crate) fn profile(&self) -> Option<SrtpProfile> {
        self.keys.as_ref().map(|keys| keys.sender.profile())
    }

    /// Runs timers.
    pub(crate) fn run(&mut self, now: Instant) {
        if self.peer.deadline().is_some_and(|at| at <= now) {
            self.peer.handle_timeout(now);
            self.flush();
        }
    }

    /// The next media that has arrived, decrypted at the start of `buffer`. Handles everything
    /// else on the way.
    pub(crate) fn receive(&mut self, buffer: &mut [u8; DATAGRAM]) -> Option<Received> {
        while let Ok((len, from)) = self.socket.recv_from(buffer) {
            let datagram = &mut buffer[..len];
            match (classify(datagram), &mut self.keys) {
                (DatagramKind::Rtp, Some(keys)) => {
                    if let Ok(plain) = keys.receiver.unprotect_rtp(datagram) {
                        return Some(Received::Rtp {
                            header: plain.header,
                            datagram: len,
                        });
                    }
                }
                (DatagramKind::Rtcp, Some(keys)) => {
                    if let Ok(len) = keys.receiver.unprotect_rtcp(datagram) {
                        return Some(Received::Rtcp { len });
                    }
                }
                (DatagramKind::Rtp | DatagramKind::Rtcp, None) => {}
                _ => {
                    self.peer.handle(Instant::now(), from, datagram);
                    self.flush();
                }
            }
        }
        None
    }

    /// Sends the RTP packet in `buffer[..len]`; `index` is its extended number.
    pub(crate) fn send_rtp(&self, buffer: &mut [u8], len: usize, index: u64) {
        let keys = self.keys.as_ref().expect("it is connected");
        let len = keys
            .sender
            .protect_rtp(buffer, len, index)
            .expect("there is room");
        // A full buffer loses it, as on any network; the count at the other end shows it.
        let _ = self.socket.send_to(&buffer[..len], keys.to);
    }

    /// Sends what `write` writes, if it writes anything.
    pub(crate) fn send_rtcp(&mut self, write: impl FnOnce(&mut RtcpWriter<'_>)) {
        let Some(keys) = &mut self.keys else { return };
        let mut buffer = [0; DATAGRAM];
        let mut writer = RtcpWriter::new(&mut buffer[..1_200]);
        write(&mut writer);
        let len = writer.len();
        if len > 0 {
            let len = keys
                .sender
                .protect_rtcp(&mut buffer, len)
                .expect("there is room");
            let _ = self.socket.send_to(&buffer[..len], keys.to);
        }
    }

    fn flush(&mut self) {
        while let Some(output) = self.peer.poll() {
            match output {
                PeerOutput::Datagram { to, bytes, .. } => {
                    let _ = self.socket.send_to(&bytes, to);
                }
                PeerOutput::Connected { keying, profile } => self.connected(&keying, profile),
                PeerOutput::Closed => self.is_closed = true,
                PeerOutput::DataOpen(_) | PeerOutput::Data(..) => {}
            }
        }
    }

    fn connected(&mut self, keying: &KeyingMaterial, profile: SrtpProfile) {
        // The keys are named as the server sees them.
        let ours = MasterKey {
            key: keying.remote_key(),
            salt: keying.remote_salt(),
        };
        let theirs = MasterKey {
            key: keying.local_key(),
            salt: keying.local_salt(),
        };
        let (_, to) = self.peer.path().expect("ICE came first");
        self.keys = Some(Keys {
            sender: SrtpSender::new(profile, ours).expect("keys of the profile's length"),
            receiver: SrtpReceiver::new(profile, theirs).expect("keys of the profile's length"),
            to,
        });
    }
}
