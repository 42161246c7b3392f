//! HTTPS of our own, with a real TLS client on the other side: what is served, what is refused, and renewal.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use palabre_admin::{AdminConfig, ServeError, TlsError};
use palabre_engine::{SignalOutput, proto};
use prost::Message as _;
use rcgen::{CertificateParams, CertifiedIssuer, DnType, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion, version};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::protocol::Message;

use crate::server::{PASSWORD, Reply, Server, exchange};

/// The name in the certificates.
const HOST: &str = "box.test";

const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

/// A certificate and its key, as an operator has them.
struct Pair {
    certificate: String,
    key: String,
    der: CertificateDer<'static>,
}

fn params() -> CertificateParams {
    let mut params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, HOST);
    params.not_after = rcgen::date_time_ymd(2090, 1, 1);
    params
}

fn self_signed_by(key: KeyPair, params: &CertificateParams) -> Pair {
    let certificate = params.self_signed(&key).unwrap();
    Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
        der: certificate.der().clone(),
    }
}

fn self_signed() -> Pair {
    self_signed_by(KeyPair::generate().unwrap(), &params())
}

/// A certificate that somebody issued, and the issuer's.
fn issued() -> (Pair, CertificateDer<'static>) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority
        .distinguished_name
        .push(DnType::CommonName, "Autorité");
    let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = params().signed_by(&key, &issuer).unwrap();
    let pair = Pair {
        certificate: format!("{}{}", certificate.pem(), issuer.pem()),
        key: key.serialize_pem(),
        der: certificate.der().clone(),
    };
    (pair, issuer.der().clone())
}

/// The two files and the folder they are in.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn of(pair: &Pair) -> Self {
        let files = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::write(files.certificate(), &pair.certificate).unwrap();
        std::fs::write(files.key(), &pair.key).unwrap();
        files
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    fn config(&self) -> AdminConfig {
        AdminConfig {
            tls_certificate: Some(self.certificate()),
            tls_key: Some(self.key()),
            ..AdminConfig::default()
        }
    }
}

async fn served(pair: &Pair) -> (Files, Server) {
    let files = Files::of(pair);
    let server = Server::with(files.config()).await;
    (files, server)
}

async fn dial(
    server: &Server,
    trusted: &[&CertificateDer<'static>],
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        roots.add((*certificate).clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from(HOST).unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// One request through TLS by a client that trusts this certificate.
async fn https(
    server: &Server,
    trusted: &CertificateDer<'static>,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Reply {
    let stream = dial(server, &[trusted], BOTH, &[]).await.unwrap();
    let all = [&[("Host", HOST)], headers].concat();
    exchange(stream, method, path, &all, body).await
}

async fn get(server: &Server, trusted: &CertificateDer<'static>, path: &str) -> Reply {
    https(server, trusted, "GET", path, &[], b"").await
}

/// One request in plain text, to whichever port.
async fn plain(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Reply {
    let stream = TcpStream::connect(address).await.unwrap();
    exchange(stream, "GET", path, headers, b"").await
}

/// Asks for the metrics until they hold this line.
async fn counted(server: &Server, trusted: &CertificateDer<'static>, line: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let page = get(server, trusted, "/metrics").await;
        if page.text().lines().any(|known| known == line) {
            return;
        }
        assert!(Instant::now() < deadline, "no {line} in {}", page.text());
    }
}

#[tokio::test]
async fn pages_and_api_are_served_through_tls() {
    let pair = self_signed();
    let (_files, server) = served(&pair).await;
    let handle = server.handle.as_ref().unwrap();
    assert_eq!(handle.url(), format!("https://{}", server.address));
    for (versions, wanted) in [
        (&[&version::TLS13][..], ProtocolVersion::TLSv1_3),
        (&[&version::TLS12][..], ProtocolVersion::TLSv1_2),
    ] {
        let stream = dial(&server, &[&pair.der], versions, &["h2", "http/1.1"])
            .await
            .unwrap();
        let (_, session) = stream.get_ref();
        assert_eq!(session.protocol_version(), Some(wanted));
        assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));
        let reply = exchange(stream, "GET", "/healthz", &[("Host", HOST)], b"").await;
        assert_eq!((reply.status, reply.text()), (200, "ok"));
    }
    let page = get(&server, &pair.der, "/absent.png").await;
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.contains("connect-src 'self' wss://box.test;"),
        "{policy}"
    );
    let metrics = get(&server, &pair.der, "/metrics").await;
    let expires = "palabre_http_certificate_expires_timestamp_seconds ";
    let line = metrics.text().lines().find(|l| l.starts_with(expires));
    assert_eq!(line, Some(format!("{expires}3786912000").as_str()));
}

