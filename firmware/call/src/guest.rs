//! A guest of a room: joins as LiveKit's clients do, answers offers, may publish one track.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use palabre_engine::proto::signal_request::Message as Request;
use palabre_engine::proto::signal_response::Message as Response;
use palabre_engine::proto::{self, TrackSource, TrackType};
use palabre_media::transport::{Certificate, DataChannel};
use prost::Message as _;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{HandshakeError, Message, WebSocket};

use crate::connection::Connection;
use crate::stream::{Fingerprint, Stream, connect};

/// As LiveKit's clients: often enough for a server that closes after 15 s of silence.
const PING: Duration = Duration::from_secs(5);

/// Between two looks for the answer to a handshake. Shorter answers sooner, longer leaves the processor alone.
const LOOK: Duration = Duration::from_millis(2);

/// Longest signal read. The server's descriptions grow by some KiB a track.
const MESSAGE: usize = 512 * 1024;

/// The only source a guest publishes.
pub const SSRC: u32 = 0x5EED;
/// Payload types of what it publishes; also those of the server's offers.
pub const VP8: u8 = 96;
/// Opus.
pub const OPUS: u8 = 111;
/// Extension ids of our offers and, for all we read, of the server's.
pub const AUDIO_LEVEL: u8 = 1;
/// Transport-wide sequence number.
pub const TRANSPORT_CC: u8 = 3;
/// Section identifier.
pub const MID: u8 = 4;
/// That identifier of the track a guest publishes.
pub const PUBLISHED_MID: &str = "1";

/// Where the program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its page and its signals.
    pub http: SocketAddr,
    /// The certificate it must show there, which then speaks TLS; `None` when it does not.
    pub certificate: Option<Fingerprint>,
    /// Its media port, where that may be reached although it is not announced.
    pub media: Option<SocketAddr>,
    /// The address the guest sends its media from.
    pub from: IpAddr,
}

/// What a guest publishes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Opus.
    Sound,
    /// VP8, one encoding.
    Picture,
}

/// The signals of a guest failed.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// This machine does not give what a guest needs.
    #[error("this machine gives no socket: {0}")]
    Here(io::Error),
    /// Nobody listens, or not in time.
    #[error("nobody takes the connection: {0}")]
    Unreachable(io::Error),
    /// The connection is open and nothing comes.
    #[error("it does not answer")]
    Silent,
    /// Another HTTP status than the one that opens a WebSocket.
    #[error("it refuses with HTTP status {0}")]
    Refused(u16),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The server sent what is no signal, or no description.
    #[error("it sends what is no signal")]
    Malformed,
    /// The server sent the guest out of the room.
    #[error("it ends the connection")]
    Ended,
}

/// The guest.
pub struct Guest {
    /// None for a guest of a server with other signals, whose owner carries descriptions.
    signal: Option<WebSocket<Stream>>,
    ping: Instant,
    media: Option<SocketAddr>,
    /// Identifier of the transport-wide number in what it receives.
    pub transport_cc: u8,
    /// What it receives on.
    pub subscriber: Connection,
    /// What it sends on.
    pub publisher: Connection,
}

impl Guest {
    /// A guest with no signals, whose sockets are at `at`.
    ///
    /// # Errors
    /// When the system gives no port or no randomness.
    pub fn bare(at: IpAddr, certificate: &Certificate) -> io::Result<Self> {
        Ok(Self {
            signal: None,
            ping: Instant::now() + PING,
            media: None,
            transport_cc: TRANSPORT_CC,
            subscriber: Connection::new(at, certificate, &[])?,
            publisher: Connection::new(at, certificate, &[DataChannel::Reliable])?,
        })
    }

