//! LiveKit access tokens: JSON Web Tokens signed with an API key's secret (RFC 7519, HS256 only).
//!
//! Checks and mints them; turns claims into [`Grants`] and back. Time and keys are given, nothing is read
//! from the world. What a token is allowed to do is decided by whoever asked.

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use palabre_engine::{Grants, proto};
use serde::{Deserialize, Serialize};

use crate::store::{ApiKey, UnixSeconds};

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

/// Claims as LiveKit writes them. Absent and default values are left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Claims {
    iss: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    sub: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    jti: String,
    exp: Option<serde_json::Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nbf: Option<serde_json::Number>,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    metadata: String,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    attributes: HashMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    kind: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kind_details: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    room_config: Option<proto::RoomConfiguration>,
    video: Option<VideoGrant>,
}

/// LiveKit's `video` grant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct VideoGrant {
    #[serde(skip_serializing_if = "String::is_empty")]
    room: String,
    #[serde(skip_serializing_if = "is_false")]
    room_join: bool,
    #[serde(skip_serializing_if = "is_false")]
    room_create: bool,
    #[serde(skip_serializing_if = "is_false")]
    room_list: bool,
    #[serde(skip_serializing_if = "is_false")]
    room_admin: bool,
    #[serde(skip_serializing_if = "is_false")]
    room_record: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    can_publish: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    can_subscribe: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    can_publish_data: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    can_publish_sources: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    can_update_own_metadata: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    can_subscribe_metrics: Option<bool>,
    #[serde(skip_serializing_if = "is_false")]
    hidden: bool,
    #[serde(skip_serializing_if = "is_false")]
    recorder: bool,
    #[serde(skip_serializing_if = "is_false")]
    agent: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the shape serde asks for
