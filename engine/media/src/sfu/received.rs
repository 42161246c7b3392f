//! A track received from a peer: its encodings, which SSRC carries which, its loudness.

use std::time::{Duration, Instant};

use super::STALL;
use super::command::{Layer, MAX_LAYERS, ReceiveParameters};
use super::keyframe::KeyFrameRequest;
use super::reception::Reception;
use super::speaker::Loudness;
use crate::ids::MediaKind;
use crate::rtp::{ExtensionValues, RtpHeader};

/// A track received from a peer.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) parameters: ReceiveParameters,
    /// One per negotiated encoding.
    pub(super) sources: Vec<Source>,
    pub(super) muted: bool,
    pub(super) stalled: bool,
    pub(super) loudness: Loudness,
    /// Encodings seen so far, one bit each.
    pub(super) seen: u8,
}

/// Where one encoding comes from.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) ssrc: Option<u32>,
    pub(super) rtx_ssrc: Option<u32>,
    pub(super) epoch: u16,
    pub(super) reception: Option<Reception>,
    pub(super) key_frame: KeyFrameRequest,
}

/// What an SSRC stands for within its track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Role {
    pub(super) layer: Layer,
    pub(super) rtx: bool,
}

impl Received {
    pub(super) fn new(parameters: ReceiveParameters) -> Self {
        let sources = parameters
            .encodings
            .iter()
            .take(MAX_LAYERS)
            .map(|encoding| Source {
                ssrc: encoding.ssrc,
                rtx_ssrc: encoding.rtx_ssrc,
                ..Source::default()
            })
            .collect();
        Received {
            parameters,
            sources,
            muted: false,
            stalled: false,
            loudness: Loudness::default(),
            seen: 0,
        }
    }

    /// Takes new parameters, keeping the state of encodings that stay.
    pub(super) fn update(&mut self, parameters: ReceiveParameters) {
        let mut next = Received::new(parameters);
        for (at, source) in self.sources.drain(..).enumerate() {
            let same = |rid| {
                next.parameters
                    .encodings
                    .get(at)
                    .is_some_and(|e| e.rid == rid)
            };
            let rid = self
                .parameters
                .encodings
                .get(at)
                .and_then(|encoding| encoding.rid);
            if let (true, Some(place)) = (same(rid), next.sources.get_mut(at)) {
                let (ssrc, rtx_ssrc) = (place.ssrc, place.rtx_ssrc);
                *place = source;
                if ssrc.is_some() && ssrc != place.ssrc {
                    place.restart();
                    place.ssrc = ssrc;
                }
                place.rtx_ssrc = rtx_ssrc.or(place.rtx_ssrc);
            }
        }
        (self.parameters, self.sources) = (next.parameters, next.sources);
    }

    /// What an SSRC seen for the first time stands for, by the section, encoding and payload
    /// type its packet names (RFC 8852, RFC 9143 §15).
    pub(super) fn role(&self, header: &RtpHeader, values: &ExtensionValues) -> Option<Role> {
        let rtx = Some(header.payload_type) == self.parameters.rtx_payload_type;
        if !rtx && header.payload_type != self.parameters.payload_type {
            return None;
        }
        if values.mid.is_some_and(|mid| mid != self.parameters.mid) {
            return None;
        }
        let rid = if rtx {
            values.repaired_rid.or(values.rid)
        } else {
            values.rid
        };
        let layer = match rid {
            Some(rid) => self
                .parameters
                .encodings
                .iter()
                .position(|encoding| encoding.rid == Some(rid))?,
            None if self.sources.len() == 1 => 0,
            None => return None,
        };
        (layer < self.sources.len()).then_some(Role {
            layer: layer as Layer,
            rtx,
        })
    }

    /// Ends or lifts a mute. Whatever comes after it is a new start for receivers.
    pub(super) fn set_muted(&mut self, muted: bool) {
        if self.muted && !muted {
            for source in &mut self.sources {
                source.epoch = source.epoch.wrapping_add(1);
            }
        }
        self.muted = muted;
    }

    /// The encoding of which to ask a key frame when one of `layer` is wanted: itself, or the
    /// best one below that arrives, or any that does.
    pub(super) fn nearest(&self, layer: Layer) -> Option<Layer> {
        let arrives = |at: &usize| self.sources[*at].reception.is_some();
        let above = usize::from(layer) + 1;
        let end = above.min(self.sources.len());
        let layer = (0..end)
            .rev()
            .find(arrives)
            .or_else(|| (end..self.sources.len()).find(arrives));
        layer.map(|layer| layer as Layer)
    }

    /// Whether media that should arrive has stopped to, when that changed.
    pub(super) fn stall(&mut self, now: Instant) -> Option<bool> {
        let newest = self
            .sources
            .iter()
            .filter_map(|s| Some(s.reception.as_ref()?.last_arrival));
        let stalled = !self.muted
            && newest
                .max()
                .is_some_and(|at| now.saturating_duration_since(at) > STALL);
        (stalled != self.stalled).then(|| {
            self.stalled = stalled;
            stalled
        })
    }

    /// When its receptions next need a NACK, or a key frame must be asked for again.
    pub(super) fn deadline(&self, rtt: Duration) -> Option<Instant> {
        let is_video = self.parameters.kind == MediaKind::Video;
        self.sources
            .iter()
            .filter(|_| is_video)
            .flat_map(|source| {
                let missing = source
                    .reception
                    .as_ref()
                    .and_then(|r| r.missing.deadline(rtt));
                [missing, source.key_frame.deadline()]
            })
            .flatten()
            .min()
    }
}

impl Source {
    /// The next packet starts anew: another SSRC carries the encoding.
    pub(super) fn restart(&mut self) {
        if self.reception.take().is_some() {
            self.epoch = self.epoch.wrapping_add(1);
        }
    }
}
