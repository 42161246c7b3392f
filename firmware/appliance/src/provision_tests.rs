//! Boxes that start with a stick, after one, and without.

use aws_lc_rs::digest;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::*;
use crate::stick::tests::FULL;

#[test]
fn the_name_comes_from_the_serial() {
    let name = |serials: &[&str], id: &str| {
        let serials: Vec<String> = serials.iter().map(|s| (*s).to_owned()).collect();
        host_name(&serials, id)
    };
    assert_eq!(name(&["CZ-1234-AB7F\n"], "0"), "palabre-ab7f");
    assert_eq!(name(&["10000000deadbeef\0"], "0"), "palabre-beef");
    for meaningless in [
        "To be filled by O.E.M.",
        "Default string",
        "None",
        "0000000000",
        "",
        "n/a",
        "123456789",
        "é",
    ] {
        assert_eq!(
            name(&[meaningless], "6c1f00aa\n"),
            "palabre-00aa",
            "{meaningless}"
        );
    }
    assert_eq!(name(&["None", "XYZ98765"], "0"), "palabre-8765");
    assert_eq!(name(&[], ""), "palabre");
}

fn places() -> (tempfile::TempDir, Places) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("root/etc")).unwrap();
    fs::write(
        at("root/etc/machine-id"),
        "0123456789abcdef0123456789abcdef\n",
    )
    .unwrap();
    fs::create_dir(at("stick")).unwrap();
    let places = Places {
        root: at("root"),
        run: at("run"),
        state: at("state"),
    };
    (folder, places)
}

fn plugged(folder: &Path) -> Plugged<'_> {
    let left_in = false;
    Plugged { folder, left_in }
}

fn left_in(folder: &Path) -> Plugged<'_> {
    let left_in = true;
    Plugged { folder, left_in }
}

#[test]
fn a_first_start_makes_a_certificate_and_a_second_keeps_it() {
    let (folder, places) = places();
    let first = provision(
        &places,
        Some(plugged(&folder.path().join("stick"))),
        1_790_000_000,
    )
    .unwrap();
    assert_eq!((first.host.as_str(), first.stick), ("palabre-cdef", false));
    let print = first.fingerprint.clone().unwrap();
    assert_eq!(print.len(), 32 * 3 - 1);
    assert_eq!(provision(&places, None, 0).unwrap(), first);
    let shown = fs::read_to_string(places.run.join("palabre/fingerprint")).unwrap();
    assert_eq!(shown.trim(), print);
    let key = fs::metadata(places.state.join("tls/key.pem")).unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&key.permissions()) & 0o777,
        0o640
    );
}

#[test]
fn the_screen_of_a_room_is_told_which_key_to_trust() {
    use rcgen::PublicKeyData as _;
    let (_folder, places) = places();
    provision(&places, None, 1_790_000_000).unwrap();
    let told = fs::read_to_string(places.run.join("palabre/pin")).unwrap();
    let key = fs::read_to_string(places.state.join("tls/key.pem")).unwrap();
    let key = rcgen::KeyPair::from_pem(&key).unwrap();
    let hash = digest::digest(&digest::SHA256, &key.subject_public_key_info());
    assert_eq!(told.trim_end(), BASE64_STANDARD.encode(hash));
    assert_eq!(
        pin("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"),
        None
    );
    // Another certificate, while the box runs.
    let (chain, key) = self_signed("box", 1_790_000_000).unwrap();
    put_certificate(&places, &chain, &key).unwrap();
    let told = |name: &str| fs::read_to_string(places.run.join("palabre").join(name)).unwrap();
    assert_eq!(told("pin").trim_end(), pin(&chain).unwrap());
    assert_eq!(told("fingerprint").trim_end(), fingerprint(&chain).unwrap());
}

