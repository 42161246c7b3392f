//! The tokio shell: sockets, clock and randomness of the OS around the sans-IO [`Gateway`].
//!
//! One task owns the gateway; each TCP connection has a reader and a writer behind bounded queues. Nothing here understands a
//! SIP message: it carries bytes, opens lines and looks rooms up as it is told.

mod lines;
mod route;
mod stream;

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use palabre_engine::net::remedy;
use thiserror::Error;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::config::SipConfig;
use crate::gateway::{Gateway, Input, Output};
use crate::metrics::{Dropped, Metrics};
use crate::prompts::{PromptError, Prompts};
use crate::rooms::Rooms;
use crate::sip::{self, DialogId};

use lines::Lines;
use route::{Routes, canonical, dressed};
use stream::Streams;

/// Bytes read of one datagram: one more than SIP's practical bound would be 65,535; what is longer than this is dropped.
const DATAGRAM: usize = 65_535;

/// Datagrams handled before the calls' own events get a turn. More favours bursts, fewer favours running calls.
const BATCH: usize = 64;

/// Events of lines, look-ups and connections waiting for the gateway's task. When it is full their senders wait.
const QUEUE: usize = 1_024;

/// Receive buffer asked of the system. More stands a longer burst of calls while the task is busy: 2,000 INVITEs here.
const BURST: usize = 4 << 20;

/// Longest wait for the answers to our BYEs when the program stops: T1 x 4, two retransmissions.
const LAST_BYES: std::time::Duration = std::time::Duration::from_secs(2);

/// Bugs in a row, each met while only time passed, after which the task gives up: a timer that can never run would be met
/// again at once, for ever. More hopes longer, fewer restarts sooner.
const STUCK: u32 = 16;

/// The SIP side did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The port cannot be opened.
    #[error(
        "cannot listen for SIP on {protocol} {address} (key sip.bind): {source}{}",
        remedy(source)
    )]
    Port {
        /// UDP or TCP.
        protocol: &'static str,
        /// Address and port asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// An own recording cannot be used.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// The system gave no randomness.
    #[error("the operating system gave no random numbers")]
    Randomness,
}

/// A running SIP side. Dropping it ends it without a word to callers: call [`shut_down`](Self::shut_down) first.
#[derive(Debug)]
pub struct Sip {
    address: SocketAddr,
    metrics: Metrics,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    /// Closed when the task has ended, by whatever cause.
    running: watch::Receiver<()>,
}

impl Sip {
    /// Opens the ports and begins to take calls.
    ///
    /// # Errors
    /// [`StartError`] when a port is taken or a recording unusable.
    pub async fn start(config: SipConfig, rooms: impl Rooms) -> Result<Self, StartError> {
        let prompts = match &config.prompts {
            Some(folder) => Prompts::with_folder(folder)?,
            None => Prompts::shipped(),
        };
        // More calls than lines would be answered, then hung up without a word.
        let config = SipConfig {
            calls: config.calls.min(rooms.lines()),
            ..config
        };
        let (udp, tcp, address) = open(config.bind).await?;
        let mut seed = [0; 32];
        aws_lc_rs::rand::fill(&mut seed).map_err(|_| StartError::Randomness)?;
        let metrics = Metrics::default();
        let gateway = Gateway::new(config.clone(), Arc::new(prompts), seed, metrics.clone());
        let (stop, stopped) = oneshot::channel();
        let (events, inbox) = mpsc::channel(QUEUE);
        let shell = Shell {
            gateway,
            udp: Arc::new(udp),
            address,
            routes: Routes::default(),
            streams: Streams::new(config.idle.duration(), events.clone(), metrics.clone()),
            lines: Lines::new(config.rtp_ports, Arc::new(rooms), events),
            inbox,
            metrics: metrics.clone(),
            stuck: 0,
        };
        let (alive, running) = watch::channel(());
        let task = tokio::spawn(async move {
            let _alive = alive;
            shell.run(tcp, stopped).await;
        });
        Ok(Self {
            address,
            metrics,
            stop: Some(stop),
            task,
            running,
        })
    }

