//! PID 1 of the appliance's initial file system: finds the root that the signed kernel image
//! names, has the kernel verify it, mounts it read-only and starts systemd on it.
//!
//! Never asks, never offers a shell. What cannot be booted is said in one line, and the machine
//! restarts after five seconds so that boot counting can fall back to the other slot. A version
//! that proved good once and then never serves falls back by a count of our own
//! ([`palabre_init::starts`]).

#[allow(unsafe_code)]
mod mapper;
mod mounts;
mod probe;
mod say;
mod turn;
#[allow(unsafe_code)]
mod watchdog;

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use palabre_init::cmdline;
use palabre_init::cmdline::RootHash;
use palabre_init::disk::ReadDisk;
use palabre_init::gpt;
use palabre_init::verity::{SUPERBLOCK_BYTES, Superblock};

use probe::{Drive, Loaded};
use turn::{Left, Turn};
use watchdog::Watchdog;

/// Long enough to be read on a screen, short enough for three tries within the time to fall back.
const RESTART_AFTER: Duration = Duration::from_secs(5);
/// How often the disks are looked at again while the right one is missing.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Modules that no device asks for, by the start of their names: the mapper, the file system, and
/// the algorithms that the kernel would fetch with modprobe, which is not here.
const ALWAYS: [&str; 9] = [
    "dm_mod",
    "dm_verity",
    "erofs",
    "crc32c",
    "libcrc32c",
    "sha256",
    "sha2_ce",
    "lz4_decompress",
    "efivarfs",
];
/// The command line that was signed, in the initial file system.
const SIGNED_LINE: &str = "/cmdline";
/// The program that the verified root continues with.
const SYSTEMD: &str = "/usr/lib/systemd/systemd";

fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!("palabre-init is the first program of the appliance; it does nothing elsewhere");
        return ExitCode::from(2);
    }
    let mut loaded = Loaded::default();
    let mut drives = Vec::new();
    let mut watchdog = None;
    let pause = match boot(&mut loaded, &mut drives, &mut watchdog) {
        Ok(never) => match never {},
        Err(Stopped::Left(Left { why, pause })) => {
            say::failed(&format!("{why}, in {} s", pause.as_secs()));
            pause
        }
        Err(Stopped::Failed(why)) => {
            let seen: Vec<String> = drives.iter().map(Drive::summary).collect();
            say::failed(&format!(
                "FAILED: {why}; disks: {}; modules: {}; restarting in {} s",
                if seen.is_empty() {
                    "none".to_owned()
                } else {
                    seen.join(", ")
                },
                loaded.summary(),
                RESTART_AFTER.as_secs(),
            ));
            RESTART_AFTER
        }
    };
    watchdog::wait(&mut watchdog, pause);
    let refused = rustix::system::reboot(rustix::system::RebootCommand::Restart);
    // PID 1 that ends is a kernel panic, and the command line has `panic=10`.
    say::failed(&format!("the kernel does not restart: {refused:?}"));
    ExitCode::FAILURE
}

/// Why this start does not go on.
enum Stopped {
    /// It cannot.
    Failed(String),
    /// It leaves its turn to another version.
    Left(Left),
}

