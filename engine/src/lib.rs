//! Rooms and participants, LiveKit signalling, media workers and the mixer thread.

pub mod settings;
