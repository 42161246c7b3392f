//! What Palabre's cross-part tests stand on: foreign peers driven as child processes, the
//! program itself, and ears.
//!
//! A test whose peer is absent prints `skipped: ... not found`; `tests/run` installs every
//! peer and fails when anything was skipped.

#[path = "../../firmware/appliance/tests/support/bench.rs"]
pub mod bench;
pub mod call;
pub mod disk;
pub mod endpoint;
pub mod hearing;
pub mod netsim;
pub mod network;
pub mod peer;
pub mod program;
pub mod prompt;
pub mod sound;
