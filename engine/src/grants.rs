//! What a token allows, once its signature was checked elsewhere: the engine never sees a JWT.

use std::collections::HashMap;

use crate::proto;

/// LiveKit's video grant with the identity it was given to.
///
/// Defaults follow LiveKit's reading of absent claims: publishing, subscribing and data are
/// allowed, changing one's own metadata is not.
#[derive(Clone, Debug, PartialEq)]
pub struct Grants {
    /// `sub`: who this is, unique in the room.
    pub identity: String,
    /// Shown name.
    pub name: String,
    /// Opaque text for applications.
    pub metadata: String,
    /// Opaque key-value pairs for applications.
    pub attributes: HashMap<String, String>,
    /// Standard, SIP, agent...
    pub kind: proto::participant_info::Kind,
    /// Details of the kind, mirrored to clients.
    pub kind_details: Vec<i32>,
    /// `video.room`: the room this token is for; empty = any (server tokens).
    pub room: String,
    /// May join [`Self::room`].
    pub room_join: bool,
    /// May create and delete rooms.
    pub room_create: bool,
    /// May list rooms.
    pub room_list: bool,
    /// May moderate [`Self::room`].
    pub room_admin: bool,
    /// May record.
    pub room_record: bool,
    /// May publish tracks.
    pub can_publish: bool,
    /// May receive tracks.
    pub can_subscribe: bool,
    /// May send data packets.
    pub can_publish_data: bool,
    /// When not empty, only these sources may be published; supersedes [`Self::can_publish`].
    pub can_publish_sources: Vec<proto::TrackSource>,
    /// May change its own name, metadata and attributes.
    pub can_update_own_metadata: bool,
    /// Not shown to the others.
    pub hidden: bool,
    /// Records the room.
    pub recorder: bool,
    /// An agent program.
    pub agent: bool,
    /// May receive metrics data.
    pub can_subscribe_metrics: bool,
    /// `roomConfig`: how to make the room if joining makes it.
    pub room_config: Option<Box<proto::RoomConfiguration>>,
}

impl Default for Grants {
    fn default() -> Self {
        Self {
            identity: String::new(),
            name: String::new(),
            metadata: String::new(),
            attributes: HashMap::new(),
            kind: proto::participant_info::Kind::Standard,
            kind_details: Vec::new(),
            room: String::new(),
            room_join: false,
            room_create: false,
            room_list: false,
            room_admin: false,
            room_record: false,
            can_publish: true,
            can_subscribe: true,
            can_publish_data: true,
            can_publish_sources: Vec::new(),
            can_update_own_metadata: false,
            hidden: false,
            recorder: false,
            agent: false,
            can_subscribe_metrics: false,
            room_config: None,
        }
    }
}

impl Grants {
    /// The same rights in the shape clients are told about.
    #[must_use]
    pub fn permission(&self) -> proto::ParticipantPermission {
        #[allow(deprecated)]
        proto::ParticipantPermission {
            can_subscribe: self.can_subscribe,
            can_publish: self.can_publish,
            can_publish_data: self.can_publish_data,
            can_publish_sources: self.can_publish_sources.iter().map(|s| *s as i32).collect(),
            hidden: self.hidden,
            recorder: self.recorder,
            can_update_metadata: self.can_update_own_metadata,
            agent: self.agent,
            can_subscribe_metrics: self.can_subscribe_metrics,
            can_manage_agent_session: false,
        }
    }
}
