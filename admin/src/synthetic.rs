//! The room of a synthetic call: lent for a moment to the program's own user, so that the box can call itself.
//!
//! A socket in the data folder takes the place of a password, before the box is claimed as well as after: whoever may open it
//! owns the data anyway. A connection to it is the loan. It is answered with one line of JSON, an [`Answer`]; when it ends,
//! or after [`Lender::longest`], the room ends and everybody in it is sent out. One at a time; the room is kept nowhere and
//! is in no list.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use palabre_engine::{Grants, proto};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::live::LiveRooms;
use crate::livekit::token::mint;
use crate::store::{ApiKey, NewRoom, Passing, Store, StoreError, now};

/// Name of the socket in the data folder.
pub const SOCKET: &str = "call.sock";

/// Longest loan. A call takes seconds; in emulation on a busy machine, half a minute.
pub const LONGEST: Duration = Duration::from_secs(120);

/// Who is in the room: two guests and a telephone.
const SEATS: u32 = 3;

/// How long the borrower may take to read the answer.
const WRITE: Duration = Duration::from_secs(5);

/// How long to wait after `accept` failed because the system is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where the running program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ways {
    /// Its page and its signals, as bound.
    pub http: SocketAddr,
    /// Its telephone, as bound; `None` when telephones cannot call.
    pub sip: Option<SocketAddr>,
}

/// What a synthetic call needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lent {
    /// The room's nine digits.
    pub code: String,
    /// LiveKit access token of the guest that speaks.
    pub speaker: String,
    /// That of the guest that listens.
    pub listener: String,
    /// Where to go with them.
    pub ways: Ways,
}

/// What is said to whoever opens the socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The room is there until the connection ends.
    Lent(Lent),
    /// Another synthetic call is under way.
    Busy,
    /// The database does not answer.
    Unavailable,
}

/// What lends rooms needs of the other parts.
pub struct Lender {
    /// The open database.
    pub store: Store,
    /// The rooms open now: the engine.
    pub live: Arc<dyn LiveRooms>,
    /// Where the program is.
    pub ways: Ways,
    /// When a loan ends in any case: [`LONGEST`], but for tests.
    pub longest: Duration,
}

/// No synthetic calls are possible.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The socket cannot be made.
    #[error("cannot make the socket {path}: {cause}", path = .path.display())]
    Socket {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The database fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The open socket. Dropping it ends the loan under way and removes it.
#[derive(Debug)]
pub struct SyntheticCalls {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl SyntheticCalls {
    /// Opens the socket in `folder`, in place of one that an earlier start left there.
    ///
    /// # Errors
    /// [`ListenError`]
    pub async fn listen(folder: &Path, lender: Lender) -> Result<Self, ListenError> {
        let path = folder.join(SOCKET);
        let key = lender.store.keys.pages().await?;
        let (listener, owner) = open(&path).map_err(|cause| ListenError::Socket {
            path: path.clone(),
            cause,
        })?;
        let lender = Arc::new(lender);
        let task = tokio::spawn(accept(listener, owner, lender, key));
        Ok(Self { path, task })
    }
}

impl Drop for SyntheticCalls {
    fn drop(&mut self) {
        self.task.abort();
        // It may be gone with its folder.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The socket, and the user who owns it.
fn open(path: &Path) -> io::Result<(UnixListener, u32)> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let owner = std::fs::metadata(path)?.uid();
    Ok((listener, owner))
}

async fn accept(listener: UnixListener, owner: u32, lender: Arc<Lender>, key: ApiKey) {
    let mut loans = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = loans.join_next() => continue,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // The socket was open to more for a moment, before its mode was set.
        let user = stream.peer_cred().map(|peer| peer.uid());
        if user.is_ok_and(|user| user == owner || user == 0) {
            loans.spawn(lend(stream, Arc::clone(&lender), key.clone()));
        }
    }
}

/// One loan, from the answer to the end of the room.
async fn lend(mut stream: UnixStream, lender: Arc<Lender>, key: ApiKey) {
    let new = NewRoom {
        name: "Synthetic call".to_owned(),
        max_participants: Some(SEATS),
    };
    let (answer, passing) = match lender.store.rooms.pass(&new).await {
        Ok(Some(passing)) => (lender.lent(&passing, &key), Some(passing)),
        Ok(None) => (Answer::Busy, None),
        Err(error) => {
            tracing::error!(cause = error.cause, "no room for a synthetic call");
            (Answer::Unavailable, None)
        }
    };
    let mut line = serde_json::to_string(&answer).expect("an answer is plain values");
    line.push('\n');
    let is_told = matches!(
        timeout(WRITE, stream.write_all(line.as_bytes())).await,
        Ok(Ok(()))
    );
    let Some(passing) = passing else { return };
    if is_told {
        // Whatever comes, most often the end, ends it.
        let _ = timeout(lender.longest, stream.read_u8()).await;
    }
    let room = passing.room().id.clone();
    // First the code, so that nobody enters while the others are sent out.
    drop(passing);
    // A room nobody is in is not open.
    let _ = lender.live.delete_room(room).await;
}

impl Lender {
    fn lent(&self, passing: &Passing, key: &ApiKey) -> Answer {
        let room = passing.room();
        let token = |identity: &str, speaks: bool| {
            let grants = Grants {
                identity: identity.to_owned(),
                name: identity.to_owned(),
                room: room.id.clone(),
                room_join: true,
                can_publish: speaks,
                can_publish_data: false,
                can_subscribe: !speaks,
                room_config: Some(Box::new(proto::RoomConfiguration {
                    max_participants: SEATS,
                    ..proto::RoomConfiguration::default()
                })),
                ..Grants::default()
            };
            mint(key, &grants, now(), self.longest)
        };
        Answer::Lent(Lent {
            code: room.code.as_str().to_owned(),
            speaker: token("speaker", true),
            listener: token("listener", false),
            ways: self.ways,
        })
    }
}
