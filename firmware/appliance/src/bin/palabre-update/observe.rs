//! What the trial looks at: sockets, files and a clock. The verdict is `health`'s.

use std::fs;
use std::io;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use palabre_appliance::arguments::Usage;
use palabre_appliance::health::{Check, Failure, SyntheticCall};

/// How long the program may take to say that it is ready.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a call may take. In emulation one takes 10 s.
const CALL: Duration = Duration::from_secs(60);
/// Between two calls: each costs what a participant costs.
const CALL_EVERY: Duration = Duration::from_secs(60);
/// No clock of a box is before this: 2025-01-01.
const EARLIEST: u64 = 1_735_689_600;

/// The checks, and what the last call found.
pub(crate) struct Watch {
    address: SocketAddr,
    path: String,
    call: Option<CallCommand>,
    called: Option<(Instant, Result<(), String>)>,
}

impl Watch {
    /// Looks at `url`, which is `http://` with an address, and calls with the command.
    pub(crate) fn new(url: &str, call: Option<String>) -> Result<Self, Usage> {
        let parts = url
            .strip_prefix("http://")
            .and_then(|rest| rest.split_once('/'));
        let (address, path) =
            parts.ok_or_else(|| Usage("--url is http://ADDRESS:PORT/PATH".to_owned()))?;
        let plain = path.bytes().all(|b| b.is_ascii_graphic());
        let bare = |address: &str| Some(SocketAddr::new(address.parse().ok()?, 80));
        let address = address.parse().ok().or_else(|| bare(address));
        let address = address.filter(|_| plain);
        Ok(Self {
            address: address
                .ok_or_else(|| Usage("--url is http://ADDRESS:PORT/PATH".to_owned()))?,
            path: format!("/{path}"),
            call: call.map(CallCommand),
            called: None,
        })
    }

    /// Looks at everything once. `state` is a folder of the data partition; `created` is when the
    /// image was made.
    pub(crate) fn look(&mut self, state: &Path, created: u64) -> Vec<Failure> {
        let mut failures = Vec::new();
        let mut note = |check, result: Result<(), String>| {
            if let Err(why) = result {
                failures.push(Failure { check, why });
            }
        };
        let ready = self.ready();
        let answers = ready.is_ok();
        note(Check::Program, ready);
        // A program that is not ready has nobody to answer a call.
        if answers {
            note(Check::Call, self.call());
        }
        note(Check::Disk, writable(state));
        let now = std::time::UNIX_EPOCH
            .elapsed()
            .map_or(0, |age| age.as_secs());
        if now < created.max(EARLIEST) {
            note(
                Check::Clock,
                Err(format!(
                    "the clock says {now} s, which is before this version was made"
                )),
            );
        }
        failures
    }

    fn ready(&self) -> Result<(), String> {
        let deadline = Instant::now() + ANSWER;
        let asked = || -> io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&self.address, ANSWER)?;
            stream.set_write_timeout(Some(ANSWER))?;
            // In one piece: a server may answer and close at the first.
            let request = format!(
                "GET {} HTTP/1.0\r\nHost: {}\r\n\r\n",
                self.path, self.address
            );
            stream.write_all(request.as_bytes())?;
            let mut answer = Vec::new();
            // The status line is enough, and a slow drip is as good as silence.
            while answer.len() < 12 {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                stream.set_read_timeout(Some(left))?;
                let mut piece = [0; 64];
                match stream.read(&mut piece)? {
                    0 => break,
                    length => answer.extend(&piece[..length]),
                }
            }
            answer.truncate(12);
            Ok(String::from_utf8_lossy(&answer).into_owned())
        };
        match asked() {
            Ok(answer) if answer.starts_with("HTTP/1.") && answer.ends_with(" 200") => Ok(()),
            Ok(answer) => Err(format!("it answers {answer:?} instead of 200")),
            Err(error) => Err(format!("it does not answer: {error}")),
        }
    }

    fn call(&mut self) -> Result<(), String> {
        let Some(call) = &mut self.call else {
            return Ok(());
        };
        if let Some((when, found)) = &self.called
            && found.is_ok()
            && when.elapsed() < CALL_EVERY
        {
            return Ok(());
        }
        let found = call.call();
        self.called = Some((Instant::now(), found.clone()));
        found
    }
}

/// A call made by another program, which exits with 0 when it heard its tone.
struct CallCommand(String);

impl SyntheticCall for CallCommand {
    fn call(&mut self) -> Result<(), String> {
        let mut words = self.0.split_ascii_whitespace();
        let program = words.next().ok_or("no program to call with")?;
        let mut child = Command::new(program)
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?;
        let deadline = Instant::now() + CALL;
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("the synthetic call failed ({status})")),
                Ok(None) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(100))
                }
                Ok(None) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("the synthetic call hung for {} s", CALL.as_secs()));
                }
                Err(error) => return Err(format!("{program}: {error}")),
            }
        }
    }
}

/// Whether the data partition takes a write. A full one does its duty.
fn writable(state: &Path) -> Result<(), String> {
    let path = state.join("health.probe");
    let written = fs::create_dir_all(state)
        .and_then(|()| fs::File::create(&path))
        .and_then(|mut file| file.write_all(b"written").and_then(|()| file.sync_all()));
    let _ = fs::remove_file(&path);
    match written {
        Err(error) if error.kind() != io::ErrorKind::StorageFull => {
            Err(format!("{} cannot be written: {error}", state.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_port_means_80() {
        let address = |url: &str| Watch::new(url, None).map(|watch| watch.address.to_string());
        assert_eq!(address("http://127.0.0.1/readyz").unwrap(), "127.0.0.1:80");
        assert_eq!(
            address("http://127.0.0.1:8080/readyz").unwrap(),
            "127.0.0.1:8080"
        );
        assert_eq!(address("http://[::1]:81/readyz").unwrap(), "[::1]:81");
        for wrong in [
            "https://127.0.0.1/",
            "http://localhost/",
            "http://127.0.0.1",
            "http://127.0.0.1/a b",
        ] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
