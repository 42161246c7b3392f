//! How workers and sessions begin, idle and end.

use super::*;

#[test]
fn the_port_in_use_is_named_with_its_key() {
    let (first, _events) = config(1);
    let workers = Workers::start(first.clone()).unwrap();
    let refused = Workers::start(WorkersConfig {
        media: workers.local(),
        ..first
    })
    .unwrap_err();
    let sentence = refused.to_string();
    assert!(
        sentence.contains(&workers.local().to_string()),
        "{sentence}"
    );
    assert!(sentence.contains("media.bind"), "{sentence}");
}

#[test]
fn a_session_that_never_began_is_closed_and_told_so() {
    let mut server = Server::start(1);
    let _client = server.client(1);
    assert_eq!(server.workers.waiting(), 1);
    server.workers.close(SessionId(1)).unwrap();
    server.run_until(&mut [], |server, _| {
        server.disconnected(1) == Some(CloseReason::Local)
    });
    assert_eq!(
        server.workers.close(SessionId(1)),
        Err(WorkersError::UnknownSession)
    );
    let _again = server.client(1);
}

#[test]
fn sessions_end_when_told() {
    let mut server = Server::start(1);
    let mut client = server.client(1);
    server.run_until(&mut [&mut client], |_, clients| clients[0].is_data_open);
    server.workers.close(SessionId(1)).unwrap();
    server.run_until(&mut [&mut client], |server, clients| {
        server.disconnected(1).is_some() && clients[0].is_closed
    });
    assert_eq!(
        server.workers.close(SessionId(1)),
        Err(WorkersError::UnknownSession)
    );
}

#[test]
fn an_idle_worker_sleeps() {
    let server = Server::start(1);
    let quiet = |events: &Receiver<Event>| {
        assert!(
            events.recv_timeout(Duration::from_millis(600)).is_err(),
            "nothing happens"
        );
    };
    // The first reading of its counters is due once.
    quiet(&server.events);
    let before = server.workers.stats()[0].wake_ups;
    quiet(&server.events);
    assert_eq!(server.workers.stats()[0].wake_ups, before);
}
