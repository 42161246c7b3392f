//! What the machine has: its devices, the modules that drive them, its disks.

use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::path::{Path, PathBuf};

use palabre_init::disk::FileDisk;
use palabre_init::gpt::{self, Guid};
use palabre_init::modules::{Modules, name_of};
use palabre_init::variables::{LOADER, Variables};

use crate::mounts::EFIVARS;

/// The partition that systemd-boot was started from, which it writes itself (systemd's Boot
/// Loader Interface).
const BOOTED_ESP: &str = "LoaderDevicePartUUID";
/// `MODULE_INIT_COMPRESSED_FILE` of finit_module(2).
const COMPRESSED: i32 = 4;
/// Where the drivers of watchdogs are, and the three that find those of Intel's boards on them.
const WATCHDOGS: [&str; 4] = [
    "/drivers/watchdog/",
    "/drivers/mfd/lpc_ich.",
    "/drivers/mfd/intel_pmc_bxt.",
    "/drivers/i2c/busses/i2c-i801.",
];
/// Folders below `/sys/devices` are not this deep.
const MAX_DEPTH: u32 = 32;
/// Virtual block devices, which never hold the root.
const VIRTUAL: [&str; 6] = ["loop", "ram", "zram", "dm-", "md", "nbd"];

/// The modules at hand and those in the kernel.
#[derive(Default)]
pub(crate) struct Loaded {
    folder: PathBuf,
    modules: Modules,
    seen: BTreeSet<String>,
    done: BTreeSet<String>,
    failed: Vec<String>,
    uevents: Option<String>,
}

impl Loaded {
    /// Reads the lists of the running kernel.
    pub(crate) fn open(&mut self) -> Result<(), String> {
        let release = rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned();
        self.folder = Path::new("/lib/modules").join(&release);
        let read = |name: &str| fs::read_to_string(self.folder.join(name));
        // A kernel with everything built in has no list, and boots.
        let dep = read("modules.dep").unwrap_or_default();
        let alias = read("modules.alias").unwrap_or_default();
        self.modules = Modules::parse(&dep, &alias);
        Ok(())
    }

    /// Loads each module whose name starts with `prefix`.
    pub(crate) fn load_starting_with(&mut self, prefix: &str) {
        let names = self.modules.starting_with(prefix);
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        for name in names {
            self.load(&name);
        }
    }

    /// Loads the drivers of watchdogs. One may bring the device of the next.
    pub(crate) fn load_for_watchdog(&mut self) {
        let narrowed = self.modules.narrowed(&WATCHDOGS);
        loop {
            let before = self.done.len();
            let mut found = Vec::new();
            devices(Path::new("/sys/devices"), 0, &mut found);
            for modalias in found {
                for driver in narrowed.drivers(&modalias) {
                    self.load(driver);
                }
            }
            if self.done.len() == before {
                return;
            }
        }
    }

    /// Loads the drivers of disks that are on the board itself, one after the other, until `enough`. What hangs on other buses takes
    /// them a second more, and whoever boots from its own disk need not wait for it.
    pub(crate) fn load_for_disks(&mut self, mut enough: impl FnMut() -> bool) {
        loop {
            let mut found = Vec::new();
            devices(Path::new("/sys/devices"), 0, &mut found);
            let next = found
                .into_iter()
                .filter(|modalias| !self.seen.contains(modalias))
                .filter_map(|modalias| Some((turn_of_a_disk(&modalias)?, modalias)))
                .min_by_key(|(turn, _)| *turn);
            let Some((_, modalias)) = next else {
                return;
            };
            self.load_for(modalias);
            if enough() {
                return;
            }
        }
    }

    /// Loads the drivers of every device that has appeared since the last call.
    pub(crate) fn load_for_devices(&mut self) {
        loop {
            let now = fs::read_to_string("/sys/kernel/uevent_seqnum").ok();
            if now.is_some() && now == self.uevents {
                return;
            }
            self.uevents = now;
            let mut found = Vec::new();
            devices(Path::new("/sys/devices"), 0, &mut found);
            for modalias in found {
                if !self.seen.contains(&modalias) {
                    self.load_for(modalias);
                }
            }
        }
    }

    fn load_for(&mut self, modalias: String) {
        let drivers = self.modules.drivers(&modalias);
        let drivers: Vec<String> = drivers.into_iter().map(str::to_owned).collect();
        for driver in drivers {
            self.load(&driver);
        }
        self.seen.insert(modalias);
    }

    fn load(&mut self, name: &str) {
        let paths = self.modules.load_order(name);
        let paths: Vec<String> = paths.into_iter().map(str::to_owned).collect();
        for path in paths {
            let name = name_of(&path);
            if !self.done.insert(name.clone()) {
                continue;
            }
            if let Err(error) = insert(&self.folder.join(&path)) {
                self.done.remove(&name);
                let line = format!("{name} ({error})");
                if !self.failed.contains(&line) {
                    self.failed.push(line);
                }
            }
        }
    }

    /// How many modules are in the kernel through us.
    pub(crate) fn count(&self) -> usize {
        self.done.len()
    }

