//! `palabre call --check` against the running program: it passes when sound comes through, and names the step when it does not.
//!
//! What breaks is broken between the two: the room's lender, the telephone's signals and its sound can each be stood between.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::mpsc::channel;
use std::thread::spawn;
use std::time::{Duration, Instant};

use livekit_api::access_token::{AccessToken, VideoGrants};
use palabre_tests::network::{isolated, without_way_out};
use palabre_tests::program::Program;
use serde_json::{Value, json};

/// Ports the system chooses.
const PORTS: [(&str, &str); 3] = [
    ("PALABRE__HTTP__BIND", "127.0.0.1:0"),
    ("PALABRE__MEDIA__BIND", "127.0.0.1:0"),
    ("PALABRE__SIP__BIND", "127.0.0.1:0"),
];

/// Time for a call that must fail. It is used up.
const SHORT: &str = "6s";

/// Time for one that must not, on a busy machine.
const LONG: &str = "60s";

fn start(keys: &[(&str, &str)]) -> Program {
    Program::start(&[&PORTS[..], keys].concat())
}

/// Calls the program whose data is in `folder`.
fn call(folder: &Path, timeout: &str, keys: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_palabre"));
    command
        .args(["call", "--check", "--timeout", timeout])
        .current_dir(folder)
        .env("PALABRE__STORAGE__FOLDER", folder);
    for (key, value) in [&PORTS[..], keys].concat() {
        command.env(key, value);
    }
    command.output().expect("the program starts")
}

/// The report of a call that must pass.
fn passes(folder: &Path, keys: &[(&str, &str)]) -> Value {
    let output = call(folder, LONG, keys);
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("JSON is text");
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}"))
}

