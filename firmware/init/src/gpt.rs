//! The GUID partition table: read, checked and rewritten so that a power cut leaves one valid copy.
//!
//! Owns the rule of which copy counts, for boot and for updates alike. Never creates, moves or
//! resizes a partition: it changes names and unique identifiers only.
//! Source: UEFI 2.10, section 5.3.

use std::fmt;
use std::io;

use crate::disk::{Disk, ReadDisk};

/// The most bytes of partition entries that are read. The usual table has 16 KiB.
const MAX_ENTRIES_BYTES: u64 = 128 * 1024;
/// Bytes of a header that mean something.
const HEADER_BYTES: usize = 92;
/// UTF-16 units of a partition name.
pub const NAME_UNITS: usize = 36;

/// A GUID, in the order it is written as text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// The type of an EFI system partition.
    pub const ESP: Self = Self(0xc12a_7328_f81f_11d2_ba4b_00a0_c93e_c93b_u128.to_be_bytes());

    /// Reads `c12a7328-f81f-11d2-ba4b-00a0c93ec93b`, in either case.
    pub fn parse(text: &str) -> Option<Self> {
        let dashes = [8, 13, 18, 23];
        if text.len() != 36 || dashes.iter().any(|at| text.as_bytes()[*at] != b'-') {
            return None;
        }
        let digits: String = text.split('-').collect();
        if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        u128::from_str_radix(&digits, 16)
            .ok()
            .map(|value| Self(value.to_be_bytes()))
    }

    /// The other order: the first three fields are little-endian on disk.
    fn swapped(self) -> Self {
        let mut b = self.0;
        b[..4].reverse();
        b[4..6].reverse();
        b[6..8].reverse();
        Self(b)
    }

    fn on_disk(bytes: &[u8]) -> Self {
        let mut raw = [0; 16];
        raw.copy_from_slice(&bytes[..16]);
        Self(raw).swapped()
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number, from 1: the `3` of `vda3`.
    pub number: u32,
    /// What it is for.
    pub kind: Guid,
    /// What tells it from every other.
    pub uuid: Guid,
    /// First sector.
    pub first: u64,
    /// Last sector, included.
    pub last: u64,
    /// Its name. Unpaired surrogates read as U+FFFD.
    pub name: String,
}

/// Which of the two copies on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copy {
    /// At the start of the disk.
    Primary,
    /// At the end.
    Backup,
}

/// Why a disk has no usable table.
#[derive(Debug)]
pub enum Error {
    /// The disk could not be read.
    Io(io::Error),
    /// Sectors that are neither 512 nor 4096 bytes, or a disk too small for a table.
    Disk,
    /// Neither copy starts with `EFI PART`.
    Absent,
    /// Neither copy is valid. The word names the check that the primary failed.
    Invalid(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "cannot be read: {error}"),
            Self::Disk => f.write_str("too small, or odd sectors"),
            Self::Absent => f.write_str("no partition table"),
            Self::Invalid(what) => write!(f, "damaged partition table ({what})"),
        }
    }
}

impl std::error::Error for Error {}

/// One copy as it lies on the disk.
#[derive(Debug, Clone)]
struct Raw {
    header: [u8; HEADER_BYTES],
    /// All entries, padded to whole sectors.
    entries: Vec<u8>,
}

impl Raw {
    fn u32_at(&self, at: usize) -> u32 {
        u32_le(&self.header, at)
    }
    fn u64_at(&self, at: usize) -> u64 {
        u64_le(&self.header, at)
    }
    fn alternate(&self) -> u64 {
        self.u64_at(32)
    }
    fn entries_lba(&self) -> u64 {
        self.u64_at(72)
    }
    fn entry_count(&self) -> usize {
        self.u32_at(80) as usize
    }
    fn entry_bytes(&self) -> usize {
        self.u32_at(84) as usize
    }
}

/// A valid table, and where its copies are.
#[derive(Debug, Clone)]
pub struct Table {
    raw: Raw,
    source: Copy,
    /// The other copy is valid and says the same.
    both: bool,
    backup_lba: u64,
    sector: u32,
}

impl Table {
    /// Reads the table of a disk: the primary copy when it is valid, else the backup.
    pub fn load(disk: &dyn ReadDisk) -> Result<Self, Error> {
        let sector = disk.sector();
        if !matches!(sector, 512 | 4096) {
            return Err(Error::Disk);
        }
        let sectors = disk.bytes() / u64::from(sector);
        if sectors < 6 {
            return Err(Error::Disk);
        }
        let primary = read_copy(disk, sectors, 1);
        let backup_lba = match &primary {
            Ok(raw) if (2..sectors).contains(&raw.alternate()) => raw.alternate(),
            _ => sectors - 1,
        };
        let backup = read_copy(disk, sectors, backup_lba);
        let (raw, source, both) = match (primary, backup) {
            (Ok(raw), Ok(other)) => {
                let same = raw.entries == other.entries;
                (raw, Copy::Primary, same)
            }
            (Ok(raw), Err(_)) => (raw, Copy::Primary, false),
            (Err(_), Ok(raw)) => (raw, Copy::Backup, false),
            (Err(Error::Absent), Err(error)) => return Err(error),
            (Err(error), Err(_)) => return Err(error),
        };
        Ok(Self {
            raw,
            source,
            both,
            backup_lba,
            sector,
        })
    }

