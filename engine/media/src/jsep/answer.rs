//! The publisher connection: the client offers what it will send, we answer.

use std::collections::BTreeMap;

use super::sdp::{Description, Section};
use super::simulcast::{encodings, sources};
use super::write::Printer;
use super::{Codec, Encoding, ExtensionIds, RemoteParameters};
use super::{JsepError, LocalParameters, MediaKind, Mid, NegotiatedCodec, codec};

/// Answers the offers of one connection, one after the other.
#[derive(Debug)]
pub struct Answerer {
    session_id: u64,
    version: u64,
    /// Sections of the last offer answered, in order; they never go away.
    sections: Vec<Known>,
    remote: Option<RemoteParameters>,
}

/// A section of an earlier offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    /// `None` once rejected: its place may then serve another mid (RFC 9429 §5.2.2).
    mid: Option<Mid>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Media(MediaKind),
    Data,
}

/// How the track of a section shall be sent, from what its participant announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackPolicy {
    /// Opus: allow discontinuous transmission (RFC 7587 §7 `usedtx`).
    pub dtx: bool,
    /// Opus: ask for two channels.
    pub stereo: bool,
    /// The codec wanted; the first of the offer that we forward otherwise.
    pub codec: Option<Codec>,
}

impl Default for TrackPolicy {
    fn default() -> Self {
        TrackPolicy {
            dtx: true,
            stereo: false,
            codec: None,
        }
    }
}

/// Our answer and what it means.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The description to send.
    pub sdp: String,
    /// The client's end of the transport.
    pub remote: RemoteParameters,
    /// Whether the client's ICE credentials differ from those of its last offer.
    pub ice_restarted: bool,
    /// Accepted sections with media, paused ones included, in order.
    pub sections: Vec<ReceiveSection>,
    /// Sections that were offered with media and could not be accepted.
    pub rejected: Vec<RejectedSection>,
    /// Whether data channels were accepted.
    pub data: bool,
}

/// Media the client may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiveSection {
    /// Its identifier.
    pub mid: Mid,
    /// Audio or video.
    pub kind: MediaKind,
    /// The client's identifier of the stream, e.g. of its `MediaStream`.
    pub stream_id: Option<String>,
    /// The client's identifier of the track: LiveKit's `cid`.
    pub track_id: Option<String>,
    /// The only codec accepted: the client has no other to change to.
    pub codec: NegotiatedCodec,
    /// Its header extensions.
    pub extensions: ExtensionIds,
    /// From lowest to highest quality. One without rid and SSRC when the offer names none.
    pub encodings: Vec<Encoding>,
    /// Whether the client sends at present.
    pub active: bool,
}

/// Media that has no codec we forward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedSection {
    /// Its identifier.
    pub mid: Mid,
    /// The client's identifier of the track.
    pub track_id: Option<String>,
}

impl Answerer {
    /// Answers for a new connection. `session_id` is random (RFC 9429 §5.2.1).
    pub fn new(session_id: u64) -> Self {
        Answerer {
            session_id,
            version: 0,
            sections: Vec::new(),
            remote: None,
        }
    }

    /// Whether answering `offer` needs new credentials of ours: the client's differ from those
    /// of its last offer (RFC 8839 §4.4.1.1.1).
    pub fn restarts_ice(&self, offer: &str) -> Result<bool, JsepError> {
        let offer = Description::parse(offer)?;
        let sections = check_sections(&offer, &self.sections)?;
        Ok(self.differs(&offer.remote(tagged(&offer, &sections)?)?))
    }

