//! The box side: verifies and installs updates, says which slot holds what, and runs the trial of
//! a new version. Runs as root, for a moment at a time; `palabre` itself does not.

#[path = "palabre-update/installation.rs"]
mod installation;
#[path = "palabre-update/meetings.rs"]
mod meetings;
#[path = "palabre-update/observe.rs"]
mod observe;
#[path = "palabre-update/plain_http.rs"]
mod plain_http;
#[path = "palabre-update/serve.rs"]
mod serve;
#[path = "palabre-update/starts.rs"]
mod starts;
#[path = "palabre-update/stick.rs"]
mod stick;
#[path = "palabre-update/system.rs"]
mod system;
#[path = "palabre-update/trial.rs"]
mod trial;
#[path = "palabre-update/whole.rs"]
mod whole;

use std::ffi::OsString;
use std::fs;
use std::fs::File;
use std::io;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use installation::{Before, install};
use palabre_appliance::arguments::{Arguments, Usage};
use palabre_appliance::boot::{Bootloader, Entry, SdBoot, starts_next};
use palabre_appliance::bundle::{self, Image};
use palabre_appliance::history::{Event, History, What};
use palabre_appliance::keys::{self, Channel};
use palabre_appliance::protection::Protection;
use palabre_appliance::service::Status;
use palabre_appliance::slots;
use palabre_init::cmdline;
use palabre_init::cmdline::RootHash;
use palabre_init::disk::FileDisk;

const USAGE: &str = "\
palabre-update: the versions of this box

  palabre-update verify FILE                     check a bundle, write nothing
  palabre-update install FILE [--progress FILE] [--again]
                                                 write it to the other slot; --again: also one that
                                                 failed on this box
  palabre-update status [--json]                 what each slot holds, and why it starts or not
  palabre-update mark-good                       the running version is good
  palabre-update mark-bad WHY                    it is not; the next start takes another
  palabre-update previous                        start the other version next
  palabre-update stay                            do not start it after all
  palabre-update factory-reset                   the next start erases the data
  palabre-update forget-starts                   that none of the starts until now served is no
                                                 fault of this version
  palabre-update health [--url URL] [--call COMMAND] [--call-as USER] [--every SECONDS]
                        [--good-for SECONDS] [--no-reboot]
                                                 run the trial of a new version
  palabre-update provision [--usb FOLDER [--left-in]]
                                                 name, network and certificate; --left-in: the stick
                                                 was in when the box started
  palabre-update wait-for-meetings [--url URL] [--every SECONDS] [--empty-for SECONDS]
                                                 end once a restart ends no meeting
  palabre-update serve [--socket FILE] [--uploads FOLDER] [--user UID] [--confirm-within SECONDS]
                        do what the program asks; without --socket on the socket
                        that is the standard input


  --image FILE --keys FOLDER --esp FOLDER --disk DEVICE --state FOLDER --cmdline FILE
  --efivars FOLDER --root FOLDER --run FOLDER    where things are, when not in their places
";

/// How long another writer of the disk (udev looks at it now and then) may hold it.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// Bytes between two reports of progress.
const REPORT_EVERY: u64 = 2 << 20;

fn main() -> ExitCode {
    let given: Vec<OsString> = std::env::args_os().skip(1).collect();
    match run(given) {
        Ok(text) => match io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(Failed::Usage(Usage(what))) => {
            eprintln!("{what}\n\n{USAGE}");
            ExitCode::from(2)
        }
        Err(Failed::Said { code, what }) => {
            eprintln!("error[{code}]: {what}");
            ExitCode::FAILURE
        }
    }
}

/// Why a command did nothing.
enum Failed {
    Usage(Usage),
    Said { code: &'static str, what: String },
}

impl Failed {
    fn said(code: &'static str, what: impl ToString) -> Self {
        let what = what.to_string();
        Self::Said { code, what }
    }
}

impl From<Usage> for Failed {
    fn from(usage: Usage) -> Self {
        Self::Usage(usage)
    }
}

impl From<bundle::Refused> for Failed {
    fn from(refused: bundle::Refused) -> Self {
        Self::said(refused.code(), refused)
    }
}

impl From<slots::Refused> for Failed {
    fn from(refused: slots::Refused) -> Self {
        Self::said(refused.code(), refused)
    }
}

/// Where things are on this box.
struct Places {
    image: PathBuf,
    keys: PathBuf,
    esp: PathBuf,
    disk: Option<PathBuf>,
    state: PathBuf,
    cmdline: PathBuf,
    variables: PathBuf,
    root: PathBuf,
    run: PathBuf,
}

impl Places {
    fn from(arguments: &mut Arguments) -> Result<Self, Usage> {
        let mut at = |name: &str, usual: &str| {
            let given = arguments.value(name)?;
            Ok::<_, Usage>(PathBuf::from(given.unwrap_or_else(|| usual.to_owned())))
        };
        Ok(Self {
            image: at("--image", "/usr/lib/palabre/image.json")?,
            keys: at("--keys", "/usr/lib/palabre/keys")?,
            esp: at("--esp", "/efi")?,
            state: at("--state", "/var/lib/palabre/update")?,
            cmdline: at("--cmdline", "/proc/cmdline")?,
            variables: at("--efivars", "/sys/firmware/efi/efivars")?,
            root: at("--root", "/")?,
            run: at("--run", "/run")?,
            disk: arguments.value("--disk")?.map(PathBuf::from),
        })
    }

