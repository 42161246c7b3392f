//! Room operations of the server API on one room.

use super::context::{Cx, ParticipantKey};
use super::participant::{Link, Participant};
use super::signal::merge_attributes;
use super::{Departure, MAX_METADATA, MAX_NAME, Room, attributes_fit};
use crate::error::RoomError;
use crate::grants::Grants;
use crate::handle::SignalOutput;
use crate::proto::leave_request::Action;
use crate::proto::signal_response::Message;
use crate::proto::{self, DisconnectReason, TrackSource};

impl Room {
    /// Everybody, hidden participants included.
    pub(crate) fn everybody(&self) -> Vec<proto::ParticipantInfo> {
        self.participants.values().map(Participant::info).collect()
    }

    /// One participant.
    pub(crate) fn participant_info(
        &self,
        identity: &str,
    ) -> Result<proto::ParticipantInfo, RoomError> {
        let key = self.by_identity(identity)?;
        Ok(self.participants[&key].info())
    }

    /// Sends a participant out.
    pub(crate) fn expel(&mut self, identity: &str, cx: &mut Cx<'_>) -> Result<(), RoomError> {
        let key = self.by_identity(identity)?;
        let departure = Departure {
            reason: DisconnectReason::ParticipantRemoved,
            told: Some(Action::Disconnect),
        };
        self.remove(key, departure, cx);
        self.settle(cx);
        Ok(())
    }

    /// Mutes somebody's track. A client opens its own microphone; a telephone has no button.
    pub(crate) fn mute_from_afar(
        &mut self,
        identity: &str,
        sid: &str,
        muted: bool,
        cx: &mut Cx<'_>,
    ) -> Result<proto::TrackInfo, RoomError> {
        let key = self.by_identity(identity)?;
        let participant = self
            .participants
            .get_mut(&key)
            .ok_or(RoomError::ParticipantUnknown)?;
        let by_telephone = matches!(participant.link, Link::Leg(_));
        let connection = participant.connection();
        let track = participant
            .track_by_sid(sid)
            .ok_or(RoomError::TrackUnknown)?;
        if !muted && track.info.muted && !by_telephone {
            return Err(RoomError::UnmuteForbidden);
        }
        if let Some(connection) = connection {
            cx.send(
                connection,
                Message::Mute(proto::MuteTrackRequest {
                    sid: sid.to_owned(),
                    muted,
                }),
            );
        }
        self.mute(key, sid, muted, cx)
            .map_err(|_| RoomError::TrackUnknown)?;
        self.settle(cx);
        let track = self
            .participants
            .get_mut(&key)
            .and_then(|participant| participant.track_by_sid(sid));
        track
            .map(|track| track.info.clone())
            .ok_or(RoomError::TrackUnknown)
    }

    /// Changes name, metadata, attributes or rights of a participant.
    pub(crate) fn update_participant(
        &mut self,
        request: proto::UpdateParticipantRequest,
        cx: &mut Cx<'_>,
    ) -> Result<proto::ParticipantInfo, RoomError> {
        let key = self.by_identity(&request.identity)?;
        let participant = self
            .participants
            .get_mut(&key)
            .ok_or(RoomError::ParticipantUnknown)?;
        let mut attributes = participant.grants.attributes.clone();
        merge_attributes(&mut attributes, &request.attributes);
        let unacceptable = |field, because| Err(RoomError::Unacceptable { field, because });
        if request.name.len() > MAX_NAME {
            return unacceptable("name", "it has more than 256 bytes");
        }
        if request.metadata.len() > MAX_METADATA {
            return unacceptable("metadata", "it has more than 64,000 bytes");
        }
        if !attributes_fit(&attributes) {
            return unacceptable("attributes", "they have more than 64,000 bytes");
        }
        participant.grants.attributes = attributes;
        if !request.name.is_empty() {
            participant.grants.name = request.name;
        }
        if !request.metadata.is_empty() {
            participant.grants.metadata = request.metadata;
        }
        if let Some(permission) = &request.permission {
            apply(&mut participant.grants, permission);
        }
        let token = participant.grants.clone();
        if let Some(connection) = participant.connection() {
            cx.out.push((connection, SignalOutput::RefreshToken(token)));
        }
        self.changed.insert(key);
        self.subscribers_to_match.insert(key);
        self.enforce_sources(key, cx);
        self.settle(cx);
        self.participant_info(&request.identity)
    }

    /// Ends tracks that their owner may not publish any more.
    fn enforce_sources(&mut self, key: ParticipantKey, cx: &mut Cx<'_>) {
        let Some(participant) = self.participants.get(&key) else {
            return;
        };
        let connection = participant.connection();
        let forbidden: Vec<_> = participant
            .tracks
            .iter()
            .filter(|track| !participant.may_publish(track.info.source()))
            .map(|track| (track.id, track.sid().to_owned()))
            .collect();
        for (id, track_sid) in forbidden {
            self.unpublish(key, id, cx);
            if let Some(connection) = connection {
                cx.send(
                    connection,
                    Message::TrackUnpublished(proto::TrackUnpublishedResponse { track_sid }),
                );
            }
        }
    }

    /// Replaces the room's metadata.
    pub(crate) fn set_metadata(
        &mut self,
        metadata: String,
        cx: &mut Cx<'_>,
    ) -> Result<proto::Room, RoomError> {
        if metadata.len() > MAX_METADATA {
            return Err(RoomError::Unacceptable {
                field: "metadata",
                because: "it has more than 64,000 bytes",
            });
        }
        self.metadata = metadata;
        self.tell_room(cx);
        Ok(self.info())
    }

    /// A data packet from the server.
    pub(crate) fn send_data(&mut self, request: &proto::SendDataRequest, cx: &mut Cx<'_>) {
        self.server_data(request, cx);
    }
}

/// Takes over the rights an administrator set.
#[allow(deprecated)] // recorder and agent are still in the message
fn apply(grants: &mut Grants, permission: &proto::ParticipantPermission) {
    grants.can_subscribe = permission.can_subscribe;
    grants.can_publish = permission.can_publish;
    grants.can_publish_data = permission.can_publish_data;
    grants.can_publish_sources = permission
        .can_publish_sources
        .iter()
        .filter_map(|source| TrackSource::try_from(*source).ok())
        .collect();
    grants.hidden = permission.hidden;
    grants.can_update_own_metadata = permission.can_update_metadata;
    grants.recorder = permission.recorder;
    grants.agent = permission.agent;
    grants.can_subscribe_metrics = permission.can_subscribe_metrics;
}
