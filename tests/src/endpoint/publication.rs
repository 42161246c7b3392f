//! What a published track is like, and what the router is told of it and of a subscription to it.

use palabre_media::ids::{MediaKind, SubscriptionId, TrackId};
use palabre_media::rtp::{ExtensionIds, Label};
use palabre_media::sfu::{Codec, Encoding, ReceiveParameters, SendParameters};

use super::{EXTENSIONS, OPUS, VP8, VP8_RTX};

/// What a track published by an [`Endpoint`] is like.
#[derive(Clone, Copy, Debug)]
pub struct Publication {
    /// Its name.
    pub track: TrackId,
    /// Audio or video.
    pub kind: MediaKind,
    /// Encodings.
    pub layers: u8,
}

pub(super) const RIDS: [&str; 3] = ["q", "h", "f"];

impl Publication {
    pub(super) fn mid(&self) -> Label {
        Label::read(self.track.0.to_string().as_bytes()).expect("digits are visible")
    }

    /// What the router is told of it.
    pub fn receive_parameters(&self) -> ReceiveParameters {
        let is_video = self.kind == MediaKind::Video;
        let rid = |layer: u8| match self.layers {
            1 => None,
            _ => RIDS[usize::from(layer)].parse().ok(),
        };
        ReceiveParameters {
            track: self.track,
            kind: self.kind,
            mid: self.mid(),
            codec: if is_video { Codec::Vp8 } else { Codec::Opus },
            payload_type: if is_video { VP8 } else { OPUS },
            rtx_payload_type: is_video.then_some(VP8_RTX),
            clock_rate: if is_video { 90_000 } else { 48_000 },
            // As browsers do, a section lists the extensions it uses only.
            extensions: match self.kind {
                MediaKind::Video => ExtensionIds {
                    audio_level: None,
                    ..EXTENSIONS
                },
                MediaKind::Audio => ExtensionIds {
                    rid: None,
                    repaired_rid: None,
                    ..EXTENSIONS
                },
            },
            encodings: (0..self.layers)
                .map(|layer| Encoding {
                    rid: rid(layer),
                    ..Encoding::default()
                })
                .collect(),
        }
    }

    /// What the router is told of a subscription to it.
    pub fn send_parameters(&self, subscription: u64, with_rtx: bool) -> SendParameters {
        let receive = self.receive_parameters();
        let ssrc = 0x1000_0000 + 2 * subscription as u32;
        let with_rtx = with_rtx && self.kind == MediaKind::Video;
        SendParameters {
            track: self.track,
            subscription: SubscriptionId(subscription),
            kind: self.kind,
            mid: receive.mid,
            ssrc,
            rtx_ssrc: with_rtx.then_some(ssrc + 1),
            codec: receive.codec,
            payload_type: receive.payload_type,
            rtx_payload_type: with_rtx.then_some(VP8_RTX),
            clock_rate: receive.clock_rate,
            extensions: EXTENSIONS,
            max_layer: 3,
        }
    }
}
