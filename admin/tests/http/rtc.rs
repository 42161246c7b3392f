//! The signal WebSocket: who is let in, what is carried, how it ends.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use livekit_api::access_token::{AccessToken, VideoGrants};
use palabre_engine::{Grants, JoinError, SignalOutput, proto};
use prost::Message as _;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::{Error, http::StatusCode};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::server::Server;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn connect(server: &Server, query: &str) -> Result<Socket, (StatusCode, String)> {
    match connect_async(format!("ws://{}/rtc?{query}", server.address)).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(answer)) => {
            let text = answer
                .body()
                .as_deref()
                .map(String::from_utf8_lossy)
                .unwrap_or_default();
            Err((answer.status(), text.into_owned()))
        }
        Err(error) => panic!("{error}"),
    }
}

async fn joined(server: &Server) -> Socket {
    let token = server.join_token("r").await;
    connect(server, &format!("access_token={token}&auto_subscribe=1"))
        .await
        .unwrap()
}

/// The next message that is neither ping nor pong.
async fn next(socket: &mut Socket) -> Option<Message> {
    loop {
        match socket.next().await? {
            Ok(Message::Ping(_) | Message::Pong(_)) => {}
            Ok(message) => return Some(message),
            Err(_) => return None,
        }
    }
}

async fn close_code(socket: &mut Socket) -> Option<u16> {
    loop {
        if let Message::Close(frame) = next(socket).await? {
            return frame.map(|frame| frame.code.into());
        }
    }
}

fn ping(timestamp: i64) -> proto::SignalRequest {
    proto::SignalRequest {
        message: Some(proto::signal_request::Message::Ping(timestamp)),
    }
}

fn pong(timestamp: i64) -> proto::SignalResponse {
    proto::SignalResponse {
        message: Some(proto::signal_response::Message::Pong(timestamp)),
    }
}

#[tokio::test]
async fn who_has_no_good_token_is_refused_before_the_upgrade() {
    let server = Server::start().await;
    let good = server.join_token("r").await;
    let expired = AccessToken::with_api_key("APIx", "secret")
        .to_jwt()
        .unwrap();
    let other_key = server
        .token(VideoGrants {
            room: "r".into(),
            ..VideoGrants::default()
        })
        .await;
    let mut forged = good.clone();
    let last = if forged.pop() == Some('A') { 'Q' } else { 'A' };
    forged.push(last);
    let cases = [
        (String::new(), StatusCode::UNAUTHORIZED, "no access token"),
        (
            "access_token=nonsense".into(),
            StatusCode::UNAUTHORIZED,
            "not a JSON Web Token",
        ),
        (
            format!("access_token={forged}"),
            StatusCode::UNAUTHORIZED,
            "invalid authorization token",
        ),
        (
            format!("access_token={expired}"),
            StatusCode::UNAUTHORIZED,
            "invalid API key",
        ),
        (
            format!("access_token={other_key}"),
            StatusCode::UNAUTHORIZED,
            "roomJoin",
        ),
        (
            format!("access_token={good}&attributes=bm90IGpzb24"),
            StatusCode::BAD_REQUEST,
            "attributes",
        ),
    ];
    for (query, status, sentence) in cases {
        let (refused, text) = connect(&server, &query).await.unwrap_err();
        assert_eq!(refused, status, "{query}: {text}");
        assert!(text.contains(sentence), "{text}");
        // The same by HTTP, for clients whose browser hides why a WebSocket failed, of any site.
        let validate = server
            .get(
                &format!("/rtc/validate?{query}"),
                &[("Origin", "https://a.example")],
            )
            .await;
        assert_eq!(validate.status, status.as_u16());
        assert_eq!(validate.header("access-control-allow-origin"), Some("*"));
        assert!(validate.text().contains(sentence));
    }
    assert!(server.script.joined.lock().unwrap().is_empty());
    let validate = server
        .get(&format!("/rtc/validate?access_token={good}"), &[])
        .await;
    assert_eq!((validate.status, validate.text()), (200, "success"));
    assert!(
        server.script.joined.lock().unwrap().is_empty(),
        "validating is not joining"
    );
}

