//! A stick that asks for empty data, by the box's own script with stand-ins for what it starts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// What becomes of the stick.
#[derive(Clone, Copy)]
enum Stick {
    Pulled,
    Stays,
    /// The box stops watching it after so many seconds, for whatever reason.
    Unwatched(u32),
    /// It is gone when the time is over, though nobody saw it go.
    Lost,
}
use Stick::{Lost, Pulled, Stays, Unwatched};

/// Plugs in a stick whose `palabre.reset` holds `names` into the box palabre-ab7f. `can`: the firmware takes the wish. What was
/// said to people, and what was started, a line each.
fn asked(names: &str, stick: Stick, can: bool) -> (String, String) {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    for folder in ["bin", "dev", "stick", "usr/lib/palabre", "proc/sys/kernel"] {
        fs::create_dir_all(at(folder)).unwrap();
    }
    fs::write(at("dev/sdz1"), "").unwrap();
    fs::write(at("proc/uptime"), "190.25 700.01\n").unwrap();
    fs::write(at("proc/sys/kernel/hostname"), "palabre-ab7f\n").unwrap();
    fs::write(at("stick/palabre.reset"), names).unwrap();
    let stand_in = |path: &str, words: &str| {
        fs::write(at(path), format!("#!/bin/sh\n{words}\n")).unwrap();
        fs::set_permissions(at(path), fs::Permissions::from_mode(0o755)).unwrap();
    };
    let log = at("log").display().to_string();
    let logs = |name: &str, end: &str| format!("echo {name} \"$@\" >>{log}; {end}");
    stand_in("bin/umount", &logs("umount", ""));
    let later = |seconds| {
        format!(
            "echo {}.10 800.02 >{}",
            190 + seconds,
            at("proc/uptime").display()
        )
    };
    let watched = match stick {
        Pulled => String::new(),
        Stays => format!("{}; exit 1", later(30)),
        Unwatched(seconds) => format!("{}; exit 1", later(seconds)),
        Lost => format!("{}; rm {}; exit 1", later(30), at("dev/sdz1").display()),
    };
    stand_in("bin/udevadm", &logs("udevadm", &watched));
    let told = if can {
        ""
    } else {
        "echo 'error[firmware]: no variables' >&2; exit 1"
    };
    stand_in("bin/palabre-update", &logs("palabre-update", told));
    stand_in("bin/systemctl", &logs("systemctl", ""));
    stand_in("usr/lib/palabre/say", "for line; do echo \"$line\"; done");
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../image/overlay/usr/lib/palabre/reset");
    let done = Command::new("/bin/sh")
        .arg(script)
        .args(["/dev/sdz1", &at("stick").display().to_string()])
        .env("PALABRE_ROOT", root.path())
        .env("PATH", format!("{}:/usr/bin:/bin", at("bin").display()))
        .output()
        .unwrap();
    assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
    let started = fs::read_to_string(at("log")).unwrap_or_default();
    let folder = at("stick").display().to_string();
    let said = String::from_utf8(done.stdout).unwrap();
    (said, started.replace(&folder, "FOLDER"))
}

const WAITED: &str = "umount FOLDER\nudevadm wait --removed --timeout=30 /dev/sdz1\n";

#[test]
fn the_stick_of_another_box_erases_nothing() {
    for other in [
        "palabre-ab70",
        "palabre",
        "",
        "\n",
        "palabre-ab7f palabre-ab70",
        "\0",
    ] {
        let (said, started) = asked(other, Stays, true);
        assert!(said.starts_with("Reset refused: "), "{other:?}: {said}");
        assert!(said.contains("palabre-ab7f") && said.lines().count() == 2);
        assert_eq!(started, "umount FOLDER\n", "{other:?}");
    }
}

#[test]
fn a_stick_that_is_pulled_in_time_erases_nothing() {
    let (said, started) = asked("palabre-ab7f", Pulled, true);
    assert!(
        said.starts_with("ALL DATA of this box will be erased in 30 seconds."),
        "{said}"
    );
    assert!(
        said.contains("nothing is erased") && said.contains("TOUTES"),
        "{said}"
    );
    assert_eq!(started, WAITED);
}

#[test]
fn a_stick_that_stays_and_names_the_box_erases() {
    // As editors of several systems write it.
    for name in [
        "palabre-ab7f",
        "Palabre-AB7F\r\n",
        "\u{feff}palabre-ab7f\n",
        "  palabre-ab7f  \n\n",
    ] {
        let (said, started) = asked(name, Stays, true);
        assert!(
            said.contains("Starting anew with empty data."),
            "{name:?}: {said}"
        );
        assert_eq!(
            started,
            format!("{WAITED}palabre-update factory-reset\nsystemctl reboot\n")
        );
    }
}

#[test]
fn a_stick_that_is_not_watched_for_half_a_minute_erases_nothing() {
    for stick in [Unwatched(0), Unwatched(28), Lost] {
        let (said, started) = asked("palabre-ab7f", stick, true);
        assert!(
            said.contains("cannot be watched: nothing is erased"),
            "{said}"
        );
        assert_eq!(started, WAITED);
    }
}

#[test]
fn a_box_that_cannot_erase_says_why_and_goes_on() {
    let (said, started) = asked("palabre-ab7f", Stays, false);
    assert!(
        said.contains("The data cannot be erased")
            && said.contains("error[firmware]: no variables"),
        "{said}"
    );
    assert_eq!(started, format!("{WAITED}palabre-update factory-reset\n"));
}
