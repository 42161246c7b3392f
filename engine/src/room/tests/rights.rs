//! What tokens, owners and administrators allow is enforced; limits hold.

use palabre_media::sfu::Event;
use prost::Message as _;

use super::messages::first_offer;
use super::*;
use crate::proto::DisconnectReason;
use crate::proto::leave_request::Action;
use crate::proto::request_response::Reason;

fn reasons(messages: &[Message]) -> Vec<Reason> {
    messages
        .iter()
        .filter_map(|message| match message {
            Message::RequestResponse(response) => Some(response.reason()),
            _ => None,
        })
        .collect()
}

#[test]
fn a_token_for_another_room_or_without_join_is_refused() {
    let mut world = World::new();
    let elsewhere = Grants {
        room: "elsewhere".to_owned(),
        ..grants("alice")
    };
    let without = Grants {
        room_join: false,
        ..grants("alice")
    };
    for grants in [elsewhere, without] {
        let refused = world.join_with(request(grants)).err();
        assert_eq!(refused, Some(JoinError::NotAllowed));
    }
    let nameless = world.join_with(request(grants(""))).err();
    assert!(matches!(
        nameless,
        Some(JoinError::Unacceptable {
            field: "identity",
            ..
        })
    ));
    let long = world.join_with(request(grants(&"x".repeat(257)))).err();
    assert!(matches!(long, Some(JoinError::Unacceptable { .. })));
    assert_eq!(world.metrics().joins_refused_total, 4);
}

#[test]
fn attributes_are_chosen_when_coming_in_only_by_who_may_change_its_own() {
    let mut world = World::new();
    let asking = |may: bool, name: &str, value: &str| JoinRequest {
        attributes: [(name.to_owned(), value.to_owned())].into(),
        ..request(Grants {
            attributes: [("role".to_owned(), "guest".to_owned())].into(),
            can_update_own_metadata: may,
            ..grants("alice")
        })
    };
    for (name, value) in [("role", "chair"), ("shown", "1"), ("role", "")] {
        let refused = world.join_with(asking(false, name, value)).err();
        assert_eq!(refused, Some(JoinError::AttributesNotAllowed), "{name}");
        let resuming = JoinRequest {
            reconnect: Some("PA_x".to_owned()),
            ..asking(false, name, value)
        };
        let refused = world.join_with(resuming).err();
        assert_eq!(refused, Some(JoinError::AttributesNotAllowed), "{name}");
    }
    let attributes = |client: Client| client.join.unwrap().participant.unwrap().attributes;
    let told = attributes(world.seated_with(asking(true, "role", "chair")));
    assert_eq!(told["role"], "chair");
    let told = attributes(world.seated_with(asking(true, "role", "")));
    assert_eq!(told["role"], "guest", "an empty text takes nothing away");
    let huge = "x".repeat(65_000);
    let refused = world.join_with(asking(true, "shown", &huge)).err();
    assert!(matches!(refused, Some(JoinError::Unacceptable { .. })));
}

#[test]
fn only_allowed_sources_are_published() {
    let mut world = World::new();
    let mut listener = world.seated_with(request(Grants {
        can_publish: false,
        ..grants("listener")
    }));
    let mut speaker = world.seated_with(request(Grants {
        can_publish: false,
        can_publish_sources: vec![TrackSource::Microphone],
        ..grants("speaker")
    }));
    listener.messages();
    speaker.messages();
    world.say(
        &listener,
        Asked::AddTrack(add_track("mic", TrackType::Audio)),
    );
    assert_eq!(reasons(&listener.messages()), [Reason::NotAllowed]);
    world.say(
        &speaker,
        Asked::AddTrack(add_track("cam", TrackType::Video)),
    );
    assert_eq!(reasons(&speaker.messages()), [Reason::NotAllowed]);
    world.say(
        &speaker,
        Asked::AddTrack(add_track("mic", TrackType::Audio)),
    );
    assert_eq!(names(&speaker.messages()), ["track_published"]);
}

