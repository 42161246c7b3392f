//! H.264 payload format (RFC 6184): where a key frame starts.

const IDR: u8 = 5;
const SPS: u8 = 7;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// Whether a key frame starts in this payload: a sequence parameter set, or an IDR slice when
/// the sets travel out of band; alone, aggregated (STAP-A) or as first fragment (FU-A).
pub fn starts_key_frame(payload: &[u8]) -> bool {
    let Some(&first) = payload.first() else {
        return false;
    };
    match first & 0x1F {
        STAP_A => {
            let mut rest = &payload[1..];
            while let Some((size, units)) = rest.split_first_chunk::<2>() {
                let size = usize::from(u16::from_be_bytes(*size));
                match units.get(..size).and_then(|unit| unit.first()) {
                    Some(header) if is_key(header & 0x1F) => return true,
                    Some(_) => rest = &units[size..],
                    None => return false,
                }
            }
            false
        }
        FU_A => payload
            .get(1)
            .is_some_and(|header| header & 0x80 != 0 && is_key(header & 0x1F)),
        unit => is_key(unit),
    }
}

fn is_key(unit: u8) -> bool {
    matches!(unit, IDR | SPS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutate::{Random, mutate};

    #[test]
    fn parameter_sets_and_idr_slices_start_key_frames() {
        assert!(starts_key_frame(&[0x67, 1, 2]));
        assert!(starts_key_frame(&[0x65, 1, 2]));
        assert!(starts_key_frame(&[0x78, 0, 2, 0x09, 1, 0, 2, 0x67, 1]));
        assert!(starts_key_frame(&[0x7C, 0x85, 1]));
    }

    #[test]
    fn other_units_later_fragments_and_garbage_do_not() {
        assert!(!starts_key_frame(&[0x61, 1]));
        assert!(!starts_key_frame(&[0x7C, 0x05, 1]), "second fragment");
        assert!(
            !starts_key_frame(&[0x7C, 0x81, 1]),
            "fragment of a plain slice"
        );
        assert!(!starts_key_frame(&[0x78, 0, 0, 0, 2, 0x67]), "empty unit");
        assert!(!starts_key_frame(&[0x78, 0, 9, 0x67]), "cut off");
        assert!(!starts_key_frame(&[]));
    }

    #[test]
    fn mutated_payloads_start_a_key_frame_only_with_a_key_unit_in_them() {
        let mut random = Random::new(0x6184);
        let seeds: [&[u8]; 4] = [
            &[0x67, 1, 2],
            &[0x61, 1],
            &[0x78, 0, 2, 0x09, 1, 0, 2, 0x67, 1],
            &[0x7C, 0x85, 1],
        ];
        let mut found = 0;
        for _ in 0..20_000 {
            let mut payload = seeds[random.below(seeds.len())].to_vec();
            mutate(&mut random, &mut payload);
            let starts = starts_key_frame(&payload);
            found += usize::from(starts);
            let key = |byte: &u8| is_key(byte & 0x1F);
            assert!(!starts || payload.iter().any(key), "{payload:02x?}");
            // A cut packet never starts more than the whole one.
            let cut = random.below(payload.len() + 1);
            assert!(
                !starts_key_frame(&payload[..cut]) || starts,
                "{payload:02x?}"
            );
        }
        assert!((1_000..19_000).contains(&found), "{found} start key frames");
    }
}
