//! What a room may touch while it handles one input: time, randomness, the planes, its outputs.
//!
//! A room never reads a clock, a socket or a channel; everything comes and goes through [`Cx`].

use std::collections::HashMap;
use std::time::Instant;

use palabre_media::ids::{LegId, SessionId, SubscriptionId, TrackId};
use palabre_media::jsep::Candidate;
use palabre_media::sfu::{Command, SessionConfig};
use palabre_media::transport::Fingerprint;

use crate::config::EngineConfig;
use crate::handle::SignalOutput;
use crate::legs::{self, RoomId};
use crate::metrics::Counts;
use crate::proto;
use crate::proto::signal_response::Message;
use crate::shard::ConnectionId;

/// The media workers, as a room sees them.
pub(crate) trait MediaPlane {
    /// Awaits a peer connection under the ufrag of its configuration.
    fn open(&mut self, config: SessionConfig);
    /// Asks something of a session; kept in order until the session is adopted.
    fn command(&mut self, session: SessionId, command: Command);
    /// Ends a session and forgets it.
    fn close(&mut self, session: SessionId);
}

/// The mixer thread, as a room sees it.
pub(crate) trait LegPlane {
    /// Queues a command for the next tick.
    fn send(&mut self, command: legs::Command);
}

/// A source of randomness.
pub(crate) trait Random {
    /// Fills `bytes`.
    fn fill(&mut self, bytes: &mut [u8]);
}

/// What clients must know to reach the media port.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// Of our DTLS certificate.
    pub(crate) fingerprint: Fingerprint,
    /// UDP addresses, most preferred first.
    pub(crate) candidates: Vec<Candidate>,
}

/// A participant's number in the process; grows with each join, so its order is join order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ParticipantKey(pub(crate) u64);

/// A participant and its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) room: RoomId,
    pub(crate) participant: ParticipantKey,
}

/// Who is behind an id. Kept by the shard, outside the rooms, so that a room which panicked
/// can be cleared away without asking it anything.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    pub(crate) connections: HashMap<ConnectionId, Seat>,
    pub(crate) sessions: HashMap<SessionId, Seat>,
    pub(crate) tracks: HashMap<TrackId, Seat>,
    pub(crate) legs: HashMap<LegId, Seat>,
}

/// Hands out process-wide numbers; the shard's index is in the top byte of each.
#[derive(Debug)]
pub(crate) struct Ids {
    next: u64,
}

impl Ids {
    pub(crate) fn new(shard: u8) -> Self {
        Self {
            next: (u64::from(shard) << 56) + 1,
        }
    }

    fn take(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    pub(crate) fn room(&mut self) -> RoomId {
        RoomId(self.take())
    }

    pub(crate) fn participant(&mut self) -> ParticipantKey {
        ParticipantKey(self.take())
    }

    pub(crate) fn session(&mut self) -> SessionId {
        SessionId(self.take())
    }

    pub(crate) fn track(&mut self) -> TrackId {
        TrackId(self.take())
    }

    pub(crate) fn subscription(&mut self) -> SubscriptionId {
        SubscriptionId(self.take())
    }
}

/// Everything outside the room, for the time of one input.
pub(crate) struct Cx<'a> {
    /// Now.
    pub(crate) now: Instant,
    /// Now, in milliseconds since 1970.
    pub(crate) wall: i64,
    pub(crate) config: &'a EngineConfig,
    pub(crate) host: &'a Host,
    pub(crate) counts: &'a Counts,
    pub(crate) media: &'a mut dyn MediaPlane,
    pub(crate) legs: &'a mut dyn LegPlane,
    pub(crate) random: &'a mut dyn Random,
    pub(crate) ids: &'a mut Ids,
    pub(crate) routes: &'a mut Routes,
    pub(crate) out: &'a mut Vec<(ConnectionId, SignalOutput)>,
}

impl Cx<'_> {
    /// Says something to a client.
    pub(crate) fn send(&mut self, connection: ConnectionId, message: Message) {
        self.out.push((
            connection,
            SignalOutput::Response(proto::SignalResponse {
                message: Some(message),
            }),
        ));
    }

    /// A LiveKit sid: prefix and 12 random letters or digits (71 bits).
    pub(crate) fn sid(&mut self, prefix: &str) -> String {
        const ALPHABET: &[u8; 62] =
            b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let mut sid = prefix.to_owned();
        while sid.len() < prefix.len() + 12 {
            let mut byte = [0];
            self.random.fill(&mut byte);
            // Bytes past the last multiple of 62 are thrown away, so that no letter is likelier.
            if byte[0] < 248 {
                sid.push(char::from(ALPHABET[usize::from(byte[0]) % 62]));
            }
        }
        sid
    }

    /// A random number that is not zero.
    pub(crate) fn nonzero(&mut self) -> u32 {
        loop {
            let mut bytes = [0; 4];
            self.random.fill(&mut bytes);
            let number = u32::from_be_bytes(bytes);
            if number != 0 {
                return number;
            }
        }
    }
}
