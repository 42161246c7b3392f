#![allow(clippy::disallowed_methods)] // one test bounds its own run time

mod offers;

use offers::{CHROMIUM, Client, FINGERPRINT};
use proptest::prelude::*;

use super::answer::TrackPolicy;
use super::*;
use crate::mutate::{Random, mutate};
use crate::rtp::Label;

fn local() -> LocalParameters {
    LocalParameters {
        ice: IceCredentials::from_random(&std::array::from_fn(|i| i as u8)),
        fingerprint: Fingerprint(std::array::from_fn(|i| i as u8)),
        candidates: vec![
            Candidate {
                address: "192.0.2.1:7880".parse().unwrap(),
                protocol: CandidateProtocol::Udp,
            },
            Candidate {
                address: "[2001:db8::1]:7880".parse().unwrap(),
                protocol: CandidateProtocol::TcpPassive,
            },
        ],
    }
}

fn mid(text: &str) -> Mid {
    Label::read(text.as_bytes()).unwrap()
}

fn default_policy(_: &str) -> TrackPolicy {
    TrackPolicy::default()
}

fn publisher_offer() -> String {
    CHROMIUM.describe(&[
        offers::application("0"),
        offers::chromium_audio("1", "strm", "mic-cid"),
        offers::chromium_simulcast("2", "strm", "cam-cid"),
    ])
}

#[test]
fn chromium_publisher_is_answered_in_full() {
    let mut answerer = Answerer::new(7_000_000_001);
    let answer = answerer
        .answer(&publisher_offer(), &local(), &default_policy)
        .unwrap();
    let expected = include_str!("tests/chromium_publisher_answer.sdp").replace('\n', "\r\n");
    assert_eq!(answer.sdp, expected, "\n{}", answer.sdp);

    assert!(answer.data);
    assert!(!answer.ice_restarted);
    assert!(answer.rejected.is_empty());
    assert_eq!(answer.remote.ice.ufrag, "hG7k");
    assert_eq!(answer.remote.fingerprint.to_string(), FINGERPRINT);
    let [audio, video] = &answer.sections[..] else {
        panic!("two sections");
    };
    assert_eq!(
        *audio,
        ReceiveSection {
            mid: mid("1"),
            kind: MediaKind::Audio,
            stream_id: Some("strm".into()),
            track_id: Some("mic-cid".into()),
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
                rid: None,
                repaired_rid: None
            },
            encodings: vec![Encoding {
                rid: None,
                ssrc: Some(3_570_614_608),
                rtx_ssrc: None
            }],
            active: true,
        }
    );
    assert_eq!(video.track_id.as_deref(), Some("cam-cid"));
    assert_eq!(
        video.codec,
        NegotiatedCodec {
            codec: Codec::Vp8,
            payload_type: 96,
            rtx_payload_type: Some(97)
        }
    );
    assert_eq!(video.extensions.rid, Some(10));
    assert_eq!(video.extensions.repaired_rid, Some(11));
    let rids: Vec<_> = video
        .encodings
        .iter()
        .map(|e| e.rid.unwrap().to_string())
        .collect();
    assert_eq!(rids, ["q", "h", "f"]);
}

