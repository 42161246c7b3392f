//! Setting up a new box: its claim code is exchanged, once, for the administrator's password.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::ToSchema;

use super::auth::{Try, set_cookie};
use super::json::Json;
use crate::app::App;
use crate::client::Client;
use crate::password::{self, LONGEST, SHORTEST};
use crate::problem::{Problem, ProblemBody};
use crate::store::Claimed;

/// What claims a box.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Claim {
    /// The code the box printed at its start.
    #[schema(example = "4RTZ-9KQ2-M7XD-0HVB")]
    code: String,
    /// The administrator's password, at least 12 characters.
    #[schema(format = Password, min_length = 12, max_length = 256)]
    password: String,
}

/// A password that may be kept.
pub(super) fn acceptable(password: String) -> Result<String, Problem> {
    if password.chars().count() < SHORTEST || password.len() > LONGEST {
        return Err(Problem::FieldInvalid {
            field: "password",
            expected: "it has 12 characters at least, 256 bytes at most",
            attendu: "il compte 12 caractères au moins, 256 octets au plus",
        });
    }
    Ok(password)
}

/// Make yourself the administrator of a new box.
///
/// Sets the password and signs in (session cookie). Wrong codes are slowed per source.
#[utoipa::path(
    post, path = "/api/v1/claim", tag = "access", request_body = Claim,
    responses(
        (status = 204, description = "Done; the session cookie is set", headers(("Set-Cookie" = String))),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "claim_code_wrong"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "claimed_already"),
        (status = 413, body = ProblemBody, content_type = "application/problem+json", description = "body_too_large"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "field_invalid"),
        (status = 429, body = ProblemBody, content_type = "application/problem+json", description = "slowed, locked_out"),
    )
)]
pub(super) async fn claim(
    State(app): State<App>,
    client: Client,
    Json(claim): Json<Claim>,
) -> Result<Response, Problem> {
    let password = acceptable(claim.password)?;
    let attempt = Try::begin(&app, &client)?;
    if app.store.access.is_claimed().await? {
        attempt.withdraw();
        return Err(Problem::ClaimedAlready);
    }
    if !app.store.access.is_claim_code(&claim.code).await? {
        return Err(Problem::ClaimCodeWrong {
            wait: attempt.wrong(),
        });
    }
    let hash = password::hash(&app, password).await?;
    match app.store.access.claim(&claim.code, &hash).await? {
        Claimed::Done(account) => {
            attempt.right();
            tracing::info!("the box has its administrator");
            let seconds = app.config.session_lifetime.duration().as_secs();
            let session = app.store.access.open_session(&account, seconds).await?;
            let cookie = set_cookie(&client, session.reveal(), seconds);
            Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
        }
        Claimed::WrongCode => Err(Problem::ClaimCodeWrong {
            wait: attempt.wrong(),
        }),
        Claimed::Already => {
            attempt.withdraw();
            Err(Problem::ClaimedAlready)
        }
    }
}
