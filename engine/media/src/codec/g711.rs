//! ITU-T G.711 A-law and mu-law, by table, with the companding rule of ITU-T G.191.
//!
//! Owns the mapping between a byte and a 16-bit sample. It never buffers.

const fn alaw_expand(byte: u8) -> i16 {
    let code = byte ^ 0x55;
    let exponent = (code >> 4) & 7;
    let mut magnitude = (code & 15) as i16;
    if exponent > 0 {
        magnitude += 16;
    }
    magnitude = (magnitude << 4) + 8;
    if exponent > 1 {
        magnitude <<= exponent - 1;
    }
    if code & 0x80 != 0 {
        magnitude
    } else {
        -magnitude
    }
}

const fn alaw_compress(sample: i16) -> u8 {
    let mut code = (if sample < 0 { !sample } else { sample } >> 4) as u16;
    if code > 15 {
        let mut exponent = 1;
        while code > 31 {
            code >>= 1;
            exponent += 1;
        }
        code = code - 16 + (exponent << 4);
    }
    if sample >= 0 {
        code |= 0x80;
    }
    code as u8 ^ 0x55
}

const fn ulaw_expand(byte: u8) -> i16 {
    let code = !byte;
    let exponent = (code >> 4) & 7;
    let step = 8i16 << exponent;
    let magnitude = (0x80i16 << exponent) + step * (code & 15) as i16 + step / 2 - 132;
    if byte & 0x80 != 0 {
        magnitude
    } else {
        -magnitude
    }
}

const fn ulaw_compress(sample: i16) -> u8 {
    let mut magnitude = (if sample < 0 { !sample } else { sample } >> 2) as u16 + 33;
    if magnitude > 0x1fff {
        magnitude = 0x1fff;
    }
    let mut segment = 1;
    while magnitude >> (5 + segment) != 0 {
        segment += 1;
    }
    let code = ((8 - segment) << 4) as u8 | (15 - ((magnitude >> segment) & 15) as u8);
    if sample >= 0 { code | 0x80 } else { code }
}

static ALAW_TO_LINEAR: [i16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = alaw_expand(byte as u8);
        byte += 1;
    }
    table
};

static ULAW_TO_LINEAR: [i16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = ulaw_expand(byte as u8);
        byte += 1;
    }
    table
};

// A-law looks at the 12 high bits of a sample, mu-law at the 14 high bits.
static LINEAR_TO_ALAW: [u8; 4096] = {
    let mut table = [0; 4096];
    let mut high = 0;
    while high < 4096 {
        table[high] = alaw_compress(((high as u16) << 4) as i16);
        high += 1;
    }
    table
};

static LINEAR_TO_ULAW: [u8; 16384] = {
    let mut table = [0; 16384];
    let mut high = 0;
    while high < 16384 {
        table[high] = ulaw_compress(((high as u16) << 2) as i16);
        high += 1;
    }
    table
};

/// One A-law byte as a linear sample.
#[inline]
pub fn alaw_to_linear(byte: u8) -> i16 {
    ALAW_TO_LINEAR[byte as usize]
}

/// One mu-law byte as a linear sample.
#[inline]
pub fn ulaw_to_linear(byte: u8) -> i16 {
    ULAW_TO_LINEAR[byte as usize]
}

/// A linear sample as one A-law byte.
#[inline]
pub fn linear_to_alaw(sample: i16) -> u8 {
    LINEAR_TO_ALAW[(sample as u16 >> 4) as usize]
}

/// A linear sample as one mu-law byte.
#[inline]
pub fn linear_to_ulaw(sample: i16) -> u8 {
    LINEAR_TO_ULAW[(sample as u16 >> 2) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    // ITU-T G.711 (11/88): tables 1a/1b give the A-law decoder output values y1 = 1, y128 = 4032
    // in units of 1/8 of a 16-bit sample; tables 2a/2b give mu-law y0 = 0, y1 = 2, y127 = 8031 in
    // units of 1/4. Columns "character signal" 1..8 with even bits inverted for A-law.
    #[test]
    fn decodes_the_values_of_the_recommendation() {
        for (byte, value) in [
            (0xd5, 1),
            (0x55, -1),
            (0xaa, 4032),
            (0x2a, -4032),
            (0xd4, 3),
            (0xc5, 33),
        ] {
            assert_eq!(alaw_to_linear(byte), value * 8, "A-law {byte:#04x}");
        }
        for (byte, value) in [
            (0xff, 0),
            (0x7f, 0),
            (0xfe, 2),
            (0x7e, -2),
            (0x80, 8031),
            (0x00, -8031),
        ] {
            assert_eq!(ulaw_to_linear(byte), value * 4, "mu-law {byte:#04x}");
        }
    }

    // ITU-T G.711 tables 5 and 6: the digital sequences that give a 1 kHz sine at 0 dBm0.
    // A-law peaks at 3.14 dBm0, mu-law at 3.17 dBm0, so the RMS must come out that far below.
    #[test]
    fn the_milliwatt_sequences_have_the_nominal_level() {
        #[allow(clippy::approx_constant)] // dBm0, nothing round
        const A_LAW_PEAK: f64 = 3.14;
        const MU_LAW_PEAK: f64 = 3.17;
        let alaw = [0x34, 0x21, 0x21, 0x34, 0xb4, 0xa1, 0xa1, 0xb4];
        let ulaw = [0x1e, 0x0b, 0x0b, 0x1e, 0x9e, 0x8b, 0x8b, 0x9e];
        let rms = |samples: [i16; 8]| {
            (samples.iter().map(|&s| f64::from(s).powi(2)).sum::<f64>() / 8.0).sqrt()
        };
        let sine_peak = |full: f64, headroom: f64| full * 10f64.powf(-headroom / 20.0);
        let a = rms(alaw.map(alaw_to_linear));
        let u = rms(ulaw.map(ulaw_to_linear));
        let expected_a = sine_peak(32768.0, A_LAW_PEAK) / 2f64.sqrt();
        let expected_u = sine_peak(8159.0 * 4.0, MU_LAW_PEAK) / 2f64.sqrt();
        assert!(
            (20.0 * (a / expected_a).log10()).abs() < 0.05,
            "{a} {expected_a}"
        );
        assert!(
            (20.0 * (u / expected_u).log10()).abs() < 0.05,
            "{u} {expected_u}"
        );
    }

    #[test]
    fn encoding_a_decoded_byte_gives_the_byte() {
        for byte in 0..=255u8 {
            assert_eq!(linear_to_alaw(alaw_to_linear(byte)), byte);
            // mu-law has two zeros.
            let again = if byte == 0x7f { 0xff } else { byte };
            assert_eq!(linear_to_ulaw(ulaw_to_linear(byte)), again);
        }
    }

    #[test]
    fn encoding_never_leaves_the_quantiser_interval() {
        for sample in i16::MIN..=i16::MAX {
            let a = i32::from(alaw_to_linear(linear_to_alaw(sample)));
            let u = i32::from(ulaw_to_linear(linear_to_ulaw(sample)));
            let size = i32::from(sample).abs();
            // Half a step: 1/32 of the magnitude in a segment, 8 (A) or 4 (mu) at the bottom.
            assert!(
                (a - i32::from(sample)).abs() <= (size / 31).max(16) + 8,
                "A {sample} {a}"
            );
            assert!(
                (u - i32::from(sample)).abs()
                    <= (size + 132) / 31 + 4 + if size > 32124 { 644 } else { 0 },
                "mu {sample} {u}"
            );
        }
    }
}
