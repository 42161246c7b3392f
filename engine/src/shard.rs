//! One thread's rooms: takes inputs one at a time, never blocks on a client.
//!
//! Sans-IO but for the clients' queues, which are filled and never waited for. A panic in a
//! room's code costs that room only.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use palabre_media::ids::{LegId, TrackId};
use palabre_media::sfu::Event;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::config::EngineConfig;
use crate::error::{JoinError, RoomError};
use crate::handle::{JoinRequest, SignalOutput};
use crate::leg::LegIdentity;
use crate::legs::{self, MixerEvent, RoomId};
use crate::metrics::Counts;
use crate::proto::leave_request::Action;
use crate::proto::{self, DisconnectReason};
use crate::room::{Cx, Host, Ids, LegPlane, MediaPlane, Random, Room, Routes, Seat};

/// How often timers run. They are in seconds: a lower value wakes an idle box more often.
const TICK: Duration = Duration::from_secs(1);

/// Places kept in each client's queue for the words that close it.
const LAST_WORDS: usize = 2;

/// A [`Cx`] on the parts of a shard that are not rooms.
macro_rules! cx {
    ($shard:expr, $clock:expr) => {
        Cx {
            now: $clock.now,
            wall: $clock.wall,
            config: &$shard.config,
            host: &$shard.planes.host,
            counts: &$shard.planes.counts,
            media: &mut *$shard.planes.media,
            legs: &mut *$shard.planes.legs,
            random: &mut *$shard.planes.random,
            ids: &mut $shard.ids,
            routes: &mut $shard.routes,
            out: &mut $shard.out,
        }
    };
}

/// One signal connection (one WebSocket) of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionId(pub(crate) u64);

pub(crate) type Reply<T> = oneshot::Sender<Result<T, RoomError>>;

/// What a shard is told.
#[derive(Debug)]
pub(crate) enum Input {
    Join {
        connection: ConnectionId,
        request: Box<JoinRequest>,
        responses: mpsc::Sender<SignalOutput>,
        reply: oneshot::Sender<Result<(), JoinError>>,
    },
    Signal {
        connection: ConnectionId,
        request: Box<proto::SignalRequest>,
        /// Held until the request is processed, so that a client cannot queue more.
        permit: Option<OwnedSemaphorePermit>,
    },
    SignalClosed(ConnectionId),
    Ask(Ask),
    JoinLeg {
        leg: LegId,
        room: String,
        identity: LegIdentity,
        reply: oneshot::Sender<Result<(), JoinError>>,
    },
    /// The caller muted or unmuted itself by key: the same as a participant muting its own track.
    MuteLeg {
        leg: LegId,
        muted: bool,
    },
    LegClosed(LegId),
    Media(Event),
    Mixer(MixerEvent),
    /// A bug of ours that is no room's.
    #[cfg(test)]
    Panic,
    Shutdown(oneshot::Sender<()>),
}

/// Room operations of the server API.
#[derive(Debug)]
pub(crate) enum Ask {
    CreateRoom(Box<proto::CreateRoomRequest>, Reply<proto::Room>),
    ListRooms(Vec<String>, oneshot::Sender<Vec<proto::Room>>),
    DeleteRoom(String, Reply<()>),
    ListParticipants(String, Reply<Vec<proto::ParticipantInfo>>),
    Participant {
        room: String,
        identity: String,
        reply: Reply<proto::ParticipantInfo>,
    },
    RemoveParticipant {
        room: String,
        identity: String,
        reply: Reply<()>,
    },
    MuteTrack {
        room: String,
        identity: String,
        track: String,
        muted: bool,
        reply: Reply<proto::TrackInfo>,
    },
    UpdateParticipant(
        Box<proto::UpdateParticipantRequest>,
        Reply<proto::ParticipantInfo>,
    ),
    UpdateRoomMetadata {
        room: String,
        metadata: String,
        reply: Reply<proto::Room>,
    },
    SendData(Box<proto::SendDataRequest>, Reply<()>),
}

