//! A network of one's own: every end-to-end test runs in a fresh network namespace, so that
//! default ports are free and nothing leaves the machine.

use nix::sched::{CloneFlags, unshare};
use std::process::Command;

/// Address of the machine inside the namespace, on a veth pair. Telephones and browsers
/// ignore loopback, so they need one.
pub const HOST: &str = "10.77.0.1";

/// Moves this thread, and every process it starts from now on, into a new network namespace.
///
/// Gives `false`, after printing `skipped: ...`, where that is not permitted (it needs root).
///
/// # Panics
/// When the namespace is there but cannot be set up.
#[must_use]
#[allow(clippy::print_stdout)]
pub fn isolated() -> bool {
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
        println!("skipped: permission for a network namespace not found ({error}); run as root");
        return false;
    }
    for arguments in [
        "link set lo up",
        "link add wire0 type veth peer name wire1",
        "address add 10.77.0.1/24 dev wire0",
        "link set wire0 up",
        "link set wire1 up",
        "route add default dev wire0",
    ] {
        ip(arguments);
    }
    true
}

/// Gives the machine one more address, with the length of its prefix, inside the namespace, and a way out to others of its
/// kind.
///
/// # Panics
/// When it is no address, or there already.
pub fn address(address: &str) {
    if address.contains(':') {
        // Nobody else is there to have the same: it can be used at once.
        ip(&format!("address add {address} nodad dev wire0"));
        ip("-6 route replace default dev wire0");
    } else {
        ip(&format!("address add {address} dev wire0"));
    }
}

/// Takes the machine's default routes away, as on a network of its own that leads nowhere else.
///
/// # Panics
/// When the routes cannot be taken away.
pub fn without_way_out() {
    ip("-4 route flush exact default");
    ip("-6 route flush exact default");
}

fn ip(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .status()
        .expect("ip (package iproute2) is installed");
    assert!(status.success(), "ip {arguments}: {status}");
}
