//! The offer/answer state of one call (RFC 3264): what was said in our `o=` and `m=` lines, and what holds now.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::parse::{Broken, Description, Section};
use super::{Codec, Direction, LocalMedia, Media, MediaPolicy, TelephoneEvent};

/// Payload types of our own offers; any dynamic numbers do.
const OFFERED_OPUS: u8 = 111;
const OFFERED_EVENT_8K: u8 = 101;
const OFFERED_EVENT_48K: u8 = 110;

/// Why a description cannot be agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// Cannot be read: 400.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// No audio, or all of it refused: 488.
    #[error("no audio stream is offered")]
    NoAudio,
    /// Only transports we do not speak, such as RTP/SAVP: 488.
    #[error("no audio stream over RTP/AVP")]
    Transport,
    /// No codec in common: 488.
    #[error("no codec in common")]
    NoCodec,
}

impl SdpError {
    /// Warn-code and text of a Warning header (RFC 3261 §20.43).
    pub fn warning(&self) -> (u16, &'static str) {
        match self {
            SdpError::Broken(_) => (399, "Broken session description"),
            SdpError::NoAudio => (304, "Media type not available: one audio stream is needed"),
            SdpError::Transport => (302, "Incompatible transport protocol: RTP/AVP is needed"),
            SdpError::NoCodec => (
                305,
                "Incompatible media format: opus, G722, PCMA or PCMU is needed",
            ),
        }
    }
}

/// What a peer's section says, judged against our policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Choice {
    index: usize,
    codec: Codec,
    payload_type: u8,
    event: Option<TelephoneEvent>,
}

/// One `m=` line of the call, in its order, kept for later offers of ours (RFC 3264 §8).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    kind: Box<str>,
    proto: Box<str>,
    formats: Box<str>,
}

/// Offer/answer state of one dialog.
#[derive(Debug, Clone)]
pub struct Session {
    id: u64,
    version: u64,
    printed: u64,
    local: Option<LocalMedia>,
    wanted: Direction,
    lines: Vec<Line>,
    active: usize,
    media: Option<Box<Media>>,
}

impl Session {
    /// `id` becomes the session id of `o=`: below 2^62.
    pub fn new(id: u64) -> Session {
        Session {
            id: id >> 2,
            version: 0,
            printed: 0,
            local: None,
            wanted: Direction::SendRecv,
            lines: Vec::new(),
            active: 0,
            media: None,
        }
    }

    /// Sets our end.
    pub fn set_local(&mut self, local: LocalMedia) {
        self.local = Some(local);
    }

    /// Our end, once set.
    pub fn local(&self) -> Option<LocalMedia> {
        self.local
    }

    /// What holds now.
    pub fn media(&self) -> Option<&Media> {
        self.media.as_deref()
    }

    /// What we want to do from the next offer or answer on; gives what we wanted before.
    pub fn set_direction(&mut self, direction: Direction) -> Direction {
        std::mem::replace(&mut self.wanted, direction)
    }

    /// What we want to do.
    pub fn direction(&self) -> Direction {
        self.wanted
    }

    /// Judges an offer without changing anything.
    pub fn check(offer: &[u8], policy: &MediaPolicy) -> Result<(), SdpError> {
        let description = Description::parse(offer)?;
        choose(&description, policy).map(|_| ())
    }

    /// Answers an offer. `peer` is where the signalling comes from: it stands in for addresses that are names.
    ///
    /// # Panics
    /// If [`set_local`](Self::set_local) was not called.
    pub fn answer(
        &mut self,
        offer: &[u8],
        policy: &MediaPolicy,
        peer: IpAddr,
    ) -> Result<(String, Media), SdpError> {
        let description = Description::parse(offer)?;
        let choice = choose(&description, policy)?;
        let media = agree(
            &description,
            &choice,
            choice.payload_type,
            self.wanted,
            peer,
        );
        self.lines = lines(&description);
        self.active = choice.index;
        let text = self.print(
            &media,
            &[(media.codec, media.payload_type)],
            media.telephone_event.as_slice(),
            media.rtcp_mux,
        );
        self.media = Some(Box::new(media.clone()));
        Ok((text, media))
    }

