use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use palabre_media::codec::dtmf::TelephoneEvent;
use palabre_media::codec::{LegCodec, g711, opus};
use palabre_media::ids::{TrackId, WorkerIndex};
use palabre_media::rtp::{AudioLevel, RtpHeader};
use palabre_media::sfu::{ClockMapping, Codec, Descriptor, MeshMessage, MeshTarget, PacketPool};
use tokio::sync::mpsc;

use super::thread::{Fault, MixerThread};
use super::*;

#[derive(Clone, Default)]
struct FakeMesh {
    incoming: Arc<Mutex<VecDeque<MeshMessage>>>,
    sent: Arc<Mutex<Vec<(MeshTarget, MeshMessage)>>>,
}

const MIXER: WorkerIndex = WorkerIndex(9);
const WORKER: WorkerIndex = WorkerIndex(2);

impl Mesh for FakeMesh {
    fn index(&self) -> WorkerIndex {
        MIXER
    }
    fn receive(&mut self) -> Option<MeshMessage> {
        self.incoming.lock().unwrap().pop_front()
    }
    fn send(&mut self, target: MeshTarget, message: MeshMessage) {
        self.sent.lock().unwrap().push((target, message));
    }
    fn flush(&mut self) {}
}

/// The thread without its thread: stepped by the test on real loopback sockets.
struct World {
    thread: MixerThread<FakeMesh>,
    mixers: Mixers,
    mesh: FakeMesh,
    told: Arc<Mutex<Vec<MixerEvent>>>,
    now: Instant,
    pool: PacketPool,
}

impl World {
    fn new(config: MixerConfig) -> Self {
        let (mixers, commands) = Mixers::new(10);
        let mesh = FakeMesh::default();
        let told = Arc::new(Mutex::new(Vec::new()));
        let events = {
            let told = Arc::clone(&told);
            Box::new(move |event| told.lock().unwrap().push(event))
        };
        let thread = MixerThread::new(config, commands, mesh.clone(), mixers.counters(), events);
        Self {
            thread,
            mixers,
            mesh,
            told,
            now: Instant::now(),
            pool: PacketPool::new(16),
        }
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(20);
        self.thread.step_for_test(self.now);
    }

    fn run(&mut self, ticks: usize, phones: &mut [&mut Phone]) {
        for _ in 0..ticks {
            for phone in phones.iter_mut() {
                phone.speak();
            }
            self.step();
            for phone in phones.iter_mut() {
                phone.listen();
            }
        }
    }

    fn phone(&mut self, hertz: f32) -> Phone {
        Phone::new(self, hertz, LegCodec::Pcma)
    }

    fn watches(&self) -> Vec<(bool, TrackId)> {
        let sent = self.mesh.sent.lock().unwrap();
        sent.iter()
            .filter_map(|(target, message)| match message {
                MeshMessage::Watch { track, from } => {
                    assert_eq!((*target, *from), (MeshTarget::Everyone, MIXER));
                    Some((true, *track))
                }
                MeshMessage::Unwatch { track, .. } => Some((false, *track)),
                _ => None,
            })
            .collect()
    }

    fn voices(&self, track: TrackId) -> Vec<Arc<palabre_media::sfu::Packet>> {
        let sent = self.mesh.sent.lock().unwrap();
        sent.iter()
            .filter_map(|(target, message)| match message {
                MeshMessage::Packet(packet) if packet.descriptor.track == track => {
                    assert_eq!(*target, MeshTarget::One(WORKER));
                    Some(Arc::clone(packet))
                }
                _ => None,
            })
            .collect()
    }

