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
}
