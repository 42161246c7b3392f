//! Settings as they are kept, read by whatever version runs: perhaps an older one than wrote them.
//!
//! A stick is read strictly, because somebody stands in front of it who can mend it. What is kept is
//! read for what it still says: a box that came back from a newer version must find its network, and
//! nobody is there to be told of a field that this one does not know.

use std::fs::File;
use std::io;
use std::path::Path;

use toml::{Table, Value};

use crate::bundle::printable;
use crate::stick::{MAX_FILE, Stick};

/// The sections, and the keys of each.
const KEYS: [(&str, &[&str]); 6] = [
    (
        "network",
        &["dhcp", "address", "gateway", "dns", "vlan", "interface"],
    ),
    ("time", &["ntp", "zone"]),
    ("certificate", &["chain", "key"]),
    (
        "http",
        &[
            "public_url",
            "phone_number",
            "sip_address",
            "metrics_from",
            "trusted_proxies",
        ],
    ),
    ("media", &["announced"]),
    ("sip", &["trunks", "numbers", "advertise"]),
];
/// The longest name that is said, in characters.
const MAX_NAME: usize = 64;

/// Waits until nobody else reads the settings in `folder` to write them changed; others wait while this
/// file is open. A stick and an administrator may each change a section at the same time.
///
/// # Errors
/// When the folder cannot be made, opened or locked.
pub fn alone(folder: &Path) -> io::Result<File> {
    std::fs::create_dir_all(folder)?;
    let folder = File::open(folder)?;
    rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive)?;
    Ok(folder)
}

/// Reads kept settings. Answers too what is passed over: names of keys, of a section whose values are
/// not understood, or of the file.
pub fn read(text: &str) -> (Stick, Vec<String>) {
    let table: Option<Table> = match text.len() as u64 <= MAX_FILE {
        true => text.parse().ok(),
        false => None,
    };
    let Some(table) = table else {
        return (Stick::default(), vec!["the whole file".to_owned()]);
    };
    let mut known = Table::new();
    let mut passed_over = Vec::new();
    for (name, value) in table {
        let section = KEYS.iter().find(|(section, _)| *section == name);
        let (Some((_, keys)), Value::Table(mut section)) = (section, value) else {
            passed_over.push(printable(&name, MAX_NAME));
            continue;
        };
        let was_empty = section.is_empty();
        section.retain(|key, _| {
            let is_known = keys.contains(&key);
            if !is_known {
                passed_over.push(printable(&format!("{name}.{key}"), MAX_NAME));
            }
            is_known
        });
        if section.is_empty() && !was_empty {
            continue;
        }
        let alone = Table::from_iter([(name.clone(), Value::Table(section))]);
        match Stick::parse(&alone.to_string()) {
            Ok(_) => known.extend(alone),
            Err(_) => passed_over.push(name),
        }
    }
    // Each section was good on its own, and they do not depend on each other.
    (
        Stick::parse(&known.to_string()).unwrap_or_default(),
        passed_over,
    )
}

#[cfg(test)]
mod tests {
    use palabre_init::mutate::Seeded;

    use super::*;

    const FULL: &str = "[network]\naddress = \"192.0.2.10/24\"\ngateway = \"192.0.2.1\"\n\
        dns = [\"192.0.2.53\"]\nvlan = 20\ninterface = \"enp1s0\"\n\
        [time]\nntp = [\"ntp.example.org\"]\nzone = \"Europe/Paris\"\n\
        [certificate]\nchain = \"box.pem\"\nkey = \"box.key\"\n\
        [http]\npublic_url = \"https://meet.example.org\"\nphone_number = \"+33 1 99 00 00 00\"\n\
        sip_address = \"sip:meet@example.org\"\nmetrics_from = [\"192.0.2.70/32\"]\ntrusted_proxies = [\"192.0.2.0/24\"]\n\
        [media]\nannounced = [\"203.0.113.1:7880\"]\n\
        [sip]\ntrunks = [\"192.0.2.60\"]\nnumbers = [\"199000000\"]\nadvertise = \"203.0.113.1\"\n";

    #[test]
    fn what_this_version_writes_it_reads_whole() {
        for text in [FULL, "[network]\ndhcp = true\n", ""] {
            let stick = Stick::parse(text).unwrap();
            assert_eq!(read(text), (stick.clone(), vec![]), "{text}");
            let written = toml::to_string(&stick).unwrap();
            assert_eq!(read(&written), (stick, vec![]), "{written}");
        }
        // No key of this version is unknown here.
        let stick = Stick::parse(FULL).unwrap();
        let mut network = stick.network.clone().unwrap();
        network.dhcp = Some(false);
        let stick = Stick {
            network: Some(network),
            ..stick
        };
        let table = Table::try_from(stick).unwrap();
        for (section, keys) in KEYS {
            let written = table[section].as_table().unwrap().keys();
            let mut written: Vec<&str> = written.map(String::as_str).collect();
            let mut keys = keys.to_vec();
            written.sort_unstable();
            keys.sort_unstable();
            assert_eq!(written, keys);
        }
    }

    #[test]
    fn what_a_newer_version_adds_is_passed_over_by_name() {
        let whole = Stick::parse(FULL).unwrap();
        for (newer, names) in [
            (
                FULL.replace("vlan", "mtu = 1400\nvlan"),
                vec!["network.mtu"],
            ),
            (
                format!("{FULL}\n[proxy]\nurl = \"http://192.0.2.9\"\n"),
                vec!["proxy"],
            ),
            (
                format!(
                    "colour = \"blue\"\n{}",
                    FULL.replace("zone", "ptp = true\nzone")
                ),
                vec!["colour", "time.ptp"],
            ),
        ] {
            let (stick, passed_over) = read(&newer);
            assert_eq!(stick, whole, "{newer}");
            assert_eq!(passed_over, names);
            assert!(Stick::parse(&newer).is_err(), "a stick is read strictly");
        }
        // A section that only has new keys, one whose values are new, and no TOML at all.
        let (stick, passed_over) = read("[time]\nptp = true\n[network]\nvlan = 9\n");
        assert_eq!(stick.sections(), ["[network]"]);
        assert_eq!(passed_over, ["time.ptp"]);
        let (stick, passed_over) = read("[network]\naddress = \"auto\"\n[time]\nzone = \"UTC\"\n");
        assert_eq!(stick.sections(), ["[time]"]);
        assert_eq!(passed_over, ["network"]);
        for text in ["[network", &format!("# {}", "x".repeat(70_000))] {
            assert_eq!(
                read(text),
                (Stick::default(), vec!["the whole file".to_owned()])
            );
        }
    }

    #[test]
    fn damage_is_never_a_panic_and_says_nothing_that_moves_a_cursor() {
        let mut seeded = Seeded(5);
        for _ in 0..10_000 {
            let mut text = FULL.as_bytes().to_vec();
            seeded.damage(&mut text);
            let (_, passed_over) = read(&String::from_utf8_lossy(&text));
            for name in passed_over {
                assert!(name.chars().count() <= MAX_NAME && !name.contains(char::is_control));
            }
        }
    }
}
