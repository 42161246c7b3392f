//! Rooms and joining, and how bad input is answered.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use palabre_admin::AdminConfig;
use palabre_engine::{JoinError, JoinRequest};
use serde_json::{Value, json};

use crate::server::Server;

#[tokio::test]
async fn a_room_is_made_shown_and_deleted() {
    let server = Server::start().await;
    let cookie = server.claim().await;
    let auth = [("Cookie", cookie.as_str())];
    let body = json!({ "name": "  Comité de direction ", "max_participants": 12 });
    let made = server.call("POST", "/api/v1/rooms", &auth, body).await;
    assert_eq!(made.status, 201);
    let room = made.json();
    let id = room["id"].as_str().unwrap();
    let path = format!("/api/v1/rooms/{id}");
    assert_eq!(made.header("location"), Some(path.as_str()));
    assert_eq!(room["name"], "Comité de direction");
    assert_eq!(room["max_participants"], 12);
    let code = room["code"].as_str().unwrap();
    assert!(code.len() == 9 && code.bytes().all(|b| b.is_ascii_digit()));
    assert_eq!(room["code_shown"].as_str().unwrap().replace(' ', ""), code);
    assert_ne!(id, code);
    let link = room["link"].as_str().unwrap();
    assert!(
        link.starts_with(&format!("http://{}/r/", server.address)),
        "{link}"
    );
    assert!(!link.contains(code) && !link.contains(id));

    server.script.put(id, &["phone-1", "web-2"]);
    let shown = server.get(&path, &auth).await.json();
    assert_eq!(shown["participants"], 2);
    assert_eq!(shown["present"][0]["kind"], "sip");
    assert_eq!(shown["present"][0]["microphone"], true);
    assert_eq!(shown["present"][0]["camera"], false);
    assert_eq!(shown["present"][0]["joined"], "2026-09-21T14:13:20Z");
    let list = server.get("/api/v1/rooms", &auth).await.json();
    assert_eq!(list["rooms"][0]["participants"], 2);

    assert_eq!(server.send("DELETE", &path, &auth, b"").await.status, 204);
    assert!(
        server.script.rooms.lock().unwrap().is_empty(),
        "the engine closed the room"
    );
    server
        .get(&path, &auth)
        .await
        .is_problem(404, "room_unknown");
    server
        .send("DELETE", &path, &auth, b"")
        .await
        .is_problem(404, "room_unknown");
    let change = format!("{path}/code");
    server
        .send("POST", &change, &auth, b"")
        .await
        .is_problem(404, "room_unknown");
    let join = json!({ "code": code, "name": "Camille" });
    server
        .call("POST", "/api/v1/join", &[], join)
        .await
        .is_problem(404, "code_unknown");
}

#[tokio::test]
async fn a_changed_code_opens_and_the_old_one_does_not() {
    let server = Server::start().await;
    let cookie = server.claim().await;
    let room = server.room(&cookie, "a").await;
    let path = format!("/api/v1/rooms/{}/code", room["id"].as_str().unwrap());
    let changed = server
        .send("POST", &path, &[("Cookie", &cookie)], b"")
        .await
        .json();
    assert_ne!(changed["code"], room["code"]);
    assert_eq!(changed["link"], room["link"]);
    let join = |code: &Value| json!({ "code": code, "name": "Camille" });
    let old = server
        .call("POST", "/api/v1/join", &[], join(&room["code"]))
        .await;
    old.is_problem(404, "code_unknown");
    let new = server
        .call("POST", "/api/v1/join", &[], join(&changed["code"]))
        .await;
    assert_eq!(new.status, 200);
}

