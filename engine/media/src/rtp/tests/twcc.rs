//! Transport-wide feedback tells what arrived and when, as the draft lays it out.

#![allow(clippy::disallowed_methods)] // any instant will do as a test's origin

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::rtcp::{Compound, Feedback, RtcpPacket, RtcpWriter};
use super::super::twcc::{Arrival, Arrivals};

proptest! {
    /// Arrivals in any order with losses, jumps and pauses come out of the messages as they
    /// went in; what a message says was lost never arrived before it was written.
    #[test]
    fn transport_feedback_tells_what_arrived(
        start: u16,
        packets in prop::collection::vec((0..10u8, 0..40_000u64), 1..400),
        room in 60..1000usize,
    ) {
        let epoch = Instant::now();
        let mut arrivals = Arrivals::new(epoch);
        let mut clock = Duration::from_secs(1);
        let mut held: Option<u16> = None;
        let mut expected: Vec<(u16, i64)> = Vec::new();
        let mut told: Vec<(u16, i64)> = Vec::new();
        let mut arrive = |arrivals: &mut Arrivals, clock: Duration, sequence: u16| {
            arrivals.insert(sequence, epoch + clock);
            expected.push((sequence, (clock.as_micros() / 250) as i64));
        };
        for (offset, (fate, micros)) in packets.iter().enumerate() {
            clock += Duration::from_micros(*micros);
            let sequence = start.wrapping_add(offset as u16);
            match fate {
                0 => {}
                1 if held.is_none() => held = Some(sequence),
                _ => arrive(&mut arrivals, clock, sequence),
            }
            if *fate == 9 && let Some(sequence) = held.take() {
                clock += Duration::from_micros(500);
                arrive(&mut arrivals, clock, sequence);
            }
            if *fate == 5 {
                read_feedback(&mut arrivals, room, &mut told);
            }
        }
        read_feedback(&mut arrivals, room, &mut told);
        expected.sort_unstable();
        told.sort_unstable();
        // A late arrival makes the messages go back and tell its successors again.
        told.dedup();
        prop_assert_eq!(told, expected);
    }
}

/// Writes messages until nothing is pending, and reads each.
fn read_feedback(arrivals: &mut Arrivals, room: usize, told: &mut Vec<(u16, i64)>) {
    let parties = Feedback {
        sender: 1,
        media: 2,
    };
    while arrivals.is_pending() {
        let mut buffer = vec![0; room];
        let mut writer = RtcpWriter::new(&mut buffer);
        assert_eq!(writer.transport_feedback(parties, arrivals), Ok(true));
        let len = writer.len();
        let compound = Compound::parse(&buffer[..len]).unwrap();
        let packet = compound.iter().next().unwrap().unwrap();
        let RtcpPacket::TransportFeedback(feedback) = packet else {
            panic!("transport feedback");
        };
        assert_eq!(feedback.parties, parties);
        let before = told.len();
        told.extend(
            feedback
                .arrivals()
                .map(|Arrival { sequence, ticks }| (sequence, ticks)),
        );
        assert!(
            told.len() > before,
            "a message reports at least one arrival"
        );
        assert!(told.len() - before <= usize::from(feedback.count));
    }
    let mut buffer = [0; 100];
    let mut writer = RtcpWriter::new(&mut buffer);
    assert_eq!(writer.transport_feedback(parties, arrivals), Ok(false));
    assert!(writer.is_empty());
}

/// A message by hand, with every kind of chunk (draft §3.1).
#[test]
fn transport_feedback_is_read_from_the_draft() {
    let bytes = [
        0x8F,
        205,
        0,
        8,
        0,
        0,
        0,
        1,
        0,
        0,
        0,
        2, // parties 1 and 2
        0xFF,
        0xFE,
        0,
        26, // base 65534, 26 statuses
        0,
        0,
        2,
        7, // reference 2 * 64 ms, message 7
        0x00,
        0x03, // run: 3 lost
        0x20,
        0x02, // run: 2 small
        0b1010_0000,
        0b0000_0001, // one bit each: small, 12 lost, small
        0b1110_0100,
        0b0000_0000, // two bits each: large, small, 5 lost
        4,
        8,
        255,
        0,
        0xFF,
        0xFC,
        16, // 4, 8; 255, 0; large -4, small 16
        0,  // padding to a word
    ];
    let mut bytes = bytes.to_vec();
    bytes[3] = (bytes.len() / 4 - 1) as u8;
    let compound = Compound::parse(&bytes).unwrap();
    let Some(Ok(RtcpPacket::TransportFeedback(feedback))) = compound.iter().next() else {
        panic!("transport feedback");
    };
    assert_eq!(
        (feedback.base_sequence, feedback.count, feedback.message),
        (65534, 26, 7)
    );
    let arrivals: Vec<_> = feedback
        .arrivals()
        .map(|a| (a.sequence, a.ticks - 512))
        .collect();
    assert_eq!(
        arrivals,
        [(1, 4), (2, 12), (3, 267), (16, 267), (17, 263), (18, 279)]
    );
}

#[test]
fn long_pauses_and_jumps_are_told_in_pieces() {
    let epoch = Instant::now();
    let mut arrivals = Arrivals::new(epoch);
    let mut told = Vec::new();
    arrivals.insert(10, epoch + Duration::from_secs(1));
    arrivals.insert(11, epoch + Duration::from_secs(20));
    arrivals.insert(11, epoch + Duration::from_secs(21));
    read_feedback(&mut arrivals, 1200, &mut told);
    assert_eq!(told, [(10, 4000), (11, 80_000)]);
    // A jump past everything remembered, and one behind it.
    told.clear();
    arrivals.insert(5000, epoch + Duration::from_secs(22));
    arrivals.insert(12, epoch + Duration::from_secs(22));
    read_feedback(&mut arrivals, 1200, &mut told);
    assert_eq!(told, [(5000, 88_000)]);
}
