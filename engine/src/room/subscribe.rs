//! Who receives what: matching tracks with subscribers, our offers, layers and demands.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use palabre_media::ids::{MediaKind, TrackId};
use palabre_media::jsep::{JsepError, SendTrack};
use palabre_media::sfu::{Command, SendParameters};

use super::context::{Cx, ParticipantKey};
use super::negotiate::local;
use super::participant::{Link, Participant, Setting, Subscription};
use super::signal::Refused;
use super::track::Track;
use super::{Departure, Room};
use crate::proto::leave_request::Action;
use crate::proto::signal_response::Message;
use crate::proto::{self, DisconnectReason, SubscriptionError, VideoQuality};
use crate::shard::ConnectionId;

/// Choices one client may have on record: those of tracks that end are forgotten, a known one
/// may always change, a new one beyond the limit is refused.
const MAX_CHOICES: usize = 10_000;

/// How long a lower quality must suffice before the publisher is told to stop the higher one.
/// Lower saves uplink sooner; higher avoids a key frame each time somebody resizes a window.
const LOWER_AFTER: Duration = Duration::from_secs(5);

impl Room {
    /// `subscription`: the client chooses tracks.
    pub(super) fn choose(
        &mut self,
        key: ParticipantKey,
        update: &proto::UpdateSubscription,
    ) -> Result<(), Refused> {
        let participant = self.participants.get_mut(&key).ok_or(Refused)?;
        let client = participant.client_mut().ok_or(Refused)?;
        let sids = update.track_sids.iter().chain(
            update
                .participant_tracks
                .iter()
                .flat_map(|tracks| &tracks.track_sids),
        );
        for sid in sids {
            let is_full = client.choices.len() >= MAX_CHOICES && !client.choices.contains_key(sid);
            if sid.len() > super::MAX_NAME || is_full {
                return Err(Refused);
            }
            client.choices.insert(sid.clone(), update.subscribe);
        }
        self.subscribers_to_match.insert(key);
        Ok(())
    }

    /// Makes subscriptions what they should be where something changed.
    pub(super) fn match_subscriptions(&mut self, cx: &mut Cx<'_>) {
        let tracks = std::mem::take(&mut self.tracks_to_match);
        let subscribers = std::mem::take(&mut self.subscribers_to_match);
        let mut pairs: Vec<(ParticipantKey, TrackId)> = Vec::new();
        for track in tracks {
            pairs.extend(self.participants.keys().map(|key| (*key, track)));
        }
        for subscriber in subscribers {
            let all = self.participants.values().flat_map(|p| &p.tracks);
            pairs.extend(all.map(|track| (subscriber, track.id)));
        }
        for (subscriber, track) in pairs {
            self.match_one(subscriber, track, cx);
        }
    }

    fn match_one(&mut self, key: ParticipantKey, id: TrackId, cx: &mut Cx<'_>) {
        let Some(seat) = cx.routes.tracks.get(&id).copied() else {
            return;
        };
        let (Some(subscriber), Some(owner)) = (
            self.participants.get(&key),
            self.participants.get(&seat.participant),
        ) else {
            return;
        };
        let (Some(client), Some(track)) = (subscriber.client(), owner.track(id)) else {
            return;
        };
        if owner.key == key || !track.published || owner.grants.hidden {
            return;
        }
        let asked = subscriber.grants.can_subscribe
            && *client
                .choices
                .get(track.sid())
                .unwrap_or(&client.auto_subscribe);
        let shown = owner.shows(track, subscriber);
        let has = client.subscriptions.contains_key(&id);
        let denied = client.denied.contains(&id);
        let connection = client.connection;
        let permission = proto::SubscriptionPermissionUpdate {
            participant_sid: owner.sid.clone(),
            track_sid: track.sid().to_owned(),
            allowed: shown,
        };
        let (kind, track_sid) = (track.kind, track.sid().to_owned());

        if asked && shown && !has {
            if let Some(client) = self.client_mut(key) {
                let subscription = Subscription {
                    id: cx.ids.subscription(),
                    track_sid,
                    kind,
                    ssrc: client.ssrcs.take(),
                    rtx_ssrc: (kind == MediaKind::Video).then(|| client.ssrcs.take()),
                    mid: None,
                    sending: false,
                    setting: Setting::default(),
                };
                client.subscriptions.insert(id, subscription);
                client.subscriber.dirty = true;
            }
            self.demands.insert(id);
        } else if has && !(asked && shown) {
            self.unsubscribe(key, id, cx);
        }
        // Told only where it matters: a refusal, and its end.
        let refused = asked && !shown;
        if refused != denied {
            if let Some(client) = self.client_mut(key) {
                if refused {
                    client.denied.insert(id);
                } else {
                    client.denied.remove(&id);
                }
            }
            if let Some(connection) = connection
                && (refused || shown)
            {
                cx.send(
                    connection,
                    Message::SubscriptionPermissionUpdate(permission),
                );
            }
        }
    }

