//! Palabre started anew with what a stick set, by the box's own script with stand-ins for what it starts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// What was started, a line each, when `restart` is called with these words and each new start of Palabre does `meanwhile`.
fn started(words: &[&str], meanwhile: &str) -> String {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    for folder in ["bin", "usr/lib/palabre", "run/palabre"] {
        fs::create_dir_all(at(folder)).unwrap();
    }
    fs::write(at("run/palabre/settings.env"), "A=\"1\"\n").unwrap();
    let stand_in = |path: &str, words: &str| {
        fs::write(at(path), format!("#!/bin/sh\n{words}\n")).unwrap();
        fs::set_permissions(at(path), fs::Permissions::from_mode(0o755)).unwrap();
    };
    let log = at("log").display().to_string();
    stand_in(
        "bin/palabre-update",
        &format!("echo asked >>{log}; echo waits"),
    );
    stand_in(
        "bin/systemctl",
        &format!("echo \"$@\" >>{log}\ncase $* in 'restart palabre.service') {meanwhile} ;; esac"),
    );
    stand_in("usr/lib/palabre/say", &format!("echo said \"$@\" >>{log}"));
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../image/overlay/usr/lib/palabre/restart");
    let done = Command::new("/bin/sh")
        .arg(script)
        .args(words)
        .current_dir(root.path())
        .env("PALABRE_ROOT", root.path())
        .env("PATH", format!("{}:/usr/bin:/bin", at("bin").display()))
        .output()
        .unwrap();
    assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
    fs::read_to_string(at("log")).unwrap()
}

const ONCE: &str =
    "asked\nsaid waits\nrestart palabre.service\ntry-restart palabre-health.service\n";

#[test]
fn palabre_starts_once_for_one_stick() {
    assert_eq!(started(&["program"], ":"), ONCE);
}

#[test]
fn settings_that_come_during_the_restart_are_read_too() {
    let second = "[ -e second ] || { touch second; echo 'A=\"2\"' >run/palabre/settings.env; }";
    assert_eq!(started(&["program"], second), ONCE.repeat(2));
    let gone = "rm -f run/palabre/settings.env";
    assert_eq!(started(&["program"], gone), ONCE.repeat(2));
}

#[test]
fn an_update_restarts_the_box() {
    assert_eq!(started(&[], ":"), "asked\nsaid waits\nreboot\n");
}
