//! Plain HTTP leads to https.

use super::*;

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
