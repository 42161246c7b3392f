//! The SIP core: messages, transactions, dialogs and SDP offer/answer (RFC 3261, 3264, 4028, 6026).
//!
//! Sans-IO: bytes and `now` go in through [`Endpoint::handle`], bytes and [`Event`]s come out of [`Endpoint::poll`], and
//! [`Endpoint::deadline`] says when to call again. It never opens a socket, reads a clock, resolves a name or draws
//! randomness by itself.

pub mod endpoint;
pub mod event;
pub mod limits;
pub mod random;
pub mod sdp;

pub use endpoint::{Config, Endpoint, NoSuchDialog};
pub use event::{
    ConnectionId, Dial, DialogId, Ending, Event, Flow, Input, Invite, Output, Party, Protocol,
};
pub use limits::Limits;
pub use random::Random;
pub use sdp::{Codec, Direction, LocalMedia, Media, MediaPolicy, TelephoneEvent};
