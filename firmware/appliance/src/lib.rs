//! The life of the box: which updates it believes, where it writes them, which version starts,
//! when a new one has proved good, and how it gets its name, its network and its certificate.
//!
//! The program `palabre-update` is the shell around this library; the admin plane uses the types.
//! A library for one machine and its owner: it trusts the file system it runs on, and no file that
//! comes from outside.

pub mod arguments;
pub mod boot;
pub mod bundle;
pub mod certificate;
pub mod health;
pub mod history;
pub mod kept;
pub mod keys;
pub mod pair;
pub mod program;
pub mod protection;
pub mod provision;
pub mod redact;
pub mod service;
pub mod signature;
pub mod slots;
pub mod starts;
pub mod stick;
