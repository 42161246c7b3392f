//! ITU-T G.722 at 64 kbit/s (mode 1): two-band ADPCM, 16 kHz audio, one byte per two samples.
//!
//! Written from the block names of the Recommendation (§3, §4, annex tables). Own code rather than a
//! crate because the mixer copies an encoder in mid-stream and may not allocate per frame.
//! State is plain integers: cloning it is the copy.

// Transmit and receive quadrature mirror filters (table 11), half of the symmetric 24 taps.
const QMF: [i32; 12] = [3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11];
// Decision levels of the 6-bit quantiser (table 14).
const Q6: [i32; 31] = [
    0, 35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940,
    1023, 1121, 1219, 1339, 1458, 1612, 1765, 1980, 2195, 2557, 2919, 0,
];
// Output code words for negative and positive differences (table 15).
const ILN: [u8; 31] = [
    0, 63, 62, 31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11,
    10, 9, 8, 7, 6, 5, 4,
];
const ILP: [u8; 31] = [
    0, 61, 60, 59, 58, 57, 56, 55, 54, 53, 52, 51, 50, 49, 48, 47, 46, 45, 44, 43, 42, 41, 40, 39,
    38, 37, 36, 35, 34, 33, 32,
];
// Logarithmic scale factor multipliers and the mapping of 4-bit codes to them (tables 17, 18).
const WL: [i32; 8] = [-60, -30, 58, 172, 334, 538, 1198, 3042];
const RL42: [usize; 16] = [0, 7, 6, 5, 4, 3, 2, 1, 7, 6, 5, 4, 3, 2, 1, 0];
const WH: [i32; 3] = [0, -214, 798];
const RH2: [usize; 4] = [2, 1, 2, 1];
// Antilogarithm (table 19).
const ILB: [i32; 32] = [
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834,
    2896, 2960, 3025, 3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
];
// Inverse quantisers (tables 16, 20, 21).
const QM2: [i32; 4] = [-7408, -1616, 7408, 1616];
const QM4: [i32; 16] = [
    0, -20456, -12896, -8968, -6288, -4240, -2584, -1200, 20456, 12896, 8968, 6288, 4240, 2584,
    1200, 0,
];
const QM6: [i32; 64] = [
    -136, -136, -136, -136, -24808, -21904, -19008, -16704, -14984, -13512, -12280, -11192, -10232,
    -9360, -8576, -7856, -7192, -6576, -6000, -5456, -4944, -4464, -4008, -3576, -3168, -2776,
    -2400, -2032, -1688, -1360, -1040, -728, 24808, 21904, 19008, 16704, 14984, 13512, 12280,
    11192, 10232, 9360, 8576, 7856, 7192, 6576, 6000, 5456, 4944, 4464, 4008, 3576, 3168, 2776,
    2400, 2032, 1688, 1360, 1040, 728, 432, 136, -432, -136,
];
/// Threshold of the 2-bit quantiser of the higher band (table 14).
const Q2: i32 = 564;

fn saturate(value: i32) -> i32 {
    value.clamp(-32768, 32767)
}

/// Adaptive predictor and quantiser scale of one sub-band.
#[derive(Clone, Debug)]
struct Band {
    /// Predictor output.
    s: i32,
    /// Zero-section output.
    sz: i32,
    /// Reconstructed signal, newest at 1.
    r: [i32; 3],
    /// Partially reconstructed signal, newest at 0.
    p: [i32; 3],
    /// Pole coefficients, 1 and 2.
    a: [i32; 3],
    /// Zero coefficients, 1 to 6.
    b: [i32; 7],
    /// Quantised differences, newest at 0.
    d: [i32; 7],
    /// Logarithmic scale factor.
    nb: i32,
    /// Linear scale factor.
    det: i32,
}

impl Band {
    fn new(det: i32) -> Self {
        Self {
            s: 0,
            sz: 0,
            r: [0; 3],
            p: [0; 3],
            a: [0; 3],
            b: [0; 7],
            d: [0; 7],
            nb: 0,
            det,
        }
    }

    /// LOGSCL + SCALEL.
    fn scale_low(&mut self, code4: usize) {
        self.nb = (((self.nb * 127) >> 7) + WL[RL42[code4]]).clamp(0, 18432);
        self.det = Self::antilog(self.nb, 8);
    }

    /// LOGSCH + SCALEH.
    fn scale_high(&mut self, code2: usize) {
        self.nb = (((self.nb * 127) >> 7) + WH[RH2[code2]]).clamp(0, 22528);
        self.det = Self::antilog(self.nb, 10);
    }

    fn antilog(nb: i32, offset: i32) -> i32 {
        let mantissa = ILB[((nb >> 6) & 31) as usize];
        let shift = offset - (nb >> 11);
        let value = if shift < 0 {
            mantissa << -shift
        } else {
            mantissa >> shift
        };
        value << 2
    }

