//! A whole call, and what becomes of its media.

use super::*;

#[test]
fn a_call_to_the_menu_a_code_by_info_a_room_and_goodbye() {
    let mut world = World::new(SipConfig::default());
    let mut phone = world.dials("reunion");
    let statuses = world.statuses();
    assert_eq!(
        statuses.last().map(String::as_str),
        Some("200 OK"),
        "{statuses:?}"
    );
    assert!(
        phone.answer.contains("m=audio 20000 RTP/AVP 8 101"),
        "{}",
        phone.answer
    );
    for digit in "123456789".chars() {
        world.passes(Duration::from_millis(300));
        let info = phone.next("INFO", &key(digit));
        world.sends(&info);
        assert_eq!(world.statuses(), ["200 OK"]);
    }
    assert_eq!(world.codes, ["123456789"]);
    assert!(
        world
            .asked
            .iter()
            .any(|output| matches!(output, Output::Join(..)))
    );
    assert_eq!(world.gateway.metrics.in_rooms_now(), 1);
    let bye = phone.next("BYE", "");
    world.sends(&bye);
    assert_eq!(world.statuses(), ["200 OK"]);
    assert!(matches!(world.asked.last(), Some(Output::Close(_))));
    assert_eq!(world.ended(Ended::Joined), 1);
    assert_eq!(
        (
            world.gateway.metrics.calls_now(),
            world.gateway.metrics.in_rooms_now()
        ),
        (0, 0)
    );
    assert_eq!(world.gateway.deadlines.len(), 0);
}

#[test]
fn hold_and_resume_reach_the_line() {
    let mut world = World::new(SipConfig::default());
    let mut phone = world.dials("123456789");
    for (asked, answered, ours) in [
        ("sendonly", "recvonly", Direction::RecvOnly),
        ("inactive", "inactive", Direction::Inactive),
        ("sendrecv", "sendrecv", Direction::SendRecv),
    ] {
        world.statuses();
        world.asked.clear();
        let offer = OFFER
            .replace("sendrecv", asked)
            .replace("- 1 1 IN", &format!("- 1 {} IN", phone.cseq + 1));
        let invite = phone.next("INVITE", &offer);
        world.sends(&invite);
        world.settle(&mut phone);
        assert!(
            phone.answer.contains(&format!("a={answered}")),
            "{asked}: {}",
            phone.answer
        );
        let updated = world.asked.iter().find_map(|output| match output {
            Output::UpdateLine(_, media) => Some(media.direction),
            _ => None,
        });
        assert_eq!(updated, Some(ours), "{asked}");
    }
}

#[test]
fn an_offerless_invite_gets_our_offer_and_its_line_with_the_ack() {
    let mut world = World::new(SipConfig::default());
    let mut phone = world.dials_with("reunion", "");
    assert!(phone.answer.contains("m=audio 20000"), "{}", phone.answer);
    // The ACK of `dials` carried no answer: that is the end of this call, so another one does it right.
    let bye_or_end = world
        .asked
        .iter()
        .any(|output| matches!(output, Output::OpenLine(..)));
    assert!(!bye_or_end);
    phone.call = world.random.token();
    phone.to.clear();
    phone.cseq = 1;
    world.received.clear();
    world.sends(&phone.request("INVITE", 1, ""));
    let answer = world
        .received
        .iter()
        .find(|text| text.starts_with("SIP/2.0 200"))
        .unwrap()
        .clone();
    let to = answer.lines().find(|line| line.starts_with("To:")).unwrap();
    phone.to = to.trim_start_matches("To:").trim().to_owned();
    phone.answer = answer;
    let ack = phone.request("ACK", 1, OFFER);
    world.sends(&ack);
    let opened = world.asked.iter().find_map(|output| match output {
        Output::OpenLine(_, media) => Some(media.codec),
        _ => None,
    });
    assert_eq!(opened, Some(Codec::Pcma));
}

#[test]
fn the_advertised_address_is_what_phones_see() {
    let config = SipConfig {
        advertise: Some("198.51.100.7".parse().unwrap()),
        ..SipConfig::default()
    };
    let mut world = World::new(config);
    let phone = world.dials("reunion");
    assert!(
        phone.answer.contains("c=IN IP4 198.51.100.7"),
        "{}",
        phone.answer
    );
    assert!(
        phone
            .answer
            .lines()
            .any(|l| l.starts_with("Contact:") && l.contains("198.51.100.7"))
    );
    assert!(!phone.answer.contains("192.0.2.1:"), "{}", phone.answer);
}