/// The time, as the shell reads it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(crate) now: Instant,
    /// Milliseconds since 1970.
    pub(crate) wall: i64,
}

/// What a shard works with.
pub(crate) struct Planes {
    pub(crate) media: Box<dyn MediaPlane + Send>,
    pub(crate) legs: Box<dyn LegPlane + Send>,
    pub(crate) random: Box<dyn Random + Send>,
    pub(crate) host: Host,
    pub(crate) counts: Arc<Counts>,
}

/// The rooms of one thread.
pub(crate) struct Shard {
    config: EngineConfig,
    planes: Planes,
    rooms: HashMap<RoomId, Room>,
    names: HashMap<String, RoomId>,
    ids: Ids,
    routes: Routes,
    queues: HashMap<ConnectionId, mpsc::Sender<SignalOutput>>,
    out: Vec<(ConnectionId, SignalOutput)>,
    next_tick: Instant,
    /// This shard's part of the gauges.
    parts: [u64; 5],
    stopped: bool,
}

impl Shard {
    pub(crate) fn new(index: u8, config: EngineConfig, planes: Planes, now: Instant) -> Self {
        Self {
            config,
            planes,
            rooms: HashMap::new(),
            names: HashMap::new(),
            ids: Ids::new(index),
            routes: Routes::default(),
            queues: HashMap::new(),
            out: Vec::new(),
            next_tick: now + TICK,
            parts: [0; 5],
            stopped: false,
        }
    }

    /// When [`Self::tick`] is next due.
    pub(crate) fn deadline(&self) -> Instant {
        self.next_tick
    }

    /// Whether the shard was shut down.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Handles one input and fills the clients' queues.
    pub(crate) fn handle(&mut self, clock: Clock, input: Input) {
        match input {
            Input::Join {
                connection,
                request,
                responses,
                reply,
            } => {
                self.queues.insert(connection, responses);
                let joined = self.join(clock, connection, *request);
                if joined.is_err() {
                    self.queues.remove(&connection);
                }
                self.count_join(joined.is_ok());
                // The asker may have gone; its sender's drop tells us.
                let _ = reply.send(joined);
            }
            Input::Signal {
                connection,
                request,
                permit,
            } => {
                self.planes.counts.signal_requests_total.add(1);
                if let Some(seat) = self.routes.connections.get(&connection).copied() {
                    self.with_room(clock, seat.room, |room, cx| {
                        room.signal(seat.participant, *request, cx);
                    });
                }
                drop(permit);
            }
            Input::SignalClosed(connection) => {
                self.queues.remove(&connection);
                self.signal_closed(clock, connection);
            }
            Input::Ask(ask) => self.ask(clock, ask),
            Input::JoinLeg {
                leg,
                room,
                identity,
                reply,
            } => {
                let joined = self.join_leg(clock, leg, &room, identity);
                self.count_join(joined.is_ok());
                let failed = reply.send(joined).is_err();
                // The caller hung up while joining; closing the leg follows, but be sure.
                if failed {
                    self.leg_closed(clock, leg);
                }
            }
            Input::MuteLeg { leg, muted } => {
                self.with_seat(
                    clock,
                    self.routes.legs.get(&leg).copied(),
                    |room, seat, cx| {
                        room.mute_leg(seat.participant, muted, cx);
                    },
                );
            }
            Input::LegClosed(leg) => self.leg_closed(clock, leg),
            Input::Media(event) => self.media(clock, event),
            Input::Mixer(event) => self.mixer(clock, event),
            #[cfg(test)]
            Input::Panic => panic!("a bug, on purpose"),
            Input::Shutdown(done) => {
                self.shut_down(clock);
                self.flush(clock);
                // Nobody may be waiting.
                let _ = done.send(());
            }
        }
        self.flush(clock);
    }

