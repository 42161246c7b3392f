//! Uploads that go on where they were cut: tus 1.0.0 (<https://tus.io/protocols/resumable-upload>),
//! core protocol, creation, checksum, termination and expiration.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use palabre_appliance::service::{Phase, UploadId};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::OwnBox;
use crate::api::shown;
use crate::app::App;
use crate::appliance::{Appliance, Checksum, MAX_UPLOAD, Upload};
use crate::problem::{ApplianceProblem as Refused, Problem, ProblemBody};

/// The one version of the protocol.
const VERSION: HeaderValue = HeaderValue::from_static("1.0.0");
/// Which of its extensions are known.
const EXTENSIONS: HeaderValue =
    HeaderValue::from_static("creation,checksum,termination,expiration");
/// Of a piece (tus `checksum`).
const ALGORITHMS: HeaderValue = HeaderValue::from_static("sha1,sha256");
/// What a piece is declared as.
const PIECE: &str = "application/offset+octet-stream";

const RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
const TUS_VERSION: HeaderName = HeaderName::from_static("tus-version");
const TUS_EXTENSION: HeaderName = HeaderName::from_static("tus-extension");
const TUS_ALGORITHMS: HeaderName = HeaderName::from_static("tus-checksum-algorithm");
const MAX_SIZE: HeaderName = HeaderName::from_static("tus-max-size");
const LENGTH: HeaderName = HeaderName::from_static("upload-length");
const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const CHECKSUM: HeaderName = HeaderName::from_static("upload-checksum");
const METADATA: HeaderName = HeaderName::from_static("upload-metadata");
const EXPIRES: HeaderName = HeaderName::from_static("upload-expires");
const OVERRIDE: HeaderName = HeaderName::from_static("x-http-method-override");

/// An upload that is under way or complete.
#[derive(Serialize, ToSchema)]
pub(super) struct UploadView {
    /// Names it.
    #[schema(example = "0123456789abcdef0123456789abcdef")]
    id: String,
    /// How many bytes it will have.
    length: u64,
    /// How many have come.
    offset: u64,
    /// `Upload-Metadata` as it was given.
    metadata: Option<String>,
    /// When it will be forgotten (RFC 3339).
    expires: String,
}

impl From<Upload> for UploadView {
    fn from(upload: Upload) -> Self {
        Self {
            id: upload.id.to_string(),
            length: upload.length,
            offset: upload.offset,
            metadata: upload.metadata,
            expires: shown(OffsetDateTime::from(upload.expires).unix_timestamp()),
        }
    }
}

/// The routes, which all speak the protocol.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(options, create))
        .routes(routes!(head, patch, delete, other))
        .layer(from_fn(speak))
}

/// Answers in the protocol's version, and only who speaks it.
async fn speak(request: Request, next: Next) -> Response {
    let given = request.headers().get(RESUMABLE);
    let mut response = match given == Some(&VERSION) || request.method() == Method::OPTIONS {
        true => next.run(request).await,
        false => {
            let mut refused = Problem::from(Refused::UploadVersion).into_response();
            refused.headers_mut().insert(TUS_VERSION, VERSION);
            refused
        }
    };
    response.headers_mut().insert(RESUMABLE, VERSION);
    response
}

