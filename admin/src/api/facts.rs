//! What anybody may know of the box: how to reach it and whether it is set up.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::join::Phone;
use crate::app::App;
use crate::client::CameTo;
use crate::problem::{Problem, ProblemBody};

/// Public facts of the box.
#[derive(Serialize, ToSchema)]
pub(super) struct Facts {
    /// Version of Palabre.
    #[schema(example = "0.1.0")]
    version: &'static str,
    /// Whether the box has its administrator. While it has none, show the claim page.
    claimed: bool,
    /// Whether it is an appliance, which its administrator updates and sets up under `/api/v1/appliance`.
    appliance: bool,
    /// Languages of pages and telephone menu.
    #[schema(example = json!(["fr", "en"]))]
    languages: [&'static str; 2],
    /// How to reach it by telephone.
    phone: Phone,
}

/// What anybody may know of the box.
#[utoipa::path(
    get, path = "/api/v1/box", tag = "joining",
    responses(
        (status = 200, body = Facts),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "unavailable"),
    )
)]
pub(super) async fn show(
    State(app): State<App>,
    came_to: CameTo,
) -> Result<axum::Json<Facts>, Problem> {
    Ok(axum::Json(Facts {
        version: env!("CARGO_PKG_VERSION"),
        claimed: app.store.access.is_claimed().await?,
        appliance: app.appliance.is_some(),
        languages: ["fr", "en"],
        phone: Phone::of(&app, came_to),
    }))
}
