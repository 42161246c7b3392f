//! A telephone that speaks SIP over UDP: one outgoing call with one codec, no registration.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Instant;

use bytes::Bytes;
use palabre_engine::LegCodec;
use palabre_media::rtp::{ExtensionForm, PacketWriter, RtpFields};
use palabre_sip::sip::header::CSeq;
use palabre_sip::sip::name::Name;
use palabre_sip::sip::{
    Codec, Config, Dial, DialogId, Ending, Endpoint, Event, Flow, Input, LocalMedia, MediaPolicy,
    Message, Output, Protocol, Random,
};

use crate::connection::DATAGRAM;

/// Longest SIP message read: an answer has some hundred bytes.
const MESSAGE: usize = 8 * 1024;

/// Longest payload sent: 20 ms of any codec.
const PAYLOAD: usize = 1_400;

/// How the call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not answered yet.
    Calling,
    /// Answered, and not ended.
    Talking,
    /// We hung up; the other end has not answered that yet.
    Leaving,
    /// We hung up, and the other end knows.
    Left,
    /// Refused with this SIP status.
    Refused(u16),
    /// The other end hung up, did not answer at all, or has no media we can use.
    Lost,
}

/// The telephone, in a call. Dropping it hangs up, without waiting for an answer.
pub struct Phone {
    socket: UdpSocket,
    local: SocketAddr,
    server: SocketAddr,
    endpoint: Endpoint,
    dialog: DialogId,
    standing: Standing,
    is_translated: bool,
    told: Option<IpAddr>,
    /// Its sound; of use once it is [`Talking`](Standing::Talking).
    pub line: Line,
}

impl Phone {
    /// Begins to call `user` at `server`. With `is_translated` the server names addresses of another network, and
    /// its sound is sought where its SIP is.
    ///
    /// # Errors
    /// When the system gives no port or no randomness, or `user` cannot stand in a SIP URI.
    pub fn dial(
        server: SocketAddr,
        user: &str,
        codec: Codec,
        is_translated: bool,
    ) -> io::Result<Self> {
        let bound = || -> io::Result<UdpSocket> {
            let any = match server {
                SocketAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
                SocketAddr::V6(_) => SocketAddr::from(([0; 16], 0)),
            };
            let socket = UdpSocket::bind(any)?;
            socket.connect(server)?;
            Ok(socket)
        };
        let socket = bound()?;
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        let rtp = UdpSocket::bind((local.ip(), 0))?;
        rtp.set_nonblocking(true)?;
        let mut seed = [0; 32];
        aws_lc_rs::rand::fill(&mut seed).map_err(io::Error::other)?;
        let config = Config {
            media: MediaPolicy {
                codecs: vec![codec],
                ..MediaPolicy::default()
            },
            ..Config::default()
        };
        let mut endpoint = Endpoint::new(config, Random::new(seed));
        let dial = Dial {
            uri: format!("sip:{user}@{server}"),
            from: format!("sip:call@{local}"),
            name: None,
            flow: Flow {
                protocol: Protocol::Udp,
                local,
                remote: server,
                connection: None,
            },
        };
        let media = LocalMedia {
            rtp: rtp.local_addr()?,
            rtcp_port: None,
        };
        let dialog = endpoint
            .dial(Instant::now(), &dial, media)
            .map_err(io::Error::other)?;
        let mut phone = Self {
            socket,
            local,
            server,
            endpoint,
            dialog,
            standing: Standing::Calling,
            is_translated,
            told: None,
            line: Line::new(rtp, server)?,
        };
        phone.settle();
        Ok(phone)
    }

    /// How the call stands.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// The address at which the server awaits sound, as it named it last.
    pub fn told(&self) -> Option<IpAddr> {
        self.told
    }

    /// Handles what has come, and runs timers.
    pub fn run(&mut self, now: Instant) {
        let mut buffer = [0; MESSAGE];
        // An error is "nothing more", or an ICMP answer to what was sent before.
        while let Ok(len) = self.socket.recv(&mut buffer) {
            let bytes = &buffer[..len];
            // The core tells nobody that a BYE was answered: it changes nothing for it.
            if self.standing == Standing::Leaving && answers_bye(bytes) {
                self.standing = Standing::Left;
            }
            let (from, to) = (self.server, self.local);
            let input = Input::Datagram { from, to, bytes };
            self.endpoint.handle(now, input);
            self.settle();
        }
        if self.endpoint.deadline().is_some_and(|at| at <= now) {
            self.endpoint.handle(now, Input::Timeout);
            self.settle();
        }
    }

