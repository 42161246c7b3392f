//! The mixer thread: one tick each 20 ms over all rooms and legs.
//!
//! ```text
//! shard, SIP -- Command --> thread -- LegEvent, MixerEvent --> SIP, shard
//! phones <---- RTP -------> Station -> Line -+
//! workers <--- mesh ------> watched tracks --+-> Mixer (one per room)
//! ```
//! Owns the clock, the sockets, the rooms' mixers and the thread's place in the mesh. It never decides
//! who is in which room. A panic in one room's mix ends that mix only, one in a leg that leg only.

mod orders;
mod outlet;
mod watch;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant, SystemTime};

use palabre_media::codec::opus::Quality;
use palabre_media::ids::{LegId, TrackId, WorkerIndex};
use palabre_media::mixer::{Line, Mixer, MixerCounts, MixerParameters};
use palabre_media::rtp::rtcp::NtpTime;
use palabre_media::sfu::{Codec, MeshMessage, Packet, PacketPool};

use crate::priority::Priority;

use super::command::{Command, LegEvent, MixerEvent, RemovedReason, RoomId};
use super::mesh::Mesh;
use super::station::{Station, stream_start};
use super::stats::Counters;
use outlet::Outlet;

/// The tick.
const TICK: Duration = Duration::from_millis(20);
/// Sockets and mesh are also emptied this often between ticks, so that arrival times mean something.
const SIP: Duration = Duration::from_millis(10);
/// A thread further behind than this gives up the lost ticks: catching up would only be late again.
const GIVE_UP: Duration = Duration::from_millis(200);
/// Ticks between reports of loudness (400 ms).
const LEVEL_TICKS: u64 = 20;
/// Loudness from which a leg is reported, in -dBov: softer is line noise.
const AUDIBLE: u8 = 50;
/// Loudness from which a leg that is reported stays so. The distance is what a voice at the edge may
/// waver: more keeps noise going, less flickers.
const STILL_AUDIBLE: u8 = 55;
/// Voice packets kept for reuse.
const POOL: usize = 512;

/// How the mixer thread behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MixerConfig {
    /// A leg from which nothing came for this long is reported; SIP then ends the call.
    pub media_timeout: Duration,
    /// The same for a leg on hold, which need not send (RFC 3264 §8.4).
    pub hold_timeout: Duration,
    /// Opus settings of mixes and voices.
    pub quality: Quality,
    /// Of the mixer's thread.
    pub priority: Priority,
}

impl Default for MixerConfig {
    fn default() -> Self {
        Self {
            media_timeout: Duration::from_secs(30),
            hold_timeout: Duration::from_secs(3_600),
            quality: Quality::default(),
            priority: Priority::default(),
        }
    }
}

struct Room {
    mixer: Mixer,
    talkers: usize,
    /// All audio tracks of the room that are no legs, with what is known of them.
    tracks: BTreeMap<TrackId, bool>,
    legs: usize,
    counted: MixerCounts,
    #[cfg(test)]
    fails: bool,
}

pub(super) struct MixerThread<M> {
    config: MixerConfig,
    commands: Receiver<Command>,
    events: Box<dyn Fn(MixerEvent) + Send>,
    mesh: M,
    counters: Arc<Counters>,
    rooms: HashMap<RoomId, Room>,
    stations: HashMap<LegId, Station>,
    /// Tracks we watch: their room, and the epoch of their last packet.
    watched: HashMap<TrackId, (RoomId, Option<u16>)>,
    /// Who watches what; only our legs' tracks matter, but a watch may come before the leg has joined.
    watchers: HashMap<TrackId, HashSet<WorkerIndex>>,
    pool: PacketPool,
    digits: Vec<char>,
    levels: Vec<(TrackId, u8)>,
    /// Legs whose code has just panicked.
    broken: Vec<LegId>,
    tick: u64,
    stopping: bool,
    #[cfg(test)]
    fails: Option<Fault>,
}

/// A bug of ours, made on purpose.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Taking in what this phone sent.
    TakeIn(LegId),
    /// The tick of this phone outside of rooms.
    Alone(LegId),
    /// This phone's reports.
    LookAfter(LegId),
    /// Packets of a track.
    Track,
    /// Anything else of the tick.
    Step,
}

/// The wall clock, for sender reports.
fn ntp() -> NtpTime {
    NtpTime::from_unix(
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default(),
    )
}

