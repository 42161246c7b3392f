//! One endpoint against a hand-written peer: what each request gets, and when things are said again.

use std::time::Duration;

use super::super::event::*;
use super::super::limits::Limits;
use super::super::name::Name;
use super::super::sdp::{Codec, Direction};
use super::super::{Config, Message};
use super::harness::*;

fn methods(messages: &[Message]) -> Vec<&str> {
    messages
        .iter()
        .map(Message::method_name)
        .filter(|name| !name.is_empty())
        .collect()
}

fn ending(bench: &Bench) -> Option<Ending> {
    bench.events.iter().rev().find_map(|event| match event {
        Event::Ended { ending, .. } => Some(ending.clone()),
        _ => None,
    })
}

/// A call up to our 200; gives our tag.
fn accepted(bench: &mut Bench, extra: &str, body: &str) -> String {
    let replies = bench.send(&request(
        "INVITE",
        "",
        1,
        "a",
        &format!("{TYPE}{extra}"),
        body,
    ));
    assert_eq!(statuses(&replies), [100]);
    let dialog = bench.invited();
    bench
        .endpoint
        .accept(bench.now, dialog, local(5000))
        .unwrap();
    let replies = bench.drain();
    assert_eq!(statuses(&replies), [200]);
    our_tag(&replies[0])
}

/// A call up to the ACK.
fn standing(bench: &mut Bench) -> String {
    let tag = accepted(bench, "", SDP);
    assert!(bench.send(&request("ACK", &tag, 1, "b", "", "")).is_empty());
    assert!(matches!(bench.events.last(), Some(Event::Confirmed { .. })));
    tag
}

#[test]
fn a_call_comes_rings_and_is_ended_by_the_caller() {
    let mut bench = Bench::new(Config::default());
    bench.send(&request("INVITE", "", 1, "a", &format!("{TYPE}Record-Route: <sip:192.0.2.200;lr>\nP-Asserted-Identity: <sip:+331@x>\nPrivacy: id\n"), SDP));
    let Some(Event::Invite(invite)) = bench.events.last().cloned() else {
        panic!()
    };
    assert_eq!(invite.asserted.as_ref().unwrap().user, "+331");
    assert!(invite.anonymous);
    bench.endpoint.ring(bench.now, invite.dialog).unwrap();
    let media = bench
        .endpoint
        .accept(bench.now, invite.dialog, local(5000))
        .unwrap()
        .unwrap();
    assert_eq!(
        (media.codec, media.telephone_event.unwrap().payload_type),
        (Codec::Pcma, 101)
    );
    let replies = bench.drain();
    assert_eq!(statuses(&replies), [180, 200]);
    assert_eq!(replies[0].header(Name::To), replies[1].header(Name::To));
    for reply in &replies {
        assert_eq!(
            reply.header(Name::RecordRoute),
            Some("<sip:192.0.2.200;lr>")
        );
        let via = reply.header(Name::Via).unwrap();
        assert!(
            via.contains(";received=198.51.100.7") && via.contains(";rport=5062"),
            "{via}"
        );
    }
    assert!(
        bench
            .endpoint
            .accept(bench.now, invite.dialog, local(5000))
            .is_err()
    );
    let tag = our_tag(&replies[1]);
    bench.send(&request("ACK", &tag, 1, "b", "", ""));
    let bye = request("BYE", &tag, 2, "c", "", "");
    assert_eq!(statuses(&bench.send(&bye)), [200]);
    assert_eq!(ending(&bench), Some(Ending::Bye));
    assert_eq!(
        statuses(&bench.send(&bye)),
        [200],
        "a repeated BYE gets the same answer"
    );
    bench.wait(SECOND * 33);
    assert_eq!(bench.endpoint.entries(), 0);
    assert_eq!(statuses(&bench.send(&bye)), [481]);
}

#[test]
fn a_2xx_is_repeated_until_its_ack_then_the_call_is_ended() {
    let mut bench = Bench::new(Config::default());
    let tag = accepted(&mut bench, "", SDP);
    assert_eq!(statuses(&bench.wait(SECOND * 2)), [200, 200]);
    assert!(
        bench
            .send(&request("INVITE", "", 1, "a", TYPE, SDP))
            .is_empty(),
        "RFC 6026: absorbed"
    );
    let messages = bench.wait(SECOND * 31);
    assert_eq!(statuses(&messages).len(), 8);
    assert_eq!(methods(&messages)[0], "BYE");
    assert_eq!(ending(&bench), Some(Ending::NoAck));
    assert!(bench.send(&request("ACK", &tag, 1, "b", "", "")).is_empty());
    bench.wait(SECOND * 33);
    assert_eq!(bench.endpoint.entries(), 0);
    // With the ACK nothing is repeated.
    let mut bench = Bench::new(Config::default());
    standing(&mut bench);
    assert!(bench.wait(SECOND * 100).is_empty());
}

