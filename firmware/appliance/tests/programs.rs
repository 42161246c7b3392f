//! The two programs on files: a bundle is packed, installed on a disk image, tried, blessed or
//! sent back. No root, no device, no firmware.

#[path = "support/bench.rs"]
mod bench;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Output;

use bench::{Bench, answering, hash, names};

#[test]
fn an_update_is_installed_tried_and_blessed() {
    let bench = Bench::new();
    let two = bench.packed(2);
    assert!(
        bench
            .good(&["verify", &two])
            .contains("signed and complete")
    );
    bench.good(&["install", &two, "--progress", &bench.text("progress.json")]);
    let progress: serde_json::Value =
        serde_json::from_slice(&fs::read(bench.at("progress.json")).unwrap()).unwrap();
    assert_eq!(progress["phase"], "done");
    assert_eq!(bench.entries(), ["palabre_1.efi", "palabre_2+3-0.efi"]);
    let disk = fs::read(bench.at("disk")).unwrap();
    assert!(disk[1152 * 512..][..300_000].iter().all(|b| *b == 2));
    assert!(disk[1120 * 512..][..8_192].iter().all(|b| *b == 2));
    let status = bench.status();
    assert_eq!(status["slots"][1]["state"], "trial");
    assert_eq!(status["slots"][1]["starts_next"], true);
    assert_eq!(status["slots"][0]["runs"], true);
    assert_eq!(status["development"], true);
    let nothing = serde_json::json!({"secure_boot": "absent", "data": "plain"});
    assert_eq!(status["protection"], nothing);
    assert!(bench.good(&["status"]).contains("\ndata: plain\n"));

    // The firmware starts it and counts; five good minutes are two seconds here.
    let folder = bench.at("esp/EFI/Linux");
    fs::rename(
        folder.join("palabre_2+3-0.efi"),
        folder.join("palabre_2+0-3.efi"),
    )
    .unwrap();
    bench.runs(2);
    assert!(
        bench
            .refused(&["install", &bench.packed(3)])
            .contains("error[running-on-trial]")
    );
    let url = answering("200 OK");
    let trial = [
        "health",
        "--url",
        &url,
        "--call",
        "true",
        "--every",
        "1",
        "--good-for",
        "2",
        "--no-reboot",
    ];
    assert!(bench.good(&trial).contains("version 2 is good"));
    assert_eq!(bench.entries(), ["palabre_1.efi", "palabre_2.efi"]);
    assert!(bench.good(&trial).contains("proved good before"));
    assert_eq!(bench.status()["last_failure"], serde_json::Value::Null);

    // Back by hand: once, and for good when it proves good.
    assert!(bench.good(&["previous"]).contains("version 1 starts next"));
    assert_eq!(
        names(&bench.at("efivars")),
        ["LoaderEntryOneShot-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"]
    );
    bench.runs(1);
    assert!(bench.good(&trial).contains("version 1 is good"));
    assert!(bench.status()["slots"][0]["why"] == "it was chosen");
    // The next update takes that choice away.
    bench.good(&["install", &bench.packed(3)]);
    assert_eq!(names(&bench.at("efivars")), Vec::<String>::new());
    assert_eq!(bench.entries(), ["palabre_1.efi", "palabre_3+3-0.efi"]);
}

