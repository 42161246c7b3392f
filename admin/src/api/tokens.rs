//! Bearer tokens: the administrator's rights for scripts.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::Administrator;
use super::json::Json;
use super::{named, shown};
use crate::app::App;
use crate::problem::{Problem, ProblemBody};
use crate::store::{BearerToken, now};

/// Longest life of a token that ends, in days.
const LONGEST_DAYS: u32 = 3650;

/// A token to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewToken {
    /// What it is for, 1 to 80 characters.
    #[schema(example = "nightly backup", min_length = 1, max_length = 80)]
    name: String,
    /// Days until it ends, 1 to 3650; absent: it does not end.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 3650)]
    days: Option<u32>,
}

/// A token as it is listed.
#[derive(Serialize, ToSchema)]
pub(super) struct TokenView {
    /// Names the token.
    id: String,
    /// What it is for.
    name: String,
    /// When it was made (RFC 3339).
    created: String,
    /// When it ends (RFC 3339), if ever.
    expires: Option<String>,
}

/// A token just made, with its text.
#[derive(Serialize, ToSchema)]
pub(super) struct TokenMade {
    #[serde(flatten)]
    token: TokenView,
    /// Send it as `Authorization: Bearer`. Shown this once.
    text: String,
}

/// All tokens.
#[derive(Serialize, ToSchema)]
pub(super) struct TokenList {
    /// Newest first.
    tokens: Vec<TokenView>,
}

impl From<BearerToken> for TokenView {
    fn from(token: BearerToken) -> Self {
        Self {
            id: token.id,
            name: token.name,
            created: shown(token.created),
            expires: token.expires.map(shown),
        }
    }
}

/// Make a bearer token.
#[utoipa::path(
    post, path = "/api/v1/tokens", tag = "access", request_body = NewToken,
    security(("session" = []), ("bearer" = [])),
    responses(
        (status = 201, body = TokenMade),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 413, body = ProblemBody, content_type = "application/problem+json", description = "body_too_large"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "field_invalid"),
    )
)]
pub(super) async fn create(
    State(app): State<App>,
    Administrator(account): Administrator,
    Json(new): Json<NewToken>,
) -> Result<(StatusCode, axum::Json<TokenMade>), Problem> {
    let name = named(&new.name)?;
    if new
        .days
        .is_some_and(|days| !(1..=LONGEST_DAYS).contains(&days))
    {
        return Err(Problem::FieldInvalid {
            field: "days",
            expected: "1 to 3650",
            attendu: "de 1 à 3650",
        });
    }
    let expires = new.days.map(|days| now() + i64::from(days) * 86_400);
    let (token, text) = app
        .store
        .access
        .create_token(&account, &name, expires)
        .await?;
    let made = TokenMade {
        token: token.into(),
        text: text.reveal().to_owned(),
    };
    Ok((StatusCode::CREATED, axum::Json(made)))
}

/// List bearer tokens, without their texts.
#[utoipa::path(
    get, path = "/api/v1/tokens", tag = "access", security(("session" = []), ("bearer" = [])),
    responses(
        (status = 200, body = TokenList),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
    )
)]
pub(super) async fn list(
    State(app): State<App>,
    _: Administrator,
) -> Result<axum::Json<TokenList>, Problem> {
    let tokens = app
        .store
        .access
        .tokens()
        .await?
        .into_iter()
        .map(TokenView::from)
        .collect();
    Ok(axum::Json(TokenList { tokens }))
}

/// Delete a bearer token: it opens nothing from now on.
#[utoipa::path(
    delete, path = "/api/v1/tokens/{id}", tag = "access", security(("session" = []), ("bearer" = [])),
    params(("id" = String, Path, description = "Id of the token")),
    responses(
        (status = 204, description = "Deleted"),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "token_unknown"),
    )
)]
pub(super) async fn delete(
    State(app): State<App>,
    _: Administrator,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    match app.store.access.delete_token(&id).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::TokenUnknown),
    }
}
