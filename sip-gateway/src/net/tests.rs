use palabre_engine::directory::{BoxFuture, RoomCode};
use palabre_engine::door::{Refusal, Source};
use palabre_engine::{JoinError, LegError, LegIdentity, LegParameters, LegUpdate, Prompt};

use super::*;
use crate::call::Found;
use crate::metrics::Ended;
use crate::rooms::{Line, Opened};

struct NoRooms;
struct NoLine;

impl Rooms for NoRooms {
    type Line = NoLine;

    fn look_up(&self, _: Source, _: String) -> BoxFuture<'static, Result<Found, Refusal>> {
        Box::pin(async { Err(Refusal::Malformed) })
    }

    fn lines(&self) -> usize {
        usize::MAX
    }

    fn open_line(&self, _: LegParameters) -> BoxFuture<'static, Opened<NoLine>> {
        Box::pin(async { Err(LegError::Stopped) })
    }
}

impl Line for NoLine {
    fn play(&self, _: Prompt) {}
    fn stop_playing(&self) {}
    fn update(&self, _: LegUpdate) {}
    fn set_muted(&self, _: bool) {}
    fn join(
        &self,
        _: palabre_engine::directory::RoomTicket,
        _: LegIdentity,
    ) -> BoxFuture<'static, Result<(), JoinError>> {
        Box::pin(async { Err(JoinError::Stopping) })
    }
}

fn config(bind: SocketAddr) -> SipConfig {
    SipConfig {
        bind,
        ..SipConfig::default()
    }
}

fn anywhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

#[tokio::test]
async fn a_taken_port_is_named_with_the_key_to_change() {
    let first = Sip::start(config(anywhere()), NoRooms)
        .await
        .expect("a free port");
    let error = Sip::start(config(first.address()), NoRooms)
        .await
        .expect_err("taken")
        .to_string();
    let port = first.address().port().to_string();
    for part in [port.as_str(), "sip.bind", "UDP", "another program"] {
        assert!(error.contains(part), "{error}");
    }
    first.shut_down().await;

    let tcp = std::net::TcpListener::bind(anywhere()).unwrap();
    let taken = tcp.local_addr().unwrap();
    let error = Sip::start(config(taken), NoRooms)
        .await
        .expect_err("taken")
        .to_string();
    let port = taken.port().to_string();
    for part in [port.as_str(), "sip.bind", "TCP", "another program"] {
        assert!(error.contains(part), "{error}");
    }
}

/// Rooms with a bug that the first caller meets.
#[derive(Default)]
struct Buggy(std::sync::atomic::AtomicBool);

impl Rooms for Buggy {
    type Line = NoLine;

    fn look_up(&self, _: Source, _: String) -> BoxFuture<'static, Result<Found, Refusal>> {
        let met = self.0.swap(true, std::sync::atomic::Ordering::Relaxed);
        assert!(met, "the bug of this test");
        Box::pin(async { Err(Refusal::Malformed) })
    }

    fn lines(&self) -> usize {
        usize::MAX
    }

    fn open_line(&self, _: LegParameters) -> BoxFuture<'static, Opened<NoLine>> {
        Box::pin(async { Err(LegError::Stopped) })
    }
}

/// Dials a code from a socket of its own; the status of the final answer.
async fn dial(to: SocketAddr, call: &str) -> String {
    let phone = UdpSocket::bind(anywhere()).await.unwrap();
    let contact = phone.local_addr().unwrap();
    let invite = format!(
        "INVITE sip:123456789@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {contact};branch=z9hG4bK{call}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:a@{contact}>;tag=1\r\nTo: <sip:123456789@{to}>\r\n\
         Call-ID: {call}\r\nCSeq: 1 INVITE\r\nContact: <sip:a@{contact}>\r\nContent-Length: 0\r\n\r\n"
    );
    phone.send_to(invite.as_bytes(), to).await.unwrap();
    let mut answer = [0; 2_048];
    loop {
        let received = phone.recv(&mut answer);
        let length = tokio::time::timeout(std::time::Duration::from_secs(10), received)
            .await
            .expect("an answer")
            .unwrap();
        let status = String::from_utf8_lossy(&answer[..length])[8..11].to_owned();
        if !status.starts_with('1') {
            return status;
        }
    }
}

#[tokio::test]
async fn a_bug_costs_one_call_and_not_the_telephony() {
    let sip = Sip::start(config(anywhere()), Buggy::default())
        .await
        .expect("a free port");
    let is_running = sip.is_running();
    assert_eq!(dial(sip.address(), "one").await, "480");
    assert_eq!(sip.metrics().panics(), 1);
    assert_eq!(sip.metrics().calls(Ended::Failed), 1);
    assert_eq!(sip.metrics().calls_now(), 0);
    assert_eq!(dial(sip.address(), "two").await, "404");
    assert_eq!(sip.metrics().panics(), 1);
    assert!(is_running());
    sip.shut_down().await;
    assert!(!is_running());
}

/// A mixer with one line, below what the configuration allows.
struct OneLine;

