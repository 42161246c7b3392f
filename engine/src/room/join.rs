//! Coming in: checks, the seat, and the first messages a client reads.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use palabre_media::jsep::Offerer;
use palabre_media::sfu::SessionConfig;
use palabre_media::transport::{DataChannelPolicy, IceCredentials, TransportConfig};

use super::context::{Cx, ParticipantKey, Seat};
use super::participant::{Client, Link, LinkQuality, Participant, Publicity, Ssrcs, Subscriber};
use super::{Departure, MAX_METADATA, MAX_NAME, Room, attributes_fit};
use crate::config::RoomsConfig;
use crate::error::{JoinError, RoomError};
use crate::grants::Grants;
use crate::handle::{JoinRequest, SignalOutput};
use crate::proto::leave_request::Action;
use crate::proto::participant_info::State;
use crate::proto::signal_response::Message;
use crate::proto::{self, DisconnectReason};
use crate::shard::ConnectionId;

/// Seconds between a client's pings, and after how many without answer it gives up.
/// Zero makes the Rust SDK panic.
pub(super) const PING_INTERVAL: i32 = 5;
pub(super) const PING_TIMEOUT: i32 = 15;

/// How often a client gets a fresh token for reconnecting, at least.
const TOKEN_REFRESH: Duration = Duration::from_secs(300);

/// How often a client whose tokens live this long gets a fresh one: what it holds is always good
/// for half its life, so that one that loses its connection can come back.
pub(super) fn token_refresh(lifetime: Option<Duration>) -> Duration {
    lifetime.map_or(TOKEN_REFRESH, |lifetime| TOKEN_REFRESH.min(lifetime / 2))
}

/// LiveKit server whose behaviour we follow; SDKs compare it before using features.
const COMPATIBLE_VERSION: &str = "1.11.0";
/// LiveKit protocol number of that version.
const PROTOCOL: i32 = 16;

/// Who we are, for clients.
pub(super) fn server_info() -> proto::ServerInfo {
    proto::ServerInfo {
        edition: proto::server_info::Edition::Standard as i32,
        version: COMPATIBLE_VERSION.to_owned(),
        protocol: PROTOCOL,
        node_id: "ND_palabre".to_owned(),
        debug_info: concat!("Palabre ", env!("CARGO_PKG_VERSION")).to_owned(),
        ..Default::default()
    }
}

/// Codecs that may be published.
pub(super) fn enabled_codecs() -> Vec<proto::Codec> {
    ["audio/opus", "video/VP8", "video/H264", "video/VP9"]
        .map(|mime| proto::Codec {
            mime: mime.to_owned(),
            fmtp_line: String::new(),
        })
        .to_vec()
}

/// Refuses a room's name and metadata out of bounds.
pub(crate) fn check_room(name: &str, metadata: &str) -> Result<(), RoomError> {
    let unacceptable = |field, because| Err(RoomError::Unacceptable { field, because });
    if name.is_empty() {
        return unacceptable("room name", "it is empty");
    }
    if name.len() > MAX_NAME {
        return unacceptable("room name", "it has more than 256 bytes");
    }
    if metadata.len() > MAX_METADATA {
        return unacceptable("metadata", "it has more than 64,000 bytes");
    }
    Ok(())
}

/// Adds the attributes asked for in the query to the token's. Only who may change its own
/// attributes once inside may choose them when coming in: otherwise the token's word, on which
/// others rely, would be the client's. An empty text sets nothing and takes nothing away.
pub(crate) fn add_attributes(
    grants: &mut Grants,
    asked: HashMap<String, String>,
) -> Result<(), JoinError> {
    if !asked.is_empty() && !grants.can_update_own_metadata {
        return Err(JoinError::AttributesNotAllowed);
    }
    let set = asked.into_iter().filter(|(_, value)| !value.is_empty());
    grants.attributes.extend(set);
    Ok(())
}

