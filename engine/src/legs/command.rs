//! What the rest of the program may ask of the mixer thread, and what it answers.
//!
//! Owns the words: commands, leg parameters, leg events. It never touches a socket or a sample.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use palabre_media::codec::LegCodec;
use palabre_media::ids::{LegId, TrackId};
use tokio::sync::mpsc;

/// 16-bit mono PCM at 48 kHz, shared by every leg that plays it.
pub type Prompt = Arc<[i16]>;

/// One room as the mixer thread knows it: a number chosen by the room shard, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomId(pub u64);

/// Who may send, seen from us (RFC 8866 §6.7, our side of the offer/answer).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// `a=sendrecv`
    #[default]
    SendReceive,
    /// `a=sendonly`: we send (music on hold at the other end), its voice is not expected.
    SendOnly,
    /// `a=recvonly`
    ReceiveOnly,
    /// `a=inactive`
    Inactive,
}

impl Direction {
    /// Whether we may send RTP.
    pub fn sends(self) -> bool {
        matches!(self, Self::SendReceive | Self::SendOnly)
    }

    /// Whether we take RTP: without it the voice is silence.
    pub fn receives(self) -> bool {
        matches!(self, Self::SendReceive | Self::ReceiveOnly)
    }
}

/// What the SDP offer/answer settled for one telephone leg.
#[derive(Debug)]
pub struct LegParameters {
    /// Bound socket for RTP; the mixer thread makes it non-blocking and owns it from here.
    pub rtp: UdpSocket,
    /// Bound socket for RTCP, or `None` when RTCP shares the RTP socket (RFC 5761).
    pub rtcp: Option<UdpSocket>,
    /// Where the SDP says RTP goes; the leg may latch elsewhere (symmetric RTP, RFC 4961). `None` for
    /// a call that comes in on hold and names no address (`c=0.0.0.0`, RFC 3264 §8.4).
    pub remote: Option<SocketAddr>,
    /// Where RTCP goes; with `None` to `remote` (mux) or to its port + 1 (separate socket).
    pub remote_rtcp: Option<SocketAddr>,
    /// Audio codec, both ways.
    pub codec: LegCodec,
    /// RTP payload type of the codec in what we send: the number in the peer's description
    /// (RFC 3264 §5.1).
    pub payload_type: u8,
    /// RTP payload type of the codec in what we receive: the number in our description.
    pub receive_payload_type: u8,
    /// Payload type, in what we receive, and clock rate of `telephone-event` (RFC 4733), when
    /// negotiated.
    pub telephone_event: Option<(u8, u32)>,
    /// Sound per packet that the peer asked for (`a=ptime` within `a=maxptime`): 10 to 60 ms in
    /// tens, of Opus 20, 40 or 60 ms; else the nearest below.
    pub packet_time: Duration,
    /// Who sends.
    pub direction: Direction,
}

/// What a re-INVITE or UPDATE changed; `None` keeps what was.
#[derive(Clone, Debug, Default)]
pub struct LegUpdate {
    /// RTP address of the peer; when it is another than before, the latch is forgotten.
    pub remote: Option<SocketAddr>,
    /// New RTCP address of the peer.
    pub remote_rtcp: Option<SocketAddr>,
    /// New codec and its payload type, both ways unless `receive_payload_type` says another.
    pub codec: Option<(LegCodec, u8)>,
    /// New payload type of the codec in what we receive.
    pub receive_payload_type: Option<u8>,
    /// New length of the packets we send.
    pub packet_time: Option<Duration>,
    /// New `telephone-event` payload type and clock rate; `Some(None)` takes it away.
    pub telephone_event: Option<Option<(u8, u32)>>,
    /// New direction.
    pub direction: Option<Direction>,
}

/// What the owner of a leg is told. The end of the events before it closed the leg means that the
/// leg was lost to a bug of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LegEvent {
    /// One key was pressed: `0`-`9`, `*`, `#`, `A`-`D`. Once per press.
    Digit(char),
    /// The prompt given to `play` was heard to its end (not sent when it is stopped or replaced).
    PlayFinished,
    /// [`Command::SetLegMuted`] was applied, whoever wished it: the caller by key or an organiser.
    Muted(bool),
    /// Neither RTP nor RTCP came for the media timeout, on hold for the hold timeout; sent once per
    /// silence.
    MediaTimeout,
    /// The other end said RTCP BYE or the leg left its room: a word for the log, no more events of the room.
    Removed(RemovedReason),
}

