//! The HTTP plane over real sockets: every route, every refusal, and a store that survives a kill.

mod access;
mod api;
mod durable;
mod limits;
mod pages;
mod restart;
mod rtc;
mod server;
mod synthetic;
mod tls;
mod twirp;
