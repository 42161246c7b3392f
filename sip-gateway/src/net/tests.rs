use palabre_engine::directory::BoxFuture;
use palabre_engine::door::{Refusal, Source};
use palabre_engine::{JoinError, LegError, LegIdentity, LegParameters, LegUpdate, Prompt};

use super::*;
use crate::call::Found;
use crate::rooms::{Line, Opened};

struct NoRooms;
struct NoLine;

impl Rooms for NoRooms {
    type Line = NoLine;

    fn look_up(&self, _: Source, _: String) -> BoxFuture<'static, Result<Found, Refusal>> {
        Box::pin(async { Err(Refusal::Malformed) })
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
    let error = Sip::start(config(taken), NoRooms).await.expect_err("taken");
    assert!(error.to_string().contains("TCP"), "{error}");
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
