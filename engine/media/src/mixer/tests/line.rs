//! One telephone: its stream, its keys, its prompts, and who may speak on it.

use super::*;
use crate::codec::dtmf::TelephoneEvent;

#[test]
fn rtp_is_continuous_across_every_change() {
    for codec in [LegCodec::Pcma, LegCodec::G722, LegCodec::Opus] {
        let mut phones = vec![
            Phone::new(0, LegCodec::Pcma, 440.0),
            Phone::new(1, codec, 1_000.0),
        ];
        phones[1].talks = false;
        let mut room = Room::new(4, phones);
        room.run(20);
        room.phones[1].talks = true;
        room.run(40);
        room.phones[1].talks = false;
        room.run(40);
        room.phones[0].talks = false;
        room.run(80);
        room.phones[0].talks = true;
        room.run(40);
        let headers = &room.phones[1].headers;
        let step = codec.clock_rate() / 50;
        for pair in headers.windows(2) {
            assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
            let time = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
            assert_eq!(time % step, 0);
            assert_eq!(pair[1].marker, time != step, "marker after a pause only");
            assert_eq!(pair[1].ssrc, pair[0].ssrc);
        }
        assert!(headers[0].marker);
        if codec == LegCodec::Opus {
            assert!(headers.len() < 200, "{}", headers.len());
        } else {
            assert_eq!(headers.len(), 220);
        }
        // Back on the shared mix after the talk spurt.
        assert!(room.mixer.line_mut(LegId(1)).unwrap().own.is_none());
    }
}

#[test]
fn a_muted_leg_is_heard_nowhere_but_its_keys_are() {
    let phones = vec![
        Phone::new(0, LegCodec::Pcma, 440.0),
        Phone::new(1, LegCodec::Pcma, 880.0),
    ];
    let mut room = Room::new(4, phones);
    room.mixer.set_watched(LegId(0), true);
    room.run(60);
    assert!(decibel(tone_power(&room.voices[&LegId(0)][24_000..], 440.0, 48_000)) > -26.0);
    room.mixer.line_mut(LegId(0)).unwrap().set_muted(true);
    room.run(60);
    let before = room.out.voices.len();
    room.run(50);
    assert_eq!(room.out.voices.len(), before, "no packets while muted");
    assert!(room.phones[1].level_of(440.0) < -60.0);
    let event = TelephoneEvent {
        event: 5,
        end: false,
        volume: 10,
        duration: 160,
    };
    let datagram = room.phones[0].datagram(EVENT, &event.write());
    let (_, key) = room
        .mixer
        .line_mut(LegId(0))
        .unwrap()
        .receive(room.t0 + Duration::from_secs(4), &datagram)
        .unwrap();
    assert_eq!(key, Some('5'));
}

#[test]
fn a_voice_becomes_an_opus_track_with_levels() {
    let phones = vec![
        Phone::new(0, LegCodec::G722, 3_000.0),
        Phone::new(1, LegCodec::Pcma, 440.0),
    ];
    let mut room = Room::new(4, phones);
    room.mixer.set_watched(LegId(0), true);
    room.run(100);
    room.phones[0].talks = false;
    room.run(60);
    room.phones[0].talks = true;
    room.run(50);
    let voices = &room.out.voices;
    assert!(
        voices.iter().all(|v| v.0 == LegId(0)),
        "only the watched leg is encoded"
    );
    assert!(voices.len() > 150 && voices.len() < 190, "{}", voices.len());
    let markers = voices.iter().filter(|v| v.3).count();
    assert_eq!(markers, 2);
    for pair in voices.windows(2) {
        assert_eq!(pair[1].2.wrapping_sub(pair[0].2) % 960, 0);
    }
    // A sine of 0.2 has -17 dBov.
    assert!((15..=19).contains(&voices[60].4), "{}", voices[60].4);
    assert!(
        decibel(tone_power(
            &room.voices[&LegId(0)][24_000..72_000],
            3_000.0,
            48_000
        )) > -26.0
    );
}

