//! 1 Mb/s of pictures to N viewers in full WebRTC: CPU time of the whole program for each packet sent.
//!
//! The program runs as a process of its own. One guest publishes 1,100-byte packets shaped like
//! VP8; N guests receive, each with ICE, DTLS and SRTP of its own, and answer with a receiver
//! report a second and transport-wide feedback ten times a second. Guests do what a browser does
//! but: they neither ask for lost packets again (loss is counted instead) nor estimate bandwidth,
//! and they look into their sockets every 5 ms instead of being woken for each packet, because over
//! loopback waking them would be charged to who sends, which no network does.
//!
//! The floor is a process that does nothing but send as many datagrams of the same size to as many
//! sockets at the same times, read the same way: by `sendto`, and by `sendmmsg` with trains.
//!
//! With `--janus`, Janus' VideoRoom does the same work in the same run, for the same guests; it
//! needs root, for a network of its own.
//!
//! `cargo build --release -p palabre && cargo bench -p palabre-benches --bench viewers [-- N --janus]`
#![allow(clippy::print_stdout)] // a bench prints its table

mod load;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use load::connection::{DATAGRAM, Received};
use load::guest::{Guest, Kind, MID, PUBLISHED_MID, SSRC, TRANSPORT_CC, VP8};
use load::janus::Janus;
use load::process::{cpu_time, program, resident, thread_times};
use palabre_benches::is_measuring;
use palabre_engine::net::socket::MediaSocket;
use palabre_media::rtp::rtcp::{
    Compound, Feedback, NtpTime, ReportBlock, RtcpPacket, SenderReport,
};
use palabre_media::rtp::twcc::Arrivals;
use palabre_media::rtp::{ExtensionForm, PacketWriter, RtpFields, SequenceExtender};
use palabre_media::sfu::Train;
use palabre_media::transport::Certificate;
use palabre_tests::network::{HOST, isolated};
use palabre_tests::program::Program;
use serde_json::json;

/// Viewers, unless an argument says otherwise.
const VIEWERS: usize = 200;

/// Bytes of a published packet, RTP header included, without SRTP's tag.
const PACKET: usize = 1_100;

/// 1 Mb/s in such packets.
const INTERVAL: Duration = Duration::from_micros(8_800);

/// Packets of a frame: 28 frames a second.
const FRAME: usize = 4;

/// How often sockets are looked into: often enough for their buffers by far.
const LOOK: Duration = Duration::from_millis(5);

/// Between a viewer's transport-wide feedback messages, as libwebrtc's default.
const FEEDBACK: Duration = Duration::from_millis(100);

/// Between a viewer's receiver reports.
const REPORT: Duration = Duration::from_secs(1);

/// Time for guests to connect. DTLS handshakes of both ends share the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// When the packets of a frame leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// One after the other at equal distances, as a pacing sender's: a train is one packet.
    Even,
    /// All at once, as a screen share's large frames: a train is a frame.
    Frames,
}

impl Shape {
    fn burst(self) -> usize {
        match self {
            Shape::Even => 1,
            Shape::Frames => FRAME,
        }
    }

    fn interval(self) -> Duration {
        INTERVAL * self.burst() as u32
    }
}

const SHAPES: [Shape; 2] = [Shape::Even, Shape::Frames];

/// What one process spent.
struct Spent {
    name: String,
    packets: u64,
    cpu: Duration,
    window: Duration,
    lost: u64,
    threads: String,
}

