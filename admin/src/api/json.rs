//! Bodies of requests: short, JSON, and exactly the fields expected.

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use serde::de::DeserializeOwned;
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder};

use super::BODY_LIMIT;
use crate::app::App;
use crate::body::{Unread, read};
use crate::problem::Problem;

/// The JSON body of a request, at most `LIMIT` bytes. Types deny unknown fields.
pub(super) struct Json<T, const LIMIT: usize = BODY_LIMIT>(pub(super) T);

impl<T: DeserializeOwned, const LIMIT: usize> FromRequest<App> for Json<T, LIMIT> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &App) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = read(body, LIMIT).await.map_err(|why| match why {
            Unread::TooLarge => Problem::BodyTooLarge { limit: LIMIT },
            Unread::Cut => Problem::BodyInvalid {
                cause: "the body ends too early".to_owned(),
            },
        })?;
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

/// Adds what [`Json`] refuses to every operation that takes such a body and does not say so itself.
pub(super) fn describe(openapi: &mut OpenApi) {
    for item in openapi.paths.paths.values_mut() {
        let operations = [&mut item.post, &mut item.put, &mut item.patch];
        for operation in operations.into_iter().flatten() {
            let takes = operation.request_body.as_ref();
            if !takes.is_some_and(|body| body.content.contains_key("application/json")) {
                continue;
            }
            for (status, code) in [
                ("400", "body_invalid"),
                ("413", "body_too_large"),
                ("415", "not_json"),
            ] {
                let problem = ContentBuilder::new()
                    .schema(Some(Ref::from_schema_name("ProblemBody")))
                    .build();
                let response = ResponseBuilder::new()
                    .description(code)
                    .content("application/problem+json", problem)
                    .build();
                let responses = &mut operation.responses.responses;
                responses
                    .entry(status.to_owned())
                    .or_insert(RefOr::T(response));
            }
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    kind.and_then(|kind| kind.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}
