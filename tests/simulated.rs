//! Minutes of calls through the router in milliseconds: lossy paths, changing encodings,
//! outages, several workers. Every run is repeated by its seed.

use std::time::{Duration, Instant};

use palabre_media::ids::{MediaKind, SubscriptionId, TrackId};
use palabre_media::sfu::{Command, Event, Level};
use palabre_tests::call::Call;
use palabre_tests::endpoint::{Endpoint, Frame, Incoming, Publication};
use palabre_tests::netsim::{Loss, Path, Random};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// No number at all.
const NONE: [u64; 0] = [];

const CAMERA: Publication = Publication {
    track: TrackId(7),
    kind: MediaKind::Video,
    layers: 3,
};
const SCREEN: Publication = Publication {
    track: TrackId(8),
    kind: MediaKind::Video,
    layers: 1,
};
const MICROPHONE: Publication = Publication {
    track: TrackId(9),
    kind: MediaKind::Audio,
    layers: 1,
};

/// 5 % loss in bursts, 15 ms of jitter, some reordering and duplication.
fn rough() -> Path {
    Path {
        jitter: 15 * MS,
        reorder: 0.01,
        duplicate: 0.005,
        loss: Loss::Bursts {
            begin: 0.015,
            end: 0.3,
            lost: 0.9,
        },
        ..Path::clean(20 * MS)
    }
}

fn publish(call: &mut Call, member: usize, publication: Publication) {
    call.command(member, Command::Receive(publication.receive_parameters()));
    let now = call.now;
    call.members[member].endpoint.publish(now, publication);
}

/// Subscribes and gives the SSRC the track comes under.
fn subscribe(
    call: &mut Call,
    member: usize,
    publication: Publication,
    subscription: u64,
    with_rtx: bool,
) -> u32 {
    let parameters = publication.send_parameters(subscription, with_rtx);
    let ssrc = parameters.ssrc;
    call.command(member, Command::Send(parameters));
    ssrc
}

fn incoming(call: &Call, member: usize, ssrc: u32) -> &Incoming {
    call.members[member]
        .endpoint
        .incoming
        .get(&ssrc)
        .expect("the stream arrived")
}

/// Video must look like one encoder's output, whatever encodings it was made of.
fn check_video(incoming: &Incoming, until: Instant) -> Vec<Frame> {
    let frames = incoming.frames();
    assert_eq!(incoming.holes(until), NONE, "numbers without packets");
    assert!(frames[0].is_key, "the first frame is a key frame");
    for pair in frames.windows(2) {
        let [before, after] = pair else {
            unreachable!()
        };
        if after.at > until {
            break;
        }
        let step = after.picture_id.wrapping_sub(before.picture_id) & 0x7FFF;
        // The last frame of an encoding may lack its end: nothing after it tells of the loss.
        let most = if after.layer == before.layer { 1 } else { 2 };
        assert!((1..=most).contains(&step), "{pair:?}");
        assert_eq!(after.tl0, before.tl0.wrapping_add(step as u8), "{pair:?}");
        let keys = u8::from(after.is_key);
        assert_eq!(after.key_index, (before.key_index + keys) & 31, "{pair:?}");
        assert!(
            after.is_key || after.layer == before.layer,
            "a change without key frame"
        );
        let step = after.timestamp.wrapping_sub(before.timestamp);
        assert!(
            (1..180_000).contains(&step),
            "timestamps advance: {step}, {pair:?}"
        );
    }
    frames
}

#[test]
fn a_clean_call_brings_everything_to_everybody() {
    let mut call = Call::new(1, 1);
    let publisher = call.join(0, Path::clean(10 * MS), Path::clean(10 * MS));
    publish(&mut call, publisher, SCREEN);
    publish(&mut call, publisher, MICROPHONE);
    let mut streams = Vec::new();
    for subscriber in 0..5 {
        let member = call.join(0, Path::clean(10 * MS), Path::clean(10 * MS));
        let video = subscribe(&mut call, member, SCREEN, 10 + subscriber, true);
        let audio = subscribe(&mut call, member, MICROPHONE, 20 + subscriber, true);
        streams.push((member, video, audio));
    }
    call.run(60 * SECOND);
    for (member, video, audio) in streams {
        let frames = check_video(incoming(&call, member, video), call.now);
        assert!(frames.len() > 1_790, "{} frames of 1,818", frames.len());
        let sound = incoming(&call, member, audio);
        assert_eq!(sound.holes(call.now), NONE);
        assert!(
            sound.packets.len() > 2_980,
            "{} packets of 3,000",
            sound.packets.len()
        );
        assert_eq!(call.members[member].endpoint.nacked, 0);
    }
    let publisher = &call.members[publisher].endpoint;
    assert!(
        publisher.transport_feedback > 500,
        "{} messages",
        publisher.transport_feedback
    );
    assert!(publisher.key_frames_asked < 4);
    let dropped: Vec<_> = call.routers[0].counters().dropped().collect();
    assert!(dropped.is_empty(), "{dropped:?}");
}

