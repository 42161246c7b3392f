//! A foreign client against our transport, on a virtual clock and a seeded network.

mod channel;
mod connection;
mod hostile;

use std::collections::BinaryHeap;
use std::time::Duration;

use super::*;
use crate::transport::DataChannelPolicy;
use crate::transport::mutate::Mutator;
use crate::transport::peer::{Peer, PeerOutput};

const SERVER: &str = "192.0.2.1:7880";
const CLIENT: &str = "198.51.100.7:50000";
const ELSEWHERE: &str = "203.0.113.80:1234";

/// Both ends, the datagrams between them, and time.
struct World {
    now: Instant,
    server: WebRtcTransport,
    client: Peer,
    network: BinaryHeap<InFlight>,
    sent: u64,
    random: Mutator,
    loss_percent: usize,
    is_cut: bool,
    server_events: Vec<TransportEvent>,
    client_events: Vec<PeerOutput>,
    refusals: Vec<DatagramRefusal>,
    /// Datagrams the client sent, for mutation.
    seen: Vec<Vec<u8>>,
}

#[derive(PartialEq, Eq)]
struct InFlight {
    at: Instant,
    order: u64,
    from: SocketAddr,
    to: SocketAddr,
    bytes: Bytes,
}

impl Ord for InFlight {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl PartialOrd for InFlight {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

fn certificates() -> &'static [Certificate; 3] {
    static CERTIFICATES: std::sync::OnceLock<[Certificate; 3]> = std::sync::OnceLock::new();
    CERTIFICATES.get_or_init(|| std::array::from_fn(|_| Certificate::generate().unwrap()))
}

fn credentials(seed: u8) -> IceCredentials {
    IceCredentials::from_random(&[seed; IceCredentials::RANDOM_LEN])
}

impl World {
    #[allow(clippy::disallowed_methods)] // where a test's clock begins
    fn new(seed: u64, loss_percent: usize, policy: DataChannelPolicy) -> Self {
        let opens: &[DataChannel] = if policy == DataChannelPolicy::Accept {
            &DataChannel::ALL
        } else {
            &[]
        };
        let now = Instant::now();
        let [ours, theirs, _] = certificates();
        let config = TransportConfig {
            data: policy,
            ..TransportConfig::new(credentials(1))
        };
        let server = WebRtcTransport::new(now, ours.clone(), config);
        let client = Peer::new(now, address(CLIENT), &credentials(2), theirs, opens);
        Self {
            now,
            server,
            client,
            network: BinaryHeap::new(),
            sent: 0,
            random: Mutator::new(seed),
            loss_percent,
            is_cut: false,
            server_events: Vec::new(),
            client_events: Vec::new(),
            refusals: Vec::new(),
            seen: Vec::new(),
        }
    }

    fn connected(seed: u64, loss_percent: usize, policy: DataChannelPolicy) -> Self {
        let mut world = Self::new(seed, loss_percent, policy);
        world.describe_server();
        world.describe_client();
        world.run_until(90, |world| {
            let channels = if policy == DataChannelPolicy::None {
                0
            } else {
                3
            };
            let opened = |event: &TransportEvent| matches!(event, TransportEvent::DataOpen(_));
            let opened_too = |event: &PeerOutput| matches!(event, PeerOutput::DataOpen(_));
            world.is_connected()
                && world
                    .server_events
                    .iter()
                    .filter(|event| opened(event))
                    .count()
                    == channels
                && world
                    .client_events
                    .iter()
                    .filter(|event| opened_too(event))
                    .count()
                    == channels
        });
        world
    }

    fn describe_server(&mut self) {
        let fingerprint = certificates()[0].fingerprint();
        let parameters = RemoteParameters {
            ice: credentials(1),
            fingerprint,
        };
        self.client
            .set_remote(self.now, parameters, [address(SERVER)]);
    }

    fn describe_client(&mut self) {
        let parameters = self.client.parameters();
        self.server.set_remote(self.now, parameters);
    }

