//! Rooms: made, listed, shown and deleted by the administrator.

use std::collections::HashMap;

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use palabre_engine::{RoomError, proto};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::Administrator;
use super::json::Json;
use super::{shown, typed};
use crate::app::App;
use crate::links::Links;
use crate::problem::{Problem, ProblemBody};
use crate::store::{NewRoom, Room};

/// Rooms on a page unless asked otherwise.
const PAGE: u32 = 50;

/// Most rooms on a page.
const LARGEST_PAGE: u32 = 100;

/// A room to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RoomToMake {
    /// What people will call it, 1 to 120 characters.
    #[schema(example = "Comité de direction", min_length = 1, max_length = 120)]
    name: String,
    /// Most participants at once, 1 to 10,000; absent: as many as the box takes.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 10000)]
    max_participants: Option<u32>,
}

/// A room.
#[derive(Serialize, ToSchema)]
pub(super) struct RoomView {
    /// Names the room in this API and in LiveKit's; opens nothing by itself.
    #[schema(example = "r0123456789abcdefghjk")]
    id: String,
    /// What people call it.
    name: String,
    /// The nine digits that open it from every door.
    #[schema(example = "123456789")]
    code: String,
    /// The nine digits as people read them.
    #[schema(example = "123 456 789")]
    code_shown: String,
    /// The link that opens it in a browser.
    #[schema(example = "https://meet.example.org/r/0123456789abcdefghjkmnpqrstvwxyz")]
    link: String,
    /// Most participants at once, when limited.
    max_participants: Option<u32>,
    /// When it was made (RFC 3339).
    created: String,
    /// How many are inside now.
    participants: u32,
}

/// A room and who is inside now.
#[derive(Serialize, ToSchema)]
pub(super) struct RoomDetail {
    #[serde(flatten)]
    room: RoomView,
    /// Who is inside now.
    present: Vec<Present>,
}

/// Somebody inside.
#[derive(Serialize, ToSchema)]
pub(super) struct Present {
    /// Identity in LiveKit's API.
    identity: String,
    /// Name shown to the others.
    name: String,
    /// `standard`, `sip` (telephone), `agent`, `egress`, `ingress`...
    #[schema(example = "sip")]
    kind: String,
    /// Since when (RFC 3339).
    joined: String,
    /// Whether a microphone is open.
    microphone: bool,
    /// Whether a camera is on.
    camera: bool,
}

/// One page of rooms.
#[derive(Serialize, ToSchema)]
pub(super) struct RoomList {
    /// Newest first.
    rooms: Vec<RoomView>,
    /// `before` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
    /// Rooms in all.
    total: u64,
}

/// Which page.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// `next` of the page before; absent: the newest.
    before: Option<i64>,
    /// Rooms on the page, 1 to 100, 50 when absent.
    #[param(minimum = 1, maximum = 100)]
    size: Option<u32>,
}

impl RoomView {
    fn new(links: &Links, room: Room, participants: u32) -> Self {
        Self {
            link: links.room(&room.slug),
            id: room.id,
            name: room.name,
            code: room.code.as_str().to_owned(),
            code_shown: room.code.grouped(),
            max_participants: room.max_participants,
            created: shown(room.created),
            participants,
        }
    }
}

impl From<proto::ParticipantInfo> for Present {
    fn from(participant: proto::ParticipantInfo) -> Self {
        let is_on = |source: proto::TrackSource| {
            participant
                .tracks
                .iter()
                .any(|track| track.source() == source && !track.muted)
        };
        Self {
            microphone: is_on(proto::TrackSource::Microphone),
            camera: is_on(proto::TrackSource::Camera),
            kind: participant.kind().as_str_name().to_ascii_lowercase(),
            joined: shown(participant.joined_at),
            identity: participant.identity,
            name: participant.name,
        }
    }
}

/// Make a room.
#[utoipa::path(
    post, path = "/api/v1/rooms", tag = "rooms", request_body = RoomToMake,
    security(("session" = []), ("bearer" = [])),
    responses(
        (status = 201, body = RoomView, headers(("Location" = String, description = "The room"))),
        (status = 400, body = ProblemBody, content_type = "application/problem+json", description = "body_invalid"),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 413, body = ProblemBody, content_type = "application/problem+json", description = "body_too_large"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "field_invalid"),
    )
)]
pub(super) async fn create(
    State(app): State<App>,
    links: Links,
    _: Administrator,
    Json(new): Json<RoomToMake>,
) -> Result<Response, Problem> {
    let name = typed(
        "name",
        &new.name,
        120,
        "1 to 120 characters",
        "de 1 à 120 caractères",
    )?;
    if new
        .max_participants
        .is_some_and(|most| !(1..=10_000).contains(&most))
    {
        return Err(Problem::FieldInvalid {
            field: "max_participants",
            expected: "1 to 10,000",
            attendu: "de 1 à 10 000",
        });
    }
    let new = NewRoom {
        name,
        max_participants: new.max_participants,
    };
    let room = app.store.rooms.create(&new).await?;
    let location = format!("/api/v1/rooms/{}", room.id);
    let view = RoomView::new(&links, room, 0);
    Ok((
        StatusCode::CREATED,
        [(header::LOCATION, location)],
        axum::Json(view),
    )
        .into_response())
}

