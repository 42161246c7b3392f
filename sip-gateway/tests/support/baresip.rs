//! baresip, driven over its control port: netstrings that hold JSON.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use palabre_sip::sip::Codec;
use palabre_tests::prompt::{self, Prompt};
use palabre_tests::sound::Recording;

use super::network::HOST;

/// Hertz of the tone it speaks.
pub(crate) const TONE: f64 = 440.0;

/// A telephone.
pub(crate) struct Baresip {
    folder: PathBuf,
    child: Child,
    control: BufReader<TcpStream>,
    events: VecDeque<Value>,
    count: u32,
    rate: u32,
    channels: usize,
}

impl Baresip {
    /// Starts one that offers PCMA and RFC 4733 keys, and speaks [`TONE`]; `name` is its user part.
    pub(crate) fn start(name: &str) -> Self {
        Self::speaking(name, Codec::Pcma, TONE)
    }

    /// Starts one that offers only `codec`, and speaks a tone of so many hertz.
    pub(crate) fn speaking(name: &str, codec: Codec, hertz: f64) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let started = STARTED.fetch_add(1, Ordering::Relaxed);
        let folder = format!("palabre-{name}-{}-{started}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        // What an earlier run left behind.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let (sip, control) = (free_port(), free_port());
        let (module, offer, rate, channels) = match codec {
            Codec::Pcma => ("g711", "PCMA/8000/1", 8_000, 1),
            Codec::Pcmu => ("g711", "PCMU/8000/1", 8_000, 1),
            Codec::G722 => ("g722", "G722/16000/1", 16_000, 1),
            Codec::Opus => ("opus", "opus/48000/2", 48_000, 2),
        };
        write_tone(&folder.join("tone.wav"), rate, channels, hertz);
        let at = folder.display();
        let config = format!(
            "sip_listen {HOST}:{sip}\npoll_method epoll\ncall_local_timeout 120\ncall_max_calls 4\n\
             audio_source aufile,{at}/tone.wav\naudio_player aubridge,sink\naudio_alert aubridge,alert\n\
             audio_srate {rate}\naudio_channels {channels}\nrtp_ports 30000-39999\nnet_af ipv4\n\
             jitter_buffer_delay 2-10\n\
             module_path /usr/lib/baresip/modules\nmodule stdio.so\nmodule {module}.so\nmodule aufile.so\n\
             module aubridge.so\nmodule sndfile.so\nsnd_path {at}\nmodule_tmp account.so\nmodule_app menu.so\n\
             module_app ctrl_tcp.so\nctrl_tcp_listen 127.0.0.1:{control}\n"
        );
        std::fs::write(folder.join("config"), config).unwrap();
        let account = format!("<sip:{name}@{HOST}:{sip}>;regint=0;audio_codecs={offer}\n");
        std::fs::write(folder.join("accounts"), account).unwrap();
        std::fs::write(folder.join("contacts"), "").unwrap();
        // Its lines are wanted when they are written, not when a buffer is full.
        let mut child = Command::new("stdbuf")
            .args(["-oL", "baresip", "-f"])
            .arg(&folder)
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(folder.join("errors")).unwrap())
            .stdout(Stdio::piped())
            .spawn()
            .expect("baresip starts");
        let said = BufReader::new(child.stdout.take().expect("piped"));
        let mut log = std::fs::File::create(folder.join("log")).unwrap();
        let (sender, ready) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                // The folder may be gone before the last words.
                let _ = writeln!(log, "{line}");
                if line.contains("baresip is ready") {
                    let _ = sender.send(());
                }
            }
        });
        let told = |error: &dyn std::fmt::Display| -> String {
            let text = |file| std::fs::read_to_string(folder.join(file)).unwrap_or_default();
            format!("{error}: {}{}", text("log"), text("errors"))
        };
        if let Err(error) = ready.recv_timeout(Duration::from_secs(20)) {
            let _ = child.kill();
            panic!("{}", told(&error));
        }
        let stream = TcpStream::connect(("127.0.0.1", control));
        let stream = stream.unwrap_or_else(|error| panic!("{}", told(&error)));
        Self {
            folder,
            child,
            control: BufReader::new(stream),
            events: VecDeque::new(),
            count: 0,
            rate,
            channels: usize::from(channels),
        }
    }

    /// Samples a second of what it heard.
    pub(crate) fn rate(&self) -> u32 {
        self.rate
    }

    fn command(&mut self, command: &str, params: &str) {
        self.count += 1;
        let token = self.count.to_string();
        let body = json!({"command": command, "params": params, "token": token}).to_string();
        let netstring = format!("{}:{body},", body.len());
        self.control
            .get_mut()
            .write_all(netstring.as_bytes())
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let message = self
                .read(deadline)
                .unwrap_or_else(|| panic!("no answer to {command}"));
            if message["response"] == true {
                if message["token"] == token.as_str() {
                    return;
                }
            } else {
                self.events.push_back(message);
            }
        }
    }

    fn read(&mut self, deadline: Instant) -> Option<Value> {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = left.max(Duration::from_millis(1));
        self.control.get_ref().set_read_timeout(Some(left)).unwrap();
        let mut length = Vec::new();
        self.control.read_until(b':', &mut length).ok()?;
        let length: usize = std::str::from_utf8(&length)
            .ok()?
            .trim_end_matches(':')
            .parse()
            .ok()?;
        let mut body = vec![0; length + 1];
        self.control.read_exact(&mut body).unwrap();
        serde_json::from_slice(&body[..length]).ok()
    }

    /// Waits for one of these events; gives its type and its text.
    pub(crate) fn wait(&mut self, kinds: &[&str], seconds: u64) -> (String, String) {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        loop {
            let event = match self.events.pop_front() {
                Some(event) => event,
                None => self.read(deadline).unwrap_or_else(|| {
                    let log = std::fs::read_to_string(self.folder.join("log")).unwrap();
                    panic!("none of {kinds:?} within {seconds} s: {log}")
                }),
            };
            let kind = event["type"].as_str().unwrap_or_default();
            if kinds.contains(&kind) {
                return (
                    kind.into(),
                    event["param"].as_str().unwrap_or_default().into(),
                );
            }
        }
    }

    /// Calls; gives what came of it.
    pub(crate) fn dial(&mut self, uri: &str) -> (String, String) {
        self.command("dial", uri);
        self.wait(&["CALL_ESTABLISHED", "CALL_CLOSED"], 40)
    }

    /// Presses keys, each for a tenth of a second.
    pub(crate) fn keys(&mut self, keys: &str) {
        for key in keys.chars() {
            self.command("sndcode", &key.to_string());
            // A key press lasts, and so does the silence after it: they are what is sent, not a wait for something.
            std::thread::sleep(Duration::from_millis(120));
            // Lets the key go: baresip then sends the end of the event.
            self.command("sndcode", "\u{4}");
            std::thread::sleep(Duration::from_millis(120));
        }
    }

    pub(crate) fn hold(&mut self) {
        self.command("hold", "");
    }

    pub(crate) fn resume(&mut self) {
        self.command("resume", "");
    }

    pub(crate) fn hang_up(&mut self) {
        self.command("hangup", "");
    }

    /// All it heard so far in this call, the first channel.
    pub(crate) fn heard(&self) -> Vec<i16> {
        let files = std::fs::read_dir(&self.folder).unwrap();
        let mut files: Vec<PathBuf> = files
            .map(|file| file.unwrap().path())
            .filter(|path| path.to_string_lossy().ends_with("dec.wav"))
            .collect();
        files.sort();
        let Some(last) = files.last() else {
            return Vec::new();
        };
        let file = std::fs::read(last).unwrap();
        // The header's lengths are written when the call ends.
        let data = file.windows(4).position(|four| four == b"data");
        let data = data.map_or(file.len(), |at| (at + 8).min(file.len()));
        file[data..]
            .chunks_exact(2 * self.channels)
            .map(|frame| i16::from_le_bytes([frame[0], frame[1]]))
            .collect()
    }
}

