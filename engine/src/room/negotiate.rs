//! What we tell clients about our end: description parameters, candidates among them.
//!
//! Nothing is trickled: every candidate is known before the first description and stands in it,
//! which says `a=end-of-candidates` and claims no trickling (RFC 8838 §4). A trickled candidate
//! would have to name a media section of its description, whose names the client chooses.

use palabre_media::jsep::{LocalParameters, TrackPolicy};
use palabre_media::sfu::Codec;
use palabre_media::transport::IceCredentials;

use super::context::Host;
use super::track::Track;
use crate::proto::AudioTrackFeature;

/// Our end of one connection.
pub(super) fn local(credentials: &IceCredentials, host: &Host) -> LocalParameters {
    LocalParameters {
        ice: credentials.clone(),
        fingerprint: host.fingerprint,
        candidates: host.candidates.clone(),
    }
}

/// How an announced track shall be sent.
#[allow(deprecated)] // old clients say it with these fields
pub(super) fn policy(track: &Track) -> TrackPolicy {
    let has = |feature: AudioTrackFeature| track.info.audio_features.contains(&(feature as i32));
    let wanted = track
        .info
        .codecs
        .first()
        .and_then(|codec| codec_named(&codec.mime_type));
    TrackPolicy {
        dtx: !track.info.disable_dtx && !has(AudioTrackFeature::TfNoDtx),
        stereo: track.info.stereo || has(AudioTrackFeature::TfStereo),
        codec: wanted,
    }
}

fn codec_named(mime_type: &str) -> Option<Codec> {
    let name = mime_type.rsplit('/').next()?;
    match name.to_ascii_lowercase().as_str() {
        "vp8" => Some(Codec::Vp8),
        "vp9" => Some(Codec::Vp9),
        "h264" => Some(Codec::H264),
        "av1" => Some(Codec::Av1),
        "opus" => Some(Codec::Opus),
        _ => None,
    }
}
