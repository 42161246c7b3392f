//! One media worker without its socket: datagrams, commands and mesh messages in; trains,
//! mesh messages and events out.
//!
//! Sessions are found by address for media and by ufrag for checks, never by searching.
//!
//! ```text
//! datagram ─► session: decrypt, place, descriptor ─► route ─┬─► each subscription: gate,
//! mesh packet ──────────────────────────────────────┘       │   rewrite, seal ─► train
//!                                                           └─► each watching worker
//! ```

mod command;
mod mesh;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use super::clock::WallClock;
use super::command::{Command, CommandError, Event, Layer, MeshMessage, MeshTarget, SessionConfig};
use super::drops::{Counters, DropReason};
use super::packet::PacketPool;
use super::route::Route;
use super::session::Session;
use super::train::{Train, Trains};
use super::{LEVELS_INTERVAL, Level};
use crate::ids::{MediaKind, SessionId, TrackId, WorkerIndex};
use crate::transport::{
    CloseReason, DatagramKind, Transport, TransportConfig, classify, stun_local_ufrag,
};

/// Makes the transport of a session.
pub type MakeTransport =
    Box<dyn FnMut(Instant, &TransportConfig) -> Box<dyn Transport + Send> + Send>;

/// What a router is told at birth.
pub struct RouterConfig {
    /// Wall clock, for sender reports.
    pub wall: WallClock,
    /// Bounds.
    pub limits: Limits,
    /// Transports of new sessions.
    pub make_transport: MakeTransport,
}

/// Bounds on what one worker holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions on one worker.
    pub sessions: usize,
    /// Tracks received in one session.
    pub tracks: usize,
    /// Tracks sent in one session.
    pub subscriptions: usize,
    /// SSRCs received in one session: up to six for each track (three encodings, each with
    /// retransmissions).
    pub streams: usize,
    /// Packet buffers kept for reuse, 1.6 KB each.
    pub buffers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            sessions: 4_096,
            tracks: 32,
            subscriptions: 512,
            streams: 128,
            buffers: 16_384,
        }
    }
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It belonged to a session of ours.
    Handled,
    /// A check for a session that is not ours: look for this ufrag elsewhere.
    UnknownUfrag(&'a str),
    /// Media or a handshake from an address of no session of ours.
    UnknownSource,
    /// Dropped and counted.
    Dropped(DropReason),
}

/// What sessions and subscriptions write to.
pub(super) struct Shared {
    pub(super) trains: Trains,
    pub(super) events: VecDeque<Event>,
    pub(super) counters: Counters,
    pub(super) pool: PacketPool,
    pub(super) wall: WallClock,
    pub(super) limits: Limits,
    /// Key frames that subscribers asked for while a datagram was handled.
    pub(super) key_frames: Vec<(TrackId, Layer)>,
    /// Scratch for NACKs.
    pub(super) wanted: Vec<u16>,
}

/// One media worker's state.
pub struct Router {
    index: WorkerIndex,
    make_transport: MakeTransport,
    sessions: Vec<Option<Box<Session>>>,
    free: Vec<usize>,
    by_id: HashMap<SessionId, usize>,
    by_ufrag: HashMap<String, usize>,
    by_address: HashMap<SocketAddr, usize>,
    routes: HashMap<TrackId, Route>,
    shared: Shared,
    mesh: Vec<(MeshTarget, MeshMessage)>,
    /// (when, session): at least one entry at or before each session's wake.
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Earliest entry of each session in `timers`.
    armed: Vec<Option<Instant>>,
    levels_due: Option<Instant>,
}

impl Router {
    /// A worker without sessions.
    pub fn new(index: WorkerIndex, config: RouterConfig) -> Self {
        Router {
            index,
            make_transport: config.make_transport,
            sessions: Vec::new(),
            free: Vec::new(),
            by_id: HashMap::new(),
            by_ufrag: HashMap::new(),
            by_address: HashMap::new(),
            routes: HashMap::new(),
            shared: Shared {
                trains: Trains::new(),
                events: VecDeque::new(),
                counters: Counters::default(),
                pool: PacketPool::new(config.limits.buffers),
                wall: config.wall,
                limits: config.limits,
                key_frames: Vec::new(),
                wanted: Vec::new(),
            },
            mesh: Vec::new(),
            timers: BinaryHeap::new(),
            armed: Vec::new(),
            levels_due: None,
        }
    }

    /// Its index in the mesh.
    pub fn index(&self) -> WorkerIndex {
        self.index
    }

