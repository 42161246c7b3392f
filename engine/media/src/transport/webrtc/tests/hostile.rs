//! Datagrams nobody honest sends: strangers, floods, damage at random.

use super::*;

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
    let cut = &hello[..hello.len() - 1];
    assert_eq!(
        world
            .server
            .handle_datagram(world.now, address(CLIENT), address(SERVER), cut),
        Err(DatagramRefusal::DtlsMalformed)
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
