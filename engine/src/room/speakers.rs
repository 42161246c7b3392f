//! Who speaks: levels from the workers and the mixer become `speakers_changed` deltas.

use std::collections::{BTreeMap, BTreeSet};

use palabre_media::ids::TrackId;

use super::Room;
use super::context::Cx;
use crate::proto;
use crate::proto::signal_response::Message;
use crate::shard::ConnectionId;

/// Changes of level smaller than this are not worth a message to everybody.
const LEVEL_STEP: f32 = 0.05;

/// Participants that speak now, by sid, with the level last told.
#[derive(Debug, Default)]
pub(super) struct Speakers {
    active: BTreeMap<String, f32>,
    /// Telephones heard in the mixer's last report; it lists only those that are not silent.
    legs: BTreeSet<TrackId>,
}

impl Speakers {
    /// Takes a level (0 = silent, 1 = full scale); says whether everybody should hear of it.
    fn set(&mut self, sid: &str, level: f32) -> bool {
        if level <= 0.0 {
            return self.active.remove(sid).is_some();
        }
        match self.active.get_mut(sid) {
            Some(told) if (*told - level).abs() < LEVEL_STEP => false,
            Some(told) => {
                *told = level;
                true
            }
            None => {
                self.active.insert(sid.to_owned(), level);
                true
            }
        }
    }

    /// A participant left: clients forget it by themselves.
    pub(super) fn forget(&mut self, sid: &str) {
        self.active.remove(sid);
    }

    /// Tells a newcomer who speaks.
    pub(super) fn tell_newcomer(&self, connection: ConnectionId, cx: &mut Cx<'_>) {
        if self.active.is_empty() {
            return;
        }
        let speakers = self.active.iter().map(|(sid, level)| proto::SpeakerInfo {
            sid: sid.clone(),
            level: *level,
            active: true,
        });
        cx.send(
            connection,
            Message::SpeakersChanged(proto::SpeakersChanged {
                speakers: speakers.collect(),
            }),
        );
    }
}

impl Room {
    /// Levels of tracks that changed; 0 = went silent.
    pub(crate) fn levels(&mut self, levels: &[(TrackId, f32)], cx: &mut Cx<'_>) {
        let mut loudest: BTreeMap<String, f32> = BTreeMap::new();
        for (track, level) in levels {
            let owner = cx
                .routes
                .tracks
                .get(track)
                .and_then(|seat| self.participants.get(&seat.participant));
            let Some(owner) = owner else {
                continue;
            };
            let muted = owner.track(*track).is_none_or(|track| track.info.muted);
            if owner.grants.hidden {
                continue;
            }
            let level = if muted { 0.0 } else { *level };
            let entry = loudest.entry(owner.sid.clone()).or_default();
            *entry = entry.max(level);
        }
        let speakers: Vec<proto::SpeakerInfo> = loudest
            .into_iter()
            .filter(|(sid, level)| self.speakers.set(sid, *level))
            .map(|(sid, level)| proto::SpeakerInfo {
                sid,
                level,
                active: level > 0.0,
            })
            .collect();
        if !speakers.is_empty() {
            let message = Message::SpeakersChanged(proto::SpeakersChanged { speakers });
            self.broadcast(&message, cx);
        }
    }

    /// The mixer's report, of all rooms: telephones that are not silent; the others are.
    pub(crate) fn leg_levels(&mut self, heard: &[(TrackId, f32)], cx: &mut Cx<'_>) {
        let is_here = |track: &TrackId| {
            let seat = cx.routes.tracks.get(track);
            seat.is_some_and(|seat| seat.room == self.number)
        };
        let mut levels: Vec<(TrackId, f32)> = heard
            .iter()
            .filter(|(track, _)| is_here(track))
            .copied()
            .collect();
        let now: BTreeSet<TrackId> = levels.iter().map(|(track, _)| *track).collect();
        levels.extend(
            self.speakers
                .legs
                .difference(&now)
                .map(|track| (*track, 0.0)),
        );
        self.speakers.legs = now;
        self.levels(&levels, cx);
    }

    /// A muted participant does not speak.
    pub(super) fn silence(&mut self, sid: &str, cx: &mut Cx<'_>) {
        if self.speakers.set(sid, 0.0) {
            let message = Message::SpeakersChanged(proto::SpeakersChanged {
                speakers: vec![proto::SpeakerInfo {
                    sid: sid.to_owned(),
                    level: 0.0,
                    active: false,
                }],
            });
            self.broadcast(&message, cx);
        }
    }
}
