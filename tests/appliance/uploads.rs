//! Uploads that go on where they were cut (tus 1.0.0).

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Appliance, PIECE, TUS, UPLOADS, is_problem, is_raw_problem, number};

#[test]
fn an_upload_goes_on_where_it_was_cut() {
    let mut appliance = Appliance::start();
    let (status, headers, _) = appliance.program.send("OPTIONS", UPLOADS, &[], b"");
    assert_eq!(status, 204);
    assert_eq!(headers["tus-version"], "1.0.0");
    assert_eq!(
        headers["tus-extension"],
        "creation,checksum,termination,expiration"
    );
    assert_eq!(headers["tus-checksum-algorithm"], "sha1,sha256");
    assert_eq!(number(&headers, "tus-max-size"), Some(700 << 20));

    let two = std::fs::read(appliance.bench.packed(2)).unwrap();
    let (place, id) = appliance.begin(two.len());
    assert_eq!(appliance.offset(&place), Some(0));
    assert_eq!(appliance.piece(&place, 0, &two[..1000]), (204, Some(1000)));
    // Not twice, and not beyond.
    assert_eq!(appliance.piece(&place, 0, &two[..1000]).0, 409);
    assert_eq!(appliance.piece(&place, 1001, &two[1001..]).0, 409);
    let mut beyond = two[1000..].to_vec();
    beyond.push(0);
    assert_eq!(appliance.piece(&place, 1000, &beyond).0, 413);
    let offset = appliance.offset(&place).unwrap();
    assert!((1000..=two.len()).contains(&offset));
    let installed = appliance.program.request(
        "POST",
        "/api/v1/appliance/install",
        Some(&json!({"upload": id})),
    );
    if offset < two.len() {
        is_problem(installed, 409, "upload_unfinished");
    }

    // The connection breaks in the middle of a piece: what came is kept.
    let rest = &two[offset..];
    let (cookie, url) = (
        appliance.program.cookie().unwrap().to_owned(),
        appliance.program.url.clone(),
    );
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    let head = format!(
        "PATCH {place} HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\nTus-Resumable: 1.0.0\r\n\
         Content-Type: application/offset+octet-stream\r\nUpload-Offset: {offset}\r\n\
         Content-Length: {}\r\n\r\n",
        rest.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&rest[..rest.len() / 2]).unwrap();
    stream.shutdown(std::net::Shutdown::Both).unwrap();
    let half = offset + rest.len() / 2;
    let deadline = Instant::now() + Duration::from_secs(20);
    while appliance.offset(&place) != Some(half) {
        assert!(Instant::now() < deadline, "{:?}", appliance.offset(&place));
    }

    // kill -9 in the middle of the upload.
    appliance.program.kill_and_restart();
    assert_eq!(appliance.show()["upload"]["offset"], json!(half));
    let headers = [TUS, ("Upload-Length", "5")];
    let another = appliance.program.send("POST", UPLOADS, &headers, b"");
    is_raw_problem(&another, 409, "upload_present");
    assert_eq!(
        appliance.piece(&place, half, &two[half..]),
        (204, Some(two.len()))
    );
    let kept = appliance.program.folder().join("upload").join(&id);
    assert!(std::fs::read(kept).unwrap() == two);

    let (status, _, _) = appliance.program.send("DELETE", &place, &[TUS], b"");
    assert_eq!(status, 204);
    let gone = appliance.program.send("DELETE", &place, &[TUS], b"");
    is_raw_problem(&gone, 404, "upload_unknown");
    assert_eq!(appliance.show()["upload"], Value::Null);
    // By POST, for who has no PATCH.
    let (place, _) = appliance.begin(two.len());
    let headers = [
        TUS,
        PIECE,
        ("Upload-Offset", "0"),
        ("X-HTTP-Method-Override", "PATCH"),
    ];
    let (status, _, _) = appliance.program.send("POST", &place, &headers, &two);
    assert_eq!((status, appliance.offset(&place)), (204, Some(two.len())));
}

#[test]
fn the_box_is_seen_while_the_next_update_comes() {
    let mut appliance = Appliance::start();
    let two = appliance.bench.packed(2);
    let upload = appliance.upload(&two);
    assert_eq!(appliance.install(&upload)["phase"], "done");
    let (place, _) = appliance.begin(1 << 20);
    let cookie = appliance.program.cookie().unwrap().to_owned();
    let host = appliance.program.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let head = format!(
        "PATCH {place} HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\nTus-Resumable: 1.0.0\r\n\
         Content-Type: application/offset+octet-stream\r\nUpload-Offset: 0\r\n\
         Content-Length: {}\r\n\r\n",
        1 << 20
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&vec![0; 600_000]).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while appliance.offset(&place).is_none_or(|offset| offset == 0) {
        assert!(Instant::now() < deadline, "nothing came");
    }
    // The request goes on: nobody else may write, and everybody may look.
    assert_eq!(appliance.piece(&place, 0, b"x").0, 423);
    assert_eq!(appliance.show()["install"]["phase"], "done");
    drop(stream);
}

