//! The delay the box adds to sound: from a telephone and from a browser-like guest to a telephone.
//!
//! A tone begins with the first sample of a packet, again and again. Added by the box is the time
//! from the arrival of the packet that carries such an onset to the departure of the packet that
//! carries it; over loopback that is when one end sent it and when the other received it. What
//! codecs add by themselves (a frame's 20 ms at the sender, Opus' 6.5 ms of looking ahead) stays
//! out as far as it does not push the onset into a later packet. `heard` adds the onset's place in
//! the packet that left: how late the sound is for who plays each packet as it comes.
//!
//! Senders pace 20 ms packets without jitter, in rounds whose phase against the mixer's tick
//! differs by 4 ms: each is a new call, as a jump within a call would be jitter.
//!
//! `late` is how much later than every 20 ms a packet of the mix came, against the most punctual one.
//!
//! With `--janus`, Janus' AudioBridge does the same in the same run. With `--busy N` instead, Palabre does it with
//! ordinary threads and with `media.priority = 10`, each alone and beside N threads that do nothing but compute. Who
//! sends and listens has a priority above the program's then, so that what is late is the program: this needs root,
//! or says that it had not.
//!
//! `cargo bench -p palabre-benches --bench delay [-- --janus | --busy N]`
#![allow(clippy::print_stdout)] // a bench prints its table

mod load;

use std::f64::consts::TAU;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use load::crowd::{ABOVE, Crowd, PRIORITY};
use load::janus::Janus;
use load::join;
use load::process::program;
use palabre_benches::is_measuring;
use palabre_call::{DATAGRAM, Guest, Kind, Line, OPUS, Phone, Progress, Voice};
use palabre_engine::priority::Priority;
use palabre_media::codec::g711::{alaw_to_linear, linear_to_alaw};
use palabre_media::codec::opus::{self, Encoder, Quality};
use palabre_media::rtp::RtpHeader;
use palabre_media::transport::Certificate;
use serde_json::json;

/// PCMA's static payload type (RFC 3551 table 4), and the samples of 20 ms.
const PCMA: u8 = 8;
const SAMPLES: usize = 160;

/// One packet's sound.
const PACKET: Duration = Duration::from_millis(20);

/// Rounds, each 4 ms later against the tick: five cover it.
const ROUNDS: u32 = 5;

/// Onsets in a round.
const ONSETS: u32 = 10;

/// Packets from one onset to the next: shorter than a word's distance would not let the line fall silent.
const PERIOD: u32 = 25;

/// Packets of tone.
const TONE: u32 = 5;

/// Packets before the first onset, in which jitter buffers settle.
const SETTLE: u32 = 100;

/// The tone, and how loud a sample ends the silence: 6 % of the tone's peak.
const HERTZ: f64 = 1_000.0;
const PEAK: f64 = 8_000.0;
const LOUD: i16 = 500;

/// Samples of silence before a loud one is an onset: 200 ms.
const SILENCE: usize = 1_600;

fn main() {
    let amount = if is_measuring() {
        (ROUNDS, ONSETS)
    } else {
        (1, 2)
    };
    let arguments: Vec<String> = std::env::args().collect();
    let busy = arguments.iter().position(|argument| argument == "--busy");
    let busy = busy.map(|at| {
        let number = arguments.get(at + 1).and_then(|text| text.parse().ok());
        number.expect("--busy takes a number")
    });
    println!(
        "{:56} {:>7} {:>7} {:>7} {:>7} {:>7} {:>8} {:>7}  onsets (of)",
        "sound delay added, ms", "min", "median", "p90", "max", "heard", "late p99", "max"
    );
    if let Some(busy) = busy {
        for priority in [None, Some(PRIORITY)] {
            if palabre(amount, Some((busy, priority))).is_none() {
                return;
            }
        }
        return;
    }
    if palabre(amount, None).is_none() {
        return;
    }
    if arguments.iter().any(|argument| argument == "--janus") {
        janus(amount);
    }
}