/// Firefox: transport attributes for the session, later sections without a port of their own,
/// SSRCs beside the rids, braces around identifiers, a direction on extension numbers.
#[test]
fn firefox_shaped_offers_are_answered() {
    let video = offers::chromium_simulcast("1", "{5d1a}", "{77c2}")
        .replace("a=extmap:13 urn:3gpp", "a=extmap:13/sendonly urn:3gpp")
        .replace("a=extmap:4 ", "a=extmap:4/sendrecv ")
        + "a=bundle-only\r\na=ssrc:11 cname:{x}\r\na=ssrc:12 cname:{x}\r\n";
    let audio = offers::chromium_audio("0", "{5d1a}", "{0be1}");
    let described = CHROMIUM
        .describe(&[audio, video, offers::application("2")])
        .replace("m=video 9 ", "m=video 0 ");
    let transport = ["a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:"];
    let (moved, kept): (Vec<&str>, Vec<&str>) = described
        .split_inclusive("\r\n")
        .partition(|line| transport.iter().any(|name| line.starts_with(name)));
    let offer =
        kept.concat()
            .replacen("t=0 0\r\n", &format!("t=0 0\r\n{}", moved[..3].concat()), 1);
    let answer = Answerer::new(1)
        .answer(&offer, &local(), &default_policy)
        .unwrap();
    assert_eq!(answer.remote.ice.ufrag, "hG7k");
    let video = &answer.sections[1];
    assert_eq!(video.track_id.as_deref(), Some("{77c2}"));
    assert_eq!(video.extensions.mid, Some(4));
    assert!(
        video
            .encodings
            .iter()
            .all(|e| e.rid.is_some() && e.ssrc.is_none())
    );
    assert!(answer.data);
}

#[test]
fn policy_chooses_codec_and_opus_options() {
    let policy = |track: &str| match track {
        "mic-cid" => TrackPolicy {
            dtx: false,
            stereo: true,
            codec: None,
        },
        _ => TrackPolicy {
            codec: Some(Codec::Vp9),
            ..TrackPolicy::default()
        },
    };
    let answer = Answerer::new(1)
        .answer(&publisher_offer(), &local(), &policy)
        .unwrap();
    let opus = "a=fmtp:111 minptime=10;useinbandfec=1;stereo=1;maxaveragebitrate=510000\r\n";
    assert!(answer.sdp.contains(opus));
    assert_eq!(answer.sections[1].codec.codec, Codec::Vp9);
    assert_eq!(answer.sections[1].codec.payload_type, 98);
    assert_eq!(answer.sections[1].codec.rtx_payload_type, Some(99));
    assert!(answer.sdp.contains("a=fmtp:98 profile-id=0\r\n"));

    // A wanted codec that is not offered does not cost the track.
    let offer = publisher_offer().replace("VP9/90000", "XVP9/90000");
    let answer = Answerer::new(1).answer(&offer, &local(), &policy).unwrap();
    assert_eq!(answer.sections[1].codec.codec, Codec::Vp8);
}

#[test]
fn only_decodable_flavours_are_chosen() {
    let choose = |codec| {
        let policy = move |_: &str| TrackPolicy {
            codec: Some(codec),
            ..TrackPolicy::default()
        };
        let answer = Answerer::new(1)
            .answer(&publisher_offer(), &local(), &policy)
            .unwrap();
        answer.sections[1].codec
    };
    // Not 102, which is interleaved, nor 104, which is high profile; not profile 1.
    assert_eq!(choose(Codec::H264).payload_type, 106);
    assert_eq!(choose(Codec::Av1).payload_type, 45);
}

#[test]
fn libwebrtc_sources_are_read() {
    let offer = CHROMIUM.describe(&[
        offers::application("0"),
        offers::libwebrtc_camera("1", "strm", "cam"),
    ]);
    let answer = Answerer::new(1)
        .answer(&offer, &local(), &default_policy)
        .unwrap();
    assert_eq!(
        answer.sections[0].encodings,
        [Encoding {
            rid: None,
            ssrc: Some(1_164_834_931),
            rtx_ssrc: Some(2_231_627_014)
        }]
    );
    // It offered to receive as well; nothing is sent on this connection.
    assert!(answer.sdp.contains("a=recvonly\r\n"));

    // The older form of simulcast, and a msid by source only.
    let old = offer
        .replace(
            "a=ssrc-group:FID 1164834931 2231627014\r\n",
            "a=ssrc-group:SIM 11 22 33\r\na=ssrc-group:FID 11 12\r\na=ssrc-group:FID 33 34\r\n",
        )
        .replace("a=msid:strm cam\r\n", "");
    let answer = Answerer::new(1)
        .answer(&old, &local(), &default_policy)
        .unwrap();
    let section = &answer.sections[0];
    assert_eq!(section.track_id.as_deref(), Some("cam"));
    let encoding = |ssrc, rtx_ssrc| Encoding {
        rid: None,
        ssrc: Some(ssrc),
        rtx_ssrc,
    };
    assert_eq!(
        section.encodings,
        [
            encoding(11, Some(12)),
            encoding(22, None),
            encoding(33, Some(34))
        ]
    );
}

