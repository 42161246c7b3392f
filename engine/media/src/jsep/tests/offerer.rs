//! The subscriber's connection: sections that come, go and are used again, and how answers
//! are matched to offers.

use proptest::prelude::*;

use super::*;

fn exchange(offerer: &mut Offerer) -> Accepted {
    let (id, offer) = offerer.offer(&local()).unwrap();
    offerer
        .answer(id, &offers::chromium_answer(&SUBSCRIBER, &offer))
        .unwrap()
}

#[test]
fn subscriber_offers_are_as_agreed_with_livekit() {
    let mut offerer = Offerer::new(7_000_000_002);
    assert!(offerer.needs_offer());
    let (id, first) = offerer.offer(&local()).unwrap();
    assert_eq!(id, 1);
    assert!(first.contains("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"));
    assert_eq!(first.matches("m=").count(), 1);
    assert_eq!(offerer.offer(&local()), None, "one at a time");
    let accepted = offerer
        .answer(1, &offers::chromium_answer(&SUBSCRIBER, &first))
        .unwrap();
    assert!(accepted.data && accepted.sections.is_empty());

    let audio = offerer.add(track(1, Codec::Opus)).unwrap();
    let video = offerer.add(track(2, Codec::Vp8)).unwrap();
    let mids: Vec<_> = offerer
        .tracks()
        .map(|(mid, t)| (mid, t.track_id.as_str()))
        .collect();
    assert_eq!(mids, [(audio, "TR_1"), (video, "TR_2")]);
    let (id, offer) = offerer.offer(&local()).unwrap();
    assert_eq!(id, 2);
    let expected = include_str!("subscriber_offer.sdp").replace('\n', "\r\n");
    assert_eq!(offer, expected, "\n{offer}");

    let accepted = offerer
        .answer(2, &offers::chromium_answer(&SUBSCRIBER, &offer))
        .unwrap();
    assert_eq!(accepted.refused, []);
    assert_eq!(
        accepted.sections,
        [
            SendSection {
                mid: audio,
                ssrc: 1001,
                codec: NegotiatedCodec {
                    codec: Codec::Opus,
                    payload_type: 111,
                    rtx_payload_type: None
                },
                extensions: ExtensionIds {
                    audio_level: Some(1),
                    abs_send_time: Some(2),
                    transport_cc: Some(3),
                    mid: Some(4),
                    ..ExtensionIds::default()
                },
            },
            SendSection {
                mid: video,
                ssrc: 1002,
                codec: NegotiatedCodec {
                    codec: Codec::Vp8,
                    payload_type: 96,
                    rtx_payload_type: Some(97)
                },
                extensions: ExtensionIds {
                    abs_send_time: Some(2),
                    transport_cc: Some(3),
                    mid: Some(4),
                    ..ExtensionIds::default()
                },
            },
        ]
    );
    assert!(!offerer.needs_offer());
}

#[test]
fn sections_are_reused_after_an_inactive_round() {
    let mut offerer = Offerer::new(1);
    let first = offerer.add(track(1, Codec::Vp8)).unwrap();
    exchange(&mut offerer);
    assert!(offerer.remove(first));
    assert!(!offerer.remove(first));
    // The client does not know yet: another section.
    let second = offerer.add(track(2, Codec::Vp8)).unwrap();
    assert_ne!(first, second);
    let (id, offer) = offerer.offer(&local()).unwrap();
    assert!(offer.contains("a=mid:1\r\n") && offer.contains("a=inactive\r\n"));
    assert!(!offer.contains("TR_1"));
    offerer
        .answer(id, &offers::chromium_answer(&SUBSCRIBER, &offer))
        .unwrap();
    // Audio does not fit a video section; other video does, codec and all.
    assert_eq!(offerer.add(track(3, Codec::Opus)).unwrap(), mid("3"));
    assert_eq!(offerer.add(track(4, Codec::H264)).unwrap(), first);
    let accepted = exchange(&mut offerer);
    assert_eq!(accepted.sections.len(), 3);
    assert_eq!(accepted.sections[0].ssrc, 1004);
    assert_eq!(accepted.sections[0].codec.codec, Codec::H264);
}

#[test]
fn changes_during_an_offer_wait_for_the_next() {
    let mut offerer = Offerer::new(1);
    let first = offerer.add(track(1, Codec::Opus)).unwrap();
    let (id, offer) = offerer.offer(&local()).unwrap();
    let answer = offers::chromium_answer(&SUBSCRIBER, &offer);
    offerer.remove(first);
    offerer.add(track(2, Codec::Opus)).unwrap();
    assert!(offerer.needs_offer());
    let accepted = offerer.answer(id, &answer).unwrap();
    assert!(accepted.sections.is_empty(), "it was removed meanwhile");
    assert!(offerer.needs_offer());
    assert_eq!(exchange(&mut offerer).sections[0].ssrc, 1002);
    assert_eq!(offerer.add(track(3, Codec::Opus)).unwrap(), first);
}

