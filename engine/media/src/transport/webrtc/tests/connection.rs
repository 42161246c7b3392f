//! Becoming connected, moving, restarting and ending.

use super::*;
use crate::transport::{DEFAULT_ICE_TIMEOUT, Fingerprint, SrtpProfile};

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