    /// Takes a track away from a client.
    pub(super) fn unsubscribe(&mut self, key: ParticipantKey, id: TrackId, cx: &mut Cx<'_>) {
        let Some(client) = self.client_mut(key) else {
            return;
        };
        client.denied.remove(&id);
        let Some(subscription) = client.subscriptions.remove(&id) else {
            return;
        };
        if let Some(mid) = subscription.mid {
            client.subscriber.offerer.remove(mid);
            client.subscriber.dirty = true;
        }
        if subscription.sending {
            cx.media.command(
                client.subscriber.session,
                Command::StopSend(subscription.id),
            );
        }
        self.demands.insert(id);
    }

    /// An offer is to be made to this client at the end of the input.
    pub(super) fn mark_offer_due(&mut self, key: ParticipantKey) {
        if let Some(client) = self.client_mut(key) {
            client.subscriber.dirty = true;
        }
    }

    /// Offers to every client that is behind and has answered the last one.
    pub(super) fn offer_what_is_due(&mut self, cx: &mut Cx<'_>) {
        let due: Vec<ParticipantKey> = self
            .participants
            .values()
            .filter(|participant| {
                participant.client().is_some_and(|client| {
                    client.connection.is_some()
                        && client.subscriber.dirty
                        && client.subscriber.outstanding.is_none()
                })
            })
            .map(|participant| participant.key)
            .collect();
        for key in due {
            self.offer(key, cx);
        }
    }

    fn offer(&mut self, key: ParticipantKey, cx: &mut Cx<'_>) {
        // Owners' sids and codecs first: they are in other participants.
        let wanted: HashMap<TrackId, (String, palabre_media::sfu::Codec)> = self
            .client(key)
            .into_iter()
            .flat_map(|client| client.subscriptions.iter())
            .filter(|(_, subscription)| subscription.mid.is_none())
            .filter_map(|(id, _)| {
                let seat = cx.routes.tracks.get(id)?;
                let owner = self.participants.get(&seat.participant)?;
                Some((*id, (owner.sid.clone(), owner.track(*id)?.codec?)))
            })
            .collect();
        let Some(client) = self.client_mut(key) else {
            return;
        };
        let Some(connection) = client.connection else {
            return;
        };
        let subscriber = &mut client.subscriber;
        subscriber.dirty = false;
        // The first offer opens the data channels; media follows once it is answered.
        if subscriber.answered {
            for (id, subscription) in &mut client.subscriptions {
                if subscription.mid.is_some() {
                    continue;
                }
                let Some((owner, codec)) = wanted.get(id) else {
                    continue;
                };
                let added = subscriber.offerer.add(SendTrack {
                    codec: *codec,
                    stream_id: format!("{owner}|{}", subscription.track_sid),
                    track_id: subscription.track_sid.clone(),
                    ssrc: subscription.ssrc,
                    rtx_ssrc: subscription.rtx_ssrc,
                });
                // Full: the track waits for a section to become free.
                subscription.mid = added.ok();
            }
            if !subscriber.offerer.needs_offer() && !subscriber.restarting {
                return;
            }
        }
        let local = local(&subscriber.credentials, cx.host);
        let Some((id, sdp)) = subscriber.offerer.offer(&local) else {
            return;
        };
        subscriber.outstanding = Some(cx.now);
        let tracks = subscriber.offerer.tracks();
        let mid_to_track_id = tracks
            .map(|(mid, track)| (mid.to_string(), track.track_id.clone()))
            .collect();
        cx.send(
            connection,
            Message::Offer(proto::SessionDescription {
                r#type: "offer".to_owned(),
                sdp,
                id,
                mid_to_track_id,
            }),
        );
    }