#[test]
fn hanging_up_before_the_ack_waits_for_it() {
    let mut bench = Bench::new(Config::default());
    let tag = accepted(&mut bench, "", SDP);
    bench.endpoint.hang_up(bench.now, bench.invited()).unwrap();
    assert!(methods(&bench.drain()).is_empty());
    assert_eq!(ending(&bench), Some(Ending::HungUp));
    let messages = bench.send(&request("ACK", &tag, 1, "b", "", ""));
    assert_eq!(methods(&messages), ["BYE"]);
    assert_eq!(messages[0].uri(), "sip:a@198.51.100.7:5062");
    assert_eq!(bench.endpoint.dialogs(), 0);
}

#[test]
fn cancel_gets_200_and_its_invite_487() {
    let mut bench = Bench::new(Config::default());
    bench.send(&request("INVITE", "", 1, "a", TYPE, SDP));
    let replies = bench.send(&request("CANCEL", "", 1, "a", "", ""));
    assert_eq!(statuses(&replies), [200, 487]);
    assert_eq!(replies[0].header(Name::To), replies[1].header(Name::To));
    assert_eq!(ending(&bench), Some(Ending::Cancelled));
    assert_eq!(statuses(&bench.wait(SECOND)), [487], "timer G");
    let tag = our_tag(&replies[1]);
    bench.send(&request("ACK", &tag, 1, "a", "", ""));
    assert!(bench.wait(SECOND * 5).is_empty());
    assert_eq!(bench.endpoint.entries(), 0);
    assert_eq!(
        statuses(&bench.send(&request("CANCEL", "", 1, "a", "", ""))),
        [481]
    );
}

#[test]
fn an_invite_without_offer_gets_ours_and_brings_the_answer_in_its_ack() {
    let mut bench = Bench::new(Config::default());
    bench.send(&request("INVITE", "", 1, "a", "", ""));
    let dialog = bench.invited();
    assert_eq!(
        bench
            .endpoint
            .accept(bench.now, dialog, local(5000))
            .unwrap(),
        None
    );
    let replies = bench.drain();
    let offer = String::from_utf8(replies[0].body().to_vec()).unwrap();
    assert!(offer.contains("m=audio 5000 RTP/AVP 111 9 8 0"), "{offer}");
    let tag = our_tag(&replies[0]);
    bench.send(&request("ACK", &tag, 1, "b", TYPE, SDP));
    let [.., Event::Media { media, .. }, Event::Confirmed { .. }] = &bench.events[..] else {
        panic!("{:?}", bench.events)
    };
    assert_eq!((media.codec, media.remote.port()), (Codec::Pcma, 7000));
    // Without an answer the call cannot stand.
    let mut bench = Bench::new(Config::default());
    bench.send(&request("INVITE", "", 1, "a", "", ""));
    bench
        .endpoint
        .accept(bench.now, bench.invited(), local(5000))
        .unwrap();
    let replies = bench.drain();
    let tag = our_tag(&replies[0]);
    assert_eq!(
        methods(&bench.send(&request("ACK", &tag, 1, "b", "", ""))),
        ["BYE"]
    );
    assert_eq!(ending(&bench), Some(Ending::NoMedia));
}

#[test]
fn hold_by_reinvite_and_update_is_answered_and_told() {
    let mut bench = Bench::new(Config::default());
    let tag = standing(&mut bench);
    let hold = format!("{SDP}a=sendonly\n");
    let replies = bench.send(&request("INVITE", &tag, 2, "c", TYPE, &hold));
    assert_eq!(statuses(&replies), [200]);
    assert!(String::from_utf8_lossy(replies[0].body()).contains("a=recvonly"));
    assert!(
        matches!(bench.events.last(), Some(Event::Media { media, .. }) if media.direction == Direction::RecvOnly)
    );
    assert_eq!(
        statuses(&bench.wait(SECOND)),
        [200],
        "repeated until its ACK"
    );
    bench.send(&request("ACK", &tag, 2, "d", "", ""));
    let replies = bench.send(&request("UPDATE", &tag, 3, "e", TYPE, SDP));
    assert_eq!(statuses(&replies), [200]);
    assert!(String::from_utf8_lossy(replies[0].body()).contains("a=sendrecv"));
    assert!(
        matches!(bench.events.last(), Some(Event::Media { media, .. }) if media.direction == Direction::SendRecv)
    );
    // What cannot be agreed on changes nothing.
    let count = bench.events.len();
    let bad = SDP.replace("RTP/AVP 8 101", "RTP/AVP 18");
    let replies = bench.send(&request("UPDATE", &tag, 4, "f", TYPE, &bad));
    assert_eq!(statuses(&replies), [488]);
    assert!(
        replies[0]
            .header(Name::Warning)
            .unwrap()
            .starts_with("305 ")
    );
    assert_eq!(bench.events.len(), count);
}

