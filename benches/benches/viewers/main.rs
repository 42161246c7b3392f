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
//! `cargo bench -p palabre-benches --bench viewers [-- N --janus]`
#![allow(clippy::print_stdout)] // a bench prints its table

mod farm;
mod floor;
#[path = "../load/mod.rs"]
mod load;
mod publisher;
mod viewer;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use palabre_benches::is_measuring;
use palabre_tests::network::{HOST, isolated};

use farm::Farm;
use floor::{floor, send_for_nothing};
use load::janus::Janus;
use load::process::program;

/// Viewers, unless an argument says otherwise.
const VIEWERS: usize = 200;

/// Bytes of a published packet, RTP header included, without SRTP's tag.
const PACKET: usize = 1_100;

/// 1 Mb/s in such packets.
const INTERVAL: Duration = Duration::from_micros(8_800);

/// Packets of a frame: 28 frames a second.
const FRAME: usize = 4;

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
