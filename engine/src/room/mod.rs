//! A room: its participants, and what each must be told when something changes.
//!
//! Sans-IO: one input at a time with a [`Cx`], outputs go into it. Every input ends with
//! [`Room::settle`], which fixes the order clients depend on: first the `update` that
//! announces a track, then the offer that carries it.

mod ask;
mod context;
mod data;
mod join;
mod leg;
mod media;
mod negotiate;
mod packet;
mod participant;
mod publish;
mod quality;
mod resume;
mod signal;
mod speakers;
mod subscribe;
#[cfg(test)]
mod tests;
mod track;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use palabre_media::ids::TrackId;

pub(crate) use context::{
    Cx, Host, Ids, LegPlane, MediaPlane, ParticipantKey, Random, Routes, Seat,
};
pub(crate) use join::{add_attributes, check, check_room};
use participant::{Link, Participant};
use speakers::Speakers;
use track::Track;

use crate::error::RoomError;
use crate::legs::{self, RoomId};
use crate::proto::leave_request::Action;
use crate::proto::participant_info::State;
use crate::proto::signal_response::Message;
use crate::proto::{self, DisconnectReason};

/// Longest room name and identity, in bytes (LiveKit's own limits).
const MAX_NAME: usize = 256;
/// Most metadata of a room or participant, in bytes (LiveKit's own limit).
const MAX_METADATA: usize = 64_000;
/// Most attributes of a participant, keys and values together, in bytes.
const MAX_ATTRIBUTES: usize = 64_000;

/// Counts in `room_update` are sent at most this often.
const COUNTS_INTERVAL: Duration = Duration::from_secs(1);

/// One room.
pub(crate) struct Room {
    pub(crate) number: RoomId,
    pub(crate) name: String,
    /// RM_ name.
    pub(crate) sid: String,
    /// Milliseconds since 1970.
    created: i64,
    metadata: String,
    empty_timeout: Duration,
    departure_timeout: Duration,
    max_participants: u32,
    /// Marks frames the server may inject under end-to-end encryption; random per room.
    sif_trailer: Vec<u8>,
    participants: BTreeMap<ParticipantKey, Participant>,
    identities: HashMap<String, ParticipantKey>,
    /// Since when nobody is in, and whether somebody ever was.
    empty_since: Instant,
    was_joined: bool,
    /// The mixer thread knows this room: it has telephones.
    mixed: bool,
    speakers: Speakers,
    /// Participants whose `update` is due.
    changed: BTreeSet<ParticipantKey>,
    /// Tracks whose subscribers are to be reconsidered.
    tracks_to_match: BTreeSet<TrackId>,
    /// Participants whose subscriptions are to be reconsidered.
    subscribers_to_match: BTreeSet<ParticipantKey>,
    /// Tracks of which somebody may want another quality than before.
    demands: BTreeSet<TrackId>,
    /// Counts as last told, and when.
    told: (u32, u32),
    told_at: Instant,
    quality_at: Instant,
}

/// Why a participant goes, for it and for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Departure {
    reason: DisconnectReason,
    /// What the participant itself is told; `None` when it is the one who said good-bye.
    told: Option<Action>,
}

impl Room {
    /// An empty room.
    pub(crate) fn new(name: &str, options: &proto::CreateRoomRequest, cx: &mut Cx<'_>) -> Self {
        let seconds = |asked: u32, default: crate::settings::Span| match asked {
            0 => default.duration(),
            n => Duration::from_secs(u64::from(n)),
        };
        let mut sif_trailer = vec![0; 24];
        cx.random.fill(&mut sif_trailer);
        Self {
            number: cx.ids.room(),
            name: name.to_owned(),
            sid: cx.sid("RM_"),
            created: cx.wall,
            metadata: options.metadata.clone(),
            empty_timeout: seconds(options.empty_timeout, cx.config.rooms.empty_timeout),
            departure_timeout: seconds(
                options.departure_timeout,
                cx.config.rooms.departure_timeout,
            ),
            max_participants: options.max_participants,
            sif_trailer,
            participants: BTreeMap::new(),
            identities: HashMap::new(),
            empty_since: cx.now,
            was_joined: false,
            mixed: false,
            speakers: Speakers::default(),
            changed: BTreeSet::new(),
            tracks_to_match: BTreeSet::new(),
            subscribers_to_match: BTreeSet::new(),
            demands: BTreeSet::new(),
            told: (0, 0),
            told_at: cx.now,
            quality_at: cx.now,
        }
    }

