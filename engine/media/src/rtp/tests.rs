#![allow(clippy::disallowed_methods)] // any instant will do as a test's origin

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::rtcp::{
    Compound, Feedback, NtpTime, ReportBlock, RtcpError, RtcpPacket, RtcpWriter, SenderReport,
};
use super::twcc::{Arrival, Arrivals};
use super::*;
use crate::mutate::{Random, mutate};

fn fields() -> RtpFields {
    RtpFields {
        payload_type: 111,
        marker: true,
        sequence: 0xFFFE,
        timestamp: 0xDEAD_BEEF,
        ssrc: 0x1234_5678,
    }
}

#[test]
fn a_packet_is_laid_out_as_in_rfc_3550_and_rfc_8285() {
    let mut buffer = [0xEE; 64];
    let mut writer = PacketWriter::start(&mut buffer, &fields(), ExtensionForm::OneByte).unwrap();
    writer.csrc(7).unwrap();
    writer.extension(1, &[0x85]).unwrap();
    writer.extension(3, &[0xAB, 0xCD]).unwrap();
    writer.payload(b"he").unwrap();
    writer.payload(b"llo").unwrap();
    writer.pad(3).unwrap();
    let len = writer.finish();
    let expected = [
        0xB1, 0xEF, 0xFF, 0xFE, 0xDE, 0xAD, 0xBE, 0xEF, 0x12, 0x34, 0x56, 0x78, 0, 0, 0, 7, 0xBE,
        0xDE, 0, 2, 0x10, 0x85, 0x31, 0xAB, 0xCD, 0, 0, 0, b'h', b'e', b'l', b'l', b'o', 0, 0, 3,
    ];
    assert_eq!(buffer[..len], expected);
    let header = RtpHeader::parse(&buffer[..len]).unwrap();
    assert_eq!(header.payload(&buffer), b"hello");
    assert_eq!(header.padding, 3);
    assert_eq!(header.csrcs(&buffer).collect::<Vec<_>>(), [7]);
    assert_eq!(header.fields(), fields());
    let protected = RtpHeader::parse_protected(&buffer[..len]).unwrap();
    assert_eq!(protected.payload(&buffer).len(), 8);
}

#[test]
fn faulty_packets_have_reasons() {
    let parse = |bytes: &[u8]| RtpHeader::parse(bytes).unwrap_err();
    let mut packet = [0; 20];
    packet[0] = 0x80;
    assert!(RtpHeader::parse(&packet).is_ok());
    assert_eq!(parse(&packet[..11]), RtpError::Short);
    assert_eq!(parse(&[]), RtpError::Short);
    packet[0] = 0x40;
    assert_eq!(parse(&packet), RtpError::Version);
    packet[0] = 0x83;
    assert_eq!(parse(&packet), RtpError::Csrc);
    packet[0] = 0x92;
    assert_eq!(parse(&packet), RtpError::Extension);
    packet[0] = 0x90;
    packet[15] = 2;
    assert_eq!(parse(&packet), RtpError::Extension);
    packet[15] = 1;
    assert!(RtpHeader::parse(&packet).is_ok());
    packet[0] = 0xA0;
    assert_eq!(parse(&packet), RtpError::Padding);
    packet[19] = 9;
    assert_eq!(parse(&packet), RtpError::Padding);
    packet[19] = 8;
    assert_eq!(RtpHeader::parse(&packet).unwrap().payload_len(), 0);
    let mut long = vec![0; packet::MAX_PACKET + 1];
    long[0] = 0x80;
    assert_eq!(parse(&long), RtpError::Long);
    for (index, reason) in RtpError::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, index);
    }
    for (index, reason) in RtcpError::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, index);
    }
}

