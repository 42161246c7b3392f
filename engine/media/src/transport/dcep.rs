//! Messages of the Data Channel Establishment Protocol (RFC 8832 §5).

/// How a channel delivers (RFC 8832 §5.1, channel types).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reliability {
    pub(super) unordered: bool,
    pub(super) limit: Limit,
}

/// When a message is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    Never,
    Retransmissions(u32),
    Milliseconds(u32),
}

/// A DCEP message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    Open {
        reliability: Reliability,
        label: &'a [u8],
    },
    Ack,
}

const ACK: u8 = 2;
const OPEN: u8 = 3;
const UNORDERED: u8 = 0x80;

impl<'a> Message<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        match *bytes.first()? {
            ACK => Some(Self::Ack),
            OPEN => {
                let head: &[u8; 12] = bytes.first_chunk()?;
                let value = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
                let limit = match head[1] & !UNORDERED {
                    0 => Limit::Never,
                    1 => Limit::Retransmissions(value),
                    2 => Limit::Milliseconds(value),
                    _ => return None,
                };
                let label_len = usize::from(u16::from_be_bytes([head[8], head[9]]));
                let protocol_len = usize::from(u16::from_be_bytes([head[10], head[11]]));
                if bytes.len() != 12 + label_len + protocol_len {
                    return None;
                }
                let unordered = head[1] & UNORDERED != 0;
                let label = &bytes[12..12 + label_len];
                Some(Self::Open {
                    reliability: Reliability { unordered, limit },
                    label,
                })
            }
            _ => None,
        }
    }

    pub(super) fn write(&self) -> Vec<u8> {
        match self {
            Self::Ack => vec![ACK],
            Self::Open { reliability, label } => {
                let (kind, value) = match reliability.limit {
                    Limit::Never => (0, 0),
                    Limit::Retransmissions(count) => (1, count),
                    Limit::Milliseconds(time) => (2, time),
                };
                let unordered = if reliability.unordered { UNORDERED } else { 0 };
                let mut bytes = vec![OPEN, kind | unordered, 0, 0];
                bytes.extend(value.to_be_bytes());
                bytes.extend((label.len() as u16).to_be_bytes());
                bytes.extend([0, 0]);
                bytes.extend_from_slice(label);
                bytes
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::mutate::Mutator;

    #[test]
    fn what_is_written_is_read() {
        for unordered in [false, true] {
            for limit in [
                Limit::Never,
                Limit::Retransmissions(0),
                Limit::Milliseconds(150),
            ] {
                let reliability = Reliability { unordered, limit };
                let open = Message::Open {
                    reliability,
                    label: b"_lossy",
                };
                assert_eq!(Message::parse(&open.write()), Some(open));
            }
        }
        assert_eq!(Message::parse(&Message::Ack.write()), Some(Message::Ack));
    }

    #[test]
    fn the_layout_is_that_of_rfc_8832() {
        let limit = Limit::Retransmissions(0);
        let reliability = Reliability {
            unordered: true,
            limit,
        };
        let bytes = Message::Open {
            reliability,
            label: b"ab",
        }
        .write();
        assert_eq!(bytes, [3, 0x81, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, b'a', b'b']);
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        let limit = Limit::Never;
        let reliability = Reliability {
            unordered: false,
            limit,
        };
        let bytes = Message::Open {
            reliability,
            label: b"_reliable",
        }
        .write();
        for length in 0..bytes.len() {
            assert_eq!(Message::parse(&bytes[..length]), None);
        }
        let mut random = Mutator::new(8832);
        for _ in 0..20_000 {
            if let Some(Message::Open { label, .. }) = Message::parse(&random.mutate(&bytes)) {
                assert!(label.len() < 200);
            }
        }
    }
}
