//! Calls that come in: INVITE, our answers to it, ACK.

use std::time::{Duration, Instant};

use super::super::dialog::{
    Dialog, Pending, Refresh, State, Unacked, contact, lists, routes, session_expires,
};
use super::super::event::{DialogId, Ending, Event, Flow, Invite, Party};
use super::super::header::{Address, list};
use super::super::limits::Source;
use super::super::message::{Message, digits};
use super::super::name::Name;
use super::super::sdp::{LocalMedia, Media, Session};
use super::super::uri::Uri;
use super::super::verdict::{Essentials, Refusal, sdp};
use super::{Endpoint, NoSuchDialog};

impl Endpoint {
    /// A new call: judged as far as can be without the user, then told to him.
    pub(super) fn incoming(
        &mut self,
        now: Instant,
        key: u128,
        flow: Flow,
        reply: Flow,
        message: &Message,
        heads: &Essentials<'_>,
    ) {
        if let Some(refusal) = self
            .media_refusal(message, &reply)
            .or_else(|| self.interval_refusal(message))
        {
            self.counters.refused += 1;
            return self.refuse(&reply, message, &refusal);
        }
        let source = Source::of(flow.remote.ip());
        self.next_dialog += 1;
        let id = self.next_dialog;
        let local_tag = self.random.token();
        let expires = message
            .header(Name::Expires)
            .and_then(digits)
            .map(Duration::from_secs);
        let ring = expires.unwrap_or(self.config.ring).min(self.config.ring);
        let to = message.header(Name::To).unwrap_or("");
        let mut dialog = Box::new(Dialog {
            id,
            caller: false,
            state: State::Incoming,
            call_id: heads.call_id.into(),
            remote_tag: heads.from.tag().unwrap_or("").into(),
            local: format!("{to};tag={local_tag}").into(),
            local_tag: local_tag.into(),
            remote: message.header(Name::From).unwrap_or("").into(),
            local_cseq: 0,
            remote_cseq: Some(heads.cseq.number),
            target: "".into(),
            routes: routes(message, false),
            flow,
            translated: heads.via.is_translated(flow.remote.ip()),
            source,
            session: Session::new(self.random.draw()),
            pending: Some(Box::new(Pending {
                key,
                request: message.clone(),
            })),
            unacked: None,
            acked: None,
            asked: None,
            refresh: None,
            later: Some(now + ring),
            confirmed: false,
            alarm: None,
        });
        dialog.retarget(message);
        let merge = self.merge_key(heads);
        self.open(key, reply, heads, source, Some(merge), id);
        let trying = self.draft(message, &reply, 100, "").finish(None);
        self.respond(now, key, 100, trying);
        self.enter(dialog);
        let invite = invite(id, flow, message, heads);
        self.event(Event::Invite(Box::new(invite)));
    }

    /// 400 or 488 with Warning if the offer cannot be agreed on.
    pub(super) fn media_refusal(&self, message: &Message, flow: &Flow) -> Option<Refusal> {
        let error = Session::check(sdp(message)?, &self.config.media).err()?;
        Some(sdp_refusal(error, flow))
    }

    /// 422 if the session interval is shorter than we bear (RFC 4028 §9).
    pub(super) fn interval_refusal(&self, message: &Message) -> Option<Refusal> {
        let (seconds, _) = session_expires(message)?;
        let min = self.config.min_session.as_secs();
        let supported =
            lists(message, Name::Supported, "timer") || lists(message, Name::Require, "timer");
        (supported && seconds < min).then(|| Refusal::of(422).with("Min-SE", min.to_string()))
    }

    /// Sends 180 Ringing.
    pub fn ring(&mut self, now: Instant, dialog: DialogId) -> Result<(), NoSuchDialog> {
        let dialog = self.take(dialog.0).ok_or(NoSuchDialog)?;
        let sent = self.provisional(now, &dialog, 180, None);
        self.put(dialog);
        sent
    }