/// List rooms, newest first.
#[utoipa::path(
    get, path = "/api/v1/rooms", tag = "rooms", params(Which), security(("session" = []), ("bearer" = [])),
    responses(
        (status = 200, body = RoomList),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "field_invalid"),
    )
)]
pub(super) async fn list(
    State(app): State<App>,
    links: Links,
    _: Administrator,
    which: Result<Query<Which>, axum::extract::rejection::QueryRejection>,
) -> Result<axum::Json<RoomList>, Problem> {
    let Ok(Query(which)) = which else {
        return Err(Problem::FieldInvalid {
            field: "before, size",
            expected: "the query has only \"before\" and \"size\", both whole numbers",
            attendu: "la requête n'a que « before » et « size », des nombres entiers",
        });
    };
    let size = which.size.unwrap_or(PAGE);
    if !(1..=LARGEST_PAGE).contains(&size) {
        return Err(Problem::FieldInvalid {
            field: "size",
            expected: "1 to 100",
            attendu: "de 1 à 100",
        });
    }
    let page = app.store.rooms.list(which.before, size).await?;
    let names: Vec<String> = page.rooms.iter().map(|room| room.id.clone()).collect();
    let mut inside: HashMap<String, u32> = HashMap::new();
    // No names would ask for all open rooms.
    if !names.is_empty() {
        let open = app.live.list_rooms(names).await.map_err(Problem::from)?;
        inside.extend(
            open.into_iter()
                .map(|room| (room.name, room.num_participants)),
        );
    }
    let rooms = page
        .rooms
        .into_iter()
        .map(|room| {
            let participants = inside.get(&room.id).copied().unwrap_or(0);
            RoomView::new(&links, room, participants)
        })
        .collect();
    Ok(axum::Json(RoomList {
        rooms,
        next: page.next,
        total: page.total,
    }))
}

/// Show a room and who is inside now.
#[utoipa::path(
    get, path = "/api/v1/rooms/{id}", tag = "rooms", security(("session" = []), ("bearer" = [])),
    params(("id" = String, Path, description = "Id of the room")),
    responses(
        (status = 200, body = RoomDetail),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "room_unknown"),
    )
)]
pub(super) async fn show(
    State(app): State<App>,
    links: Links,
    _: Administrator,
    Path(id): Path<String>,
) -> Result<axum::Json<RoomDetail>, Problem> {
    let room = app
        .store
        .rooms
        .by_id(&id)
        .await?
        .ok_or(Problem::RoomUnknown)?;
    let present = present(&app, id).await?;
    let participants = u32::try_from(present.len()).unwrap_or(u32::MAX);
    let present = present.into_iter().map(Present::from).collect();
    Ok(axum::Json(RoomDetail {
        room: RoomView::new(&links, room, participants),
        present,
    }))
}

/// Delete a room: its code and link open nothing from now on, and everybody inside is sent out.
#[utoipa::path(
    delete, path = "/api/v1/rooms/{id}", tag = "rooms", security(("session" = []), ("bearer" = [])),
    params(("id" = String, Path, description = "Id of the room")),
    responses(
        (status = 204, description = "Deleted"),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "room_unknown"),
    )
)]
pub(super) async fn delete(
    State(app): State<App>,
    _: Administrator,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    // First the code, so that nobody enters while the others are sent out.
    if !app.store.rooms.delete(&id).await? {
        return Err(Problem::RoomUnknown);
    }
    match app.live.delete_room(id).await {
        // A room nobody is in is not open.
        Ok(()) | Err(RoomError::RoomUnknown) => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err(error.into()),
    }
}

/// Give a room another code. The one before opens nothing from now on; who is inside stays.
#[utoipa::path(
    post, path = "/api/v1/rooms/{id}/code", tag = "rooms", security(("session" = []), ("bearer" = [])),
    params(("id" = String, Path, description = "Id of the room")),
    responses(
        (status = 200, body = RoomView),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "room_unknown"),
    )
)]
pub(super) async fn change_code(
    State(app): State<App>,
    links: Links,
    _: Administrator,
    Path(id): Path<String>,
) -> Result<axum::Json<RoomView>, Problem> {
    let room = app
        .store
        .rooms
        .change_code(&id)
        .await?
        .ok_or(Problem::RoomUnknown)?;
    let participants = present(&app, id).await?.len();
    let participants = u32::try_from(participants).unwrap_or(u32::MAX);
    Ok(axum::Json(RoomView::new(&links, room, participants)))
}

async fn present(app: &App, room: String) -> Result<Vec<proto::ParticipantInfo>, Problem> {
    match app.live.list_participants(room).await {
        Ok(present) => Ok(present),
        Err(RoomError::RoomUnknown) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}