    /// Where calls are taken.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Counters and gauges.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Completes when no more calls are taken: after [`shut_down`](Self::shut_down), or by a bug that could not be contained.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut running = self.running.clone();
        // Nothing is ever sent: the only change is the end.
        async move { while running.changed().await.is_ok() {} }
    }

    /// Says at any time whether calls are taken.
    pub fn is_running(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let running = self.running.clone();
        move || running.has_changed().is_ok()
    }

    /// Says BYE to every caller, waits a little for the answers, and closes the ports.
    pub async fn shut_down(mut self) {
        if let Some(stop) = self.stop.take() {
            // The task may have ended by a bug: then there is nobody to tell.
            let _ = stop.send(());
        }
        let _ = (&mut self.task).await;
    }
}

impl Drop for Sip {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// UDP and TCP on one port; port 0 draws one that both can have.
async fn open(address: SocketAddr) -> Result<(UdpSocket, TcpListener, SocketAddr), StartError> {
    const DRAWS: usize = 16;
    let failed = |protocol, address| {
        move |source| StartError::Port {
            protocol,
            address,
            source,
        }
    };
    let mut draws = 0;
    loop {
        draws += 1;
        let udp = udp(address).map_err(failed("UDP", address))?;
        let bound = udp.local_addr().map_err(failed("UDP", address))?;
        match TcpListener::bind(bound).await {
            Ok(tcp) => return Ok((udp, tcp, bound)),
            Err(_) if address.port() == 0 && draws < DRAWS => {}
            Err(source) => return Err(failed("TCP", bound)(source)),
        }
    }
}

fn udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None)?;
    // The system may allow less: then a smaller burst is lost, and repeated by its senders.
    let _ = socket.set_recv_buffer_size(BURST);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// What reaches the gateway's task from the others.
pub(crate) enum FromOutside<L> {
    /// Of a TCP connection.
    Stream(stream::StreamEvent),
    /// Of a call's line or look-up.
    Line(lines::LineEvent<L>),
}

struct Shell<R: Rooms> {
    gateway: Gateway,
    udp: Arc<UdpSocket>,
    address: SocketAddr,
    routes: Routes,
    streams: Streams<R::Line>,
    lines: Lines<R>,
    inbox: mpsc::Receiver<FromOutside<R::Line>>,
    metrics: Metrics,
    /// Bugs met in a row while time passed.
    stuck: u32,
}

/// Gives an input to the gateway. A bug there costs the call that the input was about, or the message: never the telephony.
fn give(gateway: &mut Gateway, metrics: &Metrics, now: Instant, input: Input<'_>) -> bool {
    let whole = catch_unwind(AssertUnwindSafe(|| gateway.handle(now, input))).is_ok();
    if !whole {
        metrics.panicked();
        if catch_unwind(AssertUnwindSafe(|| gateway.recover(now))).is_err() {
            metrics.panicked();
        }
    }
    whole
}

impl<R: Rooms> Shell<R> {
    async fn run(mut self, tcp: TcpListener, mut stopped: oneshot::Receiver<()>) {
        let mut datagram = vec![0; DATAGRAM];
        let mut ending: Option<Instant> = None;
        loop {
            let deadline = [self.gateway.deadline(), ending]
                .into_iter()
                .flatten()
                .min();
            let wait = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            let udp = self.udp.clone();
            tokio::select! {
                readable = udp.readable() => {
                    if readable.is_ok() {
                        self.datagrams(&udp, &mut datagram);
                    }
                }
                Some(event) = self.inbox.recv() => {
                    // What a line does with a report is the engine's code, and may have its own bugs.
                    let outside = AssertUnwindSafe(|| self.outside(event));
                    if catch_unwind(outside).is_err() {
                        self.metrics.panicked();
                    }
                }
                accepted = tcp.accept(), if ending.is_none() => match accepted {
                    Ok((stream, _)) => {
                        if let Some(input) = self.streams.accepted(stream) {
                            give(&mut self.gateway, &self.metrics, Instant::now(), Input::Sip(input));
                        }
                    }
                    // Out of file descriptors: leave some time to the connections that will close.
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
                },
                () = wait => self.timeout(),
                _ = &mut stopped, if ending.is_none() => {
                    let now = Instant::now();
                    let gateway = &mut self.gateway;
                    if catch_unwind(AssertUnwindSafe(|| gateway.shut_down(now))).is_err() {
                        self.metrics.panicked();
                    }
                    ending = Some(now + LAST_BYES);
                }
            }
            self.drain();
            if ending.is_some_and(|end| self.gateway.is_quiet() || Instant::now() >= end) {
                self.streams.close_all().await;
                return;
            }
        }
    }

