//! LiveKit's server API: `POST /twirp/livekit.RoomService/<Method>`, protobuf or JSON (Twirp v7).
//!
//! Checks what the token grants as LiveKit does, asks the engine, answers in the kind of the request.
//! Errors are Twirp's JSON with its codes and statuses.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use palabre_engine::{Grants, RoomError, proto};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{NotTaken, bearer, check};
use crate::app::App;
use crate::body::{self, Unread};

/// Longest request body: room metadata and data packets may have 64 KiB, JSON makes them longer.
const BODY_LIMIT: usize = 256 * 1024;

pub(super) fn router() -> Router<App> {
    Router::new().route("/twirp/{*path}", any(call))
}

/// A Twirp error.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct TwirpError {
    code: &'static str,
    msg: String,
    /// Where HTTP has a better word than the status of the code.
    #[serde(skip)]
    status: Option<StatusCode>,
}

impl TwirpError {
    fn new(code: &'static str, msg: impl Into<String>) -> Self {
        Self {
            code,
            msg: msg.into(),
            status: None,
        }
    }

    /// Twirp has no code of its own for this. Its clients go by the code; 429, the status of this one, would tell HTTP to
    /// send the same again later.
    fn too_large() -> Self {
        let msg = format!("the body is above {BODY_LIMIT} bytes");
        Self {
            status: Some(StatusCode::PAYLOAD_TOO_LARGE),
            ..Self::new("resource_exhausted", msg)
        }
    }

    /// As LiveKit says it when a token does not grant a call.
    fn denied(right: &str) -> Self {
        Self::new(
            "unauthenticated",
            format!("permissions denied: the token lacks {right}"),
        )
    }

