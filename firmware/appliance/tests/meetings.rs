//! A restart that a stick asked for waits until nobody is in a meeting.

#[path = "support/bench.rs"]
mod bench;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bench::Bench;

/// Answers each request with the next of these until one is left, which it repeats; counts them.
fn answering_in_turn(answers: Vec<String>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/metrics", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 1024]);
            let at = count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
            let _ = stream.write_all(answers[at].as_bytes());
        }
    });
    (url, asked)
}

/// The page of metrics while so many people are in rooms.
fn people(count: u32) -> String {
    format!(
        "HTTP/1.0 200 OK\r\n\r\n# TYPE palabre_engine_participants gauge\n\
         palabre_engine_participants_joined_total 9\npalabre_engine_participants {count}\n"
    )
}

/// What `wait-for-meetings` says until it ends.
fn waited(url: &str) -> String {
    let fast = ["--every", "1", "--empty-for", "1"];
    Bench::new().good(&[&["wait-for-meetings", "--url", url], fast.as_slice()].concat())
}

#[test]
fn a_restart_after_a_stick_waits_for_meetings_and_says_so() {
    // Nobody is there: at the first look, and nothing is said.
    let (url, asked) = answering_in_turn(vec![people(0)]);
    assert_eq!(waited(&url), "");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    // Somebody is, is missed for a moment, comes back and leaves.
    let (url, asked) = answering_in_turn([3, 0, 2, 0, 0].map(people).into());
    let said = waited(&url);
    assert!(
        said.starts_with("This takes effect once nobody is in a meeting any more (3 now)."),
        "{said}"
    );
    assert_eq!(said.lines().count(), 2, "once, in two languages: {said}");
    assert_eq!(asked.load(Ordering::SeqCst), 5);
}

#[test]
fn a_program_that_does_not_say_who_is_there_is_not_waited_for() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}/metrics", closed.local_addr().unwrap());
    drop(closed);
    let refusal = "HTTP/1.0 403 Forbidden\r\n\r\nno".to_owned();
    let (refuses, asked) = answering_in_turn(vec![refusal.clone()]);
    // A single silence is none.
    let turns = [people(1), refusal, people(1), people(0)];
    let (pauses, _) = answering_in_turn(turns.into());
    std::thread::scope(|scope| {
        let told = [nobody, refuses, pauses].map(|url| scope.spawn(move || waited(&url)));
        let told = told.map(|told| told.join().unwrap().contains("does not answer"));
        assert_eq!(told, [true, true, false]);
    });
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[test]
fn a_restart_after_a_stick_waits_for_an_installation_too() {
    let bench = Bench::new();
    let disk = fs::File::open(bench.at("disk")).unwrap();
    disk.lock().unwrap();
    let (url, asked) = answering_in_turn(vec![people(0)]);
    let mut waits = bench.updater();
    let mut child = waits
        .args(["wait-for-meetings", "--url", &url, "--every", "1"])
        .spawn()
        .unwrap();
    while asked.load(Ordering::SeqCst) < 2 {
        std::thread::yield_now();
    }
    assert!(child.try_wait().unwrap().is_none(), "it did not wait");
    drop(disk);
    assert!(child.wait().unwrap().success());
}
