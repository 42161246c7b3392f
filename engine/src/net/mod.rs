//! The media workers: threads with one UDP port between them, and the mesh that joins them.
//!
//! ```text
//! shard ── open, command ──► table ──► inbox ─┐                    ┌─► events ──► shard
//! peers ── UDP ──► socket (one per worker) ───┴─► worker: Router ──┼─► trains ──► peers
//!                       worker ◄── rings (media), inboxes (control) ──► worker, mixer
//! ```
//! A session belongs to the worker on which its first ICE check lands; the kernel keeps a
//! peer's packets there. When a peer's address changes its packets may land elsewhere and are
//! passed on. Owns sockets, threads, clocks; decides nothing about rooms or media.

#[cfg(not(target_os = "linux"))]
compile_error!("the media workers use recvmmsg, UDP_SEGMENT and eventfd: Linux only");

mod mesh;
pub mod socket;
mod stats;
mod table;
mod worker;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime};

use palabre_media::ids::{SessionId, WorkerIndex};
use palabre_media::rtp::rtcp::NtpTime;
use palabre_media::sfu::{Command, Event, Limits, Router, RouterConfig, SessionConfig, WallClock};
use palabre_media::transport::{
    Certificate, CloseReason, Fingerprint, Transport, TransportConfig, WebRtcTransport,
};

use tokio::sync::oneshot;

pub use mesh::MeshMember;
pub use stats::WorkerStats;

use crate::priority::Priority;

use mesh::{Mailbox, Member, Order};
use socket::MediaSocket;
use stats::Counts;
use table::{Delivery, Table};
use worker::{MakeRouter, Worker};

/// Where workers tell what happened. Called on worker threads: it must not block.
pub type EventSink = Arc<dyn Fn(Event) + Send + Sync>;

/// How the workers are set up.
#[derive(Clone)]
pub struct WorkersConfig {
    /// Address and port of all media; port 0 takes any free one.
    pub media: SocketAddr,
    /// Threads; `None` is one for each core.
    pub workers: Option<usize>,
    /// Of those threads.
    pub priority: Priority,
    /// Bounds on what each worker holds.
    pub limits: Limits,
    /// The certificate of every session.
    pub certificate: Certificate,
    /// Takes what happens.
    pub events: EventSink,
}

/// What helps when an address cannot be bound, to follow what the system said; empty when that says all.
#[must_use]
pub fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => "; another program has this port: stop it, or set another one",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need the right to open them",
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        _ => "",
    }
}

/// Why the workers did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartWorkersError {
    /// The media port cannot be opened.
    #[error(
        "cannot open the media port {address} (key media.bind): {source}{}",
        remedy(source)
    )]
    MediaPort {
        /// Address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A thread or its wake-up cannot be made.
    #[error("cannot start a media thread: {0}")]
    Thread(#[source] io::Error),
}

/// A refused command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkersError {
    /// The name or ufrag of the session is taken.
    #[error("a session with this name or ufrag exists already")]
    Exists,
    /// There is no such session (any more).
    #[error("no such session")]
    UnknownSession,
    /// Too many commands wait for a session that has not begun, or for a stalled worker.
    #[error("too many commands wait")]
    Overloaded,
}

/// The running workers. Share it behind an `Arc`; dropping it stops them.
pub struct Workers {
    table: Arc<Table>,
    mailboxes: Arc<[Mailbox]>,
    counts: Vec<Arc<Counts>>,
    events: EventSink,
    local: SocketAddr,
    fingerprint: Fingerprint,
    is_stopping: Arc<AtomicBool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    guest: Mutex<Option<Member>>,
}

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let workers = self.counts.len();
        f.debug_struct("Workers")
            .field("workers", &workers)
            .finish_non_exhaustive()
    }
}

impl Workers {
    /// Opens the port and starts the threads.
    pub fn start(config: WorkersConfig) -> Result<Self, StartWorkersError> {
        let certificate = config.certificate.clone();
        Self::start_with(
            config,
            Arc::new(move |now, config| {
                Box::new(WebRtcTransport::new(
                    now,
                    certificate.clone(),
                    config.clone(),
                ))
            }),
        )
    }

