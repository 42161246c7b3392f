//! Data without a promise to arrive, and a microphone that is shut, between browsers and an SDK.

use std::time::Duration;

use palabre_tests::network::{HOST, isolated};
use palabre_tests::peer::{Peer, write_tone};
use palabre_tests::program::Program;
use palabre_tests::sound::{Dbfs, Recording};
use serde_json::{Value, json};

/// Hertz that Alice's microphone hears.
const TONE: u32 = 440;
/// A tone counts as heard above this: it is played at -12 dBFS.
const HEARD: Dbfs = -30.0;
/// And as silent below this.
const SILENT: Dbfs = -80.0;

fn start() -> (Program, String) {
    let media = format!("{HOST}:7880");
    let mut program = Program::start(&[
        ("PALABRE__MEDIA__BIND", media.as_str()),
        ("PALABRE__SIP__ENABLED", "false"),
    ]);
    program.claim();
    let room = program.create_room("Données");
    let code = room["code"].as_str().expect("a code").to_owned();
    (program, code)
}

fn join(program: &mut Program, peer: &mut Peer, code: &str, name: &str) -> String {
    let ticket = program.join(code, name);
    let url = &ticket["url"];
    let answer = peer.call(json!({"do": "connect", "url": url, "token": ticket["token"]}));
    answer["identity"].as_str().expect("an identity").to_owned()
}

fn text(event: &Value) -> &str {
    event["text"].as_str().unwrap_or_default()
}

/// Says `words` without a promise to arrive, until each of `hearers` has them: who has joined may not have its data channel
/// yet, and nothing of this kind waits for it.
fn say(speaker: &mut Peer, words: &str, hearers: &mut [&mut Peer]) {
    for _ in 0..30 {
        speaker.call(json!({"do": "send", "text": words, "reliable": false}));
        let second = Duration::from_secs(1);
        if hearers
            .iter_mut()
            .all(|hearer| hearer.comes("data", second, |e| text(e) == words))
        {
            return;
        }
    }
    panic!("\"{words}\", said thirty times, has not come to everybody");
}

#[test]
fn lossy_data_goes_to_all_or_to_one_between_browsers_and_an_sdk() {
    if !isolated() {
        return;
    }
    let (Some(mut alice), Some(mut bruno), Some(mut sdk)) = (
        Peer::chromium("alice", None),
        Peer::chromium("bruno", None),
        Peer::sdk("sdk"),
    ) else {
        return;
    };
    let (mut program, code) = start();
    let alice_id = join(&mut program, &mut alice, &code, "Alice");
    let bruno_id = join(&mut program, &mut bruno, &code, "Bruno");
    let sdk_id = join(&mut program, &mut sdk, &code, "SDK");

    say(&mut alice, "from alice", &mut [&mut bruno, &mut sdk]);
    bruno.event("data", 15, |e| {
        text(e) == "from alice" && e["identity"] == alice_id.as_str() && e["reliable"] == false
    });
    sdk.event("data", 15, |e| {
        text(e) == "from alice" && e["identity"] == alice_id.as_str() && e["reliable"] == false
    });
    sdk.call(json!({"do": "send", "text": "for bruno", "reliable": false, "to": [bruno_id]}));
    // The Rust SDK leaves the field empty that browsers read this kind from.
    bruno.event("data", 15, |e| {
        text(e) == "for bruno" && e["identity"] == sdk_id.as_str()
    });
    // What was sent after it has come, so it would have come too.
    say(&mut sdk, "for all", &mut [&mut alice]);
    assert!(alice.events().iter().all(|e| text(e) != "for bruno"));

    // On a network that loses nothing, a hundred in a row lose nothing.
    for number in 0..100 {
        let text = format!("number {number}");
        alice.call(json!({"do": "send", "text": text, "reliable": false}));
    }
    sdk.event("data", 15, |e| text(e) == "number 99");
    let numbers = |e: &&Value| text(e).starts_with("number ");
    assert_eq!(sdk.events().iter().filter(numbers).count(), 100);
    // And one that promises to arrive says so.
    bruno.call(json!({"do": "send", "text": "surely", "reliable": true}));
    alice.event("data", 15, |e| text(e) == "surely" && e["reliable"] == true);
}

#[test]
fn a_shut_microphone_is_silent_in_another_browser() {
    if !isolated() {
        return;
    }
    let file = std::env::temp_dir().join(format!("palabre-data-{}.wav", std::process::id()));
    write_tone(&file, TONE);
    let (Some(mut alice), Some(mut bruno)) = (
        Peer::chromium("alice", Some(&file)),
        Peer::chromium("bruno", None),
    ) else {
        return;
    };
    let (mut program, code) = start();
    let alice_id = join(&mut program, &mut alice, &code, "Alice");
    alice.call(json!({"do": "publish", "audio": true}));
    join(&mut program, &mut bruno, &code, "Bruno");
    bruno.event("track-subscribed", 30, |e| {
        e["identity"] == alice_id.as_str()
    });
    let hears = |bruno: &mut Peer| -> Recording {
        let mut heard = bruno.hear(4_000);
        let alice = heard.remove(&alice_id).expect("a track of Alice");
        alice.last(2.0)
    };
    let first = hears(&mut bruno).tone(f64::from(TONE));
    assert!(first > HEARD, "{first:.1} dBFS");

    alice.call(json!({"do": "microphone", "enabled": false}));
    bruno.event("track-muted", 15, |e| e["identity"] == alice_id.as_str());
    let shut = hears(&mut bruno);
    let left = shut.loudness();
    assert!(left < SILENT, "{left:.1} dBFS with the microphone shut");

    alice.call(json!({"do": "microphone", "enabled": true}));
    bruno.event("track-unmuted", 15, |e| e["identity"] == alice_id.as_str());
    let again = hears(&mut bruno).tone(f64::from(TONE));
    assert!(again > HEARD, "{again:.1} dBFS");
    std::fs::remove_file(&file).expect("the tone file is there");
}