impl Rooms for OneLine {
    type Line = NoLine;

    fn look_up(&self, _: Source, code: String) -> BoxFuture<'static, Result<Found, Refusal>> {
        let ticket = palabre_engine::directory::RoomTicket {
            room: "room".into(),
            title: "Budget".into(),
            code: RoomCode::parse(&code).unwrap(),
            max_participants: None,
        };
        Box::pin(async {
            Ok(Found {
                ticket,
                full: false,
            })
        })
    }

    fn lines(&self) -> usize {
        1
    }

    fn open_line(&self, _: LegParameters) -> BoxFuture<'static, Opened<NoLine>> {
        Box::pin(async { Err(LegError::Full { limit: 1 }) })
    }
}

#[tokio::test]
async fn a_call_for_which_there_is_no_line_is_not_answered() {
    let sip = Sip::start(config(anywhere()), OneLine)
        .await
        .expect("a free port");
    assert_eq!(dial(sip.address(), "one").await, "200");
    assert_eq!(dial(sip.address(), "two").await, "503");
    sip.shut_down().await;
}

#[tokio::test]
async fn whoever_watches_learns_that_the_task_has_ended() {
    let sip = Sip::start(config(anywhere()), NoRooms)
        .await
        .expect("a free port");
    let is_running = sip.is_running();
    let ended = sip.ended();
    assert!(is_running());
    sip.task.abort();
    tokio::time::timeout(std::time::Duration::from_secs(10), ended)
        .await
        .expect("the end is told");
    assert!(!is_running());
}

#[tokio::test]
async fn a_stopped_gateway_frees_its_ports() {
    let sip = Sip::start(config(anywhere()), NoRooms)
        .await
        .expect("a free port");
    let address = sip.address();
    sip.shut_down().await;
    let again = Sip::start(config(address), NoRooms)
        .await
        .expect("free again");
    again.shut_down().await;
}

#[tokio::test]
async fn an_unusable_folder_of_recordings_is_refused_at_the_start() {
    let folder = std::env::temp_dir().join(format!("palabre-net-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("en")).unwrap();
    std::fs::write(folder.join("en/welcome.wav"), b"RIFF").unwrap();
    let mut config = config(anywhere());
    config.prompts = Some(folder.clone());
    let started = Sip::start(config, NoRooms).await;
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(matches!(started, Err(StartError::Prompt(_))));
}

const OPTIONS: &str = "OPTIONS sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:5999;branch=z9hG4bKnet1\r\n\
    Max-Forwards: 70\r\nFrom: <sip:a@127.0.0.1>;tag=1\r\nTo: <sip:127.0.0.1>\r\nCall-ID: net1\r\n\
    CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";

async fn read_until_end(stream: &mut tokio::net::TcpStream) -> Vec<u8> {
    use tokio::io::AsyncReadExt as _;
    let mut all = Vec::new();
    let reading = stream.read_to_end(&mut all);
    // A reset is an end too.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(10), reading)
        .await
        .expect("the connection is closed");
    all
}

#[tokio::test]
async fn a_message_in_pieces_over_tcp_is_answered() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let sip = Sip::start(config(anywhere()), NoRooms)
        .await
        .expect("a free port");
    let mut stream = tokio::net::TcpStream::connect(sip.address()).await.unwrap();
    for piece in OPTIONS.as_bytes().chunks(40) {
        stream.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut answer = [0; 11];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"SIP/2.0 200");
    sip.shut_down().await;
}

#[tokio::test]
async fn connections_that_say_nothing_too_much_or_nonsense_are_closed() {
    use tokio::io::AsyncWriteExt as _;
    let mut config = config(anywhere());
    config.idle = palabre_engine::settings::Span::from_millis(300);
    config.connections_per_source = 2;
    let sip = Sip::start(config, NoRooms).await.expect("a free port");
    let mut silent = tokio::net::TcpStream::connect(sip.address()).await.unwrap();
    let mut nonsense = tokio::net::TcpStream::connect(sip.address()).await.unwrap();
    let mut third = tokio::net::TcpStream::connect(sip.address()).await.unwrap();
    assert_eq!(
        read_until_end(&mut third).await,
        b"",
        "above the limit of its source"
    );
    // 64 KiB without the end of a head: no SIP message is like that.
    let _ = nonsense.write_all(&vec![b'x'; 1 << 18]).await;
    read_until_end(&mut nonsense).await;
    assert_eq!(read_until_end(&mut silent).await, b"");
    let figure = |name: &str, label: Option<&str>| {
        let samples = sip.metrics().samples();
        let found = samples
            .into_iter()
            .find(|s| s.name == name && s.label.map(|l| l.1) == label);
        found.expect("a figure").value
    };
    assert_eq!(figure("palabre_sip_dropped_total", Some("idle")), 1);
    assert!(figure("palabre_sip_refused_total", Some("broken_stream")) >= 2);
    assert_eq!(figure("palabre_sip_connections", None), 0);
    sip.shut_down().await;
}