#[test]
fn a_version_that_fails_its_trial_goes_back_with_the_reason() {
    let bench = Bench::new();
    bench.good(&["install", &bench.packed(2)]);
    bench.runs(2);
    let bad = answering("503 Service Unavailable");
    let trial = [
        "health",
        "--url",
        &bad,
        "--every",
        "1",
        "--grace",
        "1",
        "--no-reboot",
    ];
    assert!(bench.refused(&trial).contains("error[trial-failed]"));
    assert_eq!(bench.entries(), ["palabre_1.efi", "palabre_2+0-0.efi"]);
    bench.runs(1);
    let status = bench.status();
    assert_eq!(status["slots"][1]["state"], "bad");
    assert!(
        status["last_failure"]["why"]
            .as_str()
            .unwrap()
            .starts_with("program: it answers")
    );

    // Answers health but fails the call: the reason is that of the command.
    bench.good(&["install", &bench.packed(3)]);
    bench.runs(3);
    let url = answering("200 OK");
    let reason = "own-tone: the telephone hears itself through the mixer";
    let script = format!("echo '{reason}' >&2\nexit 1\n");
    fs::write(bench.at("call"), script).unwrap();
    let call = format!("/bin/sh {}", bench.text("call"));
    let trial = [
        "health",
        "--url",
        &url,
        "--call",
        &call,
        "--every",
        "1",
        "--grace",
        "1",
        "--no-reboot",
    ];
    let why = format!("call: the call failed: {reason}");
    let said = bench.refused(&trial);
    // On the console while it lasts, and as the verdict.
    assert!(said.contains(&format!("trial: {why}\n")), "{said}");
    assert!(said.contains(&format!("version 3 is bad: {why}")), "{said}");
    bench.runs(1);
    assert_eq!(bench.status()["last_failure"]["why"], why);
    assert!(bench.good(&["status"]).contains(&why));
    // Whose tries run out without a word.
    bench.good(&["install", &bench.packed(4)]);
    let folder = bench.at("esp/EFI/Linux");
    fs::rename(
        folder.join("palabre_4+3-0.efi"),
        folder.join("palabre_4+0-3.efi"),
    )
    .unwrap();
    bench.good(&["health", "--url", &url]);
    let failure = bench.status()["last_failure"].clone();
    assert_eq!(failure["version"], 4);
    assert!(
        failure["why"]
            .as_str()
            .unwrap()
            .contains("ended 3 tries without a report")
    );
    bench.good(&["health", "--url", &url]);
    assert_eq!(bench.status()["history"].as_array().unwrap().len(), 6);
}

#[test]
fn a_stick_does_not_bring_again_what_failed_here() {
    let bench = Bench::new();
    let two = bench.packed(2);
    let tries_end = |v: u32| {
        let folder = bench.at("esp/EFI/Linux");
        let at = |name: &str| folder.join(format!("palabre_{v}{name}.efi"));
        fs::rename(at("+3-0"), at("+0-3")).unwrap();
    };
    let refused = |file: &str| {
        let said = bench.refused(&["install", file]);
        assert!(
            said.starts_with("error[version-failed]: version "),
            "{said}"
        );
    };
    bench.good(&["install", &two]);
    tries_end(2);
    // At the next start of version 1 the stick is still in, and nobody has written the history yet.
    let before = fs::read(bench.at("disk")).unwrap();
    refused(&two);
    assert!(fs::read(bench.at("disk")).unwrap() == before);
    assert_eq!(bench.entries(), ["palabre_1.efi", "palabre_2+0-3.efi"]);
    let history = bench.status()["history"].clone();
    let last = history.as_array().unwrap().last().unwrap();
    assert_eq!(last["what"], "refused");
    assert!(
        last["why"]
            .as_str()
            .unwrap()
            .starts_with("version-failed: ")
    );
    // A newer one comes, and fails too: the history remembers the first.
    let url = answering("200 OK");
    bench.good(&["health", "--url", &url]);
    let three = bench.packed(3);
    bench.good(&["install", &three]);
    refused(&two);
    tries_end(3);
    bench.good(&["health", "--url", &url]);
    refused(&two);
    refused(&three);
    // Neither the boot loader nor the history knows anything against it.
    fs::remove_dir_all(bench.at("var/update")).unwrap();
    bench.good(&["install", &two]);
    // Who asks for it gets it.
    tries_end(2);
    refused(&two);
    bench.good(&["install", &two, "--again"]);
    assert_eq!(bench.entries(), ["palabre_1.efi", "palabre_2+3-0.efi"]);
}