#[test]
fn a_kept_pair_that_serves_nobody_is_made_anew() {
    let (_folder, places) = places();
    let first = provision(&places, None, 1_790_000_000).unwrap();
    let at = |name: &str| places.state.join("tls").join(name);
    let (_, other) = self_signed("box", 1_790_000_000).unwrap();
    let mut last = first.fingerprint.unwrap();
    for (name, spoilt) in [
        ("key.pem", other.as_str()),
        ("key.pem", ""),
        ("certificate.pem", "-----BEGIN CERTIFICATE-----\nAAAA"),
    ] {
        fs::write(at(name), spoilt).unwrap();
        let next = provision(&places, None, 1_790_000_000).unwrap();
        let next = next.fingerprint.unwrap();
        assert_ne!(next, last, "{name}");
        let kept = |name: &str| fs::read_to_string(at(name)).unwrap();
        assert!(serves(&kept("certificate.pem"), &kept("key.pem")));
        last = next;
    }
    let again = provision(&places, None, 1_790_000_000).unwrap();
    assert_eq!(again.fingerprint, Some(last), "a good pair is kept");
}

#[test]
fn a_stick_is_remembered_when_it_is_gone() {
    let (folder, places) = places();
    let stick = folder.path().join("stick");
    let (chain, key) = self_signed("box.example.org", 1_790_000_000).unwrap();
    fs::write(stick.join("palabre.toml"), FULL).unwrap();
    fs::write(stick.join("box.pem"), &chain).unwrap();
    fs::write(stick.join("box.key"), &key).unwrap();
    let done = provision(&places, Some(plugged(&stick)), 0).unwrap();
    assert!(done.stick);
    assert_eq!(done.fingerprint, fingerprint(&chain));
    fs::remove_dir_all(&places.run).unwrap();
    let again = provision(&places, None, 0).unwrap();
    assert!(!again.stick);
    assert_eq!(again.fingerprint, done.fingerprint);
    assert!(
        places
            .run
            .join("systemd/network/10-palabre.network")
            .exists()
    );
}

/// A stick with only a certificate must not take a box off its network.
#[test]
fn what_a_stick_does_not_name_stays() {
    let (folder, places) = places();
    let stick = folder.path().join("stick");
    let bring = |text: &str| {
        fs::write(stick.join("palabre.toml"), text).unwrap();
        provision(&places, Some(plugged(&stick)), 0).unwrap()
    };
    let in_force = |name: &str| fs::read_to_string(places.run.join(name)).unwrap_or_default();
    let network = || in_force("systemd/network/10-palabre.network");
    let time = || in_force("systemd/timesyncd.conf.d/10-palabre.conf");
    let (chain, key) = self_signed("box.example.org", 1_790_000_000).unwrap();
    fs::write(stick.join("box.pem"), &chain).unwrap();
    fs::write(stick.join("box.key"), &key).unwrap();
    bring("[network]\naddress = \"192.0.2.10/24\"\n[time]\nntp = [\"192.0.2.123\"]\n");
    let done = bring("[certificate]\nchain = \"box.pem\"\nkey = \"box.key\"\n");
    assert_eq!(done.sections, ["[certificate]"]);
    assert_eq!(done.fingerprint, fingerprint(&chain));
    for start in 0..2 {
        assert!(network().contains("192.0.2.10/24"), "start {start}");
        assert!(time().contains("192.0.2.123"), "start {start}");
        fs::remove_dir_all(&places.run).unwrap();
        let next = provision(&places, None, 0).unwrap();
        assert_eq!(next.fingerprint, done.fingerprint);
    }
    // A section that is named is taken as a whole.
    bring("[network]\ndhcp = true\n");
    assert!(network().contains("DHCP=yes") && !network().contains("192.0.2.10"));
    assert!(time().contains("192.0.2.123"));
    bring("");
    assert!(network().contains("DHCP=yes"));
}

