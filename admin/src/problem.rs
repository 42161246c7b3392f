//! What the API refuses, and the sentence a person reads: RFC 9457 problem documents, French and English.
//!
//! A handler returns a [`Problem`]; [`speak`] turns it into the body in the language asked for. Every
//! code is in this file and its two sentences in `sentences`, or both in `appliance` for what the box refuses.

mod appliance;
mod sentences;

use std::borrow::Cow;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use palabre_engine::RoomError;
use palabre_engine::door::Refusal;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::store::{Fault, StoreError};

pub use appliance::ApplianceProblem;
pub(crate) use appliance::{code as code_of_the_box, refused as said_by_the_box};

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Nobody is signed in, or the session or token has ended.
    Unauthenticated,
    /// The password is wrong.
    PasswordWrong {
        /// Time before the next try is looked at.
        wait: Duration,
    },
    /// The claim code is wrong.
    ClaimCodeWrong {
        /// Time before the next try is looked at.
        wait: Duration,
    },
    /// The box has its administrator already.
    ClaimedAlready,
    /// The box has no administrator yet.
    NotClaimed,
    /// Another site's page sent the request.
    CrossOrigin,
    /// Too soon after a wrong try.
    Slowed {
        /// Time before the next try is looked at.
        wait: Duration,
    },
    /// Too many wrong tries.
    LockedOut {
        /// Time before the next try is looked at.
        wait: Duration,
    },
    /// Not nine digits.
    CodeMalformed,
    /// The code opens no room.
    CodeUnknown {
        /// Time before the next try is looked at.
        wait: Duration,
    },
    /// The link opens no room.
    LinkUnknown {
        /// Time before the next try is looked at.
        wait: Duration,
    },
    /// No room of this id.
    RoomUnknown,
    /// The room has all the participants it may have.
    RoomFull,
    /// No bearer token of this id.
    TokenUnknown,
    /// No LiveKit key of this id.
    KeyUnknown,
    /// The body is longer than it may be.
    BodyTooLarge {
        /// Most bytes accepted.
        limit: usize,
    },
    /// The body is not declared as JSON.
    NotJson,
    /// The body is not the JSON expected: unknown, absent or ill-typed field.
    BodyInvalid {
        /// What the JSON reader said, in English.
        cause: String,
    },
    /// A field has a value that cannot be used.
    FieldInvalid {
        /// Name of the field.
        field: &'static str,
        /// What is expected, in English.
        expected: &'static str,
        /// What is expected, in French.
        attendu: &'static str,
    },
    /// The database or the engine does not answer.
    Unavailable,
    /// The disk has no space left; reading still works.
    StorageFull,
    /// The disk takes no writes; reading still works.
    StorageReadOnly,
    /// The box the program runs on, or an upload for it.
    Appliance(ApplianceProblem),
    /// No resource of this path.
    PathUnknown,
    /// The resource does not have this method.
    MethodUnknown,
}

/// A problem document (RFC 9457).
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemBody {
    /// `urn:palabre:problem:` and the code.
    #[serde(rename = "type")]
    #[schema(example = "urn:palabre:problem:code_unknown")]
    pub kind: String,
    /// HTTP status.
    #[schema(example = 404)]
    pub status: u16,
    /// Stable name of the problem, for programs.
    #[schema(example = "code_unknown")]
    pub code: String,
    /// The problem in a few words, in the language asked for.
    pub title: String,
    /// What happened and what to do, in the language asked for.
    pub detail: String,
    /// Seconds to wait before trying again.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub wait: Option<u64>,
    /// The field that was refused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub field: Option<String>,
    /// What the JSON reader or the box said, in English.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cause: Option<String>,
}

/// The languages people are answered in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    French,
    English,
}

impl Language {
    /// The better of the two by `Accept-Language` (RFC 9110 §12.5.4); English when neither is named.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let asked = headers
            .get(header::ACCEPT_LANGUAGE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let quality = |wanted: &str| {
            asked
                .split(',')
                .filter_map(|range| {
                    let mut parts = range.split(';');
                    let language = parts.next()?.trim().split('-').next()?;
                    let quality = parts
                        .find_map(|part| part.trim().strip_prefix("q="))
                        .map_or(Some(1.0), |q| q.trim().parse::<f32>().ok())?;
                    language.eq_ignore_ascii_case(wanted).then_some(quality)
                })
                .fold(0.0_f32, f32::max)
        };
        if quality("fr") > quality("en") {
            Self::French
        } else {
            Self::English
        }
    }

