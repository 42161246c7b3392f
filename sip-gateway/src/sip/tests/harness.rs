//! A network of two endpoints under a virtual clock, and a bare peer that sends text.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::event::*;
use super::super::name::Name;
use super::super::sdp::LocalMedia;
use super::super::{Config, Endpoint, Message, Random};

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn statuses(messages: &[Message]) -> Vec<u16> {
    messages.iter().filter_map(Message::status).collect()
}

/// The tag of the answering side.
pub(super) fn our_tag(reply: &Message) -> String {
    let to = reply.header(Name::To).unwrap();
    to.rsplit_once("tag=").unwrap().1.to_owned()
}

pub(super) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(super) fn local(port: u16) -> LocalMedia {
    LocalMedia {
        rtp: SocketAddr::new("192.0.2.1".parse().unwrap(), port),
        rtcp_port: None,
    }
}

/// One endpoint and what it put out.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) endpoint: Endpoint,
    pub(super) address: SocketAddr,
    pub(super) events: Vec<Event>,
}

enum Parcel {
    Datagram(Bytes),
    Stream(ConnectionId, Bytes),
    Connected(ConnectionId),
    Closed(ConnectionId),
}

/// Two endpoints, `nodes[0]` and `nodes[1]`, and the wire between them.
pub(super) struct Net {
    pub(super) now: Instant,
    pub(super) nodes: [Node; 2],
    parcels: BTreeMap<(Instant, u64), (usize, Parcel)>,
    count: u64,
    random: Random,
    /// Datagrams lost, of 100.
    pub(super) loss: u64,
    /// Datagrams doubled, of 100.
    pub(super) doubled: u64,
    pub(super) delay: Duration,
    /// Extra random delay, in milliseconds.
    pub(super) jitter: u64,
    pub(super) sent: Vec<Bytes>,
    pub(super) keep_sent: bool,
}

impl Net {
    pub(super) fn new(config: Config, seed: u8) -> Net {
        let node = |side: u8, address: &str| Node {
            endpoint: Endpoint::new(config.clone(), Random::new([seed ^ (side << 7); 32])),
            address: address.parse().unwrap(),
            events: Vec::new(),
        };
        Net {
            now: Instant::now(),
            nodes: [node(0, "192.0.2.1:5060"), node(1, "192.0.2.2:5060")],
            parcels: BTreeMap::new(),
            count: 0,
            random: Random::new([seed; 32]),
            loss: 0,
            doubled: 0,
            delay: Duration::from_millis(5),
            jitter: 0,
            sent: Vec::new(),
            keep_sent: false,
        }
    }

    fn post(&mut self, to: usize, parcel: Parcel) {
        self.count += 1;
        let jitter = Duration::from_millis(if self.jitter > 0 {
            self.random.below(self.jitter)
        } else {
            0
        });
        self.parcels
            .insert((self.now + self.delay + jitter, self.count), (to, parcel));
    }

    /// Takes what both endpoints put out.
    pub(super) fn flush(&mut self) {
        for at in 0..2 {
            while let Some(output) = self.nodes[at].endpoint.poll() {
                match output {
                    Output::Event(event) => self.nodes[at].events.push(event),
                    Output::Datagram { from, to, bytes } => {
                        assert_eq!(
                            (from, to),
                            (self.nodes[at].address, self.nodes[1 - at].address)
                        );
                        if self.keep_sent {
                            self.sent.push(bytes.clone());
                        }
                        for _ in 0..1 + u8::from(self.random.below(100) < self.doubled) {
                            if self.random.below(100) >= self.loss {
                                self.post(1 - at, Parcel::Datagram(bytes.clone()));
                            }
                        }
                    }
                    Output::Stream { connection, bytes } => {
                        if self.keep_sent {
                            self.sent.push(bytes.clone());
                        }
                        self.post(1 - at, Parcel::Stream(mirror(connection), bytes));
                    }
                    Output::Connect { connection, .. } => {
                        self.post(1 - at, Parcel::Connected(mirror(connection)));
                        self.post(at, Parcel::Connected(connection));
                    }
                    Output::Close { connection } => {
                        self.post(1 - at, Parcel::Closed(mirror(connection)))
                    }
                }
            }
        }
    }

