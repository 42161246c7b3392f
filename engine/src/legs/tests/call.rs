//! Calls as people have them: prompts, keys, rooms, holding, moving.

use super::*;

#[test]
fn a_caller_hears_a_prompt_and_its_keys_are_told() {
    let mut world = World::new(MixerConfig::default());
    let mut phone = world.phone(0.0);
    phone.leg().play(tone(700.0, 48_000));
    world.run(49, &mut [&mut phone]);
    assert!(phone.level_of(700.0) > -20.0);
    assert!(phone.events().is_empty());
    world.run(1, &mut [&mut phone]);
    for (key, event) in [(0u32, 4), (1, 2), (2, 11)] {
        for n in 1..=5u16 {
            let payload = TelephoneEvent {
                event,
                end: n > 3,
                volume: 10,
                duration: n.min(3) * 160,
            }
            .write();
            phone.send(101, key * 3_200, &payload);
            world.step();
        }
    }
    let told = phone.events();
    let keys: Vec<LegEvent> = "42#".chars().map(LegEvent::Digit).collect();
    assert_eq!(told.first(), Some(&LegEvent::PlayFinished));
    assert_eq!(told[1..], keys);
    assert!(phone.level_of(700.0) > -60.0);
}

#[test]
fn callers_and_a_browser_hear_each_other_and_leaving_ends_it() {
    let mut world = World::new(MixerConfig::default());
    let (mut a, mut b) = (world.phone(440.0), world.phone(1_000.0));
    let web = TrackId(50);
    let (voice_a, voice_b) = (TrackId(51), TrackId(52));
    world.mixers.send(Command::OpenRoom {
        room: ROOM,
        talkers: 4,
    });
    world.mixers.send(Command::AddTrack {
        room: ROOM,
        track: web,
    });
    world.step();
    assert!(world.watches().is_empty(), "nobody listens yet");
    for (leg, track) in [(a.leg().id(), voice_a), (b.leg().id(), voice_b)] {
        world.mixers.send(Command::JoinRoom {
            leg,
            room: ROOM,
            track,
        });
    }
    let watch = MeshMessage::Watch {
        track: voice_a,
        from: WORKER,
    };
    world.mesh.incoming.lock().unwrap().push_back(watch);
    let mut encoder = opus::Encoder::new(opus::Quality::default());
    for n in 0..100u64 {
        let frame = std::array::from_fn(|i| {
            ((n as usize * 960 + i) as f32 / 48_000.0 * 2_000.0 % 1.0 * std::f32::consts::TAU).sin()
                * 0.2
        });
        let payload = encoder.encode(&frame).to_vec();
        world.web_packet(web, 100 + n, 0, &payload);
        world.run(1, &mut [&mut a, &mut b]);
    }
    assert_eq!(world.watches(), [(true, web)]);
    for (phone, own, other) in [(&a, 440.0, 1_000.0), (&b, 1_000.0, 440.0)] {
        assert!(phone.level_of(other) > -22.0);
        assert!(phone.level_of(2_000.0) > -22.0);
        assert!(phone.level_of(other) - phone.level_of(own) > 40.0);
    }
    // A's voice is a track, B's is watched by nobody.
    let voices = world.voices(voice_a);
    assert!(voices.len() > 80, "{}", voices.len());
    assert!(world.voices(voice_b).is_empty());
    for pair in voices.windows(2) {
        assert_eq!(pair[1].descriptor.sequence, pair[0].descriptor.sequence + 1);
    }
    let level = voices[50].descriptor.audio_level.unwrap();
    assert!((16..=20).contains(&level.level) && level.voice, "{level:?}");
    assert!(
        world
            .told
            .lock()
            .unwrap()
            .iter()
            .any(|event| matches!(event,
        MixerEvent::Levels(levels) if levels.len() == 2 && levels.iter().all(|l| l.1 < 25)))
    );

    world.mixers.send(Command::SetLegMuted {
        leg: a.leg().id(),
        muted: true,
    });
    world.run(60, &mut [&mut a, &mut b]);
    assert!(b.level_of(440.0) < -60.0);
    let before = world.voices(voice_a).len();
    world.run(30, &mut [&mut a, &mut b]);
    assert_eq!(world.voices(voice_a).len(), before);
    assert_eq!(a.events(), [LegEvent::Muted(true)]);

    let leg = b.leg().id();
    world.mixers.send(Command::LeaveRoom {
        leg,
        reason: RemovedReason::Removed,
    });
    world.run(60, &mut [&mut a, &mut b]);
    assert_eq!(b.events(), [LegEvent::Removed(RemovedReason::Removed)]);
    assert!(a.level_of(1_000.0) < -60.0);
    a.leg.take();
    world.run(2, &mut []);
    assert_eq!(world.watches(), [(true, web), (false, web)]);
    assert_eq!(world.mixers.stats().legs, 1);
    assert_eq!(world.mixers.stats().commands_lost, 0);
    a.listen();
    assert!(a.rtcp > 0, "a goodbye at least");
}