/// Why a leg left its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovedReason {
    /// An organiser removed the participant.
    Removed,
    /// The room was closed.
    RoomClosed,
    /// The room's mix failed; the leg may join again.
    MixFailed,
    /// The program stops.
    Shutdown,
}

/// What the mixer thread is asked to do. Applied in order at the next 20 ms tick.
/// A command that names an unknown room, track or leg is dropped and counted.
#[derive(Debug)]
pub enum Command {
    /// The room has, or will have, at least one leg.
    OpenRoom {
        /// Its number.
        room: RoomId,
        /// How many talkers are heard at once, 2 to 16.
        talkers: usize,
    },
    /// Nobody will call into the room any more: its legs fall back to silence, its tracks are unwatched.
    CloseRoom {
        /// Its number.
        room: RoomId,
    },
    /// An audio track (Opus) of a participant who is not a leg was published in the room.
    /// It is watched only while the room has a leg.
    AddTrack {
        /// The room.
        room: RoomId,
        /// The track.
        track: TrackId,
    },
    /// The track is gone.
    RemoveTrack {
        /// The room.
        room: RoomId,
        /// The track.
        track: TrackId,
    },
    /// A muted track counts as silent at once, whatever still arrives.
    SetTrackMuted {
        /// The room.
        room: RoomId,
        /// The track.
        track: TrackId,
        /// Muted or not.
        muted: bool,
    },
    /// A leg begins, outside any room: it hears prompts, its keys are reported.
    OpenLeg {
        /// Its number.
        leg: LegId,
        /// What the SDP settled.
        parameters: Box<LegParameters>,
        /// Where its events go; a full channel loses events and counts them.
        events: mpsc::Sender<LegEvent>,
    },
    /// The leg enters the room: it hears everybody else, and its voice becomes `track`.
    JoinRoom {
        /// The leg.
        leg: LegId,
        /// The room, opened before.
        room: RoomId,
        /// The Opus track its voice is published as.
        track: TrackId,
    },
    /// The leg leaves its room and goes back to prompts. `reason` is told to its owner.
    LeaveRoom {
        /// The leg.
        leg: LegId,
        /// Why.
        reason: RemovedReason,
    },
    /// A muted leg's voice stops everywhere: in the mix and in its track.
    SetLegMuted {
        /// The leg.
        leg: LegId,
        /// Muted or not.
        muted: bool,
    },
    /// Plays a prompt to this leg only, over what it hears; replaces the one that plays.
    Play {
        /// The leg.
        leg: LegId,
        /// The prompt.
        prompt: Prompt,
    },
    /// Stops the prompt at once.
    StopPlaying {
        /// The leg.
        leg: LegId,
    },
    /// The session was renegotiated.
    UpdateLeg {
        /// The leg.
        leg: LegId,
        /// What changed.
        update: LegUpdate,
    },
    /// The call is over: an RTCP BYE is sent, the sockets are closed.
    CloseLeg {
        /// The leg.
        leg: LegId,
    },
    /// Ends the thread.
    Stop,
}

/// What the mixer thread tells the room shard.
#[derive(Clone, Debug, PartialEq)]
pub enum MixerEvent {
    /// Loudness of each leg's voice that was not silent, about every 400 ms:
    /// -dBov as in RFC 6464 (0 loudest, 127 silence), the smallest of the period.
    Levels(Vec<(TrackId, u8)>),
    /// The mix of this room panicked: its legs were put back to prompts. A bug of ours, contained.
    RoomFailed(RoomId),
    /// The leg is lost to a bug of ours: it hears and says nothing any more, its events have ended.
    LegFailed(LegId),
}

/// Why a leg could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum LegError {
    /// The mixer thread has as many legs as it may have.
    #[error("all {limit} telephone lines are busy")]
    Full {
        /// The limit.
        limit: usize,
    },
    /// The mixer thread has ended.
    #[error("the telephone mixer is not running")]
    Stopped,
    /// The sockets cannot be made non-blocking.
    #[error("the telephone line's socket cannot be used: {0}")]
    Socket(#[from] std::io::Error),
}
