//! The ablation table of LiveKit clients turned round: each thing whose lack breaks an SDK is
//! there, and where it must be.

use super::*;

#[test]
fn the_join_response_has_everything_an_sdk_cannot_do_without() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    world.publish(&mut alice, "mic", TrackType::Audio);
    let bob = world.seated("bob");
    let join = bob.join.unwrap();

    let room = join.room.expect("the Rust SDK panics without room");
    assert!(room.sid.starts_with("RM_"), "SDKs test the prefix");
    assert_eq!(room.name, "room");
    assert_eq!(room.num_participants, 2);
    assert!(room.creation_time_ms > 0);
    assert!(!room.enabled_codecs.is_empty());

    let own = join
        .participant
        .expect("no SDK connects without participant");
    assert!(own.sid.starts_with("PA_"), "SDKs test the prefix");
    assert_eq!(own.identity, "bob");
    assert_eq!(own.version, 1);
    let permission = own
        .permission
        .expect("JavaScript refuses to publish without");
    assert!(permission.can_publish && permission.can_subscribe && permission.can_publish_data);
    assert!(!permission.can_update_metadata);

    let other = &join.other_participants[0];
    assert_eq!(other.identity, "alice");
    assert!(other.tracks[0].sid.starts_with("TR_"));
    assert_eq!(other.tracks[0].mime_type, "audio/opus");

    let info = join
        .server_info
        .expect("JavaScript refuses an unknown server version");
    assert!(!info.version.is_empty());
    assert_eq!(info.version, join.server_version);
    assert!(
        join.ping_interval > 0,
        "the Rust SDK panics on a timer of zero"
    );
    assert!(join.ping_timeout > join.ping_interval);
    assert!(join.subscriber_primary);
    assert!(join.fast_publish);
    assert!(!join.sif_trailer.is_empty());
    assert!(!join.enabled_publish_codecs.is_empty());
    assert!(join.ice_servers.is_empty(), "nothing leaves the box");
}

#[test]
fn the_first_messages_come_in_the_order_clients_expect() {
    let mut world = World::new();
    let mut alice = world.join_with(request(grants("alice"))).unwrap();
    let outputs = alice.outputs();
    let SignalOutput::Response(first) = &outputs[0] else {
        panic!("join is first: {outputs:?}");
    };
    assert!(matches!(first.message, Some(Message::Join(_))));
    assert!(matches!(&outputs[1], SignalOutput::RefreshToken(token) if token.identity == "alice"));
    let rest: Vec<&'static str> = outputs[2..]
        .iter()
        .filter_map(|output| match output {
            SignalOutput::Response(response) => response.message.as_ref().map(name),
            _ => None,
        })
        .collect();
    assert_eq!(rest, ["offer"]);
}

#[test]
fn the_first_offer_opens_data_channels_and_carries_no_media() {
    let mut world = World::new();
    let mut bob = world.seated("bob");
    world.publish(&mut bob, "mic", TrackType::Audio);
    let mut alice = world.join_with(request(grants("alice"))).unwrap();
    let offer = first_offer(alice.messages());
    assert!(offer.sdp.contains("m=application"));
    assert!(!offer.sdp.contains("m=audio"));
    world.answer(&alice, &offer);
    let second = first_offer(alice.messages());
    assert!(second.id > offer.id);
    assert!(second.sdp.contains("m=audio"));
}