#[test]
fn a_track_whose_source_begins_anew_is_heard() {
    let mut world = World::new(MixerConfig::default());
    let mut a = world.phone(0.0);
    let web = TrackId(50);
    world.mixers.send(Command::OpenRoom {
        room: ROOM,
        talkers: 4,
    });
    world.mixers.send(Command::AddTrack {
        room: ROOM,
        track: web,
    });
    world.mixers.send(Command::JoinRoom {
        leg: a.leg().id(),
        room: ROOM,
        track: TrackId(51),
    });
    world.step();
    let mut encoder = opus::Encoder::new(opus::Quality::default());
    for (epoch, first) in [(0u16, 500_000u64), (1, 70_000)] {
        for n in 0..60u64 {
            let frame = std::array::from_fn(|i| {
                ((n as usize * 960 + i) as f32 / 48_000.0 * 900.0 % 1.0 * std::f32::consts::TAU)
                    .sin()
                    * 0.2
            });
            let payload = encoder.encode(&frame).to_vec();
            world.web_packet(web, first + n, epoch, &payload);
            world.run(1, &mut [&mut a]);
        }
        assert!(a.level_of(900.0) > -22.0, "epoch {epoch}");
    }
}

#[test]
fn silence_is_told_once_and_a_held_leg_is_no_silence() {
    let config = MixerConfig {
        media_timeout: Duration::from_secs(2),
        hold_timeout: Duration::from_secs(6),
        ..MixerConfig::default()
    };
    let mut world = World::new(config);
    let mut phone = world.phone(440.0);
    world.run(50, &mut [&mut phone]);
    phone.hertz = 0.0;
    world.run(99, &mut [&mut phone]);
    assert!(phone.events().is_empty());
    world.run(200, &mut [&mut phone]);
    assert_eq!(phone.events(), [LegEvent::MediaTimeout]);
    phone.hertz = 440.0;
    world.run(10, &mut [&mut phone]);
    phone.hertz = 0.0;
    world.run(110, &mut [&mut phone]);
    assert_eq!(phone.events(), [LegEvent::MediaTimeout]);
    // The first is what we are when the phone holds the call.
    let held = [
        Direction::ReceiveOnly,
        Direction::SendOnly,
        Direction::Inactive,
    ];
    for direction in held {
        phone.leg().update(LegUpdate {
            direction: Some(direction),
            ..LegUpdate::default()
        });
        world.run(290, &mut [&mut phone]);
        assert_eq!(phone.events(), [], "{direction:?}");
        world.run(20, &mut [&mut phone]);
        assert_eq!(phone.events(), [LegEvent::MediaTimeout], "{direction:?}");
    }
}

#[test]
fn strangers_are_not_heard_and_an_update_moves_the_leg() {
    let mut world = World::new(MixerConfig::default());
    let (mut a, mut b) = (world.phone(440.0), world.phone(0.0));
    world.mixers.send(Command::OpenRoom {
        room: ROOM,
        talkers: 4,
    });
    for phone in [&a, &b] {
        let leg = phone.leg().id();
        world.mixers.send(Command::JoinRoom {
            leg,
            room: ROOM,
            track: TrackId(leg.0),
        });
    }
    world.run(50, &mut [&mut a, &mut b]);
    // A stranger speaks to A's port from elsewhere, with its SSRC.
    let mut stranger = world.phone(1_500.0);
    let real = std::mem::replace(&mut stranger.to, a.to);
    world.run(60, &mut [&mut a, &mut b, &mut stranger]);
    assert!(b.level_of(440.0) > -22.0);
    assert!(b.level_of(1_500.0) < -60.0);
    assert!(world.mixers.stats().drop_stranger >= 60);
    stranger.to = real;
    // A's phone moves to another address and codec by re-INVITE.
    let mut moved = Phone::new(&world, 0.0, LegCodec::Opus);
    moved.to = a.to;
    a.leg().update(LegUpdate {
        remote: Some(moved.socket.local_addr().unwrap()),
        codec: Some((LegCodec::Opus, 96)),
        ..LegUpdate::default()
    });
    b.hertz = 800.0;
    a.hertz = 0.0;
    world.run(60, &mut [&mut a, &mut b, &mut moved]);
    assert!(moved.level_of(800.0) > -22.0);
}

