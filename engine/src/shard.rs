//! One thread and the rooms it owns: takes inputs one at a time, never blocks on a client.

use std::sync::Arc;

use palabre_media::ids::LegId;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::config::EngineConfig;
use crate::error::{JoinError, RoomError, StartError};
use crate::handle::{JoinRequest, SignalOutput};
use crate::leg::LegIdentity;
use crate::metrics::Counts;
use crate::proto;

/// One signal connection (one WebSocket) of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionId(pub(crate) u64);

pub(crate) type Reply<T> = oneshot::Sender<Result<T, RoomError>>;

/// What a shard is told.
#[derive(Debug)]
pub(crate) enum Input {
    Join {
        connection: ConnectionId,
        request: Box<JoinRequest>,
        responses: mpsc::Sender<SignalOutput>,
        reply: oneshot::Sender<Result<(), JoinError>>,
    },
    Signal {
        connection: ConnectionId,
        request: Box<proto::SignalRequest>,
        /// Held until the request is processed, so that a client cannot queue more.
        permit: Option<OwnedSemaphorePermit>,
    },
    SignalClosed(ConnectionId),
    Ask(Ask),
    JoinLeg {
        leg: LegId,
        room: String,
        identity: LegIdentity,
        reply: oneshot::Sender<Result<(), JoinError>>,
    },
    /// The caller muted or unmuted itself by key: the same as a participant muting its own track.
    MuteLeg {
        leg: LegId,
        muted: bool,
    },
    LegClosed(LegId),
    Shutdown(oneshot::Sender<()>),
}

/// Room operations of the server API.
#[derive(Debug)]
pub(crate) enum Ask {
    CreateRoom(Box<proto::CreateRoomRequest>, Reply<proto::Room>),
    ListRooms(Vec<String>, oneshot::Sender<Vec<proto::Room>>),
    DeleteRoom(String, Reply<()>),
    ListParticipants(String, Reply<Vec<proto::ParticipantInfo>>),
    Participant {
        room: String,
        identity: String,
        reply: Reply<proto::ParticipantInfo>,
    },
    RemoveParticipant {
        room: String,
        identity: String,
        reply: Reply<()>,
    },
    MuteTrack {
        room: String,
        identity: String,
        track: String,
        muted: bool,
        reply: Reply<proto::TrackInfo>,
    },
    UpdateParticipant(
        Box<proto::UpdateParticipantRequest>,
        Reply<proto::ParticipantInfo>,
    ),
    UpdateRoomMetadata {
        room: String,
        metadata: String,
        reply: Reply<proto::Room>,
    },
    SendData(Box<proto::SendDataRequest>, Reply<()>),
}

/// Starts the shard threads.
pub(crate) fn start(
    _config: &EngineConfig,
    _counts: &Arc<Counts>,
) -> Result<Vec<std::sync::mpsc::Sender<Input>>, StartError> {
    let (sender, inputs) = std::sync::mpsc::channel::<Input>();
    std::thread::Builder::new()
        .name("shard-0".to_owned())
        .spawn(move || {
            while let Ok(input) = inputs.recv() {
                if let Input::Shutdown(done) = input {
                    let _ = done.send(());
                    break;
                }
            }
        })
        .map_err(StartError::Thread)?;
    Ok(vec![sender])
}