/// A full `/var` refuses what is to be kept.
#[test]
fn a_stick_that_cannot_be_kept_is_not_put_in_force() {
    let (folder, places) = places();
    let stick = folder.path().join("stick");
    let network = places.run.join("systemd/network/10-palabre.network");
    fs::create_dir_all(places.state.join("box.toml.new/in-the-way")).unwrap();
    fs::write(
        stick.join("palabre.toml"),
        "[network]\naddress = \"192.0.2.10/24\"\n",
    )
    .unwrap();
    let refused = provision(&places, Some(plugged(&stick)), 0).unwrap_err();
    assert!(matches!(refused, Refused::Io(..)), "{refused:?}");
    assert!(!network.exists());
    fs::remove_dir_all(places.state.join("box.toml.new")).unwrap();
    provision(&places, Some(plugged(&stick)), 0).unwrap();
    assert!(network.exists());
}

#[test]
fn a_stick_leaves_a_network_that_is_tried_in_force_unless_it_brings_one() {
    let (folder, places) = places();
    let stick = folder.path().join("stick");
    let bring = |text: &str| {
        fs::write(stick.join("palabre.toml"), text).unwrap();
        provision(&places, Some(plugged(&stick)), 0).unwrap();
        let file = places.run.join("systemd/network/10-palabre.network");
        fs::read_to_string(file).unwrap()
    };
    bring("[network]\naddress = \"192.0.2.10/24\"\n");
    let tried = "[network]\naddress = \"192.0.2.20/24\"\n";
    fs::create_dir_all(places.run.join("palabre")).unwrap();
    fs::write(places.run.join(TRIED), tried).unwrap();
    assert!(bring("[time]\nntp = [\"192.0.2.123\"]\n").contains("192.0.2.20"));
    let kept = fs::read_to_string(places.state.join("box.toml")).unwrap();
    assert!(kept.contains("192.0.2.10") && kept.contains("192.0.2.123"));
    assert!(bring("[network]\naddress = \"192.0.2.30/24\"\n").contains("192.0.2.30"));
    assert!(!places.run.join(TRIED).exists());
}

#[test]
fn a_stick_that_was_left_in_does_not_undo_what_was_set_since() {
    let (folder, places) = places();
    let stick = folder.path().join("stick");
    let bring = |text: &str| fs::write(stick.join("palabre.toml"), text).unwrap();
    let network = || {
        let file = places.run.join("systemd/network/10-palabre.network");
        fs::read_to_string(file).unwrap_or_default()
    };
    bring("[network]\naddress = \"192.0.2.10/24\"\n");
    // It was in at the first start: nothing was taken before.
    assert!(provision(&places, Some(left_in(&stick)), 0).unwrap().stick);
    // What the page does.
    let kept = "[network]\naddress = \"198.51.100.7/24\"\ndns = []\n";
    fs::write(places.state.join("box.toml"), kept).unwrap();
    let next = provision(&places, Some(left_in(&stick)), 0).unwrap();
    assert!(!next.stick && next.sections.is_empty());
    assert!(network().contains("198.51.100.7"));
    // Plugged in while the box runs, it is somebody's wish.
    assert!(provision(&places, Some(plugged(&stick)), 0).unwrap().stick);
    assert!(network().contains("192.0.2.10"));
    // Another text, another certificate beside the same text: not what was taken.
    bring("[network]\naddress = \"192.0.2.11/24\"\n");
    assert!(provision(&places, Some(left_in(&stick)), 0).unwrap().stick);
    bring("[certificate]\nchain = \"box.pem\"\nkey = \"box.key\"\n");
    for _ in 0..2 {
        let (chain, key) = self_signed("box.example.org", 1_790_000_000).unwrap();
        fs::write(stick.join("box.pem"), &chain).unwrap();
        fs::write(stick.join("box.key"), &key).unwrap();
        let done = provision(&places, Some(left_in(&stick)), 0).unwrap();
        assert_eq!(done.fingerprint, fingerprint(&chain));
        assert!(!provision(&places, Some(left_in(&stick)), 0).unwrap().stick);
    }
    assert!(network().contains("192.0.2.11"));
}

