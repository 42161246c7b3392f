//! Processes under measurement: where the program is, what CPU time a process has used.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use palabre_tests::program::{Program, expected};

/// Ticks a second of the figures in /proc: `USER_HZ`, 100 on all machines we build for.
const USER_HZ: u64 = 100;

/// The program on free ports of loopback, built as it is now when it is to be measured. Ends this
/// process when that fails; without measuring, says that it is not there and gives none.
#[allow(clippy::exit)] // the end of a bench's process is its report
pub(crate) fn program(options: &[(&str, &str)]) -> Option<Program> {
    let binary = expected();
    if palabre_benches::is_measuring() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--release", "--locked", "--quiet", "-p", "palabre"])
            .status();
        if !built.is_ok_and(|status| status.success()) {
            println!("the program does not build, so it is not measured");
            std::process::exit(1);
        }
    }
    if !binary.exists() {
        let profile = if cfg!(debug_assertions) {
            ""
        } else {
            " --release"
        };
        println!(
            "skipped: {} not found; build it with `cargo build{profile} -p palabre`",
            binary.display()
        );
        if palabre_benches::is_measuring() {
            std::process::exit(1);
        }
        return None;
    }
    let mut all = vec![
        ("PALABRE__HTTP__BIND", "127.0.0.1:0"),
        ("PALABRE__MEDIA__BIND", "127.0.0.1:0"),
        ("PALABRE__LOG__LEVEL", "error"),
    ];
    all.extend_from_slice(options);
    Some(Program::start(&all))
}

/// User and system time of a process.
pub(crate) fn cpu_time(process: u32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    stat_time(&text).expect("the format of proc(5)")
}

/// The same of each of its threads' names, longest first.
pub(crate) fn thread_times(process: u32) -> BTreeMap<String, Duration> {
    let mut times: BTreeMap<String, Duration> = BTreeMap::new();
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    for task in tasks.flatten() {
        // A thread may end meanwhile.
        let Ok(text) = fs::read_to_string(task.path().join("stat")) else {
            continue;
        };
        let name = text
            .split_once('(')
            .and_then(|(_, rest)| rest.rsplit_once(')'));
        if let (Some((name, _)), Some(time)) = (name, stat_time(&text)) {
            *times.entry(name.to_owned()).or_default() += time;
        }
    }
    times
}

/// Fields 14 and 15 of proc(5)'s stat; the second field, in parentheses, may hold anything.
fn stat_time(text: &str) -> Option<Duration> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 1_000 / USER_HZ))
}

/// Resident memory of a process, in MiB.
pub(crate) fn resident(process: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    text.lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|value| value.split_ascii_whitespace().next()?.parse::<f64>().ok())
        .unwrap_or(0.0)
        / 1_024.0
}