    /// RECONS, PARREC, UPPOL2, UPPOL1, UPZERO, DELAYA, FILTEP, FILTEZ, PREDIC.
    fn predict(&mut self, d: i32) {
        self.d[0] = d;
        let r = saturate(self.s + d);
        let p = saturate(self.sz + d);
        let same = |x: i32, y: i32| (x < 0) == (y < 0);

        let wd1 = saturate(self.a[1] << 2);
        let wd2 = if same(p, self.p[0]) {
            (-wd1).min(32767)
        } else {
            wd1
        };
        let wd3 = if same(p, self.p[1]) { 128 } else { -128 };
        let ap2 = ((wd2 >> 7) + wd3 + ((self.a[2] * 32512) >> 15)).clamp(-12288, 12288);

        let wd1 = if same(p, self.p[0]) { 192 } else { -192 };
        let limit = saturate(15360 - ap2);
        let ap1 = saturate(wd1 + ((self.a[1] * 32640) >> 15)).clamp(-limit, limit);

        let step = if d == 0 { 0 } else { 128 };
        for i in 1..7 {
            let wd2 = if same(self.d[i], d) { step } else { -step };
            self.b[i] = saturate(wd2 + ((self.b[i] * 32640) >> 15));
        }

        self.d.copy_within(0..6, 1);
        self.r = [0, r, self.r[1]];
        self.p = [p, self.p[0], self.p[1]];
        self.a = [0, ap1, ap2];

        let wd1 = (self.a[1] * saturate(self.r[1] + self.r[1])) >> 15;
        let wd2 = (self.a[2] * saturate(self.r[2] + self.r[2])) >> 15;
        let sp = saturate(wd1 + wd2);
        let sz: i32 = (1..7)
            .map(|i| (self.b[i] * saturate(self.d[i] + self.d[i])) >> 15)
            .sum();
        self.sz = saturate(sz);
        self.s = saturate(sp + self.sz);
    }
}

/// Encoder of 16 kHz samples.
#[derive(Clone, Debug)]
pub struct Encoder {
    history: [i32; 24],
    low: Band,
    high: Band,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            history: [0; 24],
            low: Band::new(32),
            high: Band::new(8),
        }
    }
}

impl Encoder {
    /// Encodes pairs of 16 kHz samples, one byte each, appended to `output`. An odd last sample is left out.
    pub fn encode(&mut self, samples: &[i16], output: &mut Vec<u8>) {
        output.extend(
            samples
                .chunks_exact(2)
                .map(|pair| self.pair(pair[0], pair[1])),
        );
    }

    fn pair(&mut self, first: i16, second: i16) -> u8 {
        self.history.copy_within(2.., 0);
        self.history[22] = first.into();
        self.history[23] = second.into();
        let (mut even, mut odd) = (0, 0);
        for i in 0..12 {
            odd += self.history[2 * i] * QMF[i];
            even += self.history[2 * i + 1] * QMF[11 - i];
        }
        let low = (even + odd) >> 14;
        let high = (even - odd) >> 14;

        let difference = saturate(low - self.low.s);
        let magnitude = if difference >= 0 {
            difference
        } else {
            !difference
        };
        let level = (1..30)
            .find(|&i| magnitude < (Q6[i] * self.low.det) >> 12)
            .unwrap_or(30);
        let code_low = if difference < 0 {
            ILN[level]
        } else {
            ILP[level]
        };
        let code4 = usize::from(code_low >> 2);
        let d = (self.low.det * QM4[code4]) >> 15;
        self.low.scale_low(code4);
        self.low.predict(d);

        let difference = saturate(high - self.high.s);
        let magnitude = if difference >= 0 {
            difference
        } else {
            !difference
        };
        let outer = magnitude >= (Q2 * self.high.det) >> 12;
        let code_high: usize = match (difference < 0, outer) {
            (true, true) => 0,
            (true, false) => 1,
            (false, true) => 2,
            (false, false) => 3,
        };
        let d = (self.high.det * QM2[code_high]) >> 15;
        self.high.scale_high(code_high);
        self.high.predict(d);

        (code_high as u8) << 6 | code_low
    }
}

/// Decoder to 16 kHz samples.
#[derive(Clone, Debug)]
pub struct Decoder {
    history: [i32; 24],
    low: Band,
    high: Band,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            history: [0; 24],
            low: Band::new(32),
            high: Band::new(8),
        }
    }
}

impl Decoder {
    /// Decodes each byte to two samples, given to `output` in order.
    pub fn decode(&mut self, bytes: &[u8], mut output: impl FnMut(i16)) {
        for &byte in bytes {
            let (first, second) = self.byte(byte);
            output(first);
            output(second);
        }
    }