#[test]
fn what_is_wrong_is_refused_and_nothing_is_written() {
    let bench = Bench::new();
    let two = bench.packed(2);
    let disk = fs::read(bench.at("disk")).unwrap();
    let mut bytes = fs::read(&two).unwrap();
    let last = bytes.len() - 5;
    bytes[last] ^= 1;
    fs::write(bench.at("changed.plbu"), &bytes).unwrap();
    fs::write(bench.at("cut.plbu"), &bytes[..last]).unwrap();
    fs::write(bench.at("none.plbu"), "words").unwrap();
    fs::write(bench.at("other.plbu"), vec![7; 5000]).unwrap();
    for (file, code) in [
        ("changed.plbu", "part-hash"),
        ("cut.plbu", "bundle-truncated"),
        ("none.plbu", "bundle-truncated"),
        ("other.plbu", "not-a-bundle"),
        ("absent.plbu", "bundle-unreadable"),
    ] {
        for command in ["verify", "install"] {
            let said = bench.refused(&[command, &bench.text(file)]);
            assert!(said.starts_with(&format!("error[{code}]: ")), "{said}");
        }
    }
    bench.runs(3);
    assert!(
        bench
            .refused(&["install", &two])
            .starts_with("error[version-older]")
    );
    assert!(fs::read(bench.at("disk")).unwrap() == disk);
    assert_eq!(bench.entries(), ["palabre_1.efi"]);
    let history = bench.status()["history"].clone();
    assert!(
        history
            .as_array()
            .unwrap()
            .iter()
            .all(|event| event["what"] == "refused")
    );
}

#[test]
fn the_floor_rises_with_a_version_that_is_good() {
    let bench = Bench::new();
    let key = bench.text("build/bundle-current.key");
    assert!(
        bench
            .pack(5, &["--key", &key, "--floor", "4"])
            .status
            .success()
    );
    bench.good(&["install", &bench.text("5.plbu")]);
    assert_eq!(bench.status()["floor"], 0);
    bench.runs(5);
    bench.good(&["mark-good"]);
    assert_eq!(bench.status()["floor"], 4);
    bench.runs(1);
    assert!(
        bench
            .refused(&["verify", &bench.packed(3)])
            .starts_with("error[version-below-floor]")
    );
}

#[test]
fn the_packer_refuses_what_would_not_boot_or_not_ship() {
    let bench = Bench::new();
    let key = bench.text("build/bundle-current.key");
    let code = |output: Output| {
        let said = String::from_utf8(output.stderr).unwrap();
        said.split(']')
            .next()
            .unwrap_or_default()
            .trim_start_matches("error[")
            .to_owned()
    };
    assert_eq!(
        code(bench.pack(2, &["--key", &key, "--release"])),
        "development-key"
    );
    assert_eq!(code(bench.pack(2, &["--key", &bench.text("root")])), "key");
    assert_eq!(bench.pack(2, &[]).status.code(), Some(2));
    assert_eq!(
        bench
            .pack(2, &["--key", &key, "--wrong", "x"])
            .status
            .code(),
        Some(2)
    );
    let public = bench.text("build/bundle-current.pub");
    let signer = "head -c 64 /dev/zero";
    assert_eq!(
        code(bench.pack(2, &["--signer", signer, "--public", &public])),
        "bundle-unreadable"
    );
    // The kernel image of another root.
    fs::write(bench.at("uki3"), format!("palabre.roothash={}", hash(3))).unwrap();
    let (root, uki, out, hash) = (
        bench.text("root"),
        bench.text("uki3"),
        bench.text("x"),
        hash(2),
    );
    let other = [
        "pack",
        "--root",
        &root,
        "--verity",
        &root,
        "--uki",
        &uki,
        "--roothash",
        &hash,
        "--arch",
        "amd64",
        "--flavour",
        "core",
        "--version",
        "2",
        "--key",
        &key,
        "-o",
        &out,
    ];
    assert_eq!(code(bench.bundle(&other)), "uki-root-hash");
    // The same input makes the same bytes.
    let first = fs::read(bench.packed(2)).unwrap();
    assert!(first == fs::read(bench.packed(2)).unwrap());
    let shown = bench.bundle(&["show", &bench.text("2.plbu")]);
    assert!(
        String::from_utf8(shown.stdout)
            .unwrap()
            .contains("\"channel\": \"development\"")
    );
}

