//! Palabre's media core: RTP and RTCP, SRTP, transports, JSEP, forwarding, mixing.
//!
//! Sans-IO: bytes and `now` go in; bytes, events and the next deadline come out.
//! There is no socket, clock, thread, lock, async or ambient randomness in this
//! crate, so a test runs minutes of a lossy call in milliseconds and the same seed
//! gives the same call twice.
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
pub mod transport;
