//! How full the disk is.

use palabre_appliance::service::{Answer, Request};
use serde::Serialize;
use utoipa::ToSchema;

use super::OwnBox;
use crate::appliance::unexpected;
use crate::problem::{Problem, ProblemBody};

/// The part of the disk that holds data.
#[derive(Serialize, ToSchema)]
pub(super) struct StorageView {
    /// Bytes that it has.
    bytes: u64,
    /// Bytes that are free.
    bytes_free: u64,
    /// Files that it can hold.
    files: u64,
    /// Files that it can still take.
    files_free: u64,
}

/// How full the disk is.
#[utoipa::path(
    get, path = "/api/v1/appliance/storage", tag = "appliance", security(("session" = []), ("bearer" = [])),
    responses(
        (status = 200, body = StorageView),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "not_an_appliance"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "appliance_silent"),
    )
)]
pub(super) async fn show(OwnBox(appliance): OwnBox) -> Result<axum::Json<StorageView>, Problem> {
    match appliance.ask(&Request::Storage).await? {
        Answer::Storage(storage) => Ok(axum::Json(StorageView {
            bytes: storage.bytes,
            bytes_free: storage.bytes_free,
            files: storage.files,
            files_free: storage.files_free,
        })),
        other => Err(unexpected(&Request::Storage, &other)),
    }
}
