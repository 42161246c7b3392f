//! How long the program keeps a packet: from a guest that publishes sound to one that listens, in full WebRTC.
//!
//! With `--busy N`, N threads that do nothing but compute run beside it in a second round, and with
//! `--beside COMMAND` a command, again and again until the round ends: an update that is being installed, say.
//! Both are played with ordinary threads and with `media.priority = 10`, in turn, five times (`--rounds N`): each
//! figure is the median of what the rounds showed. The two guests have real-time priority
//! themselves, above the program's, so that what is late is the program: this needs root, or says that it had not.
//!
//! `cargo bench -p palabre-benches --bench latency [-- --rounds N --busy N --beside COMMAND]`
#![allow(clippy::print_stdout)] // a bench prints its table

mod load;

use std::thread::sleep;
use std::time::{Duration, Instant};

use load::crowd::{ABOVE, Crowd, PRIORITY};
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

/// What the first bytes of each payload are: when the packet left, in nanoseconds since the guests came.
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
    let (window, usual) = if is_measuring() {
        (Duration::from_secs(30), 5)
    } else {
        (Duration::from_millis(500), 1)
    };
    let rounds = value("--rounds").map_or(usual, |n| n.parse().expect("--rounds takes a number"));
    assert!(rounds > 0, "--rounds takes a number from 1");
    println!(
        "{:66} {:>7} {:>7} {:>7} {:>7} {:>7}  packets (lost)",
        format!("time in the program, us, median of {rounds}"),
        "min",
        "median",
        "p99",
        "p99.9",
        "max"
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
        let is_beside = busy > 0 || beside.is_some();
        let (mut alone, mut crowded, mut runs) = (Vec::new(), Vec::new(), 0);
        for _ in 0..rounds {
            alone.push(pair.measure(window));
            if is_beside {
                let crowd = Crowd::start(busy, beside.as_deref());
                crowded.push(pair.measure(window));
                crowd.stop();
                pair.keep_up(|| crowd.has_ended());
                runs += crowd.end();
            }
        }
        print_row(&format!("{name}, alone"), &mut alone);
        if is_beside {
            let mut what = Vec::new();
            if busy > 0 {
                what.push(format!("{busy} busy threads"));
            }
            if beside.is_some() {
                what.push(format!("the command {runs} times"));
            }
            print_row(
                &format!("{name}, beside {}", what.join(" and ")),
                &mut crowded,
            );
        }
    }
}

/// What one round showed.
struct Row {
    delays: Vec<Duration>,
    sent: u64,
    is_above: bool,
}

impl Row {
    /// What `share` of the packets took at most, in microseconds. The delays are in order.
    fn at(&self, share: f64) -> f64 {
        let index = ((self.delays.len() - 1) as f64 * share) as usize;
        self.delays[index].as_secs_f64() * 1e6
    }
}

fn print_row(name: &str, rounds: &mut [Row]) {
    let (mut came, mut sent) = (0, 0);
    for round in &mut *rounds {
        assert!(!round.delays.is_empty(), "{name}: nothing was forwarded");
        round.delays.sort();
        came += round.delays.len() as u64;
        sent += round.sent;
    }
    let at = |share: f64| {
        let mut figures: Vec<f64> = rounds.iter().map(|round| round.at(share)).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    println!(
        "{name:66} {:>7.0} {:>7.0} {:>7.0} {:>7.0} {:>7.0}  {came} ({}){}",
        at(0.0),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        sent - came,
        if rounds.iter().all(|round| round.is_above) {
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
    /// What the stamps of packets count from.
    origin: Instant,
}

impl Pair {
    fn connect(speaker: Guest, listener: Guest) -> Self {
        let mut pair = Self {
            speaker,
            listener,
            index: 1_000,
            origin: Instant::now(),
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
        pair.until_heard(give_up);
        pair
    }

    /// Keeps both connected until `is_over`: guests that say nothing for some seconds are gone.
    fn keep_up(&mut self, is_over: impl Fn() -> bool) {
        while !is_over() {
            for guest in [&mut self.speaker, &mut self.listener] {
                look_after(guest, Instant::now());
                drain(guest);
            }
            sleep(INTERVAL);
        }
    }

    /// Sends until something comes: the subscription begins some packets after the connection, and these are not lost.
    fn until_heard(&mut self, give_up: Instant) {
        let mut buffer = [0; DATAGRAM];
        loop {
            assert!(Instant::now() < give_up, "nothing is forwarded");
            send(&self.speaker, self.origin, self.index);
            self.index += 1;
            let waited = self.listener.subscriber.wait(INTERVAL);
            waited.expect("sockets can");
            let mut is_heard = false;
            while let Some(received) = self.listener.subscriber.receive(&mut buffer) {
                is_heard |=
                    matches!(received, Received::Rtp { header, .. } if header.payload_type == OPUS);
            }
            let now = Instant::now();
            look_after(&mut self.listener, now);
            look_after(&mut self.speaker, now);
            drain(&mut self.speaker);
            if is_heard {
                return;
            }
        }
    }

    /// Sends for `window` and tells what came.
    fn measure(&mut self, window: Duration) -> Row {
        let begin = Instant::now();
        let until = begin + window;
        let (speaker, listener) = (&mut self.speaker, &mut self.listener);
        let origin = self.origin;
        let first = self.index;
        let (row, next) = std::thread::scope(|scope| {
            let mut index = first;
            let speaking = scope.spawn(move || {
                let is_above = Priority::new(Some(ABOVE)).take().is_ok();
                let mut due = begin;
                while due < until {
                    sleep(due.saturating_duration_since(Instant::now()));
                    send(speaker, origin, index);
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
                        let left = origin + Duration::from_nanos(u64::from_be_bytes(*stamp));
                        // One from before this round is none of its packets.
                        if header.payload_type == OPUS && (begin..=now).contains(&left) {
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

fn send(guest: &Guest, origin: Instant, index: u64) {
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
    let stamp = origin.elapsed().as_nanos() as u64;
    payload[..STAMP].copy_from_slice(&stamp.to_be_bytes());
    writer
        .payload(&payload)
        .expect("the buffer is large enough");
    let len = writer.finish();
    guest.publisher.send_rtp(&mut buffer, len, index);
}