#[test]
fn the_call_is_made_with_the_rights_of_the_user_that_is_named() {
    let bench = Bench::new();
    bench.good(&["install", &bench.packed(2)]);
    bench.runs(2);
    let url = answering("200 OK");
    let trial = [
        "health",
        "--url",
        &url,
        // Root may.
        "--call",
        "/bin/cat /etc/shadow",
        "--call-as",
        "nobody",
        "--every",
        "1",
        "--grace",
        "1",
        "--no-reboot",
    ];
    let said = bench.refused(&trial);
    let expected = match fs::metadata("/proc/self").unwrap().uid() {
        0 => "the call failed: /bin/cat: /etc/shadow: Permission denied",
        // Only root can give rights away, and nothing is called with ours instead.
        _ => "/bin/cat: Operation not permitted",
    };
    assert!(said.contains(expected), "{said}");
    let mut wrong = trial;
    wrong[6] = "no one";
    let refused = bench.update(&wrong);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.starts_with("--call-as: no user no one"), "{said}");
}

#[test]
fn a_box_gets_its_name_and_certificate() {
    let bench = Bench::new();
    fs::create_dir_all(bench.at("root/sys/class/dmi/id")).unwrap();
    fs::write(
        bench.at("root/sys/class/dmi/id/product_serial"),
        "SN-77-A1B2\n",
    )
    .unwrap();
    let root = bench.text("root");
    let said = bench.good(&["provision", "--root", &root]);
    assert!(
        said.starts_with("palabre-a1b2\ncertificate SHA-256 "),
        "{said}"
    );
    assert!(bench.at("var/tls/key.pem").exists());
    fs::create_dir(bench.at("usb")).unwrap();
    fs::write(bench.at("usb/palabre.toml"), "[network]\nshell = true\n").unwrap();
    let said = bench.refused(&["provision", "--root", &root, "--usb", &bench.text("usb")]);
    assert!(
        said.starts_with("error[stick-line]: palabre.toml, line 2: "),
        "{said}"
    );
}

#[test]
fn the_history_tells_of_settings_from_a_stick_and_of_nothing_in_them() {
    let bench = Bench::new();
    let root = bench.text("root");
    let told = |text: &str| {
        fs::write(bench.at("usb/palabre.toml"), text).unwrap();
        bench.update(&["provision", "--root", &root, "--usb", &bench.text("usb")]);
        let history = bench.status()["history"].clone();
        let last = history.as_array().unwrap().last().unwrap().clone();
        let words = |name: &str| last[name].as_str().unwrap_or_default().to_owned();
        (words("what"), words("why"))
    };
    let pair = |what: &str, why: &str| (what.to_owned(), why.to_owned());
    fs::create_dir(bench.at("usb")).unwrap();
    // A start without a stick, and a stick without settings, are no news.
    bench.good(&["provision", "--root", &root]);
    bench.good(&["provision", "--root", &root, "--usb", &bench.text("usb")]);
    assert_eq!(bench.status()["history"], serde_json::json!([]));
    let network = "[network]\naddress = \"192.0.2.10/24\"\ninterface = \"secret0\"\n";
    let both = format!("{network}[time]\nntp = [\"ntp.secret.example\"]\n");
    let taken = |why| pair("settings-taken", why);
    let refused = |why| pair("settings-refused", why);
    assert_eq!(told(&both), taken("[network] [time]"));
    // Left in at a later start, it is no news either.
    let usb = bench.text("usb");
    let said = bench.good(&["provision", "--root", &root, "--usb", &usb, "--left-in"]);
    assert!(!said.contains("from the stick"), "{said}");
    assert_eq!(told(network), taken("[network]"));
    let typo = "[network]\n\nsecret = \"192.0.2.10/24\"\n";
    assert_eq!(told(typo), refused("stick-line: line 3 of palabre.toml"));
    let value = "[network]\naddress = \"secret\"\n";
    assert_eq!(told(value), refused("stick-line: line 2 of palabre.toml"));
    let lone = "[network]\ngateway = \"192.0.2.1\"\n";
    let why = "stick-network: a `gateway` needs an `address`";
    assert_eq!(told(lone), refused(why));
    let certificate = "[certificate]\nchain = \"secret.pem\"\nkey = \"secret.key\"\n";
    let why = "provision-io: entity not found";
    assert_eq!(told(certificate), refused(why));
    for name in ["secret.pem", "secret.key"] {
        fs::write(bench.at("usb").join(name), "secret").unwrap();
    }
    let why = "stick-certificate: a file is no PEM certificate";
    assert_eq!(told(certificate), refused(why));
    fs::write(bench.at("usb/secret.pem"), "x".repeat(70_000)).unwrap();
    let why = "stick-file: a file is longer than 64 KiB, or no text";
    assert_eq!(told(certificate), refused(why));
    assert_eq!(bench.status()["history"].as_array().unwrap().len(), 8);
    let kept = fs::read_to_string(bench.at("var/update/history.jsonl")).unwrap();
    assert!(
        !kept.contains("secret") && !kept.contains("192.0.2"),
        "{kept}"
    );
}

