//! What a stick sets of the program is what the program then runs with.

use std::process::Command;

use palabre_appliance::stick::Stick;

const STICK: &str = r#"
[http]
public_url = "https://meet.example.org:8443"
phone_number = "+33 (0)1 99 00 00 00"
sip_address = "sip:meet@example.org"
metrics_from = ["192.0.2.70", "2001:db8::/32"]
trusted_proxies = ["192.0.2.80"]

[media]
announced = ["203.0.113.1:7880", "[2001:db8::1]:7880"]

[sip]
trunks = ["192.0.2.60", "192.0.2.61"]
numbers = ["199000000", "199000001"]
advertise = "203.0.113.1"
"#;

/// The variables of a file as systemd reads it: a name and a quoted value a line.
fn variables(text: &str) -> Vec<(String, String)> {
    let files = Stick::parse(text).unwrap().files();
    let [(path, content)] = files.as_slice() else {
        panic!("one file: {files:?}");
    };
    assert_eq!(path.to_str(), Some("palabre/settings.env"));
    let line = |line: &str| {
        let (name, value) = line.split_once('=').unwrap();
        let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
        (name.to_owned(), value.unwrap().to_owned())
    };
    content.lines().map(line).collect()
}

#[test]
fn every_key_of_a_stick_is_in_force() {
    let variables = variables(STICK);
    assert_eq!(variables.len(), 9);
    let done = Command::new(env!("CARGO_BIN_EXE_palabre"))
        .arg("config")
        .arg("--config")
        .arg("image/overlay/etc/palabre/palabre.toml")
        .env_clear()
        .envs(variables)
        .output()
        .unwrap();
    let said = String::from_utf8(done.stdout).unwrap();
    assert!(
        done.status.success(),
        "{:?}",
        String::from_utf8(done.stderr)
    );
    for line in [
        "public_url = \"https://meet.example.org:8443\"",
        "phone_number = \"+33 (0)1 99 00 00 00\"",
        "sip_address = \"sip:meet@example.org\"",
        // What waits for the end of meetings asks from the box itself.
        "metrics_from = [\"127.0.0.0/8\", \"::1/128\", \"192.0.2.70/32\", \"2001:db8::/32\"]",
        "trusted_proxies = [\"192.0.2.80/32\"]",
        "announced = [\"203.0.113.1:7880\", \"[2001:db8::1]:7880\", \"[::]:0\"]",
        "trunks = [\"192.0.2.60\", \"192.0.2.61\"]",
        "numbers = [\"199000000\", \"199000001\"]",
        "advertise = \"203.0.113.1\"",
        // And what the image says stays.
        "redirect_bind = \"[::]:80\"",
        "priority = 10",
    ] {
        assert!(said.lines().any(|l| l == line), "{line} in:\n{said}");
    }
}