/// What the protocol can do here (tus `OPTIONS`).
#[utoipa::path(
    options, path = "/api/v1/appliance/uploads", tag = "appliance", security(("session" = []), ("bearer" = [])),
    responses(
        (status = 204, description = "In the headers", headers(
            ("Tus-Version" = String), ("Tus-Extension" = String), ("Tus-Max-Size" = u64),
            ("Tus-Checksum-Algorithm" = String),
        )),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "not_an_appliance"),
    )
)]
pub(super) async fn options(_: OwnBox) -> Response {
    let headers = [
        (TUS_VERSION, VERSION),
        (TUS_EXTENSION, EXTENSIONS),
        (MAX_SIZE, HeaderValue::from(MAX_UPLOAD)),
        (TUS_ALGORITHMS, ALGORITHMS),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// Begin the upload of an update (tus `creation`). The box keeps one at a time, for 24 h after its last byte.
#[utoipa::path(
    post, path = "/api/v1/appliance/uploads", tag = "appliance", security(("session" = []), ("bearer" = [])),
    params(
        ("Tus-Resumable" = String, Header, description = "1.0.0"),
        ("Upload-Length" = u64, Header, description = "Bytes of the file"),
        ("Upload-Metadata" = Option<String>, Header, description = "Given back as it is, at most 1024 bytes"),
    ),
    responses(
        (status = 201, description = "Begun", headers(("Location" = String), ("Upload-Expires" = String))),
        (status = 400, body = ProblemBody, content_type = "application/problem+json", description = "upload_header"),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "not_an_appliance"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "upload_present"),
        (status = 412, body = ProblemBody, content_type = "application/problem+json", description = "upload_version"),
        (status = 413, body = ProblemBody, content_type = "application/problem+json", description = "upload_too_large"),
        (status = 507, body = ProblemBody, content_type = "application/problem+json", description = "storage_full"),
    )
)]
pub(super) async fn create(
    OwnBox(appliance): OwnBox,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let length = number(&headers, &LENGTH, "Upload-Length")?;
    let metadata = match headers.get(METADATA) {
        None => None,
        Some(value) => match value.to_str() {
            Ok(text) => Some(text.to_owned()),
            Err(_) => return Err(Refused::UploadHeader("Upload-Metadata").into()),
        },
    };
    drop_refused(&appliance).await?;
    let upload = appliance.uploads().create(length, metadata)?;
    let place = format!("/api/v1/appliance/uploads/{}", upload.id);
    let place = HeaderValue::from_str(&place).expect("an id is hexadecimal digits");
    let headers = [(header::LOCATION, place), (EXPIRES, expires(&upload))];
    Ok((StatusCode::CREATED, headers).into_response())
}

/// Makes room for the next upload: one that the box refused is of no use any more.
async fn drop_refused(appliance: &Appliance) -> Result<(), Problem> {
    let progress = appliance.progress().await?;
    match (progress.phase, &progress.upload) {
        (Phase::Refused, Some(id)) if appliance.uploads().find(id).is_ok() => {
            appliance.uploads().remove(id)
        }
        _ => Ok(()),
    }
}

/// How much has come (tus `HEAD`).
#[utoipa::path(
    head, path = "/api/v1/appliance/uploads/{id}", tag = "appliance", security(("session" = []), ("bearer" = [])),
    params(
        ("id" = String, Path, description = "The upload"),
        ("Tus-Resumable" = String, Header, description = "1.0.0"),
    ),
    responses(
        (status = 200, description = "In the headers", headers(
            ("Upload-Offset" = u64), ("Upload-Length" = u64), ("Upload-Metadata" = String), ("Upload-Expires" = String),
        )),
        (status = 401, description = "unauthenticated"),
        (status = 404, description = "not_an_appliance, upload_unknown"),
        (status = 412, description = "upload_version"),
    )
)]
pub(super) async fn head(
    OwnBox(appliance): OwnBox,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let upload = appliance.uploads().find(&known(&id)?)?;
    let mut response = placed(StatusCode::OK, &upload);
    let headers = response.headers_mut();
    headers.insert(LENGTH, HeaderValue::from(upload.length));
    if let Some(value) = upload
        .metadata
        .and_then(|text| HeaderValue::try_from(text).ok())
    {
        headers.insert(METADATA, value);
    }
    Ok(response)
}

