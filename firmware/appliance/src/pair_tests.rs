//! Replacements of a pair whose power is cut before, in and after every operation.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use palabre_init::mutate::Seeded;

use super::*;

/// A file: its content, and how much of it is safe.
#[derive(Clone, Debug)]
struct Content {
    bytes: Vec<u8>,
    safe: usize,
}

/// A folder: its files, and whether their names are safe.
#[derive(Clone, Debug, Default)]
struct Folder {
    files: BTreeMap<String, Content>,
    is_safe: bool,
}

impl Folder {
    fn of(pair: (&str, &str)) -> Self {
        let mut folder = Self {
            is_safe: true,
            ..Self::default()
        };
        for (name, text) in [(CERTIFICATE.0, pair.0), (KEY.0, pair.1)] {
            let content = Content {
                bytes: text.into(),
                safe: text.len(),
            };
            folder.files.insert(name.to_owned(), content);
        }
        folder
    }

    /// What a restart finds of it.
    fn after_cut(mut self, chance: &mut Seeded) -> Self {
        if !self.is_safe {
            self.files.retain(|_, _| chance.below(2) == 0);
        }
        for content in self.files.values_mut() {
            let extra = chance.below(content.bytes.len() - content.safe + 1);
            content.bytes.truncate(content.safe + extra);
        }
        self
    }

    fn text(&self, name: &str) -> Option<String> {
        let content = self.files.get(name)?;
        Some(String::from_utf8_lossy(&content.bytes).into_owned())
    }
}

/// A disk whose power goes after so many operations.
struct CutDisk {
    left: usize,
    used: usize,
    chance: Seeded,
    read: Option<Folder>,
    beside: Option<Folder>,
    /// The names before, while the present ones are not safe.
    names_before: Option<(Option<Folder>, Option<Folder>)>,
}

impl CutDisk {
    fn new(read: Option<Folder>, operations: usize, seed: u64) -> Self {
        Self {
            left: operations,
            used: 0,
            chance: Seeded(seed),
            read,
            beside: None,
            names_before: None,
        }
    }

    /// Whether the operation happens, and whether the power stays.
    fn step(&mut self) -> (bool, io::Result<()>) {
        self.used += 1;
        let stays = self.left > 0;
        self.left = self.left.saturating_sub(1);
        match stays {
            true => (true, Ok(())),
            false => (
                self.chance.below(2) == 0,
                Err(io::Error::other("the power is gone")),
            ),
        }
    }

    /// The pair that a restart finds where it is read.
    fn after_cut(mut self) -> (Option<String>, Option<String>) {
        let back = self
            .names_before
            .take()
            .filter(|_| self.chance.below(2) == 0);
        let read = back.map_or(self.read, |(read, _)| read);
        let read = read.map(|folder| folder.after_cut(&mut self.chance));
        let text = |name| read.as_ref().and_then(|folder| folder.text(name));
        (text(CERTIFICATE.0), text(KEY.0))
    }
}

impl Disk for CutDisk {
    fn remove_beside(&mut self) -> io::Result<()> {
        let (happens, answer) = self.step();
        if happens {
            self.beside = None;
        }
        answer
    }
    fn make_beside(&mut self) -> io::Result<()> {
        let (happens, answer) = self.step();
        if happens {
            self.beside = Some(Folder::default());
        }
        answer
    }
    fn write(&mut self, (name, _): (&str, u32), text: &str) -> io::Result<()> {
        let (happens, answer) = self.step();
        if happens {
            let content = Content {
                bytes: text.into(),
                safe: 0,
            };
            let folder = self.beside.as_mut().unwrap();
            folder.files.insert(name.to_owned(), content);
        }
        answer
    }
    fn flush_file(&mut self, name: &str) -> io::Result<()> {
        let (happens, answer) = self.step();
        if happens {
            let folder = self.beside.as_mut().unwrap();
            let content = folder.files.get_mut(name).unwrap();
            content.safe = content.bytes.len();
        }
        answer
    }
    fn flush_beside(&mut self) -> io::Result<()> {
        let (happens, answer) = self.step();
        if happens {
            self.beside.as_mut().unwrap().is_safe = true;
        }
        answer
    }
    fn exchange(&mut self) -> io::Result<()> {
        let (happens, answer) = self.step();
        if happens {
            self.names_before = Some((self.read.clone(), self.beside.clone()));
            std::mem::swap(&mut self.read, &mut self.beside);
        }
        answer
    }
    fn flush_names(&mut self) -> io::Result<()> {
        let (happens, answer) = self.step();
        if happens {
            self.names_before = None;
        }
        answer
    }
}

