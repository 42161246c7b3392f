//! The support bundle.

use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::OwnBox;
use crate::problem::{Problem, ProblemBody};

/// What somebody needs who is asked for help: logs and states, without addresses, numbers, secrets and such names as can be told from other words.
#[utoipa::path(
    get, path = "/api/v1/appliance/support", tag = "appliance", security(("session" = []), ("bearer" = [])),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/gzip", description = "A tar.gz of text files"),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "not_an_appliance"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "support_busy"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "appliance_silent"),
    )
)]
pub(super) async fn show(OwnBox(appliance): OwnBox) -> Result<Response, Problem> {
    let bundle = appliance.support().await?;
    let headers = [
        (header::CONTENT_TYPE, "application/gzip"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"palabre-support.tar.gz\"",
        ),
    ];
    Ok((headers, bundle).into_response())
}
