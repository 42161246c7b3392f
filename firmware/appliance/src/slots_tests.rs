//! Installations on a disk and an EFI system partition whose power is cut at every single write.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;

use palabre_init::disk::MemoryDisk;
use palabre_init::mutate::Seeded;

use super::*;
use crate::boot::{Files, SdBoot};
use crate::bundle::{Release, pack};
use crate::keys::{Channel, PrivateKey};

const ROOT_BYTES: usize = 300_000;

/// What version `v` consists of.
struct Version {
    v: u64,
    hash: RootHash,
    parts: [Vec<u8>; 3],
}

impl Version {
    fn new(v: u64) -> Self {
        let hash = format!("{v:02x}").repeat(16) + &format!("{:02x}", v + 100).repeat(16);
        Self {
            v,
            hash: RootHash::parse(&hash).unwrap(),
            parts: [
                (0..ROOT_BYTES).map(|i| (i as u64 * 31 + v) as u8).collect(),
                vec![v as u8; 9_000],
                format!(
                    "MZ version={v} palabre.roothash={hash} {}",
                    "k".repeat(70_000)
                )
                .into_bytes(),
            ],
        }
    }

    fn packed(&self, key: &PrivateKey) -> Vec<u8> {
        let [mut root, mut verity, mut uki] = self.parts.clone().map(Cursor::new);
        let release = Release {
            arch: "amd64".into(),
            flavour: "core".into(),
            version: self.v,
            display: self.v.to_string(),
            floor: 0,
            created: 0,
            channel: Channel::Development,
            root_hash: self.hash.to_string(),
        };
        let mut out = Vec::new();
        let parts = [&mut root, &mut verity, &mut uki];
        pack(&release, parts, |bytes| Ok(key.sign(bytes)), &mut out).unwrap();
        out
    }

    fn image(&self) -> Image {
        Image {
            product: "palabre".into(),
            arch: "amd64".into(),
            flavour: "core".into(),
            version: self.v,
            display: self.v.to_string(),
            floor: 0,
            channel: Channel::Development,
            created: 0,
        }
    }
}

/// A disk with version 1 in slot A and an empty slot B.
fn disk_with(one: &Version) -> MemoryDisk {
    let folder = tempfile::tempdir().unwrap();
    let (image, script) = (folder.path().join("image"), folder.path().join("script"));
    std::fs::File::create(&image)
        .unwrap()
        .set_len(2 << 20)
        .unwrap();
    let verity = "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5";
    let root = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";
    let text = format!(
        "label: gpt\nfirst-lba: 64\n\
         start=64, size=64, type={}, name=palabre-esp\n\
         start=128, size=32, type={verity}, name=palabre_1_verity, uuid={}\n\
         start=160, size=1024, type={root}, name=palabre_1, uuid={}\n\
         start=1184, size=32, type={verity}, name=_empty\n\
         start=1216, size=1024, type={root}, name=_empty\n",
        Guid::ESP,
        one.hash.verity_uuid(),
        one.hash.root_uuid(),
    );
    std::fs::write(&script, text).unwrap();
    let mut fdisk = Command::new("fdisk")
        .arg(&image)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("fdisk is needed (Debian package fdisk)");
    let mut input = fdisk.stdin.take().unwrap();
    input
        .write_all(format!("I\n{}\nw\n", script.display()).as_bytes())
        .unwrap();
    drop(input);
    assert!(fdisk.wait().unwrap().success());
    let content = std::fs::read(&image).unwrap();
    let mut disk = MemoryDisk {
        content,
        sector: 512,
    };
    disk.write_at(160 * 512, &one.parts[0]).unwrap();
    disk.write_at(128 * 512, &one.parts[1]).unwrap();
    disk
}

/// The power: it goes after so many operations.
#[derive(Clone)]
struct Power {
    left: Rc<Cell<usize>>,
    used: Rc<Cell<usize>>,
    chance: Rc<RefCell<Seeded>>,
}

