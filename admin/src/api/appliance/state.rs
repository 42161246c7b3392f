//! What runs, what each slot holds and what happened; the other version, the end, and the end of the data.

use axum::extract::State;
use axum::http::StatusCode;
use palabre_appliance::history::{Event, What};
use palabre_appliance::keys::Channel;
use palabre_appliance::protection::Protection;
use palabre_appliance::service::Request;
use palabre_appliance::slots::{Report, State as SlotState};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::OwnBox;
use super::install::ProgressView;
use super::restart::Planned;
use super::told::Told;
use super::uploads::UploadView;
use crate::api::json::Json;
use crate::api::shown;
use crate::app::App;
use crate::appliance::participants;
use crate::problem::{ApplianceProblem, Language, Problem, ProblemBody};

/// The box.
#[derive(Serialize, ToSchema)]
pub(super) struct ApplianceView {
    /// Name of the box.
    #[schema(example = "palabre-ab7f")]
    host: String,
    /// What runs.
    runs: VersionView,
    /// Whether what runs has yet to prove good: an update is refused until then.
    on_trial: bool,
    /// What guards it: Secure Boot, and the encryption of its data.
    protection: Protection,
    /// Both slots.
    slots: Vec<SlotView>,
    /// The version that starts next, when it is another than the one that runs.
    starts_next: Option<u64>,
    /// The version that somebody asked for, once: see `/api/v1/appliance/previous`.
    starts_once: Option<u64>,
    /// The last version that failed its trial, unless it proved good later.
    last_failure: Option<EventView>,
    /// The installation.
    install: ProgressView,
    /// The upload there is.
    upload: Option<UploadView>,
    /// The restart that is planned.
    restart: Option<Planned>,
    /// How many people are in rooms now: a restart would interrupt them.
    participants: u32,
}

/// A version.
#[derive(Serialize, ToSchema)]
pub(super) struct VersionView {
    /// Rises with each release.
    #[schema(example = 12)]
    version: u64,
    /// The version as people read it.
    #[schema(example = "0.1.0+12")]
    display: String,
    /// `core` or `room`.
    #[schema(example = "core")]
    flavour: String,
    /// `amd64` or `arm64`.
    #[schema(example = "amd64")]
    arch: String,
    /// Whether the box trusts keys that anybody can have. Never put such a box into service.
    development: bool,
}

/// A slot.
#[derive(Serialize, ToSchema)]
#[schema(as = SlotReport)]
pub(super) struct SlotView {
    /// `A` or `B`.
    slot: char,
    /// Whether it runs.
    runs: bool,
    /// What it holds.
    version: Option<u64>,
    /// What became of it.
    state: SlotState,
    /// Tries left, while it is on trial.
    tries_left: Option<u32>,
    /// Whether it starts next.
    starts_next: bool,
    /// Stable name of the reason, when it is known.
    #[schema(example = "slot_newest")]
    code: Option<String>,
    /// Why it starts next, or does not: in the language asked for when there is a code, else in English.
    why: String,
}

/// Something that happened to the versions of the box, or settings that a stick brought.
#[derive(Serialize, ToSchema)]
pub(super) struct EventView {
    /// When, by the clock of the box (RFC 3339).
    at: String,
    /// What.
    what: What,
    /// To which version; absent when that is not known, or it is about none.
    version: Option<u64>,
    /// Stable name of the reason, when there is one.
    code: Option<String>,
    /// Why: in the language asked for when there is a code, else in English.
    why: Option<String>,
    /// What the box said, in English, when there is a code.
    cause: Option<String>,
}

/// What happened to the versions of the box.
#[derive(Serialize, ToSchema)]
pub(super) struct History {
    /// Newest first.
    events: Vec<EventView>,
}

/// What confirms that the data of this very box shall go.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Confirmation {
    /// The name of the box.
    #[schema(example = "palabre-ab7f")]
    host: String,
}

impl EventView {
    fn new(event: Event, language: Language) -> Self {
        let told = Told::of_event(event.what, event.why, language);
        Self {
            at: shown(i64::try_from(event.at).unwrap_or(i64::MAX)),
            what: event.what,
            version: (event.version > 0).then_some(event.version),
            code: told.code,
            why: Some(told.why).filter(|why| !why.is_empty()),
            cause: told.cause,
        }
    }
}

impl SlotView {
    fn new(report: Report, language: Language) -> Self {
        let told = Told::of_slot(report.why, language);
        Self {
            slot: report.slot,
            runs: report.runs,
            version: report.version,
            state: report.state,
            tries_left: report.tries_left,
            starts_next: report.starts_next,
            code: told.code,
            why: told.why,
        }
    }
}

