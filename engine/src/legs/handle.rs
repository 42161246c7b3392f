//! Handles by which the program commands the mixer thread: [`Mixers`] for everything, [`Leg`] for one call.
//!
//! Owns a command queue's sending end and the numbering of legs. It never blocks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use palabre_media::ids::LegId;
use tokio::sync::mpsc;

use super::command::{Command, LegError, LegEvent, LegParameters, LegUpdate, Prompt};
use super::stats::{Counters, MixerStats};

/// Events kept for a slow owner of a leg: more lets it sleep longer, less bounds memory better.
const LEG_EVENTS: usize = 64;

/// Cheap handle on the mixer thread.
#[derive(Clone, Debug)]
pub struct Mixers {
    commands: std::sync::mpsc::Sender<Command>,
    shared: Arc<Shared>,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Shared {
    next_leg: AtomicU64,
    legs: AtomicUsize,
    limit: usize,
    stopped: AtomicBool,
}

impl Mixers {
    /// A handle and the end from which the mixer thread reads. `limit` is the largest number of legs at once.
    pub fn new(limit: usize) -> (Self, std::sync::mpsc::Receiver<Command>) {
        let (commands, receiver) = std::sync::mpsc::channel();
        let shared = Arc::new(Shared {
            next_leg: AtomicU64::new(1),
            legs: AtomicUsize::new(0),
            limit,
            stopped: AtomicBool::new(false),
        });
        let mixers = Self {
            commands,
            shared,
            counters: Arc::default(),
        };
        (mixers, receiver)
    }

    /// Queues a command for the next tick; `false` when the thread has ended.
    pub fn send(&self, command: Command) -> bool {
        if matches!(command, Command::Stop) {
            self.shared.stopped.store(true, Ordering::Relaxed);
        }
        self.commands.send(command).is_ok()
    }

    /// Opens a leg, outside any room.
    pub fn open_leg(
        &self,
        parameters: LegParameters,
    ) -> Result<(Leg, mpsc::Receiver<LegEvent>), LegError> {
        parameters.rtp.set_nonblocking(true)?;
        if let Some(rtcp) = &parameters.rtcp {
            rtcp.set_nonblocking(true)?;
        }
        if self.shared.stopped.load(Ordering::Relaxed) {
            return Err(LegError::Stopped);
        }
        let limit = self.shared.limit;
        self.shared
            .legs
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| {
                (open < limit).then_some(open + 1)
            })
            .map_err(|_| LegError::Full { limit })?;
        let id = LegId(self.shared.next_leg.fetch_add(1, Ordering::Relaxed));
        let leg = Leg {
            id,
            mixers: self.clone(),
            closed: false,
        };
        let (events, receiver) = mpsc::channel(LEG_EVENTS);
        let parameters = Box::new(parameters);
        let opened = self.send(Command::OpenLeg {
            leg: id,
            parameters,
            events,
        });
        if opened {
            Ok((leg, receiver))
        } else {
            Err(LegError::Stopped)
        }
    }

    pub(super) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// What the thread did so far.
    pub fn stats(&self) -> MixerStats {
        self.counters.snapshot()
    }

    /// How long since the thread finished a tick, of which there are fifty a second.
    pub fn silence(&self) -> Duration {
        self.counters.heartbeat.silence()
    }

    /// Most legs open at once.
    pub fn limit(&self) -> usize {
        self.shared.limit
    }

    /// Legs open now.
    pub fn legs(&self) -> usize {
        self.shared.legs.load(Ordering::Relaxed)
    }
}

/// One telephone leg, as its owner (the call) holds it. Dropping it closes the leg.
#[derive(Debug)]
pub struct Leg {
    id: LegId,
    mixers: Mixers,
    closed: bool,
}

impl Leg {
    /// Its number: the room shard joins, mutes and removes by it.
    pub fn id(&self) -> LegId {
        self.id
    }

    /// Plays a prompt to this leg only; replaces the one that plays.
    pub fn play(&self, prompt: Prompt) {
        self.mixers.send(Command::Play {
            leg: self.id,
            prompt,
        });
    }

    /// Stops the prompt.
    pub fn stop_playing(&self) {
        self.mixers.send(Command::StopPlaying { leg: self.id });
    }

    /// Applies what a re-INVITE settled.
    pub fn update(&self, update: LegUpdate) {
        self.mixers.send(Command::UpdateLeg {
            leg: self.id,
            update,
        });
    }

    /// Ends the leg.
    pub fn close(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if !std::mem::replace(&mut self.closed, true) {
            self.mixers.shared.legs.fetch_sub(1, Ordering::AcqRel);
            self.mixers.send(Command::CloseLeg { leg: self.id });
        }
    }
}

impl Drop for Leg {
    fn drop(&mut self) {
        self.end();
    }
}
