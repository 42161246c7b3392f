//! Sticks that are right, wrong and hostile.

use palabre_init::mutate::Seeded;

use super::*;

pub(crate) const FULL: &str = r#"
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

[http]
public_url = "https://meet.example.org"
phone_number = "+33 1 99 00 00 00"
sip_address = "sip:meet@example.org"
metrics_from = ["192.0.2.70", "192.0.2.128/25"]
trusted_proxies = ["192.0.2.80"]

[media]
announced = ["203.0.113.1:7880", "[2001:db8::1]:7880"]

[sip]
trunks = ["192.0.2.60", "169.254.1.61"]
numbers = ["199000000"]
advertise = "203.0.113.1"
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
        (
            "palabre/settings.env",
            "PALABRE__HTTP__PUBLIC_URL=\"https://meet.example.org\"\n\
             PALABRE__HTTP__PHONE_NUMBER=\"+33 1 99 00 00 00\"\n\
             PALABRE__HTTP__SIP_ADDRESS=\"sip:meet@example.org\"\n\
             PALABRE__HTTP__METRICS_FROM=\"127.0.0.0/8,::1/128,192.0.2.70/32,192.0.2.128/25\"\n\
             PALABRE__HTTP__TRUSTED_PROXIES=\"192.0.2.80/32\"\n\
             PALABRE__MEDIA__ANNOUNCED=\"203.0.113.1:7880,[2001:db8::1]:7880,[::]:0\"\n\
             PALABRE__SIP__TRUNKS=\"192.0.2.60,169.254.1.61\"\n\
             PALABRE__SIP__NUMBERS=\"199000000\"\n\
             PALABRE__SIP__ADVERTISE=\"203.0.113.1\"\n",
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
        ("[http]\npublic_url = \"meet.example.org\"\n", 2),
        ("[http]\npublic_url = \"https://meet.example.org/x\"\n", 2),
        ("[http]\npublic_url = \"http://meet.example.org\"\n", 2),
        ("[http]\npublic_url = \"https://\"\n", 2),
        ("[http]\nphone_number = \"1\\\"\\nLD_PRELOAD=x\"\n", 2),
        ("[http]\nphone_number = \"$(x)\"\n", 2),
        ("[http]\nphone_number = \"\"\n", 2),
        ("[http]\nmetrics_from = [\"192.0.2.0/33\"]\n", 2),
        ("[http]\nbind = \"192.0.2.1:80\"\n", 2),
        ("[media]\nannounced = [\"203.0.113.1\"]\n", 2),
        ("[media]\nannounced = [\"203.0.113.1:0\"]\n", 2),
        ("[media]\nannounced = [\"[::]:7880\"]\n", 2),
        ("[media]\nannounced = [\"127.0.0.1:7880\"]\n", 2),
        ("[media]\nannounced = [\"[::ffff:127.0.0.1]:7880\"]\n", 2),
        ("[media]\nannounced = [\"[fe80::1%2]:7880\"]\n", 2),
        ("[media]\nannounced = [\"[2001:db8::1%2]:7880\"]\n", 2),
        ("[media]\nannounced = [\"169.254.1.1:7880\"]\n", 2),
        ("[media]\n\npriority = 50\n", 3),
        ("[sip]\ntrunks = [\"trunk.example.org\"]\n", 2),
        ("[sip]\ntrunks = [\"2001:db8::60\"]\n", 2),
        ("[sip]\ntrunks = [\"255.255.255.255\"]\n", 2),
        ("[sip]\nadvertise = \"0.0.0.0\"\n", 2),
        ("[sip]\nadvertise = \"169.254.1.1\"\n", 2),
        ("[sip]\nnumbers = [\"+33199000000\"]\n", 2),
        ("[storage]\nfolder = \"/\"\n", 1),
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
        (
            &format!("[sip]\ntrunks = [{}]\n", "\"192.0.2.1\",".repeat(33)),
            "stick-list",
        ),
    ] {
        assert_eq!(Stick::parse(text).unwrap_err().code(), code, "{text}");
    }
}

#[test]
fn what_is_said_of_a_mistake_moves_no_cursor() {
    let long = "k".repeat(2_000);
    for text in [
        "\"\\u001b[2J\" = 1\n",
        "[network]\n\"a\\u009b2J\\r\\u0007\" = 1\n",
        "[time]\nzone = \"\\u001b]0;x\\u0007\"\n",
        &format!("{long} = 1\n"),
    ] {
        let said = Stick::parse(text).unwrap_err().to_string();
        assert!(!said.contains(char::is_control), "{said:?}");
        assert!(said.chars().count() < 400, "{said}");
    }
    let mut seeded = Seeded(78);
    for _ in 0..20_000 {
        let mut text = FULL.replace("vlan", "\"\\u001b[2J\"").into_bytes();
        seeded.damage(&mut text);
        if let Err(refused) = Stick::parse(&String::from_utf8_lossy(&text)) {
            assert!(!refused.to_string().contains(char::is_control));
        }
    }
    // The list of what is known is still told whole.
    let refused = Stick::parse("[network]\nmtu = 1400\n").unwrap_err();
    assert!(refused.to_string().contains("`interface`"), "{refused}");
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
        "PALABRE__HTTP__",
        "PALABRE__MEDIA__ANNOUNCED=\"",
        "PALABRE__SIP__",
    ];
    for _ in 0..20_000 {
        let mut text = FULL.as_bytes().to_vec();
        seeded.damage(&mut text);
        let Ok(stick) = Stick::parse(&String::from_utf8_lossy(&text)) else {
            continue;
        };
        for (path, content) in stick.files() {
            assert!(FILES.map(PathBuf::from).contains(&path));
            for line in content.lines().filter(|line| !line.is_empty()) {
                assert!(known.iter().any(|start| line.starts_with(start)), "{line}");
            }
        }
    }
}

#[test]
fn settings_are_written_as_they_are_read() {
    let zone = "[time]\nzone = \"Europe/Paris\"\n";
    for text in [FULL, zone, "[http]\n[media]\n[sip]\n", ""] {
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