    /// Runs for a time.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.flush();
            let parcel = self.parcels.first_key_value().map(|((at, _), _)| *at);
            let alarms = self
                .nodes
                .iter()
                .filter_map(|node| node.endpoint.deadline())
                .min();
            let Some(next) = [parcel, alarms]
                .into_iter()
                .flatten()
                .min()
                .filter(|next| *next <= end)
            else {
                break;
            };
            self.now = self.now.max(next);
            if parcel.is_some_and(|at| at <= self.now) {
                let ((..), (to, parcel)) = self.parcels.pop_first().unwrap();
                let (ours, theirs) = (self.nodes[to].address, self.nodes[1 - to].address);
                let node = &mut self.nodes[to];
                let input = match &parcel {
                    Parcel::Datagram(bytes) => Input::Datagram {
                        from: theirs,
                        to: ours,
                        bytes,
                    },
                    Parcel::Stream(connection, bytes) => Input::Stream {
                        connection: *connection,
                        bytes,
                    },
                    Parcel::Connected(connection) => Input::Connected {
                        connection: *connection,
                        protocol: Protocol::Tcp,
                        from: theirs,
                        to: ours,
                    },
                    Parcel::Closed(connection) => Input::Closed {
                        connection: *connection,
                    },
                };
                node.endpoint.handle(self.now, input);
            } else {
                for node in &mut self.nodes {
                    node.endpoint.handle(self.now, Input::Timeout);
                }
            }
        }
        self.now = end;
    }

    /// Breaks a connection for both ends.
    pub(super) fn cut(&mut self, connection: ConnectionId) {
        self.nodes[0]
            .endpoint
            .handle(self.now, Input::Closed { connection });
        self.nodes[1].endpoint.handle(
            self.now,
            Input::Closed {
                connection: mirror(connection),
            },
        );
    }

    pub(super) fn dial(&mut self, protocol: Protocol) -> DialogId {
        let dial = Dial {
            uri: format!(
                "sip:123456789@192.0.2.2:5060{}",
                if protocol == Protocol::Tcp {
                    ";transport=tcp"
                } else {
                    ""
                }
            ),
            from: "sip:+33987654321@192.0.2.1".into(),
            name: Some("Zoé \"Z\"".into()),
            flow: Flow {
                protocol,
                local: self.nodes[0].address,
                remote: self.nodes[1].address,
                connection: None,
            },
        };
        self.nodes[0]
            .endpoint
            .dial(self.now, &dial, local(4000))
            .unwrap()
    }

    /// Events of a node since the last call.
    pub(super) fn events(&mut self, node: usize) -> Vec<Event> {
        std::mem::take(&mut self.nodes[node].events)
    }

    /// Everything both endpoints keep, the network empty.
    pub(super) fn entries(&self) -> usize {
        self.nodes.iter().map(|node| node.endpoint.entries()).sum()
    }
}

fn mirror(connection: ConnectionId) -> ConnectionId {
    match connection {
        ConnectionId::Accepted(number) => ConnectionId::Opened(number),
        ConnectionId::Opened(number) => ConnectionId::Accepted(number),
    }
}

/// An endpoint at 192.0.2.1:5060 and a peer at 198.51.100.7:5062 that writes text.
pub(super) struct Bench {
    pub(super) now: Instant,
    pub(super) endpoint: Endpoint,
    pub(super) events: Vec<Event>,
    pub(super) peer: SocketAddr,
}

impl Bench {
    pub(super) fn new(config: Config) -> Bench {
        Bench {
            now: Instant::now(),
            endpoint: Endpoint::new(config, Random::new([9; 32])),
            events: Vec::new(),
            peer: address("198.51.100.7:5062"),
        }
    }

    /// Sends bytes as one datagram; gives the messages that came back.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Vec<Message> {
        self.endpoint.handle(
            self.now,
            Input::Datagram {
                from: self.peer,
                to: address("192.0.2.1:5060"),
                bytes,
            },
        );
        self.drain()
    }

    /// Sends a message written with bare line feeds.
    pub(super) fn send(&mut self, text: &str) -> Vec<Message> {
        self.bytes(text.replace('\n', "\r\n").as_bytes())
    }

    pub(super) fn drain(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(output) = self.endpoint.poll() {
            match output {
                Output::Datagram { bytes, .. } | Output::Stream { bytes, .. } => {
                    messages.push(Message::parse(bytes).expect("the core writes what it can read"));
                }
                Output::Event(event) => self.events.push(event),
                Output::Connect { .. } | Output::Close { .. } => {}
            }
        }
        messages
    }

    /// Lets time pass, timers running at their deadlines; gives what was sent.
    pub(super) fn wait(&mut self, time: Duration) -> Vec<Message> {
        let end = self.now + time;
        let mut messages = Vec::new();
        while let Some(at) = self.endpoint.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.endpoint.handle(self.now, Input::Timeout);
            messages.extend(self.drain());
        }
        self.now = end;
        messages
    }

    /// The dialog of the last [`Event::Invite`].
    pub(super) fn invited(&self) -> DialogId {
        self.events
            .iter()
            .rev()
            .find_map(|event| match event {
                Event::Invite(invite) => Some(invite.dialog),
                _ => None,
            })
            .expect("an INVITE came")
    }
}

/// A request of the bench's peer. `extra` are whole header lines.
pub(super) fn request(
    method: &str,
    to_tag: &str,
    cseq: u32,
    branch: &str,
    extra: &str,
    body: &str,
) -> String {
    let tag = if to_tag.is_empty() {
        String::new()
    } else {
        format!(";tag={to_tag}")
    };
    format!(
        "{method} sip:123456789@192.0.2.1 SIP/2.0\nVia: SIP/2.0/UDP 198.51.100.7:5062;branch=z9hG4bK{branch};rport\n\
         Max-Forwards: 70\nFrom: \"A\" <sip:a@198.51.100.7>;tag=ft\nTo: <sip:123456789@192.0.2.1>{tag}\n\
         Call-ID: call-1\nCSeq: {cseq} {method}\nContact: <sip:a@198.51.100.7:5062>\n{extra}Content-Length: {}\n\n{body}",
        body.replace('\n', "\r\n").len()
    )
}

pub(super) const SDP: &str = "v=0\no=- 1 1 IN IP4 198.51.100.7\ns=-\nc=IN IP4 198.51.100.7\nt=0 0\nm=audio 7000 RTP/AVP 8 101\na=rtpmap:101 telephone-event/8000\n";
pub(super) const TYPE: &str = "Content-Type: application/sdp\n";
