//! The doors LiveKit's SDKs knock at: tokens, the `/rtc` WebSocket and the Twirp API.

mod rtc;
pub mod token;
mod twirp;

use axum::Router;
use axum::http::{HeaderMap, header};
use palabre_engine::Grants;
use tower_http::cors::{Any, CorsLayer};

use crate::app::App;
use crate::store::{ApiKey, now};
use token::TokenError;

/// `/rtc` and `/twirp`, open to pages of any site as LiveKit's are: a token is what opens them.
pub(crate) fn router() -> Router<App> {
    let any_site = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods(Any)
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE])
        .max_age(std::time::Duration::from_secs(86_400));
    rtc::router().merge(twirp::router()).layer(any_site)
}

/// The token after `Authorization: Bearer`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Why a token was not taken.
enum NotTaken {
    /// It is no good.
    Token(TokenError),
    /// The database does not answer.
    Unavailable,
}

/// What `token` grants, and the key that signed it.
async fn check(app: &App, token: &str) -> Result<(Grants, ApiKey), NotTaken> {
    let issuer = token::issuer(token).map_err(NotTaken::Token)?;
    let key = app.store.keys.by_id(&issuer).await.map_err(|error| {
        tracing::error!(
            cause = error.cause,
            "the database does not answer; tokens cannot be checked"
        );
        NotTaken::Unavailable
    })?;
    let key = key.ok_or(NotTaken::Token(TokenError::UnknownKey))?;
    let grants = token::verify(token, &key, now()).map_err(NotTaken::Token)?;
    Ok((grants, key))
}
