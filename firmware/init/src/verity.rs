//! The superblock that `veritysetup format` writes at the start of the hash partition, and the
//! device-mapper table made from it.
//!
//! Source: cryptsetup's `lib/verity/verity.c` (on-disk layout) and the kernel's
//! `Documentation/admin-guide/device-mapper/verity.rst` (table). The superblock itself is not
//! covered by the root hash. A wrong one can only make verification fail, never succeed, because
//! the salt and the sizes enter every hash.

use std::fmt;
use std::fmt::Write;

use crate::cmdline::RootHash;

/// Bytes of the superblock.
pub const SUPERBLOCK_BYTES: usize = 512;

/// What the superblock says of the hash tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// Bytes in a block of data: 512 to 4096, a power of two.
    pub data_block: u32,
    /// Bytes in a block of hashes.
    pub hash_block: u32,
    /// Blocks of data that are covered.
    pub data_blocks: u64,
    /// Hashed before each block.
    pub salt: Vec<u8>,
}

/// Why a superblock is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Shorter than a superblock.
    Short,
    /// The signature is not `verity`.
    Signature,
    /// Not superblock version 1 with hash type 1.
    Version,
    /// Another algorithm than SHA-256.
    Algorithm,
    /// A block size that is no power of two from 512 to 4096.
    BlockSize,
    /// No data, or more than the partition holds.
    DataSize,
    /// A salt longer than 256 bytes.
    Salt,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "the verity superblock is cut short",
            Self::Signature => "the hash partition has no verity superblock",
            Self::Version => "the verity superblock has an unknown version",
            Self::Algorithm => "the hash tree does not use SHA-256",
            Self::BlockSize => "the verity superblock has an impossible block size",
            Self::DataSize => "the verity superblock covers more data than the root partition has",
            Self::Salt => "the verity superblock has an impossible salt",
        })
    }
}

impl std::error::Error for Refused {}

impl Superblock {
    /// Reads a superblock for a root partition of `root_bytes` bytes.
    pub fn parse(bytes: &[u8], root_bytes: u64) -> Result<Self, Refused> {
        let block: &[u8; SUPERBLOCK_BYTES] = bytes
            .get(..SUPERBLOCK_BYTES)
            .and_then(|block| block.try_into().ok())
            .ok_or(Refused::Short)?;
        let u32_at = |at: usize| {
            u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
        };
        if &block[..8] != b"verity\0\0" {
            return Err(Refused::Signature);
        }
        if u32_at(8) != 1 || u32_at(12) != 1 {
            return Err(Refused::Version);
        }
        if block[32..64]
            .strip_prefix(b"sha256")
            .is_none_or(|rest| rest.iter().any(|b| *b != 0))
        {
            return Err(Refused::Algorithm);
        }
        let (data_block, hash_block) = (u32_at(64), u32_at(68));
        for size in [data_block, hash_block] {
            if !size.is_power_of_two() || !(512..=4096).contains(&size) {
                return Err(Refused::BlockSize);
            }
        }
        let data_blocks = u64::from(u32_at(72)) | u64::from(u32_at(76)) << 32;
        let covered = data_blocks.checked_mul(u64::from(data_block));
        if data_blocks == 0 || covered.is_none_or(|covered| covered > root_bytes) {
            return Err(Refused::DataSize);
        }
        let salt_bytes = usize::from(u16::from_le_bytes([block[80], block[81]]));
        let salt = block[88..344].get(..salt_bytes).ok_or(Refused::Salt)?;
        Ok(Self {
            data_block,
            hash_block,
            data_blocks,
            salt: salt.to_vec(),
        })
    }

    /// Sectors of 512 bytes that the verified device has.
    pub fn sectors(&self) -> u64 {
        self.data_blocks * u64::from(self.data_block) / 512
    }

