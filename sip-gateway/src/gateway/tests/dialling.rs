//! What a dialled number is, and who is refused before being heard.

use super::*;

#[test]
fn a_dialled_code_is_read_with_its_separators_and_enters_at_once() {
    for user in ["123456789", "123-456-789", "123.456.789", "123%20456%20789"] {
        let mut world = World::new(SipConfig::default());
        let phone = world.dials(user);
        assert!(
            phone.answer.starts_with("SIP/2.0 200"),
            "{user}: {}",
            phone.answer
        );
        assert_eq!(world.codes, ["123456789"]);
        assert_eq!(world.gateway.metrics.in_rooms_now(), 1, "{user}");
    }
}

#[test]
fn our_own_number_is_no_code() {
    let config = SipConfig {
        numbers: vec!["123 456 789".into()],
        ..SipConfig::default()
    };
    let mut world = World::new(config);
    let phone = world.dials("123456789");
    assert!(phone.answer.starts_with("SIP/2.0 200"));
    assert!(world.codes.is_empty());
    assert_eq!(world.gateway.metrics.in_rooms_now(), 0, "it hears the menu");
}

#[test]
fn a_wrong_dialled_code_rings_for_the_doors_wait_is_told_and_refused() {
    let mut world = World::new(SipConfig::default());
    world.door = Err(Refusal::Unknown {
        wait: Duration::from_secs(4),
    });
    let mut phone = world.dials("987654321");
    assert_eq!(world.statuses(), ["100 Trying", "180 Ringing"]);
    world.passes(Duration::from_millis(3_900));
    assert_eq!(world.statuses(), Vec::<String>::new());
    world.passes(Duration::from_millis(200));
    assert_eq!(world.statuses(), ["183 Session Progress"]);
    let played = |output: &&Output| matches!(output, Output::Play(..));
    assert_eq!(world.asked.iter().filter(played).count(), 1);
    // Nobody says that the sounds ended: each ends by itself two seconds late.
    world.passes(Duration::from_secs(20));
    world.settle(&mut phone);
    // Again and again until it is acknowledged.
    let statuses = world.statuses();
    let refused = |status: &String| status == "404 Not Found";
    assert!(
        !statuses.is_empty() && statuses.iter().all(refused),
        "{statuses:?}"
    );
    assert_eq!(world.ended(Ended::UnknownCode), 1);
}

#[test]
fn few_are_told_at_once_from_one_source_and_none_who_offers_no_media() {
    let mut world = World::new(SipConfig::default());
    world.door = Err(Refusal::Unknown {
        wait: Duration::ZERO,
    });
    let phone = world.dials_with("987654321", "");
    assert!(phone.answer.starts_with("SIP/2.0 404"), "{}", phone.answer);
    let elsewhere = OFFER.replace("c=IN IP4 192.0.2.9", "c=IN IP4 192.0.2.77");
    let phone = world.dials_with("987654321", &elsewhere);
    assert!(phone.answer.starts_with("SIP/2.0 404"), "{}", phone.answer);
    assert!(
        !world
            .asked
            .iter()
            .any(|o| matches!(o, Output::OpenLine(..)))
    );
    let told: Vec<Phone> = (0..5).map(|_| world.dials("987654321")).collect();
    let refused = |phone: &&Phone| phone.answer.starts_with("SIP/2.0 404");
    assert_eq!(told.iter().filter(refused).count(), 5 - TOLD_AT_ONCE);
    let opened = |output: &&Output| matches!(output, Output::OpenLine(..));
    assert_eq!(world.asked.iter().filter(opened).count(), TOLD_AT_ONCE);
    // When these have heard it, others may.
    world.passes(Duration::from_secs(20));
    world.dials("987654321");
    assert_eq!(world.asked.iter().filter(opened).count(), TOLD_AT_ONCE + 1);
}

