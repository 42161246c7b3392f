//! Packets and reports are laid out as the RFCs say, refused by name, and never harm.

mod packet;
mod rtcp;
mod sequence;
mod twcc;

use super::*;

fn fields() -> RtpFields {
    RtpFields {
        payload_type: 111,
        marker: true,
        sequence: 0xFFFE,
        timestamp: 0xDEAD_BEEF,
        ssrc: 0x1234_5678,
    }
}
