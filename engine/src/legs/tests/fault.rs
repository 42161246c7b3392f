//! Bugs made on purpose: what each costs, and what goes on.

use super::*;
use crate::legs::thread::Fault;

#[test]
fn a_failing_mix_takes_only_its_own_room_down() {
    let mut world = World::new(MixerConfig::default());
    let (mut a, mut b) = (world.phone(440.0), world.phone(0.0));
    let (mut c, mut d) = (world.phone(600.0), world.phone(0.0));
    for (room, phones) in [(RoomId(1), [&a, &b]), (RoomId(2), [&c, &d])] {
        world.mixers.send(Command::OpenRoom { room, talkers: 4 });
        for phone in phones {
            let leg = phone.leg().id();
            world.mixers.send(Command::JoinRoom {
                leg,
                room,
                track: TrackId(leg.0),
            });
        }
    }
    world.run(60, &mut [&mut a, &mut b, &mut c, &mut d]);
    assert!(b.level_of(440.0) > -22.0);
    world.thread.break_room(RoomId(1));
    world.run(60, &mut [&mut a, &mut b, &mut c, &mut d]);
    assert!(d.level_of(600.0) > -22.0);
    assert!(b.level_of(440.0) < -60.0);
    for phone in [&mut a, &mut b] {
        assert_eq!(
            phone.events(),
            [LegEvent::Removed(RemovedReason::MixFailed)]
        );
    }
    assert!(d.events().is_empty());
    assert_eq!(
        *world
            .told
            .lock()
            .unwrap()
            .iter()
            .find(|e| !matches!(e, MixerEvent::Levels(_)))
            .unwrap(),
        MixerEvent::RoomFailed(RoomId(1))
    );
    assert_eq!(world.mixers.stats().failed_rooms, 1);
    // It is back at the menu.
    b.leg().play(tone(700.0, 48_000));
    world.run(40, &mut [&mut a, &mut b]);
    assert!(b.level_of(700.0) > -20.0);
}

#[test]
fn a_bug_in_one_leg_costs_that_leg_only() {
    let faults: [fn(palabre_media::ids::LegId) -> Fault; 3] =
        [Fault::TakeIn, Fault::Alone, Fault::LookAfter];
    for (fault, in_room) in [(0, false), (0, true), (1, false), (2, false), (2, true)] {
        let mut world = World::new(MixerConfig::default());
        let (mut a, mut b, mut c) = (
            world.phone(440.0),
            world.phone(1_000.0),
            world.phone(1_700.0),
        );
        if in_room {
            world.mixers.send(Command::OpenRoom {
                room: ROOM,
                talkers: 4,
            });
            for leg in [&a, &b, &c].map(|phone| phone.leg().id()) {
                world.mixers.send(Command::JoinRoom {
                    leg,
                    room: ROOM,
                    track: TrackId(leg.0),
                });
            }
        }
        world.run(30, &mut [&mut a, &mut b, &mut c]);
        let lost = a.leg().id();
        world.thread.break_with(Some(faults[fault](lost)));
        world.run(60, &mut [&mut a, &mut b, &mut c]);
        let stats = world.mixers.stats();
        assert_eq!((stats.failed_legs, stats.failed_rooms), (1, 0));
        assert_eq!((stats.panics, stats.legs), (0, 2));
        assert!(a.events.is_closed(), "the owner is told by the end");
        assert!(b.events().is_empty() && !b.events.is_closed());
        let told = world.told.lock().unwrap().clone();
        assert!(told.contains(&MixerEvent::LegFailed(lost)));
        if in_room {
            world.run(30, &mut [&mut b, &mut c]);
            assert!(b.level_of(1_700.0) > -22.0, "the others go on");
            assert!(b.level_of(440.0) < -40.0, "the lost one is not heard");
        } else {
            b.leg().play(tone(700.0, 96_000));
            world.run(40, &mut [&mut b, &mut c]);
            assert!(b.level_of(700.0) > -20.0);
        }
    }
}

#[test]
fn bugs_outside_of_legs_cost_a_room_or_a_tick() {
    let mut world = World::new(MixerConfig::default());
    let (mut a, mut b) = (world.phone(440.0), world.phone(0.0));
    world.mixers.send(Command::OpenRoom {
        room: ROOM,
        talkers: 4,
    });
    let track = TrackId(50);
    world.mixers.send(Command::AddTrack { room: ROOM, track });
    let leg = a.leg().id();
    world.mixers.send(Command::JoinRoom {
        leg,
        room: ROOM,
        track: TrackId(leg.0),
    });
    world.run(5, &mut [&mut a, &mut b]);
    world.thread.break_with(Some(Fault::Step));
    world.run(5, &mut [&mut a, &mut b]);
    assert_eq!(world.mixers.stats().panics, 1);
    assert_eq!(world.mixers.stats().legs, 2);
    world.thread.break_with(Some(Fault::Track));
    world.web_packet(track, 1, 0, &[0xf8, 0xff, 0xfe]);
    world.run(5, &mut [&mut a, &mut b]);
    assert_eq!(world.mixers.stats().failed_rooms, 1);
    assert_eq!(
        a.events(),
        [LegEvent::Removed(RemovedReason::MixFailed)],
        "it may join again"
    );
    assert!(b.events().is_empty());
}
