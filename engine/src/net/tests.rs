//! Workers with real sockets on loopback and browser-like clients.

mod fault;
mod life;
mod media;

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use palabre_media::rtp::{ExtensionForm, PacketWriter, RtpFields};
use palabre_media::srtp::{MasterKey, SrtpReceiver, SrtpSender};
use palabre_media::transport::peer::{Peer, PeerOutput};
use palabre_media::transport::{
    DataChannel, DataChannelPolicy, DatagramKind, IceCredentials, RemoteParameters, classify,
};

use super::*;

/// Nothing on loopback takes this long.
const PATIENCE: Duration = Duration::from_secs(30);

struct Server {
    workers: Workers,
    events: Receiver<Event>,
    seen: Vec<Event>,
    theirs: Certificate,
}

fn config(workers: usize) -> (WorkersConfig, Receiver<Event>) {
    let (sender, events) = channel();
    let config = WorkersConfig {
        media: "127.0.0.1:0".parse().unwrap(),
        workers: Some(workers),
        priority: Priority::default(),
        limits: Limits::default(),
        certificate: Certificate::generate().unwrap(),
        events: Arc::new(move |event| drop(sender.send(event))),
    };
    (config, events)
}

impl Server {
    fn start(workers: usize) -> Self {
        let (config, events) = config(workers);
        Self::around(Workers::start(config).unwrap(), events)
    }

    fn around(workers: Workers, events: Receiver<Event>) -> Self {
        Self {
            workers,
            events,
            seen: Vec::new(),
            theirs: Certificate::generate().unwrap(),
        }
    }

    /// A client whose session is open on the workers.
    fn client(&self, session: u64) -> Client {
        let ours = credentials(session * 2);
        let client = Client::new(session, &self.theirs);
        let transport = TransportConfig {
            data: DataChannelPolicy::Accept,
            ..TransportConfig::new(ours.clone())
        };
        let remote = Some(client.peer.parameters());
        self.workers
            .open(SessionConfig {
                session: SessionId(session),
                transport,
                remote,
            })
            .unwrap();
        let mut client = client;
        let fingerprint = self.workers.fingerprint();
        let server = RemoteParameters {
            ice: ours,
            fingerprint,
        };
        client
            .peer
            .set_remote(Instant::now(), server, [self.workers.local()]);
        client
    }

    fn command(&self, session: u64, command: Command) {
        self.workers.command(SessionId(session), command).unwrap();
    }

    /// Lets clients and workers run until `done`.
    fn run_until(
        &mut self,
        clients: &mut [&mut Client],
        mut done: impl FnMut(&Self, &mut [&mut Client]) -> bool,
    ) {
        let end = Instant::now() + PATIENCE;
        loop {
            for client in clients.iter_mut() {
                client.pump();
            }
            // The breath between two looks, so that the workers get the core as well.
            self.seen
                .extend(self.events.recv_timeout(Duration::from_millis(1)));
            self.seen.extend(self.events.try_iter());
            if done(self, clients) {
                return;
            }
            assert!(Instant::now() < end, "too late: {:?}", self.seen);
        }
    }

    fn data(&self, session: u64) -> Vec<&[u8]> {
        self.seen
            .iter()
            .filter_map(|event| match event {
                Event::Data {
                    session: from,
                    payload,
                    ..
                } if from.0 == session => Some(&payload[..]),
                _ => None,
            })
            .collect()
    }

    fn disconnected(&self, session: u64) -> Option<CloseReason> {
        self.seen.iter().find_map(|event| match event {
            Event::Disconnected {
                session: who,
                reason,
            } if who.0 == session => Some(*reason),
            _ => None,
        })
    }

    fn owners(&self) -> BTreeMap<u64, WorkerIndex> {
        let adopted = self.seen.iter().filter_map(|event| match event {
            Event::Adopted { session, worker } => Some((session.0, *worker)),
            _ => None,
        });
        adopted.collect()
    }
}

struct Client {
    socket: UdpSocket,
    peer: Peer,
    keys: Option<(SrtpSender, SrtpReceiver)>,
    is_data_open: bool,
    is_closed: bool,
    media: Vec<Vec<u8>>,
}

