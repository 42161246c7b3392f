//! LiveKit `DataPacket` at wire level: who sent it is overwritten, everything else stays as it was.
//!
//! Packets are never decoded and encoded again, so that fields newer than this program reach
//! clients that know them. Sources: protobuf encoding guide; livekit_models.proto.

use bytes::{BufMut, Bytes, BytesMut};

/// `DataPacket.value.user`
const USER: u32 = 2;
/// `DataPacket.value.speaker`: only a server may say who speaks.
const SPEAKER: u32 = 3;
/// `DataPacket.participant_identity`
const IDENTITY: u32 = 4;
/// `DataPacket.destination_identities`
const DESTINATIONS: u32 = 5;
/// `DataPacket.value.metrics`
const METRICS: u32 = 8;
/// `DataPacket.sequence`
const SEQUENCE: u32 = 16;
/// `DataPacket.participant_sid`
const SID: u32 = 17;

/// `UserPacket.participant_sid` (deprecated, still read by clients when the outer one is empty)
const USER_SID: u32 = 1;
/// `UserPacket.participant_identity` (deprecated)
const USER_IDENTITY: u32 = 5;
/// `UserPacket.destination_identities` (deprecated)
const USER_DESTINATIONS: u32 = 6;

/// Identities one packet may name. More serves larger groups; each costs a lookup.
const MAX_DESTINATIONS: usize = 512;

/// Why a packet is not routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PacketError {
    /// Not protobuf, or of a wire type long dead (groups).
    Malformed,
    /// Names too many destinations.
    TooManyDestinations,
    /// Something only servers say.
    Forbidden,
}

/// A packet as it will be sent on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Patched {
    /// The same for every receiver.
    pub(crate) bytes: Bytes,
    /// Who shall get it; empty = everybody.
    pub(crate) destinations: Vec<String>,
    /// The sender's number of a reliable packet; 0 when it does not count.
    pub(crate) sequence: u32,
    /// Quality metrics: only for those with the right to them.
    pub(crate) metrics: bool,
}

/// One field of a message: its number, its whole encoding, its value when length-delimited.
struct Field<'a> {
    number: u32,
    raw: &'a [u8],
    value: Value<'a>,
}

enum Value<'a> {
    Varint(u64),
    Fixed,
    Bytes(&'a [u8]),
}

/// Walks the fields of a message; allocates nothing.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<Field<'a>>, PacketError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let start = self.rest;
        let mut at = 0;
        let tag = varint(start, &mut at)?;
        let number = u32::try_from(tag >> 3).map_err(|_| PacketError::Malformed)?;
        if number == 0 || number > 0x1fff_ffff {
            return Err(PacketError::Malformed);
        }
        let value = match tag & 7 {
            0 => Value::Varint(varint(start, &mut at)?),
            1 => {
                at += 8;
                Value::Fixed
            }
            2 => {
                let length = varint(start, &mut at)?;
                let length = usize::try_from(length).map_err(|_| PacketError::Malformed)?;
                let end = at.checked_add(length).ok_or(PacketError::Malformed)?;
                let value = start.get(at..end).ok_or(PacketError::Malformed)?;
                at = end;
                Value::Bytes(value)
            }
            5 => {
                at += 4;
                Value::Fixed
            }
            _ => return Err(PacketError::Malformed),
        };
        let raw = start.get(..at).ok_or(PacketError::Malformed)?;
        self.rest = &start[at..];
        Ok(Some(Field { number, raw, value }))
    }
}

