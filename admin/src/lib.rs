//! The HTTP plane: pages, administration API, LiveKit doors, metrics, and the store of rooms and access.
//!
//! ```text
//!   TCP ── serve ─ tls ─ headers, limits ─┬─ api/      /api/v1: rooms, joining, access      ── store/ (SQLite)
//!              │                            ├─ livekit/  /rtc WebSocket, /twirp, tokens       ── live (the engine)
//!              └─ redirect, to https        ├─ health    /healthz /readyz /metrics
//!                                           └─ assets    the pages of web/, embedded
//!   socket in the data folder ── synthetic: a room for the box's call to itself
//! ```
//! It decides nothing about media or calls, and never imports the SIP gateway: both ask the one
//! [`Directory`](palabre_engine::Directory) through the one [`Door`](palabre_engine::door::Door).

pub mod api;
mod app;
mod appliance;
mod assets;
mod body;
mod client;
mod config;
mod headers;
mod health;
mod links;
mod live;
pub mod livekit;
pub mod metrics;
mod password;
mod phone;
mod places;
pub mod problem;
mod redirect;
mod secret;
mod serve;
pub mod store;
pub mod synthetic;
mod tls;

pub use appliance::Appliance;
pub use config::{AdminConfig, ApplianceConfig, Network};
pub use health::Health;
pub use live::{Line, LiveRooms, Requests};
pub use phone::sip_uri;
pub use secret::Secret;
pub use serve::{Parts, Readiness, ServeError, ServerHandle, serve};
pub use store::Store;
pub use tls::TlsError;