    fn byte(&mut self, byte: u8) -> (i16, i16) {
        let code_low = usize::from(byte & 0x3f);
        let code_high = usize::from(byte >> 6);

        let low = (self.low.s + ((self.low.det * QM6[code_low]) >> 15)).clamp(-16384, 16383);
        let code4 = code_low >> 2;
        let d = (self.low.det * QM4[code4]) >> 15;
        self.low.scale_low(code4);
        self.low.predict(d);

        let d = (self.high.det * QM2[code_high]) >> 15;
        let high = (self.high.s + d).clamp(-16384, 16383);
        self.high.scale_high(code_high);
        self.high.predict(d);

        self.history.copy_within(2.., 0);
        self.history[22] = low + high;
        self.history[23] = low - high;
        let (mut first, mut second) = (0, 0);
        for i in 0..12 {
            second += self.history[2 * i] * QMF[i];
            first += self.history[2 * i + 1] * QMF[11 - i];
        }
        (saturate(first >> 11) as i16, saturate(second >> 11) as i16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u64, length: usize, amplitude: i32) -> Vec<i16> {
        let mut state = seed;
        (0..length)
            .map(|_| {
                state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                ((state >> 33) as i32 % (2 * amplitude + 1) - amplitude) as i16
            })
            .collect()
    }

    fn tone(hertz: f64, length: usize, amplitude: f64) -> Vec<i16> {
        (0..length)
            .map(|n| {
                (amplitude * (n as f64 * hertz * std::f64::consts::TAU / 16000.0).sin()) as i16
            })
            .collect()
    }

    fn decode(bytes: &[u8]) -> Vec<i16> {
        let mut samples = Vec::new();
        Decoder::default().decode(bytes, |s| samples.push(s));
        samples
    }

    fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
        bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    // Expectations: FNV-1a 64 of what FFmpeg 5.1's encoder makes of the signal, and its decoder of that
    // (`ffmpeg -f s16le -ar 16000 -ac 1 -i x.pcm -c:a g722 -f g722 x.g722`, and back to s16le).
    #[test]
    fn is_bit_exact_with_a_second_implementation() {
        let triangle = (0..16_000)
            .map(|n| match n % 50 {
                p @ 0..25 => 4 * 20_000 * p / 50 - 20_000,
                p => 3 * 20_000 - 4 * 20_000 * p / 50,
            })
            .map(|s: i32| s as i16)
            .collect();
        for (name, signal, coded, heard) in [
            (
                "noise",
                noise(1, 16_000, 32_767),
                0xf7e6_8913_a4b1_88d4,
                0xa004_9c65_662a_1026,
            ),
            (
                "soft noise",
                noise(2, 16_000, 300),
                0x368c_ae82_06a6_b28b,
                0xb018_8c46_3286_71ab,
            ),
            (
                "triangle",
                triangle,
                0x7315_bfaf_08b2_4abf,
                0x4de2_b9eb_900d_dc03,
            ),
            (
                "full scale",
                vec![i16::MIN; 640],
                0x15e3_f517_bb2c_2fc6,
                0xb5ad_d5aa_ead4_21a5_u64,
            ),
        ] {
            let mut bytes = Vec::new();
            Encoder::default().encode(&signal, &mut bytes);
            assert_eq!(fnv1a(bytes.iter().copied()), coded, "{name} coded");
            let samples = decode(&bytes);
            assert_eq!(
                fnv1a(samples.iter().flat_map(|s| s.to_le_bytes())),
                heard,
                "{name} heard"
            );
        }
    }

    #[test]
    fn decodes_any_bytes() {
        let bytes: Vec<u8> = noise(3, 80_000, 32767)
            .iter()
            .map(|&s| (s >> 3) as u8)
            .collect();
        assert_eq!(decode(&bytes).len(), 160_000);
    }

    #[test]
    fn a_tone_survives() {
        // Analysis and synthesis QMF together delay by 22 samples.
        const DELAY: usize = 22;
        for (hertz, floor) in [
            (300.0, 30.0),
            (1000.0, 30.0),
            (3000.0, 20.0),
            (6000.0, 10.0),
        ] {
            let signal = tone(hertz, 16000, 10000.0);
            let mut bytes = Vec::new();
            Encoder::default().encode(&signal, &mut bytes);
            let heard = decode(&bytes);
            let (mut power, mut error) = (0.0, 0.0);
            for n in 2000..15000 {
                let s = f64::from(signal[n]);
                power += s * s;
                error += (f64::from(heard[n + DELAY]) - s).powi(2);
            }
            let snr = 10.0 * (power / error).log10();
            assert!(snr > floor, "{hertz} Hz: {snr:.1} dB");
        }
    }

    #[test]
    fn a_cloned_encoder_goes_on_bit_exactly() {
        let signal = noise(4, 3200, 8000);
        let mut encoder = Encoder::default();
        let mut bytes = Vec::new();
        encoder.encode(&signal[..1600], &mut bytes);
        let mut copy = encoder.clone();
        let (mut one, mut two) = (Vec::new(), Vec::new());
        encoder.encode(&signal[1600..], &mut one);
        copy.encode(&signal[1600..], &mut two);
        assert_eq!(one, two);
    }
}