    fn tag(self) -> &'static str {
        match self {
            Self::French => "fr",
            Self::English => "en",
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Language {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers))
    }
}

impl From<ApplianceProblem> for Problem {
    fn from(problem: ApplianceProblem) -> Self {
        Self::Appliance(problem)
    }
}

impl Problem {
    /// Stable name, for programs.
    pub fn code(&self) -> Cow<'static, str> {
        let code = match self {
            Self::Appliance(problem) => return Cow::Owned(problem.code()),
            Self::Unauthenticated => "unauthenticated",
            Self::PasswordWrong { .. } => "password_wrong",
            Self::ClaimCodeWrong { .. } => "claim_code_wrong",
            Self::ClaimedAlready => "claimed_already",
            Self::NotClaimed => "not_claimed",
            Self::CrossOrigin => "cross_origin",
            Self::Slowed { .. } => "slowed",
            Self::LockedOut { .. } => "locked_out",
            Self::CodeMalformed => "code_malformed",
            Self::CodeUnknown { .. } => "code_unknown",
            Self::LinkUnknown { .. } => "link_unknown",
            Self::RoomUnknown => "room_unknown",
            Self::RoomFull => "room_full",
            Self::TokenUnknown => "token_unknown",
            Self::KeyUnknown => "key_unknown",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::NotJson => "not_json",
            Self::BodyInvalid { .. } => "body_invalid",
            Self::FieldInvalid { .. } => "field_invalid",
            Self::Unavailable => "unavailable",
            Self::StorageFull => "storage_full",
            Self::StorageReadOnly => "storage_read_only",
            Self::PathUnknown => "path_unknown",
            Self::MethodUnknown => "method_unknown",
        };
        Cow::Borrowed(code)
    }

    /// HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Unauthenticated | Self::PasswordWrong { .. } | Self::ClaimCodeWrong { .. } => {
                StatusCode::UNAUTHORIZED
            }
            Self::ClaimedAlready | Self::NotClaimed | Self::RoomFull => StatusCode::CONFLICT,
            Self::CrossOrigin => StatusCode::FORBIDDEN,
            Self::Slowed { .. } | Self::LockedOut { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::CodeUnknown { .. }
            | Self::LinkUnknown { .. }
            | Self::RoomUnknown
            | Self::TokenUnknown
            | Self::KeyUnknown
            | Self::PathUnknown => StatusCode::NOT_FOUND,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::CodeMalformed | Self::BodyInvalid { .. } => StatusCode::BAD_REQUEST,
            Self::FieldInvalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::StorageFull | Self::StorageReadOnly => StatusCode::INSUFFICIENT_STORAGE,
            Self::Appliance(problem) => problem.status(),
            Self::MethodUnknown => StatusCode::METHOD_NOT_ALLOWED,
        }
    }

    fn wait(&self) -> Option<u64> {
        let wait = match self {
            Self::PasswordWrong { wait }
            | Self::ClaimCodeWrong { wait }
            | Self::Slowed { wait }
            | Self::LockedOut { wait }
            | Self::CodeUnknown { wait }
            | Self::LinkUnknown { wait } => *wait,
            _ => return None,
        };
        Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).filter(|seconds| *seconds > 0)
    }

    /// Title and detail.
    fn sentences(&self, language: Language) -> (&'static str, String) {
        let (title, detail) = match language {
            Language::French => self.french(),
            Language::English => self.english(),
        };
        let mut detail = detail.to_owned();
        if let Some(seconds) = self.wait() {
            detail.push(' ');
            detail.push_str(&match language {
                Language::French => {
                    format!("Réessayez dans {}.", span(seconds, "seconde", "minute"))
                }
                Language::English => format!("Try again in {}.", span(seconds, "second", "minute")),
            });
        }
        match (self, language) {
            (Self::BodyTooLarge { limit }, Language::French) => {
                detail = format!("Le corps de la requête dépasse {limit} octets.");
            }
            (Self::BodyTooLarge { limit }, Language::English) => {
                detail = format!("The request body is longer than {limit} bytes.");
            }
            (Self::FieldInvalid { field, attendu, .. }, Language::French) => {
                detail = format!("Le champ « {field} » n'est pas utilisable : {attendu}.");
            }
            (
                Self::FieldInvalid {
                    field, expected, ..
                },
                Language::English,
            ) => {
                detail = format!("The field \"{field}\" cannot be used: {expected}.");
            }
            _ => {}
        }
        (title, detail)
    }

    fn body(&self, language: Language) -> ProblemBody {
        let (title, detail) = self.sentences(language);
        ProblemBody {
            kind: format!("urn:palabre:problem:{}", self.code()),
            status: self.status().as_u16(),
            code: self.code().into_owned(),
            title: title.to_owned(),
            detail,
            wait: self.wait(),
            field: match self {
                Self::FieldInvalid { field, .. } => Some((*field).to_owned()),
                _ => None,
            },
            cause: match self {
                Self::BodyInvalid { cause } => Some(cause.clone()),
                Self::Appliance(problem) => problem.cause(),
                _ => None,
            },
        }
    }
}

