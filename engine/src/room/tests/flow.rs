//! Whole scenes: two participants, mute, data, leaving, coming back.

use palabre_media::ids::MediaKind;
use palabre_media::sfu::{Event, Layer};
use palabre_media::transport::CloseReason;
use prost::Message as _;

use super::messages::first_offer;
use super::*;
use crate::proto::leave_request::Action;
use crate::proto::participant_info::State;
use crate::proto::{DisconnectReason, VideoQuality, data_packet};

fn updates(messages: Vec<Message>) -> Vec<proto::ParticipantInfo> {
    messages
        .into_iter()
        .filter_map(|message| match message {
            Message::Update(update) => Some(update.participants),
            _ => None,
        })
        .flatten()
        .collect()
}

fn leaves(messages: Vec<Message>) -> Vec<(DisconnectReason, Action)> {
    messages
        .into_iter()
        .filter_map(|message| match message {
            Message::Leave(leave) => Some((leave.reason(), leave.action())),
            _ => None,
        })
        .collect()
}

fn simulcast(cid: &str) -> proto::AddTrackRequest {
    let layer = |quality: VideoQuality, width, height| proto::VideoLayer {
        quality: quality as i32,
        width,
        height,
        ..Default::default()
    };
    proto::AddTrackRequest {
        width: 1280,
        height: 720,
        layers: vec![
            layer(VideoQuality::Low, 320, 180),
            layer(VideoQuality::Medium, 640, 360),
            layer(VideoQuality::High, 1280, 720),
        ],
        ..add_track(cid, TrackType::Video)
    }
}

#[test]
fn two_participants_meet_publish_mute_and_part() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    let mut bob = world.seated("bob");
    let seen = updates(alice.messages());
    let states: Vec<State> = seen
        .iter()
        .filter(|info| info.identity == "bob")
        .map(proto::ParticipantInfo::state)
        .collect();
    assert_eq!(states, [State::Joined, State::Active]);

    let (mic, track) = world.publish(&mut alice, "mic", TrackType::Audio);
    let offer = first_offer(bob.messages());
    world.answer(&bob, &offer);
    let (session, send) = world.sent().pop().unwrap();
    assert_eq!(send.track, track);

    world.say(
        &alice,
        Asked::Mute(proto::MuteTrackRequest {
            sid: mic.clone(),
            muted: true,
        }),
    );
    assert!(world.told().iter().any(|told| matches!(
        told,
        Told::Command(_, Command::SetMuted { track: t, muted: true }) if *t == track
    )));
    assert!(updates(bob.messages())[0].tracks[0].muted);

    world.say(&alice, Asked::Leave(proto::LeaveRequest::default()));
    assert_eq!(alice.outputs().last(), Some(&SignalOutput::Close));
    let messages = bob.messages();
    assert_eq!(names(&messages), ["update", "offer"]);
    let Message::Update(update) = &messages[0] else {
        unreachable!()
    };
    assert_eq!(update.participants[0].state(), State::Disconnected);
    assert_eq!(
        update.participants[0].disconnect_reason(),
        DisconnectReason::ClientInitiated
    );
    let Message::Offer(offer) = &messages[1] else {
        unreachable!()
    };
    assert!(offer.mid_to_track_id.is_empty());
    assert!(offer.sdp.contains("a=inactive"));
    let told = world.told();
    assert!(told.iter().any(|told| matches!(
        told,
        Told::Command(s, Command::StopSend(id)) if *s == session && *id == send.subscription
    )));
    let closed = told.iter().filter(|told| matches!(told, Told::Close));
    assert_eq!(closed.count(), 2, "both of alice's connections");
}

#[test]
fn only_one_offer_waits_at_a_time_and_the_next_says_the_rest() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    let mut bob = world.seated("bob");
    bob.messages();
    world.say(&alice, Asked::AddTrack(add_track("mic", TrackType::Audio)));
    world.say(&alice, Asked::AddTrack(add_track("cam", TrackType::Video)));
    alice.messages();
    world.say(
        &alice,
        Asked::Offer(sdp::offer(
            2,
            &[
                ("mic", TrackType::Audio, true),
                ("cam", TrackType::Video, true),
            ],
        )),
    );
    let received = world.received();
    assert_eq!(received.len(), 2);
    world.track_active(&alice, &received[0]);
    let first = first_offer(bob.messages());
    world.track_active(&alice, &received[1]);
    assert_eq!(names(&bob.messages()), ["update"]);
    world.answer(&bob, &first);
    let second = first_offer(bob.messages());
    assert_eq!(second.id, first.id + 1);
    assert_eq!(second.mid_to_track_id.len(), 2);
    world.answer(&bob, &second);
    assert!(bob.messages().is_empty());
    let kinds: Vec<MediaKind> = world.sent().iter().map(|(_, send)| send.kind).collect();
    assert_eq!(kinds, [MediaKind::Audio, MediaKind::Video]);
}

