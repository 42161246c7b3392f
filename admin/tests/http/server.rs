//! A running HTTP plane on a free port, a scripted engine behind it, and a small client.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use livekit_api::access_token::{AccessToken, VideoGrants};
use palabre_admin::{
    AdminConfig, Line, LiveRooms, Parts, Requests, ServeError, ServerHandle, Store, serve,
};
use palabre_engine::directory::BoxFuture;
use palabre_engine::door::{Door, Patience};
use palabre_engine::{JoinError, JoinRequest, RoomError, SignalClosed, SignalOutput, proto};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};

pub(crate) const PASSWORD: &str = "correct horse battery";

/// One signal connection as the engine sees it.
pub(crate) struct Joined {
    pub(crate) request: JoinRequest,
    pub(crate) requests: mpsc::Receiver<proto::SignalRequest>,
    pub(crate) responses: mpsc::Sender<SignalOutput>,
}

/// An engine that does what the test wrote down.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) rooms: Mutex<HashMap<String, Vec<proto::ParticipantInfo>>>,
    /// Told when a room is deleted.
    pub(crate) deleted: Notify,
    pub(crate) joined: Mutex<Vec<Joined>>,
    pub(crate) checked: Mutex<Vec<JoinRequest>>,
    pub(crate) refuse_join: Mutex<Option<JoinError>>,
    pub(crate) is_stopped: Mutex<bool>,
    /// A thread of the engine has ended, and those that are asked still answer.
    pub(crate) is_dead: Mutex<bool>,
    pub(crate) has_no_telephone: AtomicBool,
    /// A thread of the engine does nothing more.
    pub(crate) is_hanging: AtomicBool,
    /// What rooms are told, when somebody listens.
    pub(crate) told: Mutex<Option<mpsc::UnboundedSender<proto::SendDataRequest>>>,
}

struct Sender(mpsc::Sender<proto::SignalRequest>);

impl Requests for Sender {
    fn send(&self, request: proto::SignalRequest) -> BoxFuture<'_, Result<(), SignalClosed>> {
        Box::pin(async move { self.0.send(request).await.map_err(|_| SignalClosed) })
    }
}

type Answer<'a, T> = BoxFuture<'a, Result<T, RoomError>>;

fn ready<'a, T: Send + 'a>(value: Result<T, RoomError>) -> Answer<'a, T> {
    Box::pin(async move { value })
}

impl Script {
    pub(crate) fn put(&self, room: &str, identities: &[&str]) {
        let participants = identities
            .iter()
            .map(|identity| proto::ParticipantInfo {
                identity: (*identity).to_owned(),
                name: format!("name of {identity}"),
                kind: proto::participant_info::Kind::Sip as i32,
                joined_at: 1_790_000_000,
                tracks: vec![proto::TrackInfo {
                    sid: "TR_1".into(),
                    source: proto::TrackSource::Microphone as i32,
                    ..Default::default()
                }],
                ..Default::default()
            })
            .collect();
        self.rooms
            .lock()
            .unwrap()
            .insert(room.to_owned(), participants);
    }

    pub(crate) fn last_joined(&self) -> Joined {
        self.joined.lock().unwrap().pop().expect("somebody joined")
    }

    fn with<T>(
        &self,
        room: &str,
        ask: impl FnOnce(&mut Vec<proto::ParticipantInfo>) -> Result<T, RoomError>,
    ) -> Result<T, RoomError> {
        if *self.is_stopped.lock().unwrap() {
            return Err(RoomError::Stopping);
        }
        self.rooms
            .lock()
            .unwrap()
            .get_mut(room)
            .ok_or(RoomError::RoomUnknown)
            .and_then(ask)
    }

    fn find(
        list: &[proto::ParticipantInfo],
        identity: &str,
    ) -> Result<proto::ParticipantInfo, RoomError> {
        list.iter()
            .find(|p| p.identity == identity)
            .cloned()
            .ok_or(RoomError::ParticipantUnknown)
    }
}

