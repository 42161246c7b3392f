use super::*;
use crate::mutate::Seeded;

/// A box with two slots, whose boot loader is here: what it starts, and how that ends.
struct Machine {
    folder: tempfile::TempDir,
    /// The version that the boot loader takes by itself.
    newest: u64,
    partitions: Vec<Partition>,
    /// The version that failed its trial.
    failed: Option<u64>,
}

fn hash(version: u64) -> RootHash {
    RootHash::parse(&format!("{version:064x}").chars().rev().collect::<String>()).unwrap()
}

fn partition(number: u32, name: &str, uuid: Guid) -> Partition {
    Partition {
        number,
        kind: Guid::default(),
        uuid,
        first: 0,
        last: 0,
        name: name.to_owned(),
    }
}

impl Machine {
    fn with(versions: &[u64]) -> Self {
        let pair = |version: &u64| {
            let (root, verity) = (hash(*version).root_uuid(), hash(*version).verity_uuid());
            let name = format!("palabre_{version}");
            [
                partition(1, &format!("{name}_verity"), verity),
                partition(2, &name, root),
            ]
        };
        Self {
            folder: tempfile::tempdir().unwrap(),
            newest: versions.iter().copied().max().unwrap(),
            partitions: versions.iter().flat_map(pair).collect(),
            failed: None,
        }
    }

    fn variables(&self) -> Variables {
        Variables::new(self.folder.path())
    }

    /// One start, as the boot loader and the first program make it: the version, what became of
    /// it, and the starts.
    fn start(&self) -> (u64, Next, Starts) {
        let variables = self.variables();
        let chosen = variables.read_text(ONE_SHOT, LOADER);
        variables.remove(ONE_SHOT, LOADER).unwrap();
        let chosen = chosen.and_then(|name| version(name.strip_suffix(".efi")?));
        let known = |version: &u64| {
            let name = format!("palabre_{version}");
            self.partitions.iter().any(|p| p.name == name)
        };
        let runs = chosen.filter(known).unwrap_or(self.newest);
        let root = hash(runs).root_uuid();
        let mut starts = count(&variables, root).unwrap();
        let versions = Versions::of(&self.partitions, &hash(runs), self.failed);
        assert_eq!(versions.own, Some(runs));
        let next = starts.next(&versions);
        match next {
            Next::Start => stay(&variables, &starts, &versions).unwrap(),
            Next::Leave { to, .. } => {
                starts = leave(&variables, &starts, versions.own, to).unwrap();
            }
        }
        (runs, next, starts)
    }
}

#[test]
fn the_fourth_start_that_never_served_leaves_its_turn() {
    let machine = Machine::with(&[1, 2]);
    for count in 1..=MOST {
        let (version, next, starts) = machine.start();
        assert_eq!((version, next, starts.count()), (2, Next::Start, count));
        assert_eq!(starts.instead_of(hash(2).root_uuid()), None);
    }
    let pause = FIRST_PAUSE;
    let (version, next, _) = machine.start();
    assert_eq!((version, next), (2, Next::Leave { to: 1, pause }));
    // The other one is started instead, and again until it serves.
    for count in 1..=2 {
        let (version, next, starts) = machine.start();
        assert_eq!((version, next, starts.count()), (1, Next::Start, count));
        assert_eq!(starts.instead_of(hash(1).root_uuid()), Some(2));
        assert_eq!(starts.instead_of(hash(2).root_uuid()), None);
        assert_eq!(starts.turns(), 1);
    }
    forget(&machine.variables()).unwrap();
    assert_eq!(read(&machine.variables()), None);
}

#[test]
fn a_version_that_failed_its_trial_gets_the_turn_much_later() {
    let mut machine = Machine::with(&[2, 3]);
    machine.newest = 2;
    machine.failed = Some(3);
    for count in 1..=MOST_BEFORE_A_FAILED_ONE {
        let (version, next, starts) = machine.start();
        assert_eq!((version, next, starts.count()), (2, Next::Start, count));
    }
    let pause = FIRST_PAUSE;
    assert_eq!(machine.start().1, Next::Leave { to: 3, pause });
    // It does not serve either: back, after the usual three.
    for count in 1..=MOST {
        let (version, next, starts) = machine.start();
        assert_eq!((version, next, starts.count()), (3, Next::Start, count));
    }
    let pause = LATER_PAUSE;
    assert_eq!(machine.start().1, Next::Leave { to: 2, pause });
}

#[test]
fn a_box_that_serves_in_between_is_not_suspected() {
    let machine = Machine::with(&[1, 2]);
    for _ in 0..20 {
        for count in 1..=MOST {
            let (_, next, starts) = machine.start();
            assert_eq!((next, starts.count()), (Next::Start, count));
        }
        forget(&machine.variables()).unwrap();
    }
}

