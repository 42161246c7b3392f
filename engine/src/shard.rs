//! One thread's rooms: takes inputs one at a time, never blocks on a client.
//!
//! Sans-IO but for the clients' queues, which are filled and never waited for. A panic in a
//! room's code costs that room only.

mod ask;
mod input;
mod join;
mod news;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use palabre_media::ids::LegId;
use palabre_media::jsep::Candidate;
use tokio::sync::mpsc;

use crate::config::EngineConfig;
use crate::handle::SignalOutput;
use crate::legs::{self, RoomId};
use crate::metrics::Counts;
use crate::proto::leave_request::Action;
use crate::proto::{self, DisconnectReason};
use crate::room::{Cx, Host, Ids, LegPlane, MediaPlane, Random, Room, Routes, Seat};

pub(crate) use ask::Ask;
#[cfg(test)]
pub(crate) use ask::Reply;
pub(crate) use input::{ConnectionId, Input};

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

    /// Tells of these addresses in descriptions from now on.
    pub(crate) fn announce(&mut self, candidates: Vec<Candidate>) {
        self.planes.host.candidates = candidates;
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
            Input::CheckJoin { request, reply } => {
                // The asker may have gone.
                let _ = reply.send(self.check_join(*request));
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
