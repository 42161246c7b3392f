//! The handle the HTTP plane and the SIP gateway hold: questions go in, answers come out.
//!
//! Nothing is decided here: every question is a message to the shard that owns the room.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use palabre_media::ids::LegId;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::config::EngineConfig;
use crate::directory::Directory;
use crate::error::{JoinError, RoomError, StartError};
use crate::grants::Grants;
use crate::leg::{Leg, LegIdentity};
use crate::legs::{LegError, LegEvent, LegParameters, MixerStats};
use crate::metrics::{Counts, MetricsSnapshot};
use crate::net::WorkerStats;
use crate::proto;
use crate::runtime::Runtime;
use crate::shard::{Ask, ConnectionId, Input};

/// Messages waiting to be written to one client. A client that does not read this many is
/// dropped: more rides out slower networks, fewer bounds memory (a message is ~1 KiB).
const RESPONSE_QUEUE: usize = 1024;

/// Requests of one client waiting for the shard; beyond it the socket is not read.
const REQUEST_QUEUE: usize = 64;

/// How often one client may ask something, in the long run (50 a second), and how many requests
/// it may make at once. A client that wants more is read more slowly. Higher lets one client
/// take more of the shard's thread from the others; a client in a room of 500 makes a few
/// hundred when it comes in, then a few a second.
const REQUEST_EVERY: Duration = Duration::from_millis(20);
const REQUEST_BURST: u32 = 200;

/// A cheap handle on the running engine.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    runtime: Runtime,
    counts: Arc<Counts>,
    directory: Arc<dyn Directory>,
    next_connection: AtomicU64,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// A client asks to join: LiveKit's `/rtc` query with the token's grants.
#[derive(Clone, Debug, Default)]
pub struct JoinRequest {
    /// LiveKit room name; normally the grants' own.
    pub room: String,
    /// Verified grants.
    pub grants: Grants,
    /// SDK, version, protocol, device, as the client told; mirrored where others need it.
    pub client: proto::ClientInfo,
    /// Subscribe to every track without being asked.
    pub auto_subscribe: bool,
    /// The client will tell the size it shows (`track_setting`).
    pub adaptive_stream: bool,
    /// Own attributes given in the query; refused without
    /// [`Grants::can_update_own_metadata`].
    pub attributes: HashMap<String, String>,
    /// Opens the room if it is not open, also where joining does not (`rooms.auto_create`): the
    /// asker knows that the room exists.
    pub opens_room: bool,
    /// `reconnect=1` with `sid`: the participant to resume.
    pub reconnect: Option<String>,
    /// Why, as told.
    pub reconnect_reason: i32,
    /// How long the tokens minted for [`SignalOutput::RefreshToken`] live: a fresh one is asked
    /// for before half of it is over. `None` for ten minutes or more.
    pub token_lifetime: Option<Duration>,
}

/// One open signal connection.
#[derive(Debug)]
pub struct SignalConnection {
    /// What the client says goes here; dropping it means the socket is gone.
    pub requests: SignalSender,
    /// What to tell the client; the end of it means close the socket.
    pub responses: mpsc::Receiver<SignalOutput>,
}

/// One message for the client.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant)] // one value per message, moved once
pub enum SignalOutput {
    /// Send this.
    Response(proto::SignalResponse),
    /// Mint a token for these grants and send it as `refresh_token`.
    RefreshToken(Grants),
    /// Close the socket (code 1000).
    Close,
}

/// The way in of one signal connection.
#[derive(Debug)]
pub struct SignalSender {
    connection: ConnectionId,
    shard: std::sync::mpsc::Sender<Input>,
    permits: Arc<Semaphore>,
    pace: Mutex<Pace>,
}

/// The engine has closed this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signal connection is closed")]
pub struct SignalClosed;

/// A bucket of [`REQUEST_BURST`] tokens, one added each [`REQUEST_EVERY`] (the generic cell rate
/// algorithm, ITU-T I.371).
#[derive(Debug)]
struct Pace {
    /// When the bucket will be full again.
    full_at: Instant,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Takes a token; says how long its owner must wait for it.
    fn next(&mut self, now: Instant) -> Duration {
        self.full_at = self.full_at.max(now) + REQUEST_EVERY;
        let borrowed = self.full_at.saturating_duration_since(now);
        borrowed.saturating_sub(REQUEST_EVERY * REQUEST_BURST)
    }
}

