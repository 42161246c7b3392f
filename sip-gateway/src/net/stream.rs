//! TCP connections: a reader and a writer task each, with bounded queues, idle time-out and limits.
//! Framing is the SIP core's business: it gets bytes as they come.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::FromOutside;
use super::route::canonical;
use crate::metrics::{Dropped, Metrics};
use crate::sip::{self, ConnectionId, Protocol};

/// Bytes taken from a connection at once.
const READ: usize = 16_384;

/// Messages waiting to be written to one connection. A peer that lets so many wait does not read: it is closed.
const WRITES: usize = 256;

/// Longest wait for one write, and for a connection to open.
const SLOW: Duration = Duration::from_secs(10);

/// What a connection's tasks report.
#[derive(Debug)]
pub(crate) enum StreamEvent {
    Connected {
        connection: ConnectionId,
        stream: TcpStream,
    },
    Read {
        connection: ConnectionId,
        bytes: Bytes,
    },
    Closed {
        connection: ConnectionId,
    },
}

#[derive(Debug)]
struct Connection {
    writes: mpsc::Sender<Bytes>,
    reader: JoinHandle<()>,
    writer: JoinHandle<()>,
}

/// Every connection now. How many there may be is the SIP core's rule: it closes those above.
pub(super) struct Streams<L> {
    open: HashMap<ConnectionId, Connection>,
    next: u64,
    idle: Duration,
    events: mpsc::Sender<FromOutside<L>>,
    metrics: Metrics,
}

impl<L: Send + 'static> Streams<L> {
    pub(super) fn new(
        idle: Duration,
        events: mpsc::Sender<FromOutside<L>>,
        metrics: Metrics,
    ) -> Self {
        Self {
            open: HashMap::new(),
            next: 0,
            idle,
            events,
            metrics,
        }
    }

    /// How many are open.
    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    /// Somebody connected to us; says what the core is to be told.
    pub(super) fn accepted(&mut self, stream: TcpStream) -> Option<sip::Input<'static>> {
        let (from, to) = addresses(&stream)?;
        let connection = ConnectionId::Accepted(self.next);
        self.next += 1;
        self.run(connection, stream);
        Some(sip::Input::Connected {
            connection,
            protocol: Protocol::Tcp,
            from,
            to,
        })
    }

    /// Opens a connection the core asks for.
    pub(super) fn connect(&self, connection: ConnectionId, protocol: Protocol, to: SocketAddr) {
        let events = self.events.clone();
        tokio::spawn(async move {
            let connecting = async {
                if protocol != Protocol::Tcp {
                    return Err(std::io::ErrorKind::Unsupported.into());
                }
                TcpStream::connect(to).await
            };
            let event = match tokio::time::timeout(SLOW, connecting).await {
                Ok(Ok(stream)) => StreamEvent::Connected { connection, stream },
                _ => StreamEvent::Closed { connection },
            };
            // Refused only when the gateway's task has ended, and with it the need.
            let _ = events.send(FromOutside::Stream(event)).await;
        });
    }

    /// Tells the core, by `give`, what a connection reports.
    pub(super) fn moved(&mut self, event: StreamEvent, give: impl FnOnce(sip::Input<'_>)) {
        match event {
            StreamEvent::Connected { connection, stream } => match addresses(&stream) {
                Some((from, to)) => {
                    self.run(connection, stream);
                    give(sip::Input::Connected {
                        connection,
                        protocol: Protocol::Tcp,
                        from,
                        to,
                    });
                }
                None => give(sip::Input::Closed { connection }),
            },
            StreamEvent::Read { connection, bytes } => {
                if self.open.contains_key(&connection) {
                    give(sip::Input::Stream {
                        connection,
                        bytes: &bytes,
                    });
                }
            }
            StreamEvent::Closed { connection } => {
                let opened = self.open.remove(&connection).map(|it| it.reader.abort());
                if opened.is_some() || matches!(connection, ConnectionId::Opened(_)) {
                    give(sip::Input::Closed { connection });
                }
            }
        }
    }

    /// Queues a message. A full queue closes the connection: its peer does not read.
    pub(super) fn write(&mut self, connection: ConnectionId, bytes: Bytes) {
        let Some(open) = self.open.get(&connection) else {
            return;
        };
        if open.writes.try_send(bytes).is_err() {
            self.metrics.dropped(Dropped::SlowPeer);
            open.writer.abort();
            open.reader.abort();
            let events = self.events.clone();
            tokio::spawn(async move {
                let closed = StreamEvent::Closed { connection };
                let _ = events.send(FromOutside::Stream(closed)).await;
            });
        }
    }

    /// Closes a connection after what was queued is written.
    pub(super) fn close(&mut self, connection: ConnectionId) {
        if let Some(open) = self.open.remove(&connection) {
            open.reader.abort();
        }
    }

    /// Closes all, and waits until what was queued is written or a second has passed.
    pub(super) async fn close_all(&mut self) {
        let writers: Vec<JoinHandle<()>> = self
            .open
            .drain()
            .map(|(_, open)| {
                open.reader.abort();
                open.writer
            })
            .collect();
        let all = async {
            for writer in writers {
                let _ = writer.await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), all).await;
    }

    fn run(&mut self, connection: ConnectionId, stream: TcpStream) {
        // Without it a short message may wait for the peer's delayed acknowledgement; refused only on a dead socket.
        let _ = stream.set_nodelay(true);
        let (read, write) = stream.into_split();
        let (writes, queue) = mpsc::channel(WRITES);
        let events = self.events.clone();
        let metrics = self.metrics.clone();
        let reader = tokio::spawn(read_all(connection, read, self.idle, events, metrics));
        let events = self.events.clone();
        let metrics = self.metrics.clone();
        let writer = tokio::spawn(write_all(connection, write, queue, events, metrics));
        let connection_now = Connection {
            writes,
            reader,
            writer,
        };
        self.open.insert(connection, connection_now);
    }
}

