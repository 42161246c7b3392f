//! What a version that serves says of the one before it, which left it its turn: the first program
//! counted its starts ([`palabre_init::starts`]), and none of them served.

use std::io;

use palabre_init::cmdline::RootHash;
use palabre_init::starts::{self, MOST};
use palabre_init::variables::Variables;

use crate::boot::Bootloader;

/// A version that never served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Which one.
    pub version: u64,
    /// What is known, for people.
    pub why: String,
}

/// The version whose place the running one took, because it never served.
pub fn instead_of(variables: &Variables, running: u64, root: &RootHash) -> Option<u64> {
    let starts = starts::read(variables)?;
    let left = starts.instead_of(root.root_uuid())?;
    (left != running).then_some(left)
}

/// Judges the version whose place the running one took, now that this one serves: it is bad, and
/// no start takes it again. When the running one had failed likewise before it served, what failed
/// was something else (the data partition, power), and neither is branded.
///
/// The count is still there afterwards: a power cut before the verdict is kept has it given again.
/// [`starts::forget`] ends it.
pub fn judge<B: Bootloader>(
    variables: &Variables,
    boot: &mut B,
    running: u64,
    root: &RootHash,
) -> io::Result<Option<Failed>> {
    let Some(version) = instead_of(variables, running, root) else {
        return Ok(None);
    };
    let alone = starts::read(variables).is_some_and(|starts| starts.turns() == 1);
    let known = boot.entries()?.iter().any(|entry| entry.version == version);
    let mut why = format!(
        "it was started {MOST} times in a row and never served: it did not start, hung, or its root is damaged; version {running} was started instead"
    );
    if !alone {
        why.push_str(", which had failed likewise before: neither is marked bad");
    } else if known {
        boot.mark_bad(version)?;
        // Whoever chose it chose it before it was bad.
        boot.default(None)?;
    }
    Ok(Some(Failed { version, why }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::{SdBoot, starts_next};
    use palabre_init::gpt::Guid;
    use std::fs;

    const ONE: &str = "0000000000000000000000000000000100000000000000000000000000000011";
    const TWO: &str = "0000000000000000000000000000000200000000000000000000000000000022";

    fn hash(digits: &str) -> RootHash {
        RootHash::parse(digits).unwrap()
    }

    struct Machine {
        folder: tempfile::TempDir,
        variables: Variables,
        boot: SdBoot,
    }

    impl Machine {
        /// A box with versions 1 and 2, whose first program saw these versions leave their turn.
        fn left(turns: &[(Guid, u64, u64)]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().to_owned();
            fs::create_dir_all(path.join("EFI/Linux")).unwrap();
            for version in [1, 2] {
                fs::write(
                    path.join(format!("EFI/Linux/palabre_{version}.efi")),
                    "image",
                )
                .unwrap();
            }
            let variables = Variables::new(&path);
            for (root, from, to) in turns {
                let starts = starts::count(&variables, *root).unwrap();
                starts::leave(&variables, &starts, Some(*from), *to).unwrap();
            }
            let boot = SdBoot::new(&path, &path);
            Self {
                folder,
                variables,
                boot,
            }
        }

        fn judge(&mut self, running: u64, root: &str) -> Option<Failed> {
            starts::count(&self.variables, hash(root).root_uuid()).unwrap();
            judge(&self.variables, &mut self.boot, running, &hash(root)).unwrap()
        }

        fn entry(&self, name: &str) -> bool {
            self.folder.path().join("EFI/Linux").join(name).exists()
        }
    }

    #[test]
    fn a_version_that_never_served_is_bad_once_the_other_serves() {
        let two = hash(TWO).root_uuid();
        let mut machine = Machine::left(&[(two, 2, 1)]);
        machine.boot.default(Some(2)).unwrap();
        assert_eq!(
            instead_of(&machine.variables, 1, &hash(ONE)),
            None,
            "not started yet"
        );
        let failed = machine.judge(1, ONE).unwrap();
        assert_eq!(failed.version, 2);
        assert!(failed.why.starts_with("it was started 3 times in a row"));
        assert!(machine.entry("palabre_2+0-0.efi") && machine.entry("palabre_1.efi"));
        assert_eq!(starts_next(&machine.boot.entries().unwrap()), Some(1));
        assert_eq!(machine.boot.chosen(), None);
        // A power cut before it is kept: the same again.
        assert_eq!(machine.judge(1, ONE), Some(failed));
        starts::forget(&machine.variables).unwrap();
        assert_eq!(machine.judge(1, ONE), None);
    }

    #[test]
    fn neither_is_bad_when_both_failed() {
        let (one, two) = (hash(ONE).root_uuid(), hash(TWO).root_uuid());
        let mut machine = Machine::left(&[(two, 2, 1), (one, 1, 2)]);
        let failed = machine.judge(2, TWO).unwrap();
        assert_eq!(failed.version, 1);
        assert!(failed.why.contains("neither is marked bad"));
        assert!(machine.entry("palabre_2.efi") && machine.entry("palabre_1.efi"));
    }

    #[test]
    fn nobody_is_judged_for_nothing() {
        // Its turn came back to it, because the other one could not be started.
        let two = hash(TWO).root_uuid();
        assert_eq!(Machine::left(&[(two, 2, 1)]).judge(2, TWO), None);
        assert_eq!(Machine::left(&[]).judge(2, TWO), None);
        // What left has no kernel image any more.
        let mut machine = Machine::left(&[(two, 9, 1)]);
        assert_eq!(machine.judge(1, ONE).unwrap().version, 9);
        assert!(machine.entry("palabre_1.efi") && machine.entry("palabre_2.efi"));
        // Nor is anything decided without variables of the firmware.
        let none = Variables::new(std::path::Path::new("/nonexistent"));
        assert_eq!(instead_of(&none, 1, &hash(ONE)), None);
    }
}
