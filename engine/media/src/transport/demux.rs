//! Tells what a datagram on the shared port is (RFC 7983) and whose STUN check it is.
//!
//! Reads only; never keeps state and never allocates: it runs on every packet.

/// What kind of datagram arrived (RFC 7983 §7, RFC 5761 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DatagramKind {
    /// STUN: first byte 0 to 3.
    Stun,
    /// DTLS: first byte 20 to 63.
    Dtls,
    /// RTP: first byte 128 to 191, payload type outside 64 to 95.
    Rtp,
    /// RTCP: first byte 128 to 191, packet type 192 to 223.
    Rtcp,
    /// Anything else (ZRTP, TURN channel data, garbage, an empty datagram).
    Other,
}

/// Classifies a datagram by its first two bytes.
#[inline]
pub fn classify(datagram: &[u8]) -> DatagramKind {
    match datagram {
        [0..=3, ..] => DatagramKind::Stun,
        [20..=63, ..] => DatagramKind::Dtls,
        [128..=191, 192..=223, ..] => DatagramKind::Rtcp,
        [128..=191, _, ..] => DatagramKind::Rtp,
        _ => DatagramKind::Other,
    }
}

const HEADER: usize = 20;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
const USERNAME: [u8; 2] = [0x00, 0x06];
/// ICE username fragments have 4 to 256 characters (RFC 8445 §5.3).
const MAX_UFRAG: usize = 256;

/// The local part of a binding request's USERNAME (`local:remote`, RFC 8445 §7.2.2), which is
/// the ufrag *we* announced, so that a check finds its session without a search.
///
/// `None` for anything but a binding request with a well-formed USERNAME. The message is not
/// authenticated here; attributes after USERNAME are not looked at.
pub fn stun_local_ufrag(datagram: &[u8]) -> Option<&str> {
    let (header, mut attributes) = datagram.split_at_checked(HEADER)?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[..2] != BINDING_REQUEST || header[4..8] != MAGIC_COOKIE || length != attributes.len()
    {
        return None;
    }
    while let Some((head, rest)) = attributes.split_at_checked(4) {
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let value = rest.get(..length)?;
        if head[..2] == USERNAME {
            let colon = value.iter().position(|&byte| byte == b':')?;
            let ufrag = &value[..colon];
            let is_sound = !ufrag.is_empty()
                && colon <= MAX_UFRAG
                && ufrag
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
            return is_sound.then(|| std::str::from_utf8(ufrag).ok()).flatten();
        }
        attributes = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_decide() {
        assert_eq!(classify(&[]), DatagramKind::Other);
        assert_eq!(classify(&[0, 1]), DatagramKind::Stun);
        assert_eq!(classify(&[3, 1]), DatagramKind::Stun);
        assert_eq!(classify(&[4, 1]), DatagramKind::Other);
        assert_eq!(classify(&[20]), DatagramKind::Dtls);
        assert_eq!(classify(&[63, 0]), DatagramKind::Dtls);
        assert_eq!(classify(&[64, 0]), DatagramKind::Other);
        assert_eq!(classify(&[128]), DatagramKind::Other);
        assert_eq!(classify(&[128, 111]), DatagramKind::Rtp);
        assert_eq!(classify(&[144, 0x80 | 111]), DatagramKind::Rtp);
        assert_eq!(classify(&[128, 200]), DatagramKind::Rtcp);
        assert_eq!(classify(&[191, 206]), DatagramKind::Rtcp);
        assert_eq!(classify(&[192, 206]), DatagramKind::Other);
    }

    fn request(username: &[u8]) -> Vec<u8> {
        let padded = username.len().next_multiple_of(4);
        let mut message = vec![0, 1];
        message.extend(((4 + 8 + padded) as u16).to_be_bytes());
        message.extend(MAGIC_COOKIE);
        message.extend([7; 12]);
        message.extend([0x00, 0x24, 0, 4, 1, 2, 3, 4]);
        message.extend([0x00, 0x06]);
        message.extend((username.len() as u16).to_be_bytes());
        message.extend(username);
        message.resize(20 + 12 + padded, 0);
        message
    }

    #[test]
    fn the_local_part_of_the_username_is_found_behind_other_attributes() {
        assert_eq!(stun_local_ufrag(&request(b"abcd:wxyz")), Some("abcd"));
        assert_eq!(stun_local_ufrag(&request(b"abcd:")), Some("abcd"));
    }

    #[test]
    fn a_username_that_is_no_ufrag_pair_is_refused() {
        for username in [
            &b"abcd"[..],
            b":abcd",
            b"",
            b"ab cd:x",
            b"\xff\xfe:x",
            &[b'a'; 300],
        ] {
            assert_eq!(stun_local_ufrag(&request(username)), None, "{username:?}");
        }
    }

    #[test]
    fn every_truncation_is_refused() {
        let message = request(b"abcd:wxyz");
        for length in 0..message.len() {
            assert_eq!(stun_local_ufrag(&message[..length]), None, "{length}");
        }
    }
}
