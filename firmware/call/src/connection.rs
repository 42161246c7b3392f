//! One peer connection of a guest: its socket, full ICE and DTLS, SRTP both ways.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use palabre_media::rtp::RtpHeader;
use palabre_media::rtp::rtcp::RtcpWriter;
use palabre_media::srtp::{MasterKey, SrtpReceiver, SrtpSender};
use palabre_media::transport::peer::{Peer, PeerOutput};
use palabre_media::transport::{
    Certificate, DataChannel, DatagramKind, IceCredentials, KeyingMaterial, RemoteParameters,
    SrtpProfile, classify,
};

/// Longer than any datagram of a call.
pub const DATAGRAM: usize = 2_048;

/// Addresses of the server that are tried: the nine of its own and the 32 that may be set by hand. Fewer miss some that a box
/// tells, more let a hostile server have more asked.
const CANDIDATES: usize = 64;

/// The connection.
pub struct Connection {
    socket: UdpSocket,
    peer: Peer,
    is_described: bool,
    candidates: Vec<SocketAddr>,
    keys: Option<Keys>,
    is_closed: bool,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// The server has not described its end.
    Undescribed,
    /// ICE has no answer yet.
    Checking,
    /// ICE stands, DTLS does not.
    Handshaking,
    /// Media can flow.
    Connected,
    /// The server ended it, or the handshake failed.
    Closed,
}

/// Media from the server.
pub enum Received {
    /// A packet, decrypted at the start of the buffer.
    Rtp {
        /// Where its parts are.
        header: RtpHeader,
        /// Bytes it had on the wire.
        datagram: usize,
    },
    /// A compound packet of this length.
    Rtcp {
        /// Its length once decrypted.
        len: usize,
    },
}

struct Keys {
    sender: SrtpSender,
    receiver: SrtpReceiver,
    to: SocketAddr,
}

impl Connection {
    /// Not connected yet; opens these data channels once it is.
    ///
    /// # Errors
    /// When the system gives no port or no randomness.
    pub fn new(at: IpAddr, certificate: &Certificate, opens: &[DataChannel]) -> io::Result<Self> {
        let socket = UdpSocket::bind((at, 0))?;
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        let mut random = [0; IceCredentials::RANDOM_LEN];
        aws_lc_rs::rand::fill(&mut random).map_err(io::Error::other)?;
        let ours = IceCredentials::from_random(&random);
        Ok(Self {
            socket,
            peer: Peer::new(Instant::now(), local, &ours, certificate, opens),
            is_described: false,
            candidates: Vec::new(),
            keys: None,
            is_closed: false,
        })
    }

    /// Its transport lines in a description.
    pub fn description(&self, setup: &str) -> String {
        let ours = self.peer.parameters();
        format!(
            "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=ice-options:trickle\r\n\
             a=fingerprint:sha-256 {}\r\na=setup:{setup}\r\n",
            ours.ice.ufrag, ours.ice.pwd, ours.fingerprint
        )
    }

    /// Reads the server's end from its first description; checks start, of the addresses in it and of `also`.
    /// Says whether it could be read.
    #[must_use]
    pub fn set_remote(&mut self, now: Instant, sdp: &str, also: Option<SocketAddr>) -> bool {
        if self.is_described {
            return true;
        }
        let value = |attribute: &str| {
            let line = sdp.lines().find_map(|line| line.strip_prefix(attribute));
            line.map(|value| value.trim().to_owned())
        };
        let described = || {
            Some(RemoteParameters {
                ice: IceCredentials {
                    ufrag: value("a=ice-ufrag:")?,
                    pwd: value("a=ice-pwd:")?,
                },
                fingerprint: value("a=fingerprint:sha-256 ")?.parse().ok()?,
            })
        };
        let Some(server) = described() else {
            return false;
        };
        let candidates = sdp.lines().filter_map(candidate).take(CANDIDATES);
        self.candidates = candidates.collect();
        self.is_described = true;
        let tried = self.candidates.iter().copied().chain(also);
        self.peer.set_remote(now, server, tried);
        self.flush();
        true
    }

