//! The trial of a new version: looked at until it is good, or goes back.

use std::process::Command;
use std::time::{Duration, Instant};

use palabre_appliance::arguments::{Arguments, Usage};
use palabre_appliance::boot::{Bootloader, Entry, Trial, starts_next};
use palabre_appliance::health;
use palabre_appliance::history::{Event, What};

use palabre_init::variables::{LOADER, Variables};

use super::{Failed, Places, mark_bad, mark_good, observe, remember, running, starts, whole};

/// How long a version that has proved good may take to serve before the box starts again: a start is then counted against it,
/// and the third gives the other version its place. More waits for a disk that is full or repaired, less for one that hangs.
const PATIENCE: Duration = Duration::from_secs(900);

/// What `health` was told.
pub(crate) struct Run {
    patience: Duration,
    watch: observe::Watch,
    every: Duration,
    policy: health::Policy,
}

impl Run {
    pub(crate) fn from(arguments: &mut Arguments) -> Result<Self, Usage> {
        let mut seconds = |name: &str, usual| arguments.seconds(name, usual);
        let usual = health::Policy::default();
        let every = seconds("--every", Duration::from_secs(10))?;
        let good_for = seconds("--good-for", usual.good_for)?;
        let grace = seconds("--grace", usual.grace)?;
        let patience = seconds("--patience", PATIENCE)?;
        let url = arguments.value("--url")?;
        let url = url.unwrap_or_else(|| "http://127.0.0.1:8080/readyz".to_owned());
        let call = arguments.value("--call")?;
        let user = arguments.value("--call-as")?;
        Ok(Self {
            patience,
            watch: observe::Watch::new(&url, call, user.as_deref())?,
            every,
            policy: health::Policy {
                good_for,
                grace,
                ..usual
            },
        })
    }

    pub(crate) fn run(mut self, places: &Places, reboot: bool) -> Result<String, Failed> {
        let (image, entries, _) = match running(places) {
            Ok(all) => all,
            Err(failed) if !is_counted(places) => return self.unjudged(places, failed),
            Err(failed) => return Err(failed),
        };
        explain_failures(places, &entries, image.version);
        let version = image.version;
        let proven = || {
            let (_, entries, own) = running(places)?;
            let next = places.boot().chosen().or_else(|| starts_next(&entries));
            let on_trial = own.is_some_and(|entry| entry.trial.is_some());
            Ok::<_, Failed>(!on_trial && next == Some(version))
        };
        // One that stands in for another has as long as a trial; then it is judged like one.
        let stands_in = starts::stands_in(places, version);
        if stands_in {
            if self.watch.serves_within(self.policy.grace) {
                if !is_whole(places) {
                    // The other one does not serve at all.
                    return Ok(format!(
                        "version {version} serves, though not all of it can be read\n"
                    ));
                }
                starts::serves(places, version);
            }
        } else if proven()? {
            self.must_serve(places, version)?;
        }
        if proven()? {
            return Ok(format!("version {version} has proved good before\n"));
        }
        let mut trial = health::Trial::new(self.policy);
        let began = Instant::now();
        let mut whole = false;
        loop {
            let mut failures = self.watch.look(&places.state, image.created);
            // Once, and early: what a damaged block ends begins again from there. A full disk or a wrong clock is no reason not to.
            if !whole
                && !failures
                    .iter()
                    .any(|failure| failure.check.is_of_the_version())
            {
                whole = is_whole(places);
                if !whole {
                    failures.push(health::Failure {
                        check: health::Check::Root,
                        why: "not all of it can be read from the disk".to_owned(),
                    });
                }
            }
            match trial.observe(began.elapsed(), &failures) {
                health::Verdict::Wait(good) => {
                    for failure in &failures {
                        eprintln!("trial: {}: {}", failure.check.name(), failure.why);
                    }
                    if failures.is_empty() {
                        eprintln!("trial: good for {} s", good.as_secs());
                    }
                    std::thread::sleep(self.every);
                }
                health::Verdict::Bless(lacking) => {
                    let note =
                        lacking.map_or(String::new(), |f| format!("{}: {}", f.check.name(), f.why));
                    return mark_good(places, &note);
                }
                health::Verdict::Rollback(failure) => {
                    let why = format!("{}: {}", failure.check.name(), failure.why);
                    let said = mark_bad(places, &why);
                    if reboot {
                        eprintln!("trial: {why}; going back");
                        let asked = Command::new("systemctl")
                            .args(["--no-block", "reboot"])
                            .status();
                        asked.map_err(|error| Failed::said("reboot", error))?;
                    }
                    let said = said?;
                    return Err(Failed::said("trial-failed", said.trim_end()));
                }
            }
        }
    }
}

impl Run {
    /// Waits until a version that is not on trial serves.
    fn must_serve(&self, places: &Places, version: u64) -> Result<(), Failed> {
        if self.watch.serves_within(self.patience) {
            if is_whole(places) {
                starts::serves(places, version);
            }
            return Ok(());
        }
        let what = format!(
            "version {version} has proved good before and does not serve: the box starts again. If this comes again and again, a stick can begin with empty data: see the manual"
        );
        Err(Failed::said("never-served", what))
    }

    /// The files of the boot loader cannot be read, and it counts no tries of this start: what serves is left alone.
    fn unjudged(&self, places: &Places, failed: Failed) -> Result<String, Failed> {
        let version = places.image()?.version;
        self.must_serve(places, version)?;
        match failed {
            Failed::Said { code, what } => Ok(format!(
                "version {version} serves, and is not judged: error[{code}]: {what}\n"
            )),
            usage => Err(usage),
        }
    }
}

/// Whether all of the root is there. A block that verity refuses restarts the box; one that the disk does not give leaves this
/// start counted, and the box at work.
fn is_whole(places: &Places) -> bool {
    match whole::read(&places.root) {
        Ok(_) => true,
        Err(error) => {
            eprintln!(
                "the root cannot be read whole: {error}; this start counts as one that did not serve"
            );
            false
        }
    }
}

/// Whether the boot loader counts this start as a try.
fn is_counted(places: &Places) -> bool {
    let variables = Variables::new(&places.variables);
    variables.read("LoaderBootCountPath", LOADER).is_some()
}

/// A version whose tries ran out without a word gets its line in the history now, by the version
/// that the box fell back to. The last try of the running version is not over.
fn explain_failures(places: &Places, entries: &[Entry], running: u64) {
    let events = places.history().events();
    let failed = |entry: &&Entry| entry.is_bad() && entry.version != running;
    for entry in entries.iter().filter(failed) {
        if let Err(error) = places.boot().never_instead(entry.version) {
            eprintln!(
                "the firmware does not remember that version {} failed: {error}",
                entry.version
            );
        }
        // What was asked for, and what became of its data, say nothing of its tries.
        let about = |event: &&Event| {
            event.version == entry.version && !matches!(event.what, What::Previous | What::Restored)
        };
        if events
            .iter()
            .rev()
            .find(about)
            .is_some_and(|event| event.what == What::Bad)
        {
            continue;
        }
        let tries = entry.trial.map_or(0, |Trial { done, .. }| done);
        let why = format!(
            "it ended {tries} tries without a report: it did not start, hung, or its root is damaged"
        );
        remember(places, What::Bad, entry.version, &why);
    }
}
