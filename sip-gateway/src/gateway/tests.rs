//! The gateway with the real SIP core, on a virtual clock: a phone made of text on one side, an engine made of answers on the other.

use std::time::Duration;

use palabre_engine::door::Refusal;
use palabre_engine::{LegEvent, RemovedReason};

use super::*;
use crate::call::Found;
use crate::metrics::Ended;
use crate::sip::{Codec, Direction, LocalMedia};

const PHONE: &str = "192.0.2.9:5060";
const BOX: &str = "192.0.2.1:5060";

const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n\
    m=audio 4000 RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n";

struct World {
    now: Instant,
    gateway: Gateway,
    /// SIP messages the phone got.
    received: Vec<String>,
    /// Everything else the gateway asked for.
    asked: Vec<Output>,
    /// What the door answers to every code.
    door: Result<Found, Refusal>,
    /// Codes it was asked for.
    codes: Vec<String>,
    ports: bool,
    random: Random,
}

fn ticket(full: bool) -> Result<Found, Refusal> {
    Ok(Found {
        ticket: RoomTicket {
            room: "room".into(),
            title: "Budget".into(),
            code: RoomCode::parse("123456789").unwrap(),
            max_participants: Some(2),
        },
        full,
    })
}

impl World {
    fn new(config: SipConfig) -> Self {
        let prompts = Arc::new(Prompts::shipped());
        Self {
            now: Instant::now(),
            gateway: Gateway::new(config, prompts, [7; 32], Metrics::default()),
            received: Vec::new(),
            asked: Vec::new(),
            door: ticket(false),
            codes: Vec::new(),
            ports: true,
            random: Random::new([9; 32]),
        }
    }

    fn sends(&mut self, text: &str) {
        let input = sip::Input::Datagram {
            from: PHONE.parse().unwrap(),
            to: BOX.parse().unwrap(),
            bytes: text.as_bytes(),
        };
        self.gateway.handle(self.now, Input::Sip(input));
        self.serve();
    }

    /// The engine's side: grants what is asked at once.
    fn serve(&mut self) {
        while let Some(output) = self.gateway.poll() {
            let answer = match &output {
                Output::Sip(sip::Output::Datagram { bytes, .. }) => {
                    let text = String::from_utf8(bytes.to_vec()).unwrap();
                    self.received.push(text);
                    continue;
                }
                Output::Bind(call, address) => {
                    let local = LocalMedia {
                        rtp: (*address, 20_000).into(),
                        rtcp_port: Some(20_001),
                    };
                    let local = self.ports.then_some(local);
                    Some((*call, call::Input::Bound(local)))
                }
                Output::OpenLine(call, _) => Some((*call, call::Input::LineOpened(true))),
                Output::LookUp(call, _, code) => {
                    self.codes.push(code.clone());
                    Some((*call, call::Input::LookedUp(self.door.clone())))
                }
                Output::Join(call, _) => Some((*call, call::Input::Joined(Ok(())))),
                _ => None,
            };
            self.asked.push(output);
            if let Some((call, input)) = answer {
                self.gateway.handle(self.now, Input::Call(call, input));
            }
        }
    }