    /// Sends 183 Session Progress with our SDP, so that something can be said before a refusal (early media, RFC 3960). Returns
    /// the media to start now, or `None`, and sends nothing, if the caller offered nothing: an offer of ours would have to come
    /// by a reliable response (RFC 3262).
    pub fn progress(
        &mut self,
        now: Instant,
        dialog: DialogId,
        local: LocalMedia,
    ) -> Result<Option<Media>, NoSuchDialog> {
        let mut dialog = self.take(dialog.0).ok_or(NoSuchDialog)?;
        dialog.session.set_local(local);
        let pending = dialog.pending.as_ref().map(|pending| &pending.request);
        let peer = dialog.flow.remote.ip();
        let answer = pending.and_then(sdp).and_then(|offer| {
            // What cannot be agreed on was refused when it came.
            dialog.session.answer(offer, &self.config.media, peer).ok()
        });
        let sent = match answer {
            None => Ok(None),
            Some((body, media)) => self
                .provisional(now, &dialog, 183, Some(&body))
                .map(|()| Some(media)),
        };
        self.put(dialog);
        sent
    }

    fn provisional(
        &mut self,
        now: Instant,
        dialog: &Dialog,
        status: u16,
        body: Option<&str>,
    ) -> Result<(), NoSuchDialog> {
        let pending = dialog.pending.as_ref();
        let pending = pending
            .filter(|_| dialog.state == State::Incoming)
            .ok_or(NoSuchDialog)?;
        let key = pending.key;
        let reply = self.servers.get(&key).ok_or(NoSuchDialog)?.machine.flow;
        let mut draft = self.draft(&pending.request, &reply, status, &dialog.local_tag);
        for route in pending.request.headers(Name::RecordRoute) {
            draft.line("Record-Route", route);
        }
        draft.line(
            "Contact",
            &contact(self.config.host.as_deref(), &dialog.flow),
        );
        let bytes = draft.finish(body.map(|body| ("application/sdp", body.as_bytes())));
        self.respond(now, key, status, bytes);
        Ok(())
    }

    /// Answers 200 with our SDP. Returns the media to start now, or `None` if the caller offered nothing: then
    /// [`Event::Media`] comes with the ACK.
    pub fn accept(
        &mut self,
        now: Instant,
        dialog: DialogId,
        local: LocalMedia,
    ) -> Result<Option<Media>, NoSuchDialog> {
        let mut dialog = self.take(dialog.0).ok_or(NoSuchDialog)?;
        let Some(pending) = dialog.pending.take_if(|_| dialog.state == State::Incoming) else {
            self.put(dialog);
            return Err(NoSuchDialog);
        };
        dialog.session.set_local(local);
        let (body, media) = match sdp(&pending.request) {
            None => (dialog.session.offer(&self.config.media), None),
            Some(offer) => {
                match dialog
                    .session
                    .answer(offer, &self.config.media, dialog.flow.remote.ip())
                {
                    Ok((body, media)) => (body, Some(media)),
                    Err(_) => {
                        dialog.pending = Some(pending);
                        self.final_refusal(now, dialog, 488, Ending::NoMedia);
                        return Err(NoSuchDialog);
                    }
                }
            }
        };
        dialog.state = State::Standing;
        dialog.later = None;
        self.accept_invite(
            now,
            &mut dialog,
            pending.key,
            &pending.request,
            &body,
            media.is_none(),
        );
        self.put(dialog);
        Ok(media)
    }

    /// Sends 200 to an INVITE or re-INVITE and repeats it until its ACK.
    pub(super) fn accept_invite(
        &mut self,
        now: Instant,
        dialog: &mut Dialog,
        key: u128,
        request: &Message,
        body: &str,
        offered: bool,
    ) {
        let Some((reply, anew)) = self
            .servers
            .get(&key)
            .map(|entry| (entry.machine.flow, entry.anew))
        else {
            return;
        };
        let mut draft = self.draft(request, &reply, 200, &dialog.local_tag);
        for route in request.headers(Name::RecordRoute) {
            draft.line("Record-Route", route);
        }
        dialog.describe(
            &mut draft,
            &contact(self.config.host.as_deref(), &dialog.flow),
        );
        if let Some(line) = self.agree_interval(now, dialog, request) {
            draft.line("Session-Expires", &line);
            if line.ends_with("uac") {
                draft.line("Require", "timer");
            }
        }
        let bytes = draft.finish(Some(("application/sdp", body.as_bytes())));
        let cseq = dialog.remote_cseq.unwrap_or(0);
        let (interval, end) = (self.timers.t1, now + self.timers.give_up);
        dialog.unacked = Some(Box::new(Unacked {
            bytes: bytes.clone(),
            flow: reply,
            anew,
            cseq,
            interval,
            resend: now + interval,
            end,
            offered,
        }));
        self.respond(now, key, 200, bytes);
    }

