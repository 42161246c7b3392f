//! The product and clients that nobody here wrote, on sound and picture.
//!
//! Each test has a network namespace of its own and plays one sine per party: whoever is heard,
//! or should not be, is measured. A peer that is not installed prints `skipped: ...`.

use palabre_tests::hearing::{
    LOST, PLAYED, assert_hears, assert_hears_at, assert_silenced, assert_silent, told,
};
use palabre_tests::network::{HOST, isolated};
use palabre_tests::peer::{Peer, write_tone};
use palabre_tests::program::Program;
use palabre_tests::sound::{Dbfs, Recording};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// In a room of ten, tones at -12 dBFS would reach the limiter, whose products are no leak.
const TEN_LEVEL: Dbfs = -32.0;

// Opus makes its own faint tones of the sums and differences of what it is given (two tones of 440
// and 620 Hz give 800 Hz, 35 dB down at 24 kbit/s, 48 dB at 40 kbit/s): each party's tone stays clear of the others'.
const ALICE: u32 = 440;
const BRUNO: u32 = 620;
const SDK: u32 = 1_010;
const PHONE: u32 = 1_700;

fn start() -> Program {
    start_with(&[])
}

fn start_with(settings: &[(&str, &str)]) -> Program {
    let media = format!("{HOST}:7880");
    let sip = format!("{HOST}:5060");
    let mut all = vec![
        ("PALABRE__MEDIA__BIND", media.as_str()),
        ("PALABRE__SIP__BIND", sip.as_str()),
        ("PALABRE__MIXER__TALKERS", "16"),
    ];
    all.extend_from_slice(settings);
    Program::start(&all)
}

fn tone_file(hertz: u32) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("tone-{hertz}.wav"));
    if !path.exists() {
        write_tone(&path, hertz);
    }
    path
}

/// What came from one participant.
fn from(mut heard: BTreeMap<String, Recording>, identity: &str) -> Recording {
    heard
        .remove(identity)
        .unwrap_or_else(|| panic!("no sound from {identity}, only from {:?}", heard.keys()))
}

fn connect(peer: &mut Peer, ticket: &Value) -> String {
    let answer =
        peer.call(json!({"do": "connect", "url": ticket["url"], "token": ticket["token"]}));
    answer["identity"].as_str().expect("an identity").to_owned()
}

fn join(program: &mut Program, peer: &mut Peer, code: &str, name: &str) -> String {
    let ticket = program.join(code, name);
    connect(peer, &ticket)
}

fn by_number(phone: &mut Peer, code: &str) {
    let answer = phone.call(json!({"do": "dial", "uri": format!("sip:reunion@{HOST}")}));
    assert_eq!(answer["type"], "CALL_ESTABLISHED", "{answer}");
    // The greeting is heard before anything is dialled: something loud, and nobody's tone.
    let greeting = phone.hear_line(1_500);
    assert!(
        greeting.loudness() > -45.0,
        "the greeting is at {:.1} dBFS",
        greeting.loudness()
    );
    phone.call(json!({"do": "digits", "keys": format!("{code}#")}));
}

fn audio_from(identity: &str) -> impl Fn(&Value) -> bool + '_ {
    move |event| event["identity"] == identity && event["track"] == "audio"
}

fn participants(peer: &mut Peer, what: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let answer = peer.until(what, 30, &json!({"do": "participants"}), |answer| {
        answer.as_array().is_some_and(|all| wanted(all))
    });
    answer.as_array().expect("a list").clone()
}

fn phone_identity(peer: &mut Peer) -> String {
    const KIND_SIP: u64 = 3;
    let is_phone = |p: &Value| p["kind"] == json!(KIND_SIP) || p["kind"] == json!("sip");
    let all = participants(peer, "a participant of kind SIP", |all| {
        all.iter().any(is_phone)
    });
    let phone = all
        .iter()
        .find(|p| is_phone(p))
        .expect("the loop ends with one");
    phone["identity"].as_str().expect("an identity").to_owned()
}

