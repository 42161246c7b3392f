//! A shard with fake planes and scripted clients: the whole signalling flow without a socket.

mod flow;
mod hostile;
mod messages;
mod mirror;
mod rights;
mod sdp;
mod speakers;
mod telephone;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use palabre_media::ids::{SessionId, TrackId};
use palabre_media::jsep::{Candidate, CandidateProtocol};
use palabre_media::sfu::{Codec, Command, Event, ReceiveParameters, SendParameters, SessionConfig};
use palabre_media::transport::{DataChannel, Fingerprint, SrtpProfile};
use tokio::sync::{mpsc, oneshot};

use super::context::{Host, LegPlane, MediaPlane, Random};
use crate::config::{EngineConfig, RoomsConfig};
use crate::error::{JoinError, RoomError};
use crate::grants::Grants;
use crate::handle::{JoinRequest, SignalOutput};
use crate::legs;
use crate::metrics::{Counts, MetricsSnapshot};
use crate::proto::signal_request::Message as Asked;
use crate::proto::signal_response::Message;
use crate::proto::{self, TrackSource, TrackType};
use crate::shard::{Ask, Clock, ConnectionId, Input, Planes, Reply, Shard};

/// What reached the media plane.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Open,
    Command(SessionId, Command),
    Close,
}

#[derive(Clone, Default)]
struct FakeMedia(Arc<Mutex<Vec<Told>>>);

impl MediaPlane for FakeMedia {
    fn open(&mut self, _: SessionConfig) {
        self.0.lock().unwrap().push(Told::Open);
    }
    fn command(&mut self, session: SessionId, command: Command) {
        self.0.lock().unwrap().push(Told::Command(session, command));
    }
    fn close(&mut self, _: SessionId) {
        self.0.lock().unwrap().push(Told::Close);
    }
}

#[derive(Clone, Default)]
struct FakeLegs(Arc<Mutex<Vec<legs::Command>>>);

impl LegPlane for FakeLegs {
    fn send(&mut self, command: legs::Command) {
        self.0.lock().unwrap().push(command);
    }
}

/// xorshift64: the same seed gives the same call twice.
struct Seeded(u64);

impl Random for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            *byte = self.0 as u8;
        }
    }
}

/// The box under test.
pub(crate) struct World {
    shard: Shard,
    clock: Clock,
    media: FakeMedia,
    legs: FakeLegs,
    counts: Arc<Counts>,
    next_connection: u64,
}

/// A scripted client.
pub(crate) struct Client {
    connection: ConnectionId,
    responses: mpsc::Receiver<SignalOutput>,
    /// From the join response.
    pub(crate) join: Option<proto::JoinResponse>,
    pub(crate) sid: String,
}

pub(crate) fn grants(identity: &str) -> Grants {
    Grants {
        identity: identity.to_owned(),
        name: identity.to_uppercase(),
        room: "room".to_owned(),
        room_join: true,
        ..Default::default()
    }
}

