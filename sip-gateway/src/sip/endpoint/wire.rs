//! Flows: datagrams and streams in, bytes out, connections on demand.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use super::super::dialog::{Dialog, sent_by};
use super::super::event::{ConnectionId, Flow, Output, Protocol};
use super::super::frame::{Frame, Framer};
use super::super::header::protocol;
use super::super::limits::Source;
use super::super::message::{Message, NotSip};
use super::super::uri::Uri;
use super::{Connection, Endpoint, Owner};

/// Most messages kept for a connection that is not open yet.
const MAX_WAITING: usize = 64;

impl Endpoint {
    pub(super) fn datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) {
        let flow = Flow {
            protocol: Protocol::Udp,
            local: to,
            remote: from,
            connection: None,
        };
        self.bytes(now, flow, Bytes::copy_from_slice(bytes));
    }

    fn bytes(&mut self, now: Instant, flow: Flow, bytes: Bytes) {
        match Message::parse(bytes) {
            Ok(message) if message.method().is_some() => {
                self.counters.requests += 1;
                self.request(now, flow, &message);
            }
            Ok(message) => {
                self.counters.responses += 1;
                self.response(now, &message);
            }
            Err(NotSip::KeepAlive) => self.counters.keep_alives += 1,
            Err(_) => self.counters.not_sip += 1,
        }
    }

    pub(super) fn connected(
        &mut self,
        now: Instant,
        id: ConnectionId,
        protocol: Protocol,
        from: SocketAddr,
        to: SocketAddr,
    ) {
        let flow = Flow {
            protocol,
            local: to,
            remote: from,
            connection: Some(id),
        };
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.open = true;
            // The remote address stays: the connection is charged to it.
            connection.flow.local = to;
            for bytes in std::mem::take(&mut connection.waiting) {
                self.outputs.push_back(Output::Stream {
                    connection: id,
                    bytes,
                });
            }
            return;
        }
        let source = Source::of(from.ip());
        let limits = &self.config.limits;
        if self.connections.len() >= limits.connections
            || self.loads.of(source).connections >= limits.connections_per_source
        {
            self.counters.broken_streams += 1;
            self.outputs.push_back(Output::Close { connection: id });
            return;
        }
        self.keep(now, id, flow, true);
    }

    /// A connection enters the table.
    fn keep(&mut self, now: Instant, id: ConnectionId, flow: Flow, open: bool) {
        self.loads
            .change(Source::of(flow.remote.ip()), |load| load.connections += 1);
        let mut connection = Connection {
            flow,
            framer: Framer::default(),
            open,
            waiting: Vec::new(),
            used: now,
            alarm: None,
        };
        self.alarms.set(
            Owner::Connection(id),
            &mut connection.alarm,
            Some(now + self.config.idle),
        );
        self.connections.insert(id, connection);
    }

    /// Closes a connection that was silent for long and belongs to no call.
    pub(super) fn connection_due(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.alarm = None;
        let silent = connection.used + self.config.idle;
        let used = silent > now
            || self
                .dialogs
                .values()
                .any(|dialog| dialog.flow.connection == Some(id));
        if !used {
            self.outputs.push_back(Output::Close { connection: id });
            return self.closed(now, id);
        }
        let next = if silent > now {
            silent
        } else {
            now + self.config.idle
        };
        self.alarms
            .set(Owner::Connection(id), &mut connection.alarm, Some(next));
    }

    pub(super) fn stream(&mut self, now: Instant, id: ConnectionId, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.used = now;
        connection.framer.push(bytes);
        loop {
            let Some(connection) = self.connections.get_mut(&id) else {
                return;
            };
            let flow = connection.flow;
            match connection.framer.pull(
                self.config
                    .limits
                    .message
                    .min(super::super::message::MAX_MESSAGE),
            ) {
                None => return,
                Some(Frame::Message(bytes)) => self.bytes(now, flow, bytes),
                Some(Frame::Ping) => {
                    self.counters.keep_alives += 1;
                    self.outputs.push_back(Output::Stream {
                        connection: id,
                        bytes: Bytes::from_static(b"\r\n"),
                    });
                }
                Some(Frame::Broken(head, error)) => {
                    self.counters.broken_streams += 1;
                    self.refuse_frame(&flow, head, error);
                    self.outputs.push_back(Output::Close { connection: id });
                    return self.closed(now, id);
                }
            }
        }
    }

    pub(super) fn closed(&mut self, now: Instant, id: ConnectionId) {
        let Some(mut connection) = self.connections.remove(&id) else {
            return;
        };
        self.alarms
            .set(Owner::Connection(id), &mut connection.alarm, None);
        self.loads
            .change(Source::of(connection.flow.remote.ip()), |load| {
                load.connections -= 1
            });
        let lost: Vec<u128> = self
            .clients
            .iter()
            .filter(|(_, entry)| {
                entry.machine.flow.connection == Some(id) && entry.machine.is_pending()
            })
            .map(|(key, _)| *key)
            .collect();
        for key in lost {
            self.client_lost(now, key);
        }
    }

    /// Sends on a flow as it is; a closed connection swallows.
    pub(super) fn send(&mut self, flow: &Flow, bytes: Bytes) {
        match flow.connection {
            None => self.outputs.push_back(Output::Datagram {
                from: flow.local,
                to: flow.remote,
                bytes,
            }),
            Some(id) => match self.connections.get_mut(&id) {
                Some(connection) if connection.open => self.outputs.push_back(Output::Stream {
                    connection: id,
                    bytes,
                }),
                Some(connection) if connection.waiting.len() < MAX_WAITING => {
                    connection.waiting.push(bytes)
                }
                _ => {}
            },
        }
    }

    /// The flow on which a request of ours to that place can go now; opens a connection if it must.
    pub(super) fn reach(&mut self, now: Instant, wanted: Flow) -> Flow {
        if wanted.protocol == Protocol::Udp {
            return Flow {
                connection: None,
                ..wanted
            };
        }
        if wanted
            .connection
            .is_some_and(|id| self.connections.contains_key(&id))
        {
            return wanted;
        }
        if let Some(flow) = self.connected_to(wanted) {
            return flow;
        }
        self.next_connection += 1;
        let id = ConnectionId::Opened(self.next_connection);
        let flow = Flow {
            connection: Some(id),
            ..wanted
        };
        self.keep(now, id, flow, false);
        self.outputs.push_back(Output::Connect {
            connection: id,
            protocol: flow.protocol,
            to: flow.remote,
        });
        flow
    }

    /// A connection there is to the place of `wanted`.
    fn connected_to(&self, wanted: Flow) -> Option<Flow> {
        let open = self.connections.values().map(|connection| connection.flow);
        open.filter(|flow| flow.remote == wanted.remote && flow.protocol == wanted.protocol)
            .min_by_key(|flow| flow.connection)
    }

    /// The flow of a response: that of its request, or, when its connection has closed, one to where its sender listens
    /// (RFC 3261 §18.2.2). No name of a sent-by is resolved: the sender's address is known.
    pub(super) fn way_back(&mut self, now: Instant, flow: Flow, anew: SocketAddr) -> Flow {
        let closed = flow
            .connection
            .is_some_and(|id| !self.connections.contains_key(&id));
        // A connection of TLS needs a name to check.
        if !closed || flow.protocol == Protocol::Tls {
            return flow;
        }
        let wanted = Flow {
            remote: anew,
            connection: None,
            ..flow
        };
        // Who connects, calls and closes must not make us open more than it could itself.
        let limits = &self.config.limits;
        let full = self.connections.len() >= limits.connections
            || self.loads.of(Source::of(anew.ip())).connections >= limits.connections_per_source;
        match self.connected_to(wanted) {
            None if full => flow,
            Some(open) => open,
            None => self.reach(now, wanted),
        }
    }

    /// Where the next request of a dialog goes: the connection it uses, the next hop if that is an address, or back where the
    /// peer's last message came from.
    pub(super) fn route(&mut self, now: Instant, dialog: &Dialog) -> Flow {
        let wanted = self.route_wanted(dialog);
        self.reach(now, wanted)
    }

    fn route_wanted(&self, dialog: &Dialog) -> Flow {
        let alive = dialog
            .flow
            .connection
            .is_some_and(|id| self.connections.contains_key(&id));
        if alive || (dialog.translated && dialog.routes.is_empty()) {
            return dialog.flow;
        }
        let Ok(uri) = Uri::parse(dialog.next_hop()) else {
            return dialog.flow;
        };
        let Some(remote) = uri.address() else {
            return dialog.flow;
        };
        let protocol = uri
            .params
            .value("transport")
            .and_then(protocol)
            .unwrap_or(Protocol::Udp);
        // Only transports the peer has shown: TLS needs a name to check, and datagrams a bound socket.
        let protocol = if protocol == Protocol::Tls || dialog.flow.protocol == Protocol::Tls {
            dialog.flow.protocol
        } else {
            protocol
        };
        Flow {
            protocol,
            remote,
            connection: None,
            ..dialog.flow
        }
    }

    /// A Via value with a fresh branch, and its client transaction key.
    pub(super) fn via(&mut self, flow: &Flow, method: &str) -> (String, u128) {
        let transport = match flow.protocol {
            Protocol::Udp => "UDP",
            Protocol::Tcp => "TCP",
            Protocol::Tls => "TLS",
        };
        let branch = format!("z9hG4bK{}", self.random.token());
        let via = format!(
            "SIP/2.0/{transport} {};branch={branch};rport",
            sent_by(self.config.host.as_deref(), flow)
        );
        (via, self.random.key(&["client", &branch, method]))
    }
}
