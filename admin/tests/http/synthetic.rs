//! The room lent for a synthetic call: what it opens, to whom, and that it ends.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use livekit_api::access_token::VideoGrants;
use palabre_admin::synthetic::{Answer, Lender, Lent, SOCKET, SyntheticCalls, Ways};
use palabre_engine::directory::RoomCode;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::server::Server;

/// Nothing here takes this long.
const PATIENCE: Duration = Duration::from_secs(20);

fn lender(server: &Server, longest: Duration) -> Lender {
    Lender {
        store: server.store.clone(),
        live: server.script.clone(),
        ways: Ways {
            http: server.address,
            sip: None,
        },
        longest,
    }
}

async fn listen(server: &Server, folder: &Path, longest: Duration) -> SyntheticCalls {
    let lender = lender(server, longest);
    SyntheticCalls::listen(folder, lender).await.unwrap()
}

/// Opens the socket: the loan, and what was said.
async fn borrow(folder: &Path) -> (BufReader<UnixStream>, Answer) {
    let stream = UnixStream::connect(folder.join(SOCKET)).await.unwrap();
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    (stream, serde_json::from_str(&line).unwrap())
}

fn lent(answer: Answer) -> Lent {
    match answer {
        Answer::Lent(lent) => lent,
        other => panic!("{other:?}"),
    }
}

/// Status of a join with this token, before anything is opened.
async fn validate(server: &Server, token: &str) -> u16 {
    let path = format!("/rtc/validate?access_token={token}");
    server.get(&path, &[]).await.status
}

#[tokio::test]
async fn a_lent_room_opens_to_who_borrows_it_and_is_nowhere_else() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let _calls = listen(&server, folder.path(), PATIENCE).await;
    // Nobody has claimed the box yet.
    let (loan, answer) = borrow(folder.path()).await;
    let lent = lent(answer);
    assert_eq!(lent.ways.http, server.address);
    assert_eq!(validate(&server, &lent.speaker).await, 200);
    assert_eq!(validate(&server, &lent.listener).await, 200);
    let (speaker, listener) = {
        let mut checked = server.script.checked.lock().unwrap();
        let listener = checked.pop().unwrap().grants;
        (checked.pop().unwrap().grants, listener)
    };
    assert!(speaker.can_publish && !speaker.can_subscribe);
    assert!(listener.can_subscribe && !listener.can_publish);
    for grants in [&speaker, &listener] {
        assert!(!grants.room_admin && !grants.room_create && !grants.room_list);
        assert_eq!(grants.room, speaker.room);
    }
    let code = RoomCode::parse(&lent.code).unwrap();
    let found = server.store.rooms.by_code(&code).await.unwrap().unwrap();
    assert_eq!(found.id, speaker.room);
    // Not for the administrator's list, nor for LiveKit's.
    let cookie = server.claim().await;
    let list = server.get("/api/v1/rooms", &[("Cookie", &cookie)]).await;
    assert_eq!(list.json()["total"], 0, "{}", list.text());
    server.script.put(&speaker.room, &["speaker"]);
    let grants = VideoGrants {
        room_list: true,
        ..VideoGrants::default()
    };
    let bearer = format!("Bearer {}", server.token(grants).await);
    let path = "/twirp/livekit.RoomService/ListRooms";
    let headers = [("Authorization", bearer.as_str())];
    let list = server.call("POST", path, &headers, json!({})).await;
    assert_eq!(list.json(), json!({}), "{}", list.text());

    // One at a time.
    assert_eq!(borrow(folder.path()).await.1, Answer::Busy);

    drop(loan);
    ended(&server, &speaker.room, &lent).await;
    lent_again(folder.path()).await;
}

/// Waits until the room is gone, and everything that opened it opens nothing.
async fn ended(server: &Server, room: &str, lent: &Lent) {
    let gone = async {
        while server.script.rooms.lock().unwrap().contains_key(room) {
            server.script.deleted.notified().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("the room is deleted");
    assert_eq!(validate(server, &lent.speaker).await, 404);
    let code = RoomCode::parse(&lent.code).unwrap();
    assert_eq!(server.store.rooms.by_code(&code).await.unwrap(), None);
}

async fn lent_again(folder: &Path) {
    let (_loan, answer) = borrow(folder).await;
    lent(answer);
}

#[tokio::test]
async fn a_loan_ends_by_itself() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let _calls = listen(&server, folder.path(), Duration::from_millis(300)).await;
    let (mut loan, answer) = borrow(folder.path()).await;
    let lent = lent(answer);
    let code = RoomCode::parse(&lent.code).unwrap();
    let room = server.store.rooms.by_code(&code).await.unwrap().unwrap().id;
    server.script.put(&room, &["speaker"]);
    // The end of the connection is the end of the loan.
    let end = timeout(PATIENCE, loan.read_u8()).await.expect("in time");
    assert!(end.is_err());
    ended(&server, &room, &lent).await;
    lent_again(folder.path()).await;
}

#[tokio::test]
async fn the_socket_is_its_owners_and_goes_with_the_program() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(SOCKET);
    // A start that was killed left one.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let calls = listen(&server, folder.path(), PATIENCE).await;
    let there = std::fs::symlink_metadata(&path).unwrap();
    assert!(there.file_type().is_socket());
    assert_eq!(there.permissions().mode() & 0o777, 0o600);
    lent_again(folder.path()).await;
    drop(calls);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_folder_that_holds_no_socket_is_named() {
    let server = Server::start().await;
    let lender = lender(&server, PATIENCE);
    let refused = SyntheticCalls::listen(Path::new("/absent"), lender).await;
    let said = refused.expect_err("no folder").to_string();
    assert!(said.contains("/absent/call.sock"), "{said}");
}
