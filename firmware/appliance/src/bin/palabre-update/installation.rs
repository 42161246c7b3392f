//! An update is checked once more, written to the other slot and remembered.

use std::fs::File;
use std::io::Read;

use palabre_appliance::boot::{Bootloader, Entry};
use palabre_appliance::bundle::{self, CopyError, Image, Part};
use palabre_appliance::history::{Event, Pending, What};
use palabre_appliance::protection;
use palabre_appliance::signature::Signatures;
use palabre_appliance::slots::{self, Machine, Phase};
use palabre_init::cmdline::RootHash;
use rustix::fs::{FlockOperation, flock};

use super::{Failed, Places, REPORT_EVERY, esp, event, keep, lock, remember};

/// What becomes of an update that failed on this box before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// It is refused: a stick that is left in brings it at every start, and nobody asked for it.
    Refused,
    /// It is tried again: somebody who has read why it failed asks for it.
    TriedAgain,
}

/// Whether an update is being written, by whichever program.
pub(super) fn is_being_written(places: &Places) -> bool {
    // For reading only: udev looks at a disk anew when somebody closes it who might have written. And it holds the disk as we do.
    places.disk(false).is_ok_and(|disk| {
        flock(disk.file(), FlockOperation::NonBlockingLockShared)
            .is_err_and(|error| error == rustix::io::Errno::WOULDBLOCK)
    })
}

/// Installs the bundle in `file`; answers its version. `report` gets the phase, the bytes done, all
/// bytes and the version. Every end of it is a line of the history.
pub(super) fn install(
    places: &Places,
    file: File,
    failed: Before,
    report: &mut dyn FnMut(Phase, u64, u64, u64),
) -> Result<u64, Failed> {
    let done = install_unremembered(places, file, failed, report);
    match &done {
        Ok((version, root_hash)) => {
            let root_hash = Some(root_hash.to_string());
            let installed = event(What::Installed, *version, "");
            keep(
                places,
                Event {
                    root_hash,
                    ..installed
                },
            );
        }
        Err(Failed::Said { code, what }) => {
            remember(places, What::Refused, 0, &format!("{code}: {what}"));
        }
        Err(Failed::Usage(_)) => {}
    }
    done.map(|(version, _)| version)
}

fn install_unremembered(
    places: &Places,
    file: File,
    failed: Before,
    report: &mut dyn FnMut(Phase, u64, u64, u64),
) -> Result<(u64, RootHash), Failed> {
    let mut bundle = bundle::open(file, &places.keys()?)?;
    let (image, root_hash) = (places.image()?, places.root_hash()?);
    let history = places.history();
    bundle.manifest().suits(&image, history.floor())?;
    if failed == Before::Refused {
        has_not_failed(places, bundle.manifest(), &image)?;
    }
    if let Some(trusted) = protection::enforced(&places.variables) {
        firmware_would_start(&mut bundle, &trusted)?;
    }
    let mut disk = places.disk(true)?;
    lock(disk.file())?;
    let mut random = [0; 32];
    let fresh = File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut random));
    fresh.map_err(|error| Failed::said("randomness", error))?;
    let pending = Pending {
        version: bundle.manifest().version,
        floor: bundle.manifest().floor,
    };
    let mut boot = places.boot();
    let machine = Machine {
        disk: &mut disk,
        boot: &mut boot,
        image: &image,
        root_hash,
        floor: history.floor(),
        random,
    };
    let mut last = (Phase::Done, 0);
    let version = slots::install(&mut bundle, machine, |phase, done, all| {
        if phase == last.0 && done < last.1 + REPORT_EVERY && done < all {
            return;
        }
        last = (phase, done);
        report(phase, done, all, pending.version);
    })?;
    if let Err(error) = history.set_pending(Some(pending)) {
        eprintln!("the floor of version {version} is not remembered: {error}");
    }
    Ok((version, bundle.manifest().root_hash()))
}

/// Refuses what failed on this box: the same version with the same root. The boot loader knows it of
/// what is still in its slot, the history of what was replaced since.
fn has_not_failed(
    places: &Places,
    manifest: &bundle::Manifest,
    image: &Image,
) -> Result<(), Failed> {
    let (version, root_hash) = (manifest.version, manifest.root_hash());
    let entries = places.boot().entries().map_err(esp)?;
    let is_bad = |entry: &Entry| entry.version == version && entry.is_bad();
    let in_slot = entries.iter().any(is_bad) && {
        let (_, slots) = slots::read(&places.disk(false)?, &image.arch)?;
        slots.iter().any(|slot| slot.holds(&root_hash))
    };
    if !in_slot && places.history().failure_of(version, &root_hash).is_none() {
        return Ok(());
    }
    let what = format!(
        "version {version} failed on this box before and is not taken from a stick again: bring a newer one, or install it from the page to try it once more"
    );
    Err(Failed::said("version-failed", what))
}

/// Refuses a kernel image that nobody has signed whom this box's firmware trusts.
fn firmware_would_start(bundle: &mut bundle::Bundle<File>, trusted: &[u8]) -> Result<(), Failed> {
    let mut signatures = Signatures::default();
    let read = bundle.copy_part(Part::Uki, &mut signatures, |_| {});
    read.map_err(|error| match error {
        CopyError::Bundle(refused) => Failed::from(refused),
        CopyError::Write(error) => Failed::said("bundle-unreadable", error),
    })?;
    match signatures.are_trusted_by(trusted) {
        true => Ok(()),
        false => Err(Failed::said(
            "secure-boot",
            "Secure Boot of this box would not start this update: its kernel image is signed by nobody that the firmware trusts",
        )),
    }
}