#[tokio::test]
async fn rooms_are_listed_by_page() {
    let server = Server::start().await;
    let cookie = server.claim().await;
    let auth = [("Cookie", cookie.as_str())];
    for number in 0..5 {
        server.room(&cookie, &number.to_string()).await;
    }
    let first = server.get("/api/v1/rooms?size=3", &auth).await.json();
    assert_eq!(first["total"], 5);
    let names: Vec<_> = first["rooms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["name"].clone())
        .collect();
    assert_eq!(names, ["4", "3", "2"]);
    let next = format!("/api/v1/rooms?size=3&before={}", first["next"]);
    let second = server.get(&next, &auth).await.json();
    assert_eq!(second["rooms"].as_array().unwrap().len(), 2);
    assert!(second.get("next").is_none());
    for query in ["size=0", "size=101", "size=x", "page=2", "before="] {
        let reply = server.get(&format!("/api/v1/rooms?{query}"), &auth).await;
        reply.is_problem(422, "field_invalid");
    }
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[tokio::test]
async fn a_full_room_is_said_at_the_door_and_a_room_of_the_store_opens_for_its_ticket() {
    let server = Server::start().await;
    let cookie = server.claim().await;
    let room = server.room(&cookie, "Comité").await;
    let join = || json!({ "code": room["code"], "name": "Camille" });
    *server.script.refuse_join.lock().unwrap() = Some(JoinError::RoomFull { limit: 2 });
    server
        .call("POST", "/api/v1/join", &[], join())
        .await
        .is_problem(409, "room_full");
    // What else the engine would say is said where the ticket is shown.
    *server.script.refuse_join.lock().unwrap() = Some(JoinError::Stopping);
    let joined = server.call("POST", "/api/v1/join", &[], join()).await;
    assert_eq!(joined.status, 200, "{}", joined.text());
    *server.script.refuse_join.lock().unwrap() = None;
    let token = joined.json()["token"].as_str().unwrap().to_owned();
    let validate = format!("/rtc/validate?access_token={token}");
    assert_eq!(server.get(&validate, &[]).await.text(), "success");
    let opens = |checked: &JoinRequest| (checked.opens_room, checked.grants.room_create);
    let checked = server.script.checked.lock().unwrap().pop().unwrap();
    assert_eq!(
        opens(&checked),
        (true, false),
        "its holder opens this room and no other"
    );
    let others = server.join_token("r").await;
    let validate = format!("/rtc/validate?access_token={others}");
    assert_eq!(server.get(&validate, &[]).await.text(), "success");
    let checked = server.script.checked.lock().unwrap().pop().unwrap();
    assert_eq!(opens(&checked), (false, false));
}

#[tokio::test]
async fn a_telephone_on_all_addresses_is_told_with_one_that_can_be_called() {
    let server = Server::start().await;
    let facts = server.get("/api/v1/box", &[]).await.json();
    let told = facts["phone"]["sip"].as_str().unwrap();
    let address = told.strip_prefix("sip:reunion@").unwrap();
    let address: std::net::SocketAddr = address.parse().unwrap();
    assert_eq!(address.port(), 5070);
    assert!(!address.ip().is_unspecified(), "{told}");
}

#[tokio::test]
async fn a_code_or_a_link_lets_a_person_in() {
    let server = Server::with(AdminConfig {
        phone_number: Some("+33 1 23 45 67 89".into()),
        sip_address: Some("sip:palabre@box".into()),
        ..AdminConfig::default()
    })
    .await;
    let cookie = server.claim().await;
    let room = server.room(&cookie, "Comité").await;
    let code = json!({ "code": room["code_shown"], "name": " Camille " });
    let by_code = server.call("POST", "/api/v1/join", &[], code).await;
    assert_eq!(by_code.status, 200, "{}", by_code.text());
    let by_code = by_code.json();
    assert_eq!(by_code["url"], format!("ws://{}", server.address));
    assert_eq!(by_code["page"], format!("http://{}", server.address));
    assert_eq!(by_code["room"]["name"], "Comité");
    assert_eq!(by_code["room"]["code"], room["code"]);
    assert_eq!(by_code["phone"]["number"], "+33 1 23 45 67 89");
    assert_eq!(by_code["phone"]["sip"], "sip:palabre@box");
    let granted = claims(by_code["token"].as_str().unwrap());
    assert_eq!(granted["video"]["room"], room["id"]);
    assert_eq!(granted["video"]["roomJoin"], true);
    assert_eq!(granted["video"].get("roomAdmin"), None);
    assert_eq!(granted["name"], "Camille");
    assert_eq!(granted["sub"], by_code["identity"]);
    let life = granted["exp"].as_i64().unwrap() - granted["nbf"].as_i64().unwrap();
    assert_eq!(life, 600);
    let validate = format!(
        "/rtc/validate?access_token={}",
        by_code["token"].as_str().unwrap()
    );
    assert_eq!(server.get(&validate, &[]).await.text(), "success");

    let slug = room["link"].as_str().unwrap().rsplit('/').next().unwrap();
    let link = json!({ "slug": slug, "name": "Dominique" });
    let by_link = server
        .call("POST", "/api/v1/join", &[("Cookie", &cookie)], link)
        .await
        .json();
    assert_ne!(by_link["identity"], by_code["identity"]);
    let granted = claims(by_link["token"].as_str().unwrap());
    assert_eq!(
        granted["video"]["roomAdmin"], true,
        "the administrator moderates"
    );

    // A room that is deleted does not come back by a token made before.
    let path = format!("/api/v1/rooms/{}", room["id"].as_str().unwrap());
    assert_eq!(
        server
            .send("DELETE", &path, &[("Cookie", &cookie)], b"")
            .await
            .status,
        204
    );
    let gone = server.get(&validate, &[]).await;
    assert_eq!(
        (gone.status, gone.text()),
        (404, "requested room does not exist")
    );
}

#[tokio::test]
async fn wrong_codes_are_slowed_then_locked_out_per_source() {
    let server = Server::behind_proxy().await;
    let cookie = server.claim().await;
    let room = server.room(&cookie, "a").await;
    let from = |source| [("X-Forwarded-For", source), ("Accept-Language", "fr")];
    let join = |code: &str| json!({ "code": code, "name": "Camille" });
    let other = if room["code"] == "987654321" {
        "987654322"
    } else {
        "987654321"
    };
    for _ in 0..3 {
        let reply = server
            .call("POST", "/api/v1/join", &from("203.0.113.1"), join(other))
            .await;
        assert_eq!(reply.is_problem(404, "code_unknown").get("wait"), None);
    }
    let fourth = server
        .call("POST", "/api/v1/join", &from("203.0.113.1"), join(other))
        .await;
    let problem = fourth.is_problem(404, "code_unknown");
    assert_eq!(problem["wait"], 2);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("Réessayez dans 2 secondes"),
        "{problem}"
    );
    let right = room["code"].as_str().unwrap();
    let held = server
        .call("POST", "/api/v1/join", &from("203.0.113.1"), join(right))
        .await;
    held.is_problem(429, "slowed");
    let link = json!({ "slug": "x", "name": "Camille" });
    let held = server
        .call("POST", "/api/v1/join", &from("203.0.113.1"), link)
        .await;
    held.is_problem(429, "slowed");
    let other = server
        .call("POST", "/api/v1/join", &from("203.0.113.2"), join(right))
        .await;
    assert_eq!(other.status, 200);
    // Without the proxy's trust the header changes nothing.
    let metrics = server.get("/metrics", &[]).await;
    assert!(
        metrics
            .text()
            .contains(r#"palabre_door_tries_total{outcome="unknown"} 4"#)
    );
    assert!(
        metrics
            .text()
            .contains(r#"palabre_door_tries_total{outcome="slowed"} 2"#)
    );
}

#[tokio::test]
async fn a_join_that_makes_no_sense_is_refused_with_a_sentence() {
    let server = Server::start().await;
    let cases = [
        (json!({ "code": "12", "name": "C" }), 400, "code_malformed"),
        (
            json!({ "code": "12345678x", "name": "C" }),
            400,
            "code_malformed",
        ),
        (
            json!({ "code": "123456789", "name": "C" }),
            404,
            "code_unknown",
        ),
        (json!({ "slug": "nope", "name": "C" }), 404, "link_unknown"),
        (json!({ "name": "C" }), 422, "field_invalid"),
        (
            json!({ "code": "123456789", "slug": "x", "name": "C" }),
            422,
            "field_invalid",
        ),
        (
            json!({ "code": "123456789", "name": "   " }),
            422,
            "field_invalid",
        ),
        (
            json!({ "code": "123456789", "name": "x".repeat(81) }),
            422,
            "field_invalid",
        ),
        (
            json!({ "code": "123456789", "name": "a\u{0}b" }),
            422,
            "field_invalid",
        ),
        (json!({ "code": "123456789" }), 400, "body_invalid"),
        (
            json!({ "code": 123456789, "name": "C" }),
            400,
            "body_invalid",
        ),
        (
            json!({ "code": "123456789", "name": "C", "admin": true }),
            400,
            "body_invalid",
        ),
        (json!([]), 400, "body_invalid"),
    ];
    for (body, status, code) in cases {
        let reply = server.call("POST", "/api/v1/join", &[], body.clone()).await;
        let problem = reply.is_problem(status, code);
        if body.get("admin").is_some() {
            assert!(
                problem["cause"]
                    .as_str()
                    .unwrap()
                    .contains("unknown field `admin`"),
                "{problem}"
            );
        }
    }
}

#[tokio::test]
async fn a_body_that_is_too_long_is_answered_413() {
    let server = Server::start().await;
    let cookie = server.claim().await;
    let long = json!({ "name": "x".repeat(70_000) }).to_string();
    assert!(long.len() > 70_000);
    for path in [
        "/api/v1/join",
        "/api/v1/session",
        "/api/v1/claim",
        "/api/v1/rooms",
        "/api/v1/tokens",
    ] {
        let headers = [
            ("Content-Type", "application/json"),
            ("Cookie", cookie.as_str()),
        ];
        let reply = server.send("POST", path, &headers, long.as_bytes()).await;
        let problem = reply.is_problem(413, "body_too_large");
        assert!(
            problem["detail"].as_str().unwrap().contains("4096"),
            "{problem}"
        );
    }
    // The same without a declared length.
    let mut chunked = Vec::new();
    for piece in long.as_bytes().chunks(1000) {
        chunked.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        chunked.extend_from_slice(piece);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let headers = [
        ("Content-Type", "application/json"),
        ("Transfer-Encoding", "chunked"),
    ];
    let reply = server
        .send("POST", "/api/v1/join", &headers, &chunked)
        .await;
    reply.is_problem(413, "body_too_large");
}

#[tokio::test]
async fn what_is_said_of_a_body_that_makes_no_sense_is_described() {
    let server = Server::start().await;
    let cookie = server.claim().await;
    let description = serde_json::to_value(palabre_admin::api::openapi()).unwrap();
    let mut tried = 0;
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            if operation["requestBody"]["content"]
                .get("application/json")
                .is_none()
            {
                continue;
            }
            for (kind, body, status, code) in [
                ("application/json", &b"{"[..], 400, "body_invalid"),
                ("text/plain", b"{}", 415, "not_json"),
            ] {
                assert!(
                    operation["responses"].get(status.to_string()).is_some(),
                    "{method} {path} does not describe {status}"
                );
                // There is no box here.
                if path.starts_with("/api/v1/appliance/") {
                    continue;
                }
                let headers = [("Content-Type", kind), ("Cookie", cookie.as_str())];
                let reply = server
                    .send(&method.to_uppercase(), path, &headers, body)
                    .await;
                reply.is_problem(status, code);
                tried += 1;
            }
        }
    }
    assert!(tried >= 14, "{tried}");
}

#[tokio::test]
async fn sentences_follow_the_language_asked_for() {
    let server = Server::start().await;
    let french = server
        .get("/api/v1/rooms", &[("Accept-Language", "fr-FR,en;q=0.5")])
        .await;
    assert_eq!(
        french.is_problem(401, "unauthenticated")["title"],
        "Connexion nécessaire"
    );
    assert_eq!(french.header("content-language"), Some("fr"));
    let english = server.get("/api/v1/rooms", &[]).await;
    assert_eq!(
        english.is_problem(401, "unauthenticated")["title"],
        "Sign in first"
    );
}

#[tokio::test]
async fn what_is_not_there_is_said_in_the_same_form() {
    let server = Server::start().await;
    server
        .get("/api/v1/nothing", &[])
        .await
        .is_problem(404, "path_unknown");
    server
        .get("/api/v2/rooms", &[])
        .await
        .is_problem(404, "path_unknown");
    server
        .send("PATCH", "/api/v1/rooms", &[], b"")
        .await
        .is_problem(405, "method_unknown");
    server
        .get("/api/v1/join", &[])
        .await
        .is_problem(405, "method_unknown");
}

#[tokio::test]
async fn the_description_that_is_served_is_the_generated_one() {
    let server = Server::start().await;
    let served = server.get("/api/v1/openapi.json", &[]).await;
    assert_eq!(served.header("content-type"), Some("application/json"));
    let generated = serde_json::to_value(palabre_admin::api::openapi()).unwrap();
    assert_eq!(served.json(), generated);
    for path in [
        "/api/v1/rooms",
        "/api/v1/rooms/{id}/code",
        "/api/v1/join",
        "/api/v1/claim",
    ] {
        assert!(generated["paths"].get(path).is_some(), "{path}");
    }
}