    /// Our Session-Expires value, if the caller asked for session timers (RFC 4028 §9); sets the dialog's timer.
    pub(super) fn agree_interval(
        &mut self,
        now: Instant,
        dialog: &mut Dialog,
        request: &Message,
    ) -> Option<String> {
        dialog.refresh = None;
        let (seconds, refresher) = session_expires(request)?;
        // A caller without the extension was given the header by a proxy: then we are the one who can refresh.
        let theirs = (lists(request, Name::Supported, "timer")
            || lists(request, Name::Require, "timer"))
            && refresher.is_none_or(|refresher| refresher.eq_ignore_ascii_case("uac"));
        let interval = Duration::from_secs(seconds).max(self.config.min_session);
        dialog.refresh = Some(Refresh::new(now, interval, !theirs));
        Some(format!(
            "{};refresher={}",
            interval.as_secs(),
            if theirs { "uac" } else { "uas" }
        ))
    }

    /// Refuses an unanswered call: 404, 486, 503, 603... [`Event::Ended`] with [`Ending::HungUp`] follows.
    pub fn reject(
        &mut self,
        now: Instant,
        dialog: DialogId,
        status: u16,
    ) -> Result<(), NoSuchDialog> {
        let dialog = self.take(dialog.0).ok_or(NoSuchDialog)?;
        if dialog.state != State::Incoming || !(400..700).contains(&status) {
            self.put(dialog);
            return Err(NoSuchDialog);
        }
        self.final_refusal(now, dialog, status, Ending::HungUp);
        Ok(())
    }

    /// Ends an unanswered incoming call.
    pub(super) fn final_refusal(
        &mut self,
        now: Instant,
        mut dialog: Box<Dialog>,
        status: u16,
        ending: Ending,
    ) {
        if let Some(pending) = dialog.pending.take()
            && let Some(reply) = self
                .servers
                .get(&pending.key)
                .map(|entry| entry.machine.flow)
        {
            let mut draft = self.draft(&pending.request, &reply, status, &dialog.local_tag);
            if status == 503 {
                draft.line("Retry-After", &self.config.limits.retry_after.to_string());
            }
            self.respond(now, pending.key, status, draft.finish(None));
        }
        self.end(dialog, ending);
    }

    /// An ACK: of a refusal it ends the transaction's repeats, of a 2xx it confirms the dialog.
    pub(super) fn ack(
        &mut self,
        now: Instant,
        key: u128,
        flow: Flow,
        message: &Message,
        heads: &Essentials<'_>,
    ) {
        if let Some(entry) = self.servers.get_mut(&key)
            && entry.machine.acknowledged(now, &self.timers)
        {
            return self.wind_server(key);
        }
        let Some(mut dialog) = self.find(heads).and_then(|id| self.take(id)) else {
            self.counters.stray_acks += 1;
            return;
        };
        let Some(unacked) = dialog
            .unacked
            .take_if(|unacked| unacked.cseq == heads.cseq.number)
        else {
            return self.put(dialog);
        };
        dialog.flow = flow;
        if dialog.state == State::Closing {
            self.bye(now, &mut dialog);
            return self.forget(dialog);
        }
        let id = DialogId(dialog.id);
        if unacked.offered {
            let answer = sdp(message).map(|answer| {
                dialog
                    .session
                    .accept(answer, &self.config.media, flow.remote.ip())
            });
            match answer {
                Some(Ok(media)) => self.event(Event::Media { dialog: id, media }),
                _ => {
                    self.bye(now, &mut dialog);
                    return self.end(dialog, Ending::NoMedia);
                }
            }
        }
        self.confirm(&mut dialog);
        self.put(dialog);
    }