#[tokio::test]
async fn an_expired_token_is_refused_with_a_sentence() {
    let server = Server::start().await;
    let key = server.store.keys.create("test").await.unwrap();
    let grants = Grants {
        identity: "a".into(),
        room: "r".into(),
        room_join: true,
        ..Grants::default()
    };
    let then = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let then = then as i64 - 3600;
    let token = palabre_admin::livekit::token::mint(&key, &grants, then, Duration::from_secs(60));
    let (status, text) = connect(&server, &format!("access_token={token}"))
        .await
        .unwrap_err();
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(text.contains("it has expired; ask for a new one"), "{text}");
}

#[tokio::test]
async fn the_second_signal_version_is_not_there() {
    let server = Server::start().await;
    let token = server.join_token("r").await;
    for path in ["/rtc/v1", "/rtc/v1/validate", "/rtc"] {
        let reply = server
            .get(
                &format!("{path}?access_token={token}"),
                &[("Origin", "https://a.example")],
            )
            .await;
        assert_eq!(reply.status, 404, "{path}");
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
        assert!(
            !reply.text().contains("room"),
            "SDKs take such a text for a missing room"
        );
    }
}

#[tokio::test]
async fn what_the_engine_refuses_is_refused_before_the_upgrade() {
    let server = Server::start().await;
    let token = server.join_token("r").await;
    let cases = [
        (JoinError::RoomUnknown, StatusCode::NOT_FOUND),
        (JoinError::NotAllowed, StatusCode::UNAUTHORIZED),
        (JoinError::AttributesNotAllowed, StatusCode::UNAUTHORIZED),
        (
            JoinError::RoomFull { limit: 2 },
            StatusCode::TOO_MANY_REQUESTS,
        ),
        (
            JoinError::Unacceptable {
                field: "name",
                because: "long",
            },
            StatusCode::BAD_REQUEST,
        ),
        (JoinError::Stopping, StatusCode::SERVICE_UNAVAILABLE),
    ];
    for (error, status) in cases {
        let sentence = error.to_string();
        *server.script.refuse_join.lock().unwrap() = Some(error);
        let refused = connect(&server, &format!("access_token={token}"))
            .await
            .unwrap_err();
        assert_eq!(refused, (status, sentence.clone()));
        // The same for who asks why.
        let validate = server
            .get(&format!("/rtc/validate?access_token={token}"), &[])
            .await;
        assert_eq!(
            (validate.status, validate.text()),
            (status.as_u16(), sentence.as_str())
        );
    }
    *server.script.refuse_join.lock().unwrap() = Some(JoinError::NothingToResume);
    let validate = server
        .get(&format!("/rtc/validate?access_token={token}"), &[])
        .await;
    assert_eq!((validate.status, validate.text()), (200, "success"));
}

#[tokio::test]
async fn the_query_reaches_the_engine() {
    let server = Server::start().await;
    let token = server
        .token_of(
            "alice",
            VideoGrants {
                room: "r".into(),
                room_join: true,
                can_publish: Some(false),
                can_update_own_metadata: Some(true),
                ..VideoGrants::default()
            },
            Duration::from_secs(60),
        )
        .await;
    // {"a":"b"} in base64url with padding, as JS sends it.
    let query = "auto_subscribe=0&adaptive_stream=1&sdk=js&version=2.23.0&protocol=17&client_protocol=2\
        &os=Linux&browser=Chrome&reconnect=1&sid=PA_x&reconnect_reason=2&attributes=eyJhIjoiYiJ9&capabilities=1,3";
    let mut request = format!("ws://{}/rtc?{query}", server.address)
        .into_client_request()
        .unwrap();
    // Rust and Python SDKs send the token so.
    request
        .headers_mut()
        .insert("Authorization", format!("Bearer {token}").parse().unwrap());
    let _socket = connect_async(request).await.unwrap();
    let request = server.script.last_joined().request;
    assert_eq!(
        (request.room.as_str(), request.grants.identity.as_str()),
        ("r", "alice")
    );
    assert!(!request.auto_subscribe && request.adaptive_stream && !request.grants.can_publish);
    assert_eq!(request.client.sdk(), proto::client_info::Sdk::Js);
    assert_eq!(
        (request.client.protocol, request.client.client_protocol),
        (17, 2)
    );
    assert_eq!(
        (
            request.client.version.as_str(),
            request.client.browser.as_str()
        ),
        ("2.23.0", "Chrome")
    );
    assert_eq!(request.client.capabilities, [1, 3]);
    assert_eq!(request.attributes["a"], "b");
    assert_eq!(
        (request.reconnect.as_deref(), request.reconnect_reason),
        (Some("PA_x"), 2)
    );
    assert_eq!(
        request.token_lifetime,
        Some(Duration::from_secs(600)),
        "what the tokens for reconnecting live by default"
    );
    let _socket = joined(&server).await;
    assert!(server.script.last_joined().request.auto_subscribe);
}

