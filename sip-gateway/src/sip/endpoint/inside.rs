//! Requests inside a dialog: re-INVITE, UPDATE, INFO, BYE.

use std::time::Instant;

use super::super::dialog::{Dialog, State, contact};
use super::super::event::{DialogId, Ending, Event, Flow};
use super::super::limits::Source;
use super::super::message::{Message, digits};
use super::super::method::Method;
use super::super::name::Name;
use super::super::sdp::Media;
use super::super::verdict::{Essentials, Refusal, is_dtmf, sdp};
use super::Endpoint;
use super::call::sdp_refusal;

impl Endpoint {
    pub(super) fn inside(
        &mut self,
        now: Instant,
        key: u128,
        flow: Flow,
        reply: Flow,
        message: &Message,
        heads: &Essentials<'_>,
    ) {
        let method = message.method().unwrap_or(Method::Unknown);
        let found = self.find(heads).and_then(|id| self.take(id));
        let Some(mut dialog) = found else {
            return self.refuse(&reply, message, &Refusal::of(481));
        };
        if dialog.state == State::Closing && method != Method::Bye {
            self.put(dialog);
            return self.refuse(&reply, message, &Refusal::of(481));
        }
        if dialog
            .remote_cseq
            .is_some_and(|last| heads.cseq.number <= last)
        {
            self.put(dialog);
            let refusal = self.later();
            return self.refuse(&reply, message, &refusal);
        }
        dialog.remote_cseq = Some(heads.cseq.number);
        let source = Source::of(flow.remote.ip());
        self.open(key, reply, heads, source, None, dialog.id);
        match method {
            Method::Bye => return self.goodbye(now, key, &reply, message, dialog),
            Method::Info => self.info(now, key, &reply, message, &dialog),
            Method::Invite | Method::Update => {
                if let Err(refusal) = self.change(now, key, flow, &reply, message, &mut dialog) {
                    self.counters.refused += 1;
                    let bytes = self.refusal(&reply, message, &refusal);
                    self.respond(now, key, refusal.status, bytes);
                }
            }
            _ => unreachable!(
                "servable() lets only INVITE, BYE, INFO, UPDATE and OPTIONS pass, and OPTIONS is answered before"
            ),
        }
        self.put(dialog);
    }

    /// 500 with Retry-After (RFC 3261 §12.2.2, §14.2).
    fn later(&mut self) -> Refusal {
        let seconds = self.random.below(10) + 1;
        Refusal::of(500).with("Retry-After", seconds.to_string())
    }

    fn goodbye(
        &mut self,
        now: Instant,
        key: u128,
        reply: &Flow,
        message: &Message,
        dialog: Box<Dialog>,
    ) {
        let bytes = self.draft(message, reply, 200, "").finish(None);
        self.respond(now, key, 200, bytes);
        if dialog.state == State::Incoming {
            return self.final_refusal(now, dialog, 487, Ending::Cancelled);
        }
        self.end(dialog, Ending::Bye);
    }

    fn info(&mut self, now: Instant, key: u128, reply: &Flow, message: &Message, dialog: &Dialog) {
        let kind = message
            .header(Name::ContentType)
            .unwrap_or("")
            .split(';')
            .next()
            .unwrap_or("")
            .trim();
        if is_dtmf(kind)
            && let Some((digit, duration)) = keypress(kind, message.body())
        {
            self.event(Event::Digit {
                dialog: DialogId(dialog.id),
                digit,
                duration,
            });
        }
        let bytes = self.draft(message, reply, 200, "").finish(None);
        self.respond(now, key, 200, bytes);
    }

