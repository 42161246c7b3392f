//! Whatever a client sends, nothing panics, grows without bound or touches another room.

use prost::Message as _;

use super::*;
use crate::proto::leave_request::Action;

/// Requests of every kind, in an order a client could send them.
fn seeds() -> Vec<Asked> {
    let sid = || "TR_000000000000".to_owned();
    vec![
        Asked::AddTrack(add_track("mic", TrackType::Audio)),
        Asked::Offer(sdp::offer(1, &[("mic", TrackType::Audio, true)])),
        Asked::Answer(proto::SessionDescription {
            r#type: "answer".to_owned(),
            sdp: "v=0".to_owned(),
            ..Default::default()
        }),
        Asked::Trickle(proto::TrickleRequest::default()),
        Asked::AddTrack(proto::AddTrackRequest {
            layers: vec![proto::VideoLayer::default(); 3],
            simulcast_codecs: vec![proto::SimulcastCodec {
                codec: "vp9".to_owned(),
                cid: "cam".to_owned(),
                ..Default::default()
            }],
            ..add_track("cam", TrackType::Video)
        }),
        Asked::Mute(proto::MuteTrackRequest {
            sid: sid(),
            muted: true,
        }),
        Asked::Subscription(proto::UpdateSubscription {
            track_sids: vec![sid()],
            subscribe: true,
            participant_tracks: vec![proto::ParticipantTracks::default()],
        }),
        Asked::TrackSetting(proto::UpdateTrackSettings {
            track_sids: vec![sid()],
            width: 640,
            ..Default::default()
        }),
        Asked::SubscriptionPermission(proto::SubscriptionPermission {
            track_permissions: vec![proto::TrackPermission::default()],
            ..Default::default()
        }),
        Asked::SyncState(proto::SyncState {
            subscription: Some(proto::UpdateSubscription::default()),
            ..Default::default()
        }),
        Asked::UpdateMetadata(proto::UpdateParticipantMetadata {
            name: "name".to_owned(),
            attributes: [("a".to_owned(), "b".to_owned())].into(),
            ..Default::default()
        }),
        Asked::Ping(1),
        Asked::UpdateAudioTrack(proto::UpdateLocalAudioTrack {
            track_sid: sid(),
            features: vec![1],
        }),
    ]
}

#[test]
fn mutated_requests_cost_nobody_else_anything() {
    let mut world = World::new();
    let mut witness = world.seated_with(JoinRequest {
        room: "quiet".to_owned(),
        ..request(Grants {
            room: String::new(),
            ..grants("witness")
        })
    });
    witness.messages();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let seeds: Vec<Vec<u8>> = seeds()
        .into_iter()
        .map(|message| {
            proto::SignalRequest {
                message: Some(message),
            }
            .encode_to_vec()
        })
        .collect();
    let mut mallory = world.seated_with(request(Grants {
        can_update_own_metadata: true,
        ..grants("mallory")
    }));
    for round in 0..20_000usize {
        let mut bytes = seeds[round % seeds.len()].clone();
        for _ in 0..next() % 4 {
            let at = (next() % bytes.len() as u64) as usize;
            match next() % 4 {
                0 => bytes[at] ^= 1 << (next() % 8),
                1 => bytes[at] = next() as u8,
                2 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, next() as u8),
            }
        }
        let Ok(request_) = proto::SignalRequest::decode(&bytes[..]) else {
            continue;
        };
        world.handle(Input::Signal {
            connection: mallory.connection,
            request: Box::new(request_),
            permit: None,
        });
        let gone = mallory.outputs().contains(&SignalOutput::Close);
        if gone || mallory.responses.is_closed() {
            mallory = world.seated_with(request(Grants {
                can_update_own_metadata: true,
                ..grants("mallory")
            }));
        }
        world.told();
    }
    assert_eq!(world.metrics().room_panics_total, 0);
    world.say(&witness, Asked::Ping(0));
    assert_eq!(names(&witness.messages()), ["pong"]);
}

#[test]
fn an_offer_that_is_no_description_ends_the_connection() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    let mut bob = world.seated("bob");
    alice.messages();
    let offer = proto::SessionDescription {
        r#type: "offer".to_owned(),
        sdp: "hello".to_owned(),
        ..Default::default()
    };
    world.say(&alice, Asked::Offer(offer));
    let messages = alice.messages();
    assert!(matches!(
        &messages[..],
        [Message::Leave(leave)] if leave.action() == Action::Disconnect
    ));
    world.say(&bob, Asked::Ping(0));
    assert!(names(&bob.messages()).contains(&"pong"));
}

#[test]
fn a_panic_costs_one_room_whose_clients_are_told_to_come_back() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    let mut witness = world.seated_with(JoinRequest {
        room: "quiet".to_owned(),
        ..request(Grants {
            room: String::new(),
            ..grants("witness")
        })
    });
    alice.messages();
    witness.messages();
    world.told();
    world.panic_in("room");
    assert_eq!(world.metrics().room_panics_total, 1);
    let outputs = alice.outputs();
    assert_eq!(outputs.last(), Some(&SignalOutput::Close));
    assert!(matches!(
        &outputs[0],
        SignalOutput::Response(response) if matches!(
            &response.message,
            Some(Message::Leave(leave)) if leave.action() == Action::Reconnect
        )
    ));
    assert!(world.told().iter().any(|told| matches!(told, Told::Close)));
    world.say(&witness, Asked::Ping(0));
    assert_eq!(
        names(&witness.messages()),
        ["pong"],
        "the other room goes on"
    );
    let again = world.seated("alice");
    assert!(!again.sid.is_empty());
}
