//! Keys of the engine: media port, limits, timeouts.

use std::net::SocketAddr;

use crate::settings::Span;

crate::settings! {
    /// Rooms and media.
    pub struct EngineConfig {
        /// UDP address and port of all media. One port for every participant.
        pub media: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7880)),
        /// Addresses told to clients instead of `media`: the public one when behind a NAT,
        /// the machine's own when `media` is 0.0.0.0 or [::].
        pub announced: Vec<SocketAddr> = Vec::new(),
        /// Media threads; unset = one per core.
        pub workers: Option<usize> = None, where |n| n.is_none_or(|n| (1..=64).contains(&n)), "between 1 and 64",
        /// Whether joining a room that is not open opens it.
        pub auto_create_rooms: bool = true,
        /// How long an open room that nobody has joined yet stays open.
        pub empty_timeout: Span = Span::from_secs(300),
        /// How long a room stays open after the last participant left.
        pub departure_timeout: Span = Span::from_secs(20),
        /// How long a participant that lost its connection keeps its seat and tracks:
        /// longer rides out longer network holes, shorter removes ghosts sooner.
        pub resume_timeout: Span = Span::from_secs(30),
        /// Rooms open at once, at most.
        pub max_rooms: u32 = 1_000,
        /// Participants in one room, at most, unless the room says less.
        pub max_participants: u32 = 500, where |n| *n > 0, "at least 1",
        /// Tracks published by one participant, at most.
        pub max_tracks: u32 = 32, where |n| *n > 0, "at least 1",
        /// Telephone legs at once, at most.
        pub max_legs: u32 = 500,
        /// Voices mixed at once for telephones: more costs a decode each, fewer cuts people off.
        pub talkers: usize = 4, where |n| (2..=16).contains(n), "between 2 and 16",
    }
}
