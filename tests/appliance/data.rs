//! Data of two versions.

use std::time::{Duration, Instant};

use palabre_tests::program::Program;

use super::Appliance;

/// Gives a database a schema that no version has yet; whether Python could.
#[allow(clippy::print_stdout)]
fn future(database: &std::path::Path) -> bool {
    let script = "import sqlite3, sys; d = sqlite3.connect(sys.argv[1]); \
        d.execute(\"insert into _sqlx_migrations values (9999, 'future', '2026-01-01', 1, x'00', 0)\"); \
        d.commit(); d.close()";
    let python = std::process::Command::new("python3")
        .args(["-c", script])
        .arg(database)
        .status();
    match python {
        Ok(status) => {
            assert!(status.success(), "{status}");
            true
        }
        Err(_) => {
            println!("skipped: python3 not found");
            false
        }
    }
}

#[test]
fn an_older_version_finds_its_data_as_they_were() {
    let mut appliance = Appliance::start();
    let Appliance { bench, program, .. } = &mut appliance;
    program.create_room("of version 1");
    // Version 2 runs, and changes the database to a schema of its own.
    bench.runs(2);
    program.kill_and_restart();
    assert!(program.folder().join("backup/before-2/palabre.db").exists());
    program.create_room("of version 2");
    bench.runs(1);
    let mut is_changed = false;
    program.kill_and_restart_after(|folder| is_changed = future(&folder.join("palabre.db")));
    if !is_changed {
        return;
    }
    let told = |program: &Program| {
        let mut lines = program.said.iter();
        lines.any(|line| line.contains("the data from before version 2"))
    };
    assert!(told(program), "{:?}", program.said);
    let rooms = program.ok("GET", "/api/v1/rooms", None);
    assert_eq!(rooms["total"], 1);
    assert_eq!(rooms["rooms"][0]["name"], "of version 1");
    assert!(program.folder().join("aside/schema-9999-1.db").exists());
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let history = program.ok("GET", "/api/v1/appliance/history", None);
        if history["events"][0]["what"] == "restored" {
            assert_eq!(history["events"][0]["version"], 2);
            break;
        }
        assert!(Instant::now() < deadline, "{history}");
    }
    // Told once, as soon as it has written down that it has: cut in between, it tells it again.
    let version = program.folder().join("version.json");
    loop {
        let written = std::fs::read(&version).expect("what runs is written down");
        let written: serde_json::Value = serde_json::from_slice(&written).expect("JSON");
        if written["restored"].is_null() {
            break;
        }
        assert!(Instant::now() < deadline, "{written}");
        std::thread::yield_now();
    }
    program.kill_and_restart();
    assert!(!told(program), "{:?}", program.said);
    let rooms = program.ok("GET", "/api/v1/rooms", None);
    assert_eq!(rooms["total"], 1);
}
