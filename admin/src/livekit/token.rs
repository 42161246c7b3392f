//! LiveKit access tokens: JSON Web Tokens signed with an API key's secret (RFC 7519, HS256 only).
//!
//! Checks and mints them; turns claims into [`Grants`] and back. Time and keys are given, nothing is read
//! from the world. What a token is allowed to do is decided by whoever asked.

mod claims;

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use palabre_engine::Grants;
use serde::Deserialize;

use crate::store::{ApiKey, UnixSeconds};
use claims::Claims;

/// How far clocks may differ: a token is taken this long before `nbf` and after `exp`.
const LEEWAY: UnixSeconds = 60;

/// Longest token read. LiveKit's carry metadata and attributes; real ones are below 4 KiB.
pub const LONGEST_TOKEN: usize = 32 * 1024;

/// Why a token opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Not three parts of base64url JSON, or too long.
    #[error("invalid authorization token: it is not a JSON Web Token")]
    Malformed,
    /// Signed otherwise than with HS256, or with extensions we do not know.
    #[error("invalid authorization token: only HS256 signatures are accepted")]
    Algorithm,
    /// A `kind` of participant that is none of LiveKit's.
    #[error(
        "invalid authorization token: its kind of participant is not known here; leave it out, or name one of LiveKit's \
         (standard, ingress, egress, sip, agent...)"
    )]
    Kind,
    /// No key of this name.
    #[error("invalid API key: the token's issuer is not known here")]
    UnknownKey,
    /// The signature is not that of the key's secret.
    #[error("invalid authorization token: the signature is wrong")]
    Signature,
    /// No `exp`.
    #[error("invalid authorization token: it has no expiry (exp)")]
    NoExpiry,
    /// `exp` has passed.
    #[error("invalid authorization token: it has expired; ask for a new one")]
    Expired,
    /// `nbf` is still to come.
    #[error("invalid authorization token: it is not valid yet; check the clocks")]
    NotYet,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    crit: Option<serde::de::IgnoredAny>,
}

/// The part of the claims read before the signature is checked.
#[derive(Deserialize)]
struct Issuer {
    iss: String,
}

/// The API key a token says it is signed with: what to look up before [`verify`].
///
/// # Errors
/// [`TokenError::Malformed`] when it is no token.
pub fn issuer(token: &str) -> Result<String, TokenError> {
    let (_, payload, _) = parts(token)?;
    let issuer: Issuer = decode(payload)?;
    Ok(issuer.iss)
}

/// What a token grants, once its signature by `key` and its times are checked.
///
/// # Errors
/// [`TokenError`]
pub fn verify(token: &str, key: &ApiKey, now: UnixSeconds) -> Result<Grants, TokenError> {
    let (header, payload, signature) = parts(token)?;
    let Header { alg, crit } = decode(header)?;
    // RFC 7515 §4.1.11: what `crit` names must be understood, and we understand nothing.
    if alg != "HS256" || crit.is_some() {
        return Err(TokenError::Algorithm);
    }
    let signature = URL_SAFE_NO_PAD
        .decode(signature)
        .map_err(|_| TokenError::Malformed)?;
    let signed = &token[..header.len() + 1 + payload.len()];
    // Compares in constant time.
    hmac::verify(&signing_key(key), signed.as_bytes(), &signature)
        .map_err(|_| TokenError::Signature)?;
    let claims: Claims = decode(payload)?;
    if claims.iss != key.id {
        return Err(TokenError::UnknownKey);
    }
    // RFC 7519 §2: a NumericDate may have a fraction.
    let expiry = claims.exp.as_ref().and_then(serde_json::Number::as_f64);
    let expiry = expiry.ok_or(TokenError::NoExpiry)?;
    #[allow(clippy::cast_precision_loss)] // exact until the year 285,000,000
    let (earliest, latest) = ((now - LEEWAY) as f64, (now + LEEWAY) as f64);
    if expiry <= earliest {
        return Err(TokenError::Expired);
    }
    let start = claims.nbf.as_ref().and_then(serde_json::Number::as_f64);
    if start.is_some_and(|from| from > latest) {
        return Err(TokenError::NotYet);
    }
    claims.grants()
}

/// A token for `grants`, valid for `lifetime` from now.
pub fn mint(key: &ApiKey, grants: &Grants, now: UnixSeconds, lifetime: Duration) -> String {
    let claims = Claims::of(key, grants, now, lifetime);
    let payload = serde_json::to_vec(&claims).expect("claims are plain values");
    let mut token = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut token);
    let signature = hmac::sign(&signing_key(key), token.as_bytes());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    token
}

fn signing_key(key: &ApiKey) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key.secret.reveal().as_bytes())
}

fn parts(token: &str) -> Result<(&str, &str, &str), TokenError> {
    if token.len() > LONGEST_TOKEN {
        return Err(TokenError::Malformed);
    }
    let mut parts = token.split('.');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(header), Some(payload), Some(signature), None) => Ok((header, payload, signature)),
        _ => Err(TokenError::Malformed),
    }
}

fn decode<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, TokenError> {
    let json = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| TokenError::Malformed)
}

#[cfg(test)]
mod tests;
