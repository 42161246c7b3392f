//! The recovery key of encrypted data, by the box's own scripts on a folder: what is shown opens the
//! data, whenever the power goes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A box with an encrypted data partition: `header` lists its slots, and each key that was ever made
/// is another.
struct Sealed(tempfile::TempDir);

impl Sealed {
    fn new() -> Self {
        let sealed = Self(tempfile::tempdir().unwrap());
        for folder in [
            "bin",
            "dev/palabre",
            "run/palabre/console",
            "sys/class/tty/console",
            "usr/lib/palabre/keys",
            "var/lib/palabre/program",
        ] {
            fs::create_dir_all(sealed.at(folder)).unwrap();
        }
        sealed.write("dev/palabre/locked", "   0 tpm2\n");
        sealed.write("sys/class/tty/console/active", "tty0\n");
        sealed.write("usr/lib/palabre/image.json", "{\"display\":\"1\"}\n");
        sealed.script("usr/lib/palabre/addresses", "echo 192.0.2.10");
        sealed.script(
            "bin/palabre-update",
            "printf 'secure boot: on\\ndata: encrypted\\n'",
        );
        // As systemd's: a new slot, and only then the old ones go; without options it lists them. Told to, it dies in between.
        sealed.script(
            "bin/systemd-cryptenroll",
            "for device; do :; done\n\
             [ $# -gt 1 ] || { cat \"$device\"; exit; }\n\
             [ ! -e \"$PALABRE_ROOT/no-tpm\" ] || exit 1\n\
             number=$(cat \"$PALABRE_ROOT/made\" 2>/dev/null || echo 0)\n\
             echo $((number + 1)) >\"$PALABRE_ROOT/made\"\n\
             echo \"key-$number   1 recovery\" >>\"$device\"\n\
             \"$PALABRE_ROOT/bin/power\"\n\
             sed -i -e '/ recovery$/{' -e \"/^key-$number /!d\" -e '}' \"$device\"\n\
             echo \"key-$number\"",
        );
        // Kills the script, and whoever it started, at the operation that is counted down to. Builtins only: programs are counted.
        sealed.script(
            "bin/power",
            "read -r left <\"$PALABRE_ROOT/left\"\n\
             echo $((left - 1)) >\"$PALABRE_ROOT/left\"\n\
             [ \"$left\" -gt 0 ] || kill -9 0",
        );
        for tool in ["cat", "mv", "rm", "sync"] {
            // Before each: what is after one is before the next.
            let text = format!("\"$PALABRE_ROOT/bin/power\"\nexec /bin/{tool} \"$@\"");
            sealed.script(&format!("cut/{tool}"), &text);
        }
        sealed
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.at(name).parent().unwrap()).unwrap();
        fs::write(self.at(name), text).unwrap();
    }

    fn script(&self, name: &str, text: &str) {
        self.write(name, &format!("#!/bin/sh\n{text}\n"));
        fs::set_permissions(self.at(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn run(&self, name: &str, arguments: &[&str], more: &str) -> Output {
        let scripts =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../image/overlay/usr/lib/palabre");
        let mut command = Command::new("/bin/sh");
        // A group of its own: the power goes for all of it.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command
            .arg(scripts.join(name))
            .args(arguments)
            .env("PALABRE_ROOT", self.0.path())
            .env(
                "PATH",
                format!("{more}{}:/usr/bin:/bin", self.at("bin").display()),
            )
            .output()
            .unwrap()
    }

    /// The start of the box, up to where the data are there; with power for so many operations.
    fn starts(&self, operations: Option<usize>) -> bool {
        let _ = fs::remove_dir_all(self.at("run/palabre/console"));
        fs::create_dir_all(self.at("run/palabre/console")).unwrap();
        let cut = format!("{}:", self.at("cut").display());
        let (left, more) = match operations {
            Some(left) => (left, cut.as_str()),
            None => (1_000_000, ""),
        };
        self.write("left", &left.to_string());
        self.run("recovery", &[], more).status.success()
    }

    /// What the console shows while Palabre says this.
    fn console(&self, announced: &str) -> String {
        self.write("run/palabre/console/announce", announced);
        let shown = self.run("console", &["--print"], "");
        assert!(shown.status.success(), "{shown:?}");
        assert!(self.run("console", &[], "").status.success());
        String::from_utf8(shown.stdout).unwrap()
    }

    /// What a room's screen shows of it: the facts of its start page.
    fn screen(&self) -> String {
        let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("../image");
        let page = image.join("overlay.room/usr/lib/palabre/start-page");
        let text = fs::read_to_string(page).unwrap();
        let (from, to) = (text.find("\nsaid() {"), text.find("\nclaim() {"));
        let parts =
            text[from.unwrap()..to.unwrap()].replace("/usr/lib/palabre/console", "sh \"$CONSOLE\"");
        let shown = Command::new("bash")
            .args(["-euc", &format!("{parts}\nfacts")])
            .env("CONSOLE", image.join("overlay/usr/lib/palabre/console"))
            .env("PALABRE_ROOT", self.0.path())
            .env(
                "PATH",
                format!("{}:/usr/bin:/bin", self.at("bin").display()),
            )
            .output()
            .unwrap();
        assert!(shown.status.success(), "{shown:?}");
        String::from_utf8(shown.stdout).unwrap()
    }

    /// Which key of the console opens the data; no other slot may be left.
    fn opens(&self, shown: &str) -> String {
        let key = shown
            .lines()
            .find_map(|line| line.strip_prefix("  Recovery / Secours       "));
        let key = key.unwrap_or_else(|| panic!("no key: {shown}")).to_owned();
        let header = fs::read_to_string(self.at("dev/palabre/locked")).unwrap();
        assert_eq!(header, format!("   0 tpm2\n{key}   1 recovery\n"));
        key
    }
}

const UNCLAIMED: &str = "  Claim code  ABCD  (once: here)\nPalabre is ready.\n";
const CLAIMED_NOW: &str =
    "  Claim code  ABCD  (once: here)\nPalabre is ready.\n  Claimed     it is\n";
const CLAIMED: &str = "Palabre is ready.\n";

#[test]
fn the_key_is_the_same_until_the_box_is_claimed_and_forgotten_then() {
    let sealed = Sealed::new();
    assert!(sealed.starts(None));
    let key = sealed.opens(&sealed.console(UNCLAIMED));
    sealed.write("var/lib/palabre/program/palabre.db", "data");
    for _ in 0..2 {
        assert!(sealed.starts(None));
        assert_eq!(sealed.opens(&sealed.console(UNCLAIMED)), key);
    }
    let kept = fs::metadata(sealed.at("var/lib/palabre/recovery")).unwrap();
    assert_eq!(kept.permissions().mode() & 0o777, 0o600);
    assert!(!sealed.console(CLAIMED_NOW).contains("Recovery"));
    for file in ["run/palabre/console/recovery", "var/lib/palabre/recovery"] {
        assert!(!sealed.at(file).exists(), "{file}");
    }
    assert!(sealed.starts(None));
    assert!(!sealed.console(CLAIMED).contains("Recovery"));
    let header = fs::read_to_string(sealed.at("dev/palabre/locked")).unwrap();
    assert!(header.contains(&key), "nothing was enrolled anew");
    // The power went between the claim and the forgetting: shown once more, since nobody may have read it.
    sealed.write("var/lib/palabre/recovery", &format!("{key}\n"));
    assert!(sealed.starts(None));
    assert_eq!(sealed.opens(&sealed.console(CLAIMED)), key);
    assert!(!sealed.console(CLAIMED).contains("Recovery"));
}

#[test]
fn a_room_s_screen_shows_what_the_console_says() {
    let sealed = Sealed::new();
    assert!(sealed.starts(None));
    sealed.write("run/palabre/fingerprint", "AA:BB\n");
    sealed.write("usr/lib/palabre/keys/one.pub", "x development\n");
    let told = sealed.console(UNCLAIMED);
    let key = sealed.opens(&told);
    // Once with a network, once without.
    for (addresses, network) in [("echo 192.0.2.10", true), (":", false)] {
        sealed.script("usr/lib/palabre/addresses", addresses);
        let html = sealed.screen();
        let facts = html.lines().filter(|line| line.starts_with("<dt>"));
        assert_eq!(facts.count(), if network { 6 } else { 4 }, "{html}");
        for value in ["<dd>ABCD\n", &format!("<dd>{key}\n"), ">AA:BB</span>"] {
            assert!(html.contains(value), "{value}: {html}");
        }
        for there in ["<dd>https://192.0.2.10/\n", "<dd>sip:reunion@192.0.2.10\n"] {
            assert_eq!(html.contains(there), network, "{there}: {html}");
        }
        assert_eq!(html.contains("Pas encore de réseau"), !network);
        assert!(html.contains("Clés de développement"), "{html}");
        assert!(html.contains("Notez maintenant la clé"), "{html}");
    }
    // Whoever reads only one of the languages is told the same.
    for (english, french) in [
        ("Claim code /", "/ Code "),
        ("write it down", "notez-la"),
        ("encrypted", "chiffrées"),
        ("Secure Boot              on /", "activé"),
        ("DEVELOPMENT KEYS", "CLÉS DE DÉVELOPPEMENT"),
    ] {
        assert!(told.contains(english) && told.contains(french), "{told}");
    }
}

/// systemd does not look at what Palabre says while it has the console speak.
#[test]
fn a_claim_while_the_console_speaks_is_not_missed() {
    let sealed = Sealed::new();
    assert!(sealed.starts(None));
    sealed.write("claim", "  Claimed     it is\n");
    sealed.script(
        "bin/palabre-update",
        "[ ! -e \"$PALABRE_ROOT/claim\" ] || {\n\
         cat \"$PALABRE_ROOT/claim\" >>\"$PALABRE_ROOT/run/palabre/console/announce\"\n\
         rm \"$PALABRE_ROOT/claim\"\n\
         }",
    );
    sealed.write("run/palabre/console/announce", UNCLAIMED);
    assert!(sealed.run("console", &[], "").status.success());
    for file in ["run/palabre/console/recovery", "var/lib/palabre/recovery"] {
        assert!(!sealed.at(file).exists(), "{file}");
    }
}

#[test]
fn a_power_cut_anywhere_leaves_a_key_that_opens_or_makes_one() {
    let mut was_cut = 0;
    for comes_late in [false, true] {
        for cut in 0..100 {
            assert!(cut < 99, "it never goes through");
            let sealed = Sealed::new();
            if comes_late {
                // Earlier starts had a TPM that gave nothing, and data by now.
                sealed.write("var/lib/palabre/program/palabre.db", "data");
            } else {
                // `partitions` made one, and the power went before anybody saw it.
                let header = "   0 tpm2\nkey-first   1 recovery\n";
                sealed.write("dev/palabre/locked", header);
            }
            if sealed.starts(Some(cut)) {
                sealed.opens(&sealed.console(UNCLAIMED));
                assert!(cut > 4, "{cut}");
                break;
            }
            was_cut += 1;
            // The next start goes through, or is cut as well, and the one after it goes through.
            if cut % 2 == 0 {
                sealed.starts(Some(cut / 2 + 1));
            }
            assert!(sealed.starts(None), "cut {cut}");
            sealed.opens(&sealed.console(UNCLAIMED));
        }
    }
    assert!(was_cut > 12, "{was_cut}");
}

#[test]
fn a_box_without_a_key_says_so_and_makes_one_later() {
    let sealed = Sealed::new();
    sealed.write("no-tpm", "");
    assert!(!sealed.starts(None));
    let told = sealed.console(UNCLAIMED);
    assert!(told.contains("Recovery / Secours       no key could be made"));
    assert!(told.contains("aucune clé n'a pu être créée"), "{told}");
    // A room's screen has no devices to look at.
    fs::remove_file(sealed.at("dev/palabre/locked")).unwrap();
    let html = sealed.screen();
    sealed.write("dev/palabre/locked", "   0 tpm2\n");
    assert!(html.contains("Aucune clé de secours"), "{html}");
    assert!(!html.contains("Secours <span"), "{html}");
    assert!(!html.contains("Notez maintenant"), "{html}");
    sealed.write("var/lib/palabre/program/palabre.db", "data");
    fs::remove_file(sealed.at("no-tpm")).unwrap();
    assert!(sealed.starts(None));
    sealed.opens(&sealed.console(UNCLAIMED));
    // A box of before, claimed long ago, keeps the key that somebody has written down.
    let older = Sealed::new();
    let header = "   0 tpm2\nkey-old   1 recovery\n";
    older.write("dev/palabre/locked", header);
    older.write("var/lib/palabre/program/palabre.db", "data");
    assert!(older.starts(None));
    assert!(!older.console(CLAIMED).contains("Recovery"));
    assert_eq!(
        fs::read_to_string(older.at("dev/palabre/locked")).unwrap(),
        header
    );
}
