//! Telephones. `sip` is the protocol core, without sockets or clock; the rest joins it to the engine's legs.

pub mod call;
pub mod caller;
pub mod config;
pub mod gateway;
pub mod keys;
pub mod menu;
pub mod metrics;
pub mod net;
mod ports;
pub mod prompts;
pub mod rooms;
pub mod sip;
mod speech;

pub use config::SipConfig;
pub use net::{Sip, StartError};
pub use rooms::EngineRooms;
