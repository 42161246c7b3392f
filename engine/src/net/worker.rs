//! One worker thread: its socket, its router, its place in the mesh.
//!
//! ```text
//! orders ─┐
//! rings  ─┼─► router ─► events, mesh, trains ─► one sendmmsg ─► sleep
//! socket ─┘
//! ```
//! Decides nothing about media. Never blocks but in its one sleep.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use palabre_media::ids::{SessionId, WorkerIndex};
use palabre_media::sfu::{
    Command, CommandError, Event, MeshMessage, MeshTarget, Router, Train, Verdict,
};
use palabre_media::transport::{CloseReason, DataChannel, SendDataError};

use super::EventSink;
use super::mesh::{Member, Order};
use super::socket::{MediaSocket, ReceiveBatch, sleep};
use super::stats::Counts;
use super::table::{Claim, Table};

/// How long datagrams of an unfinished frame wait for the rest of it.
///
/// Higher makes longer trains (a train of 4 costs half as much per packet) and adds as much
/// delay to video; sound never waits.
const GATHER: Duration = Duration::from_millis(1);

/// Datagrams shorter than this are sound or control and leave at once.
const URGENT_BELOW: usize = 600;

/// Orders carried out before the socket is looked at again.
const ORDERS_PER_TURN: usize = 256;

/// Ring messages taken from each member before the socket is looked at again.
const RING_MESSAGES_PER_TURN: usize = 256;

/// Peers that roamed to this worker's socket while another owns them.
const MAX_ROAMED: usize = 4_096;

/// How long a roamed peer's media is passed on without another check. Browsers check every
/// 2.5 s.
const ROAMED_FOR: Duration = Duration::from_secs(30);

/// How often sessions that wait for their first packet are looked through, while there are any.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// How often counters of the router are published.
const PUBLISH_EVERY: Duration = Duration::from_millis(500);

/// Makes a router: at the start, and again after a bug in it.
pub(super) type MakeRouter = Box<dyn Fn(WorkerIndex) -> Router + Send>;

pub(super) struct Worker {
    pub(super) socket: MediaSocket,
    pub(super) member: Member,
    pub(super) router: Router,
    pub(super) make_router: MakeRouter,
    pub(super) table: Arc<Table>,
    pub(super) counts: Arc<Counts>,
    pub(super) events: EventSink,
    pub(super) is_stopping: Arc<AtomicBool>,
    pub(super) roamed: HashMap<SocketAddr, (WorkerIndex, Instant)>,
    pub(super) published: Option<Instant>,
    /// Whether something happened since then.
    pub(super) is_stale: bool,
    /// When stale sessions are looked for; `None` while none waits.
    pub(super) sweep_at: Option<Instant>,
}

impl Worker {
    pub(super) fn run(mut self) {
        let mut batch = ReceiveBatch::default();
        let mut held_since: Option<Instant> = None;
        while !self.is_stopping.load(Ordering::Acquire) {
            let mut now = Instant::now();
            let mut is_busy = self.carry_out_orders(now);
            is_busy |= self.take_from_rings(now);
            match self.socket.receive(&mut batch) {
                Ok(0) => {}
                Ok(_) => {
                    is_busy = true;
                    now = Instant::now();
                    self.take_datagrams(now, &mut batch);
                }
                // Of one peer (an ICMP answer) or of the moment: the next call tells more.
                Err(_) => self.counts.receive_errors.add(1),
            }
            if self
                .router
                .deadline()
                .is_some_and(|deadline| deadline <= now)
            {
                self.contain(Suspect::Anybody, |router, _| router.handle_timeout(now));
            }
            if self.sweep_at.is_some_and(|at| at <= now) {
                self.sweep(now);
            }
            self.report();

            let may_wait = !self.router.is_idle() && self.router.outgoing().all(is_unfinished);
            let held = may_wait.then(|| *held_since.get_or_insert(now));
            if held.is_none_or(|since| now.saturating_duration_since(since) >= GATHER) {
                held_since = None;
                self.flush();
            }
            self.is_stale |= is_busy;
            let published_next = self.publish(now);
            if is_busy {
                continue;
            }
            let until = held_since.map(|since| since + GATHER);
            let until = [until, self.router.deadline(), self.sweep_at, published_next]
                .into_iter()
                .flatten()
                .min();
            if self.member.may_sleep() {
                let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
                sleep(&self.socket, self.member.wake(), timeout);
                self.member.wakes_up();
                self.counts.wake_ups.add(1);
            }
        }
        self.say_goodbye();
    }

