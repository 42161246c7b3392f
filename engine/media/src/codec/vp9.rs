//! VP9 payload descriptor (RFC 9628 §4.2): where a key frame starts.

/// Whether a key frame starts in this payload: the first packet of the lowest spatial layer
/// of a picture that is not predicted from an earlier one.
pub fn starts_key_frame(payload: &[u8]) -> bool {
    let Some((&first, mut rest)) = payload.split_first() else {
        return false;
    };
    let [has_picture_id, predicted, has_layers, _flexible, starts] =
        [0x80, 0x40, 0x20, 0x10, 0x08].map(|bit| first & bit != 0);
    if predicted || !starts {
        return false;
    }
    if has_picture_id {
        let Some(&byte) = rest.first() else {
            return false;
        };
        let width = if byte & 0x80 != 0 { 2 } else { 1 };
        let Some(after) = rest.get(width..) else {
            return false;
        };
        rest = after;
    }
    // Layer indices: TID (3), U, SID (3), D. A higher spatial layer starts no picture.
    !has_layers || rest.first().is_some_and(|byte| (byte >> 1) & 0x07 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutate::{Random, mutate};

    #[test]
    fn only_the_first_packet_of_an_unpredicted_base_layer_starts_a_key_frame() {
        assert!(starts_key_frame(&[0x08]));
        assert!(starts_key_frame(&[0x88, 0x80, 0x01]));
        assert!(starts_key_frame(&[0xA8, 0x01, 0x00]));
        assert!(
            !starts_key_frame(&[0xA8, 0x01, 0x02]),
            "second spatial layer"
        );
        assert!(!starts_key_frame(&[0xC8, 0x01]), "predicted");
        assert!(!starts_key_frame(&[0x80, 0x01]), "continuation");
        assert!(!starts_key_frame(&[0x88]), "cut off");
        assert!(!starts_key_frame(&[0x28]), "cut off");
        assert!(!starts_key_frame(&[]));
    }

    #[test]
    fn mutated_descriptors_are_read_inside_their_payload() {
        let mut random = Random::new(0x9628);
        let seeds: [&[u8]; 4] = [
            &[0x08, 1],
            &[0x88, 0x80, 0x01, 9],
            &[0xA8, 0x01, 0x00, 9],
            &[0xA8, 0x81, 0x02, 0x02, 9],
        ];
        let mut found = 0;
        for _ in 0..20_000 {
            let mut payload = seeds[random.below(seeds.len())].to_vec();
            mutate(&mut random, &mut payload);
            let starts = starts_key_frame(&payload);
            found += usize::from(starts);
            // Five bytes are the longest descriptor that is looked at.
            assert_eq!(starts, starts_key_frame(&payload[..payload.len().min(5)]));
            assert!(!starts || payload[0] & 0x48 == 0x08, "{payload:02x?}");
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
