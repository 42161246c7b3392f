//! The planned restart, with a scripted engine and a scripted box.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use palabre_admin::{Appliance, ApplianceConfig};
use palabre_appliance::service::{Answer, Progress, Refusal, Reply, Request, Status, TimeState};
use palabre_appliance::stick::Time;
use palabre_engine::settings::Span;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;
use tokio::sync::mpsc;

use crate::server::Script;

/// A box where it is `now`, seconds of the first day of 1970, and whose restart `restart` answers.
async fn answers(listener: UnixListener, now: Arc<AtomicU64>, restart: impl Fn() -> Reply) {
    let status: Status = serde_json::from_value(json!({
        "host": "palabre-test", "boot": "one", "development": true, "on_trial": false,
        "image": {
            "product": "palabre", "arch": "amd64", "flavour": "core", "version": 1, "display": "1",
            "channel": "development",
        },
        "protection": {"secure_boot": "off", "data": "plain"},
        "slots": [], "once": null, "floor": 0, "pending": null, "last_failure": null, "history": [],
    }))
    .unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let reply = match serde_json::from_str(&line).unwrap() {
            Request::Status => Reply::Answer(Answer::Status(Box::new(status.clone()))),
            Request::Progress => Reply::Answer(Answer::Progress(Progress::default())),
            Request::Time => Reply::Answer(Answer::Time(TimeState {
                kept: Time::default(),
                is_synchronised: true,
                now: now.load(Ordering::SeqCst),
            })),
            Request::Restart => restart(),
            other => panic!("{other:?}"),
        };
        stream.write_all(reply.line().as_bytes()).await.unwrap();
    }
}

/// An installation always begins just before the restart.
fn installs_again() -> Reply {
    Reply::Refused(Refusal {
        code: "installing".to_owned(),
        what: "an installation is running".to_owned(),
    })
}

#[tokio::test]
async fn a_restart_that_the_box_refuses_after_the_notice_is_called_off() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("box.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let answers = tokio::spawn(answers(listener, Arc::default(), installs_again));
    let plan = json!({"boot": "one", "when": "now"}).to_string();
    std::fs::write(folder.path().join("restart.json"), plan).unwrap();
    let config = ApplianceConfig {
        socket: Some(socket),
        notice_before_restart: Span::from_secs(1),
        ..ApplianceConfig::default()
    };
    let appliance = Appliance::new(&config, folder.path()).unwrap().unwrap();
    let script = Arc::new(Script::default());
    script.put("RM_full", &["anne"]);
    script.put("RM_empty", &[]);
    let (tell, mut told) = mpsc::unbounded_channel();
    *script.told.lock().unwrap() = Some(tell);
    let watch = tokio::spawn(appliance.keep_watch(script));
    for seconds in [json!(1), Value::Null] {
        let said = tokio::time::timeout(Duration::from_secs(20), told.recv());
        let said = said.await.expect("people are told in time").unwrap();
        assert_eq!(said.room, "RM_full");
        assert_eq!(said.topic.as_deref(), Some("palabre.restart"));
        let data: Value = serde_json::from_slice(&said.data).unwrap();
        assert_eq!(data, json!({"seconds": seconds}));
    }
    watch.abort();
    answers.abort();
    assert!(folder.path().join("restart.json").exists(), "it waits");
}

/// Seconds of a day, of `HH:MM`.
fn clock(hour: u64, minute: u64) -> u64 {
    60 * (60 * hour + minute)
}

#[tokio::test]
async fn a_restart_in_a_window_waits_for_it_and_for_people_unless_it_ends() {
    for force in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("box.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let now = Arc::new(AtomicU64::new(clock(21, 59)));
        let (restart, mut restarted) = mpsc::unbounded_channel();
        let answers = tokio::spawn(answers(listener, Arc::clone(&now), move || {
            restart.send(()).unwrap();
            Reply::Answer(Answer::Done)
        }));
        let plan = json!({
            "boot": "one", "when": {"window": {"from": "22:00", "to": "05:00", "force": force}},
        });
        std::fs::write(folder.path().join("restart.json"), plan.to_string()).unwrap();
        let config = ApplianceConfig {
            socket: Some(socket),
            empty_before_restart: Span::from_secs(0),
            notice_before_restart: Span::from_secs(1),
            ..ApplianceConfig::default()
        };
        let appliance = Appliance::new(&config, folder.path()).unwrap().unwrap();
        let script = Arc::new(Script::default());
        let (tell, mut told) = mpsc::unbounded_channel();
        *script.told.lock().unwrap() = Some(tell);
        let watch = tokio::spawn(appliance.keep_watch(Arc::clone(&script) as _));
        let two_looks = Duration::from_secs(11);
        // Nobody is in a room, and it is not yet time.
        let early = tokio::time::timeout(two_looks, restarted.recv()).await;
        assert!(early.is_err(), "before the window");
        // It is time, and somebody is in a room.
        script.put("RM_late", &["anne"]);
        now.store(clock(4, 58), Ordering::SeqCst);
        let occupied = tokio::time::timeout(two_looks, restarted.recv()).await;
        assert!(occupied.is_err(), "somebody is in a room");
        assert!(
            told.try_recv().is_err(),
            "nobody is told of what may not come"
        );
        match force {
            false => script.put("RM_late", &[]),
            true => now.store(clock(4, 59), Ordering::SeqCst),
        }
        let begun = tokio::time::timeout(Duration::from_secs(30), restarted.recv());
        begun.await.expect("it restarts").unwrap();
        assert_eq!(told.try_recv().is_ok(), force, "people are told first");
        watch.abort();
        answers.abort();
    }
}
