//! Who is in the call: a guest that plays a tone, a guest that listens, a telephone that does both.

use std::io;
use std::time::Instant;

use palabre_call::{DATAGRAM, Failed, Guest, OPUS, Phone, Received, Voice};
use palabre_media::codec::{Decoder, Encoder, LegCodec, opus};
use palabre_media::rtp::RtpHeader;
use palabre_media::tone::Sine;

use super::ear::{Amiss, Ear, Heard, Tone};
use super::place::Telephone;

/// The talker's level as others are told (RFC 6464): its tone has the power of 3 dB less.
const LEVEL: u8 = 17;

/// Streams a guest listens to at most. Two are expected.
const STREAMS: usize = 4;

/// The guest that plays.
pub(crate) struct Talker {
    pub(crate) guest: Guest,
    voice: Voice,
    sine: Sine,
}

impl Talker {
    pub(crate) fn new(guest: Guest) -> Self {
        Self {
            guest,
            voice: Voice::default(),
            sine: Tone::Guest.sine(LegCodec::Opus.sample_rate()),
        }
    }

    /// Sends 20 ms.
    pub(crate) fn play(&mut self) {
        let samples = std::array::from_fn::<f32, { opus::FRAME }, _>(|_| next(&mut self.sine));
        self.voice.say(&self.guest.publisher, &samples, LEVEL);
    }

    /// Handles what has come.
    pub(crate) fn run(&mut self, now: Instant) -> Result<(), Failed> {
        let mut buffer = [0; DATAGRAM];
        run(&mut self.guest, now)?;
        while self.guest.subscriber.receive(&mut buffer).is_some() {}
        Ok(())
    }
}

/// The guest that listens.
pub(crate) struct Listener {
    pub(crate) guest: Guest,
    streams: Vec<Stream>,
}

/// What it hears of one other.
struct Stream {
    ssrc: u32,
    decoder: Decoder,
    ear: Ear,
}

impl Listener {
    pub(crate) fn new(guest: Guest) -> Self {
        Self {
            guest,
            streams: Vec::new(),
        }
    }

    /// Handles what has come.
    pub(crate) fn run(&mut self, now: Instant) -> Result<(), Failed> {
        let mut buffer = [0; DATAGRAM];
        let mut samples = Vec::new();
        run(&mut self.guest, now)?;
        while let Some(received) = self.guest.subscriber.receive(&mut buffer) {
            let Received::Rtp { header, .. } = received else {
                continue;
            };
            let known = self.streams.iter().position(|s| s.ssrc == header.ssrc);
            if header.payload_type != OPUS || known.is_none() && self.streams.len() >= STREAMS {
                continue;
            }
            let place = known.unwrap_or_else(|| {
                self.streams.push(Stream {
                    ssrc: header.ssrc,
                    decoder: Decoder::new(LegCodec::Opus),
                    ear: Ear::new(LegCodec::Opus.sample_rate()),
                });
                self.streams.len() - 1
            });
            let stream = &mut self.streams[place];
            // Packets without sound, as those that only test the network.
            if stream.decoder.decode(header.payload(&buffer), &mut samples) {
                stream.ear.hear(&samples);
            }
        }
        Ok(())
    }

    /// Judges what comes from now on.
    pub(crate) fn forget(&mut self) {
        for stream in &mut self.streams {
            stream.ear.forget();
        }
    }

    /// Whether one of the others plays `tone` and nothing else; if not, what the nearest to it plays.
    pub(crate) fn judge(&self, tone: Tone) -> Result<Heard, Amiss> {
        let ears = self.streams.iter().map(|stream| &stream.ear);
        let nearest = ears.max_by(|a, b| a.level(tone).total_cmp(&b.level(tone)));
        nearest.map_or(Err(Amiss::Little), |ear| ear.judge(tone))
    }
}

/// The telephone.
pub(crate) struct Caller {
    pub(crate) phone: Phone,
    pub(crate) ear: Ear,
    encoder: Encoder,
    decoder: Decoder,
    sine: Sine,
    /// Samples in 20 ms.
    frame: usize,
}

impl Caller {
    /// Begins to call.
    pub(crate) fn dial(telephone: &Telephone, code: &str) -> io::Result<Self> {
        let codec = LegCodec::from(telephone.codec);
        let rate = codec.sample_rate();
        Ok(Self {
            phone: Phone::dial(
                telephone.address,
                code,
                telephone.codec,
                telephone.advertised.is_some(),
            )?,
            ear: Ear::new(rate),
            encoder: Encoder::new(codec),
            decoder: Decoder::new(codec),
            sine: Tone::Telephone.sine(rate),
            frame: rate as usize / 50,
        })
    }

    /// Sends 20 ms.
    pub(crate) fn play(&mut self) {
        let samples: Vec<f32> = self.sine.by_ref().take(self.frame).collect();
        let mut payload = Vec::new();
        self.encoder.encode(&samples, &mut payload);
        self.phone.line.send(&payload);
    }

    /// Handles what has come.
    pub(crate) fn run(&mut self, now: Instant) {
        self.phone.run(now);
        let mut buffer = [0; DATAGRAM];
        let mut samples = Vec::new();
        let line = &self.phone.line;
        while let Ok((len, _)) = line.socket.recv_from(&mut buffer) {
            let datagram = &buffer[..len];
            let header = RtpHeader::parse(datagram);
            let Some(header) = header.ok().filter(|h| h.payload_type == line.receives) else {
                continue;
            };
            if self.decoder.decode(header.payload(datagram), &mut samples) {
                self.ear.hear(&samples);
            }
        }
    }
}

/// What every guest does, but for looking at media.
fn run(guest: &mut Guest, now: Instant) -> Result<(), Failed> {
    guest.run(now)?;
    guest.run_signal(now)?;
    let mut buffer = [0; DATAGRAM];
    while guest.publisher.receive(&mut buffer).is_some() {}
    Ok(())
}

fn next(sine: &mut Sine) -> f32 {
    sine.next().unwrap_or_default()
}
