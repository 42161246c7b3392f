//! What the box does before each start of Palabre, by its own script on a folder.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

const OWN: &str = "0123456789abcdef0123456789abcdef";

/// Runs the script on `root`; the journals that are left, sorted.
fn left(root: &Path) -> Vec<String> {
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../image/overlay/usr/lib/palabre/prepare");
    let done = Command::new("/bin/sh")
        .arg(script)
        .env("PALABRE_ROOT", root)
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    assert!(done.stderr.is_empty(), "{done:?}");
    let Ok(journals) = fs::read_dir(root.join("var/log/journal")) else {
        return Vec::new();
    };
    let mut names: Vec<String> = journals
        .map(|journal| journal.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn journals_of_other_machines_do_not_fill_the_disk() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    for folder in ["etc", "var/lib/palabre", "var/log"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("etc/machine-id"), format!("{OWN}\n")).unwrap();
    assert!(left(root).is_empty(), "a journal in memory only");

    let namespace = format!("{OWN}.other");
    let begun = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    let journals = [
        ("aaaa", 3),
        ("bbbb", 9),
        (OWN, 1),
        (&namespace, 2),
        ("cccc", 5),
    ];
    for (name, age) in journals {
        let folder = root.join("var/log/journal").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("system.journal"), "words").unwrap();
        let opened = fs::File::open(&folder).unwrap();
        opened
            .set_modified(begun + Duration::from_secs(age))
            .unwrap();
    }
    let expected = [OWN, &namespace, "bbbb"];
    assert_eq!(left(root), expected);
    assert_eq!(left(root), expected, "the start after");
}
