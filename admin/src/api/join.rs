//! Joining from the page: a code or a link is exchanged, at the door, for a short-lived LiveKit token.

use axum::extract::State;
use axum::http::HeaderMap;
use palabre_engine::door::Source;
use palabre_engine::{Grants, JoinError, JoinRequest, proto};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::signed_in;
use super::json::Json;
use super::{named, shown};
use crate::app::App;
use crate::client::{CameTo, Client};
use crate::links::Links;
use crate::livekit::token;
use crate::phone::sip_uri;
use crate::problem::{Problem, ProblemBody};
use crate::secret::random_text;
use crate::store::now;

/// Letters of an identity, 5 bits each: 80 bits, so that nobody takes another's seat by guessing.
const IDENTITY_LETTERS: usize = 16;

/// Who wants in, and by what.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Join {
    /// The room's nine digits, with or without blanks. Either this or `slug`.
    #[serde(default)]
    #[schema(example = "123 456 789")]
    code: Option<String>,
    /// The last part of the room's link.
    #[serde(default)]
    slug: Option<String>,
    /// Name shown to the others, 1 to 80 characters.
    #[schema(example = "Camille", min_length = 1, max_length = 80)]
    name: String,
}

/// The way in.
#[derive(Serialize, ToSchema)]
pub(super) struct Joined {
    /// Where LiveKit's client connects.
    #[schema(example = "wss://meet.example.org")]
    url: String,
    /// Where people open the meetings page: the links of invitations begin with it.
    #[schema(example = "https://meet.example.org")]
    page: String,
    /// LiveKit access token for this room and person. Valid for minutes; the room renews it.
    token: String,
    /// When the token ends if the room is not entered (RFC 3339).
    expires: String,
    /// The person's identity in the room.
    identity: String,
    /// The room.
    room: JoinedRoom,
    /// How others join by telephone.
    phone: Phone,
}

/// The room, as its participants see it.
#[derive(Serialize, ToSchema)]
pub(super) struct JoinedRoom {
    /// What people call it.
    name: String,
    /// The nine digits.
    #[schema(example = "123456789")]
    code: String,
    /// The nine digits as people read them.
    #[schema(example = "123 456 789")]
    code_shown: String,
}

/// How to join by telephone.
#[derive(Serialize, ToSchema)]
pub(super) struct Phone {
    /// Number to dial, when the box has one.
    #[schema(example = "+33 1 23 45 67 89")]
    number: Option<String>,
    /// SIP address to call, when the box shows one.
    #[schema(example = "sip:palabre@meet.example.org")]
    sip: Option<String>,
}

impl Phone {
    /// For who came to this address of the machine.
    pub(super) fn of(app: &App, came_to: CameTo) -> Self {
        let found = || Some(sip_uri(app.sip?, came_to.0));
        Self {
            number: app.config.phone_number.clone(),
            sip: app.config.sip_address.clone().or_else(found),
        }
    }
}

/// Join a room.
///
/// Needs no account. Wrong codes are slowed per source, then locked out for a while.
#[utoipa::path(
    post, path = "/api/v1/join", tag = "joining", request_body = Join,
    responses(
        (status = 200, body = Joined),
        (status = 400, body = ProblemBody, content_type = "application/problem+json", description = "code_malformed, body_invalid"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "code_unknown, link_unknown"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "room_full"),
        (status = 413, body = ProblemBody, content_type = "application/problem+json", description = "body_too_large"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "field_invalid"),
        (status = 429, body = ProblemBody, content_type = "application/problem+json", description = "slowed, locked_out"),
    )
)]
pub(super) async fn join(
    State(app): State<App>,
    client: Client,
    came_to: CameTo,
    links: Links,
    headers: HeaderMap,
    Json(join): Json<Join>,
) -> Result<axum::Json<Joined>, Problem> {
    let name = named(&join.name)?;
    let source = Source::Address(client.source);
    let ticket = match (&join.code, &join.slug) {
        (Some(code), None) => app
            .door
            .open(source, code)
            .await
            .map_err(|r| Problem::of_door(r, false))?,
        (None, Some(slug)) => app
            .door
            .open_link(source, slug)
            .await
            .map_err(|r| Problem::of_door(r, true))?,
        _ => {
            return Err(Problem::FieldInvalid {
                field: "code",
                expected: "give either a code or a slug",
                attendu: "donnez soit un code, soit un lien",
            });
        }
    };
    let is_administrator = signed_in(&app, &client, &headers).await?.is_some();
    let room_config = ticket.max_participants.map(|max_participants| {
        Box::new(proto::RoomConfiguration {
            max_participants,
            ..proto::RoomConfiguration::default()
        })
    });
    let grants = Grants {
        identity: format!("web-{}", random_text(IDENTITY_LETTERS)),
        name,
        room: ticket.room,
        room_join: true,
        room_admin: is_administrator,
        room_config,
        ..Grants::default()
    };
    // Whatever else stands in the way is said where the token is shown.
    let check = JoinRequest {
        room: grants.room.clone(),
        grants: grants.clone(),
        opens_room: true,
        ..JoinRequest::default()
    };
    if let Err(JoinError::RoomFull { .. }) = app.live.check_join(check).await {
        return Err(Problem::RoomFull);
    }
    let lifetime = app.config.join_token_lifetime.duration();
    let now = now();
    Ok(axum::Json(Joined {
        url: client.websocket_origin(),
        page: links.origin,
        token: token::mint(&app.pages, &grants, now, lifetime),
        expires: shown(now.saturating_add_unsigned(lifetime.as_secs())),
        identity: grants.identity,
        room: JoinedRoom {
            name: ticket.title,
            code: ticket.code.as_str().to_owned(),
            code_shown: ticket.code.grouped(),
        },
        phone: Phone::of(&app, came_to),
    }))
}
