//! A disk as the rest sees it: bytes at offsets, and the size of a sector.
//!
//! A file is one too, so every rule is tested without root and without a device.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// A disk that can be read.
pub trait ReadDisk {
    /// Bytes in a logical sector: 512 or 4096.
    fn sector(&self) -> u32;
    /// Size of the disk in bytes.
    fn bytes(&self) -> u64;
    /// Fills `into` from `offset` bytes, or fails.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;
}

/// A disk that can be written.
pub trait Disk: ReadDisk {
    /// Writes all of `from` at `offset` bytes. What was written may be lost until [`Disk::flush`].
    fn write_at(&mut self, offset: u64, from: &[u8]) -> io::Result<()>;
    /// Returns once everything written before would survive a power cut.
    fn flush(&mut self) -> io::Result<()>;
}

/// A block device or a plain file.
#[derive(Debug)]
pub struct FileDisk {
    file: File,
    sector: u32,
    bytes: u64,
}

impl FileDisk {
    /// A disk on `file`, which has `bytes` bytes in sectors of `sector` bytes.
    pub fn new(file: File, sector: u32, bytes: u64) -> Self {
        Self {
            file,
            sector,
            bytes,
        }
    }

    /// The file below.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl ReadDisk for FileDisk {
    fn sector(&self) -> u32 {
        self.sector
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }
}

impl Disk for FileDisk {
    fn write_at(&mut self, offset: u64, from: &[u8]) -> io::Result<()> {
        let end = offset.checked_add(from.len() as u64);
        if end.is_none_or(|end| end > self.bytes) {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.file.write_all_at(from, offset)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// A disk in memory.
#[derive(Debug, Clone)]
pub struct MemoryDisk {
    /// Its content.
    pub content: Vec<u8>,
    /// Bytes in a sector.
    pub sector: u32,
}

impl ReadDisk for MemoryDisk {
    fn sector(&self) -> u32 {
        self.sector
    }

    fn bytes(&self) -> u64 {
        self.content.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset)
            .ok()
            .and_then(|start| self.content.get(start..start.checked_add(into.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(from);
        Ok(())
    }
}

impl Disk for MemoryDisk {
    fn write_at(&mut self, offset: u64, from: &[u8]) -> io::Result<()> {
        let into = usize::try_from(offset)
            .ok()
            .and_then(|start| self.content.get_mut(start..start.checked_add(from.len())?))
            .ok_or(io::ErrorKind::FileTooLarge)?;
        into.copy_from_slice(from);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