    /// Runs timers.
    pub(crate) fn tick(&mut self, clock: Clock) {
        self.next_tick = clock.now + TICK;
        for room in self.rooms.keys().copied().collect::<Vec<_>>() {
            self.with_room(clock, room, Room::tick);
            if self.rooms.get(&room).is_some_and(|r| r.is_over(clock.now)) {
                self.close_room(clock, room, DisconnectReason::RoomClosed);
            }
        }
        self.flush(clock);
        let participants = self.rooms.values().map(Room::len).sum::<usize>();
        let counts = &self.planes.counts;
        let subscriptions = self.rooms.values().map(Room::subscriptions).sum::<usize>();
        let [rooms, people, tracks, legs, sent] = &mut self.parts;
        counts.rooms.replace(rooms, self.rooms.len() as u64);
        counts.participants.replace(people, participants as u64);
        counts
            .tracks
            .replace(tracks, self.routes.tracks.len() as u64);
        counts.subscriptions.replace(sent, subscriptions as u64);
        counts.legs.replace(legs, self.routes.legs.len() as u64);
    }

    /// A bug in a room's code, for the test of its containment.
    #[cfg(test)]
    pub(crate) fn panic_in(&mut self, clock: Clock, name: &str) {
        let room = self.names[name];
        self.with_room(clock, room, |_, _| panic!("a bug, on purpose"));
        self.flush(clock);
    }

    /// Sessions of a connection's participant, for scripted clients.
    #[cfg(test)]
    pub(crate) fn session_of(
        &self,
        connection: ConnectionId,
        subscriber: bool,
    ) -> Option<palabre_media::ids::SessionId> {
        let seat = self.routes.connections.get(&connection)?;
        self.rooms[&seat.room].session_of(seat.participant, subscriber)
    }

    fn count_join(&self, joined: bool) {
        if joined {
            self.planes.counts.joins_total.add(1);
        } else {
            self.planes.counts.joins_refused_total.add(1);
        }
    }

    fn join(
        &mut self,
        clock: Clock,
        connection: ConnectionId,
        request: JoinRequest,
    ) -> Result<(), JoinError> {
        if self.stopped {
            return Err(JoinError::Stopping);
        }
        let grants = &request.grants;
        if !grants.room_join || (!grants.room.is_empty() && grants.room != request.room) {
            return Err(JoinError::NotAllowed);
        }
        crate::room::check(&request.room, grants)?;
        if request.reconnect.is_some() && !self.names.contains_key(&request.room) {
            return Err(JoinError::NothingToResume);
        }
        let options = grants.room_config.as_deref().map(options);
        let create = self.config.rooms.auto_create || grants.room_create;
        let room = self.room_to_join(clock, &request.room, options, create)?;
        self.with_room(clock, room, |room, cx| room.join(connection, request, cx))
            .unwrap_or(Err(JoinError::RoomFailed))
    }

    fn join_leg(
        &mut self,
        clock: Clock,
        leg: LegId,
        name: &str,
        identity: LegIdentity,
    ) -> Result<(), JoinError> {
        if self.stopped {
            return Err(JoinError::Stopping);
        }
        let create = self.config.rooms.auto_create;
        let room = self.room_to_join(clock, name, None, create)?;
        self.with_room(clock, room, |room, cx| room.join_leg(leg, identity, cx))
            .unwrap_or(Err(JoinError::RoomFailed))
    }

    /// The open room of this name, or a new one where joining may open it.
    fn room_to_join(
        &mut self,
        clock: Clock,
        name: &str,
        options: Option<proto::CreateRoomRequest>,
        create: bool,
    ) -> Result<RoomId, JoinError> {
        if let Some(room) = self.names.get(name) {
            return Ok(*room);
        }
        if !create {
            return Err(JoinError::RoomUnknown);
        }
        let limit = self.config.rooms.max_open;
        self.open_room(clock, name, &options.unwrap_or_default())
            .ok_or(JoinError::TooManyRooms { limit })
    }

