//! The far ends of a call, for whoever must make one: a guest that speaks LiveKit's signals over a
//! WebSocket with full ICE, DTLS and SRTP, and a telephone that speaks SIP with plain RTP.
//!
//! One thread looks after any number of them: nothing here waits, but for opening a connection. What
//! they say and what must be heard is the caller's business. The program that serves calls never uses this.

mod connection;
mod guest;
mod phone;
mod stream;
mod voice;

pub use connection::{Connection, DATAGRAM, Progress, Received};
pub use guest::{
    AUDIO_LEVEL, Failed, Guest, Kind, MID, OPUS, PUBLISHED_MID, SSRC, Site, TRANSPORT_CC, VP8,
};
pub use phone::{Line, Phone, Standing};
pub use stream::{Fingerprint, fingerprint};
pub use voice::Voice;
