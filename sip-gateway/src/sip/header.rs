//! Structured header values (RFC 3261 §20, §25.1): lists, parameters, addresses, Via, CSeq. Borrowed, never owned.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use super::event::Protocol;
use super::message::{digits, is_token};
use super::method::Method;
use super::uri::{self, Uri};

/// `;name=value;name` after a value. Names compare in any case; the first of a name counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Params<'a>(&'a str);

impl<'a> Params<'a> {
    /// `text` starts with `;` or is empty.
    pub(super) fn new(text: &'a str) -> Self {
        Params(text)
    }

    /// Reads and checks `;a=b;c`: names are tokens, values tokens, hosts or quoted strings; all quotes close.
    pub fn parse(text: &'a str) -> Option<Params<'a>> {
        let text = text.trim();
        if text.is_empty() {
            return Some(Params(""));
        }
        if !text.starts_with(';') {
            return None;
        }
        let params = Params(text);
        let mut rest = text;
        while !rest.is_empty() {
            rest = rest.strip_prefix(';')?;
            let end = unquoted(rest, b';')?;
            let (part, next) = rest.split_at(end);
            let (name, value) = split_value(part);
            if !uri::all_token(name) || value.is_some_and(|value| !valid_value(value)) {
                return None;
            }
            rest = next;
        }
        Some(params)
    }

    /// All parameters in order; a name without `=` has no value. Values keep their quotes.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            loop {
                rest = rest.trim_start().strip_prefix(';')?;
                let end = unquoted(rest, b';').unwrap_or(rest.len());
                let (part, next) = rest.split_at(end);
                rest = next;
                let (name, value) = split_value(part);
                if !name.is_empty() {
                    return Some((name, value));
                }
            }
        })
    }

    /// Value of `name`, if present with one.
    pub fn value(self, name: &str) -> Option<&'a str> {
        self.iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .and_then(|(_, value)| value)
    }

    /// Whether `name` is present.
    pub fn has(self, name: &str) -> bool {
        self.iter().any(|(key, _)| key.eq_ignore_ascii_case(name))
    }

    /// As written, from the first `;`.
    pub fn text(self) -> &'a str {
        self.0
    }
}

fn split_value(part: &str) -> (&str, Option<&str>) {
    match part.split_once('=') {
        Some((name, value)) => (name.trim(), Some(value.trim())),
        None => (part.trim(), None),
    }
}

/// A token, a host (with brackets and colons), or a whole quoted string.
fn valid_value(value: &str) -> bool {
    if let Some(rest) = value.strip_prefix('"') {
        return quoted_end(rest).is_some_and(|end| end == rest.len());
    }
    !value.is_empty()
        && value
            .bytes()
            .all(|byte| is_token(byte) || b"[]:/?@&$#()=,".contains(&byte) || byte >= 0x80)
}

/// Length of a quoted string's rest after its first quote, the closing quote included.
fn quoted_end(rest: &str) -> Option<usize> {
    let bytes = rest.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
    None
}

/// Place of the first `mark` outside quotes and angle brackets, or the length; `None` if a quote or bracket stays open.
fn unquoted(text: &str, mark: u8) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    let mut bracket = false;
    while at < bytes.len() {
        match bytes[at] {
            b'"' if !bracket => at += quoted_end(&text[at + 1..])?,
            b'<' => bracket = true,
            b'>' => bracket = false,
            byte if byte == mark && !bracket => return Some(at),
            _ => {}
        }
        at += 1;
    }
    (!bracket).then_some(bytes.len())
}

/// Elements of a comma-separated value, trimmed, empty ones left out. Commas in quotes and brackets do not count.
pub fn list(value: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        loop {
            let text = rest?;
            let end = unquoted(text, b',').unwrap_or(text.len());
            rest = text.get(end + 1..);
            let element = text[..end].trim();
            if !element.is_empty() {
                return Some(element);
            }
        }
    })
}

/// Undoes the quotes and backslashes of a quoted string; other text passes.
pub fn unquote(text: &str) -> Cow<'_, str> {
    let Some(inner) = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
    else {
        return Cow::Borrowed(text);
    };
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => out.extend(chars.next()),
            char => out.push(char),
        }
    }
    Cow::Owned(out)
}

/// Writes a quoted string; line breaks become spaces.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            char if char.is_control() => out.push(' '),
            char => out.push(char),
        }
    }
    out.push('"');
    out
}