    fn image(&self) -> Result<Image, Failed> {
        let text = text(&self.image, "image")?;
        serde_json::from_str(&text)
            .map_err(|error| Failed::said("image", format!("{}: {error}", self.image.display())))
    }

    fn keys(&self) -> Result<Vec<keys::PublicKey>, Failed> {
        keys::trusted(&self.keys).map_err(|error| Failed::said("keys", error))
    }

    fn root_hash(&self) -> Result<RootHash, Failed> {
        let line = text(&self.cmdline, "cmdline")?;
        let asked = cmdline::parse(&line).map_err(|refused| Failed::said("cmdline", refused))?;
        Ok(asked.root_hash)
    }

    fn boot(&self) -> SdBoot {
        SdBoot::new(&self.esp, &self.variables)
    }

    fn history(&self) -> History {
        History::new(&self.state)
    }

    /// The disk that the box runs from: given, or left by the first program.
    fn disk(&self, write: bool) -> Result<FileDisk, Failed> {
        let path = match &self.disk {
            Some(path) => path.clone(),
            None => PathBuf::from(text(&self.run.join("palabre/disk"), "disk")?.trim()),
        };
        let fail = |error: io::Error| Failed::said("disk", format!("{}: {error}", path.display()));
        let mut file = File::options()
            .read(true)
            .write(write)
            .open(&path)
            .map_err(fail)?;
        let device = file.metadata().map_err(fail)?.file_type().is_block_device();
        let bytes = file.seek(SeekFrom::End(0)).map_err(fail)?;
        let sector = match device {
            true => {
                let path = fs::canonicalize(&path).map_err(fail)?;
                let name = path.file_name().unwrap_or_default();
                let queue = Path::new("/sys/class/block")
                    .join(name)
                    .join("queue/logical_block_size");
                text(&queue, "disk")?.trim().parse().unwrap_or(512)
            }
            false => 512,
        };
        Ok(FileDisk::new(file, sector, bytes))
    }
}

fn text(path: &Path, code: &'static str) -> Result<String, Failed> {
    fs::read_to_string(path)
        .map_err(|error| Failed::said(code, format!("{}: {error}", path.display())))
}

fn run(given: Vec<OsString>) -> Result<String, Failed> {
    let mut arguments = Arguments::new(
        given,
        &["--again", "--json", "--left-in", "--no-reboot", "--help"],
    );
    if arguments.flag("--help") {
        return Ok(USAGE.to_owned());
    }
    let places = Places::from(&mut arguments)?;
    let command = arguments.needed_word("a command")?;
    match command.as_str() {
        "verify" => {
            let file = PathBuf::from(arguments.needed_word("FILE")?);
            arguments.end()?;
            verify(&places, &file)
        }
        "install" => {
            let file = PathBuf::from(arguments.needed_word("FILE")?);
            let progress = arguments.value("--progress")?.map(PathBuf::from);
            let failed = match arguments.flag("--again") {
                true => Before::TriedAgain,
                false => Before::Refused,
            };
            arguments.end()?;
            let done = open(&file).and_then(|opened| {
                install(&places, opened, failed, &mut |phase, done, all, version| {
                    let told = serde_json::json!({
                        "phase": phase, "done": done, "all": all, "version": version,
                    });
                    tell(progress.as_deref(), &told);
                })
            });
            if let Err(Failed::Said { code, what }) = &done {
                let told = serde_json::json!({"phase": "refused", "code": code, "why": what});
                tell(progress.as_deref(), &told);
            }
            let version = done?;
            Ok(format!("version {version} starts next, on trial\n"))
        }
        "status" => {
            let json = arguments.flag("--json");
            arguments.end()?;
            status(&places, json)
        }
        "mark-good" => {
            arguments.end()?;
            mark_good(&places, "")
        }
        "mark-bad" => {
            let why = arguments.needed_word("WHY")?;
            arguments.end()?;
            mark_bad(&places, &why)
        }
        "previous" => {
            arguments.end()?;
            previous(&places)
        }
        "stay" => {
            arguments.end()?;
            stay(&places)
        }
        "factory-reset" => {
            arguments.end()?;
            places
                .boot()
                .factory_reset(true)
                .map_err(|error| Failed::said("firmware", error))?;
            Ok("the next start erases the data\n".to_owned())
        }
        "forget-starts" => {
            arguments.end()?;
            starts::forget(&places)
        }
        "health" => {
            let no_reboot = arguments.flag("--no-reboot");
            let trial = trial::Run::from(&mut arguments)?;
            arguments.end()?;
            let said = trial.run(&places, !no_reboot)?;
            // Also one that proved good long ago: a factory reset erased the floor.
            keep_floor(&places, places.image()?.floor);
            Ok(said)
        }
        "provision" => {
            let provision = stick::Provision::from(&mut arguments)?;
            arguments.end()?;
            provision.run(&places)
        }
        "wait-for-meetings" => {
            let wait = meetings::Wait::from(&mut arguments)?;
            arguments.end()?;
            wait.run(&places, |line| {
                // Who reads may have gone: that is no reason not to wait.
                let _ = writeln!(io::stdout(), "{line}");
            })
        }
        "serve" => {
            let line = serve::Line::from(&mut arguments)?;
            arguments.end()?;
            line.serve(places)
        }
        other => Err(Usage(format!("`{other}` is no command")).into()),
    }
}

fn open(file: &Path) -> Result<File, Failed> {
    File::open(file)
        .map_err(|error| Failed::said("bundle-unreadable", format!("{}: {error}", file.display())))
}

fn verify(places: &Places, file: &Path) -> Result<String, Failed> {
    let mut bundle = bundle::open(open(file)?, &places.keys()?)?;
    bundle
        .manifest()
        .suits(&places.image()?, places.history().floor())?;
    bundle.check_parts(|_| {})?;
    let manifest = bundle.manifest();
    Ok(format!(
        "version {} ({}), {} {}: signed and complete\n",
        manifest.version, manifest.display, manifest.flavour, manifest.arch
    ))
}

/// Takes the disk for ourselves, as systemd asks of whoever changes its partitions.
fn lock(file: &File) -> Result<(), Failed> {
    use rustix::fs::{FlockOperation, flock};
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(100)),
            Err(error) => {
                let what = format!("another installation is running, or the disk is held: {error}");
                return Err(Failed::said("busy", what));
            }
        }
    }
}

