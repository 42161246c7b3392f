//! The seam to the engine: what the HTTP plane asks of rooms that are open now.
//!
//! [`Engine`] implements it by passing on; tests implement it with a script.

use palabre_engine::directory::BoxFuture;
use palabre_engine::{
    Engine, JoinError, JoinRequest, RoomError, SignalClosed, SignalConnection, SignalOutput,
    SignalSender, proto,
};
use tokio::sync::mpsc;

/// One open signal connection, as the WebSocket sees it.
pub struct Line {
    /// What the client says goes here; dropping it means the socket is gone.
    pub requests: Box<dyn Requests>,
    /// What to tell the client; its end means close the socket.
    pub responses: mpsc::Receiver<SignalOutput>,
}

/// The way in of a [`Line`].
pub trait Requests: Send + Sync {
    /// Hands one request over; waits while too many are unprocessed.
    fn send(&self, request: proto::SignalRequest) -> BoxFuture<'_, Result<(), SignalClosed>>;
}

impl Requests for SignalSender {
    fn send(&self, request: proto::SignalRequest) -> BoxFuture<'_, Result<(), SignalClosed>> {
        Box::pin(SignalSender::send(self, request))
    }
}

impl From<SignalConnection> for Line {
    fn from(connection: SignalConnection) -> Self {
        Self {
            requests: Box::new(connection.requests),
            responses: connection.responses,
        }
    }
}

type Answer<'a, T> = BoxFuture<'a, Result<T, RoomError>>;

/// The rooms open now. Each method is the engine's of the same name.
#[allow(missing_docs)]
pub trait LiveRooms: Send + Sync {
    /// Whether all threads behind the rooms run and answer; waits for one that hangs.
    fn answers(&self) -> BoxFuture<'_, bool>;
    fn join(&self, request: JoinRequest) -> BoxFuture<'_, Result<Line, JoinError>>;
    fn check_join(&self, request: JoinRequest) -> BoxFuture<'_, Result<(), JoinError>>;
    fn create_room(&self, request: proto::CreateRoomRequest) -> Answer<'_, proto::Room>;
    fn list_rooms(&self, names: Vec<String>) -> Answer<'_, Vec<proto::Room>>;
    fn delete_room(&self, name: String) -> Answer<'_, ()>;
    fn list_participants(&self, room: String) -> Answer<'_, Vec<proto::ParticipantInfo>>;
    fn participant(&self, room: String, identity: String) -> Answer<'_, proto::ParticipantInfo>;
    fn remove_participant(&self, room: String, identity: String) -> Answer<'_, ()>;
    fn mute_published_track(
        &self,
        request: proto::MuteRoomTrackRequest,
    ) -> Answer<'_, proto::TrackInfo>;
    fn update_participant(
        &self,
        request: proto::UpdateParticipantRequest,
    ) -> Answer<'_, proto::ParticipantInfo>;
    fn update_room_metadata(&self, room: String, metadata: String) -> Answer<'_, proto::Room>;
    fn send_data(&self, request: proto::SendDataRequest) -> Answer<'_, ()>;
}

impl LiveRooms for Engine {
    fn answers(&self) -> BoxFuture<'_, bool> {
        Box::pin(Engine::answers(self))
    }

    fn join(&self, request: JoinRequest) -> BoxFuture<'_, Result<Line, JoinError>> {
        Box::pin(async move { Engine::join(self, request).await.map(Line::from) })
    }

    fn check_join(&self, request: JoinRequest) -> BoxFuture<'_, Result<(), JoinError>> {
        Box::pin(Engine::check_join(self, request))
    }

    fn create_room(&self, request: proto::CreateRoomRequest) -> Answer<'_, proto::Room> {
        Box::pin(Engine::create_room(self, request))
    }

    fn list_rooms(&self, names: Vec<String>) -> Answer<'_, Vec<proto::Room>> {
        Box::pin(async move { Engine::list_rooms(self, &names).await })
    }

    fn delete_room(&self, name: String) -> Answer<'_, ()> {
        Box::pin(async move { Engine::delete_room(self, &name).await })
    }

    fn list_participants(&self, room: String) -> Answer<'_, Vec<proto::ParticipantInfo>> {
        Box::pin(async move { Engine::list_participants(self, &room).await })
    }

    fn participant(&self, room: String, identity: String) -> Answer<'_, proto::ParticipantInfo> {
        Box::pin(async move { Engine::participant(self, &room, &identity).await })
    }

    fn remove_participant(&self, room: String, identity: String) -> Answer<'_, ()> {
        Box::pin(async move { Engine::remove_participant(self, &room, &identity).await })
    }

    fn mute_published_track(
        &self,
        request: proto::MuteRoomTrackRequest,
    ) -> Answer<'_, proto::TrackInfo> {
        Box::pin(async move {
            let proto::MuteRoomTrackRequest {
                room,
                identity,
                track_sid,
                muted,
            } = request;
            Engine::mute_published_track(self, &room, &identity, &track_sid, muted).await
        })
    }

    fn update_participant(
        &self,
        request: proto::UpdateParticipantRequest,
    ) -> Answer<'_, proto::ParticipantInfo> {
        Box::pin(Engine::update_participant(self, request))
    }

    fn update_room_metadata(&self, room: String, metadata: String) -> Answer<'_, proto::Room> {
        Box::pin(async move { Engine::update_room_metadata(self, &room, &metadata).await })
    }

    fn send_data(&self, request: proto::SendDataRequest) -> Answer<'_, ()> {
        Box::pin(Engine::send_data(self, request))
    }
}
