//! The guest that sends 1 Mb/s shaped like VP8.

use std::time::{Duration, Instant};

use palabre_call::{DATAGRAM, Guest, MID, PUBLISHED_MID, Received, SSRC, TRANSPORT_CC, VP8};
use palabre_media::rtp::rtcp::{Compound, NtpTime, RtcpPacket, SenderReport};
use palabre_media::rtp::{ExtensionForm, PacketWriter, RtpFields};

use crate::viewer::{FEEDBACK, REPORT};
use crate::{FRAME, INTERVAL, PACKET};

/// The guest that sends.
pub(crate) struct Publisher {
    pub(crate) guest: Guest,
    start: Instant,
    /// Extended number of the next packet.
    index: u64,
    transport: u16,
    frame: u16,
    /// Packets of the frame already sent.
    place: usize,
    key_index: u8,
    is_key: bool,
    is_key_wanted: bool,
    reported: Instant,
    signals: Instant,
}

impl Publisher {
    pub(crate) fn new(guest: Guest) -> Self {
        let now = Instant::now();
        Self {
            guest,
            start: now,
            index: 1_000,
            transport: 0,
            frame: 0,
            place: 0,
            key_index: 0,
            is_key: true,
            is_key_wanted: true,
            reported: now,
            signals: now,
        }
    }

    pub(crate) fn timestamp(&self) -> u32 {
        u32::from(self.frame) * (90_000 * INTERVAL.as_micros() as usize * FRAME / 1_000_000) as u32
    }

    pub(crate) fn send(&mut self) {
        if self.place == 0 {
            self.is_key = std::mem::take(&mut self.is_key_wanted);
            self.key_index = (self.key_index + u8::from(self.is_key)) & 31;
        }
        let is_last = self.place + 1 == FRAME;
        let fields = RtpFields {
            payload_type: VP8,
            marker: is_last,
            sequence: self.index as u16,
            timestamp: self.timestamp(),
            ssrc: SSRC,
        };
        let mut buffer = [0; DATAGRAM];
        let mut writer = PacketWriter::start(&mut buffer, &fields, ExtensionForm::OneByte)
            .expect("the buffer is large enough");
        for (id, value) in [
            (MID, PUBLISHED_MID.as_bytes()),
            (TRANSPORT_CC, &self.transport.to_be_bytes()),
        ] {
            writer.extension(id, value).expect("there is room");
        }
        writer
            .payload(&self.payload())
            .expect("the buffer is large enough");
        let len = writer.finish();
        self.guest.publisher.send_rtp(&mut buffer, len, self.index);
        self.index += 1;
        self.transport = self.transport.wrapping_add(1);
        self.place += 1;
        if is_last {
            self.place = 0;
            self.frame = self.frame.wrapping_add(1);
        }
    }

    /// A descriptor with everything a browser puts there (RFC 7741 §4.2), the frame's header, and
    /// filling up to [`PACKET`] with the RTP header and 8 + 4 bytes of extensions.
    pub(crate) fn payload(&self) -> [u8; PACKET - 12 - 12] {
        let mut payload = [0x55; PACKET - 12 - 12];
        let [high, low] = (0x8000 | (self.frame & 0x7FFF)).to_be_bytes();
        let start = if self.place == 0 { 0x90 } else { 0x80 };
        payload[..6].copy_from_slice(&[start, 0xF0, high, low, self.frame as u8, self.key_index]);
        if self.place == 0 {
            // Frame tag, and of a key frame the start code and 1280 x 720 (RFC 6386 §9.1).
            payload[6] = u8::from(!self.is_key);
            if self.is_key {
                payload[9..16].copy_from_slice(&[0x9D, 0x01, 0x2A, 0x00, 0x05, 0xD0, 0x02]);
            }
        }
        payload
    }

    pub(crate) fn run(&mut self, now: Instant) {
        self.guest.run(now).expect("the program listens");
        if self.signals <= now {
            self.signals = now + FEEDBACK / 2;
            self.guest.run_signal(now).expect("the program answers");
        }
        let mut buffer = [0; DATAGRAM];
        while let Some(received) = self.guest.publisher.receive(&mut buffer) {
            let Received::Rtcp { len } = received else {
                continue;
            };
            let compound = Compound::parse(&buffer[..len]).expect("the program writes RTCP");
            for packet in compound.into_iter().flatten() {
                if matches!(packet, RtcpPacket::Pli(_) | RtcpPacket::Fir(_)) {
                    self.is_key_wanted = true;
                }
            }
        }
        while self.guest.subscriber.receive(&mut buffer).is_some() {}
        if now - self.reported >= REPORT && self.index > 1_000 {
            self.reported = now;
            let report = SenderReport {
                ssrc: SSRC,
                ntp: NtpTime::from_unix(Duration::from_secs(1_700_000_000) + (now - self.start)),
                rtp_timestamp: self.timestamp(),
                packets: (self.index - 1_000) as u32,
                octets: ((self.index - 1_000) as u32).wrapping_mul(PACKET as u32),
            };
            self.guest
                .publisher
                .send_rtcp(|writer| writer.sender_report(&report, &[]).expect("there is room"));
        }
    }
}