impl LiveRooms for Script {
    fn answers(&self) -> BoxFuture<'_, bool> {
        if self.is_hanging.load(Ordering::Relaxed) {
            return Box::pin(std::future::pending());
        }
        let is_well = !*self.is_dead.lock().unwrap() && !*self.is_stopped.lock().unwrap();
        Box::pin(std::future::ready(is_well))
    }

    fn join(&self, request: JoinRequest) -> BoxFuture<'_, Result<Line, JoinError>> {
        if let Some(error) = self.refuse_join.lock().unwrap().clone() {
            return Box::pin(async move { Err(error) });
        }
        let (to_engine, requests) = mpsc::channel(64);
        let (responses, from_engine) = mpsc::channel(64);
        self.joined.lock().unwrap().push(Joined {
            request,
            requests,
            responses,
        });
        Box::pin(async move {
            Ok(Line {
                requests: Box::new(Sender(to_engine)),
                responses: from_engine,
            })
        })
    }

    fn check_join(&self, request: JoinRequest) -> BoxFuture<'_, Result<(), JoinError>> {
        self.checked.lock().unwrap().push(request);
        let refused = self.refuse_join.lock().unwrap().clone();
        Box::pin(async move { refused.map_or(Ok(()), Err) })
    }

    fn create_room(&self, request: proto::CreateRoomRequest) -> Answer<'_, proto::Room> {
        if request.name.is_empty() {
            return ready(Err(RoomError::Unacceptable {
                field: "name",
                because: "it is empty",
            }));
        }
        self.put(&request.name, &[]);
        ready(Ok(proto::Room {
            name: request.name,
            empty_timeout: request.empty_timeout,
            max_participants: request.max_participants,
            ..Default::default()
        }))
    }

    fn list_rooms(&self, names: Vec<String>) -> Answer<'_, Vec<proto::Room>> {
        if *self.is_stopped.lock().unwrap() {
            return ready(Err(RoomError::Stopping));
        }
        let rooms = self.rooms.lock().unwrap();
        ready(Ok(rooms
            .iter()
            .filter(|(name, _)| names.is_empty() || names.contains(name))
            .map(|(name, list)| proto::Room {
                name: name.clone(),
                num_participants: list.len() as u32,
                ..Default::default()
            })
            .collect()))
    }

    fn delete_room(&self, name: String) -> Answer<'_, ()> {
        let deleted = self.rooms.lock().unwrap().remove(&name);
        self.deleted.notify_one();
        ready(deleted.map(drop).ok_or(RoomError::RoomUnknown))
    }

    fn list_participants(&self, room: String) -> Answer<'_, Vec<proto::ParticipantInfo>> {
        ready(self.with(&room, |list| Ok(list.clone())))
    }

    fn participant(&self, room: String, identity: String) -> Answer<'_, proto::ParticipantInfo> {
        ready(self.with(&room, |list| Self::find(list, &identity)))
    }

    fn remove_participant(&self, room: String, identity: String) -> Answer<'_, ()> {
        ready(self.with(&room, |list| {
            Self::find(list, &identity)?;
            list.retain(|p| p.identity != identity);
            Ok(())
        }))
    }

    fn mute_published_track(
        &self,
        request: proto::MuteRoomTrackRequest,
    ) -> Answer<'_, proto::TrackInfo> {
        ready(self.with(&request.room, |list| {
            if !request.muted {
                return Err(RoomError::UnmuteForbidden);
            }
            let participant = Self::find(list, &request.identity)?;
            let track = participant
                .tracks
                .into_iter()
                .find(|t| t.sid == request.track_sid);
            track
                .map(|t| proto::TrackInfo { muted: true, ..t })
                .ok_or(RoomError::TrackUnknown)
        }))
    }

    fn update_participant(
        &self,
        request: proto::UpdateParticipantRequest,
    ) -> Answer<'_, proto::ParticipantInfo> {
        ready(self.with(&request.room, |list| {
            let mut participant = Self::find(list, &request.identity)?;
            participant.name = request.name;
            Ok(participant)
        }))
    }

    fn update_room_metadata(&self, room: String, metadata: String) -> Answer<'_, proto::Room> {
        ready(self.with(&room.clone(), |_| {
            Ok(proto::Room {
                name: room,
                metadata,
                ..Default::default()
            })
        }))
    }

    fn send_data(&self, request: proto::SendDataRequest) -> Answer<'_, ()> {
        ready(self.with(&request.room.clone(), |_| {
            if let Some(told) = &*self.told.lock().unwrap() {
                let _ = told.send(request);
            }
            Ok(())
        }))
    }
}

