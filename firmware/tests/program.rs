//! The program as an operator meets it: what it prints, and what it says when it cannot start.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("palabre-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A program that does not end by itself.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the program in `folder` on ports the system chooses, unless `keys` say otherwise; it must end.
fn palabre(folder: &Folder, arguments: &[&str], keys: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_palabre"));
    command
        .args(arguments)
        .current_dir(&folder.0)
        .env("PALABRE__HTTP__BIND", "127.0.0.1:0")
        .env("PALABRE__MEDIA__BIND", "127.0.0.1:0")
        .env("PALABRE__SIP__BIND", "127.0.0.1:0");
    for (key, value) in keys {
        command.env(key, value);
    }
    command.output().expect("the program starts")
}

fn refusal(output: &Output) -> String {
    assert!(!output.status.success(), "it started: {output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_configuration_is_printed_with_its_comments() {
    let folder = Folder::new("config");
    let output = palabre(&folder, &["config"], &[("PALABRE__MIXER__TALKERS", "16")]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(text.contains("talkers = 16"), "{text}");
    assert!(text.contains("# Voices mixed at once"), "{text}");
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_name() {
    let folder = Folder::new("key");
    std::fs::write(folder.0.join("palabre.toml"), "[mixer]\ntalker = 5\n").expect("a file");
    let said = refusal(&palabre(&folder, &[], &[]));
    assert!(said.contains("palabre.toml, line 2"), "{said}");
    assert!(said.contains("did you mean `talkers`?"), "{said}");
}

#[test]
fn a_taken_port_is_named_with_the_key_to_change() {
    let folder = Folder::new("port");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let (tcp, udp) = (
        (tcp.local_addr().expect("bound").to_string(), tcp),
        (udp.local_addr().expect("bound").to_string(), udp),
    );
    for (variable, taken, key) in [
        ("PALABRE__HTTP__BIND", &tcp.0, "http.bind"),
        ("PALABRE__MEDIA__BIND", &udp.0, "media.bind"),
        ("PALABRE__SIP__BIND", &udp.0, "sip.bind"),
    ] {
        let said = refusal(&palabre(&folder, &[], &[(variable, taken)]));
        let port = taken.rsplit(':').next().expect("a port");
        assert!(
            said.contains(port) && said.contains(key),
            "{variable}: {said}"
        );
    }
}

#[test]
fn https_that_cannot_be_served_is_refused_with_its_file_and_its_key() {
    let folder = Folder::new("tls");
    let certificate = ("PALABRE__HTTP__TLS_CERTIFICATE", "c.pem");
    let key = ("PALABRE__HTTP__TLS_KEY", "k.pem");
    let said = refusal(&palabre(&folder, &[], &[certificate]));
    assert!(said.contains("set http.tls_key too"), "{said}");
    let said = refusal(&palabre(&folder, &[], &[certificate, key]));
    let wanted = "cannot read c.pem (key http.tls_certificate)";
    assert!(said.contains(wanted), "{said}");
}

#[test]
fn a_folder_that_cannot_be_used_is_named() {
    let folder = Folder::new("folder");
    std::fs::write(folder.0.join("data"), "not a folder").expect("a file");
    let said = refusal(&palabre(&folder, &[], &[]));
    assert!(said.contains("data"), "{said}");
}

/// A program that was started, and what it says.
struct Started {
    running: Running,
    said: std::io::Lines<BufReader<ChildStdout>>,
    page: String,
}

impl Started {
    fn new(folder: &Folder) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_palabre"))
            .current_dir(&folder.0)
            .env("PALABRE__HTTP__BIND", "127.0.0.1:0")
            .env("PALABRE__MEDIA__BIND", "127.0.0.1:0")
            .env("PALABRE__SIP__BIND", "127.0.0.1:0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let mut running = Running(child);
        let said = BufReader::new(running.0.stdout.take().expect("piped")).lines();
        let mut started = Self {
            running,
            said,
            page: String::new(),
        };
        let page = started.next("  Page");
        let page = page.split("http://").nth(1).expect("an address");
        page.trim_end_matches('/').clone_into(&mut started.page);
        started
    }

    /// The next line that starts so.
    fn next(&mut self, start: &str) -> String {
        let mut lines = self.said.by_ref().map(|line| line.expect("text"));
        let line = lines.find(|line| line.starts_with(start));
        line.unwrap_or_else(|| panic!("it ended without {start:?}"))
    }

    fn claim_code(&mut self) -> String {
        let line = self.next("  Claim code");
        line.split_whitespace().nth(2).expect("a code").to_owned()
    }

    /// What it answers to this, from its page.
    fn post(&self, path: &str, body: &str) -> String {
        let page = &self.page;
        let mut stream = TcpStream::connect(page).expect("it listens");
        let length = body.len();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: {page}\r\nOrigin: http://{page}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }

    /// Memory that is its own, in KiB.
    fn memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.running.0.id());
        let status = std::fs::read_to_string(status).expect("it runs");
        let own = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let own = own.and_then(|line| line.trim().strip_suffix(" kB"));
        own.and_then(|own| own.trim().parse().ok()).expect("a size")
    }
}

/// The screen of a room shows the code until this line.
#[test]
fn who_stands_before_the_screen_is_told_that_the_box_was_claimed() {
    let folder = Folder::new("claim");
    let mut started = Started::new(&folder);
    let code = started.claim_code();
    let body = format!(r#"{{"code":"{code}","password":"correct horse battery"}}"#);
    let answer = started.post("/api/v1/claim", &body);
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    let claimed = started.next("  Claimed");
    assert!(!claimed.contains(&code), "{claimed}");
}

/// Each hash takes 19 MiB: kept for every thread that ever hashed, they would fill a box.
#[test]
fn signing_in_again_and_again_takes_no_more_memory() {
    let folder = Folder::new("memory");
    let mut started = Started::new(&folder);
    let code = started.claim_code();
    let body = format!(r#"{{"code":"{code}","password":"correct horse battery"}}"#);
    started.post("/api/v1/claim", &body);
    let before = started.memory();
    // Four at a time: as many as want to, two get their turn.
    for _ in 0..4 {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let answer =
                        started.post("/api/v1/session", r#"{"password":"correct horse battery"}"#);
                    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
                });
            }
        });
    }
    let more = started.memory().saturating_sub(before);
    // The second of two places, and what else 16 requests leave.
    assert!(more < 30 * 1024, "{more} KiB more than {before}");
}