#[test]
fn encodings_are_ordered_by_quality() {
    let rids = |simulcast: &str| {
        let offer = publisher_offer().replace("a=simulcast:send q;h;f", simulcast);
        let answer = Answerer::new(1)
            .answer(&offer, &local(), &default_policy)
            .unwrap();
        let encodings = &answer.sections[1].encodings;
        encodings
            .iter()
            .map(|e| e.rid.map(|rid| rid.to_string()))
            .collect::<Vec<_>>()
    };
    let all = ["q", "h", "f"].map(|rid| Some(rid.to_owned()));
    assert_eq!(rids("a=simulcast:send f;~h;q"), all);
    assert_eq!(rids("a=simulcast:recv x send q;h;f"), all);
    assert_eq!(rids("a=simulcast:send q,f;h"), all[..2]);
    // Undeclared and repeated ones do not count.
    assert_eq!(rids("a=simulcast:send q;q;z;h"), all[..2]);
    // Without a simulcast line there is one encoding, found by mid.
    assert_eq!(rids("a=x-nothing"), [None]);
}

#[test]
fn sections_come_and_go() {
    let mut answerer = Answerer::new(1);
    let mut sections = vec![offers::application("0")];
    let first = CHROMIUM.describe(&sections);
    let answer = answerer.answer(&first, &local(), &default_policy).unwrap();
    assert!(answer.data && answer.sections.is_empty());

    sections.push(offers::chromium_audio("1", "-", "mic"));
    let answer = answerer
        .answer(&CHROMIUM.describe(&sections), &local(), &default_policy)
        .unwrap();
    assert!(answer.sdp.contains("o=- 1 2 IN IP4"));
    assert_eq!(answer.sections[0].stream_id, None);

    // Paused.
    sections[1] = sections[1].replace("a=sendonly", "a=inactive");
    let answer = answerer
        .answer(&CHROMIUM.describe(&sections), &local(), &default_policy)
        .unwrap();
    assert!(!answer.sections[0].active);

    // Missing or changed: refused, and nothing changed by that.
    for (bad, what) in [
        (CHROMIUM.describe(&sections[..1]), "gone"),
        (
            CHROMIUM.describe(&[offers::application("0"), offers::application("1")]),
            "data",
        ),
        (
            CHROMIUM.describe(&[sections[0].clone(), offers::chromium_audio("5", "-", "m")]),
            "mid",
        ),
    ] {
        assert!(
            answerer.answer(&bad, &local(), &default_policy).is_err(),
            "{what}"
        );
    }

    // Stopped: rejected, and its place reused under a new mid.
    sections[1] = sections[1].replace("m=audio 9 ", "m=audio 0 ");
    let answer = answerer
        .answer(&CHROMIUM.describe(&sections), &local(), &default_policy)
        .unwrap();
    assert!(answer.sections.is_empty());
    assert!(answer.sdp.contains("a=group:BUNDLE 0\r\n"));
    assert!(answer.sdp.contains("m=audio 0 UDP/TLS/RTP/SAVPF 111"));
    sections[1] = offers::chromium_simulcast("2", "-", "cam");
    let answer = answerer
        .answer(&CHROMIUM.describe(&sections), &local(), &default_policy)
        .unwrap();
    assert_eq!(answer.sections[0].mid, mid("2"));
}

