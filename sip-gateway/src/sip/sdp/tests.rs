use std::net::IpAddr;

use super::*;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 9));

fn session() -> Session {
    let mut session = Session::new(400);
    session.set_local(LocalMedia {
        rtp: "192.0.2.1:40000".parse().unwrap(),
        rtcp_port: Some(40001),
    });
    session
}

fn offer(middle: &str) -> String {
    format!("v=0\r\no=- 1 1 IN IP4 203.0.113.5\r\ns=-\r\nc=IN IP4 203.0.113.5\r\nt=0 0\r\n{middle}")
}

fn answer(middle: &str) -> Result<(String, Media), SdpError> {
    session().answer(offer(middle).as_bytes(), &MediaPolicy::default(), PEER)
}

#[test]
fn the_preferred_codec_is_answered_alone() {
    let (text, media) = answer(
        "m=audio 5000 RTP/AVP 0 8 9 97 101 102\r\na=rtpmap:97 OPUS/48000/2\r\na=fmtp:97 useinbandfec=1\r\n\
         a=rtpmap:101 telephone-event/8000\r\na=rtpmap:102 telephone-event/48000\r\na=ptime:40\r\na=rtcp-mux\r\n",
    )
    .unwrap();
    assert_eq!(
        (media.codec, media.payload_type, media.receive_payload_type),
        (Codec::Opus, 97, 97)
    );
    assert_eq!(
        media.telephone_event,
        Some(TelephoneEvent {
            payload_type: 102,
            receive_payload_type: 102,
            clock_rate: 48_000
        })
    );
    assert_eq!(
        (media.ptime, media.opus_fec, media.rtcp_mux),
        (40, true, true)
    );
    assert_eq!(media.remote, "203.0.113.5:5000".parse().unwrap());
    assert_eq!(media.remote_rtcp, media.remote);
    assert!(text.contains("m=audio 40000 RTP/AVP 97 102\r\n"), "{text}");
    assert!(text.contains("a=rtcp-mux\r\n"), "{text}");
    let peers = MediaPolicy {
        peer_preference: true,
        ..MediaPolicy::default()
    };
    let text = offer("m=audio 5000 RTP/AVP 0 8\r\n");
    let (_, media) = session().answer(text.as_bytes(), &peers, PEER).unwrap();
    assert_eq!(media.codec, Codec::Pcmu);
    let (text, media) = answer("m=audio 5000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=rtcp:6001 IN IP4 203.0.113.6\r\n").unwrap();
    assert_eq!((media.codec, media.payload_type), (Codec::Pcma, 8));
    assert_eq!(media.remote_rtcp, "203.0.113.6:6001".parse().unwrap());
    assert!(!text.contains("rtcp"), "{text}");
}

#[test]
fn hold_in_every_dialect_is_answered_right() {
    for (connection, theirs, ours) in [
        ("203.0.113.5", "sendrecv", Direction::SendRecv),
        ("203.0.113.5", "sendonly", Direction::RecvOnly),
        ("203.0.113.5", "recvonly", Direction::SendOnly),
        ("203.0.113.5", "inactive", Direction::Inactive),
        ("0.0.0.0", "sendrecv", Direction::RecvOnly),
        ("0.0.0.0", "inactive", Direction::Inactive),
    ] {
        let (text, media) = answer(&format!(
            "m=audio 5000 RTP/AVP 8\r\nc=IN IP4 {connection}\r\na={theirs}\r\n"
        ))
        .unwrap();
        assert_eq!(media.direction, ours, "{connection} {theirs}");
        assert_eq!(
            media.on_hold(),
            !matches!(ours, Direction::SendRecv | Direction::SendOnly)
        );
        let name = format!("{ours:?}").to_lowercase();
        assert!(text.contains(&format!("a={name}\r\n")), "{text}");
    }
    // At session level too.
    let text = offer("a=sendonly\r\nm=audio 5000 RTP/AVP 8\r\n");
    assert_eq!(
        session()
            .answer(text.as_bytes(), &MediaPolicy::default(), PEER)
            .unwrap()
            .1
            .direction,
        Direction::RecvOnly
    );
    // Both on hold.
    let mut session = session();
    session.set_direction(Direction::SendOnly);
    let text = offer("m=audio 5000 RTP/AVP 8\r\na=sendonly\r\n");
    assert_eq!(
        session
            .answer(text.as_bytes(), &MediaPolicy::default(), PEER)
            .unwrap()
            .1
            .direction,
        Direction::Inactive
    );
}

