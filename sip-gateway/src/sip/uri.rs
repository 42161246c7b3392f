//! SIP and tel URIs (RFC 3261 §19.1, RFC 3966), borrowed from the message. Resolves nothing.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::header::Params;
use super::message::{digits, is_token};

/// Scheme of a URI we can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:`
    Tel,
}

/// Why a URI cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// A well-formed scheme that is not ours: 416.
    #[error("a scheme other than sip, sips, tel")]
    Scheme,
    /// Not a URI.
    #[error("not a URI")]
    Form,
}

/// A parsed URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uri<'a> {
    /// Its scheme.
    pub scheme: Scheme,
    /// User part as written (escaped), or the number of a tel URI. Without password.
    pub user: Option<&'a str>,
    /// Host as written, IPv6 in brackets; empty for tel.
    pub host: &'a str,
    /// Port if written.
    pub port: Option<u16>,
    /// Parameters.
    pub params: Params<'a>,
    /// What follows `?`.
    pub headers: Option<&'a str>,
}

impl<'a> Uri<'a> {
    /// Reads a URI without angle brackets.
    pub fn parse(text: &'a str) -> Result<Uri<'a>, UriError> {
        let (scheme, rest) = text.split_once(':').ok_or(UriError::Form)?;
        let scheme = if scheme.eq_ignore_ascii_case("sip") {
            Scheme::Sip
        } else if scheme.eq_ignore_ascii_case("sips") {
            Scheme::Sips
        } else if scheme.eq_ignore_ascii_case("tel") {
            Scheme::Tel
        } else if scheme
            .as_bytes()
            .first()
            .is_some_and(u8::is_ascii_alphabetic)
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        {
            return Err(UriError::Scheme);
        } else {
            return Err(UriError::Form);
        };
        if rest
            .bytes()
            .any(|byte| byte <= b' ' || matches!(byte, b'<' | b'>' | b'"' | 0x7f))
            || !escapes_hold(rest)
        {
            return Err(UriError::Form);
        }
        if scheme == Scheme::Tel {
            let (number, params) = split_params(rest);
            if number.is_empty()
                || !number
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"+-.()*#%".contains(&byte))
            {
                return Err(UriError::Form);
            }
            return Ok(Uri {
                scheme,
                user: Some(number),
                host: "",
                port: None,
                params,
                headers: None,
            });
        }
        let (user, rest) = match rest.split_once('@') {
            Some((user, rest)) => {
                let user = user.split_once(':').map_or(user, |(user, _password)| user);
                if user.is_empty() || rest.contains('@') {
                    return Err(UriError::Form);
                }
                (Some(user), rest)
            }
            None => (None, rest),
        };
        let (rest, headers) = match rest.split_once('?') {
            Some((rest, headers)) => (rest, Some(headers)),
            None => (rest, None),
        };
        let (host_port, params) = split_params(rest);
        let (host, port) = split_port(host_port).ok_or(UriError::Form)?;
        Ok(Uri {
            scheme,
            user,
            host,
            port,
            params,
            headers,
        })
    }

    /// User part, unescaped; empty if none.
    pub fn user_text(&self) -> String {
        unescape(self.user.unwrap_or("")).into_owned()
    }

    /// The address to send to when the host (or `maddr`) is an IP literal.
    pub fn address(&self) -> Option<SocketAddr> {
        let host = self.params.value("maddr").unwrap_or(self.host);
        let default = if self.scheme == Scheme::Sips {
            5061
        } else {
            5060
        };
        Some(SocketAddr::new(
            ip_literal(host)?,
            self.port.unwrap_or(default),
        ))
    }

    /// Has the parameter `lr`: a loose router (RFC 3261 §16.12).
    pub fn is_loose(&self) -> bool {
        self.params.has("lr")
    }
}

/// Reads an IP address as URIs and Via write it: IPv6 in brackets (bare too, which some write).
pub fn ip_literal(host: &str) -> Option<IpAddr> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match bare {
        Some(bare) => bare.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host
            .parse::<Ipv4Addr>()
            .map(IpAddr::V4)
            .or_else(|_| host.parse::<Ipv6Addr>().map(IpAddr::V6))
            .ok(),
    }
}

