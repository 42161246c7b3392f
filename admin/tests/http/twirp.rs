//! LiveKit's server API, in both encodings, with its grants and its errors.

use livekit_api::access_token::VideoGrants;
use palabre_engine::proto;
use prost::Message as _;
use serde_json::{Value, json};

use crate::server::{Reply, Server};

async fn call(server: &Server, token: &str, method: &str, body: Value) -> Reply {
    let bearer = format!("Bearer {token}");
    let path = format!("/twirp/livekit.RoomService/{method}");
    server
        .call("POST", &path, &[("Authorization", &bearer)], body)
        .await
}

#[track_caller]
fn is_error(reply: &Reply, status: u16, code: &str) {
    assert_eq!(reply.status, status, "{}", reply.text());
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let error = reply.json();
    assert_eq!(error["code"], code, "{error}");
    assert!(error["msg"].as_str().is_some_and(|msg| !msg.is_empty()));
}

fn everything(room: &str) -> VideoGrants {
    VideoGrants {
        room: room.into(),
        room_create: true,
        room_list: true,
        room_admin: true,
        ..VideoGrants::default()
    }
}

#[tokio::test]
async fn every_method_answers_in_json() {
    let server = Server::start().await;
    let token = server.token(everything("r")).await;
    let made = call(
        &server,
        &token,
        "CreateRoom",
        json!({ "name": "r", "emptyTimeout": 300, "newer": 1 }),
    )
    .await;
    assert_eq!((made.status, &made.json()["name"]), (200, &json!("r")));
    server.script.put("r", &["alice", "bob"]);
    let rooms = call(&server, &token, "ListRooms", json!({})).await.json();
    assert_eq!(rooms["rooms"][0]["numParticipants"], 2);
    let rooms = call(&server, &token, "ListRooms", json!({ "names": ["other"] }))
        .await
        .json();
    assert_eq!(rooms.get("rooms"), None);
    let who = call(&server, &token, "ListParticipants", json!({ "room": "r" }))
        .await
        .json();
    assert_eq!(who["participants"].as_array().unwrap().len(), 2);
    let one = json!({ "room": "r", "identity": "alice" });
    assert_eq!(
        call(&server, &token, "GetParticipant", one.clone())
            .await
            .json()["identity"],
        "alice"
    );
    let mute = json!({ "room": "r", "identity": "alice", "trackSid": "TR_1", "muted": true });
    assert_eq!(
        call(&server, &token, "MutePublishedTrack", mute)
            .await
            .json()["track"]["muted"],
        true
    );
    let update = json!({ "room": "r", "identity": "alice", "name": "Alice" });
    assert_eq!(
        call(&server, &token, "UpdateParticipant", update)
            .await
            .json()["name"],
        "Alice"
    );
    let metadata = json!({ "room": "r", "metadata": "m" });
    assert_eq!(
        call(&server, &token, "UpdateRoomMetadata", metadata)
            .await
            .json()["metadata"],
        "m"
    );
    let data = json!({ "room": "r", "data": "aGVsbG8=", "kind": "RELIABLE" });
    assert_eq!(
        call(&server, &token, "SendData", data).await.json(),
        json!({})
    );
    assert_eq!(
        call(&server, &token, "RemoveParticipant", one.clone())
            .await
            .json(),
        json!({})
    );
    is_error(
        &call(&server, &token, "RemoveParticipant", one).await,
        404,
        "not_found",
    );
    assert_eq!(
        call(&server, &token, "DeleteRoom", json!({ "room": "r" }))
            .await
            .status,
        200
    );
    is_error(
        &call(&server, &token, "DeleteRoom", json!({ "room": "r" })).await,
        404,
        "not_found",
    );
}

#[tokio::test]
async fn protobuf_is_answered_with_protobuf() {
    let server = Server::start().await;
    let token = server.token(everything("r")).await;
    server.script.put("r", &["alice"]);
    let bearer = format!("Bearer {token}");
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/protobuf"),
    ];
    let request = proto::ListParticipantsRequest { room: "r".into() }.encode_to_vec();
    let reply = server
        .send(
            "POST",
            "/twirp/livekit.RoomService/ListParticipants",
            &headers,
            &request,
        )
        .await;
    assert_eq!(reply.header("content-type"), Some("application/protobuf"));
    let answer = proto::ListParticipantsResponse::decode(&*reply.body).unwrap();
    assert_eq!(answer.participants[0].identity, "alice");
    let reply = server
        .send(
            "POST",
            "/twirp/livekit.RoomService/ListParticipants",
            &headers,
            &[0xff; 9],
        )
        .await;
    is_error(&reply, 400, "malformed");
}