#[test]
fn a_writer_refuses_what_does_not_fit() {
    let mut buffer = [0; 24];
    fn start(buffer: &mut [u8]) -> Result<PacketWriter<'_>, WriteError> {
        PacketWriter::start(buffer, &fields(), ExtensionForm::OneByte)
    }
    assert_eq!(start(&mut [0; 11]).err(), Some(WriteError::Full));
    let mut writer = start(&mut buffer).unwrap();
    assert_eq!(writer.extension(0, &[1]), Err(WriteError::Element));
    assert_eq!(writer.extension(15, &[1]), Err(WriteError::Element));
    assert_eq!(writer.extension(1, &[]), Err(WriteError::Element));
    assert_eq!(writer.extension(1, &[0; 17]), Err(WriteError::Element));
    assert_eq!(writer.extension(1, &[0; 8]), Err(WriteError::Full));
    writer.extension(1, &[1]).unwrap();
    assert_eq!(writer.csrc(1), Err(WriteError::Order));
    writer.payload(&[1; 4]).unwrap();
    assert_eq!(writer.extension(1, &[1]), Err(WriteError::Order));
    assert_eq!(writer.payload(&[1]), Err(WriteError::Full));
    assert_eq!(writer.pad(1), Err(WriteError::Full));
    assert_eq!(writer.finish(), 24);

    let mut buffer = [0; 100];
    let mut writer = start(&mut buffer).unwrap();
    for source in 0..15 {
        writer.csrc(source).unwrap();
    }
    assert_eq!(writer.csrc(15), Err(WriteError::Range));
    writer.pad(4).unwrap();
    assert_eq!(writer.pad(4), Err(WriteError::Order));
    assert_eq!(writer.payload(&[1]), Err(WriteError::Order));
}

#[test]
fn known_elements_are_read() {
    let ids = ExtensionIds {
        audio_level: Some(1),
        mid: Some(4),
        rid: Some(10),
        repaired_rid: Some(11),
        abs_send_time: Some(2),
        transport_cc: Some(3),
    };
    for form in [ExtensionForm::OneByte, ExtensionForm::TwoByte] {
        let mut buffer = [0; 100];
        let mut writer = PacketWriter::start(&mut buffer, &fields(), form).unwrap();
        let level = AudioLevel {
            voice: true,
            level: 31,
        };
        let send_time = AbsSendTime::from_elapsed(Duration::from_millis(64_500));
        writer.extension(1, &level.to_bytes()).unwrap();
        writer.extension(2, &send_time.to_bytes()).unwrap();
        writer.extension(3, &0xABCD_u16.to_be_bytes()).unwrap();
        writer.extension(4, b"17").unwrap();
        writer.extension(10, b"q").unwrap();
        writer.extension(11, b"h").unwrap();
        writer.extension(14, b"other").unwrap();
        let len = writer.finish();
        let header = RtpHeader::parse(&buffer[..len]).unwrap();
        let values = ExtensionValues::read(&header, &buffer[..len], &ids);
        assert_eq!(values.audio_level, Some(level));
        // Half a second, modulo 64 s, in 18 fraction bits.
        assert_eq!(values.abs_send_time, Some(AbsSendTime(1 << 17)));
        assert_eq!(values.transport_sequence, Some(0xABCD));
        assert_eq!(values.mid.unwrap().as_str(), "17");
        assert_eq!(values.rid, Some("q".parse().unwrap()));
        assert_eq!(values.repaired_rid, Some("h".parse().unwrap()));
        assert_eq!(
            ExtensionValues::read(&header, &buffer[..len], &ExtensionIds::default()),
            ExtensionValues::default()
        );
    }
    assert_eq!(
        AbsSendTime::from_elapsed(Duration::new(63, 999_999_999)).0,
        0xFF_FFFF
    );
    assert_eq!(Label::read(b"a b"), None);
    assert_eq!(Label::read(b""), None);
    assert_eq!(Label::read(&[b'x'; 17]), None);
    assert_eq!("é".parse::<Label>(), Err(ext::LabelError));
}

#[test]
fn elements_of_both_forms_end_where_the_rfc_says() {
    let read = |profile, block: &[u8]| {
        Extensions::new(profile, block)
            .map(|e| (e.id, e.value.len()))
            .collect::<Vec<_>>()
    };
    // Padding between, a reserved id 15 that ends it, id 0 with a length skipped.
    assert_eq!(read(0xBEDE, &[0, 0x11, 1, 2, 0, 0x20, 7]), [(1, 2), (2, 1)]);
    assert_eq!(read(0xBEDE, &[0x10, 1, 0xF0, 1, 0x20, 1]), [(1, 1)]);
    assert_eq!(read(0xBEDE, &[0x01, 9, 9, 0x20, 1]), [(2, 1)]);
    assert_eq!(read(0xBEDE, &[0x13, 1, 2]), []);
    assert_eq!(read(0x1000, &[1, 0, 0, 2, 1, 9, 3]), [(1, 0), (2, 1)]);
    assert_eq!(read(0x100F, &[1, 2, 9]), []);
    assert_eq!(read(0x2000, &[0x10, 1]), []);
}