impl Power {
    fn new(operations: usize, seed: u64) -> Self {
        Self {
            left: Rc::new(Cell::new(operations)),
            used: Rc::default(),
            chance: Rc::new(RefCell::new(Seeded(seed))),
        }
    }
    fn on(&self) -> bool {
        self.used.set(self.used.get() + 1);
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0
    }
    fn coin(&self) -> bool {
        self.chance.borrow_mut().draw() & 1 == 1
    }
    fn gone() -> io::Error {
        io::Error::other("the power is gone")
    }
}

/// A disk with a cache: what is not flushed when the power goes is there or not, sector by sector.
struct CutDisk {
    seen: MemoryDisk,
    kept: MemoryDisk,
    unflushed: Vec<(u64, Vec<u8>)>,
    power: Power,
    down: bool,
}

impl CutDisk {
    fn cut(&mut self) {
        if !std::mem::replace(&mut self.down, true) {
            for (offset, bytes) in std::mem::take(&mut self.unflushed) {
                for (index, piece) in bytes.chunks(512).enumerate() {
                    if self.power.coin() {
                        self.kept
                            .write_at(offset + index as u64 * 512, piece)
                            .unwrap();
                    }
                }
            }
        }
    }
}

impl ReadDisk for CutDisk {
    fn sector(&self) -> u32 {
        512
    }
    fn bytes(&self) -> u64 {
        self.seen.bytes()
    }
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.seen.read_at(offset, into)
    }
}

impl Disk for CutDisk {
    fn write_at(&mut self, offset: u64, from: &[u8]) -> io::Result<()> {
        let on = self.power.on();
        self.unflushed.push((offset, from.to_vec()));
        if !on {
            self.cut();
            return Err(Power::gone());
        }
        self.seen.write_at(offset, from)
    }
    fn flush(&mut self) -> io::Result<()> {
        if !self.power.on() {
            self.cut();
            return Err(Power::gone());
        }
        self.kept = self.seen.clone();
        self.unflushed.clear();
        Ok(())
    }
}

/// An EFI system partition: a file that is not flushed may be cut anywhere; a removal happened or did not; a rename that was
/// cut may leave both names, the new one full or empty.
#[derive(Clone)]
struct CutFiles {
    files: Rc<RefCell<BTreeMap<String, Vec<u8>>>>,
    flushed: Rc<RefCell<BTreeMap<String, usize>>>,
    power: Power,
}

impl CutFiles {
    /// Whether the operation happens, and whether the power stays.
    fn step(&self) -> (bool, io::Result<()>) {
        if self.power.on() {
            return (true, Ok(()));
        }
        let happened = self.power.coin();
        (happened, Err(Power::gone()))
    }

    /// What a restart finds.
    fn after_cut(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = self.files.borrow().clone();
        for (name, bytes) in &mut files {
            let safe = self.flushed.borrow().get(name).copied().unwrap_or(0);
            if safe < bytes.len() {
                let extra = self.power.chance.borrow_mut().below(bytes.len() - safe + 1);
                bytes.truncate(safe + extra);
            }
        }
        files
    }
}

