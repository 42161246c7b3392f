//! The product on an address of its own, as a box serves it: https with a certificate it signed itself, and plain HTTP that
//! leads there.

use palabre_tests::network::{HOST, address, isolated};
use palabre_tests::peer::{Peer, write_tone};
use palabre_tests::program::Program;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;

/// The same machine's address of the other kind.
const HOST6: &str = "fd77::1";

const PASSWORD: &str = "une phrase de passe assez longue";

/// A folder with `certificate.pem` and `key.pem`, for this address.
struct Certificate(PathBuf);

impl Certificate {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("palabre-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let key = rcgen::KeyPair::generate().expect("a key");
        let asked =
            rcgen::CertificateParams::new([HOST, HOST6].map(str::to_owned)).expect("an address");
        let made = asked.self_signed(&key).expect("a certificate");
        std::fs::write(folder.join("certificate.pem"), made.pem()).expect("written");
        std::fs::write(folder.join("key.pem"), key.serialize_pem()).expect("written");
        Self(folder)
    }

    /// The product as the appliance configures it, but for the telephone, and with what a stick sets beside.
    fn program(&self, set: &[(&str, &str)]) -> Program {
        let file = |name: &str| self.0.join(name).display().to_string();
        let (certificate, key) = (file("certificate.pem"), file("key.pem"));
        let own = [
            ("PALABRE__HTTP__BIND", "[::]:443"),
            ("PALABRE__HTTP__TLS_CERTIFICATE", &certificate),
            ("PALABRE__HTTP__TLS_KEY", &key),
            ("PALABRE__HTTP__REDIRECT_BIND", "[::]:80"),
            ("PALABRE__MEDIA__BIND", "[::]:7880"),
            ("PALABRE__SIP__ENABLED", "false"),
        ];
        Program::start(&[&own, set].concat())
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn click(browser: &mut Peer, selector: &str) {
    browser.call(json!({"do": "click", "selector": selector}));
}

fn fill(browser: &mut Peer, selector: &str, value: &str) {
    browser.call(json!({"do": "fill", "selector": selector, "value": value}));
}

fn seen(browser: &mut Peer, selector: &str) {
    browser.call(json!({"do": "seen", "selector": selector, "timeout": 30_000}));
}

fn goto(browser: &mut Peer, url: &str) {
    browser.call(json!({"do": "goto", "url": url}));
}

fn value(browser: &mut Peer, script: &str) -> Value {
    browser.call(json!({"do": "evaluate", "script": script}))["value"].clone()
}

/// Waits until the picture of somebody else is seen to move.
fn sees_somebody(browser: &mut Peer) {
    let frames = json!({
        "do": "evaluate",
        "script": "Math.max(0, ...[...document.querySelectorAll('.tile:not(:first-child) video')]\
            .map((video) => video.getVideoPlaybackQuality().totalVideoFrames))",
    });
    browser.until("pictures of somebody else", 60, &frames, |answer| {
        answer["value"].as_u64().is_some_and(|count| count > 10)
    });
}

/// Claims the box on the page that is shown, and makes a room: its code.
fn claimed_with_a_room(browser: &mut Peer, program: &Program) -> String {
    let code = program
        .claim_code
        .clone()
        .expect("a first start prints a claim code");
    fill(browser, "input[name=code]", &code);
    fill(browser, "input[name=password]", PASSWORD);
    click(browser, "button[type=submit]");
    fill(browser, "input[name=room]", "Conseil");
    click(browser, "text=Créer >> nth=-1");
    seen(browser, ".room-row");
    let code = browser.call(json!({"do": "text", "selector": ".room-code"}))["text"].clone();
    code.as_str().expect("a code").to_owned()
}

#[test]
fn a_page_over_https_has_camera_and_microphone_on_any_address() {
    if !isolated() {
        return;
    }
    let tone = std::env::temp_dir().join(format!("palabre-https-{}.wav", std::process::id()));
    write_tone(&tone, 440);
    let (Some(mut anne), Some(mut bao)) = (
        Peer::chromium("anne", Some(&tone)),
        Peer::chromium("bao", Some(&tone)),
    ) else {
        return;
    };

    // What it is for: over plain HTTP a browser gives neither to any page but this machine's own.
    {
        let bind = format!("{HOST}:7881");
        let program = Program::start(&[
            ("PALABRE__HTTP__BIND", bind.as_str()),
            ("PALABRE__MEDIA__BIND", bind.as_str()),
            ("PALABRE__SIP__ENABLED", "false"),
        ]);
        goto(&mut anne, &program.url);
        assert_eq!(value(&mut anne, "isSecureContext"), false);
        assert_eq!(value(&mut anne, "'mediaDevices' in navigator"), false);
    }

    let certificate = Certificate::new("https");
    address(&format!("{HOST6}/64"));
    let program = certificate.program(&[]);
    assert_eq!(program.url, "https://[::]");
    // As people type it.
    goto(&mut anne, &format!("http://{HOST}/admin"));
    let here = value(&mut anne, "location.href");
    assert_eq!(here, format!("https://{HOST}/admin"));
    assert_eq!(value(&mut anne, "isSecureContext"), true);
    let code = claimed_with_a_room(&mut anne, &program);
    let cookies = anne.call(json!({"do": "cookies"}))["cookies"].clone();
    let ours = cookies
        .as_array()
        .and_then(|all| all.iter().find(|cookie| cookie["domain"] == HOST))
        .unwrap_or_else(|| panic!("no cookie of ours: {cookies}"));
    assert_eq!(ours["name"], "__Host-palabre_session");
    for flag in ["secure", "httpOnly"] {
        assert_eq!(ours[flag], true, "{ours}");
    }
    click(&mut anne, ".room-row .button.primary");
    fill(&mut anne, "input[name=name]", "Anne");
    seen(&mut anne, "video:not([hidden])");
    click(&mut anne, "button[type=submit]");
    // Over IPv6, to whom Anne is on IPv4.
    goto(&mut bao, &format!("https://[{HOST6}]/"));
    fill(&mut bao, "input[name=code]", &code);
    bao.call(json!({"do": "press", "key": "Enter"}));
    fill(&mut bao, "input[name=name]", "Bao");
    seen(&mut bao, "video:not([hidden])");
    click(&mut bao, "button[type=submit]");
    for browser in [&mut anne, &mut bao] {
        seen(browser, ".tile >> nth=1");
        sees_somebody(browser);
    }
    std::fs::remove_file(&tone).expect("the tone file is there");
}

/// The screen of a room is led to `localhost` and may leave it for nowhere, whatever others are told.
#[test]
fn the_screen_of_a_box_with_a_public_name_joins_without_it() {
    if !isolated() {
        return;
    }
    let tone = std::env::temp_dir().join(format!("palabre-screen-{}.wav", std::process::id()));
    write_tone(&tone, 440);
    let (Some(mut screen), Some(mut anne)) = (
        Peer::chromium("screen", Some(&tone)),
        Peer::chromium("anne", Some(&tone)),
    ) else {
        return;
    };
    let certificate = Certificate::new("screen");
    // Nobody here answers to that name, or at that address.
    let program = certificate.program(&[
        ("PALABRE__HTTP__PUBLIC_URL", "https://meet.example.org"),
        ("PALABRE__MEDIA__ANNOUNCED", "203.0.113.1:7880,[::]:0"),
    ]);
    let moved = asked(&format!("{HOST}:80"), "/x");
    assert!(
        moved.contains("\r\nlocation: https://meet.example.org/x\r\n"),
        "{moved}"
    );
    goto(&mut screen, "http://localhost/admin");
    assert_eq!(
        value(&mut screen, "location.href"),
        "https://localhost/admin"
    );
    let code = claimed_with_a_room(&mut screen, &program);

    for (browser, name) in [(&mut screen, "Salle"), (&mut anne, "Anne")] {
        goto(browser, "http://localhost/");
        fill(browser, "input[name=code]", &code);
        browser.call(json!({"do": "press", "key": "Enter"}));
        fill(browser, "input[name=name]", name);
        seen(browser, "video:not([hidden])");
        click(browser, "button[type=submit]");
    }
    for browser in [&mut screen, &mut anne] {
        seen(browser, ".tile >> nth=1");
        sees_somebody(browser);
    }
    click(&mut screen, "button[aria-label=Inviter]");
    seen(&mut screen, ".invite");
    let link = screen.call(json!({"do": "text", "selector": ".invite .link"}))["text"].clone();
    let link = link.as_str().expect("a link");
    assert!(link.starts_with("https://meet.example.org/"), "{link}");
    std::fs::remove_file(&tone).expect("the tone file is there");
}

fn asked(to: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(to).expect("somebody listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {to}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    answer
}

#[test]
fn strangers_on_the_plain_port_learn_nothing_and_do_not_keep_the_health_check_out() {
    if !isolated() {
        return;
    }
    let certificate = Certificate::new("plain");
    let _program = certificate.program(&[]);
    let own = asked("127.0.0.1:80", "/readyz");
    assert!(own.starts_with("HTTP/1.1 200 "), "{own}");
    for path in ["/readyz", "/healthz", "/metrics"] {
        let strange = asked(&format!("{HOST}:80"), path);
        assert!(strange.starts_with("HTTP/1.1 308 "), "{strange}");
        let wanted = format!("\r\nlocation: https://{HOST}{path}\r\n");
        assert!(strange.contains(&wanted), "{strange}");
    }
    // Whoever connects to an address of this machine comes from that address.
    let mut held = Vec::new();
    for last in 2..=9 {
        let stranger = format!("10.77.0.{last}");
        address(&format!("{stranger}/24"));
        for _ in 0..50 {
            held.push(TcpStream::connect((stranger.as_str(), 80)).expect("a connection"));
        }
    }
    let mut last = held.pop().expect("there are many");
    let mut answer = Vec::new();
    // Closed unread; a reset says the same.
    let _ = last.read_to_end(&mut answer);
    assert!(answer.is_empty(), "all places of strangers are taken");
    let own = asked("127.0.0.1:80", "/readyz");
    assert!(own.starts_with("HTTP/1.1 200 "), "{own}");
}
