//! RTP and RTCP on the wire: parsing, writing, renumbering, retransmission.
//!
//! Everything here works on borrowed bytes and small `Copy` values: no allocation
//! per packet, no clock, no state that grows with what a peer sends. Decisions
//! (whom to forward to, when to send feedback) belong to [`crate::sfu`].

pub mod ext;
pub mod history;
pub mod packet;
pub mod rtcp;
pub mod rtx;
pub mod seq;
pub mod twcc;

#[cfg(test)]
mod tests;

pub use ext::{AbsSendTime, AudioLevel, Extension, ExtensionForm, ExtensionIds, ExtensionValues};
pub use ext::{Extensions, Label, Mid, Rid};
pub use history::SendHistory;
pub use packet::{PacketWriter, RtpError, RtpFields, RtpHeader, WriteError};
pub use seq::{Renumber, SequenceExtender, TimestampMap};
