//! Workers with real sockets on loopback and browser-like clients.

use std::collections::{BTreeMap, BTreeSet};
use std::net::UdpSocket;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use palabre_media::ids::{MediaKind, SubscriptionId, TrackId};
use palabre_media::rtp::{ExtensionForm, ExtensionIds, PacketWriter, RtpFields};
use palabre_media::sfu::{
    ClockMapping, Codec, Descriptor, Encoding, MeshMessage, MeshTarget, PacketPool,
    ReceiveParameters, SendParameters,
};
use palabre_media::srtp::{MasterKey, SrtpReceiver, SrtpSender};
use palabre_media::transport::peer::{Peer, PeerOutput};
use palabre_media::transport::{
    DataChannel, DataChannelPolicy, DatagramKind, DatagramRefusal, IceCredentials,
    RemoteParameters, SendDataError, TransportOutput, classify,
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
            .set_remote(Instant::now(), server, self.workers.local());
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

const TRACK: TrackId = TrackId(7);

fn receive() -> Command {
    Command::Receive(ReceiveParameters {
        track: TRACK,
        kind: MediaKind::Audio,
        mid: "0".parse().unwrap(),
        codec: Codec::Opus,
        payload_type: 111,
        rtx_payload_type: None,
        clock_rate: 48_000,
        extensions: ExtensionIds::default(),
        encodings: vec![Encoding {
            ssrc: Some(0xABCD),
            ..Encoding::default()
        }],
    })
}

fn send(subscription: u64) -> Command {
    Command::Send(SendParameters {
        track: TRACK,
        subscription: SubscriptionId(subscription),
        kind: MediaKind::Audio,
        mid: "1".parse().unwrap(),
        ssrc: 0x1000 + subscription as u32,
        rtx_ssrc: None,
        codec: Codec::Opus,
        payload_type: 109,
        rtx_payload_type: None,
        clock_rate: 48_000,
        extensions: ExtensionIds::default(),
        max_layer: 0,
    })
}

fn payload(sequence: u16) -> Vec<u8> {
    let mut payload = vec![0x55; 40];
    payload[..2].copy_from_slice(&sequence.to_be_bytes());
    payload
}

/// Publishes until every client but the first has heard `count` packets.
fn publish_to_all(server: &mut Server, clients: &mut [&mut Client], count: usize) {
    let mut sequence = 0;
    let mut next = Instant::now();
    server.run_until(clients, |_, clients| {
        if Instant::now() >= next {
            sequence += 1;
            clients[0].publish(sequence, &payload(sequence));
            next = Instant::now() + Duration::from_millis(2);
        }
        clients[1..]
            .iter()
            .all(|client| client.heard().len() >= count)
    });
}

#[test]
fn media_reaches_subscribers_on_every_worker() {
    let mut server = Server::start(2);
    let mut clients: Vec<Client> = (1..=17).map(|session| server.client(session)).collect();
    // Before any packet: the commands wait with their sessions.
    server.command(1, receive());
    for session in 2..=17 {
        server.command(session, send(session));
    }
    let mut clients: Vec<&mut Client> = clients.iter_mut().collect();
    server.run_until(&mut clients, |_, clients| {
        clients.iter().all(|c| c.keys.is_some())
    });
    publish_to_all(&mut server, &mut clients, 50);

    let owners = server.owners();
    assert_eq!(owners.len(), 17);
    assert_eq!(
        owners.values().collect::<BTreeSet<_>>().len(),
        2,
        "both workers have sessions"
    );
    for client in &clients[1..] {
        let heard = client.heard();
        assert!(
            heard.windows(2).all(|pair| pair[1] == pair[0] + 1),
            "{heard:?}"
        );
    }
    server.workers.shutdown();
    let stats = server.workers.stats();
    let total = |field: fn(&WorkerStats) -> u64| stats.iter().map(field).sum::<u64>();
    assert!(total(|s| s.packets_in) > 50);
    assert!(total(|s| s.packets_out) >= 16 * 50);
    assert!(total(|s| s.router.forwarded) >= 16 * 50);
    assert_eq!(
        total(|s| s.ring_drops) + total(|s| s.panics) + total(|s| s.send_drops),
        0
    );
    assert!(stats.iter().all(|s| s.mean_train() >= 1.0));
    // Good-bye was said to everybody.
    server.run_until(&mut clients, |_, clients| {
        clients.iter().all(|c| c.is_closed)
    });
}

#[test]
fn a_roaming_peer_keeps_its_session_wherever_its_packets_land() {
    let mut server = Server::start(2);
    let mut client = server.client(1);
    server.run_until(&mut [&mut client], |_, clients| clients[0].is_data_open);
    let mut expected = Vec::new();
    for number in 0..24u8 {
        client.roam();
        let local = client.socket.local_addr().unwrap();
        server.run_until(&mut [&mut client], |_, clients| {
            clients[0]
                .peer
                .path()
                .is_some_and(|(from, _)| from == local)
        });
        client.say(&[number]);
        expected.push(vec![number]);
        server.run_until(&mut [&mut client], |server, _| server.data(1) == expected);
        if server
            .workers
            .stats()
            .iter()
            .any(|stats| stats.passed_on > 0)
        {
            assert_eq!(server.owners().len(), 1);
            return;
        }
    }
    panic!("24 addresses and none of them on the other worker");
}

#[test]
fn the_mixer_hears_tracks_and_is_heard() {
    let mut server = Server::start(1);
    let mut mixer = server.workers.join_mesh().unwrap();
    assert!(server.workers.join_mesh().is_none(), "there is one place");
    let (mut speaker, mut listener) = (server.client(1), server.client(2));
    server.command(1, receive());
    let leg = TrackId(99);
    let Command::Send(parameters) = send(5) else {
        unreachable!()
    };
    server.command(
        2,
        Command::Send(SendParameters {
            track: leg,
            ..parameters
        }),
    );
    let mut clients = [&mut speaker, &mut listener];
    server.run_until(&mut clients, |_, clients| {
        clients.iter().all(|c| c.keys.is_some())
    });

    let mut is_watched = false;
    server.run_until(&mut clients, |_, _| {
        is_watched |= matches!(
            mixer.receive(),
            Some(MeshMessage::Watch { track, from: WorkerIndex(0) }) if track == leg
        );
        is_watched
    });
    mixer.send(
        MeshTarget::Everyone,
        MeshMessage::Watch {
            track: TRACK,
            from: mixer.index(),
        },
    );
    mixer.flush();
    let mut pool = PacketPool::new(16);
    let mut sequence = 0;
    let mut heard = 0;
    server.run_until(&mut clients, |_, clients| {
        sequence += 1;
        clients[0].publish(sequence, &payload(sequence));
        let now = Instant::now();
        let descriptor = Descriptor {
            track: leg,
            layer: 0,
            codec: Codec::Opus,
            marker: false,
            key_frame: false,
            epoch: 0,
            vp8: None,
            in_order: true,
            audio_level: None,
            sequence: u64::from(sequence),
            timestamp: u32::from(sequence) * 960,
            arrival: now,
            clock: ClockMapping {
                at: now,
                timestamp: u32::from(sequence) * 960,
            },
        };
        let packet = pool.packet(descriptor, &payload(sequence)).unwrap();
        mixer.send(MeshTarget::One(WorkerIndex(0)), MeshMessage::Packet(packet));
        mixer.flush();
        while let Some(message) = mixer.receive() {
            if let MeshMessage::Packet(packet) = message {
                assert_eq!(packet.descriptor.track, TRACK);
                heard += 1;
            }
        }
        heard >= 10 && clients[1].heard().len() >= 10
    });
}

#[test]
fn the_port_in_use_is_named_with_its_key() {
    let (first, _events) = config(1);
    let workers = Workers::start(first.clone()).unwrap();
    let refused = Workers::start(WorkersConfig {
        media: workers.local(),
        ..first
    })
    .unwrap_err();
    let sentence = refused.to_string();
    assert!(
        sentence.contains(&workers.local().to_string()),
        "{sentence}"
    );
    assert!(sentence.contains("media.bind"), "{sentence}");
}

#[test]
fn a_session_that_never_began_is_closed_and_told_so() {
    let mut server = Server::start(1);
    let _client = server.client(1);
    assert_eq!(server.workers.waiting(), 1);
    server.workers.close(SessionId(1)).unwrap();
    server.run_until(&mut [], |server, _| {
        server.disconnected(1) == Some(CloseReason::Local)
    });
    assert_eq!(
        server.workers.close(SessionId(1)),
        Err(WorkersError::UnknownSession)
    );
    let _again = server.client(1);
}

#[test]
fn sessions_end_when_told() {
    let mut server = Server::start(1);
    let mut client = server.client(1);
    server.run_until(&mut [&mut client], |_, clients| clients[0].is_data_open);
    server.workers.close(SessionId(1)).unwrap();
    server.run_until(&mut [&mut client], |server, clients| {
        server.disconnected(1).is_some() && clients[0].is_closed
    });
    assert_eq!(
        server.workers.close(SessionId(1)),
        Err(WorkersError::UnknownSession)
    );
}

/// A transport with bugs on demand.
struct Buggy {
    inner: WebRtcTransport,
    ufrag: String,
    bugs: Arc<Bugs>,
}

#[derive(Default)]
struct Bugs {
    /// Fails on the next datagram of this session's transport.
    datagram: AtomicU64,
    timer: AtomicBool,
}

impl Transport for Buggy {
    fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), DatagramRefusal> {
        let sick = self.bugs.datagram.load(Ordering::Relaxed);
        assert_ne!(self.ufrag, credentials(sick * 2).ufrag, "a bug on purpose");
        self.inner.handle_datagram(now, from, to, datagram)
    }

    fn handle_timeout(&mut self, now: Instant) {
        assert!(
            !self.bugs.timer.swap(false, Ordering::Relaxed),
            "a bug on purpose"
        );
        self.inner.handle_timeout(now);
    }

    fn poll(&mut self) -> Option<TransportOutput> {
        self.inner.poll()
    }

    fn deadline(&self) -> Option<Instant> {
        let is_due = self.bugs.timer.load(Ordering::Relaxed);
        if is_due {
            Some(Instant::now() - Duration::from_secs(1))
        } else {
            self.inner.deadline()
        }
    }

    fn set_remote(&mut self, now: Instant, remote: RemoteParameters) {
        self.inner.set_remote(now, remote);
    }

    fn restart_ice(&mut self, now: Instant, local: IceCredentials, remote: Option<IceCredentials>) {
        self.inner.restart_ice(now, local, remote);
    }

    fn send_data(
        &mut self,
        now: Instant,
        channel: DataChannel,
        payload: &[u8],
    ) -> Result<(), SendDataError> {
        assert_ne!(payload, b"bug", "a bug on purpose");
        self.inner.send_data(now, channel, payload)
    }

    fn remote(&self) -> Option<SocketAddr> {
        self.inner.remote()
    }

    fn close(&mut self, now: Instant) {
        self.inner.close(now);
    }
}

