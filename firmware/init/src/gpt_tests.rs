use super::*;
use crate::disk::MemoryDisk;
use crate::mutate::Seeded;
use std::io::Write;
use std::process::{Command, Stdio};

const ROOT: &str = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";
const VERITY: &str = "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5";
const UUID: &str = "00112233-4455-6677-8899-aabbccddeeff";

/// Runs fdisk of util-linux on an image. It takes sfdisk scripts and, unlike older sfdisk, a
/// sector size.
fn fdisk(image: &std::path::Path, sector: u32, commands: &str) {
    let mut fdisk = Command::new("fdisk")
        .args(["--sector-size", &sector.to_string()])
        .arg(image)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("fdisk is needed (Debian package fdisk)");
    let mut input = fdisk.stdin.take().unwrap();
    input.write_all(commands.as_bytes()).unwrap();
    drop(input);
    assert!(fdisk.wait().unwrap().success());
}

/// A disk of 8 MiB made from a script of sfdisk, as the image builder would.
fn made_by_sfdisk(sector: u32) -> MemoryDisk {
    let folder = tempfile::tempdir().unwrap();
    let (image, script) = (folder.path().join("image"), folder.path().join("script"));
    let file = std::fs::File::create(&image).unwrap();
    file.set_len(8 << 20).unwrap();
    let at = |block: u32| block * (4096 / sector);
    let line = |start: u32, size: u32, rest: &str| {
        format!("start={}, size={}, {rest}\n", at(start), at(size))
    };
    let text = [
        format!("label: gpt\nfirst-lba: {}\n", at(16)),
        line(16, 16, &format!("type={}, name=palabre-esp", Guid::ESP)),
        line(32, 16, &format!("type={VERITY}, name=palabre_1_verity")),
        line(48, 64, &format!("type={ROOT}, name=palabre_1, uuid={UUID}")),
        line(112, 16, &format!("type={VERITY}, name=_empty")),
        line(128, 64, &format!("type={ROOT}, name=_empty")),
    ];
    std::fs::write(&script, text.concat()).unwrap();
    fdisk(&image, sector, &format!("I\n{}\nw\n", script.display()));
    MemoryDisk {
        content: std::fs::read(&image).unwrap(),
        sector,
    }
}

#[test]
fn the_checksum_is_the_standard_one() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
}