/// `"Name" <uri>;params`, the value of From, To, Contact, Route, P-Asserted-Identity (RFC 3261 §20.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address<'a> {
    /// Display name as written, quotes included.
    pub name: Option<&'a str>,
    /// The URI as written.
    pub uri: &'a str,
    /// Parameters of the header, not of the URI.
    pub params: Params<'a>,
}

impl<'a> Address<'a> {
    /// Reads one address. The URI's own form is not judged here.
    pub fn parse(text: &'a str) -> Option<Address<'a>> {
        let text = text.trim();
        let (name, rest) = if let Some(after) = text.strip_prefix('"') {
            let end = quoted_end(after)? + 1;
            (Some(&text[..end]), text[end..].trim_start())
        } else if let Some(at) = text.find('<') {
            let name = text[..at].trim();
            if !name
                .bytes()
                .all(|byte| is_token(byte) || byte == b' ' || byte == b'\t' || byte >= 0x80)
            {
                return None;
            }
            ((!name.is_empty()).then_some(name), &text[at..])
        } else {
            // addr-spec form: parameters belong to the header, so the URI may hold no `;`, `,` or `?`.
            let end = text.find(';').unwrap_or(text.len());
            let uri = text[..end].trim_end();
            if uri.is_empty() || uri.contains(['?', ',', ' ', '"', '>']) {
                return None;
            }
            return Some(Address {
                name: None,
                uri,
                params: Params::parse(&text[end..])?,
            });
        };
        let inner = rest.strip_prefix('<')?;
        let end = inner.find('>')?;
        let uri = inner[..end].trim();
        if uri.is_empty() {
            return None;
        }
        Some(Address {
            name,
            uri,
            params: Params::parse(&inner[end + 1..])?,
        })
    }

    /// The tag parameter.
    pub fn tag(&self) -> Option<&'a str> {
        self.params.value("tag").filter(|tag| !tag.is_empty())
    }

    /// Display name as a person reads it.
    pub fn name_text(&self) -> Option<String> {
        self.name
            .map(|name| unquote(name).into_owned())
            .filter(|name| !name.trim().is_empty())
    }

    /// The URI, parsed.
    pub fn parsed(&self) -> Result<Uri<'a>, uri::UriError> {
        Uri::parse(self.uri)
    }
}

/// One Via value (RFC 3261 §20.42).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Via<'a> {
    /// Transport as written: `UDP`, `TCP`, `TLS`...
    pub transport: &'a str,
    /// `host[:port]` as written.
    pub sent_by: &'a str,
    /// Host of sent-by.
    pub host: &'a str,
    /// Port of sent-by if written.
    pub port: Option<u16>,
    /// Parameters.
    pub params: Params<'a>,
}

impl<'a> Via<'a> {
    /// Reads one value, not a list.
    pub fn parse(text: &'a str) -> Option<Via<'a>> {
        let (protocol, rest) = text.split_once('/')?;
        let (version, rest) = rest.split_once('/')?;
        if !protocol.trim().eq_ignore_ascii_case("SIP") || version.trim() != "2.0" {
            return None;
        }
        let rest = rest.trim_start();
        let end = rest.find([' ', '\t'])?;
        let transport = &rest[..end];
        if !uri::all_token(transport) {
            return None;
        }
        let rest = rest[end..].trim();
        let end = rest.find(';').unwrap_or(rest.len());
        let sent_by = rest[..end].trim();
        let (host, port) = uri::split_port(sent_by)?;
        Some(Via {
            transport,
            sent_by,
            host,
            port,
            params: Params::parse(&rest[end..])?,
        })
    }

    /// The branch, if it follows RFC 3261 (`z9hG4bK` and more).
    pub fn branch(&self) -> Option<&'a str> {
        self.params.value("branch").filter(|branch| {
            branch.len() > 7 && branch.as_bytes()[..7].eq_ignore_ascii_case(b"z9hG4bK")
        })
    }

    /// Where an answer to a datagram from `source` goes (RFC 3261 §18.2.2, RFC 3581 §4).
    /// `maddr` is not followed: it would let a stranger aim our answers.
    pub fn answer_to(&self, source: SocketAddr) -> SocketAddr {
        if self.params.has("rport") {
            return source;
        }
        SocketAddr::new(source.ip(), self.port.unwrap_or(5060))
    }