impl<M: Mesh> MixerThread<M> {
    pub(super) fn new(
        config: MixerConfig,
        commands: Receiver<Command>,
        mesh: M,
        counters: Arc<Counters>,
        events: Box<dyn Fn(MixerEvent) + Send>,
    ) -> Self {
        Self {
            config,
            commands,
            events,
            mesh,
            counters,
            rooms: HashMap::new(),
            stations: HashMap::new(),
            watched: HashMap::new(),
            watchers: HashMap::new(),
            pool: PacketPool::new(POOL),
            digits: Vec::new(),
            levels: Vec::new(),
            broken: Vec::new(),
            tick: 0,
            stopping: false,
            #[cfg(test)]
            fails: None,
        }
    }

    /// Runs until told to stop, or until nobody can command it any more.
    pub(super) fn run(mut self) {
        let mut next = Instant::now() + TICK;
        while !self.stopping {
            sleep_until(next - SIP);
            self.contain(|thread| thread.take_in(Instant::now()));
            sleep_until(next);
            let late = Instant::now().saturating_duration_since(next);
            if late >= TICK {
                Counters::add(&self.counters.overruns, 1);
            }
            if late >= GIVE_UP {
                next += late;
            }
            self.contain(|thread| thread.step(next, Instant::now()));
            next += TICK;
        }
        self.contain(Self::shut_down);
    }

    /// The last net, under those of rooms and legs: what else has a bug costs a tick, not the
    /// telephones.
    fn contain(&mut self, work: impl FnOnce(&mut Self)) {
        // Unwind safety: a leg or room left half changed is found out by its own net.
        if catch_unwind(AssertUnwindSafe(|| work(self))).is_err() {
            tracing::error!("a bug in the mixer thread cost a tick");
            Counters::add(&self.counters.panics, 1);
        }
    }

    /// One tick whose nominal time is `now`; what waits in sockets counts as arrived at `arrival`.
    fn step(&mut self, now: Instant, arrival: Instant) {
        let begun = Instant::now();
        self.obey(now);
        self.take_in(arrival);
        self.tick += 1;
        #[cfg(test)]
        assert_ne!(
            self.fails.take_if(|f| *f == Fault::Step),
            Some(Fault::Step),
            "told to fail"
        );
        self.mix(now);
        self.alone(now);
        self.look_after(now);
        if self.tick.is_multiple_of(LEVEL_TICKS) {
            self.report_levels();
        }
        self.mesh.flush();
        let counters = &self.counters;
        Counters::add(&counters.ticks, 1);
        Counters::add(&counters.busy_micros, begun.elapsed().as_micros() as u64);
        set(&counters.rooms, self.rooms.len());
        set(&counters.legs, self.stations.len());
        counters.heartbeat.beat();
    }

    /// Empties sockets and mesh.
    fn take_in(&mut self, now: Instant) {
        while let Some(message) = self.mesh.receive() {
            match message {
                MeshMessage::Packet(packet) => {
                    let track = packet.descriptor.track;
                    let taken = catch_unwind(AssertUnwindSafe(|| self.track_packet(&packet)));
                    let room = self.watched.get(&track).map(|(room, _)| *room);
                    if let (Err(_), Some(room)) = (taken, room) {
                        self.fail(room);
                    }
                }
                MeshMessage::Watch { track, from } => {
                    self.watchers.entry(track).or_default().insert(from);
                    self.refresh_watched(track);
                }
                MeshMessage::Unwatch { track, from } => {
                    if let Some(watchers) = self.watchers.get_mut(&track) {
                        watchers.remove(&from);
                        if watchers.is_empty() {
                            self.watchers.remove(&track);
                        }
                    }
                    self.refresh_watched(track);
                }
                // Sound has no key frames, and no session is ours.
                MeshMessage::KeyFrame { .. } | MeshMessage::Datagram { .. } => {}
            }
        }
        let ntp = ntp();
        for station in self.stations.values_mut() {
            let mut taken = station.line.take();
            let line = match (&mut taken, station.place) {
                (Some(line), _) => Some(line),
                (None, Some(place)) => self
                    .rooms
                    .get_mut(&place.room)
                    .and_then(|room| room.mixer.line_mut(station.id)),
                (None, None) => None,
            };
            if let Some(line) = line {
                // A leg that panics is dropped with its line, so that its state is never seen.
                let drained = catch_unwind(AssertUnwindSafe(|| {
                    #[cfg(test)]
                    assert_ne!(self.fails, Some(Fault::TakeIn(station.id)), "told to fail");
                    station.drain(now, ntp, line, &self.counters, &mut self.digits);
                }));
                if drained.is_err() {
                    self.broken.push(station.id);
                }
            }
            station.line = taken;
            for key in self.digits.drain(..) {
                station.tell(LegEvent::Digit(key), &self.counters);
            }
        }
        self.drop_broken();
    }

