//! The subscriber connection: we offer the tracks a client subscribes to, it answers.

use super::sdp::Description;
use super::write::Printer;
use super::{Codec, ExtensionIds, JsepError, LocalParameters, MAX_SECTIONS, MediaKind, Mid};
use super::{NegotiatedCodec, RemoteParameters, codec};
use crate::rtp::Label;

/// Longest stream or track identifier, in bytes.
const MAX_IDENTIFIER: usize = 128;

/// Offers on one connection, one after the other.
///
/// The first section carries data channels; each other carries one track at a time. A removed
/// track's section is offered as inactive and, once that is answered, serves the next track
/// of its kind under the same mid, so that a long meeting does not grow its descriptions.
#[derive(Clone, Debug)]
pub struct Offerer {
    session_id: u64,
    /// Number of the last offer.
    id: u32,
    slots: Vec<Slot>,
    /// The offer not yet answered.
    outstanding: Option<Outstanding>,
    needs_offer: bool,
    remote: Option<RemoteParameters>,
}

#[derive(Clone, Debug)]
struct Slot {
    mid: Mid,
    state: State,
    /// What a media section lists, in use or not.
    codec: Option<Codec>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Data,
    Sending(SendTrack),
    /// Its track was removed, and the client may not know.
    Ending,
    Free,
    /// The client refused the section itself.
    Dead,
}

/// What an offer said of each section.
#[derive(Clone, Debug)]
struct Outstanding {
    id: u32,
    offered: Vec<State>,
}

/// A track to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendTrack {
    /// The one codec offered: that of the track's publisher.
    pub codec: Codec,
    /// `a=msid` stream identifier; LiveKit: `PA_x|TR_y`.
    pub stream_id: String,
    /// `a=msid` track identifier; LiveKit: `TR_y`.
    pub track_id: String,
    /// SSRC we send under, unique on this connection.
    pub ssrc: u32,
    /// SSRC of retransmissions; without one they are not offered.
    pub rtx_ssrc: Option<u32>,
}

impl SendTrack {
    /// Audio or video.
    pub fn kind(&self) -> MediaKind {
        self.codec.kind()
    }
}

/// Why a track was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The connection has as many sections as a description may have.
    #[error("the connection has {MAX_SECTIONS} media sections already")]
    Full,
    /// An identifier is empty, longer than 128 bytes or has other than visible ASCII.
    #[error("a stream or track identifier is not 1 to 128 visible ASCII characters")]
    Identifier,
}

/// What the client's answer means.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The client's end of the transport.
    pub remote: RemoteParameters,
    /// Whether the client's ICE credentials differ from those of its last answer.
    pub ice_restarted: bool,
    /// Sections whose track can be sent: all of them, not only new ones.
    pub sections: Vec<SendSection>,
    /// Sections whose track the client will not receive: remove the track.
    pub refused: Vec<Mid>,
    /// Whether the client accepts data channels.
    pub data: bool,
}

/// How to send a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendSection {
    /// Its identifier.
    pub mid: Mid,
    /// SSRC of the track that was offered.
    pub ssrc: u32,
    /// The codec with the client's payload types.
    pub codec: NegotiatedCodec,
    /// Header extensions the client understands.
    pub extensions: ExtensionIds,
}

impl Offerer {
    /// Offers for a new connection, whose first offer has data channels only. `session_id` is
    /// random (RFC 9429 §5.2.1).
    pub fn new(session_id: u64) -> Self {
        let data = Slot {
            mid: number_mid(0),
            state: State::Data,
            codec: None,
        };
        Offerer {
            session_id,
            id: 0,
            slots: vec![data],
            outstanding: None,
            needs_offer: true,
            remote: None,
        }
    }