    fn carry_out_orders(&mut self, now: Instant) -> bool {
        for count in 0..ORDERS_PER_TURN {
            let Some(order) = self.member.order() else {
                return count > 0;
            };
            match order {
                Order::Command(session, command) => self.command(now, session, command),
                Order::Mesh(message) => {
                    self.contain(Suspect::Anybody, |router, _| {
                        router.handle_mesh(now, message)
                    });
                }
                Order::Greet(member) => self.router.greet(member),
                Order::Sweep => {
                    self.sweep_at.get_or_insert(now + SWEEP_EVERY);
                }
                // Who asked may have gone.
                Order::Answer(reply) => drop(reply.send(())),
            }
        }
        true
    }

    /// Forgets sessions that waited too long for their first packet.
    fn sweep(&mut self, now: Instant) {
        for session in self.table.sweep(now) {
            let reason = CloseReason::IceTimeout;
            (self.events)(Event::Disconnected { session, reason });
        }
        self.sweep_at = (self.table.waiting() > 0).then_some(now + SWEEP_EVERY);
    }

    fn command(&mut self, now: Instant, session: SessionId, command: Command) {
        let is_reliable = matches!(
            command,
            Command::SendData {
                channel: DataChannel::Reliable,
                ..
            }
        );
        let outcome = self.contain(Suspect::Session(session), |router, _| {
            router.command(now, session, command)
        });
        let full = CommandError::Data(SendDataError::QueueFull);
        if is_reliable && outcome.as_ref() == Some(&Err(full)) {
            self.counts.reliable_refused.add(1);
        }
        if matches!(outcome, Some(Err(_))) {
            self.counts.commands_refused.add(1);
        }
    }

    fn take_from_rings(&mut self, now: Instant) -> bool {
        let mut messages = std::mem::take(&mut self.member.scratch);
        let came = self
            .member
            .drain_rings(RING_MESSAGES_PER_TURN, |message| messages.push(message));
        for message in messages.drain(..) {
            self.contain(Suspect::Anybody, |router, _| {
                router.handle_mesh(now, message)
            });
        }
        self.member.scratch = messages;
        came
    }

    fn take_datagrams(&mut self, now: Instant, batch: &mut ReceiveBatch) {
        let to = self.socket.local();
        let (mut packets, mut bytes) = (0, 0);
        for (from, datagram) in batch.datagrams() {
            packets += 1;
            bytes += datagram.len() as u64;
            self.take_datagram(now, from, to, datagram);
        }
        self.counts.packets_in.add(packets);
        self.counts.bytes_in.add(bytes);
    }

