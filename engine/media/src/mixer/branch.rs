//! One mix on its way to listeners: limited, brought to the listener's rate, encoded.
//!
//! The shared branch serves every listener of a codec with one encode; a talker's own branch (N-1)
//! begins as a copy of the shared one, encoder state included, so that nobody hears the change.

use super::limiter::Limiter;
use super::resample::Downsampler;
use crate::codec::{LegCodec, g711, g722, opus, quantise};

/// Comfort noise for telephones, as the amplitude of uniform noise: -65 dBov.
const NOISE: f32 = 0.000_974;
/// In silence Opus hears the noise for this many ticks, so that its decoder's background settles…
const OPUS_SETTLE: u32 = 8;
/// …and then once per so many ticks, as Opus' own DTX does (400 ms).
const OPUS_REFRESH: u32 = 20;

/// Uniform noise from a counter: the same room gives the same noise twice.
#[derive(Clone, Debug)]
pub(super) struct Noise(u32);

impl Noise {
    pub(super) fn new() -> Self {
        Self(0x9e37_79b9)
    }

    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((self.0 >> 8) as f32 / (1 << 23) as f32 - 1.0) * NOISE
    }

    /// Adds noise to a tick.
    fn fill(&mut self, tick: &mut [f32]) {
        for sample in tick {
            *sample += self.next();
        }
    }
}

/// The chain of one mix. Encoders are made when a listener of their codec first needs them.
#[derive(Debug)]
pub(super) struct Branch {
    limiter: Limiter,
    noise: Noise,
    narrow: Downsampler,
    wide: Downsampler,
    g722: g722::Encoder,
    opus: Option<opus::Encoder>,
    quality: opus::Quality,
    /// Ticks of silence in a row.
    silent: u32,
    tick: Box<[f32; 960]>,
    /// The tick at 8 and 16 kHz, as 16-bit samples; `None` until asked for.
    narrow_tick: Option<[i16; 160]>,
    wide_tick: Option<[i16; 320]>,
    coded: [Coded; 4],
}

/// This tick in one codec.
#[derive(Clone, Debug, Default)]
struct Coded {
    done: bool,
    /// Empty when nothing is sent this tick.
    payload: Vec<u8>,
}

fn index(codec: LegCodec) -> usize {
    match codec {
        LegCodec::Opus => 0,
        LegCodec::G722 => 1,
        LegCodec::Pcma => 2,
        LegCodec::Pcmu => 3,
    }
}

impl Branch {
    pub(super) fn new(quality: opus::Quality) -> Self {
        Self {
            limiter: Limiter::new(),
            noise: Noise::new(),
            narrow: Downsampler::new(8_000),
            wide: Downsampler::new(16_000),
            g722: g722::Encoder::default(),
            opus: None,
            quality,
            silent: 0,
            tick: Box::new([0.0; 960]),
            narrow_tick: None,
            wide_tick: None,
            coded: Default::default(),
        }
    }

    /// A branch that goes on from this one for a listener of `codec`, from the tick to come.
    pub(super) fn fork(&self, codec: LegCodec) -> Self {
        let opus = match (&self.opus, codec) {
            (Some(shared), LegCodec::Opus) => {
                let mut own = opus::Encoder::new(self.quality);
                own.copy_from(shared);
                Some(own)
            }
            _ => None,
        };
        Self {
            limiter: self.limiter.clone(),
            noise: self.noise.clone(),
            narrow: self.narrow.clone(),
            wide: self.wide.clone(),
            g722: self.g722.clone(),
            opus,
            quality: self.quality,
            silent: self.silent,
            tick: self.tick.clone(),
            narrow_tick: None,
            wide_tick: None,
            coded: Default::default(),
        }
    }

    /// Takes the next 20 ms of the mix.
    pub(super) fn feed(&mut self, mix: &[f32; 960]) {
        *self.tick = *mix;
        let silent = self.limiter.is_empty() && mix.iter().all(|&s| s == 0.0);
        self.limiter.run(&mut self.tick);
        self.silent = if silent {
            self.silent.saturating_add(1)
        } else {
            0
        };
        if silent {
            self.noise.fill(&mut self.tick[..]);
        }
        self.narrow_tick = None;
        self.wide_tick = None;
        for coded in &mut self.coded {
            coded.done = false;
        }
    }

