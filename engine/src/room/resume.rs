//! A client that lost its signal connection takes up its seat again (`reconnect=1`).

use std::time::Duration;

use palabre_media::ids::TrackId;
use palabre_media::sfu::Command;

use super::Room;
use super::context::{Cx, ParticipantKey, Seat};
use super::join::{credentials, server_info, token_refresh};
use super::participant::{Participant, Setting};
use super::signal::Refused;
use crate::error::JoinError;
use crate::handle::{JoinRequest, SignalOutput};
use crate::proto;
use crate::proto::signal_response::Message;
use crate::shard::ConnectionId;

impl Room {
    /// Seats a new signal connection where the old one was.
    pub(super) fn resume(
        &mut self,
        connection: ConnectionId,
        sid: &str,
        request: &JoinRequest,
        cx: &mut Cx<'_>,
    ) -> Result<(), JoinError> {
        let key = self.resumable(sid, &request.grants.identity)?;
        self.seat_again(key, connection, token_refresh(request.token_lifetime), cx);
        cx.counts.resumes_total.add(1);
        let (last_sequence, cut) = match self.client_mut(key) {
            Some(client) => (
                client.last_sequence,
                std::mem::take(&mut client.cut_next_resume),
            ),
            None => return Err(JoinError::NothingToResume),
        };
        cx.send(
            connection,
            Message::Reconnect(proto::ReconnectResponse {
                ice_servers: Vec::new(),
                client_configuration: None,
                server_info: Some(server_info()),
                last_message_seq: last_sequence,
            }),
        );
        let everybody = self
            .participants
            .values()
            .filter(|p| !p.grants.hidden || p.key == key);
        let participants = everybody.map(Participant::info).collect();
        cx.send(
            connection,
            Message::Update(proto::ParticipantUpdate { participants }),
        );
        cx.send(
            connection,
            Message::RoomUpdate(proto::RoomUpdate {
                room: Some(self.info()),
            }),
        );
        if let Some(participant) = self.participants.get(&key) {
            let token = participant.grants.clone();
            cx.out.push((connection, SignalOutput::RefreshToken(token)));
        }
        self.restart_subscriber(key, cx);
        if cut {
            self.signal_closed(key, cx);
            cx.out.push((connection, SignalOutput::Close));
        }
        Ok(())
    }

    /// The seat that this client may take up again.
    pub(super) fn resumable(&self, sid: &str, identity: &str) -> Result<ParticipantKey, JoinError> {
        let key = self.identities.get(identity).copied();
        let resumable = key.filter(|key| {
            self.participants.get(key).is_some_and(|participant| {
                participant.sid == sid
                    && participant
                        .client()
                        .is_some_and(|client| client.media_lost.is_none())
            })
        });
        resumable.ok_or(JoinError::NothingToResume)
    }

    fn seat_again(
        &mut self,
        key: ParticipantKey,
        connection: ConnectionId,
        refresh: Duration,
        cx: &mut Cx<'_>,
    ) {
        let seat = Seat {
            room: self.number,
            participant: key,
        };
        let Some(client) = self.client_mut(key) else {
            return;
        };
        if let Some(old) = client.connection.replace(connection) {
            cx.routes.connections.remove(&old);
            cx.out.push((old, SignalOutput::Close));
        }
        client.signal_lost = None;
        client.heard = cx.now;
        client.refresh = refresh;
        client.refresh_at = cx.now + client.refresh;
        cx.routes.connections.insert(connection, seat);
    }

    /// The client may be on another network: new credentials, a new offer (RFC 8445 §9).
    fn restart_subscriber(&mut self, key: ParticipantKey, cx: &mut Cx<'_>) {
        let credentials = credentials(cx);
        let Some(client) = self.client_mut(key) else {
            return;
        };
        let subscriber = &mut client.subscriber;
        subscriber.credentials = credentials.clone();
        subscriber.outstanding = None;
        subscriber.offerer.abandon();
        subscriber.restarting = true;
        subscriber.dirty = true;
        cx.media.command(
            subscriber.session,
            Command::RestartIce {
                local: credentials,
                remote: None,
            },
        );
    }

    /// `sync_state`: what the client believes; its choices count, its media is renegotiated.
    pub(super) fn sync(
        &mut self,
        key: ParticipantKey,
        state: &proto::SyncState,
        cx: &mut Cx<'_>,
    ) -> Result<(), Refused> {
        if state.track_sids_disabled.len() > 1_000 {
            return Err(Refused);
        }
        if let Some(subscription) = &state.subscription {
            self.choose(key, subscription)?;
        }
        let client = self.client(key).ok_or(Refused)?;
        let disabled: Vec<(TrackId, Setting)> = client
            .subscriptions
            .iter()
            .filter(|(_, s)| state.track_sids_disabled.contains(&s.track_sid))
            .map(|(id, s)| {
                let setting = Setting {
                    disabled: true,
                    ..s.setting
                };
                (*id, setting)
            })
            .collect();
        for (id, setting) in disabled {
            self.apply_setting(key, id, setting, cx);
        }
        Ok(())
    }
}
