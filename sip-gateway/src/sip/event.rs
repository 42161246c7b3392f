//! What goes into and comes out of the [`Endpoint`](super::Endpoint): datagrams, stream bytes, calls and their ends.
//! No behaviour lives here.

use std::net::SocketAddr;

use bytes::Bytes;

use super::sdp::Media;

/// A dialog, or one about to be, of this endpoint. Never reused in the life of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DialogId(pub(super) u64);

/// A stream connection. The shell numbers those it accepted, the core those it asks for, so the two never collide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConnectionId {
    /// Accepted and numbered by the shell.
    Accepted(u64),
    /// Asked for with [`Output::Connect`] and numbered by the core.
    Opened(u64),
}

/// Transport protocol of a flow, as in the Via header (RFC 3261 §18).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// Datagrams; the core retransmits.
    Udp,
    /// A stream.
    Tcp,
    /// A stream the shell wraps in TLS.
    Tls,
}

/// Where a message came from, and so where an answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Our address on it: concrete, never `0.0.0.0`, since it is written in Via and Contact.
    pub local: SocketAddr,
    /// The peer's address.
    pub remote: SocketAddr,
    /// The connection, on a stream.
    pub connection: Option<ConnectionId>,
}

/// What the shell gives to the core.
#[derive(Debug)]
pub enum Input<'a> {
    /// One datagram.
    Datagram {
        /// Sender.
        from: SocketAddr,
        /// Our concrete address it came to.
        to: SocketAddr,
        /// Its bytes.
        bytes: &'a [u8],
    },
    /// A stream connection was accepted, or one asked for with [`Output::Connect`] is open.
    Connected {
        /// The connection.
        connection: ConnectionId,
        /// TCP or TLS.
        protocol: Protocol,
        /// Peer.
        from: SocketAddr,
        /// Our concrete address.
        to: SocketAddr,
    },
    /// Bytes of a stream, in order, cut anywhere.
    Stream {
        /// The connection.
        connection: ConnectionId,
        /// Its next bytes.
        bytes: &'a [u8],
    },
    /// A connection ended or could not be opened.
    Closed {
        /// The connection.
        connection: ConnectionId,
    },
    /// [`Endpoint::deadline`](super::Endpoint::deadline) has passed.
    Timeout,
}

/// What the core asks of the shell.
#[derive(Debug, Clone)]
pub enum Output {
    /// Send one datagram from the socket bound to `from`.
    Datagram {
        /// Our address.
        from: SocketAddr,
        /// Destination.
        to: SocketAddr,
        /// A whole SIP message.
        bytes: Bytes,
    },
    /// Write to a connection.
    Stream {
        /// The connection.
        connection: ConnectionId,
        /// A whole SIP message, or a keep-alive.
        bytes: Bytes,
    },
    /// Open a connection, then give [`Input::Connected`] or [`Input::Closed`]. Nothing is written before that.
    Connect {
        /// Its number.
        connection: ConnectionId,
        /// TCP or TLS.
        protocol: Protocol,
        /// Destination.
        to: SocketAddr,
    },
    /// Close a connection (after what was written to it is sent).
    Close {
        /// The connection.
        connection: ConnectionId,
    },
    /// Something happened to a call.
    Event(Event),
}

/// The person at one end of a call, as the From, To or P-Asserted-Identity header says. Personal data: never logged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Party {
    /// Display name, unescaped.
    pub name: Option<String>,
    /// User part, unescaped: a telephone number most often.
    pub user: String,
    /// Host part.
    pub host: String,
}

/// An incoming call that passed every check and has a usable offer (or none at all, in which case we will offer).
#[derive(Debug, Clone)]
pub struct Invite {
    /// To answer it with.
    pub dialog: DialogId,
    /// Where it came from.
    pub flow: Flow,
    /// User part of the request URI, unescaped: the number or code that was dialled.
    pub dialled: String,
    /// Host part of the request URI.
    pub host: String,
    /// From.
    pub from: Party,
    /// To.
    pub to: Party,
    /// P-Asserted-Identity (RFC 3325). Believe it only from a trunk.
    pub asserted: Option<Party>,
    /// `Privacy: id` and the like (RFC 3323): the caller's number must not be shown.
    pub anonymous: bool,
    /// Accept-Language, verbatim.
    pub accept_language: Option<String>,
    /// User-Agent, verbatim.
    pub user_agent: Option<String>,
}

/// Why a dialog ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The peer said BYE.
    Bye,
    /// The peer gave up before we answered (CANCEL, or its INVITE expired).
    Cancelled,
    /// We ended it.
    HungUp,
    /// We answered and no ACK came in 64 T1 (RFC 3261 §13.3.1.4).
    NoAck,
    /// The session timer ran out without a refresh (RFC 4028).
    Expired,
    /// A request of ours got no answer, or 408/481: the peer has no such dialog any more.
    Lost,
    /// Its ACK brought no usable answer to our offer.
    NoMedia,
    /// Our outgoing INVITE was refused.
    Refused {
        /// SIP status, 300 to 699.
        status: u16,
        /// Reason phrase of the peer.
        reason: String,
    },
}

/// What happens to calls.
#[derive(Debug, Clone)]
pub enum Event {
    /// A telephone calls. Answer with [`ring`](super::Endpoint::ring), then [`accept`](super::Endpoint::accept) or
    /// [`reject`](super::Endpoint::reject). 100 Trying has been sent.
    Invite(Box<Invite>),
    /// Our outgoing call rings (any 1xx but 100).
    Ringing {
        /// The call.
        dialog: DialogId,
        /// 180, 183...
        status: u16,
    },
    /// Our outgoing call was answered; [`Event::Media`] precedes it.
    Answered {
        /// The call.
        dialog: DialogId,
    },
    /// The ACK of our 2xx came: the call stands.
    Confirmed {
        /// The call.
        dialog: DialogId,
    },
    /// Media was negotiated or changed after [`accept`](super::Endpoint::accept): an answer came in ACK or 2xx, or the peer
    /// put us on hold, moved, changed codec. Apply it as a whole.
    Media {
        /// The call.
        dialog: DialogId,
        /// What to do now.
        media: Media,
    },
    /// A key sent by SIP INFO (`application/dtmf-relay`, `application/dtmf`).
    Digit {
        /// The call.
        dialog: DialogId,
        /// `0` to `9`, `*`, `#`, `A` to `D`.
        digit: char,
        /// Milliseconds, 250 if not said.
        duration: u16,
    },
    /// The dialog is over. Always the last event of a dialog that had an [`Event::Invite`] or was dialled.
    Ended {
        /// The call.
        dialog: DialogId,
        /// Why.
        ending: Ending,
    },
}

/// An outgoing call.
#[derive(Debug, Clone)]
pub struct Dial {
    /// Request URI, such as `sip:+33123456789@trunk.example;user=phone`.
    pub uri: String,
    /// From URI without tag, such as `sip:+33987654321@palabre.example`.
    pub from: String,
    /// Display name of From.
    pub name: Option<String>,
    /// Where to send it: the shell resolved names before. `connection` may be `None` on a stream: the core asks for one.
    pub flow: Flow,
}
