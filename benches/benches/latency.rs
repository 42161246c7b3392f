//! How long the program keeps a packet: from a guest that publishes sound to one that listens, in full WebRTC.
//!
//! With `--busy N`, N threads that do nothing but compute run beside it in a second round, and with
//! `--beside COMMAND` a command, again and again until the round ends: an update that is being installed, say.
//! Both rounds are played with ordinary threads and with `media.priority = 10`. The two guests have real-time priority
//! themselves, above the program's, so that what is late is the program: this needs root, or says that it had not.
//!
//! `cargo bench -p palabre-benches --bench latency [-- --busy N --beside COMMAND]`
#![allow(clippy::print_stdout)] // a bench prints its table

mod load;

use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use load::join;
use load::process::program;
use palabre_benches::is_measuring;
use palabre_call::{
    AUDIO_LEVEL, DATAGRAM, Guest, Kind, MID, OPUS, PUBLISHED_MID, Progress, Received, SSRC,
};
use palabre_engine::priority::Priority;
use palabre_media::rtp::{AudioLevel, ExtensionForm, PacketWriter, RtpFields};
use palabre_media::transport::Certificate;

/// Between two packets: four times as often as Opus sends, for more of them at p99.9.
const INTERVAL: Duration = Duration::from_millis(5);

/// Of the program's media threads; the mixer gets 11.
const PRIORITY: u8 = 10;

/// Of the guests.
const ABOVE: u8 = 40;

/// What the first bytes of each payload are: when the packet left, in nanoseconds since the round began.
const STAMP: usize = 8;

/// Bytes of a payload, as Opus at 64 kbit/s.
const PAYLOAD: usize = 160;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let busy: usize = value("--busy").map_or(0, |n| n.parse().expect("--busy takes a number"));
    let beside = value("--beside");
    let window = if is_measuring() {
        Duration::from_secs(30)
    } else {
        Duration::from_millis(500)
    };
    println!(
        "{:44} {:>7} {:>7} {:>7} {:>7} {:>7}  packets (lost)",
        "time in the program, us", "min", "median", "p99", "p99.9", "max"
    );
    for priority in [None, Some(PRIORITY)] {
        let mut options = vec![("PALABRE__SIP__ENABLED", "false")];
        let value = PRIORITY.to_string();
        let name = match priority {
            None => "ordinary threads",
            Some(_) => {
                options.push(("PALABRE__MEDIA__PRIORITY", &value));
                "media.priority = 10"
            }
        };
        let Some(mut program) = program(&options) else {
            return;
        };
        program.claim();
        let room = program.create_room("bench");
        let code = room["code"].as_str().expect("rooms have codes").to_owned();
        let certificate = Certificate::generate().expect("the system has randomness");
        let mut guest = || join::guest(&mut program, &code, &certificate);
        let mut pair = Pair::connect(guest(), guest());
        print_row(&format!("{name}, alone"), pair.measure(window));
        if busy > 0 || beside.is_some() {
            let crowd = Crowd::start(busy, beside.as_deref());
            let row = pair.measure(window);
            let runs = crowd.end();
            let mut what = Vec::new();
            if busy > 0 {
                what.push(format!("{busy} busy threads"));
            }
            if beside.is_some() {
                what.push(format!("the command {runs} times"));
            }
            print_row(&format!("{name}, beside {}", what.join(" and ")), row);
        }
    }
}

/// What one round showed.
struct Row {
    delays: Vec<Duration>,
    sent: u64,
    is_above: bool,
}

fn print_row(name: &str, mut row: Row) {
    assert!(!row.delays.is_empty(), "{name}: nothing was forwarded");
    row.delays.sort();
    let at = |share: f64| {
        let index = ((row.delays.len() - 1) as f64 * share) as usize;
        row.delays[index].as_secs_f64() * 1e6
    };
    println!(
        "{name:44} {:>7.0} {:>7.0} {:>7.0} {:>7.0} {:>7.0}  {} ({}){}",
        at(0.0),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        row.delays.len(),
        row.sent - row.delays.len() as u64,
        if row.is_above {
            ""
        } else {
            "; the guests had no priority: not root"
        },
    );
}

/// Who speaks and who listens.
struct Pair {
    speaker: Guest,
    listener: Guest,
    index: u64,
}

impl Pair {
    fn connect(speaker: Guest, listener: Guest) -> Self {
        let mut pair = Self {
            speaker,
            listener,
            index: 1_000,
        };
        let published = pair.speaker.publish(Kind::Sound);
        published.expect("the signal connection stands");
        let give_up = Instant::now() + Duration::from_secs(20);
        while pair.speaker.publisher.progress() != Progress::Connected
            || pair.listener.subscriber.progress() != Progress::Connected
        {
            assert!(Instant::now() < give_up, "the guests do not connect");
            let now = Instant::now();
            for guest in [&mut pair.speaker, &mut pair.listener] {
                look_after(guest, now);
                drain(guest);
            }
            sleep(Duration::from_millis(2));
        }
        pair
    }