    /// Sessions it owns.
    pub fn sessions(&self) -> usize {
        self.by_id.len()
    }

    /// Packet buffers in use or kept for reuse.
    pub fn buffers(&self) -> usize {
        self.shared.pool.len()
    }

    /// Packets, bytes and drops since the start.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// The session that a datagram from this address goes to: by its ufrag for a check, by the
    /// address otherwise.
    pub fn session_of(&self, from: SocketAddr, datagram: &[u8]) -> Option<SessionId> {
        let place = match classify(datagram) {
            DatagramKind::Stun => self.by_ufrag.get(stun_local_ufrag(datagram)?)?,
            _ => self.by_address.get(&from)?,
        };
        self.sessions[*place].as_ref().map(|session| session.id)
    }

    /// Takes a session over, with the commands that waited for it. Commands that are refused
    /// are skipped.
    pub fn adopt(
        &mut self,
        now: Instant,
        config: SessionConfig,
        backlog: impl IntoIterator<Item = Command>,
    ) -> Result<(), CommandError> {
        if self.by_id.len() >= self.shared.limits.sessions {
            return Err(CommandError::TooManySessions);
        }
        let ufrag = config.transport.local.ufrag.clone();
        if self.by_id.contains_key(&config.session) || self.by_ufrag.contains_key(&ufrag) {
            return Err(CommandError::Exists);
        }
        let mut transport = (self.make_transport)(now, &config.transport);
        if let Some(remote) = config.remote {
            transport.set_remote(now, remote);
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.sessions.push(None);
            self.armed.push(None);
            self.sessions.len() - 1
        });
        self.by_id.insert(config.session, place);
        self.by_ufrag.insert(ufrag.clone(), place);
        self.sessions[place] = Some(Box::new(Session::new(
            now,
            config.session,
            ufrag,
            transport,
        )));
        self.levels_due.get_or_insert(now + LEVELS_INTERVAL);
        let adopted = Event::Adopted {
            session: config.session,
            worker: self.index,
        };
        self.shared.events.push_back(adopted);
        for command in backlog {
            let _ = self.command(now, config.session, command);
        }
        self.settle(now, place);
        Ok(())
    }

    /// Takes one datagram, whose bytes it may change.
    pub fn handle_datagram<'a>(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        datagram: &'a mut [u8],
    ) -> Verdict<'a> {
        let kind = classify(datagram);
        let outcome = match kind {
            DatagramKind::Rtp | DatagramKind::Rtcp => {
                let Some(&place) = self.by_address.get(&from) else {
                    return Verdict::UnknownSource;
                };
                let session = self.sessions[place]
                    .as_mut()
                    .expect("indexed sessions exist");
                if kind == DatagramKind::Rtp {
                    let packet = session.ingest(now, datagram, &mut self.shared);
                    self.arm(place);
                    packet.map(|packet| {
                        if let Some(packet) = packet {
                            self.route(now, packet, true);
                        }
                    })
                } else {
                    let control = session.control(now, datagram, &mut self.shared);
                    self.request_key_frames(now);
                    control
                }
            }
            DatagramKind::Stun => {
                let datagram: &'a [u8] = datagram;
                let Some(ufrag) = stun_local_ufrag(datagram) else {
                    self.shared.counters.drop(DropReason::StunUser);
                    return Verdict::Dropped(DropReason::StunUser);
                };
                let Some(&place) = self.by_ufrag.get(ufrag) else {
                    return Verdict::UnknownUfrag(ufrag);
                };
                let session = self.sessions[place]
                    .as_mut()
                    .expect("indexed sessions exist");
                let handled = session.transport.handle_datagram(now, from, to, datagram);
                // An authenticated check is what ties an address to a session.
                if handled.is_ok() {
                    // The old address may have become another session's since.
                    if let Some(old) = session.add_address(from)
                        && self.by_address.get(&old) == Some(&place)
                    {
                        self.by_address.remove(&old);
                    }
                    self.by_address.insert(from, place);
                }
                self.settle(now, place);
                handled.map_err(DropReason::Transport)
            }
            DatagramKind::Dtls => {
                let Some(&place) = self.by_address.get(&from) else {
                    return Verdict::UnknownSource;
                };
                let session = self.sessions[place]
                    .as_mut()
                    .expect("indexed sessions exist");
                let handled = session.transport.handle_datagram(now, from, to, datagram);
                self.settle(now, place);
                handled.map_err(DropReason::Transport)
            }
            DatagramKind::Other => Err(DropReason::Unclassified),
        };
        match outcome {
            Ok(()) => Verdict::Handled,
            Err(reason) => {
                self.shared.counters.drop(reason);
                Verdict::Dropped(reason)
            }
        }
    }

    /// When [`Self::handle_timeout`] is next needed; `None` without sessions.
    pub fn deadline(&self) -> Option<Instant> {
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        let levels = self.levels_due.filter(|_| !self.by_id.is_empty());
        timer.into_iter().chain(levels).min()
    }

    /// Does what is due at `now`. Calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&Reverse((at, place))) = self.timers.peek() {
            if at > now {
                break;
            }
            self.timers.pop();
            if self.armed[place] != Some(at) {
                continue;
            }
            self.armed[place] = None;
            let Some(session) = &mut self.sessions[place] else {
                continue;
            };
            if session.wake <= now {
                session.run(now, &mut self.shared);
            }
            self.settle(now, place);
        }
        if self.levels_due.is_some_and(|due| due <= now) {
            self.levels_due = Some(now + LEVELS_INTERVAL);
            self.report_levels(now);
        }
    }

    /// Datagrams to send, as trains in order. They stay until [`Self::sent`].
    pub fn outgoing(&self) -> impl Iterator<Item = Train<'_>> {
        self.shared.trains.iter()
    }

    /// Whether there is nothing to send.
    pub fn is_idle(&self) -> bool {
        self.shared.trains.is_empty()
    }

    /// Everything from [`Self::outgoing`] was sent: its buffers are free.
    pub fn sent(&mut self) {
        self.shared.trains.flushed();
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.shared.events.pop_front()
    }

    fn request_key_frames(&mut self, now: Instant) {
        while let Some((track, layer)) = self.shared.key_frames.pop() {
            self.want_key_frame(now, track, layer);
        }
    }

    /// After anything that may have changed a session: its transport's output, its end, its
    /// timer.
    fn settle(&mut self, now: Instant, place: usize) {
        let Some(session) = &mut self.sessions[place] else {
            return;
        };
        session.poll_transport(now, &mut self.shared);
        if let Some(reason) = session.closed {
            self.remove(place, reason);
        } else {
            self.arm(place);
        }
    }

    fn arm(&mut self, place: usize) {
        let Some(session) = &self.sessions[place] else {
            return;
        };
        if self.armed[place].is_none_or(|armed| session.wake < armed) {
            self.armed[place] = Some(session.wake);
            self.timers.push(Reverse((session.wake, place)));
        }
    }

    /// Changes a route if there is one, and forgets it when it is of no use any more.
    fn change_route(&mut self, track: TrackId, change: impl FnOnce(&mut Route)) {
        if let Some(route) = self.routes.get_mut(&track) {
            change(route);
            if route.is_unused() {
                self.routes.remove(&track);
            }
        }
    }

    fn remove(&mut self, place: usize, reason: CloseReason) {
        let Some(mut session) = self.sessions[place].take() else {
            return;
        };
        self.by_id.remove(&session.id);
        for ufrag in &session.ufrags {
            self.by_ufrag.remove(ufrag);
        }
        for address in &session.addresses {
            // The address may have become another session's since.
            if self.by_address.get(address) == Some(&place) {
                self.by_address.remove(address);
            }
        }
        let mut silent = Vec::new();
        for received in session.received.iter_mut().flatten() {
            let track = received.parameters.track;
            silent.extend(received.loudness.silence().map(|level| (track, level)));
            self.change_route(track, |route| route.source = None);
        }
        for subscription in 0..session.sent.len() {
            if let Some(track) = session.stop_send(subscription) {
                self.drop_subscriber(track, (place, subscription));
            }
        }
        self.armed[place] = None;
        self.free.push(place);
        if !silent.is_empty() {
            self.shared.events.push_back(Event::Levels(silent));
        }
        self.shared.events.push_back(Event::Disconnected {
            session: session.id,
            reason,
        });
    }

    fn report_levels(&mut self, now: Instant) {
        let mut levels: Vec<(TrackId, Level)> = Vec::new();
        for session in self.sessions.iter_mut().flatten() {
            for received in session.received.iter_mut().flatten() {
                let track = received.parameters.track;
                if received.parameters.kind == MediaKind::Audio {
                    levels.extend(received.loudness.interval(now).map(|level| (track, level)));
                }
                if let Some(stalled) = received.stall(now) {
                    self.shared
                        .events
                        .push_back(Event::TrackStalled { track, stalled });
                }
            }
        }
        if !levels.is_empty() {
            self.shared.events.push_back(Event::Levels(levels));
        }
    }
}
