//! The certificate of the pages and its key on the disk, replaced as one.
//!
//! Both lie in one folder. A new pair is written into another folder beside it, as far as the disk,
//! and then the two folders change their names with each other, which is one operation of the file
//! system: whenever the power goes, the folder holds the old pair or the new one.

use std::fs;
use std::io;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// The folder that is read, below the state of the box.
pub const FOLDER: &str = "tls";
/// The folder beside it, while a pair is replaced.
const BESIDE: &str = "tls.new";
/// The files of a pair, and who may read each: the program reads the key by its group.
const CERTIFICATE: (&str, u32) = ("certificate.pem", 0o644);
const KEY: (&str, u32) = ("key.pem", 0o640);

/// What replaces a pair on a disk. A trait so that the tests can cut the power between any two of
/// its calls.
trait Disk {
    /// Removes the folder beside, if it is there.
    fn remove_beside(&mut self) -> io::Result<()>;
    /// Makes the folder beside, empty, for the same people as the one that is read.
    fn make_beside(&mut self) -> io::Result<()>;
    /// Writes a file of the folder beside.
    fn write(&mut self, file: (&str, u32), text: &str) -> io::Result<()>;
    /// Returns once the content of that file would survive a power cut.
    fn flush_file(&mut self, name: &str) -> io::Result<()>;
    /// Returns once the names of the files beside would survive a power cut.
    fn flush_beside(&mut self) -> io::Result<()>;
    /// Gives each folder the other's name; where there is only one, its own.
    fn exchange(&mut self) -> io::Result<()>;
    /// Returns once the names of the folders would survive a power cut.
    fn flush_names(&mut self) -> io::Result<()>;
}

fn replace_on(disk: &mut impl Disk, certificate: &str, key: &str) -> io::Result<()> {
    disk.remove_beside()?;
    disk.make_beside()?;
    for (file, text) in [(KEY, key), (CERTIFICATE, certificate)] {
        disk.write(file, text)?;
        disk.flush_file(file.0)?;
    }
    disk.flush_beside()?;
    disk.exchange()?;
    disk.flush_names()?;
    // The old key has served; one that cannot be removed now goes with the next replacement.
    let _ = disk.remove_beside();
    Ok(())
}

/// Puts a pair in the place of the one below `state`.
///
/// # Errors
/// What the disk says; the old pair is there then, or the new one.
pub fn replace(state: &Path, certificate: &str, key: &str) -> io::Result<()> {
    fs::create_dir_all(state)?;
    replace_on(&mut State(state.to_owned()), certificate, key)
}

/// Removes what a replacement left that was cut short: perhaps a key.
pub fn tidy(state: &Path) -> io::Result<()> {
    State(state.to_owned()).remove_beside()
}

/// The folder of the state of the box.
struct State(PathBuf);

impl State {
    fn beside(&self) -> PathBuf {
        self.0.join(BESIDE)
    }
}

impl Disk for State {
    fn remove_beside(&mut self) -> io::Result<()> {
        match fs::remove_dir_all(self.beside()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn make_beside(&mut self) -> io::Result<()> {
        let like = fs::metadata(self.0.join(FOLDER)).ok();
        let mode = like.as_ref().map_or(0o755, MetadataExt::mode) & 0o777;
        fs::DirBuilder::new().mode(mode).create(self.beside())?;
        match like {
            Some(like) => {
                let folder = fs::File::open(self.beside())?;
                fchown(folder, Some(like.uid()), Some(like.gid()))
            }
            None => Ok(()),
        }
    }

    fn write(&mut self, (name, mode): (&str, u32), text: &str) -> io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(self.beside().join(name))?;
        // Not by the bit of the folder that hands its group on: the service of the box may not set it.
        let group = fs::metadata(self.beside())?.gid();
        fchown(&file, None, Some(group))?;
        file.write_all(text.as_bytes())
    }

    fn flush_file(&mut self, name: &str) -> io::Result<()> {
        fs::File::open(self.beside().join(name))?.sync_all()
    }

    fn flush_beside(&mut self) -> io::Result<()> {
        fs::File::open(self.beside())?.sync_all()
    }

    fn exchange(&mut self) -> io::Result<()> {
        let (beside, folder) = (self.beside(), self.0.join(FOLDER));
        match renameat_with(CWD, &beside, CWD, &folder, RenameFlags::EXCHANGE) {
            Err(rustix::io::Errno::NOENT) => fs::rename(beside, folder),
            other => other.map_err(io::Error::from),
        }
    }

    fn flush_names(&mut self) -> io::Result<()> {
        fs::File::open(&self.0)?.sync_all()
    }
}

#[cfg(test)]
#[path = "pair_tests.rs"]
mod tests;