    /// Whether this tick is silence (comfort noise apart).
    pub(super) fn is_silent(&self) -> bool {
        self.silent > 0
    }

    /// The tick after the limiter, comfort noise included.
    #[cfg(test)]
    pub(super) fn sound(&self) -> &[f32; 960] {
        &self.tick
    }

    /// This tick in `codec`; `None` when nothing is to be sent. Encoded once, however often it is asked for.
    pub(super) fn payload(&mut self, codec: LegCodec) -> Option<&[u8]> {
        let slot = index(codec);
        if !self.coded[slot].done {
            let mut payload = std::mem::take(&mut self.coded[slot].payload);
            payload.clear();
            self.encode(codec, &mut payload);
            self.coded[slot] = Coded {
                done: true,
                payload,
            };
        }
        let payload = &self.coded[slot].payload;
        (!payload.is_empty()).then_some(payload)
    }

    fn encode(&mut self, codec: LegCodec, payload: &mut Vec<u8>) {
        match codec {
            LegCodec::Opus => {
                if self.silent > OPUS_SETTLE && !self.silent.is_multiple_of(OPUS_REFRESH) {
                    return;
                }
                let quality = self.quality;
                let encoder = self.opus.get_or_insert_with(|| opus::Encoder::new(quality));
                payload.extend_from_slice(encoder.encode(&self.tick));
            }
            LegCodec::G722 => {
                let wide = *self.wide_tick.get_or_insert_with(|| {
                    let mut samples = [0.0; 320];
                    self.wide.run(&self.tick[..], &mut samples);
                    samples.map(quantise)
                });
                self.g722.encode(&wide, payload);
            }
            LegCodec::Pcma => payload.extend(self.narrow().map(g711::linear_to_alaw)),
            LegCodec::Pcmu => payload.extend(self.narrow().map(g711::linear_to_ulaw)),
        }
    }

    fn narrow(&mut self) -> [i16; 160] {
        *self.narrow_tick.get_or_insert_with(|| {
            let mut samples = [0.0; 160];
            self.narrow.run(&self.tick[..], &mut samples);
            samples.map(quantise)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(n: usize) -> [f32; 960] {
        std::array::from_fn(|i| ((n * 960 + i) as f32 * 0.04).sin() * 0.3)
    }

    #[test]
    fn a_fork_goes_on_bit_exactly_in_every_codec() {
        for codec in [
            LegCodec::Opus,
            LegCodec::G722,
            LegCodec::Pcma,
            LegCodec::Pcmu,
        ] {
            let mut shared = Branch::new(opus::Quality::default());
            for n in 0..17 {
                shared.feed(&tick(n));
                shared.payload(codec);
            }
            let mut own = shared.fork(codec);
            for n in 17..40 {
                shared.feed(&tick(n));
                own.feed(&tick(n));
                assert_eq!(own.payload(codec), shared.payload(codec), "{codec:?} {n}");
            }
        }
    }

    #[test]
    fn silence_is_comfort_noise_and_almost_no_opus() {
        let mut branch = Branch::new(opus::Quality::default());
        let (mut opus, mut pcma) = (0, 0);
        let mut power = 0.0;
        for _ in 0..200 {
            branch.feed(&[0.0; 960]);
            assert!(branch.is_silent());
            opus += usize::from(branch.payload(LegCodec::Opus).is_some());
            pcma += usize::from(branch.payload(LegCodec::Pcma).is_some());
            power += branch.sound().iter().map(|s| s * s).sum::<f32>();
        }
        assert_eq!(pcma, 200);
        assert!((8..=20).contains(&opus), "{opus}");
        let dbov = 10.0 * (power / 192_000.0).log10();
        assert!((-65.5..-64.5).contains(&dbov), "{dbov}");
    }
}
