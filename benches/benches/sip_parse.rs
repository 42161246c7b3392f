//! SIP: reading and writing one INVITE against a raw scan of its bytes, and whole calls between two endpoints.
//!
//! The limit for the parser is one `memchr` pass for line ends: no parser can do without having seen each byte once.
#![allow(clippy::print_stdout)] // a bench prints its table

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use palabre_benches::{Case, measure, table};
use palabre_sip::sip::verdict::{essentials, servable};
use palabre_sip::sip::{
    Config, Dial, Endpoint, Event, Flow, Input, Limits, LocalMedia, Message, Output, Protocol,
    Random,
};

/// Time between calls: the tables then hold what 2,000 calls a second leave in them.
const SPACING: Duration = Duration::from_micros(500);

/// What a telephone behind one proxy sends: 14 header fields and an offer of four codecs.
const INVITE: &str = "INVITE sip:+33123456789@192.0.2.1;user=phone SIP/2.0\r\n\
Via: SIP/2.0/UDP 198.51.100.20:5060;branch=z9hG4bK87a1c3f06be24d57;rport\r\n\
Via: SIP/2.0/UDP 10.20.30.40:5062;branch=z9hG4bK-524287-1---3bd0a9c1;received=203.0.113.9;rport=40021\r\n\
Record-Route: <sip:198.51.100.20;lr>\r\n\
Max-Forwards: 69\r\n\
From: \"Camille Martin\" <sip:+33987654321@trunk.example>;tag=a6f03c1d\r\n\
To: <sip:+33123456789@192.0.2.1;user=phone>\r\n\
Call-ID: 3848276298220188511@10.20.30.40\r\n\
CSeq: 1 INVITE\r\n\
Contact: <sip:+33987654321@203.0.113.9:40021;transport=udp>\r\n\
Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, NOTIFY, REFER\r\n\
Supported: replaces, outbound, timer\r\n\
P-Asserted-Identity: <sip:+33987654321@trunk.example>\r\n\
User-Agent: Telephone/5.2.1\r\n\
Content-Type: application/sdp\r\n\
Content-Length: 381\r\n\r\n\
v=0\r\no=- 3848276298 3848276298 IN IP4 203.0.113.9\r\ns=call\r\nc=IN IP4 203.0.113.9\r\nt=0 0\r\n\
m=audio 40100 RTP/AVP 96 9 8 0 101 102\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1;stereo=0\r\n\
a=rtpmap:9 G722/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n\
a=fmtp:101 0-16\r\na=rtpmap:102 telephone-event/48000\r\na=ptime:20\r\na=rtcp:40101\r\na=sendrecv\r\n";

fn main() {
    let bytes = Bytes::from_static(INVITE.as_bytes());
    let message = Message::parse(bytes.clone()).expect("a message");
    assert_eq!(message.fault(), None);
    let measured = measure(vec![
        Case::new("scan for line ends", || {
            memchr::memchr_iter(b'\n', black_box(&bytes)).count()
        }),
        Case::new("UTF-8 check", || {
            std::str::from_utf8(black_box(&bytes)).is_ok()
        }),
        Case::new("parse", || Message::parse(black_box(bytes.clone()))),
        Case::new("parse and judge", || {
            let message = Message::parse(black_box(bytes.clone())).expect("a message");
            let heads = essentials(&message).expect("all headers");
            servable(&message, &heads).is_ok()
        }),
        Case::new("print", || black_box(&message).print()),
    ]);
    println!(
        "{}",
        table(&format!("one INVITE of {} bytes", INVITE.len()), &measured)
    );
    for measurement in &measured {
        let rate = INVITE.len() as f64 / measurement.median * 1000.0;
        println!("  {:20} {rate:>8.0} MB/s", measurement.name);
    }
    let mut pair = Pair::new();
    pair.fill();
    let measured = measure(vec![Case::new(
        "call: INVITE 100 180 200 ACK BYE 200, both ends",
        || {
            pair.call();
        },
    )]);
    println!(
        "{}",
        table(
            "two endpoints in one thread, 2,000 calls/s kept in the tables",
            &measured
        )
    );
    for measurement in &measured {
        println!(
            "  {:.0} calls/s of CPU for both ends together",
            1e9 / measurement.median
        );
    }
}

/// A caller and a called endpoint, wired together.
struct Pair {
    now: Instant,
    ends: [Endpoint; 2],
    addresses: [SocketAddr; 2],
}

impl Pair {
    fn new() -> Pair {
        let limits = Limits {
            transactions: 1 << 20,
            transactions_per_source: 1 << 20,
            ..Limits::default()
        };
        let config = Config {
            limits,
            ..Config::default()
        };
        let end = |seed| Endpoint::new(config.clone(), Random::new([seed; 32]));
        Pair {
            now: Instant::now(),
            ends: [end(1), end(2)],
            addresses: ["192.0.2.1:5060", "192.0.2.2:5060"]
                .map(|text| text.parse().expect("an address")),
        }
    }

    /// Calls until those first made begin to be forgotten.
    fn fill(&mut self) {
        let calls = if palabre_benches::is_measuring() {
            70_000
        } else {
            10
        };
        for _ in 0..calls {
            self.call();
        }
    }

    fn local(&self, end: usize) -> LocalMedia {
        LocalMedia {
            rtp: SocketAddr::new(self.addresses[end].ip(), 40_000),
            rtcp_port: None,
        }
    }

    /// Carries datagrams until nobody has any.
    fn carry(&mut self, mut event: impl FnMut(usize, Event)) {
        loop {
            let mut idle = true;
            for end in 0..2 {
                while let Some(output) = self.ends[end].poll() {
                    idle = false;
                    match output {
                        Output::Datagram { from, to, bytes } => {
                            self.ends[1 - end].handle(
                                self.now,
                                Input::Datagram {
                                    from,
                                    to,
                                    bytes: &bytes,
                                },
                            );
                        }
                        Output::Event(what) => event(end, what),
                        _ => unreachable!("calls over UDP open no stream"),
                    }
                }
            }
            if idle {
                return;
            }
        }
    }

    fn call(&mut self) {
        self.now += SPACING;
        let dial = Dial {
            uri: "sip:123456789@192.0.2.2".into(),
            from: "sip:+33987654321@192.0.2.1".into(),
            name: None,
            flow: Flow {
                protocol: Protocol::Udp,
                local: self.addresses[0],
                remote: self.addresses[1],
                connection: None,
            },
        };
        let local = self.local(0);
        let caller = self.ends[0]
            .dial(self.now, &dial, local)
            .expect("room for a call");
        let mut called = None;
        self.carry(|_, event| {
            if let Event::Invite(invite) = event {
                called = Some(invite.dialog);
            }
        });
        let called = called.expect("the call arrived");
        let local = self.local(1);
        self.ends[1].ring(self.now, called).expect("a ringing call");
        self.ends[1]
            .accept(self.now, called, local)
            .expect("a call to answer");
        self.carry(|_, _| ());
        self.ends[0]
            .hang_up(self.now, caller)
            .expect("a standing call");
        self.carry(|_, _| ());
        assert_eq!(self.ends[1].dialogs(), 0);
    }
}
