//! Joins the parts: shard threads with their clock, randomness and planes.
//!
//! The only file of the signalling side that starts threads and reads the clock.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Instant, SystemTime};

use palabre_media::ids::SessionId;
use palabre_media::jsep::{Candidate, CandidateProtocol};
use palabre_media::sfu::{Command, SessionConfig};
use palabre_media::transport::Certificate;

use crate::config::EngineConfig;
use crate::error::StartError;
use crate::legs::{self, Mixers};
use crate::metrics::Counts;
use crate::room::{Host, LegPlane, MediaPlane, Random};
use crate::shard::{Clock, Input, Planes, Shard};

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

struct Unplugged;
impl MediaPlane for Unplugged {
    fn open(&mut self, _config: SessionConfig) {}
    fn command(&mut self, _session: SessionId, _command: Command) {}
    fn close(&mut self, _session: SessionId) {}
}

fn clock() -> Clock {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Clock {
        now: Instant::now(),
        // A clock before 1970 is a box without one: 0 is as good.
        wall: wall.map_or(0, |since| since.as_millis() as i64),
    }
}

/// Starts the threads.
pub(crate) fn start(
    config: &EngineConfig,
    counts: &Arc<Counts>,
    mixers: &Mixers,
) -> Result<Vec<Sender<Input>>, StartError> {
    let certificate =
        Certificate::generate().map_err(|error| StartError::Certificate(error.to_string()))?;
    let announced = if config.announced.is_empty() {
        vec![config.media]
    } else {
        config.announced.clone()
    };
    let host = Host {
        fingerprint: certificate.fingerprint(),
        candidates: announced
            .into_iter()
            .map(|address| Candidate {
                address,
                protocol: CandidateProtocol::Udp,
            })
            .collect(),
    };
    let planes = Planes {
        media: Box::new(Unplugged),
        legs: Box::new(mixers.clone()),
        random: Box::new(Os),
        host,
        counts: Arc::clone(counts),
    };
    let (sender, inputs) = std::sync::mpsc::channel();
    let shard = Shard::new(0, config.clone(), planes, Instant::now());
    std::thread::Builder::new()
        .name("shard-0".to_owned())
        .spawn(move || run(shard, &inputs))
        .map_err(StartError::Thread)?;
    Ok(vec![sender])
}

/// One shard's life.
fn run(mut shard: Shard, inputs: &Receiver<Input>) {
    while !shard.is_stopped() {
        let patience = shard.deadline().saturating_duration_since(Instant::now());
        match inputs.recv_timeout(patience) {
            Ok(input) => shard.handle(clock(), input),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let clock = clock();
        if shard.deadline() <= clock.now {
            shard.tick(clock);
        }
    }
}