#[test]
fn unsupported_media_is_rejected_alone() {
    let audio = offers::chromium_audio("1", "s", "mic").replace("opus/48000/2", "L16/48000/2");
    let offer = CHROMIUM.describe(&[
        audio,
        offers::chromium_simulcast("2", "s", "cam"),
        offers::application("3"),
    ]);
    let answer = Answerer::new(1)
        .answer(&offer, &local(), &default_policy)
        .unwrap();
    let track_id = Some("mic".to_owned());
    assert_eq!(
        answer.rejected,
        [RejectedSection {
            mid: mid("1"),
            track_id
        }]
    );
    assert_eq!(answer.sections.len(), 1);
    assert!(answer.sdp.contains("a=group:BUNDLE 2 3\r\n"));
}

#[test]
fn bundle_only_sections_are_not_rejected() {
    let offer = publisher_offer()
        .replace("m=video 9 ", "m=video 0 ")
        .replace("a=simulcast:send", "a=bundle-only\r\na=simulcast:send");
    let answer = Answerer::new(1)
        .answer(&offer, &local(), &default_policy)
        .unwrap();
    assert_eq!(answer.sections.len(), 2);
}

#[test]
fn ice_restarts_are_seen_and_certificates_stay() {
    let mut answerer = Answerer::new(1);
    let sections = [offers::application("0")];
    let offer = CHROMIUM.describe(&sections);
    assert_eq!(answerer.restarts_ice(&offer), Ok(false));
    answerer.answer(&offer, &local(), &default_policy).unwrap();
    assert_eq!(answerer.restarts_ice(&offer), Ok(false));
    let restarted = Client {
        ufrag: "AnotherOne",
        ..CHROMIUM
    }
    .describe(&sections);
    assert_eq!(answerer.restarts_ice(&restarted), Ok(true));
    assert!(
        answerer
            .answer(&restarted, &local(), &default_policy)
            .unwrap()
            .ice_restarted
    );
    assert!(
        !answerer
            .answer(&restarted, &local(), &default_policy)
            .unwrap()
            .ice_restarted
    );
    let stolen = restarted.replace("0A:1B", "FF:FF");
    let error = answerer
        .answer(&stolen, &local(), &default_policy)
        .unwrap_err();
    assert_eq!(error.code(), "sdp_session");
}

#[test]
fn faulty_offers_are_refused_by_name() {
    let good = publisher_offer();
    let cases = [
        (
            "v=0",
            "v=1",
            "line 1 of the description: a description starts with v=0",
        ),
        ("s=-\r\n", "", "line 3 of the description: s= is missing"),
        (
            "t=0 0\r\n",
            "\r\n",
            "line 4 of the description: it is empty",
        ),
        (
            "t=0 0",
            "t:0 0",
            "line 4 of the description: it is not a letter",
        ),
        (
            "t=0 0",
            "q=0 0",
            "line 4 of the description: no such type of line",
        ),
        (
            "t=0 0",
            "t=0\u{0}0",
            "line 4 of the description: it has a control character",
        ),
        ("application 9", "application x", "the port is not a number"),
        (
            "a=mid:1",
            "a=mid:0",
            "media section 1: its mid is that of another section",
        ),
        (
            "a=mid:1",
            "a=mid:9",
            "media section 1: it is not in the BUNDLE group",
        ),
        ("a=mid:1\r\n", "", "media section 1: it has no a=mid"),
        (
            "a=rtcp-mux\r\n",
            "",
            "media section 1: it has no a=rtcp-mux",
        ),
        (
            "a=ice-ufrag:hG7k",
            "a=ice-ufrag:hG",
            "its ICE credentials are not",
        ),
        (
            "a=ice-pwd:",
            "a=ice-wd:",
            "media section 0: it has no a=ice-pwd",
        ),
        (
            "sha-256",
            "sha-1",
            "media section 0: it has no sha-256 fingerprint",
        ),
        ("0A:1B", "0A-1B", "its fingerprint is not 32 bytes"),
        (
            "a=setup:actpass",
            "a=setup:passive",
            "its a=setup leaves us no passive role",
        ),
        (
            "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
            "a=extmap:2 \
          urn:ietf:params:rtp-hdrext:sdes:mid",
            "an extension identifier means something else",
        ),
    ];
    for (from, to, message) in cases {
        let offer = good.replace(from, to);
        assert_ne!(offer, good, "{from}");
        let error = Answerer::new(1)
            .answer(&offer, &local(), &default_policy)
            .unwrap_err();
        assert!(
            error.to_string().contains(message),
            "{from} -> {to}: {error}"
        );
    }
    let doubled = CHROMIUM.describe(&[
        offers::chromium_audio("0", "s", "a"),
        offers::chromium_audio("1", "s", "b"),
    ]);
    let error = Answerer::new(1)
        .answer(&doubled, &local(), &default_policy)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "media section 1: an SSRC is that of another section"
    );
}