/// Refuses names, metadata and attributes out of bounds.
pub(crate) fn check(room: &str, grants: &Grants) -> Result<(), JoinError> {
    let unacceptable = |field, because| Err(JoinError::Unacceptable { field, because });
    if room.is_empty() {
        return unacceptable("room name", "it is empty");
    }
    if room.len() > MAX_NAME {
        return unacceptable("room name", "it has more than 256 bytes");
    }
    if grants.identity.is_empty() {
        return unacceptable("identity", "it is empty");
    }
    if grants.identity.len() > MAX_NAME {
        return unacceptable("identity", "it has more than 256 bytes");
    }
    if grants.name.len() > MAX_NAME {
        return unacceptable("name", "it has more than 256 bytes");
    }
    if grants.metadata.len() > MAX_METADATA {
        return unacceptable("metadata", "it has more than 64,000 bytes");
    }
    if !attributes_fit(&grants.attributes) {
        return unacceptable("attributes", "they have more than 64,000 bytes");
    }
    Ok(())
}

impl Room {
    /// Whether one more may come in, `identity` taking the place of itself.
    pub(super) fn check_space(&self, identity: &str, rooms: &RoomsConfig) -> Result<(), JoinError> {
        let limit = match self.max_participants {
            0 => rooms.max_participants,
            n => n.min(rooms.max_participants),
        };
        let others = self.participants.len() - usize::from(self.identities.contains_key(identity));
        if others >= limit as usize {
            return Err(JoinError::RoomFull { limit });
        }
        Ok(())
    }

    /// Whether [`Self::join`] would let this client in now.
    pub(crate) fn check_join(
        &self,
        request: &JoinRequest,
        rooms: &RoomsConfig,
    ) -> Result<(), JoinError> {
        match &request.reconnect {
            Some(sid) => self.resumable(sid, &request.grants.identity).map(drop),
            None => self.check_space(&request.grants.identity, rooms),
        }
    }

    /// Lets a client in, whose request was checked, and sends it everything it needs to begin.
    pub(crate) fn join(
        &mut self,
        connection: ConnectionId,
        request: JoinRequest,
        cx: &mut Cx<'_>,
    ) -> Result<(), JoinError> {
        if let Some(sid) = &request.reconnect {
            let sid = sid.clone();
            self.resume(connection, &sid, &request, cx)?;
            self.settle(cx);
            return Ok(());
        }
        let grants = request.grants;
        self.check_space(&grants.identity, &cx.config.rooms)?;
        self.kick_duplicate(&grants.identity, cx);

        let key = cx.ids.participant();
        let seat = Seat {
            room: self.number,
            participant: key,
        };
        let subscriber = subscriber(seat, cx);
        cx.routes.connections.insert(connection, seat);
        let identity = grants.identity.clone();
        let participant = Participant {
            key,
            sid: cx.sid("PA_"),
            state: State::Joined,
            joined_at: cx.wall,
            version: 1,
            tracks: Vec::new(),
            publicity: Publicity::default(),
            link: Link::Client(Box::new(Client {
                connection: Some(connection),
                heard: cx.now,
                signal_lost: None,
                media_lost: None,
                refresh_at: cx.now + token_refresh(request.token_lifetime),
                refresh: token_refresh(request.token_lifetime),
                auto_subscribe: request.auto_subscribe,
                choices: HashMap::new(),
                denied: HashSet::new(),
                subscriptions: BTreeMap::new(),
                ssrcs: Ssrcs::starting_at(cx.nonzero()),
                publisher: None,
                subscriber,
                last_sequence: 0,
                cut_next_resume: false,
            })),
            quality: LinkQuality::default(),
            client: request.client,
            grants,
        };
        let join = self.join_response(&participant);
        let token = participant.grants.clone();
        self.participants.insert(key, participant);
        self.identities.insert(identity, key);
        self.was_joined = true;
        cx.send(connection, Message::Join(join));
        cx.out.push((connection, SignalOutput::RefreshToken(token)));
        self.speakers.tell_newcomer(connection, cx);
        self.mark_offer_due(key);
        self.subscribers_to_match.insert(key);
        self.announce(key, cx);
        self.settle(cx);
        Ok(())
    }

