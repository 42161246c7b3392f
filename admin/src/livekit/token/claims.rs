//! The claims of a token as LiveKit names them, read into [`Grants`] and written from them.

use std::collections::HashMap;
use std::time::Duration;

use palabre_engine::{Grants, proto};
use serde::{Deserialize, Serialize};

use super::TokenError;
use crate::store::{ApiKey, UnixSeconds};

/// Claims as LiveKit writes them. Absent and default values are left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Claims {
    pub(super) iss: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    sub: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    jti: String,
    pub(super) exp: Option<serde_json::Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) nbf: Option<serde_json::Number>,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    metadata: String,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    attributes: HashMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    kind: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kind_details: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    room_config: Option<proto::RoomConfiguration>,
    video: Option<VideoGrant>,
}

/// LiveKit's `video` grant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct VideoGrant {
    #[serde(skip_serializing_if = "String::is_empty")]
    room: String,
    #[serde(skip_serializing_if = "is_false")]
    room_join: bool,
    #[serde(skip_serializing_if = "is_false")]
    room_create: bool,
    #[serde(skip_serializing_if = "is_false")]
    room_list: bool,
    #[serde(skip_serializing_if = "is_false")]
    room_admin: bool,
    #[serde(skip_serializing_if = "is_false")]
    room_record: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    can_publish: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    can_subscribe: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    can_publish_data: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    can_publish_sources: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    can_update_own_metadata: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    can_subscribe_metrics: Option<bool>,
    #[serde(skip_serializing_if = "is_false")]
    hidden: bool,
    #[serde(skip_serializing_if = "is_false")]
    recorder: bool,
    #[serde(skip_serializing_if = "is_false")]
    agent: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the shape serde asks for
fn is_false(value: &bool) -> bool {
    !*value
}

impl Claims {
    pub(super) fn grants(self) -> Result<Grants, TokenError> {
        let video = self.video.unwrap_or_default();
        let kind = match self.kind.as_str() {
            "" => proto::participant_info::Kind::Standard,
            kind => proto::participant_info::Kind::from_str_name(&kind.to_ascii_uppercase())
                .ok_or(TokenError::Kind)?,
        };
        let kind_details = self
            .kind_details
            .iter()
            .filter_map(|detail| {
                proto::participant_info::KindDetail::from_str_name(&detail.to_ascii_uppercase())
            })
            .map(|detail| detail as i32)
            .collect();
        // A source we do not know stays in the list as UNKNOWN: dropping it could leave an empty list,
        // which means "everything".
        let can_publish_sources = video
            .can_publish_sources
            .iter()
            .map(|source| {
                proto::TrackSource::from_str_name(&source.to_ascii_uppercase())
                    .unwrap_or(proto::TrackSource::Unknown)
            })
            .collect();
        let can_publish = video.can_publish.unwrap_or(true);
        Ok(Grants {
            identity: if self.sub.is_empty() {
                self.jti
            } else {
                self.sub
            },
            name: self.name,
            metadata: self.metadata,
            attributes: self.attributes,
            kind,
            kind_details,
            room: video.room,
            room_join: video.room_join,
            room_create: video.room_create,
            room_list: video.room_list,
            room_admin: video.room_admin,
            room_record: video.room_record,
            can_publish,
            can_subscribe: video.can_subscribe.unwrap_or(true),
            can_publish_data: video.can_publish_data.unwrap_or(can_publish),
            can_publish_sources,
            can_update_own_metadata: video.can_update_own_metadata.unwrap_or(false),
            hidden: video.hidden,
            recorder: video.recorder,
            agent: video.agent,
            can_subscribe_metrics: video.can_subscribe_metrics.unwrap_or(false),
            room_config: self.room_config.map(Box::new),
        })
    }

    pub(super) fn of(key: &ApiKey, grants: &Grants, now: UnixSeconds, lifetime: Duration) -> Self {
        let kind = match grants.kind {
            proto::participant_info::Kind::Standard => String::new(),
            kind => kind.as_str_name().to_ascii_lowercase(),
        };
        let kind_details = grants
            .kind_details
            .iter()
            .filter_map(|detail| proto::participant_info::KindDetail::try_from(*detail).ok())
            .map(|detail| detail.as_str_name().to_ascii_lowercase())
            .collect();
        let can_publish_sources = grants
            .can_publish_sources
            .iter()
            .map(|source| source.as_str_name().to_ascii_lowercase())
            .collect();
        Self {
            iss: key.id.clone(),
            sub: grants.identity.clone(),
            jti: String::new(),
            exp: Some(now.saturating_add_unsigned(lifetime.as_secs()).into()),
            nbf: Some(now.into()),
            name: grants.name.clone(),
            metadata: grants.metadata.clone(),
            attributes: grants.attributes.clone(),
            kind,
            kind_details,
            sha256: String::new(),
            room_config: grants.room_config.as_deref().cloned(),
            video: Some(VideoGrant {
                room: grants.room.clone(),
                room_join: grants.room_join,
                room_create: grants.room_create,
                room_list: grants.room_list,
                room_admin: grants.room_admin,
                room_record: grants.room_record,
                can_publish: Some(grants.can_publish),
                can_subscribe: Some(grants.can_subscribe),
                can_publish_data: Some(grants.can_publish_data),
                can_publish_sources,
                can_update_own_metadata: Some(grants.can_update_own_metadata),
                can_subscribe_metrics: grants.can_subscribe_metrics.then_some(true),
                hidden: grants.hidden,
                recorder: grants.recorder,
                agent: grants.agent,
            }),
        }
    }
}
