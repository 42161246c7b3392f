//! Joins the parts: shard threads with their clock, randomness and planes, the media workers
//! and the mixer thread.
//!
//! The only file of the signalling side that starts threads and reads the clock.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use palabre_media::codec::opus::Quality;
use palabre_media::ids::SessionId;
use palabre_media::jsep::{Candidate, CandidateProtocol};
use palabre_media::sfu::{Command, Event, SessionConfig};
use palabre_media::transport::{Certificate, DataChannel};

use crate::addresses::Announced;
use crate::backlog::Backlog;
use crate::config::EngineConfig;
use crate::error::StartError;
use crate::legs::{self, MixerConfig, Mixers};
use crate::metrics::Counts;
use crate::net::{EventSink, StartWorkersError, Workers, WorkersConfig, WorkersError};
use crate::priority::Priority;
use crate::room::{Host, LegPlane, MediaPlane, Random};
use crate::shard::{Clock, Input, Planes, Shard};

/// A mixer that finished no tick for this long hangs. Higher forgives a starved machine.
const MIXER_PATIENCE: Duration = Duration::from_secs(5);

/// What runs beside the handles.
pub(crate) struct Runtime {
    pub(crate) shards: Vec<Sender<Input>>,
    pub(crate) workers: Arc<Workers>,
    pub(crate) mixers: Mixers,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Randomness of the operating system.
struct Os;

impl Random for Os {
    fn fill(&mut self, bytes: &mut [u8]) {
        // Without randomness no sid, password or key is safe: stopping is right.
        aws_lc_rs::rand::fill(bytes).expect("the operating system gives randomness");
    }
}

impl LegPlane for Mixers {
    fn send(&mut self, command: legs::Command) {
        // False once the thread has ended, which happens after the shards.
        let _ = Mixers::send(self, command);
    }
}

/// The workers, with a count of what they did not take.
struct Plane {
    workers: Arc<Workers>,
    counts: Arc<Counts>,
}

impl Plane {
    fn note(&self, outcome: Result<(), WorkersError>) {
        match outcome {
            // A session that has just ended is still named by what was on its way.
            Ok(()) | Err(WorkersError::UnknownSession) => {}
            Err(WorkersError::Exists | WorkersError::Overloaded) => {
                self.counts.media_commands_refused_total.add(1);
            }
        }
    }
}

impl MediaPlane for Plane {
    fn open(&mut self, config: SessionConfig) {
        self.note(self.workers.open(config));
    }

    fn command(&mut self, session: SessionId, command: Command) {
        let is_reliable = matches!(
            command,
            Command::SendData {
                channel: DataChannel::Reliable,
                ..
            }
        );
        let outcome = self.workers.command(session, command);
        if is_reliable && outcome == Err(WorkersError::Overloaded) {
            self.counts.data_reliable_refused_total.add(1);
        }
        self.note(outcome);
    }

    fn close(&mut self, session: SessionId) {
        self.note(self.workers.close(session));
    }
}

/// How the mixer speaks Opus.
fn quality(config: &EngineConfig) -> Quality {
    Quality {
        // Its bounds are far below 2^32.
        bitrate: config.mixer.bitrate.bps() as u32,
        ..Quality::default()
    }
}

fn clock() -> Clock {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Clock {
        now: Instant::now(),
        // A clock before 1970 is a box without one: 0 is as good.
        wall: wall.map_or(0, |since| since.as_millis() as i64),
    }
}

impl Runtime {
    /// Opens the media port and starts all threads.
    pub(crate) fn start(config: &EngineConfig, counts: &Arc<Counts>) -> Result<Self, StartError> {
        let certificate =
            Certificate::generate().map_err(|error| StartError::Certificate(error.to_string()))?;
        let (shard, inputs) = std::sync::mpsc::channel();
        let waiting_data = Arc::new(Backlog::default());
        let priority = Priority::new(config.media.priority);
        let workers = Workers::start(WorkersConfig {
            media: config.media.bind,
            workers: config.media.workers,
            priority,
            limits: Default::default(),
            certificate,
            events: sink(shard.clone(), Arc::clone(&waiting_data), Arc::clone(counts)),
        })
        .map_err(|error| match error {
            StartWorkersError::MediaPort { address, source } => {
                StartError::MediaPort { address, source }
            }
            StartWorkersError::Thread(source) => StartError::Thread(source),
        })?;
        let workers = Arc::new(workers);
        let announced = Announced::new(&config.media, workers.local(), Instant::now());
        let host = Host {
            fingerprint: workers.fingerprint(),
            candidates: candidates(announced.addresses()),
        };

        let mut threads = Vec::new();
        let (mixers, commands) = Mixers::new(config.mixer.max_legs as usize);
        let mesh = workers
            .join_mesh()
            .expect("the workers were just started: the mixer's place is free");
        let events = shard.clone();
        threads.push(
            legs::start(
                MixerConfig {
                    media_timeout: config.mixer.media_timeout.duration(),
                    hold_timeout: config.mixer.hold_timeout.duration(),
                    quality: quality(config),
                    // A tick serves a whole room; a worker's packet can wait for it.
                    priority: priority.above(),
                },
                &mixers,
                commands,
                mesh,
                move |event| {
                    // The shard ends before the mixer does.
                    let _ = events.send(Input::Mixer(event));
                },
            )
            .map_err(StartError::Thread)?,
        );

        let planes = Planes {
            media: Box::new(Plane {
                workers: Arc::clone(&workers),
                counts: Arc::clone(counts),
            }),
            legs: Box::new(mixers.clone()),
            random: Box::new(Os),
            host,
            counts: Arc::clone(counts),
        };
        let rooms = Shard::new(0, config.clone(), planes, Instant::now());
        let shard_counts = Arc::clone(counts);
        let thread = std::thread::Builder::new()
            .name("shard-0".to_owned())
            .spawn(move || run(rooms, &inputs, announced, &waiting_data, &shard_counts))
            .map_err(StartError::Thread)?;
        threads.push(thread);
        Ok(Self {
            shards: vec![shard],
            workers,
            mixers,
            threads: Mutex::new(threads),
        })
    }