#[test]
fn a_prompt_is_heard_by_one_leg_over_the_room() {
    let mut phones: Vec<Phone> = (0..3)
        .map(|n| Phone::new(n, LegCodec::G722, TONES[n as usize]))
        .collect();
    phones[1].talks = false;
    phones[2].talks = false;
    let mut room = Room::new(4, phones);
    room.run(50);
    let prompt: Arc<[i16]> = (0..48_000)
        .map(|n| ((n as f32 * 2_500.0 / 48_000.0 * TAU).sin() * 6_000.0) as i16)
        .collect();
    room.mixer.line_mut(LegId(1)).unwrap().play(prompt);
    room.run(45);
    assert!(room.phones[1].level_of(2_500.0) > -26.0);
    assert!(room.phones[1].level_of(TONES[0]) > -26.0);
    assert!(room.phones[2].level_of(2_500.0) < -60.0);
    assert!(room.out.finished.is_empty());
    room.run(6);
    assert_eq!(room.out.finished, [LegId(1)]);
}

#[test]
fn a_line_alone_hears_prompts_and_reports_keys_in_the_sound() {
    let t0 = start();
    for codec in [LegCodec::Pcma, LegCodec::G722] {
        let mut phone = Phone::new(1, codec, 0.0);
        let mut parameters = phone.line().parameters();
        parameters.telephone_event = None;
        let start = StreamStart {
            ssrc: 1,
            sequence: 2,
            timestamp: 3,
        };
        let mut line = Line::new(parameters, opus::Quality::default(), start);
        line.play(
            (0..9_600)
                .map(|n| ((n as f32 * 0.13).sin() * 9_000.0) as i16)
                .collect(),
        );
        let mut out = Out::default();
        let rate = codec.sample_rate() as f32;
        for tick in 0..100u64 {
            let now = t0 + Duration::from_millis(tick * 20);
            let length = phone.codec.sample_rate() as usize / 50;
            let samples: Vec<f32> = (0..length)
                .map(|n| {
                    let t = (phone.sample + n) as f32 / rate * TAU;
                    let on = (20..25).contains(&tick) || (60..65).contains(&tick);
                    if on {
                        ((t * 770.0).sin() + (t * 1_209.0).sin()) * 0.122
                    } else {
                        0.0
                    }
                })
                .collect();
            let mut payload = Vec::new();
            phone.encoder.encode(&samples, &mut payload);
            let datagram = phone.datagram(PAYLOAD_TYPE, &payload);
            line.receive(now, &datagram).unwrap();
            phone.sequence = phone.sequence.wrapping_add(1);
            phone.sample += length;
            line.tick_alone(LegId(1), now + Duration::from_millis(2), &mut out);
        }
        assert_eq!(out.digits, [(LegId(1), '4'), (LegId(1), '4')], "{codec:?}");
        assert_eq!(out.finished, [LegId(1)]);
        assert_eq!(out.datagrams.len(), 100);
        for (_, datagram) in &out.datagrams {
            phone.hear(datagram);
        }
        let tick = phone.codec.sample_rate() as usize / 50;
        assert!(dbov(&phone.heard[tick * 3..tick * 9]) > -20.0);
        assert!(dbov(&phone.heard[tick * 20..]) < -55.0);
    }
}

#[test]
fn strangers_are_refused_and_a_new_source_takes_over_after_three_packets() {
    let t0 = start();
    let mut phone = Phone::new(1, LegCodec::Pcma, 440.0);
    let mut line = phone.line();
    let mut other = Phone::new(2, LegCodec::Pcma, 880.0);
    line.receive(t0, &phone.speak().unwrap()).unwrap();
    for _ in 0..2 {
        assert_eq!(
            line.receive(t0, &other.speak().unwrap()).unwrap_err(),
            LineDrop::Source
        );
    }
    line.receive(t0, &other.speak().unwrap()).unwrap();
    assert_eq!(line.source(), Some(2));
    let wrong = phone.datagram(77, &[0; 160]);
    assert_eq!(line.receive(t0, &wrong).unwrap_err(), LineDrop::PayloadType);
    assert!(matches!(
        line.receive(t0, &[1, 2, 3]),
        Err(LineDrop::Rtp(_))
    ));
}