    /// Addresses that the server told everybody, once it has described its end.
    pub fn candidates(&self) -> &[SocketAddr] {
        &self.candidates
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        if self.is_closed {
            Progress::Closed
        } else if self.keys.is_some() {
            Progress::Connected
        } else if self.peer.path().is_some() {
            Progress::Handshaking
        } else if self.is_described {
            Progress::Checking
        } else {
            Progress::Undescribed
        }
    }

    /// What the server chose, once connected.
    pub fn profile(&self) -> Option<SrtpProfile> {
        self.keys.as_ref().map(|keys| keys.sender.profile())
    }

    /// Runs timers.
    pub fn run(&mut self, now: Instant) {
        if self.peer.deadline().is_some_and(|at| at <= now) {
            self.peer.handle_timeout(now);
            self.flush();
        }
    }

    /// Waits until something has arrived, for `at_most`, which is not zero.
    ///
    /// # Errors
    /// When the socket cannot be made to wait.
    pub fn wait(&self, at_most: Duration) -> io::Result<()> {
        self.socket.set_read_timeout(Some(at_most))?;
        self.socket.set_nonblocking(false)?;
        // Nothing in time is as good as something: the caller looks.
        let _ = self.socket.peek(&mut [0]);
        self.socket.set_nonblocking(true)
    }

    /// The next media that has arrived, decrypted at the start of `buffer`. Handles everything
    /// else on the way.
    pub fn receive(&mut self, buffer: &mut [u8; DATAGRAM]) -> Option<Received> {
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

    /// Sends the RTP packet in `buffer[..len]`, if connected; `index` is its extended number.
    ///
    /// # Panics
    /// When `buffer` has no room for the authentication tag behind the packet.
    pub fn send_rtp(&self, buffer: &mut [u8], len: usize, index: u64) {
        let Some(keys) = &self.keys else { return };
        let len = keys
            .sender
            .protect_rtp(buffer, len, index)
            .expect("there is room");
        // A full buffer loses it, as on any network; the count at the other end shows it.
        let _ = self.socket.send_to(&buffer[..len], keys.to);
    }

    /// Sends what `write` writes, if it writes anything and the connection stands.
    pub fn send_rtcp(&mut self, write: impl FnOnce(&mut RtcpWriter<'_>)) {
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

/// The address of a UDP candidate (RFC 8839 §5.1).
fn candidate(line: &str) -> Option<SocketAddr> {
    let mut words = line.strip_prefix("a=candidate:")?.split(' ').skip(2);
    let is_udp = words.next()?.eq_ignore_ascii_case("udp");
    let address = words.nth(1)?.parse().ok()?;
    let port = words.next()?.parse().ok()?;
    is_udp.then_some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_read_or_refused_without_a_panic() {
        let certificate = Certificate::generate().unwrap();
        let here = IpAddr::from([127, 0, 0, 1]);
        let fresh = || Connection::new(here, &certificate, &[]).unwrap();
        let good = format!(
            "v=0\r\n{}a=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n",
            fresh().description("passive")
        );
        for cut in 0..good.len() {
            let mut connection = fresh();
            let is_read = connection.set_remote(Instant::now(), &good[..cut], None);
            let expected = if is_read {
                Progress::Checking
            } else {
                Progress::Undescribed
            };
            assert_eq!(connection.progress(), expected, "{cut}");
        }
        let mut connection = fresh();
        let also = Some(SocketAddr::from(([127, 0, 0, 1], 10)));
        assert!(connection.set_remote(Instant::now(), &good, also));
        assert_eq!(connection.candidates(), [SocketAddr::from((here, 9))]);
    }

    #[test]
    fn only_whole_udp_candidates_count() {
        let line = |text: &str| candidate(&format!("a=candidate:{text}"));
        assert_eq!(
            line("1 1 UDP 2130706431 192.0.2.1 7880 typ host"),
            Some(SocketAddr::from(([192, 0, 2, 1], 7880)))
        );
        assert!(line("1 1 udp 1 ::1 7880 typ host").is_some());
        for wrong in [
            "1 1 tcp 1 192.0.2.1 9 typ host",
            "1 1 udp 1 name.local 9",
            "1 1 udp 1 192.0.2.1 99999",
            "1 1 udp",
            "",
        ] {
            assert_eq!(line(wrong), None, "{wrong}");
        }
        assert_eq!(candidate("a=mid:0"), None);
    }
}
