//! Commands carried out: rooms and legs opened and closed, legs seated and taken out.

use std::collections::BTreeMap;
use std::sync::mpsc::TryRecvError;
use std::time::Instant;

use palabre_media::ids::{LegId, TrackId};
use palabre_media::mixer::{Line, Mixer, MixerCounts};

use super::super::command::{Command, LegEvent, RemovedReason, RoomId};
use super::super::mesh::Mesh;
use super::super::station::{Place, Station};
use super::super::stats::Counters;
use super::{MixerThread, Room, ntp, parameters};

impl<M: Mesh> MixerThread<M> {
    pub(super) fn obey(&mut self, now: Instant) {
        loop {
            match self.commands.try_recv() {
                Ok(command) => {
                    if self.apply(now, command).is_none() {
                        Counters::add(&self.counters.commands_lost, 1);
                    }
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.stopping = true;
                    break;
                }
            }
        }
    }

    /// `None` when the command names something unknown.
    pub(super) fn apply(&mut self, now: Instant, command: Command) -> Option<()> {
        match command {
            Command::OpenRoom { room, talkers } => {
                self.rooms.entry(room).or_insert_with(|| Room {
                    mixer: Mixer::new(parameters(talkers, self.config.quality)),
                    talkers,
                    tracks: BTreeMap::new(),
                    legs: 0,
                    counted: MixerCounts::default(),
                    #[cfg(test)]
                    fails: false,
                });
            }
            Command::CloseRoom { room } => {
                for leg in self.legs_of(room) {
                    self.leave(leg, RemovedReason::RoomClosed);
                }
                self.stop_watching(room);
                self.rooms.remove(&room)?;
            }
            Command::AddTrack { room, track } => {
                let entry = self.rooms.get_mut(&room)?;
                entry.tracks.insert(track, false);
                entry.mixer.add_track(track);
                if entry.legs > 0 {
                    self.watch(room, track);
                }
            }
            Command::RemoveTrack { room, track } => {
                let entry = self.rooms.get_mut(&room)?;
                entry.mixer.remove_track(track);
                entry.tracks.remove(&track)?;
                self.unwatch(track);
            }
            Command::SetTrackMuted { room, track, muted } => {
                let room = self.rooms.get_mut(&room)?;
                *room.tracks.get_mut(&track)? = muted;
                room.mixer.set_track_muted(track, muted);
            }
            Command::OpenLeg {
                leg,
                parameters,
                events,
            } => {
                let station = Station::new(leg, now, *parameters, events, self.config.quality);
                self.stations.insert(leg, station);
            }
            Command::JoinRoom { leg, room, track } => self.join(leg, room, track)?,
            Command::LeaveRoom { leg, reason } => self.leave(leg, reason)?,
            Command::SetLegMuted { leg, muted } => {
                let station = self.stations.get_mut(&leg)?;
                if std::mem::replace(&mut station.muted, muted) != muted {
                    station.tell(LegEvent::Muted(muted), &self.counters);
                }
                self.line(leg)?.set_muted(muted);
            }
            Command::Play { leg, prompt } => self.line(leg)?.play(prompt),
            Command::StopPlaying { leg } => self.line(leg)?.stop_playing(),
            Command::UpdateLeg { leg, update } => {
                let station = self.stations.get_mut(&leg)?;
                let mut taken = station.line.take();
                let line = match (&mut taken, station.place) {
                    (Some(line), _) => Some(line),
                    (None, Some(place)) => self.rooms.get_mut(&place.room)?.mixer.line_mut(leg),
                    (None, None) => None,
                };
                station.update(now, update, line);
                station.line = taken;
            }
            Command::CloseLeg { leg } => {
                self.take_out(leg);
                let mut station = self.stations.remove(&leg)?;
                if let Some(line) = station.line.take() {
                    station.report(now, ntp(), &line, true);
                }
            }
            Command::Stop => self.stopping = true,
        }
        Some(())
    }

    fn line(&mut self, leg: LegId) -> Option<&mut Line> {
        let station = self.stations.get_mut(&leg)?;
        match station.place {
            Some(place) => self.rooms.get_mut(&place.room)?.mixer.line_mut(leg),
            None => station.line.as_mut(),
        }
    }

    fn legs_of(&self, room: RoomId) -> Vec<LegId> {
        self.stations
            .values()
            .filter(|station| station.place.is_some_and(|place| place.room == room))
            .map(|station| station.id)
            .collect()
    }

    fn join(&mut self, leg: LegId, room: RoomId, track: TrackId) -> Option<()> {
        self.take_out(leg);
        let entry = self.rooms.get_mut(&room)?;
        let station = self.stations.get_mut(&leg)?;
        let mut line = station.line.take()?;
        line.set_muted(station.muted);
        station.place = Some(Place { room, track });
        entry.mixer.add_leg(leg, line);
        entry
            .mixer
            .set_watched(leg, self.watchers.contains_key(&track));
        entry.legs += 1;
        if entry.legs == 1 {
            for track in entry.tracks.keys().copied().collect::<Vec<_>>() {
                self.watch(room, track);
            }
        }
        Some(())
    }

    pub(super) fn leave(&mut self, leg: LegId, reason: RemovedReason) -> Option<()> {
        self.take_out(leg)?;
        let station = self.stations.get(&leg)?;
        station.tell(LegEvent::Removed(reason), &self.counters);
        Some(())
    }

    /// Takes a leg out of its room; `None` when it is in none.
    pub(super) fn take_out(&mut self, leg: LegId) -> Option<()> {
        let station = self.stations.get_mut(&leg)?;
        let place = station.place.take()?;
        let room = self.rooms.get_mut(&place.room)?;
        station.line = room.mixer.remove_leg(leg);
        station.audible = false;
        room.legs -= 1;
        if room.legs == 0 {
            self.stop_watching(place.room);
        }
        Some(())
    }
}
