//! What the tests with foreign telephones share: a network of their own, a telephone nobody here wrote, and rooms that hum.

pub(crate) mod baresip;
pub(crate) mod directory;
pub(crate) mod mixed;
pub(crate) mod rooms;
pub(crate) mod sipp;
pub(crate) mod sound;

pub(crate) use palabre_tests::network;
use std::time::{Duration, Instant};

/// Whether `program` is on the PATH; prints `skipped: ... not found` otherwise, which `tests/run` refuses.
#[allow(clippy::print_stdout)]
pub(crate) fn installed(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).exists()));
    if !found {
        println!("skipped: {program} not found");
    }
    found
}

/// Waits until `happened`, or fails naming `what`. It looks again and again, the only place here that does: counters and
/// other programs' recordings tell nobody when they change.
pub(crate) fn until(what: &str, seconds: u64, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !happened() {
        assert!(Instant::now() < deadline, "{what}: not within {seconds} s");
        std::thread::sleep(Duration::from_millis(20));
    }
}
