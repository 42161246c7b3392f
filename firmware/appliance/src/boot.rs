//! Which version the firmware starts, and how often it may try: the [`Bootloader`] trait, and
//! systemd-boot behind it.
//!
//! A kernel image on the EFI system partition is `palabre_<version>.efi` once it has proved good,
//! `palabre_<version>+<left>-<done>.efi` while it is on trial (the Automatic Boot Assessment of
//! systemd; systemd-boot renames the file at each try). With no tries left, systemd-boot sorts it
//! behind every other. This file never touches a partition.

use std::fs;
use std::io;
use std::io::Write;
use std::path::{Path, PathBuf};

use palabre_init::failed;
use palabre_init::variables::{LOADER, Variables};

/// Tries that a new version has. A higher value delays the fallback from a slot that does not
/// boot (about 90 s each in emulation); a lower one lets one power cut end the trial.
pub const TRIES: u32 = 3;

/// Folder of kernel images on the EFI system partition.
const FOLDER: &str = "EFI/Linux";
/// What is being copied. systemd-boot reads names that end in `.efi` and no other.
const UNFINISHED: &str = "palabre-update.tmp";
/// The vendor of systemd's own variables.
const SYSTEMD: &str = "8cf2644b-4b0b-428f-9387-6d876050dc67";

/// One version that can be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Which version.
    pub version: u64,
    /// Tries left and done while it is on trial; nothing once it has proved good.
    pub trial: Option<Trial>,
}

/// How far a trial has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    /// Tries that are left. At 0 the version counts as bad.
    pub left: u32,
    /// Tries that were begun.
    pub done: u32,
}

impl Entry {
    /// Reads a file name. Only the exact form is an entry: what nobody here wrote is not ours.
    pub fn parse(name: &str) -> Option<Self> {
        let stem = name.strip_prefix("palabre_")?.strip_suffix(".efi")?;
        let (version, trial) = match stem.split_once('+') {
            None => (stem, None),
            Some((version, counts)) => {
                let (left, done) = match counts.split_once('-') {
                    Some((left, done)) => (number(left)?, number(done)?),
                    None => (number(counts)?, 0),
                };
                (version, Some(Trial { left, done }))
            }
        };
        let plain = version.bytes().all(|b| b.is_ascii_digit()) && !version.starts_with('0');
        let version = version.parse().ok().filter(|_| plain)?;
        Some(Self { version, trial })
    }

    /// Its file name.
    pub fn file_name(&self) -> String {
        match self.trial {
            None => format!("palabre_{}.efi", self.version),
            Some(Trial { left, done }) => format!("palabre_{}+{left}-{done}.efi", self.version),
        }
    }

    /// Whether every try failed.
    pub fn is_bad(&self) -> bool {
        self.trial.is_some_and(|trial| trial.left == 0)
    }
}