    /// Whether every thread runs and the mixer keeps its time.
    pub(crate) fn is_alive(&self) -> bool {
        let run = self.threads.lock().is_ok_and(|threads| {
            !threads.is_empty() && !threads.iter().any(JoinHandle::is_finished)
        });
        run && self.workers.is_alive() && self.mixers.silence() < MIXER_PATIENCE
    }

    /// Ends mixer and workers; the shards have been told before. Blocks for the threads.
    pub(crate) fn stop(&self) {
        self.mixers.send(legs::Command::Stop);
        let threads = self
            .threads
            .lock()
            .map(|mut threads| std::mem::take(&mut *threads));
        for thread in threads.unwrap_or_default() {
            // A thread that panicked has nothing left to stop.
            let _ = thread.join();
        }
        self.workers.shutdown();
    }
}

/// Hands what workers report to the shard, with a bound on what clients can make of it.
fn sink(shard: Sender<Input>, waiting: Arc<Backlog>, counts: Arc<Counts>) -> EventSink {
    Arc::new(move |event: Event| {
        if let Event::Data {
            session, channel, ..
        } = &event
            && !waiting.admit(*session, *channel)
        {
            match channel {
                DataChannel::Reliable => counts.data_reliable_refused_total.add(1),
                _ => counts.data_packets_dropped_total.add(1),
            }
            return;
        }
        // The shard ends before the workers do.
        let _ = shard.send(Input::Media(event));
    })
}

/// One shard's life.
fn run(
    mut shard: Shard,
    inputs: &Receiver<Input>,
    mut announced: Announced,
    waiting: &Backlog,
    counts: &Counts,
) {
    while !shard.is_stopped() {
        let patience = shard.deadline().saturating_duration_since(Instant::now());
        match inputs.recv_timeout(patience) {
            Ok(input) => {
                if let Input::Media(Event::Data { session, .. }) = &input {
                    waiting.took(*session);
                }
                let clock = clock();
                if announced.refresh(clock.now) {
                    shard.announce(candidates(announced.addresses()));
                }
                contain(counts, || shard.handle(clock, input));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let clock = clock();
        if shard.deadline() <= clock.now {
            contain(counts, || shard.tick(clock));
        }
    }
}

/// The last net of a shard, under those of its rooms: a bug costs one input, not all meetings.
fn contain(counts: &Counts, work: impl FnOnce()) {
    // Unwind safety: rooms have their own net; around them are plain collections whose every
    // state is valid.
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        tracing::error!("a bug outside of all rooms cost a shard one input");
        counts.shard_panics_total.add(1);
    }
}

/// What descriptions say of these addresses.
fn candidates(addresses: &[SocketAddr]) -> Vec<Candidate> {
    let udp = |address: &SocketAddr| Candidate {
        address: *address,
        protocol: CandidateProtocol::Udp,
    };
    addresses.iter().map(udp).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::settings::Bitrate;

    fn config() -> EngineConfig {
        let mut config = EngineConfig::default();
        config.media.bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        config.media.workers = Some(1);
        config
    }

    #[tokio::test]
    async fn a_bug_outside_of_all_rooms_costs_one_input() {
        let counts = Arc::new(Counts::default());
        let runtime = Runtime::start(&config(), &counts).unwrap();
        assert!(runtime.is_alive());
        let shard = &runtime.shards[0];
        shard.send(Input::Panic).unwrap();
        let (reply, answer) = tokio::sync::oneshot::channel();
        let ask = crate::shard::Ask::ListRooms(Vec::new(), reply);
        shard.send(Input::Ask(ask)).unwrap();
        assert_eq!(answer.await.unwrap(), []);
        assert_eq!(counts.read().shard_panics_total, 1);
        assert!(runtime.is_alive());
        assert!(runtime.workers.answer().await);
        let (done, stopped) = tokio::sync::oneshot::channel();
        shard.send(Input::Shutdown(done)).unwrap();
        stopped.await.unwrap();
        runtime.stop();
        assert!(!runtime.is_alive());
        assert!(!runtime.workers.answer().await);
    }

    #[test]
    fn the_mixer_speaks_at_the_rate_of_its_key() {
        let mut config = config();
        assert_eq!(quality(&config), Quality::default());
        config.mixer.bitrate = Bitrate::from_bps(64_000);
        assert_eq!(quality(&config).bitrate, 64_000);
    }
}
