//! What the workers report: connections that stand or fall, tracks that begin.

use std::time::Duration;

use palabre_media::ids::{SessionId, TrackId};
use palabre_media::sfu::Codec;
use palabre_media::transport::CloseReason;

use super::context::{Cx, ParticipantKey};
use super::{Departure, Room, leave};
use crate::handle::SignalOutput;
use crate::proto::DisconnectReason;
use crate::proto::leave_request::Action;
use crate::proto::participant_info::State;

/// How long somebody whose media connection ended may finish its good-bye.
const LOST_GRACE: Duration = Duration::from_secs(5);

/// A client that says nothing for this long has lost its signal connection. Clients ping every
/// five seconds, hidden browser tabs once a minute.
const SIGNAL_IDLE: Duration = Duration::from_secs(90);

/// A client that has not answered an offer for this long never will.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

impl Room {
    /// ICE and DTLS of a connection stand.
    pub(crate) fn connected(&mut self, key: ParticipantKey, session: SessionId, cx: &mut Cx<'_>) {
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        let state = participant.state;
        let Some(client) = participant.client_mut() else {
            return;
        };
        if client.subscriber.session == session {
            client.subscriber.connected = true;
            if state == State::Joined {
                participant.state = State::Active;
                self.changed.insert(key);
            }
        } else if let Some(publisher) = &mut client.publisher {
            publisher.connected = true;
        }
        self.settle(cx);
    }

    /// A connection is over and cannot be taken up again.
    pub(crate) fn disconnected(
        &mut self,
        key: ParticipantKey,
        session: SessionId,
        reason: CloseReason,
        cx: &mut Cx<'_>,
    ) {
        cx.routes.sessions.remove(&session);
        let Some(client) = self.client_mut(key) else {
            return;
        };
        client.media_lost.get_or_insert(cx.now);
        // A peer that closed it is leaving and says so; any other must begin anew.
        if reason != CloseReason::Remote
            && let Some(connection) = client.connection.take()
        {
            client.signal_lost = Some(cx.now);
            cx.routes.connections.remove(&connection);
            cx.send(
                connection,
                leave(DisconnectReason::ConnectionTimeout, Action::Reconnect),
            );
            cx.out.push((connection, SignalOutput::Close));
        }
        self.settle(cx);
    }

    /// Media of an announced track arrives.
    pub(crate) fn track_active(
        &mut self,
        key: ParticipantKey,
        track: TrackId,
        codec: Codec,
        cx: &mut Cx<'_>,
    ) {
        self.publish(key, track, codec, cx);
        self.settle(cx);
    }

    /// The signal connection is gone without good-bye: the seat is kept for a while.
    pub(crate) fn signal_closed(&mut self, key: ParticipantKey, cx: &mut Cx<'_>) {
        if let Some(client) = self.client_mut(key)
            && let Some(connection) = client.connection.take()
        {
            client.signal_lost = Some(cx.now);
            cx.routes.connections.remove(&connection);
        }
    }

    /// Takes out those who are not coming back.
    pub(super) fn drop_the_lost(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now;
        let mut lost = Vec::new();
        let mut silent = Vec::new();
        for participant in self.participants.values() {
            let Some(client) = participant.client() else {
                continue;
            };
            let for_long = |since: Option<std::time::Instant>, patience: Duration| {
                since.is_some_and(|since| now.duration_since(since) >= patience)
            };
            let patience = if participant.state == State::Joined {
                LOST_GRACE
            } else {
                cx.config.rooms.resume_timeout.duration()
            };
            let unanswered = client
                .subscriber
                .outstanding
                .filter(|_| client.connection.is_some());
            if for_long(client.media_lost, LOST_GRACE) || for_long(unanswered, ANSWER_TIMEOUT) {
                lost.push((participant.key, DisconnectReason::ConnectionTimeout));
            } else if for_long(client.signal_lost, patience) {
                lost.push((participant.key, DisconnectReason::SignalClose));
            } else if client.connection.is_some() && now.duration_since(client.heard) >= SIGNAL_IDLE
            {
                silent.push(participant.key);
            }
        }
        for (key, reason) in lost {
            let departure = Departure {
                reason,
                told: Some(Action::Reconnect),
            };
            self.remove(key, departure, cx);
        }
        for key in silent {
            let connection = self.client(key).and_then(|client| client.connection);
            self.signal_closed(key, cx);
            if let Some(connection) = connection {
                cx.out.push((connection, SignalOutput::Close));
            }
        }
    }
}
