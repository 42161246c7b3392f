//! Selective forwarding: everything one media worker does, without its socket.
//!
//! ```text
//! router    sessions by address and ufrag, tracks to subscriptions, mesh, timers
//! session   one peer connection: decrypts, answers, reports
//!   received, reception, missing     a track from the peer: its streams, losses, NACKs
//!   keyframe, speaker                asking for key frames; loudness
//!   forward, layers, template        a track to the peer: which encoding, under which header
//!   picture, egress, train           VP8 continuity, sealing, GSO trains
//! packet    what travels between them: descriptor and shared payload
//! ```

mod clock;
pub mod command;
mod drops;
mod egress;
mod forward;
mod keyframe;
mod layers;
mod missing;
pub mod packet;
mod picture;
mod received;
mod reception;
mod report;
mod route;
mod router;
mod session;
mod speaker;
mod template;
mod train;

use std::time::Duration;

pub use clock::WallClock;
pub use command::{
    Codec, Command, CommandError, Encoding, Event, Layer, Level, Link, MAX_LAYERS, MeshMessage,
    MeshTarget, Quality, ReceiveParameters, SendParameters, SessionConfig,
};
pub use drops::{Counters, DropReason};
pub use packet::{ClockMapping, Descriptor, Packet, PacketPool};
pub use router::{Limits, MakeTransport, Router, RouterConfig, Verdict};
pub use train::{MAX_DATAGRAM, MAX_SEGMENTS, Train};

/// How often loudness is reported. A lower value makes speaking indications quicker and costs
/// signalling messages to everybody.
pub const LEVELS_INTERVAL: Duration = Duration::from_millis(400);

/// How often link quality is reported.
pub const QUALITY_INTERVAL: Duration = Duration::from_secs(5);

/// A track without packets for this long has stalled. A lower value tells sooner, and mistakes
/// a screen share's pauses for one.
pub const STALL: Duration = Duration::from_millis(1_500);