impl Spent {
    fn micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.packets as f64
    }

    /// A row of the table, with the ratio to what the limit costs a packet.
    fn print(&self, limit: f64) {
        println!(
            "{:29} {:>9.0} {:>9.1} {:>9.2} {:>6.2}x {:>6}",
            self.name,
            self.packets as f64 / self.window.as_secs_f64(),
            self.cpu.as_secs_f64() * 1e3 / self.window.as_secs_f64(),
            self.micros(),
            self.micros() / limit,
            self.lost
        );
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--floor") {
        return send_for_nothing(&arguments[1..]);
    }
    let (viewers, window) = if is_measuring() {
        let asked = arguments.iter().find_map(|argument| argument.parse().ok());
        (asked.unwrap_or(VIEWERS), Duration::from_secs(10))
    } else {
        (3, Duration::from_secs(1))
    };
    let with_janus = arguments.iter().any(|argument| argument == "--janus");
    // Janus' ICE ignores loopback: both then run in a network of their own.
    if with_janus && !isolated() {
        return;
    }
    println!(
        "{:29} {:>9} {:>9} {:>9} {:>7} {:>6}",
        format!("1 Mb/s to {viewers} viewers"),
        "packets/s",
        "CPU ms/s",
        "us/packet",
        "ratio",
        "lost"
    );
    let Some(limits) = palabre(viewers, window, with_janus) else {
        return;
    };
    if with_janus && let Some(mut janus) = Janus::start("videoroom", host()) {
        let mut farm = Farm::of_janus(&mut janus, viewers);
        for (shape, limit) in SHAPES.into_iter().zip(limits) {
            farm.measure(shape, janus.id(), window).print(limit);
        }
        farm.describe("janus 1.1.2 videoroom", janus.id());
    }
}

/// The machine's address in a network of its own.
fn host() -> IpAddr {
    HOST.parse().expect("it is an address")
}

/// Measures the program and the floor; what the floor costs a packet, for each shape.
fn palabre(viewers: usize, window: Duration, is_isolated: bool) -> Option<[f64; 2]> {
    let media = SocketAddr::new(host(), 0).to_string();
    let mut options = vec![("PALABRE__SIP__ENABLED", "false")];
    if is_isolated {
        options.push(("PALABRE__MEDIA__BIND", media.as_str()));
    }
    let mut program = program(&options)?;
    let mut farm = Farm::of_palabre(&mut program, viewers);
    let limits = SHAPES.map(|shape| {
        let ours = farm.measure(shape, program.id(), window);
        let size = farm.viewers[0].datagram;
        let floors =
            ["sendto", "trains"].map(|how| floor(&mut farm, how, shape, size, viewers, window / 2));
        let limit = floors[0].micros();
        for spent in floors.iter().chain([&ours]) {
            spent.print(limit);
        }
        println!("    CPU ms/s of its threads: {}", ours.threads);
        limit
    });
    farm.describe("palabre", program.id());
    Some(limits)
}

/// The publisher and its viewers, on one thread.
struct Farm {
    name: &'static str,
    publisher: Publisher,
    viewers: Vec<Viewer>,
    look: Instant,
}

impl Farm {
    fn new(name: &'static str, publisher: Guest) -> Self {
        Self {
            name,
            publisher: Publisher::new(publisher),
            viewers: Vec::new(),
            look: Instant::now(),
        }
    }

    /// Everybody joins a room as the page does; then the publisher begins.
    fn of_palabre(program: &mut Program, viewers: usize) -> Self {
        program.claim();
        let room = program.create_room("bench");
        let code = room["code"].as_str().expect("rooms have codes").to_owned();
        let certificate = Certificate::generate().expect("the system has randomness");
        let mut join = || {
            let way = program.join(&code, "bench");
            let text = |key: &str| way[key].as_str().expect("it is text").to_owned();
            Guest::join(&text("url"), &text("token"), &certificate)
        };
        let mut farm = Self::new("palabre", join());
        for _ in 0..viewers {
            farm.viewers.push(Viewer::new(join()));
            farm.look(Instant::now());
        }
        farm.await_viewers();
        farm.publisher.guest.publish(Kind::Picture);
        farm.await_publisher();
        farm.await_pictures();
        farm
    }