fn number(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.len() <= 6 && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// What starts the box.
pub trait Bootloader {
    /// The versions it knows, newest first.
    fn entries(&self) -> io::Result<Vec<Entry>>;
    /// Makes `version` bootable, on trial: complete at once or not at all.
    fn add(
        &mut self,
        version: u64,
        image: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()>;
    /// Takes every version but `kept` away, with what an interrupted [`Bootloader::add`] left.
    fn keep_only(&mut self, kept: u64) -> io::Result<()>;
    /// Ends the trial of `version`: it is good.
    fn mark_good(&mut self, version: u64) -> io::Result<()>;
    /// Ends the trial of `version`: it is bad, and the next start takes another.
    fn mark_bad(&mut self, version: u64) -> io::Result<()>;
    /// Tells who starts before any file can be read that `version` failed: it takes the place of
    /// another only when that is beyond hope.
    fn never_instead(&mut self, version: u64) -> io::Result<()>;
    /// Starts `version` next time, once; `None`: what starts otherwise.
    fn once(&mut self, version: Option<u64>) -> io::Result<()>;
    /// Which version [`Bootloader::once`] set, until it starts.
    fn chosen_once(&self) -> Option<u64>;
    /// Starts `version` from now on; `None`: the newest that is not bad.
    fn default(&mut self, version: Option<u64>) -> io::Result<()>;
    /// Which version [`Bootloader::default`] set.
    fn chosen(&self) -> Option<u64>;
    /// Has the next start erase the data partition, or leave it after all.
    fn factory_reset(&mut self, is_wanted: bool) -> io::Result<()>;
}

/// The entry that starts next when nobody chose: the newest that is not bad, or else the newest.
pub fn starts_next(entries: &[Entry]) -> Option<u64> {
    let newest = |bad: bool| {
        entries
            .iter()
            .filter(|e| e.is_bad() == bad)
            .map(|e| e.version)
            .max()
    };
    newest(false).or_else(|| newest(true))
}

/// The files of the EFI system partition that the boot loader reads. A trait so that the tests can
/// cut the power between any two of its calls.
pub trait Files {
    /// Names of the files, and how many bytes each has.
    fn names(&self) -> io::Result<Vec<(String, u64)>>;
    /// Makes an empty file, or empties it.
    fn create(&mut self, name: &str) -> io::Result<()>;
    /// Adds to the end of a file.
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Returns once the content of a file would survive a power cut.
    fn flush(&mut self, name: &str) -> io::Result<()>;
    /// Gives a file another name, and returns once that would survive a power cut.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file, and returns once that would survive a power cut.
    fn remove(&mut self, name: &str) -> io::Result<()>;
}

/// A real folder.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

impl Folder {
    fn settle(&self) -> io::Result<()> {
        fs::File::open(&self.0)?.sync_all()
    }
}

impl Files for Folder {
    fn names(&self) -> io::Result<Vec<(String, u64)>> {
        let named = |entry: io::Result<fs::DirEntry>| {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            Ok((name, entry.metadata()?.len()))
        };
        fs::read_dir(&self.0)?.map(named).collect()
    }
    fn create(&mut self, name: &str) -> io::Result<()> {
        fs::File::create(self.0.join(name)).map(drop)
    }
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        fs::File::options()
            .append(true)
            .open(self.0.join(name))?
            .write_all(bytes)
    }
    fn flush(&mut self, name: &str) -> io::Result<()> {
        fs::File::open(self.0.join(name))?.sync_all()
    }
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))?;
        // FAT keeps length and place of a file beside its name, and Linux writes them there with the file, not with the
        // folder: for half a minute a power cut would leave the new name with nothing.
        self.flush(to)?;
        self.settle()
    }
    fn remove(&mut self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))?;
        self.settle()
    }
}

/// systemd-boot.
#[derive(Debug)]
pub struct SdBoot<F = Folder> {
    files: F,
    variables: Variables,
}

impl SdBoot {
    /// The boot loader of the EFI system partition mounted at `esp`, whose firmware's variables
    /// are files below `variables`.
    pub fn new(esp: &Path, variables: &Path) -> Self {
        Self::on(Folder(esp.join(FOLDER)), variables)
    }
}

impl<F: Files> SdBoot<F> {
    /// The same on any files.
    pub fn on(files: F, variables: &Path) -> Self {
        Self {
            files,
            variables: Variables::new(variables),
        }
    }

    /// The files of `version`, the fullest first: two when a rename of FAT was cut short, of which one is empty, or becomes so
    /// when the partition is checked at the next start.
    fn names_of(&self, version: u64) -> io::Result<Vec<(String, Entry)>> {
        let named = |(name, length): (String, u64)| Some((Entry::parse(&name)?, name, length));
        let names = self.files.names()?.into_iter().filter_map(named);
        let mut names: Vec<_> = names
            .filter(|(entry, _, _)| entry.version == version)
            .collect();
        names.sort_by_key(|(_, _, length)| std::cmp::Reverse(*length));
        Ok(names
            .into_iter()
            .map(|(entry, name, _)| (name, entry))
            .collect())
    }

