//! Lines as they come, and lines made to get through.

use palabre_init::mutate::Seeded;

use super::*;

fn redactor() -> Redactor {
    Redactor::new(&["palabre-ab7f".to_owned(), "a".to_owned()])
}

/// What must not be seen, in a line that holds it.
const NASTY: [(&str, &[&str]); 49] = [
    ("connection from 192.0.2.10 refused", &["192.0.2"]),
    ("connection from 192.0.2.10:5060, port 5060", &["192.0.2"]),
    (
        "eth0: Gained IPv6LL fe80::5054:ff:fe12:3456",
        &["fe80", "5054"],
    ),
    (
        "route 2001:db8::/32 via [2001:db8::1]:443",
        &["2001", "db8"],
    ),
    ("peer=2001:db8:0:0:0:0:0:1%eth0", &["2001", "db8"]),
    ("to ::ffff:192.0.2.10.", &["ffff", "192.0"]),
    ("addr 192.0.2.10/24 gw 192.0.2.1;next", &["192.0.2"]),
    ("host(192.0.2.10)->[192.0.2.11]", &["192.0.2"]),
    ("address:192.0.2.10", &["192.0.2"]),
    ("eth0 52:54:00:12:34:56 up", &["52:54", "34:56"]),
    ("eth0 52-54-00-AB-CD-EF up", &["AB-CD"]),
    (
        "Received INVITE sip:+33123456789@192.0.2.1;transport=tcp",
        &["33123", "192.0"],
    ),
    (
        "INVITE sip:anne.martin@example.org SIP/2.0",
        &["anne", "example"],
    ),
    ("tel:+33-1-23-45-67-89 hung up", &["23-45"]),
    ("call from 01 23 45 67 89 ended", &["23 45", "01 23"]),
    ("call from +33 (0)1.23.45.67.89 ended", &["23.45", "67.89"]),
    ("caller 0123456789.", &["0123456789"]),
    ("wrong code 123 456 789", &["123 456", "789"]),
    ("code 123456789 opens nothing", &["123456789"]),
    ("extension 555-1234 rang", &["555-1234"]),
    (
        "room \"Conseil de quartier\" closed",
        &["Conseil", "quartier"],
    ),
    ("room name=Conseil closed", &["Conseil"]),
    ("participant identity=camille joined", &["camille"]),
    (
        "panicked at 'no room for Camille Durand'",
        &["Camille", "Durand"],
    ),
    ("Anne Martin joined", &["Anne", "Martin"]),
    ("joined: Jean-Pierre de La Tour", &["Jean", "Tour"]),
    ("Bảo Nguyễn left", &["Nguy", "Bả"]),
    ("Zoé left", &["Zo"]),
    ("« Réunion du lundi » was deleted", &["union", "lundi"]),
    ("mail to anne.martin@example.org", &["anne", "example"]),
    ("resolved ntp.example.org to nothing", &["example"]),
    (
        "GET https://meet.example.org/r/0123abcd?t=x HTTP/1.1",
        &["meet", "0123abcd"],
    ),
    ("resolved visio.mairie.rs to nothing", &["visio", "mairie"]),
    ("no answer of nas.salle.network:5060", &["nas", "salle"]),
    ("trunk sbc.commune.link. is silent", &["sbc", "commune"]),
    (
        "proxy //ipbx.ville.pub/x and ipbx.ville.so/x",
        &["ipbx", "ville"],
    ),
    ("peer (visio.mairie.new) left", &["visio", "mairie"]),
    ("palabre-ab7f kernel: hello", &["ab7f"]),
    ("PALABRE-AB7F.local is up", &["AB7F"]),
    (
        "token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl refused",
        &["eyJ", "c2ln"],
    ),
    ("Authorization: Bearer abcdef", &["abcdef"]),
    ("cookie palabre_session=4gk2m9x0q7", &["4gk2m9"]),
    ("password: correct-horse", &["correct"]),
    ("\"password\": \"correct horse\"", &["correct", "horse"]),
    ("api_secret='s3cr3t'", &["s3cr3t"]),
    ("claim code 4RTZ-9KQ2-M7XD-0HVB shown", &["4RTZ", "0HVB"]),
    ("usb 1-1: SerialNumber: CZ1234AB7F", &["CZ1234"]),
    (
        "disk by-uuid 0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0",
        &["0f1e", "e1f0"],
    ),
    (
        "\x1b[1m192.0.2.10\x1b[0m and 192.0.\x1b[31m2.11",
        &["192.0"],
    ),
];