    /// A publisher, then those who subscribe to it, as Janus' own page has it.
    fn of_janus(janus: &mut Janus, viewers: usize) -> Self {
        let certificate = Certificate::generate().expect("the system has randomness");
        let mut farm = Self::new("janus", Guest::bare(host(), &certificate));
        let handle = janus.attach("videoroom");
        let room = json!({"request": "create", "room": 1, "bitrate": 0, "videocodec": "vp8"});
        janus.message(handle, room, None);
        let join = json!({
            "request": "joinandconfigure", "ptype": "publisher", "room": 1, "id": 7,
        });
        let offer = farm.publisher.guest.offer(Kind::Picture);
        let offer = json!({"type": "offer", "sdp": offer});
        let answer = janus.message(handle, join, Some(offer)).sdp;
        let answer = answer.expect("an answer");
        let publisher = &mut farm.publisher.guest.publisher;
        publisher.set_remote(Instant::now(), &answer);
        farm.await_publisher();
        for _ in 0..viewers {
            let mut guest = Guest::bare(host(), &certificate);
            let handle = janus.attach("videoroom");
            let join = json!({
                "request": "join", "ptype": "subscriber", "room": 1, "streams": [{"feed": 7}],
            });
            let offer = janus.message(handle, join, None).sdp.expect("an offer");
            let answer = guest.answer(Instant::now(), &offer);
            let answer = json!({"type": "answer", "sdp": answer});
            janus.message(handle, json!({"request": "start"}), Some(answer));
            farm.viewers.push(Viewer::new(guest));
            farm.run(Shape::Even, LOOK);
        }
        farm.await_viewers();
        farm.await_pictures();
        farm
    }

    fn await_viewers(&mut self) {
        let give_up = Instant::now() + PATIENCE;
        let is_waiting = |viewer: &Viewer| viewer.guest.subscriber.profile().is_none();
        while self.viewers.iter().any(is_waiting) {
            assert!(Instant::now() < give_up, "viewers do not connect");
            self.rest();
        }
    }

    fn await_publisher(&mut self) {
        let give_up = Instant::now() + PATIENCE;
        while self.publisher.guest.publisher.profile().is_none() {
            assert!(Instant::now() < give_up, "the publisher does not connect");
            self.rest();
        }
    }

    fn await_pictures(&mut self) {
        let give_up = Instant::now() + PATIENCE;
        while self.viewers.iter().any(|viewer| viewer.received == 0) {
            assert!(Instant::now() < give_up, "not everybody sees something");
            self.run(Shape::Even, Duration::from_millis(100));
        }
    }

    /// What was agreed, and what else the process used.
    fn describe(&self, name: &str, process: u32) {
        let viewer = &self.viewers[0];
        let profile = viewer.guest.subscriber.profile();
        println!(
            "    {name}: {}, datagrams of {} B, {:.0} MiB of memory",
            profile.expect("it is connected").as_str(),
            viewer.datagram,
            resident(process)
        );
    }

    /// A second to settle, then `window` under measurement.
    fn measure(&mut self, shape: Shape, process: u32, window: Duration) -> Spent {
        self.run(shape, Duration::from_secs(1));
        let marks: Vec<(u64, u64)> = self.viewers.iter().map(Viewer::mark).collect();
        let threads = thread_times(process);
        let (start, before) = (Instant::now(), cpu_time(process));
        self.run(shape, window);
        let (cpu, window) = (cpu_time(process).saturating_sub(before), start.elapsed());
        let threads = busiest(&threads, thread_times(process), window);
        self.look(Instant::now());
        let (mut packets, mut received) = (0, 0);
        for (viewer, before) in self.viewers.iter().zip(marks) {
            let after = viewer.mark();
            assert!(after.1 > before.1, "every viewer sees pictures");
            packets += after.0 - before.0;
            received += after.1 - before.1;
        }
        Spent {
            name: format!("{shape:?}: {}", self.name),
            packets,
            cpu,
            window,
            lost: packets.saturating_sub(received),
            threads,
        }
    }

    fn run(&mut self, shape: Shape, span: Duration) {
        let end = Instant::now() + span;
        let mut due = Instant::now();
        while Instant::now() < end {
            if due <= Instant::now() {
                for _ in 0..shape.burst() {
                    self.publisher.send();
                }
                due += shape.interval();
            }
            if self.look <= Instant::now() {
                self.look(Instant::now());
            }
            let wake = due.min(self.look);
            std::thread::sleep(wake.saturating_duration_since(Instant::now()));
        }
    }

    fn rest(&mut self) {
        self.look(Instant::now());
        std::thread::sleep(LOOK);
    }