#[test]
fn a_full_room_is_busy_and_a_box_without_ports_unavailable() {
    let mut world = World::new(SipConfig::default());
    world.door = ticket(true);
    let mut phone = world.dials("123456789");
    let told = world.received.last().cloned().unwrap();
    assert!(told.starts_with("SIP/2.0 183 Session Progress"), "{told}");
    assert!(told.contains("m=audio 20000 RTP/AVP 8 101"), "{told}");
    let opened = |output: &Output| matches!(output, Output::OpenLine(..));
    assert!(world.asked.iter().any(opened));
    // Nobody says that the sounds ended: each ends by itself two seconds late.
    world.passes(Duration::from_secs(20));
    world.settle(&mut phone);
    assert!(phone.answer.starts_with("SIP/2.0 486"), "{}", phone.answer);
    assert!(matches!(world.asked.last(), Some(Output::Close(_))));
    // Who offers no media gets the refusal at once.
    let phone = world.dials_with("123456789", "");
    assert!(phone.answer.starts_with("SIP/2.0 486"), "{}", phone.answer);
    assert_eq!(world.ended(Ended::RoomFull), 2);
    world.ports = false;
    let phone = world.dials("reunion");
    assert!(phone.answer.starts_with("SIP/2.0 503"), "{}", phone.answer);
    assert_eq!(world.ended(Ended::NoPort), 1);
}

#[test]
fn above_the_limits_the_answer_is_503() {
    let config = SipConfig {
        calls: 3,
        calls_per_source: 2,
        ..SipConfig::default()
    };
    let mut world = World::new(config);
    let first = world.dials("reunion");
    let mut second = world.dials("reunion");
    let third = world.dials("reunion");
    assert!(first.answer.starts_with("SIP/2.0 200"));
    assert!(third.answer.starts_with("SIP/2.0 503"), "{}", third.answer);
    let bye = second.next("BYE", "");
    world.sends(&bye);
    let again = world.dials("reunion");
    assert!(again.answer.starts_with("SIP/2.0 200"), "{}", again.answer);
}

#[test]
fn who_never_acknowledges_gets_no_sound_and_is_forgotten() {
    let mut world = World::new(SipConfig::default());
    let phone = Phone {
        user: "reunion".into(),
        call: "forged".into(),
        tag: "forged".into(),
        cseq: 1,
        to: String::new(),
        answer: String::new(),
        id: None,
    };
    world.sends(&phone.request("INVITE", 1, OFFER));
    world.passes(Duration::from_secs(70));
    assert!(
        world
            .statuses()
            .iter()
            .filter(|line| *line == "200 OK")
            .count()
            > 5
    );
    let opened = |output: &Output| matches!(output, Output::OpenLine(..) | Output::Play(..));
    assert!(!world.asked.iter().any(opened));
    assert_eq!(world.gateway.metrics.calls_now(), 0);
}

#[test]
fn cancel_while_it_rings_ends_the_call() {
    let mut world = World::new(SipConfig::default());
    world.door = Err(Refusal::Slowed {
        wait: Duration::from_secs(20),
    });
    let phone = world.dials("123456789");
    let cancel = phone.request("CANCEL", 1, "");
    world.sends(&cancel);
    let statuses = world.statuses();
    assert!(
        statuses.contains(&"487 Request Terminated".to_owned()),
        "{statuses:?}"
    );
    assert_eq!(world.ended(Ended::Cancelled), 1);
    world.passes(Duration::from_secs(60));
    assert!(world.gateway.is_quiet());
}

#[test]
fn the_phones_language_is_spoken_when_it_says_one() {
    for (accept, language) in [
        (None, Language::French),
        (Some("de, en-GB;q=0.8, fr;q=0.5"), Language::English),
        (Some("FR"), Language::French),
        (Some("de"), Language::French),
        (Some(";;,,-"), Language::French),
    ] {
        assert_eq!(spoken(accept, Language::French), language, "{accept:?}");
    }
}
