//! JSEP (RFC 9429), the server's side of LiveKit's two-connection flow.
//!
//! On the publisher connection the client offers and [`Answerer`] answers; on the subscriber
//! connection [`Offerer`] offers and the client answers. Both keep what a later description
//! must not change (order of sections, mids, identifiers) and produce plain values for the
//! media plane. Neither moves a packet, and neither trusts a byte of the peer's text.
//!
//! We are always ICE-lite, always DTLS server, everything is bundled on one transport
//! (RFC 9143) and RTCP shares it (RFC 8834).

mod answer;
mod codec;
mod offer;
mod sdp;
mod simulcast;
mod write;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use crate::ids::MediaKind;
use crate::rtp::{ExtensionIds, Mid};
use crate::sfu::{Codec, Encoding};
use crate::transport::{Fingerprint, IceCredentials, RemoteParameters};

pub use answer::{Answer, Answerer, ReceiveSection, RejectedSection, TrackPolicy};
pub use offer::{Accepted, Offerer, Refusal, SendSection, SendTrack};
pub use sdp::{MAX_DESCRIPTION, MAX_SECTIONS};

/// What we tell the peer about our end of a connection.
#[derive(Clone, Debug)]
pub struct LocalParameters {
    /// Our ICE credentials on this connection.
    pub ice: IceCredentials,
    /// Our certificate.
    pub fingerprint: Fingerprint,
    /// Where we can be reached.
    pub candidates: Vec<Candidate>,
}

/// One of our addresses: a host candidate (RFC 8839 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Address and port, as peers see them.
    pub address: SocketAddr,
    /// How it is reached.
    pub protocol: CandidateProtocol,
}

/// Transport of a [`Candidate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CandidateProtocol {
    /// UDP.
    Udp,
    /// TCP, the peer connecting (RFC 6544 `passive`).
    TcpPassive,
}

impl Candidate {
    /// The value of an `a=candidate` line, also what trickling sends, with its
    /// `candidate:` in front. `index` tells a description's candidates apart.
    pub fn to_attribute(&self, index: usize) -> String {
        let (address, port) = (self.address.ip(), self.address.port());
        let foundation = index + 1;
        // Host candidates: type preference 126; UDP before TCP, earlier before later
        // (RFC 8445 §5.1.2.1).
        let local = 65_535 - index.min(65_535) as u32;
        match self.protocol {
            CandidateProtocol::Udp => {
                let priority = (126 << 24) | (local << 8) | 255;
                format!("candidate:{foundation} 1 udp {priority} {address} {port} typ host")
            }
            CandidateProtocol::TcpPassive => {
                let priority = (90 << 24) | (local << 8) | 255;
                format!(
                    "candidate:{foundation} 1 tcp {priority} {address} {port} typ host \
                     tcptype passive"
                )
            }
        }
    }
}

/// A codec with the numbers a session uses for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NegotiatedCodec {
    /// Which codec.
    pub codec: Codec,
    /// Its payload type.
    pub payload_type: u8,
    /// Payload type of its retransmissions (RFC 4588), when both ends have them.
    pub rtx_payload_type: Option<u8>,
}

/// Why a peer's description was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsepError {
    /// Longer than [`MAX_DESCRIPTION`].
    #[error("the description is longer than {MAX_DESCRIPTION} bytes")]
    TooLong,
    /// More media sections than [`MAX_SECTIONS`].
    #[error("the description has more than {MAX_SECTIONS} media sections")]
    TooManySections,
    /// A line that is not SDP (RFC 8866 §9), or a value this line cannot have.
    #[error("line {line} of the description: {reason}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A media section lacks something or contradicts itself.
    #[error("media section {section}: {reason}")]
    Section {
        /// Counted from 0.
        section: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The sections together contradict each other or what was negotiated before.
    #[error("{0}")]
    Session(&'static str),
    /// An answer to an offer that is not the outstanding one.
    #[error("answer to offer {got}, but offer {expected} is outstanding")]
    WrongOffer {
        /// The number in the answer.
        got: u32,
        /// The number of the offer.
        expected: u32,
    },
    /// An answer while no offer is outstanding.
    #[error("an answer came, but no offer is outstanding")]
    NoOffer,
}

impl JsepError {
    /// Stable name for clients and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            JsepError::TooLong => "sdp_too_long",
            JsepError::TooManySections => "sdp_too_many_sections",
            JsepError::Line { .. } => "sdp_syntax",
            JsepError::Section { .. } => "sdp_section",
            JsepError::Session(_) => "sdp_session",
            JsepError::WrongOffer { .. } => "sdp_wrong_offer",
            JsepError::NoOffer => "sdp_no_offer",
        }
    }
}
