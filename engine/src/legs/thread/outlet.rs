//! Where a room's tick goes: datagrams to telephones, voices to whoever watches them, keys to
//! the legs' owners.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use palabre_media::ids::{LegId, TrackId, WorkerIndex};
use palabre_media::mixer::{Sink, Voice};
use palabre_media::rtp::AudioLevel;
use palabre_media::sfu::{ClockMapping, Codec, Descriptor, MeshMessage, MeshTarget, PacketPool};

use super::super::command::LegEvent;
use super::super::mesh::Mesh;
use super::super::station::Station;
use super::super::stats::Counters;
use super::AUDIBLE;

/// Where a room's tick goes: borrowed parts of the thread.
pub(super) struct Outlet<'a, M> {
    pub(super) stations: &'a mut HashMap<LegId, Station>,
    pub(super) watchers: &'a HashMap<TrackId, HashSet<WorkerIndex>>,
    pub(super) mesh: &'a mut M,
    pub(super) pool: &'a mut PacketPool,
    pub(super) counters: &'a Counters,
    pub(super) now: Instant,
}

impl<M: Mesh> Sink for Outlet<'_, M> {
    fn send(&mut self, leg: LegId, datagram: &[u8]) {
        if let Some(station) = self.stations.get(&leg) {
            station.send(datagram, self.counters);
        }
    }

    fn voice(&mut self, leg: LegId, voice: Voice<'_>) {
        let Some(station) = self.stations.get_mut(&leg) else {
            return;
        };
        let Some(place) = station.place else { return };
        let descriptor = Descriptor {
            track: place.track,
            layer: 0,
            codec: Codec::Opus,
            marker: voice.marker,
            key_frame: false,
            in_order: true,
            epoch: 0,
            vp8: None,
            audio_level: Some(AudioLevel {
                voice: voice.level < AUDIBLE,
                level: voice.level,
            }),
            sequence: station.voice_sequence,
            timestamp: voice.timestamp,
            arrival: self.now,
            clock: ClockMapping {
                at: self.now,
                timestamp: voice.timestamp,
            },
        };
        station.voice_sequence += 1;
        let Some(packet) = self.pool.packet(descriptor, voice.payload) else {
            return;
        };
        Counters::add(&self.counters.voice_packets, 1);
        for watcher in self.watchers.get(&place.track).into_iter().flatten() {
            let message = MeshMessage::Packet(Arc::clone(&packet));
            self.mesh.send(MeshTarget::One(*watcher), message);
        }
    }

    fn digit(&mut self, leg: LegId, key: char) {
        if let Some(station) = self.stations.get(&leg) {
            station.tell(LegEvent::Digit(key), self.counters);
        }
    }

    fn play_finished(&mut self, leg: LegId) {
        if let Some(station) = self.stations.get(&leg) {
            station.tell(LegEvent::PlayFinished, self.counters);
        }
    }
}
