//! Requests of ours: INVITE, re-INVITE, CANCEL, BYE, and the responses to them.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::compose::Draft;
use super::super::dialog::{
    Acked, Asked, Dialog, Refresh, State, contact, routes, session_expires,
};
use super::super::event::{Dial, DialogId, Ending, Event, Flow};
use super::super::header::quote;
use super::super::limits::Source;
use super::super::message::Message;
use super::super::name::Name;
use super::super::sdp::{Direction, LocalMedia, Session};
use super::super::transaction::{Client, Response};
use super::super::uri::Uri;
use super::super::verdict::{Essentials, essentials, sdp};
use super::{ClientEntry, Endpoint, NoSuchDialog, Owner, Purpose};

impl Endpoint {
    /// Ends a call whatever its state: CANCEL, BYE, or 480 if it still waits for our answer.
    /// [`Event::Ended`] with [`Ending::HungUp`] comes at once; what is left to say to the peer is said by the core.
    pub fn hang_up(&mut self, now: Instant, dialog: DialogId) -> Result<(), NoSuchDialog> {
        let mut dialog = self.take(dialog.0).ok_or(NoSuchDialog)?;
        match dialog.state {
            State::Closing | State::Cancelling => {
                self.put(dialog);
                return Err(NoSuchDialog);
            }
            State::Incoming => self.final_refusal(now, dialog, 480, Ending::HungUp),
            State::Dialling => {
                self.event(Event::Ended {
                    dialog: DialogId(dialog.id),
                    ending: Ending::HungUp,
                });
                dialog.state = State::Cancelling;
                dialog.later = None;
                self.cancel_ours(now, &mut dialog);
                self.put(dialog);
            }
            State::Standing if dialog.unacked.is_some() && !dialog.confirmed => {
                // No BYE before the ACK or its absence (RFC 3261 §15).
                self.event(Event::Ended {
                    dialog: DialogId(dialog.id),
                    ending: Ending::HungUp,
                });
                dialog.state = State::Closing;
                dialog.refresh = None;
                self.put(dialog);
            }
            State::Standing => {
                self.bye(now, &mut dialog);
                self.end(dialog, Ending::HungUp);
            }
        }
        Ok(())
    }

    /// Offers another direction by re-INVITE (hold: [`Direction::SendOnly`], resume: [`Direction::SendRecv`]).
    pub fn redirect(
        &mut self,
        now: Instant,
        dialog: DialogId,
        direction: Direction,
    ) -> Result<(), NoSuchDialog> {
        let mut dialog = self.take(dialog.0).ok_or(NoSuchDialog)?;
        let ready = dialog.state == State::Standing
            && dialog.unacked.is_none()
            && dialog.asked.is_none()
            && dialog.session.media().is_some();
        if ready {
            let before = dialog.session.set_direction(direction);
            self.reinvite(now, &mut dialog);
            if let Some(asked) = &mut dialog.asked {
                asked.before = before;
            }
        }
        self.put(dialog);
        if ready { Ok(()) } else { Err(NoSuchDialog) }
    }

    /// Calls somebody: INVITE with our offer. Progress comes as [`Event::Ringing`], [`Event::Media`], [`Event::Answered`],
    /// [`Event::Ended`]. Refused when the table of dialogs is full or a URI cannot be read.
    pub fn dial(
        &mut self,
        now: Instant,
        dial: &Dial,
        local: LocalMedia,
    ) -> Result<DialogId, NoSuchDialog> {
        let full = self.dialogs.len() >= self.config.limits.dialogs;
        if full || Uri::parse(&dial.uri).is_err() || Uri::parse(&dial.from).is_err() {
            return Err(NoSuchDialog);
        }
        let flow = self.reach(now, dial.flow);
        self.next_dialog += 1;
        let id = self.next_dialog;
        let local_tag = self.random.token();
        let name = dial
            .name
            .as_deref()
            .map(|name| quote(name) + " ")
            .unwrap_or_default();
        let mut session = Session::new(self.random.draw());
        session.set_local(local);
        let mut dialog = Box::new(Dialog {
            id,
            caller: true,
            state: State::Dialling,
            call_id: self.random.token().into(),
            local: format!("{name}<{}>;tag={local_tag}", dial.from).into(),
            local_tag: local_tag.into(),
            remote_tag: "".into(),
            remote: format!("<{}>", dial.uri).into(),
            local_cseq: 0,
            remote_cseq: None,
            target: dial.uri.as_str().into(),
            routes: Box::default(),
            flow,
            translated: false,
            source: Source::of(flow.remote.ip()),
            session,
            pending: None,
            unacked: None,
            acked: None,
            asked: None,
            refresh: None,
            later: Some(now + self.config.ring),
            confirmed: false,
            alarm: None,
        });
        self.invite(now, &mut dialog, flow);
        self.enter(dialog);
        Ok(DialogId(id))
    }