/// `beside`: how many busy threads, and the program's priority.
fn palabre(amount: (u32, u32), beside: Option<(usize, Option<u8>)>) -> Option<()> {
    let sip = free_port().to_string();
    let mut options = vec![("PALABRE__SIP__BIND", sip.as_str())];
    let value = PRIORITY.to_string();
    if let Some((_, Some(_))) = beside {
        options.push(("PALABRE__MEDIA__PRIORITY", &value));
    }
    let mut program = program(&options)?;
    let sip = sip.parse().expect("it was an address");
    program.claim();
    let room = program.create_room("bench");
    let code = room["code"].as_str().expect("rooms have codes").to_owned();
    let certificate = Certificate::generate().expect("the system has randomness");
    let measure = |name: &str, start: &mut dyn FnMut() -> Box<dyn Sender>| {
        let listener = join::phone(sip, &code);
        let Some((busy, priority)) = beside else {
            report(name, &listener.line, amount, Priority::default(), start);
            return;
        };
        let above = Priority::new(Some(ABOVE));
        let threads = priority.map_or("ordinary".to_owned(), |value| format!("priority {value}"));
        report(
            &format!("{name}, {threads}"),
            &listener.line,
            amount,
            above,
            start,
        );
        let crowd = Crowd::start(busy, None);
        let name = format!("{name}, {threads}, {busy} busy");
        report(&name, &listener.line, amount, above, start);
        crowd.end();
    };
    measure("telephone (PCMA) to telephone", &mut || {
        let phone = join::phone(sip, &code);
        Box::new(Caller {
            line: phone.line.try_clone().expect("there are descriptors"),
            encoder: None,
            _phone: Some(phone),
        })
    });
    measure("WebRTC (Opus) to telephone", &mut || {
        Box::new(Speaker::new(join::guest(&mut program, &code, &certificate)))
    });
    Some(())
}

/// The same through Janus' AudioBridge, over plain RTP, with its default of 6 packets waiting
/// before they are decoded, and with 1.
fn janus(amount: (u32, u32)) {
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let Some(mut janus) = Janus::start("audiobridge", here) else {
        return;
    };
    for (room, codec, prebuffer) in [
        (1, "pcma", 6),
        (2, "pcma", 1),
        (3, "opus", 6),
        (4, "opus", 1),
    ] {
        let handle = janus.attach("audiobridge");
        let rate = if codec == "pcma" { 8_000 } else { 16_000 };
        let create = json!({
            "request": "create", "room": room, "sampling_rate": rate,
            "allow_rtp_participants": true, "default_prebuffering": prebuffer,
        });
        janus.message(handle, create, None);
        let listener = seat(&mut janus, handle, room, "pcma");
        let name = format!("janus 1.1.2, {codec} to PCMA, wait {prebuffer}");
        let mut before = None;
        report(&name, &listener, amount, Priority::default(), &mut || {
            if let Some(before) = before {
                janus.message(before, json!({"request": "leave"}), None);
            }
            let handle = janus.attach("audiobridge");
            before = Some(handle);
            Box::new(Caller {
                line: seat(&mut janus, handle, room, codec),
                encoder: (codec == "opus").then(|| Encoder::new(Quality::default())),
                _phone: None,
            })
        });
    }
}

/// Joins a room of Janus by plain RTP.
fn seat(janus: &mut Janus, handle: u64, room: u32, codec: &str) -> Line {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
    let to = SocketAddr::from(([127, 0, 0, 1], 9));
    let mut line = Line::new(socket, to).expect("it is bound");
    if codec == "opus" {
        line.format = (OPUS, opus::FRAME as u32);
    }
    let local = line.socket.local_addr().expect("it is bound");
    let join = json!({
        "request": "join", "room": room, "codec": codec,
        "rtp": {"ip": "127.0.0.1", "port": local.port(), "payload_type": line.format.0},
    });
    let said = janus.message(handle, join, None).said;
    let port = said["rtp"]["port"].as_u64();
    let port = port.and_then(|port| u16::try_from(port).ok());
    line.remote
        .set_port(port.unwrap_or_else(|| panic!("a port, not {said}")));
    line
}

/// A port nobody listens on, by UDP or TCP.
fn free_port() -> SocketAddr {
    let probe = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    probe.local_addr().expect("it is bound")
}

/// Who makes the sound.
trait Sender: Send {
    /// Sends 20 ms: of tone, `place` packets after its onset, or of silence.
    fn send(&mut self, place: Option<u32>);

    /// Does what else a client does, between two packets.
    fn rest(&mut self) {}
}

