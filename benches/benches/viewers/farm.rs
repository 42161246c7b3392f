//! A publisher and its viewers: how they join either server, and what a window of it costs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use palabre_call::{Guest, Kind};
use palabre_media::transport::Certificate;
use palabre_tests::program::Program;
use serde_json::json;

use crate::load::janus::Janus;
use crate::load::join;
use crate::load::process::{cpu_time, resident, thread_times};
use crate::publisher::Publisher;
use crate::viewer::Viewer;
use crate::{Shape, Spent, host};

/// How often sockets are looked into: often enough for their buffers by far.
pub(crate) const LOOK: Duration = Duration::from_millis(5);

/// Time for guests to connect. DTLS handshakes of both ends share the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The publisher and its viewers, on one thread.
pub(crate) struct Farm {
    name: &'static str,
    publisher: Publisher,
    pub(crate) viewers: Vec<Viewer>,
    look: Instant,
}

impl Farm {
    pub(crate) fn new(name: &'static str, publisher: Guest) -> Self {
        Self {
            name,
            publisher: Publisher::new(publisher),
            viewers: Vec::new(),
            look: Instant::now(),
        }
    }

    /// Everybody joins a room as the page does; then the publisher begins.
    pub(crate) fn of_palabre(program: &mut Program, viewers: usize) -> Self {
        program.claim();
        let room = program.create_room("bench");
        let code = room["code"].as_str().expect("rooms have codes").to_owned();
        let certificate = Certificate::generate().expect("the system has randomness");
        let mut join = || join::guest(program, &code, &certificate);
        let mut farm = Self::new("palabre", join());
        for _ in 0..viewers {
            farm.viewers.push(Viewer::new(join()));
            farm.look(Instant::now());
        }
        farm.await_viewers();
        let published = farm.publisher.guest.publish(Kind::Picture);
        published.expect("the program listens");
        farm.await_publisher();
        farm.await_pictures();
        farm
    }

    /// A publisher, then those who subscribe to it, as Janus' own page has it.
    pub(crate) fn of_janus(janus: &mut Janus, viewers: usize) -> Self {
        let certificate = Certificate::generate().expect("the system has randomness");
        let bare = || Guest::bare(host(), &certificate).expect("there are free ports");
        let mut farm = Self::new("janus", bare());
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
        let is_read = publisher.set_remote(Instant::now(), &answer, None);
        assert!(is_read, "Janus describes itself: {answer}");
        farm.await_publisher();
        for _ in 0..viewers {
            let mut guest = bare();
            let handle = janus.attach("videoroom");
            let join = json!({
                "request": "join", "ptype": "subscriber", "room": 1, "streams": [{"feed": 7}],
            });
            let offer = janus.message(handle, join, None).sdp.expect("an offer");
            let answer = guest.answer(Instant::now(), &offer);
            let answer = answer.expect("Janus describes itself");
            let answer = json!({"type": "answer", "sdp": answer});
            janus.message(handle, json!({"request": "start"}), Some(answer));
            farm.viewers.push(Viewer::new(guest));
            farm.run(Shape::Even, LOOK);
        }
        farm.await_viewers();
        farm.await_pictures();
        farm
    }

    pub(crate) fn await_viewers(&mut self) {
        let give_up = Instant::now() + PATIENCE;
        let is_waiting = |viewer: &Viewer| viewer.guest.subscriber.profile().is_none();
        while self.viewers.iter().any(is_waiting) {
            assert!(Instant::now() < give_up, "viewers do not connect");
            self.rest();
        }
    }

    pub(crate) fn await_publisher(&mut self) {
        let give_up = Instant::now() + PATIENCE;
        while self.publisher.guest.publisher.profile().is_none() {
            assert!(Instant::now() < give_up, "the publisher does not connect");
            self.rest();
        }
    }

    pub(crate) fn await_pictures(&mut self) {
        let give_up = Instant::now() + PATIENCE;
        while self.viewers.iter().any(|viewer| viewer.received == 0) {
            assert!(Instant::now() < give_up, "not everybody sees something");
            self.run(Shape::Even, Duration::from_millis(100));
        }
    }

    /// What was agreed, and what else the process used.
    pub(crate) fn describe(&self, name: &str, process: u32) {
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
    pub(crate) fn measure(&mut self, shape: Shape, process: u32, window: Duration) -> Spent {
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

    pub(crate) fn run(&mut self, shape: Shape, span: Duration) {
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

    pub(crate) fn rest(&mut self) {
        self.look(Instant::now());
        std::thread::sleep(LOOK);
    }

    /// Lets every guest handle what has come.
    pub(crate) fn look(&mut self, now: Instant) {
        self.look = now + LOOK;
        self.publisher.run(now);
        for viewer in &mut self.viewers {
            viewer.run(now);
        }
    }
}

/// The busiest threads by name, in milliseconds a second.
pub(crate) fn busiest(
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