#[test]
fn size_is_bounded() {
    let long = publisher_offer() + &"a=x\r\n".repeat(MAX_DESCRIPTION / 5);
    let refuse = |offer: &str| {
        Answerer::new(1)
            .answer(offer, &local(), &default_policy)
            .err()
    };
    assert_eq!(refuse(&long), Some(JsepError::TooLong));
    let many = CHROMIUM.describe(&vec!["m=audio 0 RTP/SAVPF 0\r\n".to_owned(); 257]);
    assert_eq!(refuse(&many), Some(JsepError::TooManySections));
    assert_eq!(
        refuse(""),
        Some(JsepError::Session("the description is cut short"))
    );
    let formats = "0 ".repeat(129);
    let wide = publisher_offer().replace("SAVPF 111", &format!("SAVPF {formats}111"));
    assert!(matches!(refuse(&wide), Some(JsepError::Line { .. })));
}

/// Every attribute in one section and as many sections as fit must not take long.
#[test]
fn dense_offers_are_cheap() {
    let mut section = offers::chromium_simulcast("0", "s", "t");
    for number in 0.. {
        let payload_type = number % 128;
        section += &format!("a=rtpmap:{payload_type} VP8/90000\r\na=ssrc:{number} cname:x\r\n");
        section += "a=ssrc-group:FID 1 2\r\n";
        if section.len() > MAX_DESCRIPTION - 2000 {
            break;
        }
    }
    let offer = CHROMIUM.describe(&[section]);
    let started = std::time::Instant::now();
    for _ in 0..20 {
        Answerer::new(1)
            .answer(&offer, &local(), &default_policy)
            .unwrap();
    }
    // Milliseconds each in a debug build on a loaded machine; a quadratic slip takes seconds.
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
}

fn track(number: u32, codec: Codec) -> SendTrack {
    SendTrack {
        codec,
        stream_id: format!("PA_alice|TR_{number}"),
        track_id: format!("TR_{number}"),
        ssrc: 1000 + number,
        rtx_ssrc: (codec != Codec::Opus).then_some(2000 + number),
    }
}

const SUBSCRIBER: Client = Client {
    setup: "active",
    ..CHROMIUM
};

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
    let expected = include_str!("tests/subscriber_offer.sdp").replace('\n', "\r\n");
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

fn exchange(offerer: &mut Offerer) -> Accepted {
    let (id, offer) = offerer.offer(&local()).unwrap();
    offerer
        .answer(id, &offers::chromium_answer(&SUBSCRIBER, &offer))
        .unwrap()
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

    /// Our own offers parse, and so do our answers: both sides of the parser agree.
    #[test]
    fn answers_parse_again(which in prop::collection::vec(0..3u8, 1..20)) {
        let sections: Vec<String> = which.iter().enumerate().map(|(index, kind)| {
            let (mid, track) = (index.to_string(), format!("t{index}"));
            match kind {
                0 => offers::chromium_audio(&mid, "s", &track)
                    .replace("3570614608", &(index + 1).to_string()),
                1 => offers::chromium_simulcast(&mid, "s", &track),
                _ => offers::application(&mid),
            }
        }).collect();
        let offer = CHROMIUM.describe(&sections);
        let answer = Answerer::new(1).answer(&offer, &local(), &default_policy).unwrap();
        let parsed = sdp::Description::parse(&answer.sdp).unwrap();
        prop_assert_eq!(parsed.sections.len(), which.len());
        let media = which.iter().filter(|kind| **kind < 2).count();
        prop_assert_eq!(answer.sections.len(), media);
        prop_assert_eq!(answer.data, which.contains(&2));
        for section in parsed.sections.iter().filter(|section| !section.is_rejected()) {
            prop_assert_eq!(section.values("setup").next(), Some("passive"));
        }
    }
}

