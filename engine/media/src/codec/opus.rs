//! Opus (RFC 6716, RFC 7587) on libopus 1.6: mono, 48 kHz, 20 ms frames out; any legal packet in.
//!
//! Owns the settings the mixer speaks Opus with. It never sees RTP.

use opusic_c::{Channels, SampleRate};
use opusic_sys as sys;

use super::opus_state::{OpusCode, State, has_lbrr};

/// Samples in one 20 ms frame at 48 kHz.
pub const FRAME: usize = 960;
/// Longest Opus packet: 120 ms (RFC 6716 §3.2.5), in samples at 48 kHz.
pub const MAX_PACKET_SAMPLES: usize = 5760;
/// Room for one encoded mono frame; libopus never writes more than 1275 bytes a frame.
const MAX_PACKET_BYTES: usize = 1275;

/// How speech is encoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    /// Bit rate in bit/s, 6,000 to 128,000. Below 16,000 the sound is telephone-like; above 40,000 speech gains
    /// little. Two tones at once make others 35 dB below them at 24,000, 48 dB at 40,000.
    pub bitrate: u32,
    /// 0 to 10. 5 costs about 160 us a frame, 9 about 210 (x86, 2.4 GHz), for a little more clarity.
    pub complexity: u8,
    /// Loss in percent that in-band FEC is tuned for; 0 turns FEC off and saves about a fifth of the time.
    pub expected_loss: u8,
}

impl Default for Quality {
    fn default() -> Self {
        Self {
            bitrate: 40_000,
            complexity: 5,
            expected_loss: 10,
        }
    }
}

/// libopus refused: always a bug of ours for an encoder, a broken packet for a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("libopus code {0}")]
pub struct OpusError(i32);

impl From<OpusCode> for OpusError {
    fn from(code: OpusCode) -> Self {
        Self(code.0)
    }
}

/// Mono 48 kHz speech encoder whose state can be copied.
pub struct Encoder {
    state: State,
    buffer: Box<[u8; MAX_PACKET_BYTES]>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl Encoder {
    /// A fresh encoder. Panics only when libopus cannot make a 48 kHz mono encoder, which is a broken build.
    pub fn new(quality: Quality) -> Self {
        let mut state = State::new().expect("libopus makes a 48 kHz mono encoder");
        let settings = [
            (
                sys::OPUS_SET_BITRATE_REQUEST,
                quality.bitrate.clamp(6_000, 128_000) as i32,
            ),
            (
                sys::OPUS_SET_COMPLEXITY_REQUEST,
                quality.complexity.min(10).into(),
            ),
            (sys::OPUS_SET_SIGNAL_REQUEST, sys::OPUS_SIGNAL_VOICE),
            (
                sys::OPUS_SET_INBAND_FEC_REQUEST,
                i32::from(quality.expected_loss > 0),
            ),
            (
                sys::OPUS_SET_PACKET_LOSS_PERC_REQUEST,
                quality.expected_loss.min(100).into(),
            ),
        ];
        for (request, value) in settings {
            state
                .set(request, value)
                .expect("libopus takes a value within its documented range");
        }
        Self {
            state,
            buffer: Box::new([0; MAX_PACKET_BYTES]),
        }
    }

    /// Encodes 20 ms. Samples are in -1.0..=1.0.
    pub fn encode(&mut self, samples: &[f32; FRAME]) -> &[u8] {
        let length = self
            .state
            .encode(samples, &mut self.buffer[..])
            .expect("20 ms at 48 kHz is a legal frame and the buffer is large enough");
        &self.buffer[..length]
    }

    /// Goes on from `other`'s state: same samples, same bytes from here on. About 32 KB are copied.
    pub fn copy_from(&mut self, other: &Self) {
        self.state.copy_from(&other.state);
    }
}

/// Mono 48 kHz decoder (stereo packets are down-mixed by libopus).
pub struct Decoder {
    inner: opusic_c::Decoder,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").finish_non_exhaustive()
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            inner: opusic_c::Decoder::new(Channels::Mono, SampleRate::Hz48000)
                .expect("libopus makes a 48 kHz mono decoder"),
        }
    }
}

