//! One packet from a publisher to 50 subscribers, without sockets: what a forwarded packet
//! costs, against sealing alone, and that it allocates nothing.
#![allow(clippy::print_stdout)] // a bench prints its table

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use palabre_benches::{Case, compare};
use palabre_media::ids::{MediaKind, SessionId, SubscriptionId, TrackId, WorkerIndex};
use palabre_media::rtp::rtcp::NtpTime;
use palabre_media::rtp::{ExtensionForm, ExtensionIds, PacketWriter, RtpFields};
use palabre_media::sfu::{
    Codec, Command, Encoding, Limits, ReceiveParameters, Router, RouterConfig, SendParameters,
    SessionConfig, Verdict, WallClock,
};
use palabre_media::srtp::{DtlsRole, SrtpSender, from_keying_material};
use palabre_media::transport::{
    CloseReason, DataChannel, DatagramRefusal, IceCredentials, KeyingMaterial, RemoteParameters,
    SendDataError, SrtpProfile, Transport, TransportConfig, TransportEvent, TransportOutput,
};

const SUBSCRIBERS: u64 = 50;
const PROFILE: SrtpProfile = SrtpProfile::AeadAes128Gcm;
const EXTENSIONS: ExtensionIds = ExtensionIds {
    audio_level: None,
    mid: Some(4),
    rid: None,
    repaired_rid: None,
    abs_send_time: Some(2),
    transport_cc: Some(3),
};
/// Goal of the design for 1,100 bytes, in nanoseconds.
const GOAL: f64 = 350.0;

/// Keys without a handshake.
struct FixedKeys {
    outputs: VecDeque<TransportOutput>,
    remote: Option<SocketAddr>,
}

fn exported() -> Vec<u8> {
    (0..2 * (PROFILE.key_len() + PROFILE.salt_len()))
        .map(|byte| byte as u8)
        .collect()
}

impl Transport for FixedKeys {
    fn handle_datagram(
        &mut self,
        _: Instant,
        from: SocketAddr,
        _: SocketAddr,
        _: &[u8],
    ) -> Result<(), DatagramRefusal> {
        let keying = KeyingMaterial::from_exporter(PROFILE, &exported()).expect("right length");
        for event in [
            TransportEvent::IceConnected { remote: from },
            TransportEvent::DtlsConnected {
                keying,
                profile: PROFILE,
            },
        ] {
            self.outputs.push_back(TransportOutput::Event(event));
        }
        self.remote = Some(from);
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
    fn close(&mut self, _: Instant) {
        let closed = TransportEvent::Closed(CloseReason::Local);
        self.outputs.push_back(TransportOutput::Event(closed));
    }
}

fn binding_request(ufrag: &str) -> Vec<u8> {
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

/// A router with one publisher and its subscribers, and the publisher's end.
struct Room {
    router: Router,
    now: Instant,
    publisher: SrtpSender,
    kind: MediaKind,
    payload: Vec<u8>,
    /// Packets sent before each flush.
    burst: u32,
    next: u64,
    datagram: Vec<u8>,
    /// Packets for subscribers that came out.
    sent: u64,
}

fn address(peer: u64) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 10_000 + peer as u16))
}

impl Room {
    /// `length` is the datagram's on the publisher's wire, before the tag.
    fn new(kind: MediaKind, length: usize, burst: u32) -> Self {
        let now = Instant::now();
        let mut router = Router::new(
            WorkerIndex(0),
            RouterConfig {
                wall: WallClock {
                    at: now,
                    ntp: NtpTime(1 << 40),
                },
                limits: Limits::default(),
                make_transport: Box::new(|_, _| {
                    Box::new(FixedKeys {
                        outputs: VecDeque::new(),
                        remote: None,
                    })
                }),
            },
        );
        let codec = if kind == MediaKind::Video {
            Codec::Vp8
        } else {
            Codec::Opus
        };
        let mid = "0".parse().expect("a mid");
        for peer in 0..=SUBSCRIBERS {
            let ufrag = format!("peer{peer:04}");
            let local = IceCredentials {
                ufrag: ufrag.clone(),
                pwd: "p".repeat(24),
            };
            let transport = TransportConfig::new(local);
            let session = SessionId(peer);
            let config = SessionConfig {
                session,
                transport,
                remote: None,
            };
            router.adopt(now, config, []).expect("there is room");
            let mut request = binding_request(&ufrag);
            let verdict = router.handle_datagram(now, address(peer), address(999), &mut request);
            assert_eq!(verdict, Verdict::Handled);
            let command = if peer == 0 {
                Command::Receive(ReceiveParameters {
                    track: TrackId(1),
                    kind,
                    mid,
                    codec,
                    payload_type: 96,
                    rtx_payload_type: Some(97),
                    clock_rate: codec.clock_rate(),
                    extensions: EXTENSIONS,
                    encodings: vec![Encoding::default()],
                })
            } else {
                Command::Send(SendParameters {
                    track: TrackId(1),
                    subscription: SubscriptionId(peer),
                    kind,
                    mid,
                    ssrc: 1_000 + 2 * peer as u32,
                    rtx_ssrc: Some(1_001 + 2 * peer as u32),
                    codec,
                    payload_type: 96,
                    rtx_payload_type: Some(97),
                    clock_rate: codec.clock_rate(),
                    extensions: EXTENSIONS,
                    max_layer: 3,
                })
            };
            router
                .command(now, session, command)
                .expect("the command is right");
        }
        while router.poll_event().is_some() {}
        router.drain_mesh().for_each(drop);
        let (publisher, _) =
            from_keying_material(PROFILE, &exported(), DtlsRole::Client).expect("right length");
        let mut payload = vec![0x55; length - 20];
        if kind == MediaKind::Video {
            // Picture id, TL0PICIDX, KEYIDX, and a key frame's first bit.
            payload[..7].copy_from_slice(&[0x90, 0xF0, 0x80, 1, 1, 1, 0]);
        }
        let datagram = Vec::with_capacity(2_000);
        let (next, sent) = (1, 0);
        let mut room = Room {
            router,
            now,
            publisher,
            kind,
            payload,
            burst,
            next,
            datagram,
            sent,
        };
        // The first seconds fill histories and pools.
        for _ in 0..2_000 {
            room.round();
        }
        room
    }

