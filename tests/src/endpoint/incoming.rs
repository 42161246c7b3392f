//! One stream as it arrives: what is missing, what was asked for again, and the frames that came whole.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use palabre_media::codec::vp8::Vp8Descriptor;
use palabre_media::rtp::SequenceExtender;
use palabre_media::rtp::rtcp::NtpTime;

use super::TICK;

/// Requests for one packet at most. More than browsers make: a burst on the way of sparse
/// requests must not look like a fault of the router.
const TRIES: u8 = 30;

/// A packet that was received, each number once.
#[derive(Clone, Debug)]
pub struct Got {
    /// Timestamp.
    pub timestamp: u32,
    /// Marker bit.
    pub marker: bool,
    /// Payload.
    pub payload: Vec<u8>,
    /// Arrival.
    pub at: Instant,
    /// Whether it came as a retransmission.
    pub repaired: bool,
}

/// One stream being received.
#[derive(Debug, Default)]
pub struct Incoming {
    /// Packets by extended number.
    pub packets: BTreeMap<u64, Got>,
    pub(super) extender: SequenceExtender,
    rtx: HashMap<u64, (Instant, u8)>,
    /// Numbers that came twice under the same SSRC or once repaired and once not.
    pub duplicates: u64,
    /// Padding bytes received.
    pub padding: u64,
    /// Last sender report: (NTP, timestamp).
    pub reported: Option<(NtpTime, u32)>,
    pub(super) reported_at: Option<Instant>,
    asked_key: Option<Instant>,
    /// Numbers below this are settled.
    settled: u64,
}

impl Incoming {
    /// Missing numbers to ask for now.
    pub(super) fn wanted(&mut self, now: Instant) -> Vec<u16> {
        let Some(highest) = self.extender.highest() else {
            return Vec::new();
        };
        let first = *self
            .packets
            .first_key_value()
            .expect("there is a highest")
            .0;
        self.settled = self.settled.max(first).max(highest.saturating_sub(500));
        let mut wanted = Vec::new();
        let mut settled = true;
        for number in self.settled..highest {
            if self.packets.contains_key(&number) {
                if settled {
                    self.settled = number + 1;
                }
                continue;
            }
            settled = false;
            let (asked, tries) = self.rtx.entry(number).or_insert((now, 0));
            if *tries < TRIES && (*tries == 0 || now - *asked >= Duration::from_millis(60)) {
                (*asked, *tries) = (now, *tries + 1);
                wanted.push(number as u16);
            }
        }
        wanted
    }

    /// Whether a picture loss should be told: numbers were given up.
    pub(super) fn lacks_picture(&mut self, now: Instant) -> bool {
        let given_up = self.rtx.iter().any(|(number, (asked, tries))| {
            *tries >= TRIES && now - *asked < TICK * 2 && !self.packets.contains_key(number)
        });
        let early = self
            .asked_key
            .is_some_and(|at| now - at < Duration::from_millis(500));
        if given_up && !early {
            self.asked_key = Some(now);
        }
        given_up && !early
    }

    pub(super) fn block(&self, ssrc: u32, now: Instant) -> palabre_media::rtp::rtcp::ReportBlock {
        palabre_media::rtp::rtcp::ReportBlock {
            ssrc,
            highest_sequence: self.extender.highest().unwrap_or(0) as u32,
            last_sender_report: self.reported.map_or(0, |(ntp, _)| ntp.middle()),
            delay: self.reported_at.map_or(0, |at| {
                ((now - at).as_micros() as u64 * 65_536 / 1_000_000) as u32
            }),
            ..Default::default()
        }
    }

    /// Numbers between the first and the last that never came, leaving out those after `until`.
    pub fn holes(&self, until: Instant) -> Vec<u64> {
        let Some((&first, _)) = self.packets.first_key_value() else {
            return Vec::new();
        };
        let last = self
            .packets
            .iter()
            .rfind(|(_, got)| got.at <= until)
            .map_or(first, |e| *e.0);
        (first..last)
            .filter(|number| !self.packets.contains_key(number))
            .collect()
    }

    /// Frames of VP8 that came whole, in order.
    pub fn frames(&self) -> Vec<Frame> {
        let mut frames: Vec<Frame> = Vec::new();
        let mut open: Option<(Frame, u64, u8)> = None;
        for (&number, got) in &self.packets {
            let Some(descriptor) = Vp8Descriptor::parse(&got.payload) else {
                panic!("a payload without descriptor");
            };
            let body = &got.payload[usize::from(descriptor.length) + 1..];
            let is_key = got.payload[usize::from(descriptor.length)] & 1 == 0;
            let (layer, packet, count) = (body[0], body[5], body[6]);
            let source = u32::from_be_bytes([body[1], body[2], body[3], body[4]]);
            let counters = descriptor.counters();
            if packet == 0 {
                assert!(descriptor.is_frame_start());
                let frame = Frame {
                    source,
                    layer,
                    is_key,
                    picture_id: counters.picture_id,
                    tl0: counters.tl0_picture_index,
                    key_index: counters.key_index,
                    timestamp: got.timestamp,
                    first: number,
                    at: got.at,
                };
                open = Some((frame, number, 0));
            }
            let Some((frame, last, next)) = &mut open else {
                continue;
            };
            let follows = packet == 0 || number == *last + 1;
            if !follows || frame.source != source || frame.layer != layer || packet != *next {
                open = None;
                continue;
            }
            assert_eq!(got.timestamp, frame.timestamp, "one frame, one timestamp");
            assert_eq!(
                counters.picture_id, frame.picture_id,
                "one frame, one picture id"
            );
            assert_eq!(got.marker, packet + 1 == count);
            assert!(
                body[7..].iter().all(|byte| *byte == source as u8),
                "the payload is intact"
            );
            (*last, *next) = (number, packet + 1);
            frame.at = frame.at.max(got.at);
            if packet + 1 == count {
                frames.push(frame.clone());
                open = None;
            }
        }
        frames
    }
}

/// A frame that came whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its number at the source.
    pub source: u32,
    /// The encoding it belongs to.
    pub layer: u8,
    /// Whether it is a key frame.
    pub is_key: bool,
    /// Picture id as received.
    pub picture_id: u16,
    /// TL0PICIDX as received.
    pub tl0: u8,
    /// KEYIDX as received.
    pub key_index: u8,
    /// Timestamp as received.
    pub timestamp: u32,
    /// Number of its first packet.
    pub first: u64,
    /// When its last packet came.
    pub at: Instant,
}
