//! A copy of the database before another version changes it, and the way back.
//!
//! ```text
//! palabre.db                      the database
//! version.json                    which version opened it last, and whether it was still changing it
//! backup/before-12/palabre.db     as it was before version 12 opened it first; the last two are kept
//! backup/before-12/manifest.json  its schema and SHA-256
//! aside/schema-7-1.db             a database that an older version could not read; never deleted
//! ```
//! The version that comes makes the copy, before its first change: however it was started, whatever
//! was written until then is in it. When an older version comes back and cannot read what the newer
//! one made of the database, the copy takes its place again. Every step can be the last before a
//! power cut: the next start does it again, or finds it done.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use palabre_appliance::history::replace;
use serde::{Deserialize, Serialize};
use sqlx::SqlitePool;

/// Copies that are kept: of the update that runs, and of the one before it. More would keep more
/// disk; fewer would lose the way back while the next copy is being made.
const KEPT: usize = 2;

/// Called before each step; a test makes one of them the last.
pub(super) type Cut<'a> = &'a mut (dyn FnMut() -> io::Result<()> + Send);

/// The folder of a database, and what is in it beside the database.
#[derive(Clone, Debug)]
pub(super) struct Backups {
    file: PathBuf,
    folder: PathBuf,
}

/// Which version opened the database last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Opened {
    /// Its name; empty before the first.
    pub(super) version: String,
    /// Whether it began to change the database to its own schema, and did not end.
    pub(super) is_changing: bool,
    /// What was put back, until somebody was told.
    pub(super) restored: Option<Restored>,
}

/// An older version could not read the database: the copy made before the newer one is back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// The version that the copy was made before.
    pub before: String,
    /// Where the database is that could not be read.
    pub aside: PathBuf,
    /// The older version.
    by: String,
}

/// What is known of a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    /// The version that it was made before.
    before: String,
    /// Its schema.
    schema: i64,
    /// Copies are made one after another; clocks of boxes are not to be trusted.
    number: u64,
    sha256: String,
}