#[test]
fn a_piece_that_is_not_what_its_checksum_says_is_not_kept() {
    let mut appliance = Appliance::start();
    let (place, id) = appliance.begin(9 << 20);
    let mut piece = |offset: &str, checksum: &str, bytes: &[u8]| {
        let headers = [
            TUS,
            PIECE,
            ("Upload-Offset", offset),
            ("Upload-Checksum", checksum),
        ];
        appliance.program.send("PATCH", &place, &headers, bytes)
    };
    let abc = "sha256 ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";
    is_raw_problem(&piece("0", abc, b"abd"), 460, "upload_checksum");
    is_raw_problem(&piece("0", "md5 x", b"abc"), 400, "upload_header");
    is_raw_problem(&piece("3", abc, b"abc"), 409, "upload_offset");
    let large = vec![0; (8 << 20) + 1];
    is_raw_problem(&piece("0", abc, &large), 413, "upload_too_large");
    assert_eq!(piece("0", abc, b"abc").0, 204);
    let sha1 = "sha1 qZk+NkcGgWq6PiVxeFDCbJzQ2J0=";
    assert_eq!(piece("3", sha1, b"abc").0, 204);
    assert_eq!(appliance.offset(&place), Some(6));
    let kept = appliance.program.folder().join("upload").join(id);
    assert_eq!(std::fs::read(kept).unwrap(), b"abcabc");
}

#[test]
fn an_upload_that_is_no_tus_or_too_large_is_refused_with_the_reason() {
    let mut appliance = Appliance::start();
    let mut send = |method: &str, path: &str, headers: &[(&str, &str)]| {
        appliance.program.send(method, path, headers, b"12345")
    };
    let old = send("POST", UPLOADS, &[("Upload-Length", "5")]);
    is_raw_problem(&old, 412, "upload_version");
    assert_eq!(old.1["tus-version"], "1.0.0");
    let other = send("POST", UPLOADS, &[("Tus-Resumable", "0.2.2")]);
    is_raw_problem(&other, 412, "upload_version");
    is_raw_problem(&send("POST", UPLOADS, &[TUS]), 400, "upload_header");
    for length in ["-1", "+5", "five", "99999999999999999999"] {
        let refused = send("POST", UPLOADS, &[TUS, ("Upload-Length", length)]);
        is_raw_problem(&refused, 400, "upload_header");
    }
    let most = ((700_u64 << 20) + 1).to_string();
    for length in [most.as_str(), "18446744073709551615"] {
        let refused = send("POST", UPLOADS, &[TUS, ("Upload-Length", length)]);
        is_raw_problem(&refused, 413, "upload_too_large");
    }
    let long = "x".repeat(2000);
    let headers = [
        TUS,
        ("Upload-Length", "5"),
        ("Upload-Metadata", long.as_str()),
    ];
    is_raw_problem(&send("POST", UPLOADS, &headers), 400, "upload_header");

    let headers = [
        TUS,
        ("Upload-Length", "5"),
        ("Upload-Metadata", "filename cGFsYWJyZS5wbGJ1"),
    ];
    let (status, headers, _) = send("POST", UPLOADS, &headers);
    assert_eq!(status, 201);
    let place = headers["location"].to_str().unwrap().to_owned();
    assert!(
        headers["upload-expires"]
            .to_str()
            .unwrap()
            .ends_with(" GMT")
    );
    let headers = [TUS, ("Content-Type", "text/plain"), ("Upload-Offset", "0")];
    is_raw_problem(&send("PATCH", &place, &headers), 415, "upload_kind");
    is_raw_problem(&send("PATCH", &place, &[TUS, PIECE]), 400, "upload_header");
    is_raw_problem(&send("POST", &place, &[TUS]), 405, "method_unknown");
    let (status, headers, _) = send("HEAD", &place, &[TUS]);
    assert_eq!(status, 200);
    assert_eq!(headers["upload-metadata"], "filename cGFsYWJyZS5wbGJ1");
    assert_eq!(headers["cache-control"], "no-store");
    for unknown in ["0".repeat(32), "..%2F..%2Fpalabre.db".to_owned()] {
        let refused = send("DELETE", &format!("{UPLOADS}/{unknown}"), &[TUS]);
        is_raw_problem(&refused, 404, "upload_unknown");
    }
    // The rest of the API takes what it took: a few KiB.
    let long = format!("{{\"name\":\"{}\"}}", "x".repeat(5000));
    let json = [("Content-Type", "application/json")];
    let (status, _, _) = appliance
        .program
        .send("POST", "/api/v1/rooms", &json, long.as_bytes());
    assert_eq!(status, 413);
}
