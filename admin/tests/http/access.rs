//! Claiming the box, signing in and out, tokens and keys, and what is refused on the way.

use std::time::Duration;

use livekit_api::access_token::{AccessToken, VideoGrants};
use serde_json::json;

use crate::server::{PASSWORD, Server};

#[tokio::test]
async fn a_new_box_is_claimed_once() {
    let server = Server::start().await;
    let facts = server.get("/api/v1/box", &[]).await.json();
    assert_eq!(facts["claimed"], false);
    assert_eq!(facts["languages"], json!(["fr", "en"]));
    let sign_in = json!({ "password": PASSWORD });
    server
        .call("POST", "/api/v1/session", &[], sign_in)
        .await
        .is_problem(409, "not_claimed");

    let claim = |code: &str, password: &str| json!({ "code": code, "password": password });
    let wrong = server
        .call("POST", "/api/v1/claim", &[], claim("AAAA-BBBB", PASSWORD))
        .await;
    wrong.is_problem(401, "claim_code_wrong");
    let short = server
        .call(
            "POST",
            "/api/v1/claim",
            &[],
            claim(&server.claim_code, "short"),
        )
        .await;
    assert_eq!(short.is_problem(422, "field_invalid")["field"], "password");

    let done = server
        .call(
            "POST",
            "/api/v1/claim",
            &[],
            claim(&server.claim_code, PASSWORD),
        )
        .await;
    assert_eq!(done.status, 204);
    assert!(done.body.is_empty());
    let set = done.header("set-cookie").unwrap();
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"] {
        assert!(set.contains(attribute), "{set}");
    }
    let session = server
        .get("/api/v1/session", &[("Cookie", &done.cookie())])
        .await;
    assert_eq!(session.json()["account"], "administrator");
    assert_eq!(server.get("/api/v1/box", &[]).await.json()["claimed"], true);
    let again = server
        .call(
            "POST",
            "/api/v1/claim",
            &[],
            claim(&server.claim_code, PASSWORD),
        )
        .await;
    again.is_problem(409, "claimed_already");
}

#[tokio::test]
async fn signing_in_opens_a_session_that_signing_out_ends() {
    let server = Server::start().await;
    server.claim().await;
    let wrong = json!({ "password": "not the password" });
    server
        .call("POST", "/api/v1/session", &[], wrong)
        .await
        .is_problem(401, "password_wrong");
    let right = server
        .call(
            "POST",
            "/api/v1/session",
            &[],
            json!({ "password": PASSWORD }),
        )
        .await;
    assert_eq!(right.status, 204);
    let cookie = right.cookie();
    assert_eq!(
        server
            .get("/api/v1/session", &[("Cookie", &cookie)])
            .await
            .status,
        200
    );
    let out = server
        .send("DELETE", "/api/v1/session", &[("Cookie", &cookie)], b"")
        .await;
    assert_eq!(out.status, 204);
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    server
        .get("/api/v1/session", &[("Cookie", &cookie)])
        .await
        .is_problem(401, "unauthenticated");
}

#[tokio::test]
async fn the_cookie_is_secure_behind_tls() {
    let server = Server::behind_proxy().await;
    server.claim().await;
    let tls = [
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "meet.example.org"),
    ];
    let body = json!({ "password": PASSWORD });
    let reply = server.call("POST", "/api/v1/session", &tls, body).await;
    let set = reply.header("set-cookie").unwrap();
    assert!(set.starts_with("__Host-palabre_session="), "{set}");
    assert!(
        set.contains("; Path=/;") && set.contains("; Secure"),
        "{set}"
    );
    assert!(!set.contains("Domain"), "{set}");
    let year = Some("max-age=31536000");
    assert_eq!(reply.header("strict-transport-security"), year);
    let cookie = reply.cookie();
    let signed_in = async |cookie: &str, through: &[(&str, &str)]| {
        let headers = [through, &[("Cookie", cookie)]].concat();
        server.get("/api/v1/session", &headers).await.status
    };
    assert_eq!(signed_in(&cookie, &tls).await, 200);
    // A plain connection cannot plant the other name, nor is the secret of the one taken under the other.
    let plain_name = cookie.trim_start_matches("__Host-");
    assert_eq!(signed_in(plain_name, &tls).await, 401);
    assert_eq!(signed_in(&cookie, &[]).await, 401);
}

