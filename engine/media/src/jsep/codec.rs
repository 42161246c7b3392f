//! Codecs, feedback and header extensions of a media section: what we support, and what a
//! peer's section has of it.

use super::sdp::Section;
use super::{Codec, ExtensionIds, MediaKind, NegotiatedCodec};

/// A header extension we understand.
pub(super) struct KnownExtension {
    pub(super) uri: &'static str,
    /// The identifier our offers use.
    pub(super) id: u8,
    /// The media it makes sense for.
    audio: bool,
    video: bool,
    /// Whether senders of forwarded media, that is our offers, use it.
    pub(super) offered: bool,
}

impl KnownExtension {
    pub(super) fn is_for(&self, kind: MediaKind) -> bool {
        match kind {
            MediaKind::Audio => self.audio,
            MediaKind::Video => self.video,
        }
    }

    pub(super) fn slot<'i>(&self, ids: &'i mut ExtensionIds) -> &'i mut Option<u8> {
        match self.id {
            1 => &mut ids.audio_level,
            2 => &mut ids.abs_send_time,
            3 => &mut ids.transport_cc,
            4 => &mut ids.mid,
            5 => &mut ids.rid,
            _ => &mut ids.repaired_rid,
        }
    }
}

/// In the order of our descriptions.
pub(super) const EXTENSIONS: [KnownExtension; 6] = [
    KnownExtension {
        uri: "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
        id: 1,
        audio: true,
        video: false,
        offered: true,
    },
    KnownExtension {
        uri: "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
        id: 2,
        audio: true,
        video: true,
        offered: true,
    },
    KnownExtension {
        uri: "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
        id: 3,
        audio: true,
        video: true,
        offered: true,
    },
    KnownExtension {
        uri: "urn:ietf:params:rtp-hdrext:sdes:mid",
        id: 4,
        audio: true,
        video: true,
        offered: true,
    },
    KnownExtension {
        uri: "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
        id: 5,
        audio: false,
        video: true,
        offered: false,
    },
    KnownExtension {
        uri: "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
        id: 6,
        audio: false,
        video: true,
        offered: false,
    },
];

/// The extensions of `section` that we understand, in our order: (extension, id).
pub(super) fn extensions<'s>(
    section: &'s Section<'_>,
    kind: MediaKind,
) -> impl Iterator<Item = (&'static KnownExtension, u8)> + 's {
    EXTENSIONS
        .iter()
        .filter(move |known| known.is_for(kind))
        .filter_map(|known| {
            section.values("extmap").find_map(|value| {
                let mut words = value.split_ascii_whitespace();
                let id = words.next()?.split('/').next()?;
                let uri = words.next()?;
                let id = id
                    .parse()
                    .ok()
                    .filter(|id| (1..=255).contains(id) && *id != 15)?;
                (uri == known.uri).then_some((known, id))
            })
        })
}

pub(super) fn extension_ids(section: &Section<'_>, kind: MediaKind) -> ExtensionIds {
    let mut ids = ExtensionIds::default();
    for (known, id) in extensions(section, kind) {
        *known.slot(&mut ids) = Some(id);
    }
    ids
}

/// Name and clock in `a=rtpmap` (RFC 8866 §6.6).
pub(super) fn encoding_name(codec: Codec) -> &'static str {
    match codec {
        Codec::Opus => "opus/48000/2",
        Codec::G722 => "G722/8000",
        Codec::Pcma => "PCMA/8000",
        Codec::Pcmu => "PCMU/8000",
        Codec::Vp8 => "VP8/90000",
        Codec::Vp9 => "VP9/90000",
        Codec::H264 => "H264/90000",
        Codec::Av1 => "AV1/90000",
    }
}

/// Codecs that browsers and we forward between each other.
const FORWARDED: [Codec; 5] = [Codec::Opus, Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1];

/// Payload types of our offers: codec and retransmission.
pub(super) fn offered_codec(codec: Codec) -> NegotiatedCodec {
    let (payload_type, rtx_payload_type) = match codec {
        Codec::Opus => (111, None),
        Codec::G722 => (9, None),
        Codec::Pcma => (8, None),
        Codec::Pcmu => (0, None),
        Codec::Vp8 => (96, Some(97)),
        Codec::Vp9 => (98, Some(99)),
        Codec::H264 => (102, Some(103)),
        Codec::Av1 => (104, Some(105)),
    };
    NegotiatedCodec {
        codec,
        payload_type,
        rtx_payload_type,
    }
}

/// Format parameters of our offers, for codecs that need some.
pub(super) fn offered_parameters(codec: Codec) -> Option<&'static str> {
    match codec {
        Codec::Opus => Some("minptime=10;useinbandfec=1"),
        Codec::Vp9 => Some("profile-id=0"),
        Codec::H264 => {
            Some("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f")
        }
        _ => None,
    }
}

