//! Rooms and participants, LiveKit signalling, media workers and the mixer thread.
//!
//! ```text
//!   admin (HTTP, WebSocket)      sip-gateway (calls)
//!            \                        /
//!             Engine (cheap handle: asks, signal connections, legs)
//!                        |
//!             shard threads: room/ (sans-IO: rooms, participants, JSEP)
//!              |  commands / events   |
//!        net/ workers (UDP, SFU)   legs/ mixer thread (telephones)
//! ```
//! This crate knows nothing of HTTP frameworks, SQL or SIP: what it needs of them goes
//! through [`Directory`] and the handle.

pub mod addresses;
pub mod config;
pub mod directory;
pub mod door;
pub mod error;
pub mod grants;
pub mod handle;
pub mod leg;
pub mod legs;
pub mod metrics;
pub mod net;
pub mod priority;
pub mod settings;

mod backlog;
mod room;
mod runtime;
mod shard;

pub use livekit_protocol as proto;

pub use config::{EngineConfig, MediaConfig, MixerConfig, RoomsConfig};
pub use directory::Directory;
pub use error::{JoinError, RoomError, StartError};
pub use grants::Grants;
pub use handle::{Engine, JoinRequest, SignalClosed, SignalConnection, SignalOutput, SignalSender};
pub use leg::{Leg, LegIdentity};
pub use legs::{
    Direction, LegCodec, LegError, LegEvent, LegParameters, LegUpdate, Prompt, RemovedReason,
};
pub use metrics::MetricsSnapshot;