    fn become_entry(
        &mut self,
        version: u64,
        change: fn(Option<Trial>) -> Option<Trial>,
    ) -> io::Result<()> {
        let names = self.names_of(version)?;
        let Some((name, entry)) = names.first() else {
            let what = format!("version {version} has no kernel image");
            return Err(io::Error::new(io::ErrorKind::NotFound, what));
        };
        let trial = change(entry.trial);
        let after = Entry { version, trial }.file_name();
        if *name != after {
            self.files.rename(name, &after)?;
        }
        for (other, _) in names.iter().skip(1).filter(|(other, _)| *other != after) {
            self.files.remove(other)?;
        }
        Ok(())
    }

    /// It failed here before, perhaps, and is tried once more or has proved good. A variable that
    /// stays makes a later way back longer, and nothing else.
    fn give_another_chance(&self, version: u64) {
        let _ = failed::forget(&self.variables, version);
    }

    /// The version that a variable of the boot loader names.
    fn named_in(&self, variable: &str) -> Option<u64> {
        let name = self.variables.read_text(variable, LOADER)?;
        Entry::parse(&name).map(|entry| entry.version)
    }

    /// The name of the file that starts `version`.
    fn id(&self, version: u64) -> io::Result<String> {
        let names = self.names_of(version)?;
        names
            .into_iter()
            .next()
            .map(|(name, _)| name)
            .ok_or_else(|| {
                let what = format!("version {version} has no kernel image");
                io::Error::new(io::ErrorKind::NotFound, what)
            })
    }
}

impl<F: Files> Bootloader for SdBoot<F> {
    fn entries(&self) -> io::Result<Vec<Entry>> {
        // systemd-boot passes an empty one over.
        let full = self
            .files
            .names()?
            .into_iter()
            .filter(|(_, length)| *length > 0);
        let mut entries: Vec<Entry> = full.filter_map(|(name, _)| Entry::parse(&name)).collect();
        entries.sort_by_key(|entry| (std::cmp::Reverse(entry.version), entry.trial.is_some()));
        entries.dedup_by_key(|entry| entry.version);
        Ok(entries)
    }

    fn add(
        &mut self,
        version: u64,
        image: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let trial = Some(Trial {
            left: TRIES,
            done: 0,
        });
        let name = Entry { version, trial }.file_name();
        self.files.create(UNFINISHED)?;
        image(&mut Appending(&mut self.files))?;
        self.files.flush(UNFINISHED)?;
        self.files.rename(UNFINISHED, &name)?;
        self.give_another_chance(version);
        Ok(())
    }

    fn keep_only(&mut self, kept: u64) -> io::Result<()> {
        for (name, _) in self.files.names()? {
            let other = Entry::parse(&name).is_some_and(|entry| entry.version != kept);
            if other || name == UNFINISHED {
                self.files.remove(&name)?;
            }
        }
        Ok(())
    }

    fn mark_good(&mut self, version: u64) -> io::Result<()> {
        self.become_entry(version, |_| None)?;
        self.give_another_chance(version);
        Ok(())
    }

    fn mark_bad(&mut self, version: u64) -> io::Result<()> {
        self.become_entry(version, |trial| {
            let done = trial.map_or(0, |trial| trial.done);
            Some(Trial { left: 0, done })
        })?;
        // It is bad for the boot loader all the same; the next start that sees it so tells the firmware once more.
        let _ = self.never_instead(version);
        Ok(())
    }

    fn never_instead(&mut self, version: u64) -> io::Result<()> {
        if failed::version(&self.variables) == Some(version) {
            return Ok(());
        }
        match failed::remember(&self.variables, version) {
            // Nobody counts starts then.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            done => done,
        }
    }

    fn once(&mut self, version: Option<u64>) -> io::Result<()> {
        match version {
            Some(version) => {
                self.variables
                    .write_text("LoaderEntryOneShot", LOADER, &self.id(version)?)
            }
            None => self.variables.remove("LoaderEntryOneShot", LOADER),
        }
    }