/// Two browsers, an SDK that sends VP8, and a telephone that only speaks `codec`: everybody hears, sees and is told everything
/// it should, and nothing else.
fn one_room_three_doors(codec: &str) {
    if !isolated() {
        return;
    }
    let (Some(mut alice), Some(mut bruno), Some(mut sdk), Some(mut phone)) = (
        Peer::chromium("alice", Some(&tone_file(ALICE))),
        Peer::chromium("bruno", Some(&tone_file(BRUNO))),
        Peer::sdk("sdk"),
        Peer::phone("phone", codec, PHONE, HOST),
    ) else {
        return;
    };
    let mut program = start();
    program.claim();
    let room = program.create_room("Conseil");
    let code = room["code"].as_str().expect("a code").to_owned();

    let alice_id = join(&mut program, &mut alice, &code, "Alice");
    alice.call(json!({"do": "publish", "audio": true, "video": true}));
    let bruno_id = join(&mut program, &mut bruno, &code, "Bruno");
    bruno.call(json!({"do": "publish", "audio": true, "video": true}));
    let sdk_id = join(&mut program, &mut sdk, &code, "SDK");
    sdk.call(json!({"do": "publish", "tone": SDK, "video": true}));
    by_number(&mut phone, &code);
    let phone_id = phone_identity(&mut alice);

    // Sound, in every direction.
    let tones = [
        (&alice_id, ALICE),
        (&bruno_id, BRUNO),
        (&sdk_id, SDK),
        (&phone_id, PHONE),
    ];
    for (peer, own) in [(&mut alice, ALICE), (&mut bruno, BRUNO), (&mut sdk, SDK)] {
        let heard = tones.iter().filter(|(_, hertz)| *hertz != own);
        for (identity, _) in heard.clone() {
            peer.event("track-subscribed", 30, audio_from(identity));
        }
        for (identity, hertz) in heard {
            let others: Vec<u32> = tones
                .iter()
                .map(|(_, h)| *h)
                .filter(|h| h != hertz)
                .collect();
            let who = format!("the party of {own} Hz, from {identity}, with {codec}");
            assert_hears(&who, &[*hertz], &others, || {
                from(peer.hear(3_500), identity)
            });
        }
    }
    told(&mut phone);
    let rate = match codec {
        "opus" => 48_000,
        "g722" => 16_000,
        _ => 8_000,
    };
    let who = format!("the telephone, with {codec}");
    assert_hears(&who, &[ALICE, BRUNO, SDK], &[PHONE], || {
        let heard = phone.hear_line(3_500);
        assert_eq!(heard.rate, rate, "the line is {codec}");
        heard
    });

    // Pictures.
    for (peer, from) in [
        (&mut alice, [&bruno_id, &sdk_id]),
        (&mut bruno, [&alice_id, &sdk_id]),
        (&mut sdk, [&alice_id, &bruno_id]),
    ] {
        peer.until("decoded frames", 30, &json!({"do": "see"}), |seen| {
            from.iter()
                .all(|who| seen[who.as_str()]["frames"].as_u64().unwrap_or(0) >= 20)
        });
    }
    for browser in [&mut alice, &mut bruno] {
        let seen = browser.call(json!({"do": "see"}));
        assert_eq!(seen[&sdk_id]["codec"], "video/VP8", "{seen}");
    }

    // A browser that negotiated our transport-wide feedback and had none would stay at 30 kbit/s: its estimate leaves the
    // 1 Mbit/s it starts from, and its encoders are given it.
    alice.until(
        "a send rate that grew",
        60,
        &json!({"do": "sending"}),
        |all| {
            let all = all.as_array().expect("a list");
            let figures = |kind, name: &str| {
                let of_kind = all.iter().filter(move |one| one["kind"] == kind);
                of_kind.filter_map(|one| one[name].as_f64()).sum::<f64>()
            };
            figures("video", "target") > 300_000.0 && figures("path", "available") > 1_100_000.0
        },
    );

    // The profile that costs least.
    let profiles = alice.call(json!({"do": "profiles"}));
    let profiles = profiles.as_array().expect("a list");
    assert!(profiles.len() >= 2, "{profiles:?}");
    for profile in profiles {
        assert!(
            profile["cipher"]
                .as_str()
                .is_some_and(|c| c.contains("GCM")),
            "{profiles:?}"
        );
    }

    let metrics = program.metrics();
    let connected = |profiles: &str| -> f64 {
        let name = "palabre_media_sessions_connected_total{profile=";
        let page = metrics
            .lines()
            .filter(|line| line.starts_with(name) && line.contains(profiles));
        page.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    };
    assert!(
        connected("_GCM\"") >= 4.0,
        "two browsers, two connections each"
    );
    assert_eq!(connected("SHA1"), 0.0);

    // Data, to everybody and to one.
    alice.call(json!({"do": "send", "text": "bonjour", "reliable": true}));
    for peer in [&mut bruno, &mut sdk] {
        peer.event("data", 15, |e| {
            e["text"] == "bonjour" && e["identity"] == alice_id.as_str()
        });
    }
    sdk.call(json!({"do": "send", "text": "for bruno", "reliable": true, "to": [bruno_id]}));
    bruno.event("data", 15, |e| {
        e["text"] == "for bruno" && e["identity"] == sdk_id.as_str()
    });
    let events = alice.call(json!({"do": "events"}));
    assert!(
        !events.to_string().contains("for bruno"),
        "a message for one reached another"
    );

    // Mute silences, everywhere.
    bruno.call(json!({"do": "microphone", "enabled": false}));
    alice.event("track-muted", 15, |e| e["identity"] == bruno_id.as_str());
    assert_silenced(
        &format!("the telephone, with {codec} and Bruno muted"),
        &[ALICE, SDK],
        PHONE,
        BRUNO,
        &mut phone,
    );
    for (who, peer, own, other, other_id) in [
        ("Alice", &mut alice, ALICE, SDK, &sdk_id),
        ("the SDK", &mut sdk, SDK, ALICE, &alice_id),
    ] {
        peer.event("track-muted", 15, |e| e["identity"] == bruno_id.as_str());
        assert_silent(
            &format!("{who}, with {codec}, of Bruno muted"),
            &[BRUNO, own, other, PHONE],
            || peer.hear(3_500).remove(&bruno_id),
        );
        assert_hears(
            &format!("{who}, with {codec} and Bruno muted"),
            &[other],
            &[own, BRUNO],
            || from(peer.hear(3_500), other_id),
        );
    }
    bruno.call(json!({"do": "microphone", "enabled": true}));
    alice.event("track-unmuted", 15, |e| e["identity"] == bruno_id.as_str());

    // Leaving removes.
    sdk.call(json!({"do": "disconnect"}));
    alice.event("participant-disconnected", 15, |e| {
        e["identity"] == sdk_id.as_str()
    });
    assert_silenced(
        &format!("the telephone, with {codec}, after the SDK left"),
        &[ALICE, BRUNO],
        PHONE,
        SDK,
        &mut phone,
    );
    phone.call(json!({"do": "hangup"}));
    alice.event("participant-disconnected", 15, |e| {
        e["identity"] == phone_id.as_str()
    });
}

