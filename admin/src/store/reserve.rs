//! Space on the disk that is kept for the administrator: on a full one, somebody must be able to sign in and to delete.
//!
//! A file beside the database holds it, really allocated. A sign-in or a deletion that meets a full disk has the file given
//! up, is tried once more, and what it wrote is put from the journal into the database, which gives back all that was taken;
//! then the file is made again. Everything else waits meanwhile, and is refused when the disk is full: the space is never for
//! what makes a full disk fuller.
//!
//! Sessions without a write were the other way: they end with a restart, and who has signed in on a full disk would still
//! delete nothing.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use sqlx::SqlitePool;
use tokio::sync::{RwLock, RwLockReadGuard};

use super::{Fault, StoreError};

/// Bytes kept. The journal is put into the database at 4 MiB, which can then grow by as much, and a write of ours adds
/// some 100 KiB at most. Lower may refuse a deletion; higher takes space from everything else.
pub(super) const SIZE: u64 = 8 << 20;

/// The smallest piece that is worth asking for, in bytes: a block of the file systems that boxes have.
const PIECE: u64 = 4096;

/// The file, and who may write meanwhile. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Reserve(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    path: PathBuf,
    /// Held alone while the space is given up, and shared by the writes that must not take it.
    turn: RwLock<()>,
    /// Whether some of it is missing, as far as is known.
    is_short: AtomicBool,
}

impl Reserve {
    /// Of the database in `file`. Nothing is kept before [`Self::make`].
    pub(super) fn of(file: &Path) -> Self {
        Self(Arc::new(Kept {
            path: file.with_file_name("reserve"),
            turn: RwLock::new(()),
            is_short: AtomicBool::new(true),
        }))
    }

    /// Keeps what is missing, as far as the disk has it.
    pub(super) fn make(&self) {
        match self.0.make() {
            Ok(kept) => self.0.is_short.store(kept < SIZE, Ordering::Relaxed),
            // Meetings do not need it, and not every file system can do it.
            Err(error) => {
                self.0.is_short.store(false, Ordering::Relaxed);
                tracing::warn!(%error, "no space is kept for the administrator on a full disk");
            }
        }
    }

    /// [`Self::make`], when some is missing, for who must not wait for the disk.
    pub(super) async fn refill(&self) {
        if self.0.is_short.load(Ordering::Relaxed) {
            let own = self.clone();
            let _ = tokio::task::spawn_blocking(move || own.make()).await;
        }
    }

    /// Gives the space back to the disk.
    pub(super) fn give_up(&self) -> io::Result<()> {
        self.0.is_short.store(true, Ordering::Relaxed);
        let file = open(&self.0.path)?;
        file.set_len(0)?;
        // Some file systems give blocks to somebody else only once the one before has truly lost them.
        file.sync_all()
    }

    /// For a write that must not take the space: to be held until it is done.
    pub(super) async fn ordinary(&self) -> RwLockReadGuard<'_, ()> {
        let turn = self.0.turn.read().await;
        self.refill().await;
        turn
    }

    /// Does `write`, a sign-in or a deletion, on a full disk too.
    pub(super) async fn urgent<T, W>(
        &self,
        pool: &SqlitePool,
        write: impl Fn() -> W,
    ) -> Result<T, StoreError>
    where
        W: Future<Output = Result<T, StoreError>>,
    {
        let full = match write().await {
            Err(error) if error.fault == Fault::Full => error,
            done => {
                self.refill().await;
                return done;
            }
        };
        let _turn = self.0.turn.write().await;
        let own = self.clone();
        let given = tokio::task::spawn_blocking(move || own.give_up()).await;
        if !matches!(given, Ok(Ok(()))) {
            return Err(full);
        }
        tracing::warn!(
            "the disk is full; a sign-in or a deletion takes the space that is kept for it"
        );
        let done = write().await;
        // The journal grew by what was written, and the database by no more than the journal becomes shorter.
        let emptied = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)");
        if let Err(error) = emptied.execute(pool).await {
            tracing::warn!(%error, "the journal of the database keeps its length");
        }
        self.refill().await;
        done
    }
}

impl Kept {
    /// How much is kept then.
    fn make(&self) -> io::Result<u64> {
        let file = open(&self.path)?;
        let disk = statvfs(&self.path)?;
        let mut free = disk.f_bavail.saturating_mul(disk.f_frsize);
        loop {
            let kept = allocated(&file)?;
            if kept >= SIZE || free < PIECE {
                return Ok(kept);
            }
            match fallocate(&file, FallocateFlags::empty(), 0, SIZE.min(kept + free)) {
                Ok(()) if kept + free >= SIZE => return Ok(SIZE),
                // Others take some at the same time, and the file system some for itself.
                Ok(()) | Err(rustix::io::Errno::NOSPC) => free /= 2,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Bytes that the disk holds for it, which its length does not say.
fn allocated(file: &File) -> io::Result<u64> {
    const BLOCK: u64 = 512; // `st_blocks` counts in these, whatever the file system's own are
    Ok(file.metadata()?.blocks() * BLOCK)
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options.open(path)
}

#[cfg(test)]
#[path = "reserve_tests.rs"]
mod tests;
