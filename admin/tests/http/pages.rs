//! The pages, their headers, health and metrics.

use std::sync::atomic::Ordering;

use palabre_admin::AdminConfig;

use crate::server::Server;

const BROWSER: (&str, &str) = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8");

#[tokio::test]
async fn a_browser_gets_the_page_and_a_program_gets_ok() {
    let server = Server::start().await;
    let page = server.get("/", &[BROWSER]).await;
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(page.text().contains("Palabre"));
    let plain = server.get("/", &[]).await;
    assert_eq!((plain.status, plain.text()), (200, "OK"));
    // The page itself finds out what to show at an address of its own.
    assert_eq!(server.get("/r/some-slug", &[BROWSER]).await.body, page.body);
    assert_eq!(server.get("/assets/absent.js", &[]).await.status, 404);
    assert_eq!(server.get("/../Cargo.toml", &[]).await.status, 404);
    assert_eq!(server.get("/index.html.gz", &[]).await.status, 404);
    assert_eq!(server.send("POST", "/", &[], b"").await.status, 405);
}

#[tokio::test]
async fn browsers_are_told_what_pages_may_do() {
    let server = Server::start().await;
    for path in ["/", "/api/v1/box", "/rtc/validate", "/absent.png"] {
        let reply = server.get(path, &[BROWSER]).await;
        let policy = reply.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"));
        assert!(
            policy.contains(&format!("connect-src 'self' ws://{}", server.address)),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"));
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(reply.header("referrer-policy"), Some("no-referrer"));
        let permissions = reply.header("permissions-policy").unwrap();
        assert!(permissions.contains("camera=(self)") && permissions.contains("geolocation=()"));
    }
}

#[tokio::test]
async fn pages_are_kept_while_they_are_the_same() {
    let server = Server::start().await;
    let first = server.get("/", &[BROWSER]).await;
    assert_eq!(first.header("cache-control"), Some("no-cache"));
    let tag = first.header("etag").unwrap();
    let again = server.get("/", &[BROWSER, ("If-None-Match", tag)]).await;
    assert_eq!(again.status, 304);
    assert!(again.body.is_empty());
    let gzip = server
        .get("/", &[BROWSER, ("Accept-Encoding", "br, gzip")])
        .await;
    assert_eq!(gzip.header("content-encoding"), Some("gzip"));
    assert_eq!(gzip.body[..2], [0x1f, 0x8b]);
    let api = server.get("/api/v1/box", &[]).await;
    assert_eq!(api.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn health_says_what_is_down() {
    let server = Server::start().await;
    assert_eq!(server.get("/healthz", &[]).await.text(), "ok");
    let ready = server.get("/readyz", &[]).await;
    assert_eq!(ready.status, 200);
    assert_eq!(ready.json()["database"], "ok");
    *server.script.is_stopped.lock().unwrap() = true;
    let ready = server.get("/readyz", &[]).await;
    assert_eq!(ready.status, 503);
    assert_eq!(
        (&ready.json()["engine"], &ready.json()["database"]),
        (&"down".into(), &"ok".into())
    );
    *server.script.is_stopped.lock().unwrap() = false;
    *server.script.is_dead.lock().unwrap() = true;
    let ready = server.get("/readyz", &[]).await;
    assert_eq!(
        (ready.status, &ready.json()["engine"]),
        (503, &"down".into())
    );
    *server.script.is_dead.lock().unwrap() = false;
    server.script.is_hanging.store(true, Ordering::Relaxed);
    let ready = server.get("/readyz", &[]).await;
    assert_eq!(
        (ready.status, &ready.json()["engine"]),
        (503, &"down".into()),
        "a thread that hangs"
    );
    server.script.is_hanging.store(false, Ordering::Relaxed);
    assert_eq!(server.get("/readyz", &[]).await.status, 200);
    let silent = &server.script.has_no_telephone;
    silent.store(true, Ordering::Relaxed);
    let ready = server.get("/readyz", &[]).await;
    assert_eq!(ready.status, 503, "a box that takes no calls is not ready");
    assert_eq!(
        (&ready.json()["sip"], &ready.json()["engine"]),
        (&"down".into(), &"ok".into())
    );
    silent.store(false, Ordering::Relaxed);
    let ready = server.get("/readyz", &[]).await;
    assert_eq!((ready.status, &ready.json()["sip"]), (200, &"ok".into()));
    server.store.close().await;
    let ready = server.get("/readyz", &[]).await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["database"], "down");
    server
        .get("/api/v1/box", &[])
        .await
        .is_problem(503, "unavailable");
    assert_eq!(server.get("/healthz", &[]).await.status, 200);
}

#[tokio::test]
async fn metrics_are_for_the_networks_named() {
    let server = Server::start().await;
    server.get("/api/v1/box", &[]).await;
    server.get("/api/v1/rooms/r123", &[]).await;
    let page = server.get("/metrics", &[]).await;
    assert_eq!(page.status, 200);
    assert!(
        page.header("content-type")
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    let box_line =
        r#"palabre_http_requests_total{method="GET",route="/api/v1/box",status="200"} 1"#;
    assert!(page.text().contains(box_line), "{}", page.text());
    let room_line = r#"route="/api/v1/rooms/{id}",status="401""#;
    assert!(
        page.text().contains(room_line),
        "ids are not labels: {}",
        page.text()
    );
    assert!(page.text().contains("palabre_http_connections 1"));
    let metrics_from = vec!["192.0.2.0/24".parse().unwrap()];
    let server = Server::with(AdminConfig {
        metrics_from,
        ..AdminConfig::default()
    })
    .await;
    let refused = server.get("/metrics", &[]).await;
    assert_eq!(refused.status, 403);
    assert!(refused.text().contains("http.metrics_from"));
}
