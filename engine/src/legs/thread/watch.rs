//! Who watches what: the workers our legs' tracks, we the tracks of rooms with legs.

use palabre_media::ids::TrackId;
use palabre_media::sfu::{MeshMessage, MeshTarget};

use super::super::command::RoomId;
use super::super::mesh::Mesh;
use super::MixerThread;

impl<M: Mesh> MixerThread<M> {
    /// Tells the mixer whether somebody watches a leg's track.
    pub(super) fn refresh_watched(&mut self, track: TrackId) {
        let watched = self.watchers.contains_key(&track);
        for station in self.stations.values() {
            if let Some(place) = station.place
                && place.track == track
                && let Some(room) = self.rooms.get_mut(&place.room)
            {
                room.mixer.set_watched(station.id, watched);
            }
        }
    }

    pub(super) fn watch(&mut self, room: RoomId, track: TrackId) {
        if self.watched.insert(track, (room, None)).is_none() {
            let from = self.mesh.index();
            self.mesh
                .send(MeshTarget::Everyone, MeshMessage::Watch { track, from });
        }
    }

    pub(super) fn unwatch(&mut self, track: TrackId) {
        if self.watched.remove(&track).is_some() {
            let from = self.mesh.index();
            self.mesh
                .send(MeshTarget::Everyone, MeshMessage::Unwatch { track, from });
        }
    }

    pub(super) fn stop_watching(&mut self, room: RoomId) {
        let tracks: Vec<TrackId> = self
            .watched
            .iter()
            .filter(|(_, (r, _))| *r == room)
            .map(|(&track, _)| track)
            .collect();
        for track in tracks {
            self.unwatch(track);
        }
    }
}
