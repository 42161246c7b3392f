//! What the trial looks at: sockets, files and a clock. The verdict is `health`'s.

use std::fs;
use std::io;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use palabre_appliance::arguments::Usage;
use palabre_appliance::health::{Check, Failure, SyntheticCall};

use super::plain_http::{STATUS, Url, is_ok};

/// How long the program may take to say that it is ready.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a call may take. In emulation one takes 10 s.
const CALL: Duration = Duration::from_secs(60);
/// How often a program that is not ready yet is asked again. A higher value lets a power cut soon
/// after the start count as a start that never served.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Between two calls: each costs what a participant costs.
const CALL_EVERY: Duration = Duration::from_secs(60);
/// Bytes kept of what a failed call says.
const SAID: u64 = 4096;
/// Characters of it that are told: a sentence.
const TOLD: usize = 300;
/// How long a call that has ended may hold back its last words.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// No clock of a box is before this: 2025-01-01.
const EARLIEST: u64 = 1_735_689_600;

/// The checks, and what the last call found.
pub(crate) struct Watch {
    url: Url,
    call: Option<CallCommand>,
    called: Option<(Instant, Result<(), String>)>,
}

impl Watch {
    /// Looks at `url`, which is `http://` with an address, and calls with the command, as `user` if one is named.
    pub(crate) fn new(url: &str, call: Option<String>, user: Option<&str>) -> Result<Self, Usage> {
        Ok(Self {
            url: Url::parse(url)?,
            call: match call {
                Some(words) => Some(CallCommand {
                    words,
                    user: user.map(Account::named).transpose()?,
                }),
                None => None,
            },
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

    /// Waits until the program is ready, for so long.
    pub(crate) fn serves_within(&self, limit: Duration) -> bool {
        let began = Instant::now();
        while self.ready().is_err() {
            if began.elapsed() >= limit {
                return false;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        true
    }

    fn ready(&self) -> Result<(), String> {
        match self.url.get(STATUS, ANSWER) {
            Ok(answer) if is_ok(&answer) => Ok(()),
            Ok(answer) => {
                let answer = String::from_utf8_lossy(&answer);
                Err(format!("it answers {answer:?} instead of 200"))
            }
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

/// A call made by another program, which exits with 0 when it heard its tone, and else says why on its standard error.
struct CallCommand {
    words: String,
    /// Whose rights it has; ours when nobody is named.
    user: Option<Account>,
}

/// A user of this box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    fn named(name: &str) -> Result<Self, Usage> {
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        Self::among(&users, name).ok_or_else(|| Usage(format!("--call-as: no user {name} here")))
    }

    /// From a list in the form of passwd(5).
    fn among(users: &str, name: &str) -> Option<Self> {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let is_it = fields.next()? == name;
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            is_it.then_some(Self { uid, gid })
        })
    }
}

impl SyntheticCall for CallCommand {
    fn call(&mut self) -> Result<(), String> {
        let mut words = self.words.split_ascii_whitespace();
        let program = words.next().ok_or("no program to call with")?;
        let mut command = Command::new(program);
        if let Some(Account { uid, gid }) = self.user {
            // Supplementary groups of ours go with it.
            command.uid(uid).gid(gid);
        }
        let mut child = command
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?;
        let said = child.stderr.take().map(listen);
        let deadline = Instant::now() + CALL;
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => {
                    let said = said.map(|said| beginning(&said));
                    return Err(match reason(&said.unwrap_or_default()) {
                        Some(reason) => format!("the call failed: {reason}"),
                        None => format!("the call failed ({status})"),
                    });
                }
                Ok(None) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(100))
                }
                Ok(None) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("the call hung for {} s", CALL.as_secs()));
                }
                Err(error) => return Err(format!("{program}: {error}")),
            }
        }
    }
}

/// Reads what is said to its end, so that nobody waits for us, and gives the beginning as it comes.
fn listen(mut from: ChildStderr) -> Receiver<Vec<u8>> {
    let (tell, said) = channel();
    std::thread::spawn(move || {
        let mut beginning = from.by_ref().take(SAID);
        let mut piece = [0; 512];
        while let Ok(length @ 1..) = beginning.read(&mut piece) {
            let _ = tell.send(piece[..length].to_vec());
        }
        drop(tell);
        let _ = io::copy(&mut from, &mut io::sink());
    });
    said
}

/// What was said until now: all of it, unless somebody who is left behind still holds the line.
fn beginning(said: &Receiver<Vec<u8>>) -> Vec<u8> {
    let deadline = Instant::now() + LAST_WORDS;
    let next = || {
        let left = deadline.saturating_duration_since(Instant::now());
        said.recv_timeout(left).ok()
    };
    std::iter::from_fn(next).flatten().collect()
}

/// The first line with something in it, in printable characters.
fn reason(said: &[u8]) -> Option<String> {
    let said = String::from_utf8_lossy(said);
    let line = said.lines().map(str::trim).find(|line| !line.is_empty())?;
    let plain = line.chars().filter(|c| !c.is_control());
    Some(plain.take(TOLD).collect())
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
    fn a_failed_call_gives_its_first_line_and_no_more() {
        let call = |script: &str| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("call");
            fs::write(&path, script).unwrap();
            let words = format!("/bin/sh {}", path.display());
            CallCommand { words, user: None }.call()
        };
        assert_eq!(call("exit 0"), Ok(()));
        assert_eq!(
            call("echo; echo 'mixer-sound: silence' >&2; echo more >&2; exit 1"),
            Err("the call failed: mixer-sound: silence".into())
        );
        assert_eq!(
            call("exit 3"),
            Err("the call failed (exit status: 3)".into())
        );
        // What is said without an end holds nobody up.
        let long = call("printf '\\033[1m'; head -c 1000000 /dev/zero | tr '\\0' x; exit 1");
        assert_eq!(long, Err("the call failed (exit status: 1)".into()));
        let long = call("(printf '\\033[1m'; head -c 1000000 /dev/zero | tr '\\0' x) >&2; exit 1");
        let told = long.expect_err("it failed");
        assert_eq!(told.len(), "the call failed: ".len() + TOLD);
        assert!(!told.contains(char::is_control), "{told}");
        // Nor who leaves somebody behind that holds the line.
        let left = call("echo 'ice: no' >&2; sleep 20 & exit 1");
        assert_eq!(left, Err("the call failed: ice: no".into()));
    }

    #[test]
    fn a_user_is_found_by_name() {
        let users = "root:x:0:0:root:/root:/bin/sh\nbroken\npalabre:x:900:901::/:/bin/false\n";
        let found = Account::among(users, "palabre");
        assert_eq!(found, Some(Account { uid: 900, gid: 901 }));
        assert_eq!(Account::among(users, "palabr"), None);
        assert_eq!(Account::among(users, ""), None);
        assert!(Watch::new("http://127.0.0.1/", Some("x".into()), Some("no one")).is_err());
    }
}