    /// Makes an offer: all codecs of `policy` at first, later only what was agreed.
    ///
    /// # Panics
    /// If [`set_local`](Self::set_local) was not called.
    pub fn offer(&mut self, policy: &MediaPolicy) -> String {
        if let Some(media) = self.media.clone() {
            let media = Media {
                direction: self.wanted,
                ..*media
            };
            let events = media.telephone_event;
            return self.print(
                &media,
                &[(media.codec, media.receive_payload_type)],
                events.as_slice(),
                media.rtcp_mux,
            );
        }
        let codecs: Vec<(Codec, u8)> = policy
            .codecs
            .iter()
            .map(|codec| (*codec, offered(*codec)))
            .collect();
        let mut events = vec![TelephoneEvent {
            payload_type: OFFERED_EVENT_8K,
            receive_payload_type: OFFERED_EVENT_8K,
            clock_rate: 8000,
        }];
        if policy.codecs.contains(&Codec::Opus) {
            events.insert(
                0,
                TelephoneEvent {
                    payload_type: OFFERED_EVENT_48K,
                    receive_payload_type: OFFERED_EVENT_48K,
                    clock_rate: 48_000,
                },
            );
        }
        if self.lines.is_empty() {
            self.lines.push(Line {
                kind: "audio".into(),
                proto: "RTP/AVP".into(),
                formats: "".into(),
            });
            self.active = 0;
        }
        let media = Media {
            direction: self.wanted,
            ..blank()
        };
        self.print(&media, &codecs, &events, true)
    }

    /// Takes the answer to our offer.
    pub fn accept(
        &mut self,
        answer: &[u8],
        policy: &MediaPolicy,
        peer: IpAddr,
    ) -> Result<Media, SdpError> {
        let description = Description::parse(answer)?;
        let section = description
            .sections
            .get(self.active)
            .ok_or(SdpError::NoAudio)?;
        if section.port == 0 {
            return Err(SdpError::NoAudio);
        }
        // Of an answer the writer's order counts: its first codec is the one it wants.
        let policy = MediaPolicy {
            peer_preference: true,
            ..policy.clone()
        };
        let (codec, payload_type) = codec(section, &policy).ok_or(SdpError::NoCodec)?;
        let choice = Choice {
            index: self.active,
            codec,
            payload_type,
            event: event(section, codec).map(|event| self.received_under(event)),
        };
        let receive = match &self.media {
            Some(media) if media.codec == codec => media.receive_payload_type,
            _ => offered(codec),
        };
        let media = agree(&description, &choice, receive, self.wanted, peer);
        self.media = Some(Box::new(media.clone()));
        Ok(media)
    }

    /// An event format of the peer's answer, with the number our offer gave that format.
    fn received_under(&self, event: TelephoneEvent) -> TelephoneEvent {
        let agreed = self.media.as_ref().and_then(|media| media.telephone_event);
        let receive_payload_type = match (agreed, event.clock_rate) {
            (Some(agreed), rate) if agreed.clock_rate == rate => agreed.receive_payload_type,
            (_, 8_000) => OFFERED_EVENT_8K,
            (_, 48_000) => OFFERED_EVENT_48K,
            // Not a format of ours: nothing better is known than the peer's number.
            _ => event.payload_type,
        };
        TelephoneEvent {
            receive_payload_type,
            ..event
        }
    }

    /// Bytes on the heap.
    pub fn heap(&self) -> usize {
        let lines: usize = self
            .lines
            .iter()
            .map(|line| line.kind.len() + line.proto.len() + line.formats.len())
            .sum();
        lines
            + self.lines.capacity() * size_of::<Line>()
            + self.media.as_ref().map_or(0, |_| size_of::<Media>())
    }

