//! RFC 5769 vectors, answers, and mutated requests.

use super::*;
use crate::transport::stun_local_ufrag;

/// RFC 5769 §2.1, 2.2 and 2.3 are made with this password.
const PWD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

/// RFC 5769 §2.1: a binding request with SOFTWARE, PRIORITY, ICE-CONTROLLED, USERNAME.
const REQUEST: [u8; 108] = [
    0x00, 0x01, 0x00, 0x58, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86,
    0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x10, 0x53, 0x54, 0x55, 0x4e, 0x20, 0x74, 0x65, 0x73,
    0x74, 0x20, 0x63, 0x6c, 0x69, 0x65, 0x6e, 0x74, 0x00, 0x24, 0x00, 0x04, 0x6e, 0x00, 0x01, 0xff,
    0x80, 0x29, 0x00, 0x08, 0x93, 0x2f, 0xf9, 0xb1, 0x51, 0x26, 0x3b, 0x36, 0x00, 0x06, 0x00, 0x09,
    0x65, 0x76, 0x74, 0x6a, 0x3a, 0x68, 0x36, 0x76, 0x59, 0x20, 0x20, 0x20, 0x00, 0x08, 0x00, 0x14,
    0x9a, 0xea, 0xa7, 0x0c, 0xbf, 0xd8, 0xcb, 0x56, 0x78, 0x1e, 0xf2, 0xb5, 0xb2, 0xd3, 0xf2, 0x49,
    0xc1, 0xb5, 0x71, 0xa2, 0x80, 0x28, 0x00, 0x04, 0xe5, 0x7a, 0x3b, 0xcf,
];

/// RFC 5769 §2.2: the answer, mapped address 192.0.2.1:32853.
const RESPONSE_V4: [u8; 80] = [
    0x01, 0x01, 0x00, 0x3c, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86,
    0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x0b, 0x74, 0x65, 0x73, 0x74, 0x20, 0x76, 0x65, 0x63,
    0x74, 0x6f, 0x72, 0x20, 0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43,
    0x00, 0x08, 0x00, 0x14, 0x2b, 0x91, 0xf5, 0x99, 0xfd, 0x9e, 0x90, 0xc3, 0x8c, 0x74, 0x89, 0xf9,
    0x2a, 0xf9, 0xba, 0x53, 0xf0, 0x6b, 0xe7, 0xd7, 0x80, 0x28, 0x00, 0x04, 0xc0, 0x7d, 0x4c, 0x96,
];

/// RFC 5769 §2.3: the answer, mapped address [2001:db8:1234:5678:11:2233:4455:6677]:32853.
const RESPONSE_V6: [u8; 92] = [
    0x01, 0x01, 0x00, 0x48, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86,
    0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x0b, 0x74, 0x65, 0x73, 0x74, 0x20, 0x76, 0x65, 0x63,
    0x74, 0x6f, 0x72, 0x20, 0x00, 0x20, 0x00, 0x14, 0x00, 0x02, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa,
    0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25, 0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9, 0x00, 0x08, 0x00, 0x14,
    0xa3, 0x82, 0x95, 0x4e, 0x4b, 0xe6, 0x7b, 0xf1, 0x17, 0x84, 0xc9, 0x7c, 0x82, 0x92, 0xc2, 0x75,
    0xbf, 0xe3, 0xed, 0x41, 0x80, 0x28, 0x00, 0x04, 0xc8, 0xfb, 0x0b, 0x4c,
];

fn credentials() -> IceCredentials {
    IceCredentials {
        ufrag: "evtj".into(),
        pwd: PWD.into(),
    }
}

#[test]
fn the_request_of_rfc_5769_is_read_and_authentic() {
    let request = BindingRequest::parse(&REQUEST).unwrap();
    assert_eq!(
        (request.local_ufrag, request.remote_ufrag),
        ("evtj", "h6vY")
    );
    assert!(request.is_authentic(PWD));
    assert!(!request.is_authentic("VOkJxbRl1RmTxUk/WvJxBT"));
    assert!(request.is_controlled);
    assert!(!request.use_candidate);
    assert_eq!(request.unknown_required, None);
    assert_eq!(stun_local_ufrag(&REQUEST), Some("evtj"));
}

#[test]
fn the_responses_of_rfc_5769_verify_and_carry_the_address_we_would_write() {
    let transaction: TransactionId = REQUEST[8..20].try_into().unwrap();
    for (response, address) in [
        (&RESPONSE_V4[..], "192.0.2.1:32853"),
        (
            &RESPONSE_V6[..],
            "[2001:db8:1234:5678:11:2233:4455:6677]:32853",
        ),
    ] {
        let integrity_at = response.len() - 32;
        assert!(integrity_holds(response, integrity_at, PWD));
        assert_eq!(
            fingerprint(&response[..response.len() - 8]),
            response[response.len() - 4..]
        );

        let ours = binding_success(transaction, address.parse().unwrap(), &credentials());
        assert_eq!(
            attribute_at(&ours, 20),
            attribute_at(response, 36),
            "{address}"
        );
        assert!(integrity_holds(&ours, ours.len() - 32, PWD));
        assert_eq!(fingerprint(&ours[..ours.len() - 8]), ours[ours.len() - 4..]);
        assert_eq!(ours[8..20], transaction);
    }
}

