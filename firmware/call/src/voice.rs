//! What a guest says: Opus, 20 ms a packet.

use palabre_media::codec::opus::{self, Encoder, Quality};
use palabre_media::rtp::{AudioLevel, ExtensionForm, PacketWriter, RtpFields};

use crate::connection::{Connection, DATAGRAM};
use crate::guest::{AUDIO_LEVEL, MID, OPUS, PUBLISHED_MID, SSRC};

/// The voice of one guest.
#[derive(Debug)]
pub struct Voice {
    encoder: Encoder,
    /// Extended number of the next packet.
    index: u64,
}

impl Default for Voice {
    fn default() -> Self {
        Self {
            encoder: Encoder::new(Quality::default()),
            index: 1_000,
        }
    }
}

impl Voice {
    /// Sends the next 20 ms to the server, whose `level` in -dBov others are told; 127 is silence.
    pub fn say(&mut self, to: &Connection, samples: &[f32; opus::FRAME], level: u8) {
        let payload = self.encoder.encode(samples);
        let level = AudioLevel {
            voice: level < 127,
            level,
        };
        let fields = RtpFields {
            payload_type: OPUS,
            marker: false,
            sequence: self.index as u16,
            timestamp: self.index as u32 * opus::FRAME as u32,
            ssrc: SSRC,
        };
        let mut buffer = [0; DATAGRAM];
        let mut writer = PacketWriter::start(&mut buffer, &fields, ExtensionForm::OneByte)
            .expect("the buffer is large enough");
        for (id, value) in [
            (MID, PUBLISHED_MID.as_bytes()),
            (AUDIO_LEVEL, &level.to_bytes()[..]),
        ] {
            writer.extension(id, value).expect("there is room");
        }
        writer.payload(payload).expect("the buffer is large enough");
        let len = writer.finish();
        to.send_rtp(&mut buffer, len, self.index);
        self.index += 1;
    }
}
