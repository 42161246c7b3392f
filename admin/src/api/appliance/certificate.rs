//! The certificate of the pages.

use axum::http::StatusCode;
use palabre_appliance::certificate::Facts;
use palabre_appliance::service::{Answer, Request};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::OwnBox;
use crate::api::json::Json;
use crate::api::shown;
use crate::appliance::unexpected;
use crate::problem::{Problem, ProblemBody};

/// Longest body that brings a certificate, in bytes: a chain and a key of 64 KiB each, and their line ends.
const LIMIT: usize = 136 * 1024;

/// The certificate of the pages.
#[derive(Serialize, ToSchema)]
pub(super) struct CertificateView {
    /// Absent when there is none that can be read.
    certificate: Option<FactsView>,
}

/// What a certificate says.
#[derive(Serialize, ToSchema)]
pub(super) struct FactsView {
    /// Whose it is.
    #[schema(example = "CN=palabre-ab7f")]
    subject: String,
    /// Who vouches for it.
    issuer: String,
    /// Names and addresses that it is good for.
    names: Vec<String>,
    /// From when (RFC 3339).
    not_before: String,
    /// Until when (RFC 3339).
    not_after: String,
    /// SHA-256, as browsers show it.
    fingerprint: String,
    /// Whether nobody but the box vouches for it: browsers warn of it.
    self_signed: bool,
}

/// A certificate and its key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewCertificate {
    /// PEM of the certificate, and after it of those that issued it.
    chain: String,
    /// PEM of its private key, without a password.
    #[schema(format = Password)]
    key: String,
}

impl From<Facts> for FactsView {
    fn from(facts: Facts) -> Self {
        let date = |at| shown(i64::try_from(at).unwrap_or(i64::MAX));
        Self {
            subject: facts.subject,
            issuer: facts.issuer,
            names: facts.names,
            not_before: date(facts.not_before),
            not_after: date(facts.not_after),
            fingerprint: facts.fingerprint,
            self_signed: facts.self_signed,
        }
    }
}

/// The certificate of the pages.
#[utoipa::path(
    get, path = "/api/v1/appliance/certificate", tag = "appliance", security(("session" = []), ("bearer" = [])),
    responses(
        (status = 200, body = CertificateView),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "not_an_appliance"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "appliance_silent"),
    )
)]
pub(super) async fn show(
    OwnBox(appliance): OwnBox,
) -> Result<axum::Json<CertificateView>, Problem> {
    match appliance.ask(&Request::Certificate).await? {
        Answer::Certificate(facts) => Ok(axum::Json(CertificateView {
            certificate: facts.map(FactsView::from),
        })),
        other => Err(unexpected(&Request::Certificate, &other)),
    }
}

/// Serve the pages with this certificate.
#[utoipa::path(
    put, path = "/api/v1/appliance/certificate", tag = "appliance", request_body = NewCertificate,
    security(("session" = []), ("bearer" = [])),
    responses(
        (status = 204, description = "In force"),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "not_an_appliance"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "certificate_chain, certificate_key, certificate_other_key, certificate_ended, certificate_no_name, installing"),
        (status = 413, body = ProblemBody, content_type = "application/problem+json", description = "body_too_large"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "appliance_silent"),
    )
)]
pub(super) async fn set(
    OwnBox(appliance): OwnBox,
    Json(new): Json<NewCertificate, LIMIT>,
) -> Result<StatusCode, Problem> {
    let NewCertificate { chain, key } = new;
    appliance
        .tell(&Request::SetCertificate { chain, key })
        .await?;
    tracing::info!("the pages have a new certificate");
    Ok(StatusCode::NO_CONTENT)
}

/// Serve the pages with a new certificate that the box signs itself.
#[utoipa::path(
    post, path = "/api/v1/appliance/certificate/self-signed", tag = "appliance", security(("session" = []), ("bearer" = [])),
    responses(
        (status = 204, description = "In force"),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "not_an_appliance"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "installing"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "appliance_silent"),
    )
)]
pub(super) async fn self_sign(OwnBox(appliance): OwnBox) -> Result<StatusCode, Problem> {
    appliance.tell(&Request::SelfSign).await?;
    tracing::info!("the pages have a new certificate, signed by the box");
    Ok(StatusCode::NO_CONTENT)
}