    fn print(
        &mut self,
        media: &Media,
        codecs: &[(Codec, u8)],
        events: &[TelephoneEvent],
        mux: bool,
    ) -> String {
        let local = self
            .local
            .expect("set_local comes before any offer or answer");
        let family = if local.rtp.is_ipv4() { "IP4" } else { "IP6" };
        let mut body = String::with_capacity(512);
        let _ = write!(body, "s=-\r\nc=IN {family} {}\r\nt=0 0\r\n", local.rtp.ip());
        for (index, line) in self.lines.iter().enumerate() {
            if index != self.active {
                let _ = write!(
                    body,
                    "m={} 0 {} {}\r\n",
                    line.kind, line.proto, line.formats
                );
                continue;
            }
            let _ = write!(body, "m=audio {} {}", local.rtp.port(), line.proto);
            for payload_type in codecs
                .iter()
                .map(|(_, pt)| *pt)
                .chain(events.iter().map(|event| event.receive_payload_type))
            {
                let _ = write!(body, " {payload_type}");
            }
            body.push_str("\r\n");
            for (codec, pt) in codecs {
                let _ = match codec {
                    Codec::Opus => write!(
                        body,
                        "a=rtpmap:{pt} opus/48000/2\r\na=fmtp:{pt} useinbandfec=1;stereo=0;sprop-stereo=0\r\n"
                    ),
                    Codec::G722 => write!(body, "a=rtpmap:{pt} G722/8000\r\n"),
                    Codec::Pcma => write!(body, "a=rtpmap:{pt} PCMA/8000\r\n"),
                    Codec::Pcmu => write!(body, "a=rtpmap:{pt} PCMU/8000\r\n"),
                };
            }
            for TelephoneEvent {
                receive_payload_type: payload_type,
                clock_rate,
                ..
            } in events
            {
                let _ = write!(
                    body,
                    "a=rtpmap:{payload_type} telephone-event/{clock_rate}\r\na=fmtp:{payload_type} 0-16\r\n"
                );
            }
            let _ = write!(body, "a=ptime:20\r\na={}\r\n", name(media.direction));
            if mux {
                body.push_str("a=rtcp-mux\r\n");
            }
            let rtcp = local.rtcp_port.unwrap_or(local.rtp.port());
            if rtcp != local.rtp.port().saturating_add(1) && (!mux || self.media.is_none()) {
                let _ = write!(body, "a=rtcp:{rtcp}\r\n");
            }
        }
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        let printed = hasher.finish();
        if printed != self.printed {
            self.version += 1;
            self.printed = printed;
        }
        format!(
            "v=0\r\no=palabre {} {} IN {family} {}\r\n{body}",
            self.id,
            self.version,
            local.rtp.ip()
        )
    }
}

fn offered(codec: Codec) -> u8 {
    match codec {
        Codec::Opus => OFFERED_OPUS,
        Codec::G722 => 9,
        Codec::Pcma => 8,
        Codec::Pcmu => 0,
    }
}

fn name(direction: Direction) -> &'static str {
    match direction {
        Direction::SendRecv => "sendrecv",
        Direction::SendOnly => "sendonly",
        Direction::RecvOnly => "recvonly",
        Direction::Inactive => "inactive",
    }
}

fn blank() -> Media {
    Media {
        codec: Codec::Pcma,
        payload_type: 0,
        receive_payload_type: 0,
        telephone_event: None,
        direction: Direction::SendRecv,
        remote: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        remote_rtcp: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        rtcp_mux: false,
        ptime: 20,
        opus_fec: false,
    }
}

fn lines(description: &Description<'_>) -> Vec<Line> {
    let line = |section: &Section<'_>| Line {
        kind: section.kind.into(),
        proto: section.proto.into(),
        formats: section.formats.into(),
    };
    description.sections.iter().map(line).collect()
}

fn choose(description: &Description<'_>, policy: &MediaPolicy) -> Result<Choice, SdpError> {
    let mut error = SdpError::NoAudio;
    for (index, section) in description.sections.iter().enumerate() {
        if section.kind != "audio" || section.port == 0 {
            continue;
        }
        if !matches!(section.proto, "RTP/AVP" | "RTP/AVPF") {
            error = SdpError::Transport;
            continue;
        }
        match codec(section, policy) {
            Some((codec, payload_type)) => {
                return Ok(Choice {
                    index,
                    codec,
                    payload_type,
                    event: event(section, codec),
                });
            }
            None => error = SdpError::NoCodec,
        }
    }
    Err(error)
}

