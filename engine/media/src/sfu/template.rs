//! The outgoing RTP header of one subscription, laid out once and filled in per packet.
//!
//! Its extension block has a constant size, so that packets of one frame stay equally long
//! and travel in one train (RFC 8285 one-byte form throughout).

use super::command::SendParameters;
use crate::ids::MediaKind;
use crate::rtp::{AbsSendTime, AudioLevel, ExtensionForm, PacketWriter, RtpFields};

/// Longest header: fixed part, block head, mid of 16, abs-send-time, transport-cc, level,
/// filling to a whole word.
const MAX_HEADER: usize = 12 + 4 + 17 + 4 + 3 + 2 + 3;

/// Where the per-packet values go.
#[derive(Clone, Debug)]
pub(super) struct HeaderTemplate {
    bytes: [u8; MAX_HEADER],
    len: u8,
    /// Offsets of values in `bytes`; 0 when not negotiated.
    abs_send_time: u8,
    transport_cc: u8,
    audio_level: u8,
}

/// The values of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeaderValues {
    pub(super) payload_type: u8,
    pub(super) ssrc: u32,
    pub(super) marker: bool,
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
    pub(super) sent: AbsSendTime,
    pub(super) transport_sequence: u16,
    pub(super) audio_level: Option<AudioLevel>,
    pub(super) padded: bool,
}

impl HeaderTemplate {
    /// The layout for `parameters`, with or without the media section's name.
    pub(super) fn new(parameters: &SendParameters, with_mid: bool) -> Self {
        let ids = &parameters.extensions;
        // The one-byte form carries ids 1 to 14; an extension beyond is left out.
        let fits = |id: Option<u8>| id.filter(|id| (1..=14).contains(id));
        let is_audio = parameters.kind == MediaKind::Audio;
        let mut bytes = [0; MAX_HEADER];
        let fields = RtpFields {
            payload_type: parameters.payload_type,
            marker: false,
            sequence: 0,
            timestamp: 0,
            ssrc: parameters.ssrc,
        };
        let mut writer = PacketWriter::start(&mut bytes, &fields, ExtensionForm::OneByte)
            .expect("the buffer holds the largest header");
        // Elements follow the block's head of 4 bytes; each has a head of 1.
        let mut at = 16;
        let mut element = |id: Option<u8>, value: &[u8]| -> u8 {
            let Some(id) = fits(id) else {
                return 0;
            };
            writer
                .extension(id, value)
                .expect("the buffer holds the largest header");
            let place = at + 1;
            at += 1 + value.len();
            place as u8
        };
        let abs_send_time = element(ids.abs_send_time, &[0; 3]);
        let transport_cc = element(ids.transport_cc, &[0; 2]);
        let audio_level = element(ids.audio_level.filter(|_| is_audio), &[127]);
        if with_mid {
            element(ids.mid, parameters.mid.as_bytes());
        }
        let len = writer.finish() as u8;
        HeaderTemplate {
            bytes,
            len,
            abs_send_time,
            transport_cc,
            audio_level,
        }
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether packets carry transport-wide numbers.
    pub(super) fn has_transport_cc(&self) -> bool {
        self.transport_cc != 0
    }

    /// Writes the header into the front of `packet`.
    pub(super) fn write(&self, packet: &mut [u8], values: &HeaderValues) {
        let len = usize::from(self.len);
        let header = &mut packet[..len];
        header.copy_from_slice(&self.bytes[..len]);
        header[0] |= u8::from(values.padded) << 5;
        header[1] = (u8::from(values.marker) << 7) | values.payload_type;
        header[2..4].copy_from_slice(&values.sequence.to_be_bytes());
        header[4..8].copy_from_slice(&values.timestamp.to_be_bytes());
        header[8..12].copy_from_slice(&values.ssrc.to_be_bytes());
        if self.abs_send_time != 0 {
            let at = usize::from(self.abs_send_time);
            header[at..at + 3].copy_from_slice(&values.sent.to_bytes());
        }
        if self.transport_cc != 0 {
            let at = usize::from(self.transport_cc);
            header[at..at + 2].copy_from_slice(&values.transport_sequence.to_be_bytes());
        }
        if let (Some(level), 1..) = (values.audio_level, self.audio_level) {
            header[usize::from(self.audio_level)..][..1].copy_from_slice(&level.to_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::command::Codec;
    use super::*;
    use crate::ids::{SubscriptionId, TrackId};
    use crate::rtp::{ExtensionIds, ExtensionValues, Mid, RtpHeader};

    fn parameters(kind: MediaKind, extensions: ExtensionIds) -> SendParameters {
        SendParameters {
            track: TrackId(1),
            subscription: SubscriptionId(1),
            kind,
            mid: Mid::read(b"0123456789abcdef").unwrap(),
            ssrc: 0xAABB_CCDD,
            rtx_ssrc: None,
            codec: Codec::Opus,
            payload_type: 111,
            rtx_payload_type: None,
            clock_rate: 48_000,
            extensions,
            max_layer: 0,
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let ids = ExtensionIds {
            audio_level: Some(1),
            mid: Some(4),
            abs_send_time: Some(2),
            transport_cc: Some(3),
            ..Default::default()
        };
        let template = HeaderTemplate::new(&parameters(MediaKind::Audio, ids), true);
        let values = HeaderValues {
            payload_type: 96,
            ssrc: 77,
            marker: true,
            sequence: 0xFFFE,
            timestamp: 0x8000_0001,
            sent: AbsSendTime(0x12_3456),
            transport_sequence: 0xABCD,
            audio_level: Some(AudioLevel {
                voice: true,
                level: 33,
            }),
            padded: false,
        };
        let mut packet = [0xEE; 80];
        template.write(&mut packet, &values);
        let header = RtpHeader::parse(&packet).unwrap();
        assert_eq!(usize::from(header.header_len), template.len());
        assert_eq!(
            (header.payload_type, header.ssrc, header.marker),
            (96, 77, true)
        );
        assert_eq!((header.sequence, header.timestamp), (0xFFFE, 0x8000_0001));
        let read = ExtensionValues::read(&header, &packet, &ids);
        assert_eq!(read.abs_send_time, Some(values.sent));
        assert_eq!(read.transport_sequence, Some(0xABCD));
        assert_eq!(read.audio_level, values.audio_level);
        assert_eq!(read.mid.unwrap().as_str(), "0123456789abcdef");
    }

    #[test]
    fn nothing_negotiated_is_a_bare_header_and_ids_out_of_range_are_left_out() {
        let ids = ExtensionIds {
            abs_send_time: Some(15),
            ..Default::default()
        };
        let template = HeaderTemplate::new(&parameters(MediaKind::Video, ids), true);
        assert_eq!(template.len(), 12);
        let all = ExtensionIds {
            transport_cc: Some(14),
            audio_level: Some(1),
            ..ids
        };
        let template = HeaderTemplate::new(&parameters(MediaKind::Video, all), true);
        assert_eq!(template.len(), 12 + 4 + 4);
    }
}