#[test]
fn other_streams_are_refused_in_their_place() {
    let (text, _) = answer(
        "m=video 6000 RTP/AVP 96 97\r\na=rtpmap:96 VP8/90000\r\nm=audio 5000 RTP/AVP 8\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nm=audio 5002 RTP/AVP 8\r\n",
    )
    .unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("m=")).collect();
    assert_eq!(
        lines,
        [
            "m=video 0 RTP/AVP 96 97",
            "m=audio 40000 RTP/AVP 8",
            "m=application 0 UDP/DTLS/SCTP webrtc-datachannel",
            "m=audio 0 RTP/AVP 8"
        ]
    );
}

#[test]
fn what_cannot_be_agreed_says_why() {
    assert_eq!(answer("").unwrap_err(), SdpError::NoAudio);
    assert_eq!(
        answer("m=video 1 RTP/AVP 96\r\n").unwrap_err(),
        SdpError::NoAudio
    );
    assert_eq!(
        answer("m=audio 0 RTP/AVP 8\r\n").unwrap_err(),
        SdpError::NoAudio
    );
    assert_eq!(
        answer("m=audio 1 RTP/SAVP 8\r\n").unwrap_err(),
        SdpError::Transport
    );
    assert_eq!(
        answer("m=audio 1 RTP/AVP 18\r\n").unwrap_err(),
        SdpError::NoCodec
    );
    assert_eq!(
        answer("m=audio 1 RTP/AVP 96\r\na=rtpmap:96 opus/16000/1\r\n").unwrap_err(),
        SdpError::NoCodec
    );
    assert!(matches!(
        answer("m=audio\r\n").unwrap_err(),
        SdpError::Broken(_)
    ));
    assert!(matches!(
        answer("c=IN IP4\r\n").unwrap_err(),
        SdpError::Broken(_)
    ));
    let many = "m=video 1 RTP/AVP 96\r\n".repeat(17);
    assert!(matches!(answer(&many).unwrap_err(), SdpError::Broken(_)));
    for text in ["", "v=1\r\n", "v=0\r\ns=-\r\n", "v=0\r\nxx\r\n"] {
        assert!(
            Session::check(text.as_bytes(), &MediaPolicy::default()).is_err(),
            "{text:?}"
        );
    }
    // SAVP first, then plain: the plain one is taken.
    assert_eq!(
        answer("m=audio 2 RTP/SAVP 8\r\nm=audio 4 RTP/AVP 8\r\n")
            .unwrap()
            .1
            .remote
            .port(),
        4
    );
}

#[test]
fn versions_grow_only_when_something_changes() {
    let mut session = session();
    let policy = MediaPolicy::default();
    let plain = offer("m=audio 5000 RTP/AVP 8\r\n");
    let hold = offer("m=audio 5000 RTP/AVP 8\r\na=sendonly\r\n");
    let version = |text: &str| {
        text.lines()
            .find(|line| line.starts_with("o="))
            .unwrap()
            .split(' ')
            .nth(2)
            .unwrap()
            .to_owned()
    };
    let (first, _) = session.answer(plain.as_bytes(), &policy, PEER).unwrap();
    let (again, _) = session.answer(plain.as_bytes(), &policy, PEER).unwrap();
    let (held, _) = session.answer(hold.as_bytes(), &policy, PEER).unwrap();
    assert_eq!(
        [version(&first), version(&again), version(&held)],
        ["1", "1", "2"]
    );
}

