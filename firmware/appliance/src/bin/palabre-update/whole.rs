//! The root, read from its beginning to its end: verity looks at a block when somebody reads it, so one that a start does not
//! need would restart the box later, in the middle of a meeting, and again at each start after.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, stat};

/// Bytes read at once. Less makes more of small reads, more keeps who reads beside it waiting on a slow card.
const PIECE: usize = 1 << 20;
/// What a read past the page cache must begin at, on any disk.
const ALIGNMENT: usize = 4096;

/// Reads all of the verified device that `root` is on, past the page cache; answers how many bytes it has. Where there is none, as
/// in a container, nothing is read. A block that is not what it was restarts the box before this returns.
pub(crate) fn read(root: &Path) -> io::Result<u64> {
    match verified_below(root)? {
        Some(device) => read_all(&device),
        None => Ok(0),
    }
}

/// The device of a file system, as a file of `/dev`, when it is one that the first program made
/// (`palabre-init`): verity's of the mapper.
fn verified_below(root: &Path) -> io::Result<Option<PathBuf>> {
    let device = stat(root)?.st_dev;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let folder = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    let uuid = fs::read_to_string(folder.join("dm/uuid")).unwrap_or_default();
    if !uuid.starts_with("CRYPT-VERITY-") {
        return Ok(None);
    }
    let link = fs::read_link(folder)?;
    Ok(link.file_name().map(|name| Path::new("/dev").join(name)))
}

fn read_all(path: &Path) -> io::Result<u64> {
    let direct = File::options()
        .read(true)
        .custom_flags(OFlags::DIRECT.bits() as i32)
        .open(path);
    // Some file systems, on which no root is, do not know it.
    let file = direct.or_else(|_| File::open(path))?;
    let mut room = vec![0; PIECE + ALIGNMENT];
    let aligned = room.as_ptr().align_offset(ALIGNMENT);
    let piece = &mut room[aligned..aligned + PIECE];
    let mut done = 0;
    loop {
        match rustix::io::read(&file, &mut *piece) {
            Ok(0) => return Ok(done),
            Ok(length) => done += length as u64,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_a_file_is_read_whatever_its_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root");
        for bytes in [0, 1, 4096, PIECE as u64, 3 * PIECE as u64 + 4096, 5_000_001] {
            File::create(&path).unwrap().set_len(bytes).unwrap();
            assert_eq!(read_all(&path).unwrap(), bytes);
        }
        assert!(read_all(&folder.path().join("none")).is_err());
        assert!(read_all(folder.path()).is_err(), "a folder cannot be read");
    }

    #[test]
    fn what_is_not_verified_is_not_read() {
        for root in ["/proc", "/", "/tmp"] {
            assert_eq!(read(Path::new(root)).unwrap(), 0, "{root}");
        }
        assert!(read(Path::new("/nonexistent")).is_err());
    }
}