#[test]
fn a_guid_reads_as_it_prints() {
    let text = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
    assert_eq!(Guid::parse(text), Some(Guid::ESP));
    assert_eq!(Guid::parse(&text.to_uppercase()), Some(Guid::ESP));
    assert_eq!(Guid::ESP.to_string(), text);
    assert_eq!(Guid::ESP.swapped().swapped(), Guid::ESP);
    for wrong in [
        "",
        "c12a7328f81f11d2ba4b00a0c93ec93b",
        "c12a7328-f81f-11d2-ba4b-00a0c93ec93é",
        "+12a7328-f81f-11d2-ba4b-00a0c93ec93b",
        &"-".repeat(36),
    ] {
        assert_eq!(Guid::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn sfdisk_tables_are_read_in_both_sector_sizes() {
    for sector in [512, 4096] {
        let disk = made_by_sfdisk(sector);
        let table = Table::load(&disk).unwrap();
        assert_eq!(table.source(), Copy::Primary);
        assert!(table.is_whole());
        let partitions = table.partitions();
        assert_eq!(partitions.len(), 5);
        let root = &partitions[2];
        assert_eq!(root.number, 3);
        assert_eq!(root.name, "palabre_1");
        assert_eq!(root.kind, Guid::parse(ROOT).unwrap());
        assert_eq!(root.uuid.to_string(), UUID);
        assert_eq!(root.first, u64::from(48 * (4096 / sector)));
        assert_eq!((root.last - root.first + 1) * u64::from(sector), 64 * 4096);
        assert_eq!(partitions[3].name, "_empty");
    }
}

#[test]
fn a_rewritten_table_is_what_sfdisk_reads() {
    for sector in [512, 4096] {
        let mut disk = made_by_sfdisk(sector);
        let mut table = Table::load(&disk).unwrap();
        let uuid = Guid::parse("deadbeef-0123-4567-89ab-cdef01234567").unwrap();
        table.relabel(5, "palabre_2", uuid);
        table.store(&mut disk).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (image, dump) = (folder.path().join("image"), folder.path().join("dump"));
        std::fs::write(&image, &disk.content).unwrap();
        fdisk(&image, sector, &format!("O\n{}\nq\n", dump.display()));
        let text = std::fs::read_to_string(dump).unwrap();
        assert!(
            text.contains("uuid=DEADBEEF-0123-4567-89AB-CDEF01234567"),
            "{text}"
        );
        assert!(text.contains("name=\"palabre_2\""), "{text}");
        // And the backup alone says the same.
        let bytes = sector as usize;
        disk.content[bytes..2 * bytes].fill(0);
        let table = Table::load(&disk).unwrap();
        assert_eq!(table.source(), Copy::Backup);
        assert_eq!(table.partitions()[4].uuid, uuid);
    }
}

#[test]
fn a_lost_copy_is_made_again_from_the_other() {
    for sector in [512_usize, 4096] {
        let whole = made_by_sfdisk(sector as u32);
        let end = whole.content.len();
        for lost in [
            sector..2 * sector,
            2 * sector..3 * sector,
            end - sector..end,
        ] {
            let mut disk = whole.clone();
            disk.content[lost].fill(0xff);
            let mut table = Table::load(&disk).unwrap();
            assert!(!table.is_whole());
            table.store(&mut disk).unwrap();
            assert_eq!(disk.content[sector..], whole.content[sector..]);
            assert!(Table::load(&disk).unwrap().is_whole());
        }
    }
}

#[test]
fn no_table_is_told_from_a_damaged_one() {
    let empty = MemoryDisk {
        content: vec![0; 1 << 20],
        sector: 512,
    };
    assert!(matches!(Table::load(&empty), Err(Error::Absent)));
    let tiny = MemoryDisk {
        content: vec![0; 512],
        sector: 512,
    };
    assert!(matches!(Table::load(&tiny), Err(Error::Disk)));
    let odd = MemoryDisk {
        content: vec![0; 1 << 20],
        sector: 520,
    };
    assert!(matches!(Table::load(&odd), Err(Error::Disk)));
    let mut broken = made_by_sfdisk(512);
    let end = broken.content.len();
    broken.content[512 + 60] ^= 1;
    broken.content[end - 512 + 60] ^= 1;
    let refused = Table::load(&broken).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "damaged partition table (header checksum)"
    );
}

/// Damage with the checksums put right again, so that it reaches the checks behind them.
#[test]
fn damage_never_panics_and_never_leaves_the_disk() {
    let whole = made_by_sfdisk(512);
    let end = whole.content.len();
    let mut seeded = Seeded(0x9d7);
    let mut disk = whole.clone();
    let (mut read, mut refused) = (0, 0);
    for round in 0..20_000 {
        disk.content[512..512 * 34].copy_from_slice(&whole.content[512..512 * 34]);
        disk.content[end - 512 * 33..].copy_from_slice(&whole.content[end - 512 * 33..]);
        let header = 512..512 + HEADER_BYTES;
        match round % 3 {
            0 => seeded.damage(&mut disk.content[header.clone()]),
            1 => seeded.damage(&mut disk.content[1024..1024 + 128 * 6]),
            _ => seeded.damage(&mut disk.content[512..512 * 34]),
        }
        if round % 2 == 0 {
            disk.content[end - 512..].fill(0);
        }
        let entries = crc32(&disk.content[1024..1024 + 16384]);
        disk.content[512 + 88..512 + 92].copy_from_slice(&entries.to_le_bytes());
        disk.content[512 + 16..512 + 20].fill(0);
        let sum = crc32(&disk.content[header]);
        disk.content[512 + 16..512 + 20].copy_from_slice(&sum.to_le_bytes());
        match Table::load(&disk) {
            Err(_) => refused += 1,
            Ok(mut table) => {
                read += 1;
                let sectors = disk.bytes() / 512;
                for partition in table.partitions() {
                    assert!(partition.first <= partition.last && partition.last < sectors);
                    assert!(partition.name.chars().count() <= NAME_UNITS);
                }
                if round % 16 == 0 {
                    table.store(&mut disk).unwrap();
                    assert!(Table::load(&disk).unwrap().is_whole());
                }
            }
        }
    }
    assert!(
        read > 2_000 && refused > 2_000,
        "{read} read, {refused} refused"
    );
}

#[test]
fn the_disk_that_the_firmware_booted_wins() {
    let table = Table::load(&made_by_sfdisk(512)).unwrap();
    let mut other = table.clone();
    let esp = Guid([9; 16]);
    other.relabel(1, "palabre-esp", esp);
    let disks = [("sdb".to_owned(), table), ("sda".to_owned(), other)];
    assert_eq!(
        choose(&disks, Some(disks[0].1.partitions()[0].uuid)),
        Some("sdb")
    );
    assert_eq!(choose(&disks, Some(esp)), Some("sda"));
    assert_eq!(choose(&disks, None), Some("sda"));
    assert_eq!(choose(&[], None), None);
}