#[tokio::test]
async fn browsers_hold_to_https_for_as_long_as_the_certificate_can_bear() {
    let pair = self_signed();
    let (_files, server) = served(&pair).await;
    let reply = get(&server, &pair.der, "/healthz").await;
    let header = "strict-transport-security";
    assert_eq!(reply.header(header), Some("max-age=300"));
    let (pair, authority) = issued();
    let (_files, server) = served(&pair).await;
    let reply = get(&server, &authority, "/healthz").await;
    assert_eq!(reply.header(header), Some("max-age=86400"));
}

#[tokio::test]
async fn a_session_over_tls_is_kept_to_this_host_and_to_https() {
    let pair = self_signed();
    let (_files, server) = served(&pair).await;
    let claim = json!({ "code": server.claim_code, "password": PASSWORD }).to_string();
    let kind = ("Content-Type", "application/json");
    let foreign = [kind, ("Origin", "http://box.test")];
    let send = async |headers: &[(&str, &str)], path: &str, body: &str| {
        https(&server, &pair.der, "POST", path, headers, body.as_bytes()).await
    };
    send(&foreign, "/api/v1/claim", &claim)
        .await
        .is_problem(403, "cross_origin");
    let own = [kind, ("Origin", "https://box.test")];
    let done = send(&own, "/api/v1/claim", &claim).await;
    assert_eq!(done.status, 204, "{}", done.text());
    let set = done.header("set-cookie").unwrap();
    assert!(set.starts_with("__Host-palabre_session="), "{set}");
    assert!(
        set.contains("; Path=/;") && set.ends_with("; Secure"),
        "{set}"
    );
    let cookie = done.cookie();
    let made = [
        kind,
        ("Origin", "https://box.test"),
        ("Cookie", cookie.as_str()),
    ];
    let room = send(&made, "/api/v1/rooms", r#"{"name":"Conseil"}"#).await;
    assert_eq!(room.status, 201, "{}", room.text());
    let code = room.json()["code"].as_str().unwrap().to_owned();
    let join = json!({ "code": code, "name": "Anne" }).to_string();
    let joined = send(&own, "/api/v1/join", &join).await.json();
    assert_eq!(joined["url"], "wss://box.test");
}

#[tokio::test]
async fn the_signal_websocket_is_carried_by_tls() {
    let pair = self_signed();
    let (_files, mut server) = served(&pair).await;
    let token = server.join_token("r").await;
    let stream = dial(&server, &[&pair.der], BOTH, &["http/1.1"])
        .await
        .unwrap();
    let address = format!("wss://{HOST}/rtc?access_token={token}&auto_subscribe=1");
    let (mut socket, _) = tokio_tungstenite::client_async(address, stream)
        .await
        .unwrap();
    let mut joined = server.script.last_joined();
    let ping = proto::SignalRequest {
        message: Some(proto::signal_request::Message::Ping(7)),
    };
    let bytes = ping.encode_to_vec();
    socket.send(Message::Binary(bytes.into())).await.unwrap();
    assert_eq!(joined.requests.recv().await, Some(ping));
    let pong = proto::SignalResponse {
        message: Some(proto::signal_response::Message::Pong(7)),
    };
    let said = SignalOutput::Response(pong.clone());
    joined.responses.send(said).await.unwrap();
    let answer = socket.next().await.unwrap().unwrap();
    assert_eq!(answer, Message::Binary(pong.encode_to_vec().into()));
    // The end of the server reaches through it.
    let handle = server.handle.take().unwrap();
    let (_, end) = tokio::join!(handle.shutdown(Duration::from_secs(10)), socket.next());
    let Some(Ok(Message::Close(Some(frame)))) = end else {
        panic!("{end:?}");
    };
    assert_eq!(u16::from(frame.code), 1001);
}

#[tokio::test]
async fn whoever_speaks_plain_http_to_the_tls_port_is_sent_to_https() {
    let pair = self_signed();
    let (_files, server) = served(&pair).await;
    let port = server.address.port();
    let host = format!("box.test:{port}");
    let reply = plain(server.address, "/r/x?y=1", &[("Host", &host)]).await;
    let wanted = format!("https://box.test:{port}/r/x?y=1");
    assert_eq!(reply.status, 308);
    assert_eq!(reply.header("location"), Some(wanted.as_str()));
    let failed = "palabre_http_handshakes_failed_total";
    counted(
        &server,
        &pair.der,
        &format!("{failed}{{reason=\"plain\"}} 1"),
    )
    .await;
}

#[tokio::test]
async fn plain_http_leads_to_https_and_to_nothing_else() {
    let pair = self_signed();
    let files = Files::of(&pair);
    let server = Server::with(AdminConfig {
        redirect_bind: Some(([127, 0, 0, 1], 0).into()),
        trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
        ..files.config()
    })
    .await;
    let redirect = server.handle.as_ref().unwrap().redirect_address().unwrap();
    let port = server.address.port();
    let stranger = ("X-Forwarded-For", "203.0.113.5");
    let cases = [
        ("/", "box.test", format!("https://box.test:{port}/")),
        (
            "/r/a-b?c=d%20e",
            "box.test:80",
            format!("https://box.test:{port}/r/a-b?c=d%20e"),
        ),
        (
            "//evil.example/",
            "[::1]:8080",
            format!("https://[::1]:{port}//evil.example/"),
        ),
        (
            "/%0d%0aSet-Cookie:x",
            "192.0.2.1",
            format!("https://192.0.2.1:{port}/%0d%0aSet-Cookie:x"),
        ),
        // Of an absolute address (RFC 9112, 3.2.2) the path remains.
        (
            "http://evil.example/p",
            "box.test",
            format!("https://box.test:{port}/p"),
        ),
        (
            "http://evil.example",
            "box.test",
            format!("https://box.test:{port}/"),
        ),
        (
            "/healthz",
            "box.test",
            format!("https://box.test:{port}/healthz"),
        ),
        (
            "/readyz",
            "box.test",
            format!("https://box.test:{port}/readyz"),
        ),
        (
            "/metrics",
            "box.test",
            format!("https://box.test:{port}/metrics"),
        ),
        (
            "/rtc?access_token=x",
            "box.test",
            format!("https://box.test:{port}/rtc?access_token=x"),
        ),
        (
            "/api/v1/box",
            "box.test",
            format!("https://box.test:{port}/api/v1/box"),
        ),
    ];
    for (path, host, wanted) in &cases {
        let reply = plain(redirect, path, &[("Host", host), stranger]).await;
        assert_eq!(reply.status, 308, "{path}");
        assert_eq!(reply.header("location"), Some(wanted.as_str()));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert!(reply.body.is_empty() && reply.header("set-cookie").is_none());
    }
    for host in [
        "",
        "evil.example/x",
        "a@b",
        "a b",
        "a\\b",
        "box.test:x",
        "[::1",
    ] {
        let reply = plain(redirect, "/", &[("Host", host)]).await;
        assert_eq!(reply.status, 400, "{host}");
        assert_eq!(reply.header("location"), None);
    }
    let stream = TcpStream::connect(redirect).await.unwrap();
    let body = json!({ "code": server.claim_code, "password": PASSWORD }).to_string();
    let kind = ("Content-Type", "application/json");
    let headers = [("Host", "box.test"), kind];
    let claim = exchange(stream, "POST", "/api/v1/claim", &headers, body.as_bytes()).await;
    assert_eq!(claim.status, 308);
    let facts = get(&server, &pair.der, "/api/v1/box").await.json();
    assert_eq!(facts["claimed"], false, "nothing was done in plain text");

    // This machine may ask how the program is.
    let host = [("Host", "127.0.0.1")];
    assert_eq!(plain(redirect, "/healthz", &host).await.text(), "ok");
    let ready = plain(redirect, "/readyz", &host).await;
    assert_eq!((ready.status, &ready.json()["engine"]), (200, &"ok".into()));
    let metrics = plain(redirect, "/metrics", &host).await;
    assert!(metrics.text().contains("palabre_http_requests_total"));
    assert_eq!(plain(redirect, "/api/v1/box", &host).await.status, 308);
    *server.script.is_dead.lock().unwrap() = true;
    assert_eq!(plain(redirect, "/readyz", &host).await.status, 503);
}

#[tokio::test]
async fn a_public_address_is_where_plain_http_leads_whatever_host_was_asked_for() {
    // TLS may be a proxy's: then there is no certificate here.
    let server = Server::with(AdminConfig {
        redirect_bind: Some(([127, 0, 0, 1], 0).into()),
        public_url: Some("https://meet.example.org".to_owned()),
        ..AdminConfig::default()
    })
    .await;
    let redirect = server.handle.as_ref().unwrap().redirect_address().unwrap();
    for host in ["evil.example", "127.0.0.1", "a@b"] {
        let reply = plain(redirect, "/r/x", &[("Host", host)]).await;
        let wanted = Some("https://meet.example.org/r/x");
        assert_eq!((reply.status, reply.header("location")), (308, wanted));
    }
}

#[tokio::test]
async fn one_address_of_ipv6_serves_both_families() {
    let pair = self_signed();
    let files = Files::of(&pair);
    let any = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 0], 0));
    let mut server = Server::with(AdminConfig {
        bind: any,
        redirect_bind: Some(any),
        ..files.config()
    })
    .await;
    let handle = server.handle.as_ref().unwrap();
    let (pages, redirect) = (
        handle.address().port(),
        handle.redirect_address().unwrap().port(),
    );
    for own in ["127.0.0.1", "::1"] {
        let own: IpAddr = own.parse().unwrap();
        server.address = SocketAddr::new(own, pages);
        // For this machine alone: IPv4 comes in the clothes of IPv6.
        let metrics = get(&server, &pair.der, "/metrics").await;
        assert_eq!(metrics.status, 200, "{own}");
        let ready = plain(SocketAddr::new(own, redirect), "/readyz", &[("Host", "x")]).await;
        assert_eq!(ready.status, 200, "{own}");
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_whoever_connects_next() {
    let (old, new) = (self_signed(), self_signed());
    let (files, server) = served(&old).await;
    let shown = async || {
        let stream = dial(&server, &[&old.der, &new.der], BOTH, &[])
            .await
            .unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let reads = async |outcome: &str| {
        let stream = dial(&server, &[&old.der, &new.der], BOTH, &[])
            .await
            .unwrap();
        let page = exchange(stream, "GET", "/metrics", &[("Host", HOST)], b"").await;
        let name = format!("palabre_http_certificate_reads_total{{outcome=\"{outcome}\"}} ");
        let line = page
            .text()
            .lines()
            .find_map(|line| line.strip_prefix(&name));
        line.map_or(0, |count| count.parse().unwrap())
    };
    assert_eq!(shown().await, old.der);
    let mut staying = dial(&server, &[&old.der], BOTH, &[]).await.unwrap();
    // The one file is there before the other.
    std::fs::write(files.key(), &new.key).unwrap();
    assert_eq!(shown().await, old.der);
    assert_eq!(shown().await, old.der);
    assert_eq!((reads("refused").await, reads("taken").await), (1, 0));
    // As renewal programs do it: another file takes the name.
    let aside = files.folder.path().join("new.pem");
    std::fs::write(&aside, &new.certificate).unwrap();
    std::fs::rename(&aside, files.certificate()).unwrap();
    assert_eq!(shown().await, new.der);
    assert_eq!((reads("refused").await, reads("taken").await), (1, 1));
    // What was opened before goes on.
    staying
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    staying.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    // A file that goes, or is spoiled, takes nothing away.
    std::fs::remove_file(files.certificate()).unwrap();
    assert_eq!(shown().await, new.der);
    std::fs::write(files.certificate(), "nonsense").unwrap();
    assert_eq!(shown().await, new.der);
    std::fs::write(files.certificate(), &old.certificate).unwrap();
    std::fs::write(files.key(), &old.key).unwrap();
    assert_eq!(shown().await, old.der);
}

/// Tools that renew often change a link to the file: the name stays, the file is another.
#[tokio::test]
async fn a_renewal_by_links_is_seen() {
    let (old, new) = (self_signed(), self_signed());
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (place, pair) in [("1", &old), ("2", &new)] {
        std::fs::create_dir(at(place)).unwrap();
        std::fs::write(at(place).join("c"), &pair.certificate).unwrap();
        std::fs::write(at(place).join("k"), &pair.key).unwrap();
    }
    let link = |to: &str| {
        std::os::unix::fs::symlink(to, at("next")).unwrap();
        std::fs::rename(at("next"), at("live")).unwrap();
    };
    link("1");
    let server = Server::with(AdminConfig {
        tls_certificate: Some(at("live/c")),
        tls_key: Some(at("live/k")),
        ..AdminConfig::default()
    })
    .await;
    assert_eq!(get(&server, &old.der, "/healthz").await.status, 200);
    link("2");
    assert_eq!(get(&server, &new.der, "/healthz").await.status, 200);
}

#[tokio::test]
async fn half_open_handshakes_keep_nobody_out() {
    let pair = self_signed();
    let files = Files::of(&pair);
    // Eight handshakes at once.
    let mut server = Server::with(AdminConfig {
        connections: 32,
        ..files.config()
    })
    .await;
    let mut idle = Vec::new();
    for number in 0..100 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        // Half of them say nothing, half of them begin.
        if number % 2 == 0 {
            let _ = stream.write_all(&[22, 3, 1, 2, 0, 1]).await;
        }
        idle.push(stream);
        if number % 10 == 9 {
            let reply = get(&server, &pair.der, "/healthz").await;
            assert_eq!(reply.status, 200, "after {number} half-open ones");
        }
    }
    let mut first = idle.swap_remove(0);
    let mut rest = Vec::new();
    // Closed or reset: it is the oldest.
    let _ = first.read_to_end(&mut rest).await;
    let page = get(&server, &pair.der, "/metrics").await;
    let name = "palabre_http_handshakes_failed_total{reason=\"displaced\"} ";
    let displaced = page.text().lines().find_map(|line| line.strip_prefix(name));
    let displaced: u64 = displaced.unwrap().parse().unwrap();
    assert!((92..=111).contains(&displaced), "{displaced}");
    // Nor do they hold up the end.
    let began = Instant::now();
    let handle = server.handle.take().unwrap();
    handle.shutdown(Duration::from_secs(30)).await;
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
}

/// Time stands still but jumps to the next timer whenever everybody waits: seconds pass in no time.
#[tokio::test(start_paused = true)]
async fn a_handshake_has_its_time() {
    // The database works on threads of its own, for which standing time must not jump.
    tokio::time::resume();
    let pair = self_signed();
    let (_files, server) = served(&pair).await;
    for begun in [&b""[..], &[22, 3, 1, 2, 0, 1]] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(begun).await.unwrap();
        tokio::time::pause();
        let start = tokio::time::Instant::now();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let took = start.elapsed();
        tokio::time::resume();
        let wanted = Duration::from_secs(8)..Duration::from_secs(15);
        assert!(wanted.contains(&took), "{took:?}");
    }
    let failed = "palabre_http_handshakes_failed_total{reason=\"slow\"} 2";
    counted(&server, &pair.der, failed).await;
}

