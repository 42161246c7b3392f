//! RTP packets: header, extension elements, retransmissions, and what is refused.

use std::time::Duration;

use proptest::prelude::*;

use super::super::rtcp::RtcpError;
use super::super::*;
use super::fields;
use crate::mutate::{Random, mutate};

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
