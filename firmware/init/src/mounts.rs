//! The file systems of the kernel, the root, and the change from one to the other.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::mount::{MountFlags, mount, mount_move};

use crate::say;

/// The variables of the firmware.
pub(crate) const EFIVARS: &str = "/sys/firmware/efi/efivars";
/// Where the root is mounted before it becomes `/`.
const NEW_ROOT: &str = "/sysroot";
/// Mounts that the new root inherits.
const KEPT: [&str; 4] = ["/dev", "/proc", "/sys", "/run"];

/// Mounts what the kernel offers.
pub(crate) fn kernel_files() -> Result<(), String> {
    let safe = MountFlags::NOSUID | MountFlags::NODEV;
    let bare = safe | MountFlags::NOEXEC;
    for (kind, place, flags, options) in [
        ("devtmpfs", "/dev", MountFlags::NOSUID, c"mode=0755"),
        ("proc", "/proc", bare, c""),
        ("sysfs", "/sys", bare, c""),
        ("tmpfs", "/run", safe, c"mode=0755"),
    ] {
        fs::create_dir_all(place).map_err(|error| format!("{place}: {error}"))?;
        mount(kind, place, kind, flags, options)
            .map_err(|error| format!("{kind} cannot be mounted on {place}: {error}"))?;
    }
    Ok(())
}

/// Mounts the variables of the firmware, where there are any.
pub(crate) fn firmware_variables() {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if Path::new(EFIVARS).is_dir()
        && let Err(error) = mount("efivarfs", EFIVARS, "efivarfs", flags, c"")
    {
        say::note(&format!(
            "the firmware's variables cannot be mounted: {error}"
        ));
    }
}

/// Undoes [`firmware_variables`]: systemd mounts them its own way.
pub(crate) fn forget_firmware_variables() {
    let none = rustix::mount::UnmountFlags::empty();
    let _ = rustix::mount::unmount(EFIVARS, none);
}

/// Mounts the verified device as the new root.
pub(crate) fn root(device: &str) -> Result<(), String> {
    fs::create_dir_all(NEW_ROOT).map_err(|error| format!("{NEW_ROOT}: {error}"))?;
    mount(device, NEW_ROOT, "erofs", MountFlags::RDONLY, c"")
        .map_err(|error| format!("the verified root {device} cannot be mounted: {error}"))
}

/// What systemd-stub leaves beside the initial file system for whoever opens an encrypted disk, and
/// where systemd looks for it: the signature over the measurements of this kernel image, and the key
/// that made it. Neither can be in the verified root, whose hash is part of what is measured.
const LEFT_BY_THE_STUB: [&str; 2] = ["tpm2-pcr-signature.json", "tpm2-pcr-public-key.pem"];

/// Keeps what the stub left. A kernel image without it, or a machine without a TPM, is no failure.
pub(crate) fn keep_policy() -> Result<(), String> {
    fs::create_dir_all("/run/systemd").map_err(|error| format!("/run/systemd: {error}"))?;
    for name in LEFT_BY_THE_STUB {
        let (from, to) = (format!("/.extra/{name}"), format!("/run/systemd/{name}"));
        if Path::new(&from).exists() {
            fs::copy(&from, &to).map_err(|error| format!("{to}: {error}"))?;
        }
    }
    Ok(())
}

/// Makes the new root `/`, and gives the memory of the initial file system back.
pub(crate) fn switch() -> Result<(), String> {
    let says = |what: &str| {
        let what = what.to_owned();
        move |error: rustix::io::Errno| format!("{what}: {error}")
    };
    for place in KEPT {
        mount_move(place, format!("{NEW_ROOT}{place}").as_str())
            .map_err(says(&format!("{place} cannot be moved to the new root")))?;
    }
    rustix::process::chdir(NEW_ROOT).map_err(says("the new root cannot be entered"))?;
    if let Ok(old) = fs::metadata("/") {
        empty(Path::new("/"), old.dev());
    }
    mount_move(".", "/").map_err(says("the new root cannot be moved to /"))?;
    rustix::process::chroot(".").map_err(says("the new root cannot be made the root"))?;
    rustix::process::chdir("/").map_err(says("the new root cannot be entered"))
}

/// Removes everything below `folder` that is on the same file system. The program itself goes
/// too: the kernel keeps what it executes.
fn empty(folder: &Path, device: u64) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        match fs::symlink_metadata(&path) {
            Ok(found) if found.dev() != device => {}
            Ok(found) if found.is_dir() => {
                empty(&path, device);
                let _ = fs::remove_dir(&path);
            }
            _ => {
                let _ = fs::remove_file(&path);
            }
        }
    }
}
