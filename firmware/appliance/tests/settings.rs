//! What an administrator sets through the service: a network that is tried, time, the certificate;
//! and the support bundle, with a journal full of what must not leave the building.

#[path = "support/bench.rs"]
mod bench;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use bench::{Bench, Service};
use palabre_appliance::certificate::{Facts, self_signed};
use palabre_appliance::provision::{Network, Time};
use palabre_appliance::service::{
    Answer, NetworkState, Reply, Request, TimeState, Unanswered, ask,
};

#[track_caller]
fn done(socket: &Path, request: &Request) {
    assert_eq!(ask(socket, request).unwrap(), Answer::Done, "{request:?}");
}

#[track_caller]
fn refused(socket: &Path, request: &Request, code: &str) {
    match ask(socket, request) {
        Err(Unanswered::Refused(refusal)) => assert_eq!(refusal.code, code, "{refusal:?}"),
        other => panic!("{request:?}: {other:?}"),
    }
}

fn network(socket: &Path) -> NetworkState {
    match ask(socket, &Request::Network) {
        Ok(Answer::Network(state)) => state,
        other => panic!("{other:?}"),
    }
}

fn time(socket: &Path) -> TimeState {
    match ask(socket, &Request::Time) {
        Ok(Answer::Time(state)) => state,
        other => panic!("{other:?}"),
    }
}

fn certificate(socket: &Path) -> Option<Facts> {
    match ask(socket, &Request::Certificate) {
        Ok(Answer::Certificate(facts)) => facts,
        other => panic!("{other:?}"),
    }
}

fn settings(text: &str) -> Network {
    serde_json::from_str(text).unwrap()
}

const FIXED: &str = r#"{"address":"192.0.2.10/24","gateway":"192.0.2.1","dns":["192.0.2.53"]}"#;
const OTHER: &str = r#"{"address":"198.51.100.7/24","dns":[],"vlan":20}"#;

fn serve(bench: &Bench, confirm_within: &str) -> Service {
    let more = ["--confirm-within", confirm_within];
    bench.serve_for(bench.owner(), &bench.at("upload"), &more)
}

