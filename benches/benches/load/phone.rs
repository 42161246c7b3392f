//! A telephone that speaks plain SIP over UDP and PCMA: one call, no registration.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use palabre_media::rtp::{ExtensionForm, PacketWriter, RtpFields};

/// PCMA's static payload type (RFC 3551 table 4).
pub(crate) const PCMA: u8 = 8;

/// Samples of a packet: 20 ms.
pub(crate) const SAMPLES: usize = 160;

/// Nothing on loopback takes this long.
const PATIENCE: Duration = Duration::from_secs(10);

/// The telephone, in a call.
pub(crate) struct Phone {
    sip: UdpSocket,
    call: String,
    user: String,
    /// The To header with the other end's tag.
    to: String,
    pub(crate) line: Line,
}

impl Phone {
    /// Calls `user` at `server` and is answered.
    pub(crate) fn call(server: SocketAddr, user: &str) -> Self {
        let sip = UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
        sip.connect(server).expect("loopback has a route");
        sip.set_read_timeout(Some(PATIENCE)).expect("sockets can");
        let rtp = UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
        let mut random = [0; 8];
        aws_lc_rs::rand::fill(&mut random).expect("the system has randomness");
        let mut phone = Self {
            sip,
            call: format!("{:016x}", u64::from_be_bytes(random)),
            user: user.to_owned(),
            to: format!("<sip:{user}@{server}>"),
            line: Line::new(rtp, server),
        };
        let port = phone.line.local().port();
        let offer = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP {PCMA}\r\na=rtpmap:{PCMA} PCMA/8000\r\na=ptime:20\r\n"
        );
        phone.send("INVITE", 1, &offer);
        let answer = phone.answer();
        let value = |name: &str| {
            let line = answer.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name} in {answer}"))
                .trim()
        };
        phone.to = value("To:").to_owned();
        let host = value("c=IN IP4 ").parse().expect("an address");
        let port = value("m=audio ").split(' ').next().map(str::parse);
        let port = port.expect("a port").expect("a number");
        phone.line.remote = SocketAddr::new(host, port);
        phone.send("ACK", 1, "");
        phone
    }

    /// Waits for the final answer to the INVITE.
    fn answer(&self) -> String {
        let end = Instant::now() + PATIENCE;
        let mut buffer = [0; 4_096];
        while Instant::now() < end {
            let len = self.sip.recv(&mut buffer).expect("the program answers");
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            assert!(text.starts_with("SIP/2.0 "), "{text}");
            if !text.starts_with("SIP/2.0 1") {
                assert!(text.starts_with("SIP/2.0 200"), "{text}");
                return text;
            }
        }
        panic!("the program does not take the call");
    }

    fn send(&self, method: &str, sequence: u32, body: &str) {
        let here = self.sip.local_addr().expect("it is bound");
        let server = self.sip.peer_addr().expect("it is connected");
        let Self { call, user, to, .. } = self;
        let kind = if body.is_empty() {
            ""
        } else {
            "Content-Type: application/sdp\r\n"
        };
        let request = format!(
            "{method} sip:{user}@{server} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {here};branch=z9hG4bK{call}{method}{sequence};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:bench@{here}>;tag={call}\r\nTo: {to}\r\n\
             Call-ID: {call}\r\nCSeq: {sequence} {method}\r\nContact: <sip:bench@{here}>\r\n\
             {kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.sip
            .send(request.as_bytes())
            .expect("loopback takes it");
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.send("BYE", 2, "");
    }
}

/// Where its sound comes and goes.
pub(crate) struct Line {
    pub(crate) socket: UdpSocket,
    pub(crate) remote: SocketAddr,
    /// What it sends: payload type, and timestamp units in 20 ms.
    pub(crate) format: (u8, u32),
    sequence: u16,
}

impl Line {
    /// A line that sends PCMA to `remote`.
    pub(crate) fn new(socket: UdpSocket, remote: SocketAddr) -> Self {
        Self {
            socket,
            remote,
            format: (PCMA, SAMPLES as u32),
            sequence: 1,
        }
    }

    /// Where it listens.
    pub(crate) fn local(&self) -> SocketAddr {
        self.socket.local_addr().expect("it is bound")
    }

    /// The same line for another thread.
    pub(crate) fn clone(&self) -> Self {
        Self {
            socket: self.socket.try_clone().expect("there are descriptors"),
            remote: self.remote,
            format: self.format,
            sequence: self.sequence,
        }
    }

    /// Sends 20 ms.
    pub(crate) fn send(&mut self, payload: &[u8]) {
        let mut buffer = [0; 1_500];
        let (payload_type, step) = self.format;
        let fields = RtpFields {
            payload_type,
            marker: self.sequence == 1,
            sequence: self.sequence,
            timestamp: u32::from(self.sequence) * step,
            ssrc: u32::from(self.local().port()),
        };
        let mut writer = PacketWriter::start(&mut buffer, &fields, ExtensionForm::OneByte)
            .expect("the buffer is large enough");
        writer.payload(payload).expect("the buffer is large enough");
        let len = writer.finish();
        self.sequence = self.sequence.wrapping_add(1);
        let _ = self.socket.send_to(&buffer[..len], self.remote);
    }
}