#[tokio::test]
async fn wrong_passwords_are_slowed_then_locked_out_per_source() {
    let server = Server::behind_proxy().await;
    server.claim().await;
    let from = |source| [("X-Forwarded-For", source)];
    let wrong = || json!({ "password": "wrong wrong wrong" });
    for _ in 0..4 {
        let reply = server
            .call("POST", "/api/v1/session", &from("203.0.113.1"), wrong())
            .await;
        reply.is_problem(401, "password_wrong");
    }
    let held = server
        .call(
            "POST",
            "/api/v1/session",
            &from("203.0.113.1"),
            json!({ "password": PASSWORD }),
        )
        .await;
    let problem = held.is_problem(429, "slowed");
    let wait = held.header("retry-after").unwrap().parse::<u64>().unwrap();
    assert!((1..=2).contains(&wait));
    assert_eq!(problem["wait"], wait);
    let other = server
        .call(
            "POST",
            "/api/v1/session",
            &from("203.0.113.2"),
            json!({ "password": PASSWORD }),
        )
        .await;
    assert_eq!(other.status, 204);
    // The claim code is guarded by the same count.
    let claim = json!({ "code": "AAAA", "password": PASSWORD });
    let reply = server
        .call("POST", "/api/v1/claim", &from("203.0.113.1"), claim)
        .await;
    reply.is_problem(429, "slowed");
}

#[tokio::test]
async fn the_password_changes_and_ends_the_sessions() {
    let server = Server::start().await;
    let cookie = server.claim().await;
    let change = |old: &str, new: &str| json!({ "old": old, "password": new });
    let auth = [("Cookie", cookie.as_str())];
    let wrong = server
        .call(
            "PUT",
            "/api/v1/password",
            &auth,
            change("wrong wrong wrong", "another password"),
        )
        .await;
    wrong.is_problem(401, "password_wrong");
    let anybody = server
        .call(
            "PUT",
            "/api/v1/password",
            &[],
            change(PASSWORD, "another password"),
        )
        .await;
    anybody.is_problem(401, "unauthenticated");
    let done = server
        .call(
            "PUT",
            "/api/v1/password",
            &auth,
            change(PASSWORD, "another password"),
        )
        .await;
    assert_eq!(done.status, 204);
    server
        .get("/api/v1/session", &auth)
        .await
        .is_problem(401, "unauthenticated");
    let old = server
        .call(
            "POST",
            "/api/v1/session",
            &[],
            json!({ "password": PASSWORD }),
        )
        .await;
    old.is_problem(401, "password_wrong");
    let new = server
        .call(
            "POST",
            "/api/v1/session",
            &[],
            json!({ "password": "another password" }),
        )
        .await;
    assert_eq!(new.status, 204);
}

#[tokio::test]
async fn what_another_site_sends_is_not_carried_out() {
    let server = Server::start().await;
    let cookie = server.claim().await;
    let own = format!("http://{}", server.address);
    let room = || json!({ "name": "a" });
    for header in [
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
        ("Sec-Fetch-Site", "cross-site"),
    ] {
        let reply = server
            .call(
                "POST",
                "/api/v1/rooms",
                &[("Cookie", &cookie), header],
                room(),
            )
            .await;
        reply.is_problem(403, "cross_origin");
        let sign_in = json!({ "password": PASSWORD });
        server
            .call("POST", "/api/v1/session", &[header], sign_in)
            .await
            .is_problem(403, "cross_origin");
    }
    let same = [
        ("Cookie", cookie.as_str()),
        ("Origin", own.as_str()),
        ("Sec-Fetch-Site", "same-origin"),
    ];
    assert_eq!(
        server
            .call("POST", "/api/v1/rooms", &same, room())
            .await
            .status,
        201
    );
    // What a form can send without asking is no JSON.
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    ] {
        let headers = [("Cookie", cookie.as_str()), ("Content-Type", kind)];
        let reply = server
            .send("POST", "/api/v1/rooms", &headers, br#"{"name":"a"}"#)
            .await;
        reply.is_problem(415, "not_json");
    }
    let rooms = server
        .get("/api/v1/rooms", &[("Cookie", &cookie)])
        .await
        .json();
    assert_eq!(rooms["total"], 1);
}