#[test]
fn our_offer_and_their_answer_agree() {
    let policy = MediaPolicy::default();
    let mut ours = session();
    let text = ours.offer(&policy);
    assert!(
        text.contains("m=audio 40000 RTP/AVP 111 9 8 0 110 101\r\n"),
        "{text}"
    );
    let mut theirs = Session::new(1);
    theirs.set_local(LocalMedia {
        rtp: "[2001:db8::2]:6000".parse().unwrap(),
        rtcp_port: None,
    });
    let (answer, theirs_media) = theirs.answer(text.as_bytes(), &policy, PEER).unwrap();
    let media = ours.accept(answer.as_bytes(), &policy, PEER).unwrap();
    assert_eq!((media.codec, media.payload_type), (Codec::Opus, 111));
    assert_eq!(media.telephone_event, theirs_media.telephone_event);
    assert_eq!(media.remote, "[2001:db8::2]:6000".parse().unwrap());
    assert!(media.rtcp_mux && media.opus_fec);
    // The next offer keeps what was agreed, and asks for hold.
    ours.set_direction(Direction::SendOnly);
    let text = ours.offer(&policy);
    assert!(
        text.contains("m=audio 40000 RTP/AVP 111 110\r\n") && text.contains("a=sendonly"),
        "{text}"
    );
    let (answer, media) = theirs.answer(text.as_bytes(), &policy, PEER).unwrap();
    assert_eq!(media.direction, Direction::RecvOnly);
    assert_eq!(
        ours.accept(answer.as_bytes(), &policy, PEER)
            .unwrap()
            .direction,
        Direction::SendOnly
    );
    // A refused stream is no agreement.
    let refused = offer("m=audio 0 RTP/AVP 8\r\n");
    assert_eq!(
        ours.accept(refused.as_bytes(), &policy, PEER).unwrap_err(),
        SdpError::NoAudio
    );
}

#[test]
fn an_answer_may_use_numbers_of_its_own() {
    let policy = MediaPolicy::default();
    let mut ours = session();
    ours.offer(&policy);
    let event = |payload_type| TelephoneEvent {
        payload_type,
        receive_payload_type: 101,
        clock_rate: 8_000,
    };
    let answer = offer(
        "m=audio 5000 RTP/AVP 97 98\r\na=rtpmap:97 opus/48000/2\r\na=rtpmap:98 telephone-event/8000\r\n",
    );
    let media = ours.accept(answer.as_bytes(), &policy, PEER).unwrap();
    assert_eq!((media.payload_type, media.receive_payload_type), (97, 111));
    assert_eq!(media.telephone_event, Some(event(98)));
    // A later offer of ours says our numbers again, and the answer theirs (RFC 3264 §8.3.2).
    let text = ours.offer(&policy);
    assert!(
        text.contains("m=audio 40000 RTP/AVP 111 101\r\n")
            && text.contains("a=rtpmap:101 telephone-event/8000\r\n"),
        "{text}"
    );
    let media = ours.accept(answer.as_bytes(), &policy, PEER).unwrap();
    assert_eq!((media.payload_type, media.receive_payload_type), (97, 111));
    assert_eq!(media.telephone_event, Some(event(98)));
}

#[test]
fn packets_are_as_long_as_the_peer_wishes_within_limits() {
    for (attributes, millis) in [
        ("", 20),
        ("a=ptime:10\r\n", 10),
        ("a=ptime:30\r\n", 30),
        ("a=ptime:60\r\n", 60),
        ("a=ptime:200\r\n", 60),
        ("a=ptime:0\r\n", 20),
        ("a=ptime:x\r\n", 20),
        ("a=ptime:60\r\na=maxptime:30\r\n", 30),
        ("a=maxptime:150\r\n", 20),
        ("a=maxptime:10\r\n", 10),
    ] {
        let (_, media) = answer(&format!("m=audio 5000 RTP/AVP 8\r\n{attributes}")).unwrap();
        assert_eq!(media.ptime, millis, "{attributes}");
    }
}

#[test]
fn an_address_that_is_a_name_becomes_the_signalling_one() {
    let text = "v=0\no=- 1 1 IN IP4 host\nc=IN IP4 pbx.example\nt=0 0\nm=audio 5000 RTP/AVP 8\n";
    let (_, media) = session()
        .answer(text.as_bytes(), &MediaPolicy::default(), PEER)
        .unwrap();
    assert_eq!(media.remote.ip(), PEER);
}
