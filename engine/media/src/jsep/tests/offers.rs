//! Descriptions shaped like those of real clients.

use std::fmt::Write;

/// Session part and transport as Chromium writes them.
pub(super) struct Client {
    pub(super) ufrag: &'static str,
    pub(super) fingerprint: &'static str,
    pub(super) setup: &'static str,
}

pub(super) const FINGERPRINT: &str = "0A:1B:2C:3D:4E:5F:60:71:82:93:A4:B5:C6:D7:E8:F9:\
     0A:1B:2C:3D:4E:5F:60:71:82:93:A4:B5:C6:D7:E8:F9";

pub(super) const CHROMIUM: Client = Client {
    ufrag: "hG7k",
    fingerprint: FINGERPRINT,
    setup: "actpass",
};

impl Client {
    pub(super) fn describe(&self, sections: &[String]) -> String {
        let mids: Vec<&str> = sections
            .iter()
            .filter(|section| !section.contains(" 0 UDP"))
            .filter_map(|section| section.split("a=mid:").nth(1)?.split("\r\n").next())
            .collect();
        let mut text = String::from("v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\n");
        write!(
            text,
            "t=0 0\r\na=group:BUNDLE {}\r\na=extmap-allow-mixed\r\na=msid-semantic: WMS\r\n",
            mids.join(" ")
        )
        .unwrap();
        for section in sections {
            text.push_str(&self.fill(section));
        }
        text
    }

    fn fill(&self, section: &str) -> String {
        let transport = format!(
            "a=ice-ufrag:{}\r\na=ice-pwd:WHbQmVhP1NGQR5gXwsH8Xyz1\r\na=ice-options:trickle\r\n\
             a=fingerprint:sha-256 {}\r\na=setup:{}\r\n",
            self.ufrag, self.fingerprint, self.setup
        );
        section.replace("TRANSPORT\r\n", &transport)
    }
}

fn section(lines: &[&str]) -> String {
    let mut text = String::new();
    for line in lines {
        text.push_str(line);
        text.push_str("\r\n");
    }
    text
}

pub(super) fn application(mid: &str) -> String {
    section(&[
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "c=IN IP4 0.0.0.0",
        "TRANSPORT",
        &format!("a=mid:{mid}"),
        "a=sctp-port:5000",
        "a=max-message-size:262144",
    ])
}

/// Microphone of Chromium 156 through livekit-client.
pub(super) fn chromium_audio(mid: &str, stream: &str, track: &str) -> String {
    section(&[
        "m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126",
        "c=IN IP4 0.0.0.0",
        "a=rtcp:9 IN IP4 0.0.0.0",
        "TRANSPORT",
        &format!("a=mid:{mid}"),
        "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
        "a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
        "a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
        "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
        "a=sendonly",
        &format!("a=msid:{stream} {track}"),
        "a=rtcp-mux",
        "a=rtcp-rsize",
        "a=rtpmap:111 opus/48000/2",
        "a=rtcp-fb:111 transport-cc",
        "a=fmtp:111 minptime=10;useinbandfec=1",
        "a=rtpmap:63 red/48000/2",
        "a=fmtp:63 111/111",
        "a=rtpmap:9 G722/8000",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:13 CN/8000",
        "a=rtpmap:110 telephone-event/48000",
        "a=rtpmap:126 telephone-event/8000",
        "a=ssrc:3570614608 cname:4TOk42mSjXCkVIa6",
        &format!("a=ssrc:3570614608 msid:{stream} {track}"),
    ])
}

fn video_extensions() -> &'static [&'static str] {
    &[
        "a=extmap:14 urn:ietf:params:rtp-hdrext:toffset",
        "a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
        "a=extmap:13 urn:3gpp:video-orientation",
        "a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
        "a=extmap:5 http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
        "a=extmap:6 http://www.webrtc.org/experiments/rtp-hdrext/video-content-type",
        "a=extmap:7 http://www.webrtc.org/experiments/rtp-hdrext/video-timing",
        "a=extmap:8 http://www.webrtc.org/experiments/rtp-hdrext/color-space",
        "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
        "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
        "a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
    ]
}

