//! Tokens made here, forged, and made by LiveKit's own library.

use super::*;
use crate::Secret;
use livekit_api::access_token::{AccessToken, TokenVerifier, VideoGrants};
use palabre_engine::proto;
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
    let of_kind = |kind: &str| {
        check(&token(&format!(
            r#"{{"iss":"APIkey","exp":1790000100,"kind":"{kind}"}}"#
        )))
    };
    for known in ["", "standard", "SIP", "agent", "ingress", "egress"] {
        assert!(of_kind(known).is_ok(), "{known}");
    }
    let refused = of_kind("robot").expect_err("no kind of LiveKit's");
    assert_eq!(refused, TokenError::Kind);
    assert!(refused.to_string().contains("kind of participant"));
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
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \0\xc3";
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