#[test]
fn an_answer_to_another_offer_is_left_aside() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    let mut bob = world.seated("bob");
    bob.messages();
    world.publish(&mut alice, "mic", TrackType::Audio);
    let mut offer = first_offer(bob.messages());
    offer.id += 7;
    world.answer(&bob, &offer);
    assert!(world.sent().is_empty());
    offer.id = 0;
    world.answer(&bob, &offer);
    assert_eq!(world.sent().len(), 1, "clients older than ids send zero");
}

#[test]
fn an_unpublished_track_goes_away_and_its_section_is_used_again() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    let mut bob = world.seated("bob");
    bob.messages();
    let (first, _) = world.publish(&mut alice, "one", TrackType::Audio);
    let offer = first_offer(bob.messages());
    world.answer(&bob, &offer);
    bob.messages();
    world.say(
        &alice,
        Asked::Offer(sdp::offer(3, &[("one", TrackType::Audio, false)])),
    );
    let messages = bob.messages();
    assert_eq!(names(&messages), ["update", "offer"]);
    assert!(updates(messages.clone())[0].tracks.is_empty());
    world.answer(&bob, &first_offer(messages));

    world.say(&alice, Asked::AddTrack(add_track("two", TrackType::Audio)));
    world.say(
        &alice,
        Asked::Offer(sdp::offer(4, &[("two", TrackType::Audio, true)])),
    );
    let receive = world.received().pop().unwrap();
    world.track_active(&alice, &receive);
    let offer = first_offer(bob.messages());
    let (section, sid) = offer.mid_to_track_id.iter().next().unwrap();
    assert_eq!(section, "1", "the free section serves again");
    assert_ne!(*sid, first);
}

#[test]
fn a_track_announced_muted_is_shown_without_waiting_for_media() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    let mut bob = world.seated("bob");
    bob.messages();
    let request = proto::AddTrackRequest {
        muted: true,
        ..add_track("mic", TrackType::Audio)
    };
    world.say(&alice, Asked::AddTrack(request));
    alice.messages();
    world.say(
        &alice,
        Asked::Offer(sdp::offer(2, &[("mic", TrackType::Audio, true)])),
    );
    let seen = updates(bob.messages());
    assert!(seen[0].tracks[0].muted);
}

#[test]
fn settings_choose_layers_and_demands_follow_with_patience() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    let mut bob = world.seated("bob");
    world.say(&alice, Asked::AddTrack(simulcast("cam")));
    world.say(
        &alice,
        Asked::Offer(sdp::offer(2, &[("cam", TrackType::Video, true)])),
    );
    let receive = world.received().pop().unwrap();
    world.track_active(&alice, &receive);
    let messages = bob.messages();
    let sid = updates(messages.clone())
        .iter()
        .flat_map(|info| &info.tracks)
        .map(|track| track.sid.clone())
        .next()
        .unwrap();
    world.answer(&bob, &first_offer(messages));
    assert_eq!(world.sent()[0].1.max_layer, 2);
    alice.messages();

    let layers = |world: &World| -> Vec<(bool, Layer)> {
        let told = world.told().into_iter();
        told.filter_map(|told| match told {
            Told::Command(
                _,
                Command::SetSend {
                    paused, max_layer, ..
                },
            ) => Some((paused, max_layer)),
            _ => None,
        })
        .collect()
    };
    let setting = |width, height, disabled| {
        Asked::TrackSetting(proto::UpdateTrackSettings {
            track_sids: vec![sid.clone()],
            disabled,
            width,
            height,
            ..Default::default()
        })
    };
    world.say(&bob, setting(320, 180, false));
    assert_eq!(layers(&world), [(false, 0)]);
    assert!(alice.messages().is_empty(), "lower is told later");
    world.pass(Duration::from_secs(7));
    assert_eq!(demands(alice.messages()), [vec![true, false, false]]);
    world.say(&bob, setting(1280, 720, false));
    assert_eq!(layers(&world), [(false, 2)]);
    assert_eq!(
        demands(alice.messages()),
        [vec![true, true, true]],
        "higher at once"
    );
    world.say(&bob, setting(0, 0, true));
    assert_eq!(layers(&world), [(true, 0)]);
}