    /// re-INVITE or UPDATE.
    fn change(
        &mut self,
        now: Instant,
        key: u128,
        flow: Flow,
        reply: &Flow,
        message: &Message,
        dialog: &mut Dialog,
    ) -> Result<(), Refusal> {
        let invite = message.method() == Some(Method::Invite);
        let offer = sdp(message);
        match dialog.state {
            State::Standing => {}
            State::Incoming if !invite && offer.is_none() => {}
            State::Incoming => return Err(self.later()),
            State::Dialling | State::Cancelling | State::Closing => return Err(Refusal::of(491)),
        }
        let offered = dialog
            .unacked
            .as_ref()
            .is_some_and(|unacked| unacked.offered);
        if (invite || offer.is_some()) && (dialog.asked.is_some() || offered) {
            return Err(Refusal::of(491));
        }
        if let Some(refusal) = self.interval_refusal(message) {
            return Err(refusal);
        }
        let before = dialog.session.media().cloned();
        let peer = flow.remote.ip();
        let body = match offer {
            Some(offer) => {
                let (body, _) = dialog
                    .session
                    .answer(offer, &self.config.media, peer)
                    .map_err(|error| sdp_refusal(error, reply))?;
                Some(body)
            }
            None if invite => Some(dialog.session.offer(&self.config.media)),
            None => None,
        };
        dialog.flow = flow;
        dialog.retarget(message);
        if invite {
            // A higher CSeq shows that the 2xx before it arrived, even if its ACK did not.
            if dialog.unacked.take().is_some() {
                self.confirm(dialog);
            }
            let body = body.unwrap_or_default();
            self.accept_invite(now, dialog, key, message, &body, offer.is_none());
        } else {
            let mut draft = self.draft(message, reply, 200, "");
            dialog.describe(
                &mut draft,
                &contact(self.config.host.as_deref(), &dialog.flow),
            );
            if dialog.state == State::Standing
                && let Some(line) = self.agree_interval(now, dialog, message)
            {
                draft.line("Session-Expires", &line);
            }
            let body = body
                .as_ref()
                .map(|body| ("application/sdp", body.as_bytes()));
            let bytes = draft.finish(body);
            self.respond(now, key, 200, bytes);
        }
        self.media_changed(dialog, before);
        Ok(())
    }

    pub(super) fn media_changed(&mut self, dialog: &Dialog, before: Option<Media>) {
        if let Some(media) = dialog.session.media()
            && before.as_ref() != Some(media)
        {
            let media = media.clone();
            self.event(Event::Media {
                dialog: DialogId(dialog.id),
                media,
            });
        }
    }
}

/// The key and its milliseconds, from either body type.
fn keypress(kind: &str, body: &[u8]) -> Option<(char, u16)> {
    let text = std::str::from_utf8(body).ok()?;
    let mut duration = 250;
    let mut signal = None;
    if kind.eq_ignore_ascii_case("application/dtmf") {
        signal = Some(text.trim());
    } else {
        for line in text.lines().take(8) {
            let Some((name, value)) = line.split_once(['=', ':']) else {
                continue;
            };
            if name.trim().eq_ignore_ascii_case("signal") {
                signal = Some(value.trim());
            } else if name.trim().eq_ignore_ascii_case("duration") {
                duration = digits(value.trim()).unwrap_or(250).clamp(40, 10_000) as u16;
            }
        }
    }
    let digit = match signal? {
        "10" => '*',
        "11" => '#',
        "12" => 'A',
        "13" => 'B',
        "14" => 'C',
        "15" => 'D',
        one => {
            let mut chars = one.chars();
            let char = chars.next()?.to_ascii_uppercase();
            if chars.next().is_some()
                || !(char.is_ascii_digit() || matches!(char, '*' | '#' | 'A'..='D'))
            {
                return None;
            }
            char
        }
    };
    Some((digit, duration))
}

#[cfg(test)]
mod tests {
    use super::keypress;

    #[test]
    fn keys_are_read_in_both_dialects() {
        assert_eq!(
            keypress("application/dtmf-relay", b"Signal=5\r\nDuration=160\r\n"),
            Some(('5', 160))
        );
        assert_eq!(
            keypress("application/dtmf-relay", b"Signal= #\nDuration= x"),
            Some(('#', 250))
        );
        assert_eq!(keypress("Application/DTMF", b"*\r\n"), Some(('*', 250)));
        assert_eq!(keypress("application/dtmf", b"11"), Some(('#', 250)));
        assert_eq!(keypress("application/dtmf", b"d"), Some(('D', 250)));
        for body in [&b""[..], b"Z", b"55", b"\xff", b"Duration=1"] {
            assert_eq!(keypress("application/dtmf", body), None);
        }
    }
}