pub(crate) fn request(grants: Grants) -> JoinRequest {
    JoinRequest {
        room: "room".to_owned(),
        grants,
        auto_subscribe: true,
        ..Default::default()
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(EngineConfig::default())
    }

    pub(crate) fn with(config: EngineConfig) -> Self {
        let (media, legs) = (FakeMedia::default(), FakeLegs::default());
        let counts = Arc::new(Counts::default());
        let clock = Clock {
            now: Instant::now(),
            wall: 1_800_000_000_000,
        };
        let planes = Planes {
            media: Box::new(media.clone()),
            legs: Box::new(legs.clone()),
            random: Box::new(Seeded(0x1234_5678_9abc_def1)),
            host: Host {
                fingerprint: Fingerprint([7; 32]),
                candidates: vec![Candidate {
                    address: "127.0.0.1:7880".parse().unwrap(),
                    protocol: CandidateProtocol::Udp,
                }],
            },
            counts: Arc::clone(&counts),
        };
        Self {
            shard: Shard::new(0, config, planes, clock.now),
            clock,
            media,
            legs,
            counts,
            next_connection: 1,
        }
    }

    pub(crate) fn handle(&mut self, input: Input) {
        self.shard.handle(self.clock, input);
    }

    /// Lets time pass, ticking as the thread would.
    pub(crate) fn pass(&mut self, duration: Duration) {
        let end = self.clock.now + duration;
        while self.shard.deadline() <= end {
            let step = self.shard.deadline() - self.clock.now;
            self.clock.now += step;
            self.clock.wall += step.as_millis() as i64;
            self.shard.tick(self.clock);
        }
        self.clock.wall += (end - self.clock.now).as_millis() as i64;
        self.clock.now = end;
    }

    pub(crate) fn metrics(&self) -> MetricsSnapshot {
        self.counts.read()
    }

    pub(crate) fn join_with(&mut self, request: JoinRequest) -> Result<Client, JoinError> {
        self.join_queued(request, 1024)
    }

    pub(crate) fn check_join(&mut self, request: JoinRequest) -> Result<(), JoinError> {
        let (reply, mut answer) = oneshot::channel();
        let request = Box::new(request);
        self.handle(Input::CheckJoin { request, reply });
        answer.try_recv().expect("checks are answered at once")
    }

    pub(crate) fn join_queued(
        &mut self,
        request: JoinRequest,
        queue: usize,
    ) -> Result<Client, JoinError> {
        let connection = ConnectionId(self.next_connection);
        self.next_connection += 1;
        let (responses, receiver) = mpsc::channel(queue);
        let (reply, mut answer) = oneshot::channel();
        self.handle(Input::Join {
            connection,
            request: Box::new(request),
            responses,
            reply,
        });
        answer.try_recv().expect("joins are answered at once")?;
        Ok(Client {
            connection,
            responses: receiver,
            join: None,
            sid: String::new(),
        })
    }

    /// A client that has joined, answered the first offer and is connected.
    pub(crate) fn seated(&mut self, identity: &str) -> Client {
        self.seated_with(request(grants(identity)))
    }

    pub(crate) fn seated_with(&mut self, request: JoinRequest) -> Client {
        let mut client = self.join_with(request).unwrap();
        for message in client.messages() {
            match message {
                Message::Join(join) => {
                    client.sid = join.participant.as_ref().unwrap().sid.clone();
                    client.join = Some(join);
                }
                Message::Offer(offer) => self.answer(&client, &offer),
                _ => {}
            }
        }
        assert!(client.join.is_some());
        let session = self.subscriber_of(&client);
        self.handle(Input::Media(Event::Connected {
            session,
            profile: SrtpProfile::AeadAes128Gcm,
        }));
        client
    }

    /// The subscriber session opened last before this client's seat... found by its ufrag.
    pub(crate) fn subscriber_of(&self, client: &Client) -> SessionId {
        self.shard.session_of(client.connection, true).unwrap()
    }

    pub(crate) fn publisher_of(&self, client: &Client) -> SessionId {
        self.shard.session_of(client.connection, false).unwrap()
    }

    pub(crate) fn say(&mut self, client: &Client, message: Asked) {
        self.handle(Input::Signal {
            connection: client.connection,
            request: Box::new(proto::SignalRequest {
                message: Some(message),
            }),
            permit: None,
        });
    }

    pub(crate) fn answer(&mut self, client: &Client, offer: &proto::SessionDescription) {
        let answer = proto::SessionDescription {
            r#type: "answer".to_owned(),
            sdp: sdp::answer(&offer.sdp),
            id: offer.id,
            ..Default::default()
        };
        self.say(client, Asked::Answer(answer));
    }

    pub(crate) fn hang_up(&mut self, client: Client) {
        self.handle(Input::SignalClosed(client.connection));
    }

    /// Announces, offers and sends media of one track; returns its sid and number.
    pub(crate) fn publish(
        &mut self,
        client: &mut Client,
        cid: &str,
        kind: TrackType,
    ) -> (String, TrackId) {
        self.say(client, Asked::AddTrack(add_track(cid, kind)));
        let sid = client
            .messages()
            .into_iter()
            .find_map(|message| match message {
                Message::TrackPublished(published) => published.track.map(|track| track.sid),
                _ => None,
            })
            .expect("the track is acknowledged");
        self.say(client, Asked::Offer(sdp::offer(2, &[(cid, kind, true)])));
        let receive = self.received().pop().expect("the worker is told");
        self.track_active(client, &receive);
        (sid, receive.track)
    }

    /// A camera beside a track published before.
    pub(crate) fn publish_more(
        &mut self,
        client: &mut Client,
        before: &str,
        cid: &str,
    ) -> (String, TrackId) {
        self.say(client, Asked::AddTrack(add_track(cid, TrackType::Video)));
        client.messages();
        let tracks = [
            (before, TrackType::Audio, true),
            (cid, TrackType::Video, true),
        ];
        self.say(client, Asked::Offer(sdp::offer(3, &tracks)));
        let receive = self.received().pop().expect("the worker is told");
        self.track_active(client, &receive);
        (cid.to_owned(), receive.track)
    }

    pub(crate) fn panic_in(&mut self, room: &str) {
        self.shard.panic_in(self.clock, room);
    }

    pub(crate) fn track_active(&mut self, client: &Client, receive: &ReceiveParameters) {
        self.handle(Input::Media(Event::TrackActive {
            session: self.publisher_of(client),
            track: receive.track,
            mid: receive.mid,
            codec: receive.codec,
            layers: 1,
        }));
    }

    /// Everything told to the media plane since the last call.
    pub(crate) fn told(&self) -> Vec<Told> {
        std::mem::take(&mut *self.media.0.lock().unwrap())
    }

    pub(crate) fn received(&self) -> Vec<ReceiveParameters> {
        let told = self.told().into_iter();
        told.filter_map(|told| match told {
            Told::Command(_, Command::Receive(parameters)) => Some(parameters),
            _ => None,
        })
        .collect()
    }

    pub(crate) fn sent(&self) -> Vec<(SessionId, SendParameters)> {
        let told = self.told().into_iter();
        told.filter_map(|told| match told {
            Told::Command(session, Command::Send(parameters)) => Some((session, parameters)),
            _ => None,
        })
        .collect()
    }

    pub(crate) fn leg_commands(&self) -> Vec<legs::Command> {
        std::mem::take(&mut *self.legs.0.lock().unwrap())
    }

    pub(crate) fn data(&mut self, client: &Client, packet: &[u8]) {
        let session = self.subscriber_of(client);
        self.handle(Input::Media(Event::Data {
            session,
            channel: DataChannel::Reliable,
            payload: Bytes::copy_from_slice(packet),
        }));
    }

    pub(crate) fn ask<T>(&mut self, ask: impl FnOnce(Reply<T>) -> Ask) -> Result<T, RoomError> {
        let (reply, mut answer) = oneshot::channel();
        self.handle(Input::Ask(ask(reply)));
        answer.try_recv().expect("asks are answered at once")
    }
}

