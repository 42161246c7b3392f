//! A disk of one's own, small enough to be filled: a tmpfs in a mount namespace.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::statvfs;

/// A mounted disk, for this thread and every thread and process it starts from now on.
pub struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    /// Mounts one of `bytes`.
    ///
    /// Gives `None`, after printing `skipped: ...`, where that is not permitted (it needs root).
    ///
    /// # Panics
    /// When the namespace is there but the disk cannot be mounted.
    #[must_use]
    #[allow(clippy::print_stdout)]
    pub fn mounted(bytes: u64) -> Option<Self> {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNS) {
            println!("skipped: permission for a mount namespace not found ({error}); run as root");
            return None;
        }
        let nothing = None::<&str>;
        let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
        mount(nothing, "/", nothing, private, nothing).expect("a namespace of one's own");
        let folder = tempfile::tempdir().expect("a folder");
        let size = format!("size={bytes},mode=700");
        let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
        mount(
            Some("tmpfs"),
            folder.path(),
            Some("tmpfs"),
            flags,
            Some(size.as_str()),
        )
        .expect("a tmpfs");
        Some(Self { folder })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Bytes that anybody can still take.
    ///
    /// # Panics
    /// When the disk is gone.
    #[must_use]
    pub fn free(&self) -> u64 {
        let disk = statvfs(self.path()).expect("it is mounted");
        disk.blocks_available() * disk.fragment_size()
    }

    /// Takes every block that is left.
    ///
    /// # Panics
    /// When one is left all the same.
    pub fn fill(&self) {
        let mut options = File::options();
        let mut filling = options
            .append(true)
            .create(true)
            .open(self.filling())
            .expect("a file");
        loop {
            match filling.write(&[0xA5; 4096]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("filling the disk: {error}"),
            }
        }
        assert_eq!(self.free(), 0, "bytes left on a full disk");
    }

    /// Gives back what [`Self::fill`] took.
    ///
    /// # Panics
    /// When nothing was taken.
    pub fn clear(&self) {
        std::fs::remove_file(self.filling()).expect("the disk was filled");
    }

    fn filling(&self) -> PathBuf {
        self.path().join("filling")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What still has files open keeps it until it ends; the folder can be removed at once.
        let _ = umount2(self.path(), MntFlags::MNT_DETACH);
    }
}
