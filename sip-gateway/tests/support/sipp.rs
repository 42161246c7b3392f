//! SIPp and its built-in caller: INVITE, ACK, a pause, BYE.

use std::process::{Command, Stdio};

use super::network::HOST;

/// Makes `calls` calls to `user`, `rate` a second, over `transport` (`u1` or `t1`); gives how many succeeded.
pub(crate) fn uac(user: &str, calls: u32, rate: u32, transport: &str) -> u32 {
    let output = Command::new("sipp")
        .args([
            "-sn", "uac", "-s", user, "-t", transport, "-i", HOST, "-mi", HOST,
        ])
        .args([
            "-m",
            &calls.to_string(),
            "-r",
            &rate.to_string(),
            "-d",
            "500",
        ])
        .args([
            "-l",
            &(calls * 2).to_string(),
            "-timeout",
            "60s",
            "-nostdin",
            "-trace_screen",
        ])
        .args(["-screen_file", "/dev/stdout", "-screen_overwrite", "true"])
        .arg(format!("{HOST}:5060"))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .expect("sipp starts");
    let screen = String::from_utf8_lossy(&output.stdout);
    let line = screen
        .lines()
        .rev()
        .find(|line| line.contains("Successful call"));
    let line = line.unwrap_or_else(|| {
        panic!(
            "no statistics: {screen}{}",
            String::from_utf8_lossy(&output.stderr)
        )
    });
    line.rsplit('|')
        .next()
        .and_then(|count| count.trim().parse().ok())
        .unwrap_or_else(|| panic!("{line}"))
}
