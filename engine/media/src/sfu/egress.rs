//! The way out of one session: its keys, its destination, its open train.

use std::net::SocketAddr;
use std::time::Instant;

use super::train::{MAX_DATAGRAM, OpenTrain, Trains};
use crate::rtp::AbsSendTime;
use crate::srtp::SrtpSender;

/// Seals packets of one session into the trains.
#[derive(Debug)]
pub(super) struct Egress {
    srtp: Option<SrtpSender>,
    to: Option<SocketAddr>,
    open: OpenTrain,
    transport_sequence: u16,
    /// Origin of abs-send-time; receivers use differences only.
    origin: Instant,
}

impl Egress {
    pub(super) fn new(now: Instant) -> Self {
        Egress {
            srtp: None,
            to: None,
            open: OpenTrain::default(),
            transport_sequence: 0,
            origin: now,
        }
    }

    pub(super) fn set_keys(&mut self, srtp: SrtpSender) {
        self.srtp = Some(srtp);
    }

    pub(super) fn set_destination(&mut self, to: SocketAddr) {
        self.to = Some(to);
    }

    /// Whether media can be sent.
    pub(super) fn is_ready(&self) -> bool {
        self.srtp.is_some() && self.to.is_some()
    }

    pub(super) fn next_transport_sequence(&mut self) -> u16 {
        self.transport_sequence = self.transport_sequence.wrapping_add(1);
        self.transport_sequence
    }

    pub(super) fn abs_send_time(&self, now: Instant) -> AbsSendTime {
        AbsSendTime::from_elapsed(now.saturating_duration_since(self.origin))
    }

    /// Plain length with which an RTP packet joins the open train, when it may.
    pub(super) fn segment(&self, trains: &Trains) -> Option<usize> {
        let overhead = self.srtp.as_ref()?.profile().rtp_overhead();
        trains.segment(&self.open)?.checked_sub(overhead)
    }

    /// Seals an RTP packet of `len` plain bytes, written by `write`, into the trains.
    pub(super) fn rtp(
        &mut self,
        trains: &mut Trains,
        len: usize,
        index: u64,
        write: impl FnOnce(&mut [u8]),
    ) {
        let (Some(srtp), Some(to)) = (&self.srtp, self.to) else {
            return;
        };
        let total = len + srtp.profile().rtp_overhead();
        if total > MAX_DATAGRAM {
            return;
        }
        let datagram = trains.append(&mut self.open, to, total);
        write(&mut datagram[..len]);
        if srtp.protect_rtp(datagram, len, index).is_err() {
            // The key's index space is used up: nothing may be sent under it.
            trains.cancel(&mut self.open, total);
        }
    }

    /// Seals a compound RTCP packet.
    pub(super) fn rtcp(&mut self, trains: &mut Trains, compound: &[u8]) {
        let (Some(srtp), Some(to)) = (&mut self.srtp, self.to) else {
            return;
        };
        let total = compound.len() + srtp.profile().rtcp_overhead();
        if compound.is_empty() || total > MAX_DATAGRAM {
            return;
        }
        let datagram = trains.append(&mut self.open, to, total);
        datagram[..compound.len()].copy_from_slice(compound);
        if srtp.protect_rtcp(datagram, compound.len()).is_err() {
            trains.cancel(&mut self.open, total);
        }
    }

    /// Sends a datagram of the transport as it is.
    pub(super) fn datagram(&mut self, trains: &mut Trains, to: SocketAddr, bytes: &[u8]) {
        if bytes.is_empty() || bytes.len() > MAX_DATAGRAM {
            return;
        }
        trains
            .append(&mut self.open, to, bytes.len())
            .copy_from_slice(bytes);
    }
}
