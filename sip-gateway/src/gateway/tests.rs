//! The gateway with the real SIP core, on a virtual clock: a phone made of text on one side, an engine made of answers on the other.

use std::time::Duration;

use palabre_engine::door::Refusal;
use palabre_engine::{LegEvent, RemovedReason};

use super::*;
use crate::call::Found;
use crate::metrics::Ended;
use crate::sip::{Codec, Direction, LocalMedia};

mod dialling;
mod ending;
mod media;

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
