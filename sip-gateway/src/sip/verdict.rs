//! What a received message must hold, and what it gets if it does not. Strict on what identifies transactions and dialogs
//! (RFC 3261 §8.1.1, §8.2), lenient elsewhere. Decides only; answers are written in `compose`.

use super::header::{Address, CSeq, Via, list};
use super::message::{Fault, Message, digits};
use super::method::{ALLOW, Method, reason};
use super::name::Name;
use super::uri::{Uri, UriError};

/// The refusal a request has earned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Status code.
    pub status: u16,
    /// Reason phrase, naming the header at fault.
    pub reason: &'static str,
    /// Further header lines.
    pub headers: Vec<(&'static str, String)>,
}

impl Refusal {
    /// With the usual reason phrase.
    pub fn of(status: u16) -> Refusal {
        Refusal {
            status,
            reason: reason(status),
            headers: Vec::new(),
        }
    }

    /// 400 saying why.
    pub fn bad(reason: &'static str) -> Refusal {
        Refusal {
            status: 400,
            reason,
            headers: Vec::new(),
        }
    }

    /// With one more header line.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Refusal {
        self.headers.push((name, value.into()));
        self
    }
}

/// The header fields every message needs (RFC 3261 §8.1.1), read.
#[derive(Debug, Clone, Copy)]
pub struct Essentials<'a> {
    /// Top Via.
    pub via: Via<'a>,
    /// From.
    pub from: Address<'a>,
    /// To.
    pub to: Address<'a>,
    /// Call-ID.
    pub call_id: &'a str,
    /// CSeq.
    pub cseq: CSeq<'a>,
}

fn of_fault(fault: Fault) -> Refusal {
    match fault {
        Fault::Version => Refusal::of(505),
        Fault::RequestLine => Refusal::bad("Bad Request-Line"),
        Fault::HeaderLine => Refusal::bad("Bad Header Line"),
        Fault::LineBreak => Refusal::bad("Bad Line Break"),
        Fault::Utf8 => Refusal::bad("Header Is Not UTF-8"),
        Fault::TooManyHeaders => Refusal::bad("Too Many Headers"),
        Fault::Unfinished => Refusal::bad("Missing Empty Line After Headers"),
        Fault::ContentLength => Refusal::bad("Bad Content-Length"),
        Fault::Truncated => Refusal::bad("Content-Length Exceeds Message"),
        Fault::RepeatedContentLength => Refusal::bad("Repeated Content-Length"),
    }
}

/// Reads the only field of that name.
fn only<'a>(
    message: &'a Message,
    name: Name,
    missing: &'static str,
    repeated: &'static str,
) -> Result<&'a str, Refusal> {
    let mut values = message.headers(name);
    let value = values.next().ok_or_else(|| Refusal::bad(missing))?;
    match values.next() {
        Some(_) => Err(Refusal::bad(repeated)),
        None => Ok(value),
    }
}

/// Judges the form of a request or response.
pub fn essentials(message: &Message) -> Result<Essentials<'_>, Refusal> {
    if let Some(fault) = message.fault() {
        return Err(of_fault(fault));
    }
    let via = message
        .header(Name::Via)
        .ok_or_else(|| Refusal::bad("Missing Via"))?;
    let via = list(via)
        .next()
        .and_then(Via::parse)
        .ok_or_else(|| Refusal::bad("Bad Via"))?;
    let from = only(message, Name::From, "Missing From", "Repeated From")?;
    let from = Address::parse(from).ok_or_else(|| Refusal::bad("Bad From"))?;
    let to = only(message, Name::To, "Missing To", "Repeated To")?;
    let to = Address::parse(to).ok_or_else(|| Refusal::bad("Bad To"))?;
    for (address, bad) in [(&from, "Bad From"), (&to, "Bad To")] {
        if address.parsed() == Err(UriError::Form) {
            return Err(Refusal::bad(bad));
        }
    }
    let call_id = only(message, Name::CallId, "Missing Call-ID", "Repeated Call-ID")?;
    if call_id.is_empty() || call_id.contains([' ', '\t', ',']) {
        return Err(Refusal::bad("Bad Call-ID"));
    }
    let cseq = only(message, Name::CSeq, "Missing CSeq", "Repeated CSeq")?;
    let cseq = CSeq::parse(cseq).ok_or_else(|| Refusal::bad("Bad CSeq"))?;
    if message.method().is_some() {
        if cseq.name != message.method_name() {
            return Err(Refusal::bad("CSeq Method Differs"));
        }
        let forwards = only(
            message,
            Name::MaxForwards,
            "Missing Max-Forwards",
            "Repeated Max-Forwards",
        );
        match forwards {
            Ok(forwards) if digits(forwards).is_none_or(|hops| hops > 255) => {
                return Err(Refusal::bad("Bad Max-Forwards"));
            }
            // An element older than RFC 3261, known by its branch, need not write it.
            Err(refusal) if refusal.reason.starts_with("Repeated") || via.branch().is_some() => {
                return Err(refusal);
            }
            _ => {}
        }
    }
    Ok(Essentials {
        via,
        from,
        to,
        call_id,
        cseq,
    })
}