#[test]
fn nothing_of_people_gets_through() {
    let redactor = redactor();
    for (line, hidden) in NASTY {
        let shown = redactor.line(line);
        for part in hidden {
            assert!(!shown.contains(part), "{line:?} became {shown:?}");
        }
    }
}

#[test]
fn what_helps_stays() {
    let redactor = redactor();
    for line in [
        "2026-11-28T01:02:03.123456Z  INFO palabre_sip::gateway: the trunk answers again",
        "systemd-networkd.service: Main process exited, code=exited, status=1/FAILURE",
        "palabre.service: Scheduled restart job, restart counter is at 5.",
        "Started palabre.service - Palabre, the meetings.",
        "EXT4-fs (vda6): mounted filesystem r/w with ordered data mode.",
        "Out of memory: Killed process 812 (palabre) total-vm:81234kB",
        "error[part-hash]: the part `root` is not what was signed",
        "/var/lib/palabre/update/history.jsonl: No space left on device (os error 28)",
        "thread 'main' (12) panicked at admin/src/serve.rs:120:5:",
        "read /run/systemd/network/10-palabre.vlan.network and 10-palabre.network, admin/src/a.b.rs:1",
        "multi-user.target: reached; libc.so of main.rs in /usr/lib/a.b.so",
        "virtio_net virtio0 enp0s2: renamed from eth0",
        "good for 120 s",
    ] {
        let shown = redactor.line(line);
        let lost = shown.matches('[').count() - line.matches('[').count();
        // The name of a thread stands in quotes as names of people do.
        let most = usize::from(line.contains("'main'"));
        assert!(lost <= most, "{line:?} became {shown:?}");
    }
}

#[test]
fn keys_go_whole() {
    let text = "before\n-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\nabc\n-----END PRIVATE KEY-----\nafter\n";
    assert_eq!(redactor().text(text), "before\n[secret]\nafter\n");
    // A block that never ends takes the rest with it.
    let open = "-----BEGIN CERTIFICATE-----\nMIIB\nmore\n";
    assert_eq!(redactor().text(open), "[secret]\n");
    assert_eq!(
        redactor().line("x -----BEGIN RSA PRIVATE KEY----- MIIE"),
        "[secret]"
    );
}

#[test]
fn lines_of_nonsense_end_and_hide_what_they_hold() {
    let redactor = redactor();
    let long = "1".repeat(100_000);
    assert_eq!(redactor.line(&long), "[id]");
    for c in [
        "\"", "(", ":", ".", "é", "[", "-----", "a@", "1.", "=", "\u{202e}",
    ] {
        let _ = redactor.line(&c.repeat(20_000));
    }
    // An address glued to anything but letters and digits.
    let mut seeded = Seeded(11);
    for _ in 0..5_000 {
        let glue = [
            " ", "\t", "(", ")", "[", "]", "<", ">", ",", ";", "=", "{", "|", "\"", "'",
        ];
        let (before, after) = (
            glue[seeded.below(glue.len())],
            glue[seeded.below(glue.len())],
        );
        for address in [
            "192.0.2.77",
            "2001:db8::77",
            "anne@example.org",
            "+33123456777",
        ] {
            let line = format!("x{before}{address}{after}y");
            let shown = redactor.line(&line);
            assert!(
                !shown.contains("77") && !shown.contains("anne"),
                "{line:?} became {shown:?}"
            );
        }
    }
}
