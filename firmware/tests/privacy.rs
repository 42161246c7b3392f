//! What the program writes at its default level when browsers, telephones and strangers reach it: no address and no number.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// The caller's number.
const NUMBER: &str = "0612345642";
/// A code of no room.
const CODE: &str = "987654321";

const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
    m=audio 4000 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\na=sendrecv\r\n";

struct Program {
    child: Child,
    log: Receiver<String>,
    said: String,
    page: SocketAddr,
    telephone: SocketAddr,
    media: SocketAddr,
}

impl Program {
    fn start(folder: &std::path::Path, level: Option<&str>) -> Self {
        let media = free_port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_palabre"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PALABRE__") {
                command.env_remove(name);
            }
        }
        if let Some(level) = level {
            command.env("PALABRE__LOG__LEVEL", level);
        }
        let mut child = command
            .current_dir(folder)
            .env("PALABRE__STORAGE__FOLDER", folder)
            .env("PALABRE__HTTP__BIND", "127.0.0.1:0")
            .env("PALABRE__SIP__BIND", "127.0.0.1:0")
            .env("PALABRE__MEDIA__BIND", media.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let log = lines(child.stderr.take().expect("piped"));
        let printed = lines(child.stdout.take().expect("piped"));
        let (mut page, mut telephone) = (None, None);
        while page.is_none() || telephone.is_none() {
            let line = printed
                .recv_timeout(Duration::from_secs(30))
                .expect("the program says where it is");
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["Page", url] => {
                    let address = url.trim_start_matches("http://").trim_end_matches('/');
                    page = Some(address.parse().expect("an address"));
                }
                ["Telephone", uri] => {
                    let address = uri.rsplit('@').next().expect("a part");
                    telephone = Some(address.parse().expect("an address"));
                }
                _ => {}
            }
        }
        Self {
            child,
            log,
            said: String::new(),
            page: page.expect("read above"),
            telephone: telephone.expect("read above"),
            media,
        }
    }

    /// Reads the log until `count` of its lines hold `words`.
    fn until(&mut self, words: &str, count: usize) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.said.matches(words).count() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.log.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("no {words:?} in {:?}", self.said));
            self.said.push_str(&line);
            self.said.push('\n');
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(from: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// A port that is free for UDP and for TCP.
fn free_port() -> SocketAddr {
    loop {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = tcp.local_addr().expect("its address");
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

/// Sends a request of the call `call` and, for an INVITE, gives the final answer.
fn sip(
    phone: &UdpSocket,
    to: SocketAddr,
    method: &str,
    call: &str,
    user: &str,
    tag: &str,
) -> String {
    let own = phone.local_addr().expect("its address");
    let (cseq, body) = match method {
        "INVITE" => (1, OFFER),
        "ACK" => (1, ""),
        _ => (2, ""),
    };
    let request = format!(
        "{method} sip:{user}@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{call}{method}\r\n\
         Max-Forwards: 70\r\nFrom: \"Anna {NUMBER}\" <sip:{NUMBER}@{own}>;tag=1\r\nTo: <sip:{user}@{to}>{tag}\r\n\
         Call-ID: {call}\r\nCSeq: {cseq} {method}\r\nContact: <sip:{NUMBER}@{own}>\r\n\
         P-Asserted-Identity: <tel:{NUMBER}>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    phone.send_to(request.as_bytes(), to).expect("sent");
    if method != "INVITE" {
        return String::new();
    }
    let mut answer = [0; 4_096];
    loop {
        let length = phone.recv(&mut answer).expect("an answer within its time");
        let text = String::from_utf8_lossy(&answer[..length]).into_owned();
        if text.starts_with("SIP/2.0 ") && !text.starts_with("SIP/2.0 1") {
            return text;
        }
    }
}

/// The tag of our side in an answer, as it is written behind `To`.
fn tag(answer: &str) -> String {
    let to = answer.lines().find(|line| line.starts_with("To:"));
    let tag = to.and_then(|line| line.split(";tag=").nth(1));
    format!(";tag={}", tag.expect("a tag").trim())
}

/// Things that look like STUN, DTLS, RTP, RTCP, SIP and nothing, cut and spoiled.
fn garbage() -> Vec<Vec<u8>> {
    let mut stun =
        b"\x00\x01\x00\x10\x21\x12\xa4\x42abcdefghijkl\x00\x06\x00\x09some:user\x00\x00\x00"
            .to_vec();
    stun.resize(36, 0);
    let dtls = b"\x16\xfe\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\x20\x01\x00\x00\x14".to_vec();
    let rtp = [vec![0x80, 0x60, 0, 1], vec![7; 60]].concat();
    let rtcp = [vec![0x80, 0xc8, 0, 6], vec![7; 24]].concat();
    let text =
        format!("REGISTER sip:x SIP/2.0\r\nFrom: <sip:{NUMBER}@127.0.0.1>\r\n\r\n").into_bytes();
    let mut all = Vec::new();
    for seed in [stun, dtls, rtp, rtcp, text, vec![0xff; 1_200], vec![0; 5]] {
        for step in 0..32 {
            let mut one = seed[..seed.len() - seed.len() * (step % 4) / 8].to_vec();
            let place = step * 7 % one.len();
            one[place] ^= step as u8;
            all.push(one);
        }
    }
    all
}

/// Words that are an IP address, with or without a port.
fn addresses(text: &str) -> Vec<&str> {
    let is_part = |c: char| c.is_ascii_hexdigit() || matches!(c, '.' | ':' | '[' | ']');
    text.split(|c| !is_part(c))
        .filter(|word| {
            let bare = word.trim_matches(['.', ':']);
            [*word, bare].iter().any(|word| {
                *word != "::"
                    && (word.parse::<IpAddr>().is_ok() || word.parse::<SocketAddr>().is_ok())
            })
        })
        .collect()
}

/// What a log says that it must not.
fn leaks(said: &str) -> Vec<&str> {
    let words = [NUMBER, "612345642", CODE, "Anna", "some:user", "0612"];
    let mut leaks = addresses(said);
    leaks.extend(words.into_iter().filter(|word| said.contains(word)));
    leaks
}

#[test]
fn a_deliberate_leak_of_each_kind_is_seen() {
    let clean = "2026-01-02T03:04:05.1Z  INFO palabre_sip::gateway: a call ended call=DialogId(1) result=\"joined\"";
    assert_eq!(leaks(clean), Vec::<&str>::new());
    for leak in [
        CODE,
        NUMBER,
        "+33612345642",
        "Anna",
        "192.0.2.1",
        "127.0.0.1:40000",
        "[::1]:5060",
    ] {
        for place in ["from={}", "caller=\"{}\"", "{}: refused", "<sip:{}@x>"] {
            let line = format!("{clean} {}", place.replace("{}", leak));
            assert_ne!(leaks(&line), Vec::<&str>::new(), "{line}");
        }
    }
}

#[test]
fn the_ears_of_this_test_hear_addresses() {
    let text = "at 2026-01-02T03:04:05.123456Z from=192.0.2.1:5060, [2001:db8::1]:80; 2001:db8::2. and ::1 in a::b::c";
    assert_eq!(
        addresses(text),
        ["192.0.2.1:5060", "[2001:db8::1]:80", "2001:db8::2.", "::1"]
    );
}

#[test]
fn the_default_log_holds_no_address_and_no_number() {
    reached_by_strangers("default", None);
}

/// With every library's own words too: what the default filter keeps quiet may be of no help, but it must not be a leak.
#[test]
fn a_log_of_everything_at_info_holds_no_address_and_no_number() {
    reached_by_strangers("info", Some("info"));
}

fn reached_by_strangers(name: &str, level: Option<&str>) {
    let folder = format!("palabre-privacy-{name}-{}", std::process::id());
    let folder = std::env::temp_dir().join(folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    let mut program = Program::start(&folder, level);

    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a port");
    for bytes in garbage() {
        for to in [program.media, program.telephone] {
            stranger.send_to(&bytes, to).expect("sent");
        }
    }
    let bytes = garbage().concat();
    for to in [program.page, program.telephone] {
        let mut stream = TcpStream::connect(to).expect("it listens");
        // Closed on us when it has had enough.
        let _ = stream.write_all(&bytes);
    }
    for path in [
        "/rtc?access_token=a.b.c",
        "/rtc/v1?join_request=x",
        "/api/v1/rooms",
        "/readyz",
    ] {
        let mut stream = TcpStream::connect(program.page).expect("it listens");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nX-Forwarded-For: 192.0.2.77\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.starts_with(b"HTTP/1.1 "), "{path}");
    }

    let phone = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let patience = Some(Duration::from_secs(30));
    phone.set_read_timeout(patience).expect("a time");
    let refused = sip(&phone, program.telephone, "INVITE", "one", CODE, "");
    assert!(refused.starts_with("SIP/2.0 404"), "{refused}");
    sip(
        &phone,
        program.telephone,
        "ACK",
        "one",
        CODE,
        &tag(&refused),
    );
    program.until("a call ended", 1);
    let taken = sip(&phone, program.telephone, "INVITE", "two", "reunion", "");
    assert!(taken.starts_with("SIP/2.0 200"), "{taken}");
    let ours = tag(&taken);
    sip(&phone, program.telephone, "ACK", "two", "reunion", &ours);
    sip(&phone, program.telephone, "BYE", "two", "reunion", &ours);
    program.until("a call ended", 2);

    let said = &program.said;
    assert_eq!(leaks(said), Vec::<&str>::new(), "{said}");
    drop(program);
    std::fs::remove_dir_all(&folder).expect("removed");
}
