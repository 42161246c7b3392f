//! The program `palabre`: joins the parts, and nothing else.

mod config;

fn main() {}
