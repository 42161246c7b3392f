//! Just enough of a browser's descriptions.

use std::fmt::Write as _;

use crate::proto::{self, TrackType};

const HEAD: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n";
const TRANSPORT: &str = "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n\
    a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:\
00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\n";

/// An answer that accepts everything.
pub(crate) fn answer(offer: &str) -> String {
    answer_with(offer, TRANSPORT)
}

fn answer_with(offer: &str, transport: &str) -> String {
    let mut out = HEAD.to_owned();
    for line in offer
        .lines()
        .filter(|line| line.starts_with("a=group:BUNDLE"))
    {
        let _ = write!(out, "{line}\r\n");
    }
    let mut in_media = false;
    for line in offer.lines() {
        if line.starts_with("m=") {
            in_media = true;
            let _ = write!(
                out,
                "{line}\r\nc=IN IP4 0.0.0.0\r\n{transport}a=setup:active\r\n"
            );
            continue;
        }
        if !in_media {
            continue;
        }
        let line = match line {
            "a=sendonly" => "a=recvonly",
            _ => line,
        };
        let kept = [
            "a=mid:",
            "a=rtpmap:",
            "a=fmtp:",
            "a=rtcp-fb:",
            "a=extmap:",
            "a=rtcp-mux",
            "a=recvonly",
            "a=inactive",
            "a=sctp-port:",
            "a=max-message-size:",
        ];
        if kept.iter().any(|prefix| line.starts_with(prefix)) {
            let _ = write!(out, "{line}\r\n");
        }
    }
    out
}

/// An offer with data channels and these tracks: (cid, kind, active), mids 1, 2...
pub(crate) fn offer(id: u32, tracks: &[(&str, TrackType, bool)]) -> proto::SessionDescription {
    offer_with(id, tracks, TRANSPORT)
}

/// The same from other credentials: an ICE restart.
pub(crate) fn restarted_offer(
    id: u32,
    tracks: &[(&str, TrackType, bool)],
) -> proto::SessionDescription {
    offer_with(id, tracks, &TRANSPORT.replace("ufrag:abcd", "ufrag:efgh"))
}

fn offer_with(
    id: u32,
    tracks: &[(&str, TrackType, bool)],
    transport: &str,
) -> proto::SessionDescription {
    let mut sdp = HEAD.to_owned();
    sdp.push_str("a=group:BUNDLE 0");
    for mid in 1..=tracks.len() {
        let _ = write!(sdp, " {mid}");
    }
    sdp.push_str("\r\na=msid-semantic: WMS\r\n");
    let _ = write!(
        sdp,
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n{transport}\
         a=setup:actpass\r\na=mid:0\r\na=sctp-port:5000\r\na=max-message-size:262144\r\n"
    );
    for (index, (cid, kind, active)) in tracks.iter().enumerate() {
        let (media, codec) = match kind {
            TrackType::Video => (
                "video 9 UDP/TLS/RTP/SAVPF 96 97",
                "a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack pli\r\na=rtpmap:97 rtx/90000\r\n\
                 a=fmtp:97 apt=96\r\n",
            ),
            _ => (
                "audio 9 UDP/TLS/RTP/SAVPF 111",
                "a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n",
            ),
        };
        let direction = if *active { "sendonly" } else { "inactive" };
        let ssrc = 1000 + index;
        let _ = write!(
            sdp,
            "m={media}\r\nc=IN IP4 0.0.0.0\r\n{transport}a=setup:actpass\r\na=mid:{}\r\n\
             a={direction}\r\na=msid:stream {cid}\r\na=rtcp-mux\r\n{codec}\
             a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n\
             a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=ssrc:{ssrc} cname:c\r\n",
            index + 1
        );
    }
    proto::SessionDescription {
        r#type: "offer".to_owned(),
        sdp,
        id,
        ..Default::default()
    }
}