    fn passes(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.gateway.deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.gateway.handle(self.now, Input::Timeout);
            self.serve();
        }
        self.now = end;
    }

    fn statuses(&mut self) -> Vec<String> {
        let lines = std::mem::take(&mut self.received);
        let first = |text: &String| {
            let line = text.lines().next().unwrap_or_default();
            line.trim_start_matches("SIP/2.0 ").to_owned()
        };
        lines.iter().map(first).collect()
    }

    fn line(&mut self, call: &Phone, event: LegEvent) {
        let input = Input::Call(
            call.id.expect("the call has a line"),
            call::Input::Line(event),
        );
        self.gateway.handle(self.now, input);
        self.serve();
    }

    /// Calls, with its answer acknowledged if there is one.
    fn dials(&mut self, user: &str) -> Phone {
        self.dials_with(user, OFFER)
    }

    fn dials_with(&mut self, user: &str, offer: &str) -> Phone {
        let mut phone = Phone {
            user: user.into(),
            call: self.random.token(),
            tag: self.random.token(),
            cseq: 1,
            to: String::new(),
            answer: String::new(),
            id: None,
        };
        self.sends(&phone.request("INVITE", 1, offer));
        self.settle(&mut phone);
        phone
    }

    /// Reads a final answer to the INVITE, and sends its ACK.
    fn settle(&mut self, phone: &mut Phone) {
        let ours = [
            format!("Call-ID: {}", phone.call),
            format!("CSeq: {} INVITE", phone.cseq),
        ];
        let answer = self.received.iter().find(|text| {
            let last = text.starts_with("SIP/2.0 ") && !text.starts_with("SIP/2.0 1");
            last && ours.iter().all(|line| text.contains(line))
        });
        let Some(answer) = answer.cloned() else {
            return;
        };
        let to = answer.lines().find(|line| line.starts_with("To:")).unwrap();
        phone.to = to.trim_start_matches("To:").trim().to_owned();
        phone.answer = answer.clone();
        let ack = phone.request("ACK", phone.cseq, "");
        self.sends(&ack);
        phone.id = self.asked.iter().rev().find_map(|output| match output {
            Output::OpenLine(id, _) => Some(*id),
            _ => None,
        });
    }

    fn ended(&self, ended: Ended) -> u64 {
        self.gateway.metrics.calls(ended)
    }
}

struct Phone {
    user: String,
    call: String,
    tag: String,
    cseq: u32,
    to: String,
    answer: String,
    id: Option<DialogId>,
}

impl Phone {
    fn request(&self, method: &str, cseq: u32, body: &str) -> String {
        let Self {
            user, call, tag, ..
        } = self;
        let to = if self.to.is_empty() {
            format!("<sip:{user}@192.0.2.1>")
        } else {
            self.to.clone()
        };
        // The ACK of a refusal is of the INVITE's transaction, every other request has its own.
        let accepted = self.answer.starts_with("SIP/2.0 2");
        let branch = match method {
            "ACK" if !accepted => format!("{call}INVITE{cseq}"),
            "CANCEL" => format!("{call}INVITE{cseq}"),
            _ => format!("{call}{method}{cseq}"),
        };
        let kind = match method {
            "INFO" => "application/dtmf-relay",
            _ => "application/sdp",
        };
        let kind = if body.is_empty() {
            String::new()
        } else {
            format!("Content-Type: {kind}\r\n")
        };
        format!(
            "{method} sip:{user}@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP {PHONE};branch=z9hG4bK{branch}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:0612345642@192.0.2.9>;tag={tag}\r\nTo: {to}\r\nCall-ID: {call}\r\n\
             CSeq: {cseq} {method}\r\nContact: <sip:phone@{PHONE}>\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    fn next(&mut self, method: &str, body: &str) -> String {
        self.cseq += 1;
        self.request(method, self.cseq, body)
    }
}

fn key(digit: char) -> String {
    format!("Signal={digit}\r\nDuration=160\r\n")
}

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
fn a_wrong_dialled_code_rings_for_the_doors_wait_and_is_refused() {
    let mut world = World::new(SipConfig::default());
    world.door = Err(Refusal::Unknown {
        wait: Duration::from_secs(4),
    });
    let mut phone = world.dials("987654321");
    assert_eq!(world.statuses(), ["100 Trying", "180 Ringing"]);
    world.passes(Duration::from_millis(3_900));
    assert_eq!(world.statuses(), Vec::<String>::new());
    world.passes(Duration::from_millis(200));
    world.settle(&mut phone);
    assert_eq!(world.statuses(), ["404 Not Found"]);
    assert_eq!(world.ended(Ended::UnknownCode), 1);
}

#[test]
fn a_full_room_is_busy_and_a_box_without_ports_unavailable() {
    let mut world = World::new(SipConfig::default());
    world.door = ticket(true);
    let phone = world.dials("123456789");
    assert!(phone.answer.starts_with("SIP/2.0 486"), "{}", phone.answer);
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
