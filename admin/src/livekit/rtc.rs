//! `GET /rtc`: LiveKit's signal WebSocket with two peer connections (protocol v0).
//!
//! Checks the token and the query before the upgrade, then carries messages between the socket and the
//! engine: binary frames are protobuf, text frames protojson, answered in the kind the client last used.
//! What a message means is the engine's business. `/rtc/v1` is answered 404, which makes SDKs use `/rtc`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Extension, Router};
use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use palabre_engine::{JoinError, JoinRequest, SignalOutput, proto};
use prost::Message as _;
use tokio::time::{Instant, interval_at, timeout};

use super::token::mint;
use super::{NotTaken, bearer, check};
use crate::app::App;
use crate::live::Line;
use crate::places::Place;
use crate::store::{ApiKey, now};

/// Bytes read from a connection at once, allocated for its whole life. Signals are a few hundred
/// bytes, descriptions a few thousand: more costs memory for each participant and saves nothing.
const READ_BUFFER: usize = 8 * 1024;

/// Longest message read. Offers grow by about 4 KiB a track; 32 tracks with simulcast stay below 256 KiB.
const MESSAGE_LIMIT: usize = 512 * 1024;

/// Time between WebSocket pings, which keep proxies from closing a quiet connection.
const PING: Duration = Duration::from_secs(10);

/// Silence after which a client is gone. Clients ping every 5 s and answer our pings.
const SILENCE: Duration = Duration::from_secs(35);

/// How long one message may take to be written before the client counts as stuck.
const WRITE: Duration = Duration::from_secs(10);

/// Most attributes text read from the query.
const ATTRIBUTES_LIMIT: usize = 16 * 1024;

/// Clients pad base64url or not, as they like.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/rtc", get(connect))
        .route("/rtc/validate", get(validate))
        .route("/rtc/{*other}", any(absent))
}

/// Why a connection is refused before the upgrade: a status, a short name for metrics, a sentence.
struct Refused {
    status: StatusCode,
    reason: &'static str,
    sentence: String,
}

impl Refused {
    fn new(status: StatusCode, reason: &'static str, sentence: impl Into<String>) -> Self {
        Self {
            status,
            reason,
            sentence: sentence.into(),
        }
    }

    fn answer(self, app: &App) -> Response {
        app.metrics.signal_refused(self.reason);
        (self.status, self.sentence).into_response()
    }
}

impl From<NotTaken> for Refused {
    fn from(cause: NotTaken) -> Self {
        match cause {
            NotTaken::Token(error) => {
                Self::new(StatusCode::UNAUTHORIZED, "token", error.to_string())
            }
            NotTaken::Unavailable => unavailable(),
        }
    }
}

impl From<JoinError> for Refused {
    fn from(error: JoinError) -> Self {
        let status = match error {
            JoinError::NotAllowed | JoinError::AttributesNotAllowed => StatusCode::UNAUTHORIZED,
            JoinError::RoomUnknown => StatusCode::NOT_FOUND,
            JoinError::Unacceptable { .. } => StatusCode::BAD_REQUEST,
            JoinError::RoomFull { .. } | JoinError::TooManyRooms { .. } => {
                StatusCode::TOO_MANY_REQUESTS
            }
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.code(), error.to_string())
    }
}

fn unavailable() -> Refused {
    let sentence = "the server cannot check this now; try again in a few seconds";
    Refused::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", sentence)
}

/// What the query and the token ask for, checked.
async fn request(
    app: &App,
    headers: &HeaderMap,
    query: &HashMap<String, String>,
) -> Result<(JoinRequest, ApiKey), Refused> {
    let text = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    let token = bearer(headers).unwrap_or_else(|| text("access_token"));
    if token.is_empty() {
        return Err(Refused::new(
            StatusCode::UNAUTHORIZED,
            "token",
            "no access token: send one as access_token or Authorization: Bearer",
        ));
    }
    let (grants, key) = check(app, token).await?;
    if !grants.room_join {
        return Err(Refused::new(
            StatusCode::UNAUTHORIZED,
            "not_allowed",
            "permissions denied: the token does not allow joining a room (roomJoin)",
        ));
    }
    if grants.room.is_empty() || grants.identity.is_empty() {
        return Err(Refused::new(
            StatusCode::BAD_REQUEST,
            "unacceptable",
            "the token names no room or no identity",
        ));
    }
    // The pages' rooms are those of the store: a deleted one does not come back by a token made before.
    if key.is_pages {
        match app.store.rooms.by_id(&grants.room).await {
            Ok(Some(_)) => {}
            Ok(None) => return Err(JoinError::RoomUnknown.into()),
            Err(_) => return Err(unavailable()),
        }
    }
    let is_true = |name: &str| matches!(text(name), "1" | "true");
    let number = |name: &str| text(name).parse().unwrap_or(0);
    let attributes = attributes(text("attributes"))?;
    let request = JoinRequest {
        room: grants.room.clone(),
        client: client(text, number),
        // Absent means yes.
        auto_subscribe: !matches!(text("auto_subscribe"), "0" | "false"),
        adaptive_stream: is_true("adaptive_stream"),
        attributes,
        // It is in the store: whoever comes first opens it, as a telephone does.
        opens_room: key.is_pages,
        reconnect: is_true("reconnect").then(|| text("sid").to_owned()),
        reconnect_reason: number("reconnect_reason"),
        token_lifetime: Some(app.config.join_token_lifetime.duration()),
        grants,
    };
    Ok((request, key))
}

