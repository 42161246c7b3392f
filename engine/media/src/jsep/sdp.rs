//! Session descriptions (RFC 8866) as borrowed lines, with bounds.
//!
//! Knows the grammar of lines and sections and a few attributes' values; what they mean for a
//! session is decided in `answer` and `offer`.

use super::JsepError;
use crate::ids::MediaKind;
use crate::rtp::{Label, Mid};
use crate::transport::{Fingerprint, IceCredentials, RemoteParameters};

/// Longest description read, in bytes: 2 KiB for each section there may be. Chromium's answer
/// to our offers has about 900 bytes for each, its offer of a camera 3,500. Reading takes time
/// proportional to the length.
pub const MAX_DESCRIPTION: usize = 2048 * MAX_SECTIONS;

/// Most media sections, rejected and reused ones included.
pub const MAX_SECTIONS: usize = 256;

/// Most payload types of one section: Chromium offers about 40 for video.
const MAX_FORMATS: usize = 128;

/// One `a=` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attribute<'a> {
    pub(super) name: &'a str,
    /// After the colon; empty for a flag.
    pub(super) value: &'a str,
}

/// What is read of a description.
#[derive(Clone, Debug)]
pub(super) struct Description<'a> {
    pub(super) attributes: Vec<Attribute<'a>>,
    pub(super) sections: Vec<Section<'a>>,
}

/// An `m=` line and what follows it.
#[derive(Clone, Debug)]
pub(super) struct Section<'a> {
    pub(super) media: &'a str,
    pub(super) port: u16,
    pub(super) protocol: &'a str,
    pub(super) formats: Vec<&'a str>,
    pub(super) attributes: Vec<Attribute<'a>>,
}

/// Who sends, from the writer's point of view (RFC 8866 §6.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    pub(super) fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    pub(super) fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }
}

impl<'a> Description<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, JsepError> {
        if text.len() > MAX_DESCRIPTION {
            return Err(JsepError::TooLong);
        }
        let mut description = Description {
            attributes: Vec::new(),
            sections: Vec::new(),
        };
        let mut count = 0;
        for (index, line) in text.split('\n').enumerate() {
            let line = line.strip_suffix('\r').unwrap_or(line);
            let bad = |reason| JsepError::Line {
                line: index + 1,
                reason,
            };
            if line.is_empty() {
                // Only the text's end is an empty line.
                if text.split('\n').nth(index + 1).is_some() {
                    return Err(bad("it is empty"));
                }
                break;
            }
            if line.bytes().any(|byte| byte < 0x20 && byte != b'\t') {
                return Err(bad("it has a control character"));
            }
            let (kind, value) = line
                .split_once('=')
                .filter(|(kind, _)| kind.len() == 1)
                .ok_or_else(|| bad("it is not a letter, an equals sign and a value"))?;
            match (count, kind) {
                (0, "v") if value == "0" => {}
                (0, _) => return Err(bad("a description starts with v=0")),
                (1, "o") | (2, "s") => {}
                (1, _) => return Err(bad("o= is missing")),
                (2, _) => return Err(bad("s= is missing")),
                (_, "m") => {
                    if description.sections.len() == MAX_SECTIONS {
                        return Err(JsepError::TooManySections);
                    }
                    description
                        .sections
                        .push(Section::parse(value).map_err(bad)?);
                }
                (_, "a") => {
                    let (name, value) = value.split_once(':').unwrap_or((value, ""));
                    if name.is_empty() {
                        return Err(bad("the attribute has no name"));
                    }
                    let attributes = match description.sections.last_mut() {
                        Some(section) => &mut section.attributes,
                        None => &mut description.attributes,
                    };
                    attributes.push(Attribute { name, value });
                }
                (_, "i" | "u" | "e" | "p" | "c" | "b" | "t" | "r" | "z" | "k") => {}
                _ => return Err(bad("no such type of line")),
            }
            count += 1;
        }
        match count {
            0..3 => Err(JsepError::Session("the description is cut short")),
            _ => Ok(description),
        }
    }

    /// Values of a session attribute.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        values(&self.attributes, name)
    }

    /// Mids of the one BUNDLE group (RFC 9143 §8); none when there is no group.
    pub(super) fn bundle(&self) -> impl Iterator<Item = &'a str> {
        self.values("group")
            .filter_map(|value| value.strip_prefix("BUNDLE"))
            .filter(|rest| rest.is_empty() || rest.starts_with(' '))
            .take(1)
            .flat_map(|rest| rest.split_ascii_whitespace().take(MAX_SECTIONS))
    }

    /// Credentials and fingerprint, of `section` or else of the session (RFC 8839 §5.4,
    /// RFC 8842 §5.1).
    pub(super) fn remote(&self, section: usize) -> Result<RemoteParameters, JsepError> {
        let missing = |reason| JsepError::Section { section, reason };
        let find = |name| {
            let own = self.sections[section].values(name).next();
            own.or_else(|| self.values(name).next())
        };
        let ufrag = find("ice-ufrag").ok_or_else(|| missing("it has no a=ice-ufrag"))?;
        let pwd = find("ice-pwd").ok_or_else(|| missing("it has no a=ice-pwd"))?;
        let is_ice = |text: &str, shortest| {
            (shortest..=256).contains(&text.len())
                && text
                    .bytes()
                    .all(|c| c.is_ascii_alphanumeric() || b"+/-_=".contains(&c))
        };
        if !is_ice(ufrag, 4) || !is_ice(pwd, 22) {
            return Err(missing(
                "its ICE credentials are not 4 and 22 to 256 ice-chars",
            ));
        }
        let own = self.sections[section].values("fingerprint");
        let fingerprint = own
            .chain(self.values("fingerprint"))
            .find_map(|value| {
                let (algorithm, hash) = value.split_once(' ')?;
                algorithm
                    .eq_ignore_ascii_case("sha-256")
                    .then(|| hash.trim())
            })
            .ok_or_else(|| missing("it has no sha-256 fingerprint"))?
            .parse::<Fingerprint>()
            .map_err(|_| missing("its fingerprint is not 32 bytes in hexadecimal"))?;
        let ice = IceCredentials {
            ufrag: ufrag.to_owned(),
            pwd: pwd.to_owned(),
        };
        Ok(RemoteParameters { ice, fingerprint })
    }

    /// Value of `a=setup`, of `section` or else of the session.
    pub(super) fn setup(&self, section: usize) -> Option<&'a str> {
        self.sections[section]
            .values("setup")
            .chain(self.values("setup"))
            .next()
    }
}

