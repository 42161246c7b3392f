//! What guards the box as it runs now: whether its firmware starts signed programs only, and whether
//! the data partition is readable outside of it.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The global variables of UEFI (UEFI Specification 2.10, section 3.3).
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// Of the list of certificates that Secure Boot believes (section 32.5.1).
const DATABASE: &str = "d719b2cb-3d3a-4596-a3bc-dad00e67656f";

/// Secure Boot, as the firmware says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum SecureBoot {
    /// The firmware refuses programs that nobody it trusts has signed.
    On,
    /// It could, and does not.
    Off,
    /// This machine has none.
    Absent,
}

/// The data partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Data {
    /// LUKS2; the TPM of this box has the key.
    Encrypted,
    /// Whoever has the disk reads it: the box had no TPM at its first start.
    Plain,
}

/// Both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Protection {
    /// Secure Boot.
    pub secure_boot: SecureBoot,
    /// The data partition.
    pub data: Data,
}

impl Protection {
    /// Looks at the machine whose file system is below `root`, and at the variables of its firmware.
    pub fn read(root: &Path, variables: &Path) -> Self {
        Self {
            secure_boot: secure_boot(variables),
            data: data(root),
        }
    }
}

impl SecureBoot {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Absent => "not in this machine",
        }
    }
}

impl Data {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Encrypted => "encrypted, opened by the TPM of this box",
            Self::Plain => "plain",
        }
    }
}

fn secure_boot(variables: &Path) -> SecureBoot {
    // Four bytes of attributes, one of value.
    match fs::read(variables.join(format!("SecureBoot-{GLOBAL}"))).as_deref() {
        Ok([_, _, _, _, 1]) => SecureBoot::On,
        Ok(_) => SecureBoot::Off,
        Err(_) => SecureBoot::Absent,
    }
}

/// The list of those whose signatures the firmware believes, as [`crate::signature`] reads it: when
/// it enforces Secure Boot, else `None`. A list that cannot be read is none either: the firmware judges
/// again when it starts something, and a box that no update suits would be worse.
pub fn enforced(variables: &Path) -> Option<Vec<u8>> {
    let path = variables.join(format!("db-{DATABASE}"));
    if secure_boot(variables) != SecureBoot::On {
        return None;
    }
    fs::read(path).ok()
}

fn data(root: &Path) -> Data {
    let mapped = fs::canonicalize(root.join("dev/palabre/var"))
        .ok()
        .and_then(|device| Some(device.file_name()?.to_owned()))
        .and_then(|name| {
            let block = root.join("sys/class/block").join(name);
            fs::read_to_string(block.join("dm/uuid")).ok()
        });
    match mapped.is_some_and(|uuid| uuid.starts_with("CRYPT-LUKS2-")) {
        true => Data::Encrypted,
        false => Data::Plain,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_list_of_trust_is_read_when_secure_boot_is_on() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
        // The names that Linux gives them (UEFI Specification 2.10, sections 3.3 and 32.6.1).
        write("db-d719b2cb-3d3a-4596-a3bc-dad00e67656f", b"\x27\0\0\0list");
        assert_eq!(enforced(folder.path()), None);
        let secure_boot = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
        write(secure_boot, b"\x06\0\0\0\0");
        assert_eq!(enforced(folder.path()), None);
        write(secure_boot, b"\x06\0\0\0\x01");
        assert_eq!(
            enforced(folder.path()).as_deref(),
            Some(&b"\x27\0\0\0list"[..])
        );
        fs::remove_file(
            folder
                .path()
                .join("db-d719b2cb-3d3a-4596-a3bc-dad00e67656f"),
        )
        .unwrap();
        assert_eq!(enforced(folder.path()), None, "the firmware judges alone");
    }

    #[test]
    fn what_the_machine_says_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let variables = root.join("efivars");
        for name in ["efivars", "dev/palabre", "sys/class/block/dm-1/dm"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        let now = || Protection::read(root, &variables);
        assert_eq!(now().secure_boot, SecureBoot::Absent);
        assert_eq!(now().data, Data::Plain);

        let variable = variables.join(format!("SecureBoot-{GLOBAL}"));
        for (value, meaning) in [
            (&[6, 0, 0, 0, 0][..], SecureBoot::Off),
            (&[6, 0, 0, 0, 1], SecureBoot::On),
            (&[6, 0, 0, 0], SecureBoot::Off),
        ] {
            fs::write(&variable, value).unwrap();
            assert_eq!(now().secure_boot, meaning, "{value:?}");
        }

        fs::write(root.join("dev/vda6"), "").unwrap();
        symlink("../vda6", root.join("dev/palabre/var")).unwrap();
        assert_eq!(now().data, Data::Plain);
        fs::remove_file(root.join("dev/palabre/var")).unwrap();
        fs::write(root.join("dev/dm-1"), "").unwrap();
        symlink("../dm-1", root.join("dev/palabre/var")).unwrap();
        let uuid = root.join("sys/class/block/dm-1/dm/uuid");
        fs::write(&uuid, "CRYPT-PLAIN-palabre-var\n").unwrap();
        assert_eq!(now().data, Data::Plain);
        fs::write(&uuid, "CRYPT-LUKS2-0123-palabre-var\n").unwrap();
        assert_eq!(now().data, Data::Encrypted);
    }
}