    fn status(&self) -> StatusCode {
        if let Some(status) = self.status {
            return status;
        }
        match self.code {
            "invalid_argument" | "malformed" | "out_of_range" => StatusCode::BAD_REQUEST,
            "unauthenticated" => StatusCode::UNAUTHORIZED,
            "permission_denied" => StatusCode::FORBIDDEN,
            "not_found" | "bad_route" => StatusCode::NOT_FOUND,
            "canceled" | "deadline_exceeded" => StatusCode::REQUEST_TIMEOUT,
            "already_exists" | "aborted" => StatusCode::CONFLICT,
            "failed_precondition" => StatusCode::PRECONDITION_FAILED,
            "resource_exhausted" => StatusCode::TOO_MANY_REQUESTS,
            "unimplemented" => StatusCode::NOT_IMPLEMENTED,
            "unavailable" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for TwirpError {
    fn into_response(self) -> Response {
        (self.status(), axum::Json(self)).into_response()
    }
}

impl From<RoomError> for TwirpError {
    fn from(error: RoomError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<NotTaken> for TwirpError {
    fn from(cause: NotTaken) -> Self {
        match cause {
            NotTaken::Token(error) => Self::new("unauthenticated", error.to_string()),
            NotTaken::Unavailable => {
                Self::new("unavailable", "the server cannot check the token now")
            }
        }
    }
}

/// The two encodings of Twirp.
#[derive(Clone, Copy)]
enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let kind = headers
            .get(header::CONTENT_TYPE)?
            .to_str()
            .ok()?
            .split(';')
            .next()?
            .trim();
        match kind {
            "application/protobuf" => Some(Self::Protobuf),
            "application/json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// A call with its body read and its token checked.
struct Call {
    app: App,
    grants: Grants,
    encoding: Encoding,
    body: bytes::Bytes,
}

async fn call(State(app): State<App>, Path(path): Path<String>, request: Request) -> Response {
    answer(app, &path, request)
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

async fn answer(app: App, path: &str, request: Request) -> Result<Response, TwirpError> {
    let bad_route = |why: &str| TwirpError::new("bad_route", why.to_owned());
    let Some(method) = path.strip_prefix("livekit.RoomService/").map(str::to_owned) else {
        return Err(bad_route("no such service here; livekit.RoomService is"));
    };
    if !METHODS.contains(&method.as_str()) {
        return Err(bad_route("livekit.RoomService has no such method here"));
    }
    if request.method() != Method::POST {
        return Err(bad_route("Twirp calls are POST requests"));
    }
    let Some(encoding) = Encoding::of(request.headers()) else {
        return Err(bad_route("send application/protobuf or application/json"));
    };
    let Some(token) = bearer(request.headers()) else {
        return Err(TwirpError::new(
            "unauthenticated",
            "no token: send Authorization: Bearer",
        ));
    };
    let (grants, _) = check(&app, token).await?;
    let body = read(request.into_body()).await?;
    Call {
        app,
        grants,
        encoding,
        body,
    }
    .dispatch(&method)
    .await
}

async fn read(body: Body) -> Result<bytes::Bytes, TwirpError> {
    let read = body::read(body, BODY_LIMIT).await;
    read.map(Into::into).map_err(|why| match why {
        Unread::TooLarge => TwirpError::too_large(),
        Unread::Cut => TwirpError::new("malformed", "the body ends too early"),
    })
}

/// The methods answered here.
const METHODS: &[&str] = &[
    "CreateRoom",
    "ListRooms",
    "DeleteRoom",
    "ListParticipants",
    "GetParticipant",
    "RemoveParticipant",
    "MutePublishedTrack",
    "UpdateParticipant",
    "UpdateRoomMetadata",
    "SendData",
];

impl Call {
    async fn dispatch(self, method: &str) -> Result<Response, TwirpError> {
        let live = &self.app.live;
        match method {
            "CreateRoom" => {
                self.needs(self.grants.room_create, "roomCreate")?;
                let request: proto::CreateRoomRequest = self.request()?;
                self.response(&live.create_room(request).await?)
            }
            "ListRooms" => {
                self.needs(self.grants.room_list, "roomList")?;
                let request: proto::ListRoomsRequest = self.request()?;
                let mut rooms = live.list_rooms(request.names).await?;
                rooms.retain(|room| !self.app.store.rooms.is_passing(&room.name));
                self.response(&proto::ListRoomsResponse { rooms })
            }
            "DeleteRoom" => {
                self.needs(self.grants.room_create, "roomCreate")?;
                let request: proto::DeleteRoomRequest = self.request()?;
                live.delete_room(request.room).await?;
                self.response(&proto::DeleteRoomResponse {})
            }
            "ListParticipants" => {
                let request: proto::ListParticipantsRequest = self.request()?;
                self.administers(&request.room)?;
                // Of a room that is not open, LiveKit lists nobody.
                let participants = match live.list_participants(request.room).await {
                    Err(RoomError::RoomUnknown) => Vec::new(),
                    listed => listed?,
                };
                self.response(&proto::ListParticipantsResponse { participants })
            }
            "GetParticipant" => {
                let request: proto::RoomParticipantIdentity = self.request()?;
                self.administers(&request.room)?;
                self.response(&live.participant(request.room, request.identity).await?)
            }
            "RemoveParticipant" => {
                let request: proto::RoomParticipantIdentity = self.request()?;
                self.administers(&request.room)?;
                live.remove_participant(request.room, request.identity)
                    .await?;
                self.response(&proto::RemoveParticipantResponse {})
            }
            "MutePublishedTrack" => {
                let request: proto::MuteRoomTrackRequest = self.request()?;
                self.administers(&request.room)?;
                let track = Some(live.mute_published_track(request).await?);
                self.response(&proto::MuteRoomTrackResponse { track })
            }
            "UpdateParticipant" => {
                let request: proto::UpdateParticipantRequest = self.request()?;
                self.administers(&request.room)?;
                self.response(&live.update_participant(request).await?)
            }
            "UpdateRoomMetadata" => {
                let request: proto::UpdateRoomMetadataRequest = self.request()?;
                self.administers(&request.room)?;
                self.response(
                    &live
                        .update_room_metadata(request.room, request.metadata)
                        .await?,
                )
            }
            "SendData" => {
                let request: proto::SendDataRequest = self.request()?;
                self.administers(&request.room)?;
                live.send_data(request).await?;
                self.response(&proto::SendDataResponse {})
            }
            _ => Err(TwirpError::new("bad_route", "no such method")),
        }
    }

    fn needs(&self, is_granted: bool, right: &str) -> Result<(), TwirpError> {
        if is_granted {
            Ok(())
        } else {
            Err(TwirpError::denied(right))
        }
    }

    /// `roomAdmin` counts for the token's own room only.
    fn administers(&self, room: &str) -> Result<(), TwirpError> {
        self.needs(
            self.grants.room_admin && self.grants.room == room,
            "roomAdmin for this room",
        )
    }

    fn request<T: prost::Message + Default + DeserializeOwned>(&self) -> Result<T, TwirpError> {
        match self.encoding {
            Encoding::Protobuf => T::decode(self.body.clone()).ok(),
            Encoding::Json => serde_json::from_slice(&self.body).ok(),
        }
        .ok_or_else(|| TwirpError::new("malformed", "the body is not the message of this method"))
    }

    fn response<T: prost::Message + Serialize>(&self, message: &T) -> Result<Response, TwirpError> {
        Ok(match self.encoding {
            Encoding::Protobuf => {
                let kind = [(header::CONTENT_TYPE, "application/protobuf")];
                (kind, message.encode_to_vec()).into_response()
            }
            Encoding::Json => axum::Json(message).into_response(),
        })
    }
}
