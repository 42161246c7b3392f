//! The two slots: which runs, what each holds, why one was not chosen, and how a bundle gets into
//! the other one.
//!
//! The order of an installation is the whole point. A power cut between any two writes leaves
//! the running version bootable, and no kernel image of a version that is not complete:
//!
//! 1. everything is verified, before anything is written;
//! 2. the kernel image of the other slot goes (an entry never outlives its slot);
//! 3. the partitions of the other slot are named `_empty` and get identifiers nobody looks for;
//! 4. the root and its hash tree are written, hashed again on the way, and flushed;
//! 5. the partitions get their names and the identifiers that the root hash gives;
//! 6. the kernel image appears, by one rename.

use std::io;
use std::io::{Read, Seek, Write};

use palabre_init::cmdline::RootHash;
use palabre_init::disk::{Disk, ReadDisk};
use palabre_init::gpt;
use palabre_init::gpt::{Guid, Partition, Table};
use serde::{Deserialize, Serialize};

use crate::boot::{Bootloader, Entry, starts_next};
use crate::bundle::{self, Bundle, CopyError, Image, Part};

/// Name of a partition that holds nothing.
const EMPTY: &str = "_empty";
/// Bytes between two flushes. A higher value makes longer bursts on the disk that meetings share;
/// a lower one makes the installation slower.
const FLUSH_EVERY: u64 = 8 << 20;

/// Why slots cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each sentence says it")]
pub enum Refused {
    #[error(transparent)]
    Bundle(#[from] bundle::Refused),
    #[error("the disk has no usable partition table: {0}")]
    Table(#[from] gpt::Error),
    #[error("`{0}` is no architecture that Palabre runs on")]
    Arch(String),
    #[error("the disk has {0} slots instead of two")]
    Layout(usize),
    #[error("the running root is in neither slot of this disk")]
    Running,
    #[error("the running version is still on trial: the other slot is its way back")]
    OnTrial,
    #[error("the running version has no kernel image on the EFI system partition")]
    NoEntry,
    #[error("this update has the same root as the version that runs")]
    SameRoot,
    #[error("the {part} of this update has {size} bytes; its partition has {most}")]
    TooLarge {
        part: &'static str,
        size: u64,
        most: u64,
    },
    #[error("the disk cannot be written: {0}")]
    Disk(io::Error),
    #[error("the EFI system partition cannot be written: {0}")]
    Boot(io::Error),
}

impl Refused {
    /// A word for programs, which never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Bundle(refused) => refused.code(),
            Self::Table(_) => "disk-table",
            Self::Arch(_) => "unknown-arch",
            Self::Layout(_) => "disk-layout",
            Self::Running => "running-unknown",
            Self::OnTrial => "running-on-trial",
            Self::NoEntry => "running-no-entry",
            Self::SameRoot => "same-root",
            Self::TooLarge { .. } => "part-too-large",
            Self::Disk(_) => "disk-write",
            Self::Boot(_) => "esp-write",
        }
    }
}

/// One slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// `A` or `B`.
    pub letter: char,
    /// Where the root file system is.
    pub root: Partition,
    /// Where its hash tree is.
    pub verity: Partition,
}

impl Slot {
    /// The version it says it holds: both names must agree.
    pub fn version(&self) -> Option<u64> {
        let text = self.root.name.strip_prefix("palabre_")?;
        let version: u64 = text.parse().ok()?;
        let agree = [root_name(version), verity_name(version)]
            == [self.root.name.as_str(), self.verity.name.as_str()];
        agree.then_some(version)
    }

    /// Whether this root is in it.
    pub fn holds(&self, hash: &RootHash) -> bool {
        self.root.uuid == hash.root_uuid() && self.verity.uuid == hash.verity_uuid()
    }
}

fn root_name(version: u64) -> String {
    format!("palabre_{version}")
}

fn verity_name(version: u64) -> String {
    format!("palabre_{version}_verity")
}

/// The types of root and hash partitions (UAPI Discoverable Partitions Specification).
fn kinds(arch: &str) -> Result<(Guid, Guid), Refused> {
    let (root, verity) = match arch {
        "amd64" => (
            0x4f68_bce3_e8cd_4db1_96e7_fbca_f984_b709_u128,
            0x2c73_57ed_ebd2_46d9_aec1_23d4_37ec_2bf5_u128,
        ),
        "arm64" => (
            0xb921_b045_1df0_41c3_af44_4c6f_280d_3fae,
            0xdf33_00ce_d69f_4c92_978c_9bfb_0f38_d820,
        ),
        other => return Err(Refused::Arch(other.to_owned())),
    };
    Ok((Guid(root.to_be_bytes()), Guid(verity.to_be_bytes())))
}

