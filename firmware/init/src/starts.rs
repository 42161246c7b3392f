//! How often a version was started in a row and never served, kept in a variable of the firmware:
//! the only memory that a damaged disk leaves.
//!
//! systemd-boot counts the tries of a version on trial. One that proved good has no count, and a
//! root that is damaged later would restart for ever, as a rule before any program of it runs. So
//! the first program counts each start here, and whoever sees the box serve forgets the count. A
//! version that used up its starts leaves its turn to the one in the other slot, which then is
//! started again until it serves or has used up its own.

use std::io;
use std::time::Duration;

use crate::cmdline::RootHash;
use crate::gpt::{Guid, Partition, crc32};
use crate::variables::{LOADER, Variables};

/// Starts in a row that may end without serving. A higher value makes the way back from a damaged
/// disk longer; a lower one takes power cuts for damage.
pub const MOST: u8 = 3;
/// The same when the other version is known to have failed: what did not prove good is still more
/// than a version that cannot start, but not before that is beyond doubt.
const MOST_BEFORE_A_FAILED_ONE: u8 = 3 * MOST;
/// How long the version that is left can be read on a screen.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// How long the box rests when the other version never served either: what both lack may come
/// back, and neither a disk nor a person is helped by a start every minute. A higher value keeps a
/// box that would serve again waiting.
const LATER_PAUSE: Duration = Duration::from_secs(300);
/// Our variable, and its vendor, which is ours alone.
const NAME: &str = "PalabreStarts";
const VENDOR: &str = "c301a203-f8a6-48f5-a78a-541a70c41c5c";
/// What systemd-boot starts next time, once.
const ONE_SHOT: &str = "LoaderEntryOneShot";
/// The first bytes of our variable.
const MAGIC: &[u8; 4] = b"PLS1";
const BYTES: usize = 34;

/// The starts in a row that did not serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Starts {
    /// The root they were of.
    root: Guid,
    /// How many, with the one that is going on.
    count: u8,
    /// How often a version left its turn to the other since the box last served.
    turns: u8,
    /// The version that left its turn last, 0 when none did.
    left: u64,
}

impl Starts {
    /// How many starts there were, with the one that is going on.
    pub fn count(&self) -> u8 {
        self.count
    }

    /// How often a version left its turn to the other since the box last served.
    pub fn turns(&self) -> u8 {
        self.turns
    }

    /// The version whose place the one with this root took, because it never served.
    pub fn instead_of(&self, root: Guid) -> Option<u64> {
        (self.root == root && self.turns > 0 && self.left != 0).then_some(self.left)
    }

    /// What a variable says. Anything but what [`Starts::content`] makes says nothing.
    fn parse(content: &[u8]) -> Option<Self> {
        let content: &[u8; BYTES] = content.try_into().ok()?;
        let (said, sum) = content.split_at(BYTES - 4);
        if said[..4] != *MAGIC || crc32(said).to_le_bytes() != sum {
            return None;
        }
        let mut root = [0; 16];
        root.copy_from_slice(&said[4..20]);
        let mut left = [0; 8];
        left.copy_from_slice(&said[22..30]);
        Some(Self {
            root: Guid(root),
            count: said[20],
            turns: said[21],
            left: u64::from_le_bytes(left),
        })
    }

    fn content(&self) -> Vec<u8> {
        let mut content = MAGIC.to_vec();
        content.extend(self.root.0);
        content.extend([self.count, self.turns]);
        content.extend(self.left.to_le_bytes());
        content.extend(crc32(&content).to_le_bytes());
        content
    }

    /// The start of `root` that follows.
    fn followed_by(before: Option<Self>, root: Guid) -> Self {
        match before {
            Some(same) if same.root == root => Self {
                count: same.count.saturating_add(1),
                ..same
            },
            // The other version, because one left its turn, or because somebody chose it.
            Some(other) if other.turns > 0 => Self {
                root,
                count: 1,
                ..other
            },
            _ => Self {
                root,
                count: 1,
                turns: 0,
                left: 0,
            },
        }
    }