    /// The client's answer to our offer: what it accepts flows from now on.
    pub(super) fn subscriber_answer(
        &mut self,
        key: ParticipantKey,
        connection: ConnectionId,
        answer: &proto::SessionDescription,
        cx: &mut Cx<'_>,
    ) -> Result<(), Refused> {
        let client = self.client_mut(key).ok_or(Refused)?;
        let subscriber = &mut client.subscriber;
        let accepted = match subscriber.offerer.answer(answer.id, &answer.sdp) {
            Ok(accepted) => accepted,
            // Late: it answers an offer that a newer one replaced.
            Err(JsepError::NoOffer | JsepError::WrongOffer { .. }) => return Err(Refused),
            Err(_) => {
                let departure = Departure {
                    reason: DisconnectReason::StateMismatch,
                    told: Some(Action::Reconnect),
                };
                self.remove(key, departure, cx);
                return Err(Refused);
            }
        };
        subscriber.outstanding = None;
        let session = subscriber.session;
        if !subscriber.answered || subscriber.restarting {
            cx.media
                .command(session, Command::SetRemote(accepted.remote));
        }
        subscriber.restarting = false;
        subscriber.answered = true;
        // What changed while the answer was on its way is offered now.
        subscriber.dirty |= subscriber.offerer.needs_offer()
            || client.subscriptions.values().any(|s| s.mid.is_none());
        let mut sent = Vec::new();
        for section in &accepted.sections {
            let found = client
                .subscriptions
                .iter_mut()
                .find(|(_, subscription)| subscription.ssrc == section.ssrc);
            let Some((track, subscription)) = found else {
                continue;
            };
            if std::mem::replace(&mut subscription.sending, true) {
                continue;
            }
            let parameters = SendParameters {
                track: *track,
                subscription: subscription.id,
                kind: subscription.kind,
                mid: section.mid,
                ssrc: subscription.ssrc,
                rtx_ssrc: subscription.rtx_ssrc,
                codec: section.codec.codec,
                payload_type: section.codec.payload_type,
                rtx_payload_type: section.codec.rtx_payload_type,
                clock_rate: section.codec.codec.clock_rate(),
                extensions: section.extensions,
                max_layer: 0,
            };
            sent.push((*track, parameters, subscription.setting));
        }
        let refused: Vec<(TrackId, String)> = client
            .subscriptions
            .iter()
            .filter(|(_, subscription)| {
                subscription
                    .mid
                    .is_some_and(|mid| accepted.refused.contains(&mid))
            })
            .map(|(track, subscription)| (*track, subscription.track_sid.clone()))
            .collect();
        for (track, mut parameters, setting) in sent {
            let subscription = parameters.subscription;
            let max_layer = self.max_layer(track, setting, cx);
            parameters.max_layer = max_layer;
            cx.media.command(session, Command::Send(parameters));
            if setting.disabled {
                cx.media.command(
                    session,
                    Command::SetSend {
                        subscription,
                        paused: true,
                        max_layer,
                    },
                );
            }
            self.tell_subscribed(track, cx);
        }
        for (track, track_sid) in refused {
            cx.send(
                connection,
                Message::SubscriptionResponse(proto::SubscriptionResponse {
                    track_sid: track_sid.clone(),
                    err: SubscriptionError::SeCodecUnsupported as i32,
                }),
            );
            self.unsubscribe(key, track, cx);
            // Not tried again until the client asks.
            if let Some(client) = self.client_mut(key) {
                client.choices.insert(track_sid, false);
            }
        }
        Ok(())
    }

