//! The SIP core: messages, transactions, dialogs and SDP offer/answer (RFC 3261, 3264, 4028, 6026).
//!
//! Sans-IO: bytes and `now` go in through [`Endpoint::handle`], bytes and [`Event`]s come out of [`Endpoint::poll`], and
//! [`Endpoint::deadline`] says when to call again. It never opens a socket, reads a clock, resolves a name or draws
//! randomness by itself.

pub mod compose;
mod dialog;
pub mod endpoint;
pub mod event;
pub mod frame;
pub mod header;
pub mod limits;
pub mod message;
pub mod method;
pub mod name;
pub mod random;
pub mod sdp;
pub mod timer;
pub mod transaction;
pub mod uri;
pub mod verdict;

#[cfg(test)]
mod tests;

pub use endpoint::{Config, Counters, Endpoint, NoSuchDialog};
pub use event::{
    ConnectionId, Dial, DialogId, Ending, Event, Flow, Input, Invite, Output, Party, Protocol,
};
pub use limits::Limits;
pub use message::Message;
pub use random::Random;
pub use sdp::{Codec, Direction, LocalMedia, Media, MediaPolicy, TelephoneEvent};