    /// Reads what the socket holds, up to a batch.
    fn datagrams(&mut self, udp: &UdpSocket, buffer: &mut [u8]) {
        for _ in 0..BATCH {
            // An error here is an ICMP answer to something sent before, or "nothing more".
            let Ok((length, from)) = udp.try_recv_from(buffer) else {
                return;
            };
            let now = Instant::now();
            let from = canonical(from);
            let Some(to) = self.routes.local(now, self.address, from) else {
                self.metrics.dropped(Dropped::NoRoute);
                continue;
            };
            self.metrics.received();
            let bytes = &buffer[..length];
            let input = sip::Input::Datagram { from, to, bytes };
            give(&mut self.gateway, &self.metrics, now, Input::Sip(input));
            self.drain();
        }
    }

    /// # Panics
    /// When bugs follow each other and nothing else: then the task ends, and whoever watches [`Sip::ended`] knows.
    fn timeout(&mut self) {
        let whole = give(
            &mut self.gateway,
            &self.metrics,
            Instant::now(),
            Input::Timeout,
        );
        self.stuck = if whole { 0 } else { self.stuck + 1 };
        assert!(self.stuck < STUCK, "the SIP timers cannot run any more");
    }

    fn outside(&mut self, event: FromOutside<R::Line>) {
        let now = Instant::now();
        match event {
            FromOutside::Stream(event) => {
                let Self {
                    streams,
                    gateway,
                    metrics,
                    ..
                } = self;
                streams.moved(event, |input| {
                    metrics.received();
                    give(gateway, metrics, now, Input::Sip(input));
                });
            }
            FromOutside::Line(event) => {
                if let Some((call, input)) = self.lines.moved(event) {
                    give(
                        &mut self.gateway,
                        &self.metrics,
                        now,
                        Input::Call(call, input),
                    );
                }
            }
        }
    }

    /// Does what the gateway asks. A bug behind it costs the call it was asked for.
    fn drain(&mut self) {
        while let Some(output) = self.gateway.poll() {
            // Of a call that could not even be closed, nothing is left to end.
            let call = match output {
                Output::Close(_) => None,
                _ => output.call(),
            };
            if catch_unwind(AssertUnwindSafe(|| self.carry_out(output))).is_ok() {
                continue;
            }
            self.metrics.panicked();
            if let Some(call) = call {
                self.abandon(call);
            }
        }
        self.metrics.connections(self.streams.count());
    }

    fn abandon(&mut self, call: DialogId) {
        let gateway = &mut self.gateway;
        let now = Instant::now();
        if catch_unwind(AssertUnwindSafe(|| gateway.abandon(now, call))).is_err() {
            self.metrics.panicked();
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Sip(output) => self.sip(output),
            Output::Bind(call, address) => {
                let input = Input::Call(call, self.lines.bind(call, address));
                give(&mut self.gateway, &self.metrics, Instant::now(), input);
            }
            Output::OpenLine(call, media) => self.lines.open(call, media),
            Output::UpdateLine(call, media) => self.lines.update(call, media),
            Output::LookUp(call, source, code) => self.lines.look_up(call, source, code),
            Output::Join(call, join) => self.lines.join(call, *join),
            Output::Play(call, sound) => self.lines.play(call, sound),
            Output::Hush(call) => self.lines.hush(call),
            Output::SetMuted(call, muted) => self.lines.set_muted(call, muted),
            Output::Close(call) => self.lines.close(call),
        }
    }

    fn sip(&mut self, output: sip::Output) {
        match output {
            sip::Output::Datagram { to, bytes, .. } => {
                // A full send buffer loses the datagram, as the network may: SIP repeats it.
                match self.udp.try_send_to(&bytes, dressed(to, self.address)) {
                    Ok(_) => self.metrics.sent(),
                    Err(_) => self.metrics.dropped(Dropped::SendFailed),
                }
            }
            sip::Output::Stream { connection, bytes } => {
                self.metrics.sent();
                self.streams.write(connection, bytes);
            }
            sip::Output::Connect {
                connection,
                protocol,
                to,
            } => {
                self.streams.connect(connection, protocol, to);
            }
            sip::Output::Close { connection } => self.streams.close(connection),
            sip::Output::Event(_) => unreachable!("the gateway keeps the core's events"),
        }
    }
}

#[cfg(test)]
mod tests;
