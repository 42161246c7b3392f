//! The endpoint: one home for the tables of connections, transactions and dialogs, and their one clock.

mod call;
mod caller;
mod inside;
mod server;
mod wire;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::dialog::{Dialog, State};
use super::event::{ConnectionId, DialogId, Ending, Event, Flow, Input, Output};
use super::limits::{Limits, Loads, Source};
use super::random::{KeyedHasher, Random};
use super::sdp::MediaPolicy;
use super::timer::{Alarms, Timers};
use super::transaction::{Client, Due, Server};

/// Settings of an [`Endpoint`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Text of the Server and User-Agent headers.
    pub product: String,
    /// Host written in Via and Contact instead of the address of the flow: behind a 1:1 NAT, or a name.
    pub host: Option<String>,
    /// Codecs.
    pub media: MediaPolicy,
    /// Table bounds.
    pub limits: Limits,
    /// RTT estimate T1 (RFC 3261 §17.1.1.1). Lower repairs losses sooner, higher spares slow links.
    pub t1: Duration,
    /// How long a call may ring before it is refused with 480 (or given up, if we dialled).
    pub ring: Duration,
    /// Smallest session interval we accept (RFC 4028 Min-SE, at least 90 s).
    pub min_session: Duration,
    /// A connection that no call uses is closed after so long a silence. Higher spares phones that call often their set-up,
    /// lower frees what idlers hold.
    pub idle: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            product: "Palabre".into(),
            host: None,
            media: MediaPolicy::default(),
            limits: Limits::default(),
            t1: Duration::from_millis(500),
            ring: Duration::from_secs(180),
            min_session: Duration::from_secs(90),
            idle: Duration::from_secs(180),
        }
    }
}

/// The dialog is over, or not in a state where this can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the call has ended, or cannot do this now")]
pub struct NoSuchDialog;

/// What came and went nowhere, by reason. Only ever grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests read.
    pub requests: u64,
    /// Responses read.
    pub responses: u64,
    /// Keep-alives.
    pub keep_alives: u64,
    /// Datagrams that are no SIP.
    pub not_sip: u64,
    /// Requests refused for their form (400, 505).
    pub malformed: u64,
    /// Requests refused as not servable (405, 415, 416, 420, 482, 483, 488, 501...).
    pub refused: u64,
    /// Requests refused because a table was full (503).
    pub overloaded: u64,
    /// Repeated requests absorbed.
    pub repeated: u64,
    /// Responses that match no transaction.
    pub stray_responses: u64,
    /// ACKs that match nothing.
    pub stray_acks: u64,
    /// Streams closed because they could not be followed, or above the limit.
    pub broken_streams: u64,
}

/// Whose alarm it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Server(u128),
    Client(u128),
    Dialog(u64),
    Connection(ConnectionId),
}

#[derive(Debug)]
struct ServerEntry {
    machine: Server,
    /// Where responses go when their connection has closed.
    anew: SocketAddr,
    alarm: Option<Instant>,
    /// Key in `merged`, of requests without To tag.
    merge: Option<u128>,
    source: Source,
    dialog: Option<u64>,
}

/// What a response belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// INVITE or re-INVITE of a dialog.
    Invite(u64),
    /// BYE or CANCEL: the response changes nothing.
    Farewell,
}

#[derive(Debug)]
struct ClientEntry {
    machine: Client,
    alarm: Option<Instant>,
    purpose: Purpose,
}

#[derive(Debug)]
struct Connection {
    flow: Flow,
    framer: super::frame::Framer,
    open: bool,
    /// Written before it opened.
    waiting: Vec<bytes::Bytes>,
    /// When bytes last came or went.
    used: Instant,
    alarm: Option<Instant>,
}

type Table<K, V> = HashMap<K, V, KeyedHasher>;

/// A SIP user agent for many calls. See the module for its contract with the shell.
#[derive(Debug)]
pub struct Endpoint {
    config: Config,
    timers: Timers,
    random: Random,
    outputs: VecDeque<Output>,
    servers: Table<u128, ServerEntry>,
    merged: Table<u128, u128>,
    clients: Table<u128, ClientEntry>,
    dialogs: Table<u64, Box<Dialog>>,
    /// Call-ID and local tag to dialog.
    names: Table<u128, u64>,
    connections: Table<ConnectionId, Connection>,
    loads: Loads,
    alarms: Alarms<Owner>,
    counters: Counters,
    next_dialog: u64,
    next_connection: u64,
}

impl Endpoint {
    /// An endpoint without calls. `random` from the OS.
    pub fn new(config: Config, mut random: Random) -> Self {
        Endpoint {
            timers: Timers::new(config.t1),
            config,
            outputs: VecDeque::new(),
            servers: Table::with_hasher(random.hasher()),
            merged: Table::with_hasher(random.hasher()),
            clients: Table::with_hasher(random.hasher()),
            dialogs: Table::with_hasher(random.hasher()),
            names: Table::with_hasher(random.hasher()),
            connections: Table::with_hasher(random.hasher()),
            loads: Loads::new(random.hasher()),
            alarms: Alarms::default(),
            counters: Counters::default(),
            next_dialog: 0,
            next_connection: 0,
            random,
        }
    }

