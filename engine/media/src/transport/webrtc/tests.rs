//! A foreign client against our transport, on a virtual clock and a seeded network.

use std::collections::BinaryHeap;
use std::time::Duration;

use super::*;
use crate::transport::mutate::Mutator;
use crate::transport::peer::{Peer, PeerOutput};
use crate::transport::{DEFAULT_ICE_TIMEOUT, DataChannelPolicy, Fingerprint, SrtpProfile};

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
            .set_remote(self.now, parameters, address(SERVER));
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

#[test]
fn both_ends_have_the_same_keys_and_gcm() {
    let world = World::connected(1, 0, DataChannelPolicy::Accept);
    let ours = world.server_events.iter().find_map(|event| match event {
        TransportEvent::DtlsConnected { keying, profile } => Some((keying, *profile)),
        _ => None,
    });
    let theirs = world.client_events.iter().find_map(|event| match event {
        PeerOutput::Connected { keying, profile } => Some((keying, *profile)),
        _ => None,
    });
    assert_eq!(ours, theirs);
    assert_eq!(ours.unwrap().1, SrtpProfile::AeadAes256Gcm);
    assert_eq!(world.server.remote(), Some(address(CLIENT)));
    assert_eq!(
        world.server_events[0],
        TransportEvent::IceConnected {
            remote: address(CLIENT)
        },
        "ICE comes before DTLS"
    );
}

#[test]
fn messages_of_64_kib_pass_both_ways_on_channels_either_side_opened() {
    for policy in [DataChannelPolicy::Accept, DataChannelPolicy::Open] {
        let mut world = World::connected(2, 0, policy);
        let large: Vec<u8> = (0..64 * 1024u32).map(|i| i as u8).collect();
        for channel in DataChannel::ALL {
            world.server.send_data(world.now, channel, &large).unwrap();
            assert!(world.client.send_data(world.now, channel, &large));
            world.server.send_data(world.now, channel, b"").unwrap();
        }
        world.run_until(20, |world| {
            DataChannel::ALL.into_iter().all(|channel| {
                world.client_received(channel).len() == 2
                    && world.server_received(channel) == [&large[..]]
            })
        });
        for channel in DataChannel::ALL {
            let mut received = world.client_received(channel);
            received.sort_by_key(|message| message.len());
            assert_eq!(received, [&b""[..], &large], "{policy:?} {channel:?}");
        }
    }
}

#[test]
fn a_fifth_of_all_datagrams_may_be_lost() {
    for seed in 0..6 {
        let policy = if seed % 2 == 0 {
            DataChannelPolicy::Accept
        } else {
            DataChannelPolicy::Open
        };
        let mut world = World::connected(0xBAD + seed, 20, policy);
        let messages: Vec<Vec<u8>> = (0..60u8)
            .map(|i| vec![i; 700 * usize::from(i % 5)])
            .collect();
        for message in messages.iter().filter(|message| !message.is_empty()) {
            world
                .server
                .send_data(world.now, DataChannel::Reliable, message)
                .unwrap();
            assert!(
                world
                    .client
                    .send_data(world.now, DataChannel::Reliable, message)
            );
            let _ = world
                .server
                .send_data(world.now, DataChannel::Lossy, message);
        }
        let expected: Vec<&[u8]> = messages
            .iter()
            .filter(|message| !message.is_empty())
            .map(Vec::as_slice)
            .collect();
        world.run_until(120, |world| {
            world.client_received(DataChannel::Reliable).len() == expected.len()
                && world.server_received(DataChannel::Reliable).len() == expected.len()
        });
        assert_eq!(
            world.client_received(DataChannel::Reliable),
            expected,
            "seed {seed}"
        );
        assert_eq!(
            world.server_received(DataChannel::Reliable),
            expected,
            "seed {seed}"
        );
        assert_eq!(world.closed(), None);
    }
}

