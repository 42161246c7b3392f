//! Palabre's media core: RTP and RTCP, SRTP, transports, JSEP, forwarding, mixing.
//!
//! Sans-IO: bytes and `now` go in; bytes, events and the next deadline come out.
//! There is no socket, clock, thread, lock or async in this crate, so a test runs minutes
//! of a lossy call in milliseconds. Randomness is an argument too, but for what the
//! libraries under [`transport`] draw from the operating system by themselves: a new
//! [`Certificate`](transport::Certificate), DTLS' nonces, SCTP's tags, the keys of hash
//! maps, which are never walked through. With the handshake left out, as in the simulator,
//! the same seed gives the same call twice.
#![deny(unsafe_code)]

pub mod codec;
pub mod ids;
pub mod jitter;
pub mod jsep;
pub mod mixer;
#[cfg(test)]
pub(crate) mod mutate;
pub mod rtp;
pub mod sfu;
pub mod srtp;
pub mod tone;
pub mod transport;
