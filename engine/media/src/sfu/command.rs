//! What the rest of the engine says to a media worker, and what the worker says back.
//!
//! Plain values, cheap to send between threads. Packets travel as [`super::packet::Packet`];
//! nothing here touches bytes of a packet or decides anything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::packet::Packet;
use crate::ids::{MediaKind, SessionId, SubscriptionId, TrackId, WorkerIndex};
use crate::rtp::{ExtensionIds, Mid, Rid};
use crate::transport::{
    CloseReason, DataChannel, IceCredentials, RemoteParameters, SendDataError, SrtpProfile,
    TransportConfig,
};

/// Simulcast encodings of one track at most (RFC 8853 sets no bound; browsers send three).
pub const MAX_LAYERS: usize = 4;

/// A simulcast encoding of a track by rank: 0 is the lowest quality.
pub type Layer = u8;

/// One peer connection, as it is handed to the worker on which its first packet lands.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Its name.
    pub session: SessionId,
    /// Our ICE credentials and the limits of its transport; the ufrag is what the first STUN
    /// request is recognised by.
    pub transport: TransportConfig,
    /// The peer's credentials and certificate fingerprint, once its description is known.
    /// [`Command::SetRemote`] gives them otherwise.
    pub remote: Option<RemoteParameters>,
}

/// What a session is asked to do.
#[derive(Clone, Debug)]
pub enum Command {
    /// Accept a track from the peer. Repeated for the same track: replaces the parameters.
    Receive(ReceiveParameters),
    /// Stop accepting a track.
    StopReceive(TrackId),
    /// Forward a track to the peer.
    Send(SendParameters),
    /// Stop forwarding.
    StopSend(SubscriptionId),
    /// Change what is forwarded: `paused` stops it, `max_layer` caps the encoding.
    SetSend {
        /// Which subscription.
        subscription: SubscriptionId,
        /// Send nothing until further notice.
        paused: bool,
        /// Highest encoding wanted.
        max_layer: Layer,
    },
    /// The peer's description is known.
    SetRemote(RemoteParameters),
    /// New credentials on both sides, same DTLS association (RFC 8445 §2.4).
    RestartIce {
        /// Ours from now on.
        local: IceCredentials,
        /// The peer's, when already known.
        remote: Option<IceCredentials>,
    },
    /// Send a message on a data channel.
    SendData {
        /// Which channel.
        channel: DataChannel,
        /// The message, sent as binary.
        payload: Bytes,
    },
    /// The participant muted or unmuted a track: while muted nothing of it is forwarded.
    SetMuted {
        /// Which track.
        track: TrackId,
        /// Whether it is muted.
        muted: bool,
    },
    /// End the session. [`Event::Disconnected`] follows.
    Close,
}

/// A track the peer sends us, from our answer to its offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiveParameters {
    /// Its name.
    pub track: TrackId,
    /// Audio or video.
    pub kind: MediaKind,
    /// Media section it belongs to.
    pub mid: Mid,
    /// Codec of `payload_type`.
    pub codec: Codec,
    /// Negotiated payload type.
    pub payload_type: u8,
    /// Payload type of retransmissions (RFC 4588), when negotiated.
    pub rtx_payload_type: Option<u8>,
    /// Timestamp units per second.
    pub clock_rate: u32,
    /// Negotiated header extensions.
    pub extensions: ExtensionIds,
    /// Encodings from lowest to highest quality; one without rid and ssrc when the description
    /// names none (the ssrc is then learned from mid or payload type).
    pub encodings: Vec<Encoding>,
}

/// One simulcast encoding (RFC 8853) or the only one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encoding {
    /// Its identifier, under simulcast.
    pub rid: Option<Rid>,
    /// Its SSRC, when the description names it.
    pub ssrc: Option<u32>,
    /// SSRC of its retransmissions, when the description names it.
    pub rtx_ssrc: Option<u32>,
}

/// A track forwarded to the peer, from the peer's answer to our offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendParameters {
    /// The track.
    pub track: TrackId,
    /// This forwarding of it.
    pub subscription: SubscriptionId,
    /// Audio or video.
    pub kind: MediaKind,
    /// Media section it goes out in.
    pub mid: Mid,
    /// SSRC we send under.
    pub ssrc: u32,
    /// SSRC of our retransmissions.
    pub rtx_ssrc: Option<u32>,
    /// Codec of `payload_type`: must be the track's.
    pub codec: Codec,
    /// Payload type the peer expects.
    pub payload_type: u8,
    /// Payload type of retransmissions, when negotiated; without it packets are sent again as
    /// they were.
    pub rtx_payload_type: Option<u8>,
    /// Timestamp units per second.
    pub clock_rate: u32,
    /// Negotiated header extensions.
    pub extensions: ExtensionIds,
    /// Highest encoding to forward.
    pub max_layer: Layer,
}

/// What a payload type stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// RFC 7587.
    Opus,
    /// RFC 3551 §4.5.2.
    G722,
    /// RFC 3551 §4.5.14, A-law.
    Pcma,
    /// RFC 3551 §4.5.14, mu-law.
    Pcmu,
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
    /// RFC 6184.
    H264,
    /// AOM "RTP payload format for AV1".
    Av1,
}

impl Codec {
    /// Audio or video.
    pub fn kind(self) -> MediaKind {
        match self {
            Codec::Opus | Codec::G722 | Codec::Pcma | Codec::Pcmu => MediaKind::Audio,
            Codec::Vp8 | Codec::Vp9 | Codec::H264 | Codec::Av1 => MediaKind::Video,
        }
    }