    /// Tells the owner, once, that somebody receives its track.
    fn tell_subscribed(&mut self, id: TrackId, cx: &mut Cx<'_>) {
        let Some(owner) = self.owner_mut(id, cx) else {
            return;
        };
        let connection = owner.connection();
        let Some(track) = owner.track_mut(id) else {
            return;
        };
        if !std::mem::replace(&mut track.subscribed_told, true)
            && let Some(connection) = connection
        {
            let track_sid = track.sid().to_owned();
            cx.send(
                connection,
                Message::TrackSubscribed(proto::TrackSubscribed { track_sid }),
            );
        }
    }

    /// `track_setting`: what the client shows of its tracks.
    pub(super) fn set_tracks(
        &mut self,
        key: ParticipantKey,
        asked: &proto::UpdateTrackSettings,
        cx: &mut Cx<'_>,
    ) -> Result<(), Refused> {
        if asked.track_sids.len() > 1_000 {
            return Err(Refused);
        }
        for sid in &asked.track_sids {
            let client = self.client(key).ok_or(Refused)?;
            let found = client
                .subscriptions
                .iter()
                .find(|(_, s)| s.track_sid == *sid);
            let Some((id, _)) = found else {
                continue;
            };
            let id = *id;
            let quality = if asked.width > 0 || asked.height > 0 {
                self.owner(id, cx)
                    .and_then(|owner| owner.track(id))
                    .map_or(VideoQuality::High, |track| {
                        track.quality_for(asked.width, asked.height)
                    })
            } else {
                asked.quality()
            };
            let setting = Setting {
                disabled: asked.disabled || quality == VideoQuality::Off,
                quality,
            };
            self.apply_setting(key, id, setting, cx);
        }
        Ok(())
    }

    /// Takes a setting into force.
    pub(super) fn apply_setting(
        &mut self,
        key: ParticipantKey,
        id: TrackId,
        setting: Setting,
        cx: &mut Cx<'_>,
    ) {
        let max_layer = self.max_layer(id, setting, cx);
        let Some(client) = self.client_mut(key) else {
            return;
        };
        let session = client.subscriber.session;
        let Some(subscription) = client.subscriptions.get_mut(&id) else {
            return;
        };
        if subscription.setting == setting {
            return;
        }
        subscription.setting = setting;
        if subscription.sending {
            cx.media.command(
                session,
                Command::SetSend {
                    subscription: subscription.id,
                    paused: setting.disabled,
                    max_layer,
                },
            );
        }
        self.demands.insert(id);
    }

    fn max_layer(&self, id: TrackId, setting: Setting, cx: &Cx<'_>) -> u8 {
        self.owner(id, cx)
            .and_then(|owner| owner.track(id))
            .map_or(0, |track| track.layer_for(setting.quality))
    }

    /// The highest quality somebody shows of a track.
    fn demand(&self, id: TrackId) -> VideoQuality {
        self.participants
            .values()
            .filter_map(Participant::client)
            .filter_map(|client| client.subscriptions.get(&id))
            .filter(|subscription| !subscription.setting.disabled)
            .map(|subscription| subscription.setting.quality)
            .max_by_key(|quality| *quality as i32)
            .unwrap_or(VideoQuality::Off)
    }