impl Baresip {
    /// What it heard in this call during these samples, as far as they have been heard.
    fn recording(&self, samples: Range<usize>) -> Recording {
        let heard = self.heard();
        let end = samples.end.min(heard.len());
        Recording {
            rate: self.rate,
            samples: heard[samples.start.min(end)..end].to_vec(),
        }
    }

    /// Checks that these prompts were said during these samples, in this order, and no other.
    pub(crate) fn heard_prompts(&self, samples: Range<usize>, prompts: &[&str]) {
        static SHIPPED: LazyLock<Vec<Prompt>> = LazyLock::new(prompt::shipped);
        let said = prompt::said(&SHIPPED, &self.recording(samples));
        assert_eq!(prompt::names(&said), prompts, "{said:.2?}");
    }

    /// Waits until `prompt` is said after sample `from`; gives the sample to go on from. Looks for nothing else, which takes
    /// long: the menu's patience runs on meanwhile.
    pub(crate) fn waits_for(&self, from: usize, prompt: &str, seconds: u64) -> usize {
        let only = [Prompt::new(prompt)];
        super::until(prompt, seconds, || {
            !prompt::said(&only, &self.recording(from..usize::MAX)).is_empty()
        });
        self.heard().len()
    }

    /// Waits for the last of these prompts and checks them all; gives the sample to go on from.
    pub(crate) fn hears_prompts(&self, from: usize, prompts: &[&str], seconds: u64) -> usize {
        let last = *prompts.last().expect("a prompt to wait for");
        let end = self.waits_for(from, last, seconds);
        self.heard_prompts(from..end, prompts);
        end
    }
}

impl Drop for Baresip {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Two minutes of the tone.
fn write_tone(path: &std::path::Path, rate: u32, channels: u16, hertz: f64) {
    const SECONDS: u32 = 120;
    let second: Vec<u8> = (0..rate)
        .flat_map(|n| {
            let turn = std::f64::consts::TAU * hertz * f64::from(n) / f64::from(rate);
            ((turn.sin() * 8_000.0) as i16)
                .to_le_bytes()
                .repeat(channels.into())
        })
        .collect();
    let length = second.len() as u32 * SECONDS;
    let mut file = b"RIFF".to_vec();
    file.extend((36 + length).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0");
    file.extend(channels.to_le_bytes());
    file.extend(rate.to_le_bytes());
    file.extend((rate * 2 * u32::from(channels)).to_le_bytes());
    file.extend((2 * channels).to_le_bytes());
    file.extend([16, 0]);
    file.extend(b"data");
    file.extend(length.to_le_bytes());
    for _ in 0..SECONDS {
        file.extend(&second);
    }
    std::fs::write(path, file).unwrap();
}
