//! What a shard is told.

use palabre_media::ids::LegId;
use palabre_media::sfu::Event;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::ask::Ask;
use crate::error::JoinError;
use crate::handle::{JoinRequest, SignalOutput};
use crate::leg::LegIdentity;
use crate::legs::MixerEvent;
use crate::proto;

/// One signal connection (one WebSocket) of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// What a shard is told.
#[derive(Debug)]
pub(crate) enum Input {
    Join {
        connection: ConnectionId,
        request: Box<JoinRequest>,
        responses: mpsc::Sender<SignalOutput>,
        reply: oneshot::Sender<Result<(), JoinError>>,
    },
    /// Whether this join would be let in now.
    CheckJoin {
        request: Box<JoinRequest>,
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
    Media(Event),
    Mixer(MixerEvent),
    /// A bug of ours that is no room's.
    #[cfg(test)]
    Panic,
    Shutdown(oneshot::Sender<()>),
}