    /// Where an answer goes when the connection its request came by from `source` has closed: the port of sent-by there
    /// (RFC 3261 §18.2.2).
    pub fn answer_anew_to(&self, source: IpAddr) -> SocketAddr {
        let usual = match protocol(self.transport) {
            Some(Protocol::Tls) => 5061,
            _ => 5060,
        };
        SocketAddr::new(source, self.port.unwrap_or(usual))
    }

    /// Whether sent-by names another address than the source: somebody rewrites addresses on the way.
    pub fn is_translated(&self, source: IpAddr) -> bool {
        uri::ip_literal(self.host) != Some(source)
    }
}

/// The protocol a Via transport names, if we speak it.
pub fn protocol(transport: &str) -> Option<Protocol> {
    [
        ("UDP", Protocol::Udp),
        ("TCP", Protocol::Tcp),
        ("TLS", Protocol::Tls),
    ]
    .into_iter()
    .find(|(name, _)| name.eq_ignore_ascii_case(transport))
    .map(|(_, protocol)| protocol)
}

/// CSeq (RFC 3261 §20.16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// Below 2^31.
    pub number: u32,
    /// Method as known.
    pub method: Method,
    /// Method as written.
    pub name: &'a str,
}

impl<'a> CSeq<'a> {
    /// Reads `number method`.
    pub fn parse(text: &'a str) -> Option<CSeq<'a>> {
        let (number, name) = text.split_once([' ', '\t'])?;
        let name = name.trim();
        let number = digits(number).filter(|number| *number < 1 << 31)? as u32;
        uri::all_token(name).then(|| CSeq {
            number,
            method: Method::of(name.as_bytes()),
            name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let address = Address::parse(r#""Alice \"A\" <x>" <sip:a@b;lr>;tag = 1;x="y;z" "#).unwrap();
        assert_eq!(address.name_text().unwrap(), r#"Alice "A" <x>"#);
        assert_eq!(address.uri, "sip:a@b;lr");
        assert_eq!(address.tag(), Some("1"));
        assert_eq!(address.params.value("x"), Some("\"y;z\""));
        let address = Address::parse("sip:a@b;tag=2").unwrap();
        assert_eq!((address.uri, address.tag()), ("sip:a@b", Some("2")));
        assert_eq!(
            Address::parse("caller<sip:a@b>").unwrap().name,
            Some("caller")
        );
        for text in [
            "",
            "\"open <sip:a@b>",
            "<sip:a@b",
            "sip:a@b?x=y",
            "Bell, A <sip:a@b>",
            "<>",
            "<sip:a@b>x",
            "<sip:a@b>;tag=\"x",
        ] {
            assert_eq!(Address::parse(text), None, "{text}");
        }
    }

    #[test]
    fn vias_are_read() {
        let via = Via::parse(
            "SIP  / 2.0  /UDP 192.0.2.2:5061;branch=z9hG4bKx ; rport;received=[2001:db8::9:255]",
        )
        .unwrap();
        assert_eq!(
            (via.transport, via.host, via.port, via.branch()),
            ("UDP", "192.0.2.2", Some(5061), Some("z9hG4bKx"))
        );
        assert!(via.params.has("RPORT"));
        let via = Via::parse("SIP/2.0/TCP [2001:db8::9]:5060;branch=1").unwrap();
        assert_eq!((via.host, via.branch()), ("[2001:db8::9]", None));
        for text in [
            "",
            "SIP/2.0/UDP",
            "SIP/3.0/UDP h",
            "HTTP/2.0/UDP h",
            "SIP/2.0/UDP h:x",
            "SIP/2.0/UDP h;;x",
            "SIP/2.0/UDP a b",
        ] {
            assert_eq!(Via::parse(text), None, "{text}");
        }
    }

    #[test]
    fn lists_split_outside_quotes() {
        let elements: Vec<_> = list(r#" "a,b" <sip:x,y@z>, <sip:c> ,,d"#).collect();
        assert_eq!(elements, [r#""a,b" <sip:x,y@z>"#, "<sip:c>", "d"]);
    }

    #[test]
    fn sequence_numbers_are_bounded() {
        assert_eq!(CSeq::parse("0009 INVITE").unwrap().number, 9);
        assert_eq!(CSeq::parse("2147483648 INVITE"), None);
        assert_eq!(CSeq::parse("x INVITE"), None);
        assert_eq!(CSeq::parse("1"), None);
        assert_eq!(unquote(&quote("a\"\\b\n")), "a\"\\b ");
    }
}