    /// Timestamp units per second on the wire (G.722's is 8,000 by RFC 3551 §4.5.2).
    pub fn clock_rate(self) -> u32 {
        match self {
            Codec::Opus => 48_000,
            Codec::G722 | Codec::Pcma | Codec::Pcmu => 8_000,
            Codec::Vp8 | Codec::Vp9 | Codec::H264 | Codec::Av1 => 90_000,
        }
    }
}

/// Loudness in -dBov (RFC 6464): 0 is the loudest, 127 is silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Level(pub u8);

impl Level {
    /// Nothing to hear: also how a [`Event::Levels`] entry says that a track went quiet.
    pub const SILENT: Level = Level(127);

    /// Whether somebody speaks.
    pub fn is_active(self) -> bool {
        self.0 < 127
    }

    /// 0 (silence) to 1 (full scale), linear in amplitude.
    pub fn linear(self) -> f32 {
        if self.is_active() {
            10f32.powf(-f32::from(self.0) / 20.0)
        } else {
            0.0
        }
    }
}

/// Why a command was refused. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// This router does not own the session.
    #[error("the session is not owned by this worker")]
    UnknownSession,
    /// The session has no such subscription.
    #[error("the session has no such subscription")]
    UnknownSubscription,
    /// The session has no such track.
    #[error("the session has no such track")]
    UnknownTrack,
    /// The worker has as many sessions as it may.
    #[error("the worker has as many sessions as it may have")]
    TooManySessions,
    /// The session publishes as many tracks as it may.
    #[error("the session publishes as many tracks as it may")]
    TooManyTracks,
    /// The session receives as many tracks as it may.
    #[error("the session receives as many tracks as it may")]
    TooManySubscriptions,
    /// A session with this name or ufrag is there already.
    #[error("a session with this name or ufrag exists already")]
    Exists,
    /// The message was not queued.
    #[error("data message: {0}")]
    Data(#[from] SendDataError),
}

/// What a worker reports.
#[derive(Clone, Debug)]
pub enum Event {
    /// The first packet of the session landed on this worker; commands go there from now on.
    Adopted {
        /// Which session.
        session: SessionId,
        /// Its owner.
        worker: WorkerIndex,
    },
    /// ICE and DTLS stand; media can flow.
    Connected {
        /// Which session.
        session: SessionId,
        /// The SRTP profile in use.
        profile: SrtpProfile,
    },
    /// The session is over and forgotten.
    Disconnected {
        /// Which session.
        session: SessionId,
        /// Why.
        reason: CloseReason,
    },
    /// A message came on a data channel.
    Data {
        /// Which session.
        session: SessionId,
        /// Which channel.
        channel: DataChannel,
        /// The message.
        payload: Bytes,
    },
    /// A data channel can be written to.
    DataOpen {
        /// Which session.
        session: SessionId,
        /// Which channel.
        channel: DataChannel,
    },
    /// Media of a track arrives: with its first packet, and again when encodings appear.
    TrackActive {
        /// Which session it comes from.
        session: SessionId,
        /// Which track.
        track: TrackId,
        /// Its media section.
        mid: Mid,
        /// Its codec.
        codec: Codec,
        /// Encodings seen so far, one bit each: bit 0 is the lowest quality.
        layers: u8,
    },
    /// Nothing of a track has arrived for [`super::STALL`] although it is not muted, or it
    /// arrives again.
    TrackStalled {
        /// Which track.
        track: TrackId,
        /// Whether it stalls.
        stalled: bool,
    },
    /// Smoothed loudness of tracks whose activity or level changed, each
    /// [`super::LEVELS_INTERVAL`]; [`Level::SILENT`] for those that went quiet.
    Levels(Vec<(TrackId, Level)>),
    /// How a session's media fared, each [`super::QUALITY_INTERVAL`].
    Quality(Quality),
}

/// How the media of one session fared over the last interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    /// Which session.
    pub session: SessionId,
    /// From the peer to us.
    pub uplink: Link,
    /// From us to the peer, as its receiver reports tell it.
    pub downlink: Link,
    /// Round trip, when measured.
    pub rtt: Option<Duration>,
}

/// One direction of a session over one interval, all its streams together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Link {
    /// Packets of media.
    pub packets: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Fraction lost before repair, 0 to 1.
    pub loss: f32,
    /// Interarrival jitter (RFC 3550 §6.4.1), the worst stream's.
    pub jitter: Duration,
}

/// Between members of the mesh: the workers and the mixer.
#[derive(Clone, Debug)]
pub enum MeshMessage {
    /// A packet of a track the receiver watches.
    Packet(Arc<Packet>),
    /// `from` has its first subscription to the track.
    Watch {
        /// Which track.
        track: TrackId,
        /// Who wants it.
        from: WorkerIndex,
    },
    /// `from` has no subscription to the track any more.
    Unwatch {
        /// Which track.
        track: TrackId,
        /// Who wanted it.
        from: WorkerIndex,
    },
    /// Somebody needs a key frame of this encoding; only the source acts.
    KeyFrame {
        /// Which track.
        track: TrackId,
        /// Which encoding.
        layer: Layer,
    },
    /// A datagram of a session the receiver owns, which landed elsewhere.
    Datagram {
        /// The peer.
        from: SocketAddr,
        /// Our address it was sent to.
        to: SocketAddr,
        /// Its bytes.
        bytes: Vec<u8>,
    },
}

/// Who gets a [`MeshMessage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeshTarget {
    /// Every other member.
    Everyone,
    /// One member.
    One(WorkerIndex),
}