    /// Hangs up, or gives up calling.
    pub fn hang_up(&mut self, now: Instant) {
        if matches!(self.standing, Standing::Calling | Standing::Talking) {
            self.standing = Standing::Leaving;
            // An error says that it has ended already.
            let _ = self.endpoint.hang_up(now, self.dialog);
            self.settle();
        }
    }

    fn settle(&mut self) {
        while let Some(output) = self.endpoint.poll() {
            match output {
                // Whatever address the dialog names: there is one server, and this is where it is.
                Output::Datagram { bytes, .. } => {
                    let _ = self.socket.send(&bytes);
                }
                Output::Event(event) => self.event(event),
                Output::Stream { .. } | Output::Connect { .. } | Output::Close { .. } => {}
            }
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Media { media, .. } => {
                let codec = LegCodec::from(media.codec);
                self.line.format = (media.payload_type, codec.clock_rate() / 50);
                self.line.receives = media.receive_payload_type;
                self.line.remote = media.remote;
                self.told = Some(media.remote.ip());
                if self.is_translated {
                    self.line.remote.set_ip(self.server.ip());
                }
            }
            Event::Answered { .. } if self.standing == Standing::Calling => {
                self.standing = Standing::Talking;
            }
            Event::Ended { ending, .. } if self.standing != Standing::Leaving => {
                self.standing = match ending {
                    Ending::Refused { status, .. } => Standing::Refused(status),
                    _ => Standing::Lost,
                };
            }
            _ => {}
        }
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.hang_up(Instant::now());
    }
}

fn answers_bye(bytes: &[u8]) -> bool {
    Message::parse(Bytes::copy_from_slice(bytes)).is_ok_and(|message| {
        let asked = message.header(Name::CSeq).and_then(CSeq::parse);
        message.status().is_some_and(|status| status >= 200)
            && asked.is_some_and(|asked| asked.name == "BYE")
    })
}

/// Where a telephone's sound comes and goes.
pub struct Line {
    /// Sends and receives RTP.
    pub socket: UdpSocket,
    /// Where it sends to.
    pub remote: SocketAddr,
    /// What it sends: payload type, and timestamp units in 20 ms.
    pub format: (u8, u32),
    /// Payload type of what comes; nearly always the same.
    pub receives: u8,
    sequence: u16,
    ssrc: u32,
}

