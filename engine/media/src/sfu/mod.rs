//! Selective forwarding: everything one media worker does, without its socket.

pub mod command;
pub mod packet;

use std::time::Duration;

pub use command::{
    Codec, Command, Encoding, Event, Layer, Level, Link, MeshMessage, MeshTarget, Quality,
    ReceiveParameters, SendParameters, SessionConfig,
};
pub use packet::{ClockMapping, Descriptor, Packet, PacketPool};

/// How often loudness is reported. A lower value makes speaking indications quicker and costs
/// signalling messages to everybody.
pub const LEVELS_INTERVAL: Duration = Duration::from_millis(400);

/// How often link quality is reported.
pub const QUALITY_INTERVAL: Duration = Duration::from_secs(5);

/// A track or encoding without packets for this long has stalled. A lower value falls back to
/// another encoding sooner and mistakes a screen share's pauses for one.
pub const STALL: Duration = Duration::from_millis(1_500);