#[tokio::test]
async fn bearer_tokens_are_made_listed_used_and_deleted() {
    let server = Server::start().await;
    let cookie = server.claim().await;
    let auth = [("Cookie", cookie.as_str())];
    let made = server
        .call(
            "POST",
            "/api/v1/tokens",
            &auth,
            json!({ "name": "backup", "days": 30 }),
        )
        .await;
    assert_eq!(made.status, 201);
    let made = made.json();
    let text = made["text"].as_str().unwrap();
    let bearer = format!("Bearer {text}");
    assert_eq!(
        server
            .get("/api/v1/rooms", &[("Authorization", &bearer)])
            .await
            .status,
        200
    );
    let list = server
        .get("/api/v1/tokens", &[("Authorization", &bearer)])
        .await;
    assert!(!list.text().contains(text));
    assert_eq!(list.json()["tokens"][0]["name"], "backup");
    assert!(list.json()["tokens"][0]["expires"].is_string());
    let path = format!("/api/v1/tokens/{}", made["id"].as_str().unwrap());
    assert_eq!(server.send("DELETE", &path, &auth, b"").await.status, 204);
    server
        .send("DELETE", &path, &auth, b"")
        .await
        .is_problem(404, "token_unknown");
    let dead = server
        .get("/api/v1/rooms", &[("Authorization", &bearer)])
        .await;
    dead.is_problem(401, "unauthenticated");
    assert!(
        dead.header("www-authenticate")
            .unwrap()
            .starts_with("Bearer")
    );
    // A bad token is not made up for by a good cookie.
    let both = [
        ("Authorization", bearer.as_str()),
        ("Cookie", cookie.as_str()),
    ];
    server
        .get("/api/v1/rooms", &both)
        .await
        .is_problem(401, "unauthenticated");
    for days in [0, 3651] {
        let reply = server
            .call(
                "POST",
                "/api/v1/tokens",
                &auth,
                json!({ "name": "x", "days": days }),
            )
            .await;
        reply.is_problem(422, "field_invalid");
    }
}

#[tokio::test]
async fn an_applications_key_mints_tokens_until_it_is_deleted() {
    let server = Server::start().await;
    let cookie = server.claim().await;
    let auth = [("Cookie", cookie.as_str())];
    let made = server
        .call("POST", "/api/v1/keys", &auth, json!({ "name": "Visio" }))
        .await;
    assert_eq!(made.status, 201);
    let made = made.json();
    assert_eq!(made["url"], format!("ws://{}", server.address));
    let (key, secret) = (
        made["key"].as_str().unwrap(),
        made["secret"].as_str().unwrap(),
    );
    let token = AccessToken::with_api_key(key, secret)
        .with_identity("alice")
        .with_ttl(Duration::from_secs(60))
        .with_grants(VideoGrants {
            room: "any".into(),
            room_join: true,
            ..VideoGrants::default()
        })
        .to_jwt()
        .unwrap();
    let validate = format!("/rtc/validate?access_token={token}");
    assert_eq!(server.get(&validate, &[]).await.text(), "success");
    let list = server.get("/api/v1/keys", &auth).await;
    assert!(!list.text().contains(secret));
    assert_eq!(list.json()["keys"][0]["key"], key);
    let path = format!("/api/v1/keys/{key}");
    assert_eq!(server.send("DELETE", &path, &auth, b"").await.status, 204);
    server
        .send("DELETE", &path, &auth, b"")
        .await
        .is_problem(404, "key_unknown");
    assert_eq!(server.get(&validate, &[]).await.status, 401);
}

#[tokio::test]
async fn nothing_of_the_administrator_is_open_to_others() {
    let server = Server::start().await;
    let cookie = server.claim().await;
    let room = server.room(&cookie, "a").await;
    let room = format!("/api/v1/rooms/{}", room["id"].as_str().unwrap());
    let routes = [
        ("GET", "/api/v1/rooms".to_owned()),
        ("POST", "/api/v1/rooms".to_owned()),
        ("GET", room.clone()),
        ("DELETE", room.clone()),
        ("POST", format!("{room}/code")),
        ("GET", "/api/v1/tokens".to_owned()),
        ("POST", "/api/v1/tokens".to_owned()),
        ("DELETE", "/api/v1/tokens/x".to_owned()),
        ("GET", "/api/v1/keys".to_owned()),
        ("POST", "/api/v1/keys".to_owned()),
        ("DELETE", "/api/v1/keys/x".to_owned()),
        ("GET", "/api/v1/session".to_owned()),
        ("PUT", "/api/v1/password".to_owned()),
    ];
    let strangers = [
        vec![],
        vec![("Cookie", "palabre_session=")],
        vec![("Cookie", "palabre_session=0000000000")],
        vec![("Authorization", "Bearer ")],
        vec![("Authorization", "Bearer plb_0000")],
        vec![("Authorization", "Basic YWRtaW46YWRtaW4=")],
    ];
    for (method, path) in &routes {
        for stranger in &strangers {
            let reply = server
                .call(method, path, stranger, json!({ "name": "x" }))
                .await;
            reply.is_problem(401, "unauthenticated");
        }
    }
    assert_eq!(server.get(&room, &[("Cookie", &cookie)]).await.status, 200);
}