    /// Answers `offer`; `policy` says how to treat a track, by the client's track identifier.
    /// Nothing changes when the offer is refused.
    pub fn answer(
        &mut self,
        offer: &str,
        local: &LocalParameters,
        policy: &dyn Fn(&str) -> TrackPolicy,
    ) -> Result<Answer, JsepError> {
        let offer = Description::parse(offer)?;
        let mut known = check_sections(&offer, &self.sections)?;
        let tag = tagged(&offer, &known)?;
        let remote = offer.remote(tag)?;
        let ice_restarted = self.differs(&remote);
        if self
            .remote
            .as_ref()
            .is_some_and(|before| before.fingerprint != remote.fingerprint)
        {
            return Err(JsepError::Session("the certificate's fingerprint changed"));
        }
        check_identifiers(&offer, &known)?;

        let mut plans = Vec::with_capacity(known.len());
        let mut data = false;
        for (index, section) in offer.sections.iter().enumerate() {
            let plan = match known[index] {
                Known { mid: None, .. } => Plan::Reject,
                Known {
                    mid: Some(mid),
                    kind: Kind::Media(kind),
                } => plan_media(section, mid, kind, policy),
                Known {
                    kind: Kind::Data, ..
                } if data || !has_our_sctp_port(section) => Plan::Reject,
                Known {
                    kind: Kind::Data, ..
                } => {
                    data = true;
                    Plan::Data
                }
            };
            plans.push(plan);
        }
        let rejected = plans.iter().zip(&offer.sections).zip(&known);
        let rejected = rejected.filter_map(|((plan, section), known)| match (plan, known) {
            (
                Plan::Reject,
                Known {
                    mid: Some(mid),
                    kind: Kind::Media(_),
                },
            ) => {
                let track_id = section.msid().map(|(_, track)| track.to_owned());
                Some(RejectedSection {
                    mid: *mid,
                    track_id,
                })
            }
            _ => None,
        });
        let rejected = rejected.collect();

        self.version += 1;
        let sdp = self.print(&offer, &known, &plans, local);
        for (known, plan) in known.iter_mut().zip(&plans) {
            if matches!(plan, Plan::Reject) {
                known.mid = None;
            }
        }
        self.sections = known;
        self.remote = Some(remote.clone());
        let sections = plans.into_iter().filter_map(|plan| match plan {
            Plan::Media(media) => Some(media.section),
            _ => None,
        });
        let sections = sections.collect();
        Ok(Answer {
            sdp,
            remote,
            ice_restarted,
            sections,
            rejected,
            data,
        })
    }

    fn differs(&self, remote: &RemoteParameters) -> bool {
        self.remote
            .as_ref()
            .is_some_and(|before| before.ice != remote.ice)
    }

    fn print(
        &self,
        offer: &Description<'_>,
        known: &[Known],
        plans: &[Plan],
        local: &LocalParameters,
    ) -> String {
        let accepted = |mid: &str| {
            let places = known.iter().zip(plans);
            places.into_iter().any(|(known, plan)| {
                !matches!(plan, Plan::Reject)
                    && known.mid.is_some_and(|known| known.as_str() == mid)
            })
        };
        let mut bundle: Vec<String> = offer
            .bundle()
            .filter(|mid| accepted(mid))
            .map(str::to_owned)
            .collect();
        if bundle.is_empty() {
            bundle = known
                .iter()
                .filter_map(|known| Some(known.mid?.to_string()))
                .collect();
            bundle.retain(|mid| accepted(mid));
        }
        let mut printer = Printer::start(self.session_id, self.version, &bundle);
        if offer.values("extmap-allow-mixed").next().is_some() {
            printer.line(format_args!("a=extmap-allow-mixed"));
        }
        let mut first = true;
        for ((section, known), plan) in offer.sections.iter().zip(known).zip(plans) {
            match (plan, known.mid) {
                (Plan::Reject, _) | (_, None) => {
                    printer.media(
                        section.media,
                        0,
                        section.protocol,
                        &section.formats.join(" "),
                    );
                    if let Some(mid) = section.mid() {
                        printer.line(format_args!("a=mid:{mid}"));
                    }
                    printer.line(format_args!("a=inactive"));
                }
                (Plan::Data, Some(mid)) => {
                    printer.media("application", 9, section.protocol, "webrtc-datachannel");
                    printer.transport(local, "passive", std::mem::take(&mut first));
                    printer.line(format_args!("a=mid:{mid}"));
                    printer.line(format_args!("a=sctp-port:5000"));
                    printer.line(format_args!("a=max-message-size:65535"));
                }
                (Plan::Media(media), Some(mid)) => {
                    let codec = media.section.codec;
                    let formats = match codec.rtx_payload_type {
                        Some(rtx) => format!("{} {rtx}", codec.payload_type),
                        None => codec.payload_type.to_string(),
                    };
                    printer.media(section.media, 9, section.protocol, &formats);
                    printer.transport(local, "passive", std::mem::take(&mut first));
                    printer.line(format_args!("a=mid:{mid}"));
                    print_media(&mut printer, section, media);
                }
            }
        }
        printer.finish()
    }
}

