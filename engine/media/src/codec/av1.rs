//! AV1 payload format (AOM, version 1.0 §4.4): where a coded video sequence starts.

/// Whether a key frame starts in this payload: the N bit of the aggregation header, without
/// the Z bit that would make it a continuation.
pub fn starts_key_frame(payload: &[u8]) -> bool {
    payload.len() > 1 && payload[0] & 0x08 != 0 && payload[0] & 0x80 == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutate::{Random, mutate};

    #[test]
    fn the_first_packet_of_a_coded_video_sequence_says_so() {
        assert!(starts_key_frame(&[0x18, 0]));
        assert!(!starts_key_frame(&[0x10, 0]));
        assert!(!starts_key_frame(&[0x98, 0]));
        assert!(!starts_key_frame(&[0x18]));
        assert!(!starts_key_frame(&[]));
    }

    #[test]
    fn mutated_aggregation_headers_are_read_inside_their_payload() {
        let mut random = Random::new(0xA041);
        let seeds: [&[u8]; 3] = [&[0x18, 0, 7], &[0x10, 0], &[0x98, 0, 1]];
        let mut found = 0;
        for _ in 0..20_000 {
            let mut payload = seeds[random.below(seeds.len())].to_vec();
            mutate(&mut random, &mut payload);
            let starts = starts_key_frame(&payload);
            found += usize::from(starts);
            assert!(!starts || payload[0] & 0x88 == 0x08, "{payload:02x?}");
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
