//! The program on a box made of files, with the real service behind its socket: updates through the
//! API, and the restart that waits.

mod data;
mod previous;
mod restart;
mod settings;
mod told;
mod uploads;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use palabre_tests::bench::{Bench, Service};
use palabre_tests::program::Program;
use serde_json::{Value, json};

const UPLOADS: &str = "/api/v1/appliance/uploads";
const TUS: (&str, &str) = ("Tus-Resumable", "1.0.0");
const PIECE: (&str, &str) = ("Content-Type", "application/offset+octet-stream");

/// A box that runs version 1, its program and its service.
struct Appliance {
    bench: Bench,
    program: Program,
    service: Service,
}

impl Appliance {
    fn start() -> Self {
        Self::start_at("127.0.0.1:0")
    }

    /// With its pages there.
    fn start_at(bind: &str) -> Self {
        let bench = Bench::new();
        let (socket, image) = (bench.text("box.sock"), bench.text("image.json"));
        let mut program = Program::start(&[
            ("PALABRE__HTTP__BIND", bind),
            ("PALABRE__MEDIA__BIND", "127.0.0.1:0"),
            ("PALABRE__SIP__ENABLED", "false"),
            ("PALABRE__APPLIANCE__SOCKET", &socket),
            ("PALABRE__APPLIANCE__IMAGE", &image),
            ("PALABRE__APPLIANCE__EMPTY_BEFORE_RESTART", "1 s"),
            ("PALABRE__APPLIANCE__NOTICE_BEFORE_RESTART", "4 s"),
        ]);
        let service = bench.serve_for(bench.owner(), &program.folder().join("upload"), &[]);
        program.claim();
        Self {
            bench,
            program,
            service,
        }
    }

    fn show(&mut self) -> Value {
        self.program.ok("GET", "/api/v1/appliance", None)
    }

    /// Begins an upload: its path and its id.
    fn begin(&mut self, length: usize) -> (String, String) {
        let length = length.to_string();
        let headers = [TUS, ("Upload-Length", length.as_str())];
        let (status, headers, body) = self.program.send("POST", UPLOADS, &headers, b"");
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
        let place = headers["location"].to_str().unwrap().to_owned();
        let id = place.rsplit('/').next().unwrap().to_owned();
        (place, id)
    }

    /// Sends one piece; the status and the offset it answers.
    fn piece(&mut self, place: &str, offset: usize, bytes: &[u8]) -> (u16, Option<usize>) {
        let offset = offset.to_string();
        let headers = [TUS, PIECE, ("Upload-Offset", offset.as_str())];
        let (status, headers, _) = self.program.send("PATCH", place, &headers, bytes);
        (status, number(&headers, "upload-offset"))
    }

    fn offset(&mut self, place: &str) -> Option<usize> {
        let (_, headers, _) = self.program.send("HEAD", place, &[TUS], b"");
        number(&headers, "upload-offset")
    }

    fn upload(&mut self, path: &str) -> String {
        let bytes = std::fs::read(path).unwrap();
        let (place, id) = self.begin(bytes.len());
        let mut sent = 0;
        for piece in bytes.chunks(100_000) {
            let told = self.piece(&place, sent, piece);
            sent += piece.len();
            assert_eq!(told, (204, Some(sent)));
        }
        id
    }

    /// Installs an upload and waits for the end of it.
    fn install(&mut self, upload: &str) -> Value {
        let asked = json!({"upload": upload});
        self.program
            .ok("POST", "/api/v1/appliance/install", Some(&asked));
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let progress = self.program.ok("GET", "/api/v1/appliance/install", None);
            let phase = progress["phase"].as_str().unwrap().to_owned();
            if phase != "verifying" && phase != "writing" {
                return progress;
            }
            assert!(Instant::now() < deadline, "{progress}");
        }
    }

    /// Waits until the box has run this of the system's programs.
    fn until_said(&self, line: &str, within: Duration) {
        let deadline = Instant::now() + within;
        while !self.bench.said().iter().any(|said| said == line) {
            assert!(Instant::now() < deadline, "{:?}", self.bench.said());
            std::thread::yield_now();
        }
    }
}

fn number(headers: &ureq::http::HeaderMap, name: &str) -> Option<usize> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

#[track_caller]
fn is_problem((status, answer): (u16, Value), expected: u16, code: &str) {
    assert_eq!(
        (status, &answer["code"]),
        (expected, &json!(code)),
        "{answer}"
    );
    assert!(answer["detail"].as_str().is_some_and(|d| d.ends_with('.')));
}