impl Files for CutFiles {
    fn names(&self) -> io::Result<Vec<(String, u64)>> {
        let files = self.files.borrow();
        let named = files
            .iter()
            .map(|(name, bytes)| (name.clone(), bytes.len() as u64));
        Ok(named.collect())
    }
    fn create(&mut self, name: &str) -> io::Result<()> {
        let (happens, answer) = self.step();
        if happens {
            self.files.borrow_mut().insert(name.to_owned(), Vec::new());
            self.flushed.borrow_mut().insert(name.to_owned(), 0);
        }
        answer
    }
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (happens, answer) = self.step();
        if happens {
            self.files.borrow_mut().get_mut(name).unwrap().extend(bytes);
        }
        answer
    }
    fn flush(&mut self, name: &str) -> io::Result<()> {
        let (happens, answer) = self.step();
        if happens {
            let length = self.files.borrow()[name].len();
            self.flushed.borrow_mut().insert(name.to_owned(), length);
        }
        answer
    }
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let (happens, answer) = self.step();
        if answer.is_err() && self.power.coin() {
            let bytes = if happens {
                self.files.borrow()[from].clone()
            } else {
                Vec::new()
            };
            self.flushed.borrow_mut().insert(to.to_owned(), bytes.len());
            self.files.borrow_mut().insert(to.to_owned(), bytes);
        } else if happens {
            let bytes = self.files.borrow_mut().remove(from).unwrap();
            self.files.borrow_mut().insert(to.to_owned(), bytes);
            let length = self.flushed.borrow_mut().remove(from).unwrap_or(0);
            self.flushed.borrow_mut().insert(to.to_owned(), length);
        }
        answer
    }
    fn remove(&mut self, name: &str) -> io::Result<()> {
        let (happens, answer) = self.step();
        if happens {
            self.files.borrow_mut().remove(name);
            self.flushed.borrow_mut().remove(name);
        }
        answer
    }
}

type Esp = BTreeMap<String, Vec<u8>>;

/// Runs an installation with power for so many operations. Answers what a restart finds, whether
/// the installation said it succeeded, and how many operations it asked for.
fn attempt(
    disk: &MemoryDisk,
    esp: &Esp,
    (from, to, key): (&Version, &Version, &PrivateKey),
    power: Power,
) -> (MemoryDisk, Esp, Result<u64, Refused>, usize) {
    let mut cut = CutDisk {
        seen: disk.clone(),
        kept: disk.clone(),
        unflushed: Vec::new(),
        power: power.clone(),
        down: false,
    };
    let files = CutFiles {
        files: Rc::new(RefCell::new(esp.clone())),
        flushed: Rc::new(RefCell::new(
            esp.iter().map(|(n, b)| (n.clone(), b.len())).collect(),
        )),
        power: power.clone(),
    };
    let mut boot = SdBoot::on(files.clone(), Path::new("/nonexistent"));
    let packed = to.packed(key);
    let trusted = [key.public(Channel::Development)];
    let mut bundle = bundle::open(Cursor::new(packed), &trusted).unwrap();
    let machine = Machine {
        disk: &mut cut,
        boot: &mut boot,
        image: &from.image(),
        root_hash: from.hash,
        floor: 0,
        random: [0xa5; 32],
    };
    let done = install(&mut bundle, machine, |_, _, _| {});
    cut.cut();
    (cut.kept, files.after_cut(), done, power.used.get())
}

/// Does what the firmware and the first program do: every entry must lead to a complete version.
/// Answers the version that starts.
fn start(disk: &MemoryDisk, esp: &Esp, versions: &[&Version]) -> u64 {
    // The boot loader passes empty ones over.
    let full = esp.iter().filter(|(_, bytes)| !bytes.is_empty());
    let entries: Vec<Entry> = full.filter_map(|(name, _)| Entry::parse(name)).collect();
    let partitions = Table::load(disk).expect("a table").partitions();
    for entry in &entries {
        let version = versions
            .iter()
            .find(|version| version.v == entry.version)
            .unwrap();
        assert!(
            esp[&entry.file_name()] == version.parts[2],
            "half a kernel image"
        );
        for (uuid, part) in [
            (version.hash.root_uuid(), &version.parts[0]),
            (version.hash.verity_uuid(), &version.parts[1]),
        ] {
            let found: Vec<_> = partitions.iter().filter(|p| p.uuid == uuid).collect();
            assert_eq!(found.len(), 1, "version {} has no partition", entry.version);
            let at = found[0].first as usize * 512;
            assert!(
                disk.content[at..at + part.len()] == **part,
                "half a version {}",
                entry.version
            );
        }
    }
    starts_next(&entries).expect("something starts")
}