#[test]
fn browsers_an_sdk_and_a_telephone_of_opus() {
    one_room_three_doors("opus");
}

#[test]
fn browsers_an_sdk_and_a_telephone_of_pcma() {
    one_room_three_doors("pcma");
}

#[test]
fn browsers_an_sdk_and_a_telephone_of_g722() {
    one_room_three_doors("g722");
}

/// Two telephones that only speak `codec`, and a browser.
fn telephones_only(codec: &str) {
    if !isolated() {
        return;
    }
    let (Some(mut alice), Some(mut first), Some(mut second)) = (
        Peer::chromium("alice", Some(&tone_file(ALICE))),
        Peer::phone("first", codec, PHONE, HOST),
        Peer::phone("second", codec, SDK, HOST),
    ) else {
        return;
    };
    let mut program = start();
    program.claim();
    let room = program.create_room("Audience");
    let code = room["code"].as_str().expect("a code").to_owned();
    join(&mut program, &mut alice, &code, "Alice");
    alice.call(json!({"do": "publish", "audio": true}));
    by_number(&mut first, &code);
    // The second needs no menu: it dials the code itself.
    let answer = second.call(json!({"do": "dial", "uri": format!("sip:{code}@{HOST}")}));
    assert_eq!(answer["type"], "CALL_ESTABLISHED", "{answer}");
    participants(&mut alice, "two telephones", |all| all.len() == 2);
    alice.until("their tracks", 30, &json!({"do": "events"}), |events| {
        events.as_array().is_some_and(|all| {
            all.iter()
                .filter(|e| e["kind"] == "track-subscribed")
                .count()
                == 2
        })
    });
    for phone in [&mut first, &mut second] {
        told(phone);
    }
    assert_hears("the first telephone", &[ALICE, SDK], &[PHONE], || {
        first.hear_line(3_500)
    });
    assert_hears("the second telephone", &[ALICE, PHONE], &[SDK], || {
        second.hear_line(3_500)
    });
    let identities: Vec<String> = alice.hear(2_000).into_keys().collect();
    assert_eq!(identities.len(), 2, "one track a telephone: {identities:?}");
    let loud = |track: &Recording| {
        [PHONE, SDK]
            .into_iter()
            .find(|hz| track.last(1.0).tone(f64::from(*hz)) > PLAYED - LOST)
    };
    let mut voices = Vec::new();
    for identity in &identities {
        let voice = loud(&from(alice.hear(2_000), identity)).expect("a telephone's tone");
        let other = if voice == PHONE { SDK } else { PHONE };
        assert_hears("the browser", &[voice], &[other, ALICE], || {
            from(alice.hear(3_500), identity)
        });
        voices.push(voice);
    }
    voices.sort_unstable();
    assert_eq!(voices, [SDK, PHONE], "each telephone has its own track");
}