    /// Lets every guest handle what has come.
    fn look(&mut self, now: Instant) {
        self.look = now + LOOK;
        self.publisher.run(now);
        for viewer in &mut self.viewers {
            viewer.run(now);
        }
    }
}

/// The busiest threads by name, in milliseconds a second.
fn busiest(
    before: &BTreeMap<String, Duration>,
    after: BTreeMap<String, Duration>,
    window: Duration,
) -> String {
    let used = after.into_iter().map(|(name, time)| {
        let used = time.saturating_sub(before.get(&name).copied().unwrap_or_default());
        (used.as_secs_f64() * 1e3 / window.as_secs_f64(), name)
    });
    let mut used: Vec<(f64, String)> = used.filter(|(share, _)| *share >= 0.5).collect();
    used.sort_by(|a, b| b.0.total_cmp(&a.0));
    let words = used
        .iter()
        .take(6)
        .map(|(share, name)| format!("{name} {share:.0}"));
    words.collect::<Vec<_>>().join(", ")
}

/// The guest that sends.
struct Publisher {
    guest: Guest,
    start: Instant,
    /// Extended number of the next packet.
    index: u64,
    transport: u16,
    frame: u16,
    /// Packets of the frame already sent.
    place: usize,
    key_index: u8,
    is_key: bool,
    is_key_wanted: bool,
    reported: Instant,
    signals: Instant,
}

impl Publisher {
    fn new(guest: Guest) -> Self {
        let now = Instant::now();
        Self {
            guest,
            start: now,
            index: 1_000,
            transport: 0,
            frame: 0,
            place: 0,
            key_index: 0,
            is_key: true,
            is_key_wanted: true,
            reported: now,
            signals: now,
        }
    }

    fn timestamp(&self) -> u32 {
        u32::from(self.frame) * (90_000 * INTERVAL.as_micros() as usize * FRAME / 1_000_000) as u32
    }

    fn send(&mut self) {
        if self.place == 0 {
            self.is_key = std::mem::take(&mut self.is_key_wanted);
            self.key_index = (self.key_index + u8::from(self.is_key)) & 31;
        }
        let is_last = self.place + 1 == FRAME;
        let fields = RtpFields {
            payload_type: VP8,
            marker: is_last,
            sequence: self.index as u16,
            timestamp: self.timestamp(),
            ssrc: SSRC,
        };
        let mut buffer = [0; DATAGRAM];
        let mut writer = PacketWriter::start(&mut buffer, &fields, ExtensionForm::OneByte)
            .expect("the buffer is large enough");
        for (id, value) in [
            (MID, PUBLISHED_MID.as_bytes()),
            (TRANSPORT_CC, &self.transport.to_be_bytes()),
        ] {
            writer.extension(id, value).expect("there is room");
        }
        writer
            .payload(&self.payload())
            .expect("the buffer is large enough");
        let len = writer.finish();
        self.guest.publisher.send_rtp(&mut buffer, len, self.index);
        self.index += 1;
        self.transport = self.transport.wrapping_add(1);
        self.place += 1;
        if is_last {
            self.place = 0;
            self.frame = self.frame.wrapping_add(1);
        }
    }

    /// A descriptor with everything a browser puts there (RFC 7741 §4.2), the frame's header, and
    /// filling up to [`PACKET`] with the RTP header and 8 + 4 bytes of extensions.
    fn payload(&self) -> [u8; PACKET - 12 - 12] {
        let mut payload = [0x55; PACKET - 12 - 12];
        let [high, low] = (0x8000 | (self.frame & 0x7FFF)).to_be_bytes();
        let start = if self.place == 0 { 0x90 } else { 0x80 };
        payload[..6].copy_from_slice(&[start, 0xF0, high, low, self.frame as u8, self.key_index]);
        if self.place == 0 {
            // Frame tag, and of a key frame the start code and 1280 x 720 (RFC 6386 §9.1).
            payload[6] = u8::from(!self.is_key);
            if self.is_key {
                payload[9..16].copy_from_slice(&[0x9D, 0x01, 0x2A, 0x00, 0x05, 0xD0, 0x02]);
            }
        }
        payload
    }