#[tokio::test]
async fn a_handshake_that_fails_costs_nobody_else_and_is_counted_by_its_reason() {
    let pair = self_signed();
    let (_files, server) = served(&pair).await;
    let stranger = self_signed();
    assert!(dial(&server, &[&stranger.der], BOTH, &[]).await.is_err());
    assert!(dial(&server, &[&pair.der], BOTH, &["h2"]).await.is_err());
    for nonsense in [
        &b"\x16\x03\x01\xff\xff\x01\x00"[..],
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00",
        b"\x80\x2e\x01\x00\x02",
        b"\0\0\0\0\r\n\r\n",
        b"\xff",
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(nonsense).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        // At most an alert (RFC 8446, 5.1).
        assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
    }
    drop(TcpStream::connect(server.address).await.unwrap());
    let failed = |reason: &str, count: u64| {
        format!("palabre_http_handshakes_failed_total{{reason=\"{reason}\"}} {count}")
    };
    for (reason, count) in [
        ("refused", 1),
        ("incompatible", 1),
        ("malformed", 6),
        ("closed", 1),
    ] {
        counted(&server, &pair.der, &failed(reason, count)).await;
    }
}

fn refusal(outcome: Result<Server, ServeError>) -> (TlsError, String) {
    match outcome {
        Err(ServeError::Tls(error)) => {
            let sentence = error.to_string();
            (error, sentence)
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it started"),
    }
}

async fn refused(config: AdminConfig) -> (TlsError, String) {
    refusal(Server::attempt(config).await)
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_with_its_file_and_its_key() {
    let pair = self_signed();
    let files = Files::of(&pair);
    let shown = |path: &Path| path.display().to_string();
    let (certificate, key) = (shown(&files.certificate()), shown(&files.key()));

    let (_, said) = refused(AdminConfig {
        tls_key: None,
        ..files.config()
    })
    .await;
    assert!(
        said.starts_with("http.tls_certificate is set and http.tls_key is not"),
        "{said}"
    );
    let (_, said) = refused(AdminConfig {
        tls_certificate: None,
        ..files.config()
    })
    .await;
    assert!(
        said.starts_with("http.tls_key is set and http.tls_certificate is not"),
        "{said}"
    );

    let spoiled = |path: PathBuf, text: &[u8]| {
        std::fs::write(path, text).unwrap();
        files.config()
    };
    let whole = |path: PathBuf, text: &str| std::fs::write(path, text).unwrap();
    let (error, said) = refused(spoiled(files.certificate(), b"no certificate")).await;
    assert!(matches!(error, TlsError::NoCertificate { .. }), "{said}");
    assert!(
        said.contains(&certificate) && said.contains("http.tls_certificate"),
        "{said}"
    );
    // A key where the certificate should be.
    let (error, _) = refused(spoiled(files.certificate(), pair.key.as_bytes())).await;
    assert!(matches!(error, TlsError::NoCertificate { .. }));
    let block = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let (error, said) = refused(spoiled(files.certificate(), block)).await;
    assert!(matches!(error, TlsError::BadCertificate { .. }), "{said}");
    let (error, said) = refused(spoiled(files.certificate(), &vec![b'x'; 300_000])).await;
    assert!(matches!(error, TlsError::TooLong { .. }), "{said}");
    whole(files.certificate(), &pair.certificate);

    let sealed = pair.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let (error, said) = refused(spoiled(files.key(), sealed.as_bytes())).await;
    assert!(matches!(error, TlsError::NoKey { .. }), "{said}");
    assert!(
        said.contains(&key) && said.contains("http.tls_key"),
        "{said}"
    );
    let block = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let (error, said) = refused(spoiled(files.key(), block)).await;
    assert!(matches!(error, TlsError::BadKey { .. }), "{said}");
    let (error, said) = refused(spoiled(files.key(), self_signed().key.as_bytes())).await;
    assert!(matches!(error, TlsError::Mismatch { .. }), "{said}");
    for part in [&certificate, &key, "http.tls_certificate", "http.tls_key"] {
        assert!(said.contains(part), "{said}");
    }
    std::fs::remove_file(files.key()).unwrap();
    let (error, said) = refused(files.config()).await;
    assert!(matches!(error, TlsError::Unreadable { .. }), "{said}");
    assert!(
        said.contains(&key) && said.contains("http.tls_key"),
        "{said}"
    );
}

#[tokio::test]
async fn settings_that_contradict_each_other_are_refused() {
    let pair = self_signed();
    let files = Files::of(&pair);
    let (_, said) = refused(AdminConfig {
        public_url: Some("http://meet.example.org".to_owned()),
        ..files.config()
    })
    .await;
    assert!(
        said.contains("http.public_url") && said.contains("https://"),
        "{said}"
    );
    let (_, said) = refused(AdminConfig {
        redirect_bind: Some(([127, 0, 0, 1], 0).into()),
        ..AdminConfig::default()
    })
    .await;
    assert!(
        said.contains("http.redirect_bind") && said.contains("http.tls_certificate"),
        "{said}"
    );
    let taken = TcpStream::connect(Server::start().await.address)
        .await
        .unwrap();
    let taken = taken.local_addr().unwrap();
    let held = std::net::TcpListener::bind((taken.ip(), 0)).unwrap();
    let outcome = Server::attempt(AdminConfig {
        redirect_bind: Some(held.local_addr().unwrap()),
        ..files.config()
    })
    .await;
    let Err(error @ ServeError::PortTaken { .. }) = outcome else {
        panic!("it started");
    };
    assert!(error.to_string().contains("http.redirect_bind"), "{error}");
}

#[tokio::test]
async fn an_expired_certificate_is_served_all_the_same() {
    let mut expired = params();
    expired.not_before = rcgen::date_time_ymd(2020, 1, 1);
    expired.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let pair = self_signed_by(KeyPair::generate().unwrap(), &expired);
    let (_files, server) = served(&pair).await;
    let refused = dial(&server, &[&pair.der], BOTH, &[]).await.unwrap_err();
    assert!(refused.to_string().contains("expired"), "{refused}");
    let good = self_signed();
    // An alert counts as the client's refusal: browsers send it until the person insists.
    std::fs::write(_files.key(), &good.key).unwrap();
    std::fs::write(_files.certificate(), &good.certificate).unwrap();
    let failed = "palabre_http_handshakes_failed_total{reason=\"refused\"} 1";
    counted(&server, &good.der, failed).await;
}

#[tokio::test]
async fn every_usual_kind_of_key_is_taken() {
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_RSA_SHA256,
        &rcgen::PKCS_ED25519,
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let pair = self_signed_by(key, &params());
        let (_files, server) = served(&pair).await;
        assert_eq!(get(&server, &pair.der, "/healthz").await.status, 200);
    }
}