    /// Which copy was read.
    pub fn source(&self) -> Copy {
        self.source
    }

    /// Whether both copies are valid and equal.
    pub fn is_whole(&self) -> bool {
        self.both
    }

    /// Bytes in a sector of this disk.
    pub fn sector(&self) -> u32 {
        self.sector
    }

    /// The partitions, by number.
    pub fn partitions(&self) -> Vec<Partition> {
        self.raw
            .entries
            .chunks_exact(self.raw.entry_bytes())
            .take(self.raw.entry_count())
            .enumerate()
            .filter(|(_, entry)| entry[..16] != [0; 16])
            .map(|(index, entry)| Partition {
                number: index as u32 + 1,
                kind: Guid::on_disk(&entry[..16]),
                uuid: Guid::on_disk(&entry[16..32]),
                first: u64_le(entry, 32),
                last: u64_le(entry, 40),
                name: name_of(&entry[56..128]),
            })
            .collect()
    }

    /// Gives partition `number` another name and unique identifier, in memory.
    ///
    /// # Panics
    /// When there is no such partition, or the name has more than [`NAME_UNITS`] UTF-16 units:
    /// the caller took the number from [`Table::partitions`] and makes the name itself.
    pub fn relabel(&mut self, number: u32, name: &str, uuid: Guid) {
        let units: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(units.len() <= NAME_UNITS * 2, "partition name too long");
        let bytes = self.raw.entry_bytes();
        let start = (number as usize - 1) * bytes;
        assert!((number as usize) <= self.raw.entry_count(), "no partition");
        let entry = &mut self.raw.entries[start..start + bytes];
        assert!(entry[..16] != [0; 16], "no partition {number}");
        entry[16..32].copy_from_slice(&uuid.swapped().0);
        entry[56..128].fill(0);
        entry[56..56 + units.len()].copy_from_slice(&units);
        self.both = false;
    }

    /// Writes both copies. At every moment one copy on the disk is valid: the copy that was not
    /// read (the backup, as a rule) is written and flushed before the one that was is touched.
    /// A reader that meets a power cut finds the old table or the new one.
    pub fn store(&mut self, disk: &mut dyn Disk) -> io::Result<()> {
        let order = match self.source {
            Copy::Primary => [Copy::Backup, Copy::Primary],
            Copy::Backup => [Copy::Primary, Copy::Backup],
        };
        for copy in order {
            self.store_copy(disk, copy)?;
        }
        self.source = Copy::Primary;
        self.both = true;
        Ok(())
    }

    fn store_copy(&self, disk: &mut dyn Disk, copy: Copy) -> io::Result<()> {
        let sector = u64::from(self.sector);
        let entries_sectors = self.raw.entries.len() as u64 / sector;
        let (own, other, entries_lba) = match copy {
            Copy::Primary => {
                let lba = match self.source {
                    Copy::Primary => self.raw.entries_lba(),
                    Copy::Backup => 2,
                };
                (1, self.backup_lba, lba)
            }
            Copy::Backup => (self.backup_lba, 1, self.backup_lba - entries_sectors),
        };
        let mut header = self.raw.header;
        header[24..32].copy_from_slice(&own.to_le_bytes());
        header[32..40].copy_from_slice(&other.to_le_bytes());
        header[72..80].copy_from_slice(&entries_lba.to_le_bytes());
        let used = self.raw.entry_count() * self.raw.entry_bytes();
        header[88..92].copy_from_slice(&crc32(&self.raw.entries[..used]).to_le_bytes());
        header[16..20].fill(0);
        let sum = crc32(&header);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        let mut block = vec![0; self.sector as usize];
        block[..HEADER_BYTES].copy_from_slice(&header);

        disk.write_at(entries_lba * sector, &self.raw.entries)?;
        disk.flush()?;
        disk.write_at(own * sector, &block)?;
        disk.flush()
    }
}