#[test]
fn a_bug_costs_its_session_alone_when_it_is_known_whose_it_is() {
    let (config, events) = config(1);
    let bugs = Arc::new(Bugs::default());
    let certificate = config.certificate.clone();
    let shared = Arc::clone(&bugs);
    let workers = Workers::start_with(
        config,
        Arc::new(move |now, config| {
            let inner = WebRtcTransport::new(now, certificate.clone(), config.clone());
            let ufrag = config.local.ufrag.clone();
            let bugs = Arc::clone(&shared);
            Box::new(Buggy { inner, ufrag, bugs })
        }),
    );
    let mut server = Server::around(workers.unwrap(), events);
    let (mut first, mut second, mut third) = (server.client(1), server.client(2), server.client(3));
    let mut clients = [&mut first, &mut second, &mut third];
    server.run_until(&mut clients, |_, clients| {
        clients.iter().all(|c| c.is_data_open)
    });

    // In a command.
    let bug = bytes::Bytes::from_static(b"bug");
    server.command(
        1,
        Command::SendData {
            channel: DataChannel::Reliable,
            payload: bug,
        },
    );
    server.run_until(&mut clients, |server, _| server.disconnected(1).is_some());

    // In a datagram.
    bugs.datagram.store(2, Ordering::Relaxed);
    clients[1].say(b"anything");
    server.run_until(&mut clients[1..2], |server, _| {
        server.disconnected(2).is_some()
    });
    clients[2].say(b"still here");
    server.run_until(&mut clients[2..], |server, _| {
        server.data(3) == [b"still here"]
    });
    assert_eq!(server.disconnected(3), None);

    // In a timer it is nobody's: the worker starts over, and goes on.
    bugs.timer.store(true, Ordering::Relaxed);
    clients[2].say(b"something to time");
    server.run_until(&mut clients[2..], |server, _| {
        server.disconnected(3).is_some()
    });
    let mut next = server.client(4);
    server.run_until(&mut [&mut next], |_, clients| clients[0].is_data_open);
    assert_eq!(server.workers.stats()[0].panics, 3);
}

#[test]
fn an_idle_worker_sleeps() {
    let server = Server::start(1);
    let quiet = |events: &Receiver<Event>| {
        assert!(
            events.recv_timeout(Duration::from_millis(600)).is_err(),
            "nothing happens"
        );
    };
    // The first reading of its counters is due once.
    quiet(&server.events);
    let before = server.workers.stats()[0].wake_ups;
    quiet(&server.events);
    assert_eq!(server.workers.stats()[0].wake_ups, before);
}
