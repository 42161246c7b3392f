//! Restarting the machine: now, once meetings have ended, or in a window of the night.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::OwnBox;
use crate::api::json::Json;
use crate::app::App;
use crate::appliance::{Minute, When, participants, restart_at_once};
use crate::problem::{ApplianceProblem, Problem, ProblemBody};

/// When to restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Moment {
    /// At once; whoever is in a room is told half a minute before.
    Now,
    /// Once nobody has been in a room for a minute.
    Idle,
    /// The same, between two times of day.
    Window,
}

/// A restart to be planned.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRestart {
    when: Moment,
    /// The window's first minute, by the box's own time of day.
    #[serde(default)]
    #[schema(example = "22:00")]
    from: Option<String>,
    /// The minute the window ends at, perhaps past midnight.
    #[serde(default)]
    #[schema(example = "05:00")]
    to: Option<String>,
    /// Whether the last minute of the window interrupts meetings. The default is to wait for the next night.
    #[serde(default)]
    force: bool,
}

/// A restart that is planned.
#[derive(Serialize, ToSchema)]
pub(super) struct Planned {
    when: Moment,
    /// The window's first minute, by the box's own time of day.
    #[schema(example = "22:00")]
    from: Option<String>,
    /// The minute the window ends at.
    #[schema(example = "05:00")]
    to: Option<String>,
    /// Whether the last minute of the window interrupts meetings.
    force: bool,
}

/// The restart that is planned, if one is.
#[derive(Serialize, ToSchema)]
pub(super) struct Plan {
    /// Absent: none is.
    restart: Option<Planned>,
}

impl From<When> for Planned {
    fn from(when: When) -> Self {
        match when {
            When::Now => Self::whenever(Moment::Now),
            When::Idle => Self::whenever(Moment::Idle),
            When::Window { from, to, force } => Self {
                when: Moment::Window,
                from: Some(from.to_string()),
                to: Some(to.to_string()),
                force,
            },
        }
    }
}

impl Planned {
    fn whenever(when: Moment) -> Self {
        Self {
            when,
            from: None,
            to: None,
            force: false,
        }
    }
}

impl NewRestart {
    /// The window it names.
    fn window(&self) -> Result<When, Problem> {
        let time = |field: &'static str, text: &Option<String>| {
            let read = text.as_deref().and_then(|text| text.parse().ok());
            read.ok_or(Problem::FieldInvalid {
                field,
                expected: "a time of day such as 22:30, and another than the other end of the window",
                attendu: "une heure comme 22:30, et différente de l'autre bout de la plage",
            })
        };
        let from: Minute = time("from", &self.from)?;
        let to = time("to", &self.to).and_then(|to| match to == from {
            false => Ok(to),
            true => time("to", &None),
        })?;
        let force = self.force;
        Ok(When::Window { from, to, force })
    }
}

/// Restart the machine: what starts next starts then.
///
/// Whoever is in a room is told half a minute before; DELETE calls it off until then. The restart of an
/// empty box begins at once, and is not in the answer.
///
/// A plan outlives the program, not the start of the machine: whatever restarts it has done what was
/// planned. A new plan takes the place of the one before.
#[utoipa::path(
    put, path = "/api/v1/appliance/restart", tag = "appliance", request_body = NewRestart,
    security(("session" = []), ("bearer" = [])),
    responses(
        (status = 202, body = Plan, description = "Planned, or begun"),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "not_an_appliance"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "installing"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "field_invalid"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "appliance_silent, system"),
    )
)]
pub(super) async fn plan(
    State(app): State<App>,
    OwnBox(appliance): OwnBox,
    Json(new): Json<NewRestart>,
) -> Result<(StatusCode, axum::Json<Plan>), Problem> {
    let when = match new.when {
        // Nobody is there to be told: the box does it, or says why not.
        Moment::Now if participants(app.live.as_ref()).await? == 0 => None,
        Moment::Now if appliance.progress().await?.is_running() => {
            return Err(ApplianceProblem::installing().into());
        }
        Moment::Now => Some(When::Now),
        Moment::Idle => Some(When::Idle),
        Moment::Window => Some(new.window()?),
    };
    let boot = appliance.status().await?.boot;
    if when.is_none() {
        restart_at_once(&appliance).await?;
    }
    appliance.restart().set(&boot, when)?;
    let restart = when.map(Planned::from);
    Ok((StatusCode::ACCEPTED, axum::Json(Plan { restart })))
}

/// The restart that is planned.
#[utoipa::path(
    get, path = "/api/v1/appliance/restart", tag = "appliance", security(("session" = []), ("bearer" = [])),
    responses(
        (status = 200, body = Plan),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "not_an_appliance"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "appliance_silent"),
    )
)]
pub(super) async fn show(OwnBox(appliance): OwnBox) -> Result<axum::Json<Plan>, Problem> {
    let boot = appliance.status().await?.boot;
    let restart = appliance.restart().planned(&boot).map(Planned::from);
    Ok(axum::Json(Plan { restart }))
}

/// Plan no restart. One that has begun cannot be called off.
#[utoipa::path(
    delete, path = "/api/v1/appliance/restart", tag = "appliance", security(("session" = []), ("bearer" = [])),
    responses(
        (status = 204, description = "None is planned"),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "not_an_appliance"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "restarting"),
    )
)]
pub(super) async fn cancel(OwnBox(appliance): OwnBox) -> Result<StatusCode, Problem> {
    appliance.restart().cancel()?;
    Ok(StatusCode::NO_CONTENT)
}