fn before() -> (Version, Version, PrivateKey, MemoryDisk, Esp) {
    let (one, two) = (Version::new(1), Version::new(2));
    let disk = disk_with(&one);
    let esp = BTreeMap::from([("palabre_1.efi".to_owned(), one.parts[2].clone())]);
    (one, two, PrivateKey::generate(), disk, esp)
}

#[test]
fn the_power_cut_at_every_write_leaves_a_complete_version() {
    let (one, two, key, disk, esp) = before();
    let job = (&one, &two, &key);
    let (after, esp_after, done, operations) = attempt(&disk, &esp, job, Power::new(usize::MAX, 0));
    assert_eq!(done.unwrap(), 2);
    assert_eq!(start(&after, &esp_after, &[&one, &two]), 2);
    assert!(operations > 20, "{operations}");
    for cut in 0..operations {
        for seed in 0..6 {
            let power = Power::new(cut, seed * 1000 + cut as u64);
            let (disk, esp, done, _) = attempt(&disk, &esp, job, power);
            assert!(done.is_err(), "cut {cut}");
            let starts = start(&disk, &esp, &[&one, &two]);
            assert!(
                esp.contains_key("palabre_1.efi"),
                "cut {cut}: the way back is gone"
            );
            if starts == 2 {
                assert_eq!(cut, operations - 1, "only the last rename makes it start");
                continue;
            }
            // The next installation is not hindered by what the cut left.
            let (disk, esp, done, _) = attempt(&disk, &esp, job, Power::new(usize::MAX, 0));
            assert_eq!(done.unwrap(), 2, "cut {cut} seed {seed}");
            assert_eq!(start(&disk, &esp, &[&one, &two]), 2);
        }
    }
}

/// The slot that is overwritten holds a good older version: the entry must never outlive it.
#[test]
fn the_older_version_disappears_as_a_whole() {
    let (one, two, key, disk, esp) = before();
    let three = Version::new(3);
    let (disk, mut esp, done, _) =
        attempt(&disk, &esp, (&one, &two, &key), Power::new(usize::MAX, 0));
    done.unwrap();
    let image = esp.remove("palabre_2+3-0.efi").unwrap();
    esp.insert("palabre_2.efi".to_owned(), image);
    let job = (&two, &three, &key);
    let (_, _, done, operations) = attempt(&disk, &esp, job, Power::new(usize::MAX, 0));
    done.unwrap();
    let all = [&one, &two, &three];
    for cut in 0..operations {
        for seed in 0..6 {
            let (disk, esp, _, _) =
                attempt(&disk, &esp, job, Power::new(cut, seed * 77 + cut as u64));
            let starts = start(&disk, &esp, &all);
            assert!(
                starts == 2 || (starts == 3 && cut == operations - 1),
                "cut {cut}"
            );
        }
    }
}