/// Judges whether a well-formed request is one we can serve (RFC 3261 §8.2.1 to §8.2.3). ACK and CANCEL always are.
pub fn servable(message: &Message, essentials: &Essentials<'_>) -> Result<(), Refusal> {
    let method = message.method().unwrap_or(Method::Unknown);
    if matches!(method, Method::Ack | Method::Cancel) {
        return Ok(());
    }
    match method {
        Method::Unknown => return Err(Refusal::of(501).with("Allow", ALLOW)),
        Method::Invite | Method::Bye | Method::Options | Method::Info | Method::Update => {}
        _ => return Err(Refusal::of(405).with("Allow", ALLOW)),
    }
    match Uri::parse(message.uri()) {
        Err(UriError::Scheme) => return Err(Refusal::of(416)),
        Err(UriError::Form) => return Err(Refusal::bad("Bad Request-URI")),
        Ok(uri) if uri.headers.is_some() => return Err(Refusal::bad("Bad Request-URI")),
        Ok(_) => {}
    }
    let exhausted = message.header(Name::MaxForwards).and_then(digits) == Some(0);
    // OPTIONS with 0 asks exactly this hop; requests inside a dialog are ours whatever the count.
    if exhausted && essentials.to.tag().is_none() && method != Method::Options {
        return Err(Refusal::of(483));
    }
    let unsupported: Vec<&str> = message
        .headers(Name::Require)
        .flat_map(list)
        .filter(|extension| !extension.eq_ignore_ascii_case("timer"))
        .collect();
    if !unsupported.is_empty() {
        return Err(Refusal::of(420).with("Unsupported", unsupported.join(", ")));
    }
    if method == Method::Invite {
        let contact = only(
            message,
            Name::Contact,
            "Missing Contact",
            "Repeated Contact",
        )?;
        let mut contacts = list(contact);
        let contact = contacts
            .next()
            .and_then(Address::parse)
            .ok_or_else(|| Refusal::bad("Bad Contact"))?;
        if contacts.next().is_some() {
            return Err(Refusal::bad("Repeated Contact"));
        }
        if contact.parsed().is_err() {
            return Err(Refusal::bad("Bad Contact"));
        }
    }
    // Our answer to a call is SDP, whatever else the caller would rather read (RFC 3261 §21.4.7).
    if method == Method::Invite
        && message
            .header(Name::Accept)
            .is_some_and(|accept| !accept.is_empty())
        && !message.headers(Name::Accept).flat_map(list).any(takes_sdp)
    {
        return Err(Refusal::of(406));
    }
    body(message, method)
}

fn takes_sdp(range: &str) -> bool {
    let range = media_type(range);
    ["application/sdp", "application/*", "*/*"]
        .iter()
        .any(|known| range.eq_ignore_ascii_case(known))
}