    pub(super) fn confirm(&mut self, dialog: &mut Dialog) {
        if !dialog.confirmed {
            dialog.confirmed = true;
            self.event(Event::Confirmed {
                dialog: DialogId(dialog.id),
            });
        }
    }

    /// The dialog a request inside one belongs to.
    pub(super) fn find(&self, heads: &Essentials<'_>) -> Option<u64> {
        let id = *self
            .names
            .get(&self.random.key(&[heads.call_id, heads.to.tag()?]))?;
        let dialog = self.dialogs.get(&id)?;
        (*dialog.remote_tag == *heads.from.tag().unwrap_or("")).then_some(id)
    }

    /// A dialog's clock.
    pub(super) fn dialog_due(&mut self, now: Instant, id: u64) {
        let Some(mut dialog) = self.take(id) else {
            return;
        };
        dialog.alarm = None;
        if let Some(unacked) = &mut dialog.unacked {
            if unacked.end <= now {
                dialog.unacked = None;
                self.bye(now, &mut dialog);
                return self.end(dialog, Ending::NoAck);
            }
            if unacked.resend <= now {
                unacked.interval = (unacked.interval * 2).min(self.timers.t2);
                unacked.resend = now + unacked.interval;
                let (flow, anew, bytes) = (unacked.flow, unacked.anew, unacked.bytes.clone());
                let flow = self.way_back(now, flow, anew);
                self.send(&flow, bytes);
            }
        }
        if dialog.later.is_some_and(|at| at <= now) {
            dialog.later = None;
            match dialog.state {
                State::Incoming => return self.final_refusal(now, dialog, 480, Ending::Cancelled),
                State::Dialling => self.give_up(now, &mut dialog),
                State::Standing => self.reinvite(now, &mut dialog),
                State::Cancelling | State::Closing => {}
            }
        }
        if let Some(refresh) = dialog.refresh.filter(|refresh| refresh.at <= now) {
            if !refresh.ours {
                self.bye(now, &mut dialog);
                return self.end(dialog, Ending::Expired);
            }
            // If this refresh is not answered, the client transaction ends the call.
            dialog.refresh = Some(Refresh::new(now, refresh.interval, true));
            self.reinvite(now, &mut dialog);
        }
        self.put(dialog);
    }
}

/// What a session description that cannot be agreed on gets.
pub(super) fn sdp_refusal(error: super::super::sdp::SdpError, flow: &Flow) -> Refusal {
    if matches!(error, super::super::sdp::SdpError::Broken(_)) {
        return Refusal::bad("Bad Session Description");
    }
    let (code, text) = error.warning();
    Refusal::of(488).with("Warning", format!("{code} {} \"{text}\"", flow.local))
}

fn invite(id: u64, flow: Flow, message: &Message, heads: &Essentials<'_>) -> Invite {
    let uri = Uri::parse(message.uri()).ok();
    let asserted = message
        .header(Name::PAssertedIdentity)
        .and_then(|value| list(value).next())
        .and_then(Address::parse);
    let anonymous = message
        .headers(Name::Privacy)
        .flat_map(|value| value.split([';', ',']))
        .any(|word| {
            let word = word.trim();
            ["id", "user", "header"]
                .iter()
                .any(|level| word.eq_ignore_ascii_case(level))
        });
    Invite {
        dialog: DialogId(id),
        flow,
        dialled: uri.map_or_else(String::new, |uri| uri.user_text()),
        host: uri.map_or_else(String::new, |uri| uri.host.to_owned()),
        from: party(&heads.from),
        to: party(&heads.to),
        asserted: asserted.map(|address| party(&address)),
        anonymous,
        accept_language: message.header(Name::AcceptLanguage).map(str::to_owned),
        user_agent: message.header(Name::UserAgent).map(str::to_owned),
    }
}

fn party(address: &Address<'_>) -> Party {
    let uri = address.parsed().ok();
    Party {
        name: address.name_text(),
        user: uri.map_or_else(String::new, |uri| uri.user_text()),
        host: uri.map_or_else(String::new, |uri| uri.host.to_owned()),
    }
}