    /// Opens a room; `None` when there are too many.
    fn open_room(
        &mut self,
        clock: Clock,
        name: &str,
        options: &proto::CreateRoomRequest,
    ) -> Option<RoomId> {
        if self.rooms.len() >= self.config.rooms.max_open as usize {
            return None;
        }
        let room = Room::new(name, options, &mut cx!(self, clock));
        let number = room.number;
        self.names.insert(name.to_owned(), number);
        self.rooms.insert(number, room);
        Some(number)
    }

    fn close_room(&mut self, clock: Clock, number: RoomId, reason: DisconnectReason) {
        let action = match reason {
            DisconnectReason::ServerShutdown => Action::Reconnect,
            _ => Action::Disconnect,
        };
        self.with_room(clock, number, |room, cx| room.close(reason, action, cx));
        if let Some(room) = self.rooms.remove(&number) {
            self.names.remove(&room.name);
        }
    }

    fn shut_down(&mut self, clock: Clock) {
        self.stopped = true;
        for room in self.rooms.keys().copied().collect::<Vec<_>>() {
            self.close_room(clock, room, DisconnectReason::ServerShutdown);
        }
    }

    fn signal_closed(&mut self, clock: Clock, connection: ConnectionId) {
        if let Some(seat) = self.routes.connections.get(&connection).copied() {
            self.with_room(clock, seat.room, |room, cx| {
                room.signal_closed(seat.participant, cx);
            });
        }
    }

    fn leg_closed(&mut self, clock: Clock, leg: LegId) {
        if let Some(seat) = self.routes.legs.get(&leg).copied() {
            self.with_room(clock, seat.room, |room, cx| {
                room.leg_closed(seat.participant, cx);
            });
        }
    }

    fn ask(&mut self, clock: Clock, ask: Ask) {
        match ask {
            Ask::CreateRoom(request, reply) => {
                let _ = reply.send(self.create_room(clock, &request));
            }
            Ask::ListRooms(names, reply) => {
                let mut rooms: Vec<proto::Room> = self
                    .rooms
                    .values()
                    .filter(|room| names.is_empty() || names.contains(&room.name))
                    .map(Room::info)
                    .collect();
                rooms.sort_by(|a, b| {
                    (a.creation_time_ms, &a.name).cmp(&(b.creation_time_ms, &b.name))
                });
                let _ = reply.send(rooms);
            }
            Ask::DeleteRoom(name, reply) => {
                let deleted = self.numbered(&name).map(|room| {
                    self.close_room(clock, room, DisconnectReason::RoomDeleted);
                });
                let _ = reply.send(deleted);
            }
            Ask::ListParticipants(room, reply) => {
                self.ask_room(clock, &room, reply, |room, _| Ok(room.everybody()));
            }
            Ask::Participant {
                room,
                identity,
                reply,
            } => self.ask_room(clock, &room, reply, |room, _| {
                room.participant_info(&identity)
            }),
            Ask::RemoveParticipant {
                room,
                identity,
                reply,
            } => self.ask_room(clock, &room, reply, |room, cx| room.expel(&identity, cx)),
            Ask::MuteTrack {
                room,
                identity,
                track,
                muted,
                reply,
            } => self.ask_room(clock, &room, reply, |room, cx| {
                room.mute_from_afar(&identity, &track, muted, cx)
            }),
            Ask::UpdateParticipant(request, reply) => {
                let name = request.room.clone();
                self.ask_room(clock, &name, reply, |room, cx| {
                    room.update_participant(*request, cx)
                });
            }
            Ask::UpdateRoomMetadata {
                room,
                metadata,
                reply,
            } => self.ask_room(clock, &room, reply, |room, cx| {
                room.set_metadata(metadata, cx)
            }),
            Ask::SendData(request, reply) => {
                let name = request.room.clone();
                self.ask_room(clock, &name, reply, |room, cx| {
                    room.send_data(&request, cx);
                    Ok(())
                });
            }
        }
    }