/// Plays all rounds to `listener` and prints what they show. Both ends take `priority`.
fn report(
    name: &str,
    listener: &Line,
    (rounds, onsets): (u32, u32),
    priority: Priority,
    start: &mut dyn FnMut() -> Box<dyn Sender>,
) {
    let ear = Ear::new(listener, priority);
    ear.wait_for_silence();
    let epoch = Instant::now();
    let mut sent = Vec::new();
    let mut latest = Duration::ZERO;
    let mut is_above = true;
    for round in 0..rounds {
        let mut sender = start();
        let phase = Duration::from_millis(4) * round;
        // A thread of its own: what the next one starts must not inherit its priority.
        std::thread::scope(|scope| {
            let play = || {
                is_above &= priority.take().is_ok();
                let packets = (epoch.elapsed().as_micros() / PACKET.as_micros()) as u32 + 1;
                let first = epoch + PACKET * packets + phase;
                for packet in 0..SETTLE + PERIOD * onsets {
                    let due = first + PACKET * packet;
                    sender.rest();
                    sleep(due.saturating_duration_since(Instant::now()));
                    latest = latest.max(due.elapsed());
                    let place = packet.checked_sub(SETTLE).map(|after| after % PERIOD);
                    if place == Some(0) {
                        sent.push(Instant::now());
                    }
                    sender.send(place.filter(|place| *place < TONE));
                }
            };
            let played = scope.spawn(play).join();
            played.expect("sending does not panic");
        });
    }
    let Heard {
        onsets: heard,
        packets,
    } = ear.finish();
    let late = lateness(&packets, epoch);
    let mut delays = Vec::new();
    let mut sounds = Vec::new();
    for at in &sent {
        let limit = *at + PACKET * (PERIOD - 2);
        let onset = heard.iter().find(|onset| (*at..limit).contains(&onset.at));
        if let Some(onset) = onset {
            let delay = (onset.at - *at).as_secs_f64() * 1e3;
            delays.push(delay);
            sounds.push(delay + onset.sample as f64 / 8.0);
        }
    }
    delays.sort_by(f64::total_cmp);
    sounds.sort_by(f64::total_cmp);
    assert!(
        delays.len() * 10 >= sent.len() * 9,
        "{name}: {} of {} onsets were heard",
        delays.len(),
        sent.len()
    );
    let at = |values: &[f64], share: f64| values[((values.len() - 1) as f64 * share) as usize];
    println!(
        "{name:56} {:>7.1} {:>7.1} {:>7.1} {:>7.1} {:>7.1} {:>8.1} {:>7.1}  {} ({}); the sender was late by {:.1} at most{}",
        at(&delays, 0.0),
        at(&delays, 0.5),
        at(&delays, 0.9),
        at(&delays, 1.0),
        at(&sounds, 0.5),
        at(&late, 0.99),
        at(&late, 1.0),
        delays.len(),
        sent.len(),
        latest.as_secs_f64() * 1e3,
        if is_above {
            ""
        } else {
            "; the ends had no priority: not root"
        },
    );
}

/// How much later than every 20 ms each packet since `begin` came, against the most punctual one, in milliseconds and in order.
fn lateness(packets: &[(Instant, u32)], begin: Instant) -> Vec<f64> {
    let mut packets = packets.iter().filter(|(at, _)| *at >= begin).peekable();
    let first = packets.peek().map_or(0, |(_, timestamp)| *timestamp);
    let mut late: Vec<f64> = packets
        .map(|(at, timestamp)| {
            let due = f64::from(timestamp.wrapping_sub(first)) / 8.0;
            (*at - begin).as_secs_f64() * 1e3 - due
        })
        .collect();
    late.sort_by(f64::total_cmp);
    let punctual = late.first().copied().expect("something is mixed");
    late.iter().map(|late| late - punctual).collect()
}

/// The silence ended.
#[derive(Clone, Copy)]
struct Onset {
    /// When the packet that carries the sound arrived.
    at: Instant,
    /// Where in it.
    sample: usize,
}

/// What came.
#[derive(Default)]
struct Heard {
    onsets: Vec<Onset>,
    /// When each packet came, and its timestamp, 8,000 a second.
    packets: Vec<(Instant, u32)>,
}

/// Listens on a line, on a thread of its own, and keeps the line open with silence on another.
struct Ear {
    stop: Arc<AtomicBool>,
    loud: Arc<Mutex<Instant>>,
    listening: Option<JoinHandle<Heard>>,
    breathing: Option<JoinHandle<()>>,
}

