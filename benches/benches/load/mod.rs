//! What the load benches share: the program as a process of its own, its CPU time, and guests.
//!
//! A guest speaks what a browser speaks: LiveKit's signals over a WebSocket, full ICE, DTLS, SRTP.
//! It has one thread with everything else of its bench, and is looked after by whoever owns it.
#![allow(dead_code)] // each bench uses its part

pub(crate) mod connection;
pub(crate) mod guest;
pub(crate) mod janus;
pub(crate) mod phone;
pub(crate) mod process;