#[test]
fn a_phone_behind_address_translation_loses_nothing_by_a_resume() {
    let mut world = World::new(MixerConfig::default());
    let mut phone = world.phone(440.0);
    let described = phone.socket.local_addr().unwrap();
    // What the translator makes of it.
    let translated = UdpSocket::bind("127.0.0.1:0").unwrap();
    translated.set_nonblocking(true).unwrap();
    phone.socket = translated;
    world.run(20, &mut [&mut phone]);
    let found = world.mixers.stats();
    assert_eq!((found.drop_stranger, found.rtp_received), (2, 18));
    for direction in [Direction::ReceiveOnly, Direction::SendReceive] {
        phone.leg().update(LegUpdate {
            remote: Some(described),
            direction: Some(direction),
            ..LegUpdate::default()
        });
        world.run(10, &mut [&mut phone]);
    }
    let resumed = world.mixers.stats();
    assert_eq!((resumed.drop_stranger, resumed.rtp_received), (2, 38));
}

#[test]
fn a_leg_sends_as_the_peer_wishes_and_receives_under_our_number() {
    let mut world = World::new(MixerConfig::default());
    let mut phone = world.phone(0.0);
    phone.leg().update(LegUpdate {
        codec: Some((LegCodec::Pcma, 8)),
        receive_payload_type: Some(100),
        packet_time: Some(Duration::from_millis(40)),
        ..LegUpdate::default()
    });
    world.step();
    for tick in 0..10 {
        phone.send(100, tick * 160, &[0xD5; 160]);
        world.step();
    }
    assert_eq!(world.mixers.stats().drop_malformed, 0);
    phone.send(96, 1_600, &[0xD5; 160]);
    world.step();
    assert_eq!(world.mixers.stats().drop_malformed, 1);
    let mut buffer = [0; 2_048];
    let mut sent = Vec::new();
    while let Ok(length) = phone.socket.recv(&mut buffer) {
        if !(192..=223).contains(&buffer[1]) {
            let header = RtpHeader::parse(&buffer[..length]).unwrap();
            sent.push((header.payload_type, header.payload_len()));
        }
    }
    assert_eq!(sent, [(8, 320); 6]);
}

#[test]
fn the_thread_ticks_by_itself_and_stops() {
    let (mixers, commands) = Mixers::new(1);
    let thread = start(
        MixerConfig::default(),
        &mixers,
        commands,
        FakeMesh::default(),
        |_| (),
    )
    .unwrap();
    let socket = || UdpSocket::bind("127.0.0.1:0").unwrap();
    let peer = socket();
    let parameters = || LegParameters {
        rtp: socket(),
        rtcp: None,
        remote: Some(peer.local_addr().unwrap()),
        remote_rtcp: None,
        codec: LegCodec::Pcmu,
        payload_type: 0,
        receive_payload_type: 0,
        packet_time: Duration::from_millis(20),
        telephone_event: None,
        direction: Direction::SendReceive,
    };
    let (leg, mut events) = mixers.open_leg(parameters()).unwrap();
    assert!(matches!(
        mixers.open_leg(parameters()),
        Err(LegError::Full { limit: 1 })
    ));
    leg.play(tone(700.0, 4_800));
    let mut buffer = [0; 2_048];
    for _ in 0..5 {
        assert_eq!(peer.recv(&mut buffer).unwrap(), 172);
    }
    assert_eq!(events.blocking_recv(), Some(LegEvent::PlayFinished));
    mixers.send(Command::Stop);
    thread.join().unwrap();
    assert!(mixers.stats().ticks > 4);
    assert!(matches!(
        mixers.open_leg(parameters()),
        Err(LegError::Stopped)
    ));
    drop(leg);
}
