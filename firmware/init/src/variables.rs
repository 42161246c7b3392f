//! Variables of the firmware, as the files that Linux makes of them (efivarfs): four bytes of
//! attributes, then the content. Source: UEFI 2.10, section 8.2.

use std::fs;
use std::io;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// The vendor of systemd's Boot Loader Interface.
pub const LOADER: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// Kept without power, for the boot loader and for the running system.
const ATTRIBUTES: [u8; 4] = [7, 0, 0, 0];
/// The most bytes of a variable that are read.
const MAX_BYTES: u64 = 4096;

/// The folder that has the variables.
#[derive(Debug, Clone)]
pub struct Variables(PathBuf);

impl Variables {
    /// The variables that are files in `folder`. Where there is no such folder, there are none, and
    /// none can be written.
    pub fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    fn path(&self, name: &str, vendor: &str) -> PathBuf {
        self.0.join(format!("{name}-{vendor}"))
    }

    /// The content of a variable, when it is there.
    pub fn read(&self, name: &str, vendor: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = fs::File::open(self.path(name, vendor)).ok()?;
        file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
        bytes.get(ATTRIBUTES.len()..).map(<[u8]>::to_vec)
    }

    /// The content of a variable that is UTF-16, without its end.
    pub fn read_text(&self, name: &str, vendor: &str) -> Option<String> {
        let content = self.read(name, vendor)?;
        let units = content.chunks_exact(2);
        let units: Vec<u16> = units
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
            .collect();
        let text = String::from_utf16(&units).ok()?;
        Some(text.trim_end_matches('\0').to_owned())
    }

    /// Gives a variable its content, whole or not at all.
    pub fn write(&self, name: &str, vendor: &str, content: &[u8]) -> io::Result<()> {
        if !self.0.is_dir() {
            let what = "this machine's firmware offers no variables";
            return Err(io::Error::new(io::ErrorKind::Unsupported, what));
        }
        let path = self.path(name, vendor);
        mutable(&path);
        let mut file = fs::File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        // One write is one change of the variable: whatever length it had.
        file.write_all(&[&ATTRIBUTES, content].concat())
    }

    /// Gives a variable text as its content: UTF-16 and its end.
    pub fn write_text(&self, name: &str, vendor: &str, text: &str) -> io::Result<()> {
        let units = text.encode_utf16().chain([0]);
        let content: Vec<u8> = units.flat_map(u16::to_le_bytes).collect();
        self.write(name, vendor, &content)
    }

    /// Removes a variable. One that is not there is no error.
    pub fn remove(&self, name: &str, vendor: &str) -> io::Result<()> {
        let path = self.path(name, vendor);
        mutable(&path);
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// Lifts the protection that Linux puts on variables it does not know. Elsewhere it does nothing.
fn mutable(path: &Path) {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    if let Ok(file) = fs::File::open(path)
        && let Ok(flags) = ioctl_getflags(&file)
        && flags.contains(IFlags::IMMUTABLE)
    {
        let _ = ioctl_setflags(&file, flags - IFlags::IMMUTABLE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let variables = Variables::new(folder.path());
        assert_eq!(variables.read("A", LOADER), None);
        variables.write("A", LOADER, b"abc").unwrap();
        assert_eq!(variables.read("A", LOADER).unwrap(), b"abc");
        variables.write_text("B", LOADER, "é.efi").unwrap();
        let file = folder.path().join(format!("B-{LOADER}"));
        let whole = [
            7, 0, 0, 0, 0xe9, 0, b'.', 0, b'e', 0, b'f', 0, b'i', 0, 0, 0,
        ];
        assert_eq!(fs::read(&file).unwrap(), whole);
        assert_eq!(variables.read_text("B", LOADER).unwrap(), "é.efi");
        variables.remove("B", LOADER).unwrap();
        variables.remove("B", LOADER).unwrap();
        assert_eq!(variables.read_text("B", LOADER), None);
    }

    #[test]
    fn nothing_odd_is_more_than_absent() {
        let folder = tempfile::tempdir().unwrap();
        let variables = Variables::new(folder.path());
        let file = folder.path().join(format!("A-{LOADER}"));
        fs::write(&file, [7, 0]).unwrap();
        assert_eq!(variables.read("A", LOADER), None);
        fs::write(&file, [7, 0, 0, 0, 0, 0xd8]).unwrap();
        assert_eq!(variables.read_text("A", LOADER), None);
        fs::write(&file, vec![0; 100_000]).unwrap();
        let read = variables.read("A", LOADER).unwrap();
        assert_eq!(read.len() as u64, MAX_BYTES - 4);
        let none = Variables::new(&folder.path().join("none"));
        assert_eq!(none.read("A", LOADER), None);
        none.remove("A", LOADER).unwrap();
        let refused = none.write("A", LOADER, b"").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::Unsupported);
    }
}