/// Replaces the file of progress. Who reads it sees a whole report or none.
fn tell(path: Option<&Path>, told: &serde_json::Value) {
    if let Some(path) = path {
        let unfinished = path.with_extension("new");
        let _ =
            fs::write(&unfinished, told.to_string()).and_then(|()| fs::rename(&unfinished, path));
    }
}

/// Something that happens now.
fn event(what: What, version: u64, why: &str) -> Event {
    let at = std::time::UNIX_EPOCH
        .elapsed()
        .map_or(0, |age| age.as_secs());
    Event {
        at,
        what,
        version,
        why: why.to_owned(),
        root_hash: None,
    }
}

/// Keeps an event. A full disk must not stand in the way of what was done.
fn keep(places: &Places, event: Event) {
    if let Err(error) = places.history().add(event) {
        eprintln!("the history is not kept: {error}");
    }
}

fn remember(places: &Places, what: What, version: u64, why: &str) {
    keep(places, event(what, version, why));
}

fn esp(error: io::Error) -> Failed {
    Failed::said("esp", format!("EFI system partition: {error}"))
}

/// What runs, and its entry.
fn running(places: &Places) -> Result<(Image, Vec<Entry>, Option<Entry>), Failed> {
    let image = places.image()?;
    let entries = places.boot().entries().map_err(esp)?;
    let own = entries
        .iter()
        .find(|entry| entry.version == image.version)
        .copied();
    Ok((image, entries, own))
}

/// Everything there is to say of the versions.
fn look(places: &Places) -> Result<Status, Failed> {
    let (image, entries, own) = running(places)?;
    let boot = places.boot();
    // Of a version that is gone the boot loader starts nothing.
    let once = boot
        .chosen_once()
        .filter(|version| entries.iter().any(|entry| entry.version == *version));
    let disk = places.disk(false)?;
    let (_, slots) = slots::read(&disk, &image.arch)?;
    let history = places.history();
    let line = |path: PathBuf| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.trim().to_owned()
    };
    Ok(Status {
        host: line(places.run.join("palabre/hostname")),
        boot: line(places.root.join("proc/sys/kernel/random/boot_id")),
        development: image.channel == Channel::Development,
        on_trial: own.is_some_and(|entry| entry.trial.is_some()),
        protection: Protection::read(&places.root, &places.variables),
        slots: slots::report(
            &slots,
            &entries,
            &places.root_hash()?,
            once.or_else(|| boot.chosen()),
        ),
        once,
        floor: history.floor().max(image.floor),
        pending: history.pending(),
        last_failure: history.last_failure(),
        history: history.events(),
        image,
    })
}

