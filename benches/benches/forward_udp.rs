//! One video packet decrypted once and sent to 50 viewers over loopback, against the raw limit.
//!
//! The limit is what no program on this kernel and library can beat: the bare AES-GCM seal of
//! as many bytes and the same sends, without copying, rewriting or remembering anything.
//! Trains of 1, 4 and 8 are packets of one frame that arrived together.
//!
//! `cargo bench -p palabre-benches --bench forward_udp`

use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use palabre_benches::{Case, compare};
use palabre_engine::net::socket::MediaSocket;
use palabre_media::ids::{MediaKind, SessionId, SubscriptionId, TrackId, WorkerIndex};
use palabre_media::rtp::rtcp::NtpTime;
use palabre_media::rtp::{ExtensionForm, ExtensionIds, PacketWriter, RtpFields};
use palabre_media::sfu::{
    Codec, Command, Encoding, Limits, ReceiveParameters, Router, RouterConfig, SendParameters,
    SessionConfig, Train, Verdict, WallClock,
};
use palabre_media::srtp::{MasterKey, SrtpSender};
use palabre_media::transport::{
    DataChannel, DatagramRefusal, IceCredentials, KeyingMaterial, RemoteParameters, SendDataError,
    SrtpProfile, Transport, TransportConfig, TransportEvent, TransportOutput,
};

const VIEWERS: usize = 50;

/// Bytes of RTP payload: a full-size video packet.
const PAYLOAD: usize = 1_080;

/// Bytes on the wire: header, extensions, payload, tag.
const DATAGRAM: usize = 12 + 16 + PAYLOAD + 16;

const PROFILE: SrtpProfile = SrtpProfile::AeadAes256Gcm;
const SSRC: u32 = 0xABCD;
const TRACK: TrackId = TrackId(1);

fn main() {
    let (sinks, addresses) = sinks();
    for train in [1, 4, 8] {
        let units = (train * VIEWERS) as u32;
        let mut limit = Limit::new(&addresses, train);
        let mut forwarder = Forwarder::new(&addresses, train);
        compare(
            &format!("one packet to {VIEWERS} viewers over loopback, trains of {train}"),
            vec![
                Case::batch("raw seal and send", units, || limit.run()),
                Case::batch("decrypt, forward, send", units, || forwarder.run()),
            ],
        );
    }
    drop(sinks);
}

/// Viewers that never read: the kernel's work ends at their full buffers, for both sides alike.
fn sinks() -> (Vec<UdpSocket>, Vec<SocketAddr>) {
    let bind = |_| UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
    let sinks: Vec<UdpSocket> = (0..VIEWERS).map(bind).collect();
    let addresses = sinks
        .iter()
        .map(|sink| sink.local_addr().expect("it is bound"))
        .collect();
    (sinks, addresses)
}

fn socket() -> MediaSocket {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut sockets = MediaSocket::open(address, 1).expect("loopback has free ports");
    sockets.remove(0)
}

/// Seal in place and send, nothing else.
struct Limit {
    key: LessSafeKey,
    nonce: u64,
    buffers: Vec<(SocketAddr, Vec<u8>)>,
    socket: MediaSocket,
}

impl Limit {
    fn new(addresses: &[SocketAddr], train: usize) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).expect("a key of 32 bytes");
        let buffer = |to: &SocketAddr| (*to, vec![0; train * DATAGRAM]);
        Self {
            key: LessSafeKey::new(key),
            nonce: 0,
            buffers: addresses.iter().map(buffer).collect(),
            socket: socket(),
        }
    }

    fn run(&mut self) {
        for (_, buffer) in &mut self.buffers {
            for datagram in buffer.chunks_exact_mut(DATAGRAM) {
                self.nonce += 1;
                let mut nonce = [0; 12];
                nonce[4..].copy_from_slice(&self.nonce.to_be_bytes());
                let (header, rest) = datagram.split_at_mut(28);
                let (payload, tag) = rest.split_at_mut(PAYLOAD);
                let nonce = Nonce::assume_unique_for_key(nonce);
                let sealed = self
                    .key
                    .seal_in_place_separate_tag(nonce, Aad::from(&*header), payload)
                    .expect("the payload is short");
                tag.copy_from_slice(sealed.as_ref());
            }
        }
        let trains = self.buffers.iter().map(|(to, bytes)| Train {
            to: *to,
            segment: DATAGRAM,
            bytes,
        });
        let sent = self.socket.send(trains);
        assert_eq!(sent.dropped, 0);
    }
}

/// The product's router with a publisher and its viewers.
struct Forwarder {
    router: Router,
    socket: MediaSocket,
    publisher: SocketAddr,
    sender: SrtpSender,
    sequence: u64,
    train: usize,
}