fn demands(messages: Vec<Message>) -> Vec<Vec<bool>> {
    messages
        .into_iter()
        .filter_map(|message| match message {
            Message::SubscribedQualityUpdate(update) => {
                assert_eq!(update.subscribed_codecs[0].codec, "vp8");
                let qualities = &update.subscribed_codecs[0].qualities;
                Some(qualities.iter().map(|quality| quality.enabled).collect())
            }
            _ => None,
        })
        .collect()
}

#[test]
fn data_goes_to_all_others_or_to_those_named_and_says_who_sent_it() {
    let mut world = World::new();
    let alice = world.seated("alice");
    let bob = world.seated("bob");
    let carol = world.seated("carol");
    let packet = |destinations: &[&str]| proto::DataPacket {
        participant_identity: "carol".to_owned(),
        destination_identities: destinations.iter().map(|d| (*d).to_owned()).collect(),
        value: Some(data_packet::Value::User(proto::UserPacket {
            payload: b"hello".to_vec(),
            ..Default::default()
        })),
        ..Default::default()
    };
    let delivered = |world: &World| -> Vec<(SessionId, proto::DataPacket)> {
        let told = world.told().into_iter();
        told.filter_map(|told| match told {
            Told::Command(session, Command::SendData { payload, channel }) => {
                assert_eq!(channel, DataChannel::Reliable);
                Some((session, proto::DataPacket::decode(payload).unwrap()))
            }
            _ => None,
        })
        .collect()
    };
    world.told();
    world.data(&alice, &packet(&[]).encode_to_vec());
    let all = delivered(&world);
    let sessions: Vec<SessionId> = all.iter().map(|(session, _)| *session).collect();
    assert_eq!(
        sessions,
        [world.subscriber_of(&bob), world.subscriber_of(&carol)]
    );
    assert!(all.iter().all(|(_, p)| p.participant_identity == "alice"));
    assert!(all.iter().all(|(_, p)| p.participant_sid == alice.sid));
    world.data(
        &alice,
        &packet(&["carol", "nobody", "carol"]).encode_to_vec(),
    );
    let some = delivered(&world);
    assert_eq!(some.len(), 1);
    assert_eq!(some[0].0, world.subscriber_of(&carol));
}

#[test]
fn a_packet_sent_again_after_a_resume_is_not_delivered_twice() {
    let mut world = World::new();
    let alice = world.seated("alice");
    let _bob = world.seated("bob");
    world.told();
    for sequence in [1, 2, 2, 1, 3] {
        let packet = proto::DataPacket {
            sequence,
            ..Default::default()
        };
        world.data(&alice, &packet.encode_to_vec());
    }
    let delivered = world.told().len();
    assert_eq!(delivered, 3);
}

#[test]
fn the_same_identity_again_sends_the_first_one_out() {
    let mut world = World::new();
    let mut first = world.seated("alice");
    let mut bob = world.seated("bob");
    bob.messages();
    let mut second = world.seated("alice");
    assert_eq!(
        leaves(first.messages()),
        [(DisconnectReason::DuplicateIdentity, Action::Disconnect)]
    );
    let seen = updates(bob.messages());
    assert_eq!(seen[0].state(), State::Disconnected);
    assert_eq!(seen[0].sid, first.sid);
    assert_eq!(seen[1].sid, second.sid);
    world.hang_up(first);
    world.say(&second, Asked::Ping(0));
    assert!(!second.messages().is_empty(), "the second one stays");
}