fn status(places: &Places, json: bool) -> Result<String, Failed> {
    let told = look(places)?;
    if json {
        let text = serde_json::to_string_pretty(&told).map_err(|e| Failed::said("status", e))?;
        return Ok(text + "\n");
    }
    let image = told.image;
    let mut text = format!("runs version {} ({})", image.version, image.display);
    if image.channel == Channel::Development {
        text.push_str(", DEVELOPMENT keys");
    }
    text.push('\n');
    for report in told.slots {
        let version = report
            .version
            .map_or("-".to_owned(), |version| version.to_string());
        let runs = if report.runs { ", runs" } else { "" };
        let next = if report.starts_next {
            ", starts next"
        } else {
            ""
        };
        let state = format!("{:?}", report.state).to_lowercase();
        let why = report.why;
        text.push_str(&format!(
            "slot {}: version {version}, {state}{runs}{next}: {why}\n",
            report.slot
        ));
    }
    text.push_str(&format!(
        "secure boot: {}\ndata: {}\n",
        told.protection.secure_boot.words(),
        told.protection.data.words()
    ));
    if let Some(failure) = told.last_failure {
        text.push_str(&format!(
            "version {} failed: {}\n",
            failure.version, failure.why
        ));
    }
    Ok(text)
}

fn mark_good(places: &Places, note: &str) -> Result<String, Failed> {
    let (image, _, own) = running(places)?;
    let version = image.version;
    let Some(own) = own else {
        return Err(Failed::said("running-no-entry", slots::Refused::NoEntry));
    };
    let mut boot = places.boot();
    boot.mark_good(version).map_err(esp)?;
    let next = boot.chosen().or(starts_next(&boot.entries().map_err(esp)?));
    if next != Some(version) {
        // The version before was asked for, and it holds: it stays.
        boot.default(Some(version))
            .map_err(|error| Failed::said("firmware", error))?;
    }
    let history = places.history();
    let pending = history
        .pending()
        .filter(|pending| pending.version == version);
    // A power cut at the end of an installation may have left nothing that is pending.
    keep_floor(places, pending.map_or(0, |p| p.floor).max(image.floor));
    if pending.is_some()
        && let Err(error) = history.set_pending(None)
    {
        eprintln!("version {version} is still remembered as pending: {error}");
    }
    if own.trial.is_some() {
        remember(places, What::Good, version, note);
    }
    starts::serves(places, version);
    Ok(format!("version {version} is good\n"))
}

/// The box accepts nothing older from now on. A full disk must not stand in the way of a version that serves.
fn keep_floor(places: &Places, floor: u64) {
    if let Err(error) = places.history().raise_floor(floor) {
        eprintln!("the floor {floor} is not remembered: {error}");
    }
}

fn mark_bad(places: &Places, why: &str) -> Result<String, Failed> {
    let (image, _, own) = running(places)?;
    let version = image.version;
    remember(places, What::Bad, version, why);
    // What proved good once was only tried again; it is not branded.
    if own.is_some_and(|entry| entry.trial.is_some()) {
        places.boot().mark_bad(version).map_err(esp)?;
    }
    Ok(format!("version {version} is bad: {why}\n"))
}

fn previous(places: &Places) -> Result<String, Failed> {
    let (image, entries, _) = running(places)?;
    let other = entries
        .iter()
        .find(|entry| entry.version != image.version && !entry.is_bad());
    let Some(other) = other else {
        return Err(Failed::said(
            "no-previous",
            "there is no other version that can start",
        ));
    };
    let firmware = |error| Failed::said("firmware", error);
    places.boot().once(Some(other.version)).map_err(firmware)?;
    remember(places, What::Previous, other.version, "");
    Ok(format!(
        "version {} starts next; it stays if it is good\n",
        other.version
    ))
}

/// The version that was asked for once is not started after all.
fn stay(places: &Places) -> Result<String, Failed> {
    let mut boot = places.boot();
    let asked = boot.chosen_once();
    boot.once(None)
        .map_err(|error| Failed::said("firmware", error))?;
    let next = look(places)?;
    let next = next.starts_next().unwrap_or(next.image.version);
    if asked.is_some() {
        remember(places, What::Stays, next, "");
    }
    Ok(format!("version {next} starts next\n"))
}
