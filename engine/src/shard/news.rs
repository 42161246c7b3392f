//! What the media workers and the mixer tell, passed to the rooms it concerns.

use std::collections::HashMap;

use palabre_media::ids::TrackId;
use palabre_media::sfu::Event;
use palabre_media::transport::SrtpProfile;

use super::{Clock, Shard};
use crate::legs::{MixerEvent, RoomId};
use crate::room::Room;

impl Shard {
    pub(super) fn media(&mut self, clock: Clock, event: Event) {
        match event {
            Event::Connected { session, profile } => {
                let counts = &self.planes.counts;
                let connected = match profile {
                    SrtpProfile::AeadAes256Gcm => &counts.connected_gcm_256_total,
                    SrtpProfile::AeadAes128Gcm => &counts.connected_gcm_128_total,
                    SrtpProfile::AesCm128HmacSha1_80 => &counts.connected_cm_128_total,
                };
                connected.add(1);
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
            Event::TrackStalled { stalled, .. } => {
                self.planes
                    .counts
                    .track_stalls_total
                    .add(u64::from(stalled));
            }
            Event::Adopted { .. } | Event::DataOpen { .. } => {}
        }
    }

    pub(super) fn mixer(&mut self, clock: Clock, event: MixerEvent) {
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
}
