//! Takes out of a log what belongs to people: addresses, numbers, names, secrets.
//!
//! For the support bundle, which leaves the building. Our own lines hold no such thing by promise,
//! but the bundle holds the lines of everybody. So what is not known to be harmless goes: a word
//! more lost costs a question, a name less lost cannot be taken back. What is taken out leaves its
//! kind in brackets, so that the shape of the line stays.

use std::net::{IpAddr, Ipv6Addr};

use regex::{Captures, Regex};

/// Fewest digits in one number that may be somebody's: local telephone numbers have seven.
const DIGITS: usize = 7;

/// Fewest hexadecimal digits that may name a machine or open something.
const HEX: usize = 16;

/// Fewest characters of mixed letters and digits that may open something.
const TOKEN: usize = 20;

/// Ends of words that are files and units of the system. Some are domains too (`rs`, `so`, `network`): what has more
/// than two labels is a host all the same, unless a path leads to it.
const OURS: [&str; 40] = [
    "service",
    "socket",
    "target",
    "mount",
    "automount",
    "path",
    "timer",
    "slice",
    "scope",
    "device",
    "swap",
    "network",
    "netdev",
    "link",
    "conf",
    "toml",
    "json",
    "jsonl",
    "db",
    "so",
    "ko",
    "rs",
    "efi",
    "sock",
    "pem",
    "key",
    "log",
    "pub",
    "new",
    "old",
    "tmp",
    "plbu",
    "c",
    "h",
    "cc",
    "S",
    "xz",
    "zst",
    "bin",
    "fw",
];

/// Words that a sentence of the system begins with, and no name.
const VERBS: [&str; 22] = [
    "Started",
    "Starting",
    "Stopped",
    "Stopping",
    "Finished",
    "Failed",
    "Reached",
    "Mounted",
    "Mounting",
    "Unmounted",
    "Unmounting",
    "Listening",
    "Closed",
    "Created",
    "Found",
    "Set",
    "Deactivated",
    "Received",
    "Dependency",
    "Linux",
    "Command",
    "Kernel",
];

/// What takes things out.
#[derive(Debug)]
pub struct Redactor {
    known: Vec<String>,
    escapes: Regex,
    credentials: Regex,
    keyed: Regex,
    quoted: Regex,
    claim: Regex,
    uri: Regex,
    number: Regex,
    named: Regex,
    word: Regex,
    time: Regex,
}

