//! The wall round the sans-IO parts of this crate: its other modules have sockets, threads and clocks at hand, so what the SIP
//! core and the calls above it are made of is read word by word. Comments and tests are not code.

use std::path::{Path, PathBuf};

/// Sans-IO: folders and files under `src`.
const INSIDE: [&str; 8] = [
    "sip",
    "call.rs",
    "call",
    "gateway.rs",
    "menu.rs",
    "keys.rs",
    "speech.rs",
    "caller.rs",
];

/// Words that only somebody needs who waits, locks, opens, asks the clock or rolls dice.
const OUTSIDE: [&str; 37] = [
    "async",
    "await",
    "tokio",
    "mio",
    "socket2",
    "nix",
    "libc",
    "reqwest",
    "UdpSocket",
    "TcpStream",
    "TcpListener",
    "UnixStream",
    "UnixListener",
    "UnixDatagram",
    "ToSocketAddrs",
    "SystemTime",
    "elapsed",
    "thread",
    "sleep",
    "spawn",
    "Mutex",
    "RwLock",
    "Condvar",
    "Barrier",
    "mpsc",
    "LazyLock",
    "OnceLock",
    "thread_local",
    "fs",
    "File",
    "env",
    "process",
    "stdin",
    "stdout",
    "rand",
    "getrandom",
    "aws_lc_rs",
];

/// The code of a source file: without its comments and its tests.
fn code(source: &str) -> String {
    let code = source.split("#[cfg(test)]\nmod tests {").next();
    let lines = code.unwrap_or_default().lines();
    let lines = lines.map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The first word in `source` that has no business inside the wall.
fn trespasser(source: &str) -> Option<&str> {
    if source.contains("::now") {
        return Some("::now");
    }
    source
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .find(|word| OUTSIDE.contains(word))
}

/// Every Rust file at or below `path` that is not a test.
fn files(path: &Path, found: &mut Vec<PathBuf>) {
    let name = path
        .file_stem()
        .expect("a path below src")
        .to_string_lossy();
    if name == "tests" {
        return;
    }
    if path.is_dir() {
        for entry in std::fs::read_dir(path).expect("a folder of sources") {
            files(&entry.expect("an entry").path(), found);
        }
    } else if path.extension().is_some_and(|end| end == "rs") {
        found.push(path.to_owned());
    }
}

#[test]
fn the_sans_io_parts_have_no_socket_clock_thread_lock_or_dice() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for part in INSIDE {
        let mut all = Vec::new();
        files(&src.join(part), &mut all);
        assert!(!all.is_empty(), "{part} is gone: mend the list");
        for file in all {
            let source = std::fs::read_to_string(&file).expect("a source file");
            assert_eq!(trespasser(&code(&source)), None, "{}", file.display());
        }
    }
}

#[test]
fn the_wall_sees_who_climbs_it_and_only_these() {
    for source in [
        "let now = Instant::now();",
        "use std::time::Instant as I; I::now()",
        "use tokio::net::UdpSocket;",
        "std::thread::spawn(move || {});",
        "pub(crate) async fn answer() {}",
        "state: Arc<Mutex<State>>,",
        "since.elapsed()",
    ] {
        assert!(trespasser(&code(source)).is_some(), "{source}");
    }
    for source in [
        "// a thread of tokio",
        "let due = now + delay; // not SystemTime",
        "#[cfg(test)]\nmod tests {\n let now = Instant::now();",
        "let thread_count = threads.spawned;",
    ] {
        assert_eq!(trespasser(&code(source)), None, "{source}");
    }
}