const OLD: (&str, &str) = ("old certificate", "old key");
const NEW: (&str, &str) = ("new certificate", "new key");

fn found((certificate, key): (&str, &str)) -> Pair {
    (Some(certificate.to_owned()), Some(key.to_owned()))
}

/// Certificate and key.
type Pair = (Option<String>, Option<String>);

/// Every pair that restarts found when the power was cut at each operation of `job`, in many ways, and
/// whether the job was said to be done.
fn pairs_after_cuts(
    before: Option<(&str, &str)>,
    job: impl Fn(&mut CutDisk) -> io::Result<()>,
) -> Vec<(bool, Pair)> {
    let folder = || before.map(Folder::of);
    let mut whole = CutDisk::new(folder(), usize::MAX, 0);
    job(&mut whole).unwrap();
    let operations = whole.used;
    let mut pairs = Vec::new();
    for cut in 0..operations {
        for seed in 0..64 {
            let mut disk = CutDisk::new(folder(), cut, seed * 1000 + cut as u64);
            let done = job(&mut disk);
            pairs.push((done.is_ok(), disk.after_cut()));
        }
    }
    pairs
}

#[test]
fn a_cut_anywhere_leaves_the_old_pair_or_the_new_one() {
    for (before, old) in [(Some(OLD), found(OLD)), (None, (None, None))] {
        let pairs = pairs_after_cuts(before, |disk| replace_on(disk, NEW.0, NEW.1));
        for (is_done, pair) in &pairs {
            assert!(
                *pair == found(NEW) || (*pair == old && !is_done),
                "{pair:?}"
            );
        }
        assert!(pairs.contains(&(false, old)) && pairs.contains(&(false, found(NEW))));
    }
    // A leftover does no harm.
    for cut in 0..9 {
        let mut disk = CutDisk::new(Some(Folder::of(OLD)), cut, cut as u64);
        let _ = replace_on(&mut disk, "half", "half");
        disk.left = usize::MAX;
        replace_on(&mut disk, NEW.0, NEW.1).unwrap();
        assert_eq!(disk.after_cut(), found(NEW));
    }
}

/// A test that finds no fault in a replacement without its flushes would find none anywhere.
#[test]
fn the_disk_that_is_cut_loses_what_was_not_flushed() {
    let careless = pairs_after_cuts(Some(OLD), |disk| {
        disk.make_beside()?;
        disk.write(KEY, NEW.1)?;
        disk.write(CERTIFICATE, NEW.0)?;
        disk.exchange()?;
        disk.flush_names()
    });
    let is_whole = |(_, pair): &(bool, Pair)| *pair == found(OLD) || *pair == found(NEW);
    assert!(!careless.iter().all(is_whole));
}

#[test]
fn a_pair_on_a_disk_is_replaced_for_the_same_readers() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let read = |name: &str| fs::read_to_string(state.join(FOLDER).join(name)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    replace(&state, OLD.0, OLD.1).unwrap();
    assert_eq!((read(CERTIFICATE.0).as_str(), read(KEY.0).as_str()), OLD);
    // As tmpfiles.d makes it: of the program's group.
    let tls = state.join(FOLDER);
    fs::set_permissions(&tls, fs::Permissions::from_mode(0o2750)).unwrap();
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let group = if is_root {
        900
    } else {
        fs::metadata(&tls).unwrap().gid()
    };
    std::os::unix::fs::chown(&tls, None, Some(group)).unwrap();
    // A replacement that was cut short has left a key.
    fs::create_dir(state.join(BESIDE)).unwrap();
    fs::write(state.join(BESIDE).join(KEY.0), "half a ").unwrap();
    replace(&state, NEW.0, NEW.1).unwrap();
    assert_eq!((read(CERTIFICATE.0).as_str(), read(KEY.0).as_str()), NEW);
    assert_eq!(mode(&tls), 0o750);
    for (name, bits) in [CERTIFICATE, KEY] {
        let file = tls.join(name);
        assert_eq!(
            (mode(&file), fs::metadata(&file).unwrap().gid()),
            (bits, group)
        );
    }
    assert_eq!(fs::metadata(&tls).unwrap().gid(), group);
    assert!(!state.join(BESIDE).exists(), "the old key is gone");
    fs::create_dir(state.join(BESIDE)).unwrap();
    tidy(&state).unwrap();
    tidy(&state).unwrap();
    assert!(!state.join(BESIDE).exists());
}