#[test]
fn keys_by_info_come_once() {
    let mut bench = Bench::new(Config::default());
    let tag = standing(&mut bench);
    let info = request(
        "INFO",
        &tag,
        2,
        "c",
        "Content-Type: application/dtmf-relay\n",
        "Signal=#\nDuration=100\n",
    );
    assert_eq!(statuses(&bench.send(&info)), [200]);
    assert_eq!(statuses(&bench.send(&info)), [200]);
    let digits: Vec<&Event> = bench
        .events
        .iter()
        .filter(|event| matches!(event, Event::Digit { .. }))
        .collect();
    assert!(matches!(
        digits[..],
        [Event::Digit {
            digit: '#',
            duration: 100,
            ..
        }]
    ));
    let replies = bench.send(&request(
        "INFO",
        &tag,
        3,
        "d",
        "Content-Type: text/plain\n",
        "x",
    ));
    assert_eq!(statuses(&replies), [415]);
    assert_eq!(
        replies[0].header(Name::Accept),
        Some("application/dtmf-relay, application/dtmf")
    );
}

#[test]
fn order_and_glare_inside_a_dialog() {
    let mut bench = Bench::new(Config::default());
    let tag = standing(&mut bench);
    assert_eq!(
        statuses(&bench.send(&request("INFO", &tag, 5, "c", "", ""))),
        [200]
    );
    let replies = bench.send(&request("INFO", &tag, 4, "d", "", ""));
    assert_eq!(statuses(&replies), [500]);
    assert!(replies[0].header(Name::RetryAfter).is_some());
    bench
        .endpoint
        .redirect(bench.now, bench.invited(), Direction::SendOnly)
        .unwrap();
    let ours = bench.drain();
    assert_eq!(methods(&ours), ["INVITE"]);
    assert_eq!(
        statuses(&bench.send(&request("INVITE", &tag, 6, "e", TYPE, SDP))),
        [491]
    );
    bench.send(&request("ACK", &tag, 6, "e", "", ""));
    // Ours is refused the same way: asked again within 2 s, since the peer made the Call-ID.
    let refused = ours[0].print();
    let heads = |name| {
        Message::parse(refused.clone())
            .unwrap()
            .header(name)
            .unwrap()
            .to_owned()
    };
    let reply = format!(
        "SIP/2.0 491 Request Pending\nVia: {}\nFrom: {}\nTo: {}\nCall-ID: call-1\nCSeq: 1 INVITE\nContent-Length: 0\n\n",
        heads(Name::Via),
        heads(Name::From),
        heads(Name::To)
    );
    assert_eq!(methods(&bench.send(&reply)), ["ACK"]);
    let messages = bench.wait(Duration::from_millis(2010));
    assert_eq!(methods(&messages)[0], "INVITE");
    assert_eq!(messages[0].header(Name::CSeq), Some("2 INVITE"));
    // The new one is answered 481: the call is lost.
    let ours = messages[0].clone();
    let reply = format!(
        "SIP/2.0 481 Gone\nVia: {}\nFrom: {}\nTo: {}\nCall-ID: call-1\nCSeq: 2 INVITE\nContent-Length: 0\n\n",
        ours.header(Name::Via).unwrap(),
        heads(Name::From),
        heads(Name::To)
    );
    assert_eq!(methods(&bench.send(&reply)), ["ACK", "BYE"]);
    assert_eq!(ending(&bench), Some(Ending::Lost));
}

#[test]
fn requests_of_unknown_dialogs_and_merged_ones_are_refused() {
    let mut bench = Bench::new(Config::default());
    for method in ["BYE", "INFO", "UPDATE", "INVITE"] {
        let replies = bench.send(&request(method, "nobody", 1, "x", "", ""));
        assert_eq!(statuses(&replies), [481], "{method}");
    }
    assert_eq!(
        statuses(&bench.send(&request("BYE", "", 1, "x", "", ""))),
        [481]
    );
    bench.send(&request("INVITE", "", 1, "a", TYPE, SDP));
    assert_eq!(
        statuses(&bench.send(&request("INVITE", "", 1, "other", TYPE, SDP))),
        [482]
    );
    assert_eq!(bench.endpoint.dialogs(), 1);
    // A tag of ours with another caller's tag is no dialog of ours either.
    let tag = {
        bench
            .endpoint
            .accept(bench.now, bench.invited(), local(1))
            .unwrap();
        our_tag(&bench.drain()[0])
    };
    let forged = request("BYE", &tag, 2, "y", "", "").replace("tag=ft", "tag=forged");
    assert_eq!(statuses(&bench.send(&forged)), [481]);
}