impl Ear {
    fn new(line: &Line, priority: Priority) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let loud = Arc::new(Mutex::new(Instant::now()));
        let ear = line.try_clone().expect("there are descriptors");
        ear.socket.set_nonblocking(false).expect("sockets can");
        ear.socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .expect("sockets can");
        let (stopped, noted) = (stop.clone(), loud.clone());
        let listening = spawn(move || {
            // Who sends says so when it is refused.
            let _ = priority.take();
            listen(&ear, &stopped, &noted)
        });
        let mut mouth = line.try_clone().expect("there are descriptors");
        let stopped = stop.clone();
        let breathing = spawn(move || {
            let _ = priority.take();
            let silence = [linear_to_alaw(0); SAMPLES];
            let mut due = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                mouth.send(&silence);
                due += PACKET;
                sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        Self {
            stop,
            loud,
            listening: Some(listening),
            breathing: Some(breathing),
        }
    }

    /// Waits until nothing has been said for a second and a half: greetings are over.
    fn wait_for_silence(&self) {
        let give_up = Instant::now() + Duration::from_secs(30);
        let quiet = || self.loud.lock().expect("no thread panics").elapsed();
        while quiet() < Duration::from_millis(1_500) {
            assert!(Instant::now() < give_up, "the line is never silent");
            sleep(PACKET);
        }
    }

    fn finish(mut self) -> Heard {
        sleep(Duration::from_millis(500));
        self.stop.store(true, Ordering::Relaxed);
        let breathing = self.breathing.take().expect("it is taken once");
        breathing.join().expect("silence does not panic");
        let listening = self.listening.take().expect("it is taken once");
        listening.join().expect("listening does not panic")
    }
}

fn listen(line: &Line, stop: &AtomicBool, loud: &Mutex<Instant>) -> Heard {
    let mut heard = Heard::default();
    let mut silence = 0;
    let mut buffer = [0; DATAGRAM];
    while !stop.load(Ordering::Relaxed) {
        let Ok((len, _)) = line.socket.recv_from(&mut buffer) else {
            continue;
        };
        let at = Instant::now();
        let Ok(header) = RtpHeader::parse(&buffer[..len]) else {
            continue;
        };
        if header.payload_type != PCMA {
            continue;
        }
        heard.packets.push((at, header.timestamp));
        for (sample, byte) in header.payload(&buffer[..len]).iter().enumerate() {
            if alaw_to_linear(*byte).saturating_abs() < LOUD {
                silence += 1;
                continue;
            }
            if silence >= SILENCE {
                heard.onsets.push(Onset { at, sample });
            }
            silence = 0;
            *loud.lock().expect("no thread panics") = at;
        }
    }
    heard
}

/// The tone's sample `n`, at `rate` samples a second.
fn tone(n: usize, rate: usize) -> f64 {
    PEAK * (TAU * HERTZ * n as f64 / rate as f64).sin()
}

/// A telephone that speaks, PCMA or Opus.
struct Caller {
    line: Line,
    encoder: Option<Encoder>,
    /// The call, if there is more to it than the line.
    _phone: Option<Phone>,
}

impl Sender for Caller {
    fn send(&mut self, place: Option<u32>) {
        match &mut self.encoder {
            Some(encoder) => self.line.send(encoder.encode(&samples(place))),
            None => self.line.send(&alaw(place)),
        }
    }
}

/// 20 ms of tone or silence as PCMA.
fn alaw(place: Option<u32>) -> [u8; SAMPLES] {
    std::array::from_fn(|n| {
        let sample = place.map_or(0.0, |place| tone(place as usize * SAMPLES + n, 8_000));
        linear_to_alaw(sample as i16)
    })
}

/// The same for Opus.
fn samples(place: Option<u32>) -> [f32; opus::FRAME] {
    std::array::from_fn(|n| {
        let sample = place.map_or(0.0, |place| tone(place as usize * opus::FRAME + n, 48_000));
        (sample / 32_768.0) as f32
    })
}

/// A guest that speaks Opus.
struct Speaker {
    guest: Guest,
    voice: Voice,
}

impl Speaker {
    fn new(mut guest: Guest) -> Self {
        guest.publish(Kind::Sound).expect("the program listens");
        let mut speaker = Self {
            guest,
            voice: Voice::default(),
        };
        let give_up = Instant::now() + Duration::from_secs(20);
        while speaker.guest.publisher.progress() != Progress::Connected {
            assert!(Instant::now() < give_up, "the guest does not connect");
            speaker.rest();
            sleep(Duration::from_millis(2));
        }
        speaker
    }
}

/// Handles what has come; nobody here looks at media.
fn drain(guest: &mut Guest) {
    let mut buffer = [0; DATAGRAM];
    while guest.publisher.receive(&mut buffer).is_some() {}
    while guest.subscriber.receive(&mut buffer).is_some() {}
}

impl Sender for Speaker {
    fn send(&mut self, place: Option<u32>) {
        let level = if place.is_some() { 15 } else { 127 };
        self.voice
            .say(&self.guest.publisher, &samples(place), level);
    }

    fn rest(&mut self) {
        let now = Instant::now();
        self.guest.run(now).expect("the program listens");
        self.guest.run_signal(now).expect("the program answers");
        drain(&mut self.guest);
    }
}