fn client<'a>(text: impl Fn(&str) -> &'a str, number: impl Fn(&str) -> i32) -> proto::ClientInfo {
    let sdk = text("sdk").to_ascii_uppercase();
    let sdk = match sdk.as_str() {
        "REACTNATIVE" => proto::client_info::Sdk::ReactNative,
        "UNITYWEB" => proto::client_info::Sdk::UnityWeb,
        name => proto::client_info::Sdk::from_str_name(name).unwrap_or_default(),
    };
    let capabilities = text("capabilities")
        .split(',')
        .filter_map(|one| one.trim().parse().ok());
    proto::ClientInfo {
        sdk: sdk as i32,
        version: text("version").to_owned(),
        protocol: number("protocol"),
        os: text("os").to_owned(),
        os_version: text("os_version").to_owned(),
        device_model: text("device_model").to_owned(),
        browser: text("browser").to_owned(),
        browser_version: text("browser_version").to_owned(),
        network: text("network").to_owned(),
        other_sdks: text("other_sdks").to_owned(),
        client_protocol: number("client_protocol"),
        capabilities: capabilities.take(64).collect(),
        ..proto::ClientInfo::default()
    }
}

fn attributes(text: &str) -> Result<HashMap<String, String>, Refused> {
    if text.is_empty() {
        return Ok(HashMap::new());
    }
    (text.len() <= ATTRIBUTES_LIMIT)
        .then(|| BASE64.decode(text).ok())
        .flatten()
        .and_then(|json| serde_json::from_slice(&json).ok())
        .ok_or_else(|| {
            Refused::new(
                StatusCode::BAD_REQUEST,
                "unacceptable",
                "attributes must be a JSON object of texts in base64url",
            )
        })
}

/// `/rtc/v1` and what may follow it: the 404 that makes SDKs use `/rtc`.
async fn absent() -> Response {
    (
        StatusCode::NOT_FOUND,
        "this signal version is not served here; use /rtc",
    )
        .into_response()
}

/// `GET /rtc/validate`: why a WebSocket failed, for clients whose browser does not tell them.
async fn validate(
    State(app): State<App>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let request = match request(&app, &headers, &query).await {
        Ok((request, _)) => request,
        Err(refused) => return refused.answer(&app),
    };
    match app.live.check_join(request).await {
        // The WebSocket is opened for it, and tells it to join anew.
        Ok(()) | Err(JoinError::NothingToResume) => "success".into_response(),
        Err(error) => Refused::from(error).answer(&app),
    }
}

/// `GET /rtc`.
async fn connect(
    State(app): State<App>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
    place: Option<Extension<Arc<Place>>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let Ok(upgrade) = upgrade else {
        return Refused::new(
            StatusCode::NOT_FOUND,
            "no_upgrade",
            "this is a WebSocket address",
        )
        .answer(&app);
    };
    let (request, key) = match request(&app, &headers, &query).await {
        Ok(request) => request,
        Err(refused) => return refused.answer(&app),
    };
    let line = match app.live.join(request).await {
        Ok(line) => Some(line),
        // The client is told on the socket, so that it joins anew instead of giving up.
        Err(JoinError::NothingToResume) => None,
        Err(error) => return Refused::from(error).answer(&app),
    };
    upgrade
        .read_buffer_size(READ_BUFFER)
        .max_message_size(MESSAGE_LIMIT)
        .max_frame_size(MESSAGE_LIMIT)
        .on_upgrade(move |socket| async move {
            app.metrics.signals.inc();
            let mut signal = Signal {
                app: app.clone(),
                key,
                socket,
                is_text: false,
                heard: Instant::now(),
            };
            let end = match line {
                Some(line) => signal.run(line).await,
                None => signal.send_to_rejoin().await,
            };
            app.metrics.signals.dec();
            app.metrics.signal_closed(end.reason());
            signal.close(end).await;
            drop(place);
        })
}

/// Why a signal connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client closed, or its connection broke.
    Client,
    /// The client sent what is no message.
    Malformed,
    /// The client was silent, or did not read.
    Stuck,
    /// The engine closed.
    Engine,
    /// The server stops.
    Stopping,
}