impl Client {
    /// Everything told to the client since the last call.
    pub(crate) fn outputs(&mut self) -> Vec<SignalOutput> {
        std::iter::from_fn(|| self.responses.try_recv().ok()).collect()
    }

    pub(crate) fn messages(&mut self) -> Vec<Message> {
        let outputs = self.outputs().into_iter();
        outputs
            .filter_map(|output| match output {
                SignalOutput::Response(response) => response.message,
                _ => None,
            })
            .collect()
    }
}

/// Name of a message, for assertions on order.
pub(crate) fn name(message: &Message) -> &'static str {
    match message {
        Message::Join(_) => "join",
        Message::Answer(_) => "answer",
        Message::Offer(_) => "offer",
        Message::Trickle(_) => "trickle",
        Message::Update(_) => "update",
        Message::TrackPublished(_) => "track_published",
        Message::Leave(_) => "leave",
        Message::Mute(_) => "mute",
        Message::SpeakersChanged(_) => "speakers_changed",
        Message::RoomUpdate(_) => "room_update",
        Message::ConnectionQuality(_) => "connection_quality",
        Message::SubscribedQualityUpdate(_) => "subscribed_quality_update",
        Message::SubscriptionPermissionUpdate(_) => "subscription_permission_update",
        Message::TrackUnpublished(_) => "track_unpublished",
        Message::Pong(_) => "pong",
        Message::Reconnect(_) => "reconnect",
        Message::PongResp(_) => "pong_resp",
        Message::SubscriptionResponse(_) => "subscription_response",
        Message::RequestResponse(_) => "request_response",
        Message::TrackSubscribed(_) => "track_subscribed",
        _ => "other",
    }
}

pub(crate) fn names(messages: &[Message]) -> Vec<&'static str> {
    messages.iter().map(name).collect()
}

pub(crate) fn add_track(cid: &str, kind: TrackType) -> proto::AddTrackRequest {
    let source = match kind {
        TrackType::Video => TrackSource::Camera,
        _ => TrackSource::Microphone,
    };
    proto::AddTrackRequest {
        cid: cid.to_owned(),
        name: cid.to_owned(),
        r#type: kind as i32,
        source: source as i32,
        ..Default::default()
    }
}