    fn web_packet(&mut self, track: TrackId, sequence: u64, epoch: u16, payload: &[u8]) {
        let timestamp = sequence as u32 * 960;
        let descriptor = Descriptor {
            track,
            layer: 0,
            codec: Codec::Opus,
            marker: false,
            key_frame: false,
            in_order: true,
            epoch,
            vp8: None,
            audio_level: Some(AudioLevel {
                voice: true,
                level: 20,
            }),
            sequence,
            timestamp,
            arrival: self.now,
            clock: ClockMapping {
                at: self.now,
                timestamp,
            },
        };
        let packet = self.pool.packet(descriptor, payload).unwrap();
        self.mesh
            .incoming
            .lock()
            .unwrap()
            .push_back(MeshMessage::Packet(packet));
    }
}

struct Phone {
    socket: UdpSocket,
    to: SocketAddr,
    leg: Option<Leg>,
    events: mpsc::Receiver<LegEvent>,
    hertz: f32,
    sequence: u16,
    sample: usize,
    heard: Vec<f32>,
    rtcp: usize,
    decoder: opus::Decoder,
    codec: LegCodec,
}

impl Phone {
    fn new(world: &World, hertz: f32, codec: LegCodec) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let ours = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = ours.local_addr().unwrap();
        let (leg, events) = world
            .mixers
            .open_leg(LegParameters {
                rtp: ours,
                rtcp: None,
                remote: socket.local_addr().unwrap(),
                remote_rtcp: None,
                codec,
                payload_type: 96,
                telephone_event: Some((101, 8_000)),
                direction: Direction::SendReceive,
            })
            .unwrap();
        Self {
            socket,
            to,
            leg: Some(leg),
            events,
            hertz,
            sequence: 0,
            sample: 0,
            heard: Vec::new(),
            rtcp: 0,
            decoder: opus::Decoder::default(),
            codec,
        }
    }

    fn leg(&self) -> &Leg {
        self.leg.as_ref().unwrap()
    }

    fn send(&mut self, payload_type: u8, timestamp: u32, payload: &[u8]) {
        let mut datagram = vec![0x80, payload_type];
        datagram.extend(self.sequence.to_be_bytes());
        datagram.extend(timestamp.to_be_bytes());
        datagram.extend(77u32.to_be_bytes());
        datagram.extend(payload);
        self.socket.send_to(&datagram, self.to).unwrap();
        self.sequence = self.sequence.wrapping_add(1);
    }

    fn speak(&mut self) {
        if self.hertz == 0.0 {
            return;
        }
        let payload: Vec<u8> = (self.sample..self.sample + 160)
            .map(|n| {
                let t = n as f32 / 8_000.0 * std::f32::consts::TAU;
                g711::linear_to_alaw(((t * self.hertz).sin() * 6_000.0) as i16)
            })
            .collect();
        self.send(96, self.sample as u32, &payload);
        self.sample += 160;
    }

    fn listen(&mut self) {
        let mut buffer = [0; 2_048];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            if (192..=223).contains(&buffer[1]) {
                self.rtcp += 1;
                continue;
            }
            let header = RtpHeader::parse(&buffer[..length]).unwrap();
            let payload = header.payload(&buffer[..length]);
            if self.codec == LegCodec::Opus {
                let mut samples = [0.0; 960];
                self.decoder.decode(payload, &mut samples).unwrap();
                self.heard.extend(samples);
            } else {
                self.heard.extend(
                    payload
                        .iter()
                        .map(|&b| f32::from(g711::alaw_to_linear(b)) / 32_768.0),
                );
            }
        }
    }

    /// Level in dB of a tone in the last half second.
    fn level_of(&self, hertz: f32) -> f32 {
        let rate = self.codec.sample_rate() as f32;
        let last = &self.heard[self.heard.len() - rate as usize / 2..];
        let (mut real, mut imaginary) = (0.0f32, 0.0f32);
        for (n, sample) in last.iter().enumerate() {
            let angle = n as f32 * hertz / rate % 1.0 * std::f32::consts::TAU;
            real += sample * angle.cos();
            imaginary += sample * angle.sin();
        }
        let length = last.len() as f32;
        10.0 * (2.0 * (real * real + imaginary * imaginary) / length / length)
            .max(1e-12)
            .log10()
    }

    fn events(&mut self) -> Vec<LegEvent> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }
}