#[test]
fn answers_are_matched_to_offers() {
    let mut offerer = Offerer::new(1);
    assert_eq!(offerer.answer(1, "").unwrap_err(), JsepError::NoOffer);
    let (id, offer) = offerer.offer(&local()).unwrap();
    let answer = offers::chromium_answer(&SUBSCRIBER, &offer);
    assert_eq!(
        offerer.answer(id + 1, &answer).unwrap_err(),
        JsepError::WrongOffer {
            got: id + 1,
            expected: id
        }
    );
    // A client that does not number its answers.
    offerer.answer(0, &answer).unwrap();

    // A lost answer: the next offer has a new number and says everything again.
    offerer.add(track(1, Codec::Opus)).unwrap();
    let (lost, _) = offerer.offer(&local()).unwrap();
    offerer.abandon();
    assert!(offerer.needs_offer() && !offerer.is_outstanding());
    let (next, offer) = offerer.offer(&local()).unwrap();
    assert!(next > lost && offer.contains("TR_1"));
    let answer = offers::chromium_answer(&SUBSCRIBER, &offer);
    assert!(matches!(
        offerer.answer(lost, &answer),
        Err(JsepError::WrongOffer { .. })
    ));
    assert_eq!(offerer.answer(next, &answer).unwrap().sections.len(), 1);
}

#[test]
fn faulty_answers_are_refused_and_the_offer_stays() {
    let mut offerer = Offerer::new(1);
    offerer.add(track(1, Codec::Vp8)).unwrap();
    let (id, offer) = offerer.offer(&local()).unwrap();
    let good = offers::chromium_answer(&SUBSCRIBER, &offer);
    for (from, to) in [
        ("a=setup:active", "a=setup:passive"),
        ("a=setup:active", "a=setup:actpass"),
        ("a=mid:1", "a=mid:7"),
        ("m=video", "m=audio"),
        ("a=rtcp-mux\r\n", ""),
        (
            "m=application 9 UDP/DTLS/SCTP",
            "m=application 9 UDP/TLS/RTP/SAVPF",
        ),
    ] {
        let bad = good.replace(from, to);
        assert_ne!(bad, good);
        assert!(offerer.answer(id, &bad).is_err(), "{from} -> {to}");
        assert!(offerer.is_outstanding());
    }
    let short = good.split("m=video").next().unwrap();
    assert!(offerer.answer(id, short).is_err());
    offerer.answer(id, &good).unwrap();
}

#[test]
fn what_the_client_refuses_is_reported() {
    let mut offerer = Offerer::new(1);
    let vp9 = offerer.add(track(1, Codec::Vp9)).unwrap();
    let opus = offerer.add(track(2, Codec::Opus)).unwrap();
    let (id, offer) = offerer.offer(&local()).unwrap();
    let answer = offers::chromium_answer(&SUBSCRIBER, &offer)
        .replace("m=video 9 ", "m=video 0 ")
        .replace("a=group:BUNDLE 0 1 2", "a=group:BUNDLE 0 2");
    let accepted = offerer.answer(id, &answer).unwrap();
    assert_eq!(accepted.refused, [vp9]);
    assert_eq!(accepted.sections[0].mid, opus);
    // The refused section stays where it is, dead, and is not used again.
    assert_eq!(offerer.add(track(3, Codec::Vp8)).unwrap(), mid("3"));
    let (id, offer) = offerer.offer(&local()).unwrap();
    assert!(offer.contains("m=video 0 UDP/TLS/RTP/SAVPF 98"));
    assert!(offer.contains("a=group:BUNDLE 0 2 3\r\n"));
    let answer = offers::chromium_answer(&SUBSCRIBER, &offer);
    assert_eq!(offerer.answer(id, &answer).unwrap().sections.len(), 2);

    // An answer that takes the section but not the media.
    let mut offerer = Offerer::new(1);
    let vp8 = offerer.add(track(1, Codec::Vp8)).unwrap();
    let (id, offer) = offerer.offer(&local()).unwrap();
    let answer = offers::chromium_answer(&SUBSCRIBER, &offer).replace("a=recvonly", "a=inactive");
    assert_eq!(offerer.answer(id, &answer).unwrap().refused, [vp8]);
}