/// The device of a VLAN keeps its number when its file changes: it must go before the file is read again.
#[test]
fn another_vlan_from_a_stick_is_in_force_at_once() {
    let bench = Bench::new();
    let (root, usb) = (bench.text("root"), bench.text("usb"));
    fs::create_dir(&usb).unwrap();
    let mut before = 0;
    let mut bring = |text: &str, more: &[&str]| {
        fs::write(bench.at("usb/palabre.toml"), text).unwrap();
        bench.good(&[&["provision", "--root", &root, "--usb", &usb], more].concat());
        let said = bench.said().split_off(before);
        before += said.len();
        said
    };
    let (delete, reload) = ("networkctl delete palabre-vlan", "networkctl reload");
    let time = "systemctl --no-block try-restart systemd-timesyncd.service";
    let vlan = |id: u16| format!("[network]\ndhcp = true\nvlan = {id}\n");
    assert_eq!(bring(&vlan(20), &[]), [reload, time]);
    assert_eq!(bring(&vlan(20), &[]), [reload, time]);
    assert_eq!(bring(&vlan(30), &[]), [delete, reload, time]);
    assert_eq!(bring("[time]\nzone = \"UTC\"\n", &[]), [reload, time]);
    assert_eq!(
        bring("[network]\ndhcp = true\n", &[]),
        [delete, reload, time]
    );
    // A stick that is passed over disturbs no network, and neither does a start.
    assert_eq!(bring("[network]\ndhcp = true\n", &["--left-in"]), [""; 0]);
    bench.good(&["provision", "--root", &root]);
    assert_eq!(bench.said().len(), before);
}

#[test]
fn settings_that_a_newer_version_kept_are_in_force_as_far_as_they_are_understood() {
    let bench = Bench::new();
    let kept = "[network]\naddress = \"192.0.2.10/24\"\nmtu = 1400\n";
    fs::write(bench.at("var/box.toml"), kept).unwrap();
    let provision = |more: &[&str]| {
        let root = bench.text("root");
        bench.update(&[&["provision", "--root", &root], more].concat())
    };
    let done = provision(&[]);
    assert!(done.status.success(), "{done:?}");
    let said = String::from_utf8(done.stderr).unwrap();
    let name = "kept settings: network.mtu is not understood by this version";
    assert!(said.starts_with(name), "{said}");
    let in_force = bench.at("run/systemd/network/10-palabre.network");
    let in_force = fs::read_to_string(in_force).unwrap();
    assert!(in_force.contains("Address=192.0.2.10/24"), "{in_force}");
    // The same on a stick is refused.
    fs::create_dir(bench.at("usb")).unwrap();
    fs::write(bench.at("usb/palabre.toml"), kept).unwrap();
    let refused = provision(&["--usb", &bench.text("usb")]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.starts_with("error[stick-line]"), "{said}");
}

#[test]
fn secure_boot_refuses_what_the_firmware_would_not_start() {
    let bench = Bench::new();
    let two = bench.packed(2);
    let before = fs::read(bench.at("disk")).unwrap();
    let variable = bench.at("efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c");
    fs::write(&variable, [6, 0, 0, 0, 1]).unwrap();
    // The firmware believes nobody.
    let trusted = bench.at("efivars/db-d719b2cb-3d3a-4596-a3bc-dad00e67656f");
    fs::write(&trusted, [0x27, 0, 0, 0]).unwrap();
    let said = bench.refused(&["install", &two]);
    assert!(said.contains("error[secure-boot]"), "{said}");
    assert_eq!(fs::read(bench.at("disk")).unwrap(), before);
    assert_eq!(bench.entries(), ["palabre_1.efi"]);
    fs::write(&variable, [6, 0, 0, 0, 0]).unwrap();
    bench.good(&["install", &two]);
}