/// Judges the body's type (RFC 3261 §8.2.3).
fn body(message: &Message, method: Method) -> Result<(), Refusal> {
    let accept = match method {
        Method::Invite | Method::Update | Method::Options => "application/sdp",
        Method::Info => "application/dtmf-relay, application/dtmf",
        _ => return Ok(()),
    };
    if message.body().is_empty()
        || is_optional(message.header(Name::ContentDisposition).unwrap_or(""))
    {
        return Ok(());
    }
    if message
        .headers(Name::ContentEncoding)
        .flat_map(list)
        .any(|coding| !coding.eq_ignore_ascii_case("identity"))
    {
        return Err(Refusal::of(415).with("Accept-Encoding", "identity"));
    }
    let kind = only(
        message,
        Name::ContentType,
        "Missing Content-Type",
        "Repeated Content-Type",
    )?;
    let kind = media_type(kind);
    let understood = if method == Method::Info {
        is_dtmf(kind)
    } else {
        kind.eq_ignore_ascii_case("application/sdp")
            || (is_multipart(kind)
                && (method != Method::Invite
                    || sdp(message).is_some()
                    || !has_required_part(message)))
    };
    if understood {
        Ok(())
    } else {
        Err(Refusal::of(415).with("Accept", accept))
    }
}

fn is_optional(disposition: &str) -> bool {
    let params = disposition.find(';').map_or("", |at| &disposition[at..]);
    super::header::Params::new(params)
        .value("handling")
        .is_some_and(|value| value.eq_ignore_ascii_case("optional"))
}

fn media_type(value: &str) -> &str {
    value.split(';').next().unwrap_or("").trim()
}

fn is_multipart(kind: &str) -> bool {
    kind.eq_ignore_ascii_case("multipart/mixed")
        || kind.eq_ignore_ascii_case("multipart/alternative")
}

/// The two types keys come as in INFO.
pub(super) fn is_dtmf(kind: &str) -> bool {
    kind.eq_ignore_ascii_case("application/dtmf-relay")
        || kind.eq_ignore_ascii_case("application/dtmf")
}

/// The session description of a message: its body, or that part of a multipart body (RFC 5621).
pub fn sdp(message: &Message) -> Option<&[u8]> {
    if message.body().is_empty() {
        return None;
    }
    let value = message.header(Name::ContentType)?;
    let kind = media_type(value);
    if kind.eq_ignore_ascii_case("application/sdp") {
        return Some(message.body());
    }
    if !is_multipart(kind) {
        return None;
    }
    parts(message)
        .find(|(head, _)| part_type(head).eq_ignore_ascii_case("application/sdp"))
        .map(|(_, body)| body)
}

fn has_required_part(message: &Message) -> bool {
    parts(message).any(|(head, _)| !is_optional(part_header(head, "content-disposition")))
}

fn part_type(head: &[u8]) -> &str {
    media_type(part_header(head, "content-type"))
}

fn part_header<'a>(head: &'a [u8], name: &str) -> &'a str {
    let head = std::str::from_utf8(head).unwrap_or("");
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
        .map_or("", |(_, value)| value.trim())
}

/// Parts of a multipart body: head and body of each. At most 16.
fn parts(message: &Message) -> impl Iterator<Item = (&[u8], &[u8])> {
    let value = message.header(Name::ContentType).unwrap_or("");
    let params = value.find(';').map_or("", |at| &value[at..]);
    let boundary = super::header::Params::new(params)
        .value("boundary")
        .map(super::header::unquote)
        .unwrap_or_default();
    let mark = format!("--{boundary}").into_bytes();
    let usable = !boundary.is_empty() && boundary.len() <= 70;
    let body = message.body();
    let mut at = if usable {
        memchr::memmem::find(body, &mark)
    } else {
        None
    };
    std::iter::from_fn(move || {
        let from = at? + mark.len();
        let end = memchr::memmem::find(&body[from..], &mark)? + from;
        at = Some(end);
        let part = &body[from..end];
        let part = part.strip_prefix(b"\r\n").unwrap_or(part);
        let part = part.strip_suffix(b"\r\n").unwrap_or(part);
        Some(match memchr::memmem::find(part, b"\r\n\r\n") {
            Some(split) => (&part[..split], &part[split + 4..]),
            None => (part, &part[part.len()..]),
        })
    })
    .take(16)
}
