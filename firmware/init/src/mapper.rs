//! The device mapper: the only place that speaks to the kernel in structures.
//!
//! Source: `include/uapi/linux/dm-ioctl.h`, interface version 4.

use std::fs::File;

use palabre_init::cmdline::RootHash;
use palabre_init::verity::Superblock;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

/// Name of the mapped device.
const NAME: &str = "palabre-root";
const READ_ONLY: u32 = 1;
/// Bytes for the parameters of the target. A verity table has under 800 with the longest salt.
const PARAMETERS: usize = 1024;

/// `struct dm_ioctl`.
#[repr(C)]
struct Header {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event_nr: u32,
    padding: u32,
    dev: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    data: [u8; 7],
}

/// `struct dm_target_spec` with its parameters.
#[repr(C)]
struct Target {
    sector_start: u64,
    length: u64,
    status: i32,
    next: u32,
    target_type: [u8; 16],
    parameters: [u8; PARAMETERS],
}

/// What one call passes: a header, and the table for the call that loads it.
#[repr(C)]
struct Request {
    header: Header,
    target: Target,
}

const _: () = assert!(size_of::<Header>() == 312 && size_of::<Target>() == 40 + PARAMETERS);

const CREATE: Opcode = opcode::read_write::<Header>(0xfd, 3);
const RESUME: Opcode = opcode::read_write::<Header>(0xfd, 6);
const LOAD: Opcode = opcode::read_write::<Header>(0xfd, 9);

/// Makes the verified device and answers its path.
pub(crate) fn verity(
    superblock: &Superblock,
    table: &str,
    root_hash: &RootHash,
) -> Result<String, String> {
    let control = File::options()
        .read(true)
        .write(true)
        .open("/dev/mapper/control")
        .map_err(|error| format!("the device mapper is missing: {error}"))?;

    let mut create = Request::new();
    create.set_uuid(root_hash);
    call::<CREATE>(&control, &mut create, "create the verified device")?;

    let mut load = Request::new();
    if table.len() >= PARAMETERS {
        return Err("the verity table is too long".to_owned());
    }
    load.header.target_count = 1;
    load.header.flags = READ_ONLY;
    load.target.length = superblock.sectors();
    load.target.target_type[..6].copy_from_slice(b"verity");
    load.target.parameters[..table.len()].copy_from_slice(table.as_bytes());
    call::<LOAD>(&control, &mut load, "load the verity table")?;

    let mut resume = Request::new();
    call::<RESUME>(&control, &mut resume, "start the verified device")?;
    // The kernel's encoding of a device number in 64 bits: the minor is bits 0-7 and 20-31.
    let minor = (resume.header.dev & 0xff) | (resume.header.dev >> 12 & 0xf_ff00);
    Ok(format!("/dev/dm-{minor}"))
}

impl Request {
    fn new() -> Self {
        let mut header = Header {
            version: [4, 0, 0],
            data_size: size_of::<Self>() as u32,
            data_start: size_of::<Header>() as u32,
            target_count: 0,
            open_count: 0,
            flags: 0,
            event_nr: 0,
            padding: 0,
            dev: 0,
            name: [0; 128],
            uuid: [0; 129],
            data: [0; 7],
        };
        header.name[..NAME.len()].copy_from_slice(NAME.as_bytes());
        let target = Target {
            sector_start: 0,
            length: 0,
            status: 0,
            next: 0,
            target_type: [0; 16],
            parameters: [0; PARAMETERS],
        };
        Self { header, target }
    }

    /// Names the device in the form that systemd knows a verified root by. For the call that
    /// creates it only: the others find it by its name, and refuse to be given both.
    fn set_uuid(&mut self, root_hash: &RootHash) {
        let uuid = format!("CRYPT-VERITY-{}-root", &root_hash.to_string()[..32]);
        self.header.uuid[..uuid.len()].copy_from_slice(uuid.as_bytes());
    }
}

fn call<const CODE: Opcode>(
    control: &File,
    request: &mut Request,
    what: &str,
) -> Result<(), String> {
    // SAFETY: CODE is one of the three codes above, whose calls take a `struct dm_ioctl` followed
    // by `data_size` bytes in all. `Request` has that layout (its sizes are asserted above), its
    // `data_size` is its own size, and the kernel reads and writes no byte beyond it. Every bit
    // pattern is valid for its integer fields, so whatever the kernel writes is a `Request`.
    let update = unsafe { Updater::<CODE, Request>::new(request) };
    // SAFETY: as above; the descriptor is the open control device, and `request` is borrowed
    // mutably until the call returns.
    unsafe { ioctl(control, update) }.map_err(|error| format!("the kernel cannot {what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_of_the_header_file() {
        assert_eq!(CREATE, 0xc138_fd03);
        assert_eq!(RESUME, 0xc138_fd06);
        assert_eq!(LOAD, 0xc138_fd09);
    }

    #[test]
    fn a_request_says_its_own_size() {
        let mut request = Request::new();
        assert!(request.header.uuid.iter().all(|byte| *byte == 0));
        request.set_uuid(&RootHash::parse(&"0a".repeat(32)).unwrap());
        assert_eq!(request.header.data_size as usize, size_of::<Request>());
        assert_eq!(request.header.data_start, 312);
        let uuid = format!("CRYPT-VERITY-{}-root\0", "0a".repeat(16));
        assert!(request.header.uuid.starts_with(uuid.as_bytes()));
    }
}