/// What becomes of a section.
enum Plan {
    Reject,
    Data,
    Media(Box<MediaPlan>),
}

struct MediaPlan {
    section: ReceiveSection,
    policy: TrackPolicy,
    /// The offer's format parameters for the codec chosen.
    parameters: String,
}

fn plan_media(
    section: &Section<'_>,
    mid: Mid,
    kind: MediaKind,
    policy: &dyn Fn(&str) -> TrackPolicy,
) -> Plan {
    let msid = section.msid();
    let policy = msid.map(|(_, track)| policy(track)).unwrap_or_default();
    let codecs = codec::codecs(section, kind);
    let wanted = codecs
        .iter()
        .find(|codec| Some(codec.codec) == policy.codec);
    let Some(&codec) = wanted.or(codecs.first()) else {
        return Plan::Reject;
    };
    let parameters = codec::parameters(section, codec.payload_type).to_owned();
    let section = ReceiveSection {
        mid,
        kind,
        // A track outside any stream has "-" in the stream's place (RFC 8830 §2).
        stream_id: msid
            .map(|(stream, _)| stream)
            .filter(|s| *s != "-")
            .map(str::to_owned),
        track_id: msid.map(|(_, track)| track.to_owned()),
        codec,
        extensions: codec::extension_ids(section, kind),
        encodings: encodings(section),
        active: section.direction().sends(),
    };
    Plan::Media(Box::new(MediaPlan {
        section,
        policy,
        parameters,
    }))
}

fn print_media(printer: &mut Printer, offered: &Section<'_>, plan: &MediaPlan) {
    let ReceiveSection {
        kind,
        codec: negotiated,
        encodings,
        active,
        ..
    } = &plan.section;
    let NegotiatedCodec {
        codec,
        payload_type,
        rtx_payload_type,
    } = *negotiated;
    for (known, id) in codec::extensions(offered, *kind) {
        printer.line(format_args!("a=extmap:{id} {}", known.uri));
    }
    printer.line(format_args!(
        "a={}",
        if *active { "recvonly" } else { "inactive" }
    ));
    printer.line(format_args!("a=rtcp-mux"));
    if offered.has("rtcp-rsize") {
        printer.line(format_args!("a=rtcp-rsize"));
    }
    printer.line(format_args!(
        "a=rtpmap:{payload_type} {}",
        codec::encoding_name(codec)
    ));
    for feedback in codec::common_feedback(offered, *kind, payload_type) {
        printer.line(format_args!("a=rtcp-fb:{payload_type} {feedback}"));
    }
    if codec == Codec::Opus {
        let dtx = if plan.policy.dtx { ";usedtx=1" } else { "" };
        let stereo = if plan.policy.stereo {
            ";stereo=1;maxaveragebitrate=510000"
        } else {
            ""
        };
        printer.line(format_args!(
            "a=fmtp:{payload_type} minptime=10;useinbandfec=1{dtx}{stereo}"
        ));
    } else if !plan.parameters.is_empty() {
        printer.line(format_args!("a=fmtp:{payload_type} {}", plan.parameters));
    }
    if let Some(rtx) = rtx_payload_type {
        printer.line(format_args!("a=rtpmap:{rtx} rtx/90000"));
        printer.line(format_args!("a=fmtp:{rtx} apt={payload_type}"));
    }
    if !offered.has("simulcast") {
        return;
    }
    let rids: Vec<String> = encodings
        .iter()
        .filter_map(|encoding| Some(encoding.rid?.to_string()))
        .collect();
    if !rids.is_empty() {
        for rid in &rids {
            printer.line(format_args!("a=rid:{rid} recv"));
        }
        printer.line(format_args!("a=simulcast:recv {}", rids.join(";")));
    }
}