    fn chosen_once(&self) -> Option<u64> {
        self.named_in("LoaderEntryOneShot")
    }

    fn default(&mut self, version: Option<u64>) -> io::Result<()> {
        match version {
            Some(version) => {
                self.variables
                    .write_text("LoaderEntryDefault", LOADER, &self.id(version)?)
            }
            None => {
                self.once(None)?;
                self.variables.remove("LoaderEntryDefault", LOADER)
            }
        }
    }

    fn chosen(&self) -> Option<u64> {
        self.named_in("LoaderEntryDefault")
    }

    fn factory_reset(&mut self, is_wanted: bool) -> io::Result<()> {
        match is_wanted {
            true => self.variables.write_text("FactoryReset", SYSTEMD, "yes"),
            false => self.variables.remove("FactoryReset", SYSTEMD),
        }
    }
}

/// Writes to the unfinished file.
struct Appending<'a, F>(&'a mut F);

impl<F: Files> Write for Appending<'_, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(UNFINISHED, bytes)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn esp() -> (tempfile::TempDir, SdBoot) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join(FOLDER)).unwrap();
        fs::create_dir(folder.path().join("vars")).unwrap();
        let boot = SdBoot::new(folder.path(), &folder.path().join("vars"));
        (folder, boot)
    }

    fn names(folder: &tempfile::TempDir) -> Vec<String> {
        let names = Folder(folder.path().join(FOLDER)).names().unwrap();
        let mut names: Vec<String> = names.into_iter().map(|(name, _)| name).collect();
        names.sort();
        names
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for name in [
            "palabre_1.efi",
            "palabre_12+3-0.efi",
            "palabre_12+0-3.efi",
            "palabre_18446744073709551615+2-1.efi",
        ] {
            assert_eq!(Entry::parse(name).unwrap().file_name(), name);
        }
        let counted = Entry::parse("palabre_4+2.efi").unwrap();
        assert_eq!(counted.trial, Some(Trial { left: 2, done: 0 }));
        for name in [
            "palabre_.efi",
            "palabre_+1.efi",
            "palabre_01.efi",
            "palabre_1.EFI",
            "palabre_1+.efi",
            "palabre_1+a-1.efi",
            "palabre_1+1-.efi",
            "palabre_-1.efi",
            "palabre_1+-1-1.efi",
            "palabre_1+99999999.efi",
            "palabre_18446744073709551616.efi",
            "windows.efi",
            UNFINISHED,
        ] {
            assert_eq!(Entry::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_version_is_added_tried_and_blessed() {
        let (folder, mut boot) = esp();
        fs::write(folder.path().join(FOLDER).join("palabre_1.efi"), "one").unwrap();
        fs::write(folder.path().join(FOLDER).join("other.efi"), "not ours").unwrap();
        boot.add(2, &mut |out| out.write_all(b"two")).unwrap();
        assert_eq!(
            names(&folder),
            ["other.efi", "palabre_1.efi", "palabre_2+3-0.efi"]
        );
        assert_eq!(starts_next(&boot.entries().unwrap()), Some(2));
        // systemd-boot counts.
        let file = |name: &str| folder.path().join(FOLDER).join(name);
        fs::rename(file("palabre_2+3-0.efi"), file("palabre_2+2-1.efi")).unwrap();
        boot.mark_good(2).unwrap();
        boot.mark_good(2).unwrap();
        assert_eq!(
            names(&folder),
            ["other.efi", "palabre_1.efi", "palabre_2.efi"]
        );
        assert_eq!(fs::read(file("palabre_2.efi")).unwrap(), b"two");
        boot.keep_only(2).unwrap();
        assert_eq!(names(&folder), ["other.efi", "palabre_2.efi"]);
        assert!(boot.mark_good(9).is_err());
    }

    #[test]
    fn a_bad_version_does_not_start_while_another_can() {
        let (folder, mut boot) = esp();
        let file = |name: &str| folder.path().join(FOLDER).join(name);
        fs::write(file("palabre_2.efi"), "two").unwrap();
        fs::write(file("palabre_3+2-1.efi"), "three").unwrap();
        boot.mark_bad(3).unwrap();
        assert_eq!(names(&folder), ["palabre_2.efi", "palabre_3+0-1.efi"]);
        let known = |boot: &SdBoot| failed::version(&boot.variables);
        assert_eq!(known(&boot), Some(3));
        let entries = boot.entries().unwrap();
        assert!(entries[0].is_bad());
        assert_eq!(starts_next(&entries), Some(2));
        assert_eq!(starts_next(&entries[..1]), Some(3));
        assert_eq!(starts_next(&[]), None);
    }

    #[test]
    fn a_rename_that_was_cut_short_loses_nothing() {
        for (full, empty, after) in [
            ("palabre_2+2-1.efi", "palabre_2.efi", None),
            ("palabre_2.efi", "palabre_2+2-1.efi", None),
            (
                "palabre_2+2-1.efi",
                "palabre_2+1-2.efi",
                Some(Trial { left: 2, done: 1 }),
            ),
        ] {
            let (folder, mut boot) = esp();
            let file = |name: &str| folder.path().join(FOLDER).join(name);
            fs::write(file(full), "two").unwrap();
            fs::write(file(empty), "").unwrap();
            let trial = boot.entries().unwrap()[0].trial;
            assert_eq!(trial, after.or(Entry::parse(full).unwrap().trial));
            boot.mark_good(2).unwrap();
            assert_eq!(names(&folder), ["palabre_2.efi"]);
            assert_eq!(fs::read(file("palabre_2.efi")).unwrap(), b"two");
        }
        let (folder, boot) = esp();
        fs::write(folder.path().join(FOLDER).join("palabre_2.efi"), "").unwrap();
        assert!(boot.entries().unwrap().is_empty());
    }

    #[test]
    fn a_failed_copy_leaves_no_entry() {
        let (folder, mut boot) = esp();
        let failed = boot.add(2, &mut |out| {
            out.write_all(b"half")?;
            Err(io::Error::other("no more"))
        });
        assert!(failed.is_err());
        assert!(boot.entries().unwrap().is_empty());
        boot.keep_only(1).unwrap();
        assert!(names(&folder).is_empty());
    }

    #[test]
    fn choices_go_through_the_firmware() {
        let (folder, mut boot) = esp();
        let file = |name: &str| folder.path().join(FOLDER).join(name);
        fs::write(file("palabre_1.efi"), "one").unwrap();
        assert_eq!(boot.chosen_once(), None);
        boot.once(Some(1)).unwrap();
        assert_eq!((boot.chosen_once(), boot.chosen()), (Some(1), None));
        boot.once(None).unwrap();
        boot.once(None).unwrap();
        assert_eq!(boot.chosen_once(), None);
        boot.once(Some(1)).unwrap();
        let path = folder
            .path()
            .join(format!("vars/LoaderEntryOneShot-{LOADER}"));
        let written = fs::read(&path).unwrap();
        assert_eq!(written[..6], [7, 0, 0, 0, b'p', 0]);
        assert_eq!(written.len(), 4 + 2 * "palabre_1.efi".len() + 2);
        assert!(boot.once(Some(2)).is_err());
        boot.default(Some(1)).unwrap();
        assert_eq!(boot.chosen(), Some(1));
        boot.default(None).unwrap();
        boot.default(None).unwrap();
        assert_eq!(boot.chosen(), None);
        assert!(!path.exists());
        let wish = folder.path().join(format!("vars/FactoryReset-{SYSTEMD}"));
        for is_wanted in [true, false, false, true] {
            boot.factory_reset(is_wanted).unwrap();
            assert_eq!(wish.exists(), is_wanted);
        }
        let mut bare = SdBoot::new(folder.path(), Path::new("/nonexistent"));
        assert_eq!(
            bare.factory_reset(true).unwrap_err().kind(),
            io::ErrorKind::Unsupported
        );
    }
}
