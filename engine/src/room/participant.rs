//! One participant: who it is, what it may do, what it publishes and receives.
//!
//! Holds state and answers questions about it; what happens is decided in the room.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use palabre_media::ids::{LegId, MediaKind, SessionId, SubscriptionId, TrackId};
use palabre_media::jsep::{Answerer, Offerer};
use palabre_media::rtp::Mid;
use palabre_media::transport::IceCredentials;

use super::context::ParticipantKey;
use super::track::Track;
use crate::grants::Grants;
use crate::proto::participant_info::State;
use crate::proto::{self, TrackSource, VideoQuality};
use crate::shard::ConnectionId;

/// Somebody in a room.
pub(crate) struct Participant {
    pub(crate) key: ParticipantKey,
    /// PA_ name.
    pub(crate) sid: String,
    /// Identity, name, metadata, attributes and rights; the one place where they live.
    pub(crate) grants: Grants,
    pub(crate) client: proto::ClientInfo,
    pub(crate) state: State,
    /// Milliseconds since 1970.
    pub(crate) joined_at: i64,
    /// Grows with each change others are told of.
    pub(crate) version: u32,
    pub(crate) tracks: Vec<Track>,
    pub(crate) publicity: Publicity,
    pub(crate) link: Link,
    pub(crate) quality: LinkQuality,
}

/// How a participant is connected.
pub(crate) enum Link {
    /// By LiveKit signalling.
    Client(Box<Client>),
    /// By telephone: its audio is the mixer thread's.
    Leg(LegId),
}

/// State of one client's signalling and peer connections.
pub(crate) struct Client {
    /// The open signal connection.
    pub(crate) connection: Option<ConnectionId>,
    /// When it said something last.
    pub(crate) heard: Instant,
    /// Since when there is no signal connection.
    pub(crate) signal_lost: Option<Instant>,
    /// Since when no peer connection stands that once stood.
    pub(crate) media_lost: Option<Instant>,
    /// When the next token is due.
    pub(crate) refresh_at: Instant,
    /// How long after that the next one.
    pub(crate) refresh: Duration,
    pub(crate) auto_subscribe: bool,
    /// Tracks it asked to have or not to have, by sid.
    pub(crate) choices: HashMap<String, bool>,
    /// Tracks it was told it may not have.
    pub(crate) denied: HashSet<TrackId>,
    pub(crate) subscriptions: BTreeMap<TrackId, Subscription>,
    pub(crate) ssrcs: Ssrcs,
    pub(crate) publisher: Option<Publisher>,
    pub(crate) subscriber: Subscriber,
    /// Number of the last reliable packet routed.
    pub(crate) last_sequence: u32,
    /// Test scenario: cut the next resumed signal connection once.
    pub(crate) cut_next_resume: bool,
}

/// The connection on which the client offers and sends.
pub(crate) struct Publisher {
    pub(crate) session: SessionId,
    pub(crate) credentials: IceCredentials,
    pub(crate) answerer: Answerer,
    /// The workers know the client's end.
    pub(crate) remote_known: bool,
    pub(crate) connected: bool,
}

/// The connection on which we offer and send.
pub(crate) struct Subscriber {
    pub(crate) session: SessionId,
    pub(crate) credentials: IceCredentials,
    pub(crate) offerer: Offerer,
    /// Something is to be offered.
    pub(crate) dirty: bool,
    /// Since when an answer is awaited.
    pub(crate) outstanding: Option<Instant>,
    /// The first answer has come: media may be offered.
    pub(crate) answered: bool,
    /// Credentials changed; the workers learn the client's with the answer.
    pub(crate) restarting: bool,
    pub(crate) connected: bool,
}

/// SSRCs of one connection that we send under: none is ever given twice, also not after its subscription ended.
///
/// RFC 3550 §8.1 asks for random ones. Here the first is random and the others are too far apart to be guessed by
/// accident, because under one SRTP key an SSRC that comes again would use its packet numbers again, and with
/// AEAD_AES_GCM a number used twice gives the key away (RFC 7714 §10.1).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ssrcs(u32);

impl Ssrcs {
    /// An odd step visits all 2^32 numbers before it comes back; this one, 2^32 divided by the golden ratio, spreads them.
    const STEP: u32 = 0x9E37_79B9;

    pub(crate) fn starting_at(random: u32) -> Self {
        Self(random)
    }

    /// The next one. Never 0, which is reserved, nor 1, under which we report.
    pub(crate) fn take(&mut self) -> u32 {
        loop {
            self.0 = self.0.wrapping_add(Self::STEP);
            if self.0 > 1 {
                return self.0;
            }
        }
    }
}

