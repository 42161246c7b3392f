//! One line for whoever looks: the kernel log, which every console shows.

use std::fs::OpenOptions;
use std::io::Write;

/// Sends the standard streams to the console, which exists once `/dev` is mounted.
pub(crate) fn open() {
    let console = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/console");
    if let Ok(console) = console {
        let _ = rustix::stdio::dup2_stdin(&console);
        let _ = rustix::stdio::dup2_stdout(&console);
        let _ = rustix::stdio::dup2_stderr(&console);
    }
}

/// A normal event.
pub(crate) fn note(text: &str) {
    log(5, text);
}

/// What kept the machine from booting: shown even with `quiet`.
pub(crate) fn failed(text: &str) {
    log(2, text);
}

fn log(level: u8, text: &str) {
    // The kernel cuts a record at about 1 KiB; a longer line goes in pieces.
    let clean: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let pieces: Vec<&[u8]> = clean.as_bytes().chunks(900).collect();
    let kernel = OpenOptions::new().write(true).open("/dev/kmsg");
    for piece in pieces {
        let piece = String::from_utf8_lossy(piece);
        let sent = kernel.as_ref().ok().and_then(|mut log| {
            log.write_all(format!("<{level}>palabre-init: {piece}\n").as_bytes())
                .ok()
        });
        if sent.is_none() {
            eprintln!("palabre-init: {piece}");
        }
    }
}