#[test]
fn losses_on_both_sides_are_repaired() {
    for (seed, with_rtx) in [(1, true), (2, true), (3, false), (4, false)] {
        let mut call = Call::new(1, seed);
        let publisher = call.join(0, rough(), rough());
        publish(&mut call, publisher, CAMERA);
        let mut streams = Vec::new();
        for subscriber in 0..4 {
            let member = call.join(0, rough(), rough());
            let ssrc = subscribe(&mut call, member, CAMERA, 10 + subscriber, with_rtx);
            streams.push((member, ssrc));
        }
        call.run(120 * SECOND);
        let until = call.now - 2 * SECOND;
        for (member, ssrc) in streams {
            let stream = incoming(&call, member, ssrc);
            let frames = check_video(stream, until);
            assert!(
                frames.len() > 3_560,
                "seed {seed}: {} frames of 3,636",
                frames.len()
            );
            let repaired = stream.packets.values().filter(|got| got.repaired).count();
            assert_eq!(
                repaired > 100,
                with_rtx,
                "{repaired} by retransmission stream"
            );
        }
        let counters = call.routers[0].counters();
        assert!(
            counters.recovered > 300 && counters.resent > 500,
            "{counters:?}"
        );
        assert!(counters.given_up < counters.recovered / 20, "{counters:?}");
    }
}

#[test]
fn changing_encodings_under_loss_leaves_no_seam() {
    for seed in 1..=3 {
        let mut random = Random::new(seed);
        let mut call = Call::new(1, seed);
        let publisher = call.join(0, rough(), Path::clean(20 * MS));
        publish(&mut call, publisher, CAMERA);
        let member = call.join(0, Path::clean(20 * MS), rough());
        let ssrc = subscribe(&mut call, member, CAMERA, 5, true);
        for _ in 0..60 {
            call.run(SECOND + MS * random.below(1_000) as u32);
            match random.below(6) {
                0 => {
                    let layer = random.below(3) as u8;
                    call.members[publisher]
                        .endpoint
                        .enable(CAMERA.track, layer, false);
                }
                1 => (0..3).for_each(|layer| {
                    call.members[publisher]
                        .endpoint
                        .enable(CAMERA.track, layer, true);
                }),
                _ => call.command(
                    member,
                    Command::SetSend {
                        subscription: SubscriptionId(5),
                        paused: false,
                        max_layer: random.below(3) as u8,
                    },
                ),
            }
        }
        (0..3).for_each(|layer| {
            call.members[publisher]
                .endpoint
                .enable(CAMERA.track, layer, true);
        });
        call.run(4 * SECOND);
        let frames = check_video(incoming(&call, member, ssrc), call.now - 2 * SECOND);
        let changes = frames
            .windows(2)
            .filter(|pair| pair[0].layer != pair[1].layer)
            .count();
        assert!(changes > 15, "seed {seed}: {changes} changes");
        // The timeline is the publisher's: no drift over all these seams.
        let (first, last) = (&frames[0], &frames[frames.len() - 1]);
        let media = last.timestamp.wrapping_sub(first.timestamp) / 90;
        let real = (last.at - first.at).as_millis() as u32;
        assert!(
            media.abs_diff(real) < 200,
            "seed {seed}: {media} ms of media in {real} ms"
        );
    }
}