/// Checks the offer's sections against each other and the last offer's.
fn check_sections(offer: &Description<'_>, before: &[Known]) -> Result<Vec<Known>, JsepError> {
    if offer.sections.len() < before.len() {
        return Err(JsepError::Session(
            "media sections of the last offer are missing",
        ));
    }
    let bundled: Vec<&str> = offer.bundle().collect();
    let mut known: Vec<Known> = Vec::with_capacity(offer.sections.len());
    for (index, section) in offer.sections.iter().enumerate() {
        let bad = |reason| JsepError::Section {
            section: index,
            reason,
        };
        let kind = match section.kind() {
            Some(kind) => Some(Kind::Media(kind)),
            None if section.is_data() => Some(Kind::Data),
            None => None,
        };
        let Some(kind) = kind.filter(|_| !section.is_rejected()) else {
            if before.get(index).is_some_and(|before| before.mid.is_some()) && kind.is_none() {
                return Err(bad("it changed its media type"));
            }
            known.push(Known {
                mid: None,
                kind: kind.unwrap_or(Kind::Data),
            });
            continue;
        };
        let mid = section
            .mid()
            .ok_or_else(|| bad("it has no a=mid of 1 to 16 characters"))?;
        if known.iter().any(|other| other.mid == Some(mid)) {
            return Err(bad("its mid is that of another section"));
        }
        if let Some(Known {
            mid: Some(was),
            kind: was_kind,
        }) = before.get(index)
            && (*was != mid || *was_kind != kind)
        {
            return Err(bad("its mid or media type changed"));
        }
        let alone = bundled.is_empty() && offer.sections.len() == 1;
        if !alone && !bundled.contains(&mid.as_str()) {
            return Err(bad("it is not in the BUNDLE group"));
        }
        if kind != Kind::Data && !section.has("rtcp-mux") {
            return Err(bad("it has no a=rtcp-mux"));
        }
        known.push(Known {
            mid: Some(mid),
            kind,
        });
    }
    Ok(known)
}

/// The section that describes the bundle's transport: the group's first (RFC 9143 §7.2.1).
fn tagged(offer: &Description<'_>, known: &[Known]) -> Result<usize, JsepError> {
    let find = |mid: &str| {
        known
            .iter()
            .position(|known| known.mid.is_some_and(|known| known.as_str() == mid))
    };
    let index = offer
        .bundle()
        .find_map(find)
        .or_else(|| known.iter().position(|known| known.mid.is_some()))
        .ok_or(JsepError::Session(
            "every media section is rejected or of an unknown type",
        ))?;
    match offer.setup(index) {
        Some("actpass" | "active") => Ok(index),
        _ => Err(JsepError::Section {
            section: index,
            reason: "its a=setup leaves us no passive role",
        }),
    }
}

/// One meaning per extension identifier (RFC 8285 §6) and per SSRC on the shared transport.
fn check_identifiers(offer: &Description<'_>, known: &[Known]) -> Result<(), JsepError> {
    let mut uris = [None; 256];
    let mut owners: BTreeMap<u32, usize> = BTreeMap::new();
    for (index, (section, known)) in offer.sections.iter().zip(known).enumerate() {
        let (Some(_), Kind::Media(kind)) = (known.mid, known.kind) else {
            continue;
        };
        let bad = |reason| JsepError::Section {
            section: index,
            reason,
        };
        for (extension, id) in codec::extensions(section, kind) {
            let place = &mut uris[usize::from(id)];
            if place.is_some_and(|uri| uri != extension.uri) {
                return Err(bad(
                    "an extension identifier means something else elsewhere",
                ));
            }
            *place = Some(extension.uri);
        }
        for ssrc in sources(section) {
            if *owners.entry(ssrc).or_insert(index) != index {
                return Err(bad("an SSRC is that of another section"));
            }
        }
    }
    Ok(())
}

fn has_our_sctp_port(section: &Section<'_>) -> bool {
    section.values("sctp-port").next() == Some("5000")
}