fn video_codecs() -> String {
    let mut lines = String::new();
    let mut codec = |payload: u8, name: &str, parameters: &str, rtx: u8| {
        write!(lines, "a=rtpmap:{payload} {name}/90000\r\n").unwrap();
        for feedback in ["goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"] {
            write!(lines, "a=rtcp-fb:{payload} {feedback}\r\n").unwrap();
        }
        if !parameters.is_empty() {
            write!(lines, "a=fmtp:{payload} {parameters}\r\n").unwrap();
        }
        write!(
            lines,
            "a=rtpmap:{rtx} rtx/90000\r\na=fmtp:{rtx} apt={payload}\r\n"
        )
        .unwrap();
    };
    codec(96, "VP8", "", 97);
    let h264 = |mode: u8, profile: &str| {
        format!("level-asymmetry-allowed=1;packetization-mode={mode};profile-level-id={profile}")
    };
    codec(102, "H264", &h264(0, "42e01f"), 103);
    codec(104, "H264", &h264(1, "640c1f"), 105);
    codec(106, "H264", &h264(1, "42e01f"), 107);
    codec(45, "AV1", "level-idx=5;profile=0;tier=0", 46);
    codec(39, "AV1", "level-idx=5;profile=1;tier=0", 40);
    codec(98, "VP9", "profile-id=0", 99);
    codec(100, "VP9", "profile-id=2", 101);
    lines.push_str("a=rtpmap:112 red/90000\r\na=rtpmap:113 rtx/90000\r\na=fmtp:113 apt=112\r\n");
    lines.push_str("a=rtpmap:114 ulpfec/90000\r\n");
    lines
}

const VIDEO_FORMATS: &str = "96 97 102 103 104 105 106 107 45 46 39 40 98 99 100 101 112 113 114";

/// Camera of Chromium 156 through livekit-client: three encodings by rid, no SSRC.
pub(super) fn chromium_simulcast(mid: &str, stream: &str, track: &str) -> String {
    let head = section(&[
        &format!("m=video 9 UDP/TLS/RTP/SAVPF {VIDEO_FORMATS}"),
        "c=IN IP4 0.0.0.0",
        "a=rtcp:9 IN IP4 0.0.0.0",
        "TRANSPORT",
        &format!("a=mid:{mid}"),
    ]);
    let middle = section(&[
        "a=sendonly",
        &format!("a=msid:{stream} {track}"),
        "a=rtcp-mux",
        "a=rtcp-rsize",
    ]);
    let tail = section(&[
        "a=rid:q send",
        "a=rid:h send",
        "a=rid:f send",
        "a=simulcast:send q;h;f",
    ]);
    head + &section(video_extensions()) + &middle + &video_codecs() + &tail
}

/// Camera of libwebrtc through the Python client without simulcast: SSRCs in the description.
pub(super) fn libwebrtc_camera(mid: &str, stream: &str, track: &str) -> String {
    let head = section(&[
        &format!("m=video 9 UDP/TLS/RTP/SAVPF {VIDEO_FORMATS}"),
        "c=IN IP4 0.0.0.0",
        "TRANSPORT",
        &format!("a=mid:{mid}"),
    ]);
    let middle = section(&[
        "a=sendrecv",
        &format!("a=msid:{stream} {track}"),
        "a=rtcp-mux",
        "a=rtcp-rsize",
    ]);
    let tail = section(&[
        "a=ssrc-group:FID 1164834931 2231627014",
        "a=ssrc:1164834931 cname:xyz",
        &format!("a=ssrc:1164834931 msid:{stream} {track}"),
        "a=ssrc:2231627014 cname:xyz",
        &format!("a=ssrc:2231627014 msid:{stream} {track}"),
    ]);
    head + &section(video_extensions()) + &middle + &video_codecs() + &tail
}

/// What Chromium answers to one of our offers: the same sections mirrored.
pub(super) fn chromium_answer(client: &Client, offer: &str) -> String {
    let mut sections = Vec::new();
    for offered in offer.split("m=").skip(1) {
        let mut lines = vec![format!("m={}", offered.lines().next().unwrap())];
        if lines[0].contains(" 0 UDP") {
            lines.push("a=inactive".into());
            sections.push(lines.join("\r\n") + "\r\n");
            continue;
        }
        lines.push("c=IN IP4 0.0.0.0".into());
        lines.push("TRANSPORT".into());
        for line in offered.lines().skip(1) {
            let kept = [
                "a=mid",
                "a=extmap",
                "a=rtcp-mux",
                "a=rtcp-rsize",
                "a=rtpmap",
                "a=fmtp",
                "a=sctp-port",
                "a=inactive",
            ];
            if kept.iter().any(|start| line.starts_with(start)) {
                lines.push(line.into());
            }
            if line == "a=sendonly" {
                lines.push("a=recvonly".into());
            }
            if line.starts_with("a=rtcp-fb") && !line.ends_with(" nack") {
                lines.push(line.into());
            }
        }
        sections.push(lines.join("\r\n") + "\r\n");
    }
    client.describe(&sections)
}
