//! Who hears whom in a room, and how: everybody else, the loudest, never clipped.

use super::*;

/// Each hears every other's tone and never its own: at least 40 dB between them.
fn matrix(room: &Room, own: impl Fn(usize) -> f32, others: &[f32]) {
    for (n, phone) in room.phones.iter().enumerate() {
        let mine = phone.level_of(own(n));
        for hertz in others.iter().filter(|&&h| h != own(n)) {
            let level = phone.level_of(*hertz);
            assert!(
                level > -26.0,
                "{:?} {n} hears {hertz} Hz at {level} dB",
                phone.codec
            );
            assert!(
                level - mine > 40.0,
                "{:?} {n}: own at {mine}, {hertz} Hz at {level}",
                phone.codec
            );
        }
    }
}

#[test]
fn everybody_hears_all_others_and_not_himself() {
    for codec in [
        LegCodec::Pcma,
        LegCodec::Pcmu,
        LegCodec::G722,
        LegCodec::Opus,
    ] {
        // What a speech codec adds to a mix of tones is not the mixer's: the own tone is looked for
        // where only the codec's noise could hide it, with two other tones.
        let tones = &TONES[..3];
        let phones = tones
            .iter()
            .enumerate()
            .map(|(n, &hertz)| Phone::new(n as u64, codec, hertz))
            .collect();
        let mut room = Room::new(16, phones);
        room.run(150);
        matrix(&room, |n| tones[n], tones);
    }
}

#[test]
fn six_phones_of_all_codecs_and_three_web_tracks() {
    let codecs = [
        LegCodec::Pcma,
        LegCodec::G722,
        LegCodec::Opus,
        LegCodec::Pcmu,
        LegCodec::G722,
        LegCodec::Pcma,
    ];
    let phones = codecs
        .iter()
        .zip(TONES)
        .enumerate()
        .map(|(n, (&codec, hertz))| Phone::new(n as u64, codec, hertz))
        .collect();
    let mut room = Room::new(16, phones);
    room.web(1, 310.0, true);
    room.web(2, 1_700.0, false);
    room.web(3, 2_400.0, true);
    for web in &mut room.webs {
        web.amplitude = 0.1;
    }
    for phone in &mut room.phones {
        phone.amplitude = 0.1;
    }
    room.run(150);
    for (n, phone) in room.phones.iter().enumerate() {
        let own = phone.level_of(TONES[n]);
        for hertz in TONES
            .iter()
            .copied()
            .chain([310.0, 1_700.0, 2_400.0])
            .filter(|&h| h != TONES[n])
        {
            let level = phone.level_of(hertz);
            assert!(
                level > -32.0,
                "{:?} hears {hertz} Hz at {level}",
                phone.codec
            );
            // Nine tones at once are harder on speech codecs than voices: 20 dB is theirs.
            assert!(
                level - own > 20.0,
                "{:?} {n}: own {own}, {hertz} Hz {level}",
                phone.codec
            );
        }
    }
    // The sum before any codec is exact: see `the_sum_lacks_exactly_oneself`.
}

#[test]
fn the_sum_lacks_exactly_oneself() {
    let tones = &TONES[..4];
    let phones = tones
        .iter()
        .enumerate()
        .map(|(n, &hertz)| Phone::new(n as u64, LegCodec::Pcma, hertz))
        .collect();
    let mut room = Room::new(16, phones);
    let mut mixes: Vec<Vec<f32>> = vec![Vec::new(); 4];
    for _ in 0..100 {
        room.run(1);
        for (n, mix) in mixes.iter_mut().enumerate() {
            let line = room.mixer.line_mut(LegId(n as u64)).unwrap();
            mix.extend(line.own.as_ref().map_or([0.0; 960], |own| *own.sound()));
        }
    }
    for (n, mix) in mixes.iter().enumerate() {
        let mix = &mix[mix.len() - 48_000..];
        let own = decibel(tone_power(mix, tones[n], 48_000));
        for hertz in tones.iter().filter(|&&h| h != tones[n]) {
            assert!(
                decibel(tone_power(mix, *hertz, 48_000)) - own > 55.0,
                "{n} {own}"
            );
        }
    }
}