    /// What clients and the server API are told of the room.
    pub(crate) fn info(&self) -> proto::Room {
        let (participants, publishers) = self.counts();
        proto::Room {
            sid: self.sid.clone(),
            name: self.name.clone(),
            empty_timeout: self.empty_timeout.as_secs() as u32,
            departure_timeout: self.departure_timeout.as_secs() as u32,
            max_participants: self.max_participants,
            creation_time: self.created / 1000,
            creation_time_ms: self.created,
            enabled_codecs: join::enabled_codecs(),
            metadata: self.metadata.clone(),
            num_participants: participants,
            num_publishers: publishers,
            ..Default::default()
        }
    }

    /// Participants and publishers that are not hidden.
    fn counts(&self) -> (u32, u32) {
        let seen = self.participants.values().filter(|p| !p.grants.hidden);
        seen.fold((0, 0), |(all, publishing), p| {
            (all + 1, publishing + u32::from(p.is_publisher()))
        })
    }

    /// Whether the room has been empty for longer than it may be.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        let patience = if self.was_joined {
            self.departure_timeout
        } else {
            self.empty_timeout
        };
        self.participants.is_empty() && now.duration_since(self.empty_since) >= patience
    }

    /// Timers: once a second is enough for all of them.
    pub(crate) fn tick(&mut self, cx: &mut Cx<'_>) {
        self.drop_the_lost(cx);
        self.refresh_tokens(cx);
        self.lower_demands(cx);
        self.quality_tick(cx);
        if self.told != self.counts() && cx.now.duration_since(self.told_at) >= COUNTS_INTERVAL {
            self.tell_room(cx);
        }
        self.settle(cx);
    }

    /// Sends what the last input made due, in the order clients depend on.
    pub(crate) fn settle(&mut self, cx: &mut Cx<'_>) {
        for key in std::mem::take(&mut self.changed) {
            self.broadcast_participant(key, cx);
        }
        self.match_subscriptions(cx);
        self.raise_demands(cx);
        self.offer_what_is_due(cx);
    }

    /// Tells everybody that may know about a change of this participant.
    fn broadcast_participant(&mut self, key: ParticipantKey, cx: &mut Cx<'_>) {
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        participant.version += 1;
        let hidden = participant.grants.hidden;
        let own = participant.connection();
        let update = Message::Update(proto::ParticipantUpdate {
            participants: vec![participant.info()],
        });
        if hidden {
            if let Some(own) = own {
                cx.send(own, update);
            }
        } else {
            self.broadcast(&update, cx);
        }
    }

    /// Says the same to every client.
    fn broadcast(&self, message: &Message, cx: &mut Cx<'_>) {
        for connection in self
            .participants
            .values()
            .filter_map(Participant::connection)
        {
            cx.send(connection, message.clone());
        }
    }

    /// Tells everybody the room's state.
    fn tell_room(&mut self, cx: &mut Cx<'_>) {
        self.told = self.counts();
        self.told_at = cx.now;
        let update = Message::RoomUpdate(proto::RoomUpdate {
            room: Some(self.info()),
        });
        self.broadcast(&update, cx);
    }

    /// Takes a participant out: others forget it, its tracks end, its connections close.
    fn remove(&mut self, key: ParticipantKey, departure: Departure, cx: &mut Cx<'_>) {
        let Some(mut participant) = self.participants.remove(&key) else {
            return;
        };
        if self.identities.get(participant.identity()) == Some(&key) {
            self.identities.remove(participant.identity());
        }
        self.changed.remove(&key);
        self.subscribers_to_match.remove(&key);
        if let Some(connection) = participant.connection() {
            if let Some(action) = departure.told {
                cx.send(connection, leave(departure.reason, action));
            }
            cx.out.push((connection, crate::SignalOutput::Close));
            cx.routes.connections.remove(&connection);
        }
        participant.state = State::Disconnected;
        participant.version += 1;
        if !participant.grants.hidden {
            let mut info = participant.info();
            info.disconnect_reason = departure.reason as i32;
            let update = Message::Update(proto::ParticipantUpdate {
                participants: vec![info],
            });
            self.broadcast(&update, cx);
        }
        for track in &participant.tracks {
            self.forget_track(track, cx);
        }
        self.speakers.forget(&participant.sid);
        match &participant.link {
            Link::Client(client) => {
                let sessions = client.publisher.iter().map(|publisher| publisher.session);
                for session in sessions.chain([client.subscriber.session]) {
                    cx.routes.sessions.remove(&session);
                    cx.media.close(session);
                }
            }
            Link::Leg(leg) => self.leg_left(*leg, departure.reason, cx),
        }
        if self.participants.is_empty() {
            self.empty_since = cx.now;
        }
    }

    /// Ends the room for everybody.
    pub(crate) fn close(&mut self, reason: DisconnectReason, action: Action, cx: &mut Cx<'_>) {
        let departure = Departure {
            reason,
            told: Some(action),
        };
        // Nobody needs to hear of the others' departures when all go.
        for key in self.participants.keys().copied().collect::<Vec<_>>() {
            if let Some(participant) = self.participants.get_mut(&key)
                && let Some(client) = participant.client_mut()
                && let Some(connection) = client.connection.take()
            {
                cx.send(connection, leave(reason, action));
                cx.out.push((connection, crate::SignalOutput::Close));
                cx.routes.connections.remove(&connection);
            }
        }
        for key in self.participants.keys().copied().collect::<Vec<_>>() {
            self.remove(key, departure, cx);
        }
    }

    /// A track of somebody is no more: nobody receives it, the mixer forgets it.
    fn forget_track(&mut self, track: &Track, cx: &mut Cx<'_>) {
        let voice = leg::is_voice(track);
        let (track, sid) = (track.id, track.sid());
        cx.routes.tracks.remove(&track);
        self.tracks_to_match.remove(&track);
        for key in self.participants.keys().copied().collect::<Vec<_>>() {
            self.unsubscribe(key, track, cx);
            if let Some(client) = self.client_mut(key) {
                client.choices.remove(sid);
                client.denied.remove(&track);
            }
        }
        if voice && self.mixed {
            cx.legs.send(legs::Command::RemoveTrack {
                room: self.number,
                track,
            });
        }
    }

    /// Participants now.
    pub(crate) fn len(&self) -> usize {
        self.participants.len()
    }

    #[cfg(test)]
    pub(crate) fn session_of(
        &self,
        key: ParticipantKey,
        subscriber: bool,
    ) -> Option<palabre_media::ids::SessionId> {
        let client = self.client(key)?;
        if subscriber {
            Some(client.subscriber.session)
        } else {
            client.publisher.as_ref().map(|publisher| publisher.session)
        }
    }

    /// Tracks sent now, once for each receiver.
    pub(crate) fn subscriptions(&self) -> usize {
        let clients = self.participants.values().filter_map(Participant::client);
        clients
            .flat_map(|client| client.subscriptions.values())
            .filter(|subscription| subscription.sending)
            .count()
    }

    fn by_identity(&self, identity: &str) -> Result<ParticipantKey, RoomError> {
        self.identities
            .get(identity)
            .copied()
            .ok_or(RoomError::ParticipantUnknown)
    }
}

/// `leave` as every protocol version reads it.
pub(crate) fn leave(reason: DisconnectReason, action: Action) -> Message {
    Message::Leave(proto::LeaveRequest {
        // For clients below protocol 13, which know no action.
        can_reconnect: action != Action::Disconnect,
        reason: reason as i32,
        action: action as i32,
        regions: None,
    })
}

/// Whether attributes fit the limit.
fn attributes_fit(attributes: &HashMap<String, String>) -> bool {
    attributes
        .iter()
        .map(|(k, v)| k.len() + v.len())
        .sum::<usize>()
        <= MAX_ATTRIBUTES
}
