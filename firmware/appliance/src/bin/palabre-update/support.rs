//! The support bundle: what somebody needs who is asked for help, without what belongs to people.
//!
//! A `tar.gz` made in memory, of bounded parts: every text of it went through the redactor, and what
//! did not is numbers and words that this file writes itself.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use flate2::Compression;
use flate2::write::GzEncoder;
use palabre_appliance::redact::Redactor;
use palabre_appliance::service::Status;
use serde::Deserialize;

use crate::system::bounded;
use crate::{Failed, Places, look};

/// The most bytes of one part, before it is compressed. Higher tells older things; the bundle should
/// still go by mail.
const MOST: usize = 4 << 20;
/// The most lines that the journal is asked for.
const LINES: &str = "20000";
/// The most bytes of one line of the journal that are read.
const LINE: u64 = 64 * 1024;

const README: &str = "\
Palabre: support bundle

  box.json      versions, slots, history of updates
  journal.txt   what the programs of the box said, the newest 4 MiB
  kernel.txt    what the kernel said since the last start
  units.txt     the state of every part of the system
  network.txt   the state of the network ports
  storage.txt   how full the disks are

Addresses, names of hosts and of people, telephone numbers, codes and keys were replaced by words in
brackets. Look through it before you give it to somebody: a name that stands alone in a sentence
cannot be told from another word.

Palabre : dossier d'assistance

Les adresses, les noms de machines et de personnes, les numéros de téléphone, les codes et les clés
ont été remplacés par des mots entre crochets. Relisez-le avant de le donner : un nom seul dans une
phrase ne se distingue pas d'un autre mot.
";

/// One line of the journal, as `journalctl -o json` gives it.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    at: Option<String>,
    #[serde(rename = "SYSLOG_IDENTIFIER")]
    from: Option<String>,
    #[serde(rename = "PRIORITY")]
    priority: Option<String>,
    #[serde(rename = "MESSAGE")]
    message: serde_json::Value,
}

/// Makes the bundle.
pub(super) fn bundle(places: &Places) -> Result<Vec<u8>, Failed> {
    let status = look(places);
    let host = status.as_ref().map_or(String::new(), |s| s.host.clone());
    let redactor = Redactor::new(&[host]);
    let failed = |error: std::io::Error| Failed::said("support", error);
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    let mut add = |name: &str, text: &str| -> Result<(), Failed> {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        let path = format!("palabre-support/{name}");
        tar.append_data(&mut header, path, text.as_bytes())
            .map_err(failed)
    };
    add("README.txt", README)?;
    add("box.json", &described(status, &redactor))?;
    let journal = ["--no-pager", "-o", "json", "-r", "-n", LINES];
    add("journal.txt", &said(&journal, &redactor))?;
    let kernel = ["--no-pager", "-o", "json", "-r", "-n", "5000", "-k", "-b"];
    add("kernel.txt", &said(&kernel, &redactor))?;
    let units = [
        "list-units",
        "--all",
        "--no-pager",
        "--plain",
        "--no-legend",
    ];
    add("units.txt", &output("systemctl", &units, &redactor))?;
    add(
        "network.txt",
        &output("networkctl", &["list", "--no-pager"], &redactor),
    )?;
    add(
        "storage.txt",
        &output(
            "df",
            &["-B1M", "--output=target,size,used,avail,itotal,iavail"],
            &redactor,
        ),
    )?;
    let gzip = tar.into_inner().map_err(failed)?;
    gzip.finish().map_err(failed)
}

fn described(status: Result<Status, Failed>, redactor: &Redactor) -> String {
    let mut status = match status {
        Ok(status) => status,
        Err(Failed::Said { code, what }) => {
            return redactor.text(&format!("error[{code}]: {what}"));
        }
        Err(Failed::Usage(_)) => return String::new(),
    };
    "[host]".clone_into(&mut status.host);
    "[id]".clone_into(&mut status.boot);
    for event in status.history.iter_mut().chain(&mut status.last_failure) {
        event.why = redactor.line(&event.why);
    }
    serde_json::to_string_pretty(&status).unwrap_or_default()
}

/// What the journal says, oldest first, as much of the newest as fits.
fn said(arguments: &[&str], redactor: &Redactor) -> String {
    let child = bounded("journalctl")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return format!("journalctl: {error}\n"),
    };
    let mut lines = Vec::new();
    let mut bytes = 0;
    if let Some(stdout) = child.stdout.take() {
        let mut reader = BufReader::new(stdout);
        while bytes < MOST {
            let mut line = Vec::new();
            let mut bounded = std::io::Read::take(&mut reader, LINE);
            match bounded.read_until(b'\n', &mut line) {
                Ok(length) if length > 0 => {}
                _ => break,
            }
            // The rest of a line that is too long is no line of its own.
            if let Some(line) = shown(&line, redactor) {
                bytes += line.len() + 1;
                lines.push(line);
            }
        }
    }
    // It may have more to say than fits.
    let _ = child.kill();
    let _ = child.wait();
    lines.reverse();
    lines.join("\n") + "\n"
}

fn shown(line: &[u8], redactor: &Redactor) -> Option<String> {
    let entry: Entry = serde_json::from_slice(line).ok()?;
    // Bytes that are no text come as a list of numbers.
    let message = entry.message.as_str()?;
    let seconds = entry.at?.parse::<i64>().ok()? / 1_000_000;
    let at = jiff::Timestamp::from_second(seconds).ok()?;
    let (from, priority) = (
        entry.from.unwrap_or_default(),
        entry.priority.unwrap_or_default(),
    );
    let from = redactor.line(&from);
    let text = redactor.text(message).trim_end().replace('\n', "\n    ");
    Some(format!("{at} {priority} {from}: {text}"))
}

/// What one of the system's programs writes.
fn output(program: &str, arguments: &[&str], redactor: &Redactor) -> String {
    let done = bounded(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .env("SYSTEMD_COLORS", "0")
        .env("LC_ALL", "C.UTF-8")
        .output();
    match done {
        Ok(done) => {
            let most = done.stdout.len().min(MOST);
            redactor.text(&String::from_utf8_lossy(&done.stdout[..most]))
        }
        Err(error) => format!("{program}: {error}\n"),
    }
}