/// Add a piece at the offset (tus `PATCH`). What comes before a break is kept.
///
/// Of a piece with a checksum all is kept, or nothing; it has at most 8 MiB.
#[utoipa::path(
    patch, path = "/api/v1/appliance/uploads/{id}", tag = "appliance", security(("session" = []), ("bearer" = [])),
    params(
        ("id" = String, Path, description = "The upload"),
        ("Tus-Resumable" = String, Header, description = "1.0.0"),
        ("Upload-Offset" = u64, Header, description = "How much has come"),
        ("Upload-Checksum" = Option<String>, Header, description = "`sha256` or `sha1`, a blank, and the hash of the piece in base64"),
    ),
    request_body(content = Vec<u8>, content_type = "application/offset+octet-stream", description = "The piece; a request ends after 30 s"),
    responses(
        (status = 204, description = "Kept", headers(("Upload-Offset" = u64), ("Upload-Expires" = String))),
        (status = 400, body = ProblemBody, content_type = "application/problem+json", description = "upload_header"),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "not_an_appliance, upload_unknown"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "upload_offset"),
        (status = 412, body = ProblemBody, content_type = "application/problem+json", description = "upload_version"),
        (status = 413, body = ProblemBody, content_type = "application/problem+json", description = "upload_too_large"),
        (status = 415, body = ProblemBody, content_type = "application/problem+json", description = "upload_kind"),
        (status = 423, body = ProblemBody, content_type = "application/problem+json", description = "upload_busy"),
        (status = 460, body = ProblemBody, content_type = "application/problem+json", description = "upload_checksum"),
        (status = 507, body = ProblemBody, content_type = "application/problem+json", description = "storage_full"),
    )
)]
pub(super) async fn patch(
    OwnBox(appliance): OwnBox,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let id = known(&id)?;
    if headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes) != Some(PIECE.as_bytes()) {
        return Err(Refused::UploadKind.into());
    }
    let offset = number(&headers, &OFFSET, "Upload-Offset")?;
    let checksum = headers.get(CHECKSUM).map(|value| {
        let read = value.to_str().ok().and_then(Checksum::parse);
        read.ok_or(Refused::UploadHeader("Upload-Checksum"))
    });
    let (uploads, body) = (appliance.uploads(), body.into_data_stream());
    let upload = match checksum.transpose()? {
        Some(checksum) => uploads.append_checked(&id, offset, body, &checksum).await?,
        None => uploads.append(&id, offset, body).await?,
    };
    Ok(placed(StatusCode::NO_CONTENT, &upload))
}

/// Give an upload up (tus `termination`).
#[utoipa::path(
    delete, path = "/api/v1/appliance/uploads/{id}", tag = "appliance", security(("session" = []), ("bearer" = [])),
    params(
        ("id" = String, Path, description = "The upload"),
        ("Tus-Resumable" = String, Header, description = "1.0.0"),
    ),
    responses(
        (status = 204, description = "Given up"),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "not_an_appliance, upload_unknown"),
        (status = 412, body = ProblemBody, content_type = "application/problem+json", description = "upload_version"),
        (status = 423, body = ProblemBody, content_type = "application/problem+json", description = "upload_busy"),
    )
)]
pub(super) async fn delete(
    State(app): State<App>,
    OwnBox(appliance): OwnBox,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let upload = appliance.uploads().find(&known(&id)?)?;
    appliance.uploads().remove(&upload.id)?;
    app.store.refill().await;
    Ok(StatusCode::NO_CONTENT)
}

/// PATCH or DELETE, for who cannot send these (tus `X-HTTP-Method-Override`).
#[utoipa::path(
    post, path = "/api/v1/appliance/uploads/{id}", tag = "appliance", security(("session" = []), ("bearer" = [])),
    params(
        ("id" = String, Path, description = "The upload"),
        ("Tus-Resumable" = String, Header, description = "1.0.0"),
        ("X-HTTP-Method-Override" = String, Header, description = "PATCH or DELETE"),
    ),
    responses(
        (status = 204, description = "As the other method"),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "unauthenticated"),
        (status = 405, body = ProblemBody, content_type = "application/problem+json", description = "method_unknown"),
    )
)]
pub(super) async fn other(
    app: State<App>,
    own: OwnBox,
    id: Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    match headers.get(OVERRIDE).map(HeaderValue::as_bytes) {
        Some(b"PATCH") => patch(own, id, headers, body).await,
        Some(b"DELETE") => delete(app, own, id).await.map(IntoResponse::into_response),
        _ => Err(Problem::MethodUnknown),
    }
}

fn known(id: &str) -> Result<UploadId, Problem> {
    UploadId::parse(id).ok_or(Refused::UploadUnknown.into())
}

fn number(headers: &HeaderMap, name: &HeaderName, shown: &'static str) -> Result<u64, Problem> {
    let text = headers.get(name).and_then(|value| value.to_str().ok());
    let plain = text.filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    plain
        .and_then(|text| text.parse().ok())
        .ok_or(Refused::UploadHeader(shown).into())
}

/// An answer that says how much has come.
fn placed(status: StatusCode, upload: &Upload) -> Response {
    let headers = [
        (OFFSET, HeaderValue::from(upload.offset)),
        (EXPIRES, expires(upload)),
    ];
    (status, headers).into_response()
}

fn expires(upload: &Upload) -> HeaderValue {
    let date = httpdate::fmt_http_date(upload.expires);
    HeaderValue::try_from(date).expect("a date is ASCII")
}