#[test]
fn ringing_ends_by_itself() {
    let mut bench = Bench::new(Config::default());
    bench.send(&request(
        "INVITE",
        "",
        1,
        "a",
        &format!("{TYPE}Expires: 20\n"),
        SDP,
    ));
    assert!(bench.wait(SECOND * 19).is_empty());
    assert_eq!(statuses(&bench.wait(Duration::from_millis(1100))), [480]);
    assert_eq!(ending(&bench), Some(Ending::Cancelled));
    let mut bench = Bench::new(Config::default());
    bench.send(&request("INVITE", "", 1, "a", TYPE, SDP));
    assert!(
        bench
            .endpoint
            .reject(bench.now, bench.invited(), 200)
            .is_err()
    );
    bench
        .endpoint
        .reject(bench.now, bench.invited(), 486)
        .unwrap();
    assert_eq!(statuses(&bench.drain()), [486]);
    assert_eq!(bench.endpoint.dialogs(), 0);
}

#[test]
fn session_timers_are_agreed_refused_and_enforced() {
    let mut bench = Bench::new(Config::default());
    let replies = bench.send(&request(
        "INVITE",
        "",
        1,
        "a",
        &format!("{TYPE}Supported: timer\nSession-Expires: 60\n"),
        SDP,
    ));
    assert_eq!(statuses(&replies), [422]);
    assert_eq!(replies[0].header(Name::MinSe), Some("90"));
    // The peer refreshes, and stops doing so.
    let tag = accepted(
        &mut bench,
        "Supported: timer\nSession-Expires: 120;refresher=uac\n",
        SDP,
    );
    bench.send(&request("ACK", &tag, 1, "b", "", ""));
    assert!(bench.wait(SECOND * 70).is_empty());
    let replies = bench.send(&request(
        "UPDATE",
        &tag,
        2,
        "c",
        "Supported: timer\nSession-Expires: 120;refresher=uac\n",
        "",
    ));
    assert_eq!(
        replies[0].header(Name::SessionExpires),
        Some("120;refresher=uac")
    );
    assert!(bench.wait(SECOND * 87).is_empty());
    assert_eq!(methods(&bench.wait(SECOND * 2))[0], "BYE");
    assert_eq!(ending(&bench), Some(Ending::Expired));
    // We refresh, when asked to.
    let mut bench = Bench::new(Config::default());
    let tag = accepted(
        &mut bench,
        "Supported: timer\nSession-Expires: 120;refresher=uas\n",
        SDP,
    );
    bench.send(&request("ACK", &tag, 1, "b", "", ""));
    let messages = bench.wait(SECOND * 61);
    assert_eq!(methods(&messages)[0], "INVITE");
    assert_eq!(
        messages[0].header(Name::SessionExpires),
        Some("120;refresher=uac")
    );
}

#[test]
fn full_tables_refuse_cheaply_and_still_let_calls_end() {
    let limits = Limits {
        transactions: 8,
        transactions_per_source: 4,
        dialogs: 5,
        dialogs_per_source: 3,
        ..Limits::default()
    };
    let mut bench = Bench::new(Config {
        limits,
        ..Config::default()
    });
    let invite = |number: usize| {
        request("INVITE", "", 1, &format!("n{number}"), TYPE, SDP)
            .replace("call-1", &format!("call-{number}"))
    };
    let mut tags = Vec::new();
    for number in 1..=3 {
        assert_eq!(statuses(&bench.send(&invite(number))), [100]);
        bench
            .endpoint
            .accept(bench.now, bench.invited(), local(5000))
            .unwrap();
        tags.push(our_tag(&bench.drain()[0]));
    }
    let replies = bench.send(&invite(4));
    assert_eq!(
        (statuses(&replies), replies[0].header(Name::RetryAfter)),
        (vec![503], Some("10"))
    );
    // Another source has its own share, up to the whole.
    for host in 1..=2 {
        bench.peer = address(&format!("203.0.113.{host}:5060"));
        assert_eq!(statuses(&bench.send(&invite(100 + host))), [100]);
    }
    bench.peer = address("203.0.113.77:5060");
    assert_eq!(statuses(&bench.send(&invite(200))), [503]);
    assert_eq!(bench.endpoint.dialogs(), 5);
    bench.peer = address("198.51.100.7:5062");
    for (number, tag) in tags.iter().enumerate() {
        let call = format!("call-{}", number + 1);
        bench.send(&request("ACK", tag, 1, &format!("k{number}"), "", "").replace("call-1", &call));
        let bye = request("BYE", tag, 2, &format!("b{number}"), "", "").replace("call-1", &call);
        assert_eq!(statuses(&bench.send(&bye)), [200]);
    }
    bench.wait(SECOND * 300);
    assert_eq!(bench.endpoint.entries(), 0);
}
