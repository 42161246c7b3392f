//! A foreign peer in a process of its own, spoken to in JSON lines (see `tests/peers/`): a command in, an answer out, and
//! `{"event": ...}` whenever something happens to it.

use crate::prompt::{self, Prompt};
use crate::sound::{Dbfs, Recording, write_wav};
use base64::Engine as _;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How long a peer may take for one command: these machines are slow and shared.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a state that no event tells of (frames decoded, the text of a page) is asked for again.
const LOOK: Duration = Duration::from_millis(150);

/// A browser, an SDK or a telephone that nobody here wrote.
pub struct Peer {
    name: String,
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<Value>,
    /// All that happened to it so far, as it told.
    events: Vec<Value>,
    count: u64,
}

/// Folder of the peers' scripts.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

/// Why a peer cannot be run here.
///
/// Prints `skipped: ... not found`, which `tests/run` counts and refuses.
#[allow(clippy::print_stdout)]
fn absent(what: &str) -> Option<Peer> {
    println!("skipped: {what} not found");
    None
}

fn python() -> Option<PathBuf> {
    let configured = std::env::var_os("PALABRE_TEST_PYTHON").map(PathBuf::from);
    configured
        .into_iter()
        .chain([folder().join(".venv/bin/python")])
        .find(|p| p.exists())
}

fn installed(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).exists()))
}

impl Peer {
    /// Headless Chromium whose microphone plays `tone`; `None` when something is missing.
    #[must_use]
    pub fn chromium(name: &str, tone: Option<&Path>) -> Option<Self> {
        if !installed("node") {
            return absent("node");
        }
        if !installed("chromium") && std::env::var_os("CHROMIUM").is_none() {
            return absent("chromium");
        }
        if !folder().join("node_modules/livekit-client").exists() {
            return absent("livekit-client (npm ci in tests/peers)");
        }
        let mut command = Command::new("node");
        command.arg(folder().join("browser.mjs"));
        if let Some(tone) = tone {
            command.arg(tone);
        }
        Some(Self::spawn(name, command))
    }

    /// The PyPI `livekit` client.
    #[must_use]
    pub fn sdk(name: &str) -> Option<Self> {
        let Some(python) = python() else {
            return absent("python environment with livekit (tests/peers/.venv)");
        };
        let mut command = Command::new(python);
        command.arg(folder().join("sdk.py"));
        Some(Self::spawn(name, command))
    }

    /// A baresip telephone offering `codecs` (comma separated) that plays a sine of `hertz` at -12 dBFS.
    #[must_use]
    pub fn phone(name: &str, codecs: &str, hertz: u32, address: &str) -> Option<Self> {
        Self::phone_at(name, codecs, hertz, address, -12.0)
    }

    /// The same, at a level of its own.
    #[must_use]
    pub fn phone_at(
        name: &str,
        codecs: &str,
        hertz: u32,
        address: &str,
        level: Dbfs,
    ) -> Option<Self> {
        if !installed("baresip") {
            return absent("baresip");
        }
        let Some(python) = python() else {
            return absent("python environment (tests/peers/.venv)");
        };
        let mut command = Command::new(python);
        command
            .arg(folder().join("phone.py"))
            .arg(codecs)
            .arg(hertz.to_string())
            .arg(address)
            .arg(level.to_string());
        Some(Self::spawn(name, command))
    }