impl SignalSender {
    /// Hands one request over; waits while 64 are unprocessed, and after 200 at once until the
    /// client is down to 50 a second.
    ///
    /// # Errors
    /// [`SignalClosed`] once the engine has stopped.
    pub async fn send(&self, request: proto::SignalRequest) -> Result<(), SignalClosed> {
        let delay = self
            .pace
            .lock()
            .expect("a pace is only counted with")
            .next(Instant::now());
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| SignalClosed)?;
        self.shard
            .send(Input::Signal {
                connection: self.connection,
                request: Box::new(request),
                permit: Some(permit),
            })
            .map_err(|_| SignalClosed)
    }
}

impl Drop for SignalSender {
    fn drop(&mut self) {
        // A stopped shard has no connections left to forget.
        let _ = self.shard.send(Input::SignalClosed(self.connection));
    }
}

impl Engine {
    /// Opens the media port and starts workers, mixer and shards.
    ///
    /// # Errors
    /// [`StartError`] when a port, a thread or the certificate cannot be had.
    pub fn start(config: EngineConfig, directory: Arc<dyn Directory>) -> Result<Self, StartError> {
        let counts = Arc::new(Counts::default());
        let runtime = Runtime::start(&config, &counts)?;
        Ok(Self {
            inner: Arc::new(Inner {
                runtime,
                counts,
                directory,
                next_connection: AtomicU64::new(1),
            }),
        })
    }

    /// The keeper of rooms and codes given at the start.
    #[must_use]
    pub fn directory(&self) -> &Arc<dyn Directory> {
        &self.inner.directory
    }

    /// Lets a client in, or resumes it.
    ///
    /// # Errors
    /// [`JoinError`] before anything was sent, so that HTTP can still refuse the upgrade.
    pub async fn join(&self, request: JoinRequest) -> Result<SignalConnection, JoinError> {
        let connection = ConnectionId(self.inner.next_connection.fetch_add(1, Ordering::Relaxed));
        let shard = self.shard_of(&request.room).clone();
        let (responses, receiver) = mpsc::channel(RESPONSE_QUEUE);
        let (reply, answer) = oneshot::channel();
        // Made before the wait: a cancelled join drops it, which the shard is told.
        let requests = SignalSender {
            connection,
            shard: shard.clone(),
            permits: Arc::new(Semaphore::new(REQUEST_QUEUE)),
            pace: Mutex::new(Pace::new(Instant::now())),
        };
        shard
            .send(Input::Join {
                connection,
                request: Box::new(request),
                responses,
                reply,
            })
            .map_err(|_| JoinError::Stopping)?;
        answer.await.map_err(|_| JoinError::Stopping)??;
        Ok(SignalConnection {
            requests,
            responses: receiver,
        })
    }

    /// Whether [`Self::join`] would let this client in now. Nothing changes and nothing is held
    /// for it.
    ///
    /// # Errors
    /// [`JoinError`], as the join would be refused.
    pub async fn check_join(&self, request: JoinRequest) -> Result<(), JoinError> {
        let (reply, answer) = oneshot::channel();
        self.shard_of(&request.room)
            .send(Input::CheckJoin {
                request: Box::new(request),
                reply,
            })
            .map_err(|_| JoinError::Stopping)?;
        answer.await.map_err(|_| JoinError::Stopping)?
    }

    /// Makes a room, or returns the one open under this name.
    ///
    /// # Errors
    /// [`RoomError`]
    pub async fn create_room(
        &self,
        request: proto::CreateRoomRequest,
    ) -> Result<proto::Room, RoomError> {
        let name = request.name.clone();
        self.ask(&name, |reply| Ask::CreateRoom(Box::new(request), reply))
            .await
    }

    /// The open rooms of these names; all when `names` is empty.
    ///
    /// # Errors
    /// [`RoomError::Stopping`]
    pub async fn list_rooms(&self, names: &[String]) -> Result<Vec<proto::Room>, RoomError> {
        let mut rooms = Vec::new();
        for shard in &self.inner.runtime.shards {
            let (reply, answer) = oneshot::channel();
            shard
                .send(Input::Ask(Ask::ListRooms(names.to_vec(), reply)))
                .map_err(|_| RoomError::Stopping)?;
            rooms.extend(answer.await.map_err(|_| RoomError::Stopping)?);
        }
        Ok(rooms)
    }

    /// Closes a room; everybody is told to leave with reason ROOM_DELETED.
    ///
    /// # Errors
    /// [`RoomError`]
    pub async fn delete_room(&self, name: &str) -> Result<(), RoomError> {
        self.ask(name, |reply| Ask::DeleteRoom(name.to_owned(), reply))
            .await
    }