fn tone(hertz: f32, samples: usize) -> Prompt {
    (0..samples)
        .map(|n| ((n as f32 / 48_000.0 * hertz * std::f32::consts::TAU).sin() * 6_000.0) as i16)
        .collect()
}

const ROOM: RoomId = RoomId(1);

#[test]
fn a_caller_hears_a_prompt_and_its_keys_are_told() {
    let mut world = World::new(MixerConfig::default());
    let mut phone = world.phone(0.0);
    phone.leg().play(tone(700.0, 48_000));
    world.run(49, &mut [&mut phone]);
    assert!(phone.level_of(700.0) > -20.0);
    assert!(phone.events().is_empty());
    world.run(1, &mut [&mut phone]);
    for (key, event) in [(0u32, 4), (1, 2), (2, 11)] {
        for n in 1..=5u16 {
            let payload = TelephoneEvent {
                event,
                end: n > 3,
                volume: 10,
                duration: n.min(3) * 160,
            }
            .write();
            phone.send(101, key * 3_200, &payload);
            world.step();
        }
    }
    let told = phone.events();
    let keys: Vec<LegEvent> = "42#".chars().map(LegEvent::Digit).collect();
    assert_eq!(told.first(), Some(&LegEvent::PlayFinished));
    assert_eq!(told[1..], keys);
    assert!(phone.level_of(700.0) > -60.0);
}

#[test]
fn callers_and_a_browser_hear_each_other_and_leaving_ends_it() {
    let mut world = World::new(MixerConfig::default());
    let (mut a, mut b) = (world.phone(440.0), world.phone(1_000.0));
    let web = TrackId(50);
    let (voice_a, voice_b) = (TrackId(51), TrackId(52));
    world.mixers.send(Command::OpenRoom {
        room: ROOM,
        talkers: 4,
    });
    world.mixers.send(Command::AddTrack {
        room: ROOM,
        track: web,
    });
    world.step();
    assert!(world.watches().is_empty(), "nobody listens yet");
    for (leg, track) in [(a.leg().id(), voice_a), (b.leg().id(), voice_b)] {
        world.mixers.send(Command::JoinRoom {
            leg,
            room: ROOM,
            track,
        });
    }
    let watch = MeshMessage::Watch {
        track: voice_a,
        from: WORKER,
    };
    world.mesh.incoming.lock().unwrap().push_back(watch);
    let mut encoder = opus::Encoder::new(opus::Quality::default());
    for n in 0..100u64 {
        let frame = std::array::from_fn(|i| {
            ((n as usize * 960 + i) as f32 / 48_000.0 * 2_000.0 % 1.0 * std::f32::consts::TAU).sin()
                * 0.2
        });
        let payload = encoder.encode(&frame).to_vec();
        world.web_packet(web, 100 + n, 0, &payload);
        world.run(1, &mut [&mut a, &mut b]);
    }
    assert_eq!(world.watches(), [(true, web)]);
    for (phone, own, other) in [(&a, 440.0, 1_000.0), (&b, 1_000.0, 440.0)] {
        assert!(phone.level_of(other) > -22.0);
        assert!(phone.level_of(2_000.0) > -22.0);
        assert!(phone.level_of(other) - phone.level_of(own) > 40.0);
    }
    // A's voice is a track, B's is watched by nobody.
    let voices = world.voices(voice_a);
    assert!(voices.len() > 80, "{}", voices.len());
    assert!(world.voices(voice_b).is_empty());
    for pair in voices.windows(2) {
        assert_eq!(pair[1].descriptor.sequence, pair[0].descriptor.sequence + 1);
    }
    let level = voices[50].descriptor.audio_level.unwrap();
    assert!((16..=20).contains(&level.level) && level.voice, "{level:?}");
    assert!(
        world
            .told
            .lock()
            .unwrap()
            .iter()
            .any(|event| matches!(event,
        MixerEvent::Levels(levels) if levels.len() == 2 && levels.iter().all(|l| l.1 < 25)))
    );

    world.mixers.send(Command::SetLegMuted {
        leg: a.leg().id(),
        muted: true,
    });
    world.run(60, &mut [&mut a, &mut b]);
    assert!(b.level_of(440.0) < -60.0);
    let before = world.voices(voice_a).len();
    world.run(30, &mut [&mut a, &mut b]);
    assert_eq!(world.voices(voice_a).len(), before);
    assert_eq!(a.events(), [LegEvent::Muted(true)]);

    let leg = b.leg().id();
    world.mixers.send(Command::LeaveRoom {
        leg,
        reason: RemovedReason::Removed,
    });
    world.run(60, &mut [&mut a, &mut b]);
    assert_eq!(b.events(), [LegEvent::Removed(RemovedReason::Removed)]);
    assert!(a.level_of(1_000.0) < -60.0);
    a.leg.take();
    world.run(2, &mut []);
    assert_eq!(world.watches(), [(true, web), (false, web)]);
    assert_eq!(world.mixers.stats().legs, 1);
    assert_eq!(world.mixers.stats().commands_lost, 0);
    a.listen();
    assert!(a.rtcp > 0, "a goodbye at least");
}

