//! What a participant publishes: announcements, its offers, mute, and the end of a track.

use palabre_media::ids::{MediaKind, TrackId};
use palabre_media::jsep::{Answer, Answerer, ReceiveSection, TrackPolicy};
use palabre_media::sfu::{Codec, Command, ReceiveParameters, SessionConfig};
use palabre_media::transport::{DataChannelPolicy, TransportConfig};

use super::context::{Cx, ParticipantKey, Seat};
use super::join::{credentials, description_id};
use super::leg::is_voice;
use super::negotiate::{local, policy};
use super::participant::{Link, Publisher};
use super::signal::{Refused, answer};
use super::track::Track;
use super::{Departure, Room};
use crate::legs;
use crate::proto::leave_request::Action;
use crate::proto::request_response::{Reason, Request};
use crate::proto::signal_response::Message;
use crate::proto::{self, DisconnectReason};
use crate::shard::ConnectionId;

impl Room {
    /// `add_track`: answered by `track_published` before the offer that carries the track.
    pub(super) fn add_track(
        &mut self,
        key: ParticipantKey,
        connection: ConnectionId,
        request: proto::AddTrackRequest,
        cx: &mut Cx<'_>,
    ) -> Result<(), Refused> {
        let limit = cx.config.rooms.max_tracks as usize;
        let participant = self.participants.get_mut(&key).ok_or(Refused)?;
        let refuse = |reason, request, cx: &mut Cx<'_>| {
            answer(connection, 0, reason, Some(Request::AddTrack(request)), cx);
            Err(Refused)
        };
        if !participant.may_publish(request.source()) {
            return refuse(Reason::NotAllowed, request, cx);
        }
        if !request.sid.is_empty() {
            // Another codec of a track already there.
            let known = participant.track_by_sid(&request.sid);
            let added = known.filter(|track| track.is_of(&request));
            return match added.and_then(|track| track.add_codecs(&request)) {
                Some(info) => {
                    published(connection, request.cid, info, cx);
                    Ok(())
                }
                None => refuse(Reason::InvalidRequest, request, cx),
            };
        }
        let waiting = participant
            .tracks
            .iter()
            .find(|track| track.mid.is_none() && track.has_cid(&request.cid));
        if let Some(track) = waiting {
            published(connection, request.cid, track.info.clone(), cx);
            return Ok(());
        }
        if participant.tracks.len() >= limit {
            return refuse(Reason::LimitExceeded, request, cx);
        }
        let id = cx.ids.track();
        let Some(track) = Track::announced(id, cx.sid("TR_"), &request, cx.wall) else {
            return refuse(Reason::InvalidRequest, request, cx);
        };
        let seat = Seat {
            room: self.number,
            participant: key,
        };
        cx.routes.tracks.insert(id, seat);
        published(connection, request.cid, track.info.clone(), cx);
        participant.tracks.push(track);
        Ok(())
    }

    /// The client's offer on its publisher connection.
    pub(super) fn publisher_offer(
        &mut self,
        key: ParticipantKey,
        connection: ConnectionId,
        offer: &proto::SessionDescription,
        cx: &mut Cx<'_>,
    ) -> Result<(), Refused> {
        let seat = Seat {
            room: self.number,
            participant: key,
        };
        let participant = self.participants.get_mut(&key).ok_or(Refused)?;
        let Link::Client(client) = &mut participant.link else {
            return Err(Refused);
        };
        let publisher = client.publisher.get_or_insert_with(|| publisher(seat, cx));
        let restart =
            publisher.remote_known && publisher.answerer.restarts_ice(&offer.sdp) == Ok(true);
        if restart {
            publisher.credentials = credentials(cx);
        }
        let tracks = &participant.tracks;
        let policy = |cid: &str| {
            let track = tracks.iter().find(|track| track.has_cid(cid));
            track.map_or_else(TrackPolicy::default, policy)
        };
        let local = local(&publisher.credentials, cx.host);
        let Ok(Answer {
            sdp,
            remote,
            sections,
            ..
        }) = publisher.answerer.answer(&offer.sdp, &local, &policy)
        else {
            // The next offer of this client would be the same: reconnecting does not help.
            let departure = Departure {
                reason: DisconnectReason::MediaFailure,
                told: Some(Action::Disconnect),
            };
            self.remove(key, departure, cx);
            return Err(Refused);
        };
        let session = publisher.session;
        let first = !std::mem::replace(&mut publisher.remote_known, true);
        if first {
            cx.media.command(session, Command::SetRemote(remote));
        } else if restart {
            let local = publisher.credentials.clone();
            let remote = Some(remote.ice);
            cx.media
                .command(session, Command::RestartIce { local, remote });
        }
        self.bind(key, &sections, cx);
        cx.send(
            connection,
            Message::Answer(proto::SessionDescription {
                r#type: "answer".to_owned(),
                sdp,
                id: offer.id,
                ..Default::default()
            }),
        );
        Ok(())
    }

    /// Matches media sections of the client's offer with what it announced.
    fn bind(&mut self, key: ParticipantKey, sections: &[ReceiveSection], cx: &mut Cx<'_>) {
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        // First what ended, so that its section or client-side name can be taken again.
        let ended: Vec<TrackId> = participant
            .tracks
            .iter()
            .filter(|track| {
                track.mid.is_some_and(|mid| {
                    let section = sections.iter().find(|section| section.mid == mid);
                    section.is_none_or(|section| {
                        !section.active
                            || participant.tracks.iter().any(|other| {
                                other.mid.is_none()
                                    && is_of(section, other)
                                    && !is_of(section, track)
                            })
                    })
                })
            })
            .map(|track| track.id)
            .collect();
        for track in ended {
            self.unpublish(key, track, cx);
        }
        for section in sections.iter().filter(|section| section.active) {
            self.bind_section(key, section, cx);
        }
    }

    fn bind_section(&mut self, key: ParticipantKey, section: &ReceiveSection, cx: &mut Cx<'_>) {
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        let Some(session) = participant
            .client()
            .and_then(|client| client.publisher.as_ref())
            .map(|publisher| publisher.session)
        else {
            return;
        };
        let tracks = &mut participant.tracks;
        let found = tracks
            .iter()
            .position(|track| track.mid == Some(section.mid))
            .or_else(|| {
                tracks
                    .iter()
                    .position(|track| track.mid.is_none() && is_of(section, track))
            })
            // Some browsers give the section another track id than the announced one.
            .or_else(|| {
                let known = tracks.iter().any(|track| is_of(section, track));
                tracks
                    .iter()
                    .position(|track| !known && track.mid.is_none() && track.kind == section.kind)
            });
        let Some(track) = found.map(|index| &mut tracks[index]) else {
            return;
        };
        let codec = section.codec;
        if track.kind != section.kind {
            return;
        }
        track.mid = Some(section.mid);
        track.info.mid = section.mid.to_string();
        if let Some(codec) = track.info.codecs.first_mut() {
            codec.mid = section.mid.to_string();
        }
        let receive = ReceiveParameters {
            track: track.id,
            kind: track.kind,
            mid: section.mid,
            codec: codec.codec,
            payload_type: codec.payload_type,
            rtx_payload_type: codec.rtx_payload_type,
            clock_rate: codec.codec.clock_rate(),
            extensions: section.extensions,
            encodings: section.encodings.clone(),
        };
        if track.receive.as_ref() == Some(&receive) {
            return;
        }
        cx.media.command(session, Command::Receive(receive.clone()));
        track.receive = Some(receive);
        let (id, codec) = (track.id, codec.codec);
        if track.info.muted {
            cx.media.command(
                session,
                Command::SetMuted {
                    track: id,
                    muted: true,
                },
            );
            // Nothing may come before it is unmuted; it is shown now.
            self.publish(key, id, codec, cx);
        }
    }

    /// The track's media has arrived (or is announced muted): others see and receive it.
    pub(super) fn publish(
        &mut self,
        key: ParticipantKey,
        id: TrackId,
        codec: Codec,
        cx: &mut Cx<'_>,
    ) {
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        let Some(track) = participant.track_mut(id) else {
            return;
        };
        if track.published {
            if track.codec != Some(codec) {
                track.set_codec(codec);
                self.changed.insert(key);
            }
            return;
        }
        track.published = true;
        track.set_codec(codec);
        let (voice, muted) = (is_voice(track), track.info.muted);
        self.changed.insert(key);
        self.tracks_to_match.insert(id);
        if voice {
            self.mix_in(id, muted, cx);
        }
    }

    /// A track ends: its owner stopped it, or may not publish it any more.
    pub(super) fn unpublish(&mut self, key: ParticipantKey, id: TrackId, cx: &mut Cx<'_>) {
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        let Some(index) = participant.tracks.iter().position(|track| track.id == id) else {
            return;
        };
        let track = participant.tracks.remove(index);
        let session = participant
            .client()
            .and_then(|client| client.publisher.as_ref())
            .map(|publisher| publisher.session);
        if let Some(session) = session
            && track.receive.is_some()
        {
            cx.media.command(session, Command::StopReceive(id));
        }
        if track.published {
            self.changed.insert(key);
        }
        let owner = participant.sid.clone();
        self.forget_track(&track, cx);
        self.silence(&owner, id, cx);
    }

    /// Mutes or unmutes a track of `key`, for everybody.
    pub(super) fn mute(
        &mut self,
        key: ParticipantKey,
        sid: &str,
        muted: bool,
        cx: &mut Cx<'_>,
    ) -> Result<(), Refused> {
        let participant = self.participants.get_mut(&key).ok_or(Refused)?;
        let owner = participant.sid.clone();
        let session = participant
            .client()
            .and_then(|client| client.publisher.as_ref())
            .map(|publisher| publisher.session);
        let leg = match &participant.link {
            Link::Leg(leg) => Some(*leg),
            Link::Client(_) => None,
        };
        let track = participant.track_by_sid(sid).ok_or(Refused)?;
        if track.info.muted == muted {
            return Ok(());
        }
        track.info.muted = muted;
        let (id, voice, kind) = (track.id, is_voice(track), track.kind);
        if track.published {
            self.changed.insert(key);
        }
        if let Some(session) = session {
            cx.media
                .command(session, Command::SetMuted { track: id, muted });
        }
        if let Some(leg) = leg {
            cx.legs.send(legs::Command::SetLegMuted { leg, muted });
        } else if voice && self.mixed {
            cx.legs.send(legs::Command::SetTrackMuted {
                room: self.number,
                track: id,
                muted,
            });
        }
        if muted && kind == MediaKind::Audio {
            self.silence(&owner, id, cx);
        }
        Ok(())
    }
}

/// Whether a section carries this announced track, by the client-side name in its msid.
fn is_of(section: &ReceiveSection, track: &Track) -> bool {
    section
        .track_id
        .as_deref()
        .is_some_and(|cid| track.has_cid(cid))
}

/// The connection on which the client sends, awaited by the workers from now on.
fn publisher(seat: Seat, cx: &mut Cx<'_>) -> Publisher {
    let session = cx.ids.session();
    let credentials = credentials(cx);
    cx.routes.sessions.insert(session, seat);
    cx.media.open(SessionConfig {
        session,
        transport: TransportConfig {
            data: DataChannelPolicy::Accept,
            ..TransportConfig::new(credentials.clone())
        },
        remote: None,
    });
    Publisher {
        session,
        credentials,
        remote_known: false,
        answerer: Answerer::new(description_id(cx)),
        connected: false,
    }
}

fn published(connection: ConnectionId, cid: String, track: proto::TrackInfo, cx: &mut Cx<'_>) {
    cx.send(
        connection,
        Message::TrackPublished(proto::TrackPublishedResponse {
            cid,
            track: Some(track),
        }),
    );
}