    /// The parameters of the `verity` target. `data` and `hash` are device paths or `major:minor`.
    /// A corrupted block restarts the machine, so that boot counting can fall back.
    pub fn table(&self, data: &str, hash: &str, root_hash: &RootHash) -> String {
        let mut salt = String::new();
        for byte in &self.salt {
            let _ = write!(salt, "{byte:02x}");
        }
        if salt.is_empty() {
            salt.push('-');
        }
        let hash_start = (SUPERBLOCK_BYTES as u64).div_ceil(u64::from(self.hash_block));
        format!(
            "1 {data} {hash} {} {} {} {hash_start} sha256 {root_hash} {salt} 1 restart_on_corruption",
            self.data_block, self.hash_block, self.data_blocks
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutate::Seeded;
    use std::process::Command;

    /// A superblock in the documented layout: 4096 blocks, 8 of them, salt of 4 bytes.
    fn sample() -> [u8; SUPERBLOCK_BYTES] {
        let mut block = [0; SUPERBLOCK_BYTES];
        block[..8].copy_from_slice(b"verity\0\0");
        block[8] = 1;
        block[12] = 1;
        block[16..32].fill(0x55);
        block[32..38].copy_from_slice(b"sha256");
        block[64..68].copy_from_slice(&4096_u32.to_le_bytes());
        block[68..72].copy_from_slice(&4096_u32.to_le_bytes());
        block[72] = 8;
        block[80] = 4;
        block[88..92].copy_from_slice(&[0xde, 0xad, 0xbe, 0xef]);
        block
    }

    fn hash() -> RootHash {
        RootHash::parse(&"ab".repeat(32)).unwrap()
    }

    #[test]
    fn the_table_is_the_kernels() {
        let read = Superblock::parse(&sample(), 32768).unwrap();
        assert_eq!(read.sectors(), 64);
        assert_eq!(
            read.table("/dev/vda3", "/dev/vda2", &hash()),
            format!(
                "1 /dev/vda3 /dev/vda2 4096 4096 8 1 sha256 {} deadbeef 1 restart_on_corruption",
                "ab".repeat(32)
            )
        );
        let mut unsalted = sample();
        unsalted[80] = 0;
        let table = Superblock::parse(&unsalted, 32768)
            .unwrap()
            .table("a", "b", &hash());
        assert!(table.contains(" - 1 restart_on_corruption"), "{table}");
    }

    #[test]
    fn each_defect_has_its_reason() {
        let with = |at: usize, value: u8| {
            let mut block = sample();
            block[at] = value;
            Superblock::parse(&block, 32768)
        };
        assert_eq!(with(0, b'V'), Err(Refused::Signature));
        assert_eq!(with(8, 2), Err(Refused::Version));
        assert_eq!(with(12, 0), Err(Refused::Version));
        assert_eq!(with(35, b'5'), Err(Refused::Algorithm));
        assert_eq!(with(38, b' '), Err(Refused::Algorithm));
        assert_eq!(with(64, 1), Err(Refused::BlockSize));
        assert_eq!(with(70, 1), Err(Refused::BlockSize));
        assert_eq!(with(72, 9), Err(Refused::DataSize));
        assert_eq!(with(72, 0), Err(Refused::DataSize));
        assert_eq!(with(79, 0xff), Err(Refused::DataSize));
        assert_eq!(with(81, 2), Err(Refused::Salt));
        assert_eq!(
            Superblock::parse(&sample()[..511], 32768),
            Err(Refused::Short)
        );
    }

    #[test]
    fn damage_never_passes_an_impossible_superblock() {
        let mut seeded = Seeded(0x5eed);
        for _ in 0..20_000 {
            let mut block = sample();
            seeded.damage(&mut block);
            let Ok(read) = Superblock::parse(&block, 32768) else {
                continue;
            };
            assert!(read.sectors() <= 64 && read.sectors() > 0);
            assert!(read.salt.len() <= 256);
            let table = read.table("d", "h", &hash());
            assert_eq!(table.split(' ').count(), 12, "{table}");
        }
    }

    /// Against the real tool, where it is installed (continuous integration installs it).
    #[test]
    fn veritysetup_writes_what_we_read() {
        let folder = tempfile::tempdir().unwrap();
        let (data, tree) = (folder.path().join("data"), folder.path().join("tree"));
        std::fs::write(&data, vec![7; 1 << 20]).unwrap();
        let made = Command::new("veritysetup")
            .args(["format", "--salt=0102030405060708"])
            .args([&data, &tree])
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .output();
        let Ok(made) = made else {
            eprintln!("veritysetup is not installed: only the documented layout was checked");
            return;
        };
        assert!(made.status.success(), "{made:?}");
        let read = Superblock::parse(&std::fs::read(&tree).unwrap(), 1 << 20).unwrap();
        assert_eq!(
            read,
            Superblock {
                data_block: 4096,
                hash_block: 4096,
                data_blocks: 256,
                salt: vec![1, 2, 3, 4, 5, 6, 7, 8],
            }
        );
    }
}