#[test]
fn telephones_that_only_speak_pcma() {
    telephones_only("pcma");
}

#[test]
fn telephones_that_only_speak_g722() {
    telephones_only("g722");
}

#[test]
fn ten_telephones_in_one_room() {
    if !isolated() {
        return;
    }
    let tones: [u32; 10] = [400, 520, 680, 830, 970, 1_130, 1_310, 1_490, 1_710, 1_930];
    let mut phones = Vec::new();
    for (number, hertz) in tones.iter().enumerate() {
        let codec = ["pcma", "g722", "pcmu", "opus"][number % 4];
        let Some(phone) =
            Peer::phone_at(&format!("phone {number}"), codec, *hertz, HOST, TEN_LEVEL)
        else {
            return;
        };
        phones.push(phone);
    }
    // Of nine sines at once Opus makes noise 30 dB below them at its 40 kbit/s: here mixing is looked at.
    let mut program = start_with(&[("PALABRE__MIXER__BITRATE", "128 kbit/s")]);
    program.claim();
    let room = program.create_room("Dix");
    let code = room["code"].as_str().expect("a code").to_owned();
    for phone in &mut phones {
        let answer = phone.call(json!({"do": "dial", "uri": format!("sip:{code}@{HOST}")}));
        assert_eq!(answer["type"], "CALL_ESTABLISHED", "{answer}");
    }
    for phone in &mut phones {
        told(phone);
    }
    for (number, phone) in phones.iter_mut().enumerate() {
        let wanted: Vec<u32> = tones
            .iter()
            .copied()
            .filter(|hz| *hz != tones[number])
            .collect();
        let who = format!("telephone {number}");
        assert_hears_at(TEN_LEVEL, &who, &wanted, &[tones[number]], || {
            phone.hear_line(3_500)
        });
    }
    let (_, rooms) = program.request("GET", "/api/v1/rooms", None);
    assert_eq!(rooms["rooms"][0]["participants"], 10, "{rooms}");
}

