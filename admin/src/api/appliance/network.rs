//! How the machine is reached. A new network is tried, and kept once somebody has come through it.

use axum::http::StatusCode;
use palabre_appliance::provision::Network;
use palabre_appliance::service::{Answer, NetworkState, Port, Request};
use serde::Serialize;
use utoipa::ToSchema;

use super::OwnBox;
use crate::api::json::Json;
use crate::appliance::{Appliance, unexpected};
use crate::client::CameTo;
use crate::problem::{ApplianceProblem, Problem, ProblemBody};

/// The network of the machine.
#[derive(Serialize, ToSchema)]
pub(super) struct NetworkView {
    /// What was asked for and confirmed; empty: every port asks DHCP.
    kept: Network,
    /// What is tried now, and goes back by itself.
    tried: Option<TriedView>,
    /// The network ports, and the addresses they have.
    ports: Vec<Port>,
}

/// A network that is tried.
#[derive(Serialize, ToSchema)]
pub(super) struct TriedView {
    /// The network.
    network: Network,
    /// Seconds until the one before comes back.
    seconds_left: u64,
}

/// The network of the machine.
#[utoipa::path(
    get, path = "/api/v1/appliance/network", tag = "appliance", security(("session" = []), ("bearer" = [])),
    responses(
        (status = 200, body = NetworkView),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "not_an_appliance"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "appliance_silent"),
    )
)]
pub(super) async fn show(OwnBox(appliance): OwnBox) -> Result<axum::Json<NetworkView>, Problem> {
    let state = state(&appliance).await?;
    Ok(axum::Json(NetworkView {
        kept: state.kept,
        tried: state.tried.map(|tried| TriedView {
            network: tried.network,
            seconds_left: tried.seconds_left,
        }),
        ports: state.ports,
    }))
}

async fn state(appliance: &Appliance) -> Result<NetworkState, Problem> {
    match appliance.ask(&Request::Network).await? {
        Answer::Network(state) => Ok(state),
        other => Err(unexpected(&Request::Network, &other)),
    }
}

/// Try a network.
///
/// It is in force at once, for two minutes: reach the box through it and POST
/// `/api/v1/appliance/network/confirm`, or the network before comes back.
#[utoipa::path(
    put, path = "/api/v1/appliance/network", tag = "appliance", request_body = Network,
    security(("session" = []), ("bearer" = [])),
    responses(
        (status = 202, description = "Tried from now on"),
        (status = 400, body = ProblemBody, content_type = "application/problem+json", description = "body_invalid"),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "not_an_appliance"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "network_invalid, installing"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "appliance_silent, system"),
    )
)]
pub(super) async fn attempt(
    OwnBox(appliance): OwnBox,
    Json(network): Json<Network>,
) -> Result<StatusCode, Problem> {
    appliance.tell(&Request::TryNetwork(network)).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Keep the network that is tried.
///
/// When that has a fixed address, the request must come to it: otherwise nobody has shown that it works.
#[utoipa::path(
    post, path = "/api/v1/appliance/network/confirm", tag = "appliance", security(("session" = []), ("bearer" = [])),
    responses(
        (status = 204, description = "Kept"),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "not_an_appliance"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "network_not_tried, network_not_reached"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "appliance_silent, system"),
    )
)]
pub(super) async fn confirm(
    OwnBox(appliance): OwnBox,
    CameTo(own): CameTo,
) -> Result<StatusCode, Problem> {
    let tried = state(&appliance).await?.tried;
    // An address that DHCP gives is known to nobody before.
    let fixed = tried.and_then(|tried| tried.network.address);
    if let Some(address) = fixed
        && own != Some(address.ip)
    {
        return Err(ApplianceProblem::NetworkNotReached(address.ip).into());
    }
    appliance.tell(&Request::ConfirmNetwork).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Go back to the network before at once.
#[utoipa::path(
    post, path = "/api/v1/appliance/network/revert", tag = "appliance", security(("session" = []), ("bearer" = [])),
    responses(
        (status = 204, description = "Gone back"),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "not_an_appliance"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "network_not_tried"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "appliance_silent, system"),
    )
)]
pub(super) async fn revert(OwnBox(appliance): OwnBox) -> Result<StatusCode, Problem> {
    appliance.tell(&Request::RevertNetwork).await?;
    Ok(StatusCode::NO_CONTENT)
}