    /// Adds a track, to be in the next offer.
    pub fn add(&mut self, track: SendTrack) -> Result<Mid, Refusal> {
        let is_identifier = |text: &str| {
            (1..=MAX_IDENTIFIER).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_graphic())
        };
        if !is_identifier(&track.stream_id) || !is_identifier(&track.track_id) {
            return Err(Refusal::Identifier);
        }
        let kind = Some(track.kind());
        let free = self
            .slots
            .iter()
            .position(|slot| slot.state == State::Free && slot.codec.map(Codec::kind) == kind);
        let mid = match free {
            Some(at) => self.slots[at].mid,
            None if self.slots.len() == MAX_SECTIONS => return Err(Refusal::Full),
            None => number_mid(self.slots.len()),
        };
        let codec = Some(track.codec);
        let slot = Slot {
            mid,
            state: State::Sending(track),
            codec,
        };
        match free {
            Some(at) => self.slots[at] = slot,
            None => self.slots.push(slot),
        }
        self.needs_offer = true;
        Ok(mid)
    }

    /// Removes the track of a section, from the next offer on. False: there is none.
    pub fn remove(&mut self, mid: Mid) -> bool {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.mid == mid) else {
            return false;
        };
        if !matches!(slot.state, State::Sending(_)) {
            return false;
        }
        slot.state = State::Ending;
        self.needs_offer = true;
        true
    }

    /// The tracks as the next offer will have them: LiveKit's `mid_to_track_id`.
    pub fn tracks(&self) -> impl Iterator<Item = (Mid, &SendTrack)> {
        self.slots.iter().filter_map(|slot| match &slot.state {
            State::Sending(track) => Some((slot.mid, track)),
            _ => None,
        })
    }

    /// Whether something changed since the last offer.
    pub fn needs_offer(&self) -> bool {
        self.needs_offer
    }

    /// Whether an offer waits for its answer.
    pub fn is_outstanding(&self) -> bool {
        self.outstanding.is_some()
    }

    /// The next offer and its number, which grows. `None` while another is outstanding: call
    /// again after its answer. New credentials in `local` restart ICE.
    pub fn offer(&mut self, local: &LocalParameters) -> Option<(u32, String)> {
        if self.outstanding.is_some() {
            return None;
        }
        self.id += 1;
        let offered = self.slots.iter().map(|slot| slot.state.clone()).collect();
        self.outstanding = Some(Outstanding {
            id: self.id,
            offered,
        });
        self.needs_offer = false;
        Some((self.id, self.print(local)))
    }

    /// Gives up on the outstanding offer, whose answer got lost with the client's signalling
    /// connection. The next offer says everything again.
    pub fn abandon(&mut self) {
        if self.outstanding.take().is_some() {
            self.needs_offer = true;
        }
    }

    /// Takes the client's answer to offer `id`; 0 from clients that do not number. Nothing
    /// changes when it is refused.
    pub fn answer(&mut self, id: u32, answer: &str) -> Result<Accepted, JsepError> {
        let outstanding = self.outstanding.as_ref().ok_or(JsepError::NoOffer)?;
        if id != 0 && id != outstanding.id {
            return Err(JsepError::WrongOffer {
                got: id,
                expected: outstanding.id,
            });
        }
        let answer = Description::parse(answer)?;
        if answer.sections.len() != outstanding.offered.len() {
            return Err(JsepError::Session(
                "the answer has not the sections of the offer",
            ));
        }
        let first = answer
            .sections
            .iter()
            .position(|section| !section.is_rejected());
        let first = first.ok_or(JsepError::Session("the answer rejects every section"))?;
        let tagged = answer.bundle().find_map(|mid| {
            answer.sections.iter().position(|section| {
                !section.is_rejected() && section.mid().is_some_and(|own| own.as_str() == mid)
            })
        });
        let tagged = tagged.unwrap_or(first);
        let remote = answer.remote(tagged)?;
        if answer.setup(tagged) != Some("active") {
            let reason = "its a=setup is not active";
            return Err(JsepError::Section {
                section: tagged,
                reason,
            });
        }
        let before = self.remote.as_ref();
        if before.is_some_and(|before| before.fingerprint != remote.fingerprint) {
            return Err(JsepError::Session("the certificate's fingerprint changed"));
        }
        let ice_restarted = before.is_some_and(|before| before.ice != remote.ice);

        let mut verdicts = Vec::with_capacity(outstanding.offered.len());
        for (index, (section, offered)) in
            answer.sections.iter().zip(&outstanding.offered).enumerate()
        {
            let bad = |reason| JsepError::Section {
                section: index,
                reason,
            };
            let slot = &self.slots[index];
            if section.is_rejected() {
                verdicts.push(Verdict::Dead);
                continue;
            }
            if section.mid() != Some(slot.mid) {
                return Err(bad("its mid is not that of the offer"));
            }
            if section.kind() != slot.codec.map(Codec::kind)
                || (offered == &State::Data && !section.is_data())
            {
                return Err(bad("its media type is not that of the offer"));
            }
            verdicts.push(match offered {
                State::Data => Verdict::Data,
                State::Sending(track) => {
                    if !section.has("rtcp-mux") {
                        return Err(bad("it has no a=rtcp-mux"));
                    }
                    let kind = track.kind();
                    let codecs = codec::codecs(section, kind);
                    let found = codecs.into_iter().find(|codec| codec.codec == track.codec);
                    match found.filter(|_| section.direction().receives()) {
                        None => Verdict::Refused,
                        Some(codec) => Verdict::Accepted(SendSection {
                            mid: slot.mid,
                            ssrc: track.ssrc,
                            codec: NegotiatedCodec {
                                rtx_payload_type: codec
                                    .rtx_payload_type
                                    .filter(|_| track.rtx_ssrc.is_some()),
                                ..codec
                            },
                            extensions: agreed(codec::extension_ids(section, kind), kind),
                        }),
                    }
                }
                State::Ending | State::Free | State::Dead => Verdict::Inactive,
            });
        }

        let outstanding = self.outstanding.take().expect("it was there above");
        let mut accepted = Accepted {
            remote: remote.clone(),
            ice_restarted,
            sections: Vec::new(),
            refused: Vec::new(),
            data: false,
        };
        self.remote = Some(remote);
        let places = self.slots.iter_mut().zip(outstanding.offered).zip(verdicts);
        for ((slot, offered), verdict) in places {
            // What became of the section while the offer was on its way counts.
            let is_current = slot.state == offered;
            match verdict {
                Verdict::Data => accepted.data = true,
                Verdict::Accepted(section) if is_current => accepted.sections.push(section),
                Verdict::Refused if is_current => accepted.refused.push(slot.mid),
                Verdict::Accepted(_) | Verdict::Refused => {}
                Verdict::Inactive if slot.state == State::Ending && is_current => {
                    slot.state = State::Free;
                }
                Verdict::Inactive => {}
                Verdict::Dead => {
                    if matches!(slot.state, State::Sending(_)) {
                        accepted.refused.push(slot.mid);
                    }
                    // Reviving it would need another mid, which no client has asked for.
                    slot.state = State::Dead;
                }
            }
        }
        Ok(accepted)
    }

    fn print(&self, local: &LocalParameters) -> String {
        let alive = self.slots.iter().filter(|slot| slot.state != State::Dead);
        let bundle: Vec<String> = alive.map(|slot| slot.mid.to_string()).collect();
        let mut printer = Printer::start(self.session_id, u64::from(self.id), &bundle);
        let mut first = true;
        for slot in &self.slots {
            let port = if slot.state == State::Dead { 0 } else { 9 };
            let Some(slot_codec) = slot.codec else {
                printer.media("application", port, "UDP/DTLS/SCTP", "webrtc-datachannel");
                if port != 0 {
                    printer.transport(local, "actpass", std::mem::take(&mut first));
                }
                printer.line(format_args!("a=mid:{}", slot.mid));
                printer.line(format_args!("a=sctp-port:5000"));
                printer.line(format_args!("a=max-message-size:65535"));
                continue;
            };
            let mut codec = codec::offered_codec(slot_codec);
            if let State::Sending(SendTrack { rtx_ssrc: None, .. }) = slot.state {
                codec.rtx_payload_type = None;
            }
            let formats = match codec.rtx_payload_type {
                Some(rtx) => format!("{} {rtx}", codec.payload_type),
                None => codec.payload_type.to_string(),
            };
            let media = match slot_codec.kind() {
                MediaKind::Audio => "audio",
                MediaKind::Video => "video",
            };
            printer.media(media, port, "UDP/TLS/RTP/SAVPF", &formats);
            if port != 0 {
                printer.transport(local, "actpass", std::mem::take(&mut first));
            }
            printer.line(format_args!("a=mid:{}", slot.mid));
            print_media(&mut printer, codec, &slot.state);
        }
        printer.finish()
    }
}

