//! AV1 payload format (AOM, version 1.0 §4.4): where a coded video sequence starts.

/// Whether a key frame starts in this payload: the N bit of the aggregation header, without
/// the Z bit that would make it a continuation.
pub fn starts_key_frame(payload: &[u8]) -> bool {
    payload.len() > 1 && payload[0] & 0x08 != 0 && payload[0] & 0x80 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_packet_of_a_coded_video_sequence_says_so() {
        assert!(starts_key_frame(&[0x18, 0]));
        assert!(!starts_key_frame(&[0x10, 0]));
        assert!(!starts_key_frame(&[0x98, 0]));
        assert!(!starts_key_frame(&[0x18]));
        assert!(!starts_key_frame(&[]));
    }
}
