//! The publisher's connection: offers of browsers and SDKs, and what is refused of them.

#![allow(clippy::disallowed_methods)] // one test bounds its own run time

use proptest::prelude::*;

use super::offers::FINGERPRINT;
use super::*;

#[test]
fn chromium_publisher_is_answered_in_full() {
    let mut answerer = Answerer::new(7_000_000_001);
    let answer = answerer
        .answer(&publisher_offer(), &local(), &default_policy)
        .unwrap();
    let expected = include_str!("chromium_publisher_answer.sdp").replace('\n', "\r\n");
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

/// An offer that Chromium 156 made: microphone, camera with three encodings, data channel.
#[test]
fn a_recorded_publisher_offer_is_answered() {
    let offer = include_str!("chromium_156_publisher_offer.sdp").replace('\n', "\r\n");
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

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
