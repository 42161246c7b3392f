//! A box made of files: a disk with two slots, an EFI system partition, the firmware's variables,
//! keys. It runs whatever version the test says it runs, and what it would have systemd do it writes
//! down.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "several tests share it, each uses a part"
)]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A program that was built beside this test.
///
/// # Panics
/// When it was not.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a test knows its own path");
    let folder = own
        .ancestors()
        .nth(2)
        .expect("tests lie in target/PROFILE/deps");
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is not built: run `cargo test` from the root",
        path.display()
    );
    path
}

/// The root hash of version `v`.
#[must_use]
pub fn hash(v: u32) -> String {
    format!("{v:02x}").repeat(16) + &format!("{:02x}", v + 100).repeat(16)
}

fn uuid(half: &str) -> String {
    [
        &half[..8],
        &half[8..12],
        &half[12..16],
        &half[16..20],
        &half[20..],
    ]
    .join("-")
}

/// The box.
#[derive(Debug)]
pub struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    /// A box that runs version 1 from slot A, with development keys.
    #[must_use]
    pub fn new() -> Self {
        let bench = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        for folder in [
            "esp/EFI/Linux",
            "efivars",
            "keys",
            "run/palabre",
            "var",
            "bin",
            "upload",
        ] {
            fs::create_dir_all(bench.at(folder)).unwrap();
        }
        fs::write(bench.at("run/palabre/hostname"), "palabre-test\n").unwrap();
        for name in ["systemctl", "networkctl"] {
            bench.tool(name, "exit 0");
        }
        let made = bench.bundle(&["keys", "dev", &bench.text("build")]);
        assert!(made.status.success(), "{made:?}");
        for name in ["current", "next"] {
            let from = bench.at(&format!("build/bundle-{name}.pub"));
            fs::copy(from, bench.at(&format!("keys/{name}.pub"))).unwrap();
        }
        fs::write(bench.at("esp/EFI/Linux/palabre_1.efi"), "one").unwrap();
        fs::write(bench.at("disk"), "").unwrap();
        let disk = fs::File::options()
            .write(true)
            .open(bench.at("disk"))
            .unwrap();
        disk.set_len(2 << 20).unwrap();
        let one = hash(1);
        let script = format!(
            "label: gpt\nfirst-lba: 64\n\
             start=64, size=32, type=2c7357ed-ebd2-46d9-aec1-23d437ec2bf5, name=palabre_1_verity, uuid={}\n\
             start=96, size=1024, type=4f68bce3-e8cd-4db1-96e7-fbcaf984b709, name=palabre_1, uuid={}\n\
             start=1120, size=32, type=2c7357ed-ebd2-46d9-aec1-23d437ec2bf5, name=_empty\n\
             start=1152, size=1024, type=4f68bce3-e8cd-4db1-96e7-fbcaf984b709, name=_empty\n",
            uuid(&one[32..]),
            uuid(&one[..32]),
        );
        fs::write(bench.at("script"), script).unwrap();
        bench.fdisk(&format!("I\n{}\nw\n", bench.text("script")));
        bench.runs(1);
        bench
    }

    /// A path of the box.
    #[must_use]
    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same, as text.
    #[must_use]
    pub fn text(&self, name: &str) -> String {
        self.at(name).display().to_string()
    }

    /// Gives the box a program of the system: it writes its arguments down, then runs `script`.
    pub fn tool(&self, name: &str, script: &str) {
        let (path, said) = (self.at(&format!("bin/{name}")), self.text("said"));
        let text = format!("#!/bin/sh\necho {name} \"$@\" >>'{said}'\n{script}\n");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Which of the system's programs were run, oldest first.
    #[must_use]
    pub fn said(&self) -> Vec<String> {
        let text = fs::read_to_string(self.at("said")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn fdisk(&self, commands: &str) {
        let mut fdisk = Command::new("fdisk")
            .arg(self.at("disk"))
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("fdisk is needed (Debian package fdisk)");
        fdisk
            .stdin
            .take()
            .unwrap()
            .write_all(commands.as_bytes())
            .unwrap();
        assert!(fdisk.wait().unwrap().success());
    }

    /// Starts version `v`, as far as files can tell.
    pub fn runs(&self, v: u32) {
        self.runs_with_floor(v, 0);
    }

    /// The same, with the floor that the version was built with.
    pub fn runs_with_floor(&self, v: u32, floor: u32) {
        let image = format!(
            r#"{{"product":"palabre","arch":"amd64","flavour":"core","version":{v},"display":"{v}","floor":{floor},"channel":"development"}}"#
        );
        fs::write(self.at("image.json"), image).unwrap();
        fs::write(
            self.at("cmdline"),
            format!("quiet palabre.roothash={}\n", hash(v)),
        )
        .unwrap();
    }

    /// Runs `palabre-bundle`.
    pub fn bundle(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(program("palabre-bundle"));
        command.args(arguments).output().unwrap()
    }

    /// Packs version `v`.
    pub fn pack(&self, v: u32, more: &[&str]) -> Output {
        fs::write(self.at("root"), vec![v as u8; 300_000]).unwrap();
        fs::write(self.at("verity"), vec![v as u8; 8_192]).unwrap();
        fs::write(
            self.at("uki"),
            format!("MZ quiet palabre.roothash={} {v}", hash(v)),
        )
        .unwrap();
        let (root, verity, uki) = (self.text("root"), self.text("verity"), self.text("uki"));
        let (hash, version, out) = (hash(v), v.to_string(), self.text(&format!("{v}.plbu")));
        let fixed = [
            "pack",
            "--root",
            &root,
            "--verity",
            &verity,
            "--uki",
            &uki,
            "--roothash",
            &hash,
            "--arch",
            "amd64",
            "--flavour",
            "core",
            "--version",
            &version,
            "--created",
            "1790000000",
            "-o",
            &out,
        ];
        self.bundle(&[&fixed, more].concat())
    }

    /// The path of version `v`, signed with the current key.
    #[must_use]
    pub fn packed(&self, v: u32) -> String {
        let key = self.text("build/bundle-current.key");
        let made = self.pack(v, &["--key", &key]);
        assert!(made.status.success(), "{made:?}");
        self.text(&format!("{v}.plbu"))
    }

    /// `palabre-update`, told where everything is.
    #[must_use]
    pub fn updater(&self) -> Command {
        let mut command = Command::new(program("palabre-update"));
        for (option, name) in [
            ("--image", "image.json"),
            ("--keys", "keys"),
            ("--esp", "esp"),
            ("--disk", "disk"),
            ("--state", "var/update"),
            ("--cmdline", "cmdline"),
            ("--efivars", "efivars"),
            ("--run", "run"),
        ] {
            command.arg(option).arg(self.at(name));
        }
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.text("bin")));
        command
    }

    /// The service of the box, for the user who runs this test.
    #[must_use]
    pub fn serve(&self) -> Service {
        self.serve_for(self.owner(), &self.at("upload"), &[])
    }

    /// Who runs this test.
    #[must_use]
    pub fn owner(&self) -> u32 {
        fs::metadata(self.at("upload")).unwrap().uid()
    }

    /// The same for this user, this folder of uploads and with more options, started as systemd does:
    /// its socket is its standard input.
    #[must_use]
    pub fn serve_for(&self, user: u32, uploads: &Path, more: &[&str]) -> Service {
        let socket = self.at("box.sock");
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let mut command = self.updater();
        command
            .args(["serve", "--user", &user.to_string(), "--uploads"])
            .arg(uploads)
            .args(more)
            .stdin(OwnedFd::from(listener));
        Service {
            child: command.spawn().unwrap(),
            socket,
        }
    }

    /// Runs `palabre-update` on this box.
    pub fn update(&self, arguments: &[&str]) -> Output {
        self.updater().args(arguments).output().unwrap()
    }

    /// The same, which must go well; what it says.
    pub fn good(&self, arguments: &[&str]) -> String {
        let done = self.update(arguments);
        assert!(done.status.success(), "{arguments:?} {done:?}");
        String::from_utf8(done.stdout).unwrap()
    }

    /// The same, which must refuse; what it says.
    pub fn refused(&self, arguments: &[&str]) -> String {
        let done = self.update(arguments);
        assert_eq!(done.status.code(), Some(1), "{arguments:?} {done:?}");
        String::from_utf8(done.stderr).unwrap()
    }

    /// What the boot loader can start.
    #[must_use]
    pub fn entries(&self) -> Vec<String> {
        names(&self.at("esp/EFI/Linux"))
    }

    /// What `palabre-update` says of the box.
    #[must_use]
    pub fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.good(&["status", "--json"])).unwrap()
    }
}

impl Default for Bench {
    fn default() -> Self {
        Self::new()
    }
}

/// The running service of a box; ends with its owner.
#[derive(Debug)]
pub struct Service {
    child: Child,
    /// Where it listens.
    pub socket: PathBuf,
}

impl Service {
    /// kill -9.
    pub fn kill(mut self) {
        self.end();
    }

    /// Waits until it has ended by itself: whether it ended well.
    pub fn ended(mut self) -> bool {
        self.child.wait().unwrap().success()
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.end();
    }
}

/// Names in a folder, sorted.
#[must_use]
pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Answers every request with this status until the test ends.
pub fn answering(status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/readyz", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 1024]);
            let _ = write!(stream, "HTTP/1.0 {status}\r\n\r\nwords");
        }
    });
    url
}