    fn run(&mut self, now: Instant) {
        self.guest.run(now);
        if self.signals <= now {
            self.signals = now + FEEDBACK / 2;
            self.guest.run_signal(now);
        }
        let mut buffer = [0; DATAGRAM];
        while let Some(received) = self.guest.publisher.receive(&mut buffer) {
            let Received::Rtcp { len } = received else {
                continue;
            };
            let compound = Compound::parse(&buffer[..len]).expect("the program writes RTCP");
            for packet in compound.into_iter().flatten() {
                if matches!(packet, RtcpPacket::Pli(_) | RtcpPacket::Fir(_)) {
                    self.is_key_wanted = true;
                }
            }
        }
        while self.guest.subscriber.receive(&mut buffer).is_some() {}
        if now - self.reported >= REPORT && self.index > 1_000 {
            self.reported = now;
            let report = SenderReport {
                ssrc: SSRC,
                ntp: NtpTime::from_unix(Duration::from_secs(1_700_000_000) + (now - self.start)),
                rtp_timestamp: self.timestamp(),
                packets: (self.index - 1_000) as u32,
                octets: ((self.index - 1_000) as u32).wrapping_mul(PACKET as u32),
            };
            self.guest
                .publisher
                .send_rtcp(|writer| writer.sender_report(&report, &[]).expect("there is room"));
        }
    }
}

/// A guest that receives.
struct Viewer {
    guest: Guest,
    ssrc: u32,
    extender: SequenceExtender,
    received: u64,
    /// Expected and received when it last reported.
    reported: (u64, u64),
    arrivals: Arrivals,
    feedback: Instant,
    report: Instant,
    signals: Instant,
    /// Bytes of its last datagram.
    datagram: usize,
    last_sender_report: Option<(NtpTime, Instant)>,
}

impl Viewer {
    fn new(guest: Guest) -> Self {
        let now = Instant::now();
        Self {
            guest,
            ssrc: 0,
            extender: SequenceExtender::default(),
            received: 0,
            reported: (0, 0),
            arrivals: Arrivals::new(now),
            feedback: now,
            report: now,
            signals: now,
            datagram: 0,
            last_sender_report: None,
        }
    }

    /// The newest number, and packets received.
    fn mark(&self) -> (u64, u64) {
        (self.extender.highest().unwrap_or(0), self.received)
    }

    fn run(&mut self, now: Instant) {
        self.guest.run(now);
        let mut buffer = [0; DATAGRAM];
        while let Some(received) = self.guest.subscriber.receive(&mut buffer) {
            match received {
                Received::Rtp { header, datagram } => {
                    let number = header
                        .extensions(&buffer[..datagram])
                        .find(|extension| extension.id == self.guest.transport_cc)
                        .and_then(|extension| extension.value.try_into().ok());
                    if let Some(number) = number {
                        self.arrivals.insert(u16::from_be_bytes(number), now);
                    }
                    if header.payload_type == VP8 {
                        self.ssrc = header.ssrc;
                        self.extender.extend(header.sequence);
                        self.received += 1;
                        self.datagram = datagram;
                    }
                }
                Received::Rtcp { len } => {
                    let compound =
                        Compound::parse(&buffer[..len]).expect("the program writes RTCP");
                    for packet in compound.into_iter().flatten() {
                        if let RtcpPacket::SenderReport(report, _) = packet {
                            self.last_sender_report = Some((report.ntp, now));
                        }
                    }
                }
            }
        }
        if self.signals <= now {
            self.signals = now + FEEDBACK / 2;
            self.guest.run_signal(now);
        }
        let parties = Feedback {
            sender: 1,
            media: self.ssrc,
        };
        if self.feedback <= now && self.arrivals.is_pending() {
            self.feedback = now + FEEDBACK;
            let arrivals = &mut self.arrivals;
            self.guest.subscriber.send_rtcp(|writer| {
                writer
                    .transport_feedback(parties, arrivals)
                    .expect("there is room");
            });
        }
        if self.report <= now && self.received > 0 {
            self.report = now + REPORT;
            let block = self.block(now);
            self.guest.subscriber.send_rtcp(|writer| {
                writer.receiver_report(1, &[block]).expect("there is room");
                writer.canonical_name(1, "bench").expect("there is room");
            });
        }
    }

