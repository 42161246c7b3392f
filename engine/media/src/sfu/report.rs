//! Gathers RTCP packets of one session into compounds of one datagram each.

use super::egress::Egress;
use super::train::Trains;
use crate::rtp::WriteError;
use crate::rtp::rtcp::RtcpWriter;

/// Largest compound, in bytes: fits any path with room for the trailer.
const MAX_COMPOUND: usize = 1_150;

/// SSRC under which we report when we send no media (as browsers do).
pub(super) const REPORTER: u32 = 1;

pub(super) struct Compounds<'a> {
    egress: &'a mut Egress,
    trains: &'a mut Trains,
    buffer: [u8; MAX_COMPOUND],
    len: usize,
}

impl<'a> Compounds<'a> {
    pub(super) fn new(egress: &'a mut Egress, trains: &'a mut Trains) -> Self {
        Compounds {
            egress,
            trains,
            buffer: [0; MAX_COMPOUND],
            len: 0,
        }
    }

    /// Appends what `write` writes; what does not fit goes into the next compound.
    pub(super) fn add<T>(
        &mut self,
        mut write: impl FnMut(&mut RtcpWriter<'_>) -> Result<T, WriteError>,
    ) -> Option<T> {
        for _ in 0..2 {
            let mut writer = RtcpWriter::new(&mut self.buffer[self.len..]);
            match write(&mut writer) {
                Ok(written) => {
                    self.len += writer.len();
                    return Some(written);
                }
                Err(WriteError::Full) if self.len > 0 => self.flush(),
                Err(_) => return None,
            }
        }
        None
    }

    pub(super) fn flush(&mut self) {
        self.egress.rtcp(self.trains, &self.buffer[..self.len]);
        self.len = 0;
    }
}