    /// A burst in, and for each subscriber a burst out.
    fn round(&mut self) {
        for _ in 0..self.burst {
            self.packet();
        }
        for train in self.router.outgoing() {
            self.sent += train.datagrams().len() as u64;
        }
        self.router.sent();
    }

    fn packet(&mut self) {
        self.now += Duration::from_millis(2);
        let fields = RtpFields {
            payload_type: 96,
            marker: self.kind == MediaKind::Video,
            sequence: self.next as u16,
            timestamp: self.next as u32 * 180,
            ssrc: 7,
        };
        self.datagram.resize(1_500, 0);
        let mut writer = PacketWriter::start(&mut self.datagram, &fields, ExtensionForm::OneByte)
            .expect("there is room");
        let sequence = (self.next as u16).to_be_bytes();
        writer.extension(3, &sequence).expect("there is room");
        if self.kind == MediaKind::Video && self.next > 1 {
            self.payload[6] = 1;
            self.payload[2..4].copy_from_slice(&(0x8000 | sequence[1] as u16).to_be_bytes());
        }
        writer.payload(&self.payload).expect("there is room");
        let len = writer.finish();
        let len = self
            .publisher
            .protect_rtp(&mut self.datagram, len, self.next)
            .expect("there is room");
        self.next += 1;
        let datagram = &mut self.datagram[..len];
        let verdict = self
            .router
            .handle_datagram(self.now, address(0), address(999), datagram);
        assert_eq!(verdict, Verdict::Handled);
    }

    /// Lets timers run, with their reports and feedback.
    fn tick(&mut self) {
        if self.router.deadline().is_some_and(|at| at <= self.now) {
            self.router.handle_timeout(self.now);
        }
        while self.router.poll_event().is_some() {}
    }
}

/// Sealing a datagram of the size subscribers get, and nothing else.
fn seal(length: usize) -> impl FnMut() {
    let (sender, _) =
        from_keying_material(PROFILE, &exported(), DtlsRole::Server).expect("right length");
    let mut buffer = vec![0; length + 16];
    let fields = RtpFields {
        payload_type: 96,
        marker: false,
        sequence: 0,
        timestamp: 0,
        ssrc: 1_002,
    };
    let mut index = 0u64;
    move || {
        index += 1;
        let fields = RtpFields {
            sequence: index as u16,
            ..fields
        };
        PacketWriter::start(&mut buffer, &fields, ExtensionForm::OneByte).expect("there is room");
        sender
            .protect_rtp(&mut buffer, length, index)
            .expect("there is room");
    }
}

fn allocates_nothing(kind: MediaKind, length: usize) {
    let mut room = Room::new(kind, length, 4);
    let before = room.sent;
    let counted = allocation_counter::measure(|| {
        for _ in 0..500 {
            room.round();
        }
    });
    assert_eq!(
        room.sent - before,
        500 * 4 * SUBSCRIBERS,
        "every packet reached everybody"
    );
    assert_eq!(counted.count_total, 0, "allocations while forwarding");
    // Reports, feedback and loudness may allocate (events do), not per packet.
    let counted = allocation_counter::measure(|| {
        for _ in 0..500 {
            room.round();
            room.tick();
        }
    });
    println!(
        "  {length} bytes: 0 allocations in 2,000 packets to {SUBSCRIBERS}; \
         {} with all timers, reports and feedback",
        counted.count_total
    );
}

fn main() {
    println!("allocations");
    allocates_nothing(MediaKind::Video, 1_100);
    allocates_nothing(MediaKind::Audio, 160);
    println!();
    let units = SUBSCRIBERS as u32;
    let mut measured = Vec::new();
    for (kind, length) in [(MediaKind::Video, 1_100), (MediaKind::Audio, 160)] {
        let mut cases = vec![Case::new("seal alone", seal(length))];
        for burst in [1, 4, 8] {
            let mut room = Room::new(kind, length, burst);
            let name = format!("forward 1 to 50, trains of {burst}");
            cases.push(Case::batch(name, units * burst, move || room.round()));
        }
        let mut room = Room::new(kind, length, 4);
        cases.push(Case::batch(
            "... with timers and feedback",
            units * 4,
            move || {
                room.round();
                room.tick();
            },
        ));
        let title = format!("{length} bytes, ns per forwarded packet (1 decrypted, 50 sealed)");
        measured.push(compare(&title, cases));
    }
    let forward = measured[0][2].median;
    println!("goal at 1,100 bytes: {GOAL} ns; here {forward:.0} ns");
}