    fn block(&mut self, now: Instant) -> ReportBlock {
        let (highest, received) = self.mark();
        let expected = highest.saturating_sub(self.reported.0);
        let got = received - self.reported.1;
        let is_first = self.reported.0 == 0;
        self.reported = (highest, received);
        let lost = if is_first {
            0
        } else {
            expected.saturating_sub(got)
        };
        ReportBlock {
            ssrc: self.ssrc,
            fraction_lost: (lost * 256 / expected.max(1)).min(255) as u8,
            highest_sequence: highest as u32,
            last_sender_report: self.last_sender_report.map_or(0, |(ntp, _)| ntp.middle()),
            delay: self.last_sender_report.map_or(0, |(_, at)| {
                ((now - at).as_micros() * 65_536 / 1_000_000) as u32
            }),
            ..ReportBlock::default()
        }
    }
}

/// The floor: this program again, which only sends.
fn floor(
    farm: &mut Farm,
    how: &str,
    shape: Shape,
    size: usize,
    viewers: usize,
    window: Duration,
) -> Spent {
    let sinks: Vec<UdpSocket> = (0..viewers)
        .map(|_| {
            let sink = UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
            sink.set_nonblocking(true).expect("sockets can");
            sink
        })
        .collect();
    let ports = sinks
        .iter()
        .map(|sink| sink.local_addr().expect("it is bound").port().to_string());
    let own = std::env::current_exe().expect("a bench knows its own path");
    let mut child = Sender(
        Command::new(own)
            .args([
                "--floor",
                how,
                &shape.burst().to_string(),
                &size.to_string(),
            ])
            .args(ports)
            .spawn()
            .expect("this program starts"),
    );
    let mut read = |span: Duration| {
        let end = Instant::now() + span;
        let (mut count, mut buffer) = (0, [0; DATAGRAM]);
        while Instant::now() < end {
            for sink in &sinks {
                while sink.recv_from(&mut buffer).is_ok() {
                    count += 1;
                }
            }
            // The guests stay; nothing is published meanwhile.
            farm.look(Instant::now());
            std::thread::sleep(LOOK);
        }
        count
    };
    read(Duration::from_millis(500));
    let (start, before) = (Instant::now(), cpu_time(child.0.id()));
    let packets = read(window);
    let (cpu, window) = (
        cpu_time(child.0.id()).saturating_sub(before),
        start.elapsed(),
    );
    child.stop();
    let name = match how {
        "sendto" => "bare sendto",
        _ => "bare sendmmsg with trains",
    };
    Spent {
        name: format!("{shape:?}: {name}"),
        packets,
        cpu,
        window,
        lost: 0,
        threads: String::new(),
    }
}

/// A child that does not outlive its parent's panic.
struct Sender(Child);

impl Sender {
    fn stop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Sends until it is killed: `HOW BURST SIZE PORT...`.
fn send_for_nothing(arguments: &[String]) {
    let number = |at: usize| arguments[at].parse::<usize>().expect("a number");
    let (burst, size) = (number(1), number(2));
    let addresses: Vec<SocketAddr> = arguments[3..]
        .iter()
        .map(|port| SocketAddr::from(([127, 0, 0, 1], port.parse().expect("a port"))))
        .collect();
    let bytes = vec![0x55; burst * size];
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut batched = MediaSocket::open(local, 1).expect("loopback has free ports");
    let single = UdpSocket::bind(local).expect("loopback has free ports");
    let mut due = Instant::now();
    loop {
        if arguments[0] == "trains" {
            batched[0].send(addresses.iter().map(|to| Train {
                to: *to,
                segment: size,
                bytes: &bytes,
            }));
        } else {
            for to in &addresses {
                for datagram in bytes.chunks(size) {
                    let _ = single.send_to(datagram, to);
                }
            }
        }
        due += INTERVAL * burst as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}
