//! Commands: what the shard wants of a session, carried out on sessions and routes.

use std::time::Instant;

use super::super::command::{Command, CommandError, Event, MeshMessage, MeshTarget};
use super::super::session::Session;
use super::Router;
use crate::ids::{MediaKind, SessionId, SubscriptionId, TrackId};

impl Router {
    /// Carries out a command.
    pub fn command(
        &mut self,
        now: Instant,
        session: SessionId,
        command: Command,
    ) -> Result<(), CommandError> {
        let &place = self
            .by_id
            .get(&session)
            .ok_or(CommandError::UnknownSession)?;
        let limits = self.shared.limits;
        let owner = self.sessions[place]
            .as_mut()
            .expect("indexed sessions exist");
        match command {
            Command::Receive(parameters) => {
                let track = parameters.track;
                owner.receive(parameters, limits.tracks)?;
                self.routes.entry(track).or_default().source = Some(place);
            }
            Command::StopReceive(track) => {
                let mut received = owner
                    .stop_receive(track)
                    .ok_or(CommandError::UnknownTrack)?;
                if let Some(level) = received.loudness.silence() {
                    self.shared
                        .events
                        .push_back(Event::Levels(vec![(track, level)]));
                }
                self.change_route(track, |route| route.source = None);
            }
            Command::Send(parameters) => {
                let (subscription, track) = (parameters.subscription, parameters.track);
                let (kind, max_layer) = (parameters.kind, parameters.max_layer);
                if let Some(before) = owner.subscription_place(subscription) {
                    self.stop_send(place, before);
                }
                let owner = self.sessions[place]
                    .as_mut()
                    .expect("indexed sessions exist");
                let subscription = owner.send(parameters, limits.subscriptions)?;
                let route = self.routes.entry(track).or_default();
                route.subscribers.push((place, subscription));
                if route.subscribers.len() == 1 {
                    let watch = MeshMessage::Watch {
                        track,
                        from: self.index,
                    };
                    self.mesh.push((MeshTarget::Everyone, watch));
                }
                if kind == MediaKind::Video {
                    self.want_key_frame(now, track, max_layer);
                }
            }
            Command::StopSend(subscription) => {
                let subscription = find(owner, subscription)?;
                self.stop_send(place, subscription);
            }
            Command::SetSend {
                subscription,
                paused,
                max_layer,
            } => {
                let subscription = find(owner, subscription)?;
                let subscription = owner.sent[subscription].as_mut().expect("found above");
                let resumed = subscription.gate.paused && !paused;
                subscription.set(paused, max_layer);
                let (track, kind) = (subscription.parameters.track, subscription.parameters.kind);
                if resumed && kind == MediaKind::Video {
                    self.want_key_frame(now, track, max_layer);
                }
            }
            Command::SetRemote(remote) => owner.transport.set_remote(now, remote),
            Command::RestartIce { local, remote } => {
                let ufrag = local.ufrag.clone();
                owner.transport.restart_ice(now, local, remote);
                if !owner.ufrags.contains(&ufrag) {
                    owner.ufrags.push(ufrag.clone());
                    // The one before stays: late checks under it are refused by the transport,
                    // not taken for another session's.
                    if owner.ufrags.len() > 2 {
                        let old = owner.ufrags.remove(0);
                        self.by_ufrag.remove(&old);
                    }
                    self.by_ufrag.insert(ufrag, place);
                }
            }
            Command::SendData { channel, payload } => {
                let sent = owner.transport.send_data(now, channel, &payload);
                self.settle(now, place);
                sent?;
                return Ok(());
            }
            Command::SetMuted { track, muted } => {
                let received = owner
                    .received_mut(track)
                    .ok_or(CommandError::UnknownTrack)?;
                received.set_muted(muted);
                if let Some(level) = received.loudness.silence().filter(|_| muted) {
                    self.shared
                        .events
                        .push_back(Event::Levels(vec![(track, level)]));
                }
            }
            Command::Close => owner.transport.close(now),
        }
        self.settle(now, place);
        Ok(())
    }

    fn stop_send(&mut self, place: usize, subscription: usize) {
        let owner = self.sessions[place]
            .as_mut()
            .expect("indexed sessions exist");
        let Some(track) = owner.stop_send(subscription) else {
            return;
        };
        self.drop_subscriber(track, (place, subscription));
    }

    pub(super) fn drop_subscriber(&mut self, track: TrackId, subscriber: (usize, usize)) {
        let Some(route) = self.routes.get_mut(&track) else {
            return;
        };
        route.subscribers.retain(|entry| *entry != subscriber);
        if route.subscribers.is_empty() {
            let unwatch = MeshMessage::Unwatch {
                track,
                from: self.index,
            };
            self.mesh.push((MeshTarget::Everyone, unwatch));
            self.change_route(track, |_| {});
        }
    }
}

fn find(session: &Session, subscription: SubscriptionId) -> Result<usize, CommandError> {
    session
        .subscription_place(subscription)
        .ok_or(CommandError::UnknownSubscription)
}
