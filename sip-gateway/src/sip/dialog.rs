//! The state of one INVITE dialog (RFC 3261 §12) and the requests it writes. Keeps no transaction and sends nothing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::compose::Draft;
use super::event::{Flow, Protocol};
use super::header::{Address, list};
use super::limits::Source;
use super::message::{Message, digits};
use super::method::ALLOW;
use super::name::Name;
use super::sdp::{Direction, Session};
use super::uri::Uri;

/// Most Record-Route entries followed.
const MAX_ROUTES: usize = 16;
/// Largest session interval taken as said; a longer one is cut, so that a dead peer is noticed within a day.
const MAX_INTERVAL: u64 = 86_400;

/// Where a dialog stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Their INVITE waits for our answer.
    Incoming,
    /// Our INVITE waits for theirs.
    Dialling,
    /// We gave up our INVITE; its last response is awaited (RFC 3261 §9.1).
    Cancelling,
    /// Answered.
    Standing,
    /// Over for the user; BYE goes out when the ACK has come (RFC 3261 §15).
    Closing,
}

/// Their INVITE, until we answer.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) key: u128,
    pub(super) request: Message,
}

/// Our 2xx, repeated until its ACK (RFC 3261 §13.3.1.4).
#[derive(Debug)]
pub(super) struct Unacked {
    pub(super) bytes: Bytes,
    pub(super) flow: Flow,
    /// Where it goes when the connection of `flow` has closed.
    pub(super) anew: SocketAddr,
    pub(super) cseq: u32,
    pub(super) interval: Duration,
    pub(super) resend: Instant,
    pub(super) end: Instant,
    /// It held our offer, so the ACK must bring the answer.
    pub(super) offered: bool,
}

/// Our ACK of a 2xx, sent again when the 2xx is.
#[derive(Debug)]
pub(super) struct Acked {
    pub(super) cseq: u32,
    pub(super) bytes: Bytes,
    pub(super) flow: Flow,
}

/// Our INVITE under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) key: u128,
    /// Direction to return to if a re-INVITE is refused.
    pub(super) before: Direction,
    /// CANCEL was sent.
    pub(super) cancelled: bool,
}

/// Session timer (RFC 4028).
#[derive(Debug, Clone, Copy)]
pub(super) struct Refresh {
    pub(super) interval: Duration,
    /// We refresh, or end the call when the peer does not.
    pub(super) ours: bool,
    pub(super) at: Instant,
}

impl Refresh {
    pub(super) fn new(now: Instant, interval: Duration, ours: bool) -> Refresh {
        let margin = if ours {
            interval / 2
        } else {
            (interval / 3).min(Duration::from_secs(32))
        };
        Refresh {
            interval,
            ours,
            at: now + interval - margin,
        }
    }
}

/// One dialog. Names follow RFC 3261 §12: *local* is us, *remote* the peer.
#[derive(Debug)]
pub(super) struct Dialog {
    pub(super) id: u64,
    /// We sent the first INVITE.
    pub(super) caller: bool,
    pub(super) state: State,
    pub(super) call_id: Box<str>,
    pub(super) local_tag: Box<str>,
    pub(super) remote_tag: Box<str>,
    /// Our From value in requests, tag included.
    pub(super) local: Box<str>,
    /// Our To value in requests, tag included.
    pub(super) remote: Box<str>,
    pub(super) local_cseq: u32,
    pub(super) remote_cseq: Option<u32>,
    pub(super) target: Box<str>,
    pub(super) routes: Box<[Box<str>]>,
    pub(super) flow: Flow,
    /// The peer sits behind an address translator, so its Contact cannot be reached: the flow is used.
    pub(super) translated: bool,
    pub(super) source: Source,
    pub(super) session: Session,
    pub(super) pending: Option<Box<Pending>>,
    pub(super) unacked: Option<Box<Unacked>>,
    pub(super) acked: Option<Box<Acked>>,
    pub(super) asked: Option<Asked>,
    pub(super) refresh: Option<Refresh>,
    /// Give up ringing, or try a re-INVITE again.
    pub(super) later: Option<Instant>,
    pub(super) confirmed: bool,
    pub(super) alarm: Option<Instant>,
}

