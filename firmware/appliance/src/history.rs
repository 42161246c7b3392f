//! What happened to the box's versions, kept on the data partition: a bounded list of events, the
//! update that is on trial, and the oldest version that is still accepted.
//!
//! Never needed to boot: with a full or missing data partition the box runs, and only forgets.

use std::fs;
use std::io;
use std::io::Write;
use std::path::{Path, PathBuf};

use palabre_init::cmdline::RootHash;
use serde::{Deserialize, Serialize};

/// The most events that are kept. A box that is updated monthly remembers eight years.
const MOST: usize = 100;
/// The longest file that is read.
const MAX_BYTES: u64 = 1 << 20;
/// The longest reason that is kept, in characters.
const MAX_WHY: usize = 500;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// A version was written to the other slot.
    Installed,
    /// A version proved good.
    Good,
    /// A trial failed.
    Bad,
    /// A bundle was refused.
    Refused,
    /// Somebody asked for the other version.
    Previous,
    /// Somebody called that off: this version starts next.
    Stays,
    /// The data saved before a version are back: an older one could not read what it made of them.
    Restored,
    /// Settings on a stick were taken.
    SettingsTaken,
    /// Settings on a stick were refused.
    SettingsRefused,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Seconds since 1970, by the clock of the box, right or wrong.
    pub at: u64,
    /// What happened.
    pub what: What,
    /// To which version; 0 when it is not known.
    pub version: u64,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// The root hash of what was installed: two files may claim one version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_hash: Option<String>,
}

/// An update that was installed and is not good yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Its version.
    pub version: u64,
    /// The floor it asks for once it is good.
    pub floor: u64,
}

/// The folder that remembers.
#[derive(Debug, Clone)]
pub struct History(PathBuf);

impl History {
    /// The memory in `folder`, which is made when something is first kept.
    pub fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// Every event that is kept, oldest first. Lines that are not understood are passed over.
    pub fn events(&self) -> Vec<Event> {
        let text = read(&self.0.join("history.jsonl")).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// The last failed trial, unless a later one of the same version went well.
    pub fn last_failure(&self) -> Option<Event> {
        let events = self.events();
        let at = events.iter().rposition(|event| event.what == What::Bad)?;
        let version = events[at].version;
        let cured = events[at..]
            .iter()
            .any(|e| e.version == version && e.what == What::Good);
        (!cured).then(|| events[at].clone())
    }

    /// The failed trial of this version with this root, unless it was followed by a good one.
    pub fn failure_of(&self, version: u64, root_hash: &RootHash) -> Option<Event> {
        let root_hash = root_hash.to_string();
        let events = self.events();
        let installed = |event: &Event| event.version == version && event.what == What::Installed;
        let of_this_root =
            |event: &Event| installed(event) && event.root_hash.as_ref() == Some(&root_hash);
        let at = events.iter().rposition(of_this_root)?;
        // From there on the version is this root, until it is installed with another.
        let judged = events[at + 1..]
            .iter()
            .take_while(|event| !installed(event));
        let judged = judged.filter(|event| {
            event.version == version && matches!(event.what, What::Good | What::Bad)
        });
        judged
            .last()
            .filter(|event| event.what == What::Bad)
            .cloned()
    }

    /// Keeps an event.
    pub fn add(&self, mut event: Event) -> io::Result<()> {
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        event.why = event.why.chars().take(MAX_WHY).map(plain).collect();
        fs::create_dir_all(&self.0)?;
        // The service of the box, a trial and a person at a console may each have something to add.
        let folder = fs::File::open(&self.0)?;
        rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive)?;
        let mut events = self.events();
        events.push(event);
        let from = events.len().saturating_sub(MOST);
        let line = |event: &Event| serde_json::to_string(event).map(|line| line + "\n");
        let lines: Result<String, _> = events[from..].iter().map(line).collect();
        self.replace("history.jsonl", &lines.map_err(io::Error::other)?)
    }

    /// The oldest version that is accepted.
    pub fn floor(&self) -> u64 {
        let text = read(&self.0.join("floor")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    /// Raises the floor. It never sinks.
    pub fn raise_floor(&self, floor: u64) -> io::Result<()> {
        match floor > self.floor() {
            true => self.replace("floor", &format!("{floor}\n")),
            false => Ok(()),
        }
    }

    /// The update that is not good yet.
    pub fn pending(&self) -> Option<Pending> {
        serde_json::from_str(&read(&self.0.join("pending.json")).ok()?).ok()
    }

    /// Remembers, or forgets, the update that is not good yet.
    pub fn set_pending(&self, pending: Option<Pending>) -> io::Result<()> {
        match pending {
            Some(pending) => {
                let text = serde_json::to_string(&pending).map_err(io::Error::other)?;
                self.replace("pending.json", &text)
            }
            None => match fs::remove_file(self.0.join("pending.json")) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            },
        }
    }

    fn replace(&self, name: &str, text: &str) -> io::Result<()> {
        fs::create_dir_all(&self.0)?;
        replace(&self.0.join(name), text.as_bytes(), 0o644)
    }
}

/// Replaces a file as a whole: after a power cut it has its old content or the new one.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let unfinished = path.with_file_name(name);
    // A leftover may have another mode.
    let _ = fs::remove_file(&unfinished);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    match path.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn read(path: &Path) -> io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    fs::File::open(path)?
        .take(MAX_BYTES)
        .read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(what: What, version: u64) -> Event {
        Event {
            at: 5,
            what,
            version,
            why: String::new(),
            root_hash: None,
        }
    }