#[test]
fn a_track_whose_source_begins_anew_is_heard() {
    let mut world = World::new(MixerConfig::default());
    let mut a = world.phone(0.0);
    let web = TrackId(50);
    world.mixers.send(Command::OpenRoom {
        room: ROOM,
        talkers: 4,
    });
    world.mixers.send(Command::AddTrack {
        room: ROOM,
        track: web,
    });
    world.mixers.send(Command::JoinRoom {
        leg: a.leg().id(),
        room: ROOM,
        track: TrackId(51),
    });
    world.step();
    let mut encoder = opus::Encoder::new(opus::Quality::default());
    for (epoch, first) in [(0u16, 500_000u64), (1, 70_000)] {
        for n in 0..60u64 {
            let frame = std::array::from_fn(|i| {
                ((n as usize * 960 + i) as f32 / 48_000.0 * 900.0 % 1.0 * std::f32::consts::TAU)
                    .sin()
                    * 0.2
            });
            let payload = encoder.encode(&frame).to_vec();
            world.web_packet(web, first + n, epoch, &payload);
            world.run(1, &mut [&mut a]);
        }
        assert!(a.level_of(900.0) > -22.0, "epoch {epoch}");
    }
}

#[test]
fn a_failing_mix_takes_only_its_own_room_down() {
    let mut world = World::new(MixerConfig::default());
    let (mut a, mut b) = (world.phone(440.0), world.phone(0.0));
    let (mut c, mut d) = (world.phone(600.0), world.phone(0.0));
    for (room, phones) in [(RoomId(1), [&a, &b]), (RoomId(2), [&c, &d])] {
        world.mixers.send(Command::OpenRoom { room, talkers: 4 });
        for phone in phones {
            let leg = phone.leg().id();
            world.mixers.send(Command::JoinRoom {
                leg,
                room,
                track: TrackId(leg.0),
            });
        }
    }
    world.run(60, &mut [&mut a, &mut b, &mut c, &mut d]);
    assert!(b.level_of(440.0) > -22.0);
    world.thread.break_room(RoomId(1));
    world.run(60, &mut [&mut a, &mut b, &mut c, &mut d]);
    assert!(d.level_of(600.0) > -22.0);
    assert!(b.level_of(440.0) < -60.0);
    for phone in [&mut a, &mut b] {
        assert_eq!(
            phone.events(),
            [LegEvent::Removed(RemovedReason::MixFailed)]
        );
    }
    assert!(d.events().is_empty());
    assert_eq!(
        *world
            .told
            .lock()
            .unwrap()
            .iter()
            .find(|e| !matches!(e, MixerEvent::Levels(_)))
            .unwrap(),
        MixerEvent::RoomFailed(RoomId(1))
    );
    assert_eq!(world.mixers.stats().failed_rooms, 1);
    // It is back at the menu.
    b.leg().play(tone(700.0, 48_000));
    world.run(40, &mut [&mut a, &mut b]);
    assert!(b.level_of(700.0) > -20.0);
}