impl Backups {
    /// Of the database in `file`.
    pub(super) fn of(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            folder: file.parent().unwrap_or(Path::new(".")).to_owned(),
        }
    }

    fn copies(&self) -> PathBuf {
        self.folder.join("backup")
    }

    fn unfinished(&self) -> PathBuf {
        self.beside("restoring")
    }

    /// The database's path with another end.
    fn beside(&self, end: &str) -> PathBuf {
        let mut name = self.file.file_name().unwrap_or_default().to_owned();
        name.push(format!("-{end}"));
        self.file.with_file_name(name)
    }

    /// Which version opened the database last, and what was put back and not told.
    pub(super) fn opened(&self) -> Opened {
        let text = fs::read(self.folder.join("version.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Remembers who opens it.
    pub(super) fn remember(&self, opened: &Opened) -> io::Result<()> {
        if self.opened() == *opened {
            return Ok(());
        }
        let text = serde_json::to_vec(opened).expect("a name is plain data");
        replace(&self.folder.join("version.json"), &text, 0o600)
    }

    /// Copies the open database, of this schema, before `version` changes it.
    pub(super) async fn make(
        &self,
        pool: &SqlitePool,
        version: &str,
        schema: i64,
        cut: Cut<'_>,
    ) -> io::Result<()> {
        let name = format!("before-{}", plain(version));
        let (place, new, old) = (
            self.copies().join(&name),
            self.copies().join(format!("{name}.new")),
            self.copies().join(format!("{name}.old")),
        );
        cut()?;
        removed(fs::remove_dir_all(&new))?;
        private_folder(&new)?;
        let copy = new.join("palabre.db");
        // SQLite takes an empty file that is there, with the rights it has.
        private_file(&copy)?;
        cut()?;
        let text = copy.to_str().ok_or(io::ErrorKind::InvalidInput)?;
        let copied = sqlx::query("VACUUM INTO ?").bind(text).execute(pool).await;
        if let Err(error) = copied {
            // Half a copy would keep a full disk full.
            removed(fs::remove_dir_all(&new))?;
            return Err(io::Error::other(error));
        }
        cut()?;
        let number = self.list()?.first().map_or(0, |(_, newest)| newest.number) + 1;
        let manifest = Manifest {
            before: version.to_owned(),
            schema,
            number,
            sha256: sha256(&copy)?,
        };
        File::open(&copy)?.sync_all()?;
        let text = serde_json::to_vec(&manifest).expect("a manifest is plain data");
        replace(&new.join("manifest.json"), &text, 0o600)?;
        cut()?;
        // From here on the new copy counts, under whatever name.
        removed(fs::remove_dir_all(&old))?;
        removed(fs::rename(&place, &old))?;
        cut()?;
        fs::rename(&new, &place)?;
        sync(&self.copies())?;
        cut()?;
        for (folder, _) in self.list()?.iter().skip(KEPT) {
            fs::remove_dir_all(folder)?;
        }
        Ok(())
    }

    /// Puts back, on a full disk too, the newest copy whose schema is at most `known`, in place of a database of schema
    /// `found` that nobody has open, for `version`. Whether there was one. `make_room` frees the few blocks that the steps
    /// after the copy take; a copy must not get them, for it stays.
    pub(super) fn restore(
        &self,
        version: &str,
        found: i64,
        known: i64,
        make_room: &(dyn Fn() + Sync),
        cut: Cut<'_>,
    ) -> io::Result<bool> {
        let copies = self.list()?;
        let mut fitting = copies.iter().filter(|(_, copy)| copy.schema <= known);
        let Some((folder, copy)) = fitting.find(|(folder, copy)| {
            sha256(&folder.join("palabre.db")).is_ok_and(|found| found == copy.sha256)
        }) else {
            return Ok(false);
        };
        // Whoever closed it last put its journal into it: one that is left belongs to no other file.
        if fs::metadata(self.beside("wal")).is_ok_and(|journal| journal.len() > 0) {
            return Err(io::Error::other("the database is still open elsewhere"));
        }
        cut()?;
        removed(fs::remove_file(self.beside("wal")))?;
        removed(fs::remove_file(self.beside("shm")))?;
        let unfinished = self.unfinished();
        removed(fs::remove_file(&unfinished))?;
        let from = folder.join("palabre.db");
        let is_moved = match copied(&from, &unfinished, cut) {
            Ok(()) => false,
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                // No room for a second one: the copy itself takes the place, under a second name until it is there, so
                // that a start cut here has lost nothing.
                removed(fs::remove_file(&unfinished))?;
                fs::hard_link(&from, &unfinished)?;
                true
            }
            Err(error) => return Err(error),
        };
        make_room();
        cut()?;
        let restored = Restored {
            before: copy.before.clone(),
            aside: self.set_aside(found)?,
            by: version.to_owned(),
        };
        cut()?;
        // Said before it is done, by a name that tells it is done: the newer version passes it over.
        let mut opened = self.opened();
        opened.restored = Some(restored);
        self.remember(&opened)?;
        cut()?;
        // The one moment: before it the newer database is in place, after it the older.
        fs::rename(&unfinished, &self.file)?;
        sync(&self.folder)?;
        cut()?;
        if is_moved {
            // What is written from now on would be in both. Cut before this, it no longer is what its manifest says.
            fs::remove_dir_all(folder)?;
        }
        opened.version = version.to_owned();
        opened.is_changing = false;
        self.remember(&opened)?;
        Ok(true)
    }

    /// Gives the database a second name that stays. One that an interrupted start gave is kept.
    fn set_aside(&self, found: i64) -> io::Result<PathBuf> {
        let folder = self.folder.join("aside");
        private_folder(&folder)?;
        let own = fs::metadata(&self.file)?;
        for number in 1_u32.. {
            let place = folder.join(format!("schema-{found}-{number}.db"));
            match fs::hard_link(&self.file, &place) {
                Ok(()) => {
                    sync(&folder)?;
                    return Ok(place);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let there = fs::metadata(&place)?;
                    if (there.dev(), there.ino()) == (own.dev(), own.ino()) {
                        return Ok(place);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        unreachable!("a folder holds fewer than 2^32 files")
    }

    /// Every copy, newest first, under whatever name an interrupted step left it.
    fn list(&self) -> io::Result<Vec<(PathBuf, Manifest)>> {
        let entries = match fs::read_dir(self.copies()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut copies = Vec::new();
        for entry in entries {
            let folder = entry?.path();
            let text = fs::read(folder.join("manifest.json")).unwrap_or_default();
            if let Ok(manifest) = serde_json::from_slice::<Manifest>(&text) {
                copies.push((folder, manifest));
            }
        }
        copies.sort_by_key(|(_, manifest)| std::cmp::Reverse(manifest.number));
        Ok(copies)
    }
}

impl Restored {
    /// Whether it was `version` that could not read the database.
    pub(super) fn is_for(&self, version: &str) -> bool {
        self.by == version
    }
}

/// Copies a file, to the disk.
fn copied(from: &Path, to: &Path, cut: Cut<'_>) -> io::Result<()> {
    let mut into = private_file(to)?;
    cut()?;
    io::copy(&mut File::open(from)?, &mut into)?;
    into.sync_all()
}

/// A version's name as part of a file name.
fn plain(version: &str) -> String {
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || ".+-".contains(*c);
    version.chars().filter(is_plain).take(40).collect()
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut piece = vec![0; 64 * 1024];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(palabre_appliance::bundle::hex(hash.finish().as_ref())),
            length => hash.update(&piece[..length]),
        }
    }
}

fn private_file(path: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}

fn private_folder(path: &Path) -> io::Result<()> {
    let mut maker = fs::DirBuilder::new();
    maker.recursive(true).mode(0o700).create(path)
}

fn removed(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
#[path = "backup_tests.rs"]
mod tests;