    fn take_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        datagram: &mut [u8],
    ) {
        let next = self.contain_datagram(from, datagram, |router, found, datagram| {
            match router.handle_datagram(now, from, to, datagram) {
                Verdict::Handled | Verdict::Dropped(_) => Next::Done,
                Verdict::UnknownSource => Next::Stranger,
                Verdict::UnknownUfrag(ufrag) => match found.table.claim(ufrag, found.index) {
                    Claim::Adopted(config, backlog) => {
                        let session = config.session;
                        match router.adopt(now, *config, backlog) {
                            Ok(()) => Next::Again,
                            Err(_) => Next::NotAdopted(session),
                        }
                    }
                    Claim::Owned(owner) => Next::Owned(owner),
                    Claim::Unknown => Next::Stranger,
                },
            }
        });
        match next {
            Some(Next::Again) => {
                self.contain_datagram(from, datagram, |router, _, datagram| {
                    router.handle_datagram(now, from, to, datagram);
                });
            }
            Some(Next::NotAdopted(session)) => {
                self.counts.commands_refused.add(1);
                self.table.remove(session);
                let reason = CloseReason::Local;
                (self.events)(Event::Disconnected { session, reason });
            }
            // After a restart of this router a session may be the table's and nobody's.
            Some(Next::Owned(owner)) if owner == self.member.index() => {
                self.counts.strangers.add(1)
            }
            Some(Next::Owned(owner)) => {
                if self.roamed.len() >= MAX_ROAMED {
                    self.roamed.clear();
                }
                self.roamed.insert(from, (owner, now));
                self.pass_on(owner, from, to, datagram);
            }
            Some(Next::Stranger) => match self.roamed.get(&from) {
                Some((owner, at)) if now.saturating_duration_since(*at) < ROAMED_FOR => {
                    self.pass_on(*owner, from, to, datagram);
                }
                _ => self.counts.strangers.add(1),
            },
            Some(Next::Done) | None => {}
        }
    }

    fn pass_on(&mut self, owner: WorkerIndex, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        self.counts.passed_on.add(1);
        let message = MeshMessage::Datagram {
            from,
            to,
            bytes: datagram.to_vec(),
        };
        self.member.send(MeshTarget::One(owner), message);
    }

    /// Tells the control plane and the mesh what the router has for them.
    fn report(&mut self) {
        while let Some(event) = self.router.poll_event() {
            if let Event::Disconnected { session, .. } = &event {
                self.table.remove(*session);
            }
            (self.events)(event);
        }
        for (target, message) in self.router.drain_mesh() {
            self.member.send(target, message);
        }
        self.member.flush();
    }

    fn flush(&mut self) {
        if self.router.is_idle() {
            return;
        }
        let sent = self.socket.send(self.router.outgoing());
        self.router.sent();
        self.counts.packets_out.add(sent.datagrams);
        self.counts.bytes_out.add(sent.bytes);
        self.counts.trains.add(sent.trains);
        self.counts.send_calls.add(sent.calls);
        self.counts.fallbacks.add(sent.fallbacks);
        self.counts.send_drops.add(sent.dropped);
    }

    /// Publishes the router's counters if they changed and it is time; says when it next is.
    fn publish(&mut self, now: Instant) -> Option<Instant> {
        if !self.is_stale {
            return None;
        }
        if let Some(due) = self.published.map(|at| at + PUBLISH_EVERY)
            && now < due
        {
            return Some(due);
        }
        self.published = Some(now);
        self.is_stale = false;
        self.counts.sessions.set(self.router.sessions() as u64);
        self.counts.ring_drops.set(self.member.ring_drops);
        // A scrape in progress reads the figures of half a second ago.
        if let Ok(mut router) = self.counts.router.try_lock() {
            router.clone_from(self.router.counters());
        }
        None
    }

    /// Runs the router; a panic in it costs the suspect, or all sessions of the worker when
    /// nobody can say whose fault it was, but not the worker.
    fn contain<T>(
        &mut self,
        suspect: Suspect,
        run: impl FnOnce(&mut Router, &Surroundings<'_>) -> T,
    ) -> Option<T> {
        let surroundings = Surroundings {
            table: &self.table,
            index: self.member.index(),
        };
        let router = &mut self.router;
        // The router is thrown away or cleaned of the suspect in `recover`, so that nothing
        // half done is ever seen.
        match catch_unwind(AssertUnwindSafe(|| run(router, &surroundings))) {
            Ok(value) => Some(value),
            Err(_) => {
                self.recover(suspect);
                None
            }
        }
    }

    /// As [`Self::contain`]; the suspect is whom the datagram goes to.
    fn contain_datagram<T>(
        &mut self,
        from: SocketAddr,
        datagram: &mut [u8],
        run: impl FnOnce(&mut Router, &Surroundings<'_>, &mut [u8]) -> T,
    ) -> Option<T> {
        let surroundings = Surroundings {
            table: &self.table,
            index: self.member.index(),
        };
        let router = &mut self.router;
        match catch_unwind(AssertUnwindSafe(|| run(router, &surroundings, datagram))) {
            Ok(value) => Some(value),
            Err(_) => {
                let session = self.router.session_of(from, datagram);
                self.recover(session.map_or(Suspect::Anybody, Suspect::Session));
                None
            }
        }
    }

    fn recover(&mut self, suspect: Suspect) {
        self.counts.panics.add(1);
        tracing::error!(
            worker = self.member.index().0,
            "a bug in the media plane was contained"
        );
        // A datagram may stand there unencrypted.
        self.router.sent();
        let is_removed = match suspect {
            Suspect::Session(session) => {
                let close = || self.router.command(Instant::now(), session, Command::Close);
                catch_unwind(AssertUnwindSafe(close)).is_ok_and(|outcome| outcome.is_ok())
            }
            Suspect::Anybody => false,
        };
        if is_removed {
            return;
        }
        let index = self.member.index();
        self.router = (self.make_router)(index);
        for session in self.table.owned_by(index) {
            self.table.remove(session);
            let reason = CloseReason::Local;
            (self.events)(Event::Disconnected { session, reason });
        }
    }

    /// Tells peers that we are leaving, so that they reconnect at once.
    fn say_goodbye(&mut self) {
        let now = Instant::now();
        for session in self.table.owned_by(self.member.index()) {
            self.contain(Suspect::Session(session), |router, _| {
                let _ = router.command(now, session, Command::Close);
            });
        }
        self.report();
        self.flush();
        (self.published, self.is_stale) = (None, true);
        self.publish(now);
    }
}

/// Whose fault a panic is taken to be.
enum Suspect {
    Session(SessionId),
    Anybody,
}

/// What of the worker is needed while its router runs.
struct Surroundings<'a> {
    table: &'a Table,
    index: WorkerIndex,
}

enum Next {
    Done,
    Again,
    Stranger,
    NotAdopted(SessionId),
    Owned(WorkerIndex),
}

/// Whether more datagrams of the same frame are likely to come: all of one large size so far.
fn is_unfinished(train: Train<'_>) -> bool {
    train.segment >= URGENT_BELOW && train.bytes.len().is_multiple_of(train.segment)
}