fn values<'a>(attributes: &[Attribute<'a>], name: &str) -> impl Iterator<Item = &'a str> {
    attributes
        .iter()
        .filter(move |a| a.name == name)
        .map(|a| a.value)
}

impl<'a> Section<'a> {
    /// From the value of an `m=` line (RFC 8866 §5.14).
    fn parse(value: &'a str) -> Result<Self, &'static str> {
        let mut words = value.split_ascii_whitespace();
        let mut word = || {
            words
                .next()
                .ok_or("m= needs media, port, protocol and formats")
        };
        let (media, port, protocol, first) = (word()?, word()?, word()?, word()?);
        let port = port.parse().map_err(|_| "the port is not a number")?;
        let formats: Vec<_> = [first].into_iter().chain(words.take(MAX_FORMATS)).collect();
        if formats.len() > MAX_FORMATS {
            return Err("more formats than there are payload types");
        }
        Ok(Section {
            media,
            port,
            protocol,
            formats,
            attributes: Vec::new(),
        })
    }

    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        values(&self.attributes, name)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }

    /// Whether it is refused or over: port 0, unless it says that it shares another's port
    /// (RFC 9143 §6).
    pub(super) fn is_rejected(&self) -> bool {
        self.port == 0 && !self.has("bundle-only")
    }

    pub(super) fn mid(&self) -> Option<Mid> {
        Label::read(self.values("mid").next()?.as_bytes())
    }

    /// The media type, when it is audio or video over SRTP (RFC 8834, RFC 5764).
    pub(super) fn kind(&self) -> Option<MediaKind> {
        if !self.protocol.ends_with("RTP/SAVPF") {
            return None;
        }
        match self.media {
            "audio" => Some(MediaKind::Audio),
            "video" => Some(MediaKind::Video),
            _ => None,
        }
    }

    /// Whether it is SCTP over DTLS carrying data channels (RFC 8841).
    pub(super) fn is_data(&self) -> bool {
        self.media == "application"
            && self.protocol.ends_with("DTLS/SCTP")
            && self.formats[0] == "webrtc-datachannel"
    }

    pub(super) fn direction(&self) -> Direction {
        let found = self
            .attributes
            .iter()
            .find_map(|attribute| match attribute.name {
                "sendrecv" => Some(Direction::SendRecv),
                "sendonly" => Some(Direction::SendOnly),
                "recvonly" => Some(Direction::RecvOnly),
                "inactive" => Some(Direction::Inactive),
                _ => None,
            });
        found.unwrap_or(Direction::SendRecv)
    }

    /// Stream and track identifiers of the first `a=msid` (RFC 8830), or else of the older
    /// `a=ssrc:… msid:`.
    pub(super) fn msid(&self) -> Option<(&'a str, &'a str)> {
        let by_source = self
            .values("ssrc")
            .filter_map(|value| value.split_once(' ')?.1.strip_prefix("msid:"));
        let value = self.values("msid").chain(by_source).next()?;
        let mut words = value.split_ascii_whitespace();
        Some((words.next()?, words.next()?))
    }
}
