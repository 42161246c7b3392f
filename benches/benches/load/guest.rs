//! A guest of a room: joins as LiveKit's clients do, answers offers, may publish one track.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use palabre_engine::proto::signal_request::Message as Request;
use palabre_engine::proto::signal_response::Message as Response;
use palabre_engine::proto::{self, TrackSource, TrackType};
use palabre_media::transport::{Certificate, DataChannel};
use prost::Message as _;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use super::connection::Connection;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// As LiveKit's clients: often enough for a server that closes after 15 s of silence.
const PING: Duration = Duration::from_secs(5);

/// The only source a guest publishes.
pub(crate) const SSRC: u32 = 0x5EED;
/// Payload types of what it publishes; also those of the server's offers.
pub(crate) const VP8: u8 = 96;
/// Opus.
pub(crate) const OPUS: u8 = 111;
/// Extension ids of our offers and, for all we read, of the server's.
pub(crate) const AUDIO_LEVEL: u8 = 1;
/// Transport-wide sequence number.
pub(crate) const TRANSPORT_CC: u8 = 3;
/// Section identifier.
pub(crate) const MID: u8 = 4;
/// That identifier of the track a guest publishes.
pub(crate) const PUBLISHED_MID: &str = "1";

/// What a guest publishes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Opus.
    Sound,
    /// VP8, one encoding.
    Picture,
}

/// The guest.
pub(crate) struct Guest {
    /// None for a guest of a server with other signals, whose bench carries descriptions.
    signal: Option<WebSocket<TcpStream>>,
    ping: Instant,
    /// Identifier of the transport-wide number in what it receives.
    pub(crate) transport_cc: u8,
    /// What it receives on.
    pub(crate) subscriber: Connection,
    /// What it sends on.
    pub(crate) publisher: Connection,
}

impl Guest {
    /// A guest with no signals, whose sockets are at `at`.
    pub(crate) fn bare(at: IpAddr, certificate: &Certificate) -> Self {
        Self {
            signal: None,
            ping: Instant::now() + PING,
            transport_cc: TRANSPORT_CC,
            subscriber: Connection::new(at, certificate, &[]),
            publisher: Connection::new(at, certificate, &[DataChannel::Reliable]),
        }
    }

    /// Joins with a token; `origin` is the server's address as the join API gives it.
    pub(crate) fn join(origin: &str, token: &str, certificate: &Certificate) -> Self {
        let authority = origin.trim_start_matches("ws://").trim_end_matches('/');
        let stream = TcpStream::connect(authority).expect("the program listens");
        stream.set_nodelay(true).expect("sockets can");
        let address = format!(
            "ws://{authority}/rtc?access_token={token}&auto_subscribe=1&sdk=rust&protocol=15"
        );
        let (signal, _) =
            tungstenite::client(address, stream).expect("the program takes this token");
        signal.get_ref().set_nonblocking(true).expect("sockets can");
        Self {
            signal: Some(signal),
            ..Self::bare(HERE, certificate)
        }
    }

    /// Announces and offers a track; it may be sent once `publisher` is connected.
    pub(crate) fn publish(&mut self, kind: Kind) {
        let (media, source) = match kind {
            Kind::Picture => (TrackType::Video, TrackSource::Camera),
            Kind::Sound => (TrackType::Audio, TrackSource::Microphone),
        };
        self.send(Request::AddTrack(proto::AddTrackRequest {
            cid: "track".to_owned(),
            name: "bench".to_owned(),
            r#type: media.into(),
            width: 1_280,
            height: 720,
            source: source.into(),
            ..proto::AddTrackRequest::default()
        }));
        let transport = self.publisher.description("actpass");
        let data = format!(
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n{transport}\
             a=mid:0\r\na=sctp-port:5000\r\na=max-message-size:262144\r\n"
        );
        let section = section(kind, &transport);
        self.send(Request::Offer(proto::SessionDescription {
            r#type: "offer".to_owned(),
            sdp: format!("{HEAD}a=group:BUNDLE 0 {PUBLISHED_MID}\r\n{data}{section}"),
            id: 1,
            ..proto::SessionDescription::default()
        }));
    }

    /// An offer of the track alone, for a server with other signals; we open the DTLS handshake.
    pub(crate) fn offer(&self, kind: Kind) -> String {
        let section = section(kind, &self.publisher.description("active"));
        format!("{HEAD}a=group:BUNDLE {PUBLISHED_MID}\r\n{section}")
    }