    fn is_connected(&self) -> bool {
        let is_server_connected = self
            .server_events
            .iter()
            .any(|event| matches!(event, TransportEvent::DtlsConnected { .. }));
        let is_client_connected = self
            .client_events
            .iter()
            .any(|event| matches!(event, PeerOutput::Connected { .. }));
        is_server_connected && is_client_connected
    }

    fn post(&mut self, from: SocketAddr, to: SocketAddr, bytes: Bytes) {
        self.sent += 1;
        if self.is_cut || self.random.chance(self.loss_percent) {
            return;
        }
        // A lossy network reorders as well; a message that may not be sent again is then lost.
        let jitter = if self.loss_percent == 0 {
            0
        } else {
            self.random.below(5_000) as u64
        };
        let delay = Duration::from_micros(10_000 + jitter);
        self.network.push(InFlight {
            at: self.now + delay,
            order: self.sent,
            from,
            to,
            bytes,
        });
    }

    fn collect(&mut self) {
        while let Some(output) = self.server.poll() {
            match output {
                TransportOutput::Datagram { to, bytes } => self.post(address(SERVER), to, bytes),
                TransportOutput::Event(event) => self.server_events.push(event),
            }
        }
        while let Some(output) = self.client.poll() {
            match output {
                PeerOutput::Datagram { from, to, bytes } => {
                    if self.seen.len() < 64 {
                        self.seen.push(bytes.to_vec());
                    }
                    self.post(from, to, bytes);
                }
                event => self.client_events.push(event),
            }
        }
    }

    fn step(&mut self) {
        self.collect();
        let next = [
            self.network.peek().map(|datagram| datagram.at),
            self.server.deadline(),
            self.client.deadline(),
        ]
        .into_iter()
        .flatten()
        .min();
        self.now = next.map_or(self.now + Duration::from_millis(100), |at| {
            // A deadline that has passed must not stop the clock.
            at.max(self.now + Duration::from_micros(100))
        });
        while self
            .network
            .peek()
            .is_some_and(|datagram| datagram.at <= self.now)
        {
            let InFlight {
                from, to, bytes, ..
            } = self.network.pop().unwrap();
            if to == address(SERVER) {
                let outcome = self.server.handle_datagram(self.now, from, to, &bytes);
                self.refusals.extend(outcome.err());
            } else {
                self.client.handle(self.now, from, &bytes);
            }
            self.collect();
        }
        self.server.handle_timeout(self.now);
        self.client.handle_timeout(self.now);
        self.collect();
    }

    /// Runs until `done`, which must come true within `seconds` of virtual time.
    fn run_until(&mut self, seconds: u64, done: impl Fn(&Self) -> bool) {
        let end = self.now + Duration::from_secs(seconds);
        while !done(self) {
            assert!(
                self.now < end,
                "not within {seconds} s: {:.2000} {:.2000} {:.2000}",
                format!("{:?}", self.server_events),
                format!("{:?}", self.client_events),
                format!("{:?}", self.refusals)
            );
            self.step();
        }
    }

    fn run_for(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while self.now < end {
            self.step();
        }
    }

    fn server_received(&self, channel: DataChannel) -> Vec<&[u8]> {
        self.server_events
            .iter()
            .filter_map(|event| match event {
                TransportEvent::Data {
                    channel: on,
                    payload,
                } if *on == channel => Some(&payload[..]),
                _ => None,
            })
            .collect()
    }

    fn client_received(&self, channel: DataChannel) -> Vec<&[u8]> {
        self.client_events
            .iter()
            .filter_map(|event| match event {
                PeerOutput::Data(on, payload) if *on == channel => Some(&payload[..]),
                _ => None,
            })
            .collect()
    }

    fn closed(&self) -> Option<CloseReason> {
        self.server_events.iter().find_map(|event| match event {
            TransportEvent::Closed(reason) => Some(*reason),
            _ => None,
        })
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}