/// A client that tried the one-connection flow first has used up the first names of media
/// sections (LiveKit's Rust core): a candidate trickled for section "0" has no place with it.
#[test]
fn every_candidate_stands_in_the_description_and_none_is_trickled() {
    let mut world = World::new();
    let mut alice = world.join_with(request(grants("alice"))).unwrap();
    let messages = alice.messages();
    assert!(!names(&messages).contains(&"trickle"), "{messages:?}");
    let offer = first_offer(messages);
    world.answer(&alice, &offer);
    let mut theirs = sdp::offer(1, &[("mic", TrackType::Audio, true)]);
    theirs.sdp = theirs.sdp.replace("a=mid:0", "a=mid:7");
    theirs.sdp = theirs.sdp.replace("BUNDLE 0", "BUNDLE 7");
    world.say(&alice, Asked::Offer(theirs));
    let messages = alice.messages();
    assert!(!names(&messages).contains(&"trickle"), "{messages:?}");
    let answer = messages.into_iter().find_map(|message| match message {
        Message::Answer(answer) => Some(answer),
        _ => None,
    });
    let answer = answer.expect("an answer").sdp;
    assert!(answer.contains("a=mid:7\r\n"), "{answer}");
    for text in [&offer.sdp, &answer] {
        let first = text.split("m=").nth(1).expect("a media section");
        assert!(
            first.contains(" 127.0.0.1 7880 typ host\r\na=end-of-candidates\r\n"),
            "{text}"
        );
        assert!(!text.contains("a=ice-options:trickle"), "{text}");
    }
}

#[test]
fn an_answer_echoes_the_offer_id() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    alice.messages();
    world.say(&alice, Asked::Offer(sdp::offer(41, &[])));
    let messages = alice.messages();
    assert_eq!(names(&messages), ["answer"]);
    let Message::Answer(answer) = &messages[0] else {
        unreachable!()
    };
    assert_eq!(answer.id, 41);
    assert_eq!(answer.r#type, "answer");
}

#[test]
fn a_track_is_acknowledged_before_its_offer_and_shown_after_its_media() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    let mut bob = world.seated("bob");
    alice.messages();
    bob.messages();
    world.say(&alice, Asked::AddTrack(add_track("mic", TrackType::Audio)));
    let messages = alice.messages();
    assert_eq!(names(&messages), ["track_published"]);
    let Message::TrackPublished(published) = &messages[0] else {
        unreachable!()
    };
    assert_eq!(published.cid, "mic");
    let track = published.track.as_ref().unwrap();
    assert!(track.sid.starts_with("TR_"));
    assert_eq!(track.stream, "camera");

    world.say(
        &alice,
        Asked::Offer(sdp::offer(2, &[("mic", TrackType::Audio, true)])),
    );
    assert!(
        bob.messages().is_empty(),
        "nothing to show before its media"
    );
    let receive = world.received().pop().unwrap();
    assert_eq!(receive.codec, Codec::Opus);
    assert_eq!(receive.payload_type, 111);
    world.track_active(&alice, &receive);

    let seen = bob.messages();
    assert_eq!(
        names(&seen),
        ["update", "offer"],
        "the update is first, always"
    );
    let Message::Update(update) = &seen[0] else {
        unreachable!()
    };
    let owner = &update.participants[0];
    assert!(owner.is_publisher);
    assert_eq!(owner.tracks[0].sid, track.sid);
    assert_eq!(owner.tracks[0].mime_type, "audio/opus");
    assert_eq!(owner.tracks[0].mid, "1");
    let Message::Offer(offer) = &seen[1] else {
        unreachable!()
    };
    let msid = format!("a=msid:{}|{} {}", alice.sid, track.sid, track.sid);
    assert!(offer.sdp.contains(&msid), "{}", offer.sdp);
    assert_eq!(
        offer.mid_to_track_id.values().collect::<Vec<_>>(),
        [&track.sid]
    );
}

#[test]
fn media_flows_once_the_subscriber_has_answered() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    let mut bob = world.seated("bob");
    bob.messages();
    let (_, track) = world.publish(&mut alice, "mic", TrackType::Audio);
    assert!(world.sent().is_empty());
    let offer = first_offer(bob.messages());
    world.answer(&bob, &offer);
    let session = world.subscriber_of(&bob);
    let sent = world.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].0, session);
    assert_eq!(sent[0].1.track, track);
    assert_eq!(sent[0].1.codec, Codec::Opus);
    assert!(names(&alice.messages()).contains(&"track_subscribed"));
}

