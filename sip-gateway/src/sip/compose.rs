//! Writes requests and responses. Everything it is given was either read from a checked message or is our own text; line
//! breaks are taken out all the same, so that no header can be smuggled in.

use bytes::Bytes;

use super::event::Flow;
use super::header::{Params, Via, list};
use super::message::Message;
use super::method::reason;
use super::name::Name;

/// A message being written.
#[derive(Debug)]
pub struct Draft(Vec<u8>);

impl Draft {
    /// Starts a request.
    pub fn request(method: &str, uri: &str) -> Draft {
        let mut draft = Draft(Vec::with_capacity(1024));
        draft.text(method);
        draft.0.push(b' ');
        draft.text(uri);
        draft.0.extend_from_slice(b" SIP/2.0\r\n");
        draft
    }

    /// Starts a response; an empty phrase becomes the usual one.
    pub fn response(status: u16, phrase: &str) -> Draft {
        let mut draft = Draft(Vec::with_capacity(1024));
        draft.0.extend_from_slice(b"SIP/2.0 ");
        draft.number(u64::from(status));
        draft.0.push(b' ');
        draft.text(if phrase.is_empty() {
            reason(status)
        } else {
            phrase
        });
        draft.0.extend_from_slice(b"\r\n");
        draft
    }

    fn text(&mut self, text: &str) {
        let from = self.0.len();
        self.0.extend_from_slice(text.as_bytes());
        for byte in &mut self.0[from..] {
            if matches!(*byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
    }

    fn number(&mut self, number: u64) {
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        let mut rest = number;
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.0.extend_from_slice(&digits[at..]);
    }

    /// One header line.
    pub fn line(&mut self, name: &str, value: &str) -> &mut Draft {
        self.parts(name, &[value])
    }

    /// One header line whose value is the joined parts.
    pub fn parts(&mut self, name: &str, values: &[&str]) -> &mut Draft {
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b": ");
        for value in values {
            self.text(value);
        }
        self.0.extend_from_slice(b"\r\n");
        self
    }

    /// CSeq.
    pub fn cseq(&mut self, number: u32, method: &str) -> &mut Draft {
        self.0.extend_from_slice(b"CSeq: ");
        self.number(u64::from(number));
        self.0.push(b' ');
        self.text(method);
        self.0.extend_from_slice(b"\r\n");
        self
    }

    /// Ends the message. `body` is its type and bytes.
    pub fn finish(mut self, body: Option<(&str, &[u8])>) -> Bytes {
        let bytes = match body {
            Some((kind, bytes)) => {
                self.line("Content-Type", kind);
                bytes
            }
            None => &[],
        };
        self.0.extend_from_slice(b"Content-Length: ");
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(b"\r\n\r\n");
        self.0.extend_from_slice(bytes);
        self.0.into()
    }
}

/// Starts the response to `request` as it came over `flow`: Via (with `received` and `rport`, RFC 3581), From, To with `tag`
/// unless it has one, Call-ID, CSeq. Works on requests that lack some of these.
pub fn answer(request: &Message, flow: &Flow, status: u16, phrase: &str, tag: &str) -> Draft {
    let mut draft = Draft::response(status, phrase);
    for (at, value) in request.headers(Name::Via).enumerate() {
        if at == 0 {
            top_via(&mut draft, value, flow)
        } else {
            draft.line("Via", value)
        };
    }
    for (name, long) in [
        (Name::From, "From"),
        (Name::To, "To"),
        (Name::CallId, "Call-ID"),
        (Name::CSeq, "CSeq"),
    ] {
        let Some(value) = request.header(name) else {
            continue;
        };
        if name == Name::To && !tag.is_empty() && !has_tag(value) {
            draft.parts(long, &[value, ";tag=", tag]);
        } else {
            draft.line(long, value);
        }
    }
    draft
}

fn has_tag(value: &str) -> bool {
    let params = match value.rfind('>') {
        Some(at) => &value[at + 1..],
        None => value.find(';').map_or("", |at| &value[at..]),
    };
    Params::new(params.trim_start()).has("tag")
}

fn top_via<'a>(draft: &'a mut Draft, value: &str, flow: &Flow) -> &'a mut Draft {
    let first = list(value).next().unwrap_or(value);
    let Some(via) = Via::parse(first) else {
        return draft.line("Via", value);
    };
    let wants_port = via.params.has("rport");
    if !wants_port && !via.is_translated(flow.remote.ip()) {
        return draft.line("Via", value);
    }
    let received = flow.remote.ip().to_string();
    let port = flow.remote.port().to_string();
    let mut text = format!("SIP/2.0/{} {}", via.transport, via.sent_by);
    for (name, param) in via.params.iter() {
        if name.eq_ignore_ascii_case("rport") || name.eq_ignore_ascii_case("received") {
            continue;
        }
        text.push(';');
        text.push_str(name);
        if let Some(param) = param {
            text.push('=');
            text.push_str(param);
        }
    }
    text.push_str(";received=");
    text.push_str(&received);
    if wants_port {
        text.push_str(";rport=");
        text.push_str(&port);
    }
    // Whatever followed the first element follows still.
    let after = value.trim_start().strip_prefix(first).unwrap_or("");
    draft.parts("Via", &[&text, after])
}
