//! Whole calls between two endpoints.

use std::time::Duration;

use super::super::Config;
use super::super::event::*;
use super::super::sdp::{Codec, Direction};
use super::harness::*;

const SECOND: Duration = Duration::from_secs(1);

fn invited(events: &[Event]) -> DialogId {
    let Some(Event::Invite(invite)) = events.first() else {
        panic!("{events:?}")
    };
    assert_eq!(invite.dialled, "123456789");
    assert_eq!(invite.from.name.as_deref(), Some("Zoé \"Z\""));
    assert_eq!(invite.from.user, "+33987654321");
    invite.dialog
}

#[test]
fn a_call_is_made_held_resumed_and_ended_over_both_transports() {
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        let mut net = Net::new(Config::default(), 1);
        let caller = net.dial(protocol);
        net.run(SECOND);
        let called = invited(&net.events(1));
        net.nodes[1].endpoint.ring(net.now, called).unwrap();
        net.run(SECOND);
        assert!(matches!(
            net.events(0)[..],
            [Event::Ringing { status: 180, .. }]
        ));
        let media = net.nodes[1]
            .endpoint
            .accept(net.now, called, local(5000))
            .unwrap()
            .unwrap();
        assert_eq!((media.codec, media.remote.port()), (Codec::Opus, 4000));
        net.run(SECOND);
        let events = net.events(0);
        assert!(
            matches!(&events[..], [Event::Media { media, .. }, Event::Answered { .. }] if media.remote.port() == 5000),
            "{events:?}"
        );
        assert!(matches!(net.events(1)[..], [Event::Confirmed { .. }]));
        for (direction, theirs) in [
            (Direction::SendOnly, Direction::RecvOnly),
            (Direction::SendRecv, Direction::SendRecv),
        ] {
            net.nodes[0]
                .endpoint
                .redirect(net.now, caller, direction)
                .unwrap();
            net.run(SECOND);
            let events = net.events(1);
            assert!(
                matches!(&events[..], [Event::Media { media, .. }] if media.direction == theirs),
                "{events:?}"
            );
            let events = net.events(0);
            assert!(
                matches!(&events[..], [Event::Media { media, .. }] if media.direction == direction),
                "{events:?}"
            );
        }
        // The other side may do so too, over the same connection.
        net.nodes[1]
            .endpoint
            .redirect(net.now, called, Direction::Inactive)
            .unwrap();
        net.run(SECOND);
        assert!(
            matches!(&net.events(0)[..], [Event::Media { media, .. }] if media.direction == Direction::Inactive)
        );
        net.events(1);
        net.nodes[1].endpoint.hang_up(net.now, called).unwrap();
        net.run(SECOND);
        assert!(matches!(
            net.events(1)[..],
            [Event::Ended {
                ending: Ending::HungUp,
                ..
            }]
        ));
        assert!(matches!(
            net.events(0)[..],
            [Event::Ended {
                ending: Ending::Bye,
                ..
            }]
        ));
        assert!(net.nodes[0].endpoint.hang_up(net.now, caller).is_err());
        net.run(SECOND * 40);
        if protocol == Protocol::Tcp {
            net.cut(ConnectionId::Opened(1));
        }
        assert_eq!(net.entries(), 0, "{:?}", net.nodes);
    }
}