/// The slots of a disk, and its table.
pub fn read(disk: &dyn ReadDisk, arch: &str) -> Result<(Table, Vec<Slot>), Refused> {
    let (root, verity) = kinds(arch)?;
    let table = Table::load(disk)?;
    let partitions = table.partitions();
    let of = |kind| partitions.iter().filter(move |p| p.kind == kind).cloned();
    let slots = of(root)
        .zip(of(verity))
        .zip(['A', 'B'])
        .map(|((root, verity), letter)| Slot {
            letter,
            root,
            verity,
        })
        .collect();
    Ok((table, slots))
}

/// How far an installation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The bundle is being verified; nothing is written.
    Verifying,
    /// The other slot is being written.
    Writing,
    /// The new version starts next.
    Done,
}

/// The box, as an installation needs it.
#[derive(Debug)]
pub struct Machine<'a, D, B> {
    /// The disk it runs from.
    pub disk: &'a mut D,
    /// Its boot loader.
    pub boot: &'a mut B,
    /// What runs.
    pub image: &'a Image,
    /// The root that runs.
    pub root_hash: RootHash,
    /// The oldest version that the box accepts.
    pub floor: u64,
    /// Randomness: the identifiers of the emptied partitions.
    pub random: [u8; 32],
}

/// Installs a bundle in the slot that does not run. Answers the version that starts next.
/// `progress` gets the bytes done of all bytes of the phase.
pub fn install<R: Read + Seek, D: Disk, B: Bootloader>(
    bundle: &mut Bundle<R>,
    machine: Machine<'_, D, B>,
    mut progress: impl FnMut(Phase, u64, u64),
) -> Result<u64, Refused> {
    let Machine {
        disk,
        boot,
        image,
        root_hash,
        floor,
        random,
    } = machine;
    let manifest = bundle.manifest().clone();
    manifest.suits(image, floor)?;
    let version = manifest.version;
    let hash = manifest.root_hash();
    let (mut table, slots) = read(disk, &image.arch)?;
    if slots.len() != 2 {
        return Err(Refused::Layout(slots.len()));
    }
    if !slots.iter().any(|slot| slot.holds(&root_hash)) {
        return Err(Refused::Running);
    }
    let target = slots
        .iter()
        .find(|slot| !slot.holds(&root_hash))
        .ok_or(Refused::Running)?;
    if hash.root_uuid() == root_hash.root_uuid() || hash.verity_uuid() == root_hash.verity_uuid() {
        return Err(Refused::SameRoot);
    }
    let sector = u64::from(table.sector());
    let places = [(Part::Root, &target.root), (Part::Verity, &target.verity)];
    for (part, place) in places {
        let (size, most) = (
            manifest.member(part).size,
            (place.last - place.first + 1) * sector,
        );
        if size > most {
            let part = part.name();
            return Err(Refused::TooLarge { part, size, most });
        }
    }
    let entries = boot.entries().map_err(Refused::Boot)?;
    match entries.iter().find(|entry| entry.version == image.version) {
        None => return Err(Refused::NoEntry),
        Some(entry) if entry.trial.is_some() => return Err(Refused::OnTrial),
        Some(_) => {}
    }
    let all: u64 = manifest.parts.iter().map(|member| member.size).sum();
    bundle.check_parts(|done| progress(Phase::Verifying, done, all))?;

    boot.default(None).map_err(Refused::Boot)?;
    boot.keep_only(image.version).map_err(Refused::Boot)?;

    let mut halves = [[0; 16]; 2];
    halves[0].copy_from_slice(&random[..16]);
    halves[1].copy_from_slice(&random[16..]);
    table.relabel(target.root.number, EMPTY, Guid(halves[0]));
    table.relabel(target.verity.number, EMPTY, Guid(halves[1]));
    table.store(disk).map_err(Refused::Disk)?;

    let mut before = 0;
    for (part, place) in places {
        let mut into = Place {
            disk: &mut *disk,
            at: place.first * sector,
            end: (place.last + 1) * sector,
            unflushed: 0,
        };
        bundle
            .copy_part(part, &mut into, |done| {
                progress(Phase::Writing, before + done, all)
            })
            .map_err(|error| match error {
                CopyError::Bundle(refused) => Refused::Bundle(refused),
                CopyError::Write(error) => Refused::Disk(error),
            })?;
        disk.flush().map_err(Refused::Disk)?;
        before += manifest.member(part).size;
    }

    table.relabel(target.root.number, &root_name(version), hash.root_uuid());
    table.relabel(
        target.verity.number,
        &verity_name(version),
        hash.verity_uuid(),
    );
    table.store(disk).map_err(Refused::Disk)?;

    let mut refused = None;
    let added = boot.add(version, &mut |out| {
        let copied = bundle.copy_part(Part::Uki, out, |done| {
            progress(Phase::Writing, before + done, all)
        });
        copied.map_err(|error| match error {
            CopyError::Write(error) => error,
            CopyError::Bundle(why) => {
                refused = Some(why);
                io::Error::other("the bundle changed")
            }
        })
    });
    if let Some(why) = refused {
        return Err(Refused::Bundle(why));
    }
    added.map_err(Refused::Boot)?;
    progress(Phase::Done, all, all);
    Ok(version)
}

