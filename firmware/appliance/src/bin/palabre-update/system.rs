//! The system's own programs, each for a bounded time.

use std::process::{Command, Stdio};

use super::Failed;

/// How long each may take, in seconds. More waits for a busy or broken box, while whoever asked, the page's service, gives up after
/// 20 s, or after 28 s for a support bundle: three or five are run for one question.
const PATIENCE: &str = "5";
/// What `timeout` ends with when it had to end the program.
const TOO_LONG: i32 = 124;

/// A program that is ended when it does not end by itself: neither an administrator nor the next question waits for it.
pub(crate) fn bounded(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args([PATIENCE, program]);
    command
}

/// Has systemd do it; returns before it is done, so that the answer gets out.
pub(crate) fn systemctl(what: &[&str]) -> Result<(), Failed> {
    system("systemctl", &[&["--no-block"], what].concat())
}

/// Before the network is read again with another VLAN, or none: the device that is there keeps its number and its address.
pub(crate) fn delete_vlan() {
    // It may be gone by itself.
    let _ = system("networkctl", &["delete", "palabre-vlan"]);
}

/// Runs one of the system's programs to its end.
pub(crate) fn system(program: &str, arguments: &[&str]) -> Result<(), Failed> {
    let done = bounded(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    let told = match done {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) if status.code() == Some(TOO_LONG) => {
            format!("it had not ended after {PATIENCE} s")
        }
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    Err(Failed::said(
        "system",
        format!("{program} {}: {told}", arguments.join(" ")),
    ))
}
