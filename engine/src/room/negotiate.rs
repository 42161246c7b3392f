//! What we tell clients about our end: description parameters and trickled candidates.

use palabre_media::jsep::{LocalParameters, TrackPolicy};
use palabre_media::sfu::Codec;
use palabre_media::transport::IceCredentials;

use super::context::Host;
use super::track::Track;
use crate::proto::signal_response::Message;
use crate::proto::{self, AudioTrackFeature, SignalTarget};

/// Our end of one connection.
pub(super) fn local(credentials: &IceCredentials, host: &Host) -> LocalParameters {
    LocalParameters {
        ice: credentials.clone(),
        fingerprint: host.fingerprint,
        candidates: host.candidates.clone(),
    }
}

/// Our candidates as `trickle` messages; the last one says that it is.
pub(super) fn trickle(host: &Host, target: SignalTarget) -> Vec<Message> {
    let last = host.candidates.len().saturating_sub(1);
    let candidates = host.candidates.iter().enumerate();
    candidates
        .map(|(index, candidate)| {
            let init = serde_json::json!({
                "candidate": candidate.to_attribute(index),
                "sdpMid": "0",
                "sdpMLineIndex": 0,
            });
            Message::Trickle(proto::TrickleRequest {
                candidate_init: init.to_string(),
                target: target as i32,
                r#final: index == last,
            })
        })
        .collect()
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