#[test]
fn a_bug_in_one_leg_costs_that_leg_only() {
    let faults: [fn(palabre_media::ids::LegId) -> Fault; 3] =
        [Fault::TakeIn, Fault::Alone, Fault::LookAfter];
    for (fault, in_room) in [(0, false), (0, true), (1, false), (2, false), (2, true)] {
        let mut world = World::new(MixerConfig::default());
        let (mut a, mut b, mut c) = (
            world.phone(440.0),
            world.phone(1_000.0),
            world.phone(1_700.0),
        );
        if in_room {
            world.mixers.send(Command::OpenRoom {
                room: ROOM,
                talkers: 4,
            });
            for leg in [&a, &b, &c].map(|phone| phone.leg().id()) {
                world.mixers.send(Command::JoinRoom {
                    leg,
                    room: ROOM,
                    track: TrackId(leg.0),
                });
            }
        }
        world.run(30, &mut [&mut a, &mut b, &mut c]);
        let lost = a.leg().id();
        world.thread.break_with(Some(faults[fault](lost)));
        world.run(60, &mut [&mut a, &mut b, &mut c]);
        let stats = world.mixers.stats();
        assert_eq!((stats.failed_legs, stats.failed_rooms), (1, 0));
        assert_eq!((stats.panics, stats.legs), (0, 2));
        assert!(a.events.is_closed(), "the owner is told by the end");
        assert!(b.events().is_empty() && !b.events.is_closed());
        let told = world.told.lock().unwrap().clone();
        assert!(told.contains(&MixerEvent::LegFailed(lost)));
        if in_room {
            world.run(30, &mut [&mut b, &mut c]);
            assert!(b.level_of(1_700.0) > -22.0, "the others go on");
            assert!(b.level_of(440.0) < -40.0, "the lost one is not heard");
        } else {
            b.leg().play(tone(700.0, 96_000));
            world.run(40, &mut [&mut b, &mut c]);
            assert!(b.level_of(700.0) > -20.0);
        }
    }
}

#[test]
fn bugs_outside_of_legs_cost_a_room_or_a_tick() {
    let mut world = World::new(MixerConfig::default());
    let (mut a, mut b) = (world.phone(440.0), world.phone(0.0));
    world.mixers.send(Command::OpenRoom {
        room: ROOM,
        talkers: 4,
    });
    let track = TrackId(50);
    world.mixers.send(Command::AddTrack { room: ROOM, track });
    let leg = a.leg().id();
    world.mixers.send(Command::JoinRoom {
        leg,
        room: ROOM,
        track: TrackId(leg.0),
    });
    world.run(5, &mut [&mut a, &mut b]);
    world.thread.break_with(Some(Fault::Step));
    world.run(5, &mut [&mut a, &mut b]);
    assert_eq!(world.mixers.stats().panics, 1);
    assert_eq!(world.mixers.stats().legs, 2);
    world.thread.break_with(Some(Fault::Track));
    world.web_packet(track, 1, 0, &[0xf8, 0xff, 0xfe]);
    world.run(5, &mut [&mut a, &mut b]);
    assert_eq!(world.mixers.stats().failed_rooms, 1);
    assert_eq!(
        a.events(),
        [LegEvent::Removed(RemovedReason::MixFailed)],
        "it may join again"
    );
    assert!(b.events().is_empty());
}

