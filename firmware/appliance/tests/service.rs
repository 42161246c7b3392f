//! The service of the box, started as systemd starts it, on a box made of files.

#[path = "support/bench.rs"]
mod bench;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use bench::{Bench, names};
use palabre_appliance::history::What;
use palabre_appliance::service::{
    Answer, Phase, Progress, Reply, Request, Status, Unanswered, UploadId, ask,
};

fn status(socket: &Path) -> Status {
    match ask(socket, &Request::Status) {
        Ok(Answer::Status(status)) => *status,
        other => panic!("{other:?}"),
    }
}

fn progress(socket: &Path) -> Progress {
    match ask(socket, &Request::Progress) {
        Ok(Answer::Progress(progress)) => progress,
        other => panic!("{other:?}"),
    }
}

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

/// Asks until the installation has ended.
fn ended(socket: &Path) -> Progress {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let progress = progress(socket);
        if !progress.is_running() {
            return progress;
        }
        assert!(Instant::now() < deadline, "{progress:?}");
        std::thread::yield_now();
    }
}

/// Puts a file into the upload folder.
fn upload(bench: &Bench, number: u8, from: &str) -> UploadId {
    let id = UploadId::new([number; 16]);
    fs::copy(from, bench.at(&format!("upload/{id}"))).unwrap();
    id
}

#[test]
fn an_upload_is_installed_and_tells_how_far_it_is() {
    let bench = Bench::new();
    let service = bench.serve();
    let socket = &service.socket;
    assert_eq!(progress(socket), Progress::default());
    let before = status(socket);
    assert_eq!(
        (before.host.as_str(), before.image.version),
        ("palabre-test", 1)
    );
    assert_eq!(before.starts_next(), None);
    assert!(!before.boot.is_empty());

    let two = upload(&bench, 2, &bench.packed(2));
    done(
        socket,
        &Request::Install {
            upload: two.clone(),
        },
    );
    let progress = ended(socket);
    assert_eq!(progress.phase, Phase::Done, "{progress:?}");
    assert_eq!((progress.version, progress.upload), (Some(2), Some(two)));
    assert_eq!(progress.done, progress.all);
    let after = status(socket);
    assert_eq!(after.starts_next(), Some(2));
    assert_eq!(after.history.len(), 1);
    // The same file as the command line's.
    assert_eq!(serde_json::to_value(&after).unwrap(), bench.status());
    assert_eq!(bench.entries(), ["palabre_1.efi", "palabre_2+3-0.efi"]);
    done(socket, &Request::Restart);
    assert_eq!(bench.said(), ["systemctl --no-block reboot"]);
}

#[test]
fn what_is_no_update_of_this_box_is_refused_with_the_reason() {
    let bench = Bench::new();
    let service = bench.serve();
    let socket = &service.socket;
    let disk = fs::read(bench.at("disk")).unwrap();
    let two = bench.packed(2);
    let mut bytes = fs::read(&two).unwrap();
    let last = bytes.len() - 5;
    bytes[last] ^= 1;
    fs::write(bench.at("changed"), &bytes).unwrap();
    fs::write(bench.at("words"), "words").unwrap();
    let cases = [("changed", "part-hash"), ("words", "bundle-truncated")];
    for (number, (file, code)) in (10..).zip(cases) {
        let upload = upload(&bench, number, &bench.text(file));
        done(socket, &Request::Install { upload });
        let progress = ended(socket);
        assert_eq!(progress.phase, Phase::Refused);
        assert_eq!(progress.refused.unwrap().code, code);
    }
    bench.runs(3);
    let older = upload(&bench, 2, &two);
    done(socket, &Request::Install { upload: older });
    assert_eq!(ended(socket).refused.unwrap().code, "version-older");
    assert!(fs::read(bench.at("disk")).unwrap() == disk);
    assert_eq!(bench.entries(), ["palabre_1.efi"]);
}