/// The box: what runs, both slots, the upload, the installation and the restart under way.
#[utoipa::path(
    get, path = "/api/v1/appliance", tag = "appliance", security(("session" = []), ("bearer" = [])),
    responses(
        (status = 200, body = ApplianceView),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "not_an_appliance"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "appliance_silent"),
    )
)]
pub(super) async fn show(
    State(app): State<App>,
    OwnBox(appliance): OwnBox,
    language: Language,
) -> Result<axum::Json<ApplianceView>, Problem> {
    let status = appliance.status().await?;
    let progress = appliance.progress().await?;
    let upload = appliance.uploads().present()?;
    let planned = appliance.restart().planned(&status.boot);
    Ok(axum::Json(ApplianceView {
        starts_next: status.starts_next(),
        starts_once: status.once,
        host: status.host,
        runs: VersionView {
            version: status.image.version,
            display: status.image.display,
            flavour: status.image.flavour,
            arch: status.image.arch,
            development: status.image.channel == Channel::Development,
        },
        on_trial: status.on_trial,
        protection: status.protection,
        slots: status
            .slots
            .into_iter()
            .map(|report| SlotView::new(report, language))
            .collect(),
        last_failure: status.last_failure.map(|e| EventView::new(e, language)),
        install: ProgressView::new(progress, language),
        upload: upload.map(UploadView::from),
        restart: planned.map(Planned::from),
        participants: participants(app.live.as_ref()).await?,
    }))
}

/// What happened to the versions of the box, the last hundred events.
#[utoipa::path(
    get, path = "/api/v1/appliance/history", tag = "appliance", security(("session" = []), ("bearer" = [])),
    responses(
        (status = 200, body = History),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "not_an_appliance"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "appliance_silent"),
    )
)]
pub(super) async fn history(
    OwnBox(appliance): OwnBox,
    language: Language,
) -> Result<axum::Json<History>, Problem> {
    let events = appliance.status().await?.history.into_iter().rev();
    let events = events
        .map(|event| EventView::new(event, language))
        .collect();
    Ok(axum::Json(History { events }))
}

/// Have the other version start next, once: it stays if it proves good.
///
/// Nothing restarts yet: see `/api/v1/appliance/restart`.
#[utoipa::path(
    post, path = "/api/v1/appliance/previous", tag = "appliance", security(("session" = []), ("bearer" = [])),
    responses(
        (status = 204, description = "The other version starts next"),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "not_an_appliance"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "no_previous, installing, firmware"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "appliance_silent"),
    )
)]
pub(super) async fn previous(OwnBox(appliance): OwnBox) -> Result<StatusCode, Problem> {
    appliance.tell(&Request::Previous).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Call that off: what starts otherwise starts next, as a rule the version that runs.
#[utoipa::path(
    delete, path = "/api/v1/appliance/previous", tag = "appliance", security(("session" = []), ("bearer" = [])),
    responses(
        (status = 204, description = "The other version is not started, whether it was asked for or not"),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "not_an_appliance"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "installing, firmware"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "appliance_silent"),
    )
)]
pub(super) async fn stay(OwnBox(appliance): OwnBox) -> Result<StatusCode, Problem> {
    appliance.tell(&Request::Stay).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Stop the machine. Only its power button starts it again.
#[utoipa::path(
    post, path = "/api/v1/appliance/shutdown", tag = "appliance", security(("session" = []), ("bearer" = [])),
    responses(
        (status = 202, description = "The machine stops"),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "not_an_appliance"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "installing"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "appliance_silent, system"),
    )
)]
pub(super) async fn shutdown(OwnBox(appliance): OwnBox) -> Result<StatusCode, Problem> {
    appliance.tell(&Request::Shutdown).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Restart the machine and erase its data: rooms, password, network, certificate, history.
///
/// The name of the box confirms that it is the right one. The installed versions stay.
#[utoipa::path(
    post, path = "/api/v1/appliance/factory-reset", tag = "appliance", request_body = Confirmation,
    security(("session" = []), ("bearer" = [])),
    responses(
        (status = 202, description = "The machine restarts and erases its data"),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "not_an_appliance"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "installing, firmware"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "not_confirmed"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "appliance_silent, system"),
    )
)]
pub(super) async fn factory_reset(
    OwnBox(appliance): OwnBox,
    Json(confirmation): Json<Confirmation>,
) -> Result<StatusCode, Problem> {
    if confirmation.host.trim() != appliance.status().await?.host {
        return Err(ApplianceProblem::NotConfirmed.into());
    }
    tracing::warn!("the administrator erases the data of this box");
    appliance.tell(&Request::FactoryReset).await?;
    Ok(StatusCode::ACCEPTED)
}