impl Redactor {
    /// A redactor that takes out these words too, wherever they stand: the name of the box.
    pub fn new(known: &[String]) -> Self {
        let regex = |text: &str| Regex::new(text).expect("these expressions are right");
        let mut known: Vec<String> = known.iter().filter(|w| w.len() > 2).cloned().collect();
        // The longest first: one may be a part of another.
        known.sort_by_key(|word| std::cmp::Reverse(word.len()));
        Self {
            known,
            escapes: regex("\x1b\\[[0-9;?]*[A-Za-z]"),
            credentials: regex(
                r#"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie|bearer)\b["']?\s*[:= ].*"#,
            ),
            keyed: regex(concat!(
                r"(?i)\b([\w-]*(?:pass(?:word|wd|phrase)?|secret|token|authorization|bearer|cookie|session|",
                r"api[_-]?key|private|claim|nonce|cnonce|serial(?:number)?|uuid|guid|machine[_-]?id|name|identity|",
                r"user|username|login|display|from|to|caller|callee|contact|room|title|subject|host|domain|ssid|",
                r"participant|email|mail|phone|number|address|addr|peer|client|server|uri|url|slug|sid))",
                r#"(["']?\s*[:=]\s*)("(?:[^"\\]|\\.)*"|'[^']*'|[^\s"',;)}\]]+)"#,
            )),
            quoted: regex(r#""(?:[^"\\]|\\.)*"?|“[^”]*”?|«[^»]*»?|‘[^’]*’|'[^']{2,}'"#),
            claim: regex(r"(?i)\b[0-9a-z]{4}(?:-[0-9a-z]{4}){3}\b"),
            uri: regex(
                r#"(?i)\b(?:sips?|tel|mailto|https?|wss?|ftp|stuns?|turns?|ldaps?):[^\s<>"']+"#,
            ),
            number: regex(r"\+?[0-9(](?:[ .\-/()]?[0-9()])+"),
            named: regex(
                r"\b\p{Lu}[\p{L}'’-]+(?: (?:(?:de|du|des|la|le|van|von|der|d['’])\b ?)*\p{Lu}[\p{L}'’-]+)+",
            ),
            word: regex(r#"[^\s\[\](){}<>,;|="'`“”«»]+"#),
            time: regex(concat!(
                r"\b(?:19|20)\d{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])",
                r"(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}:\d{2})?)?\b",
            )),
        }
    }

    /// A text, line by line; blocks of PEM go whole.
    pub fn text(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut in_block = false;
        for line in text.lines() {
            if line.contains("-----BEGIN ") {
                in_block = true;
                out.push_str("[secret]\n");
            }
            if !in_block {
                out.push_str(&self.line(line));
                out.push('\n');
            }
            in_block &= !line.contains("-----END ");
        }
        out
    }

    /// One line.
    pub fn line(&self, line: &str) -> String {
        if line.contains("-----BEGIN ") || line.contains("-----END ") {
            return "[secret]".to_owned();
        }
        let line = self.escapes.replace_all(line, "");
        let mut line: String = line
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        for word in &self.known {
            line = without(&line, word);
        }
        let line = self.credentials.replace_all(&line, "$1: [removed]");
        let line = self.keyed.replace_all(&line, "$1$2[removed]");
        let line = self.uri.replace_all(&line, "[address]");
        let line = self.quoted.replace_all(&line, "[text]");
        let line = self.claim.replace_all(&line, "[secret]");
        let line = self.named.replace_all(&line, |found: &Captures<'_>| {
            let (first, rest) = found[0].split_once(' ').unwrap_or_default();
            match VERBS.contains(&first) {
                // A sentence's first word, and one of its own.
                true if !rest.contains(' ') => found[0].to_owned(),
                true => format!("{first} [text]"),
                false => "[text]".to_owned(),
            }
        });
        let line = self
            .word
            .replace_all(&line, |found: &Captures<'_>| self.word(&found[0]));
        // Times of the log are full of digits, and nobody's.
        let mut out = String::with_capacity(line.len());
        let mut at = 0;
        for time in self.time.find_iter(&line) {
            out.push_str(&self.numbers(&line[at..time.start()]));
            out.push_str(time.as_str());
            at = time.end();
        }
        out.push_str(&self.numbers(&line[at..]));
        out
    }

    fn numbers(&self, text: &str) -> String {
        let numbers = self.number.replace_all(text, |found: &Captures<'_>| {
            let digits = found[0].bytes().filter(u8::is_ascii_digit).count();
            match digits >= DIGITS {
                true => "[number]".to_owned(),
                false => found[0].to_owned(),
            }
        });
        numbers.into_owned()
    }

    /// One word, without blanks and brackets.
    fn word(&self, word: &str) -> String {
        // A sentence's own marks stay outside.
        let core = word.trim_end_matches([':', '.', '!', '?']);
        let end = &word[core.len()..];
        match self.kind(core).or_else(|| self.kind(word)) {
            Some(kind) => format!("{kind}{end}"),
            None => word.to_owned(),
        }
    }

    fn kind(&self, word: &str) -> Option<&'static str> {
        let is_time = |found: regex::Match<'_>| found.len() == word.len();
        if self.time.find(word).is_some_and(is_time) {
            return None;
        }
        if is_address(word) || word.contains('@') {
            return Some("[address]");
        }
        if !word.is_ascii() {
            return Some("[text]");
        }
        let hex = |c: char| c.is_ascii_hexdigit();
        let bare: String = word.chars().filter(|c| *c != '-' && *c != ':').collect();
        let plain = bare.strip_prefix("0x").unwrap_or(&bare);
        if plain.len() >= HEX && plain.chars().all(hex) {
            return Some("[id]");
        }
        if is_hardware(word) {
            return Some("[address]");
        }
        let pieces = word.split(|c: char| !(c.is_ascii_alphanumeric() || "_-+.~".contains(c)));
        let mut end = 0;
        for piece in pieces {
            // Each is followed by one character of ASCII.
            let before = &word[..end];
            end += piece.len() + 1;
            let in_path = before.ends_with('/') && !before.ends_with("//");
            let digits = piece.bytes().filter(u8::is_ascii_digit).count();
            let letters = piece.bytes().filter(u8::is_ascii_alphabetic).count();
            let is_dense = piece.len() >= TOKEN && digits >= 4 && letters >= 4;
            // No word of any language: a line of a key.
            let is_endless = piece.len() >= 40 && digits + letters == piece.len();
            if is_dense || is_endless || piece.starts_with("eyJ") {
                return Some("[secret]");
            }
            if is_host(piece, in_path) {
                return Some("[host]");
            }
        }
        None
    }
}

/// The text without `word` where it stands as a whole, in whatever case.
fn without(text: &str, word: &str) -> String {
    let (low, word) = (text.to_ascii_lowercase(), word.to_ascii_lowercase());
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(found) = low[at..].find(&word) {
        out.push_str(&text[at..at + found]);
        out.push_str("[host]");
        at += found + word.len();
    }
    out.push_str(&text[at..]);
    out
}

/// An address, perhaps with a port, a prefix or a zone.
fn is_address(word: &str) -> bool {
    let word = word.split('%').next().unwrap_or(word);
    let word = word.split('/').next().unwrap_or(word);
    if word.parse::<IpAddr>().is_ok() || word.parse::<std::net::SocketAddr>().is_ok() {
        return true;
    }
    // What was beside a bracket, or has a port after it without one.
    let bare = word.trim_matches(':');
    if bare.len() > 2 && bare.contains(':') && bare.parse::<Ipv6Addr>().is_ok() {
        return true;
    }
    match word.rsplit_once(':') {
        Some((before, port)) if port.parse::<u16>().is_ok() => before.parse::<IpAddr>().is_ok(),
        // Cut short, or with a letter too many: four numbers with dots are an address still.
        _ => {
            let numbers = word.split('.').filter(|n| n.parse::<u16>().is_ok()).count();
            numbers >= 4
        }
    }
}

/// An IEEE 802 address.
fn is_hardware(word: &str) -> bool {
    let parts: Vec<&str> = word.split([':', '-']).collect();
    let pair = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
    parts.len() >= 6 && parts.iter().all(pair)
}

/// A host by name: labels with dots, the last of letters, and no file or unit of the system.
fn is_host(word: &str, in_path: bool) -> bool {
    let labels: Vec<&str> = word.trim_matches('.').split('.').collect();
    let Some(last) = labels.last().filter(|_| labels.len() >= 2) else {
        return false;
    };
    let is_label = |label: &&str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let is_name = last.len() >= 2 && last.bytes().all(|b| b.is_ascii_alphabetic());
    let is_ours = OURS.contains(last) && (labels.len() == 2 || in_path);
    is_name && !is_ours && labels.iter().all(is_label)
}

#[cfg(test)]
#[path = "redact_tests.rs"]
mod tests;
