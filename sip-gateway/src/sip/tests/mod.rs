//! Tests of the core as a whole: two endpoints over a simulated network, and one endpoint against hand-written messages.

mod call;
mod connections;
mod harness;
mod hostile;
mod identity;
mod inbound;
mod torture;