/// Splits `host[:port]` and checks both (RFC 3261 §25.1 hostport).
pub(super) fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = if text.starts_with('[') {
        let end = text.find(']')?;
        ip_literal(&text[..=end])?;
        let rest = &text[end + 1..];
        (
            &text[..=end],
            if rest.is_empty() {
                None
            } else {
                Some(rest.trim_start().strip_prefix(':')?)
            },
        )
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host.trim_end(), Some(port)),
            None => (text, None),
        }
    };
    let valid = host.starts_with('[')
        || (!host.is_empty()
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')));
    if !valid {
        return None;
    }
    let port = match port {
        None => None,
        Some(port) => Some(
            u16::try_from(digits(port.trim())?)
                .ok()
                .filter(|port| *port > 0)?,
        ),
    };
    Some((host, port))
}

fn split_params(text: &str) -> (&str, Params<'_>) {
    match text.find(';') {
        Some(at) => (&text[..at], Params::new(&text[at..])),
        None => (text, Params::new("")),
    }
}

/// Every `%` starts two hex digits.
fn escapes_hold(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'%')
        .all(|(at, _)| {
            bytes.get(at + 1).is_some_and(u8::is_ascii_hexdigit)
                && bytes.get(at + 2).is_some_and(u8::is_ascii_hexdigit)
        })
}

/// Undoes `%HH`; what is not UTF-8 after that becomes U+FFFD.
pub fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let hex = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        match (byte, hex(ahead.next()), hex(ahead.next())) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                bytes = ahead;
            }
            _ => out.push(byte),
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// Writes a user part so that any text survives (RFC 3261 §25.1 user).
pub fn escape_user(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// True when every byte may stand in a token.
pub(super) fn all_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found() {
        let uri =
            Uri::parse("sip:alice:secret@example.com:5070;transport=TCP;lr?Subject=x").unwrap();
        assert_eq!(
            (uri.user, uri.host, uri.port),
            (Some("alice"), "example.com", Some(5070))
        );
        assert_eq!(uri.params.value("Transport"), Some("TCP"));
        assert!(uri.is_loose());
        assert_eq!(uri.headers, Some("Subject=x"));
        let uri = Uri::parse("SIPS:[2001:db8::9]").unwrap();
        assert_eq!(uri.address(), Some("[2001:db8::9]:5061".parse().unwrap()));
        let uri = Uri::parse("tel:+33-1-23;phone-context=x").unwrap();
        assert_eq!(uri.user_text(), "+33-1-23");
        let uri = Uri::parse("sip:user;par=u%40example.net@example.com").unwrap();
        assert_eq!(uri.user_text(), "user;par=u@example.net");
        assert_eq!(
            Uri::parse("sip:192.0.2.7:5080").unwrap().address(),
            Some("192.0.2.7:5080".parse().unwrap())
        );
    }

    #[test]
    fn what_is_no_uri_is_refused() {
        for text in [
            "",
            "sip",
            "sip:",
            "sip:a b@c",
            "sip:@c",
            "sip:a@",
            "sip:a@b@c",
            "sip:a@b:99999",
            "sip:a@b:0",
            "sip:a%4@b",
            "sip:a@[::1",
            "sip:a@[zz]",
            "1http:x",
            "sip:a@b>",
            "tel:",
        ] {
            assert_eq!(Uri::parse(text), Err(UriError::Form), "{text}");
        }
        assert_eq!(Uri::parse("http://example.com"), Err(UriError::Scheme));
        assert_eq!(
            Uri::parse("nobodyKnowsThisScheme:totallyopaquecontent"),
            Err(UriError::Scheme)
        );
    }

    #[test]
    fn users_survive_escaping() {
        for user in ["+33123", "a b", "é@#%", "sip:x"] {
            let text = format!("sip:{}@h", escape_user(user));
            assert_eq!(Uri::parse(&text).unwrap().user_text(), user);
        }
    }
}