enum Verdict {
    Data,
    Accepted(SendSection),
    /// The client will not receive this track.
    Refused,
    Inactive,
    /// The client refuses the section.
    Dead,
}

fn print_media(printer: &mut Printer, negotiated: NegotiatedCodec, state: &State) {
    let NegotiatedCodec {
        codec,
        payload_type,
        rtx_payload_type,
    } = negotiated;
    let kind = codec.kind();
    for known in codec::EXTENSIONS
        .iter()
        .filter(|known| known.offered && known.is_for(kind))
    {
        printer.line(format_args!("a=extmap:{} {}", known.id, known.uri));
    }
    if let State::Sending(track) = state {
        printer.line(format_args!("a=sendonly"));
        printer.line(format_args!(
            "a=msid:{} {}",
            track.stream_id, track.track_id
        ));
    } else {
        printer.line(format_args!("a=inactive"));
    }
    printer.line(format_args!("a=rtcp-mux"));
    printer.line(format_args!("a=rtcp-rsize"));
    printer.line(format_args!(
        "a=rtpmap:{payload_type} {}",
        codec::encoding_name(codec)
    ));
    for feedback in codec::feedback(kind) {
        printer.line(format_args!("a=rtcp-fb:{payload_type} {feedback}"));
    }
    if let Some(parameters) = codec::offered_parameters(codec) {
        printer.line(format_args!("a=fmtp:{payload_type} {parameters}"));
    }
    if let Some(rtx) = rtx_payload_type {
        printer.line(format_args!("a=rtpmap:{rtx} rtx/90000"));
        printer.line(format_args!("a=fmtp:{rtx} apt={payload_type}"));
    }
    let State::Sending(track) = state else {
        return;
    };
    if let (Some(rtx_ssrc), Some(_)) = (track.rtx_ssrc, rtx_payload_type) {
        printer.line(format_args!("a=ssrc-group:FID {} {rtx_ssrc}", track.ssrc));
    }
    let repair = track.rtx_ssrc.filter(|_| rtx_payload_type.is_some());
    for ssrc in [track.ssrc].into_iter().chain(repair) {
        printer.line(format_args!("a=ssrc:{ssrc} cname:{}", track.stream_id));
        printer.line(format_args!(
            "a=ssrc:{ssrc} msid:{} {}",
            track.stream_id, track.track_id
        ));
    }
}

/// Of the answer's extensions, those that our offers have, under the same identifier.
fn agreed(mut answered: ExtensionIds, kind: MediaKind) -> ExtensionIds {
    for known in &codec::EXTENSIONS {
        let slot = known.slot(&mut answered);
        if !known.offered || !known.is_for(kind) || *slot != Some(known.id) {
            *slot = None;
        }
    }
    answered
}

fn number_mid(number: usize) -> Mid {
    Label::read(number.to_string().as_bytes()).expect("a number is a label")
}
