//! Installing what was uploaded.

use axum::http::StatusCode;
use palabre_appliance::service::{Phase, Progress, Request, UploadId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::OwnBox;
use crate::api::json::Json;
use crate::problem::{
    ApplianceProblem, Language, Problem, ProblemBody, code_of_the_box, said_by_the_box,
};

/// What to install.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Installation {
    /// The upload, complete.
    #[schema(example = "0123456789abcdef0123456789abcdef")]
    upload: String,
}

/// How far an installation is.
#[derive(Serialize, ToSchema)]
pub(super) struct ProgressView {
    /// Where it stands.
    phase: Phase,
    /// Bytes of this phase that are done.
    done: u64,
    /// All bytes of this phase; 0 while that is not known.
    all: u64,
    /// Its version, once that is known.
    version: Option<u64>,
    /// Which upload it is.
    upload: Option<String>,
    /// Why it was refused.
    refused: Option<Reason>,
}

/// Why something was refused.
#[derive(Serialize, ToSchema)]
pub(super) struct Reason {
    /// Stable name, for programs.
    #[schema(example = "part_hash")]
    code: String,
    /// In a few words, in the language asked for.
    title: &'static str,
    /// What happened and what to do, in the language asked for.
    detail: &'static str,
    /// What the box said, in English.
    cause: String,
}

impl ProgressView {
    pub(super) fn new(progress: Progress, language: Language) -> Self {
        let refused = progress.refused.map(|refusal| {
            let (title, detail) = said_by_the_box(&refusal.code, language);
            Reason {
                code: code_of_the_box(&refusal),
                title,
                detail,
                cause: refusal.what,
            }
        });
        Self {
            phase: progress.phase,
            done: progress.done,
            all: progress.all,
            version: progress.version,
            upload: progress.upload.map(|id| id.to_string()),
            refused,
        }
    }
}

/// Install an upload in the slot that does not run.
///
/// It goes on while meetings run; GET tells how far it is. Once it is done, the new version starts
/// with the next restart, on trial.
#[utoipa::path(
    post, path = "/api/v1/appliance/install", tag = "appliance", request_body = Installation,
    security(("session" = []), ("bearer" = [])),
    responses(
        (status = 202, body = ProgressView, description = "Begun"),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "not_an_appliance, upload_unknown"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "upload_unfinished, installing"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "appliance_silent"),
    )
)]
pub(super) async fn begin(
    OwnBox(appliance): OwnBox,
    language: Language,
    Json(installation): Json<Installation>,
) -> Result<(StatusCode, axum::Json<ProgressView>), Problem> {
    let upload = UploadId::parse(&installation.upload).ok_or(ApplianceProblem::UploadUnknown)?;
    let found = appliance.uploads().find(&upload)?;
    if found.offset < found.length {
        return Err(ApplianceProblem::UploadUnfinished.into());
    }
    appliance.tell(&Request::Install { upload }).await?;
    let progress = appliance.progress().await?;
    Ok((
        StatusCode::ACCEPTED,
        axum::Json(ProgressView::new(progress, language)),
    ))
}

/// How far the installation is.
#[utoipa::path(
    get, path = "/api/v1/appliance/install", tag = "appliance", security(("session" = []), ("bearer" = [])),
    responses(
        (status = 200, body = ProgressView),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "not_an_appliance"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "appliance_silent"),
    )
)]
pub(super) async fn show(
    OwnBox(appliance): OwnBox,
    language: Language,
) -> Result<axum::Json<ProgressView>, Problem> {
    let progress = appliance.progress().await?;
    Ok(axum::Json(ProgressView::new(progress, language)))
}
