//! Palabre.
fn main() {}
