//! Telephones. `sip` is the protocol core, without sockets or clock; the rest joins it to the engine's legs.

pub mod keys;
pub mod menu;
pub mod prompts;
pub mod sip;