/// Each step on the disk of the box fails once, as if the power had gone before it; then the box
/// starts with the stick still in, or without it, or with the one that was taken before.
#[test]
fn a_power_cut_before_every_step_leaves_a_stick_that_is_taken_again() {
    const OLD: &str = "[network]\naddress = \"192.0.2.10/24\"\n";
    const NEW: &str = "[network]\naddress = \"198.51.100.7/24\"\n[certificate]\nchain = \"box.pem\"\nkey = \"box.key\"\n";
    // What stands in the way of each step, and whether the new network is kept by then.
    let cuts = [
        ("stick.sha256/in-the-way", false),
        ("box.toml.new/in-the-way", false),
        ("tls.new", true),
        ("stick.sha256.new/in-the-way", true),
    ];
    for (in_the_way, is_kept) in cuts {
        let (folder, places) = places();
        let (old, new) = (folder.path().join("stick"), folder.path().join("new"));
        fs::create_dir(&new).unwrap();
        fs::write(old.join("palabre.toml"), OLD).unwrap();
        let (chain, key) = self_signed("box.example.org", 1_790_000_000).unwrap();
        fs::write(new.join("palabre.toml"), NEW).unwrap();
        fs::write(new.join("box.pem"), &chain).unwrap();
        fs::write(new.join("box.key"), &key).unwrap();
        let first = provision(&places, Some(plugged(&old)), 0).unwrap();
        let digest = fs::read(places.state.join("stick.sha256")).unwrap();

        let obstacle = places.state.join(in_the_way);
        if in_the_way.starts_with("stick.sha256/") {
            fs::remove_file(places.state.join("stick.sha256")).unwrap();
        }
        match obstacle.parent().filter(|folder| *folder != places.state) {
            Some(_) => fs::create_dir_all(&obstacle).unwrap(),
            None => fs::write(&obstacle, "").unwrap(),
        }
        provision(&places, Some(plugged(&new)), 0).unwrap_err();
        match obstacle.parent().filter(|folder| *folder != places.state) {
            Some(folder) => fs::remove_dir_all(folder).unwrap(),
            None => fs::remove_file(&obstacle).unwrap(),
        }
        if in_the_way.starts_with("stick.sha256/") {
            fs::write(places.state.join("stick.sha256"), digest).unwrap();
        }

        let network = || {
            let file = places.run.join("systemd/network/10-palabre.network");
            fs::read_to_string(file).unwrap()
        };
        fs::remove_dir_all(&places.run).unwrap();
        let without = provision(&places, None, 0).unwrap();
        assert_eq!(network().contains("198.51.100.7"), is_kept, "{in_the_way}");
        let both = [first.fingerprint, fingerprint(&chain)];
        assert!(both.contains(&without.fingerprint), "{in_the_way}");
        // The one before is what was taken last as long as nothing of another was.
        let before = fs::read(places.state.join("box.toml")).unwrap();
        let again = provision(&places, Some(left_in(&old)), 0).unwrap();
        let is_last = in_the_way.starts_with("stick.sha256/");
        assert_eq!(again.stick, !is_last, "{in_the_way}");
        fs::write(places.state.join("box.toml"), before).unwrap();
        let whole = provision(&places, Some(left_in(&new)), 0).unwrap();
        assert!(whole.stick, "{in_the_way}");
        assert!(network().contains("198.51.100.7"), "{in_the_way}");
        assert_eq!(whole.fingerprint, fingerprint(&chain), "{in_the_way}");
    }
}