    /// Joins with a token before `deadline`; waits for it.
    ///
    /// # Errors
    /// [`Failed`]
    pub fn join(
        site: &Site,
        token: &str,
        certificate: &Certificate,
        deadline: Instant,
    ) -> Result<Self, Failed> {
        let bare = Self::bare(site.from, certificate).map_err(Failed::Here)?;
        let stream = connect(site.http, site.certificate, deadline).map_err(Failed::Unreachable)?;
        let address = format!(
            "ws://{}/rtc?access_token={token}&auto_subscribe=1&sdk=rust&protocol=15",
            site.http
        );
        let limits = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE))
            .max_frame_size(Some(MESSAGE));
        let mut step = tungstenite::client::client_with_config(address, stream, Some(limits));
        let signal = loop {
            match step {
                Ok((signal, _)) => break signal,
                Err(HandshakeError::Failure(error)) => return Err(error.into()),
                Err(HandshakeError::Interrupted(_)) if Instant::now() >= deadline => {
                    return Err(Failed::Silent);
                }
                Err(HandshakeError::Interrupted(middle)) => {
                    sleep(LOOK);
                    step = middle.handshake();
                }
            }
        };
        Ok(Self {
            signal: Some(signal),
            media: site.media,
            ..bare
        })
    }

    /// Announces and offers a track; it may be sent once `publisher` is connected.
    ///
    /// # Errors
    /// [`Failed`]
    pub fn publish(&mut self, kind: Kind) -> Result<(), Failed> {
        let (media, source) = match kind {
            Kind::Picture => (TrackType::Video, TrackSource::Camera),
            Kind::Sound => (TrackType::Audio, TrackSource::Microphone),
        };
        self.send(Request::AddTrack(proto::AddTrackRequest {
            cid: "track".to_owned(),
            name: "call".to_owned(),
            r#type: media.into(),
            width: 1_280,
            height: 720,
            source: source.into(),
            ..proto::AddTrackRequest::default()
        }))?;
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
        }))
    }

    /// An offer of the track alone, for a server with other signals; we open the DTLS handshake.
    pub fn offer(&self, kind: Kind) -> String {
        let section = section(kind, &self.publisher.description("active"));
        format!("{HEAD}a=group:BUNDLE {PUBLISHED_MID}\r\n{section}")
    }

    /// Answers an offer of what it is to receive, when that can be read; checks start.
    pub fn answer(&mut self, now: Instant, offer: &str) -> Option<String> {
        let extension = offer.lines().find_map(|line| {
            let (id, uri) = line.strip_prefix("a=extmap:")?.split_once(' ')?;
            uri.contains("transport-wide-cc")
                .then(|| id.split('/').next()?.parse().ok())?
        });
        self.transport_cc = extension.unwrap_or(self.transport_cc);
        self.subscriber
            .set_remote(now, offer, self.media)
            .then(|| answer(offer, &self.subscriber.description("active")))
    }

    /// Runs timers.
    ///
    /// # Errors
    /// [`Failed`]
    pub fn run(&mut self, now: Instant) -> Result<(), Failed> {
        self.subscriber.run(now);
        self.publisher.run(now);
        if self.ping <= now {
            self.ping = now + PING;
            self.send(Request::Ping(0))?;
        }
        Ok(())
    }

    /// Handles signals that have arrived: some every few milliseconds are enough.
    ///
    /// # Errors
    /// [`Failed`]; [`Failed::Ended`] when the server says good-bye.
    pub fn run_signal(&mut self, now: Instant) -> Result<(), Failed> {
        while let Some(signal) = &mut self.signal {
            let bytes = match signal.read() {
                Ok(Message::Binary(bytes)) => bytes,
                Ok(Message::Close(_)) => return Err(Failed::Ended),
                Ok(_) => continue,
                Err(error) => return later(error),
            };
            let response = proto::SignalResponse::decode(bytes).map_err(|_| Failed::Malformed)?;
            match response.message {
                Some(Response::Offer(offer)) => {
                    let sdp = self.answer(now, &offer.sdp).ok_or(Failed::Malformed)?;
                    self.send(Request::Answer(proto::SessionDescription {
                        r#type: "answer".to_owned(),
                        sdp,
                        id: offer.id,
                        ..proto::SessionDescription::default()
                    }))?;
                }
                Some(Response::Answer(answer)) => {
                    let is_read = self.publisher.set_remote(now, &answer.sdp, self.media);
                    is_read.then_some(()).ok_or(Failed::Malformed)?;
                }
                Some(Response::Leave(_)) => return Err(Failed::Ended),
                _ => {}
            }
        }
        Ok(())
    }

    fn send(&mut self, message: Request) -> Result<(), Failed> {
        let Some(signal) = &mut self.signal else {
            return Ok(());
        };
        let request = proto::SignalRequest {
            message: Some(message),
        };
        match signal.send(Message::binary(request.encode_to_vec())) {
            Ok(()) => Ok(()),
            // It is kept, and goes out with the next.
            Err(error) => later(error),
        }
    }
}