#[test]
fn who_may_not_subscribe_or_send_data_does_not() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    let mut deaf = world.seated_with(request(Grants {
        can_subscribe: false,
        can_publish_data: false,
        ..grants("deaf")
    }));
    deaf.messages();
    world.publish(&mut alice, "mic", TrackType::Audio);
    assert_eq!(names(&deaf.messages()), ["update"], "seen, not heard");
    world.told();
    world.data(&deaf, &proto::DataPacket::default().encode_to_vec());
    assert!(world.told().is_empty());
    assert_eq!(world.metrics().data_packets_dropped_total, 1);
}

#[test]
fn a_hidden_participant_is_seen_by_nobody_and_sees_everybody() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    alice.messages();
    let mut ghost = world.seated_with(request(Grants {
        hidden: true,
        ..grants("ghost")
    }));
    assert!(alice.messages().is_empty());
    let bob = world.seated("bob");
    let others = bob.join.unwrap().other_participants;
    assert_eq!(others.len(), 1);
    ghost.messages();
    world.publish(&mut alice, "mic", TrackType::Audio);
    assert_eq!(names(&ghost.messages()), ["update", "offer"]);
    world.told();
    let packet = proto::DataPacket {
        participant_identity: "alice".to_owned(),
        ..Default::default()
    };
    world.data(&ghost, &packet.encode_to_vec());
    let told = world.told();
    assert_eq!(told.len(), 2);
    for told in told {
        let Told::Command(_, Command::SendData { payload, .. }) = told else {
            panic!("{told:?}");
        };
        let seen = proto::DataPacket::decode(payload).unwrap();
        assert_eq!(
            seen.participant_identity, "",
            "neither its name nor another's"
        );
    }
}

#[test]
fn an_owner_decides_who_receives_its_tracks() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    let mut bob = world.seated("bob");
    let mut carol = world.seated("carol");
    let (sid, _) = world.publish(&mut alice, "mic", TrackType::Audio);
    for client in [&mut bob, &mut carol] {
        let offer = first_offer(client.messages());
        world.answer(client, &offer);
        client.messages();
    }
    let only = |identity: &str| {
        Asked::SubscriptionPermission(proto::SubscriptionPermission {
            all_participants: false,
            track_permissions: vec![proto::TrackPermission {
                participant_identity: identity.to_owned(),
                all_tracks: true,
                ..Default::default()
            }],
        })
    };
    world.say(&alice, only("bob"));
    assert!(bob.messages().is_empty());
    let messages = carol.messages();
    assert_eq!(
        names(&messages),
        ["subscription_permission_update", "offer"]
    );
    let Message::SubscriptionPermissionUpdate(update) = &messages[0] else {
        unreachable!()
    };
    assert_eq!(
        (update.track_sid.as_str(), update.allowed),
        (sid.as_str(), false)
    );
    world.answer(&carol, &first_offer(messages));
    let stopped = world.told();
    assert!(
        stopped
            .iter()
            .any(|t| matches!(t, Told::Command(_, Command::StopSend(_))))
    );

    let everybody = proto::SubscriptionPermission {
        all_participants: true,
        ..Default::default()
    };
    world.say(&alice, Asked::SubscriptionPermission(everybody));
    let messages = carol.messages();
    assert_eq!(
        names(&messages),
        ["subscription_permission_update", "offer"]
    );
}

#[test]
fn without_auto_subscribe_the_client_chooses() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    let mut bob = world.seated_with(JoinRequest {
        auto_subscribe: false,
        ..request(grants("bob"))
    });
    bob.messages();
    let (sid, _) = world.publish(&mut alice, "mic", TrackType::Audio);
    assert_eq!(names(&bob.messages()), ["update"]);
    let choose = |subscribe| {
        Asked::Subscription(proto::UpdateSubscription {
            track_sids: vec![sid.clone()],
            subscribe,
            ..Default::default()
        })
    };
    world.say(&bob, choose(true));
    let offer = first_offer(bob.messages());
    world.answer(&bob, &offer);
    assert_eq!(world.sent().len(), 1);
    world.say(&bob, choose(false));
    assert!(
        world
            .told()
            .iter()
            .any(|t| matches!(t, Told::Command(_, Command::StopSend(_))))
    );
    assert!(first_offer(bob.messages()).mid_to_track_id.is_empty());
}

