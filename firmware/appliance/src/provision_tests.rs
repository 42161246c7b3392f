//! Sticks that are right, wrong and hostile.

use aws_lc_rs::digest;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use palabre_init::mutate::Seeded;

use super::*;

const FULL: &str = r#"
[network]
address = "192.0.2.10/24"
gateway = "192.0.2.1"
dns = ["192.0.2.53", "2001:db8::53"]
vlan = 20
interface = "enp1s0"

[time]
ntp = ["ntp.example.org", "192.0.2.123"]

[certificate]
chain = "box.pem"
key = "box.key"
"#;

fn files(text: &str) -> Vec<(String, String)> {
    let files = Stick::parse(text).unwrap().files();
    files
        .into_iter()
        .map(|(path, text)| (path.display().to_string(), text))
        .collect()
}

#[test]
fn a_stick_becomes_files_of_systemd() {
    let files = files(FULL);
    let expected = [
        (
            "systemd/network/10-palabre-vlan.netdev",
            "[NetDev]\nName=palabre-vlan\nKind=vlan\n\n[VLAN]\nId=20\n",
        ),
        (
            "systemd/network/11-palabre-vlan.network",
            "[Match]\nName=palabre-vlan\n\n[Network]\nDHCP=no\nLinkLocalAddressing=ipv6\n\
             Address=192.0.2.10/24\nGateway=192.0.2.1\nDNS=192.0.2.53\nDNS=2001:db8::53\n",
        ),
        (
            "systemd/network/10-palabre.network",
            "[Match]\nName=enp1s0\n\n[Network]\nVLAN=palabre-vlan\nDHCP=no\nLinkLocalAddressing=no\n",
        ),
        (
            "systemd/timesyncd.conf.d/10-palabre.conf",
            "[Time]\nNTP=ntp.example.org 192.0.2.123\n",
        ),
    ];
    let expected: Vec<_> = expected
        .map(|(path, text)| (path.to_owned(), text.to_owned()))
        .into();
    assert_eq!(files, expected);
}

#[test]
fn dhcp_is_the_default() {
    let files = files("[network]\ndns = [\"192.0.2.53\"]\n");
    assert_eq!(files.len(), 1);
    assert_eq!(
        files[0].1,
        "[Match]\nType=ether\nKind=!*\n\n[Network]\nDHCP=yes\nDNS=192.0.2.53\n"
    );
    assert!(Stick::parse("").unwrap().files().is_empty());
}

#[test]
fn what_is_not_understood_is_refused_with_its_line() {
    for (text, line) in [
        ("[network]\ndhcp = true\nadress = \"192.0.2.1/24\"\n", 3),
        ("[network]\naddress = \"192.0.2.10\"\n", 2),
        ("[network]\naddress = \"192.0.2.10/33\"\n", 2),
        ("[network]\naddress = \"192.0.2.10/24\\nDHCP=yes\"\n", 2),
        ("[network]\n\ngateway = \"router\"\n", 3),
        ("[network]\nvlan = 4095\n", 2),
        ("[network]\nvlan = 0\n", 2),
        ("[network]\ninterface = \"../x\"\n", 2),
        ("[network]\ninterface = \"a\\n[Match]\"\n", 2),
        ("[time]\nntp = [\"a b\"]\n", 2),
        ("[time]\nntp = [\"-x\"]\n", 2),
        (
            "[certificate]\nchain = \"../../etc/shadow\"\nkey = \"k\"\n",
            2,
        ),
        ("[certificate]\nchain = \"c\"\nkey = \"/etc/shadow\"\n", 3),
        ("[shell]\nopen = true\n", 1),
        ("[network\n", 1),
    ] {
        let refused = Stick::parse(text).unwrap_err();
        assert_eq!(refused.code(), "stick-line", "{text}: {refused}");
        let said = refused.to_string();
        assert!(
            said.starts_with(&format!("palabre.toml, line {line}: ")),
            "{text}: {said}"
        );
    }
    for (text, code) in [
        (
            "[network]\ndhcp = true\naddress = \"192.0.2.10/24\"\n",
            "stick-network",
        ),
        ("[network]\ndhcp = false\n", "stick-network"),
        ("[network]\ngateway = \"192.0.2.1\"\n", "stick-network"),
        (
            "[network]\naddress = \"192.0.2.1/24\"\ngateway = \"2001:db8::1\"\n",
            "stick-network",
        ),
        (
            "[network]\naddress = \"192.0.2.1/24\"\ngateway = \"192.0.2.1\"\n",
            "stick-network",
        ),
        ("[time]\nntp = []\n", "stick-servers"),
    ] {
        assert_eq!(Stick::parse(text).unwrap_err().code(), code, "{text}");
    }
}

