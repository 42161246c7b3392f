//! Stream connections: cut anywhere, closed when broken, silent or too many.

use std::time::Duration;

use super::super::Config;
use super::super::event::*;
use super::super::name::Name;
use super::harness::*;

#[test]
fn streams_are_cut_answered_and_closed_when_broken() {
    let mut bench = Bench::new(Config::default());
    let connection = ConnectionId::Accepted(1);
    let (from, to) = (bench.peer, address("192.0.2.1:5060"));
    bench.endpoint.handle(
        bench.now,
        Input::Connected {
            connection,
            protocol: Protocol::Tcp,
            from,
            to,
        },
    );
    let text = request("OPTIONS", "", 1, "a", "", "").replace('\n', "\r\n");
    for piece in text.as_bytes().chunks(7) {
        bench.endpoint.handle(
            bench.now,
            Input::Stream {
                connection,
                bytes: piece,
            },
        );
    }
    let replies = bench.drain();
    assert_eq!(statuses(&replies), [200]);
    assert!(
        replies[0]
            .header(Name::Contact)
            .unwrap()
            .contains("transport=tcp")
    );
    bench.endpoint.handle(
        bench.now,
        Input::Stream {
            connection,
            bytes: b"\r\n\r\n",
        },
    );
    let Some(Output::Stream { bytes, .. }) = bench.endpoint.poll() else {
        panic!()
    };
    assert_eq!(bytes, "\r\n");
    let undelimited = text.replace("Content-Length: 0\r\n", "");
    bench.endpoint.handle(
        bench.now,
        Input::Stream {
            connection,
            bytes: undelimited.as_bytes(),
        },
    );
    let outputs: Vec<Output> = std::iter::from_fn(|| bench.endpoint.poll()).collect();
    let [Output::Stream { bytes, .. }, Output::Close { .. }] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert!(bytes.starts_with(b"SIP/2.0 400 Missing or Bad Content-Length\r\n"));
    assert_eq!(bench.endpoint.entries(), 0);
    // One source may not take all connections.
    for number in 0..100 {
        bench.endpoint.handle(
            bench.now,
            Input::Connected {
                connection: ConnectionId::Accepted(number),
                protocol: Protocol::Tcp,
                from,
                to,
            },
        );
    }
    let closed = std::iter::from_fn(|| bench.endpoint.poll())
        .filter(|output| matches!(output, Output::Close { .. }))
        .count();
    assert_eq!(closed, 36);
}

#[test]
fn silent_connections_without_a_call_are_closed() {
    let mut bench = Bench::new(Config::default());
    let connection = ConnectionId::Accepted(1);
    let (from, to) = (bench.peer, address("192.0.2.1:5060"));
    let closes = |bench: &mut Bench, time: Duration| {
        let end = bench.now + time;
        let mut closes = 0;
        while let Some(at) = bench.endpoint.deadline().filter(|at| *at <= end) {
            bench.now = at;
            bench.endpoint.handle(at, Input::Timeout);
            closes += std::iter::from_fn(|| bench.endpoint.poll())
                .filter(|output| matches!(output, Output::Close { .. }))
                .count();
        }
        bench.now = end;
        closes
    };
    let connected = Input::Connected {
        connection,
        protocol: Protocol::Tcp,
        from,
        to,
    };
    bench.endpoint.handle(bench.now, connected);
    assert_eq!(closes(&mut bench, SECOND * 170), 0);
    let half = Input::Stream {
        connection,
        bytes: b"INVITE sip:x",
    };
    bench.endpoint.handle(bench.now, half);
    assert_eq!(closes(&mut bench, SECOND * 170), 0);
    assert_eq!(closes(&mut bench, SECOND * 20), 1);
    assert_eq!(bench.endpoint.entries(), 0);
    // A call keeps its connection.
    let connected = Input::Connected {
        connection,
        protocol: Protocol::Tcp,
        from,
        to,
    };
    bench.endpoint.handle(bench.now, connected);
    let text = request("INVITE", "", 1, "a", TYPE, SDP).replace('\n', "\r\n");
    bench.endpoint.handle(
        bench.now,
        Input::Stream {
            connection,
            bytes: text.as_bytes(),
        },
    );
    bench.drain();
    let dialog = bench.invited();
    bench
        .endpoint
        .accept(bench.now, dialog, local(5000))
        .unwrap();
    let replies = bench.drain();
    let tag = our_tag(&replies[0]);
    let ack = request("ACK", &tag, 1, "b", "", "").replace('\n', "\r\n");
    bench.endpoint.handle(
        bench.now,
        Input::Stream {
            connection,
            bytes: ack.as_bytes(),
        },
    );
    assert_eq!(closes(&mut bench, SECOND * 2_000), 0);
    bench.endpoint.hang_up(bench.now, dialog).unwrap();
    assert_eq!(closes(&mut bench, SECOND * 500), 1);
    assert_eq!(bench.endpoint.entries(), 0);
}