    /// Others hear of a newcomer; it knows itself from its join response.
    fn announce(&self, key: ParticipantKey, cx: &mut Cx<'_>) {
        let Some(newcomer) = self.participants.get(&key) else {
            return;
        };
        if newcomer.grants.hidden {
            return;
        }
        let update = Message::Update(proto::ParticipantUpdate {
            participants: vec![newcomer.info()],
        });
        for (other, participant) in &self.participants {
            if let Some(connection) = participant.connection()
                && *other != key
            {
                cx.send(connection, update.clone());
            }
        }
    }

    /// The same identity again: the first one goes.
    pub(super) fn kick_duplicate(&mut self, identity: &str, cx: &mut Cx<'_>) {
        if let Some(first) = self.identities.get(identity).copied() {
            let departure = Departure {
                reason: DisconnectReason::DuplicateIdentity,
                told: Some(Action::Disconnect),
            };
            self.remove(first, departure, cx);
        }
    }

    fn join_response(&self, participant: &Participant) -> proto::JoinResponse {
        let others = self.participants.values().filter(|p| !p.grants.hidden);
        let mut room = self.info();
        // It counts itself.
        room.num_participants += u32::from(!participant.grants.hidden);
        proto::JoinResponse {
            room: Some(room),
            participant: Some(participant.info()),
            other_participants: others.map(Participant::info).collect(),
            server_version: COMPATIBLE_VERSION.to_owned(),
            ice_servers: Vec::new(),
            subscriber_primary: true,
            client_configuration: Some(proto::ClientConfiguration {
                resume_connection: proto::ClientConfigSetting::Enabled as i32,
                ..Default::default()
            }),
            ping_timeout: PING_TIMEOUT,
            ping_interval: PING_INTERVAL,
            server_info: Some(server_info()),
            sif_trailer: self.sif_trailer.clone(),
            enabled_publish_codecs: enabled_codecs(),
            fast_publish: participant.grants.can_publish || participant.grants.can_publish_data,
            ..Default::default()
        }
    }

    /// Sends fresh tokens where they are due.
    pub(super) fn refresh_tokens(&mut self, cx: &mut Cx<'_>) {
        for participant in self.participants.values_mut() {
            let Some(client) = participant.client_mut() else {
                continue;
            };
            if client.refresh_at > cx.now {
                continue;
            }
            client.refresh_at = cx.now + client.refresh;
            if let Some(connection) = client.connection {
                let grants = participant.grants.clone();
                cx.out
                    .push((connection, SignalOutput::RefreshToken(grants)));
            }
        }
    }
}

/// Fresh ICE credentials.
pub(super) fn credentials(cx: &mut Cx<'_>) -> IceCredentials {
    let mut random = [0; IceCredentials::RANDOM_LEN];
    cx.random.fill(&mut random);
    IceCredentials::from_random(&random)
}

/// The session id of our descriptions (RFC 9429 §5.2.1: 62 random bits).
pub(super) fn description_id(cx: &mut Cx<'_>) -> u64 {
    let mut bytes = [0; 8];
    cx.random.fill(&mut bytes);
    u64::from_be_bytes(bytes) >> 2
}

/// The connection on which we send, awaited by the workers from now on.
fn subscriber(seat: Seat, cx: &mut Cx<'_>) -> Subscriber {
    let session = cx.ids.session();
    let credentials = credentials(cx);
    cx.routes.sessions.insert(session, seat);
    cx.media.open(SessionConfig {
        session,
        transport: TransportConfig {
            data: DataChannelPolicy::Open,
            ..TransportConfig::new(credentials.clone())
        },
        remote: None,
    });
    Subscriber {
        session,
        credentials,
        offerer: Offerer::new(description_id(cx)),
        dirty: false,
        outstanding: None,
        answered: false,
        restarting: false,
        connected: false,
    }
}