#[test]
fn a_stick_with_one_mistake_changes_nothing() {
    let (folder, places) = places();
    let stick = folder.path().join("stick");
    fs::write(stick.join("palabre.toml"), FULL).unwrap();
    fs::write(stick.join("box.pem"), "no certificate").unwrap();
    fs::write(stick.join("box.key"), "no key").unwrap();
    assert_eq!(
        provision(&places, Some(plugged(&stick)), 0)
            .unwrap_err()
            .code(),
        "stick-certificate"
    );
    let (chain, key) = self_signed("box", 1_790_000_000).unwrap();
    let (_, other) = self_signed("box", 1_790_000_000).unwrap();
    fs::write(stick.join("box.pem"), chain).unwrap();
    fs::write(stick.join("box.key"), other).unwrap();
    let refused = provision(&places, Some(plugged(&stick)), 0).unwrap_err();
    assert_eq!(refused.code(), "stick-certificate");
    assert!(refused.to_string().contains("do not belong together"));
    let sealed = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    fs::write(stick.join("box.key"), sealed).unwrap();
    assert_eq!(
        provision(&places, Some(plugged(&stick)), 0)
            .unwrap_err()
            .code(),
        "stick-certificate"
    );
    fs::write(stick.join("palabre.toml"), "x".repeat(70_000)).unwrap();
    assert_eq!(
        provision(&places, Some(plugged(&stick)), 0)
            .unwrap_err()
            .code(),
        "stick-file"
    );
    fs::write(stick.join("palabre.toml"), [0xff, 0xfe]).unwrap();
    assert_eq!(
        provision(&places, Some(plugged(&stick)), 0)
            .unwrap_err()
            .code(),
        "stick-file"
    );
    assert!(!places.run.exists() && !places.state.exists());
}

#[test]
fn what_is_no_longer_asked_for_goes() {
    let (_folder, places) = places();
    let at = |name: &str| places.run.join(name);
    apply(&places.run, &Stick::parse(FULL).unwrap()).unwrap();
    assert!(FILES.iter().all(|name| at(name).exists()));
    fs::write(at("systemd/network/80-other.network"), "not ours").unwrap();
    let plain = Stick::parse("[network]\ndhcp = true\n").unwrap();
    apply(&places.run, &plain).unwrap();
    let left: Vec<&str> = FILES.into_iter().filter(|name| at(name).exists()).collect();
    assert_eq!(left, ["systemd/network/10-palabre.network"]);
    apply(&places.run, &Stick::default()).unwrap();
    assert!(!at("systemd/network/10-palabre.network").exists());
    assert!(at("systemd/network/80-other.network").exists());
}

#[test]
fn the_program_has_what_the_last_stick_of_its_section_said() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, places) = places();
    let stick = folder.path().join("stick");
    let brings = |text: &str| {
        fs::write(stick.join("palabre.toml"), text).unwrap();
        provision(&places, Some(plugged(&stick)), 0).unwrap()
    };
    let file = places.run.join(VARIABLES);
    let told = || fs::read_to_string(&file).unwrap_or_default();
    let trunk = "PALABRE__SIP__TRUNKS=\"192.0.2.60\"\n";
    let shown = "PALABRE__HTTP__PHONE_NUMBER=\"+33 1 99 00 00 00\"\n";

    let done = brings("[sip]\ntrunks = [\"192.0.2.60\"]\n");
    assert!(done.program_changed);
    assert_eq!(done.sections, ["[sip]"]);
    assert_eq!(told(), trunk);
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "a number is nobody else's");
    // The same once more, and what is no matter of the program: it need not start anew.
    assert!(!brings("[sip]\ntrunks = [\"192.0.2.60\"]\n").program_changed);
    assert!(!brings("[time]\nzone = \"Europe/Paris\"\n").program_changed);
    assert_eq!(told(), trunk);
    // Another section leaves it as it is, and a start without a stick has both.
    assert!(brings("[http]\nphone_number = \"+33 1 99 00 00 00\"\n").program_changed);
    assert_eq!(told(), format!("{shown}{trunk}"));
    fs::remove_dir_all(&places.run).unwrap();
    provision(&places, None, 0).unwrap();
    assert_eq!(told(), format!("{shown}{trunk}"));
    // An empty one puts it back as it was delivered.
    assert!(brings("[sip]\n").program_changed);
    assert_eq!(told(), shown);
    assert!(brings("[http]\n").program_changed);
    assert!(!file.exists());
    // What is refused changes nothing.
    fs::write(stick.join("palabre.toml"), "[sip]\ntrunks = [\"x\"]\n").unwrap();
    provision(&places, Some(plugged(&stick)), 0).unwrap_err();
    assert!(!file.exists());
}