/// Reads and checks the copy whose header is at `lba`.
fn read_copy(disk: &dyn ReadDisk, sectors: u64, lba: u64) -> Result<Raw, Error> {
    let sector = u64::from(disk.sector());
    let mut block = vec![0; sector as usize];
    disk.read_at(lba * sector, &mut block).map_err(Error::Io)?;
    if &block[..8] != b"EFI PART" {
        return Err(Error::Absent);
    }
    if u32_le(&block, 8) != 0x0001_0000 {
        return Err(Error::Invalid("revision"));
    }
    // A longer header would have fields that a rewrite would lose.
    if u32_le(&block, 12) as usize != HEADER_BYTES {
        return Err(Error::Invalid("header size"));
    }
    let mut header = [0; HEADER_BYTES];
    header.copy_from_slice(&block[..HEADER_BYTES]);
    let sum = u32_le(&header, 16);
    header[16..20].fill(0);
    if crc32(&header) != sum {
        return Err(Error::Invalid("header checksum"));
    }
    let mut raw = Raw {
        header,
        entries: Vec::new(),
    };
    if raw.u64_at(24) != lba {
        return Err(Error::Invalid("header place"));
    }
    let (first_usable, last_usable) = (raw.u64_at(40), raw.u64_at(48));
    if first_usable > last_usable || last_usable >= sectors {
        return Err(Error::Invalid("usable sectors"));
    }
    let size = u64::from(raw.u32_at(84));
    if !(128..=4096).contains(&size) || !size.is_power_of_two() {
        return Err(Error::Invalid("entry size"));
    }
    let used = u64::from(raw.u32_at(80)) * size;
    if used == 0 || used > MAX_ENTRIES_BYTES {
        return Err(Error::Invalid("entry count"));
    }
    let start = raw.entries_lba();
    let end = start.checked_add(used.div_ceil(sector));
    let before = start >= 2 && end.is_some_and(|end| end <= first_usable);
    let after = start > last_usable && end.is_some_and(|end| end <= sectors);
    // Each copy keeps its entries on its own side of the partitions, next to its header.
    if !(if lba == 1 {
        before
    } else {
        after && end <= Some(lba)
    }) {
        return Err(Error::Invalid("entries place"));
    }
    // Where a rewrite would put the copies must be clear of the partitions too.
    let length = used.div_ceil(sector);
    let backup = if lba == 1 { raw.alternate() } else { lba };
    let clear = backup < sectors
        && backup
            .checked_sub(length)
            .is_some_and(|at| at > last_usable);
    if !clear || 2 + length > first_usable {
        return Err(Error::Invalid("place of the copies"));
    }
    raw.entries = vec![0; (used.div_ceil(sector) * sector) as usize];
    disk.read_at(start * sector, &mut raw.entries)
        .map_err(Error::Io)?;
    if crc32(&raw.entries[..used as usize]) != raw.u32_at(88) {
        return Err(Error::Invalid("entries checksum"));
    }
    let mut spans: Vec<(u64, u64)> = raw.entries[..used as usize]
        .chunks_exact(size as usize)
        .filter(|entry| entry[..16] != [0; 16])
        .map(|entry| (u64_le(entry, 32), u64_le(entry, 40)))
        .collect();
    spans.sort_unstable();
    let within = |(first, last): &(u64, u64)| {
        first <= last && *first >= first_usable && *last <= last_usable
    };
    if !spans.iter().all(within) || spans.windows(2).any(|pair| pair[0].1 >= pair[1].0) {
        return Err(Error::Invalid("partition bounds"));
    }
    Ok(raw)
}

fn u32_le(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_le(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_le(bytes, at)) | u64::from(u32_le(bytes, at + 4)) << 32
}

fn name_of(field: &[u8]) -> String {
    let units = field
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .take_while(|unit| *unit != 0);
    char::decode_utf16(units)
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

/// CRC-32 as in ISO 3309, which UEFI asks for.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let mut value = index as u32;
            let mut bit = 0;
            while bit < 8 {
                value = (value >> 1) ^ (0xedb8_8320 & (value & 1).wrapping_neg());
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |sum, byte| {
        (sum >> 8) ^ TABLE[((sum ^ u32::from(*byte)) & 0xff) as usize]
    })
}

/// Which of several disks that hold the wanted root to boot: the one whose EFI system partition
/// the firmware booted from, when that is known, else the first by name.
pub fn choose<'a>(candidates: &'a [(String, Table)], booted_esp: Option<Guid>) -> Option<&'a str> {
    let booted = |(_, table): &&'a (String, Table)| {
        let mut partitions = table.partitions().into_iter();
        booted_esp.is_some_and(|esp| partitions.any(|p| p.kind == Guid::ESP && p.uuid == esp))
    };
    candidates
        .iter()
        .find(booted)
        .or_else(|| candidates.iter().min_by(|a, b| a.0.cmp(&b.0)))
        .map(|(name, _)| name.as_str())
}

#[cfg(test)]
#[path = "gpt_tests.rs"]
mod tests;
