//! Bugs made on purpose: a session's costs that session, a worker's its sessions.

use std::sync::atomic::AtomicU64;

use palabre_media::transport::{DatagramRefusal, SendDataError, TransportOutput};

use super::*;

/// A transport with bugs on demand.
struct Buggy {
    inner: WebRtcTransport,
    ufrag: String,
    bugs: Arc<Bugs>,
}

#[derive(Default)]
struct Bugs {
    /// Fails on the next datagram of this session's transport.
    datagram: AtomicU64,
    timer: AtomicBool,
}

impl Transport for Buggy {
    fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), DatagramRefusal> {
        let sick = self.bugs.datagram.load(Ordering::Relaxed);
        assert_ne!(self.ufrag, credentials(sick * 2).ufrag, "a bug on purpose");
        self.inner.handle_datagram(now, from, to, datagram)
    }

    fn handle_timeout(&mut self, now: Instant) {
        assert!(
            !self.bugs.timer.swap(false, Ordering::Relaxed),
            "a bug on purpose"
        );
        self.inner.handle_timeout(now);
    }

    fn poll(&mut self) -> Option<TransportOutput> {
        self.inner.poll()
    }

    fn deadline(&self) -> Option<Instant> {
        let is_due = self.bugs.timer.load(Ordering::Relaxed);
        if is_due {
            Some(Instant::now() - Duration::from_secs(1))
        } else {
            self.inner.deadline()
        }
    }

    fn set_remote(&mut self, now: Instant, remote: RemoteParameters) {
        self.inner.set_remote(now, remote);
    }

    fn restart_ice(&mut self, now: Instant, local: IceCredentials, remote: Option<IceCredentials>) {
        self.inner.restart_ice(now, local, remote);
    }

    fn send_data(
        &mut self,
        now: Instant,
        channel: DataChannel,
        payload: &[u8],
    ) -> Result<(), SendDataError> {
        assert_ne!(payload, b"bug", "a bug on purpose");
        self.inner.send_data(now, channel, payload)
    }

    fn remote(&self) -> Option<SocketAddr> {
        self.inner.remote()
    }

    fn close(&mut self, now: Instant) {
        self.inner.close(now);
    }
}

#[test]
fn a_bug_costs_its_session_alone_when_it_is_known_whose_it_is() {
    let (config, events) = config(1);
    let bugs = Arc::new(Bugs::default());
    let certificate = config.certificate.clone();
    let shared = Arc::clone(&bugs);
    let workers = Workers::start_with(
        config,
        Arc::new(move |now, config| {
            let inner = WebRtcTransport::new(now, certificate.clone(), config.clone());
            let ufrag = config.local.ufrag.clone();
            let bugs = Arc::clone(&shared);
            Box::new(Buggy { inner, ufrag, bugs })
        }),
    );
    let mut server = Server::around(workers.unwrap(), events);
    let (mut first, mut second, mut third) = (server.client(1), server.client(2), server.client(3));
    let mut clients = [&mut first, &mut second, &mut third];
    server.run_until(&mut clients, |_, clients| {
        clients.iter().all(|c| c.is_data_open)
    });

    // In a command.
    let bug = bytes::Bytes::from_static(b"bug");
    server.command(
        1,
        Command::SendData {
            channel: DataChannel::Reliable,
            payload: bug,
        },
    );
    server.run_until(&mut clients, |server, _| server.disconnected(1).is_some());

    // In a datagram.
    bugs.datagram.store(2, Ordering::Relaxed);
    clients[1].say(b"anything");
    server.run_until(&mut clients[1..2], |server, _| {
        server.disconnected(2).is_some()
    });
    clients[2].say(b"still here");
    server.run_until(&mut clients[2..], |server, _| {
        server.data(3) == [b"still here"]
    });
    assert_eq!(server.disconnected(3), None);

    // In a timer it is nobody's: the worker starts over, and goes on.
    bugs.timer.store(true, Ordering::Relaxed);
    clients[2].say(b"something to time");
    server.run_until(&mut clients[2..], |server, _| {
        server.disconnected(3).is_some()
    });
    let mut next = server.client(4);
    server.run_until(&mut [&mut next], |_, clients| clients[0].is_data_open);
    assert_eq!(server.workers.stats()[0].panics, 3);
}

#[test]
fn a_worker_that_hangs_gives_no_answer() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let (mut config, events) = config(2);
    let (release, held) = channel::<()>();
    let (tell, held) = (Arc::clone(&config.events), Mutex::new(held));
    // Whoever tells something waits until it is let go.
    config.events = Arc::new(move |event| {
        tell(event);
        let _ = held.lock().unwrap().recv();
    });
    let mut server = Server::around(Workers::start(config).unwrap(), events);
    assert!(runtime.block_on(server.workers.answer()));
    let mut client = server.client(1);
    server.run_until(&mut [&mut client], |server, _| !server.seen.is_empty());
    let answer =
        async { tokio::time::timeout(Duration::from_millis(300), server.workers.answer()).await };
    assert!(runtime.block_on(answer).is_err(), "one of two hangs");
    drop(release);
    assert!(runtime.block_on(server.workers.answer()));
}