    /// A re-INVITE with our present offer: a new direction, or a session refresh.
    pub(super) fn reinvite(&mut self, now: Instant, dialog: &mut Dialog) {
        if dialog.asked.is_some() || dialog.session.media().is_none() {
            return;
        }
        let flow = self.route(now, dialog);
        self.invite(now, dialog, flow);
    }

    fn invite(&mut self, now: Instant, dialog: &mut Dialog, flow: Flow) {
        dialog.local_cseq += 1;
        let (via, key) = self.via(&flow, "INVITE");
        let mut draft = dialog.request("INVITE", dialog.local_cseq, &via, &self.config.product);
        dialog.describe(&mut draft, &contact(self.config.host.as_deref(), &flow));
        if let Some(refresh) = dialog.refresh {
            let refresher = if refresh.ours { "uac" } else { "uas" };
            draft.line(
                "Session-Expires",
                &format!("{};refresher={refresher}", refresh.interval.as_secs()),
            );
        }
        let body = dialog.session.offer(&self.config.media);
        let bytes = draft.finish(Some(("application/sdp", body.as_bytes())));
        let before = dialog.session.direction();
        dialog.asked = Some(Asked {
            key,
            before,
            cancelled: false,
        });
        self.ask(now, key, flow, true, bytes, Purpose::Invite(dialog.id));
    }

    /// Starts a client transaction.
    fn ask(
        &mut self,
        now: Instant,
        key: u128,
        flow: Flow,
        invite: bool,
        bytes: Bytes,
        purpose: Purpose,
    ) {
        let machine = Client::new(now, &self.timers, invite, flow, bytes.clone());
        self.clients.insert(
            key,
            ClientEntry {
                machine,
                alarm: None,
                purpose,
            },
        );
        self.wind_client(key);
        self.send(&flow, bytes);
    }

    /// Sends BYE; its answer changes nothing any more.
    pub(super) fn bye(&mut self, now: Instant, dialog: &mut Dialog) {
        let flow = self.route(now, dialog);
        dialog.local_cseq += 1;
        let (via, key) = self.via(&flow, "BYE");
        let bytes = dialog
            .request("BYE", dialog.local_cseq, &via, &self.config.product)
            .finish(None);
        self.ask(now, key, flow, false, bytes, Purpose::Farewell);
    }

    /// Nobody answered our call for too long.
    pub(super) fn give_up(&mut self, now: Instant, dialog: &mut Dialog) {
        self.event(Event::Ended {
            dialog: DialogId(dialog.id),
            ending: Ending::Lost,
        });
        dialog.state = State::Cancelling;
        self.cancel_ours(now, dialog);
    }

    /// CANCEL of our INVITE, once a provisional response has come (RFC 3261 §9.1).
    fn cancel_ours(&mut self, now: Instant, dialog: &mut Dialog) {
        let Some(asked) = dialog.asked.as_mut().filter(|asked| !asked.cancelled) else {
            return;
        };
        let Some(entry) = self.clients.get_mut(&asked.key) else {
            return;
        };
        if !entry.machine.is_proceeding() {
            return;
        }
        asked.cancelled = true;
        let invite = asked.key;
        entry.machine.end_by(now + self.timers.give_up);
        let (flow, request) = (entry.machine.flow, entry.machine.request.clone());
        self.wind_client(invite);
        if let Some((draft, branch)) = derived(&request, "CANCEL", None) {
            let key = self.random.key(&["client", &branch, "CANCEL"]);
            self.ask(now, key, flow, false, draft.finish(None), Purpose::Farewell);
        }
    }

