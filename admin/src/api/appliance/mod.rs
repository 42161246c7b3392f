//! The box as its administrator sees it: versions, updates, restarts, settings of the machine.
//!
//! One file per resource. Everything here needs the administrator, and a box: on a machine of
//! somebody's own every path answers `not_an_appliance`.

mod certificate;
mod install;
mod network;
mod restart;
mod state;
mod storage;
mod support;
mod time;
mod told;
mod uploads;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Administrator;
use crate::app::App;
use crate::appliance::Appliance;
use crate::problem::{ApplianceProblem, Problem};

/// The routes and their description.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(state::show))
        .routes(routes!(state::history))
        .routes(routes!(state::previous, state::stay))
        .routes(routes!(state::shutdown))
        .routes(routes!(state::factory_reset))
        .routes(routes!(install::begin, install::show))
        .routes(routes!(restart::show, restart::plan, restart::cancel))
        .routes(routes!(network::show, network::attempt))
        .routes(routes!(network::confirm))
        .routes(routes!(network::revert))
        .routes(routes!(time::show, time::set))
        .routes(routes!(certificate::show, certificate::set))
        .routes(routes!(certificate::self_sign))
        .routes(routes!(storage::show))
        .routes(routes!(support::show))
        .merge(uploads::routes())
}

/// The box, for its administrator.
pub(crate) struct OwnBox(Appliance);

impl FromRequestParts<App> for OwnBox {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        Administrator::from_request_parts(parts, app).await?;
        let appliance = app.appliance.clone();
        appliance
            .map(Self)
            .ok_or(ApplianceProblem::NotAnAppliance.into())
    }
}