#[test]
fn a_box_that_cannot_take_the_update_is_not_touched() {
    let (one, two, key, disk, esp) = before();
    let refusal = |disk: &MemoryDisk, esp: &Esp, from: &Version, to: &Version| {
        let (after, esp_after, done, operations) =
            attempt(disk, esp, (from, to, &key), Power::new(usize::MAX, 0));
        assert!(after.content == disk.content && esp_after == *esp && operations == 0);
        done.unwrap_err().code()
    };
    let mut trial = esp.clone();
    let image = trial.remove("palabre_1.efi").unwrap();
    trial.insert("palabre_1+2-1.efi".to_owned(), image);
    assert_eq!(refusal(&disk, &trial, &one, &two), "running-on-trial");
    assert_eq!(refusal(&disk, &Esp::new(), &one, &two), "running-no-entry");
    assert_eq!(
        refusal(&disk, &esp, &Version::new(9), &Version::new(10)),
        "running-unknown"
    );
    assert_eq!(
        refusal(
            &disk,
            &esp,
            &one,
            &Version {
                hash: one.hash,
                ..Version::new(2)
            }
        ),
        "same-root"
    );
    assert_eq!(refusal(&disk, &esp, &two, &one), "version-older");
    let mut large = Version::new(2);
    large.parts[0] = vec![0; 1024 * 512 + 1];
    assert_eq!(refusal(&disk, &esp, &one, &large), "part-too-large");
    let mut large = Version::new(2);
    large.parts[1] = vec![0; 32 * 512 + 1];
    assert_eq!(refusal(&disk, &esp, &one, &large), "part-too-large");
    let blank = MemoryDisk {
        content: vec![0; 1 << 20],
        sector: 512,
    };
    assert_eq!(refusal(&blank, &esp, &one, &two), "disk-table");
    // A damaged part is found before anything is written.
    let mut packed = two.packed(&key);
    let middle = packed.len() / 2;
    packed[middle] ^= 1;
    let trusted = [key.public(Channel::Development)];
    let mut bundle = bundle::open(Cursor::new(packed), &trusted).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("EFI/Linux")).unwrap();
    std::fs::write(folder.path().join("EFI/Linux/palabre_1.efi"), "image").unwrap();
    let mut copy = disk.clone();
    let machine = Machine {
        disk: &mut copy,
        boot: &mut SdBoot::new(folder.path(), Path::new("/nonexistent")),
        image: &one.image(),
        root_hash: one.hash,
        floor: 0,
        random: [1; 32],
    };
    assert_eq!(
        install(&mut bundle, machine, |_, _, _| {})
            .unwrap_err()
            .code(),
        "part-hash"
    );
    assert!(copy.content == disk.content);
}

#[test]
fn every_slot_says_why_it_was_not_chosen() {
    let (one, two, key, disk, esp) = before();
    let see = |disk: &MemoryDisk, names: &[&str], chosen| {
        let (_, slots) = read(disk, "amd64").unwrap();
        let entries: Vec<Entry> = names.iter().filter_map(|name| Entry::parse(name)).collect();
        let reports = report(&slots, &entries, &one.hash, chosen);
        assert!(reports[0].runs && !reports[1].runs);
        reports
            .into_iter()
            .map(|r| (r.version, r.state, r.starts_next, r.why))
            .collect::<Vec<_>>()
    };
    let fresh = see(&disk, &["palabre_1.efi"], None);
    assert_eq!(
        fresh[0],
        (
            Some(1),
            State::Good,
            true,
            "it is the newest that has not failed".into()
        )
    );
    assert_eq!(
        fresh[1],
        (
            None,
            State::Empty,
            false,
            "nothing is installed here".into()
        )
    );
    let (disk, ..) = attempt(&disk, &esp, (&one, &two, &key), Power::new(usize::MAX, 0));
    let trial = see(&disk, &["palabre_1.efi", "palabre_2+3-0.efi"], None);
    assert_eq!(trial[0].3, "version 2 is newer");
    assert_eq!((trial[1].1, trial[1].2), (State::Trial, true));
    let bad = see(&disk, &["palabre_1.efi", "palabre_2+0-3.efi"], None);
    assert!(bad[0].2);
    assert_eq!(
        (bad[1].1, bad[1].3.as_str()),
        (State::Bad, "every try to start it failed")
    );
    let last_try = see(&disk, &["palabre_1+0-3.efi", "palabre_2+0-3.efi"], None);
    assert_eq!((last_try[0].1, last_try[1].1), (State::Trial, State::Bad));
    let chosen = see(&disk, &["palabre_1.efi", "palabre_2.efi"], Some(1));
    assert_eq!(chosen[0].3, "it was chosen");
    assert_eq!(chosen[1].3, "version 1 was chosen instead");
    let cut = see(&disk, &["palabre_1.efi"], Some(7));
    assert_eq!((cut[1].1, cut[0].2), (State::Incomplete, true));
}
