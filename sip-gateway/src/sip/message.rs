//! A received SIP message (RFC 3261 §7): one buffer and the places of its fields. Finds fields, judges only the form of the
//! message as a whole; what each header must hold is judged in `verdict`.

use bytes::Bytes;
use memchr::{memchr, memmem};

use super::method::Method;
use super::name::Name;

/// Most header fields a message may have. Real ones stay below 60; higher only feeds attackers.
pub const MAX_HEADERS: usize = 256;
/// Largest message read, the size of a UDP datagram.
pub const MAX_MESSAGE: usize = 65_535;

/// A byte range of the message.
type Span = std::ops::Range<u32>;

/// Why bytes are no SIP message at all: nothing to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NotSip {
    /// Only line breaks: a keep-alive (RFC 5626 §3.5.1 and what phones send).
    #[error("a keep-alive")]
    KeepAlive,
    /// No start line of SIP.
    #[error("no start line of SIP")]
    StartLine,
    /// Longer than [`MAX_MESSAGE`].
    #[error("longer than {MAX_MESSAGE} bytes")]
    TooLong,
    /// A response whose form is broken: there is nobody to tell.
    #[error("a response of broken form")]
    Response,
}

/// What is wrong with the form of a message; a request with a fault is answered 400 (505 for the version).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// More or other than `METHOD SP URI SP SIP/2.0`.
    RequestLine,
    /// Another SIP version.
    Version,
    /// A header line without name or colon.
    HeaderLine,
    /// A line break other than CR LF.
    LineBreak,
    /// The head is not UTF-8.
    Utf8,
    /// More than [`MAX_HEADERS`].
    TooManyHeaders,
    /// No empty line after the headers.
    Unfinished,
    /// Content-Length that is no number.
    ContentLength,
    /// Content-Length above what came.
    Truncated,
    /// Two of Content-Length.
    RepeatedContentLength,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Start {
    Request {
        method: Method,
        method_span: Span,
        uri: Span,
    },
    Response {
        status: u16,
        reason: Span,
    },
}

/// One header field.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Field {
    name: Name,
    name_span: Span,
    value: Span,
}

/// A SIP message. All text it gives is valid UTF-8, unfolded and trimmed. A clone shares the bytes.
#[derive(Debug, Clone)]
pub struct Message {
    text: Bytes,
    start: Start,
    fields: Vec<Field>,
    body: Span,
    fault: Option<Fault>,
}

impl Message {
    /// Reads one datagram (leading line breaks are skipped; bytes after Content-Length are dropped).
    pub fn parse(bytes: Bytes) -> Result<Message, NotSip> {
        if bytes.len() > MAX_MESSAGE {
            return Err(NotSip::TooLong);
        }
        let skipped = bytes
            .iter()
            .take_while(|byte| matches!(byte, b'\r' | b'\n'))
            .count();
        if skipped == bytes.len() || bytes[skipped..] == [0] {
            return Err(NotSip::KeepAlive);
        }
        let message = Self::read(bytes.slice(skipped..), false)?;
        if message.fault.is_some() && message.status().is_some() {
            return Err(NotSip::Response);
        }
        Ok(message)
    }

    fn read(text: Bytes, unfolded: bool) -> Result<Message, NotSip> {
        let bytes = &text[..];
        let end = memchr(b'\n', bytes).ok_or(NotSip::StartLine)?;
        let mut fault = None;
        let line_end = if end > 0 && bytes[end - 1] == b'\r' {
            end - 1
        } else {
            fault = Some(Fault::LineBreak);
            end
        };
        let (start, start_fault) = start_line(&bytes[..line_end])?;
        let mut fault = start_fault.or(fault);
        let mut fields: Vec<Field> = Vec::with_capacity(24);
        let mut at = end + 1;
        let body_at = loop {
            let Some(length) = memchr(b'\n', &bytes[at..]) else {
                fault = fault.or(Some(Fault::Unfinished));
                break bytes.len();
            };
            let next = at + length + 1;
            let mut stop = at + length;
            if length > 0 && bytes[stop - 1] == b'\r' {
                stop -= 1;
            } else {
                fault = fault.or(Some(Fault::LineBreak));
            }
            if stop == at {
                break next;
            }
            if matches!(bytes.get(next), Some(b' ' | b'\t')) {
                if unfolded {
                    fault = fault.or(Some(Fault::HeaderLine));
                } else {
                    return Self::read(unfold(&text), true);
                }
            }
            if fields.len() == MAX_HEADERS {
                fault = fault.or(Some(Fault::TooManyHeaders));
                break bytes.len();
            }
            match field(bytes, at, stop) {
                Ok(field) => fields.push(field),
                Err(found) => fault = fault.or(Some(found)),
            }
            at = next;
        };
        if std::str::from_utf8(&bytes[..body_at]).is_err() {
            // Spans are read as text later, so a head that is no text keeps no field.
            return match start {
                Start::Request { .. } => Ok(Message {
                    text,
                    start: nameless(),
                    fields: Vec::new(),
                    body: 0..0,
                    fault: Some(Fault::Utf8),
                }),
                Start::Response { .. } => Err(NotSip::Response),
            };
        }
        let mut message = Message {
            body: body_at as u32..bytes.len() as u32,
            text,
            start,
            fields,
            fault,
        };
        message.bound_body();
        Ok(message)
    }