fn is_false(value: &bool) -> bool {
    !*value
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

impl Claims {
    fn grants(self) -> Result<Grants, TokenError> {
        let video = self.video.unwrap_or_default();
        let kind = match self.kind.as_str() {
            "" => proto::participant_info::Kind::Standard,
            kind => proto::participant_info::Kind::from_str_name(&kind.to_ascii_uppercase())
                .ok_or(TokenError::Malformed)?,
        };
        let kind_details = self
            .kind_details
            .iter()
            .filter_map(|detail| {
                proto::participant_info::KindDetail::from_str_name(&detail.to_ascii_uppercase())
            })
            .map(|detail| detail as i32)
            .collect();
        // A source we do not know stays in the list as UNKNOWN: dropping it could leave an empty list,
        // which means "everything".
        let can_publish_sources = video
            .can_publish_sources
            .iter()
            .map(|source| {
                proto::TrackSource::from_str_name(&source.to_ascii_uppercase())
                    .unwrap_or(proto::TrackSource::Unknown)
            })
            .collect();
        let can_publish = video.can_publish.unwrap_or(true);
        Ok(Grants {
            identity: if self.sub.is_empty() {
                self.jti
            } else {
                self.sub
            },
            name: self.name,
            metadata: self.metadata,
            attributes: self.attributes,
            kind,
            kind_details,
            room: video.room,
            room_join: video.room_join,
            room_create: video.room_create,
            room_list: video.room_list,
            room_admin: video.room_admin,
            room_record: video.room_record,
            can_publish,
            can_subscribe: video.can_subscribe.unwrap_or(true),
            can_publish_data: video.can_publish_data.unwrap_or(can_publish),
            can_publish_sources,
            can_update_own_metadata: video.can_update_own_metadata.unwrap_or(false),
            hidden: video.hidden,
            recorder: video.recorder,
            agent: video.agent,
            can_subscribe_metrics: video.can_subscribe_metrics.unwrap_or(false),
            room_config: self.room_config.map(Box::new),
        })
    }

    fn of(key: &ApiKey, grants: &Grants, now: UnixSeconds, lifetime: Duration) -> Self {
        let kind = match grants.kind {
            proto::participant_info::Kind::Standard => String::new(),
            kind => kind.as_str_name().to_ascii_lowercase(),
        };
        let kind_details = grants
            .kind_details
            .iter()
            .filter_map(|detail| proto::participant_info::KindDetail::try_from(*detail).ok())
            .map(|detail| detail.as_str_name().to_ascii_lowercase())
            .collect();
        let can_publish_sources = grants
            .can_publish_sources
            .iter()
            .map(|source| source.as_str_name().to_ascii_lowercase())
            .collect();
        Self {
            iss: key.id.clone(),
            sub: grants.identity.clone(),
            jti: String::new(),
            exp: Some(now.saturating_add_unsigned(lifetime.as_secs()).into()),
            nbf: Some(now.into()),
            name: grants.name.clone(),
            metadata: grants.metadata.clone(),
            attributes: grants.attributes.clone(),
            kind,
            kind_details,
            sha256: String::new(),
            room_config: grants.room_config.as_deref().cloned(),
            video: Some(VideoGrant {
                room: grants.room.clone(),
                room_join: grants.room_join,
                room_create: grants.room_create,
                room_list: grants.room_list,
                room_admin: grants.room_admin,
                room_record: grants.room_record,
                can_publish: Some(grants.can_publish),
                can_subscribe: Some(grants.can_subscribe),
                can_publish_data: Some(grants.can_publish_data),
                can_publish_sources,
                can_update_own_metadata: Some(grants.can_update_own_metadata),
                can_subscribe_metrics: grants.can_subscribe_metrics.then_some(true),
                hidden: grants.hidden,
                recorder: grants.recorder,
                agent: grants.agent,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;
    use livekit_api::access_token::{AccessToken, TokenVerifier, VideoGrants};
    use proptest::prelude::*;

    const NOW: UnixSeconds = 1_790_000_000;

    fn key() -> ApiKey {
        ApiKey {
            id: "APIkey".into(),
            secret: Secret::new("a secret of at least thirty-two bytes".into()),
            name: String::new(),
            is_pages: false,
            created: 0,
        }
    }

    fn signed(header: &str, payload: &str) -> String {
        let mut token = URL_SAFE_NO_PAD.encode(header);
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(payload));
        let signature = hmac::sign(&signing_key(&key()), token.as_bytes());
        format!("{token}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn token(payload: &str) -> String {
        signed(r#"{"alg":"HS256","typ":"JWT"}"#, payload)
    }

    fn check(token: &str) -> Result<Grants, TokenError> {
        verify(token, &key(), NOW)
    }

    #[test]
    fn absent_rights_are_read_as_livekit_reads_them() {
        let grants = check(&token(
            r#"{"iss":"APIkey","sub":"alice","exp":1790000100,"video":{"room":"r","roomJoin":true}}"#,
        ))
        .unwrap();
        assert_eq!(
            (grants.identity.as_str(), grants.room.as_str()),
            ("alice", "r")
        );
        assert!(grants.can_publish && grants.can_subscribe && grants.can_publish_data);
        assert!(!grants.can_update_own_metadata && !grants.room_admin);
        let grants = check(&token(
            r#"{"iss":"APIkey","jti":"bob","exp":1790000100.5,"video":{"canPublish":false}}"#,
        ))
        .unwrap();
        assert_eq!(grants.identity, "bob");
        assert!(!grants.can_publish && !grants.can_publish_data && !grants.room_join);
    }

    #[test]
    fn an_unknown_source_does_not_become_every_source() {
        let grants = check(&token(
            r#"{"iss":"APIkey","exp":1790000100,"video":{"canPublishSources":["smell","screen_share"]}}"#,
        ))
        .unwrap();
        assert_eq!(
            grants.can_publish_sources,
            [proto::TrackSource::Unknown, proto::TrackSource::ScreenShare]
        );
    }

    #[test]
    fn the_times_of_a_token_are_kept_with_a_minute_of_leeway() {
        let at = |exp: i64, nbf: i64| {
            check(&token(&format!(
                r#"{{"iss":"APIkey","exp":{exp},"nbf":{nbf}}}"#
            )))
            .map(drop)
        };
        assert_eq!(at(NOW + 1, NOW), Ok(()));
        assert_eq!(at(NOW - 59, NOW), Ok(()));
        assert_eq!(at(NOW - 60, NOW), Err(TokenError::Expired));
        assert_eq!(at(NOW + 100, NOW + 60), Ok(()));
        assert_eq!(at(NOW + 100, NOW + 61), Err(TokenError::NotYet));
        assert_eq!(
            check(&token(r#"{"iss":"APIkey"}"#)),
            Err(TokenError::NoExpiry)
        );
        assert_eq!(
            check(&token(r#"{"iss":"APIkey","exp":null}"#)),
            Err(TokenError::NoExpiry)
        );
    }

    #[test]
    fn forged_tokens_are_refused() {
        let payload = r#"{"iss":"APIkey","sub":"alice","exp":1790000100}"#;
        let good = token(payload);
        assert!(check(&good).is_ok());
        let other = ApiKey {
            secret: Secret::new("another secret".into()),
            ..key()
        };
        assert_eq!(verify(&good, &other, NOW), Err(TokenError::Signature));
        let none = format!(
            "{}.{}.",
            URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#),
            URL_SAFE_NO_PAD.encode(payload)
        );
        assert_eq!(check(&none), Err(TokenError::Algorithm));
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"hs256"}"#,
            r#"{"alg":"HS512"}"#,
            r#"{"alg":"RS256"}"#,
            r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
        ] {
            assert_eq!(
                check(&signed(header, payload)),
                Err(TokenError::Algorithm),
                "{header}"
            );
        }
        assert_eq!(
            check(&token(r#"{"iss":"APIother","exp":1790000100}"#)),
            Err(TokenError::UnknownKey)
        );
        let cut = &good[..good.len() - 2];
        assert!(check(cut).is_err());
        for malformed in [
            "",
            ".",
            "..",
            "a.b.c",
            "a.b.c.d",
            &"x".repeat(LONGEST_TOKEN + 1),
            &format!("{good}."),
        ] {
            assert_eq!(check(malformed), Err(TokenError::Malformed));
        }
        let doubled = token(r#"{"iss":"APIkey","exp":1790000100,"exp":9999999999}"#);
        assert_eq!(check(&doubled), Err(TokenError::Malformed));
    }

    /// 20,000 mutations of a good token: none is taken, none panics.
    #[test]
    fn no_mutation_of_a_token_is_taken() {
        let grants = Grants {
            identity: "alice".into(),
            room: "r".into(),
            room_join: true,
            ..Grants::default()
        };
        let good = mint(&key(), &grants, NOW, Duration::from_secs(60));
        assert!(check(&good).is_ok());
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % below as u64) as usize
        };
        let letters =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \0\xc3";
        for _ in 0..20_000 {
            let mut bytes = good.clone().into_bytes();
            for _ in 0..=random(3) {
                if bytes.is_empty() {
                    break;
                }
                let at = random(bytes.len());
                match random(4) {
                    0 => bytes[at] = letters[random(letters.len())],
                    1 => bytes.insert(at, letters[random(letters.len())]),
                    2 => drop(bytes.remove(at)),
                    _ => bytes.truncate(at.max(1)),
                }
            }
            let text = String::from_utf8_lossy(&bytes);
            let _ = issuer(&text);
            if text != good {
                assert!(check(&text).is_err(), "{text}");
            }
        }
    }

    #[test]
    fn livekits_own_tokens_are_understood() {
        let jwt = AccessToken::with_api_key(&key().id, key().secret.reveal())
            .with_identity("alice")
            .with_name("Alice")
            .with_metadata("{}")
            .with_attributes([("color", "blue")])
            .with_kind("agent")
            .with_grants(VideoGrants {
                room: "r".into(),
                room_join: true,
                room_admin: true,
                can_publish_sources: vec!["camera".into(), "microphone".into()],
                can_update_own_metadata: Some(true),
                ..VideoGrants::default()
            })
            .with_room_config(proto::RoomConfiguration {
                max_participants: 7,
                ..Default::default()
            })
            .to_jwt()
            .unwrap();
        assert_eq!(issuer(&jwt).unwrap(), key().id);
        let grants = verify(&jwt, &key(), crate::store::now()).unwrap();
        assert_eq!(grants.identity, "alice");
        assert_eq!(grants.name, "Alice");
        assert_eq!(grants.attributes["color"], "blue");
        assert_eq!(grants.kind, proto::participant_info::Kind::Agent);
        assert!(grants.room_join && grants.room_admin && grants.can_update_own_metadata);
        assert_eq!(grants.can_publish_sources.len(), 2);
        assert_eq!(grants.room_config.unwrap().max_participants, 7);
    }

    #[test]
    fn our_tokens_are_understood_by_livekit() {
        let grants = Grants {
            identity: "alice".into(),
            name: "Alice".into(),
            room: "r".into(),
            room_join: true,
            can_publish: false,
            can_publish_sources: vec![proto::TrackSource::ScreenShareAudio],
            kind: proto::participant_info::Kind::Sip,
            ..Grants::default()
        };
        let jwt = mint(
            &key(),
            &grants,
            crate::store::now(),
            Duration::from_secs(60),
        );
        let claims = TokenVerifier::with_api_key(&key().id, key().secret.reveal())
            .verify(&jwt)
            .unwrap();
        assert_eq!(
            (claims.sub.as_str(), claims.name.as_str()),
            ("alice", "Alice")
        );
        assert_eq!(claims.kind, "sip");
        assert!(claims.video.room_join);
        assert_eq!(claims.video.can_publish, Some(false));
        assert_eq!(claims.video.can_publish_sources, ["screen_share_audio"]);
    }

    prop_compose! {
        fn some_grants()(
            identity in ".{1,20}", name in ".{0,20}", metadata in ".{0,40}", room in ".{0,20}",
            attributes in proptest::collection::hash_map(".{0,8}", ".{0,8}", 0..4),
            flags in any::<[bool; 14]>(),
            sources in proptest::collection::vec(0i32..5, 0..5), kind in 0i32..5,
        ) -> Grants {
            Grants {
                identity, name, metadata, room, attributes,
                kind: proto::participant_info::Kind::try_from(kind).unwrap(),
                kind_details: Vec::new(),
                room_join: flags[0], room_create: flags[1], room_list: flags[2], room_admin: flags[3],
                room_record: flags[4], can_publish: flags[5], can_subscribe: flags[6],
                can_publish_data: flags[7], can_update_own_metadata: flags[8], hidden: flags[9],
                recorder: flags[10], agent: flags[11], can_subscribe_metrics: flags[12],
                can_publish_sources: sources.into_iter().map(|s| proto::TrackSource::try_from(s).unwrap()).collect(),
                room_config: flags[13].then(|| Box::new(proto::RoomConfiguration { max_participants: 3, ..Default::default() })),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_minted_is_read_back(grants in some_grants()) {
            let jwt = mint(&key(), &grants, NOW, Duration::from_secs(60));
            prop_assert_eq!(check(&jwt), Ok(grants));
        }

        #[test]
        fn any_claims_are_read_or_refused(payload in ".*") {
            let _ = check(&token(&payload));
        }
    }
}