    /// Answers an offer of what it is to receive; checks start.
    pub(crate) fn answer(&mut self, now: Instant, offer: &str) -> String {
        let extension = offer.lines().find_map(|line| {
            let (id, uri) = line.strip_prefix("a=extmap:")?.split_once(' ')?;
            uri.contains("transport-wide-cc")
                .then(|| id.split('/').next()?.parse().ok())?
        });
        self.transport_cc = extension.unwrap_or(self.transport_cc);
        self.subscriber.set_remote(now, offer);
        answer(offer, &self.subscriber.description("active"))
    }

    /// Runs timers.
    pub(crate) fn run(&mut self, now: Instant) {
        self.subscriber.run(now);
        self.publisher.run(now);
        if self.ping <= now {
            self.ping = now + PING;
            self.send(Request::Ping(0));
        }
    }

    /// Handles signals that have arrived: some every few milliseconds are enough.
    ///
    /// # Panics
    /// When the server ends the connection.
    pub(crate) fn run_signal(&mut self, now: Instant) {
        while let Some(signal) = &mut self.signal {
            let bytes = match signal.read() {
                Ok(Message::Binary(bytes)) => bytes,
                Ok(Message::Close(frame)) => panic!("the server closed: {frame:?}"),
                Ok(_) => continue,
                Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    return;
                }
                Err(error) => panic!("the signal connection failed: {error}"),
            };
            let response =
                proto::SignalResponse::decode(bytes).expect("the server writes protobuf");
            match response.message {
                Some(Response::Offer(offer)) => {
                    let sdp = self.answer(now, &offer.sdp);
                    self.send(Request::Answer(proto::SessionDescription {
                        r#type: "answer".to_owned(),
                        sdp,
                        id: offer.id,
                        ..proto::SessionDescription::default()
                    }));
                }
                Some(Response::Answer(answer)) => self.publisher.set_remote(now, &answer.sdp),
                Some(Response::Leave(leave)) => panic!("the server says goodbye: {leave:?}"),
                _ => {}
            }
        }
    }

    fn send(&mut self, message: Request) {
        let request = proto::SignalRequest {
            message: Some(message),
        };
        let Some(signal) = &mut self.signal else {
            return;
        };
        match signal.send(Message::binary(request.encode_to_vec())) {
            Ok(()) => {}
            Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("the signal connection failed: {error}"),
        }
    }
}

const HEAD: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=msid-semantic: WMS\r\n";

/// The section of a published track.
fn section(kind: Kind, transport: &str) -> String {
    let (media, codec) = match kind {
        Kind::Picture => (
            "video 9 UDP/TLS/RTP/SAVPF 96 97",
            "a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 transport-cc\r\na=rtcp-fb:96 ccm fir\r\n\
             a=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\na=rtpmap:97 rtx/90000\r\n\
             a=fmtp:97 apt=96\r\n",
        ),
        Kind::Sound => (
            "audio 9 UDP/TLS/RTP/SAVPF 111",
            "a=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\n\
             a=fmtp:111 minptime=10;useinbandfec=1\r\n\
             a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n",
        ),
    };
    format!(
        "m={media}\r\nc=IN IP4 0.0.0.0\r\n{transport}a=mid:{PUBLISHED_MID}\r\na=sendonly\r\n\
         a=msid:stream track\r\na=rtcp-mux\r\na=rtcp-rsize\r\n{codec}\
         a=extmap:{TRANSPORT_CC} http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n\
         a=extmap:{MID} urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
         a=ssrc:{SSRC} cname:bench\r\na=ssrc:{SSRC} msid:stream track\r\n"
    )
}

/// Accepts everything that is offered, as a browser's answer does.
fn answer(offer: &str, transport: &str) -> String {
    let mut out = HEAD.to_owned();
    let mut is_media = false;
    for line in offer.lines() {
        let mut keep = |line: &str| {
            out.push_str(line);
            out.push_str("\r\n");
        };
        if line.starts_with("m=") {
            is_media = true;
            keep(line);
            keep("c=IN IP4 0.0.0.0");
            keep(transport.trim_end());
        } else if line == "a=sendonly" {
            keep("a=recvonly");
        } else if line.starts_with("a=group:BUNDLE")
            || is_media && KEPT.iter().any(|start| line.starts_with(start))
        {
            keep(line);
        }
    }
    out
}

/// Attributes of an offer that its answer repeats.
const KEPT: [&str; 9] = [
    "a=mid:",
    "a=rtpmap:",
    "a=fmtp:",
    "a=rtcp-fb:",
    "a=extmap:",
    "a=rtcp-",
    "a=inactive",
    "a=sctp-port:",
    "a=max-message-size:",
];