#[test]
fn identifiers_cannot_break_lines() {
    let mut offerer = Offerer::new(1);
    for bad in ["", "TR 1", "TR\r\na=x", "é", &"x".repeat(129)] {
        let track = SendTrack {
            track_id: bad.into(),
            ..track(1, Codec::Opus)
        };
        assert_eq!(offerer.add(track), Err(Refusal::Identifier), "{bad:?}");
    }
    for number in 1..MAX_SECTIONS as u32 {
        offerer.add(track(number, Codec::Opus)).unwrap();
    }
    assert_eq!(offerer.add(track(999, Codec::Opus)), Err(Refusal::Full));
}

/// What Chromium 156 answered to these very offers, one after the other: it accepts every
/// codec, and a reused section is a track of its own to it.
#[test]
fn recorded_subscriber_answers_are_taken() {
    let mut offerer = Offerer::new(1);
    let answers = [
        include_str!("chromium_156_subscriber_answer_0.sdp"),
        include_str!("chromium_156_subscriber_answer_1.sdp"),
        include_str!("chromium_156_subscriber_answer_2.sdp"),
        include_str!("chromium_156_subscriber_answer_3.sdp"),
    ];
    let mut answers = answers.into_iter();
    let mut exchange = |offerer: &mut Offerer| {
        let (id, _) = offerer.offer(&local()).unwrap();
        let answer = answers.next().unwrap().replace('\n', "\r\n");
        let accepted = offerer.answer(id, &answer).unwrap();
        assert!(accepted.data && accepted.refused.is_empty());
        let sections = accepted.sections.iter();
        sections
            .map(|s| (s.mid.to_string(), s.codec.codec, s.ssrc))
            .collect::<Vec<_>>()
    };
    let row = |mid: &str, codec, ssrc| (mid.to_owned(), codec, ssrc);
    assert_eq!(exchange(&mut offerer), []);
    let first = offerer.add(track(1, Codec::Opus)).unwrap();
    let second = offerer.add(track(2, Codec::Vp8)).unwrap();
    let expected = [row("1", Codec::Opus, 1001), row("2", Codec::Vp8, 1002)];
    assert_eq!(exchange(&mut offerer), expected);
    offerer.remove(first);
    offerer.remove(second);
    offerer.add(track(3, Codec::Vp9)).unwrap();
    assert_eq!(exchange(&mut offerer), [row("3", Codec::Vp9, 1003)]);
    offerer.add(track(4, Codec::H264)).unwrap();
    offerer.add(track(5, Codec::Opus)).unwrap();
    offerer.add(track(6, Codec::Av1)).unwrap();
    let expected = [
        row("1", Codec::Opus, 1005),
        row("2", Codec::H264, 1004),
        row("3", Codec::Vp9, 1003),
        row("4", Codec::Av1, 1006),
    ];
    assert_eq!(exchange(&mut offerer), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is added and removed in whatever order: mids and the order of sections never
    /// change, no live mid or SSRC appears twice, numbers grow, every track in force is
    /// accepted, and the sections stay as few as reuse allows.
    #[test]
    fn offers_stay_consistent(steps in prop::collection::vec((0..4u8, any::<prop::sample::Index>()), 1..60)) {
        let mut offerer = Offerer::new(1);
        let mut live: Vec<Mid> = Vec::new();
        let mut number = 0;
        let mut mids: Vec<String> = Vec::new();
        let mut last_id = 0;
        let mut peak = 1;
        for (step, index) in steps {
            match step {
                0 | 1 => {
                    number += 1;
                    let codec = if step == 0 { Codec::Opus } else { Codec::Vp8 };
                    let mid = offerer.add(track(number, codec)).unwrap();
                    prop_assert!(!live.contains(&mid));
                    live.push(mid);
                }
                2 if !live.is_empty() => {
                    let mid = live.swap_remove(index.index(live.len()));
                    prop_assert!(offerer.remove(mid));
                }
                _ => {
                    let (id, offer) = offerer.offer(&local()).unwrap();
                    prop_assert!(id > last_id);
                    last_id = id;
                    let now: Vec<String> = offer.split("a=mid:").skip(1)
                        .map(|rest| rest.lines().next().unwrap().to_owned()).collect();
                    prop_assert!(now.starts_with(&mids));
                    mids = now;
                    let accepted = offerer
                        .answer(id, &offers::chromium_answer(&SUBSCRIBER, &offer)).unwrap();
                    let mut got: Vec<Mid> = accepted.sections.iter().map(|s| s.mid).collect();
                    let mut want = live.clone();
                    got.sort();
                    want.sort();
                    prop_assert_eq!(got, want);
                    let mut ssrcs: Vec<u32> = accepted.sections.iter().map(|s| s.ssrc).collect();
                    ssrcs.sort();
                    ssrcs.dedup();
                    prop_assert_eq!(ssrcs.len(), accepted.sections.len());
                }
            }
            peak = peak.max(mids.len());
        }
        prop_assert!(peak <= number as usize + 1);
    }
}