    /// Takes one input. Drain [`poll`](Self::poll) afterwards, then wait for input or [`deadline`](Self::deadline).
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        self.run_alarms(now);
        match input {
            Input::Datagram { from, to, bytes } => self.datagram(now, from, to, bytes),
            Input::Connected {
                connection,
                protocol,
                from,
                to,
            } => self.connected(now, connection, protocol, from, to),
            Input::Stream { connection, bytes } => self.stream(now, connection, bytes),
            Input::Closed { connection } => self.closed(now, connection),
            Input::Timeout => {}
        }
    }

    /// The next thing to do, in order, or `None`.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to give [`Input::Timeout`], if nothing else comes before.
    pub fn deadline(&self) -> Option<Instant> {
        self.alarms.first()
    }

    /// The flow over which requests of a dialog go now.
    pub fn flow(&self, dialog: DialogId) -> Option<Flow> {
        self.dialogs.get(&dialog.0).map(|dialog| dialog.flow)
    }

    /// Dialogs now, early and closing ones included.
    pub fn dialogs(&self) -> usize {
        self.dialogs.len()
    }

    /// Transactions now, of both kinds.
    pub fn transactions(&self) -> usize {
        self.servers.len() + self.clients.len()
    }

    /// Entries of all tables: zero when nothing happens any more.
    pub fn entries(&self) -> usize {
        self.dialogs()
            + self.transactions()
            + self.names.len()
            + self.merged.len()
            + self.connections.len()
            + self.loads.len()
            + self.alarms.len()
            + self.outputs.len()
    }

    /// Bytes the dialogs hold.
    pub fn dialog_bytes(&self) -> usize {
        self.dialogs.values().map(|dialog| dialog.size()).sum()
    }

    /// What came so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn run_alarms(&mut self, now: Instant) {
        while let Some(owner) = self.alarms.due(now) {
            match owner {
                Owner::Server(key) => self.server_due(now, key),
                Owner::Client(key) => self.client_due(now, key),
                Owner::Dialog(id) => self.dialog_due(now, id),
                Owner::Connection(id) => self.connection_due(now, id),
            }
        }
    }

    fn server_due(&mut self, now: Instant, key: u128) {
        let Some(entry) = self.servers.get_mut(&key) else {
            return;
        };
        entry.alarm = None;
        let flow = entry.machine.flow;
        match entry.machine.due(now, &self.timers) {
            Due::Wait => {}
            Due::Resend(bytes) => self.send(&flow, bytes),
            Due::Over | Due::Lost => return self.forget_server(key),
        }
        self.wind_server(key);
    }

    fn client_due(&mut self, now: Instant, key: u128) {
        let Some(entry) = self.clients.get_mut(&key) else {
            return;
        };
        entry.alarm = None;
        let flow = entry.machine.flow;
        match entry.machine.due(now, &self.timers) {
            Due::Wait => {}
            Due::Resend(bytes) => self.send(&flow, bytes),
            Due::Over => return self.forget_client(key),
            Due::Lost => return self.client_lost(now, key),
        }
        self.wind_client(key);
    }

    fn wind_server(&mut self, key: u128) {
        if let Some(entry) = self.servers.get_mut(&key) {
            let at = entry.machine.deadline();
            self.alarms.set(Owner::Server(key), &mut entry.alarm, at);
        }
    }

    fn wind_client(&mut self, key: u128) {
        if let Some(entry) = self.clients.get_mut(&key) {
            let at = entry.machine.deadline();
            self.alarms.set(Owner::Client(key), &mut entry.alarm, at);
        }
    }

    fn forget_server(&mut self, key: u128) {
        let Some(mut entry) = self.servers.remove(&key) else {
            return;
        };
        self.alarms.set(Owner::Server(key), &mut entry.alarm, None);
        if let Some(merge) = entry.merge {
            self.merged.remove(&merge);
        }
        self.loads
            .change(entry.source, |load| load.transactions -= 1);
    }

    /// A client transaction is over; the ACK of its dialog need not be repeated any more.
    fn forget_client(&mut self, key: u128) {
        let Some(mut entry) = self.clients.remove(&key) else {
            return;
        };
        self.alarms.set(Owner::Client(key), &mut entry.alarm, None);
        if let Purpose::Invite(id) = entry.purpose
            && let Some(dialog) = self.dialogs.get_mut(&id)
            && dialog.asked.is_none()
        {
            dialog.acked = None;
        }
    }

    /// Takes a dialog out to work on; [`put`](Self::put) or [`end`](Self::end) must follow.
    fn take(&mut self, id: u64) -> Option<Box<Dialog>> {
        self.dialogs.remove(&id)
    }

    fn put(&mut self, mut dialog: Box<Dialog>) {
        let at = dialog.deadline();
        self.alarms
            .set(Owner::Dialog(dialog.id), &mut dialog.alarm, at);
        self.dialogs.insert(dialog.id, dialog);
    }

    /// A new dialog enters the tables.
    fn enter(&mut self, dialog: Box<Dialog>) {
        self.names.insert(
            self.random.key(&[&dialog.call_id, &dialog.local_tag]),
            dialog.id,
        );
        self.loads.change(dialog.source, |load| load.dialogs += 1);
        self.put(dialog);
    }

    /// The dialog leaves the tables.
    fn forget(&mut self, mut dialog: Box<Dialog>) {
        self.alarms
            .set(Owner::Dialog(dialog.id), &mut dialog.alarm, None);
        self.names
            .remove(&self.random.key(&[&dialog.call_id, &dialog.local_tag]));
        self.loads.change(dialog.source, |load| load.dialogs -= 1);
    }

    /// The dialog leaves the tables and its user is told, unless the user ended it himself before.
    fn end(&mut self, dialog: Box<Dialog>, ending: Ending) {
        if !matches!(dialog.state, State::Closing | State::Cancelling) {
            self.event(Event::Ended {
                dialog: DialogId(dialog.id),
                ending,
            });
        }
        self.forget(dialog);
    }
}