impl Forwarder {
    fn new(addresses: &[SocketAddr], train: usize) -> Self {
        let now = Instant::now();
        let limits = Limits::default();
        let wall = WallClock {
            at: now,
            ntp: NtpTime(0),
        };
        let make_transport = Box::new(|_, _: &TransportConfig| {
            Box::new(Connected::default()) as Box<dyn Transport + Send>
        });
        let mut router = Router::new(
            WorkerIndex(0),
            RouterConfig {
                wall,
                limits,
                make_transport,
            },
        );
        let publisher = SocketAddr::from(([127, 0, 0, 1], 9));
        connect(&mut router, now, 0, publisher);
        let command = Command::Receive(ReceiveParameters {
            track: TRACK,
            kind: MediaKind::Video,
            mid: "0".parse().expect("a label"),
            codec: Codec::Vp8,
            payload_type: 96,
            rtx_payload_type: None,
            clock_rate: 90_000,
            extensions: ExtensionIds::default(),
            encodings: vec![Encoding {
                ssrc: Some(SSRC),
                ..Encoding::default()
            }],
        });
        router
            .command(now, SessionId(0), command)
            .expect("the session is there");
        for (number, address) in (1..).zip(addresses) {
            connect(&mut router, now, number, *address);
            let command = Command::Send(SendParameters {
                track: TRACK,
                subscription: SubscriptionId(number),
                kind: MediaKind::Video,
                mid: "1".parse().expect("a label"),
                ssrc: number as u32,
                rtx_ssrc: Some(0x8000 + number as u32),
                codec: Codec::Vp8,
                payload_type: 97,
                rtx_payload_type: Some(98),
                clock_rate: 90_000,
                extensions: ExtensionIds {
                    mid: Some(1),
                    abs_send_time: Some(2),
                    transport_cc: Some(3),
                    ..ExtensionIds::default()
                },
                max_layer: 0,
            });
            router
                .command(now, SessionId(number), command)
                .expect("the session is there");
        }
        router.sent();
        let keying = keying();
        let master = MasterKey {
            key: keying.remote_key(),
            salt: keying.remote_salt(),
        };
        Self {
            router,
            socket: socket(),
            publisher,
            sender: SrtpSender::new(PROFILE, master).expect("keys of the profile's length"),
            sequence: 1_000,
            train,
        }
    }

    fn run(&mut self) {
        let now = Instant::now();
        for index in 0..self.train {
            // Sealing the publisher's packet is not our work: a fiftieth of a seal per unit.
            let mut datagram = [0; 1_400];
            let marker = index + 1 == self.train;
            let len = self.publish(&mut datagram, marker);
            let verdict = self.router.handle_datagram(
                now,
                self.publisher,
                self.socket.local(),
                &mut datagram[..len],
            );
            assert_eq!(verdict, Verdict::Handled);
        }
        if self
            .router
            .deadline()
            .is_some_and(|deadline| deadline <= now)
        {
            self.router.handle_timeout(now);
        }
        while self.router.poll_event().is_some() {}
        self.router.drain_mesh().for_each(drop);
        let sent = self.socket.send(self.router.outgoing());
        self.router.sent();
        assert!(sent.datagrams as usize >= self.train * VIEWERS, "{sent:?}");
        assert_eq!(sent.dropped, 0);
    }

    fn publish(&mut self, buffer: &mut [u8], marker: bool) -> usize {
        self.sequence += 1;
        let fields = RtpFields {
            payload_type: 96,
            marker,
            sequence: self.sequence as u16,
            timestamp: self.sequence as u32 * 3_000,
            ssrc: SSRC,
        };
        // A VP8 key frame in one packet, so that nobody waits for one.
        let mut payload = [0x55; PAYLOAD];
        payload[..2].copy_from_slice(&[0x10, 0x00]);
        let mut writer = PacketWriter::start(buffer, &fields, ExtensionForm::OneByte)
            .expect("the buffer is large enough");
        writer
            .payload(&payload)
            .expect("the buffer is large enough");
        let len = writer.finish();
        self.sender
            .protect_rtp(buffer, len, self.sequence)
            .expect("the buffer has room")
    }
}

/// Opens a session and lets its first check arrive.
fn connect(router: &mut Router, now: Instant, session: u64, from: SocketAddr) {
    let local = IceCredentials::from_random(&[session as u8; IceCredentials::RANDOM_LEN]);
    let ufrag = local.ufrag.clone();
    let transport = TransportConfig::new(local);
    let config = SessionConfig {
        session: SessionId(session),
        transport,
        remote: None,
    };
    router.adopt(now, config, []).expect("there is room");
    let mut check = vec![0, 1, 0, 20, 0x21, 0x12, 0xA4, 0x42];
    check.extend([0; 12]);
    check.extend([0, 6, 0, 15]);
    check.extend(ufrag.as_bytes());
    check.extend(b":xx\0");
    let outcome = router.handle_datagram(now, from, from, &mut check);
    assert_eq!(outcome, Verdict::Handled);
}

fn keying() -> KeyingMaterial {
    KeyingMaterial::from_exporter(PROFILE, &[3; 88]).expect("88 bytes are the profile's")
}

/// A transport that is connected with the first check.
#[derive(Default)]
struct Connected {
    outputs: std::collections::VecDeque<TransportOutput>,
    remote: Option<SocketAddr>,
}

impl Transport for Connected {
    fn handle_datagram(
        &mut self,
        _: Instant,
        from: SocketAddr,
        _: SocketAddr,
        _: &[u8],
    ) -> Result<(), DatagramRefusal> {
        self.remote = Some(from);
        let connected = TransportEvent::DtlsConnected {
            keying: keying(),
            profile: PROFILE,
        };
        let events = [TransportEvent::IceConnected { remote: from }, connected];
        self.outputs.extend(events.map(TransportOutput::Event));
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

    fn restart_ice(&mut self, _: Instant, _: IceCredentials, _: Option<IceCredentials>) {}

    fn send_data(&mut self, _: Instant, _: DataChannel, _: &[u8]) -> Result<(), SendDataError> {
        Err(SendDataError::NotOpen)
    }

    fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    fn close(&mut self, _: Instant) {}
}