    fn start_with(
        config: WorkersConfig,
        make_transport: SharedMakeTransport,
    ) -> Result<Self, StartWorkersError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = config.workers.unwrap_or(cores).clamp(1, 64);
        let sockets = MediaSocket::open(config.media, count).map_err(|source| {
            StartWorkersError::MediaPort {
                address: config.media,
                source,
            }
        })?;
        let local = sockets[0].local();
        // One more place in the mesh than workers: the mixer's.
        let mut members = mesh::members(count + 1, count).map_err(StartWorkersError::Thread)?;
        let guest = members.pop();
        let mailboxes = Arc::clone(members[0].mailboxes());
        let table = Arc::new(Table::default());
        let is_stopping = Arc::new(AtomicBool::new(false));
        let mut workers = Self {
            table: Arc::clone(&table),
            mailboxes,
            counts: Vec::new(),
            events: Arc::clone(&config.events),
            local,
            fingerprint: config.certificate.fingerprint(),
            is_stopping: Arc::clone(&is_stopping),
            threads: Mutex::default(),
            guest: Mutex::new(guest),
        };
        let wall = wall_clock();
        for (core, (socket, member)) in sockets.into_iter().zip(members).enumerate() {
            let make_router = make_router(wall, config.limits, Arc::clone(&make_transport));
            let counts = Arc::new(Counts::default());
            workers.counts.push(Arc::clone(&counts));
            let worker = Worker {
                socket,
                router: make_router(member.index()),
                make_router,
                member,
                table: Arc::clone(&table),
                counts,
                events: Arc::clone(&config.events),
                is_stopping: Arc::clone(&is_stopping),
                roamed: HashMap::new(),
                published: None,
                is_stale: true,
                sweep_at: None,
            };
            let thread = std::thread::Builder::new()
                .name(format!("media-{core}"))
                .spawn(move || {
                    // Best effort: a container may forbid it.
                    let _ = socket::pin_to_core(core % cores);
                    config.priority.take_or_say("media");
                    worker.run();
                })
                .map_err(StartWorkersError::Thread)?;
            workers
                .threads
                .get_mut()
                .expect("nobody shares it yet")
                .push(thread);
        }
        Ok(workers)
    }

    /// The address media arrives on, with the real port when 0 was asked for.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// What our descriptions say as `a=fingerprint`.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Lets a session begin with its first ICE check. One that never comes is told as
    /// [`Event::Disconnected`] after a minute.
    pub fn open(&self, config: SessionConfig) -> Result<(), WorkersError> {
        if !self.table.open(Instant::now(), config) {
            return Err(WorkersError::Exists);
        }
        // The first worker looks after those that wait.
        let _ = self.mailboxes[0].order(Order::Sweep);
        Ok(())
    }

    /// Tells a session what to do. Commands of one session are carried out in order, also
    /// those given before it began.
    pub fn command(&self, session: SessionId, command: Command) -> Result<(), WorkersError> {
        match self.table.deliver(session, command) {
            Delivery::Kept => Ok(()),
            Delivery::To(worker, command) => self.mailboxes[usize::from(worker.0)]
                .order(Order::Command(session, command))
                .map_err(|_| WorkersError::Overloaded),
            Delivery::Closed => {
                let reason = CloseReason::Local;
                (self.events)(Event::Disconnected { session, reason });
                Ok(())
            }
            Delivery::UnknownSession => Err(WorkersError::UnknownSession),
            Delivery::BacklogFull => Err(WorkersError::Overloaded),
        }
    }

    /// Ends a session; [`Event::Disconnected`] follows.
    pub fn close(&self, session: SessionId) -> Result<(), WorkersError> {
        self.command(session, Command::Close)
    }

    /// The place in the mesh that is no worker's, for the mixer thread; `None` when taken.
    pub fn join_mesh(&self) -> Option<MeshMember> {
        let guest = self.guest.lock().ok()?.take();
        guest.map(MeshMember::new)
    }

    /// A reading of every worker's counters, at most half a second old.
    pub fn stats(&self) -> Vec<WorkerStats> {
        let workers = self.counts.iter().enumerate();
        workers
            .map(|(index, counts)| counts.read(WorkerIndex(index as u8)))
            .collect()
    }

    /// Sessions that no packet has reached yet.
    pub fn waiting(&self) -> usize {
        self.table.waiting()
    }

    /// Whether every worker's thread runs.
    pub fn is_alive(&self) -> bool {
        self.threads.lock().is_ok_and(|threads| {
            !threads.is_empty() && !threads.iter().any(JoinHandle::is_finished)
        })
    }

    /// Asks every worker's thread for an answer, and waits for it: for ever when one hangs. `false` when one has ended or
    /// has too much to do to be asked.
    pub async fn answer(&self) -> bool {
        // The last place in the mesh is no worker's.
        let workers = self.mailboxes.iter().take(self.counts.len());
        let asked: Vec<_> = workers
            .map(|mailbox| {
                let (reply, answer) = oneshot::channel();
                mailbox.order(Order::Answer(reply)).map(|()| answer)
            })
            .collect();
        for answer in asked {
            let Ok(answer) = answer else { return false };
            if answer.await.is_err() {
                return false;
            }
        }
        true
    }

    /// Says good-bye to every peer and ends the threads. Idempotent.
    pub fn shutdown(&self) {
        self.is_stopping.store(true, Ordering::Release);
        for mailbox in self.mailboxes.iter() {
            mailbox.rouse();
        }
        let threads = self
            .threads
            .lock()
            .map(|mut threads| std::mem::take(&mut *threads));
        for thread in threads.unwrap_or_default() {
            // A worker contains panics of its router; one of its own has nothing left to save.
            let _ = thread.join();
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// Makes transports for the routers of all workers.
type SharedMakeTransport =
    Arc<dyn Fn(Instant, &TransportConfig) -> Box<dyn Transport + Send> + Send + Sync>;

fn make_router(wall: WallClock, limits: Limits, make_transport: SharedMakeTransport) -> MakeRouter {
    Box::new(move |index| {
        let make_transport = Arc::clone(&make_transport);
        let make_transport = Box::new(move |now, config: &_| make_transport(now, config));
        Router::new(
            index,
            RouterConfig {
                wall,
                limits,
                make_transport,
            },
        )
    })
}

/// The machine's wall clock as NTP time (RFC 3550 §4), read once: it may jump later, media
/// must not.
fn wall_clock() -> WallClock {
    /// Seconds between 1900 and 1970.
    const EPOCH: u64 = 2_208_988_800;
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = since.as_secs().wrapping_add(EPOCH);
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    WallClock {
        at: Instant::now(),
        ntp: NtpTime(seconds << 32 | fraction),
    }
}

#[cfg(test)]
mod tests;
