//! Requests that come in: absorbed, refused, or given to their dialog.

use std::time::Instant;

use bytes::Bytes;

use super::super::compose::{Draft, answer};
use super::super::event::{Ending, Flow};
use super::super::frame::FrameError;
use super::super::limits::Source;
use super::super::message::Message;
use super::super::method::{ALLOW, Method};
use super::super::transaction::Server;
use super::super::verdict::{Essentials, Refusal, essentials, servable};
use super::{Endpoint, ServerEntry};

impl Endpoint {
    pub(super) fn request(&mut self, now: Instant, flow: Flow, message: &Message) {
        let heads = match essentials(message) {
            Ok(heads) => heads,
            Err(refusal) => {
                self.counters.malformed += 1;
                return self.refuse(&flow, message, &refusal);
            }
        };
        let method = message.method().unwrap_or(Method::Unknown);
        let reply = if flow.connection.is_some() {
            flow
        } else {
            Flow {
                remote: heads.via.answer_to(flow.remote),
                ..flow
            }
        };
        if method == Method::Ack {
            let key = self.server_key(message, &heads, "INVITE");
            return self.ack(now, key, flow, message, &heads);
        }
        let key = self.server_key(message, &heads, heads.cseq.name);
        if let Some(entry) = self.servers.get(&key) {
            self.counters.repeated += 1;
            if let Some(bytes) = entry.machine.repeated() {
                self.send(&reply, bytes);
            }
            return;
        }
        if method == Method::Cancel {
            let key = self.server_key(message, &heads, "INVITE");
            return self.cancel(now, key, &reply, message);
        }
        let inside = heads.to.tag().is_some();
        let source = Source::of(flow.remote.ip());
        if self.is_full(source, inside, method) {
            self.counters.overloaded += 1;
            let refusal =
                Refusal::of(503).with("Retry-After", self.config.limits.retry_after.to_string());
            return self.refuse(&reply, message, &refusal);
        }
        let verdict = servable(message, &heads).and_then(|()| {
            // The same request by two ways (RFC 3261 §8.2.2.2).
            match !inside && self.merged.contains_key(&self.merge_key(&heads)) {
                true => Err(Refusal::of(482)),
                false => Ok(()),
            }
        });
        if let Err(refusal) = verdict {
            self.counters.refused += 1;
            return self.refuse(&reply, message, &refusal);
        }
        match (inside, method) {
            (_, Method::Options) => self.options(&reply, message),
            (false, Method::Invite) => self.incoming(now, key, flow, reply, message, &heads),
            (false, _) => self.refuse(&reply, message, &Refusal::of(481)),
            (true, _) => self.inside(now, key, flow, reply, message, &heads),
        }
    }

    /// Whether the tables have no room for a new request. Requests inside dialogs may use twice the room, so that calls can end.
    fn is_full(&self, source: Source, inside: bool, method: Method) -> bool {
        let limits = &self.config.limits;
        let load = self.loads.of(source);
        let room = if inside { 2 } else { 1 };
        if method == Method::Options {
            return false;
        }
        self.servers.len() >= limits.transactions * room
            || load.transactions >= limits.transactions_per_source * room
            || (!inside
                && method == Method::Invite
                && (self.dialogs.len() >= limits.dialogs
                    || load.dialogs >= limits.dialogs_per_source))
    }

    /// Key of a server transaction (RFC 3261 §17.2.3), for elements older than RFC 3261 too.
    fn server_key(&self, message: &Message, heads: &Essentials<'_>, method: &str) -> u128 {
        match heads.via.branch() {
            Some(branch) => self
                .random
                .key(&["server", branch, heads.via.sent_by, method]),
            None => {
                let number = heads.cseq.number.to_string();
                let from = heads.from.tag().unwrap_or("");
                let branch = heads.via.params.value("branch").unwrap_or("");
                self.random.key(&[
                    "old",
                    message.uri(),
                    from,
                    heads.call_id,
                    &number,
                    heads.via.sent_by,
                    branch,
                    method,
                ])
            }
        }
    }

    pub(super) fn merge_key(&self, heads: &Essentials<'_>) -> u128 {
        let number = heads.cseq.number.to_string();
        self.random.key(&[
            "merge",
            heads.from.tag().unwrap_or(""),
            heads.call_id,
            &number,
            heads.cseq.name,
        ])
    }