    #[test]
    fn the_list_is_bounded_and_survives_damage() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::new(&folder.path().join("update"));
        assert!(history.events().is_empty());
        for version in 0..150 {
            history.add(event(What::Installed, version)).unwrap();
        }
        let events = history.events();
        assert_eq!((events.len(), events[0].version), (MOST, 50));
        let path = folder.path().join("update/history.jsonl");
        let text = fs::read_to_string(&path)
            .unwrap()
            .replacen("{", "half a line", 1);
        fs::write(&path, text).unwrap();
        assert_eq!(history.events().len(), MOST - 1);
        history
            .add(Event {
                why: "a\nb".repeat(1000),
                ..event(What::Bad, 9)
            })
            .unwrap();
        let last = history.last_failure().unwrap();
        assert_eq!(last.why.len(), MAX_WHY);
        assert!(!last.why.contains('\n'));
    }

    #[test]
    fn a_failure_is_told_until_the_version_is_good() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::new(folder.path());
        assert_eq!(history.last_failure(), None);
        history.add(event(What::Bad, 3)).unwrap();
        history.add(event(What::Good, 2)).unwrap();
        assert_eq!(history.last_failure().unwrap().version, 3);
        history.add(event(What::Good, 3)).unwrap();
        assert_eq!(history.last_failure(), None);
    }

    #[test]
    fn a_failure_is_of_one_version_and_one_root() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::new(folder.path());
        let root = |digits: &str| RootHash::parse(&digits.repeat(32)).unwrap();
        let install = |digits: &str| {
            let root_hash = Some(root(digits).to_string());
            let installed = event(What::Installed, 3);
            history
                .add(Event {
                    root_hash,
                    ..installed
                })
                .unwrap();
        };
        let failed = |digits: &str| history.failure_of(3, &root(digits)).is_some();
        // Of a version that was installed before roots were kept, nothing is known.
        history.add(event(What::Installed, 3)).unwrap();
        history.add(event(What::Bad, 3)).unwrap();
        assert!(!failed("aa"));
        install("aa");
        assert!(!failed("aa"));
        history.add(event(What::Bad, 4)).unwrap();
        assert!(!failed("aa"));
        history.add(event(What::Bad, 3)).unwrap();
        assert!(failed("aa") && !failed("bb"));
        // What was asked for or refused is no verdict.
        history.add(event(What::Previous, 3)).unwrap();
        history.add(event(What::Refused, 3)).unwrap();
        assert!(failed("aa"));
        install("bb");
        history.add(event(What::Good, 3)).unwrap();
        assert!(failed("aa") && !failed("bb"));
        install("aa");
        assert!(!failed("aa"), "it is tried again");
        history.add(event(What::Bad, 3)).unwrap();
        history.add(event(What::Good, 3)).unwrap();
        assert!(!failed("aa"));
    }

    #[test]
    fn the_floor_never_sinks() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::new(folder.path());
        assert_eq!(history.floor(), 0);
        history.raise_floor(4).unwrap();
        history.raise_floor(2).unwrap();
        assert_eq!(history.floor(), 4);
        let pending = Pending {
            version: 6,
            floor: 5,
        };
        history.set_pending(Some(pending)).unwrap();
        assert_eq!(history.pending(), Some(pending));
        history.set_pending(None).unwrap();
        history.set_pending(None).unwrap();
        assert_eq!(history.pending(), None);
    }

    #[test]
    fn events_of_several_writers_are_all_kept() {
        let folder = tempfile::tempdir().unwrap();
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let history = History::new(folder.path());
                std::thread::spawn(move || {
                    for number in 0..20 {
                        let version = 100 * writer + number;
                        history.add(event(What::Installed, version)).unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        let mut versions: Vec<u64> = History::new(folder.path())
            .events()
            .iter()
            .map(|event| event.version)
            .collect();
        versions.sort_unstable();
        versions.dedup();
        assert_eq!(versions.len(), 80);
    }
}