/// A damaged stick is refused or makes files whose every line has a known start.
#[test]
fn damage_cannot_add_lines() {
    let mut seeded = Seeded(77);
    let known = [
        "[",
        "Name=",
        "Kind=",
        "Id=",
        "DHCP=",
        "LinkLocalAddressing=",
        "Address=",
        "Gateway=",
        "DNS=",
        "VLAN=",
        "NTP=",
        "Type=",
    ];
    for _ in 0..20_000 {
        let mut text = FULL.as_bytes().to_vec();
        seeded.damage(&mut text);
        let Ok(stick) = Stick::parse(&String::from_utf8_lossy(&text)) else {
            continue;
        };
        for (path, content) in stick.files() {
            assert!(path.starts_with("systemd") && !path.display().to_string().contains(".."));
            for line in content.lines().filter(|line| !line.is_empty()) {
                assert!(known.iter().any(|start| line.starts_with(start)), "{line}");
            }
        }
    }
}

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

#[test]
fn a_first_start_makes_a_certificate_and_a_second_keeps_it() {
    let (folder, places) = places();
    let first = provision(&places, Some(&folder.path().join("stick")), 1_790_000_000).unwrap();
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
    let done = provision(&places, Some(&stick), 0).unwrap();
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

#[test]
fn a_stick_with_one_mistake_changes_nothing() {
    let (folder, places) = places();
    let stick = folder.path().join("stick");
    fs::write(stick.join("palabre.toml"), FULL).unwrap();
    fs::write(stick.join("box.pem"), "no certificate").unwrap();
    fs::write(stick.join("box.key"), "no key").unwrap();
    assert_eq!(
        provision(&places, Some(&stick), 0).unwrap_err().code(),
        "stick-certificate"
    );
    let (chain, key) = self_signed("box", 1_790_000_000).unwrap();
    let (_, other) = self_signed("box", 1_790_000_000).unwrap();
    fs::write(stick.join("box.pem"), chain).unwrap();
    fs::write(stick.join("box.key"), other).unwrap();
    let refused = provision(&places, Some(&stick), 0).unwrap_err();
    assert_eq!(refused.code(), "stick-certificate");
    assert!(refused.to_string().contains("do not belong together"));
    let sealed = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    fs::write(stick.join("box.key"), sealed).unwrap();
    assert_eq!(
        provision(&places, Some(&stick), 0).unwrap_err().code(),
        "stick-certificate"
    );
    fs::write(stick.join("palabre.toml"), "x".repeat(70_000)).unwrap();
    assert_eq!(
        provision(&places, Some(&stick), 0).unwrap_err().code(),
        "stick-file"
    );
    fs::write(stick.join("palabre.toml"), [0xff, 0xfe]).unwrap();
    assert_eq!(
        provision(&places, Some(&stick), 0).unwrap_err().code(),
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
fn settings_are_written_as_they_are_read() {
    for text in [FULL, "[time]\nzone = \"Europe/Paris\"\n", ""] {
        let stick = Stick::parse(text).unwrap();
        let written = toml::to_string(&stick).unwrap();
        assert_eq!(Stick::parse(&written).unwrap(), stick, "{written}");
        let json = serde_json::to_string(&stick.network).unwrap();
        assert_eq!(
            serde_json::from_str::<Option<Network>>(&json).unwrap(),
            stick.network
        );
    }
}

#[test]
fn a_zone_is_known_or_refused() {
    let zone = |name: &str| Stick::parse(&format!("[time]\nzone = \"{name}\"\n"));
    for good in ["UTC", "Europe/Paris", "America/Argentina/Buenos_Aires"] {
        assert!(zone(good).is_ok(), "{good}");
    }
    for wrong in [
        "",
        "Paris",
        "Europe/Atlantis",
        "../etc/passwd",
        "UTC\\nNTP=x",
    ] {
        assert_eq!(zone(wrong).unwrap_err().code(), "stick-line", "{wrong}");
    }
    let at = |name: &str, unix| Zone(name.to_owned()).minute_of_day(unix);
    // 2026-01-15 and 2026-07-15, noon in Greenwich.
    assert_eq!(at("UTC", 1_768_478_400), Some(12 * 60));
    assert_eq!(at("Europe/Paris", 1_768_478_400), Some(13 * 60));
    assert_eq!(at("Europe/Paris", 1_784_116_800), Some(14 * 60));
    assert_eq!(at("Asia/Kolkata", 1_784_116_800), Some(17 * 60 + 30));
    assert_eq!(at("Europe/Paris", i64::MAX), None);
}