    /// Drops the legs that have just panicked. The end of its events tells the owner, whose call
    /// ends; the shard gives up its seat.
    fn drop_broken(&mut self) {
        for id in std::mem::take(&mut self.broken) {
            tracing::error!(leg = id.0, "a bug cost a telephone leg");
            Counters::add(&self.counters.failed_legs, 1);
            let place = self.stations.get(&id).and_then(|station| station.place);
            let taken_out = catch_unwind(AssertUnwindSafe(|| self.take_out(id)));
            // Dropped without a report: its line may be half changed.
            self.stations.remove(&id);
            if let (Err(_), Some(place)) = (taken_out, place) {
                self.fail(place.room);
            }
            (self.events)(MixerEvent::LegFailed(id));
        }
    }

    fn track_packet(&mut self, packet: &Packet) {
        let d = &packet.descriptor;
        let Some((room, epoch)) = self.watched.get_mut(&d.track) else {
            return;
        };
        let Some(room) = self.rooms.get_mut(room) else {
            return;
        };
        if d.codec != Codec::Opus {
            return;
        }
        if epoch.replace(d.epoch).is_some_and(|last| last != d.epoch) {
            room.mixer.restart_track(d.track);
        }
        Counters::add(&self.counters.track_packets, 1);
        #[cfg(test)]
        assert_ne!(self.fails, Some(Fault::Track), "told to fail");
        let level = d.audio_level.map(|l| l.level);
        let payload = packet.payload();
        room.mixer
            .track_packet(d.arrival, d.track, d.sequence, d.timestamp, level, payload);
    }

    fn mix(&mut self, now: Instant) {
        let mut failed = Vec::new();
        for (&id, room) in &mut self.rooms {
            if room.legs == 0 {
                continue;
            }
            let mut outlet = Outlet {
                stations: &mut self.stations,
                watchers: &self.watchers,
                mesh: &mut self.mesh,
                pool: &mut self.pool,
                counters: &self.counters,
                now,
            };
            // The mixer is dropped when it panics, so that its broken state is never seen.
            let result = catch_unwind(AssertUnwindSafe(|| {
                #[cfg(test)]
                assert!(!room.fails, "told to fail");
                room.mixer.tick(now, &mut outlet);
            }));
            if result.is_err() {
                failed.push(id);
                continue;
            }
            let counts = room.mixer.counts();
            let before = std::mem::replace(&mut room.counted, counts);
            Counters::add(
                &self.counters.decoded_frames,
                counts.decoded - before.decoded,
            );
            Counters::add(
                &self.counters.own_mixes,
                counts.own_mixes - before.own_mixes,
            );
        }
        for id in failed {
            self.fail(id);
        }
    }

    /// Puts the legs of a room whose mix panicked back to prompts, under new streams.
    fn fail(&mut self, id: RoomId) {
        tracing::error!(
            room = id.0,
            "the mix of a room failed; its telephone legs leave it"
        );
        Counters::add(&self.counters.failed_rooms, 1);
        for station in self.stations.values_mut() {
            if station.place.is_some_and(|place| place.room == id) {
                station.place = None;
                station.line = Some(Line::new(
                    station.parameters,
                    self.config.quality,
                    stream_start(),
                ));
                station.tell(LegEvent::Removed(RemovedReason::MixFailed), &self.counters);
            }
        }
        self.stop_watching(id);
        if let Some(room) = self.rooms.get_mut(&id) {
            let mut mixer = Mixer::new(parameters(room.talkers, self.config.quality));
            for (&track, &muted) in &room.tracks {
                mixer.add_track(track);
                mixer.set_track_muted(track, muted);
            }
            room.mixer = mixer;
            room.legs = 0;
            room.counted = MixerCounts::default();
        }
        (self.events)(MixerEvent::RoomFailed(id));
    }

