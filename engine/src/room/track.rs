//! One published track: what its owner announced, what is negotiated, who wants which quality.

use palabre_media::ids::{MediaKind, TrackId};
use palabre_media::rtp::Mid;
use palabre_media::sfu::{Codec, ReceiveParameters};
use std::time::Instant;

use crate::proto::{self, TrackSource, TrackType, VideoQuality};

/// Longest text of a client that names something (cid, track name, stream).
pub(crate) const MAX_NAME: usize = 256;

/// Simulcast layers and codecs one announcement may list.
const MAX_LAYERS: usize = 8;

/// A track from its announcement on.
#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) id: TrackId,
    /// What clients know of it. `info.sid` is its TR_ name.
    pub(crate) info: proto::TrackInfo,
    /// Client-side name, found again in the offer's msid.
    pub(crate) cid: String,
    pub(crate) kind: MediaKind,
    /// Media section of the owner's offer, once bound.
    pub(crate) mid: Option<Mid>,
    /// As last told to the workers.
    pub(crate) receive: Option<ReceiveParameters>,
    /// Codec in which it flows, once known.
    pub(crate) codec: Option<Codec>,
    /// Shown to the others: its media has arrived, or it is announced muted.
    pub(crate) published: bool,
    /// Highest quality last asked of the owner (dynacast).
    pub(crate) asked: Option<VideoQuality>,
    /// Since when less than `asked` is wanted.
    pub(crate) lower_since: Option<Instant>,
    /// The owner was told that somebody subscribed.
    pub(crate) subscribed_told: bool,
}

impl Track {
    /// A track as announced by `add_track`; `None` when it is neither audio nor video, a name
    /// is too long, or it has too many layers.
    #[allow(deprecated)] // fields old clients still read
    pub(crate) fn announced(
        id: TrackId,
        sid: String,
        request: &proto::AddTrackRequest,
        wall: i64,
    ) -> Option<Self> {
        let kind = match request.r#type() {
            TrackType::Audio => MediaKind::Audio,
            TrackType::Video => MediaKind::Video,
            TrackType::Data => return None,
        };
        let names = [&request.cid, &request.name, &request.stream];
        if request.cid.is_empty()
            || names.iter().any(|name| name.len() > MAX_NAME)
            || request.layers.len() > MAX_LAYERS
            || request.simulcast_codecs.len() > MAX_LAYERS
            || request.audio_features.len() > 2 * MAX_LAYERS
            || request.packet_trailer_features.len() > MAX_LAYERS
        {
            return None;
        }
        let codecs = codecs(request)?;
        let info = proto::TrackInfo {
            sid,
            r#type: request.r#type,
            name: request.name.clone(),
            muted: request.muted,
            width: request.width,
            height: request.height,
            simulcast: request.layers.len() > 1,
            disable_dtx: request.disable_dtx,
            source: request.source,
            layers: request.layers.clone(),
            codecs,
            stereo: request.stereo,
            disable_red: request.disable_red,
            encryption: request.encryption,
            stream: if request.stream.is_empty() {
                default_stream(request.source()).to_owned()
            } else {
                request.stream.clone()
            },
            version: Some(proto::TimedVersion {
                unix_micro: wall * 1000,
                ticks: 0,
            }),
            audio_features: request.audio_features.clone(),
            backup_codec_policy: request.backup_codec_policy,
            ..Default::default()
        };
        Some(Self {
            id,
            info,
            cid: request.cid.clone(),
            kind,
            mid: None,
            receive: None,
            codec: None,
            published: false,
            asked: None,
            lower_since: None,
            subscribed_told: false,
        })
    }

    /// The voice of a telephone: known and flowing from the start.
    pub(crate) fn of_leg(id: TrackId, sid: String, wall: i64) -> Self {
        Self {
            id,
            info: proto::TrackInfo {
                sid,
                r#type: TrackType::Audio as i32,
                name: "telephone".to_owned(),
                source: TrackSource::Microphone as i32,
                mime_type: mime_type(Codec::Opus).to_owned(),
                stream: default_stream(TrackSource::Microphone).to_owned(),
                disable_red: true,
                version: Some(proto::TimedVersion {
                    unix_micro: wall * 1000,
                    ticks: 0,
                }),
                ..Default::default()
            },
            cid: String::new(),
            kind: MediaKind::Audio,
            mid: None,
            receive: None,
            codec: Some(Codec::Opus),
            published: true,
            asked: None,
            lower_since: None,
            subscribed_told: true,
        }
    }

    /// Its TR_ name.
    pub(crate) fn sid(&self) -> &str {
        &self.info.sid
    }

    /// Whether `cid` is a client-side name of this track.
    pub(crate) fn has_cid(&self, cid: &str) -> bool {
        self.cid == cid || self.info.codecs.iter().any(|codec| codec.cid == cid)
    }

    /// Another codec of the same picture is announced (`add_track` with `sid`).
    /// `None` when there are too many.
    pub(crate) fn add_codecs(
        &mut self,
        request: &proto::AddTrackRequest,
    ) -> Option<proto::TrackInfo> {
        for codec in codecs(request)? {
            let mut known = self.info.codecs.iter_mut();
            let known = known.find(|known| {
                !known.mime_type.is_empty()
                    && known.mime_type.eq_ignore_ascii_case(&codec.mime_type)
            });
            if let Some(known) = known {
                known.cid = codec.cid;
            } else if self.info.codecs.len() < MAX_LAYERS {
                self.info.codecs.push(codec);
            } else {
                return None;
            }
        }
        Some(self.info.clone())
    }

    /// Whether an announcement is for the same kind of media.
    pub(crate) fn is_of(&self, request: &proto::AddTrackRequest) -> bool {
        self.info.r#type == request.r#type
    }

    /// Notes in what codec it flows.
    pub(crate) fn set_codec(&mut self, codec: Codec) {
        self.codec = Some(codec);
        self.info.mime_type = mime_type(codec).to_owned();
        if let Some(first) = self.info.codecs.first_mut()
            && first.mime_type.is_empty()
        {
            first.mime_type = mime_type(codec).to_owned();
        }
    }

    /// Rank of the highest encoding worth sending for what a subscriber shows.
    pub(crate) fn layer_for(&self, wanted: VideoQuality) -> u8 {
        #[allow(deprecated)]
        let layers = &self.info.layers;
        let below = layers
            .iter()
            .filter(|layer| layer.quality <= wanted as i32)
            .count();
        if layers.is_empty() {
            // Not announced: rank and quality are the same thing.
            wanted as u8
        } else {
            below.saturating_sub(1) as u8
        }
    }

    /// The lowest quality whose picture is at least as large as `width` x `height`.
    pub(crate) fn quality_for(&self, width: u32, height: u32) -> VideoQuality {
        #[allow(deprecated)]
        let mut layers: Vec<_> = self.info.layers.iter().collect();
        layers.sort_by_key(|layer| layer.quality);
        let wanted = width.max(height);
        layers
            .iter()
            .find(|layer| layer.width.max(layer.height) >= wanted)
            .and_then(|layer| VideoQuality::try_from(layer.quality).ok())
            .unwrap_or(VideoQuality::High)
    }
}

