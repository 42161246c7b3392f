//! How calls end, and that nothing of them stays.

use super::*;

#[test]
fn removal_and_lost_media_end_in_a_bye() {
    let mut world = World::new(SipConfig::default());
    let phone = world.dials("123456789");
    world.statuses();
    world.line(&phone, LegEvent::MediaTimeout);
    let statuses = world.statuses();
    assert!(statuses[0].starts_with("BYE sip:phone@"), "{statuses:?}");
    assert_eq!(world.ended(Ended::MediaTimeout), 1);

    let phone = world.dials("123456789");
    world.statuses();
    world.line(&phone, LegEvent::Removed(RemovedReason::Removed));
    assert!(world.statuses().is_empty(), "it is told why first");
    // Nobody says that the sounds ended: each ends by itself two seconds late.
    world.passes(Duration::from_secs(20));
    assert!(world.statuses().iter().any(|line| line.starts_with("BYE ")));
    assert_eq!(world.ended(Ended::Removed), 1);
}

#[test]
fn a_call_given_up_for_a_bug_says_goodbye_and_leaves_nothing() {
    let mut world = World::new(SipConfig::default());
    let joined = world.dials("123456789");
    let other = world.dials("123456789");
    assert_eq!(world.gateway.metrics.in_rooms_now(), 2);
    world.statuses();
    // A bug met while its line's event was handled: `at` says whose.
    world.line(&joined, LegEvent::Digit('5'));
    world.gateway.recover(world.now);
    world.serve();
    let statuses = world.statuses();
    assert!(statuses[0].starts_with("BYE sip:phone@"), "{statuses:?}");
    let id = joined.id.unwrap();
    let closed = |output: &Output| matches!(output, Output::Close(call) if *call == id);
    assert!(world.asked.iter().any(closed));
    assert_eq!(world.gateway.metrics.in_rooms_now(), 1, "the other stays");
    assert_eq!(world.gateway.metrics.calls_now(), 1);
    assert_eq!(world.ended(Ended::Failed), 1);

    // What comes late for it finds nobody, and a second recovery has nothing to end.
    world.line(&joined, LegEvent::MediaTimeout);
    world.gateway.recover(world.now);
    world.gateway.abandon(world.now, id);
    assert_eq!(world.ended(Ended::Failed), 1);
    world.line(&other, LegEvent::MediaTimeout);
    assert_eq!(world.ended(Ended::MediaTimeout), 1);
}

#[test]
fn a_stopping_box_says_goodbye_to_all_and_takes_nobody() {
    let mut world = World::new(SipConfig::default());
    for user in ["reunion", "123456789", "reunion"] {
        world.dials(user);
    }
    world.door = Err(Refusal::Unknown {
        wait: Duration::from_secs(20),
    });
    world.dials("111111111");
    world.statuses();
    world.gateway.shut_down(world.now);
    world.serve();
    let statuses = world.statuses();
    assert_eq!(
        statuses
            .iter()
            .filter(|line| line.starts_with("BYE "))
            .count(),
        3,
        "{statuses:?}"
    );
    assert!(
        statuses.contains(&"503 Service Unavailable".to_owned()),
        "{statuses:?}"
    );
    let late = world.dials("reunion");
    assert!(late.answer.starts_with("SIP/2.0 503"), "{}", late.answer);
    assert_eq!(world.ended(Ended::Dismissed), 4);
    assert_eq!(world.gateway.metrics.calls_now(), 0);
}

#[test]
fn an_answer_that_comes_after_the_caller_left_is_forgotten() {
    let mut world = World::new(SipConfig::default());
    let mut phone = world.dials("reunion");
    let id = phone.id.unwrap();
    let bye = phone.next("BYE", "");
    world.sends(&bye);
    world.asked.clear();
    for input in [
        call::Input::LookedUp(ticket(false)),
        call::Input::Joined(Ok(())),
        call::Input::Line(LegEvent::Digit('1')),
    ] {
        world.gateway.handle(world.now, Input::Call(id, input));
        world.serve();
    }
    assert!(world.asked.is_empty());
    world
        .gateway
        .handle(world.now, Input::Call(id, call::Input::LineOpened(true)));
    world.serve();
    assert!(
        matches!(world.asked[..], [Output::Close(_)]),
        "a line opened too late is closed"
    );
}

#[test]
fn a_thousand_calls_leave_nothing_behind() {
    let config = SipConfig {
        calls: 5_000,
        calls_per_source: 5_000,
        ..SipConfig::default()
    };
    let mut world = World::new(config);
    for turn in 0..1_000 {
        let mut phone = world.dials(if turn % 2 == 0 {
            "reunion"
        } else {
            "123456789"
        });
        let bye = phone.next("BYE", "");
        world.sends(&bye);
        world.received.clear();
        world.asked.clear();
        world.passes(Duration::from_millis(20));
    }
    world.passes(Duration::from_secs(120));
    assert!(world.gateway.is_quiet());
    assert_eq!(world.gateway.calls.len(), 0);
    assert_eq!(world.gateway.deadlines.len(), 0);
    assert_eq!(world.gateway.endpoint.transactions(), 0);
    assert_eq!(world.ended(Ended::Joined), 500);
    assert_eq!(world.ended(Ended::Abandoned), 500);
}

/// Changes a text in one to four places.
fn mutate(random: &mut Random, text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len() as u64 + 1) as usize;
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.draw() as u8),
            2 => {
                let end = (at + 40).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            3 => {
                let end = (at + random.below(40) as usize).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random.draw() as u8;
                }
            }
        }
    }
    bytes
}

/// Twenty thousand spoiled messages of real calls, mixed with whole ones: nothing panics, every call ends, nothing stays.
#[test]
fn spoiled_messages_leave_nothing_behind() {
    let config = SipConfig {
        calls: 100,
        calls_per_source: 100,
        ..SipConfig::default()
    };
    let mut world = World::new(config);
    let mut random = Random::new([3; 32]);
    for turn in 0..4_000 {
        let user = ["reunion", "123456789"][turn % 2];
        let mut phone = world.dials(user);
        let hold = OFFER.replace("sendrecv", "sendonly");
        let messages = [
            phone.next("INFO", &key('1')),
            phone.next("INVITE", &hold),
            phone.next("UPDATE", &hold),
            phone.next("BYE", ""),
            phone.request("CANCEL", 1, ""),
        ];
        for message in &messages {
            let spoiled = mutate(&mut random, message);
            let input = sip::Input::Datagram {
                from: PHONE.parse().unwrap(),
                to: BOX.parse().unwrap(),
                bytes: &spoiled,
            };
            world.gateway.handle(world.now, Input::Sip(input));
            world.serve();
        }
        if random.below(2) == 0 {
            let bye = phone.next("BYE", "");
            world.sends(&bye);
        }
        world.received.clear();
        world.asked.clear();
        world.passes(Duration::from_millis(random.below(2_000)));
        assert!(world.gateway.calls.len() <= 100);
    }
    world.gateway.shut_down(world.now);
    world.serve();
    world.passes(Duration::from_secs(300));
    assert!(world.gateway.is_quiet());
    assert_eq!(world.gateway.deadlines.len(), 0);
    assert_eq!(world.gateway.endpoint.transactions(), 0);
    let metrics = &world.gateway.metrics;
    let ended: u64 = Ended::ALL.iter().map(|ended| metrics.calls(*ended)).sum();
    let invites = metrics.samples()[0].value;
    assert_eq!(ended, invites, "every call is counted once");
}