fn credentials(seed: u64) -> IceCredentials {
    let seed = seed.to_be_bytes();
    IceCredentials::from_random(&std::array::from_fn(|i| seed[i % 8] ^ (i as u8 / 8)))
}

impl Client {
    fn new(session: u64, certificate: &Certificate) -> Self {
        let socket = socket();
        let local = socket.local_addr().unwrap();
        let ours = credentials(session * 2 + 1);
        let channels = [DataChannel::Reliable];
        let peer = Peer::new(Instant::now(), local, &ours, certificate, &channels);
        Self {
            socket,
            peer,
            keys: None,
            is_data_open: false,
            is_closed: false,
            media: Vec::new(),
        }
    }

    fn roam(&mut self) {
        self.socket = socket();
        self.peer
            .roam(Instant::now(), self.socket.local_addr().unwrap());
    }

    fn pump(&mut self) {
        self.send_all();
        let mut buffer = [0; 2048];
        while let Ok((len, from)) = self.socket.recv_from(&mut buffer) {
            let datagram = &mut buffer[..len];
            match (classify(datagram), &mut self.keys) {
                (DatagramKind::Rtp, Some((_, receiver))) => {
                    let packet = receiver.unprotect_rtp(datagram).expect("the server's keys");
                    self.media
                        .push(packet.header.payload(&datagram[..packet.len]).to_vec());
                }
                (DatagramKind::Rtp | DatagramKind::Rtcp, _) => {}
                _ => {
                    self.peer.handle(Instant::now(), from, datagram);
                }
            }
            self.send_all();
        }
        if self
            .peer
            .deadline()
            .is_some_and(|deadline| deadline <= Instant::now())
        {
            self.peer.handle_timeout(Instant::now());
            self.send_all();
        }
    }

    fn send_all(&mut self) {
        while let Some(output) = self.peer.poll() {
            match output {
                // A datagram from an address it left is lost, like on a telephone.
                PeerOutput::Datagram { from, to, bytes } => {
                    if from == self.socket.local_addr().unwrap() {
                        self.socket.send_to(&bytes, to).unwrap();
                    }
                }
                PeerOutput::Connected { keying, profile } => {
                    // The keys are named as the server sees them.
                    let ours = MasterKey {
                        key: keying.remote_key(),
                        salt: keying.remote_salt(),
                    };
                    let theirs = MasterKey {
                        key: keying.local_key(),
                        salt: keying.local_salt(),
                    };
                    self.keys = Some((
                        SrtpSender::new(profile, ours).unwrap(),
                        SrtpReceiver::new(profile, theirs).unwrap(),
                    ));
                }
                PeerOutput::DataOpen(_) => self.is_data_open = true,
                PeerOutput::Data(..) => {}
                PeerOutput::Closed => self.is_closed = true,
            }
        }
    }

    fn say(&mut self, text: &[u8]) {
        assert!(
            self.peer
                .send_data(Instant::now(), DataChannel::Reliable, text)
        );
        self.send_all();
    }

    fn publish(&mut self, sequence: u16, payload: &[u8]) {
        let (sender, _) = self.keys.as_ref().expect("connected");
        let mut buffer = [0; 512];
        let fields = RtpFields {
            payload_type: 111,
            marker: false,
            sequence,
            timestamp: u32::from(sequence) * 960,
            ssrc: 0xABCD,
        };
        let mut writer = PacketWriter::start(&mut buffer, &fields, ExtensionForm::OneByte).unwrap();
        writer.payload(payload).unwrap();
        let len = writer.finish();
        let len = sender
            .protect_rtp(&mut buffer, len, u64::from(sequence))
            .unwrap();
        let (_, to) = self.peer.path().unwrap();
        self.socket.send_to(&buffer[..len], to).unwrap();
    }

    /// The numbers of the packets it received.
    fn heard(&self) -> Vec<u16> {
        self.media
            .iter()
            .map(|payload| u16::from_be_bytes([payload[0], payload[1]]))
            .collect()
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}