/// `90` as "2 minutes": people wait in minutes when it is long.
fn span(seconds: u64, second: &str, minute: &str) -> String {
    let (count, unit) = if seconds < 90 {
        (seconds, second)
    } else {
        (seconds.div_ceil(60), minute)
    };
    format!("{count} {unit}{}", if count > 1 { "s" } else { "" })
}

impl IntoResponse for Problem {
    /// The status and headers; [`speak`] writes the body.
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        if let Some(wait) = self.wait() {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(wait));
        }
        if self == Self::Unauthenticated {
            let challenge = HeaderValue::from_static("Bearer realm=\"palabre\"");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// Middleware that writes the problem's body in the language asked for.
pub(crate) async fn speak(request: Request, next: Next) -> Response {
    let language = Language::of(request.headers());
    let mut response = next.run(request).await;
    let Some(problem) = response.extensions_mut().remove::<Problem>() else {
        return response;
    };
    let body = serde_json::to_vec(&problem.body(language)).expect("a problem is plain values");
    *response.body_mut() = body.into();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    headers.insert(
        header::CONTENT_LANGUAGE,
        HeaderValue::from_static(language.tag()),
    );
    headers.append(header::VARY, HeaderValue::from_static("accept-language"));
    response
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error.fault {
            Fault::Full => {
                tracing::error!(cause = error.cause, "the disk is full; nothing is saved");
                Self::StorageFull
            }
            Fault::ReadOnly => {
                tracing::error!(
                    cause = error.cause,
                    "the disk takes no writes; nothing is saved"
                );
                Self::StorageReadOnly
            }
            Fault::Other => {
                tracing::error!(
                    cause = error.cause,
                    "the database does not answer; requests that need it are refused"
                );
                Self::Unavailable
            }
        }
    }
}

impl From<RoomError> for Problem {
    fn from(error: RoomError) -> Self {
        match error {
            RoomError::RoomUnknown => Self::RoomUnknown,
            _ => Self::Unavailable,
        }
    }
}

impl Problem {
    /// What the door said, to somebody who gave a code (or a link).
    pub(crate) fn of_door(refusal: Refusal, is_link: bool) -> Self {
        match refusal {
            Refusal::Malformed => Self::CodeMalformed,
            Refusal::Unknown { wait } if is_link => Self::LinkUnknown { wait },
            Refusal::Unknown { wait } => Self::CodeUnknown { wait },
            Refusal::Slowed { wait } => Self::Slowed { wait },
            Refusal::LockedOut { wait } => Self::LockedOut { wait },
            Refusal::Unavailable(error) => StoreError::other(error.cause).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_asked_for_is_spoken() {
        let cases = [
            ("fr", Language::French),
            ("fr-FR,fr;q=0.9,en;q=0.8", Language::French),
            ("en-GB,fr;q=0.5", Language::English),
            ("en;q=0.2, fr;q=0.7", Language::French),
            ("de", Language::English),
            ("", Language::English),
            ("fr;q=x", Language::English),
        ];
        for (asked, spoken) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_LANGUAGE, asked.parse().unwrap());
            assert_eq!(Language::of(&headers), spoken, "{asked}");
        }
    }

    #[test]
    fn waits_are_said_in_both_languages() {
        let problem = Problem::CodeUnknown {
            wait: Duration::from_millis(1500),
        };
        assert!(
            problem
                .body(Language::English)
                .detail
                .ends_with("Try again in 2 seconds.")
        );
        let problem = Problem::LockedOut {
            wait: Duration::from_secs(900),
        };
        assert!(
            problem
                .body(Language::French)
                .detail
                .ends_with("Réessayez dans 15 minutes.")
        );
        assert_eq!(problem.body(Language::French).wait, Some(900));
        let problem = Problem::CodeUnknown {
            wait: Duration::ZERO,
        };
        assert_eq!(problem.body(Language::English).wait, None);
    }
}