#[test]
fn own_metadata_needs_the_right_and_fits_the_limits() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    let mut bob = world.seated_with(request(Grants {
        can_update_own_metadata: true,
        attributes: [("old".to_owned(), "1".to_owned())].into(),
        ..grants("bob")
    }));
    alice.messages();
    bob.outputs();
    let update = proto::UpdateParticipantMetadata {
        name: "Robert".to_owned(),
        attributes: [
            ("old".to_owned(), String::new()),
            ("new".to_owned(), "2".to_owned()),
        ]
        .into(),
        request_id: 4,
        ..Default::default()
    };
    world.say(&alice, Asked::UpdateMetadata(update.clone()));
    assert_eq!(reasons(&alice.messages()), [Reason::NotAllowed]);
    world.say(&bob, Asked::UpdateMetadata(update.clone()));
    let outputs = bob.outputs();
    let SignalOutput::Response(response) = &outputs[0] else {
        panic!("{outputs:?}");
    };
    let Some(Message::RequestResponse(response)) = &response.message else {
        panic!("{outputs:?}");
    };
    assert_eq!((response.request_id, response.reason()), (4, Reason::Ok));
    let SignalOutput::RefreshToken(token) = &outputs[1] else {
        panic!("{outputs:?}");
    };
    assert_eq!(token.name, "Robert");
    let seen = alice.messages();
    let Message::Update(seen) = &seen[0] else {
        panic!("{seen:?}");
    };
    assert_eq!(seen.participants[0].name, "Robert");
    let attributes = &seen.participants[0].attributes;
    assert_eq!(attributes.len(), 1, "an empty value deletes");
    assert_eq!(attributes["new"], "2");

    let huge = proto::UpdateParticipantMetadata {
        metadata: "x".repeat(64_001),
        ..update
    };
    world.say(&bob, Asked::UpdateMetadata(huge));
    assert_eq!(reasons(&bob.messages()), [Reason::LimitExceeded]);
}

#[test]
fn rooms_and_participants_have_limits() {
    let mut world = World::with(EngineConfig {
        rooms: RoomsConfig {
            max_open: 1,
            max_participants: 2,
            max_tracks: 1,
            ..Default::default()
        },
        ..Default::default()
    });
    let mut alice = world.seated("alice");
    let _bob = world.seated("bob");
    assert_eq!(
        world.join_with(request(grants("carol"))).err(),
        Some(JoinError::RoomFull { limit: 2 })
    );
    let again = world.seated("bob");
    assert!(!again.sid.is_empty(), "who comes back takes its own place");
    let elsewhere = JoinRequest {
        room: "elsewhere".to_owned(),
        ..request(Grants {
            room: String::new(),
            ..grants("dan")
        })
    };
    assert_eq!(
        world.join_with(elsewhere).err(),
        Some(JoinError::TooManyRooms { limit: 1 })
    );
    alice.messages();
    world.say(&alice, Asked::AddTrack(add_track("one", TrackType::Audio)));
    world.say(&alice, Asked::AddTrack(add_track("two", TrackType::Audio)));
    let messages = alice.messages();
    assert_eq!(names(&messages), ["track_published", "request_response"]);
    assert_eq!(reasons(&messages), [Reason::LimitExceeded]);
}

#[test]
fn a_room_that_is_not_open_is_not_made_where_that_is_forbidden() {
    let mut world = World::with(EngineConfig {
        rooms: RoomsConfig {
            auto_create: false,
            ..Default::default()
        },
        ..Default::default()
    });
    assert_eq!(
        world.join_with(request(grants("alice"))).err(),
        Some(JoinError::RoomUnknown)
    );
    let create = proto::CreateRoomRequest {
        name: "room".to_owned(),
        max_participants: 1,
        ..Default::default()
    };
    let room = world
        .ask(|reply| Ask::CreateRoom(Box::new(create), reply))
        .unwrap();
    assert_eq!(room.max_participants, 1);
    let _alice = world.seated("alice");
    assert_eq!(
        world.join_with(request(grants("bob"))).err(),
        Some(JoinError::RoomFull { limit: 1 })
    );
}

