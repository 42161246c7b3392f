//! Ticks of encoded sound put together or cut to packets of the length the peer asked for.
//!
//! Knows the payloads of RFC 3551 §4.5 (one octet stream, cut anywhere) and of RFC 6716 §3.2
//! (whole frames under one first byte). RTP headers are the line's.

use std::time::Duration;

use crate::codec::LegCodec;

/// One tick of the mix, in milliseconds.
const TICK: u32 = 20;
/// Octets, and samples of the RTP clock, of one millisecond of G.711 and G.722.
const OCTETS: u32 = 8;
/// Ticks in the longest packet.
const MOST_TICKS: usize = 3;
/// The largest payload written. A higher value would not pass every path in one datagram.
pub(super) const MAX_PAYLOAD: usize = 1275;

/// Sound of one line that is not yet a packet.
#[derive(Debug, Default)]
pub(super) struct Packetizer {
    /// Octets, or Opus frames without their first bytes.
    held: Vec<u8>,
    /// Lengths of the Opus frames held.
    frames: [u16; MOST_TICKS],
    count: usize,
    /// First byte of the Opus packets held.
    toc: u8,
    /// RTP timestamp of the first sample held.
    timestamp: u32,
}

/// Milliseconds of sound per packet that can be made of what was asked for: 10 to 60 in tens; of
/// Opus, whose frames here have 20, whole frames.
pub(super) fn packet_millis(codec: LegCodec, asked: Duration) -> u32 {
    let millis = u32::try_from(asked.as_millis()).unwrap_or(u32::MAX);
    let step = if codec == LegCodec::Opus { TICK } else { 10 };
    (millis / step * step).clamp(step, TICK * MOST_TICKS as u32)
}

impl Packetizer {
    /// Takes a tick of sound; gives `send` each packet that is whole, with its timestamp.
    pub(super) fn push(
        &mut self,
        codec: LegCodec,
        millis: u32,
        timestamp: u32,
        payload: &[u8],
        mut send: impl FnMut(u32, &[u8]),
    ) {
        if codec == LegCodec::Opus {
            self.push_frame(millis, timestamp, payload, send);
            return;
        }
        let length = (millis * OCTETS) as usize;
        if self.held.is_empty() && payload.len() == length {
            // The usual 20 ms: nothing to put together.
            send(timestamp, payload);
            return;
        }
        if self.held.is_empty() {
            self.timestamp = timestamp;
        }
        self.held.extend_from_slice(payload);
        let mut from = 0;
        while self.held.len() - from >= length {
            send(self.timestamp, &self.held[from..from + length]);
            self.timestamp = self.timestamp.wrapping_add(millis * OCTETS);
            from += length;
        }
        self.held.drain(..from);
    }

    fn push_frame(
        &mut self,
        millis: u32,
        timestamp: u32,
        packet: &[u8],
        mut send: impl FnMut(u32, &[u8]),
    ) {
        let Some((&toc, frame)) = packet.split_first() else {
            return;
        };
        let fits = self.count > 0
            && self.toc == toc
            && self.held.len() + frame.len() + 2 * MOST_TICKS + 2 <= MAX_PAYLOAD;
        if !fits {
            self.flush(&mut send);
        }
        // Our encoder makes packets of one frame (code 0); any other is passed as it is.
        if millis == TICK || toc & 3 != 0 {
            self.flush(&mut send);
            send(timestamp, packet);
            return;
        }
        if self.count == 0 {
            (self.toc, self.timestamp) = (toc, timestamp);
        }
        self.held.extend_from_slice(frame);
        self.frames[self.count] = frame.len() as u16;
        self.count += 1;
        if self.count as u32 * TICK >= millis || self.count == MOST_TICKS {
            self.flush(send);
        }
    }

    /// Sends what is held as a packet shorter than asked for: a pause follows.
    pub(super) fn flush(&mut self, mut send: impl FnMut(u32, &[u8])) {
        if self.held.is_empty() && self.count == 0 {
            return;
        }
        if self.count == 0 {
            send(self.timestamp, &self.held);
            self.clear();
            return;
        }
        let mut packet = [0; MAX_PAYLOAD];
        let mut at = 1;
        packet[0] = self.toc;
        if self.count > 1 {
            // Code 3 with lengths of their own (RFC 6716 §3.2.5).
            packet[0] |= 3;
            packet[1] = 0x80 | self.count as u8;
            at = 2;
            for &length in &self.frames[..self.count - 1] {
                at += write_length(&mut packet[at..], length);
            }
        }
        let end = at + self.held.len();
        packet[at..end].copy_from_slice(&self.held);
        send(self.timestamp, &packet[..end]);
        self.clear();
    }

    /// Forgets what is held: it may not be sent any more.
    pub(super) fn clear(&mut self) {
        self.held.clear();
        self.count = 0;
    }
}