#[tokio::test]
async fn messages_are_answered_in_the_clients_kind() {
    let server = Server::start().await;
    let mut socket = joined(&server).await;
    let mut engine = server.script.last_joined();
    socket
        .send(Message::binary(ping(1).encode_to_vec()))
        .await
        .unwrap();
    assert_eq!(engine.requests.recv().await, Some(ping(1)));
    engine
        .responses
        .send(SignalOutput::Response(pong(2)))
        .await
        .unwrap();
    let Some(Message::Binary(bytes)) = next(&mut socket).await else {
        panic!("protobuf")
    };
    assert_eq!(proto::SignalResponse::decode(bytes).unwrap(), pong(2));

    socket
        .send(Message::text(r#"{"ping":"3","fromTheFuture":{}}"#))
        .await
        .unwrap();
    assert_eq!(engine.requests.recv().await, Some(ping(3)));
    engine
        .responses
        .send(SignalOutput::Response(pong(4)))
        .await
        .unwrap();
    let Some(Message::Text(text)) = next(&mut socket).await else {
        panic!("protojson")
    };
    assert_eq!(text.as_str(), r#"{"pong":"4"}"#);

    // A request of a kind newer than we are: field 900, empty. It is passed over.
    socket
        .send(Message::binary(vec![0xa2, 0x38, 0x00]))
        .await
        .unwrap();
    socket
        .send(Message::binary(ping(5).encode_to_vec()))
        .await
        .unwrap();
    assert_eq!(engine.requests.recv().await, Some(ping(5)));
}

#[tokio::test]
async fn a_renewed_token_is_signed_by_the_same_key() {
    let server = Server::start().await;
    let mut socket = joined(&server).await;
    let engine = server.script.last_joined();
    let grants = Grants {
        name: "Alice".into(),
        ..engine.request.grants.clone()
    };
    engine
        .responses
        .send(SignalOutput::RefreshToken(grants.clone()))
        .await
        .unwrap();
    let Some(Message::Binary(bytes)) = next(&mut socket).await else {
        panic!()
    };
    let response = proto::SignalResponse::decode(bytes).unwrap();
    let Some(proto::signal_response::Message::RefreshToken(token)) = response.message else {
        panic!()
    };
    let _again = connect(&server, &format!("access_token={token}"))
        .await
        .unwrap();
    assert_eq!(server.script.last_joined().request.grants, grants);
}

#[tokio::test]
async fn the_engine_ends_a_connection_with_code_1000() {
    let server = Server::start().await;
    let mut socket = joined(&server).await;
    let engine = server.script.last_joined();
    engine.responses.send(SignalOutput::Close).await.unwrap();
    assert_eq!(close_code(&mut socket).await, Some(1000));
    let mut socket = joined(&server).await;
    let engine = server.script.last_joined();
    drop(engine.responses);
    assert_eq!(close_code(&mut socket).await, Some(1000));
}

#[tokio::test]
async fn the_engine_learns_that_a_client_is_gone() {
    let server = Server::start().await;
    let socket = joined(&server).await;
    let mut engine = server.script.last_joined();
    drop(socket);
    assert_eq!(engine.requests.recv().await, None);
}

#[tokio::test]
async fn what_is_no_message_ends_the_connection_of_its_sender_only() {
    let server = Server::start().await;
    let mut other = joined(&server).await;
    let mut other_engine = server.script.last_joined();
    let hostile = [
        Message::binary(vec![0xff; 64]),
        Message::binary(vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        Message::text("not json"),
        Message::text(r#"{"ping":{}}"#),
    ];
    for message in hostile {
        let mut socket = joined(&server).await;
        socket.send(message).await.unwrap();
        assert_eq!(close_code(&mut socket).await, Some(1007));
    }
    let mut socket = joined(&server).await;
    // Above the limit: closed while it is still being sent.
    let _ = socket.send(Message::binary(vec![0; 2 * 1024 * 1024])).await;
    while next(&mut socket).await.is_some() {}
    other
        .send(Message::binary(ping(1).encode_to_vec()))
        .await
        .unwrap();
    assert_eq!(other_engine.requests.recv().await, Some(ping(1)));
}

/// 2,000 mutated requests on live sockets: the server answers the next one.
#[tokio::test]
async fn mutated_requests_do_no_harm() {
    let server = Server::start().await;
    let token = server.join_token("r").await;
    let query = format!("access_token={token}");
    let offer = proto::SignalRequest {
        message: Some(proto::signal_request::Message::Offer(
            proto::SessionDescription {
                r#type: "offer".into(),
                sdp: "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\n".into(),
                id: 1,
                ..Default::default()
            },
        )),
    };
    let seed_bytes = offer.encode_to_vec();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    let mut socket = connect(&server, &query).await.unwrap();
    let mut engine = server.script.last_joined();
    for _ in 0..2_000 {
        let mut bytes = seed_bytes.clone();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(3) {
                0 => bytes[at] = random(256) as u8,
                1 => bytes.insert(at, random(256) as u8),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let message = match String::from_utf8(bytes) {
            Ok(text) if random(2) == 0 => Message::text(text),
            Ok(text) => Message::binary(text.into_bytes()),
            Err(bytes) => Message::binary(bytes.into_bytes()),
        };
        let is_open = socket.send(message).await.is_ok();
        while engine.requests.try_recv().is_ok() {}
        if !is_open {
            socket = connect(&server, &query).await.unwrap();
            engine = server.script.last_joined();
        }
    }
    let mut socket = connect(&server, &query).await.unwrap();
    let mut engine = server.script.last_joined();
    socket
        .send(Message::binary(ping(1).encode_to_vec()))
        .await
        .unwrap();
    assert_eq!(engine.requests.recv().await, Some(ping(1)));
}

#[tokio::test]
async fn a_client_with_nothing_to_resume_is_told_to_join_anew() {
    let server = Server::start().await;
    let token = server.join_token("r").await;
    *server.script.refuse_join.lock().unwrap() = Some(JoinError::NothingToResume);
    let query = format!("access_token={token}&reconnect=1&sid=PA_gone");
    let mut socket = connect(&server, &query).await.unwrap();
    let Some(Message::Binary(bytes)) = next(&mut socket).await else {
        panic!()
    };
    let Some(proto::signal_response::Message::Leave(leave)) =
        proto::SignalResponse::decode(bytes).unwrap().message
    else {
        panic!()
    };
    assert_eq!(leave.action(), proto::leave_request::Action::Reconnect);
    assert_eq!(leave.reason(), proto::DisconnectReason::StateMismatch);
    assert_eq!(close_code(&mut socket).await, Some(1000));
}

#[tokio::test]
async fn stopping_says_goodbye_to_every_socket() {
    let mut server = Server::start().await;
    let mut socket = joined(&server).await;
    let engine = server.script.last_joined();
    let metrics = server.get("/metrics", &[]).await;
    assert!(
        metrics.text().contains("palabre_signal_connections 1"),
        "{}",
        metrics.text()
    );
    engine
        .responses
        .send(SignalOutput::Response(pong(9)))
        .await
        .unwrap();
    let handle = server.handle.take().unwrap();
    let stopped = tokio::spawn(handle.shutdown(Duration::from_secs(10)));
    let Some(Message::Binary(bytes)) = next(&mut socket).await else {
        panic!()
    };
    assert_eq!(proto::SignalResponse::decode(bytes).unwrap(), pong(9));
    assert_eq!(close_code(&mut socket).await, Some(1001));
    stopped.await.unwrap();
}
