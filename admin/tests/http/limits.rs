//! Limits of the listener: too many, too slow, too long, and stopping.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use palabre_admin::{AdminConfig, Parts, ServeError, serve};
use palabre_engine::door::{Door, Patience};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::{Script, Server};

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_the_key_to_change() {
    let server = Server::start().await;
    let parts = Parts {
        store: server.store.clone(),
        live: Arc::new(Script::default()),
        appliance: None,
        door: Door::new(server.store.rooms.directory(), Patience::default()),
        sources: Vec::new(),
        sip: None,
        readiness: Vec::new(),
    };
    let config = AdminConfig {
        bind: server.address,
        ..AdminConfig::default()
    };
    let refused = serve(config, parts).await.unwrap_err();
    assert!(matches!(refused, ServeError::PortTaken { .. }));
    let sentence = refused.to_string();
    assert!(
        sentence.contains(&server.address.port().to_string()),
        "{sentence}"
    );
    assert!(sentence.contains("http.bind"), "{sentence}");
}

#[tokio::test]
async fn one_source_cannot_hold_every_connection() {
    let config = AdminConfig {
        connections_per_source: 8,
        ..AdminConfig::default()
    };
    let server = Server::with(config).await;
    let mut held = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        held.push(stream);
    }
    let mut ninth = TcpStream::connect(server.address).await.unwrap();
    let mut rest = Vec::new();
    // Closed unread; a reset says the same.
    let _ = ninth.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
    held.pop();
    // The place comes back as soon as the server has seen the close.
    loop {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let mut answer = Vec::new();
        let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        if stream.write_all(request).await.is_ok()
            && stream.read_to_end(&mut answer).await.is_ok()
            && !answer.is_empty()
        {
            let page = String::from_utf8(answer).unwrap();
            assert!(page.contains(r#"palabre_http_connections_refused_total{reason="source"}"#));
            break;
        }
    }
}

/// Time stands still but jumps to the next timer whenever everybody waits: seconds pass in no time.
#[tokio::test(start_paused = true)]
async fn a_client_that_never_finishes_its_headers_is_dropped() {
    // The database works on threads of its own, for which standing time must not jump.
    tokio::time::resume();
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        .await
        .unwrap();
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let took = start.elapsed();
    assert!(
        took >= Duration::from_secs(15) && took < Duration::from_secs(40),
        "{took:?}"
    );
}

#[tokio::test]
async fn headers_that_never_end_are_refused() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n")
        .await
        .unwrap();
    let line = format!("X-Long: {}\r\n", "x".repeat(1000));
    let mut sent = 0;
    while sent < 4 * 1024 * 1024 && stream.write_all(line.as_bytes()).await.is_ok() {
        sent += line.len();
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn nonsense_is_answered_400_or_closed() {
    let server = Server::start().await;
    for nonsense in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"INVITE sip:x SIP/2.0\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(nonsense).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"),
            "{answer:?}"
        );
    }
    assert_eq!(server.get("/healthz", &[]).await.status, 200);
}

#[tokio::test]
async fn stopping_closes_idle_connections_and_frees_the_port() {
    let mut server = Server::start().await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    let handle = server.handle.take().unwrap();
    handle.shutdown(Duration::from_secs(10)).await;
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    let address: SocketAddr = server.address;
    assert!(
        TcpStream::connect(address).await.is_err(),
        "nobody listens any more"
    );
}
