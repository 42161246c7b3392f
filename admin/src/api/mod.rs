//! The REST API under `/api/v1`: one file per resource.
//!
//! Its description is generated from the handlers' types and checked against `admin/openapi.json`.

mod appliance;
mod auth;
mod claim;
mod facts;
mod join;
mod json;
mod keys;
mod rooms;
mod session;
mod tokens;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Info, OpenApi, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::client::Client;
use crate::problem::{Problem, speak};
use crate::store::UnixSeconds;

/// Longest body of this API, in bytes: everything in it is a few short fields.
pub const BODY_LIMIT: usize = 4 * 1024;

/// The routes and their description.
fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(described())
        .routes(routes!(facts::show))
        .routes(routes!(claim::claim))
        .routes(routes!(session::open, session::show, session::close))
        .routes(routes!(session::change_password))
        .routes(routes!(tokens::create, tokens::list))
        .routes(routes!(tokens::delete))
        .routes(routes!(keys::create, keys::list))
        .routes(routes!(keys::delete))
        .routes(routes!(rooms::create, rooms::list))
        .routes(routes!(rooms::show, rooms::delete))
        .routes(routes!(rooms::change_code))
        .routes(routes!(join::join))
        .merge(appliance::routes())
}

/// The API's description.
pub fn openapi() -> OpenApi {
    let mut description = routes().into_openapi();
    json::describe(&mut description);
    description
}

/// The API, ready to be served.
pub(crate) fn router(app: App) -> Router<App> {
    let (router, mut description) = routes().split_for_parts();
    json::describe(&mut description);
    let description = serde_json::to_string(&description).expect("a description is plain values");
    router
        .route(
            "/api/v1/openapi.json",
            get(|| async move { ([(header::CONTENT_TYPE, "application/json")], description) }),
        )
        .route(
            "/api/{*path}",
            axum::routing::any(|| async { Problem::PathUnknown }),
        )
        .method_not_allowed_fallback(|| async { Problem::MethodUnknown })
        .layer(from_fn_with_state(app, same_origin))
        .layer(from_fn(no_store))
        .layer(from_fn(speak))
}

/// Refuses what another site's page makes a browser send, whatever the cookie.
async fn same_origin(
    State(_): State<App>,
    client: Client,
    request: Request,
    next: Next,
) -> Response {
    if !request.method().is_safe() && !client.is_same_origin(request.headers()) {
        return Problem::CrossOrigin.into_response();
    }
    next.run(request).await
}

/// Answers of the API belong to one person and one moment.
async fn no_store(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let value = axum::http::HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, value);
    response
}

fn described() -> OpenApi {
    let mut info = Info::new("Palabre", "1");
    info.description = Some(
        "Rooms and access of one Palabre box. Errors are RFC 9457 problem documents; their sentences follow \
         Accept-Language (French or English), their codes are stable."
            .to_owned(),
    );
    let mut openapi = OpenApiBuilder::new().info(info).build();
    let mut bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    bearer.description = Some("A token made with POST /api/v1/tokens.".to_owned());
    let mut cookie = ApiKeyValue::new(auth::COOKIE);
    cookie.description =
        Some("Set by POST /api/v1/session; over https its name begins with __Host-.".to_owned());
    let components = openapi.components.get_or_insert_default();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    openapi
}

/// A time as the API shows it (RFC 3339).
fn shown(at: UnixSeconds) -> String {
    OffsetDateTime::from_unix_timestamp(at)
        .ok()
        .and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_default()
}

/// The name of a person, an application or a purpose: 1 to 80 characters.
fn named(name: &str) -> Result<String, Problem> {
    typed(
        "name",
        name,
        80,
        "1 to 80 characters",
        "de 1 à 80 caractères",
    )
}

/// A text somebody typed, without blanks around it: 1 to `longest` characters, none of them a control.
fn typed(
    field: &'static str,
    text: &str,
    longest: usize,
    expected: &'static str,
    attendu: &'static str,
) -> Result<String, Problem> {
    let text = text.trim();
    let length = text.chars().count();
    if length == 0 || length > longest || text.chars().any(char::is_control) {
        return Err(Problem::FieldInvalid {
            field,
            expected,
            attendu,
        });
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Set `PALABRE_BLESS=1` to rewrite the golden file after a wanted change.
    #[test]
    fn the_description_is_the_golden_file() {
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
        let mut generated = serde_json::to_string_pretty(&openapi()).unwrap();
        generated.push('\n');
        if std::env::var_os("PALABRE_BLESS").is_some() {
            std::fs::write(golden, &generated).unwrap();
        }
        let kept = std::fs::read_to_string(golden).unwrap_or_default();
        assert!(
            kept == generated,
            "the API changed: run with PALABRE_BLESS=1 and read the difference"
        );
    }

    #[test]
    fn times_are_shown_in_utc() {
        assert_eq!(shown(1_790_000_000), "2026-09-21T14:13:20Z");
    }
}
