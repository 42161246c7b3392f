//! Handshakes that do not end, or end badly.

use super::*;

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
