//! The clock of the machine: whom it asks, and the zone it lives in.

use axum::http::StatusCode;
use palabre_appliance::provision::Time;
use palabre_appliance::service::Request;
use serde::Serialize;
use utoipa::ToSchema;

use super::OwnBox;
use crate::api::json::Json;
use crate::api::shown;
use crate::problem::{Problem, ProblemBody};

/// The clock of the machine.
#[derive(Serialize, ToSchema)]
pub(super) struct TimeView {
    /// What was asked for.
    kept: Time,
    /// Whether a server has confirmed the clock since the start of the machine.
    is_synchronised: bool,
    /// The clock (RFC 3339).
    now: String,
}

/// The clock of the machine.
#[utoipa::path(
    get, path = "/api/v1/appliance/time", tag = "appliance", security(("session" = []), ("bearer" = [])),
    responses(
        (status = 200, body = TimeView),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "not_an_appliance"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "appliance_silent"),
    )
)]
pub(super) async fn show(OwnBox(appliance): OwnBox) -> Result<axum::Json<TimeView>, Problem> {
    let time = appliance.time().await?;
    Ok(axum::Json(TimeView {
        kept: time.kept,
        is_synchronised: time.is_synchronised,
        now: shown(i64::try_from(time.now).unwrap_or(i64::MAX)),
    }))
}

/// Ask these servers for the time, and live in this zone.
#[utoipa::path(
    put, path = "/api/v1/appliance/time", tag = "appliance", request_body = Time,
    security(("session" = []), ("bearer" = [])),
    responses(
        (status = 204, description = "In force"),
        (status = 400, body = ProblemBody, content_type = "application/problem+json", description = "body_invalid"),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "not_an_appliance"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "time_invalid, installing"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "appliance_silent, system"),
    )
)]
pub(super) async fn set(
    OwnBox(appliance): OwnBox,
    Json(time): Json<Time>,
) -> Result<StatusCode, Problem> {
    appliance.tell(&Request::SetTime(time)).await?;
    Ok(StatusCode::NO_CONTENT)
}
