//! Telephones in the room: participants of kind SIP whose voice is the mixer's track.

use palabre_media::ids::{LegId, MediaKind, TrackId};
use palabre_media::sfu::Codec;

use super::context::{Cx, ParticipantKey, Seat};
use super::participant::{Link, LinkQuality, Participant, Publicity};
use super::track::Track;
use super::{Departure, Room};
use crate::error::JoinError;
use crate::grants::Grants;
use crate::leg::LegIdentity;
use crate::legs::{Command, RemovedReason};
use crate::proto::participant_info::{Kind, State};
use crate::proto::{self, DisconnectReason};

impl Room {
    /// A telephone comes in: everybody hears it, it hears everybody.
    pub(crate) fn join_leg(
        &mut self,
        leg: LegId,
        identity: LegIdentity,
        cx: &mut Cx<'_>,
    ) -> Result<(), JoinError> {
        if cx.routes.legs.contains_key(&leg) {
            return Err(JoinError::LegBusy);
        }
        let grants = Grants {
            identity: identity.identity,
            name: identity.name,
            attributes: identity.attributes,
            kind: Kind::Sip,
            room: self.name.clone(),
            room_join: true,
            ..Default::default()
        };
        super::join::check(&self.name, &grants)?;
        self.check_space(&grants.identity, &cx.config.rooms)?;
        self.kick_duplicate(&grants.identity, cx);
        let key = cx.ids.participant();
        let seat = Seat {
            room: self.number,
            participant: key,
        };
        let track = cx.ids.track();
        cx.routes.legs.insert(leg, seat);
        cx.routes.tracks.insert(track, seat);
        self.begin_mix(cx);
        cx.legs.send(Command::JoinRoom {
            leg,
            room: self.number,
            track,
        });
        let identity = grants.identity.clone();
        let participant = Participant {
            key,
            sid: cx.sid("PA_"),
            grants,
            client: proto::ClientInfo::default(),
            state: State::Active,
            joined_at: cx.wall,
            version: 0,
            tracks: vec![Track::of_leg(track, cx.sid("TR_"), cx.wall)],
            publicity: Publicity::default(),
            link: Link::Leg(leg),
            quality: LinkQuality::default(),
        };
        self.participants.insert(key, participant);
        self.identities.insert(identity, key);
        self.was_joined = true;
        self.changed.insert(key);
        self.tracks_to_match.insert(track);
        self.settle(cx);
        Ok(())
    }

    /// The call ended, or its owner let go of the leg.
    pub(crate) fn leg_closed(&mut self, key: ParticipantKey, cx: &mut Cx<'_>) {
        let departure = Departure {
            reason: DisconnectReason::ClientInitiated,
            told: None,
        };
        self.remove(key, departure, cx);
        self.settle(cx);
    }

    /// The caller mutes or unmutes itself by key.
    pub(crate) fn mute_leg(&mut self, key: ParticipantKey, muted: bool, cx: &mut Cx<'_>) {
        let voice = self
            .participants
            .get(&key)
            .and_then(|participant| participant.tracks.first());
        if let Some(sid) = voice.map(|track| track.sid().to_owned()) {
            // Its track is there: it was just looked up.
            let _ = self.mute(key, &sid, muted, cx);
        }
        self.settle(cx);
    }

    /// The mixer lost this room: its telephones are out of it and may join again.
    pub(crate) fn mix_failed(&mut self, cx: &mut Cx<'_>) {
        // The last one to leave closes the mixer's room, which still has its tracks.
        let legs = self.participants.values().filter(|p| p.client().is_none());
        for key in legs.map(|p| p.key).collect::<Vec<_>>() {
            let departure = Departure {
                reason: DisconnectReason::MediaFailure,
                told: None,
            };
            self.remove(key, departure, cx);
        }
        self.settle(cx);
    }

    /// Whether telephones are, or lately were, in the room.
    pub(crate) fn is_mixed(&self) -> bool {
        self.mixed
    }

    /// Takes care that the mixer knows the room and its voices.
    fn begin_mix(&mut self, cx: &mut Cx<'_>) {
        if self.mixed {
            return;
        }
        self.mixed = true;
        cx.legs.send(Command::OpenRoom {
            room: self.number,
            talkers: cx.config.mixer.talkers,
        });
        let voices: Vec<(TrackId, bool)> = self
            .participants
            .values()
            .flat_map(|participant| &participant.tracks)
            .filter(|track| is_voice(track))
            .map(|track| (track.id, track.info.muted))
            .collect();
        for (track, muted) in voices {
            self.mix_in(track, muted, cx);
        }
    }

    /// Adds a voice to the mix the telephones hear, if there are telephones.
    pub(super) fn mix_in(&mut self, track: TrackId, muted: bool, cx: &mut Cx<'_>) {
        if !self.mixed {
            return;
        }
        let room = self.number;
        cx.legs.send(Command::AddTrack { room, track });
        if muted {
            cx.legs.send(Command::SetTrackMuted { room, track, muted });
        }
    }

    /// A telephone has been taken out of the participants.
    pub(super) fn leg_left(&mut self, leg: LegId, reason: DisconnectReason, cx: &mut Cx<'_>) {
        cx.routes.legs.remove(&leg);
        let removed = match reason {
            // The owner knows: it closed the leg.
            DisconnectReason::ClientInitiated => None,
            DisconnectReason::RoomDeleted => Some(RemovedReason::RoomClosed),
            DisconnectReason::ServerShutdown => Some(RemovedReason::Shutdown),
            DisconnectReason::MediaFailure => Some(RemovedReason::MixFailed),
            _ => Some(RemovedReason::Removed),
        };
        if let Some(reason) = removed {
            cx.legs.send(Command::LeaveRoom { leg, reason });
        }
        if self.mixed && !self.participants.values().any(|p| p.client().is_none()) {
            self.mixed = false;
            cx.legs.send(Command::CloseRoom { room: self.number });
        }
    }
}

/// Whether telephones hear this track: published, Opus in the clear, and not a telephone's own.
/// What participants encrypt end to end is noise to the mixer.
pub(super) fn is_voice(track: &Track) -> bool {
    track.published
        && track.kind == MediaKind::Audio
        && track.info.encryption == proto::encryption::Type::None as i32
        && track.codec == Some(Codec::Opus)
        && !track.cid.is_empty()
}