#[test]
fn two_versions_that_never_serve_take_turns_slowly() {
    let machine = Machine::with(&[1, 2]);
    let mut turns = Vec::new();
    for _ in 0..1200 {
        if let (version, Next::Leave { to, pause }, _) = machine.start() {
            turns.push((version, to, pause));
        }
    }
    let of = |version, to, pause| (version, to, pause);
    assert_eq!(turns[0], of(2, 1, FIRST_PAUSE));
    assert_eq!(turns[1], of(1, 2, LATER_PAUSE));
    assert_eq!(turns[2], of(2, 1, LATER_PAUSE));
    // Each has its three starts, and the fourth leaves; the count of turns stays at its end.
    assert_eq!(turns.len(), 300);
    assert!(turns[1..].iter().all(|turn| turn.2 == LATER_PAUSE));
}

#[test]
fn one_version_alone_is_started_for_ever() {
    let machine = Machine::with(&[7]);
    for _ in 0..300 {
        assert_eq!(machine.start().1, Next::Start);
    }
    assert_eq!(machine.start().2.count(), u8::MAX);
}

#[test]
fn a_turn_that_the_boot_loader_does_not_give_costs_three_starts_and_no_more() {
    // The other slot has a root and no kernel image.
    let machine = Machine::with(&[1, 2]);
    let leave = |machine: &Machine| {
        for _ in 0..MOST {
            machine.start();
        }
        let last = machine.start();
        machine.variables().remove(ONE_SHOT, LOADER).unwrap();
        last
    };
    let (version, next, _) = leave(&machine);
    let pause = FIRST_PAUSE;
    assert_eq!((version, next), (2, Next::Leave { to: 1, pause }));
    let (version, next, starts) = leave(&machine);
    let pause = LATER_PAUSE;
    assert_eq!((version, next), (2, Next::Leave { to: 1, pause }));
    assert_eq!(starts.turns(), 2);
}

#[test]
fn another_version_that_somebody_chose_starts_at_one() {
    let machine = Machine::with(&[1, 2]);
    machine.start();
    machine.start();
    let variables = machine.variables();
    start_next(&variables, 1).unwrap();
    let (version, _, starts) = machine.start();
    assert_eq!((version, starts.count(), starts.turns()), (1, 1, 0));
    assert_eq!(starts.instead_of(hash(1).root_uuid()), None);
    assert_eq!(variables.read(ONE_SHOT, LOADER), None);
}

#[test]
fn damage_counts_as_nothing() {
    let machine = Machine::with(&[1, 2]);
    let variables = machine.variables();
    let whole = machine.start().2.content();
    assert_eq!(whole.len(), BYTES);
    let mut seeded = Seeded(7);
    for length in 0..BYTES * 2 {
        let noise: Vec<u8> = (0..length).map(|_| seeded.draw() as u8).collect();
        assert_eq!(Starts::parse(&noise), None);
    }
    for bit in 0..BYTES * 8 {
        let mut spoiled = whole.clone();
        spoiled[bit / 8] ^= 1 << (bit % 8);
        variables.write(NAME, VENDOR, &spoiled).unwrap();
        assert_eq!(read(&variables), None, "bit {bit}");
        assert_eq!(machine.start().2.count(), 1);
    }
}

#[test]
fn without_variables_nothing_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let none = Variables::new(&folder.path().join("efivars"));
    assert!(count(&none, hash(1).root_uuid()).is_err());
    assert_eq!(read(&none), None);
    forget(&none).unwrap();
}

#[test]
fn versions_are_read_from_names_that_agree() {
    let mut partitions = Machine::with(&[3, 4]).partitions;
    let of = |partitions: &[Partition]| Versions::of(partitions, &hash(4), Some(2));
    let both = Versions {
        own: Some(4),
        other: Some(3),
        other_failed: false,
    };
    assert_eq!(of(&partitions), both);
    // An installation that was cut short.
    for half in ["palabre_3", "palabre_3_verity"] {
        let mut cut = partitions.clone();
        let at = cut.iter().position(|p| p.name == half).unwrap();
        cut[at].name = "_empty".to_owned();
        assert_eq!(of(&cut).other, None, "{half}");
    }
    // A root that is gone leaves the other one in sight.
    partitions.retain(|p| p.uuid != hash(4).root_uuid());
    let without = Versions { own: None, ..both };
    assert_eq!(of(&partitions), without);
    for name in ["palabre_", "palabre_03", "palabre_+3", "palabre_3x", "esp"] {
        assert_eq!(version(name), None, "{name}");
    }
}