#[test]
fn mutated_descriptions_do_no_harm() {
    let mut random = Random::new(0x5DB);
    let offer = publisher_offer();
    for _ in 0..20_000 {
        // A cut out of the middle keeps the mutator's short reach on interesting lines.
        let mut bytes = offer.clone().into_bytes();
        let at = random.below(bytes.len());
        let end = (at + 200).min(bytes.len());
        let mut part = bytes[at..end].to_vec();
        mutate(&mut random, &mut part);
        bytes.splice(at..end, part);
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(answer) = Answerer::new(1).answer(&text, &local(), &default_policy) {
            sdp::Description::parse(&answer.sdp).expect("our own text is well-formed");
        }
    }
    let mut offerer = Offerer::new(1);
    offerer.add(track(1, Codec::Opus)).unwrap();
    offerer.add(track(2, Codec::Vp8)).unwrap();
    let (_, offer) = offerer.offer(&local()).unwrap();
    let answer = offers::chromium_answer(&SUBSCRIBER, &offer);
    for _ in 0..20_000 {
        let mut bytes = answer.clone().into_bytes();
        mutate(&mut random, &mut bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let mut offerer = offerer.clone();
        if offerer.answer(0, &text).is_ok() {
            offerer.offer(&local()).expect("nothing outstanding");
        }
    }
}

/// An offer that Chromium 156 made: microphone, camera with three encodings, data channel.
#[test]
fn a_recorded_publisher_offer_is_answered() {
    let offer = include_str!("tests/chromium_156_publisher_offer.sdp").replace('\n', "\r\n");
    let answer = Answerer::new(1)
        .answer(&offer, &local(), &default_policy)
        .unwrap();
    assert!(answer.data && answer.rejected.is_empty());
    let [audio, video] = &answer.sections[..] else {
        panic!("two sections");
    };
    let track_id = |section: &ReceiveSection| section.track_id.clone().unwrap();
    assert_eq!(track_id(audio).len(), 36);
    assert_eq!(track_id(video).len(), 36);
    assert_eq!(video.encodings.len(), 3);
    let accepted = "a=rid:q recv\r\na=rid:h recv\r\na=rid:f recv\r\na=simulcast:recv q;h;f\r\n";
    assert!(answer.sdp.contains(accepted));
    // It lists its flavours of H.264 best first; the others are not taken for it.
    let policy = |_: &str| TrackPolicy {
        codec: Some(Codec::H264),
        ..TrackPolicy::default()
    };
    let answer = Answerer::new(1).answer(&offer, &local(), &policy).unwrap();
    assert_eq!(answer.sections[1].codec.payload_type, 102);
    assert_eq!(answer.sections[1].codec.rtx_payload_type, Some(103));
}

/// What Chromium 156 answered to these very offers, one after the other: it accepts every
/// codec, and a reused section is a track of its own to it.
#[test]
fn recorded_subscriber_answers_are_taken() {
    let mut offerer = Offerer::new(1);
    let answers = [
        include_str!("tests/chromium_156_subscriber_answer_0.sdp"),
        include_str!("tests/chromium_156_subscriber_answer_1.sdp"),
        include_str!("tests/chromium_156_subscriber_answer_2.sdp"),
        include_str!("tests/chromium_156_subscriber_answer_3.sdp"),
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