#[test]
fn the_best_encoding_is_forwarded_and_its_stall_falls_back() {
    let mut call = Call::new(1, 1);
    let publisher = call.join(0, Path::clean(5 * MS), Path::clean(5 * MS));
    publish(&mut call, publisher, CAMERA);
    let member = call.join(0, Path::clean(5 * MS), Path::clean(5 * MS));
    let ssrc = subscribe(&mut call, member, CAMERA, 5, true);
    let layer = |call: &Call| {
        incoming(call, member, ssrc)
            .frames()
            .last()
            .map(|f| f.layer)
    };
    call.run(2 * SECOND);
    assert_eq!(layer(&call), Some(2));
    call.command(
        member,
        Command::SetSend {
            subscription: SubscriptionId(5),
            paused: false,
            max_layer: 1,
        },
    );
    call.run(SECOND);
    assert_eq!(layer(&call), Some(1));
    call.members[publisher]
        .endpoint
        .enable(CAMERA.track, 1, false);
    call.run(3 * SECOND);
    assert_eq!(layer(&call), Some(0));
    call.members[publisher]
        .endpoint
        .enable(CAMERA.track, 1, true);
    call.run(2 * SECOND);
    assert_eq!(layer(&call), Some(1));
    check_video(incoming(&call, member, ssrc), call.now);
}

#[test]
fn after_an_outage_a_key_frame_brings_the_picture_back() {
    let mut call = Call::new(1, 9);
    let publisher = call.join(0, Path::clean(20 * MS), Path::clean(20 * MS));
    publish(&mut call, publisher, SCREEN);
    let member = call.join(0, Path::clean(20 * MS), Path::clean(20 * MS));
    let ssrc = subscribe(&mut call, member, SCREEN, 5, true);
    call.run(5 * SECOND);
    let dead = Path {
        loss: Loss::Independent(1.0),
        ..Path::clean(20 * MS)
    };
    call.members[member].down.set_path(dead);
    call.run(5 * SECOND);
    let back = call.now;
    call.members[member].down.set_path(Path::clean(20 * MS));
    call.run(5 * SECOND);
    let frames = incoming(&call, member, ssrc).frames();
    let key = frames
        .iter()
        .find(|frame| frame.is_key && frame.at > back)
        .expect("a key frame");
    assert!(
        key.at - back < 2 * SECOND,
        "{:?} after the path came back",
        key.at - back
    );
    let after = frames.iter().filter(|frame| frame.at >= key.at).count();
    assert!(after > 80, "{after} frames since");
    // The publisher was asked a few times, not once for each request.
    assert!(call.members[publisher].endpoint.key_frames_asked < 12);
}

#[test]
fn an_outage_of_the_publisher_brings_a_key_frame_too() {
    let mut call = Call::new(1, 5);
    let publisher = call.join(0, Path::clean(20 * MS), Path::clean(20 * MS));
    publish(&mut call, publisher, SCREEN);
    let member = call.join(0, Path::clean(20 * MS), Path::clean(20 * MS));
    let ssrc = subscribe(&mut call, member, SCREEN, 5, true);
    call.run(5 * SECOND);
    let dead = Path {
        loss: Loss::Independent(1.0),
        ..Path::clean(20 * MS)
    };
    call.members[publisher].up.set_path(dead);
    call.run(6 * SECOND);
    let back = call.now;
    call.members[publisher].up.set_path(Path::clean(20 * MS));
    call.run(3 * SECOND);
    let frames = incoming(&call, member, ssrc).frames();
    assert!(
        frames
            .iter()
            .any(|frame| frame.is_key && frame.at > back && frame.at < back + SECOND)
    );
    let told: Vec<_> = call
        .events
        .iter()
        .filter_map(|(_, _, event)| match event {
            Event::TrackStalled { stalled, .. } => Some(*stalled),
            _ => None,
        })
        .collect();
    assert_eq!(told, [true, false]);
}

#[test]
fn two_workers_joined_by_a_mesh_give_what_one_gives() {
    let result = |routers: u8| -> (Vec<Vec<u32>>, u64, u64) {
        let mut call = Call::new(routers, 3);
        let publisher = call.join(0, rough(), rough());
        publish(&mut call, publisher, SCREEN);
        let mut streams = Vec::new();
        for subscriber in 0..6 {
            let router = usize::from(subscriber as u8 % routers);
            let member = call.join(router, Path::clean(20 * MS), Path::clean(20 * MS));
            let ssrc = subscribe(&mut call, member, SCREEN, 10 + subscriber, true);
            streams.push((member, ssrc));
        }
        call.run(60 * SECOND);
        let frames = streams.iter().map(|(member, ssrc)| {
            check_video(incoming(&call, *member, *ssrc), call.now - 2 * SECOND)
                .into_iter()
                .map(|frame| frame.source)
                .collect()
        });
        (
            frames.collect(),
            call.mesh_packets,
            call.routers[0].counters().received,
        )
    };
    let (one, no_packets, _) = result(1);
    let (two, packets, received) = result(2);
    assert_eq!(no_packets, 0);
    // One message for each packet, not one for each of the three subscribers there.
    assert_eq!(packets, received);
    for (one, two) in one.iter().zip(&two) {
        // Key frames may be asked for at other moments; the frames and their order are the same.
        let skip = one.iter().position(|frame| *frame == two[0]);
        let same = one[skip.unwrap_or(0)..]
            .iter()
            .zip(two)
            .filter(|(one, two)| one == two)
            .count();
        assert!(same + 60 > one.len(), "{same} of {}", one.len());
    }
}

