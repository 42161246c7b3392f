//! The planned restart, with a scripted engine and a scripted box.

use std::sync::Arc;
use std::time::Duration;

use palabre_admin::{Appliance, ApplianceConfig};
use palabre_appliance::service::{Answer, Progress, Refusal, Reply, Request, Status};
use palabre_engine::settings::Span;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;
use tokio::sync::mpsc;

use crate::server::Script;

/// A box on which an installation always begins just before the restart.
async fn installs_again(listener: UnixListener) {
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
            Request::Restart => Reply::Refused(Refusal {
                code: "installing".to_owned(),
                what: "an installation is running".to_owned(),
            }),
            other => panic!("{other:?}"),
        };
        stream.write_all(reply.line().as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn a_restart_that_the_box_refuses_after_the_notice_is_called_off() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("box.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let answers = tokio::spawn(installs_again(listener));
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