/// One entry per codec the client announced, or one for the only one.
fn codecs(request: &proto::AddTrackRequest) -> Option<Vec<proto::SimulcastCodecInfo>> {
    use proto::video_layer::Mode;
    if request.simulcast_codecs.is_empty() {
        return Some(vec![proto::SimulcastCodecInfo {
            cid: request.cid.clone(),
            layers: request.layers.clone(),
            ..Default::default()
        }]);
    }
    request
        .simulcast_codecs
        .iter()
        .map(|codec| {
            if codec.cid.len() > MAX_NAME
                || codec.codec.len() > MAX_NAME
                || codec.layers.len() > MAX_LAYERS
            {
                return None;
            }
            let name = codec.codec.to_ascii_lowercase();
            let mode = match name.as_str() {
                _ if request.r#type() == TrackType::Audio => Mode::Unused,
                "vp9" | "av1" => Mode::MultipleSpatialLayersPerStream,
                _ => Mode::OneSpatialLayerPerStream,
            };
            let prefix = if request.r#type() == TrackType::Audio {
                "audio"
            } else {
                "video"
            };
            Some(proto::SimulcastCodecInfo {
                mime_type: format!("{prefix}/{}", codec.codec),
                cid: codec.cid.clone(),
                layers: if codec.layers.is_empty() {
                    request.layers.clone()
                } else {
                    codec.layers.clone()
                },
                video_layer_mode: mode as i32,
                ..Default::default()
            })
        })
        .collect()
}

/// LiveKit groups a camera with its microphone, and a screen with its sound, by stream.
fn default_stream(source: TrackSource) -> &'static str {
    match source {
        TrackSource::Camera | TrackSource::Microphone => "camera",
        TrackSource::ScreenShare | TrackSource::ScreenShareAudio => "screen_share",
        TrackSource::Unknown => "unknown",
    }
}

/// Media type as clients know it.
pub(crate) fn mime_type(codec: Codec) -> &'static str {
    match codec {
        Codec::Opus => "audio/opus",
        Codec::G722 => "audio/G722",
        Codec::Pcma => "audio/PCMA",
        Codec::Pcmu => "audio/PCMU",
        Codec::Vp8 => "video/VP8",
        Codec::Vp9 => "video/VP9",
        Codec::H264 => "video/H264",
        Codec::Av1 => "video/AV1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn simulcast() -> Track {
        let layer = |quality: VideoQuality, width, height| proto::VideoLayer {
            quality: quality as i32,
            width,
            height,
            ..Default::default()
        };
        let request = proto::AddTrackRequest {
            cid: "cam".to_owned(),
            r#type: TrackType::Video as i32,
            source: TrackSource::Camera as i32,
            layers: vec![
                layer(VideoQuality::Low, 320, 180),
                layer(VideoQuality::Medium, 640, 360),
                layer(VideoQuality::High, 1280, 720),
            ],
            ..Default::default()
        };
        Track::announced(TrackId(1), "TR_x".to_owned(), &request, 1).unwrap()
    }

    #[test]
    fn the_smallest_sufficient_layer_is_chosen() {
        let track = simulcast();
        assert_eq!(track.quality_for(160, 90), VideoQuality::Low);
        assert_eq!(track.quality_for(321, 180), VideoQuality::Medium);
        assert_eq!(track.quality_for(4000, 2000), VideoQuality::High);
        assert_eq!(track.layer_for(VideoQuality::Low), 0);
        assert_eq!(track.layer_for(VideoQuality::High), 2);
    }

    #[test]
    fn a_track_without_client_side_name_is_refused() {
        let request = proto::AddTrackRequest::default();
        assert!(Track::announced(TrackId(1), "TR_x".to_owned(), &request, 1).is_none());
    }
}