    /// More is wanted of some track: its owner is told at once. Less: noted, told later.
    pub(super) fn raise_demands(&mut self, cx: &mut Cx<'_>) {
        for id in std::mem::take(&mut self.demands) {
            let wanted = self.demand(id);
            let now = cx.now;
            let Some(owner) = self.owner_mut(id, cx) else {
                continue;
            };
            let connection = owner.connection();
            let Some(track) = owner.track_mut(id) else {
                continue;
            };
            if track.kind != MediaKind::Video {
                continue;
            }
            // Until told otherwise a client sends everything.
            let asked = track.asked.unwrap_or(VideoQuality::High);
            if rank(wanted) > rank(asked) {
                track.asked = Some(wanted);
                track.lower_since = None;
                tell_demand(connection, track, wanted, cx);
            } else if rank(wanted) < rank(asked) {
                track.lower_since.get_or_insert(now);
            } else {
                track.lower_since = None;
            }
        }
    }

    /// Tells owners that less suffices, where it has for a while.
    pub(super) fn lower_demands(&mut self, cx: &mut Cx<'_>) {
        let patient = |since: Option<Instant>| {
            since.is_some_and(|since| cx.now.duration_since(since) >= LOWER_AFTER)
        };
        let due: Vec<TrackId> = self
            .participants
            .values()
            .flat_map(|participant| &participant.tracks)
            .filter(|track| patient(track.lower_since))
            .map(|track| track.id)
            .collect();
        for id in due {
            let wanted = self.demand(id);
            let Some(owner) = self.owner_mut(id, cx) else {
                continue;
            };
            let connection = owner.connection();
            if let Some(track) = owner.track_mut(id) {
                track.lower_since = None;
                track.asked = Some(wanted);
                tell_demand(connection, track, wanted, cx);
            }
        }
    }

    fn owner(&self, id: TrackId, cx: &Cx<'_>) -> Option<&Participant> {
        let seat = cx.routes.tracks.get(&id)?;
        self.participants.get(&seat.participant)
    }

    fn owner_mut(&mut self, id: TrackId, cx: &Cx<'_>) -> Option<&mut Participant> {
        let seat = cx.routes.tracks.get(&id)?;
        self.participants.get_mut(&seat.participant)
    }

    pub(super) fn client(&self, key: ParticipantKey) -> Option<&super::participant::Client> {
        self.participants.get(&key).and_then(Participant::client)
    }

    pub(super) fn client_mut(
        &mut self,
        key: ParticipantKey,
    ) -> Option<&mut super::participant::Client> {
        match &mut self.participants.get_mut(&key)?.link {
            Link::Client(client) => Some(client),
            Link::Leg(_) => None,
        }
    }
}

/// Order of qualities, with none lowest.
fn rank(quality: VideoQuality) -> u8 {
    match quality {
        VideoQuality::Off => 0,
        VideoQuality::Low => 1,
        VideoQuality::Medium => 2,
        VideoQuality::High => 3,
    }
}

/// `subscribed_quality_update`
fn tell_demand(
    connection: Option<ConnectionId>,
    track: &Track,
    wanted: VideoQuality,
    cx: &mut Cx<'_>,
) {
    let Some(connection) = connection else {
        return;
    };
    let qualities: Vec<proto::SubscribedQuality> =
        [VideoQuality::Low, VideoQuality::Medium, VideoQuality::High]
            .into_iter()
            .map(|quality| proto::SubscribedQuality {
                quality: quality as i32,
                enabled: rank(quality) <= rank(wanted),
            })
            .collect();
    let codec = track.info.mime_type.rsplit('/').next().unwrap_or_default();
    #[allow(deprecated)] // old clients read the first list
    let update = proto::SubscribedQualityUpdate {
        track_sid: track.sid().to_owned(),
        subscribed_qualities: qualities.clone(),
        subscribed_codecs: vec![proto::SubscribedCodec {
            codec: codec.to_ascii_lowercase(),
            qualities,
        }],
    };
    cx.send(connection, Message::SubscribedQualityUpdate(update));
}