    /// Everybody in the room, hidden participants included.
    ///
    /// # Errors
    /// [`RoomError`]
    pub async fn list_participants(
        &self,
        room: &str,
    ) -> Result<Vec<proto::ParticipantInfo>, RoomError> {
        self.ask(room, |reply| Ask::ListParticipants(room.to_owned(), reply))
            .await
    }

    /// One participant.
    ///
    /// # Errors
    /// [`RoomError`]
    pub async fn participant(
        &self,
        room: &str,
        identity: &str,
    ) -> Result<proto::ParticipantInfo, RoomError> {
        self.ask(room, |reply| Ask::Participant {
            room: room.to_owned(),
            identity: identity.to_owned(),
            reply,
        })
        .await
    }

    /// Sends a participant out, with reason PARTICIPANT_REMOVED.
    ///
    /// # Errors
    /// [`RoomError`]
    pub async fn remove_participant(&self, room: &str, identity: &str) -> Result<(), RoomError> {
        self.ask(room, |reply| Ask::RemoveParticipant {
            room: room.to_owned(),
            identity: identity.to_owned(),
            reply,
        })
        .await
    }

    /// Mutes a track for everybody. Unmuting from afar is refused.
    ///
    /// # Errors
    /// [`RoomError`]
    pub async fn mute_published_track(
        &self,
        room: &str,
        identity: &str,
        track_sid: &str,
        muted: bool,
    ) -> Result<proto::TrackInfo, RoomError> {
        self.ask(room, |reply| Ask::MuteTrack {
            room: room.to_owned(),
            identity: identity.to_owned(),
            track: track_sid.to_owned(),
            muted,
            reply,
        })
        .await
    }

    /// Changes a participant's name, metadata, attributes or rights.
    ///
    /// # Errors
    /// [`RoomError`]
    pub async fn update_participant(
        &self,
        request: proto::UpdateParticipantRequest,
    ) -> Result<proto::ParticipantInfo, RoomError> {
        let room = request.room.clone();
        self.ask(&room, |reply| {
            Ask::UpdateParticipant(Box::new(request), reply)
        })
        .await
    }

    /// Replaces the room's metadata.
    ///
    /// # Errors
    /// [`RoomError`]
    pub async fn update_room_metadata(
        &self,
        room: &str,
        metadata: &str,
    ) -> Result<proto::Room, RoomError> {
        self.ask(room, |reply| Ask::UpdateRoomMetadata {
            room: room.to_owned(),
            metadata: metadata.to_owned(),
            reply,
        })
        .await
    }

    /// Sends a data packet from the server to participants of the room.
    ///
    /// # Errors
    /// [`RoomError`]
    pub async fn send_data(&self, request: proto::SendDataRequest) -> Result<(), RoomError> {
        let room = request.room.clone();
        self.ask(&room, |reply| Ask::SendData(Box::new(request), reply))
            .await
    }

    /// Most telephone legs open at once.
    #[must_use]
    pub fn leg_limit(&self) -> usize {
        self.inner.runtime.mixers.limit()
    }

    /// Opens a telephone leg on a bound RTP socket; it is in no room yet.
    ///
    /// # Errors
    /// [`LegError`]
    pub async fn open_leg(
        &self,
        parameters: LegParameters,
    ) -> Result<(Leg, mpsc::Receiver<LegEvent>), LegError> {
        let (line, events) = self.inner.runtime.mixers.open_leg(parameters)?;
        Ok((Leg::new(line, self.clone()), events))
    }

    /// Counters and gauges now.
    #[must_use]
    pub fn metrics(&self) -> MetricsSnapshot {
        let mut snapshot = self.inner.counts.read();
        let workers = self.worker_stats();
        snapshot.data_reliable_refused_total += workers
            .iter()
            .map(|worker| worker.reliable_refused)
            .sum::<u64>();
        let mixer = self.mixer_stats();
        snapshot.mixer_panics_total += mixer.failed_legs + mixer.failed_rooms + mixer.panics;
        snapshot
    }

