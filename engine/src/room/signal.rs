//! What a client asks over its signal connection, one message at a time.

use super::context::{Cx, ParticipantKey};
use super::participant::Publicity;
use super::{Departure, MAX_METADATA, MAX_NAME, Room, attributes_fit, leave};
use crate::handle::SignalOutput;
use crate::proto::leave_request::Action;
use crate::proto::request_response::{Reason, Request};
use crate::proto::signal_request::Message as Asked;
use crate::proto::signal_response::Message;
use crate::proto::simulate_scenario::Scenario;
use crate::proto::{self, DisconnectReason};
use crate::shard::ConnectionId;

/// Entries one list of a request may have (track sids, permissions).
const MAX_LIST: usize = 1_000;

/// A request that is refused without an answer: it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused;

impl Room {
    /// Handles one request of a participant.
    pub(crate) fn signal(
        &mut self,
        key: ParticipantKey,
        request: proto::SignalRequest,
        cx: &mut Cx<'_>,
    ) {
        let Some(client) = self.participants.get_mut(&key).and_then(|p| p.client_mut()) else {
            return;
        };
        client.heard = cx.now;
        let Some(connection) = client.connection else {
            return;
        };
        // A message of a newer protocol decodes to none: it is ignored, as LiveKit does.
        let Some(message) = request.message else {
            return;
        };
        if self.dispatch(key, connection, message, cx).is_err() {
            cx.counts.signal_requests_refused_total.add(1);
        }
        self.settle(cx);
    }

    #[allow(deprecated)] // update_layers is still sent by old clients
    fn dispatch(
        &mut self,
        key: ParticipantKey,
        connection: ConnectionId,
        message: Asked,
        cx: &mut Cx<'_>,
    ) -> Result<(), Refused> {
        match message {
            Asked::Ping(_) => {
                // Milliseconds: JavaScript's numbers do not hold nanoseconds.
                cx.send(connection, Message::Pong(cx.wall));
                Ok(())
            }
            Asked::PingReq(ping) => {
                let pong = proto::Pong {
                    last_ping_timestamp: ping.timestamp,
                    timestamp: cx.wall,
                };
                cx.send(connection, Message::PongResp(pong));
                Ok(())
            }
            Asked::Offer(offer) => self.publisher_offer(key, connection, &offer, cx),
            Asked::Answer(answer) => self.subscriber_answer(key, connection, &answer, cx),
            // ICE-lite answers checks from anywhere; the client's candidates are not needed
            // (RFC 8445 §2.5).
            Asked::Trickle(_) => Ok(()),
            Asked::AddTrack(request) => self.add_track(key, connection, request, cx),
            Asked::Mute(mute) => self.mute(key, &mute.sid, mute.muted, cx),
            Asked::Subscription(update) => self.choose(key, &update),
            Asked::TrackSetting(setting) => self.set_tracks(key, &setting, cx),
            Asked::Leave(_) => {
                let departure = Departure {
                    reason: DisconnectReason::ClientInitiated,
                    told: None,
                };
                self.remove(key, departure, cx);
                Ok(())
            }
            // Superseded by `subscribed_quality_update`; the layers seen on the wire count.
            Asked::UpdateLayers(_) => Ok(()),
            Asked::SubscriptionPermission(permission) => self.set_publicity(key, permission),
            Asked::SyncState(state) => self.sync(key, &state, cx),
            Asked::Simulate(scenario) => self.simulate(key, connection, scenario, cx),
            Asked::UpdateMetadata(update) => self.update_metadata(key, connection, update, cx),
            Asked::UpdateAudioTrack(update) => {
                let track = self
                    .participants
                    .get_mut(&key)
                    .and_then(|p| p.track_by_sid(&update.track_sid));
                let track = track.ok_or(Refused)?;
                if update.features.len() > 16 {
                    return Err(Refused);
                }
                track.info.audio_features = update.features;
                self.changed.insert(key);
                Ok(())
            }
            Asked::UpdateVideoTrack(update) => {
                let track = self
                    .participants
                    .get_mut(&key)
                    .and_then(|p| p.track_by_sid(&update.track_sid));
                let track = track.ok_or(Refused)?;
                track.info.width = update.width;
                track.info.height = update.height;
                self.changed.insert(key);
                Ok(())
            }
            Asked::PublishDataTrackRequest(request) => {
                answer(
                    connection,
                    0,
                    Reason::UnsupportedType,
                    Some(Request::PublishDataTrack(request)),
                    cx,
                );
                Err(Refused)
            }
            Asked::UnpublishDataTrackRequest(request) => {
                answer(
                    connection,
                    0,
                    Reason::UnsupportedType,
                    Some(Request::UnpublishDataTrack(request)),
                    cx,
                );
                Err(Refused)
            }
            Asked::UpdateDataSubscription(_) => Ok(()),
            Asked::StoreDataBlobRequest(request) => {
                answer(
                    connection,
                    request.request_id,
                    Reason::UnsupportedType,
                    None,
                    cx,
                );
                Err(Refused)
            }
            Asked::GetDataBlobRequest(request) => {
                answer(
                    connection,
                    request.request_id,
                    Reason::UnsupportedType,
                    None,
                    cx,
                );
                Err(Refused)
            }
        }
    }

