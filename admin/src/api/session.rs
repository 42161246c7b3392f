//! Signing in and out with the password, and changing it.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::{Administrator, Try, cookie, set_cookie};
use super::claim::acceptable;
use super::json::Json;
use crate::app::App;
use crate::client::Client;
use crate::password::{self, LONGEST};
use crate::problem::{Problem, ProblemBody};
use crate::store::AccountId;

/// What signs in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SignIn {
    /// The administrator's password.
    #[schema(format = Password)]
    password: String,
}

/// Who is signed in.
#[derive(Serialize, ToSchema)]
pub(super) struct SignedIn {
    /// Name of the account.
    #[schema(example = "administrator")]
    account: String,
}

/// What changes the password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPassword {
    /// The password until now.
    #[schema(format = Password)]
    old: String,
    /// The password from now on, at least 12 characters.
    #[schema(format = Password, min_length = 12, max_length = 256)]
    password: String,
}

/// Sign in.
///
/// Sets a session cookie (HttpOnly, SameSite=Strict). Wrong passwords are slowed per source, then locked out.
#[utoipa::path(
    post, path = "/api/v1/session", tag = "access", request_body = SignIn,
    responses(
        (status = 204, description = "Signed in; the session cookie is set", headers(("Set-Cookie" = String))),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "password_wrong"),
        (status = 403, body = ProblemBody, content_type = "application/problem+json", description = "cross_origin"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "not_claimed"),
        (status = 413, body = ProblemBody, content_type = "application/problem+json", description = "body_too_large"),
        (status = 429, body = ProblemBody, content_type = "application/problem+json", description = "slowed, locked_out"),
    )
)]
pub(super) async fn open(
    State(app): State<App>,
    client: Client,
    Json(sign_in): Json<SignIn>,
) -> Result<Response, Problem> {
    let account = check(&app, &client, sign_in.password).await?;
    let seconds = app.config.session_lifetime.duration().as_secs();
    let session = app.store.access.open_session(&account, seconds).await?;
    let cookie = set_cookie(&client, session.reveal(), seconds);
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

/// Who is signed in.
#[utoipa::path(
    get, path = "/api/v1/session", tag = "access", security(("session" = []), ("bearer" = [])),
    responses(
        (status = 200, body = SignedIn),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
    )
)]
pub(super) async fn show(Administrator(account): Administrator) -> axum::Json<SignedIn> {
    axum::Json(SignedIn {
        account: account.as_str().to_owned(),
    })
}

/// Sign out.
///
/// Ends the session of the cookie, if there is one, and takes the cookie back.
#[utoipa::path(
    delete, path = "/api/v1/session", tag = "access", security(("session" = [])),
    responses((status = 204, description = "Signed out"))
)]
pub(super) async fn close(
    State(app): State<App>,
    client: Client,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if let Some(text) = cookie(&client, &headers) {
        app.store.access.close_session(text).await?;
    }
    let cookie = set_cookie(&client, "", 0);
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

/// Change the administrator's password.
///
/// Ends every session; bearer tokens stay.
#[utoipa::path(
    put, path = "/api/v1/password", tag = "access", request_body = NewPassword,
    security(("session" = []), ("bearer" = [])),
    responses(
        (status = 204, description = "Changed; sign in again"),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated, password_wrong"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "field_invalid"),
        (status = 429, body = ProblemBody, content_type = "application/problem+json", description = "slowed, locked_out"),
    )
)]
pub(super) async fn change_password(
    State(app): State<App>,
    client: Client,
    _: Administrator,
    Json(new): Json<NewPassword>,
) -> Result<StatusCode, Problem> {
    let password = acceptable(new.password)?;
    let account = check(&app, &client, new.old).await?;
    let hash = password::hash(&app, password).await?;
    app.store.access.change_password(&account, &hash).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The administrator, when `password` is right. Wrong ones are counted against the client's source.
async fn check(app: &App, client: &Client, password: String) -> Result<AccountId, Problem> {
    let attempt = Try::begin(app, client)?;
    let Some((account, phc)) = app.store.access.administrator().await? else {
        attempt.withdraw();
        return Err(Problem::NotClaimed);
    };
    if password.len() <= LONGEST && password::is_right(app, password, phc).await? {
        attempt.right();
        Ok(account)
    } else {
        Err(Problem::PasswordWrong {
            wait: attempt.wrong(),
        })
    }
}
