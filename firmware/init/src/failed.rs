//! The version that failed its trial and is still in its slot, kept in a variable of the firmware:
//! the first program cannot read the boot loader's files, which say it too.

use std::io;

use crate::gpt::crc32;
use crate::variables::Variables;

/// Our variable, and its vendor, which is ours alone.
const NAME: &str = "PalabreFailed";
const VENDOR: &str = "c301a203-f8a6-48f5-a78a-541a70c41c5c";
/// The first bytes of it.
const MAGIC: &[u8; 4] = b"PLF1";
const BYTES: usize = 16;

/// The version that failed. Anything but what [`remember`] writes says nothing.
pub fn version(variables: &Variables) -> Option<u64> {
    let content: [u8; BYTES] = variables.read(NAME, VENDOR)?.try_into().ok()?;
    let (said, sum) = content.split_at(BYTES - 4);
    let whole = said[..4] == *MAGIC && crc32(said).to_le_bytes() == sum;
    let version = said[4..].try_into().ok()?;
    whole.then(|| u64::from_le_bytes(version))
}

/// Remembers that `version` failed: it is the last to take the place of another one.
pub fn remember(variables: &Variables, version: u64) -> io::Result<()> {
    let mut content = MAGIC.to_vec();
    content.extend(version.to_le_bytes());
    content.extend(crc32(&content).to_le_bytes());
    variables.write(NAME, VENDOR, &content)
}

/// Forgets it, when it was `version`: it is tried once more, or it proved good.
pub fn forget(variables: &Variables, version: u64) -> io::Result<()> {
    match self::version(variables) == Some(version) {
        true => variables.remove(NAME, VENDOR),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_version_is_remembered_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let variables = Variables::new(folder.path());
        assert_eq!(version(&variables), None);
        remember(&variables, 3).unwrap();
        forget(&variables, 2).unwrap();
        assert_eq!(version(&variables), Some(3));
        remember(&variables, 4).unwrap();
        assert_eq!(version(&variables), Some(4));
        forget(&variables, 4).unwrap();
        assert_eq!(version(&variables), None);
    }

    #[test]
    fn damage_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let variables = Variables::new(folder.path());
        remember(&variables, 3).unwrap();
        let whole = variables.read(NAME, VENDOR).unwrap();
        for bit in 0..BYTES * 8 {
            let mut spoiled = whole.clone();
            spoiled[bit / 8] ^= 1 << (bit % 8);
            variables.write(NAME, VENDOR, &spoiled).unwrap();
            assert_eq!(version(&variables), None, "bit {bit}");
        }
        for length in [0, BYTES - 1, BYTES + 1] {
            variables.write(NAME, VENDOR, &vec![0; length]).unwrap();
            assert_eq!(version(&variables), None, "{length}");
        }
    }
}
