//! What the engine refuses, and why, in sentences a person can act on.

use thiserror::Error;

/// A participant (or a telephone leg) was not let into a room.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinError {
    /// The token does not carry the right to join this room.
    #[error("this token does not allow joining the room; ask for a new invitation")]
    NotAllowed,
    /// Attributes were given by who may not change its own.
    #[error("this token does not allow choosing attributes (canUpdateOwnMetadata)")]
    AttributesNotAllowed,
    /// No room of that name, and rooms are not created by joining.
    #[error("requested room does not exist")]
    RoomUnknown,
    /// The room has all the participants it may have.
    #[error("the room is full: {limit} participants at most")]
    RoomFull {
        /// Highest number of participants.
        limit: u32,
    },
    /// The box has all the rooms it may have.
    #[error("this server has no space for another room: {limit} at most")]
    TooManyRooms {
        /// Highest number of rooms.
        limit: u32,
    },
    /// A name, identity, metadata or attribute is empty or too long.
    #[error("{field} is not acceptable: {because}")]
    Unacceptable {
        /// Which part of the request.
        field: &'static str,
        /// What is wrong with it.
        because: &'static str,
    },
    /// The participant to resume is not in the room (any more): the client is to be told
    /// `leave` with action RECONNECT and reason STATE_MISMATCH.
    #[error("there is nothing to resume; join again")]
    NothingToResume,
    /// The leg is already in a room, or has ended.
    #[error("this leg cannot join a room now")]
    LegBusy,
    /// The room was lost to a bug of ours while joining.
    #[error("the room failed; join again")]
    RoomFailed,
    /// The box is stopping.
    #[error("the server is stopping")]
    Stopping,
}

impl JoinError {
    /// Stable code, for logs, metrics and machine readers.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAllowed => "not_allowed",
            Self::AttributesNotAllowed => "attributes_not_allowed",
            Self::RoomUnknown => "room_unknown",
            Self::RoomFull { .. } => "room_full",
            Self::TooManyRooms { .. } => "too_many_rooms",
            Self::Unacceptable { .. } => "unacceptable",
            Self::NothingToResume => "nothing_to_resume",
            Self::LegBusy => "leg_busy",
            Self::RoomFailed => "room_failed",
            Self::Stopping => "stopping",
        }
    }
}

/// A room operation was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RoomError {
    /// No room of that name is open now.
    #[error("requested room does not exist")]
    RoomUnknown,
    /// Nobody of that identity is in the room.
    #[error("participant does not exist")]
    ParticipantUnknown,
    /// The participant publishes no such track.
    #[error("track not found")]
    TrackUnknown,
    /// The server may mute, but never opens somebody's microphone or camera.
    #[error("remote unmute is not enabled")]
    UnmuteForbidden,
    /// A name or metadata is empty or too long.
    #[error("{field} is not acceptable: {because}")]
    Unacceptable {
        /// Which part of the request.
        field: &'static str,
        /// What is wrong with it.
        because: &'static str,
    },
    /// The box has all the rooms it may have.
    #[error("this server has no space for another room: {limit} at most")]
    TooManyRooms {
        /// Highest number of rooms.
        limit: u32,
    },
    /// The box is stopping.
    #[error("the server is stopping")]
    Stopping,
}

impl RoomError {
    /// Twirp error code of the refusal.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::RoomUnknown | Self::ParticipantUnknown | Self::TrackUnknown => "not_found",
            Self::UnmuteForbidden => "failed_precondition",
            Self::Unacceptable { .. } => "invalid_argument",
            Self::TooManyRooms { .. } => "resource_exhausted",
            Self::Stopping => "unavailable",
        }
    }
}

/// The engine did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The media port cannot be opened.
    #[error(
        "cannot open the media port {address} (key media.bind): {source}{}",
        crate::net::remedy(source)
    )]
    MediaPort {
        /// Address asked for.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// The DTLS certificate cannot be made.
    #[error("cannot make the DTLS certificate: {0}")]
    Certificate(String),
}
