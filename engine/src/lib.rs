//! Rooms and participants, LiveKit signalling, media workers and the mixer thread.

pub mod directory;
pub mod door;
pub mod legs;
pub mod settings;
