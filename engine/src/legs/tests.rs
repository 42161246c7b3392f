//! The mixer thread stepped by the test, with telephones on loopback and a mesh of its own.

mod call;
mod fault;

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

use super::thread::MixerThread;
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
                remote: Some(socket.local_addr().unwrap()),
                remote_rtcp: None,
                codec,
                payload_type: 96,
                receive_payload_type: 96,
                packet_time: Duration::from_millis(20),
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