#[tokio::test]
async fn a_token_does_what_it_grants_and_no_more() {
    let server = Server::start().await;
    server.script.put("r", &["alice"]);
    let one = || json!({ "room": "r", "identity": "alice", "trackSid": "TR_1", "muted": true });
    let calls = [
        ("CreateRoom", json!({ "name": "x" })),
        ("ListRooms", json!({})),
        ("DeleteRoom", json!({ "room": "x" })),
        ("ListParticipants", json!({ "room": "r" })),
        (
            "GetParticipant",
            json!({ "room": "r", "identity": "alice" }),
        ),
        (
            "RemoveParticipant",
            json!({ "room": "r", "identity": "alice" }),
        ),
        ("MutePublishedTrack", one()),
        (
            "UpdateParticipant",
            json!({ "room": "r", "identity": "alice" }),
        ),
        ("UpdateRoomMetadata", json!({ "room": "r", "metadata": "" })),
        ("SendData", json!({ "room": "r" })),
    ];
    let joiner = server.join_token("r").await;
    let elsewhere = server
        .token(VideoGrants {
            room: "elsewhere".into(),
            room_admin: true,
            ..VideoGrants::default()
        })
        .await;
    for (method, body) in &calls {
        is_error(
            &call(&server, &joiner, method, body.clone()).await,
            401,
            "unauthenticated",
        );
        is_error(
            &call(&server, &elsewhere, method, body.clone()).await,
            401,
            "unauthenticated",
        );
        is_error(
            &call(&server, "nonsense", method, body.clone()).await,
            401,
            "unauthenticated",
        );
        let path = format!("/twirp/livekit.RoomService/{method}");
        is_error(
            &server.call("POST", &path, &[], body.clone()).await,
            401,
            "unauthenticated",
        );
    }
    assert_eq!(server.script.rooms.lock().unwrap()["r"].len(), 1);
    let lister = server
        .token(VideoGrants {
            room_list: true,
            ..VideoGrants::default()
        })
        .await;
    assert_eq!(
        call(&server, &lister, "ListRooms", json!({})).await.status,
        200
    );
    is_error(
        &call(&server, &lister, "CreateRoom", json!({ "name": "x" })).await,
        401,
        "unauthenticated",
    );
}

#[tokio::test]
async fn errors_have_twirps_codes() {
    let server = Server::start().await;
    let token = server.token(everything("r")).await;
    is_error(
        &call(&server, &token, "CreateRoom", json!({})).await,
        400,
        "invalid_argument",
    );
    is_error(
        &call(&server, &token, "CreateRoom", json!([])).await,
        400,
        "malformed",
    );
    let alice = json!({ "room": "r", "identity": "alice" });
    is_error(
        &call(&server, &token, "GetParticipant", alice).await,
        404,
        "not_found",
    );
    let nobody = call(&server, &token, "ListParticipants", json!({ "room": "r" })).await;
    assert_eq!(nobody.status, 200, "{}", nobody.text());
    assert!(
        nobody.json()["participants"]
            .as_array()
            .is_none_or(Vec::is_empty),
        "{}",
        nobody.text()
    );
    server.script.put("r", &["alice"]);
    let unmute = json!({ "room": "r", "identity": "alice", "trackSid": "TR_1", "muted": false });
    is_error(
        &call(&server, &token, "MutePublishedTrack", unmute).await,
        412,
        "failed_precondition",
    );
    is_error(
        &call(&server, &token, "Nonsense", json!({})).await,
        404,
        "bad_route",
    );
    let long = json!({ "name": "x".repeat(300 * 1024) });
    is_error(
        &call(&server, &token, "CreateRoom", long).await,
        413,
        "resource_exhausted",
    );
    *server.script.is_stopped.lock().unwrap() = true;
    is_error(
        &call(&server, &token, "ListRooms", json!({})).await,
        503,
        "unavailable",
    );
    let bearer = format!("Bearer {token}");
    let bad = [
        (
            "GET",
            "/twirp/livekit.RoomService/ListRooms",
            "application/json",
        ),
        ("POST", "/twirp/livekit.RoomService/ListRooms", "text/plain"),
        (
            "POST",
            "/twirp/livekit.Egress/ListEgress",
            "application/json",
        ),
        ("POST", "/twirp/livekit.RoomService", "application/json"),
    ];
    for (method, path, kind) in bad {
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", kind)];
        is_error(
            &server.send(method, path, &headers, b"{}").await,
            404,
            "bad_route",
        );
    }
}

#[tokio::test]
async fn pages_of_any_site_may_call_with_a_token() {
    let server = Server::start().await;
    let headers = [
        ("Origin", "https://visio.example"),
        ("Access-Control-Request-Method", "POST"),
        (
            "Access-Control-Request-Headers",
            "authorization,content-type",
        ),
    ];
    let reply = server
        .send(
            "OPTIONS",
            "/twirp/livekit.RoomService/ListRooms",
            &headers,
            b"",
        )
        .await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
    let allowed = reply
        .header("access-control-allow-headers")
        .unwrap()
        .to_ascii_lowercase();
    assert!(allowed.contains("authorization"));
}
