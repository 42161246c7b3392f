//! What the load benches share: the program as a process of its own, its CPU time, and how guests
//! get into a room of it. What guests and telephones speak is `palabre_call`'s.
#![allow(dead_code)] // each bench uses its part

pub(crate) mod crowd;
pub(crate) mod janus;
pub(crate) mod join;
pub(crate) mod process;
