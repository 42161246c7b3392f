//! The HTTP plane.

mod secret;
pub mod store;

pub use secret::Secret;