#[test]
fn versions_grow_with_every_update() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    let mut bob = world.seated("bob");
    bob.messages();
    let (sid, _) = world.publish(&mut alice, "mic", TrackType::Audio);
    for muted in [true, false] {
        let mute = proto::MuteTrackRequest {
            sid: sid.clone(),
            muted,
        };
        world.say(&alice, Asked::Mute(mute));
    }
    let versions: Vec<u32> = bob
        .messages()
        .iter()
        .filter_map(|message| match message {
            Message::Update(update) => Some(update.participants[0].version),
            _ => None,
        })
        .collect();
    assert_eq!(versions.len(), 3);
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
}

#[test]
fn both_kinds_of_ping_are_answered_in_milliseconds() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    alice.messages();
    world.say(&alice, Asked::Ping(5));
    let ping = proto::Ping {
        timestamp: 77,
        rtt: 0,
    };
    world.say(&alice, Asked::PingReq(ping));
    let messages = alice.messages();
    let wall = world.clock.wall;
    assert_eq!(
        messages,
        [
            Message::Pong(wall),
            Message::PongResp(proto::Pong {
                last_ping_timestamp: 77,
                timestamp: wall,
            })
        ]
    );
}

#[test]
fn a_token_comes_again_every_five_minutes() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    alice.outputs();
    let mut tokens = 0;
    for _ in 0..11 {
        world.pass(Duration::from_secs(60));
        world.say(&alice, Asked::Ping(0));
        let outputs = alice.outputs();
        tokens += outputs
            .iter()
            .filter(|output| matches!(output, SignalOutput::RefreshToken(_)))
            .count();
    }
    assert_eq!(tokens, 2);
}

#[test]
fn tokens_of_short_life_come_before_half_of_it_is_over() {
    let mut world = World::new();
    let mut alice = world.seated_with(JoinRequest {
        token_lifetime: Some(Duration::from_secs(60)),
        ..request(grants("alice"))
    });
    alice.outputs();
    let mut since_last = 0;
    let mut tokens = 0;
    for _ in 0..300 {
        world.pass(Duration::from_secs(1));
        world.say(&alice, Asked::Ping(0));
        since_last += 1;
        let outputs = alice.outputs();
        if outputs
            .iter()
            .any(|output| matches!(output, SignalOutput::RefreshToken(_)))
        {
            tokens += 1;
            since_last = 0;
        }
        assert!(since_last <= 31, "none for {since_last} s");
    }
    assert!((9..=10).contains(&tokens), "{tokens} tokens");
}

#[test]
fn quality_is_told_about_every_five_seconds() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    alice.messages();
    world.pass(Duration::from_secs(11));
    let messages = alice.messages();
    let qualities = messages
        .iter()
        .filter(|message| matches!(message, Message::ConnectionQuality(_)));
    assert_eq!(qualities.count(), 2);
}

#[test]
fn room_update_tells_the_counts_when_they_change() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    let mut bob = world.seated("bob");
    world.publish(&mut bob, "mic", TrackType::Audio);
    alice.messages();
    world.pass(Duration::from_secs(3));
    let rooms: Vec<proto::Room> = alice
        .messages()
        .into_iter()
        .filter_map(|message| match message {
            Message::RoomUpdate(update) => update.room,
            _ => None,
        })
        .collect();
    assert_eq!(rooms.len(), 1, "once, not each second");
    assert_eq!((rooms[0].num_participants, rooms[0].num_publishers), (2, 1));
}

#[test]
fn unsupported_requests_are_answered_and_unknown_ones_ignored() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    alice.messages();
    world.say(
        &alice,
        Asked::StoreDataBlobRequest(proto::StoreDataBlobRequest {
            request_id: 9,
            ..Default::default()
        }),
    );
    world.handle(Input::Signal {
        connection: alice.connection,
        request: Box::default(),
        permit: None,
    });
    let messages = alice.messages();
    let [Message::RequestResponse(response)] = &messages[..] else {
        panic!("{messages:?}");
    };
    assert_eq!(response.request_id, 9);
    assert_eq!(
        response.reason(),
        proto::request_response::Reason::UnsupportedType
    );
}

pub(crate) fn first_offer(messages: Vec<Message>) -> proto::SessionDescription {
    let offer = messages.into_iter().find_map(|message| match message {
        Message::Offer(offer) => Some(offer),
        _ => None,
    });
    offer.expect("an offer is made")
}
