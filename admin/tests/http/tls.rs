//! HTTPS of our own, with a real TLS client on the other side: what is served, what is refused, and renewal.

mod certificate;
mod handshake;
mod redirect;

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
    assert_eq!(joined["page"], "https://box.test");
}

#[tokio::test]
async fn what_a_browser_on_this_machine_is_given_for_others_leads_elsewhere() {
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let own = palabre_engine::addresses::of_machine(any.ip())[0];
    let of_network = match own.is_loopback() {
        true => "https://localhost".to_owned(),
        // The port of the configuration.
        false => format!("https://{own}:0"),
    };
    let named = "https://meet.example.org";
    for (public_url, origin) in [(None, of_network.as_str()), (Some(named), named)] {
        let pair = self_signed();
        let files = Files::of(&pair);
        let mut server = Server::with(AdminConfig {
            bind: any,
            public_url: public_url.map(str::to_owned),
            ..files.config()
        })
        .await;
        let port = server.handle.as_ref().unwrap().address().port();
        server.address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut session = String::new();
        let send = async |session: &str, path: &str, body: serde_json::Value| {
            let stream = dial(&server, &[&pair.der], BOTH, &[]).await.unwrap();
            let kind = ("Content-Type", "application/json");
            let all = [("Host", "localhost"), kind, ("Cookie", session)];
            let body = body.to_string();
            let reply = exchange(stream, "POST", path, &all, body.as_bytes()).await;
            assert!((200..300).contains(&reply.status), "{}", reply.text());
            reply
        };
        let claim = json!({ "code": server.claim_code, "password": PASSWORD });
        session += &send("", "/api/v1/claim", claim).await.cookie();
        let room = send(&session, "/api/v1/rooms", json!({ "name": "Conseil" })).await;
        let room = room.json();
        let link = room["link"].as_str().unwrap();
        assert!(link.starts_with(&format!("{origin}/r/")), "{link}");
        let key = send(&session, "/api/v1/keys", json!({ "name": "Visio" })).await;
        let connects = key.json()["url"].as_str().unwrap().to_owned();
        assert_eq!(connects, origin.replace("https", "wss"));
        let join = json!({ "code": room["code"], "name": "Anne" });
        let joined = send("", "/api/v1/join", join).await.json();
        assert_eq!(joined["page"], origin);
        assert_eq!(joined["url"], "wss://localhost");
    }
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
