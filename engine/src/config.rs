//! Keys of the engine: media port, limits, timeouts.

use std::net::SocketAddr;

use crate::settings::{Bitrate, Span};

crate::settings! {
    /// WebRTC media: the sound, pictures and data of browsers and LiveKit clients.
    pub struct MediaConfig {
        /// UDP address and port of all media. One port for every participant.
        pub bind: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7880)),
        /// Addresses told to clients instead of `bind`: the public one when behind a NAT. Empty, with
        /// `bind` 0.0.0.0 or [::] = those of all the machine's networks, up to eight: name some when
        /// guests need not know of the others. Beside others, 0.0.0.0:0 or [::]:0 stands for those, at `bind`'s port.
        pub announced: Vec<SocketAddr> = Vec::new(),
        /// Media threads; unset = one per core.
        pub workers: Option<usize> = None, where |n| n.is_none_or(|n| (1..=64).contains(&n)), "between 1 and 64",
        /// Real-time priority of the media threads; the mixer gets one more. On a machine that does other work too,
        /// sound and pictures then keep their time. Needs the right to it (RLIMIT_RTPRIO). Unset = ordinary.
        pub priority: Option<u8> = None, where |n| n.is_none_or(|n| (1..=50).contains(&n)), "between 1 and 50",
    }
}

crate::settings! {
    /// Rooms and their limits.
    pub struct RoomsConfig {
        /// Whether joining a room that is not open opens it.
        pub auto_create: bool = true,
        /// How long an open room that nobody has joined yet stays open.
        pub empty_timeout: Span = Span::from_secs(300),
        /// How long a room stays open after the last participant left.
        pub departure_timeout: Span = Span::from_secs(20),
        /// How long a participant that lost its connection keeps its seat and tracks:
        /// longer rides out longer network holes, shorter removes ghosts sooner.
        pub resume_timeout: Span = Span::from_secs(30),
        /// Rooms open at once, at most.
        pub max_open: u32 = 1_000,
        /// Participants in one room, at most, unless the room says less.
        pub max_participants: u32 = 500, where |n| *n > 0, "at least 1",
        /// Tracks published by one participant, at most.
        pub max_tracks: u32 = 32, where |n| *n > 0, "at least 1",
    }
}

crate::settings! {
    /// The mixer that telephones hear.
    pub struct MixerConfig {
        /// Voices mixed at once: more costs a decode each, fewer cuts people off.
        pub talkers: usize = 4, where |n| (2..=16).contains(n), "between 2 and 16",
        /// Bit rate of the mix and of voices in Opus. One encoding serves all listeners of a room, so more
        /// costs the network little and the processor less; above 40 kbit/s speech gains little.
        pub bitrate: Bitrate = Bitrate::from_bps(40_000),
            where |rate| (16_000..=128_000).contains(&rate.bps()), "between 16 kbit/s and 128 kbit/s",
        /// Telephone legs at once, at most; calls above it are answered 503, as are those above `calls` of `[sip]`.
        pub max_legs: u32 = 500,
        /// A telephone from which nothing came for so long is hung up: longer rides out longer network holes,
        /// shorter frees its place sooner.
        pub media_timeout: Span = Span::from_secs(30),
            where |wait| (5..=3_600).contains(&wait.duration().as_secs()), "between 5 s and 1 h",
        /// The same for a telephone on hold, which need not send anything meanwhile.
        pub hold_timeout: Span = Span::from_secs(3_600),
            where |wait| (60..=86_400).contains(&wait.duration().as_secs()), "between 1 min and 24 h",
    }
}

/// Everything the engine can be told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineConfig {
    /// `[media]`
    pub media: MediaConfig,
    /// `[rooms]`
    pub rooms: RoomsConfig,
    /// `[mixer]`
    pub mixer: MixerConfig,
}