impl From<String> for Stopped {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// Boots, or says why not.
fn boot(
    loaded: &mut Loaded,
    drives: &mut Vec<Drive>,
    watchdog: &mut Option<Watchdog>,
) -> Result<std::convert::Infallible, Stopped> {
    mounts::kernel_files()?;
    say::open();
    let text = |path| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let (line, signed) = (text("/proc/cmdline")?, text(SIGNED_LINE)?);
    let asked = cmdline::is_signed(&line, &signed).and_then(|()| cmdline::parse(&line));
    let asked = asked.map_err(|refused| refused.to_string())?;

    loaded.open()?;
    for prefix in ALWAYS {
        loaded.load_starting_with(prefix);
    }
    loaded.load_for_watchdog();
    watchdog::word(watchdog);
    mounts::firmware_variables();
    // Before anything that damage may end.
    let turn = Turn::begin(&asked.root_hash);
    let found = wait_for_root(&asked, loaded, drives, watchdog);
    turn.decide(&asked.root_hash, drives)
        .map_err(Stopped::Left)?;
    mounts::forget_firmware_variables();
    let (data, hash) = found?;
    let drive = &drives[data.drive];
    let superblock = read_superblock(drive, &data, &hash)?;
    let table = superblock.table(&data.node(), &hash.node(), &asked.root_hash);
    let root = mapper::verity(&superblock, &table, &asked.root_hash)?;
    let record = Record {
        disk: format!("/dev/{}", drive.name),
        root: format!(
            "data={} hash={} roothash={}",
            data.node(),
            hash.node(),
            asked.root_hash
        ),
    };
    mounts::root(&root)?;
    record.write()?;
    mounts::keep_policy()?;
    say::note(&format!(
        "root data={} hash={} modules={} watchdog={} uptime={}",
        data.name,
        hash.name,
        loaded.count(),
        patience(watchdog.as_ref()),
        uptime(),
    ));
    if let Some(watchdog) = watchdog.take() {
        watchdog.hand_over();
    }
    mounts::switch()?;
    let failed = Command::new(SYSTEMD).exec();
    Err(format!("{SYSTEMD} does not start: {failed}").into())
}

/// The watchdog in a word.
fn patience(watchdog: Option<&Watchdog>) -> String {
    match watchdog.map(Watchdog::seconds) {
        None => "none".to_owned(),
        Some(None) => "its own time".to_owned(),
        Some(Some(seconds)) => format!("{seconds}s"),
    }
}

/// A partition of one of the drives.
struct Found {
    drive: usize,
    name: String,
    first: u64,
    bytes: u64,
}

impl Found {
    fn node(&self) -> String {
        format!("/dev/{}", self.name)
    }
}

/// Loads drivers and looks at disks until both halves of the root are there.
fn wait_for_root(
    asked: &cmdline::Request,
    loaded: &mut Loaded,
    drives: &mut Vec<Drive>,
    watchdog: &mut Option<Watchdog>,
) -> Result<(Found, Found), String> {
    let deadline = Instant::now() + Duration::from_secs(asked.wait_seconds);
    let booted = probe::booted_esp();
    let mut near = None;
    loaded.load_for_disks(|| {
        watchdog::word(watchdog);
        *drives = probe::drives();
        near = find(&asked.root_hash, drives).filter(|(data, _)| {
            // The same root on a stick, from which the box was started, comes into sight later.
            let table = drives[data.drive].table.as_ref();
            booted.is_some_and(|esp| {
                table.is_ok_and(|table| table.partitions().iter().any(|p| p.uuid == esp))
            })
        });
        near.is_some()
    });
    if let Some(found) = near {
        return Ok(found);
    }
    loop {
        loaded.load_for_devices();
        watchdog::word(watchdog);
        *drives = probe::drives();
        if let Some(found) = find(&asked.root_hash, drives) {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(format!(
                "no disk has the root {} and its hash tree {} after {} s",
                asked.root_hash.root_uuid(),
                asked.root_hash.verity_uuid(),
                asked.wait_seconds
            ));
        }
        watchdog::wait(watchdog, LOOK_AGAIN);
    }
}

/// The partitions that hold the root, when some drive has both.
fn find(hash: &RootHash, drives: &[Drive]) -> Option<(Found, Found)> {
    let holding = |uuid, drive: &Drive| {
        let partitions = drive.table.as_ref().ok()?.partitions();
        let partition = partitions.into_iter().find(|p| p.uuid == uuid)?;
        let sector = u64::from(drive.disk.sector());
        Some(Found {
            drive: 0,
            name: drive.partition(partition.number)?,
            first: partition.first * sector,
            bytes: (partition.last - partition.first + 1) * sector,
        })
    };
    let mut candidates: Vec<(String, gpt::Table)> = Vec::new();
    for drive in drives {
        let complete = holding(hash.root_uuid(), drive).is_some()
            && holding(hash.verity_uuid(), drive).is_some();
        if let (true, Ok(table)) = (complete, &drive.table) {
            candidates.push((drive.name.clone(), table.clone()));
        }
    }
    let booted = match candidates.len() {
        0 | 1 => None,
        _ => probe::booted_esp(),
    };
    let name = gpt::choose(&candidates, booted)?;
    if candidates.len() > 1 {
        let names: Vec<&str> = candidates.iter().map(|(name, _)| name.as_str()).collect();
        say::note(&format!(
            "the root is on {}: {name} is used",
            names.join(" and ")
        ));
    }
    let at = drives.iter().position(|drive| drive.name == name)?;
    let of = |uuid| holding(uuid, &drives[at]).map(|found| Found { drive: at, ..found });
    Some((of(hash.root_uuid())?, of(hash.verity_uuid())?))
}

fn read_superblock(drive: &Drive, data: &Found, hash: &Found) -> Result<Superblock, String> {
    let mut block = [0; SUPERBLOCK_BYTES];
    drive
        .disk
        .read_at(hash.first, &mut block)
        .map_err(|error| format!("{} cannot be read: {error}", hash.name))?;
    Superblock::parse(&block, data.bytes).map_err(|refused| format!("{}: {refused}", hash.name))
}

/// What the system is told of the disk it runs from: nothing else can find it behind verity.
struct Record {
    disk: String,
    root: String,
}

impl Record {
    fn write(&self) -> Result<(), String> {
        let write = |name: &str, text: &str| {
            fs::write(format!("/run/palabre/{name}"), format!("{text}\n"))
                .map_err(|error| format!("/run/palabre/{name}: {error}"))
        };
        fs::create_dir_all("/run/palabre").map_err(|error| format!("/run/palabre: {error}"))?;
        write("disk", &self.disk)?;
        write("root", &self.root)
    }
}

fn uptime() -> String {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}