    /// `subscription_permission`: who may receive this participant's tracks.
    fn set_publicity(
        &mut self,
        key: ParticipantKey,
        permission: proto::SubscriptionPermission,
    ) -> Result<(), Refused> {
        if permission.track_permissions.len() > MAX_LIST
            || permission
                .track_permissions
                .iter()
                .any(|entry| entry.track_sids.len() > MAX_LIST)
        {
            return Err(Refused);
        }
        let participant = self.participants.get_mut(&key).ok_or(Refused)?;
        participant.publicity = if permission.all_participants {
            Publicity::Everybody
        } else {
            Publicity::Listed(permission.track_permissions)
        };
        self.tracks_to_match
            .extend(participant.tracks.iter().map(|track| track.id));
        Ok(())
    }

    /// `update_metadata`: own name, metadata and attributes.
    fn update_metadata(
        &mut self,
        key: ParticipantKey,
        connection: ConnectionId,
        update: proto::UpdateParticipantMetadata,
        cx: &mut Cx<'_>,
    ) -> Result<(), Refused> {
        let id = update.request_id;
        let participant = self.participants.get_mut(&key).ok_or(Refused)?;
        if !participant.grants.can_update_own_metadata {
            let request = Some(Request::UpdateMetadata(update));
            answer(connection, id, Reason::NotAllowed, request, cx);
            return Err(Refused);
        }
        let mut attributes = participant.grants.attributes.clone();
        merge_attributes(&mut attributes, &update.attributes);
        if update.name.len() > MAX_NAME
            || update.metadata.len() > MAX_METADATA
            || !attributes_fit(&attributes)
        {
            let request = Some(Request::UpdateMetadata(update));
            answer(connection, id, Reason::LimitExceeded, request, cx);
            return Err(Refused);
        }
        participant.grants.attributes = attributes;
        if !update.name.is_empty() {
            participant.grants.name = update.name.clone();
        }
        if !update.metadata.is_empty() {
            participant.grants.metadata = update.metadata.clone();
        }
        let grants = participant.grants.clone();
        self.changed.insert(key);
        let request = Some(Request::UpdateMetadata(update));
        answer(connection, id, Reason::Ok, request, cx);
        cx.out
            .push((connection, SignalOutput::RefreshToken(grants)));
        Ok(())
    }

    /// `simulate`: SDK test-suites ask for trouble; it only ever hits the one who asks.
    fn simulate(
        &mut self,
        key: ParticipantKey,
        connection: ConnectionId,
        scenario: proto::SimulateScenario,
        cx: &mut Cx<'_>,
    ) -> Result<(), Refused> {
        match scenario.scenario {
            Some(Scenario::ServerLeave(true)) => {
                let departure = Departure {
                    reason: DisconnectReason::ServerShutdown,
                    told: Some(Action::Disconnect),
                };
                self.remove(key, departure, cx);
                Ok(())
            }
            Some(Scenario::LeaveRequestFullReconnect(true) | Scenario::NodeFailure(true)) => {
                cx.send(
                    connection,
                    leave(DisconnectReason::StateMismatch, Action::Reconnect),
                );
                Ok(())
            }
            Some(
                Scenario::DisconnectSignalOnResume(true)
                | Scenario::DisconnectSignalOnResumeNoMessages(true),
            ) => {
                if let Some(client) = self.participants.get_mut(&key).and_then(|p| p.client_mut()) {
                    client.cut_next_resume = true;
                }
                Ok(())
            }
            _ => Err(Refused),
        }
    }
}

/// An empty value deletes its attribute.
pub(super) fn merge_attributes(
    attributes: &mut std::collections::HashMap<String, String>,
    changes: &std::collections::HashMap<String, String>,
) {
    for (name, value) in changes {
        if value.is_empty() {
            attributes.remove(name);
        } else {
            attributes.insert(name.clone(), value.clone());
        }
    }
}

/// `request_response`
pub(super) fn answer(
    connection: ConnectionId,
    request_id: u32,
    reason: Reason,
    request: Option<Request>,
    cx: &mut Cx<'_>,
) {
    let message = match reason {
        Reason::Ok => "",
        Reason::NotAllowed => "the token does not allow this",
        Reason::LimitExceeded => "a limit of this server is exceeded",
        Reason::UnsupportedType => "this server does not support this request",
        _ => "the request cannot be used",
    };
    cx.send(
        connection,
        Message::RequestResponse(proto::RequestResponse {
            request_id,
            reason: reason as i32,
            message: message.to_owned(),
            request,
        }),
    );
}