    fn alone(&mut self, now: Instant) {
        let lone: Vec<LegId> = self
            .stations
            .values()
            .filter(|station| station.line.is_some())
            .map(|station| station.id)
            .collect();
        for id in lone {
            let Some(mut line) = self.stations.get_mut(&id).and_then(|s| s.line.take()) else {
                continue;
            };
            let mut outlet = Outlet {
                stations: &mut self.stations,
                watchers: &self.watchers,
                mesh: &mut self.mesh,
                pool: &mut self.pool,
                counters: &self.counters,
                now,
            };
            // Its line is gone when it panics, and the leg goes after it.
            let ticked = catch_unwind(AssertUnwindSafe(|| {
                #[cfg(test)]
                assert_ne!(self.fails, Some(Fault::Alone(id)), "told to fail");
                line.tick_alone(id, now, &mut outlet);
            }));
            if ticked.is_err() {
                self.broken.push(id);
            } else if let Some(station) = self.stations.get_mut(&id) {
                station.line = Some(line);
            }
        }
        self.drop_broken();
    }

    /// Media timeouts and RTCP.
    fn look_after(&mut self, now: Instant) {
        let ntp = ntp();
        for station in self.stations.values_mut() {
            let MixerConfig {
                media_timeout,
                hold_timeout,
                ..
            } = self.config;
            if station.timed_out(now, media_timeout, hold_timeout) {
                station.tell(LegEvent::MediaTimeout, &self.counters);
            }
            let taken = station.line.take();
            let line = match (&taken, station.place) {
                (Some(line), _) => Some(line),
                (None, Some(place)) => self
                    .rooms
                    .get_mut(&place.room)
                    .and_then(|room| room.mixer.line_mut(station.id))
                    .map(|line| &*line),
                (None, None) => None,
            };
            if let Some(line) = line {
                let reported = catch_unwind(AssertUnwindSafe(|| {
                    #[cfg(test)]
                    assert_ne!(
                        self.fails,
                        Some(Fault::LookAfter(station.id)),
                        "told to fail"
                    );
                    station.report(now, ntp, line, false);
                }));
                if reported.is_err() {
                    self.broken.push(station.id);
                }
            }
            station.line = taken;
        }
        self.drop_broken();
    }

    fn report_levels(&mut self) {
        self.levels.clear();
        for station in self.stations.values_mut() {
            let Some(place) = station.place else { continue };
            let Some(line) = self
                .rooms
                .get_mut(&place.room)
                .and_then(|room| room.mixer.line_mut(station.id))
            else {
                continue;
            };
            let loudest = line.take_loudest();
            let threshold = if station.audible {
                STILL_AUDIBLE
            } else {
                AUDIBLE
            };
            let audible = loudest < threshold;
            if audible || station.audible {
                self.levels
                    .push((place.track, if audible { loudest } else { 127 }));
            }
            station.audible = audible;
        }
        if !self.levels.is_empty() {
            (self.events)(MixerEvent::Levels(self.levels.clone()));
        }
    }

    fn shut_down(&mut self) {
        let now = Instant::now();
        let legs: Vec<LegId> = self.stations.keys().copied().collect();
        for leg in legs {
            self.leave(leg, RemovedReason::Shutdown);
            self.apply(now, Command::CloseLeg { leg });
        }
        self.mesh.flush();
    }

    #[cfg(test)]
    pub(super) fn break_room(&mut self, room: RoomId) {
        self.rooms.get_mut(&room).expect("an open room").fails = true;
    }

    #[cfg(test)]
    pub(super) fn break_with(&mut self, fault: Option<Fault>) {
        self.fails = fault;
    }

    #[cfg(test)]
    pub(super) fn step_for_test(&mut self, now: Instant) {
        self.contain(|thread| thread.step(now, now));
    }
}

fn parameters(talkers: usize, quality: Quality) -> MixerParameters {
    MixerParameters { talkers, quality }
}

fn set(gauge: &std::sync::atomic::AtomicU64, value: usize) {
    gauge.store(value as u64, std::sync::atomic::Ordering::Relaxed);
}

fn sleep_until(at: Instant) {
    let left = at.saturating_duration_since(Instant::now());
    if !left.is_zero() {
        std::thread::sleep(left);
    }
}