/// Base-128 number of at most ten bytes.
fn varint(bytes: &[u8], at: &mut usize) -> Result<u64, PacketError> {
    let mut number = 0u64;
    for shift in (0..70).step_by(7) {
        let byte = *bytes.get(*at).ok_or(PacketError::Malformed)?;
        *at += 1;
        if shift == 63 && byte > 1 {
            return Err(PacketError::Malformed);
        }
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(PacketError::Malformed)
}

fn put_varint(out: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        out.put_u8((number as u8) | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

fn put_bytes(out: &mut BytesMut, field: u32, bytes: &[u8]) {
    put_varint(out, u64::from(field) << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.put_slice(bytes);
}

/// Rewrites a packet so that it says it comes from `identity` and `sid`, whatever it said.
///
/// Both are left out when empty (a hidden sender). Every other field, known or not, keeps its
/// bytes and its order.
///
/// # Errors
/// [`PacketError`]: the packet is dropped and counted.
pub(crate) fn patch(packet: &[u8], identity: &str, sid: &str) -> Result<Patched, PacketError> {
    let mut out = BytesMut::with_capacity(packet.len() + identity.len() + sid.len() + 12);
    let mut destinations = Vec::new();
    let mut user_destinations = Vec::new();
    let mut sequence = 0;
    let mut metrics = false;
    let mut fields = Fields { rest: packet };
    while let Some(field) = fields.next()? {
        match (field.number, &field.value) {
            (IDENTITY | SID, Value::Bytes(_)) => continue,
            (IDENTITY | SID, _) => return Err(PacketError::Malformed),
            (SPEAKER, _) => return Err(PacketError::Forbidden),
            (DESTINATIONS, Value::Bytes(name)) => destination(&mut destinations, name)?,
            (SEQUENCE, Value::Varint(number)) => sequence = *number as u32,
            (METRICS, _) => metrics = true,
            (USER, Value::Bytes(user)) => {
                let user = patch_user(user, &mut user_destinations)?;
                put_bytes(&mut out, USER, &user);
                continue;
            }
            _ => {}
        }
        out.put_slice(field.raw);
    }
    if !identity.is_empty() {
        put_bytes(&mut out, IDENTITY, identity.as_bytes());
    }
    if !sid.is_empty() {
        put_bytes(&mut out, SID, sid.as_bytes());
    }
    if destinations.is_empty() {
        destinations = user_destinations;
    }
    Ok(Patched {
        bytes: out.freeze(),
        destinations,
        sequence,
        metrics,
    })
}

/// A user packet without the sender names it carries.
fn patch_user(user: &[u8], destinations: &mut Vec<String>) -> Result<BytesMut, PacketError> {
    let mut out = BytesMut::with_capacity(user.len());
    let mut fields = Fields { rest: user };
    while let Some(field) = fields.next()? {
        match (field.number, &field.value) {
            (USER_SID | USER_IDENTITY, _) => continue,
            (USER_DESTINATIONS, Value::Bytes(name)) => destination(destinations, name)?,
            _ => {}
        }
        out.put_slice(field.raw);
    }
    Ok(out)
}

fn destination(destinations: &mut Vec<String>, name: &[u8]) -> Result<(), PacketError> {
    if destinations.len() == MAX_DESTINATIONS {
        return Err(PacketError::TooManyDestinations);
    }
    let name = std::str::from_utf8(name).map_err(|_| PacketError::Malformed)?;
    destinations.push(name.to_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::proto::{self, data_packet::Value as Kind};

    #[allow(deprecated)]
    fn sample() -> proto::DataPacket {
        proto::DataPacket {
            kind: 1,
            participant_identity: "mallory".to_owned(),
            participant_sid: "PA_mallory".to_owned(),
            destination_identities: vec!["bob".to_owned(), "carol".to_owned()],
            sequence: 7,
            value: Some(Kind::User(proto::UserPacket {
                participant_sid: "PA_mallory".to_owned(),
                participant_identity: "mallory".to_owned(),
                payload: vec![1, 2, 3],
                topic: Some("chat".to_owned()),
                ..Default::default()
            })),
        }
    }

    #[test]
    #[allow(deprecated)]
    fn the_sender_is_overwritten_and_the_rest_is_kept() {
        let patched = patch(&sample().encode_to_vec(), "alice", "PA_alice").unwrap();
        assert_eq!(patched.destinations, ["bob", "carol"]);
        assert_eq!(patched.sequence, 7);
        let seen = proto::DataPacket::decode(patched.bytes).unwrap();
        let mut expected = sample();
        expected.participant_identity = "alice".to_owned();
        expected.participant_sid = "PA_alice".to_owned();
        if let Some(Kind::User(user)) = &mut expected.value {
            user.participant_sid.clear();
            user.participant_identity.clear();
        }
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_hidden_sender_cannot_borrow_a_name() {
        let patched = patch(&sample().encode_to_vec(), "", "").unwrap();
        let text = String::from_utf8_lossy(&patched.bytes).into_owned();
        assert!(!text.contains("mallory"));
    }

    #[test]
    fn fields_newer_than_this_program_pass_through() {
        let mut bytes = sample().encode_to_vec();
        // Field 900, a string; field 901, fixed32; field 902, a number of ten bytes.
        bytes.extend([
            0xa2, 0x38, 2, b'h', b'i', 0xad, 0x38, 1, 2, 3, 4, 0xb0, 0x38,
        ]);
        bytes.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
        let patched = patch(&bytes, "alice", "PA_alice").unwrap();
        let tail = &bytes[bytes.len() - 23..];
        assert!(patched.bytes.windows(23).any(|window| window == tail));
    }

    #[test]
    #[allow(deprecated)]
    fn destinations_of_old_clients_count_when_there_are_no_others() {
        let mut packet = sample();
        packet.destination_identities.clear();
        if let Some(Kind::User(user)) = &mut packet.value {
            user.destination_identities = vec!["dan".to_owned()];
        }
        let patched = patch(&packet.encode_to_vec(), "alice", "PA_alice").unwrap();
        assert_eq!(patched.destinations, ["dan"]);
    }

    #[test]
    #[allow(deprecated)]
    fn only_the_server_says_who_speaks() {
        let packet = proto::DataPacket {
            value: Some(Kind::Speaker(proto::ActiveSpeakerUpdate::default())),
            ..Default::default()
        };
        assert_eq!(
            patch(&packet.encode_to_vec(), "a", "PA_a"),
            Err(PacketError::Forbidden)
        );
    }

    #[test]
    fn names_without_end_are_refused() {
        let packet = proto::DataPacket {
            destination_identities: vec!["x".to_owned(); MAX_DESTINATIONS + 1],
            ..Default::default()
        };
        assert_eq!(
            patch(&packet.encode_to_vec(), "a", "PA_a"),
            Err(PacketError::TooManyDestinations)
        );
    }

    /// Whatever the bytes, the patched packet decodes to one whose sender is ours or is refused.
    #[test]
    fn mutated_packets_never_panic_and_never_lie() {
        let seed = sample().encode_to_vec();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..20_000 {
            let mut bytes = seed.clone();
            for _ in 0..=next() % 4 {
                let at = (next() % bytes.len() as u64) as usize;
                match next() % 4 {
                    0 => bytes[at] ^= 1 << (next() % 8),
                    1 => bytes[at] = next() as u8,
                    2 => bytes.truncate(at.max(1)),
                    _ => bytes.insert(at, next() as u8),
                }
            }
            let Ok(patched) = patch(&bytes, "alice", "PA_alice") else {
                continue;
            };
            assert!(patched.bytes.len() <= bytes.len() + 25);
            if let Ok(seen) = proto::DataPacket::decode(patched.bytes.clone()) {
                assert_eq!(seen.participant_identity, "alice");
                assert_eq!(seen.participant_sid, "PA_alice");
                assert_eq!(seen.destination_identities.len(), {
                    let own = proto::DataPacket::decode(&bytes[..]);
                    own.map_or(seen.destination_identities.len(), |own| {
                        own.destination_identities.len()
                    })
                });
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn patching_twice_changes_nothing(bytes in proptest::collection::vec(0u8.., 0..200)) {
            if let Ok(once) = patch(&bytes, "alice", "PA_alice") {
                let twice = patch(&once.bytes, "alice", "PA_alice").unwrap();
                proptest::prop_assert_eq!(once, twice);
            }
        }
    }
}