/// One track as it is sent to one client.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    pub(crate) id: SubscriptionId,
    pub(crate) track_sid: String,
    pub(crate) kind: MediaKind,
    pub(crate) ssrc: u32,
    pub(crate) rtx_ssrc: Option<u32>,
    /// Its media section, once offered.
    pub(crate) mid: Option<Mid>,
    /// The workers send it.
    pub(crate) sending: bool,
    pub(crate) setting: Setting,
}

/// What a client shows of a track (`track_setting`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) disabled: bool,
    pub(crate) quality: VideoQuality,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            disabled: false,
            quality: VideoQuality::High,
        }
    }
}

/// Whom a participant lets receive its tracks (`subscription_permission`).
#[derive(Clone, Debug, Default)]
pub(crate) enum Publicity {
    #[default]
    Everybody,
    Listed(Vec<proto::TrackPermission>),
}

/// Last known quality of both connections, for `connection_quality`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct LinkQuality {
    /// Score of what comes from the participant, while it sends.
    pub(crate) uplink: Option<f32>,
    /// Score of what goes to the participant, while something is sent.
    pub(crate) downlink: Option<f32>,
    /// Others have been told of this grade.
    pub(crate) told: bool,
}

impl Participant {
    /// Unique name in the room.
    pub(crate) fn identity(&self) -> &str {
        &self.grants.identity
    }

    /// What others are told.
    pub(crate) fn info(&self) -> proto::ParticipantInfo {
        let tracks = self.tracks.iter().filter(|track| track.published);
        proto::ParticipantInfo {
            sid: self.sid.clone(),
            identity: self.grants.identity.clone(),
            state: self.state as i32,
            tracks: tracks.map(|track| track.info.clone()).collect(),
            metadata: self.grants.metadata.clone(),
            joined_at: self.joined_at / 1000,
            joined_at_ms: self.joined_at,
            name: self.grants.name.clone(),
            version: self.version,
            permission: Some(self.grants.permission()),
            region: String::new(),
            is_publisher: self.is_publisher(),
            kind: self.grants.kind as i32,
            attributes: self.grants.attributes.clone(),
            disconnect_reason: 0,
            kind_details: self.grants.kind_details.clone(),
            data_tracks: Vec::new(),
            client_protocol: self.client.client_protocol,
            capabilities: self.client.capabilities.clone(),
        }
    }

    /// Whether it has something others can receive.
    pub(crate) fn is_publisher(&self) -> bool {
        self.tracks.iter().any(|track| track.published)
    }

    /// The client behind it, unless it is a telephone.
    pub(crate) fn client(&self) -> Option<&Client> {
        match &self.link {
            Link::Client(client) => Some(client),
            Link::Leg(_) => None,
        }
    }

    /// The client behind it, unless it is a telephone.
    pub(crate) fn client_mut(&mut self) -> Option<&mut Client> {
        match &mut self.link {
            Link::Client(client) => Some(client),
            Link::Leg(_) => None,
        }
    }

    /// The open signal connection.
    pub(crate) fn connection(&self) -> Option<ConnectionId> {
        self.client().and_then(|client| client.connection)
    }

    /// Whether the token allows publishing from this source.
    pub(crate) fn may_publish(&self, source: TrackSource) -> bool {
        if self.grants.can_publish_sources.is_empty() {
            self.grants.can_publish
        } else {
            self.grants.can_publish_sources.contains(&source)
        }
    }

    /// Whether this participant lets `other` receive `track`.
    pub(crate) fn shows(&self, track: &Track, other: &Participant) -> bool {
        match &self.publicity {
            Publicity::Everybody => true,
            Publicity::Listed(list) => list.iter().any(|entry| {
                let named = if entry.participant_identity.is_empty() {
                    entry.participant_sid == other.sid
                } else {
                    entry.participant_identity == other.identity()
                };
                named && (entry.all_tracks || entry.track_sids.iter().any(|s| s == track.sid()))
            }),
        }
    }

    /// The published or announced track of this sid.
    pub(crate) fn track_by_sid(&mut self, sid: &str) -> Option<&mut Track> {
        self.tracks.iter_mut().find(|track| track.sid() == sid)
    }

    /// The track of this number.
    pub(crate) fn track(&self, id: TrackId) -> Option<&Track> {
        self.tracks.iter().find(|track| track.id == id)
    }

    /// The track of this number.
    pub(crate) fn track_mut(&mut self, id: TrackId) -> Option<&mut Track> {
        self.tracks.iter_mut().find(|track| track.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ssrc_is_given_once() {
        for start in [0, 1, u32::MAX, 0x61C8_8647, 0x61C8_8648] {
            let mut ssrcs = Ssrcs::starting_at(start);
            let mut seen = HashSet::new();
            for _ in 0..100_000 {
                let ssrc = ssrcs.take();
                assert!(ssrc > 1 && seen.insert(ssrc), "{ssrc}");
            }
        }
    }
}
