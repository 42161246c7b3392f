//! A disk without one free block: what is stored is served, the administrator clears up, and nothing else is written.

use std::process::Command;

use palabre_tests::disk::Disk;
use palabre_tests::network::isolated;
use palabre_tests::program::{Program, binary};
use serde_json::{Value, json};

/// What the program needs, and some.
const DISK: u64 = 24 << 20;

/// Takes the disk and what the program has left of it. What the last room was answered.
fn fill(disk: &Disk, program: &mut Program) -> Value {
    disk.fill();
    for _ in 0..10_000 {
        let name = json!({"name": "x".repeat(100)});
        let (status, answer) = program.request("POST", "/api/v1/rooms", Some(&name));
        if status != 201 {
            assert_eq!(status, 507, "{answer}");
            return answer;
        }
    }
    panic!("a full disk takes rooms without end");
}

/// `palabre call --check`, as a box calls itself.
fn call(program: &Program) {
    let made = Command::new(binary())
        .args(["call", "--check", "--timeout", "60s"])
        .env("PALABRE__STORAGE__FOLDER", program.folder())
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "the call failed: {said}");
}

#[test]
fn on_a_full_disk_the_administrator_signs_in_and_deletes_and_the_box_calls_itself() {
    if !isolated() {
        return;
    }
    let Some(disk) = Disk::mounted(DISK) else {
        return;
    };
    let mut program = Program::start_in(&disk.path().join("data"), &[]);
    program.claim();
    let rooms: Vec<Value> = (0..20).map(|_| program.create_room("Conseil")).collect();
    let path = |room: &Value| format!("/api/v1/rooms/{}", room["id"].as_str().expect("an id"));
    let refused = fill(&disk, &mut program);
    assert_eq!(refused["code"], "storage_full");

    program.ok("DELETE", "/api/v1/session", None);
    program.sign_in();
    program.ok("DELETE", &path(&rooms[0]), None);
    fill(&disk, &mut program);
    call(&program);

    // As an update starts: the data are there, the disk is full.
    program.kill_and_restart_after(|_| disk.fill());
    program.sign_in();
    program.ok("DELETE", &path(&rooms[1]), None);
    program.ok("GET", "/readyz", None);
    let (status, _) = program.request("GET", &path(&rooms[1]), None);
    assert_eq!(status, 404);
    for room in &rooms[2..] {
        program.ok("GET", &path(room), None);
    }
    fill(&disk, &mut program);
    call(&program);

    disk.clear();
    program.create_room("Nouvelle");
}
