//! Whole calls between two endpoints.

use std::time::Duration;

use super::super::Config;
use super::super::event::*;
use super::super::sdp::{Codec, Direction};
use super::harness::*;

fn invited(events: &[Event]) -> DialogId {
    let invite = events.iter().find_map(|event| match event {
        Event::Invite(invite) => Some(invite),
        _ => None,
    });
    let invite = invite.unwrap_or_else(|| panic!("{events:?}"));
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

/// Plays both users: answers, lets the call stand, hangs up on a random side. Gives how many calls ended as planned.
fn calls(net: &mut Net, count: usize, pause: Duration) -> usize {
    let mut good = 0;
    for number in 0..count {
        let caller = net.dial(Protocol::Udp);
        net.run(pause);
        let called = net.events(1).iter().find_map(|event| match event {
            Event::Invite(invite) => Some(invite.dialog),
            _ => None,
        });
        let Some(called) = called else { continue };
        net.nodes[1].endpoint.ring(net.now, called).unwrap();
        net.nodes[1]
            .endpoint
            .accept(net.now, called, local(5000))
            .unwrap();
        net.run(pause);
        let (side, dialog) = if number % 2 == 0 {
            (0, caller)
        } else {
            (1, called)
        };
        let asked = net.nodes[side].endpoint.hang_up(net.now, dialog);
        net.run(pause);
        let ended = |events: Vec<Event>| {
            events
                .iter()
                .any(|event| matches!(event, Event::Ended { .. }))
        };
        let both = ended(net.events(0)) & ended(net.events(1));
        good += usize::from(asked.is_ok() && both);
    }
    good
}

#[test]
fn calls_live_through_loss_doubling_and_reordering() {
    let mut net = Net::new(Config::default(), 5);
    net.loss = 20;
    net.doubled = 10;
    net.jitter = 300;
    let good = calls(&mut net, 300, SECOND * 20);
    assert!(
        good >= 297,
        "{good} of 300 calls over a network that loses a fifth"
    );
    net.run(SECOND * 200);
    assert_eq!(net.entries(), 0);
}

#[test]
fn a_dead_network_ends_every_call() {
    let mut net = Net::new(Config::default(), 6);
    net.dial(Protocol::Udp);
    net.run(SECOND);
    let called = invited(&net.events(1));
    net.nodes[1]
        .endpoint
        .accept(net.now, called, local(5000))
        .unwrap();
    net.loss = 100;
    net.run(SECOND * 70);
    assert!(matches!(
        net.events(1)[..],
        [Event::Ended {
            ending: Ending::NoAck,
            ..
        }]
    ));
    // The caller heard 100 Trying, so it rings until it gives up, and cancels into the void.
    net.run(SECOND * 250);
    assert!(matches!(
        net.events(0)[..],
        [Event::Ended {
            ending: Ending::Lost,
            ..
        }]
    ));
    assert_eq!(net.entries(), 0);
}

#[test]
fn a_call_is_given_up_before_during_and_after_its_answer() {
    // Before anything came back: CANCEL must wait for a provisional response.
    let mut net = Net::new(Config::default(), 7);
    let caller = net.dial(Protocol::Udp);
    net.nodes[0].endpoint.hang_up(net.now, caller).unwrap();
    net.run(SECOND * 40);
    assert!(matches!(
        net.events(0)[..],
        [Event::Ended {
            ending: Ending::HungUp,
            ..
        }]
    ));
    assert!(matches!(
        net.events(1)[..],
        [
            Event::Invite(_),
            Event::Ended {
                ending: Ending::Cancelled,
                ..
            }
        ]
    ));
    assert_eq!(net.entries(), 0);
    // While the answer is on its way: ACK, then BYE.
    let caller = net.dial(Protocol::Udp);
    net.run(SECOND);
    let called = invited(&net.events(1));
    net.nodes[1]
        .endpoint
        .accept(net.now, called, local(5000))
        .unwrap();
    net.nodes[0].endpoint.hang_up(net.now, caller).unwrap();
    net.run(SECOND * 40);
    let events = net.events(1);
    assert!(
        matches!(
            events[..],
            [
                Event::Confirmed { .. },
                Event::Ended {
                    ending: Ending::Bye,
                    ..
                }
            ]
        ),
        "{events:?}"
    );
    net.events(0);
    assert_eq!(net.entries(), 0);
    // Refused.
    net.dial(Protocol::Udp);
    net.run(SECOND);
    let called = invited(&net.events(1));
    net.nodes[1].endpoint.reject(net.now, called, 486).unwrap();
    net.run(SECOND * 40);
    assert!(matches!(
        &net.events(0)[..],
        [Event::Ended {
            ending: Ending::Refused { status: 486, .. },
            ..
        }]
    ));
    assert_eq!(net.entries(), 0);
}

#[test]
fn both_ends_changing_at_once_settle() {
    let mut net = Net::new(Config::default(), 8);
    let caller = net.dial(Protocol::Udp);
    net.run(SECOND);
    let called = invited(&net.events(1));
    net.nodes[1]
        .endpoint
        .accept(net.now, called, local(5000))
        .unwrap();
    net.run(SECOND);
    net.events(0);
    net.events(1);
    net.nodes[0]
        .endpoint
        .redirect(net.now, caller, Direction::SendOnly)
        .unwrap();
    net.nodes[1]
        .endpoint
        .redirect(net.now, called, Direction::SendOnly)
        .unwrap();
    net.run(SECOND * 10);
    let last = |events: Vec<Event>| {
        events.iter().rev().find_map(|event| match event {
            Event::Media { media, .. } => Some(media.direction),
            _ => None,
        })
    };
    assert_eq!(last(net.events(0)), Some(Direction::Inactive));
    assert_eq!(last(net.events(1)), Some(Direction::Inactive));
    assert_eq!(
        net.nodes[0].endpoint.dialogs() + net.nodes[1].endpoint.dialogs(),
        2
    );
}

#[test]
fn a_connection_that_breaks_is_opened_again() {
    let mut net = Net::new(Config::default(), 9);
    let caller = net.dial(Protocol::Tcp);
    net.run(SECOND);
    let called = invited(&net.events(1));
    net.nodes[1]
        .endpoint
        .accept(net.now, called, local(5000))
        .unwrap();
    net.run(SECOND);
    net.events(0);
    net.cut(ConnectionId::Opened(1));
    net.nodes[0].endpoint.hang_up(net.now, caller).unwrap();
    net.run(SECOND);
    let events = net.events(1);
    assert!(
        matches!(
            events[..],
            [
                Event::Confirmed { .. },
                Event::Ended {
                    ending: Ending::Bye,
                    ..
                }
            ]
        ),
        "{events:?}"
    );
}

#[test]
fn a_hundred_thousand_calls_leave_nothing() {
    let mut net = Net::new(Config::default(), 10);
    net.delay = Duration::from_millis(1);
    let pause = Duration::from_millis(20);
    assert_eq!(calls(&mut net, 1_000, pause), 1_000);
    let most = net.entries();
    assert_eq!(calls(&mut net, 99_000, pause), 99_000);
    // 60 ms a call and 32 s of absorption: the tables stand still.
    assert!(net.entries() < most * 2, "{} after {most}", net.entries());
    net.run(SECOND * 40);
    assert_eq!(net.entries(), 0);
}

#[test]
fn an_established_call_holds_few_bytes() {
    let mut net = Net::new(Config::default(), 11);
    for _ in 0..100 {
        net.dial(Protocol::Udp);
        net.run(Duration::from_millis(50));
        let called = invited(&net.events(1));
        net.nodes[1]
            .endpoint
            .accept(net.now, called, local(5000))
            .unwrap();
        net.run(Duration::from_millis(50));
    }
    net.run(SECOND * 40);
    for node in &net.nodes {
        assert_eq!(
            (node.endpoint.dialogs(), node.endpoint.transactions()),
            (100, 0)
        );
        let each = node.endpoint.dialog_bytes() / 100;
        eprintln!("{each} bytes per standing dialog");
        assert!(each <= 3 * 1024, "{each} bytes per standing dialog");
    }
}
