//! Telephones as participants: seen by all, mixed with all, muted and removed like all.

use palabre_media::ids::LegId;

use super::messages::first_offer;
use super::*;
use crate::leg::LegIdentity;
use crate::legs::{Command as Mix, MixerEvent, RemovedReason};
use crate::proto::participant_info::Kind;

fn call(world: &mut World, leg: u64) -> Result<(), JoinError> {
    let (reply, mut answer) = oneshot::channel();
    world.handle(Input::JoinLeg {
        leg: LegId(leg),
        room: "room".to_owned(),
        identity: LegIdentity {
            identity: format!("sip_{leg}"),
            name: "Caller".to_owned(),
            attributes: [("sip.callID".to_owned(), "x".to_owned())].into(),
        },
        reply,
    });
    answer.try_recv().unwrap()
}

#[test]
fn a_caller_is_a_participant_of_kind_sip_that_everybody_receives() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    let (_, mic) = world.publish(&mut alice, "mic", TrackType::Audio);
    let (_, camera) = world.publish_more(&mut alice, "mic", "cam");
    alice.messages();
    call(&mut world, 1).unwrap();
    let commands = world.leg_commands();
    let [
        Mix::OpenRoom { room, .. },
        Mix::AddTrack {
            room: added,
            track: voice,
        },
        Mix::JoinRoom { leg, track, .. },
    ] = &commands[..]
    else {
        panic!("{commands:?}");
    };
    assert_eq!((room, *voice, *leg), (added, mic, LegId(1)));
    assert_ne!(*voice, camera, "only Opus goes to the mixer");

    let messages = alice.messages();
    assert_eq!(names(&messages), ["update", "offer"]);
    let Message::Update(update) = &messages[0] else {
        unreachable!()
    };
    let caller = &update.participants[0];
    assert_eq!(caller.kind(), Kind::Sip);
    assert_eq!(caller.attributes["sip.callID"], "x");
    assert_eq!(caller.tracks[0].source(), TrackSource::Microphone);
    assert_eq!(caller.tracks[0].mime_type, "audio/opus");
    world.told();
    world.answer(&alice, &first_offer(messages));
    assert_eq!(world.sent()[0].1.track, *track);
}

#[test]
fn a_voice_encrypted_end_to_end_is_not_mixed() {
    for caller_first in [true, false] {
        let mut world = World::new();
        if caller_first {
            call(&mut world, 1).unwrap();
        }
        let mut alice = world.seated("alice");
        let encrypted = proto::AddTrackRequest {
            encryption: proto::encryption::Type::Gcm as i32,
            ..add_track("mic", TrackType::Audio)
        };
        world.say(&alice, Asked::AddTrack(encrypted));
        alice.messages();
        let offer = sdp::offer(2, &[("mic", TrackType::Audio, true)]);
        world.say(&alice, Asked::Offer(offer));
        let receive = world.received().pop().expect("the worker is told");
        world.track_active(&alice, &receive);
        if !caller_first {
            call(&mut world, 1).unwrap();
        }
        world.say(&alice, Asked::Leave(proto::LeaveRequest::default()));
        let commands = world.leg_commands();
        let about_tracks = commands
            .iter()
            .filter(|command| matches!(command, Mix::AddTrack { .. } | Mix::RemoveTrack { .. }));
        assert_eq!(about_tracks.count(), 0, "{commands:?}");
    }
}

#[test]
fn voices_come_and_go_in_the_mix() {
    let mut world = World::new();
    call(&mut world, 1).unwrap();
    world.leg_commands();
    let mut alice = world.seated("alice");
    let (sid, mic) = world.publish(&mut alice, "mic", TrackType::Audio);
    assert!(matches!(world.leg_commands()[..], [Mix::AddTrack { track, .. }] if track == mic));
    let mute = proto::MuteTrackRequest { sid, muted: true };
    world.say(&alice, Asked::Mute(mute));
    assert!(matches!(
        world.leg_commands()[..],
        [Mix::SetTrackMuted { track, muted: true, .. }] if track == mic
    ));
    world.say(&alice, Asked::Leave(proto::LeaveRequest::default()));
    assert!(matches!(world.leg_commands()[..], [Mix::RemoveTrack { track, .. }] if track == mic));
    world.handle(Input::LegClosed(LegId(1)));
    assert!(matches!(world.leg_commands()[..], [Mix::CloseRoom { .. }]));
}