    /// Cuts the body at Content-Length.
    fn bound_body(&mut self) {
        let mut lengths = self
            .fields
            .iter()
            .filter(|field| field.name == Name::ContentLength);
        let Some(first) = lengths.next() else { return };
        let repeated = lengths.next().is_some();
        let present = (self.body.end - self.body.start) as usize;
        let fault = if repeated {
            Some(Fault::RepeatedContentLength)
        } else {
            match digits(self.slice(&first.value)) {
                None => Some(Fault::ContentLength),
                Some(length) if length > present as u64 => Some(Fault::Truncated),
                Some(length) => {
                    self.body.end = self.body.start + length as u32;
                    None
                }
            }
        };
        self.fault = self.fault.or(fault);
    }

    fn slice(&self, span: &Span) -> &str {
        std::str::from_utf8(&self.text[span.start as usize..span.end as usize])
            .expect("a head is kept only when it is UTF-8, and spans end at ASCII bytes")
    }

    /// What is wrong with the form, if anything.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// The method, of a request.
    pub fn method(&self) -> Option<Method> {
        match &self.start {
            Start::Request { method, .. } => Some(*method),
            Start::Response { .. } => None,
        }
    }

    /// The method as written, or empty for a response.
    pub fn method_name(&self) -> &str {
        match &self.start {
            Start::Request { method_span, .. } => self.slice(method_span),
            Start::Response { .. } => "",
        }
    }

    /// The request URI, or empty for a response.
    pub fn uri(&self) -> &str {
        match &self.start {
            Start::Request { uri, .. } => self.slice(uri),
            Start::Response { .. } => "",
        }
    }

    /// The status, of a response: 100 to 699.
    pub fn status(&self) -> Option<u16> {
        match &self.start {
            Start::Response { status, .. } => Some(*status),
            Start::Request { .. } => None,
        }
    }

    /// The reason phrase, or empty for a request.
    pub fn reason(&self) -> &str {
        match &self.start {
            Start::Response { reason, .. } => self.slice(reason),
            Start::Request { .. } => "",
        }
    }

    /// Value of the first field of that name.
    pub fn header(&self, name: Name) -> Option<&str> {
        self.fields
            .iter()
            .find(|field| field.name == name)
            .map(|field| self.slice(&field.value))
    }

    /// Value of the first field named `name` in any case; for names that are [`Name::Other`].
    pub fn other(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|field| {
                field.name == Name::Other && self.slice(&field.name_span).eq_ignore_ascii_case(name)
            })
            .map(|field| self.slice(&field.value))
    }

    /// Values of all fields of that name, in order.
    pub fn headers(&self, name: Name) -> impl Iterator<Item = &str> {
        self.fields
            .iter()
            .filter(move |field| field.name == name)
            .map(|field| self.slice(&field.value))
    }

    /// All fields in order: known name, name as written, value.
    pub fn fields(&self) -> impl Iterator<Item = (Name, &str, &str)> {
        self.fields.iter().map(|field| {
            (
                field.name,
                self.slice(&field.name_span),
                self.slice(&field.value),
            )
        })
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.text[self.body.start as usize..self.body.end as usize]
    }

    /// Bytes of the message as kept.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Bytes it holds, itself included.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>() + self.text.len() + self.fields.capacity() * size_of::<Field>()
    }

    /// Never true: a message has a start line.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Writes it anew: long names, one line per field, Content-Length that fits. Reading that gives an equal message.
    pub fn print(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.text.len() + 64);
        match &self.start {
            Start::Request {
                method_span, uri, ..
            } => {
                out.extend_from_slice(self.slice(method_span).as_bytes());
                out.push(b' ');
                out.extend_from_slice(self.slice(uri).as_bytes());
                out.extend_from_slice(b" SIP/2.0\r\n");
            }
            Start::Response { status, reason } => {
                out.extend_from_slice(b"SIP/2.0 ");
                out.extend_from_slice(status.to_string().as_bytes());
                out.push(b' ');
                out.extend_from_slice(self.slice(reason).as_bytes());
                out.extend_from_slice(b"\r\n");
            }
        }
        for field in &self.fields {
            match field.name {
                Name::ContentLength => continue,
                Name::Other => out.extend_from_slice(self.slice(&field.name_span).as_bytes()),
                name => out.extend_from_slice(name.long().as_bytes()),
            }
            out.extend_from_slice(b": ");
            out.extend_from_slice(self.slice(&field.value).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"Content-Length: ");
        out.extend_from_slice(self.body().len().to_string().as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(self.body());
        out.into()
    }
}

