//! LiveKit API keys: what an application (Visio, a bot) needs to mint its own tokens.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::Administrator;
use super::json::Json;
use super::{named, shown};
use crate::app::App;
use crate::links::Links;
use crate::problem::{Problem, ProblemBody};
use crate::store::ApiKey;

/// A key to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    /// The application, 1 to 80 characters.
    #[schema(example = "Visio", min_length = 1, max_length = 80)]
    name: String,
}

/// A key as it is listed.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyView {
    /// `LIVEKIT_API_KEY`.
    key: String,
    /// The application.
    name: String,
    /// When it was made (RFC 3339).
    created: String,
}

/// A key just made, with its secret.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyMade {
    #[serde(flatten)]
    key: KeyView,
    /// `LIVEKIT_API_SECRET`. Shown this once.
    secret: String,
    /// `LIVEKIT_URL`.
    #[schema(example = "wss://meet.example.org")]
    url: String,
}

/// All keys of applications.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyList {
    /// Newest first.
    keys: Vec<KeyView>,
}

impl From<ApiKey> for KeyView {
    fn from(key: ApiKey) -> Self {
        Self {
            key: key.id,
            name: key.name,
            created: shown(key.created),
        }
    }
}

/// Make a LiveKit API key.
#[utoipa::path(
    post, path = "/api/v1/keys", tag = "access", request_body = NewKey,
    security(("session" = []), ("bearer" = [])),
    responses(
        (status = 201, body = KeyMade),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 413, body = ProblemBody, content_type = "application/problem+json", description = "body_too_large"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "field_invalid"),
    )
)]
pub(super) async fn create(
    State(app): State<App>,
    links: Links,
    _: Administrator,
    Json(new): Json<NewKey>,
) -> Result<(StatusCode, axum::Json<KeyMade>), Problem> {
    let name = named(&new.name)?;
    let key = app.store.keys.create(&name).await?;
    let secret = key.secret.reveal().to_owned();
    let made = KeyMade {
        key: key.into(),
        secret,
        url: links.websocket(),
    };
    Ok((StatusCode::CREATED, axum::Json(made)))
}

/// List the LiveKit API keys of applications, without their secrets.
#[utoipa::path(
    get, path = "/api/v1/keys", tag = "access", security(("session" = []), ("bearer" = [])),
    responses(
        (status = 200, body = KeyList),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
    )
)]
pub(super) async fn list(
    State(app): State<App>,
    _: Administrator,
) -> Result<axum::Json<KeyList>, Problem> {
    let keys = app
        .store
        .keys
        .list()
        .await?
        .into_iter()
        .map(KeyView::from)
        .collect();
    Ok(axum::Json(KeyList { keys }))
}

/// Delete a LiveKit API key: tokens it signed open nothing from now on.
#[utoipa::path(
    delete, path = "/api/v1/keys/{key}", tag = "access", security(("session" = []), ("bearer" = [])),
    params(("key" = String, Path, description = "The key")),
    responses(
        (status = 204, description = "Deleted"),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "key_unknown"),
    )
)]
pub(super) async fn delete(
    State(app): State<App>,
    _: Administrator,
    Path(key): Path<String>,
) -> Result<StatusCode, Problem> {
    match app.store.keys.delete(&key).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::KeyUnknown),
    }
}