#[test]
fn a_check_answers_as_the_join_would_and_changes_nothing() {
    let mut world = World::with(EngineConfig {
        rooms: RoomsConfig {
            auto_create: false,
            max_open: 1,
            max_participants: 1,
            ..Default::default()
        },
        ..Default::default()
    });
    let opening = |identity| JoinRequest {
        opens_room: true,
        ..request(grants(identity))
    };
    let forbidden = Some(JoinError::RoomUnknown);
    assert_eq!(world.check_join(request(grants("a"))).err(), forbidden);
    assert_eq!(world.check_join(opening("a")), Ok(()));
    assert_eq!(world.check_join(request(grants("a"))).err(), forbidden);
    let _first = world.join_with(opening("a")).unwrap();
    let full = Some(JoinError::RoomFull { limit: 1 });
    assert_eq!(world.check_join(request(grants("b"))).err(), full);
    assert_eq!(world.check_join(request(grants("a"))), Ok(()));
    let resuming = JoinRequest {
        reconnect: Some("PA_gone".to_owned()),
        ..request(grants("a"))
    };
    let gone = Some(JoinError::NothingToResume);
    assert_eq!(world.check_join(resuming).err(), gone);
    let elsewhere = JoinRequest {
        room: "elsewhere".to_owned(),
        ..opening("c")
    };
    let elsewhere = JoinRequest {
        grants: Grants {
            room: String::new(),
            ..elsewhere.grants.clone()
        },
        ..elsewhere
    };
    let most = Some(JoinError::TooManyRooms { limit: 1 });
    assert_eq!(world.check_join(elsewhere).err(), most);
    let choosing = JoinRequest {
        attributes: [("role".to_owned(), "chair".to_owned())].into(),
        ..request(grants("a"))
    };
    let refused = Some(JoinError::AttributesNotAllowed);
    assert_eq!(world.check_join(choosing).err(), refused);
    assert_eq!(world.metrics().joins_refused_total, 0);
}

#[test]
fn a_moderator_mutes_but_never_unmutes() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    let (sid, track) = world.publish(&mut alice, "mic", TrackType::Audio);
    alice.messages();
    let mute = |world: &mut World, muted| {
        world.ask(|reply| Ask::MuteTrack {
            room: "room".to_owned(),
            identity: "alice".to_owned(),
            track: sid.clone(),
            muted,
            reply,
        })
    };
    let info = mute(&mut world, true).unwrap();
    assert!(info.muted);
    assert_eq!(names(&alice.messages()), ["mute", "update"]);
    assert!(world.told().iter().any(|told| matches!(
        told,
        Told::Command(_, Command::SetMuted { track: t, muted: true }) if *t == track
    )));
    assert_eq!(mute(&mut world, false), Err(RoomError::UnmuteForbidden));
}

#[test]
fn a_moderator_removes_and_revokes() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    let mut bob = world.seated("bob");
    world.publish(&mut alice, "mic", TrackType::Audio);
    alice.messages();
    bob.messages();
    let update = proto::UpdateParticipantRequest {
        room: "room".to_owned(),
        identity: "alice".to_owned(),
        permission: Some(proto::ParticipantPermission {
            can_subscribe: true,
            ..Default::default()
        }),
        ..Default::default()
    };
    let info = world
        .ask(|reply| Ask::UpdateParticipant(Box::new(update), reply))
        .unwrap();
    assert!(info.tracks.is_empty());
    assert!(names(&alice.messages()).contains(&"track_unpublished"));
    world
        .ask(|reply| Ask::RemoveParticipant {
            room: "room".to_owned(),
            identity: "alice".to_owned(),
            reply,
        })
        .unwrap();
    let left: Vec<_> = alice.messages();
    assert!(matches!(
        left.last(),
        Some(Message::Leave(leave)) if leave.reason() == DisconnectReason::ParticipantRemoved
            && leave.action() == Action::Disconnect
    ));
    world
        .ask(|reply| Ask::DeleteRoom("room".to_owned(), reply))
        .unwrap();
    assert!(matches!(
        bob.messages().last(),
        Some(Message::Leave(leave)) if leave.reason() == DisconnectReason::RoomDeleted
    ));
}

#[test]
fn a_client_that_does_not_read_is_let_go_with_a_reason() {
    let mut world = World::new();
    let mut slow = world.join_queued(request(grants("slow")), 8).unwrap();
    for _ in 0..20 {
        world.say(&slow, Asked::Ping(0));
    }
    assert_eq!(world.metrics().signal_slow_consumers_total, 1);
    let outputs = slow.outputs();
    assert_eq!(outputs.len(), 8);
    assert_eq!(outputs[7], SignalOutput::Close);
    assert!(matches!(
        &outputs[6],
        SignalOutput::Response(response) if matches!(response.message, Some(Message::Leave(_)))
    ));
    assert!(slow.responses.is_closed());
}