#[test]
fn retransmissions_are_unwrapped() {
    let mut buffer = [0; 64];
    let mut writer = PacketWriter::start(&mut buffer, &fields(), ExtensionForm::OneByte).unwrap();
    writer.extension(4, b"1").unwrap();
    writer.payload(&rtx::osn(0xFFF0)).unwrap();
    writer.payload(b"media").unwrap();
    writer.pad(2).unwrap();
    let len = writer.finish();
    let header = RtpHeader::parse(&buffer[..len]).unwrap();
    let original = rtx::decapsulate(&header, &buffer[..len], 42, 96).unwrap();
    assert_eq!(
        (original.ssrc, original.payload_type, original.sequence),
        (42, 96, 0xFFF0)
    );
    assert_eq!(original.payload(&buffer), b"media");
    assert!(original.marker);

    let mut writer = PacketWriter::start(&mut buffer, &fields(), ExtensionForm::OneByte).unwrap();
    writer.pad(200).unwrap_err();
    writer.pad(20).unwrap();
    let len = writer.finish();
    let header = RtpHeader::parse(&buffer[..len]).unwrap();
    let probe = rtx::decapsulate(&header, &buffer[..len], 42, 96);
    assert_eq!(probe, Err(RtpError::Retransmission));
}

proptest! {
    #[test]
    fn written_packets_parse_the_same(
        payload_type in 0..128u8, marker: bool, sequence: u16, timestamp: u32, ssrc: u32,
        csrcs in prop::collection::vec(any::<u32>(), 0..16),
        two_byte: bool,
        elements in prop::collection::vec(
            (1..15u8, prop::collection::vec(any::<u8>(), 1..17)), 0..12),
        payload in prop::collection::vec(any::<u8>(), 0..1200),
        padding: u8,
    ) {
        let fields = RtpFields { payload_type, marker, sequence, timestamp, ssrc };
        let form = if two_byte { ExtensionForm::TwoByte } else { ExtensionForm::OneByte };
        let mut buffer = [0xFF; 2000];
        let mut writer = PacketWriter::start(&mut buffer, &fields, form).unwrap();
        for source in &csrcs {
            writer.csrc(*source).unwrap();
        }
        for (id, value) in &elements {
            writer.extension(*id, value).unwrap();
        }
        writer.payload(&payload).unwrap();
        writer.pad(padding).unwrap();
        let len = writer.finish();
        let packet = &buffer[..len];
        let header = RtpHeader::parse(packet).unwrap();
        prop_assert_eq!(header.fields(), fields);
        prop_assert_eq!(header.csrcs(packet).collect::<Vec<_>>(), csrcs);
        let read: Vec<(u8, Vec<u8>)> =
            header.extensions(packet).map(|e| (e.id, e.value.to_vec())).collect();
        prop_assert_eq!(read, elements);
        prop_assert_eq!(header.payload(packet), &payload[..]);
        prop_assert_eq!(header.padding, padding);
    }

    #[test]
    fn extension_follows_the_nearest(start: u16, steps in prop::collection::vec(-3000..3000i64, 1..200)) {
        let mut extender = SequenceExtender::default();
        let mut number = i64::from(extender.extend(start) as u32);
        let mut highest = number;
        for step in steps {
            number = (number + step).max(highest - 30_000).max(0);
            prop_assert_eq!(extender.peek(number as u16), number as u64);
            prop_assert_eq!(extender.extend(number as u16), number as u64);
            highest = highest.max(number);
            prop_assert_eq!(extender.highest(), Some(highest as u64));
        }
    }

    /// A source loses, reorders, repeats and is filtered and switched: no outgoing number is
    /// given twice; once everything that was lost has come late, none is missing.
    #[test]
    fn renumbering_leaves_no_gap_and_never_repeats(
        first in 0..100_000u64,
        runs in prop::collection::vec(
            (any::<u32>(), prop::collection::vec((0..10u8, 0..6usize), 1..120)), 1..5),
    ) {
        let mut renumber = Renumber::new(first);
        let mut given = Vec::new();
        for (start, packets) in runs {
            renumber.switch();
            let mut late: Vec<u64> = Vec::new();
            let mut started = false;
            for (offset, (fate, delay)) in packets.into_iter().enumerate() {
                let source = u64::from(start) + offset as u64;
                match fate {
                    // Left out on purpose, by the time it arrives in order.
                    0..3 => renumber.omit(source),
                    // Lost for now: before the first packet sent nothing can come late.
                    3..5 if started => late.push(source),
                    _ => {
                        given.push(renumber.forward(source).expect("new and newest"));
                        started = true;
                        prop_assert_eq!(renumber.forward(source), None);
                    }
                }
                if delay == 0 && let Some(source) = late.pop() {
                    given.extend(renumber.forward(source));
                    prop_assert_eq!(renumber.forward(source), None);
                }
            }
            while let Some(source) = late.pop() {
                // The stream's last packets may be lost without anyone knowing.
                given.push(renumber.forward(source).expect("in the window"));
                prop_assert_eq!(renumber.forward(source), None);
            }
        }
        let count = given.len() as u64;
        given.sort_unstable();
        given.dedup();
        prop_assert_eq!(given.len() as u64, count, "repeated");
        if let (Some(lowest), Some(highest)) = (given.first(), given.last()) {
            prop_assert_eq!(*lowest, first);
            prop_assert_eq!(*highest, first + count - 1, "gap");
        }
    }

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

#[test]
fn history_answers_within_bounds() {
    let start = Instant::now();
    let rtt = Duration::from_millis(50);
    let mut history = SendHistory::new(100);
    for sequence in 0..200u16 {
        history.insert(sequence, start, usize::from(sequence));
    }
    assert_eq!(
        history.find(71).map(|sent| sent.handle),
        None,
        "128 are kept"
    );
    assert_eq!(history.find(72).map(|sent| sent.handle), Some(72));
    assert_eq!(
        history.resend(199, start, rtt),
        Some(&199),
        "the first time at once"
    );
    assert_eq!(
        history.resend(199, start + rtt / 2, rtt),
        None,
        "still on its way"
    );
    let mut now = start + rtt;
    let mut times = 1;
    while history.resend(199, now, rtt).is_some() {
        now += rtt;
        times += 1;
    }
    assert_eq!(times, history::MAX_RESENT);
    history.forget_before(now - rtt);
    assert!(history.find(72).is_none());
    assert!(history.find(199).is_some(), "sent again lately");
    history.clear();
    assert!(history.find(199).is_none());
}

#[test]
fn numbers_inserted_between_are_not_given_to_late_packets() {
    let mut renumber = Renumber::new(100);
    assert_eq!(renumber.forward(10), Some(100));
    assert_eq!(renumber.forward(12), Some(102));
    assert_eq!(renumber.insert(), 103);
    assert_eq!(renumber.forward(11), None);
    assert_eq!(renumber.forward(14), Some(105));
    assert_eq!(renumber.forward(13), Some(104));
    // Far ahead, and just outside the window then.
    assert_eq!(renumber.forward(14 + 5000), Some(5105));
    assert_eq!(renumber.forward(14 + 5000 - 1023), Some(5105 - 1023));
    assert_eq!(renumber.forward(14 + 5000 - 1024), None);
    assert_eq!(renumber.next(), 5106);
}

#[test]
fn timestamps_continue_across_sources() {
    let mut map = TimestampMap::default();
    assert_eq!(map.map(7), 7);
    map.align(u32::MAX, 1000);
    assert_eq!(map.map(u32::MAX), 1000);
    assert_eq!(map.map(2999), 4000);
}

/// Reads everything a packet offers.
fn read_rtp(bytes: &[u8]) -> usize {
    let Ok(header) = RtpHeader::parse(bytes) else {
        return 0;
    };
    let ids = ExtensionIds {
        audio_level: Some(1),
        mid: Some(4),
        rid: Some(10),
        repaired_rid: Some(11),
        abs_send_time: Some(2),
        transport_cc: Some(3),
    };
    let values = ExtensionValues::read(&header, bytes, &ids);
    let _ = rtx::decapsulate(&header, bytes, 1, 2);
    assert_eq!(header.payload(bytes).len(), header.payload_len());
    header.extensions(bytes).count()
        + header.csrcs(bytes).count()
        + usize::from(values.mid.is_some())
}

#[test]
fn mutated_rtp_does_no_harm() {
    let mut random = Random::new(1);
    let mut read = 0;
    for form in [ExtensionForm::OneByte, ExtensionForm::TwoByte] {
        let mut buffer = [0; 80];
        let mut writer = PacketWriter::start(&mut buffer, &fields(), form).unwrap();
        writer.csrc(1).unwrap();
        writer.extension(1, &[3]).unwrap();
        writer.extension(4, b"mid").unwrap();
        writer.payload(b"payload").unwrap();
        writer.pad(4).unwrap();
        let len = writer.finish();
        for _ in 0..20_000 {
            let mut bytes = buffer[..len].to_vec();
            mutate(&mut random, &mut bytes);
            read += read_rtp(&bytes);
        }
    }
    assert!(read > 10_000, "most mutations leave something to read");
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
