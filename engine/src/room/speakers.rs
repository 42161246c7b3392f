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

/// Participants that speak now, by sid.
#[derive(Debug, Default)]
pub(super) struct Speakers {
    /// Tracks that are not silent, with their levels: a participant is as loud as its loudest.
    heard: BTreeMap<String, BTreeMap<TrackId, f32>>,
    /// The level last told.
    active: BTreeMap<String, f32>,
    /// Telephones heard in the mixer's last report; it lists only those that are not silent.
    legs: BTreeSet<TrackId>,
}

impl Speakers {
    /// Takes the level of a track (0 = silent, 1 = full scale).
    fn note(&mut self, sid: &str, track: TrackId, level: f32) {
        if level > 0.0 {
            let tracks = self.heard.entry(sid.to_owned()).or_default();
            tracks.insert(track, level);
        } else if let Some(tracks) = self.heard.get_mut(sid) {
            tracks.remove(&track);
            if tracks.is_empty() {
                self.heard.remove(sid);
            }
        }
    }

    /// What everybody should hear of a participant whose tracks changed, if anything.
    fn change(&mut self, sid: &str) -> Option<proto::SpeakerInfo> {
        let tracks = self.heard.get(sid).into_iter().flat_map(BTreeMap::values);
        let level = tracks.copied().fold(0.0, f32::max);
        let told = self.active.get(sid).copied();
        if level <= 0.0 {
            told?;
            self.active.remove(sid);
        } else {
            if told.is_some_and(|told| (told - level).abs() < LEVEL_STEP) {
                return None;
            }
            self.active.insert(sid.to_owned(), level);
        }
        Some(speaker(sid, level))
    }

    /// A participant left: clients forget it by themselves.
    pub(super) fn forget(&mut self, sid: &str) {
        self.heard.remove(sid);
        self.active.remove(sid);
    }

    /// Tells a newcomer who speaks.
    pub(super) fn tell_newcomer(&self, connection: ConnectionId, cx: &mut Cx<'_>) {
        if self.active.is_empty() {
            return;
        }
        let speakers = self.active.iter();
        let speakers = speakers.map(|(sid, level)| speaker(sid, *level));
        cx.send(connection, message(speakers.collect()));
    }
}

fn speaker(sid: &str, level: f32) -> proto::SpeakerInfo {
    proto::SpeakerInfo {
        sid: sid.to_owned(),
        level,
        active: level > 0.0,
    }
}

/// `speakers_changed`: the loudest first, those that ended last.
fn message(mut speakers: Vec<proto::SpeakerInfo>) -> Message {
    speakers.sort_by(|a, b| b.level.total_cmp(&a.level));
    Message::SpeakersChanged(proto::SpeakersChanged { speakers })
}

impl Room {
    /// Levels of tracks that changed; 0 = went silent.
    pub(crate) fn levels(&mut self, levels: &[(TrackId, f32)], cx: &mut Cx<'_>) {
        let mut changed: BTreeSet<String> = BTreeSet::new();
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
            self.speakers.note(&owner.sid, *track, level);
            changed.insert(owner.sid.clone());
        }
        let speakers: Vec<proto::SpeakerInfo> = changed
            .iter()
            .filter_map(|sid| self.speakers.change(sid))
            .collect();
        if !speakers.is_empty() {
            self.broadcast(&message(speakers), cx);
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

    /// A track that is muted or gone is not heard.
    pub(super) fn silence(&mut self, sid: &str, track: TrackId, cx: &mut Cx<'_>) {
        self.speakers.note(sid, track, 0.0);
        if let Some(speaker) = self.speakers.change(sid) {
            self.broadcast(&message(vec![speaker]), cx);
        }
    }
}