impl Decoder {
    /// Decodes a packet into the front of `output`; returns the number of samples.
    pub fn decode(&mut self, packet: &[u8], output: &mut [f32]) -> Result<usize, OpusError> {
        if packet.is_empty() {
            return Err(OpusError(sys::OPUS_INVALID_PACKET));
        }
        self.call(packet, output, false)
    }

    /// Recovers the frame before `next` from its in-band FEC, filling `output` exactly
    /// (its length = the missing duration, a multiple of 2.5 ms).
    pub fn recover(&mut self, next: &[u8], output: &mut [f32]) -> Result<usize, OpusError> {
        self.call(next, output, true)
    }

    /// Conceals a missing frame, filling `output` exactly (a multiple of 2.5 ms).
    pub fn conceal(&mut self, output: &mut [f32]) -> Result<usize, OpusError> {
        self.call(&[], output, false)
    }

    fn call(&mut self, packet: &[u8], output: &mut [f32], fec: bool) -> Result<usize, OpusError> {
        self.inner
            .decode_float_to_slice(packet, output, fec)
            .map_err(|_| OpusError(sys::OPUS_INVALID_PACKET))
    }
}

/// Duration of a packet in samples at 48 kHz, from its first bytes (RFC 6716 §3.1, §3.2.5). `None` for a broken packet.
pub fn duration(packet: &[u8]) -> Option<usize> {
    let toc = *packet.first()?;
    let configuration = toc >> 3;
    let frame = match configuration {
        0..=11 => [480, 960, 1920, 2880][usize::from(configuration & 3)],
        12..=15 => [480, 960][usize::from(configuration & 1)],
        _ => [120, 240, 480, 960][usize::from(configuration & 3)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => usize::from(packet.get(1)? & 0x3f),
    };
    let samples = frame * frames;
    (1..=MAX_PACKET_SAMPLES)
        .contains(&samples)
        .then_some(samples)
}

/// Whether the packet carries FEC of the frame before it.
pub fn has_fec(packet: &[u8]) -> bool {
    has_lbrr(packet)
}

/// Whether the packet is a DTX packet: nothing but a TOC byte, or one byte more (RFC 6716 §3.1: a frame of 0 or 1 byte).
pub fn is_dtx(packet: &[u8]) -> bool {
    packet.len() <= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speech(frames: usize) -> Vec<[f32; FRAME]> {
        // A voiced-like signal: harmonics of a gliding pitch under a syllable envelope.
        let mut phase = 0.0f64;
        (0..frames)
            .map(|f| {
                let mut frame = [0.0; FRAME];
                for (n, sample) in frame.iter_mut().enumerate() {
                    let t = (f * FRAME + n) as f64 / 48_000.0;
                    phase += (120.0 + 30.0 * (t * 3.0).sin()) / 48_000.0;
                    let envelope = 0.5 + 0.5 * (t * 25.0).sin();
                    let voice: f64 = (1..12)
                        .map(|h| {
                            (phase * f64::from(h) * std::f64::consts::TAU).sin() / f64::from(h)
                        })
                        .sum();
                    *sample = (0.2 * envelope * voice) as f32;
                }
                frame
            })
            .collect()
    }

    fn rms(samples: &[f32]) -> f64 {
        (samples.iter().map(|&s| f64::from(s).powi(2)).sum::<f64>() / samples.len() as f64).sqrt()
    }

    #[test]
    fn a_copied_encoder_goes_on_bit_exactly() {
        let frames = speech(60);
        for onset in [1, 7, 20, 33] {
            let mut shared = Encoder::new(Quality::default());
            for frame in &frames[..onset] {
                shared.encode(frame);
            }
            let mut own = Encoder::new(Quality::default());
            own.encode(&frames[3]);
            own.copy_from(&shared);
            for frame in &frames[onset..] {
                assert_eq!(own.encode(frame), shared.encode(frame), "onset {onset}");
            }
        }
    }

    #[test]
    fn a_listener_does_not_hear_the_hand_over() {
        // Same signal, two encoders, switched at frame 20: the decoder fed by the switch equals the
        // decoder fed by one unbroken encoder, sample for sample.
        let frames = speech(40);
        let mut shared = Encoder::new(Quality::default());
        let mut own = Encoder::new(Quality::default());
        let (mut unbroken, mut switched) = (Decoder::default(), Decoder::default());
        for (n, frame) in frames.iter().enumerate() {
            if n == 20 {
                own.copy_from(&shared);
            }
            let packet = shared.encode(frame).to_vec();
            let other = if n >= 20 {
                own.encode(frame).to_vec()
            } else {
                packet.clone()
            };
            let (mut a, mut b) = ([0.0; FRAME], [0.0; FRAME]);
            unbroken.decode(&packet, &mut a).unwrap();
            switched.decode(&other, &mut b).unwrap();
            assert_eq!(a, b, "frame {n}");
        }
    }

    #[test]
    fn fec_recovers_what_concealment_only_guesses() {
        let frames = speech(60);
        let mut encoder = Encoder::new(Quality::default());
        let packets: Vec<Vec<u8>> = frames.iter().map(|f| encoder.encode(f).to_vec()).collect();
        let (mut fec_error, mut plc_error, mut recovered) = (0.0, 0.0, 0);
        for lost in (10..55).step_by(5) {
            if !has_fec(&packets[lost + 1]) {
                continue;
            }
            let mut whole = Decoder::default();
            let mut reference = [0.0; FRAME];
            let (mut with_fec, mut with_plc) = (Decoder::default(), Decoder::default());
            let (mut a, mut b) = ([0.0; FRAME], [0.0; FRAME]);
            for packet in &packets[..lost] {
                whole.decode(packet, &mut reference).unwrap();
                with_fec.decode(packet, &mut a).unwrap();
                with_plc.decode(packet, &mut b).unwrap();
            }
            whole.decode(&packets[lost], &mut reference).unwrap();
            assert_eq!(with_fec.recover(&packets[lost + 1], &mut a), Ok(FRAME));
            assert_eq!(with_plc.conceal(&mut b), Ok(FRAME));
            let difference = |x: &[f32]| {
                let d: Vec<f32> = x.iter().zip(&reference).map(|(x, r)| x - r).collect();
                rms(&d)
            };
            fec_error += difference(&a);
            plc_error += difference(&b);
            recovered += 1;
        }
        assert!(recovered >= 7, "{recovered}");
        assert!(fec_error < 0.7 * plc_error, "{fec_error} {plc_error}");
    }

    #[test]
    fn duration_reads_every_configuration() {
        // (TOC, second byte, samples): RFC 6716 table 2 and §3.2.
        for (packet, samples) in [
            (&[0x00u8, 0][..], Some(480)),
            (&[0x18, 0], Some(2880)),
            (&[0x60, 0], Some(480)),
            (&[0x78, 0], Some(960)),
            (&[0x80, 0], Some(120)),
            (&[0xf8, 0], Some(960)),
            (&[0xf9, 0], Some(1920)),
            (&[0xfb, 3], Some(2880)),
            (&[0xfb, 6], Some(5760)),
            (&[0xfb, 7], None),
            (&[0xfb, 0], None),
            (&[0xfb], None),
            (&[], None),
        ] {
            assert_eq!(duration(packet), samples, "{packet:02x?}");
        }
    }

    #[test]
    fn any_bytes_are_refused_or_decoded() {
        let mut state = 7u64;
        let mut random = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 33) as u32
        };
        let mut decoder = Decoder::default();
        let mut output = vec![0.0; MAX_PACKET_SAMPLES];
        for _ in 0..2_000 {
            let length = random() as usize % 200;
            let packet: Vec<u8> = (0..length).map(|_| random() as u8).collect();
            if let Ok(samples) = decoder.decode(&packet, &mut output) {
                assert_eq!(Some(samples), duration(&packet));
            }
            has_fec(&packet);
        }
    }
}