/// What a stick does not bring again (`programs.rs`), somebody may try once more.
#[test]
fn who_asks_for_a_version_that_failed_gets_it() {
    let bench = Bench::new();
    bench.good(&["install", &bench.packed(2)]);
    let folder = bench.at("esp/EFI/Linux");
    let at = |name: &str| folder.join(name);
    fs::rename(at("palabre_2+3-0.efi"), at("palabre_2+0-3.efi")).unwrap();
    let service = bench.serve();
    let two = upload(&bench, 2, &bench.packed(2));
    done(&service.socket, &Request::Install { upload: two });
    let progress = ended(&service.socket);
    assert_eq!(progress.phase, Phase::Done, "{progress:?}");
    assert_eq!(bench.entries(), ["palabre_1.efi", "palabre_2+3-0.efi"]);
}

#[test]
fn nothing_but_a_plain_file_of_the_upload_folder_is_opened() {
    let bench = Bench::new();
    let service = bench.serve();
    let socket = &service.socket;
    let two = bench.packed(2);
    let at = |number: u8| bench.at(&format!("upload/{}", UploadId::new([number; 16])));
    symlink(&two, at(1)).unwrap();
    fs::hard_link(&two, at(2)).unwrap();
    fs::create_dir(at(3)).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(at(4)).status();
    assert!(fifo.unwrap().success());
    for number in [1, 2, 3, 4, 5] {
        let upload = UploadId::new([number; 16]);
        refused(socket, &Request::Install { upload }, "upload-unknown");
    }
    // The folder itself, turned into a way to another.
    fs::create_dir(bench.at("elsewhere")).unwrap();
    fs::copy(&two, bench.at("elsewhere").join(at(6).file_name().unwrap())).unwrap();
    fs::rename(bench.at("upload"), bench.at("before")).unwrap();
    symlink(bench.at("elsewhere"), bench.at("upload")).unwrap();
    let upload = UploadId::new([6; 16]);
    refused(socket, &Request::Install { upload }, "upload-unknown");
    assert_eq!(progress(socket), Progress::default());
    assert!(status(socket).history.is_empty());
}

#[test]
fn the_other_version_and_the_end_of_the_data_are_one_question_away() {
    let bench = Bench::new();
    let service = bench.serve();
    let socket = &service.socket;
    refused(socket, &Request::Previous, "no-previous");
    fs::write(bench.at("esp/EFI/Linux/palabre_2.efi"), "two").unwrap();
    done(socket, &Request::Previous);
    assert_eq!(names(&bench.at("efivars")).len(), 1);
    assert_eq!(status(socket).once, Some(2));
    done(socket, &Request::Stay);
    assert!(names(&bench.at("efivars")).is_empty());
    let stays = status(socket);
    assert_eq!(stays.once, None);
    assert_eq!(stays.history.last().map(|e| e.what), Some(What::Stays));
    done(socket, &Request::Stay);
    assert_eq!(
        status(socket).history.len(),
        2,
        "there was nothing to call off"
    );
    done(socket, &Request::Previous);
    done(socket, &Request::Shutdown);
    done(socket, &Request::FactoryReset);
    assert_eq!(names(&bench.at("efivars")).len(), 2);
    let said = [
        "systemctl --no-block poweroff",
        "systemctl --no-block reboot",
    ];
    assert_eq!(bench.said(), said);
    bench.tool("systemctl", "exit 4");
    refused(socket, &Request::Restart, "system");
    // Who was told that it did not happen does not lose the data at a later start.
    refused(socket, &Request::FactoryReset, "system");
    assert_eq!(names(&bench.at("efivars")).len(), 1);
}

#[test]
fn who_asks_for_the_end_of_the_machine_hears_that_it_comes() {
    let bench = Bench::new();
    let service = bench.serve();
    // The end of the machine begins with the services: at once, before systemctl has ended.
    // It is the child of what bounds its time.
    bench.tool(
        "systemctl",
        "read -r _ _ _ service _ </proc/$PPID/stat; kill -TERM \"$service\"",
    );
    done(&service.socket, &Request::Restart);
    assert!(service.ended());
}

