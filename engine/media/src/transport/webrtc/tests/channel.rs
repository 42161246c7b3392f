//! Data channels: sizes, losses, full queues.

use super::*;

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
