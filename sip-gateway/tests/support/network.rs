//! A network namespace for one test: default ports are free in it, and nothing leaves the machine.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};

/// The machine's address inside. Telephones ignore loopback.
pub(crate) const HOST: &str = "10.78.0.1";

/// Moves this thread, and all threads and processes it starts from now on, into a new namespace. Gives `false`, after saying
/// so, where that is not permitted.
#[allow(clippy::print_stdout)]
pub(crate) fn isolated() -> bool {
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
        println!("skipped: permission for a network namespace not found ({error}); run as root");
        return false;
    }
    for arguments in [
        "link set lo up",
        "link add phones type veth peer name wire",
        "address add 10.78.0.1/24 dev phones",
        "link set phones up",
        "link set wire up",
        "route add default dev phones",
    ] {
        let status = Command::new("ip")
            .args(arguments.split(' '))
            .status()
            .expect("ip (package iproute2) is installed");
        assert!(status.success(), "ip {arguments}: {status}");
    }
    true
}
