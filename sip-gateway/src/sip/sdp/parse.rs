//! Reads the parts of a session description that decide an audio call. Bounded; skips what it does not know.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Direction;

/// Most media sections read; a description with more is refused.
const MAX_SECTIONS: usize = 16;
/// Most payload formats kept per section.
const MAX_FORMATS: usize = 64;
/// Most lines read.
const MAX_LINES: usize = 1024;

/// Why a description cannot be read at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("broken session description: {0}")]
pub struct Broken(pub &'static str);

/// A session description, borrowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Description<'a> {
    /// Session-level connection address, if it is an IP address.
    pub connection: Option<IpAddr>,
    /// Session-level direction.
    pub direction: Option<Direction>,
    /// Media sections in order.
    pub sections: Vec<Section<'a>>,
}

/// One `m=` section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Section<'a> {
    /// `audio`, `video`...
    pub kind: &'a str,
    /// Zero means refused or unused.
    pub port: u16,
    /// `RTP/AVP`...
    pub proto: &'a str,
    /// All formats as written, joined by spaces.
    pub formats: &'a str,
    /// Section-level connection address.
    pub connection: Option<IpAddr>,
    /// Section-level direction.
    pub direction: Option<Direction>,
    /// Payload type and `name/rate[/channels]`.
    pub rtpmaps: Vec<(u8, &'a str)>,
    /// Payload type and its parameters.
    pub fmtps: Vec<(u8, &'a str)>,
    /// Milliseconds per packet the writer wants.
    pub ptime: Option<u16>,
    /// Most milliseconds per packet.
    pub maxptime: Option<u16>,
    /// `a=rtcp`: port and perhaps address (RFC 3605).
    pub rtcp: Option<(u16, Option<IpAddr>)>,
    /// `a=rtcp-mux` (RFC 5761).
    pub rtcp_mux: bool,
}

impl<'a> Section<'a> {
    /// Payload types in the writer's order of preference.
    pub fn payload_types(&self) -> impl Iterator<Item = u8> {
        self.formats
            .split_ascii_whitespace()
            .take(MAX_FORMATS)
            .filter_map(|format| format.parse().ok())
            .filter(|pt| *pt < 128)
    }

    /// `name/rate[/channels]` of a payload type, from `a=rtpmap` or the static table (RFC 3551 §6).
    pub fn encoding(&self, payload_type: u8) -> Option<&'a str> {
        let mapped = self
            .rtpmaps
            .iter()
            .find(|(pt, _)| *pt == payload_type)
            .map(|(_, encoding)| *encoding);
        mapped.or(match payload_type {
            0 => Some("PCMU/8000"),
            8 => Some("PCMA/8000"),
            9 => Some("G722/8000"),
            _ => None,
        })
    }

    /// Format parameters of a payload type.
    pub fn fmtp(&self, payload_type: u8) -> &'a str {
        self.fmtps
            .iter()
            .find(|(pt, _)| *pt == payload_type)
            .map_or("", |(_, params)| params)
    }
}

impl<'a> Description<'a> {
    /// Reads a description. Lines may end in LF alone (RFC 8866 §5).
    pub fn parse(bytes: &'a [u8]) -> Result<Description<'a>, Broken> {
        let text = std::str::from_utf8(bytes).map_err(|_| Broken("not UTF-8"))?;
        let mut description = Description::default();
        let mut lines = text
            .split('\n')
            .map(|line| line.strip_suffix('\r').unwrap_or(line))
            .filter(|line| !line.is_empty());
        if lines.next() != Some("v=0") {
            return Err(Broken("no v=0 line"));
        }
        let mut origin = false;
        for (count, line) in lines.enumerate() {
            if count == MAX_LINES {
                return Err(Broken("too many lines"));
            }
            let (kind, value) = line.split_once('=').ok_or(Broken("a line without ="))?;
            match kind {
                "o" => origin = true,
                "m" => {
                    if description.sections.len() == MAX_SECTIONS {
                        return Err(Broken("too many media sections"));
                    }
                    description
                        .sections
                        .push(media(value).ok_or(Broken("bad m= line"))?);
                }
                "c" => {
                    let address = connection(value).ok_or(Broken("bad c= line"))?;
                    match description.sections.last_mut() {
                        Some(section) => section.connection = address,
                        None => description.connection = address,
                    }
                }
                "a" => {
                    let (name, value) = value.split_once(':').unwrap_or((value, ""));
                    let direction = direction(name);
                    match description.sections.last_mut() {
                        Some(section) if direction.is_some() => section.direction = direction,
                        Some(section) => attribute(section, name, value.trim()),
                        None if direction.is_some() => description.direction = direction,
                        None => {}
                    }
                }
                _ if kind.len() == 1 => {}
                _ => return Err(Broken("a line without one-letter type")),
            }
        }
        if origin {
            Ok(description)
        } else {
            Err(Broken("no o= line"))
        }
    }
}

fn direction(name: &str) -> Option<Direction> {
    match name {
        "sendrecv" => Some(Direction::SendRecv),
        "sendonly" => Some(Direction::SendOnly),
        "recvonly" => Some(Direction::RecvOnly),
        "inactive" => Some(Direction::Inactive),
        _ => None,
    }
}

fn media(value: &str) -> Option<Section<'_>> {
    let (kind, rest) = value.split_once(' ')?;
    let (port, rest) = rest.trim_start().split_once(' ')?;
    let (proto, formats) = rest.trim_start().split_once(' ')?;
    let port = port.split('/').next()?.parse().ok()?;
    (!kind.is_empty() && !formats.trim().is_empty()).then_some(Section {
        kind,
        port,
        proto,
        formats: formats.trim(),
        ..Section::default()
    })
}

/// `Some(None)` for a name, which the core does not resolve.
fn connection(value: &str) -> Option<Option<IpAddr>> {
    let mut words = value.split_ascii_whitespace();
    let (net, family, address) = (words.next()?, words.next()?, words.next()?);
    let address = address.split('/').next()?;
    match (net, family) {
        ("IN", "IP4") => Some(address.parse::<Ipv4Addr>().ok().map(IpAddr::V4)),
        ("IN", "IP6") => Some(address.parse::<Ipv6Addr>().ok().map(IpAddr::V6)),
        _ => None,
    }
}

fn attribute<'a>(section: &mut Section<'a>, name: &str, value: &'a str) {
    let mapped = || {
        let (pt, rest) = value.split_once(' ')?;
        Some((pt.parse::<u8>().ok().filter(|pt| *pt < 128)?, rest.trim()))
    };
    match name {
        "rtpmap" if section.rtpmaps.len() < MAX_FORMATS => section.rtpmaps.extend(mapped()),
        "fmtp" if section.fmtps.len() < MAX_FORMATS => section.fmtps.extend(mapped()),
        "ptime" => section.ptime = milliseconds(value),
        "maxptime" => section.maxptime = milliseconds(value),
        "rtcp-mux" => section.rtcp_mux = true,
        "rtcp" => {
            let (port, address) = value.split_once(' ').unwrap_or((value, ""));
            section.rtcp = port
                .parse()
                .ok()
                .map(|port| (port, connection(address).flatten()));
        }
        _ => {}
    }
}

fn milliseconds(value: &str) -> Option<u16> {
    value.split('.').next()?.parse().ok()
}
