//! The kernel command line: the root hash that this boot is bound to, and how long to wait.
//!
//! The line is part of the signed kernel image, and a copy of it is in the signed initial file
//! system: what a hypervisor (SMBIOS strings) or a file beside the kernel image (addons) makes
//! systemd's stub add to it is refused.

use std::fmt;

use crate::gpt::Guid;

/// Seconds to wait for the disk when the command line does not say. Slow eMMC and emulated
/// machines need about 10; a higher value only delays the fallback to the other slot.
pub const DEFAULT_WAIT_SECONDS: u64 = 60;

/// The longest wait that is accepted.
const MAX_WAIT_SECONDS: u64 = 600;

/// The SHA-256 at the top of the hash tree of the root file system.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RootHash([u8; 32]);

impl RootHash {
    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, Refused> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(Refused::RootHash);
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let high = char::from(pair[0]).to_digit(16).ok_or(Refused::RootHash)?;
            let low = char::from(pair[1]).to_digit(16).ok_or(Refused::RootHash)?;
            *byte = (high << 4 | low) as u8;
        }
        Ok(Self(hash))
    }

    /// The partition UUID of the root that has this hash: its first half, as systemd does.
    pub fn root_uuid(&self) -> Guid {
        let mut half = [0; 16];
        half.copy_from_slice(&self.0[..16]);
        Guid(half)
    }

    /// The partition UUID of the hash tree: the second half.
    pub fn verity_uuid(&self) -> Guid {
        let mut half = [0; 16];
        half.copy_from_slice(&self.0[16..]);
        Guid(half)
    }
}

impl fmt::Display for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootHash({self})")
    }
}

/// What the command line asks of the boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The root to boot, and no other.
    pub root_hash: RootHash,
    /// How long to wait for its disk, in seconds.
    pub wait_seconds: u64,
}

/// Why a command line cannot be booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There is no `palabre.roothash=`.
    NoRootHash,
    /// A root hash is not 64 hexadecimal digits.
    RootHash,
    /// A setting is given twice: which one was signed for is not ours to guess.
    Twice,
    /// `palabre.wait=` is not a number of seconds from 0 to 600.
    Wait,
    /// It is not the line that was signed.
    NotSigned,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRootHash => "the kernel command line has no palabre.roothash=",
            Self::RootHash => "palabre.roothash= is not 64 hexadecimal digits",
            Self::Twice => "the kernel command line gives a palabre. setting twice",
            Self::Wait => "palabre.wait= is not a number of seconds from 0 to 600",
            Self::NotSigned => {
                "the kernel command line is not the one that was signed: something was added to it"
            }
        })
    }
}

impl std::error::Error for Refused {}

/// Refuses a command line of the kernel that is not the `signed` one.
pub fn is_signed(line: &str, signed: &str) -> Result<(), Refused> {
    match line.trim_ascii() == signed.trim_ascii() {
        true => Ok(()),
        false => Err(Refused::NotSigned),
    }
}

/// Reads the command line of the kernel.
pub fn parse(line: &str) -> Result<Request, Refused> {
    let wait_seconds = match setting(line, "palabre.wait")? {
        None => DEFAULT_WAIT_SECONDS,
        Some(text) => text
            .parse()
            .ok()
            .filter(|seconds| *seconds <= MAX_WAIT_SECONDS)
            .ok_or(Refused::Wait)?,
    };
    let hash = setting(line, "palabre.roothash")?.ok_or(Refused::NoRootHash)?;
    Ok(Request {
        root_hash: RootHash::parse(hash)?,
        wait_seconds,
    })
}

/// The value of `name=value`, which may be given once.
fn setting<'a>(line: &'a str, name: &str) -> Result<Option<&'a str>, Refused> {
    let mut values = line
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let value = values.next();
    match values.next() {
        None => Ok(value),
        Some(_) => Err(Refused::Twice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "00112233445566778899aabbccddeeff0123456789abcdefFEDCBA9876543210";

    #[test]
    fn the_hash_names_both_partitions() {
        let asked = parse(&format!(
            "ro console=ttyS0 palabre.roothash={HASH} panic=10\n"
        ))
        .unwrap();
        assert_eq!(asked.wait_seconds, DEFAULT_WAIT_SECONDS);
        assert_eq!(
            asked.root_hash.root_uuid().to_string(),
            "00112233-4455-6677-8899-aabbccddeeff"
        );
        assert_eq!(
            asked.root_hash.verity_uuid().to_string(),
            "01234567-89ab-cdef-fedc-ba9876543210"
        );
        assert_eq!(asked.root_hash.to_string(), HASH.to_ascii_lowercase());
    }

    #[test]
    fn anything_doubtful_is_refused() {
        let twice = format!("palabre.roothash={HASH} palabre.roothash={HASH}");
        for (line, why) in [
            ("ro quiet", Refused::NoRootHash),
            ("xpalabre.roothash=00", Refused::NoRootHash),
            ("palabre.roothash=", Refused::RootHash),
            ("palabre.roothash=0011", Refused::RootHash),
            (&format!("palabre.roothash={HASH}0"), Refused::RootHash),
            (
                &format!("palabre.roothash=+{}", &HASH[1..]),
                Refused::RootHash,
            ),
            (&twice, Refused::Twice),
            (
                &format!("palabre.roothash={HASH} palabre.wait=601"),
                Refused::Wait,
            ),
            (
                &format!("palabre.roothash={HASH} palabre.wait=-1"),
                Refused::Wait,
            ),
        ] {
            assert_eq!(parse(line), Err(why), "{line}");
        }
        let patient = parse(&format!("palabre.wait=5 palabre.roothash={HASH}")).unwrap();
        assert_eq!(patient.wait_seconds, 5);
    }

    #[test]
    fn nothing_may_be_added_to_what_was_signed() {
        let signed = format!("palabre.roothash={HASH} quiet");
        assert_eq!(is_signed(&format!("{signed}\n"), &signed), Ok(()));
        for line in [
            format!("{signed} systemd.import_credentials=yes"),
            format!("init=/bin/sh {signed}"),
            signed.replace("quiet", "debug"),
            String::new(),
        ] {
            assert_eq!(is_signed(&line, &signed), Err(Refused::NotSigned), "{line}");
        }
    }
}
