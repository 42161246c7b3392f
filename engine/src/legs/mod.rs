//! Telephone legs: the mixer thread and the handle others command it by.
//!
//! Owns the legs' RTP sockets and the 20 ms tick. It never decides who is in which room:
//! the room shard tells it, by [`Command`].

mod command;
mod handle;
mod latch;
mod mesh;
mod reports;
mod station;
mod stats;
#[cfg(test)]
mod tests;
mod thread;

use std::io;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

pub use command::{
    Command, Direction, LegError, LegEvent, LegParameters, LegUpdate, MixerEvent, Prompt,
    RemovedReason, RoomId,
};
pub use handle::{Leg, Mixers};
pub use mesh::Mesh;
pub use palabre_media::codec::LegCodec;
pub use stats::MixerStats;
pub use thread::MixerConfig;

/// Starts the mixer thread on the receiving end of [`Mixers::new`]. `events` is called on it and must not
/// block. It ends at [`Command::Stop`], or when the last handle is gone.
///
/// # Errors
/// When the thread cannot be made.
pub fn start(
    config: MixerConfig,
    mixers: &Mixers,
    commands: Receiver<Command>,
    mesh: impl Mesh + 'static,
    events: impl Fn(MixerEvent) + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let counters = mixers.counters();
    std::thread::Builder::new()
        .name("mixer".to_owned())
        .spawn(move || {
            config.priority.take_or_say("mixer");
            thread::MixerThread::new(config, commands, mesh, counters, Box::new(events)).run();
        })
}
