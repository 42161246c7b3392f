//! Compound packets: reports and feedback survive, faults have reasons.

#![allow(clippy::disallowed_methods)] // any instant will do as a test's origin

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::rtcp::{
    Compound, Feedback, NtpTime, ReportBlock, RtcpError, RtcpPacket, RtcpWriter, SenderReport,
};
use super::super::twcc::Arrivals;
use super::super::*;
use crate::mutate::{Random, mutate};

#[test]
fn reports_survive() {
    let report = SenderReport {
        ssrc: 1,
        ntp: NtpTime::from_unix(Duration::new(1_700_000_000, 500_000_000)),
        rtp_timestamp: 3,
        packets: 4,
        octets: 5,
    };
    assert_eq!(report.ntp.0, (3_908_988_800 << 32) | 0x8000_0000);
    let block = ReportBlock {
        ssrc: 9,
        fraction_lost: 128,
        cumulative_lost: -2,
        highest_sequence: 0x0001_0002,
        jitter: 77,
        last_sender_report: report.ntp.middle(),
        delay: 65_536,
    };
    let mut buffer = [0; 400];
    let mut writer = RtcpWriter::new(&mut buffer);
    writer.sender_report(&report, &[block, block]).unwrap();
    writer
        .receiver_report(
            2,
            &[ReportBlock {
                cumulative_lost: i32::MAX,
                ..block
            }],
        )
        .unwrap();
    for name in ["", "a", "ab", "abc", "abcd"] {
        writer.canonical_name(3, name).unwrap();
    }
    writer.goodbye(&[4, 5]).unwrap();
    let parties = Feedback {
        sender: 6,
        media: 7,
    };
    writer.pli(parties).unwrap();
    writer.fir(6, 7, 200).unwrap();
    writer.nack(parties, []).unwrap();
    assert_eq!(
        writer.receiver_report(2, &[block; 32]),
        Err(WriteError::Range)
    );
    let before = writer.len();
    assert_eq!(
        writer.receiver_report(2, &[block; 31]),
        Err(WriteError::Full)
    );
    assert_eq!(writer.len(), before);
    let len = writer.len();

    let compound = Compound::parse(&buffer[..len]).unwrap();
    let mut names = Vec::new();
    let mut seen = Vec::new();
    for packet in &compound {
        match packet.unwrap() {
            RtcpPacket::SenderReport(read, blocks) => {
                assert_eq!(read, report);
                assert_eq!(blocks.collect::<Vec<_>>(), [block, block]);
                seen.push("SR");
            }
            RtcpPacket::ReceiverReport { ssrc, mut blocks } => {
                assert_eq!(ssrc, 2);
                assert_eq!(blocks.next().unwrap().cumulative_lost, 0x7F_FFFF);
                seen.push("RR");
            }
            RtcpPacket::SourceDescription(chunks) => {
                names.extend(chunks.map(|(ssrc, name)| (ssrc, name.to_vec())));
            }
            RtcpPacket::Goodbye(sources) => {
                assert_eq!(sources.collect::<Vec<_>>(), [4, 5]);
                seen.push("BYE");
            }
            RtcpPacket::Pli(read) => {
                assert_eq!(read, parties);
                seen.push("PLI");
            }
            RtcpPacket::Fir(fir) => {
                assert_eq!(fir.parties.sender, 6);
                assert_eq!(fir.entries().collect::<Vec<_>>(), [(7, 200)]);
                seen.push("FIR");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, ["SR", "RR", "BYE", "PLI", "FIR"]);
    let texts: Vec<_> = names
        .iter()
        .map(|(_, name)| String::from_utf8_lossy(name))
        .collect();
    assert_eq!(texts, ["", "a", "ab", "abc", "abcd"]);

    // 1.25 s after the report left: a quarter second on the way.
    let now = NtpTime::from_unix(Duration::new(1_700_000_001, 750_000_000));
    assert_eq!(block.round_trip(now), Some(Duration::from_millis(250)));
    assert_eq!(
        block.round_trip(report.ntp),
        None,
        "before it can have been"
    );
    assert_eq!(ReportBlock::default().round_trip(now), None);
}

#[test]
fn bitrate_estimates_are_read() {
    let remb = |exponent: u8, mantissa: u32| {
        let mut bytes = vec![0x8F, 206, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0];
        bytes.extend(b"REMB");
        bytes.extend([1, (exponent << 2) | (mantissa >> 16) as u8]);
        bytes.extend([(mantissa >> 8) as u8, mantissa as u8, 0, 0, 0, 9]);
        let compound = Compound::parse(&bytes).unwrap();
        match compound.iter().next().unwrap().unwrap() {
            RtcpPacket::Remb(remb) => (remb.bitrate, remb.sources.collect::<Vec<_>>()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(remb(0, 250_000), (250_000, vec![9]));
    assert_eq!(remb(3, 0x3_FFFF).0, 0x3_FFFF << 3);
    assert_eq!(remb(63, 1).0, 1 << 63);
    assert_eq!(remb(63, 2).0, u64::MAX);
    assert_eq!(remb(63, 0).0, 0);
}

#[test]
fn faulty_compounds_have_reasons() {
    let parse = |bytes: &[u8]| Compound::parse(bytes).err();
    assert_eq!(parse(&[]), Some(RtcpError::Short));
    assert_eq!(parse(&[0x80, 201, 0]), Some(RtcpError::Short));
    assert_eq!(parse(&[0x40, 201, 0, 0]), Some(RtcpError::Version));
    assert_eq!(parse(&[0x80, 201, 0, 1]), Some(RtcpError::Length));
    let padded = [0xA0, 201, 0, 2, 0, 0, 0, 1, 0, 0, 0, 4];
    assert_eq!(parse(&padded), None);
    assert_eq!(parse(&[padded, padded].concat()), Some(RtcpError::Padding));
    assert_eq!(
        parse(&[0xA0, 201, 0, 1, 0, 0, 0, 8]),
        Some(RtcpError::Padding)
    );
    assert_eq!(
        parse(&vec![0; packet::MAX_PACKET + 1]),
        Some(RtcpError::Long)
    );
    let first = |bytes: &[u8]| Compound::parse(bytes).unwrap().iter().next().unwrap().err();
    assert_eq!(
        first(&[0x81, 201, 0, 1, 0, 0, 0, 1]),
        Some(RtcpError::Count)
    );
    assert_eq!(first(&[0x81, 203, 0, 0]), Some(RtcpError::Count));
    assert_eq!(
        first(&[0x81, 205, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1]),
        Some(RtcpError::Feedback)
    );
    // A bad packet does not hide the one after it.
    let two = [0x81, 203, 0, 0, 0x80, 201, 0, 1, 0, 0, 0, 1];
    let compound = Compound::parse(&two).unwrap();
    assert!(matches!(
        compound.iter().nth(1),
        Some(Ok(RtcpPacket::ReceiverReport { .. }))
    ));
    // Unknown packets are passed over.
    let other = [0x83, 207, 0, 0];
    let compound = Compound::parse(&other).unwrap();
    let packet = compound.iter().next().unwrap().unwrap();
    assert!(matches!(
        packet,
        RtcpPacket::Other {
            packet_type: 207,
            format: 3
        }
    ));
}

proptest! {
    #[test]
    fn nack_sequences_survive(mut wanted in prop::collection::btree_set(any::<u16>(), 1..200)) {
        let parties = Feedback { sender: 1, media: 2 };
        let mut buffer = [0; 1200];
        let mut writer = RtcpWriter::new(&mut buffer);
        writer.nack(parties, wanted.iter().copied()).unwrap();
        let len = writer.len();
        let compound = Compound::parse(&buffer[..len]).unwrap();
        let Some(Ok(RtcpPacket::Nack(nack))) = compound.iter().next() else {
            panic!("a NACK");
        };
        prop_assert_eq!(nack.parties, parties);
        for sequence in nack.sequences() {
            prop_assert!(wanted.remove(&sequence), "{} unasked", sequence);
        }
        prop_assert!(wanted.is_empty());
    }
}

/// Reads everything a compound packet offers; how much there was.
fn read_rtcp(bytes: &[u8]) -> usize {
    let Ok(compound) = Compound::parse(bytes) else {
        return 0;
    };
    let mut items = 0;
    for packet in &compound {
        items += match packet {
            Ok(RtcpPacket::SenderReport(_, blocks)) => blocks.count(),
            Ok(RtcpPacket::ReceiverReport { blocks, .. }) => blocks.count(),
            Ok(RtcpPacket::SourceDescription(chunks)) => chunks.count(),
            Ok(RtcpPacket::Goodbye(sources)) => sources.count(),
            Ok(RtcpPacket::Nack(nack)) => nack.sequences().count(),
            Ok(RtcpPacket::Fir(fir)) => fir.entries().count(),
            Ok(RtcpPacket::Remb(remb)) => remb.sources.count(),
            Ok(RtcpPacket::TransportFeedback(feedback)) => feedback.arrivals().count(),
            Ok(RtcpPacket::Pli(_) | RtcpPacket::Other { .. }) | Err(_) => 1,
        };
    }
    items
}

#[test]
fn mutated_rtcp_does_no_harm() {
    let parties = Feedback {
        sender: 6,
        media: 7,
    };
    let epoch = Instant::now();
    let mut arrivals = Arrivals::new(epoch);
    for sequence in [1, 2, 3, 5, 8, 40, 41, 42, 43, 44, 45, 46, 47, 48, 70] {
        arrivals.insert(
            sequence,
            epoch + Duration::from_millis(u64::from(sequence) * 20),
        );
    }
    let report = SenderReport {
        ssrc: 1,
        ntp: NtpTime(2),
        rtp_timestamp: 3,
        packets: 4,
        octets: 5,
    };
    let block = ReportBlock::default();
    let write: [&dyn Fn(&mut RtcpWriter<'_>); 5] = [
        &|writer| writer.sender_report(&report, &[block]).unwrap(),
        &|writer| writer.canonical_name(3, "name").unwrap(),
        &|writer| writer.nack(parties, [1, 3, 17, 40]).unwrap(),
        &|writer| {
            writer.goodbye(&[4, 5]).unwrap();
            writer.fir(6, 7, 200).unwrap();
            writer.pli(parties).unwrap();
        },
        &|writer| {
            assert!(
                writer
                    .transport_feedback(parties, &mut arrivals.clone())
                    .unwrap()
            );
        },
    ];
    let mut random = Random::new(2);
    for write in write {
        let mut buffer = [0; 400];
        let mut writer = RtcpWriter::new(&mut buffer);
        write(&mut writer);
        let len = writer.len();
        let mut read = 0;
        for _ in 0..20_000 {
            let mut bytes = buffer[..len].to_vec();
            mutate(&mut random, &mut bytes);
            let items = read_rtcp(&bytes);
            // What a packet makes us do is bounded by its length.
            assert!(
                items <= 8 * bytes.len() + 8,
                "{items} items in {} bytes",
                bytes.len()
            );
            read += items;
        }
        assert!(read > 1000, "some mutations leave something to read");
    }
}
