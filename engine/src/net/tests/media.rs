//! Media and data between clients of all workers and the mixer's place in the mesh.

use std::collections::BTreeSet;

use palabre_media::ids::{MediaKind, SubscriptionId, TrackId};
use palabre_media::rtp::ExtensionIds;
use palabre_media::sfu::{
    ClockMapping, Codec, Descriptor, Encoding, MeshMessage, MeshTarget, PacketPool,
    ReceiveParameters, SendParameters,
};

use super::*;

const TRACK: TrackId = TrackId(7);

fn receive() -> Command {
    Command::Receive(ReceiveParameters {
        track: TRACK,
        kind: MediaKind::Audio,
        mid: "0".parse().unwrap(),
        codec: Codec::Opus,
        payload_type: 111,
        rtx_payload_type: None,
        clock_rate: 48_000,
        extensions: ExtensionIds::default(),
        encodings: vec![Encoding {
            ssrc: Some(0xABCD),
            ..Encoding::default()
        }],
    })
}

fn send(subscription: u64) -> Command {
    Command::Send(SendParameters {
        track: TRACK,
        subscription: SubscriptionId(subscription),
        kind: MediaKind::Audio,
        mid: "1".parse().unwrap(),
        ssrc: 0x1000 + subscription as u32,
        rtx_ssrc: None,
        codec: Codec::Opus,
        payload_type: 109,
        rtx_payload_type: None,
        clock_rate: 48_000,
        extensions: ExtensionIds::default(),
        max_layer: 0,
    })
}

fn payload(sequence: u16) -> Vec<u8> {
    let mut payload = vec![0x55; 40];
    payload[..2].copy_from_slice(&sequence.to_be_bytes());
    payload
}

/// Publishes until every client but the first has heard `count` packets.
fn publish_to_all(server: &mut Server, clients: &mut [&mut Client], count: usize) {
    let mut sequence = 0;
    let mut next = Instant::now();
    server.run_until(clients, |_, clients| {
        if Instant::now() >= next {
            sequence += 1;
            clients[0].publish(sequence, &payload(sequence));
            next = Instant::now() + Duration::from_millis(2);
        }
        clients[1..]
            .iter()
            .all(|client| client.heard().len() >= count)
    });
}

#[test]
fn media_reaches_subscribers_on_every_worker() {
    let mut server = Server::start(2);
    let mut clients: Vec<Client> = (1..=17).map(|session| server.client(session)).collect();
    // Before any packet: the commands wait with their sessions.
    server.command(1, receive());
    for session in 2..=17 {
        server.command(session, send(session));
    }
    let mut clients: Vec<&mut Client> = clients.iter_mut().collect();
    server.run_until(&mut clients, |_, clients| {
        clients.iter().all(|c| c.keys.is_some())
    });
    publish_to_all(&mut server, &mut clients, 50);

    let owners = server.owners();
    assert_eq!(owners.len(), 17);
    assert_eq!(
        owners.values().collect::<BTreeSet<_>>().len(),
        2,
        "both workers have sessions"
    );
    for client in &clients[1..] {
        let heard = client.heard();
        assert!(
            heard.windows(2).all(|pair| pair[1] == pair[0] + 1),
            "{heard:?}"
        );
    }
    server.workers.shutdown();
    let stats = server.workers.stats();
    let total = |field: fn(&WorkerStats) -> u64| stats.iter().map(field).sum::<u64>();
    assert!(total(|s| s.packets_in) > 50);
    assert!(total(|s| s.packets_out) >= 16 * 50);
    assert!(total(|s| s.router.forwarded) >= 16 * 50);
    assert_eq!(
        total(|s| s.ring_drops) + total(|s| s.panics) + total(|s| s.send_drops),
        0
    );
    assert!(stats.iter().all(|s| s.mean_train() >= 1.0));
    // Good-bye was said to everybody.
    server.run_until(&mut clients, |_, clients| {
        clients.iter().all(|c| c.is_closed)
    });
}

#[test]
fn a_roaming_peer_keeps_its_session_wherever_its_packets_land() {
    let mut server = Server::start(2);
    let mut client = server.client(1);
    server.run_until(&mut [&mut client], |_, clients| clients[0].is_data_open);
    let mut expected = Vec::new();
    for number in 0..24u8 {
        client.roam();
        let local = client.socket.local_addr().unwrap();
        server.run_until(&mut [&mut client], |_, clients| {
            clients[0]
                .peer
                .path()
                .is_some_and(|(from, _)| from == local)
        });
        client.say(&[number]);
        expected.push(vec![number]);
        server.run_until(&mut [&mut client], |server, _| server.data(1) == expected);
        if server
            .workers
            .stats()
            .iter()
            .any(|stats| stats.passed_on > 0)
        {
            assert_eq!(server.owners().len(), 1);
            return;
        }
    }
    panic!("24 addresses and none of them on the other worker");
}

#[test]
fn the_mixer_hears_tracks_and_is_heard() {
    let mut server = Server::start(1);
    let mut mixer = server.workers.join_mesh().unwrap();
    assert!(server.workers.join_mesh().is_none(), "there is one place");
    let (mut speaker, mut listener) = (server.client(1), server.client(2));
    server.command(1, receive());
    let leg = TrackId(99);
    let Command::Send(parameters) = send(5) else {
        unreachable!()
    };
    server.command(
        2,
        Command::Send(SendParameters {
            track: leg,
            ..parameters
        }),
    );
    let mut clients = [&mut speaker, &mut listener];
    server.run_until(&mut clients, |_, clients| {
        clients.iter().all(|c| c.keys.is_some())
    });

    let mut is_watched = false;
    server.run_until(&mut clients, |_, _| {
        is_watched |= matches!(
            mixer.receive(),
            Some(MeshMessage::Watch { track, from: WorkerIndex(0) }) if track == leg
        );
        is_watched
    });
    mixer.send(
        MeshTarget::Everyone,
        MeshMessage::Watch {
            track: TRACK,
            from: mixer.index(),
        },
    );
    mixer.flush();
    let mut pool = PacketPool::new(16);
    let mut sequence = 0;
    let mut heard = 0;
    server.run_until(&mut clients, |_, clients| {
        sequence += 1;
        clients[0].publish(sequence, &payload(sequence));
        let now = Instant::now();
        let descriptor = Descriptor {
            track: leg,
            layer: 0,
            codec: Codec::Opus,
            marker: false,
            key_frame: false,
            epoch: 0,
            vp8: None,
            in_order: true,
            audio_level: None,
            sequence: u64::from(sequence),
            timestamp: u32::from(sequence) * 960,
            arrival: now,
            clock: ClockMapping {
                at: now,
                timestamp: u32::from(sequence) * 960,
            },
        };
        let packet = pool.packet(descriptor, &payload(sequence)).unwrap();
        mixer.send(MeshTarget::One(WorkerIndex(0)), MeshMessage::Packet(packet));
        mixer.flush();
        while let Some(message) = mixer.receive() {
            if let MeshMessage::Packet(packet) = message {
                assert_eq!(packet.descriptor.track, TRACK);
                heard += 1;
            }
        }
        heard >= 10 && clients[1].heard().len() >= 10
    });
}