    pub(super) fn response(&mut self, now: Instant, message: &Message) {
        let Ok(heads) = essentials(message) else {
            self.counters.stray_responses += 1;
            return;
        };
        let status = message.status().unwrap_or(0);
        let key = self
            .random
            .key(&["client", heads.via.branch().unwrap_or(""), heads.cseq.name]);
        let Some(entry) = self.clients.get_mut(&key) else {
            self.counters.stray_responses += 1;
            return;
        };
        let (flow, purpose) = (entry.machine.flow, entry.purpose);
        let verdict = entry.machine.receive(now, &self.timers, status);
        if matches!(verdict, Response::PassAndAck | Response::Ack) {
            let to = message.header(Name::To);
            if let Some((draft, _)) = derived(&entry.machine.request, "ACK", to) {
                self.send(&flow, draft.finish(None));
            }
        }
        self.wind_client(key);
        if matches!(verdict, Response::Pass | Response::PassAndAck)
            && let Purpose::Invite(id) = purpose
        {
            self.invite_response(now, id, key, flow, message, &heads, status);
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn invite_response(
        &mut self,
        now: Instant,
        id: u64,
        key: u128,
        flow: Flow,
        message: &Message,
        heads: &Essentials<'_>,
        status: u16,
    ) {
        let Some(mut dialog) = self.take(id) else {
            return self.orphan(now, flow, message, heads, status);
        };
        let ours = dialog.asked.filter(|asked| asked.key == key);
        match status {
            100..200 => {
                if dialog.state == State::Cancelling {
                    self.cancel_ours(now, &mut dialog);
                } else if dialog.state == State::Dialling && status != 100 {
                    self.event(Event::Ringing {
                        dialog: DialogId(id),
                        status,
                    });
                }
                self.put(dialog);
            }
            200..300 => match ours {
                Some(_) if dialog.state == State::Standing => {
                    self.changed(now, dialog, flow, message, heads)
                }
                Some(_) => self.answered(now, dialog, flow, message, heads),
                None => {
                    self.repeated_2xx(now, &dialog, flow, message, heads, status);
                    self.put(dialog);
                }
            },
            _ if dialog.state != State::Standing => {
                let reason = message.reason().to_owned();
                self.end(dialog, Ending::Refused { status, reason });
            }
            // The peer does not know the call, or its re-INVITE timed out (RFC 3261 §12.2.1.2).
            408 | 481 => {
                self.bye(now, &mut dialog);
                self.end(dialog, Ending::Lost);
            }
            491 => {
                dialog.asked = None;
                // Who made the Call-ID waits longer (RFC 3261 §14.1).
                let tens = if dialog.caller {
                    210 + self.random.below(191)
                } else {
                    self.random.below(201)
                };
                dialog.later = Some(now + Duration::from_millis(tens * 10));
                self.put(dialog);
            }
            _ => {
                if let Some(asked) = dialog.asked.take() {
                    dialog.session.set_direction(asked.before);
                }
                self.put(dialog);
            }
        }
    }

    /// The 2xx of our first INVITE.
    fn answered(
        &mut self,
        now: Instant,
        mut dialog: Box<Dialog>,
        flow: Flow,
        message: &Message,
        heads: &Essentials<'_>,
    ) {
        let gone = dialog.state == State::Cancelling;
        dialog.later = None;
        dialog.remote_tag = heads.to.tag().unwrap_or("").into();
        dialog.remote = message.header(Name::To).unwrap_or("").into();
        dialog.routes = routes(message, true);
        dialog.flow = flow;
        dialog.retarget(message);
        dialog.state = State::Standing;
        self.acknowledge(now, &mut dialog, heads.cseq.number);
        dialog.asked = None;
        if gone {
            // Our CANCEL came too late.
            dialog.state = State::Cancelling;
            self.bye(now, &mut dialog);
            return self.end(dialog, Ending::HungUp);
        }
        let answer = sdp(message).map(|answer| {
            dialog
                .session
                .accept(answer, &self.config.media, flow.remote.ip())
        });
        let Some(Ok(media)) = answer else {
            self.bye(now, &mut dialog);
            return self.end(dialog, Ending::NoMedia);
        };
        dialog.confirmed = true;
        self.keep_interval(now, &mut dialog, message);
        let id = DialogId(dialog.id);
        self.event(Event::Media { dialog: id, media });
        self.event(Event::Answered { dialog: id });
        self.put(dialog);
    }

    /// The 2xx of a re-INVITE of ours.
    fn changed(
        &mut self,
        now: Instant,
        mut dialog: Box<Dialog>,
        flow: Flow,
        message: &Message,
        heads: &Essentials<'_>,
    ) {
        let asked = dialog.asked.take();
        dialog.retarget(message);
        self.acknowledge(now, &mut dialog, heads.cseq.number);
        let before = dialog.session.media().cloned();
        match sdp(message).map(|answer| {
            dialog
                .session
                .accept(answer, &self.config.media, flow.remote.ip())
        }) {
            Some(Ok(_)) => self.media_changed(&dialog, before),
            _ => {
                if let Some(asked) = asked {
                    dialog.session.set_direction(asked.before);
                }
            }
        }
        self.keep_interval(now, &mut dialog, message);
        self.put(dialog);
    }

    fn keep_interval(&mut self, now: Instant, dialog: &mut Dialog, message: &Message) {
        dialog.refresh = session_expires(message).map(|(seconds, refresher)| {
            let ours = refresher.is_none_or(|refresher| refresher.eq_ignore_ascii_case("uac"));
            Refresh::new(
                now,
                Duration::from_secs(seconds).max(self.config.min_session),
                ours,
            )
        });
    }

    /// Sends the ACK of a 2xx and keeps it for repeats.
    fn acknowledge(&mut self, now: Instant, dialog: &mut Dialog, cseq: u32) {
        let flow = self.route(now, dialog);
        let (via, _) = self.via(&flow, "ACK");
        let bytes = dialog
            .request("ACK", cseq, &via, &self.config.product)
            .finish(None);
        dialog.acked = Some(Box::new(Acked {
            cseq,
            bytes: bytes.clone(),
            flow,
        }));
        self.send(&flow, bytes);
    }

    /// A 2xx after the first: the same again gets the same ACK, one of another branch of a fork is ended.
    fn repeated_2xx(
        &mut self,
        now: Instant,
        dialog: &Dialog,
        flow: Flow,
        message: &Message,
        heads: &Essentials<'_>,
        status: u16,
    ) {
        if *dialog.remote_tag == *heads.to.tag().unwrap_or("") {
            if let Some(acked) = dialog
                .acked
                .as_ref()
                .filter(|acked| acked.cseq == heads.cseq.number)
            {
                let (flow, bytes) = (acked.flow, acked.bytes.clone());
                self.send(&flow, bytes);
            }
            return;
        }
        self.orphan(now, flow, message, heads, status);
    }

    /// A 2xx whose dialog is no more, or never was ours: ACK, then BYE.
    fn orphan(
        &mut self,
        now: Instant,
        flow: Flow,
        message: &Message,
        heads: &Essentials<'_>,
        status: u16,
    ) {
        if !(200..300).contains(&status) {
            return;
        }
        let mut dialog = Dialog {
            id: 0,
            caller: true,
            state: State::Closing,
            call_id: heads.call_id.into(),
            local_tag: "".into(),
            remote_tag: "".into(),
            local: message.header(Name::From).unwrap_or("").into(),
            remote: message.header(Name::To).unwrap_or("").into(),
            local_cseq: heads.cseq.number,
            remote_cseq: None,
            target: heads.to.uri.into(),
            routes: routes(message, true),
            flow,
            translated: false,
            source: Source::of(flow.remote.ip()),
            session: Session::new(0),
            pending: None,
            unacked: None,
            acked: None,
            asked: None,
            refresh: None,
            later: None,
            confirmed: true,
            alarm: None,
        };
        dialog.retarget(message);
        self.acknowledge(now, &mut dialog, heads.cseq.number);
        self.bye(now, &mut dialog);
    }

    /// A request of ours got no answer (or its connection broke).
    pub(super) fn client_lost(&mut self, now: Instant, key: u128) {
        let Some(mut entry) = self.clients.remove(&key) else {
            return;
        };
        self.alarms.set(Owner::Client(key), &mut entry.alarm, None);
        let Purpose::Invite(id) = entry.purpose else {
            return;
        };
        let Some(mut dialog) = self.take(id) else {
            return;
        };
        if dialog.asked.is_none_or(|asked| asked.key != key) {
            return self.put(dialog);
        }
        if dialog.state == State::Standing {
            self.bye(now, &mut dialog);
        }
        self.end(dialog, Ending::Lost);
    }
}

/// CANCEL or ACK of an INVITE: same Request-URI, top Via, From, Call-ID, Route and CSeq number (RFC 3261 §9.1, §17.1.1.3).
/// Also gives its branch.
fn derived(request: &Bytes, method: &str, to: Option<&str>) -> Option<(Draft, String)> {
    let request = Message::parse(request.clone()).ok()?;
    let heads = essentials(&request).ok()?;
    let mut draft = Draft::request(method, request.uri());
    draft
        .line("Via", request.header(Name::Via)?)
        .line("Max-Forwards", "70");
    for route in request.headers(Name::Route) {
        draft.line("Route", route);
    }
    draft.line("From", request.header(Name::From)?);
    draft.line("To", to.or_else(|| request.header(Name::To))?);
    draft
        .line("Call-ID", heads.call_id)
        .cseq(heads.cseq.number, method);
    Some((draft, heads.via.branch()?.to_owned()))
}