    /// The modules, and those that were refused.
    pub(crate) fn summary(&self) -> String {
        let done: Vec<&str> = self.done.iter().map(String::as_str).collect();
        let mut text = match done.len() {
            0 => "none".to_owned(),
            _ => done.join(" "),
        };
        if !self.failed.is_empty() {
            text.push_str(&format!(" (refused: {})", self.failed.join(", ")));
        }
        text
    }
}

/// Puts one module into the kernel.
fn insert(path: &Path) -> Result<(), String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let plain = path.extension().is_some_and(|end| end == "ko");
    let flags = if plain { 0 } else { COMPRESSED };
    match rustix::system::finit_module(&file, c"", flags) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Collects the modalias of every device below `folder` that may lead to a disk: what makes a processor's sums faster is
/// loaded by the system, beside other things, and verity's own is among [`crate::ALWAYS`].
fn devices(folder: &Path, depth: u32, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() && depth < MAX_DEPTH {
            devices(&entry.path(), depth + 1, found);
        } else if kind.is_file()
            && entry.file_name() == "modalias"
            && let Ok(text) = fs::read_to_string(entry.path())
            && !text.starts_with("cpu:")
        {
            found.push(text.trim_end().to_owned());
        }
    }
}

/// When the driver of a device is loaded that is one of mass storage by its PCI class, or such a one behind virtio (block, SCSI):
/// SATA last. Most boards have such a controller, with nothing on it where there is a faster disk, and looking takes it half a second.
fn turn_of_a_disk(modalias: &str) -> Option<u8> {
    if modalias.starts_with("pci:") && modalias.contains("bc01sc06") {
        return Some(1);
    }
    let is_of_a_disk = modalias.starts_with("pci:") && modalias.contains("bc01sc")
        || ["virtio:d00000002v", "virtio:d00000008v"]
            .iter()
            .any(|start| modalias.starts_with(start));
    is_of_a_disk.then_some(0)
}

/// A disk and its partition table.
pub(crate) struct Drive {
    /// Its name below `/dev`.
    pub(crate) name: String,
    /// Its content.
    pub(crate) disk: FileDisk,
    /// Its partitions.
    pub(crate) table: Result<gpt::Table, gpt::Error>,
}

impl Drive {
    /// The name of partition `number` below `/dev`.
    pub(crate) fn partition(&self, number: u32) -> Option<String> {
        let folder = Path::new("/sys/block").join(&self.name);
        let mut entries = fs::read_dir(folder).ok()?.flatten();
        entries.find_map(|entry| {
            let text = fs::read_to_string(entry.path().join("partition")).ok()?;
            let same = text.trim().parse() == Ok(number);
            same.then(|| entry.file_name().to_string_lossy().into_owned())
        })
    }

    /// The disk in a few words.
    pub(crate) fn summary(&self) -> String {
        match &self.table {
            Ok(table) => {
                let names: Vec<String> = table
                    .partitions()
                    .iter()
                    .map(|p| format!("{}:{}", p.name, p.uuid))
                    .collect();
                format!("{} [{}]", self.name, names.join(" "))
            }
            Err(error) => format!("{} ({error})", self.name),
        }
    }
}

/// The disks that have a medium, by name.
pub(crate) fn drives() -> Vec<Drive> {
    let mut names: Vec<String> = fs::read_dir("/sys/block")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !VIRTUAL.iter().any(|start| name.starts_with(start)))
        .collect();
    names.sort();
    names.into_iter().filter_map(drive).collect()
}

fn drive(name: String) -> Option<Drive> {
    let number = |file: &str| -> Option<u64> {
        let path = Path::new("/sys/block").join(&name).join(file);
        fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    // The kernel counts in 512 bytes whatever the disk's sector is.
    let bytes = number("size").filter(|sectors| *sectors > 0)? * 512;
    let sector = u32::try_from(number("queue/logical_block_size")?).ok()?;
    let file = File::open(Path::new("/dev").join(&name)).ok()?;
    let disk = FileDisk::new(file, sector, bytes);
    let table = gpt::Table::load(&disk);
    Some(Drive { name, disk, table })
}

/// The EFI system partition that the firmware booted from, when it says. The variables are mounted,
/// where there are any.
pub(crate) fn booted_esp() -> Option<Guid> {
    let variables = Variables::new(Path::new(EFIVARS));
    Guid::parse(&variables.read_text(BOOTED_ESP, LOADER)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_known_by_their_class() {
        for (modalias, turn) in [
            (
                "pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00",
                Some(0),
            ),
            (
                "pci:v0000144Dd0000A80Asv0000144Dsd0000A801bc01sc08i02",
                Some(0),
            ),
            (
                "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01",
                Some(1),
            ),
            ("virtio:d00000002v00001AF4", Some(0)),
            ("virtio:d00000008v00001AF4", Some(0)),
            (
                "pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00",
                None,
            ),
            (
                "pci:v00001B36d0000000Dsv00001AF4sd00001100bc0Csc03i30",
                None,
            ),
            ("virtio:d00000001v00001AF4", None),
            ("acpi:PNP0103:", None),
        ] {
            assert_eq!(turn_of_a_disk(modalias), turn, "{modalias}");
        }
    }
}