    fn create_room(
        &mut self,
        clock: Clock,
        request: &proto::CreateRoomRequest,
    ) -> Result<proto::Room, RoomError> {
        if self.stopped {
            return Err(RoomError::Stopping);
        }
        crate::room::check_room(&request.name, &request.metadata)?;
        let limit = self.config.rooms.max_open;
        let number = match self.names.get(&request.name) {
            Some(number) => *number,
            None => self
                .open_room(clock, &request.name, request)
                .ok_or(RoomError::TooManyRooms { limit })?,
        };
        Ok(self.rooms[&number].info())
    }

    fn ask_room<T>(
        &mut self,
        clock: Clock,
        name: &str,
        reply: Reply<T>,
        answer: impl FnOnce(&mut Room, &mut Cx<'_>) -> Result<T, RoomError>,
    ) {
        let answer = self.numbered(name).and_then(|room| {
            self.with_room(clock, room, answer)
                .unwrap_or(Err(RoomError::RoomUnknown))
        });
        // The asker may have gone.
        let _ = reply.send(answer);
    }

    fn numbered(&self, name: &str) -> Result<RoomId, RoomError> {
        self.names.get(name).copied().ok_or(RoomError::RoomUnknown)
    }

    fn media(&mut self, clock: Clock, event: Event) {
        match event {
            Event::Connected { session, .. } => {
                self.with_seat(
                    clock,
                    self.routes.sessions.get(&session).copied(),
                    |room, seat, cx| {
                        room.connected(seat.participant, session, cx);
                    },
                );
            }
            Event::Disconnected { session, reason } => {
                self.with_seat(
                    clock,
                    self.routes.sessions.get(&session).copied(),
                    |room, seat, cx| {
                        room.disconnected(seat.participant, session, reason, cx);
                    },
                );
            }
            Event::Data {
                session,
                channel,
                payload,
            } => {
                self.with_seat(
                    clock,
                    self.routes.sessions.get(&session).copied(),
                    |room, seat, cx| {
                        room.data(seat.participant, channel, &payload, cx);
                    },
                );
            }
            Event::TrackActive { track, codec, .. } => {
                self.with_seat(
                    clock,
                    self.routes.tracks.get(&track).copied(),
                    |room, seat, cx| {
                        room.track_active(seat.participant, track, codec, cx);
                    },
                );
            }
            Event::Levels(levels) => {
                let levels = levels
                    .into_iter()
                    .map(|(track, level)| (track, level.linear()));
                self.levels(clock, levels);
            }
            Event::Quality(quality) => {
                let seat = self.routes.sessions.get(&quality.session).copied();
                self.with_seat(clock, seat, |room, seat, _| {
                    room.quality(seat.participant, &quality);
                });
            }
            Event::Adopted { .. } | Event::DataOpen { .. } | Event::TrackStalled { .. } => {}
        }
    }

    fn mixer(&mut self, clock: Clock, event: MixerEvent) {
        match event {
            MixerEvent::Levels(levels) => {
                let heard: Vec<(TrackId, f32)> = levels
                    .into_iter()
                    .map(|(track, level)| (track, palabre_media::sfu::Level(level).linear()))
                    .collect();
                // Also where nothing is heard: that is how silence is told.
                let mixed = self.rooms.values().filter(|room| room.is_mixed());
                for room in mixed.map(|room| room.number).collect::<Vec<_>>() {
                    self.with_room(clock, room, |room, cx| room.leg_levels(&heard, cx));
                }
            }
            MixerEvent::RoomFailed(room) => {
                self.with_room(clock, room, Room::mix_failed);
            }
            MixerEvent::LegFailed(leg) => self.leg_closed(clock, leg),
        }
    }

    fn levels(&mut self, clock: Clock, levels: impl Iterator<Item = (TrackId, f32)>) {
        let mut by_room: HashMap<RoomId, Vec<(TrackId, f32)>> = HashMap::new();
        for (track, level) in levels {
            if let Some(seat) = self.routes.tracks.get(&track) {
                by_room.entry(seat.room).or_default().push((track, level));
            }
        }
        for (room, levels) in by_room {
            self.with_room(clock, room, |room, cx| room.levels(&levels, cx));
        }
    }

    fn with_seat(
        &mut self,
        clock: Clock,
        seat: Option<Seat>,
        work: impl FnOnce(&mut Room, Seat, &mut Cx<'_>),
    ) {
        if let Some(seat) = seat {
            self.with_room(clock, seat.room, |room, cx| work(room, seat, cx));
        }
    }

    /// Lets a room work. If it panics the room is lost, and nothing else.
    fn with_room<T>(
        &mut self,
        clock: Clock,
        number: RoomId,
        work: impl FnOnce(&mut Room, &mut Cx<'_>) -> T,
    ) -> Option<T> {
        let room = self.rooms.get_mut(&number)?;
        let mut cx = cx!(self, clock);
        // Unwind safety: after a panic the room is dropped unread; routes, ids and outputs are
        // plain collections whose every state is valid.
        match catch_unwind(AssertUnwindSafe(|| work(room, &mut cx))) {
            Ok(result) => Some(result),
            Err(_) => {
                self.lose_room(number);
                None
            }
        }
    }

    /// Clears away a room that panicked; its clients are told to join again.
    fn lose_room(&mut self, number: RoomId) {
        self.planes.counts.room_panics_total.add(1);
        if let Some(room) = self.rooms.remove(&number) {
            self.names.remove(&room.name);
        }
        let is_in = |seat: &Seat| seat.room == number;
        for (connection, _) in self.routes.connections.extract_if(|_, seat| is_in(seat)) {
            let leave = crate::room::leave(DisconnectReason::StateMismatch, Action::Reconnect);
            let response = proto::SignalResponse {
                message: Some(leave),
            };
            self.out
                .push((connection, SignalOutput::Response(response)));
            self.out.push((connection, SignalOutput::Close));
        }
        for (session, _) in self.routes.sessions.extract_if(|_, seat| is_in(seat)) {
            self.planes.media.close(session);
        }
        self.routes.tracks.retain(|_, seat| !is_in(seat));
        let mut had_legs = false;
        for (leg, _) in self.routes.legs.extract_if(|_, seat| is_in(seat)) {
            had_legs = true;
            self.planes.legs.send(legs::Command::LeaveRoom {
                leg,
                reason: legs::RemovedReason::MixFailed,
            });
        }
        if had_legs {
            self.planes
                .legs
                .send(legs::Command::CloseRoom { room: number });
        }
    }

    /// Fills the clients' queues; one that does not read is let go with the last places.
    fn flush(&mut self, clock: Clock) {
        while !self.out.is_empty() {
            let mut slow = Vec::new();
            for (connection, output) in std::mem::take(&mut self.out) {
                let Some(queue) = self.queues.get(&connection) else {
                    continue;
                };
                let closes = output == SignalOutput::Close;
                if queue.capacity() <= LAST_WORDS && !closes {
                    self.planes.counts.signal_slow_consumers_total.add(1);
                    let leave =
                        crate::room::leave(DisconnectReason::SignalClose, Action::Reconnect);
                    let response = proto::SignalResponse {
                        message: Some(leave),
                    };
                    // Room was kept for these two; a closed queue needs neither.
                    let _ = queue.try_send(SignalOutput::Response(response));
                    let _ = queue.try_send(SignalOutput::Close);
                    self.queues.remove(&connection);
                    slow.push(connection);
                    continue;
                }
                self.planes.counts.signal_responses_total.add(1);
                // A closed queue: its sender's drop has told or will tell us.
                let _ = queue.try_send(output);
                if closes {
                    self.queues.remove(&connection);
                }
            }
            for connection in slow {
                self.signal_closed(clock, connection);
            }
        }
    }
}

/// How a room is to be made, as a token says it.
fn options(config: &proto::RoomConfiguration) -> proto::CreateRoomRequest {
    proto::CreateRoomRequest {
        empty_timeout: config.empty_timeout,
        departure_timeout: config.departure_timeout,
        max_participants: config.max_participants,
        metadata: config.metadata.clone(),
        ..Default::default()
    }
}