/// The length of one frame (RFC 6716 §3.2.1); the bytes written.
fn write_length(to: &mut [u8], length: u16) -> usize {
    if length < 252 {
        to[0] = length as u8;
        return 1;
    }
    let first = 252 + (length & 3);
    to[0] = first as u8;
    to[1] = ((length - first) >> 2) as u8;
    2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::opus;

    fn run(codec: LegCodec, millis: u32, ticks: &[Vec<u8>]) -> Vec<(u32, Vec<u8>)> {
        let mut packetizer = Packetizer::default();
        let mut sent = Vec::new();
        let step = codec.clock_rate() / 50;
        for (tick, payload) in (0..).zip(ticks) {
            let timestamp = (step * tick).wrapping_sub(1_000);
            packetizer.push(codec, millis, timestamp, payload, |timestamp, packet| {
                sent.push((timestamp, packet.to_vec()));
            });
        }
        sent
    }

    #[test]
    fn octets_are_cut_to_the_wished_length_without_a_gap() {
        let ticks: Vec<Vec<u8>> = (0..12u8)
            .map(|tick| (0..160).map(|n: u8| n ^ tick.wrapping_mul(7)).collect())
            .collect();
        let all = ticks.concat();
        for codec in [LegCodec::Pcma, LegCodec::Pcmu, LegCodec::G722] {
            for millis in [10, 20, 30, 40, 50, 60] {
                let sent = run(codec, millis, &ticks);
                assert_eq!(sent.len() as u32, 240 / millis);
                let mut expected = 0u32.wrapping_sub(1_000);
                for (timestamp, packet) in &sent {
                    assert_eq!(packet.len() as u32, millis * 8);
                    assert_eq!(*timestamp, expected);
                    expected = expected.wrapping_add(millis * 8);
                }
                let joined: Vec<u8> = sent.into_iter().flat_map(|(_, packet)| packet).collect();
                assert_eq!(joined, all[..joined.len()]);
            }
        }
    }

    #[test]
    fn opus_frames_are_joined_and_sound_the_same() {
        let mut encoder = opus::Encoder::new(opus::Quality::default());
        let ticks: Vec<Vec<u8>> = (0..60usize)
            .map(|tick| {
                let frame = std::array::from_fn(|n| {
                    let t = (tick * 960 + n) as f32 / 48_000.0;
                    (t * (300.0 + 20.0 * tick as f32) * std::f32::consts::TAU).sin() * 0.3
                });
                encoder.encode(&frame).to_vec()
            })
            .collect();
        let decode = |packets: &[(u32, Vec<u8>)]| {
            let mut decoder = opus::Decoder::default();
            let mut sound = Vec::new();
            for (_, packet) in packets {
                let mut samples = [0.0; opus::MAX_PACKET_SAMPLES];
                let length = decoder.decode(packet, &mut samples).unwrap();
                assert_eq!(opus::duration(packet), Some(length));
                sound.extend_from_slice(&samples[..length]);
            }
            sound
        };
        let single = run(LegCodec::Opus, 20, &ticks);
        assert_eq!(single.len(), 60);
        for (millis, most) in [(40, 40), (60, 30)] {
            let joined = run(LegCodec::Opus, millis, &ticks);
            // A change of mode in between ends a packet early.
            assert!((60 * 20 / millis as usize..=most).contains(&joined.len()));
            let (sound, alone) = (decode(&joined), decode(&single));
            assert_eq!(sound, alone[..sound.len()]);
            for pair in joined.windows(2) {
                let length = opus::duration(&pair[0].1).unwrap() as u32;
                assert_eq!(pair[1].0.wrapping_sub(pair[0].0), length);
            }
        }
    }

    #[test]
    fn long_frames_have_two_bytes_of_length_and_never_overflow() {
        let frame = |length: usize| {
            let mut packet = vec![0x78];
            packet.resize(length + 1, 9);
            packet
        };
        let sent = run(LegCodec::Opus, 40, &[frame(300), frame(5)]);
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].1[..4], [0x7B, 0x82, 252, 12]);
        assert_eq!(opus::duration(&sent[0].1), Some(1920));
        let sent = run(LegCodec::Opus, 60, &[frame(1200), frame(1200), frame(1274)]);
        assert!(sent.iter().all(|(_, packet)| packet.len() <= MAX_PAYLOAD));
        assert_eq!(sent.len(), 2, "the last waits for more");
    }

    #[test]
    fn what_is_asked_for_is_kept_within_limits() {
        let millis = |codec, asked| packet_millis(codec, Duration::from_millis(asked));
        for (asked, octets, opus) in [
            (0, 10, 20),
            (10, 10, 20),
            (20, 20, 20),
            (30, 30, 20),
            (40, 40, 40),
            (50, 50, 40),
            (60, 60, 60),
            (65_535, 60, 60),
        ] {
            assert_eq!(millis(LegCodec::Pcma, asked), octets);
            assert_eq!(millis(LegCodec::Opus, asked), opus);
        }
    }
}