/// Same start line, same fields in the same order (names by meaning, Content-Length apart), same body.
impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        let fields = |message: &Self| -> Vec<(Name, String, String)> {
            message
                .fields()
                .filter(|(name, ..)| *name != Name::ContentLength)
                .map(|(name, text, value)| {
                    let text = if name == Name::Other {
                        text.to_owned()
                    } else {
                        String::new()
                    };
                    (name, text, value.to_owned())
                })
                .collect()
        };
        self.method_name() == other.method_name()
            && self.uri() == other.uri()
            && self.status() == other.status()
            && self.reason() == other.reason()
            && self.body() == other.body()
            && fields(self) == fields(other)
    }
}

fn nameless() -> Start {
    Start::Request {
        method: Method::Unknown,
        method_span: 0..0,
        uri: 0..0,
    }
}

/// A number of ASCII digits only; leading zeros allowed, saturating.
pub(super) fn digits(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.bytes().fold(0u64, |sum, byte| {
        sum.saturating_mul(10)
            .saturating_add(u64::from(byte - b'0'))
    }))
}

/// Characters of a token (RFC 3261 §25.1).
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte)
}

fn start_line(line: &[u8]) -> Result<(Start, Option<Fault>), NotSip> {
    if line.len() >= 4 && line[..4].eq_ignore_ascii_case(b"SIP/") {
        return status_line(line)
            .map(|start| (start, None))
            .ok_or(NotSip::Response);
    }
    let method_end = memchr(b' ', line).ok_or(NotSip::StartLine)?;
    if method_end == 0 || !line[..method_end].iter().copied().all(is_token) {
        return Err(NotSip::StartLine);
    }
    let trimmed = line.trim_ascii_end();
    let version_at = trimmed
        .iter()
        .rposition(|byte| *byte == b' ')
        .map_or(0, |at| at + 1);
    let version = &trimmed[version_at..];
    if version.len() < 4 || !version[..4].eq_ignore_ascii_case(b"SIP/") || version_at <= method_end
    {
        return Err(NotSip::StartLine);
    }
    let uri = method_end + 1..version_at.saturating_sub(1).max(method_end + 1);
    let well_formed = trimmed.len() == line.len()
        && !uri.is_empty()
        && line[uri.clone()]
            .iter()
            .all(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'<' | b'>' | b'"'));
    let fault = if !version.eq_ignore_ascii_case(b"SIP/2.0") {
        Some(Fault::Version)
    } else if !well_formed {
        Some(Fault::RequestLine)
    } else {
        None
    };
    let start = Start::Request {
        method: Method::of(&line[..method_end]),
        method_span: 0..method_end as u32,
        uri: uri.start as u32..uri.end as u32,
    };
    Ok((start, fault))
}

fn status_line(line: &[u8]) -> Option<Start> {
    let rest = line.get(8..)?;
    if !line[..8].eq_ignore_ascii_case(b"SIP/2.0 ") || rest.len() < 3 {
        return None;
    }
    let code = &rest[..3];
    if !code.iter().all(u8::is_ascii_digit) || !matches!(rest.get(3), None | Some(b' ')) {
        return None;
    }
    let status = code
        .iter()
        .fold(0u16, |sum, byte| sum * 10 + u16::from(byte - b'0'));
    if !(100..700).contains(&status) {
        return None;
    }
    let reason_at = (8 + 4).min(line.len());
    Some(Start::Response {
        status,
        reason: reason_at as u32..line.len() as u32,
    })
}

fn field(bytes: &[u8], at: usize, stop: usize) -> Result<Field, Fault> {
    let line = &bytes[at..stop];
    let name_length = line
        .iter()
        .position(|byte| !is_token(*byte))
        .ok_or(Fault::HeaderLine)?;
    let mut colon = name_length;
    while matches!(line.get(colon), Some(b' ' | b'\t')) {
        colon += 1;
    }
    if name_length == 0 || line.get(colon) != Some(&b':') {
        return Err(Fault::HeaderLine);
    }
    if memchr(b'\r', line).is_some() {
        return Err(Fault::LineBreak);
    }
    let (mut from, mut to) = (at + colon + 1, stop);
    while from < to && matches!(bytes[from], b' ' | b'\t') {
        from += 1;
    }
    while from < to && matches!(bytes[to - 1], b' ' | b'\t') {
        to -= 1;
    }
    Ok(Field {
        name: Name::of(&line[..name_length]),
        name_span: at as u32..(at + name_length) as u32,
        value: from as u32..to as u32,
    })
}

/// Replaces each folding line break by spaces, in place, so that lengths stay (RFC 3261 §7.3.1). The start line is never folded.
fn unfold(text: &Bytes) -> Bytes {
    let head = memmem::find(text, b"\r\n\r\n").unwrap_or(text.len());
    let mut copy = text.to_vec();
    let start = memchr(b'\n', &copy).map_or(0, |at| at + 1);
    for at in start..head {
        if copy[at] == b'\n' && matches!(copy.get(at + 1), Some(b' ' | b'\t')) {
            copy[at] = b' ';
            if copy[at - 1] == b'\r' {
                copy[at - 1] = b' ';
            }
        }
    }
    copy.into()
}