#[test]
fn checks_and_the_handshake_may_come_before_the_remote_description() {
    let mut world = World::new(3, 0, DataChannelPolicy::Accept);
    world.describe_server();
    world.run_until(10, |world| {
        world
            .client_events
            .iter()
            .any(|event| matches!(event, PeerOutput::Connected { .. }))
    });
    world.run_for(1);
    let is_connected =
        |event: &TransportEvent| matches!(event, TransportEvent::DtlsConnected { .. });
    assert!(
        !world.server_events.iter().any(is_connected),
        "not before the fingerprint is known"
    );
    world.describe_client();
    world.run_until(5, |world| {
        world
            .server_events
            .contains(&TransportEvent::DataOpen(DataChannel::Reliable))
    });
    assert!(world.server_events.iter().any(is_connected));
}

#[test]
fn another_certificate_than_the_announced_one_is_refused() {
    for describes_first in [true, false] {
        let mut world = World::new(4, 0, DataChannelPolicy::Accept);
        let mut parameters = world.client.parameters();
        parameters.fingerprint = Fingerprint([7; 32]);
        if describes_first {
            world.server.set_remote(world.now, parameters);
            world.describe_server();
        } else {
            world.describe_server();
            world.run_until(10, |world| {
                world
                    .client_events
                    .iter()
                    .any(|event| matches!(event, PeerOutput::Connected { .. }))
            });
            world.server.set_remote(world.now, parameters);
        }
        world.run_until(10, |world| world.closed().is_some());
        assert_eq!(world.closed(), Some(CloseReason::FingerprintMismatch));
        assert!(!world.is_connected());
        assert_eq!(
            world
                .server
                .send_data(world.now, DataChannel::Reliable, b"x"),
            Err(SendDataError::NotOpen)
        );
        assert_eq!(world.server.deadline(), None);
    }
}

#[test]
fn the_client_may_move_to_another_address_in_mid_call() {
    let mut world = World::connected(5, 0, DataChannelPolicy::Accept);
    world.client.roam(world.now, address(ELSEWHERE));
    world.run_until(5, |world| world.server.remote() == Some(address(ELSEWHERE)));
    let moved = TransportEvent::IceConnected {
        remote: address(ELSEWHERE),
    };
    assert!(world.server_events.contains(&moved));
    world
        .server
        .send_data(world.now, DataChannel::Reliable, b"still here?")
        .unwrap();
    assert!(
        world
            .client
            .send_data(world.now, DataChannel::Reliable, b"yes")
    );
    world.run_until(5, |world| {
        world.client_received(DataChannel::Reliable) == [b"still here?"]
            && world.server_received(DataChannel::Reliable) == [b"yes"]
    });
}

#[test]
fn ice_restarts_without_a_new_handshake() {
    let mut world = World::connected(6, 0, DataChannelPolicy::Accept);
    let (ours, theirs) = (credentials(11), credentials(12));
    world
        .server
        .restart_ice(world.now, ours.clone(), Some(theirs.clone()));
    world
        .client
        .restart_ice(world.now, &theirs, &ours, address(SERVER));
    world.run_for(40);
    assert_eq!(
        world.closed(),
        None,
        "checks with the new credentials keep it alive"
    );
    assert!(
        world
            .client
            .send_data(world.now, DataChannel::Reliable, b"after")
    );
    world.run_until(5, |world| {
        world.server_received(DataChannel::Reliable) == [b"after"]
    });
}

#[test]
fn a_silent_peer_is_gone_after_the_timeout() {
    let mut world = World::connected(7, 0, DataChannelPolicy::Accept);
    world.run_for(60);
    assert_eq!(world.closed(), None);
    world.is_cut = true;
    let cut_at = world.now;
    world.run_until(30, |world| world.closed().is_some());
    assert_eq!(world.closed(), Some(CloseReason::IceTimeout));
    assert!(world.now - cut_at <= DEFAULT_ICE_TIMEOUT + Duration::from_millis(100));
}

#[test]
fn closing_is_told_to_the_other_side() {
    let mut world = World::connected(8, 0, DataChannelPolicy::Accept);
    world.server.close(world.now);
    world.server.close(world.now);
    world.run_until(5, |world| world.client_events.contains(&PeerOutput::Closed));
    assert_eq!(world.closed(), Some(CloseReason::Local));

    let mut world = World::connected(9, 0, DataChannelPolicy::Accept);
    world.client.close(world.now);
    world.run_until(5, |world| world.closed().is_some());
    assert_eq!(world.closed(), Some(CloseReason::Remote));
}