#[track_caller]
fn is_raw_problem(answer: &(u16, ureq::http::HeaderMap, Vec<u8>), expected: u16, code: &str) {
    let (status, headers, body) = answer;
    assert_eq!(headers["tus-resumable"], "1.0.0");
    is_problem(
        (*status, serde_json::from_slice(body).unwrap_or_default()),
        expected,
        code,
    );
}

/// The status of a request without our own client's headers.
fn stranger(url: &str, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
    let host = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("Content-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).unwrap();
    status.parse().unwrap()
}

/// Every path of the box.
const PATHS: [(&str, &str); 24] = [
    ("GET", "/api/v1/appliance"),
    ("GET", "/api/v1/appliance/history"),
    ("POST", "/api/v1/appliance/previous"),
    ("POST", "/api/v1/appliance/shutdown"),
    ("POST", "/api/v1/appliance/factory-reset"),
    ("GET", "/api/v1/appliance/install"),
    ("POST", "/api/v1/appliance/install"),
    ("GET", "/api/v1/appliance/restart"),
    ("PUT", "/api/v1/appliance/restart"),
    ("DELETE", "/api/v1/appliance/restart"),
    ("GET", "/api/v1/appliance/network"),
    ("PUT", "/api/v1/appliance/network"),
    ("POST", "/api/v1/appliance/network/confirm"),
    ("POST", "/api/v1/appliance/network/revert"),
    ("GET", "/api/v1/appliance/time"),
    ("PUT", "/api/v1/appliance/time"),
    ("GET", "/api/v1/appliance/certificate"),
    ("PUT", "/api/v1/appliance/certificate"),
    ("POST", "/api/v1/appliance/certificate/self-signed"),
    ("GET", "/api/v1/appliance/storage"),
    ("GET", "/api/v1/appliance/support"),
    ("POST", UPLOADS),
    (
        "PATCH",
        "/api/v1/appliance/uploads/00000000000000000000000000000000",
    ),
    (
        "DELETE",
        "/api/v1/appliance/uploads/00000000000000000000000000000000",
    ),
];

#[test]
fn nobody_but_the_administrator_reaches_the_box() {
    let mut appliance = Appliance::start();
    let cookie = appliance.program.cookie().unwrap().to_owned();
    for (method, path) in PATHS {
        let nobody = stranger(&appliance.program.url, method, path, &[TUS]);
        assert_eq!(nobody, 401, "{method} {path}");
        // Another site's page, in the administrator's browser.
        let headers = [
            TUS,
            ("Cookie", cookie.as_str()),
            ("Origin", "https://evil.example"),
        ];
        let other = stranger(&appliance.program.url, method, path, &headers);
        assert_eq!(other == 403, method != "GET", "{method} {path}: {other}");
    }
    // Another site's page may have the box asked, and never changed.
    let said = appliance.bench.said();
    assert!(said.iter().all(|line| line.contains(" list")), "{said:?}");
    let facts = appliance.program.ok("GET", "/api/v1/box", None);
    assert_eq!(facts["appliance"], true);
}

#[test]
fn a_machine_of_ones_own_is_no_appliance() {
    let mut program = Program::start(&[
        ("PALABRE__HTTP__BIND", "127.0.0.1:0"),
        ("PALABRE__MEDIA__BIND", "127.0.0.1:0"),
        ("PALABRE__SIP__ENABLED", "false"),
    ]);
    program.claim();
    for (method, path) in PATHS {
        let (status, _, body) = program.send(method, path, &[TUS], b"{}");
        let answer = serde_json::from_slice(&body).unwrap();
        is_problem((status, answer), 404, "not_an_appliance");
    }
    assert_eq!(
        program.ok("GET", "/api/v1/box", None)["appliance"],
        json!(false)
    );
}

#[test]
fn a_box_whose_service_is_gone_says_so() {
    let mut appliance = Appliance::start();
    let Appliance {
        bench,
        program,
        service,
    } = &mut appliance;
    assert_eq!(program.request("GET", "/api/v1/appliance", None).0, 200);
    let uploads = program.folder().join("upload");
    std::mem::replace(service, bench.serve_for(bench.owner(), &uploads, &[])).kill();
    assert_eq!(program.request("GET", "/api/v1/appliance", None).0, 200);
    std::fs::remove_file(bench.at("box.sock")).unwrap();
    let answer = program.request("GET", "/api/v1/appliance", None);
    is_problem(answer, 503, "appliance_silent");
    assert_eq!(program.request("GET", "/readyz", None).0, 200);
}

#[test]
fn an_update_is_uploaded_installed_and_started() {
    let mut appliance = Appliance::start();
    let before = appliance.show();
    assert_eq!(before["host"], "palabre-test");
    assert_eq!(before["runs"]["version"], 1);
    assert_eq!(before["runs"]["development"], true);
    assert_eq!(before["slots"][1]["state"], "empty");
    assert_eq!(before["install"]["phase"], "idle");
    let two = appliance.bench.packed(2);
    let upload = appliance.upload(&two);
    let progress = appliance.install(&upload);
    assert_eq!(progress["phase"], "done", "{progress}");
    assert_eq!(progress["done"], progress["all"]);
    let after = appliance.show();
    assert_eq!(after["starts_next"], 2);
    assert_eq!(after["slots"][1]["state"], "trial");
    assert_eq!(after["upload"], Value::Null, "what is installed goes");
    let history = appliance
        .program
        .ok("GET", "/api/v1/appliance/history", None);
    assert_eq!(history["events"][0]["what"], "installed");
    let now = json!({"when": "now"});
    appliance
        .program
        .ok("PUT", "/api/v1/appliance/restart", Some(&now));
    assert_eq!(appliance.bench.said(), ["systemctl --no-block reboot"]);

    // The machine starts again.
    appliance.bench.runs(2);
    let on_trial = appliance.show();
    assert_eq!(on_trial["runs"]["version"], 2);
    assert_eq!(on_trial["on_trial"], true);
    let three = appliance.bench.packed(3);
    let upload = appliance.upload(&three);
    let refused = appliance.install(&upload);
    assert_eq!(refused["refused"]["code"], "running_on_trial");
    appliance.bench.good(&["mark-good"]);
    assert_eq!(appliance.install(&upload)["phase"], "done");
}

#[test]
fn a_bad_update_is_refused_with_the_reason_in_the_reader_s_language() {
    let mut appliance = Appliance::start();
    let two = appliance.bench.packed(2);
    let mut bytes = std::fs::read(&two).unwrap();
    let last = bytes.len() - 5;
    bytes[last] ^= 1;
    let changed = appliance.bench.text("changed");
    std::fs::write(&changed, bytes).unwrap();
    let upload = appliance.upload(&changed);
    let refused = appliance.install(&upload);
    assert_eq!(refused["phase"], "refused");
    assert_eq!(refused["refused"]["code"], "part_hash");
    assert!(
        refused["refused"]["detail"]
            .as_str()
            .unwrap()
            .contains("Nothing was installed")
    );
    let french = [("Accept-Language", "fr")];
    let path = "/api/v1/appliance/install";
    let (_, _, body) = appliance.program.send("GET", path, &french, b"");
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["refused"]["title"], "La mise à jour est abîmée");
    let path = "/api/v1/appliance/history";
    let (_, _, body) = appliance.program.send("GET", path, &french, b"");
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["events"][0]["code"], "part_hash");
    assert!(
        body["events"][0]["why"]
            .as_str()
            .unwrap()
            .contains("Rien n'a été installé")
    );

    // The refused one makes room for the next, and older is refused too.
    appliance.bench.runs(3);
    let upload = appliance.upload(&two);
    assert_eq!(
        appliance.install(&upload)["refused"]["code"],
        "version_older"
    );
    appliance.bench.runs(1);
    assert_eq!(appliance.show()["starts_next"], Value::Null);
}

#[test]
fn the_end_of_the_data_wants_the_name_of_the_box() {
    let mut appliance = Appliance::start();
    let path = "/api/v1/appliance/factory-reset";
    let wrong = json!({"host": "palabre"});
    let refused = appliance.program.request("POST", path, Some(&wrong));
    is_problem(refused, 422, "not_confirmed");
    let previous = appliance
        .program
        .request("POST", "/api/v1/appliance/previous", None);
    is_problem(previous, 409, "no_previous");
    assert!(appliance.bench.said().is_empty());
    let right = json!({"host": "palabre-test"});
    let (status, _) = appliance.program.request("POST", path, Some(&right));
    assert_eq!(status, 202);
    let (status, _) = appliance
        .program
        .request("POST", "/api/v1/appliance/shutdown", None);
    assert_eq!(status, 202);
    let said = [
        "systemctl --no-block reboot",
        "systemctl --no-block poweroff",
    ];
    assert_eq!(appliance.bench.said(), said);
}
