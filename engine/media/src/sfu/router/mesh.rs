//! From a track's source to its subscriptions, here and on other members of the mesh, and wishes
//! for key frames the other way.

use std::sync::Arc;
use std::time::Instant;

use super::super::command::{Layer, MeshMessage, MeshTarget};
use super::super::forward::Forwarded;
use super::super::packet::Packet;
use super::Router;
use crate::ids::{TrackId, WorkerIndex};

impl Router {
    /// Takes a message of another member of the mesh.
    pub fn handle_mesh(&mut self, now: Instant, message: MeshMessage) {
        match message {
            MeshMessage::Packet(packet) => self.route(now, packet, false),
            MeshMessage::Watch { track, from } if from != self.index => {
                self.routes.entry(track).or_default().watch(from);
            }
            MeshMessage::Unwatch { track, from } => {
                self.change_route(track, |route| route.unwatch(from));
            }
            MeshMessage::Watch { .. } => {}
            MeshMessage::KeyFrame { track, layer } => {
                if self
                    .routes
                    .get(&track)
                    .is_some_and(|route| route.source.is_some())
                {
                    self.want_key_frame(now, track, layer);
                }
            }
            MeshMessage::Datagram {
                from,
                to,
                mut bytes,
            } => {
                self.handle_datagram(now, from, to, &mut bytes);
            }
        }
    }

    /// Messages for other members of the mesh, in order.
    pub fn drain_mesh(&mut self) -> impl Iterator<Item = (MeshTarget, MeshMessage)> + '_ {
        self.mesh.drain(..)
    }

    /// Tells a member that joined late what this worker watches.
    pub fn greet(&mut self, member: WorkerIndex) {
        for (track, route) in &self.routes {
            if !route.subscribers.is_empty() {
                let watch = MeshMessage::Watch {
                    track: *track,
                    from: self.index,
                };
                self.mesh.push((MeshTarget::One(member), watch));
            }
        }
    }

    /// Sends a packet to every subscription here and, from its source, to every watching
    /// member once.
    pub(super) fn route(&mut self, now: Instant, packet: Arc<Packet>, from_source: bool) {
        let descriptor = &packet.descriptor;
        let (track, layer) = (descriptor.track, descriptor.layer);
        let Some(route) = self.routes.get_mut(&track) else {
            return;
        };
        let Some(request) = route.requests.get_mut(usize::from(layer)) else {
            return;
        };
        route.activity.note(layer, now);
        if descriptor.key_frame && descriptor.in_order {
            request.arrived();
        }
        let active = route.activity.mask(now);
        let mut awaited = false;
        let mut forwarded = 0;
        for &(session, subscription) in &route.subscribers {
            let session = self.sessions[session]
                .as_mut()
                .expect("routed sessions exist");
            let subscription = session.sent[subscription]
                .as_mut()
                .expect("routed subscriptions exist");
            let (egress, trains) = (&mut session.egress, &mut self.shared.trains);
            match subscription.forward(now, &packet, active, egress, trains) {
                Forwarded::Sent => forwarded += 1,
                Forwarded::Withheld => {}
                Forwarded::AwaitsKeyFrame => awaited = true,
            }
        }
        self.shared.counters.forwarded += forwarded;
        self.shared.counters.forwarded_bytes += forwarded * packet.payload().len() as u64;
        if from_source {
            for member in route.watchers() {
                let message = MeshMessage::Packet(Arc::clone(&packet));
                self.mesh.push((MeshTarget::One(member), message));
            }
        }
        if awaited {
            self.want_key_frame(now, track, layer);
        }
    }

    /// Passes the wish for a key frame on to the track's source, here or elsewhere.
    pub(super) fn want_key_frame(&mut self, now: Instant, track: TrackId, layer: Layer) {
        let Some(route) = self.routes.get_mut(&track) else {
            return;
        };
        if let Some(place) = route.source {
            let session = self.sessions[place].as_mut().expect("sources exist");
            session.want_key_frame(now, track, layer);
            self.arm(place);
        } else if let Some(request) = route.requests.get_mut(usize::from(layer)) {
            request.want();
            if request.ask(now) {
                self.mesh
                    .push((MeshTarget::Everyone, MeshMessage::KeyFrame { track, layer }));
            }
        }
    }
}
