//! Telephone legs: the mixer thread and the handle others command it by.
//!
//! Owns the legs' RTP sockets and the 20 ms tick. It never decides who is in which room:
//! the room shard tells it, by [`Command`].

mod command;
mod handle;

pub use command::{
    Command, Direction, LegError, LegEvent, LegParameters, LegUpdate, MixerEvent, Prompt,
    RemovedReason, RoomId,
};
pub use handle::{Leg, Mixers};
pub use palabre_media::codec::LegCodec;
