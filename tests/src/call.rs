//! A whole call in memory: endpoints, their paths, routers joined by a mesh, one virtual clock.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use palabre_media::ids::{SessionId, WorkerIndex};
use palabre_media::rtp::rtcp::NtpTime;
use palabre_media::sfu::{
    Command, Event, Limits, MeshTarget, Router, RouterConfig, SessionConfig, Verdict, WallClock,
};
use palabre_media::transport::{IceCredentials, TransportConfig};

use crate::endpoint::{Endpoint, FixedKeys};
use crate::netsim::{Link, Path};

/// One member of the call.
pub struct Member {
    /// The peer.
    pub endpoint: Endpoint,
    /// Its session.
    pub session: SessionId,
    /// The router that owns it.
    pub router: usize,
    address: SocketAddr,
    /// From the peer to the router.
    pub up: Link,
    /// From the router to the peer.
    pub down: Link,
}

/// The call.
pub struct Call {
    /// The virtual time.
    pub now: Instant,
    /// When it began.
    pub start: Instant,
    /// Workers.
    pub routers: Vec<Router>,
    /// Members.
    pub members: Vec<Member>,
    /// Events so far, with the time and the router.
    pub events: Vec<(Duration, usize, Event)>,
    /// Packets that crossed the mesh.
    pub mesh_packets: u64,
    seed: u64,
}

impl Call {
    /// A call over `routers` workers.
    pub fn new(routers: u8, seed: u64) -> Self {
        let now = Instant::now();
        let router = |index| {
            Router::new(
                WorkerIndex(index),
                RouterConfig {
                    wall: WallClock {
                        at: now,
                        ntp: NtpTime::from_unix(Duration::from_secs(1)),
                    },
                    limits: Limits::default(),
                    make_transport: Box::new(|_, config| Box::new(FixedKeys::new(config))),
                },
            )
        };
        Call {
            now,
            start: now,
            routers: (0..routers).map(router).collect(),
            members: Vec::new(),
            events: Vec::new(),
            mesh_packets: 0,
            seed,
        }
    }

    /// Adds a member to the worker `router`; its place in `members`.
    pub fn join(&mut self, router: usize, up: Path, down: Path) -> usize {
        let place = self.members.len();
        let session = SessionId(place as u64 + 1);
        let ufrag = format!("ufrag{place:04}");
        let local = IceCredentials {
            ufrag: ufrag.clone(),
            pwd: "p".repeat(24),
        };
        let transport = TransportConfig::new(local);
        let config = SessionConfig {
            session,
            transport,
            remote: None,
        };
        self.routers[router]
            .adopt(self.now, config, [])
            .expect("there is room");
        let seed = self.seed.wrapping_mul(1_000) + 2 * place as u64;
        self.members.push(Member {
            endpoint: Endpoint::new(self.now, &ufrag),
            session,
            router,
            address: SocketAddr::from(([10, 0, (place >> 8) as u8, place as u8], 5_000)),
            up: Link::new(up, seed),
            down: Link::new(down, seed + 1),
        });
        place
    }

    /// Gives a command to a member's session.
    pub fn command(&mut self, member: usize, command: Command) {
        let Member {
            session, router, ..
        } = self.members[member];
        self.routers[router]
            .command(self.now, session, command)
            .expect("the command is right");
        self.settle();
    }

    /// Runs for `span`.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let members = self.members.iter().flat_map(|member| {
                let links = [member.up.deadline(), member.down.deadline()];
                links
                    .into_iter()
                    .flatten()
                    .chain([member.endpoint.deadline()])
            });
            let routers = self.routers.iter().filter_map(Router::deadline);
            let next = members.chain(routers).min().unwrap_or(end);
            if next > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            self.step();
        }
    }

    fn step(&mut self) {
        let now = self.now;
        let to = SocketAddr::from(([10, 255, 0, 1], 7_880));
        for member in &mut self.members {
            while let Some(datagram) = member.down.receive(now) {
                member.endpoint.receive(now, datagram);
            }
            if member.endpoint.deadline() <= now {
                member.endpoint.run(now);
            }
            while let Some(datagram) = member.endpoint.poll() {
                member.up.send(now, &datagram);
            }
            while let Some(mut datagram) = member.up.receive(now) {
                let router = &mut self.routers[member.router];
                let verdict = router.handle_datagram(now, member.address, to, &mut datagram);
                let known = matches!(
                    verdict,
                    Verdict::Handled | Verdict::Dropped(_) | Verdict::UnknownSource
                );
                assert!(known, "{verdict:?}");
            }
        }
        for router in &mut self.routers {
            if router.deadline().is_some_and(|at| at <= now) {
                router.handle_timeout(now);
            }
        }
        self.settle();
    }

    /// Carries what the routers have to say.
    fn settle(&mut self) {
        loop {
            let mut messages = Vec::new();
            for (from, router) in self.routers.iter_mut().enumerate() {
                messages.extend(router.drain_mesh().map(|(to, message)| (from, to, message)));
            }
            if messages.is_empty() {
                break;
            }
            for (from, to, message) in messages {
                if matches!(message, palabre_media::sfu::MeshMessage::Packet(_)) {
                    self.mesh_packets += 1;
                }
                for (place, router) in self.routers.iter_mut().enumerate() {
                    let meant = match to {
                        MeshTarget::Everyone => place != from,
                        MeshTarget::One(index) => router.index() == index,
                    };
                    if meant {
                        router.handle_mesh(self.now, message.clone());
                    }
                }
            }
        }
        for (place, router) in self.routers.iter_mut().enumerate() {
            for train in router.outgoing() {
                let member = self
                    .members
                    .iter_mut()
                    .find(|member| member.address == train.to);
                let member = member.expect("datagrams go to members");
                for datagram in train.datagrams() {
                    member.down.send(self.now, datagram);
                }
            }
            router.sent();
            while let Some(event) = router.poll_event() {
                self.events.push((self.now - self.start, place, event));
            }
        }
    }
}