    /// Whether every thread runs: shards, media workers, and a mixer that keeps its time. False
    /// after [`Self::shutdown`]. A shard or a worker that hangs is found by asking it: [`Self::answers`].
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.inner.runtime.is_alive()
    }

    /// Whether every thread runs and does what it is told: each shard and each media worker is asked, and the mixer
    /// must keep its time. Waits for one that hangs, for ever.
    pub async fn answers(&self) -> bool {
        // Of a room that cannot exist: the answer costs nothing, but each shard must give it.
        let shards = self.list_rooms(&[String::new()]).await;
        shards.is_ok() && self.inner.runtime.workers.answer().await && self.is_alive()
    }

    /// A reading of every media worker's counters, at most half a second old.
    #[must_use]
    pub fn worker_stats(&self) -> Vec<WorkerStats> {
        self.inner.runtime.workers.stats()
    }

    /// A reading of the mixer thread's counters.
    #[must_use]
    pub fn mixer_stats(&self) -> MixerStats {
        self.inner.runtime.mixers.stats()
    }

    /// The address of the media port, with the real port when 0 was asked for.
    #[must_use]
    pub fn media_address(&self) -> std::net::SocketAddr {
        self.inner.runtime.workers.local()
    }

    /// Tells everybody to leave with reason SERVER_SHUTDOWN and stops the threads.
    pub async fn shutdown(&self) {
        for shard in &self.inner.runtime.shards {
            let (reply, done) = oneshot::channel();
            if shard.send(Input::Shutdown(reply)).is_ok() {
                // An error means the shard had already stopped.
                let _ = done.await;
            }
        }
        let engine = self.clone();
        // The threads end within a tick; waiting for them must not hold up an async thread.
        let _ = tokio::task::spawn_blocking(move || engine.inner.runtime.stop()).await;
    }

    pub(crate) async fn join_leg(
        &self,
        leg: LegId,
        room: &str,
        identity: LegIdentity,
    ) -> Result<(), JoinError> {
        let (reply, answer) = oneshot::channel();
        self.shard_of(room)
            .send(Input::JoinLeg {
                leg,
                room: room.to_owned(),
                identity,
                reply,
            })
            .map_err(|_| JoinError::Stopping)?;
        answer.await.map_err(|_| JoinError::Stopping)?
    }

    pub(crate) fn mute_leg(&self, leg: LegId, muted: bool) {
        for shard in &self.inner.runtime.shards {
            // A stopped shard has no legs left to mute.
            let _ = shard.send(Input::MuteLeg { leg, muted });
        }
    }

    pub(crate) fn close_leg(&self, leg: LegId) {
        for shard in &self.inner.runtime.shards {
            // A stopped shard has no legs left to forget.
            let _ = shard.send(Input::LegClosed(leg));
        }
    }

    async fn ask<T>(
        &self,
        room: &str,
        ask: impl FnOnce(oneshot::Sender<Result<T, RoomError>>) -> Ask,
    ) -> Result<T, RoomError> {
        let (reply, answer) = oneshot::channel();
        self.shard_of(room)
            .send(Input::Ask(ask(reply)))
            .map_err(|_| RoomError::Stopping)?;
        answer.await.map_err(|_| RoomError::Stopping)?
    }

    fn shard_of(&self, room: &str) -> &std::sync::mpsc::Sender<Input> {
        let mut hasher = DefaultHasher::new();
        room.hash(&mut hasher);
        let index = hasher.finish() % self.inner.runtime.shards.len() as u64;
        &self.inner.runtime.shards[index as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_the_rest_comes_at_fifty_a_second() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        for _ in 0..REQUEST_BURST {
            assert_eq!(pace.next(now), Duration::ZERO);
        }
        assert_eq!(pace.next(now), REQUEST_EVERY);
        assert_eq!(pace.next(now), REQUEST_EVERY * 2);
        let later = now + Duration::from_secs(1);
        let free = (0..100).take_while(|_| pace.next(later).is_zero()).count();
        assert_eq!(free, 48, "fifty came back, of which two were owed");
        let rested = later + Duration::from_secs(60);
        let free = (0..1_000)
            .take_while(|_| pace.next(rested).is_zero())
            .count();
        assert_eq!(
            free, REQUEST_BURST as usize,
            "rest saves no more than a burst"
        );
    }

    #[tokio::test]
    async fn a_client_that_asks_too_much_is_slowed_and_nothing_is_lost() {
        let (shard, inputs) = std::sync::mpsc::channel();
        let begun = Instant::now();
        let sender = SignalSender {
            connection: ConnectionId(1),
            shard,
            permits: Arc::new(Semaphore::new(REQUEST_QUEUE)),
            pace: Mutex::new(Pace::new(begun)),
        };
        let requests = REQUEST_BURST + 10;
        let taken = std::thread::spawn(move || {
            inputs
                .iter()
                .take_while(|input| !matches!(input, Input::SignalClosed(_)))
                .count()
        });
        for _ in 0..requests {
            let request = proto::SignalRequest::default();
            sender.send(request).await.unwrap();
        }
        assert!(begun.elapsed() >= REQUEST_EVERY * 10);
        drop(sender);
        assert_eq!(taken.join().unwrap(), requests as usize);
    }
}