#[test]
fn any_datagram_is_used_or_refused() {
    let t0 = start();
    let mut seed = 5u64;
    let mut random = move || {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (seed >> 33) as u32
    };
    let mut room = Room::new(
        4,
        vec![
            Phone::new(1, LegCodec::Opus, 440.0),
            Phone::new(2, LegCodec::G722, 700.0),
        ],
    );
    let mut out = Out::default();
    for step in 0..20_000u64 {
        let now = t0 + Duration::from_millis(step);
        let phone = &mut room.phones[step as usize % 2];
        let mut datagram = phone.speak().unwrap();
        for _ in 0..random() % 8 {
            let at = random() as usize % datagram.len();
            datagram[at] = random() as u8;
        }
        datagram.truncate(datagram.len() - random() as usize % 8);
        // Refusals are the point; only panics and growth would fail.
        let _ = room
            .mixer
            .line_mut(phone.id)
            .unwrap()
            .receive(now, &datagram);
        if step % 10 == 0 {
            room.mixer.tick(now, &mut out);
            out.datagrams.clear();
        }
    }
}

#[test]
fn each_direction_has_its_own_number_and_packets_their_wished_length() {
    let t0 = start();
    for (codec, asked, millis) in [
        (LegCodec::Pcma, 30, 30),
        (LegCodec::G722, 40, 40),
        (LegCodec::Opus, 60, 60),
        (LegCodec::Opus, 30, 20),
        (LegCodec::Pcmu, 10, 10),
    ] {
        let phone = Phone::new(1, codec, 440.0);
        let parameters = LineParameters {
            receive_payload_type: 120,
            packet_time: Duration::from_millis(asked),
            ..phone.line().parameters()
        };
        let start = StreamStart {
            ssrc: 1,
            sequence: 65_530,
            timestamp: 0u32.wrapping_sub(2_000),
        };
        let mut line = Line::new(parameters, opus::Quality::default(), start);
        for (payload_type, is_ours) in [(120, true), (PAYLOAD_TYPE, true), (121, false)] {
            let datagram = phone.datagram(payload_type, &[0; 80]);
            assert_eq!(line.recognises(&datagram).is_some(), is_ours);
        }
        // A second of tone, so that Opus has something to say in every tick.
        line.play(
            (0..48_000)
                .map(|n| ((n as f32 * 0.08).sin() * 9_000.0) as i16)
                .collect(),
        );
        let mut out = Out::default();
        for tick in 0..48u64 {
            let now = t0 + Duration::from_millis(tick * 20);
            line.tick_alone(LegId(1), now, &mut out);
        }
        let headers: Vec<RtpHeader> = out
            .datagrams
            .iter()
            .map(|(_, datagram)| RtpHeader::parse(datagram).unwrap())
            .collect();
        assert!(
            headers
                .iter()
                .all(|header| header.payload_type == PAYLOAD_TYPE)
        );
        assert_eq!(headers.iter().filter(|header| header.marker).count(), 1);
        let step = codec.clock_rate() / 1_000 * millis;
        let mut whole = 0;
        for pair in headers.windows(2) {
            assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
            let time = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
            // Opus ends a packet early when it changes its mode.
            assert!(
                time == step || codec == LegCodec::Opus && time < step,
                "{time}"
            );
            whole += usize::from(time == step);
        }
        assert!(
            whole * 10 >= headers.len() * 8,
            "{whole} of {}",
            headers.len()
        );
        let sent = line.sent();
        assert_eq!(sent.2 as usize, headers.len());
    }
}
