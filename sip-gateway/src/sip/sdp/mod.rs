//! SDP (RFC 8866) offer/answer (RFC 3264) for one audio stream. Describes media, never carries it.

use std::net::{IpAddr, SocketAddr};

mod parse;
mod session;
#[cfg(test)]
mod tests;

pub use parse::{Broken, Description, Section};
pub use session::{SdpError, Session};

/// Audio codecs of telephone legs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Codec {
    /// Opus, 48 kHz RTP clock (RFC 7587).
    Opus,
    /// G.722, 16 kHz sound on an 8 kHz RTP clock (RFC 3551 §4.5.2).
    G722,
    /// G.711 A-law.
    Pcma,
    /// G.711 mu-law.
    Pcmu,
}

/// Who sends, from our point of view (RFC 3264 §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// Both ways.
    #[default]
    SendRecv,
    /// We only send: the peer listens.
    SendOnly,
    /// We only receive: the peer put us on hold, perhaps with music.
    RecvOnly,
    /// Nobody sends.
    Inactive,
}

/// Named events (RFC 4733) as negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TelephoneEvent {
    /// Payload type in the packets we send.
    pub payload_type: u8,
    /// Payload type in the packets we receive; nearly always the same.
    pub receive_payload_type: u8,
    /// 8000 or 48000 Hz.
    pub clock_rate: u32,
}

/// Our end of the audio stream of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalMedia {
    /// Address and port of RTP, as the peer must see it: concrete.
    pub rtp: SocketAddr,
    /// Port of RTCP when it has its own; `None` when both share `rtp` (then `a=rtcp-mux`, or `a=rtcp` naming the same port).
    pub rtcp_port: Option<u16>,
}

/// Codecs and packet time we are ready to use, for all calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaPolicy {
    /// Our preference. The first that the peer also has is used, unless `peer_preference`.
    pub codecs: Vec<Codec>,
    /// Follow the peer's order instead of ours when answering.
    pub peer_preference: bool,
}

impl Default for MediaPolicy {
    fn default() -> Self {
        MediaPolicy {
            codecs: vec![Codec::Opus, Codec::G722, Codec::Pcma, Codec::Pcmu],
            peer_preference: false,
        }
    }
}

/// The audio stream as negotiated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// One codec, both ways.
    pub codec: Codec,
    /// Payload type of the packets we send.
    pub payload_type: u8,
    /// Payload type of the packets we receive; nearly always the same.
    pub receive_payload_type: u8,
    /// Keys as RTP events, if the peer has them.
    pub telephone_event: Option<TelephoneEvent>,
    /// What we may do.
    pub direction: Direction,
    /// Where RTP goes. Unspecified (`0.0.0.0`) during an old-style hold, when `direction` does not send either.
    pub remote: SocketAddr,
    /// Where RTCP goes; equals `remote` with rtcp-mux.
    pub remote_rtcp: SocketAddr,
    /// RTP and RTCP share one port (RFC 5761).
    pub rtcp_mux: bool,
    /// Milliseconds of sound per packet we should send: 20 unless the peer asked otherwise; 10 to 60.
    pub ptime: u8,
    /// The peer decodes Opus in-band FEC (`useinbandfec=1`).
    pub opus_fec: bool,
}

impl Media {
    /// True when the peer wants no sound from us.
    pub fn on_hold(&self) -> bool {
        matches!(self.direction, Direction::RecvOnly | Direction::Inactive)
    }

    /// The address of RTP without port.
    pub fn remote_ip(&self) -> IpAddr {
        self.remote.ip()
    }
}