/// The sentence of a call that must fail, in time, at this step.
fn fails(step: &str, folder: &Path, keys: &[(&str, &str)]) -> String {
    let begun = Instant::now();
    let output = call(folder, SHORT, keys);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let said = String::from_utf8(output.stderr).expect("a sentence is text");
    assert!(said.starts_with(&format!("{step}: ")), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

#[track_caller]
fn is_near(report: &Value, part: &str, key: &str) {
    let level = report[part][key].as_f64();
    let level = level.unwrap_or_else(|| panic!("no {part}.{key} in {report}"));
    assert!((level + 14.0).abs() < 3.0, "{report}");
}

#[test]
fn the_box_hears_itself_before_it_is_claimed_and_after_and_leaves_no_trace() {
    let mut program = start(&[]);
    for is_claimed in [false, true] {
        if is_claimed {
            program.claim();
        }
        let report = passes(program.folder(), &[]);
        is_near(&report, "webrtc", "level_dbfs");
        is_near(&report, "sip", "level_dbfs");
        is_near(&report, "sip", "level_to_webrtc_dbfs");
        let own = report["sip"]["own_dbfs"].as_f64().expect("a level");
        assert!(own < -45.0, "{report}");
    }
    let rooms = program.ok("GET", "/api/v1/rooms", None);
    assert_eq!(rooms["total"], 0, "{rooms}");
    // The room ends when it hears that the call is over.
    let deadline = Instant::now() + Duration::from_secs(20);
    let is_empty = |metrics: &str| {
        ["rooms", "participants", "legs"]
            .iter()
            .all(|what| metrics.contains(&format!("\npalabre_engine_{what} 0\n")))
    };
    loop {
        let metrics = program.metrics();
        if is_empty(&metrics) {
            break;
        }
        assert!(Instant::now() < deadline, "{metrics}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn without_telephone_the_guests_hear_each_other_and_that_is_said() {
    let keys = [("PALABRE__SIP__ENABLED", "false")];
    let program = start(&keys);
    let report = passes(program.folder(), &keys);
    is_near(&report, "webrtc", "level_dbfs");
    assert_eq!(report["sip"], "skipped: sip.enabled is false");
    // Who believes that there is a telephone misses it.
    let said = fails("sip", program.folder(), &[]);
    assert!(said.contains("sip.enabled"), "{said}");
}

#[test]
fn a_box_that_speaks_https_is_known_by_its_certificate() {
    let folder = tempfile::tempdir().expect("a folder");
    let pair = |name: &str| {
        let made = rcgen::generate_simple_self_signed(vec!["box.example".to_owned()]);
        let made = made.expect("the system has randomness");
        let write = |end: &str, pem: String| {
            let path = folder.path().join(format!("{name}.{end}"));
            std::fs::write(&path, pem).expect("the folder can be written");
            path.display().to_string()
        };
        let key = made.signing_key.serialize_pem();
        (write("pem", made.cert.pem()), write("key", key))
    };
    let ((certificate, key), (another, _)) = (pair("box"), pair("another"));
    let keys = [
        ("PALABRE__HTTP__TLS_CERTIFICATE", certificate.as_str()),
        ("PALABRE__HTTP__TLS_KEY", key.as_str()),
    ];
    let program = start(&keys);
    assert!(program.url.starts_with("https://"), "{}", program.url);
    let report = passes(program.folder(), &keys);
    is_near(&report, "webrtc", "level_dbfs");
    // Who shows another certificate than the configured one is not the box.
    let expected = [
        ("PALABRE__HTTP__TLS_CERTIFICATE", another.as_str()),
        keys[1],
    ];
    fails("signalling", program.folder(), &expected);
    fails("signalling", program.folder(), &[]);
}

#[test]
fn every_codec_a_telephone_may_be_left_with_is_spoken() {
    for codecs in ["pcmu", "g722", "opus"] {
        let keys = [("PALABRE__SIP__CODECS", codecs)];
        let program = start(&keys);
        let report = passes(program.folder(), &keys);
        is_near(&report, "sip", "level_dbfs");
        is_near(&report, "sip", "level_to_webrtc_dbfs");
    }
}

#[test]
fn a_telephone_of_another_network_is_told_its_address_and_called_here() {
    let keys = [("PALABRE__SIP__ADVERTISE", "192.0.2.77")];
    let program = start(&keys);
    let report = passes(program.folder(), &keys);
    is_near(&report, "sip", "level_dbfs");
    let other = [("PALABRE__SIP__ADVERTISE", "192.0.2.78")];
    let said = fails("sip", program.folder(), &other);
    assert!(
        said.contains("told 192.0.2.77, and not 192.0.2.78"),
        "{said}"
    );
}

#[test]
fn a_media_port_that_does_not_answer_is_ice() {
    // A port that is taken, by somebody who says nothing.
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let announced = silent.local_addr().expect("its address").to_string();
    let keys = [("PALABRE__MEDIA__ANNOUNCED", announced.as_str())];
    let program = start(&keys);
    let said = fails("ice", program.folder(), &keys);
    assert!(said.contains("media port"), "{said}");
}

#[test]
fn a_network_of_which_guests_are_told_nothing_is_ice() {
    // Of its own, so that only this test moves to the network.
    let moved = spawn(|| {
        if !isolated() {
            return;
        }
        without_way_out();
        let bind = ("PALABRE__MEDIA__BIND", "0.0.0.0:7880");
        let program = start(&[bind]);
        passes(program.folder(), &[bind]);
        drop(program);
        let program = start(&[bind, ("PALABRE__MEDIA__ANNOUNCED", "127.0.0.1:7880")]);
        let said = fails("ice", program.folder(), &[bind]);
        assert!(said.contains("media.announced"), "{said}");
        drop(program);
        let program = start(&[bind]);
        let announced = ("PALABRE__MEDIA__ANNOUNCED", "192.0.2.77:7880");
        let said = fails("ice", program.folder(), &[bind, announced]);
        assert!(said.contains("not told 192.0.2.77:7880"), "{said}");
        let advertised = ("PALABRE__SIP__ADVERTISE", "192.0.2.77");
        let said = fails("sip", program.folder(), &[bind, advertised]);
        assert!(said.contains("and not 192.0.2.77"), "{said}");
    });
    moved.join().expect("all of it is true");
}

#[test]
fn a_full_room_is_told_by_the_door_it_closes() {
    let program = start(&[("PALABRE__ROOMS__MAX_PARTICIPANTS", "1")]);
    let said = fails("signalling", program.folder(), &[]);
    assert!(said.contains("429"), "{said}");
    let program = start(&[("PALABRE__ROOMS__MAX_PARTICIPANTS", "2")]);
    fails("sip", program.folder(), &[]);
}

#[test]
fn who_does_not_run_or_is_called_already_gives_no_access() {
    let folder = tempfile::tempdir().expect("a folder");
    let said = fails("access", folder.path(), &[]);
    assert!(said.contains("storage.folder"), "{said}");
    let program = start(&[]);
    let mut loan = BufReader::new(socket(program.folder()));
    let mut line = String::new();
    loan.read_line(&mut line).expect("an answer");
    let said = fails("access", program.folder(), &[]);
    assert!(said.contains("under way"), "{said}");
    drop(loan);
}

fn socket(folder: &Path) -> UnixStream {
    UnixStream::connect(folder.join("call.sock")).expect("the program lends rooms")
}

/// A folder whose socket lends the program's room, with what `edit` makes of the answer.
fn between(program: &Program, edit: impl FnOnce(&mut Value) + Send + 'static) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let listener = UnixListener::bind(folder.path().join("call.sock")).expect("a socket");
    let behind = program.folder().to_owned();
    spawn(move || {
        let (mut front, _) = listener.accept().expect("a call");
        let mut back = BufReader::new(socket(&behind));
        let mut line = String::new();
        back.read_line(&mut line).expect("an answer");
        let mut answer: Value = serde_json::from_str(&line).expect("JSON");
        edit(&mut answer["lent"]);
        writeln!(front, "{answer}").expect("the call waits");
        // Until the call is over.
        let _ = front.read(&mut [0]);
    });
    folder
}

#[test]
fn a_server_that_never_answers_is_signalling_and_is_left_in_time() {
    let program = start(&[]);
    let hung = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = hung.local_addr().expect("its address").to_string();
    let folder = between(&program, move |lent| lent["ways"]["http"] = json!(address));
    let said = fails("signalling", folder.path(), &[]);
    assert!(said.contains("does not answer"), "{said}");
}

#[test]
fn a_tone_that_is_muted_is_sfu_sound() {
    let mut program = start(&[]);
    program.claim();
    let key = program.ok("POST", "/api/v1/keys", Some(&json!({"name": "test"})));
    let (sender, room) = channel();
    let folder = between(&program, move |lent| {
        // The room's id is in the token, which nobody needs to check here.
        let token = lent["speaker"].as_str().expect("a token");
        let claims = token.split('.').nth(1).expect("claims");
        sender.send(claims.to_owned()).expect("the test waits");
    });
    let path = folder.path().to_owned();
    let calling = spawn(move || fails("sfu-sound", &path, &[]));
    let claims = room.recv().expect("a room is lent");
    let room = room_of(&claims);
    let text = |name: &str| key[name].as_str().expect("it is text").to_owned();
    let token = AccessToken::with_api_key(&text("key"), &text("secret"))
        .with_grants(VideoGrants {
            room: room.clone(),
            room_admin: true,
            ..VideoGrants::default()
        })
        .to_jwt()
        .expect("a token");
    let track = loop {
        // A call that is over has no speaker any more.
        assert!(!calling.is_finished(), "the call ended before its track");
        let asked = json!({"room": room, "identity": "speaker"});
        let (status, who) = twirp(&program.url, &token, "GetParticipant", &asked);
        let sid = who["tracks"][0]["sid"].as_str().map(str::to_owned);
        match sid {
            Some(sid) if status == 200 => break sid,
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let asked = json!({"room": room, "identity": "speaker", "trackSid": track, "muted": true});
    let (status, said) = twirp(&program.url, &token, "MutePublishedTrack", &asked);
    assert_eq!(status, 200, "{said}");
    let said = calling.join().expect("it fails as it should");
    assert!(said.contains("through the SFU"), "{said}");
}

/// The room in the claims of a token.
fn room_of(claims: &str) -> String {
    use base64::Engine as _;
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims);
    let claims: Value = serde_json::from_slice(&json.expect("base64")).expect("JSON");
    claims["video"]["room"].as_str().expect("a room").to_owned()
}

/// A request to LiveKit's server API.
fn twirp(url: &str, token: &str, method: &str, body: &Value) -> (u16, Value) {
    let address = url.trim_start_matches("http://");
    let mut stream = std::net::TcpStream::connect(address).expect("the program listens");
    let body = body.to_string();
    let request = format!(
        "POST /twirp/livekit.RoomService/{method} HTTP/1.1\r\nHost: {address}\r\n\
         Authorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let status = answer.split(' ').nth(1).and_then(|text| text.parse().ok());
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    let body = serde_json::from_str(body).unwrap_or(Value::Null);
    (status.expect("a status"), body)
}

/// Stands between the telephone and the program's SIP port. Each datagram is sent on as its `edit` has it, if at all.
fn sip_between(
    server: SocketAddr,
    to_server: impl Fn(String) -> Option<String> + Send + 'static,
    to_phone: impl Fn(String) -> Option<String> + Send + 'static,
) -> SocketAddr {
    let front = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let back = UdpSocket::bind("127.0.0.1:0").expect("a port");
    back.connect(server).expect("loopback has a route");
    let address = front.local_addr().expect("its address");
    let mut buffer = [0; 8_192];
    spawn(move || {
        let (len, phone) = front.recv_from(&mut buffer).expect("a call");
        front.connect(phone).expect("loopback has a route");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("SIP is text");
        if let Some(first) = to_server(text(&buffer[..len])) {
            back.send(first.as_bytes()).expect("loopback takes it");
        }
        let (front_too, back_too) = (
            front.try_clone().expect("a descriptor"),
            back.try_clone().expect("a descriptor"),
        );
        spawn(move || pass(&back_too, &front_too, to_phone));
        pass(&front, &back, to_server);
    });
    address
}

/// Sends on what comes, until an end of it is gone.
fn pass(from: &UdpSocket, to: &UdpSocket, edit: impl Fn(String) -> Option<String>) {
    let mut buffer = [0; 8_192];
    while let Ok(len) = from.recv(&mut buffer) {
        let text = String::from_utf8(buffer[..len].to_vec()).expect("SIP is text");
        if let Some(text) = edit(text) {
            let _ = to.send(text.as_bytes());
        }
    }
}

/// A running program whose telephone has somebody in the way, and a folder to call it by.
fn with_sip_between(
    to_server: impl Fn(String) -> Option<String> + Send + 'static,
    to_phone: impl Fn(String) -> Option<String> + Send + 'static,
) -> (Program, tempfile::TempDir) {
    let program = start(&[]);
    let folder = between(&program, move |lent| {
        let server = lent["ways"]["sip"].as_str().expect("an address");
        let server = server.parse().expect("an address");
        lent["ways"]["sip"] = json!(sip_between(server, to_server, to_phone).to_string());
    });
    (program, folder)
}

/// Sends sound to another port: one with as many digits, as a message's length is written in it.
fn moved(text: &str, port: u16) -> String {
    let Some((before, rest)) = text.split_once("m=audio ") else {
        return text.to_owned();
    };
    let (old, rest) = rest.split_once(' ').expect("a port and more");
    assert_eq!(old.len(), port.to_string().len());
    format!("{before}m=audio {port} {rest}")
}

/// A socket with a port of five digits, as all the others have.
fn rtp() -> (UdpSocket, u16) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = socket.local_addr().expect("its address").port();
    assert!(port >= 10_000, "the system's own ports are above");
    (socket, port)
}

#[test]
fn a_telephone_that_nobody_answers_is_sip() {
    let (_program, folder) = with_sip_between(|_| None, Some);
    let said = fails("sip", folder.path(), &[]);
    assert!(said.contains("INVITE"), "{said}");
}

#[test]
fn sound_that_does_not_come_from_the_mixer_is_mixer_sound() {
    // Both ways: sound that came would show the mixer where the telephone is.
    let ((_ears, ears), (_mouth, mouth)) = (rtp(), rtp());
    let (_program, folder) = with_sip_between(
        move |text| Some(moved(&text, ears)),
        move |text| Some(moved(&text, mouth)),
    );
    let said = fails("mixer-sound", folder.path(), &[]);
    assert!(said.contains("hardly any sound"), "{said}");
}

#[test]
fn sound_that_does_not_reach_the_mixer_is_sip_sound() {
    let (_mouth, mouth) = rtp();
    let (_program, folder) = with_sip_between(Some, move |text| Some(moved(&text, mouth)));
    fails("sip-sound", folder.path(), &[]);
}

#[test]
fn a_telephone_that_hears_itself_is_own_tone() {
    let (echo, port) = rtp();
    spawn(move || {
        let mut packet = [0; 2_048];
        while let Ok((len, from)) = echo.recv_from(&mut packet) {
            let _ = echo.send_to(&packet[..len], from);
        }
    });
    let (_program, folder) = with_sip_between(Some, move |text| Some(moved(&text, port)));
    let said = fails("own-tone", folder.path(), &[]);
    assert!(said.contains("hears itself"), "{said}");
}

#[test]
fn hanging_up_without_an_answer_is_told() {
    let is_bye = |text: &str| text.starts_with("SIP/2.0") && text.contains(" BYE\r\n");
    let (_program, folder) = with_sip_between(Some, move |text| (!is_bye(&text)).then_some(text));
    fails("hang-up", folder.path(), &[]);
}