#[test]
fn the_worse_of_both_connections_is_told_whichever_was_measured_last() {
    use palabre_media::sfu::{Link, Quality};
    for bad_is_uplink in [true, false] {
        let mut world = World::new();
        let mut alice = world.seated("alice");
        let mut bob = world.seated("bob");
        world.publish(&mut alice, "mic", TrackType::Audio);
        let sessions = [world.publisher_of(&alice), world.subscriber_of(&alice)];
        let report = |world: &mut World, is_uplink: bool, packets, loss| {
            let link = Link {
                packets,
                loss,
                ..Default::default()
            };
            let (uplink, downlink) = match is_uplink {
                true => (link, Link::default()),
                false => (Link::default(), link),
            };
            world.handle(Input::Media(Event::Quality(Quality {
                session: sessions[usize::from(!is_uplink)],
                uplink,
                downlink,
                rtt: None,
            })));
        };
        let mut told = |world: &mut World| {
            world.pass(Duration::from_secs(6));
            let updates = bob
                .messages()
                .into_iter()
                .filter_map(|message| match message {
                    Message::ConnectionQuality(update) => Some(update.updates),
                    _ => None,
                });
            let mut of_alice = updates.flatten().filter(|i| i.participant_sid == alice.sid);
            of_alice.next_back().map(|info| info.quality())
        };
        told(&mut world);
        report(&mut world, bad_is_uplink, 100, 0.5);
        report(&mut world, !bad_is_uplink, 100, 0.0);
        let poor = proto::ConnectionQuality::Poor;
        assert_eq!(told(&mut world), Some(poor), "{bad_is_uplink}");
        report(&mut world, bad_is_uplink, 0, 0.0);
        let excellent = proto::ConnectionQuality::Excellent;
        assert_eq!(told(&mut world), Some(excellent), "{bad_is_uplink}");
    }
}

#[test]
fn a_quality_report_of_a_bad_link_is_told_to_the_others() {
    let mut world = World::new();
    let alice = world.seated("alice");
    let mut bob = world.seated("bob");
    world.pass(Duration::from_secs(6));
    bob.messages();
    let link = palabre_media::sfu::Link {
        packets: 100,
        loss: 0.5,
        ..Default::default()
    };
    let session = world.subscriber_of(&alice);
    world.handle(Input::Media(Event::Quality(palabre_media::sfu::Quality {
        session,
        uplink: Default::default(),
        downlink: link,
        rtt: None,
    })));
    world.pass(Duration::from_secs(5));
    let poor = bob.messages().into_iter().any(|message| match message {
        Message::ConnectionQuality(update) => update.updates.iter().any(|info| {
            info.participant_sid == alice.sid && info.quality() == proto::ConnectionQuality::Poor
        }),
        _ => false,
    });
    assert!(poor);
}

#[test]
fn a_known_choice_may_change_at_the_limit_and_those_of_ended_tracks_make_place() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    let mut bob = world.seated("bob");
    let (sid, _) = world.publish(&mut alice, "mic", TrackType::Audio);
    bob.messages();
    let choose = |world: &mut World, bob: &mut Client, sids: Vec<String>, subscribe| {
        let update = proto::UpdateSubscription {
            track_sids: sids,
            subscribe,
            ..Default::default()
        };
        let before = world.metrics().signal_requests_refused_total;
        world.say(bob, Asked::Subscription(update));
        world.metrics().signal_requests_refused_total == before
    };
    let mut sids = vec![sid.clone()];
    sids.extend((1..10_000).map(|n| format!("TR_{n}")));
    assert!(choose(&mut world, &mut bob, sids, true));
    let new = || vec!["TR_new".to_owned()];
    assert!(!choose(&mut world, &mut bob, new(), true), "the limit");
    assert!(choose(&mut world, &mut bob, vec![sid], false));
    world.say(&alice, Asked::Leave(proto::LeaveRequest::default()));
    assert!(choose(&mut world, &mut bob, new(), true), "one has ended");
}