#[test]
fn the_last_subscriber_leaving_ends_the_mesh_traffic() {
    let mut call = Call::new(2, 3);
    let publisher = call.join(0, Path::clean(MS), Path::clean(MS));
    publish(&mut call, publisher, MICROPHONE);
    let member = call.join(1, Path::clean(MS), Path::clean(MS));
    subscribe(&mut call, member, MICROPHONE, 10, false);
    call.run(2 * SECOND);
    assert!(call.mesh_packets > 90);
    call.command(member, Command::StopSend(SubscriptionId(10)));
    let before = call.mesh_packets;
    call.run(2 * SECOND);
    assert_eq!(call.mesh_packets, before);
    // A session's end takes its subscriptions along.
    subscribe(&mut call, member, MICROPHONE, 11, false);
    call.run(SECOND);
    assert!(call.mesh_packets > before);
    call.command(member, Command::Close);
    let before = call.mesh_packets;
    call.run(SECOND);
    assert_eq!((call.mesh_packets, call.routers[1].sessions()), (before, 0));
}

#[test]
fn a_muted_track_is_silent_and_comes_back_without_a_gap() {
    let mut call = Call::new(1, 3);
    let publisher = call.join(0, Path::clean(MS), Path::clean(MS));
    publish(&mut call, publisher, MICROPHONE);
    publish(&mut call, publisher, SCREEN);
    let member = call.join(0, Path::clean(MS), Path::clean(MS));
    let audio = subscribe(&mut call, member, MICROPHONE, 10, false);
    let video = subscribe(&mut call, member, SCREEN, 11, true);
    call.run(3 * SECOND);
    let mute = |call: &mut Call, muted| {
        for track in [MICROPHONE.track, SCREEN.track] {
            call.command(publisher, Command::SetMuted { track, muted });
        }
    };
    mute(&mut call, true);
    call.run(50 * MS);
    let count = |call: &Call| {
        (
            incoming(call, member, audio).packets.len(),
            incoming(call, member, video).packets.len(),
        )
    };
    let before = count(&call);
    call.run(3 * SECOND);
    assert_eq!(count(&call), before);
    mute(&mut call, false);
    call.run(3 * SECOND);
    let after = count(&call);
    assert!(
        after.0 > before.0 + 140 && after.1 > before.1 + 100,
        "{before:?} {after:?}"
    );
    assert_eq!(incoming(&call, member, audio).holes(call.now), NONE);
    check_video_with_pause(incoming(&call, member, video));
    let levels: Vec<_> = call
        .events
        .iter()
        .filter_map(|(at, _, event)| match event {
            Event::Levels(levels) => Some((*at, levels[0].1)),
            _ => None,
        })
        .collect();
    assert!(levels[0].1.is_active());
    assert!(
        levels
            .iter()
            .any(|(at, level)| *level == Level::SILENT && *at < 3_100 * MS)
    );
    assert!(levels.last().expect("there are some").1.is_active());
}

/// As [`check_video`], with one pause of some seconds in it.
fn check_video_with_pause(incoming: &Incoming) {
    assert_eq!(incoming.holes(Instant::now() + 1_000 * SECOND), NONE);
    let frames = incoming.frames();
    for pair in frames.windows(2) {
        assert_eq!(pair[1].picture_id, (pair[0].picture_id + 1) & 0x7FFF);
        let media = pair[1].timestamp.wrapping_sub(pair[0].timestamp) / 90;
        let real = (pair[1].at - pair[0].at).as_millis() as u32;
        assert!(
            media.abs_diff(real) < 60,
            "{media} ms of media in {real} ms"
        );
        assert!(pair[1].is_key || real < 100);
    }
}

