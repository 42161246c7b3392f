//! The program as an operator meets it: what it prints, and what it says when it cannot start.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

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

/// The screen of a room shows the code until this line.
#[test]
fn who_stands_before_the_screen_is_told_that_the_box_was_claimed() {
    let folder = Folder::new("claim");
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
    let mut said = BufReader::new(running.0.stdout.take().expect("piped")).lines();
    let mut next = |start: &str| {
        let line = said
            .by_ref()
            .map(|line| line.expect("text"))
            .find(|line| line.starts_with(start));
        line.unwrap_or_else(|| panic!("it ended without {start:?}"))
    };
    let page = next("  Page");
    let page = page.split("http://").nth(1).expect("an address");
    let page = page.trim_end_matches('/');
    let code = next("  Claim code");
    let code = code.split_whitespace().nth(2).expect("a code");
    let body = format!(r#"{{"code":"{code}","password":"correct horse battery"}}"#);
    let mut stream = TcpStream::connect(page).expect("it listens");
    let length = body.len();
    write!(
        stream,
        "POST /api/v1/claim HTTP/1.1\r\nHost: {page}\r\nOrigin: http://{page}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    let claimed = next("  Claimed");
    assert!(!claimed.contains(code), "{claimed}");
}