impl Dialog {
    /// When the dialog needs the clock next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let unacked = self
            .unacked
            .as_ref()
            .map(|unacked| unacked.resend.min(unacked.end));
        [unacked, self.refresh.map(|refresh| refresh.at), self.later]
            .into_iter()
            .flatten()
            .min()
    }

    /// Takes Contact as the new remote target (RFC 3261 §12.2).
    pub(super) fn retarget(&mut self, message: &Message) {
        let contact = message
            .header(Name::Contact)
            .and_then(|value| list(value).next())
            .and_then(Address::parse);
        if let Some(contact) = contact.filter(|contact| contact.parsed().is_ok())
            && *self.target != *contact.uri
        {
            self.target = contact.uri.into();
        }
    }

    /// Starts a request inside the dialog, with loose or strict routing (RFC 3261 §12.2.1.1).
    pub(super) fn request(&self, method: &str, cseq: u32, via: &str, product: &str) -> Draft {
        let strict = self
            .routes
            .first()
            .and_then(|route| Address::parse(route))
            .filter(|route| Uri::parse(route.uri).is_ok_and(|uri| !uri.is_loose()));
        let mut draft = Draft::request(method, strict.map_or(&*self.target, |route| route.uri));
        draft.line("Via", via).line("Max-Forwards", "70");
        for route in self.routes.iter().skip(usize::from(strict.is_some())) {
            draft.line("Route", route);
        }
        if strict.is_some() {
            draft.parts("Route", &["<", &self.target, ">"]);
        }
        draft
            .line("From", &self.local)
            .line("To", &self.remote)
            .line("Call-ID", &self.call_id)
            .cseq(cseq, method);
        draft.line("User-Agent", product);
        draft
    }

    /// Writes what an INVITE or its 2xx must say of us besides SDP.
    pub(super) fn describe(&self, draft: &mut Draft, contact: &str) {
        draft
            .line("Contact", contact)
            .line("Allow", ALLOW)
            .line("Supported", "timer");
    }

    /// The URI whose host the next request goes to.
    pub(super) fn next_hop(&self) -> &str {
        self.routes
            .first()
            .and_then(|route| Address::parse(route))
            .map_or(&self.target, |route| route.uri)
    }

    /// Bytes this dialog holds, itself included.
    pub(super) fn size(&self) -> usize {
        let texts = [
            &self.call_id,
            &self.local_tag,
            &self.remote_tag,
            &self.local,
            &self.remote,
            &self.target,
        ];
        let routes: usize = self
            .routes
            .iter()
            .map(|route| route.len() + size_of::<Box<str>>())
            .sum();
        let pending = self
            .pending
            .as_ref()
            .map_or(0, |pending| pending.request.size() + size_of::<Pending>());
        let unacked = self
            .unacked
            .as_ref()
            .map_or(0, |unacked| unacked.bytes.len() + size_of::<Unacked>());
        let acked = self
            .acked
            .as_ref()
            .map_or(0, |acked| acked.bytes.len() + size_of::<Acked>());
        size_of::<Self>()
            + texts.iter().map(|text| text.len()).sum::<usize>()
            + routes
            + pending
            + unacked
            + acked
            + self.session.heap()
    }
}

/// Record-Route entries: as they come for the called side, reversed for the caller (RFC 3261 §12.1).
pub(super) fn routes(message: &Message, reversed: bool) -> Box<[Box<str>]> {
    let mut routes: Vec<Box<str>> = message
        .headers(Name::RecordRoute)
        .flat_map(list)
        .take(MAX_ROUTES)
        .map(Box::from)
        .collect();
    if reversed {
        routes.reverse();
    }
    routes.into()
}

/// Session-Expires as asked: seconds and `refresher`.
pub(super) fn session_expires(message: &Message) -> Option<(u64, Option<&str>)> {
    let value = message.header(Name::SessionExpires)?;
    let (seconds, params) = value.split_at(value.find(';').unwrap_or(value.len()));
    let refresher = super::header::Params::parse(params)?.value("refresher");
    Some((digits(seconds.trim())?.min(MAX_INTERVAL), refresher))
}

/// Whether a comma-separated header holds `word`.
pub(super) fn lists(message: &Message, name: Name, word: &str) -> bool {
    message
        .headers(name)
        .flat_map(list)
        .any(|element| element.eq_ignore_ascii_case(word))
}

/// The value of our Contact header on a flow.
pub(super) fn contact(host: Option<&str>, flow: &Flow) -> String {
    let transport = match flow.protocol {
        Protocol::Udp => "",
        Protocol::Tcp => ";transport=tcp",
        Protocol::Tls => ";transport=tls",
    };
    format!("<sip:palabre@{}{transport}>", sent_by(host, flow))
}

/// `host:port` of us on a flow.
pub(super) fn sent_by(host: Option<&str>, flow: &Flow) -> String {
    match host {
        Some(host) => format!("{host}:{}", flow.local.port()),
        None => flow.local.to_string(),
    }
}