#[test]
fn sound_and_picture_of_one_peer_share_a_clock() {
    let mut call = Call::new(1, 8);
    let publisher = call.join(0, rough(), rough());
    publish(&mut call, publisher, CAMERA);
    publish(&mut call, publisher, MICROPHONE);
    let member = call.join(0, rough(), rough());
    let video = subscribe(&mut call, member, CAMERA, 10, true);
    let audio = subscribe(&mut call, member, MICROPHONE, 11, false);
    call.run(30 * SECOND);
    // When packets of both were sampled, by the sender reports we sent.
    let sampled = |ssrc: u32, rate: f64, packet: u64| {
        let stream = incoming(&call, member, ssrc);
        let (ntp, reported) = stream.reported.expect("a sender report");
        let got = stream
            .packets
            .iter()
            .rev()
            .nth(packet as usize)
            .expect("enough packets")
            .1;
        let offset = f64::from(got.timestamp.wrapping_sub(reported) as i32) / rate;
        let real = (got.at - call.start).as_secs_f64();
        ntp.0 as f64 / 2f64.powi(32) + offset - real
    };
    // Capture to arrival takes the same time for both, jitter and loss repair aside.
    let least = |ssrc, rate| {
        (0..150)
            .map(|n| sampled(ssrc, rate, n))
            .fold(f64::MIN, f64::max)
    };
    let skew = least(video, 90_000.0) - least(audio, 48_000.0);
    assert!(skew.abs() < 0.025, "{skew} s between sound and picture");
}

#[test]
fn hours_of_loss_do_not_grow_memory() {
    let mut call = Call::new(2, 4);
    let publisher = call.join(0, rough(), rough());
    publish(&mut call, publisher, SCREEN);
    let member = call.join(1, rough(), rough());
    let ssrc = subscribe(&mut call, member, SCREEN, 10, true);
    call.run(60 * SECOND);
    let early = call.routers[0].buffers();
    for _ in 0..9 {
        call.run(60 * SECOND);
        call.events.clear();
        // The simulator's own book-keeping must not be what is measured.
        let stream = call.members[member]
            .endpoint
            .incoming
            .get_mut(&ssrc)
            .expect("it flows");
        let keep = stream.packets.last_key_value().expect("it flows").0 - 400;
        stream.packets = stream.packets.split_off(&keep);
    }
    let late = call.routers[0].buffers();
    assert!(
        late <= early + early / 4,
        "{early} buffers after a minute, {late} after ten"
    );
    assert!(late < 1_024, "{late} buffers");
}

#[test]
fn what_was_not_sent_by_the_peer_changes_nothing() {
    let mut call = Call::new(1, 4);
    let publisher = call.join(0, Path::clean(MS), Path::clean(MS));
    publish(&mut call, publisher, MICROPHONE);
    let member = call.join(0, Path::clean(MS), Path::clean(MS));
    let ssrc = subscribe(&mut call, member, MICROPHONE, 10, false);
    let mut random = Random::new(1);
    let from = "10.0.0.0:5000".parse().expect("an address");
    let to = "10.255.0.1:7880".parse().expect("an address");
    call.run(SECOND);
    for _ in 0..20_000 {
        let length = random.below(200) as usize;
        let mut garbage: Vec<u8> = (0..length).map(|_| random.word() as u8).collect();
        if let Some(first) = garbage.first_mut().filter(|_| random.chance(0.8)) {
            *first = 0x80 | (*first & 0x1F);
        }
        let now = call.now;
        let _ = call.routers[0].handle_datagram(now, from, to, &mut garbage);
    }
    call.run(SECOND);
    let counters = call.routers[0].counters();
    assert!(counters.dropped().map(|(_, count)| count).sum::<u64>() > 15_000);
    let stream = incoming(&call, member, ssrc);
    assert_eq!(stream.holes(call.now), NONE);
    assert!(stream.packets.len() > 95);
    assert!(call.routers[0].is_idle(), "nothing is answered");
}

#[test]
fn an_endpoint_that_never_checks_gets_nothing() {
    let mut call = Call::new(1, 4);
    let publisher = call.join(0, Path::clean(MS), Path::clean(MS));
    publish(&mut call, publisher, MICROPHONE);
    let silent = Path {
        loss: Loss::Independent(1.0),
        ..Path::clean(MS)
    };
    let member = call.join(0, silent, Path::clean(MS));
    subscribe(&mut call, member, MICROPHONE, 10, false);
    call.run(2 * SECOND);
    let endpoint: &Endpoint = &call.members[member].endpoint;
    assert!(endpoint.incoming.is_empty());
}