/// Feedback we want, by `a=rtcp-fb` (RFC 4585 §4.2, RFC 5104 §7.1).
pub(super) fn feedback(kind: MediaKind) -> &'static [&'static str] {
    match kind {
        MediaKind::Audio => &["nack", "transport-cc"],
        MediaKind::Video => &["nack", "nack pli", "ccm fir", "transport-cc"],
    }
}

/// Those of [`feedback`] that `section` has for `payload_type`, itself or by wildcard.
pub(super) fn common_feedback<'s>(
    section: &'s Section<'_>,
    kind: MediaKind,
    payload_type: u8,
) -> impl Iterator<Item = &'static str> + 's {
    feedback(kind).iter().copied().filter(move |wanted| {
        section.values("rtcp-fb").any(|value| {
            value.split_once(' ').is_some_and(|(payload, feedback)| {
                (payload == "*" || payload.parse() == Ok(payload_type)) && feedback == *wanted
            })
        })
    })
}

/// What a section says of each payload type, read in one pass.
struct Payloads<'a> {
    /// `a=rtpmap`
    names: [Option<&'a str>; 128],
    /// `a=fmtp`
    parameters: [Option<&'a str>; 128],
}

impl<'a> Payloads<'a> {
    fn read(section: &Section<'a>) -> Self {
        let table = |attribute| {
            let mut table = [None; 128];
            for value in section.values(attribute) {
                let Some((payload_type, rest)) = value.split_once(' ') else {
                    continue;
                };
                let place = payload_type
                    .parse()
                    .ok()
                    .and_then(|at: usize| table.get_mut(at));
                if let Some(place) = place {
                    *place = place.or(Some(rest.trim()));
                }
            }
            table
        };
        Payloads {
            names: table("rtpmap"),
            parameters: table("fmtp"),
        }
    }

    fn parameters(&self, payload_type: u8) -> &'a str {
        self.parameters[usize::from(payload_type)].unwrap_or_default()
    }
}

/// Format parameters of a payload type, empty without any.
pub(super) fn parameters<'a>(section: &Section<'a>, payload_type: u8) -> &'a str {
    let found = section.values("fmtp").find_map(|value| {
        let (payload, parameters) = value.split_once(' ')?;
        (payload.parse() == Ok(payload_type)).then(|| parameters.trim())
    });
    found.unwrap_or_default()
}

/// One format parameter's value; names compare without case (RFC 6838 §4.3).
pub(super) fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    parameters.split(';').find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The codecs of `section` that we forward, in its order, each with its retransmission.
pub(super) fn codecs(section: &Section<'_>, kind: MediaKind) -> Vec<NegotiatedCodec> {
    let payloads = Payloads::read(section);
    let formats = || {
        let numbers = section
            .formats
            .iter()
            .filter_map(|format| format.parse::<u8>().ok());
        numbers.filter_map(|payload_type| {
            let name = (*payloads.names.get(usize::from(payload_type))?)?;
            Some((payload_type, name))
        })
    };
    let mut repairs = [None; 128];
    for (rtx, name) in formats() {
        if !name
            .get(..4)
            .is_some_and(|start| start.eq_ignore_ascii_case("rtx/"))
        {
            continue;
        }
        let apt = parameter(payloads.parameters(rtx), "apt");
        let apt = apt.and_then(|apt| repairs.get_mut(apt.parse::<usize>().ok()?));
        if let Some(repair) = apt {
            *repair = repair.or(Some(rtx));
        }
    }
    let forwarded = formats().filter_map(|(payload_type, name)| {
        let codec = FORWARDED
            .into_iter()
            .filter(|codec| codec.kind() == kind)
            .find(|codec| encoding_name(*codec).eq_ignore_ascii_case(name))?;
        is_forwarded(codec, payloads.parameters(payload_type)).then_some(NegotiatedCodec {
            codec,
            payload_type,
            rtx_payload_type: repairs[usize::from(payload_type)],
        })
    });
    forwarded.collect()
}

/// Whether this flavour of a codec is one that every subscriber we offer to can decode.
fn is_forwarded(codec: Codec, parameters: &str) -> bool {
    match codec {
        // Non-interleaved mode (RFC 6184 §6.3): mode 0 cannot carry a browser's slices. The
        // constrained baseline profile is what RFC 7742 §6.2 makes everybody decode.
        Codec::H264 => {
            parameter(parameters, "packetization-mode") == Some("1")
                && parameter(parameters, "profile-level-id").is_none_or(|profile| {
                    profile.get(..4).is_some_and(|p| {
                        p.eq_ignore_ascii_case("42e0")
                            || p.eq_ignore_ascii_case("4200")
                            || p.eq_ignore_ascii_case("42c0")
                    })
                })
        }
        // Profile 0: 8 bits, 4:2:0.
        Codec::Vp9 => parameter(parameters, "profile-id").is_none_or(|profile| profile == "0"),
        Codec::Av1 => parameter(parameters, "profile").is_none_or(|profile| profile == "0"),
        _ => true,
    }
}
