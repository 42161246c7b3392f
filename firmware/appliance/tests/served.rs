//! What becomes of a version that proved good, by what it answers afterwards.

#[path = "support/bench.rs"]
mod bench;

use std::io::{Read, Write};
use std::net::TcpListener;

use bench::{Bench, answering, hash, names};
use palabre_init::cmdline::RootHash;
use palabre_init::starts::{self, Versions};
use palabre_init::variables::Variables;

/// Starts version `v`, as the first program counts it, on a disk with two versions.
fn started(bench: &Bench, v: u32) -> starts::Next {
    let variables = Variables::new(&bench.at("efivars"));
    let root = RootHash::parse(&hash(v)).unwrap().root_uuid();
    let begun = starts::count(&variables, root).unwrap();
    let (own, other) = (Some(u64::from(v)), Some(u64::from(3 - v)));
    let next = begun.next(&Versions {
        own,
        other,
        other_failed: false,
    });
    if let starts::Next::Leave { to, .. } = next {
        starts::leave(&variables, &begun, own, to).unwrap();
    }
    next
}

/// What the data partition remembers of a version's floor: `status` tells the running version's own too.
fn floor(bench: &Bench) -> String {
    std::fs::read_to_string(bench.at("var/update/floor")).unwrap_or_default()
}

#[test]
fn a_floor_that_was_lost_is_back_once_its_version_serves() {
    let bench = Bench::new();
    let key = bench.text("build/bundle-current.key");
    let packed = bench.pack(5, &["--key", &key, "--floor", "4"]);
    assert!(packed.status.success(), "{packed:?}");
    bench.good(&["install", &bench.text("5.plbu")]);
    // The power went before the installation was remembered.
    std::fs::remove_file(bench.at("var/update/pending.json")).unwrap();
    bench.runs_with_floor(5, 4);
    assert_eq!(floor(&bench), "", "not before it is good");
    bench.good(&["mark-good"]);
    assert_eq!(floor(&bench), "4\n");
    // A factory reset.
    std::fs::remove_dir_all(bench.at("var/update")).unwrap();
    let serves = answering("200 OK");
    bench.good(&["health", "--url", &serves, "--every", "1"]);
    assert_eq!(floor(&bench), "4\n");
    bench.runs(1);
    let said = bench.refused(&["verify", &bench.packed(3)]);
    assert!(said.starts_with("error[version-below-floor]"), "{said}");
}

#[test]
fn a_good_version_that_serves_no_more_leaves_its_place_to_the_other() {
    let bench = Bench::new();
    bench.good(&["install", &bench.packed(2)]);
    bench.runs(2);
    bench.good(&["mark-good"]);
    let trial = |url: &str| {
        let more = ["--every", "1", "--grace", "1", "--no-reboot"];
        let output = bench.update(&[&["health", "--url", url], more.as_slice()].concat());
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8(said).unwrap()
    };

    // What is known to have another cause does not count: a data partition that nobody opens.
    for _ in 0..10 {
        assert_eq!(started(&bench, 2), starts::Next::Start);
        bench.good(&["forget-starts"]);
    }
    // A start counts until the program is ready, and no longer.
    for _ in 0..2 {
        assert_eq!(started(&bench, 2), starts::Next::Start);
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/readyz", listener.local_addr().unwrap());
    let variables = bench.at("efivars");
    let counted = std::thread::spawn(move || {
        let answers = ["503 Service Unavailable", "200 OK"];
        answers.map(|status| {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let counted = names(&variables).len();
            write!(stream, "HTTP/1.0 {status}\r\n\r\n").unwrap();
            counted
        })
    });
    assert!(trial(&url).contains("version 2 has proved good before"));
    assert_eq!(counted.join().unwrap(), [1, 1]);
    assert_eq!(names(&bench.at("efivars")), Vec::<String>::new());

    // Damaged later: three starts, and the fourth leaves.
    for _ in 0..3 {
        assert_eq!(started(&bench, 2), starts::Next::Start);
    }
    assert!(matches!(
        started(&bench, 2),
        starts::Next::Leave { to: 1, .. }
    ));
    bench.runs(1);
    started(&bench, 1);
    // It does not serve either: it is judged like one on trial, and nothing is said of the other.
    let said = trial(&answering("503 Service Unavailable"));
    assert!(said.contains("error[trial-failed]"), "{said}");
    assert_eq!(bench.entries(), ["palabre_1.efi", "palabre_2.efi"]);
    started(&bench, 1);
    let said = trial(&answering("200 OK"));
    let why = "it was started 3 times in a row and never served";
    assert!(said.contains(&format!("version 2 failed: {why}")), "{said}");
    assert!(
        said.contains("version 1 has proved good before"),
        "no trial: {said}"
    );
    assert_eq!(bench.entries(), ["palabre_1.efi", "palabre_2+0-0.efi"]);
    // All that the firmware remembers is which version must not take the place of another.
    let left = names(&bench.at("efivars"));
    assert!(
        matches!(left.as_slice(), [name] if name.starts_with("PalabreFailed-")),
        "{left:?}"
    );
    let status = bench.status();
    assert_eq!(status["slots"][1]["state"], "bad");
    assert_eq!(status["slots"][0]["starts_next"], true);
    assert_eq!(status["last_failure"]["version"], 2);
    assert!(
        status["last_failure"]["why"]
            .as_str()
            .unwrap()
            .starts_with(why)
    );
    // Said once.
    assert!(!trial(&answering("200 OK")).contains("version 2 failed"));
}

#[test]
fn a_good_version_that_hangs_starts_again_and_one_that_serves_is_left_alone() {
    let bench = Bench::new();
    let said = |url: &str| {
        let more = ["--every", "1", "--patience", "1", "--no-reboot"];
        let output = bench.update(&[&["health", "--url", url], more.as_slice()].concat());
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    };
    started(&bench, 1);
    let (well, words) = said(&answering("503 Service Unavailable"));
    assert!(!well && words.contains("error[never-served]"), "{words}");
    assert_eq!(
        names(&bench.at("efivars")).len(),
        1,
        "this start stays counted"
    );

    // The partition of the boot loader is gone: no reason to restart what serves, again and again.
    let (esp, away) = (bench.at("esp"), bench.at("away"));
    std::fs::rename(&esp, &away).unwrap();
    let (well, words) = said(&answering("200 OK"));
    assert!(
        well && words.contains("version 1 serves, and is not judged: error[esp]"),
        "{words}"
    );
    assert_eq!(names(&bench.at("efivars")), Vec::<String>::new());
    let (well, words) = said(&answering("503 Service Unavailable"));
    assert!(!well && words.contains("error[never-served]"), "{words}");
    // On trial it is one: the boot loader counts, and goes back.
    let name = "LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
    std::fs::write(bench.at("efivars").join(name), [6, 0, 0, 0, b'x', 0]).unwrap();
    let (well, words) = said(&answering("200 OK"));
    assert!(!well && words.contains("error[esp]"), "{words}");
}