    fn spawn(name: &str, mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{name} does not start: {e}"));
        let stdout = child.stdout.take().expect("stdout is piped");
        let stdin = child.stdin.take().expect("stdin is piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Libraries print as they like: what is no JSON is not for us.
                if let Ok(value) = serde_json::from_str(&line)
                    && sender.send(value).is_err()
                {
                    break;
                }
            }
        });
        let mut peer = Self {
            name: name.to_owned(),
            child,
            stdin,
            lines,
            events: Vec::new(),
            count: 0,
        };
        peer.answer_where(|a| a.get("ready").is_some());
        peer
    }

    /// The next answer, if one comes before `deadline`; events that come before it are kept.
    fn answer(&mut self, deadline: Instant) -> Option<Value> {
        loop {
            let mut line = self.line(deadline)?;
            match line.get_mut("event") {
                Some(event) => self.events.push(event.take()),
                None => return Some(line),
            }
        }
    }

    /// The next line, if one comes before `deadline`.
    fn line(&mut self, deadline: Instant) -> Option<Value> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => panic!("{} ended unexpectedly", self.name),
        }
    }

    fn answer_where(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.answer(deadline);
            let answer = answer
                .unwrap_or_else(|| panic!("{} gave no answer within {PATIENCE:?}", self.name));
            if wanted(&answer) {
                return answer;
            }
        }
    }

    /// Sends a command and gives back its result, or the peer's own error text.
    ///
    /// # Errors
    /// What the peer said went wrong.
    pub fn attempt(&mut self, mut command: Value) -> Result<Value, String> {
        self.count += 1;
        let id = self.count;
        command["id"] = json!(id);
        writeln!(self.stdin, "{command}").map_err(|e| format!("{} is gone: {e}", self.name))?;
        let answer = self.answer_where(|a| a["id"] == json!(id));
        match answer.get("error") {
            Some(error) => Err(error.as_str().unwrap_or_default().to_owned()),
            None => Ok(answer["ok"].clone()),
        }
    }

    /// Sends a command that must succeed.
    ///
    /// # Panics
    /// With the peer's error when it does not.
    pub fn call(&mut self, command: Value) -> Value {
        let shown = command["do"].as_str().unwrap_or_default().to_owned();
        match self.attempt(command) {
            Ok(result) => result,
            Err(error) => panic!("{}: {shown}: {error}", self.name),
        }
    }

    /// Asks again until the answer satisfies `wanted`: as soon as anything happens to the peer, and now and then for what no
    /// event tells of.
    ///
    /// # Panics
    /// When it does not within `seconds`.
    pub fn until(
        &mut self,
        what: &str,
        seconds: u64,
        command: &Value,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        loop {
            let answer = self.call(command.clone());
            if wanted(&answer) {
                return answer;
            }
            assert!(
                Instant::now() < deadline,
                "{}: {what}: not within {seconds} s; last answer {answer:.2000}",
                self.name
            );
            self.listen(Instant::now() + LOOK);
        }
    }

    /// Waits for one event to come, at most until `deadline`; whether one came.
    fn listen(&mut self, deadline: Instant) -> bool {
        match self.line(deadline) {
            Some(mut line) => {
                // No command is under way: a late answer is of one that was given up.
                self.events.extend(line.get_mut("event").map(Value::take));
                true
            }
            None => false,
        }
    }

    /// Waits for an event of `kind` that satisfies `wanted`, or finds that it has come already.
    ///
    /// # Panics
    /// When none comes within `seconds`.
    pub fn event(&mut self, kind: &str, seconds: u64, wanted: impl Fn(&Value) -> bool) {
        assert!(
            self.comes(kind, Duration::from_secs(seconds), wanted),
            "{}: event {kind}: not within {seconds} s; {:.2000}",
            self.name,
            json!(self.events)
        );
    }

    /// Whether an event of `kind` that satisfies `wanted` comes within `patience`, or has come already.
    pub fn comes(
        &mut self,
        kind: &str,
        patience: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> bool {
        let deadline = Instant::now() + patience;
        let mut seen = 0;
        loop {
            let new = &self.events[seen..];
            if new.iter().any(|e| e["kind"] == json!(kind) && wanted(e)) {
                return true;
            }
            seen = self.events.len();
            if !self.listen(deadline) {
                return false;
            }
        }
    }

    /// All that happened to it, as far as it has told.
    #[must_use]
    pub fn events(&self) -> &[Value] {
        &self.events
    }

    /// What this browser or SDK hears from each participant during `milliseconds`.
    pub fn hear(&mut self, milliseconds: u64) -> BTreeMap<String, Recording> {
        let heard = self.call(json!({"do": "hear", "milliseconds": milliseconds}));
        let Some(heard) = heard.as_object() else {
            return BTreeMap::new();
        };
        heard
            .iter()
            .map(|(who, pcm)| (who.clone(), Recording::from_bytes(48_000, &decode(pcm))))
            .collect()
    }

    /// What this telephone hears during `milliseconds`.
    pub fn hear_line(&mut self, milliseconds: u64) -> Recording {
        self.hear_line_behind(milliseconds).0
    }

    /// The same, and for how many seconds of its beginning this telephone was behind: that had reached
    /// it before, but it had not come to decode it.
    pub fn hear_line_behind(&mut self, milliseconds: u64) -> (Recording, f64) {
        let heard = self.call(json!({"do": "hear", "milliseconds": milliseconds}));
        let behind = heard["behind"].as_f64().expect("a telephone says it");
        (recording(&heard), behind)
    }

    /// All that this telephone has heard since it dialled.
    pub fn heard_all(&mut self) -> Recording {
        recording(&self.call(json!({"do": "heard_all"})))
    }

    /// Listens until `prompt` has been said on this telephone after sample `from` of its recording; gives the sample to go on
    /// from. Looks for no other prompt, which takes seconds: the menu's patience runs on meanwhile.
    ///
    /// # Panics
    /// When it is not said within `seconds`.
    pub fn waits_for_prompt(&mut self, from: usize, prompt: &str, seconds: u64) -> usize {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        let wanted = [Prompt::new(prompt)];
        loop {
            let all = self.heard_all();
            if !prompt::said(&wanted, &part(&all, from..usize::MAX)).is_empty() {
                return all.samples.len();
            }
            if Instant::now() >= deadline {
                let said = prompt::said(&prompt::shipped(), &part(&all, from..usize::MAX));
                panic!("{}: no {prompt} within {seconds} s: {said:.2?}", self.name);
            }
            self.hear_line(300);
        }
    }

    /// Checks that these prompts were said during these samples of its recording, in this order and no other.
    ///
    /// # Panics
    /// When others were.
    pub fn heard_prompts(&mut self, samples: Range<usize>, prompts: &[&str]) {
        let heard = part(&self.heard_all(), samples);
        let said = prompt::said(&prompt::shipped(), &heard);
        let names = prompt::names(&said);
        assert_eq!(names, prompts, "{}: {said:.2?}", self.name);
    }
}