fn codec(section: &Section<'_>, policy: &MediaPolicy) -> Option<(Codec, u8)> {
    let offered: Vec<(Codec, u8)> = section
        .payload_types()
        .filter_map(|pt| Some((of_encoding(section.encoding(pt)?)?, pt)))
        .filter(|(codec, _)| policy.codecs.contains(codec))
        .collect();
    if policy.peer_preference {
        return offered.first().copied();
    }
    policy
        .codecs
        .iter()
        .find_map(|wanted| offered.iter().find(|(codec, _)| codec == wanted).copied())
}

fn of_encoding(encoding: &str) -> Option<Codec> {
    const KNOWN: [(&str, Codec); 7] = [
        ("opus/48000/2", Codec::Opus),
        ("G722/8000", Codec::G722),
        ("G722/8000/1", Codec::G722),
        ("PCMA/8000", Codec::Pcma),
        ("PCMA/8000/1", Codec::Pcma),
        ("PCMU/8000", Codec::Pcmu),
        ("PCMU/8000/1", Codec::Pcmu),
    ];
    KNOWN
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(encoding))
        .map(|(_, codec)| *codec)
}

/// The event format whose clock is the codec's, else any.
fn event(section: &Section<'_>, codec: Codec) -> Option<TelephoneEvent> {
    let rate = if codec == Codec::Opus { 48_000 } else { 8_000 };
    let events = || {
        section.payload_types().filter_map(|payload_type| {
            let (name, clock) = section.encoding(payload_type)?.split_once('/')?;
            let clock_rate = clock.split('/').next()?.parse().ok()?;
            (name.eq_ignore_ascii_case("telephone-event")
                && matches!(clock_rate, 8_000 | 16_000 | 48_000))
            .then_some(TelephoneEvent {
                payload_type,
                receive_payload_type: payload_type,
                clock_rate,
            })
        })
    };
    events()
        .find(|event| event.clock_rate == rate)
        .or_else(|| events().next())
}

fn agree(
    description: &Description<'_>,
    choice: &Choice,
    receive: u8,
    wanted: Direction,
    peer: IpAddr,
) -> Media {
    let section = &description.sections[choice.index];
    let ip = section
        .connection
        .or(description.connection)
        .unwrap_or(peer);
    let theirs = section
        .direction
        .or(description.direction)
        .unwrap_or_default();
    // Hold as RFC 2543 said it: an address of zeros means "send me nothing" (RFC 3264 §8.4).
    let zeros = ip == IpAddr::V4(Ipv4Addr::UNSPECIFIED) || ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let send = sends(wanted) && receives(theirs) && !zeros;
    let direction = match (send, receives(wanted) && sends(theirs)) {
        (true, true) => Direction::SendRecv,
        (true, false) => Direction::SendOnly,
        (false, true) => Direction::RecvOnly,
        (false, false) => Direction::Inactive,
    };
    let remote = SocketAddr::new(ip, section.port);
    let remote_rtcp = match section.rtcp {
        _ if section.rtcp_mux => remote,
        Some((port, address)) => SocketAddr::new(address.unwrap_or(ip), port),
        None => SocketAddr::new(ip, section.port.saturating_add(1)),
    };
    let wished = section
        .ptime
        .filter(|millis| *millis > 0)
        .unwrap_or(20)
        .min(section.maxptime.unwrap_or(u16::MAX));
    let fec = section
        .fmtp(choice.payload_type)
        .split(';')
        .any(|param| param.trim().eq_ignore_ascii_case("useinbandfec=1"));
    Media {
        codec: choice.codec,
        payload_type: choice.payload_type,
        receive_payload_type: receive,
        telephone_event: choice.event,
        direction,
        remote,
        remote_rtcp,
        rtcp_mux: section.rtcp_mux,
        ptime: (wished / 10 * 10).clamp(10, 60) as u8,
        opus_fec: choice.codec == Codec::Opus && fec,
    }
}

fn sends(direction: Direction) -> bool {
    matches!(direction, Direction::SendRecv | Direction::SendOnly)
}

fn receives(direction: Direction) -> bool {
    matches!(direction, Direction::SendRecv | Direction::RecvOnly)
}
