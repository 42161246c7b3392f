//! Who speaks, as everybody is told: changes only, the loudest first.

use palabre_media::sfu::Event;

use super::*;

#[test]
fn silence_is_told_as_an_inactive_speaker() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    let mut bob = world.seated("bob");
    let (_, track) = world.publish(&mut alice, "mic", TrackType::Audio);
    bob.messages();
    let level = |level| Input::Media(Event::Levels(vec![(track, level)]));
    world.handle(level(palabre_media::sfu::Level(20)));
    world.handle(level(palabre_media::sfu::Level(20)));
    world.handle(level(palabre_media::sfu::Level::SILENT));
    let told: Vec<(bool, bool)> = bob
        .messages()
        .into_iter()
        .filter_map(|message| match message {
            Message::SpeakersChanged(changed) => {
                assert_eq!(changed.speakers[0].sid, alice.sid);
                let level = changed.speakers[0].level;
                Some((changed.speakers[0].active, level > 0.0 && level <= 1.0))
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        told,
        [(true, true), (false, false)],
        "deltas, and only changes"
    );
}

fn speakers(messages: Vec<Message>) -> Vec<Vec<(String, bool)>> {
    messages
        .into_iter()
        .filter_map(|message| match message {
            Message::SpeakersChanged(changed) => Some(
                changed
                    .speakers
                    .into_iter()
                    .map(|speaker| (speaker.sid, speaker.active))
                    .collect(),
            ),
            _ => None,
        })
        .collect()
}

#[test]
fn the_loudest_speaker_is_first_and_those_that_ended_are_last() {
    let mut world = World::new();
    let mut clients: Vec<Client> = ["alice", "bob", "carol", "dave"]
        .map(|name| world.seated(name))
        .into();
    let tracks: Vec<TrackId> = clients[..3]
        .iter_mut()
        .map(|client| world.publish(client, "mic", TrackType::Audio).1)
        .collect();
    let levels = |levels: [u8; 3]| {
        let levels = levels.map(palabre_media::sfu::Level);
        let levels = tracks.iter().copied().zip(levels).collect();
        Input::Media(Event::Levels(levels))
    };
    clients[3].messages();
    let sid = |number: usize| clients[number].sid.clone();
    let (alice, bob, carol) = (sid(0), sid(1), sid(2));
    let dave = &mut clients[3];
    world.handle(levels([20, 10, 15]));
    let all = [
        (bob.clone(), true),
        (carol.clone(), true),
        (alice.clone(), true),
    ];
    assert_eq!(speakers(dave.messages()), [all]);
    world.handle(levels([5, 127, 15]));
    assert_eq!(
        speakers(dave.messages()),
        [[(alice.clone(), true), (bob.clone(), false)]],
        "changes only"
    );
    // Who comes later is told who speaks, in the same order.
    let mut erin = world.join_with(request(grants("erin"))).unwrap();
    let told = speakers(erin.messages());
    assert_eq!(told, [[(alice, true), (carol, true)]]);
}

#[test]
fn a_speaker_with_two_tracks_speaks_while_either_does() {
    let mut world = World::new();
    let mut alice = world.seated("alice");
    let mut bob = world.seated("bob");
    let (mic_sid, mic) = world.publish(&mut alice, "mic", TrackType::Audio);
    let film = Asked::AddTrack(add_track("film", TrackType::Audio));
    world.say(&alice, film);
    let both = |film| {
        let tracks = [
            ("mic", TrackType::Audio, true),
            ("film", TrackType::Audio, film),
        ];
        Asked::Offer(sdp::offer(3, &tracks))
    };
    world.say(&alice, both(true));
    let film = world.received().pop().expect("the worker is told").track;
    let level = |track, level| {
        Input::Media(Event::Levels(vec![(
            track,
            palabre_media::sfu::Level(level),
        )]))
    };
    bob.messages();
    let sid = alice.sid.clone();
    world.handle(level(mic, 20));
    world.handle(level(film, 20));
    world.handle(level(film, 127));
    assert_eq!(speakers(bob.messages()), [[(sid.clone(), true)]]);
    world.handle(level(film, 20));
    let mute = proto::MuteTrackRequest {
        sid: mic_sid,
        muted: true,
    };
    world.say(&alice, Asked::Mute(mute));
    assert!(speakers(bob.messages()).is_empty(), "the film goes on");
    // The film's section ends: nobody hears from its track any more.
    world.say(&alice, both(false));
    assert_eq!(speakers(bob.messages()), [[(sid, false)]]);
}