/// These samples of a recording, as far as it has them.
fn part(all: &Recording, samples: Range<usize>) -> Recording {
    let end = samples.end.min(all.samples.len());
    Recording {
        rate: all.rate,
        samples: all.samples[samples.start.min(end)..end].to_vec(),
    }
}

fn recording(answer: &Value) -> Recording {
    let rate = answer["rate"]
        .as_u64()
        .and_then(|r| u32::try_from(r).ok())
        .unwrap_or(8_000);
    Recording::from_bytes(rate, &decode(&answer["pcm"]))
}

fn decode(pcm: &Value) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD
        .decode(pcm.as_str().unwrap_or_default())
        .expect("peers send base64")
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = writeln!(self.stdin, "{{\"do\":\"quit\"}}");
        // Its output ends when it does.
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut last = Ok(Value::Null);
        while last.is_ok() {
            let left = deadline.saturating_duration_since(Instant::now());
            last = self.lines.recv_timeout(left);
        }
        if last == Err(RecvTimeoutError::Timeout) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// Writes a sine of `hertz` at -12 dBFS, for as long as a test lasts, as 48 kHz WAV.
///
/// # Panics
/// When the file cannot be written.
pub fn write_tone(path: &Path, hertz: u32) {
    const RATE: u32 = 48_000;
    // Chromium begins the file again with a gap: longer than any test, so that none is heard.
    const SECONDS: u32 = 240;
    let samples: Vec<i16> = (0..RATE * SECONDS)
        .map(|n| {
            let phase = std::f64::consts::TAU * f64::from(hertz) * f64::from(n) / f64::from(RATE);
            (phase.sin() * 8_231.0).round() as i16
        })
        .collect();
    // A test that is killed here leaves no half of a file under the name.
    let partial = path.with_extension("partial");
    write_wav(&partial, RATE, &samples);
    std::fs::rename(&partial, path).expect("a tone file can be renamed");
}