impl Line {
    /// A line that sends PCMA to `remote` until told otherwise.
    ///
    /// # Errors
    /// When the socket is not bound.
    pub fn new(socket: UdpSocket, remote: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            ssrc: u32::from(socket.local_addr()?.port()),
            socket,
            remote,
            // Its static payload type (RFC 3551 table 4), and 20 ms at 8 kHz.
            format: (8, 160),
            receives: 8,
            sequence: 1,
        })
    }

    /// The same line for another thread.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            socket: self.socket.try_clone()?,
            ..*self
        })
    }

    /// Sends 20 ms. Of a payload that is no packet's nothing is sent.
    pub fn send(&mut self, payload: &[u8]) {
        let (payload_type, step) = self.format;
        let fields = RtpFields {
            payload_type,
            marker: self.sequence == 1,
            sequence: self.sequence,
            timestamp: u32::from(self.sequence).wrapping_mul(step),
            ssrc: self.ssrc,
        };
        self.sequence = self.sequence.wrapping_add(1);
        let mut buffer = [0; DATAGRAM];
        let Ok(mut writer) = PacketWriter::start(&mut buffer, &fields, ExtensionForm::OneByte)
        else {
            return;
        };
        if payload.len() <= PAYLOAD && writer.payload(payload).is_ok() {
            let len = writer.finish();
            let _ = self.socket.send_to(&buffer[..len], self.remote);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::thread::sleep;
    use std::time::Duration;

    use super::*;

    /// A server's socket, and a phone that calls it.
    fn calling() -> (UdpSocket, Phone) {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let patience = Some(Duration::from_secs(5));
        server.set_read_timeout(patience).unwrap();
        let address = server.local_addr().unwrap();
        let phone = Phone::dial(address, "123456789", Codec::Pcma, false).unwrap();
        (server, phone)
    }

    fn read(server: &UdpSocket) -> (String, SocketAddr) {
        let mut buffer = [0; 4_096];
        let (len, from) = server.recv_from(&mut buffer).expect("the phone speaks");
        (String::from_utf8(buffer[..len].to_vec()).unwrap(), from)
    }

    /// An answer to `request`.
    fn answer(request: &str, status: &str, body: &str) -> String {
        let kept = request.lines().filter(|line| {
            ["Via:", "From:", "Call-ID:", "CSeq:"]
                .iter()
                .any(|name| line.starts_with(name))
        });
        let kept: Vec<&str> = kept.collect();
        let to = request
            .lines()
            .find(|line| line.starts_with("To:"))
            .unwrap();
        let kind = match body {
            "" => "",
            _ => "Content-Type: application/sdp\r\n",
        };
        format!(
            "SIP/2.0 {status}\r\n{}\r\n{to};tag=1\r\nContact: <sip:box@127.0.0.1:9>\r\n{kind}\
             Content-Length: {}\r\n\r\n{body}",
            kept.join("\r\n"),
            body.len()
        )
    }

    fn until(phone: &mut Phone, standing: Standing) {
        let end = Instant::now() + Duration::from_secs(5);
        while phone.standing() != standing {
            assert!(Instant::now() < end, "{:?}", phone.standing());
            phone.run(Instant::now());
            sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_call_is_answered_speaks_and_ends() {
        let (server, mut phone) = calling();
        let (invite, from) = read(&server);
        assert!(invite.starts_with("INVITE sip:123456789@127.0.0.1:"));
        assert!(invite.contains("m=audio ") && invite.contains("PCMA/8000"));
        let rtp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = rtp.local_addr().unwrap().port();
        let sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n"
        );
        let ok = answer(&invite, "200 OK", &sdp);
        server.send_to(ok.as_bytes(), from).unwrap();
        until(&mut phone, Standing::Talking);
        // Where the answer's Contact is, nobody listens: the phone speaks to its server.
        assert!(read(&server).0.starts_with("ACK "));
        phone.line.send(&[0xD5; 160]);
        phone.line.send(&[0xD5; 3_000]);
        phone.line.send(&[0xD5; 160]);
        let mut packet = [0; 2_048];
        for sequence in [1, 3] {
            assert_eq!(rtp.recv(&mut packet).unwrap(), 172);
            assert_eq!((packet[1] & 0x7F, packet[3]), (8, sequence));
        }
        phone.hang_up(Instant::now());
        assert_eq!(phone.standing(), Standing::Leaving);
        let (bye, from) = read(&server);
        assert!(bye.starts_with("BYE "), "{bye}");
        // A late repetition of the answer to the INVITE is none to the BYE.
        server.send_to(ok.as_bytes(), from).unwrap();
        sleep(Duration::from_millis(50));
        phone.run(Instant::now());
        assert_eq!(phone.standing(), Standing::Leaving);
        let ok = answer(&bye, "200 OK", "").replace(";tag=1;tag=1", ";tag=1");
        server.send_to(ok.as_bytes(), from).unwrap();
        until(&mut phone, Standing::Left);
    }

    #[test]
    fn a_refusal_is_told_by_its_status() {
        let (server, mut phone) = calling();
        let (invite, from) = read(&server);
        let busy = answer(&invite, "486 Busy Here", "");
        server.send_to(busy.as_bytes(), from).unwrap();
        until(&mut phone, Standing::Refused(486));
    }

    #[test]
    fn who_drops_the_telephone_hangs_up() {
        let (server, mut phone) = calling();
        let (invite, from) = read(&server);
        let ringing = answer(&invite, "180 Ringing", "");
        server.send_to(ringing.as_bytes(), from).unwrap();
        // Only what has rung can be cancelled (RFC 3261 section 9.1).
        sleep(Duration::from_millis(50));
        phone.run(Instant::now());
        drop(phone);
        assert!(read(&server).0.starts_with("CANCEL "));
    }
}