    /// A new server transaction.
    pub(super) fn open(
        &mut self,
        key: u128,
        reply: Flow,
        heads: &Essentials<'_>,
        source: Source,
        merge: Option<u128>,
        dialog: u64,
    ) {
        if let Some(merge) = merge {
            self.merged.insert(merge, key);
        }
        self.loads.change(source, |load| load.transactions += 1);
        let machine = Server::new(heads.cseq.method == Method::Invite, reply);
        let anew = heads.via.answer_anew_to(reply.remote.ip());
        self.servers.insert(
            key,
            ServerEntry {
                machine,
                anew,
                alarm: None,
                merge,
                source,
                dialog: Some(dialog),
            },
        );
    }

    /// Responds inside a transaction.
    pub(super) fn respond(&mut self, now: Instant, key: u128, status: u16, bytes: Bytes) {
        let Some(entry) = self.servers.get_mut(&key) else {
            return;
        };
        let (flow, anew) = (entry.machine.flow, entry.anew);
        if entry
            .machine
            .respond(now, &self.timers, status, bytes.clone())
        {
            self.wind_server(key);
            let flow = self.way_back(now, flow, anew);
            self.send(&flow, bytes);
        }
    }

    /// The start of an answer of ours; `tag` where To has none.
    pub(super) fn draft(&self, message: &Message, flow: &Flow, status: u16, tag: &str) -> Draft {
        let mut draft = answer(message, flow, status, "", tag);
        draft.line("Server", &self.config.product);
        draft
    }

    /// Refuses without keeping anything: the same request gets the same answer (RFC 3261 §8.2.7).
    pub(super) fn refuse(&mut self, flow: &Flow, message: &Message, refusal: &Refusal) {
        if message.method() == Some(Method::Ack) {
            return;
        }
        let bytes = self.refusal(flow, message, refusal);
        self.send(flow, bytes);
    }

    /// The bytes of a refusal.
    pub(super) fn refusal(&self, flow: &Flow, message: &Message, refusal: &Refusal) -> Bytes {
        let tag = self.stateless_tag(message);
        let mut draft = answer(message, flow, refusal.status, refusal.reason, &tag);
        for (name, value) in &refusal.headers {
            draft.line(name, value);
        }
        draft.line("Server", &self.config.product);
        draft.finish(None)
    }

    fn stateless_tag(&self, message: &Message) -> String {
        use super::super::name::Name;
        let mut text = String::with_capacity(256);
        for name in [Name::Via, Name::From, Name::CallId, Name::CSeq] {
            text.push_str(message.header(name).unwrap_or(""));
        }
        format!("{:016x}", self.random.keyed(text.as_bytes()))
    }

    /// Tells the writer of an endless or undelimited message, before its stream is closed.
    pub(super) fn refuse_frame(&mut self, flow: &Flow, head: Bytes, error: FrameError) {
        let refusal = match error {
            FrameError::TooLong => Refusal::of(513),
            FrameError::ContentLength => Refusal::bad("Missing or Bad Content-Length"),
        };
        if let Ok(message) = Message::parse(head)
            && message.method().is_some()
        {
            self.refuse(flow, &message, &refusal);
        }
    }

    /// Answers a ping or a question for abilities without keeping anything (RFC 3261 §11.2).
    fn options(&mut self, reply: &Flow, message: &Message) {
        let tag = self.stateless_tag(message);
        let mut draft = self.draft(message, reply, 200, &tag);
        draft.line(
            "Contact",
            &super::super::dialog::contact(self.config.host.as_deref(), reply),
        );
        draft.line("Allow", ALLOW).line(
            "Accept",
            "application/sdp, application/dtmf-relay, application/dtmf",
        );
        draft
            .line("Accept-Encoding", "identity")
            .line("Accept-Language", "fr, en")
            .line("Supported", "timer");
        let bytes = draft.finish(None);
        self.send(reply, bytes);
    }

    /// RFC 3261 §9.2: 200 to the CANCEL, 487 to its INVITE if that still waits.
    fn cancel(&mut self, now: Instant, key: u128, reply: &Flow, message: &Message) {
        let Some(entry) = self.servers.get(&key) else {
            return self.refuse(reply, message, &Refusal::of(481));
        };
        let (pending, dialog) = (entry.machine.is_pending(), entry.dialog);
        let dialog = dialog.filter(|_| pending).and_then(|id| self.take(id));
        let tag = dialog.as_ref().map_or_else(
            || self.stateless_tag(message),
            |dialog| dialog.local_tag.to_string(),
        );
        let bytes = self.draft(message, reply, 200, &tag).finish(None);
        self.send(reply, bytes);
        if let Some(dialog) = dialog {
            self.final_refusal(now, dialog, 487, Ending::Cancelled);
        }
    }
}
