//! ICE-lite, DTLS and SCTP data channels of one peer connection behind one [`Transport`] trait.
//!
//! Owns: which address a peer is reached at, when it is believed gone, the SRTP keys
//! exported from its handshake, its data channels. Never touches RTP: datagrams that
//! [`classify`] calls RTP or RTCP go to the session's SRTP contexts, not here.
//!
//! ```text
//! datagram ─ classify ─┬─ Stun ─► ice  (answers checks, follows nomination, consent)
//!                      ├─ Dtls ─► dtls (passive, 1.2) ─► sctp ─► dcep ─► Data events
//!                      └─ Rtp, Rtcp ─► not ours
//! ```
//!
//! Randomness: ICE credentials come from bytes the caller passes in. `dimpl` and
//! `sctp-proto` draw theirs (handshake randoms, verification tags, initial TSN) from the
//! operating system by themselves and offer no complete way to pass a source; two runs
//! therefore differ in those bytes, never in behaviour our tests assert.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

mod certificate;
mod dcep;
mod demux;
mod dtls;
mod ice;
mod keying;
#[cfg(test)]
pub(crate) mod mutate;
mod parameters;
#[cfg(any(test, feature = "peer"))]
pub mod peer;
mod sctp;
mod stun;
mod webrtc;

pub use certificate::{Certificate, CertificateError};
pub use demux::{DatagramKind, classify, stun_local_ufrag};
pub use keying::{KeyingMaterial, SrtpProfile};
pub use parameters::{
    DataChannelPolicy, Fingerprint, FingerprintError, IceCredentials, RemoteParameters,
    TransportConfig,
};
pub use webrtc::WebRtcTransport;

/// The connection of one session, below RTP.
///
/// Drive it like every state machine of this crate: one input (`handle_*`, `set_remote`,
/// `send_data`, …), then [`poll`](Self::poll) until `None`, then sleep until
/// [`deadline`](Self::deadline).
pub trait Transport {
    /// Takes a STUN or DTLS datagram that arrived from `from` on our address `to`.
    ///
    /// A refused datagram changes nothing; its reason is for a counter.
    fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), DatagramRefusal>;

    /// Lets timers that are due at `now` run. Calling it early is harmless.
    fn handle_timeout(&mut self, now: Instant);

    /// The next thing to send or to know, until `None`.
    fn poll(&mut self) -> Option<TransportOutput>;

    /// When [`handle_timeout`](Self::handle_timeout) is next needed.
    fn deadline(&self) -> Option<Instant>;

    /// Tells the peer's ICE credentials and certificate fingerprint, from its description.
    ///
    /// Checks that arrive earlier are answered (they are authenticated by *our* password);
    /// the DTLS handshake may run earlier too, but nothing is `DtlsConnected` before the
    /// certificate has been compared with this fingerprint.
    fn set_remote(&mut self, now: Instant, remote: RemoteParameters);

    /// Changes our ICE credentials, and the peer's when they are known already (RFC 8445 §9).
    ///
    /// Media keeps flowing to the old address until a check with the new credentials
    /// nominates one. The DTLS association stays.
    fn restart_ice(&mut self, now: Instant, local: IceCredentials, remote: Option<IceCredentials>);

    /// Queues one message on a data channel.
    fn send_data(
        &mut self,
        now: Instant,
        channel: DataChannel,
        payload: &[u8],
    ) -> Result<(), SendDataError>;

    /// Where media for the peer is sent: the nominated address, once there is one.
    fn remote(&self) -> Option<SocketAddr>;

    /// Says good-bye (DTLS `close_notify`, SCTP abort) and ends with
    /// [`CloseReason::Local`]. Idempotent.
    fn close(&mut self, now: Instant);
}

/// What [`Transport::poll`] returns.
#[derive(Debug, PartialEq, Eq)]
pub enum TransportOutput {
    /// Send these bytes to this address, from the session's socket.
    Datagram {
        /// Destination.
        to: SocketAddr,
        /// The whole datagram.
        bytes: Bytes,
    },
    /// Something the session's owner must know.
    Event(TransportEvent),
}