/// The file of systemd-networkd that is in force.
fn in_force(bench: &Bench) -> String {
    fs::read_to_string(bench.at("run/systemd/network/10-palabre.network")).unwrap_or_default()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_network_is_kept_when_somebody_came_through_it() {
    let bench = Bench::new();
    let service = serve(&bench, "3600");
    let socket = &service.socket;
    let before = network(socket);
    assert_eq!((before.kept, before.tried), (Network::default(), None));
    refused(socket, &Request::ConfirmNetwork, "network-not-tried");
    refused(socket, &Request::RevertNetwork, "network-not-tried");
    let wrong = settings(r#"{"dhcp":true,"address":"192.0.2.10/24"}"#);
    refused(socket, &Request::TryNetwork(wrong), "network-invalid");
    assert!(bench.said().is_empty());

    done(socket, &Request::TryNetwork(settings(FIXED)));
    assert!(in_force(&bench).contains("Address=192.0.2.10/24"));
    let tried = network(socket).tried.unwrap();
    assert_eq!(tried.network, settings(FIXED));
    assert!((3500..=3600).contains(&tried.seconds_left));
    assert!(
        !bench.at("var/box.toml").exists(),
        "not kept before it is confirmed"
    );
    done(socket, &Request::ConfirmNetwork);
    let after = network(socket);
    assert_eq!((after.kept, after.tried), (settings(FIXED), None));
    assert_eq!(bench.said(), ["networkctl reload"]);

    // The next start of the box.
    fs::remove_dir_all(bench.at("run/systemd")).unwrap();
    bench.good(&["provision", "--root", &bench.text("root")]);
    assert!(in_force(&bench).contains("Address=192.0.2.10/24"));
    let mut more = settings(FIXED);
    more.dns.push("192.0.2.54".parse().unwrap());
    done(socket, &Request::TryNetwork(more));
    done(socket, &Request::ConfirmNetwork);
    assert_eq!(bench.said(), ["networkctl reload"; 2]);
}

/// An installation may take longer than a network is tried: it could be found good and be lost all the same.
#[test]
fn a_network_on_trial_is_kept_or_given_up_while_an_update_is_written() {
    let bench = Bench::new();
    let service = serve(&bench, "3600");
    let socket = &service.socket;
    for (tried, settles) in [
        (FIXED, Request::ConfirmNetwork),
        (OTHER, Request::RevertNetwork),
    ] {
        done(socket, &Request::TryNetwork(settings(tried)));
        let disk = fs::File::open(bench.at("disk")).unwrap();
        rustix::fs::flock(&disk, rustix::fs::FlockOperation::LockExclusive).unwrap();
        refused(socket, &Request::TryNetwork(settings(OTHER)), "installing");
        done(socket, &settles);
        let after = network(socket);
        assert_eq!((after.kept, after.tried), (settings(FIXED), None));
    }
}

/// Whoever sets the time must not lose the network for a field that only a newer version knows.
#[test]
fn what_a_newer_version_kept_is_not_lost_by_the_next_setting() {
    let bench = Bench::new();
    let kept = "[network]\naddress = \"192.0.2.10/24\"\ndns = []\nmtu = 1400\n";
    fs::write(bench.at("var/box.toml"), kept).unwrap();
    let service = serve(&bench, "3600");
    let zone: Time = serde_json::from_str(r#"{"zone":"Europe/Paris"}"#).unwrap();
    done(&service.socket, &Request::SetTime(zone.clone()));
    assert_eq!(time(&service.socket).kept, zone);
    let network = network(&service.socket).kept;
    assert_eq!(network, settings(r#"{"address":"192.0.2.10/24","dns":[]}"#));
}

#[test]
fn a_network_that_nobody_confirms_goes_back_by_itself() {
    let bench = Bench::new();
    let service = serve(&bench, "3600");
    done(&service.socket, &Request::TryNetwork(settings(FIXED)));
    done(&service.socket, &Request::ConfirmNetwork);
    service.kill();
    let service = serve(&bench, "1");
    let socket = &service.socket;
    done(socket, &Request::TryNetwork(settings(OTHER)));
    assert!(
        bench
            .at("run/systemd/network/11-palabre-vlan.network")
            .exists()
    );
    until("the network is back", || {
        in_force(&bench).contains("192.0.2.10")
    });
    until("it is no longer tried", || network(socket).tried.is_none());
    assert!(
        !bench
            .at("run/systemd/network/11-palabre-vlan.network")
            .exists()
    );
    until("systemd was told", || {
        let said = bench.said();
        said.ends_with(&[
            "networkctl reload".to_owned(),
            "networkctl delete palabre-vlan".to_owned(),
            "networkctl reload".to_owned(),
        ])
    });
    assert_eq!(network(socket).kept, settings(FIXED));
    refused(socket, &Request::ConfirmNetwork, "network-not-tried");
    // By hand, at once.
    service.kill();
    let service = serve(&bench, "3600");
    done(&service.socket, &Request::TryNetwork(settings(OTHER)));
    done(&service.socket, &Request::RevertNetwork);
    assert!(in_force(&bench).contains("192.0.2.10"));
}

#[test]
fn a_stick_with_a_network_ends_a_trial() {
    let bench = Bench::new();
    let service = serve(&bench, "3600");
    let socket = &service.socket;
    done(socket, &Request::TryNetwork(settings(OTHER)));
    fs::create_dir(bench.at("usb")).unwrap();
    let text = "[network]\naddress = \"192.0.2.30/24\"\n";
    fs::write(bench.at("usb/palabre.toml"), text).unwrap();
    let (root, usb) = (bench.text("root"), bench.text("usb"));
    bench.good(&["provision", "--root", &root, "--usb", &usb]);
    assert_eq!(network(socket).tried, None);
    refused(socket, &Request::ConfirmNetwork, "network-not-tried");
    let zone: Time = serde_json::from_str(r#"{"zone":"Europe/Paris"}"#).unwrap();
    done(socket, &Request::SetTime(zone));
    assert!(in_force(&bench).contains("192.0.2.30"));
    let kept = fs::read_to_string(bench.at("var/box.toml")).unwrap();
    assert!(
        kept.contains("192.0.2.30") && kept.contains("Europe/Paris"),
        "{kept}"
    );
}

#[test]
fn a_trial_that_cannot_begin_leaves_the_one_before_to_end_by_itself() {
    let bench = Bench::new();
    let service = serve(&bench, "3");
    let socket = &service.socket;
    done(socket, &Request::TryNetwork(settings(FIXED)));
    // No mark can be made: a restart of the service would not know that the network is tried.
    fs::create_dir_all(bench.at("run/palabre/network.tried.new/in-the-way")).unwrap();
    refused(socket, &Request::TryNetwork(settings(OTHER)), "settings");
    let tried = network(socket).tried.unwrap();
    assert_eq!(tried.network, settings(FIXED));
    assert!(in_force(&bench).contains("192.0.2.10"));
    until("the network before is back", || in_force(&bench).is_empty());
}

#[test]
fn a_program_of_the_system_that_hangs_does_not_hold_the_box() {
    let bench = Bench::new();
    let service = serve(&bench, "3600");
    let socket = &service.socket;
    // Nobody ever writes.
    let fifo = bench.text("never");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    bench.tool("systemctl", &format!("cat '{fifo}'"));
    let zone: Time = serde_json::from_str(r#"{"zone":"Europe/Paris"}"#).unwrap();
    match ask(socket, &Request::SetTime(zone)) {
        Err(Unanswered::Refused(refusal)) => {
            assert_eq!(refusal.code, "system");
            assert!(
                refusal.what.ends_with("it had not ended after 5 s"),
                "{refusal:?}"
            );
        }
        other => panic!("{other:?}"),
    }
    bench.tool("systemctl", "exit 0");
    done(socket, &Request::SetTime(Time::default()));
}

#[test]
fn a_kill_while_a_network_is_tried_brings_the_one_before_back() {
    let bench = Bench::new();
    let service = serve(&bench, "3600");
    done(&service.socket, &Request::TryNetwork(settings(FIXED)));
    service.kill();
    assert!(in_force(&bench).contains("192.0.2.10"));
    let service = serve(&bench, "3600");
    until("the network is back", || in_force(&bench).is_empty());
    assert_eq!(network(&service.socket).tried, None);
    assert_eq!(network(&service.socket).kept, Network::default());
    service.kill();
    // Once.
    let reloads = bench.said().len();
    let service = serve(&bench, "3600");
    assert_eq!(network(&service.socket).tried, None);
    assert_eq!(bench.said().len(), reloads);
}

#[test]
fn the_clock_asks_whom_it_is_told_and_lives_where_people_do() {
    let bench = Bench::new();
    let service = bench.serve();
    let socket = &service.socket;
    assert_eq!(time(socket).kept, Time::default());
    assert!(!time(socket).is_synchronised);
    let asked: Time =
        serde_json::from_str(r#"{"ntp":["ntp.example.org"],"zone":"Asia/Kolkata"}"#).unwrap();
    done(socket, &Request::SetTime(asked.clone()));
    let file = bench.at("run/systemd/timesyncd.conf.d/10-palabre.conf");
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text, "[Time]\nNTP=ntp.example.org\n");
    let state = time(socket);
    assert_eq!(state.kept, asked);
    let utc = u16::try_from(state.now / 60 % 1440).unwrap();
    assert_eq!(state.minute_of_day(), (utc + 330) % 1440);
    let restart = "systemctl --no-block try-restart systemd-timesyncd.service";
    assert_eq!(bench.said(), [restart]);
    fs::create_dir_all(bench.at("run/systemd/timesync")).unwrap();
    fs::write(bench.at("run/systemd/timesync/synchronized"), "").unwrap();
    assert!(time(socket).is_synchronised);
    // The network stays what it was.
    done(socket, &Request::TryNetwork(settings(FIXED)));
    done(socket, &Request::SetTime(Time::default()));
    assert!(!file.exists());
    assert!(in_force(&bench).contains("192.0.2.10"));
    assert_eq!(time(socket).kept, Time::default());
    let many = Time {
        ntp: vec![palabre_appliance::provision::Host("a".to_owned()); 9],
        zone: None,
    };
    refused(socket, &Request::SetTime(many), "time-invalid");
}

#[test]
fn a_certificate_is_taken_when_it_can_serve() {
    let bench = Bench::new();
    let service = bench.serve();
    let socket = &service.socket;
    assert_eq!(certificate(socket), None);
    done(socket, &Request::SelfSign);
    let own = certificate(socket).unwrap();
    assert!(own.self_signed);
    assert_eq!(own.subject, "CN=palabre-test");
    let (chain, key) = self_signed("meet.example.org", 1_790_000_000).unwrap();
    let (_, other) = self_signed("meet.example.org", 1_790_000_000).unwrap();
    let set = |chain: &str, key: &str| Request::SetCertificate {
        chain: chain.to_owned(),
        key: key.to_owned(),
    };
    refused(socket, &set(&chain, &other), "certificate-other-key");
    refused(socket, &set("words", &key), "certificate-chain");
    assert_eq!(certificate(socket), Some(own));
    done(socket, &set(&chain, &key));
    let facts = certificate(socket).unwrap();
    assert_eq!(facts.subject, "CN=meet.example.org");
    let shown = fs::read_to_string(bench.at("run/palabre/fingerprint")).unwrap();
    assert_eq!(shown.trim(), facts.fingerprint);
    assert_eq!(
        fs::read_to_string(bench.at("var/tls/key.pem")).unwrap(),
        key
    );
    // The longest that fits.
    let long = set(&"x".repeat(64 * 1024), &"x".repeat(64 * 1024));
    refused(socket, &long, "certificate-chain");
}

#[test]
fn the_disk_is_measured() {
    let bench = Bench::new();
    fs::create_dir_all(bench.at("var")).unwrap();
    let service = bench.serve();
    let Ok(Answer::Storage(storage)) = ask(&service.socket, &Request::Storage) else {
        panic!("no storage");
    };
    assert!(storage.bytes >= storage.bytes_free && storage.bytes_free > 0);
    assert!(storage.files >= storage.files_free);
}

#[test]
fn one_support_bundle_is_made_at_a_time() {
    let bench = Bench::new();
    // Its journal ends when the test lets it.
    let (journal, begun) = (bench.text("journal"), bench.at("begun"));
    let fifo = std::process::Command::new("mkfifo").arg(&journal).status();
    assert!(fifo.unwrap().success());
    let begun_at = begun.display();
    let script = format!("case \"$*\" in *-k*) ;; *) touch '{begun_at}'; cat '{journal}' ;; esac");
    bench.tool("journalctl", &script);
    let service = bench.serve();
    let mut first = UnixStream::connect(&service.socket).unwrap();
    first.write_all(Request::Support.line().as_bytes()).unwrap();
    until("the journal is read", || begun.exists());
    refused(&service.socket, &Request::Support, "support-busy");
    fs::write(&journal, "").unwrap();
    let mut answer = Vec::new();
    first.read_to_end(&mut answer).unwrap();
    let end = answer.iter().position(|b| *b == b'\n').unwrap();
    assert!(matches!(
        Reply::read(&answer[..end]),
        Ok(Answer::Support { .. })
    ));
}

#[test]
fn the_support_bundle_tells_what_happened_and_nothing_of_people() {
    let bench = Bench::new();
    let entry = |at: u64, from: &str, message: &str| {
        serde_json::json!({
            "__REALTIME_TIMESTAMP": (1_790_000_000_000_000 + at).to_string(),
            "SYSLOG_IDENTIFIER": from, "PRIORITY": "6", "MESSAGE": message,
        })
    };
    // Newest first, as it is asked for.
    let journal = [
        entry(
            4,
            "palabre",
            "room \"Conseil de quartier\" closed, Anne Martin left",
        ),
        entry(
            3,
            "palabre",
            "call from +33 1 23 45 67 89 by sip:anne@192.0.2.77",
        ),
        entry(
            2,
            "systemd-networkd",
            "palabre-test: eth0: DHCPv4 address 192.0.2.10/24",
        ),
        entry(
            1,
            "systemd",
            "palabre.service: Scheduled restart job, restart counter is at 5.",
        ),
    ];
    let lines: Vec<String> = journal.iter().map(ToString::to_string).collect();
    fs::write(bench.at("journal"), lines.join("\n") + "\nno json\n").unwrap();
    bench.tool("journalctl", &format!("cat '{}'", bench.text("journal")));
    bench.tool(
        "systemctl",
        "echo palabre.service loaded active running Palabre",
    );
    bench.good(&["verify", &bench.packed(2)]);
    let service = bench.serve();
    let mut stream = UnixStream::connect(&service.socket).unwrap();
    stream
        .write_all(Request::Support.line().as_bytes())
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.iter().position(|b| *b == b'\n').unwrap();
    let Ok(Answer::Support { bytes }) = Reply::read(&answer[..end]) else {
        panic!("{:?}", String::from_utf8_lossy(&answer[..end]));
    };
    let bundle = &answer[end + 1..];
    assert_eq!(bundle.len() as u64, bytes);

    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bundle));
    let mut all = std::collections::BTreeMap::new();
    for file in archive.entries().unwrap() {
        let mut file = file.unwrap();
        let name = file.path().unwrap().display().to_string();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        all.insert(name, text);
    }
    let names: Vec<&str> = all.keys().map(String::as_str).collect();
    let expected = [
        "README.txt",
        "box.json",
        "journal.txt",
        "kernel.txt",
        "network.txt",
        "storage.txt",
        "units.txt",
    ];
    assert_eq!(
        names,
        expected.map(|name| format!("palabre-support/{name}"))
    );
    let told = &all["palabre-support/journal.txt"];
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 4, "{told}");
    assert!(
        lines[0].contains("palabre.service: Scheduled restart job"),
        "{told}"
    );
    assert!(lines[0].starts_with("2026-09-21T"), "{told}");
    assert!(all["palabre-support/box.json"].contains("\"version\": 1"));
    assert!(all["palabre-support/units.txt"].contains("palabre.service loaded"));
    for (name, text) in all.iter().filter(|(name, _)| !name.ends_with("README.txt")) {
        for hidden in [
            "192.0.2",
            "Conseil",
            "Anne",
            "anne@",
            "45 67",
            "palabre-test",
        ] {
            assert!(!text.contains(hidden), "{name}: {hidden} in {text}");
        }
    }
}