    /// Sends for `window` and tells what came.
    fn measure(&mut self, window: Duration) -> Row {
        let begin = Instant::now();
        let until = begin + window;
        let (speaker, listener) = (&mut self.speaker, &mut self.listener);
        let first = self.index;
        let (row, next) = std::thread::scope(|scope| {
            let mut index = first;
            let speaking = scope.spawn(move || {
                let is_above = Priority::new(Some(ABOVE)).take().is_ok();
                let mut due = begin;
                while due < until {
                    sleep(due.saturating_duration_since(Instant::now()));
                    send(speaker, begin, index);
                    index += 1;
                    due += INTERVAL;
                    let now = Instant::now();
                    look_after(speaker, now);
                    drain(speaker);
                }
                (index, is_above)
            });
            let listening = scope.spawn(move || {
                let is_above = Priority::new(Some(ABOVE)).take().is_ok();
                let mut delays = Vec::new();
                let mut buffer = [0; DATAGRAM];
                // What is still on its way when the sending ends comes within this.
                while Instant::now() < until + Duration::from_millis(200) {
                    let waited = listener.subscriber.wait(Duration::from_millis(50));
                    waited.expect("sockets can");
                    let now = Instant::now();
                    while let Some(received) = listener.subscriber.receive(&mut buffer) {
                        let Received::Rtp { header, .. } = received else {
                            continue;
                        };
                        let payload = header.payload(&buffer);
                        let Some((stamp, _)) = payload.split_first_chunk::<STAMP>() else {
                            continue;
                        };
                        let left = begin + Duration::from_nanos(u64::from_be_bytes(*stamp));
                        if header.payload_type == OPUS && left <= now {
                            delays.push(now - left);
                        }
                    }
                    look_after(listener, now);
                }
                (delays, is_above)
            });
            let (next, is_above) = speaking.join().expect("speaking does not panic");
            let (delays, also) = listening.join().expect("listening does not panic");
            let row = Row {
                delays,
                sent: next - first,
                is_above: is_above && also,
            };
            (row, next)
        });
        self.index = next;
        row
    }
}

fn look_after(guest: &mut Guest, now: Instant) {
    guest.run(now).expect("the connections stand");
    guest.run_signal(now).expect("the signal connection stands");
}

fn drain(guest: &mut Guest) {
    let mut buffer = [0; DATAGRAM];
    while guest.publisher.receive(&mut buffer).is_some() {}
    while guest.subscriber.receive(&mut buffer).is_some() {}
}

fn send(guest: &Guest, begin: Instant, index: u64) {
    let fields = RtpFields {
        payload_type: OPUS,
        marker: false,
        sequence: index as u16,
        timestamp: index as u32 * 960,
        ssrc: SSRC,
    };
    let level = AudioLevel {
        voice: true,
        level: 15,
    };
    let mut buffer = [0; DATAGRAM];
    let mut writer = PacketWriter::start(&mut buffer, &fields, ExtensionForm::OneByte)
        .expect("the buffer is large enough");
    for (id, value) in [
        (MID, PUBLISHED_MID.as_bytes()),
        (AUDIO_LEVEL, &level.to_bytes()[..]),
    ] {
        writer.extension(id, value).expect("there is room");
    }
    let mut payload = [0x55; PAYLOAD];
    let stamp = begin.elapsed().as_nanos() as u64;
    payload[..STAMP].copy_from_slice(&stamp.to_be_bytes());
    writer
        .payload(&payload)
        .expect("the buffer is large enough");
    let len = writer.finish();
    guest.publisher.send_rtp(&mut buffer, len, index);
}

/// What else the machine does.
struct Crowd {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    command: Option<JoinHandle<u32>>,
}

impl Crowd {
    fn start(busy: usize, command: Option<&str>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..busy).map(|_| {
            let stop = Arc::clone(&stop);
            spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        });
        let threads = threads.collect();
        let command = command.map(|command| {
            let (stop, command) = (Arc::clone(&stop), command.to_owned());
            spawn(move || {
                let mut runs = 0;
                while !stop.load(Ordering::Relaxed) {
                    let started = Command::new("sh").args(["-c", &command]).spawn();
                    let status = started.and_then(|mut child: Child| child.wait());
                    assert!(
                        status.is_ok_and(|status| status.success()),
                        "the command failed: {command}"
                    );
                    runs += 1;
                }
                runs
            })
        });
        Self {
            stop,
            threads,
            command,
        }
    }

    /// How often the command ran.
    fn end(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("computing does not panic");
        }
        let runs = self.command.map(JoinHandle::join);
        runs.map_or(0, |runs| runs.expect("the command succeeds"))
    }
}