/// A running server with its database in a folder of its own.
pub(crate) struct Server {
    pub(crate) script: Arc<Script>,
    pub(crate) store: Store,
    pub(crate) address: SocketAddr,
    pub(crate) handle: Option<ServerHandle>,
    pub(crate) claim_code: String,
    _folder: tempfile::TempDir,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// Checks that it is a problem document of this status and code.
    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json")
        );
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status);
        assert!(
            problem["detail"]
                .as_str()
                .is_some_and(|d| d.ends_with('.') && d.len() > 15),
            "{problem}"
        );
        problem
    }

    /// `name=value` of the cookie it sets.
    pub(crate) fn cookie(&self) -> String {
        self.header("set-cookie")
            .unwrap()
            .split(';')
            .next()
            .unwrap()
            .to_owned()
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(AdminConfig::default()).await
    }

    /// A server that believes `X-Forwarded-For` of this machine, so that tests choose their source.
    pub(crate) async fn behind_proxy() -> Self {
        let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        Self::with(AdminConfig {
            trusted_proxies,
            ..AdminConfig::default()
        })
        .await
    }

    pub(crate) async fn with(config: AdminConfig) -> Self {
        Self::attempt(config).await.unwrap()
    }

    /// On a port that the system chooses, unless the configuration says where.
    pub(crate) async fn attempt(mut config: AdminConfig) -> Result<Self, ServeError> {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("palabre.db"))
            .await
            .unwrap();
        let claim_code = store
            .access
            .new_claim_code()
            .await
            .unwrap()
            .unwrap()
            .reveal()
            .to_owned();
        let script = Arc::new(Script::default());
        let parts = Parts {
            store: store.clone(),
            live: script.clone(),
            appliance: None,
            door: Door::new(store.rooms.directory(), Patience::default()),
            sources: Vec::new(),
            sip: Some(std::net::SocketAddr::from(([0, 0, 0, 0], 5070))),
            readiness: vec![(
                "sip",
                Box::new({
                    let script = script.clone();
                    move || !script.has_no_telephone.load(Ordering::Relaxed)
                }),
            )],
        };
        if config.bind == AdminConfig::default().bind {
            config.bind = SocketAddr::from(([127, 0, 0, 1], 0));
        }
        let handle = serve(config, parts).await?;
        let address = handle.address();
        Ok(Self {
            script,
            store,
            address,
            handle: Some(handle),
            claim_code,
            _folder: folder,
        })
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let host = self.address.to_string();
        let mut all = vec![("Host", host.as_str())];
        all.extend_from_slice(headers);
        let stream = TcpStream::connect(self.address).await.unwrap();
        exchange(stream, method, path, &all, body).await
    }

    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.send("GET", path, headers, b"").await
    }

    /// Sends JSON.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> Reply {
        let mut all = vec![("Content-Type", "application/json")];
        all.extend_from_slice(headers);
        self.send(method, path, &all, body.to_string().as_bytes())
            .await
    }

    /// Claims the box; returns the session cookie.
    pub(crate) async fn claim(&self) -> String {
        let body = json!({ "code": self.claim_code, "password": PASSWORD });
        let reply = self.call("POST", "/api/v1/claim", &[], body).await;
        assert_eq!(reply.status, 204, "{}", reply.text());
        reply.cookie()
    }

    /// Makes a room as the administrator.
    pub(crate) async fn room(&self, cookie: &str, name: &str) -> Value {
        let body = json!({ "name": name });
        let reply = self
            .call("POST", "/api/v1/rooms", &[("Cookie", cookie)], body)
            .await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        reply.json()
    }

    /// A LiveKit token signed by an application's key of this box.
    pub(crate) async fn token(&self, grants: VideoGrants) -> String {
        self.token_of("alice", grants, Duration::from_secs(60))
            .await
    }

    pub(crate) async fn token_of(
        &self,
        identity: &str,
        grants: VideoGrants,
        life: Duration,
    ) -> String {
        let key = self.store.keys.create("test").await.unwrap();
        AccessToken::with_api_key(&key.id, key.secret.reveal())
            .with_identity(identity)
            .with_grants(grants)
            .with_ttl(life)
            .to_jwt()
            .unwrap()
    }

    /// A token to join `room`.
    pub(crate) async fn join_token(&self, room: &str) -> String {
        self.token(VideoGrants {
            room: room.into(),
            room_join: true,
            ..VideoGrants::default()
        })
        .await
    }
}

/// Sends one request on a connection and reads the whole answer.
pub(crate) async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Reply {
    let mut request = format!("{method} {path} HTTP/1.1\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("transfer-encoding"))
    {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    request.push_str("Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    parse(&answer)
}

pub(crate) fn parse(answer: &[u8]) -> Reply {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(answer)));
    let head = std::str::from_utf8(&answer[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut body = answer[end + 4..].to_vec();
    let is_chunked = headers
        .iter()
        .any(|(name, value)| name.eq_ignore_ascii_case("transfer-encoding") && value == "chunked");
    if is_chunked {
        body = unchunk(&body);
    }
    Reply {
        status,
        headers,
        body,
    }
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|w| w == b"\r\n") {
        let size = std::str::from_utf8(&rest[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 2 + size + 2..];
        if size == 0 {
            break;
        }
    }
    body
}