/// The peer's address and ours.
fn addresses(stream: &TcpStream) -> Option<(SocketAddr, SocketAddr)> {
    let from = stream.peer_addr().ok()?;
    let to = stream.local_addr().ok()?;
    Some((canonical(from), canonical(to)))
}

async fn read_all<L>(
    connection: ConnectionId,
    mut read: OwnedReadHalf,
    idle: Duration,
    events: mpsc::Sender<FromOutside<L>>,
    metrics: Metrics,
) {
    let mut buffer = vec![0; READ];
    loop {
        let event = match tokio::time::timeout(idle, read.read(&mut buffer)).await {
            Ok(Ok(length)) if length > 0 => {
                let bytes = Bytes::copy_from_slice(&buffer[..length]);
                StreamEvent::Read { connection, bytes }
            }
            ended => {
                if ended.is_err() {
                    metrics.dropped(Dropped::Idle);
                }
                StreamEvent::Closed { connection }
            }
        };
        let last = matches!(event, StreamEvent::Closed { .. });
        if events.send(FromOutside::Stream(event)).await.is_err() || last {
            return;
        }
    }
}

async fn write_all<L>(
    connection: ConnectionId,
    mut write: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Bytes>,
    events: mpsc::Sender<FromOutside<L>>,
    metrics: Metrics,
) {
    while let Some(bytes) = queue.recv().await {
        match tokio::time::timeout(SLOW, write.write_all(&bytes)).await {
            Ok(Ok(())) => {}
            slow => {
                if slow.is_err() {
                    metrics.dropped(Dropped::SlowPeer);
                }
                let closed = StreamEvent::Closed { connection };
                let _ = events.send(FromOutside::Stream(closed)).await;
                return;
            }
        }
    }
    let _ = write.shutdown().await;
}
