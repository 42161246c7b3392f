//! Bodies of requests: short, JSON, and exactly the fields expected.

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;

use super::BODY_LIMIT;
use crate::app::App;
use crate::problem::Problem;

/// Most bytes of a refused body that are read and thrown away, so that the sender reads the answer instead
/// of a closed connection.
const DISCARD_LIMIT: usize = 1024 * 1024;

/// The JSON body of a request, at most [`BODY_LIMIT`] bytes. Types deny unknown fields.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &App) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = read(body).await?;
        // A form of another site cannot send this type without asking first (CORS preflight).
        if !is_json(&parts.headers) {
            return Err(Problem::NotJson);
        }
        serde_json::from_slice(&bytes)
            .map(Self)
            .map_err(|error| Problem::BodyInvalid {
                cause: error.to_string(),
            })
    }
}

async fn read(body: Body) -> Result<Vec<u8>, Problem> {
    let too_large = body.size_hint().lower() > BODY_LIMIT as u64;
    let mut stream = body.into_data_stream();
    let mut bytes = Vec::new();
    let mut seen = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| Problem::BodyInvalid {
            cause: "the body ends too early".to_owned(),
        })?;
        seen += chunk.len();
        if seen > DISCARD_LIMIT {
            break;
        }
        if seen <= BODY_LIMIT && !too_large {
            bytes.extend_from_slice(&chunk);
        }
    }
    if too_large || seen > BODY_LIMIT {
        return Err(Problem::BodyTooLarge { limit: BODY_LIMIT });
    }
    Ok(bytes)
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    kind.and_then(|kind| kind.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}