/// What happened on a transport.
#[derive(Debug, PartialEq, Eq)]
pub enum TransportEvent {
    /// The peer nominated this address (first time or after a change of network):
    /// media goes there from now on.
    IceConnected {
        /// The peer's address.
        remote: SocketAddr,
    },
    /// The handshake is complete and the peer's certificate is the one it announced.
    DtlsConnected {
        /// Keys for both directions.
        keying: KeyingMaterial,
        /// What they are for.
        profile: SrtpProfile,
    },
    /// A data channel can carry messages both ways.
    DataOpen(DataChannel),
    /// One whole message arrived.
    Data {
        /// The channel it arrived on.
        channel: DataChannel,
        /// The message, at most [`TransportConfig::max_message_size`] bytes.
        payload: Bytes,
    },
    /// Nothing follows.
    Closed(CloseReason),
}

/// LiveKit's data channels, told apart by label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DataChannel {
    /// `_reliable`: ordered, retransmitted.
    Reliable,
    /// `_lossy`: unordered, never retransmitted.
    Lossy,
    /// `_data_track`: unordered, never retransmitted; frames of data tracks.
    DataTrack,
}

impl DataChannel {
    /// Every channel, in the order we open them.
    pub const ALL: [DataChannel; 3] = [Self::Reliable, Self::Lossy, Self::DataTrack];

    /// The label both sides know it by.
    pub fn label(self) -> &'static str {
        match self {
            Self::Reliable => "_reliable",
            Self::Lossy => "_lossy",
            Self::DataTrack => "_data_track",
        }
    }

    /// The channel of this label, `None` for a label we do not serve.
    pub fn from_label(label: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|channel| channel.label().as_bytes() == label)
    }
}

/// Why a transport ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// We closed it.
    Local,
    /// The peer closed its DTLS association.
    Remote,
    /// No authenticated ICE check for [`TransportConfig::ice_timeout`].
    IceTimeout,
    /// The DTLS handshake failed or did not finish in time.
    DtlsFailed,
    /// The peer's certificate is not the one its description announced.
    FingerprintMismatch,
    /// The peer offered no SRTP profile we know (RFC 5764 `use_srtp`).
    NoSrtpProfile,
}

impl CloseReason {
    /// The name of this reason in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
            Self::IceTimeout => "ice_timeout",
            Self::DtlsFailed => "dtls_failed",
            Self::FingerprintMismatch => "fingerprint_mismatch",
            Self::NoSrtpProfile => "no_srtp_profile",
        }
    }
}

/// Why a STUN or DTLS datagram was dropped. For counters only; never answered, never logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DatagramRefusal {
    /// Neither STUN nor DTLS by its first byte (RFC 7983 §7).
    NotTransport,
    /// Not a well-formed STUN message, or one without what ICE needs.
    StunMalformed,
    /// A well-formed STUN message of a kind an ICE-lite agent has no use for.
    StunUnexpected,
    /// The USERNAME is of another session or of another peer.
    StunWrongUser,
    /// MESSAGE-INTEGRITY does not verify with our password.
    StunIntegrity,
    /// DTLS from an address that passed no ICE check.
    DtlsUnknownAddress,
    /// Not a sequence of whole DTLS 1.2 records (RFC 6347 §4.1).
    DtlsMalformed,
    /// More handshake datagrams than an honest handshake needs.
    DtlsFlood,
    /// The transport is closed.
    Closed,
}

impl DatagramRefusal {
    /// The name of this reason in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotTransport => "not_transport",
            Self::StunMalformed => "stun_malformed",
            Self::StunUnexpected => "stun_unexpected",
            Self::StunWrongUser => "stun_wrong_user",
            Self::StunIntegrity => "stun_integrity",
            Self::DtlsUnknownAddress => "dtls_unknown_address",
            Self::DtlsMalformed => "dtls_malformed",
            Self::DtlsFlood => "dtls_flood",
            Self::Closed => "transport_closed",
        }
    }
}

/// Why a message was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendDataError {
    /// The channel is not open (yet, or any more).
    #[error("the data channel is not open")]
    NotOpen,
    /// The peer reads slower than we write: its queue is full.
    #[error("the data channel's send queue is full")]
    QueueFull,
    /// The message is larger than the limit.
    #[error("the message has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// Bytes in the message.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
}

/// How long a peer may be silent before its transport closes, unless configured.
///
/// Browsers check consent every 2.5 s or so (RFC 7675 allows 30 s). Lower notices a lost
/// peer sooner; higher lets a participant come back from a lift without a reconnect.
pub const DEFAULT_ICE_TIMEOUT: Duration = Duration::from_secs(15);