#[test]
fn a_cut_signal_connection_is_taken_up_again() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    let mut bob = world.seated("bob");
    world.publish(&mut alice, "mic", TrackType::Audio);
    bob.messages();
    let (old, old_publisher) = (world.subscriber_of(&alice), world.publisher_of(&alice));
    let sid = alice.sid.clone();
    world.hang_up(alice);
    world.pass(Duration::from_secs(3));
    let mut again = world
        .join_with(JoinRequest {
            reconnect: Some(sid),
            ..request(grants("alice"))
        })
        .unwrap();
    world.told();
    let outputs = again.outputs();
    assert!(
        outputs
            .iter()
            .any(|o| matches!(o, SignalOutput::RefreshToken(_)))
    );
    let messages: Vec<Message> = outputs
        .into_iter()
        .filter_map(|output| match output {
            SignalOutput::Response(response) => response.message,
            _ => None,
        })
        .collect();
    assert_eq!(
        names(&messages),
        ["reconnect", "update", "room_update", "offer"]
    );
    assert_eq!(world.subscriber_of(&again), old);
    assert_eq!(world.publisher_of(&again), old_publisher);
    world.answer(&again, &first_offer(messages));
    let told = world.told();
    assert!(
        told.iter()
            .any(|t| matches!(t, Told::Command(s, Command::SetRemote(_)) if *s == old))
    );

    let offer = sdp::restarted_offer(9, &[("mic", TrackType::Audio, true)]);
    world.say(&again, Asked::Offer(offer));
    let told = world.told();
    assert!(told.iter().any(|t| matches!(
        t,
        Told::Command(s, Command::RestartIce { remote: Some(_), .. }) if *s == old_publisher
    )));
    assert_eq!(names(&again.messages()), ["answer"]);
    assert!(
        updates(bob.messages())
            .iter()
            .all(|info| info.state() != State::Disconnected),
        "nobody saw it leave"
    );
    assert_eq!(world.metrics().resumes_total, 1);
}

#[test]
fn what_cannot_be_resumed_is_told_to_begin_anew() {
    let mut world = World::new();
    let alice = world.seated("alice");
    for (sid, room) in [
        ("PA_unknown".to_owned(), "room"),
        (alice.sid.clone(), "elsewhere"),
    ] {
        let refused = world.join_with(JoinRequest {
            room: room.to_owned(),
            reconnect: Some(sid),
            ..request(Grants {
                room: room.to_owned(),
                ..grants("alice")
            })
        });
        assert_eq!(refused.err(), Some(JoinError::NothingToResume));
    }
}

#[test]
fn a_lost_participant_keeps_its_seat_for_a_while_and_no_longer() {
    let mut world = World::new();
    let alice = world.seated("alice");
    let mut bob = world.seated("bob");
    bob.messages();
    world.hang_up(alice);
    world.pass(Duration::from_secs(28));
    assert!(updates(bob.messages()).is_empty());
    world.pass(Duration::from_secs(4));
    let seen = updates(bob.messages());
    assert_eq!(seen[0].state(), State::Disconnected);
    assert_eq!(seen[0].disconnect_reason(), DisconnectReason::SignalClose);
}

#[test]
fn a_lost_connection_is_begun_anew_and_the_seat_is_given_up() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    let mut bob = world.seated("bob");
    alice.messages();
    bob.messages();
    let session = world.subscriber_of(&alice);
    world.handle(Input::Media(Event::Disconnected {
        session,
        reason: CloseReason::IceTimeout,
    }));
    assert_eq!(
        leaves(alice.messages()),
        [(DisconnectReason::ConnectionTimeout, Action::Reconnect)]
    );
    world.pass(Duration::from_secs(6));
    assert_eq!(updates(bob.messages())[0].state(), State::Disconnected);
}

#[test]
fn an_empty_room_closes_after_its_departure_timeout() {
    let mut world = World::new();
    let alice = world.seated("alice");
    world.say(&alice, Asked::Leave(proto::LeaveRequest::default()));
    world.pass(Duration::from_secs(19));
    let everybody =
        |world: &mut World| world.ask(|reply| Ask::ListParticipants("room".to_owned(), reply));
    assert_eq!(everybody(&mut world), Ok(Vec::new()));
    world.pass(Duration::from_secs(3));
    assert_eq!(everybody(&mut world), Err(RoomError::RoomUnknown));
}

#[test]
fn shutting_down_tells_everybody_why() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    alice.messages();
    let (done, mut is_done) = oneshot::channel();
    world.handle(Input::Shutdown(done));
    is_done.try_recv().unwrap();
    let outputs = alice.outputs();
    assert_eq!(outputs.last(), Some(&SignalOutput::Close));
    let SignalOutput::Response(response) = &outputs[outputs.len() - 2] else {
        panic!("{outputs:?}");
    };
    assert_eq!(
        leaves(vec![response.message.clone().unwrap()]),
        [(DisconnectReason::ServerShutdown, Action::Reconnect)]
    );
    assert_eq!(
        world.join_with(request(grants("bob"))).err(),
        Some(JoinError::Stopping)
    );
}