    /// What becomes of this start, on a disk that has `versions`.
    pub fn next(&self, versions: &Versions) -> Next {
        match versions.other {
            Some(other) if self.count > versions.most_starts() => Next::Leave {
                to: other,
                pause: match self.turns {
                    0 => FIRST_PAUSE,
                    _ => LATER_PAUSE,
                },
            },
            _ => Next::Start,
        }
    }
}

/// What becomes of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It goes on.
    Start,
    /// It leaves its turn.
    Leave {
        /// The version that is started instead.
        to: u64,
        /// How long to wait before.
        pause: Duration,
    },
}

/// The versions that a disk says it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Versions {
    /// The one that is starting.
    pub own: Option<u64>,
    /// The one in the other slot.
    pub other: Option<u64>,
    /// Whether that one failed its trial.
    pub other_failed: bool,
}

impl Versions {
    /// Reads them from the names of the partitions. `failed` is the version that failed its trial.
    pub fn of(partitions: &[Partition], hash: &RootHash, failed: Option<u64>) -> Self {
        let versions = |own: bool| {
            partitions
                .iter()
                .filter(move |p| (p.uuid == hash.root_uuid()) == own)
                .filter_map(|p| version(&p.name))
                .filter(|version| {
                    let verity = format!("palabre_{version}_verity");
                    partitions.iter().any(|p| p.name == verity)
                })
        };
        let own = versions(true).next();
        let other = versions(false).filter(|other| Some(*other) != own).max();
        let other_failed = other.is_some() && other == failed;
        Self {
            own,
            other,
            other_failed,
        }
    }

    /// Starts in a row that the own version may end without serving.
    pub fn most_starts(&self) -> u8 {
        match self.other_failed {
            true => MOST_BEFORE_A_FAILED_ONE,
            false => MOST,
        }
    }
}

/// The version that a root partition names.
fn version(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("palabre_")?;
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    digits.parse().ok().filter(|_| plain)
}

/// What the variable says.
pub fn read(variables: &Variables) -> Option<Starts> {
    Starts::parse(&variables.read(NAME, VENDOR)?)
}

/// Counts the start of the version with this root. An error says that it is not remembered: then
/// nothing may be concluded from the count.
pub fn count(variables: &Variables, root: Guid) -> io::Result<Starts> {
    let starts = Starts::followed_by(read(variables), root);
    variables.write(NAME, VENDOR, &starts.content())?;
    Ok(starts)
}

/// Has the boot loader start `version` next, once. It knows an entry by its file name without the
/// count of tries.
fn start_next(variables: &Variables, version: u64) -> io::Result<()> {
    variables.write_text(ONE_SHOT, LOADER, &format!("palabre_{version}.efi"))
}

/// A version that took the place of another keeps it at its next start too: left to itself, the
/// boot loader would take the one that never served.
pub fn stay(variables: &Variables, starts: &Starts, versions: &Versions) -> io::Result<()> {
    match (starts.instead_of(starts.root), versions.own) {
        (Some(left), Some(own)) if left != own => start_next(variables, own),
        _ => Ok(()),
    }
}

/// Leaves the turn to version `to`.
pub fn leave(
    variables: &Variables,
    starts: &Starts,
    own: Option<u64>,
    to: u64,
) -> io::Result<Starts> {
    start_next(variables, to)?;
    let left = Starts {
        count: 0,
        turns: starts.turns.saturating_add(1),
        left: own.unwrap_or(0),
        ..*starts
    };
    variables.write(NAME, VENDOR, &left.content())?;
    Ok(left)
}

/// Forgets all of it: the box serves.
pub fn forget(variables: &Variables) -> io::Result<()> {
    variables.remove(NAME, VENDOR)
}

#[cfg(test)]
#[path = "starts_tests.rs"]
mod tests;