#[test]
fn silence_is_told_once_and_a_held_leg_is_no_silence() {
    let config = MixerConfig {
        media_timeout: Duration::from_secs(2),
        ..MixerConfig::default()
    };
    let mut world = World::new(config);
    let mut phone = world.phone(440.0);
    world.run(50, &mut [&mut phone]);
    phone.hertz = 0.0;
    world.run(99, &mut [&mut phone]);
    assert!(phone.events().is_empty());
    world.run(200, &mut [&mut phone]);
    assert_eq!(phone.events(), [LegEvent::MediaTimeout]);
    phone.hertz = 440.0;
    world.run(10, &mut [&mut phone]);
    phone.hertz = 0.0;
    world.run(110, &mut [&mut phone]);
    assert_eq!(phone.events(), [LegEvent::MediaTimeout]);
    phone.leg().update(LegUpdate {
        direction: Some(Direction::SendOnly),
        ..LegUpdate::default()
    });
    world.run(200, &mut [&mut phone]);
    assert!(phone.events().is_empty());
}

#[test]
fn strangers_are_not_heard_and_an_update_moves_the_leg() {
    let mut world = World::new(MixerConfig::default());
    let (mut a, mut b) = (world.phone(440.0), world.phone(0.0));
    world.mixers.send(Command::OpenRoom {
        room: ROOM,
        talkers: 4,
    });
    for phone in [&a, &b] {
        let leg = phone.leg().id();
        world.mixers.send(Command::JoinRoom {
            leg,
            room: ROOM,
            track: TrackId(leg.0),
        });
    }
    world.run(50, &mut [&mut a, &mut b]);
    // A stranger speaks to A's port from elsewhere, with its SSRC.
    let mut stranger = world.phone(1_500.0);
    let real = std::mem::replace(&mut stranger.to, a.to);
    world.run(60, &mut [&mut a, &mut b, &mut stranger]);
    assert!(b.level_of(440.0) > -22.0);
    assert!(b.level_of(1_500.0) < -60.0);
    assert!(world.mixers.stats().drop_stranger >= 60);
    stranger.to = real;
    // A's phone moves to another address and codec by re-INVITE.
    let mut moved = Phone::new(&world, 0.0, LegCodec::Opus);
    moved.to = a.to;
    a.leg().update(LegUpdate {
        remote: Some(moved.socket.local_addr().unwrap()),
        codec: Some((LegCodec::Opus, 96)),
        ..LegUpdate::default()
    });
    b.hertz = 800.0;
    a.hertz = 0.0;
    world.run(60, &mut [&mut a, &mut b, &mut moved]);
    assert!(moved.level_of(800.0) > -22.0);
}

#[test]
fn the_thread_ticks_by_itself_and_stops() {
    let (mixers, commands) = Mixers::new(1);
    let thread = start(
        MixerConfig::default(),
        &mixers,
        commands,
        FakeMesh::default(),
        |_| (),
    )
    .unwrap();
    let socket = || UdpSocket::bind("127.0.0.1:0").unwrap();
    let peer = socket();
    let parameters = || LegParameters {
        rtp: socket(),
        rtcp: None,
        remote: peer.local_addr().unwrap(),
        remote_rtcp: None,
        codec: LegCodec::Pcmu,
        payload_type: 0,
        telephone_event: None,
        direction: Direction::SendReceive,
    };
    let (leg, mut events) = mixers.open_leg(parameters()).unwrap();
    assert!(matches!(
        mixers.open_leg(parameters()),
        Err(LegError::Full { limit: 1 })
    ));
    leg.play(tone(700.0, 4_800));
    let mut buffer = [0; 2_048];
    for _ in 0..5 {
        assert_eq!(peer.recv(&mut buffer).unwrap(), 172);
    }
    assert_eq!(events.blocking_recv(), Some(LegEvent::PlayFinished));
    mixers.send(Command::Stop);
    thread.join().unwrap();
    assert!(mixers.stats().ticks > 4);
    assert!(matches!(
        mixers.open_leg(parameters()),
        Err(LegError::Stopped)
    ));
    drop(leg);
}