/// The bytes of one partition, and not one beyond.
struct Place<'a, D> {
    disk: &'a mut D,
    at: u64,
    end: u64,
    unflushed: u64,
}

impl<D: Disk> Write for Place<'_, D> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len() as u64;
        if length > self.end - self.at {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.disk.write_at(self.at, bytes)?;
        self.at += length;
        self.unflushed += length;
        if self.unflushed >= FLUSH_EVERY {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unflushed = 0;
        self.disk.flush()
    }
}

/// What became of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has proved good.
    Good,
    /// It is on trial.
    Trial,
    /// Its tries failed.
    Bad,
    /// It holds a root without a kernel image, or the other way round.
    Incomplete,
    /// It holds nothing.
    Empty,
}

/// One slot, for people and for the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = SlotReport))]
pub struct Report {
    /// `A` or `B`.
    pub slot: char,
    /// Whether it runs.
    pub runs: bool,
    /// What it holds.
    pub version: Option<u64>,
    /// What became of it.
    pub state: State,
    /// Tries left, while it is on trial.
    pub tries_left: Option<u32>,
    /// Whether it starts next.
    pub starts_next: bool,
    /// Why it does, or does not.
    pub why: String,
}

/// Reports every slot. `chosen` is the version that somebody chose to start.
pub fn report(
    slots: &[Slot],
    entries: &[Entry],
    running: &RootHash,
    chosen: Option<u64>,
) -> Vec<Report> {
    let held = |version: u64| slots.iter().any(|slot| slot.version() == Some(version));
    let chosen = chosen.filter(|version| entries.iter().any(|entry| entry.version == *version));
    let next = chosen.or_else(|| starts_next(entries));
    let one = |slot: &Slot| {
        let version = slot.version();
        let entry = entries.iter().find(|entry| Some(entry.version) == version);
        let state = match (version, entry) {
            (None, _) if slot.root.name == EMPTY => State::Empty,
            (None, _) | (_, None) => State::Incomplete,
            // The last try leaves none, and may still prove good.
            (_, Some(entry)) if entry.is_bad() && !slot.holds(running) => State::Bad,
            (_, Some(entry)) if entry.trial.is_some() => State::Trial,
            _ => State::Good,
        };
        let starts_next = entry.is_some() && version == next;
        let why = match state {
            State::Empty => "nothing is installed here".to_owned(),
            State::Incomplete => "an installation was cut short here".to_owned(),
            State::Bad if !starts_next => "every try to start it failed".to_owned(),
            _ if starts_next && chosen.is_some() => "it was chosen".to_owned(),
            _ if starts_next => "it is the newest that has not failed".to_owned(),
            _ => match next {
                Some(next) if chosen.is_some() => format!("version {next} was chosen instead"),
                Some(next) if held(next) => format!("version {next} is newer"),
                Some(next) => format!("version {next} is newer, but its slot is gone"),
                None => "no version can start".to_owned(),
            },
        };
        Report {
            slot: slot.letter,
            runs: slot.holds(running),
            version,
            state,
            tries_left: entry.and_then(|entry| entry.trial).map(|trial| trial.left),
            starts_next,
            why,
        }
    };
    slots.iter().map(one).collect()
}

#[cfg(test)]
#[path = "slots_tests.rs"]
mod tests;