#[test]
fn a_browser_comes_back_after_the_program_is_killed() {
    if !isolated() {
        return;
    }
    let (Some(mut alice), Some(mut sdk)) = (
        Peer::chromium("alice", Some(&tone_file(ALICE))),
        Peer::sdk("sdk"),
    ) else {
        return;
    };
    let mut program = start();
    program.claim();
    let room = program.create_room("Durable");
    let code = room["code"].as_str().expect("a code").to_owned();
    let alice_id = join(&mut program, &mut alice, &code, "Alice");
    alice.call(json!({"do": "publish", "audio": true}));
    program.kill_and_restart();
    let (_, rooms) = program.request("GET", "/api/v1/rooms", None);
    assert_eq!(
        rooms["rooms"][0]["code"],
        code.as_str(),
        "the room and its code are there: {rooms}"
    );
    alice.event("reconnected", 60, |_| true);
    let sdk_id = join(&mut program, &mut sdk, &code, "SDK");
    sdk.call(json!({"do": "publish", "tone": SDK}));
    alice.event("track-subscribed", 30, audio_from(&sdk_id));
    sdk.event("track-subscribed", 30, audio_from(&alice_id));
    assert_hears("the SDK", &[ALICE], &[SDK], || {
        from(sdk.hear(3_500), &alice_id)
    });
    assert_hears("Alice", &[SDK], &[ALICE], || {
        from(alice.hear(3_500), &sdk_id)
    });
}

#[test]
fn an_unknown_code_is_said_on_the_page_and_on_the_telephone() {
    if !isolated() {
        return;
    }
    let Some(mut phone) = Peer::phone("phone", "pcma", PHONE, HOST) else {
        return;
    };
    let mut program = start();
    program.claim();
    let room = program.create_room("Cachée");
    let code = room["code"].as_str().expect("a code");
    let wrong = if code == "123456789" {
        "987654321"
    } else {
        "123456789"
    };
    let (status, answer) = program.request(
        "POST",
        "/api/v1/join",
        Some(&json!({"code": wrong, "name": "X"})),
    );
    assert_eq!(
        (status, &answer["code"]),
        (404, &json!("code_unknown")),
        "{answer}"
    );
    let answer = phone.call(json!({"do": "dial", "uri": format!("sip:reunion@{HOST}")}));
    assert_eq!(answer["type"], "CALL_ESTABLISHED", "{answer}");
    // What else was said is checked afterwards: on a busy machine that takes longer than the menu waits for the next code.
    let mut heard = phone.waits_for_prompt(0, "fr/welcome", 30);
    let mut answers = Vec::new();
    for said in [
        &["fr/wrong-code", "fr/try-again"][..],
        &["fr/wrong-code", "fr/try-again"],
        &["fr/wrong-code", "fr/too-many-tries", "fr/goodbye"],
    ] {
        phone.call(json!({"do": "digits", "keys": wrong}));
        let last = said.last().expect("something is said");
        let end = phone.waits_for_prompt(heard, last, 40);
        answers.push((heard..end, said));
        heard = end;
    }
    phone.call(json!({"do": "closed", "seconds": 60}));
    for (samples, said) in answers {
        phone.heard_prompts(samples, said);
    }
}

#[test]
fn what_a_first_start_prints_works_as_it_stands() {
    if !isolated() {
        return;
    }
    let (Some(mut alice), Some(mut phone)) = (
        Peer::chromium("alice", Some(&tone_file(ALICE))),
        Peer::phone("phone", "pcma", PHONE, HOST),
    ) else {
        return;
    };
    // No key is set: everything is on loopback, as `firmware/run` starts it.
    let mut program = Program::start(&[]);
    assert_eq!(program.url, "http://127.0.0.1:7880");
    program.claim();
    let room = program.create_room("Locale");
    let code = room["code"].as_str().expect("a code").to_owned();
    join(&mut program, &mut alice, &code, "Alice");
    alice.call(json!({"do": "publish", "audio": true}));
    let answer = phone.call(json!({"do": "dial", "uri": format!("sip:{code}@127.0.0.1")}));
    assert_eq!(answer["type"], "CALL_ESTABLISHED", "{answer}");
    let phone_id = phone_identity(&mut alice);
    alice.event("track-subscribed", 30, audio_from(&phone_id));
    told(&mut phone);
    assert_hears("the telephone", &[ALICE], &[PHONE], || {
        phone.hear_line(3_500)
    });
    assert_hears("the browser", &[PHONE], &[ALICE], || {
        from(alice.hear(3_500), &phone_id)
    });
}