#[test]
fn while_an_installation_runs_nothing_else_changes_the_box() {
    let bench = Bench::new();
    let service = bench.serve();
    let socket = &service.socket;
    let two = upload(&bench, 2, &bench.packed(2));
    // Somebody else writes to the disk: the installation waits for them.
    let disk = fs::File::open(bench.at("disk")).unwrap();
    rustix::fs::flock(&disk, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let install = Request::Install { upload: two };
    done(socket, &install);
    assert!(progress(socket).is_running());
    for request in [
        install,
        Request::Previous,
        Request::Restart,
        Request::Shutdown,
        Request::FactoryReset,
    ] {
        refused(socket, &request, "installing");
    }
    assert_eq!(status(socket).image.version, 1);
    drop(disk);
    assert_eq!(ended(socket).phase, Phase::Done);
    done(socket, &Request::Restart);
    assert_eq!(bench.said(), ["systemctl --no-block reboot"]);
}

#[test]
fn while_a_stick_is_installed_nothing_else_changes_the_box() {
    let bench = Bench::new();
    let service = bench.serve();
    let socket = &service.socket;
    let disk = fs::File::open(bench.at("disk")).unwrap();
    rustix::fs::flock(&disk, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert!(!progress(socket).is_running());
    for request in [
        Request::Previous,
        Request::Restart,
        Request::Shutdown,
        Request::FactoryReset,
    ] {
        refused(socket, &request, "installing");
    }
    assert_eq!(bench.said(), [""; 0]);
    // Who looks at the disk as udev does is no installation.
    rustix::fs::flock(&disk, rustix::fs::FlockOperation::LockShared).unwrap();
    done(socket, &Request::Restart);
    assert_eq!(bench.said(), ["systemctl --no-block reboot"]);
}

#[test]
fn a_kill_in_the_middle_leaves_a_box_that_installs_again() {
    let bench = Bench::new();
    let two = bench.packed(2);
    for round in 0..10 {
        let service = bench.serve();
        let two = upload(&bench, 2, &two);
        done(&service.socket, &Request::Install { upload: two });
        // Somewhere between the first byte and the last.
        for _ in 0..round {
            let _ = progress(&service.socket);
        }
        service.kill();
        assert!(bench.entries().contains(&"palabre_1.efi".to_owned()));
        assert_eq!(bench.status()["slots"][0]["version"], 1);
    }
    let service = bench.serve();
    assert_eq!(progress(&service.socket), Progress::default());
    let two = upload(&bench, 2, &two);
    done(&service.socket, &Request::Install { upload: two });
    assert_eq!(ended(&service.socket).phase, Phase::Done);
}

#[test]
fn a_stranger_gets_nothing_and_nonsense_gets_a_reason() {
    let bench = Bench::new();
    let service = bench.serve();
    let socket = &service.socket;
    let said = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(socket).unwrap();
        // It may close before it has read everything.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    };
    for nonsense in [
        &b"\n"[..],
        b"\"status\"",
        b"\"status\"\n\"status\"\n",
        b"{\"install\":{\"upload\":\"../../etc/shadow\"}}\n",
        b"[[[[[[[[[[\n",
        b"\xff\xfe\n",
    ] {
        let reply = Reply::read(said(nonsense).trim_ascii_end());
        assert!(
            matches!(&reply, Err(Unanswered::Refused(r)) if r.code == "request-invalid"),
            "{reply:?}"
        );
    }
    said(&vec![b'['; 300 * 1024]);
    assert_eq!(status(socket).image.version, 1);
    service.kill();

    // Somebody who may open the socket and is not the program.
    let service = bench.serve_for(bench.owner() + 1, &bench.at("upload"), &[]);
    for request in [Request::Status, Request::Restart] {
        refused(&service.socket, &request, "forbidden");
    }
    assert!(bench.said().is_empty());
}

#[test]
fn data_that_are_back_are_told_once_and_blame_nobody() {
    let bench = Bench::new();
    bench.good(&["install", &bench.packed(2)]);
    bench.runs(2);
    bench.good(&["mark-bad", "program: it hangs"]);
    bench.runs(1);
    let service = bench.serve();
    done(&service.socket, &Request::Restored { before: 2 });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/readyz", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n");
    });
    bench.good(&["health", "--url", &url, "--no-reboot"]);
    let events = status(&service.socket).history;
    let told: Vec<_> = events.iter().map(|e| (e.what, e.version)).collect();
    let expected = [(What::Installed, 2), (What::Bad, 2), (What::Restored, 2)];
    assert_eq!(told, expected);
}