#[test]
fn a_full_queue_pushes_back_and_drains() {
    let mut world = World::connected(10, 0, DataChannelPolicy::Accept);
    let message = vec![1; 60_000];
    let mut accepted = 0;
    let refused = loop {
        match world
            .server
            .send_data(world.now, DataChannel::Reliable, &message)
        {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, SendDataError::QueueFull);
    assert_eq!(accepted, 1024 * 1024 / 60_000);
    world.run_until(60, |world| {
        world.client_received(DataChannel::Reliable).len() == accepted
    });
    world
        .server
        .send_data(world.now, DataChannel::Reliable, &message)
        .unwrap();

    let too_large = vec![0; 64 * 1024 + 1];
    assert_eq!(
        world
            .server
            .send_data(world.now, DataChannel::Lossy, &too_large),
        Err(SendDataError::TooLarge {
            size: 65_537,
            limit: 65_536
        })
    );
}

#[test]
fn dtls_from_an_unchecked_address_is_refused() {
    let mut world = World::connected(11, 0, DataChannelPolicy::Accept);
    let hello = world
        .seen
        .iter()
        .find(|bytes| classify(bytes) == DatagramKind::Dtls)
        .unwrap();
    let hello = hello.clone();
    let outcome =
        world
            .server
            .handle_datagram(world.now, address(ELSEWHERE), address(SERVER), &hello);
    assert_eq!(outcome, Err(DatagramRefusal::DtlsUnknownAddress));
    assert_eq!(
        world
            .server
            .handle_datagram(world.now, address(CLIENT), address(SERVER), &[0x80, 96, 0]),
        Err(DatagramRefusal::NotTransport)
    );
}

#[test]
fn a_handshake_flood_is_cut_off() {
    let mut world = World::new(12, 0, DataChannelPolicy::Accept);
    world.describe_server();
    world.run_until(10, |world| {
        world
            .seen
            .iter()
            .any(|bytes| classify(bytes) == DatagramKind::Dtls)
    });
    world.run_for(1);
    let hello = world
        .seen
        .iter()
        .find(|bytes| classify(bytes) == DatagramKind::Dtls)
        .unwrap()
        .clone();
    let mut outcomes = Vec::new();
    for _ in 0..1_000 {
        let (now, from) = (world.now, address(CLIENT));
        outcomes.extend(
            world
                .server
                .handle_datagram(now, from, address(SERVER), &hello)
                .err(),
        );
    }
    assert!(outcomes.len() > 700);
    assert!(outcomes.iter().all(|refusal| {
        matches!(
            refusal,
            DatagramRefusal::DtlsFlood | DatagramRefusal::Closed
        )
    }));
    let answers = std::iter::from_fn(|| world.server.poll()).count();
    assert!(answers < 400, "{answers} datagrams of amplification");
}

/// Mutated copies of what a client sends, in every phase, change nothing for the honest one.
#[test]
fn mutated_datagrams_never_panic_and_never_connect_anybody() {
    for (phase, warm_up) in [(0u64, 0u64), (1, 40), (2, 80), (3, 3_000)] {
        let mut world = World::new(0xF00D + phase, 0, DataChannelPolicy::Accept);
        world.describe_server();
        world.describe_client();
        let until = world.now + Duration::from_millis(warm_up);
        while world.now < until {
            world.step();
        }
        let corpus = {
            let mut other = World::connected(0xC0DE, 0, DataChannelPolicy::Accept);
            assert!(
                other
                    .client
                    .send_data(other.now, DataChannel::Reliable, b"some bytes")
            );
            other.run_for(1);
            let mut corpus = other.seen;
            corpus.extend(world.seen.iter().cloned());
            corpus
        };
        let mut random = Mutator::new(phase);
        for _ in 0..5_000 {
            let seed = random.below(corpus.len());
            let datagram = random.mutate(&corpus[seed]);
            let from = address(if random.chance(50) { CLIENT } else { ELSEWHERE });
            let _ = world
                .server
                .handle_datagram(world.now, from, address(SERVER), &datagram);
            while let Some(output) = world.server.poll() {
                if let TransportOutput::Event(event) = output {
                    assert!(!matches!(event, TransportEvent::Data { .. }));
                }
            }
        }
    }
}
