//! What was acknowledged is there after a kill.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use palabre_admin::store::{NewRoom, Store};

const CHILD: &str = "PALABRE_TEST_DATABASE";

/// Not a check by itself: the process that the next test kills. It makes rooms and says each one's id and
/// code once the store has acknowledged it.
#[test]
fn the_child_that_is_killed() {
    let Some(file) = std::env::var_os(CHILD) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async move {
        let store = Store::open(file.as_ref()).await.unwrap();
        let mut out = std::io::stdout();
        loop {
            let new = NewRoom {
                name: "durable".to_owned(),
                max_participants: None,
            };
            let room = store.rooms.create(&new).await.unwrap();
            let room = store.rooms.change_code(&room.id).await.unwrap().unwrap();
            if writeln!(out, "room {} {}", room.id, room.code.as_str()).is_err() {
                return;
            }
            out.flush().unwrap();
        }
    });
}

#[tokio::test]
async fn a_kill_loses_no_room_and_no_code() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("palabre.db");
    for round in 1..=3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "durable::the_child_that_is_killed",
                "--nocapture",
            ])
            .env(CHILD, &file)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut told = Vec::new();
        while told.len() < 20 * round {
            let line = lines.next().expect("the child makes rooms").unwrap();
            if let Some((id, code)) = line.strip_prefix("room ").and_then(|l| l.split_once(' ')) {
                told.push((id.to_owned(), code.to_owned()));
            }
        }
        // SIGKILL, in the middle of the next write.
        child.kill().unwrap();
        child.wait().unwrap();
        // What was in the pipe was acknowledged too.
        for line in lines.map_while(Result::ok) {
            let parts = line.strip_prefix("room ").and_then(|l| l.split_once(' '));
            if let Some((id, code)) = parts.filter(|(_, code)| code.len() == 9) {
                told.push((id.to_owned(), code.to_owned()));
            }
        }
        let store = Store::open(&file).await.unwrap();
        for (id, code) in told {
            let room = store
                .rooms
                .by_id(&id)
                .await
                .unwrap()
                .expect("an acknowledged room is there");
            assert_eq!(room.code.as_str(), code);
        }
        store.close().await;
    }
}