#[test]
fn listeners_share_one_encode_and_hear_the_k_loudest() {
    let mut phones: Vec<Phone> = (0..5)
        .map(|n| Phone::new(n, LegCodec::Opus, TONES[n as usize]))
        .collect();
    for phone in &mut phones[2..] {
        phone.talks = false;
    }
    let mut room = Room::new(2, phones);
    room.run(100);
    let listeners = &room.phones[2..];
    for phone in listeners {
        assert!(phone.level_of(TONES[0]) > -26.0);
        assert!(phone.level_of(TONES[1]) > -26.0);
        assert_eq!(phone.heard, listeners[0].heard);
    }
    // A third, softer voice is not let in; much louder than the weakest, it is.
    room.phones[2].talks = true;
    room.phones[2].amplitude = 0.15;
    room.run(60);
    assert!(room.phones[3].level_of(TONES[2]) < -45.0);
    room.phones[2].amplitude = 0.7;
    room.run(60);
    assert!(room.phones[3].level_of(TONES[2]) > -20.0);
}

#[test]
fn a_listener_who_begins_to_talk_hears_no_change() {
    // Two runs, the same but for one listener beginning to talk: what it hears of the others is the
    // same bytes up to the tick it is selected, and the same sound after.
    for codec in [LegCodec::Opus, LegCodec::G722, LegCodec::Pcma] {
        let run = |talks: bool| {
            let mut phones = vec![
                Phone::new(0, LegCodec::Pcma, 440.0),
                Phone::new(1, codec, 1_000.0),
            ];
            phones[1].talks = false;
            let mut room = Room::new(4, phones);
            room.run(60);
            room.phones[1].talks = talks;
            room.run(60);
            assert_eq!(room.mixer.line_mut(LegId(1)).unwrap().own.is_some(), talks);
            room.phones.remove(1).heard
        };
        let (talking, listening) = (run(true), run(false));
        let first = talking.iter().zip(&listening).position(|(a, b)| a != b);
        assert_eq!(first, None, "{codec:?} of {}", talking.len());
    }
}

#[test]
fn the_mix_of_silence_is_silence() {
    for codec in [LegCodec::Pcma, LegCodec::G722, LegCodec::Opus] {
        let mut phones: Vec<Phone> = (0..3).map(|n| Phone::new(n, codec, 440.0)).collect();
        for phone in &mut phones {
            phone.talks = false;
        }
        let mut room = Room::new(4, phones);
        room.web(1, 1_000.0, true);
        room.webs[0].amplitude = 0.0;
        room.run(100);
        assert!(room.mixer.sum.iter().all(|&s| s == 0.0));
        assert!(room.mixer.shared.is_silent());
        for phone in &room.phones {
            let level = dbov(&phone.heard[phone.heard.len() / 2..]);
            assert!(
                (-80.0..-58.0).contains(&level),
                "{codec:?} comfort noise at {level}"
            );
        }
        assert_eq!(room.mixer.counts().decoded, 0);
    }
}

#[test]
fn loud_voices_together_never_clip() {
    let mut phones: Vec<Phone> = (0..6)
        .map(|n| Phone::new(n, LegCodec::Pcmu, TONES[n as usize]))
        .collect();
    for phone in &mut phones[..5] {
        phone.amplitude = 0.95;
    }
    phones[5].talks = false;
    let mut room = Room::new(16, phones);
    room.run(100);
    for phone in &room.phones {
        let peak = phone.last(1.0).iter().fold(0.0f32, |p, s| p.max(s.abs()));
        // The limiter's ceiling, the ripple of the filter to 8 kHz and half a mu-law step.
        assert!((0.5..0.97).contains(&peak), "{peak}");
    }
    // Turned down, not cut: the sum's products between tones stay far below the tones.
    let listener = &room.phones[5];
    assert!(listener.level_of(TONES[0]) - listener.level_of(2.0 * TONES[0] - 37.0) > 20.0);
}