impl From<tungstenite::Error> for Failed {
    fn from(error: tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::Http(response) => Self::Refused(response.status().as_u16()),
            tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => Self::Ended,
            other => Self::Broken(other.to_string()),
        }
    }
}

/// "Nothing now" is no failure.
fn later(error: tungstenite::Error) -> Result<(), Failed> {
    match error {
        tungstenite::Error::Io(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        error => Err(error.into()),
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
         a=ssrc:{SSRC} cname:call\r\na=ssrc:{SSRC} msid:stream track\r\n"
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

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// Joins at a listener that does with a connection what `serve` says.
    fn join(serve: impl FnOnce(TcpStream) + Send + 'static) -> (Failed, Duration) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let site = Site {
            http: listener.local_addr().unwrap(),
            certificate: None,
            media: None,
            from: IpAddr::from([127, 0, 0, 1]),
        };
        let served = std::thread::spawn(move || serve(listener.accept().unwrap().0));
        let certificate = Certificate::generate().unwrap();
        let start = Instant::now();
        let deadline = start + Duration::from_millis(300);
        let failed = Guest::join(&site, "token", &certificate, deadline).err();
        let took = start.elapsed();
        served.join().unwrap();
        (failed.expect("no server of LiveKit's"), took)
    }

    #[test]
    fn a_server_that_never_answers_is_left_in_time() {
        let (failed, took) = join(|mut stream| {
            // Until the guest has gone.
            let _ = stream.read_to_end(&mut Vec::new());
        });
        assert!(matches!(failed, Failed::Silent), "{failed}");
        assert!(took < Duration::from_secs(3), "{took:?}");
    }

    #[test]
    fn an_answer_without_an_end_is_left_in_time() {
        let (failed, took) = join(|mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n");
            while stream.write_all(b"x-drip: drip\r\n").is_ok() {
                sleep(Duration::from_millis(1));
            }
        });
        let expected = matches!(failed, Failed::Silent | Failed::Broken(_));
        assert!(expected, "{failed}");
        assert!(took < Duration::from_secs(3), "{took:?}");
    }

    #[test]
    fn a_refusal_is_told_by_its_status() {
        let (failed, _) = join(|mut stream| {
            let _ = stream.read(&mut [0; 4_096]);
            let _ = stream.write_all(b"HTTP/1.1 429 Too Many\r\ncontent-length: 0\r\n\r\n");
        });
        assert!(matches!(failed, Failed::Refused(429)), "{failed}");
    }

    #[test]
    fn an_answer_repeats_what_was_offered_and_turns_it_round() {
        let offer = "v=0\r\na=group:BUNDLE 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n\
                     a=mid:0\r\na=sendonly\r\na=rtpmap:111 opus/48000/2\r\na=ssrc:1 cname:x\r\n";
        let said = answer(offer, "a=setup:active\r\n");
        for line in [
            "a=group:BUNDLE 0",
            "a=mid:0",
            "a=recvonly",
            "a=setup:active",
        ] {
            assert!(said.lines().any(|kept| kept == line), "{line} in {said}");
        }
        assert!(!said.contains("a=ssrc"), "{said}");
    }
}