#[test]
fn a_leg_is_in_one_room_at_a_time() {
    let mut world = World::new();
    call(&mut world, 1).unwrap();
    assert_eq!(call(&mut world, 1), Err(JoinError::LegBusy));
    world.handle(Input::LegClosed(LegId(1)));
    assert_eq!(call(&mut world, 1), Ok(()));
}

#[test]
fn a_moderator_removes_and_mutes_a_caller_and_lets_it_speak_again() {
    let mut world = World::new();
    call(&mut world, 1).unwrap();
    world.leg_commands();
    let info = world
        .ask(|reply| Ask::Participant {
            room: "room".to_owned(),
            identity: "sip_1".to_owned(),
            reply,
        })
        .unwrap();
    for muted in [true, false] {
        let track = world.ask(|reply| Ask::MuteTrack {
            room: "room".to_owned(),
            identity: "sip_1".to_owned(),
            track: info.tracks[0].sid.clone(),
            muted,
            reply,
        });
        assert_eq!(track.unwrap().muted, muted);
        assert!(matches!(
            world.leg_commands()[..],
            [Mix::SetLegMuted { leg: LegId(1), muted: m }] if m == muted
        ));
    }
    world.handle(Input::MuteLeg {
        leg: LegId(1),
        muted: true,
    });
    assert!(matches!(
        world.leg_commands()[..],
        [Mix::SetLegMuted { .. }]
    ));
    world
        .ask(|reply| Ask::RemoveParticipant {
            room: "room".to_owned(),
            identity: "sip_1".to_owned(),
            reply,
        })
        .unwrap();
    let commands = world.leg_commands();
    assert!(matches!(
        commands[..],
        [
            Mix::LeaveRoom {
                leg: LegId(1),
                reason: RemovedReason::Removed
            },
            Mix::CloseRoom { .. }
        ]
    ));
}

#[test]
fn a_caller_that_falls_silent_is_an_inactive_speaker() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    call(&mut world, 1).unwrap();
    let voice = world
        .leg_commands()
        .into_iter()
        .find_map(|command| match command {
            Mix::JoinRoom { track, .. } => Some(track),
            _ => None,
        })
        .unwrap();
    alice.messages();
    world.handle(Input::Mixer(MixerEvent::Levels(vec![(voice, 25)])));
    world.handle(Input::Mixer(MixerEvent::Levels(Vec::new())));
    let told: Vec<bool> = alice
        .messages()
        .into_iter()
        .filter_map(|message| match message {
            Message::SpeakersChanged(changed) => Some(changed.speakers[0].active),
            _ => None,
        })
        .collect();
    assert_eq!(told, [true, false]);
}

#[test]
fn a_failed_mix_takes_the_callers_out_and_leaves_the_others() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    call(&mut world, 1).unwrap();
    let room = world
        .leg_commands()
        .into_iter()
        .find_map(|command| match command {
            Mix::OpenRoom { room, .. } => Some(room),
            _ => None,
        })
        .unwrap();
    alice.messages();
    world.handle(Input::Mixer(MixerEvent::RoomFailed(room)));
    assert_eq!(names(&alice.messages()), ["update"]);
    assert_eq!(call(&mut world, 1), Ok(()), "it may call again");
}

#[test]
fn a_failed_mix_is_closed_and_opened_again_with_its_tracks() {
    let mut world = World::new();
    let _alice = world.seated("alice");
    call(&mut world, 1).unwrap();
    call(&mut world, 2).unwrap();
    let opened = |commands: &[Mix]| {
        commands.iter().find_map(|command| match command {
            Mix::OpenRoom { room, .. } => Some(*room),
            _ => None,
        })
    };
    let room = opened(&world.leg_commands()).unwrap();
    world.handle(Input::Mixer(MixerEvent::RoomFailed(room)));
    let commands = world.leg_commands();
    let closes = commands
        .iter()
        .filter(|command| matches!(command, Mix::CloseRoom { room: closed } if *closed == room));
    assert_eq!(closes.count(), 1, "{commands:?}");
    assert!(
        matches!(commands.last(), Some(Mix::CloseRoom { .. })),
        "nothing is told of a closed room: {commands:?}"
    );
    call(&mut world, 1).unwrap();
    assert_eq!(opened(&world.leg_commands()), Some(room));
}