/// INVITEs over one connection, whose writer says that it listens on these ports; then the connection is closed.
fn invited_and_cut_off(bench: &mut Bench, ports: &[u16]) -> Vec<DialogId> {
    let connection = ConnectionId::Accepted(1);
    let connected = Input::Connected {
        connection,
        protocol: Protocol::Tcp,
        from: address("198.51.100.7:49152"),
        to: address("192.0.2.1:5060"),
    };
    bench.endpoint.handle(bench.now, connected);
    let mut dialogs = Vec::new();
    for (number, port) in ports.iter().enumerate() {
        let text = request("INVITE", "", 1, &format!("cut{number}"), TYPE, SDP)
            .replace(
                "SIP/2.0/UDP 198.51.100.7:5062",
                &format!("SIP/2.0/TCP 198.51.100.7:{port}"),
            )
            .replace("call-1", &format!("call-{number}"))
            .replace('\n', "\r\n");
        let bytes = text.as_bytes();
        let stream = Input::Stream { connection, bytes };
        bench.endpoint.handle(bench.now, stream);
        assert_eq!(statuses(&bench.drain()), [100]);
        dialogs.push(bench.invited());
    }
    bench
        .endpoint
        .handle(bench.now, Input::Closed { connection });
    dialogs
}

fn outputs(bench: &mut Bench) -> Vec<Output> {
    std::iter::from_fn(|| bench.endpoint.poll())
        .filter(|output| !matches!(output, Output::Event(_)))
        .collect()
}

#[test]
fn an_answer_whose_connection_has_closed_goes_by_a_new_one() {
    let mut bench = Bench::new(Config::default());
    let dialog = invited_and_cut_off(&mut bench, &[5062])[0];
    bench
        .endpoint
        .accept(bench.now, dialog, local(5000))
        .unwrap();
    let asked = outputs(&mut bench);
    let [Output::Connect { connection, to, .. }] = asked[..] else {
        panic!("{asked:?}")
    };
    assert_eq!(to, bench.peer, "the port of sent-by");
    let connected = Input::Connected {
        connection,
        protocol: Protocol::Tcp,
        from: to,
        to: address("192.0.2.1:49153"),
    };
    bench.endpoint.handle(bench.now, connected);
    let replies = bench.drain();
    assert_eq!(statuses(&replies), [200]);
    let via = replies[0].header(Name::Via).unwrap();
    assert!(
        via.contains(";received=198.51.100.7;rport=49152"),
        "where the request came from: {via}"
    );
    // Repeated until the ACK, by the same connection.
    bench.now += SECOND;
    bench.endpoint.handle(bench.now, Input::Timeout);
    let again = outputs(&mut bench);
    assert!(
        matches!(again[..], [Output::Stream { connection: by, .. }] if by == connection),
        "{again:?}"
    );
    let ack = request("ACK", &our_tag(&replies[0]), 1, "ack", "", "")
        .replace("call-1", "call-0")
        .replace('\n', "\r\n");
    let bytes = ack.as_bytes();
    let stream = Input::Stream { connection, bytes };
    bench.endpoint.handle(bench.now, stream);
    bench.drain();
    assert!(
        bench
            .events
            .iter()
            .any(|event| matches!(event, Event::Confirmed { .. }))
    );
}

#[test]
fn who_calls_and_cuts_off_makes_us_open_no_more_than_it_may_itself() {
    let mut config = Config::default();
    config.limits.connections_per_source = 3;
    let mut bench = Bench::new(config);
    for dialog in invited_and_cut_off(&mut bench, &[5062, 5062, 5063, 5064, 5065, 5062]) {
        bench.endpoint.reject(bench.now, dialog, 486).unwrap();
    }
    let opened = outputs(&mut bench).into_iter().map(|output| match output {
        Output::Connect { to, .. } => to.port(),
        output => panic!("{output:?}"),
    });
    assert_eq!(opened.collect::<Vec<_>>(), [5062, 5063, 5064]);
}