#[test]
fn an_ipv4_peer_on_a_socket_for_both_families_learns_its_ipv4_address() {
    let mapped = binding_success(
        [1; 12],
        "[::ffff:192.0.2.1]:32853".parse().unwrap(),
        &credentials(),
    );
    let plain = binding_success([1; 12], "192.0.2.1:32853".parse().unwrap(), &credentials());
    assert_eq!(mapped, plain);
}

#[test]
fn the_foreign_parser_reads_our_answers() {
    use is::stun::StunMessage;

    let hmac = |key: &[u8], payloads: &[&[u8]]| {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
        let mut context = hmac::Context::with_key(&key);
        payloads.iter().for_each(|payload| context.update(payload));
        context.sign().as_ref().try_into().unwrap()
    };
    let transaction = [9; 12];
    let local = credentials();
    let from = "203.0.113.7:61000".parse().unwrap();

    let bytes = binding_success(transaction, from, &local);
    let message = StunMessage::parse(&bytes).unwrap();
    assert!(message.is_successful_binding_response());
    assert_eq!(message.mapped_address(), Some(from));
    assert!(message.verify(PWD.as_bytes(), hmac));

    let bytes = role_conflict(transaction, &local);
    let message = StunMessage::parse(&bytes).unwrap();
    assert_eq!(message.error_code(), Some((487, "Role Conflict")));
    assert!(message.verify(PWD.as_bytes(), hmac));

    let bytes = unknown_attribute(transaction, 0x7777, &local);
    let message = StunMessage::parse(&bytes).unwrap();
    assert_eq!(message.error_code(), Some((420, "Unknown Attribute")));
}

#[test]
fn a_changed_bit_is_refused_or_not_authentic() {
    // Only the type of FINGERPRINT (bytes 100 and 101) may change: behind MESSAGE-INTEGRITY an
    // unknown attribute is ignored.
    for bit in 0..REQUEST.len() * 8 {
        let mut message = REQUEST;
        message[bit / 8] ^= 1 << (bit % 8);
        let accepted =
            BindingRequest::parse(&message).is_ok_and(|request| request.is_authentic(PWD));
        assert_eq!(accepted, (800..816).contains(&bit), "bit {bit}");
    }
}

#[test]
fn requests_lacking_what_ice_needs_are_malformed() {
    // Without FINGERPRINT (allowed) and without each of the mandatory attributes (not).
    let attributes: [&[u8]; 4] = [
        &REQUEST[40..48],
        &REQUEST[48..60],
        &REQUEST[60..76],
        &REQUEST[76..100],
    ];
    for missing in 0..=attributes.len() {
        let mut message = REQUEST[..20].to_vec();
        for (index, attribute) in attributes.iter().enumerate() {
            if index != missing {
                message.extend_from_slice(attribute);
            }
        }
        let length = (message.len() - 20) as u16;
        message[2..4].copy_from_slice(&length.to_be_bytes());
        let is_read = BindingRequest::parse(&message).is_ok();
        // ICE-CONTROLLED (index 1) may be absent for our purposes, the others may not.
        assert_eq!(
            is_read,
            missing == 1 || missing == attributes.len(),
            "{missing}"
        );
    }
}

#[test]
fn other_stun_messages_are_unexpected() {
    for kind in [
        BINDING_INDICATION,
        BINDING_SUCCESS,
        BINDING_ERROR,
        0x0003,
        0x3FFF,
    ] {
        let mut message = REQUEST;
        message[..2].copy_from_slice(&kind.to_be_bytes());
        assert_eq!(
            BindingRequest::parse(&message).unwrap_err(),
            DatagramRefusal::StunUnexpected,
            "{kind:04x}"
        );
    }
}

#[test]
fn mutated_requests_never_panic_and_never_authenticate() {
    let mut random = crate::transport::mutate::Mutator::new(0x5769);
    for _ in 0..20_000 {
        let message = random.mutate(&REQUEST);
        if message == REQUEST {
            continue;
        }
        let _ = stun_local_ufrag(&message);
        if let Ok(request) = BindingRequest::parse(&message) {
            let is_covered_part_whole = message.get(4..100) == Some(&REQUEST[4..100]);
            assert!(!request.is_authentic(PWD) || is_covered_part_whole);
        }
    }
}
