//! The start that is going on, counted in the firmware; and the turn that a version leaves when it
//! used up its starts. Without variables of the firmware nothing is counted, and nothing left.

use std::path::Path;
use std::time::Duration;

use palabre_init::cmdline::RootHash;
use palabre_init::failed;
use palabre_init::gpt;
use palabre_init::starts::{self, Next, Starts, Versions};
use palabre_init::variables::Variables;

use crate::mounts::EFIVARS;
use crate::probe::{self, Drive};
use crate::say;

/// The start that is going on.
pub(crate) struct Turn {
    variables: Variables,
    starts: Option<Starts>,
}

/// Why a version does not go on, for people, and how long that is to be read.
pub(crate) struct Left {
    pub(crate) why: String,
    pub(crate) pause: Duration,
}

impl Turn {
    /// Counts this start. The variables are mounted, where there are any.
    pub(crate) fn begin(hash: &RootHash) -> Self {
        let variables = Variables::new(Path::new(EFIVARS));
        let starts = match starts::count(&variables, hash.root_uuid()) {
            Ok(starts) => Some(starts),
            Err(error) => {
                say::note(&format!("starts are not counted: {error}"));
                None
            }
        };
        Self { variables, starts }
    }

    /// Decides whether this start goes on. `drives` are the disks, with the root or without.
    pub(crate) fn decide(&self, hash: &RootHash, drives: &[Drive]) -> Result<(), Left> {
        let Some(starts) = self.starts else {
            return Ok(());
        };
        let versions = versions(hash, drives, failed::version(&self.variables));
        let own = match versions.own {
            Some(version) => format!("version {version}"),
            None => "this version".to_owned(),
        };
        match starts.next(&versions) {
            Next::Start => {
                if let Some(left) = starts.instead_of(hash.root_uuid())
                    && versions.own != Some(left)
                {
                    say::failed(&format!(
                        "{own} takes the place of version {left}, which never served"
                    ));
                }
                if starts.count() > 1 {
                    let before = starts.count() - 1;
                    say::failed(&format!(
                        "{own} never served at its last starts: {before}, at most {}",
                        versions.most_starts()
                    ));
                }
                if let Err(error) = starts::stay(&self.variables, &starts, &versions) {
                    say::note(&format!("the boot loader was not told of {own}: {error}"));
                }
                Ok(())
            }
            Next::Leave { to, pause } => {
                let before = starts.count() - 1;
                let failed = format!("{own} was started {before} times in a row and never served");
                match starts::leave(&self.variables, &starts, versions.own, to) {
                    Ok(_) => Err(Left {
                        why: format!("{failed}; version {to} is started instead"),
                        pause,
                    }),
                    Err(error) => {
                        say::failed(&format!(
                            "{failed}, and version {to} cannot be started instead: {error}"
                        ));
                        Ok(())
                    }
                }
            }
        }
    }
}

/// The versions on the disk that has this root, or, when none has it, on the one that the firmware
/// booted from.
fn versions(hash: &RootHash, drives: &[Drive], failed: Option<u64>) -> Versions {
    let candidates = |own: bool| {
        let of = |drive: &Drive| {
            let table = drive.table.as_ref().ok()?;
            let versions = Versions::of(&table.partitions(), hash, failed);
            let suits = versions.own.is_some() || !own && versions.other.is_some();
            suits.then(|| (drive.name.clone(), table.clone()))
        };
        drives.iter().filter_map(of).collect::<Vec<_>>()
    };
    let mut found = candidates(true);
    if found.is_empty() {
        found = candidates(false);
    }
    let booted = match found.len() {
        0 | 1 => None,
        _ => probe::booted_esp(),
    };
    let name = gpt::choose(&found, booted).map(str::to_owned);
    let table = found.iter().find(|(of, _)| Some(of) == name.as_ref());
    table.map_or(Versions::default(), |(_, table)| {
        Versions::of(&table.partitions(), hash, failed)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use palabre_init::disk::FileDisk;
    use std::fs::File;
    use std::process::Command;

    fn hash(version: u8) -> RootHash {
        RootHash::parse(&format!("{version:02x}").repeat(32)).unwrap()
    }

    /// A disk with slots that hold these versions, 0 for none.
    fn drive(folder: &Path, name: &str, versions: &[u8]) -> Drive {
        let path = folder.join(name);
        let bytes = 2 << 20;
        File::create(&path).unwrap().set_len(bytes).unwrap();
        let mut script = "label: gpt\nfirst-lba: 64\n".to_owned();
        for (slot, version) in (0..).zip(versions) {
            let (start, uuid) = (64 + slot * 64, hash(*version));
            let named = |kind: &str| match version {
                0 => "_empty".to_owned(),
                _ => format!("palabre_{version}{kind}"),
            };
            script += &format!(
                "start={start}, size=32, name={}\nstart={}, size=32, name={}, uuid={}\n",
                named("_verity"),
                start + 32,
                named(""),
                uuid.root_uuid()
            );
        }
        let listed = folder.join("script");
        std::fs::write(&listed, script).unwrap();
        let done = Command::new("sfdisk")
            .args(["--quiet", "--no-reread", "--no-tell-kernel"])
            .arg(&path)
            .stdin(File::open(&listed).unwrap())
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .output()
            .expect("sfdisk, of the package fdisk");
        assert!(done.status.success(), "{done:?}");
        let disk = FileDisk::new(File::open(&path).unwrap(), 512, bytes);
        let table = gpt::Table::load(&disk);
        let name = name.to_owned();
        Drive { name, disk, table }
    }

    #[test]
    fn the_turn_goes_to_the_other_slot_of_the_same_disk() {
        let folder = tempfile::tempdir().unwrap();
        let stick = drive(folder.path(), "sda", &[9, 8]);
        let own = drive(folder.path(), "vda", &[2, 1]);
        let new = drive(folder.path(), "vdb", &[2, 0]);
        let of = |own, other| Versions {
            own,
            other,
            other_failed: false,
        };
        let versions = |hash: &RootHash, drives: &[Drive]| versions(hash, drives, None);
        let drives = [stick, own];
        assert_eq!(versions(&hash(2), &drives), of(Some(2), Some(1)));
        assert_eq!(versions(&hash(2), &[new]), of(Some(2), None));
        // The identifier of the own root is gone.
        assert_eq!(versions(&hash(7), &drives[1..]), of(None, Some(2)));
        assert_eq!(versions(&hash(7), &[]), of(None, None));

        let turn = || {
            let variables = Variables::new(folder.path());
            let starts = starts::count(&variables, hash(2).root_uuid()).ok();
            Turn { variables, starts }
        };
        for _ in 0..starts::MOST {
            turn();
        }
        let left = turn().decide(&hash(2), &drives).unwrap_err();
        assert_eq!(
            left.why,
            "version 2 was started 3 times in a row and never served; version 1 is started instead"
        );
        assert_eq!(left.pause, Duration::from_secs(5));
    }
}