impl End {
    fn reason(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Malformed => "malformed",
            Self::Stuck => "stuck",
            Self::Engine => "engine",
            Self::Stopping => "stopping",
        }
    }

    fn close_code(self) -> u16 {
        match self {
            Self::Client | Self::Engine => close_code::NORMAL,
            Self::Malformed => close_code::INVALID,
            Self::Stuck => close_code::POLICY,
            Self::Stopping => close_code::AWAY,
        }
    }
}

/// One signal WebSocket.
struct Signal {
    app: App,
    /// The key that signed the client's token, and signs the next ones.
    key: ApiKey,
    socket: WebSocket,
    /// Whether the client last spoke protojson.
    is_text: bool,
    heard: Instant,
}

impl Signal {
    async fn run(&mut self, mut line: Line) -> End {
        let mut pings = interval_at(Instant::now() + PING, PING);
        let mut stop = self.app.stop.clone();
        let stopping = async move { stop.wait_for(|is_stopping| *is_stopping).await.map(drop) };
        let mut stopping = std::pin::pin!(stopping);
        loop {
            let step = tokio::select! {
                output = line.responses.recv() => match output {
                    Some(output) => self.tell(output).await,
                    None => Err(End::Engine),
                },
                message = self.socket.recv() => match message {
                    Some(Ok(message)) => self.hear(message, &line).await,
                    Some(Err(_)) | None => Err(End::Client),
                },
                _ = pings.tick() => {
                    if self.heard.elapsed() > SILENCE {
                        Err(End::Stuck)
                    } else {
                        self.write(Message::Ping(Bytes::new())).await
                    }
                }
                _ = stopping.as_mut() => {
                    // What the engine said last (leave) goes out before the close.
                    while let Ok(output) = line.responses.try_recv() {
                        if let Err(end) = self.tell(output).await {
                            return end;
                        }
                    }
                    Err(End::Stopping)
                }
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    /// Hands what the client said to the engine.
    async fn hear(&mut self, message: Message, line: &Line) -> Result<(), End> {
        self.heard = Instant::now();
        let request = match message {
            Message::Binary(bytes) => {
                self.is_text = false;
                proto::SignalRequest::decode(bytes).map_err(|_| End::Malformed)?
            }
            Message::Text(text) => {
                self.is_text = true;
                serde_json::from_str(&text).map_err(|_| End::Malformed)?
            }
            Message::Close(_) => return Err(End::Client),
            Message::Ping(_) | Message::Pong(_) => return Ok(()),
        };
        // A kind of request newer than we are has no message: nothing to do.
        if request.message.is_none() {
            return Ok(());
        }
        line.requests.send(request).await.map_err(|_| End::Engine)
    }

    /// Writes what the engine said.
    async fn tell(&mut self, output: SignalOutput) -> Result<(), End> {
        let response = match output {
            SignalOutput::Response(response) => response,
            SignalOutput::RefreshToken(grants) => {
                let lifetime = self.app.config.join_token_lifetime.duration();
                let token = mint(&self.key, &grants, now(), lifetime);
                let message = proto::signal_response::Message::RefreshToken(token);
                proto::SignalResponse {
                    message: Some(message),
                }
            }
            SignalOutput::Close => return Err(End::Engine),
        };
        let message = if self.is_text {
            let json =
                serde_json::to_string(&response).expect("protocol messages are plain values");
            Message::Text(json.into())
        } else {
            Message::Binary(response.encode_to_vec().into())
        };
        self.write(message).await
    }

    async fn write(&mut self, message: Message) -> Result<(), End> {
        match timeout(WRITE, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Client),
            Err(_) => Err(End::Stuck),
        }
    }

    /// Tells a client whose session is gone to join anew.
    async fn send_to_rejoin(&mut self) -> End {
        let leave = proto::LeaveRequest {
            can_reconnect: true,
            reason: proto::DisconnectReason::StateMismatch as i32,
            action: proto::leave_request::Action::Reconnect as i32,
            regions: None,
        };
        let message = Some(proto::signal_response::Message::Leave(leave));
        let output = SignalOutput::Response(proto::SignalResponse { message });
        self.tell(output).await.err().unwrap_or(End::Engine)
    }

    async fn close(&mut self, end: End) {
        let frame = CloseFrame {
            code: end.close_code(),
            reason: Utf8Bytes::from_static(""),
        };
        if self.write(Message::Close(Some(frame))).await.is_ok() {
            // Until the client answers, so that what was written is read before the connection ends.
            let answered = async { while let Some(Ok(_)) = self.socket.recv().await {} };
            let _ = timeout(Duration::from_secs(2), answered).await;
        }
    }
}
