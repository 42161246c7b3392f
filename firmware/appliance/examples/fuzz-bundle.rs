//! Looks for bundles that the parser answers in a new way, and keeps them in the corpus that the tests replay.
//!
//! ```text
//! cargo run -p palabre-appliance --example fuzz-bundle -- SECONDS [SEED]
//! ```
//! The hand-made files are written first, always the same. Then each round changes one of the corpus, mostly repairs header and
//! signature so that the change reaches what lies behind them, and keeps what gets an answer that none has had: a code, or a
//! sentence that differs in more than numbers and names. A panic ends it; so does a bundle that is accepted and should not be.

use std::collections::HashSet;
use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use palabre_appliance::bundle::{
    self, FORMAT, Image, MAGIC, MAX_MANIFEST, Manifest, Refused, Release,
};
use palabre_appliance::keys::{Channel, PrivateKey, PublicKey};
use palabre_init::mutate::Seeded;

/// The longest file of the corpus, in bytes. Longer ones find what these find, more slowly.
const MOST: usize = 4096;
/// What is put into manifests: words of theirs and numbers at the edge of something.
const WORDS: [&str; 24] = [
    "\"root\"",
    "\"verity\"",
    "\"uki\"",
    "\"../uki\"",
    "\"size\":",
    "\"sha256\":",
    "\"version\":",
    "\"floor\":",
    "\"parts\":[",
    "{\"name\":",
    "}",
    "]",
    ",",
    "null",
    "true",
    "\"",
    "\\u0000",
    "0",
    "-1",
    "1e9",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "\"arm64\"",
];

/// Names that sentences may differ by.
const NAMES: [&str; 13] = [
    "product",
    "arch",
    "flavour",
    "version",
    "display",
    "floor",
    "created",
    "channel",
    "root_hash",
    "parts",
    "name",
    "size",
    "sha256",
];

/// A key that everybody knows, since its seed is here. No box trusts it.
fn key(folder: &Path) -> PrivateKey {
    // PKCS#8 around the seed (RFC 8410, 7).
    let mut der = vec![
        0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20,
    ];
    der.extend(b"known to everybody: corpus only!");
    let file = folder.join("key.pem");
    fs::write(&file, BASE64_STANDARD.encode(der)).expect("a folder that can be written");
    let key = PrivateKey::read(&file).expect("the form is right");
    let _ = fs::remove_file(file);
    key
}

fn image() -> Image {
    Image {
        product: "palabre".to_owned(),
        arch: "amd64".to_owned(),
        flavour: "core".to_owned(),
        version: 6,
        display: "0.6.0".to_owned(),
        floor: 0,
        channel: Channel::Development,
        created: 0,
    }
}

/// What the box answers: a code, and of a manifest that is not understood the sentence, without what the file brings into it.
fn answer(bytes: &[u8], key: &PublicKey) -> (&'static str, String) {
    let checked =
        bundle::open(Cursor::new(bytes), std::slice::from_ref(key)).and_then(|mut opened| {
            opened.check_parts(|_| {})?;
            opened.manifest().suits(&image(), 0)?;
            Ok(opened.manifest().clone())
        });
    match checked {
        Ok(manifest) => {
            let Manifest { version, floor, .. } = manifest;
            assert!(version > 6 && floor <= version && manifest.parts.len() == 3);
            ("accepted", String::new())
        }
        Err(refused) => {
            let sentence = match &refused {
                // Up to what the file itself says; of that, only names that are ours.
                Refused::Manifest(sentence) => {
                    let mut pieces = sentence.split(['`', '"']);
                    let plain = pieces.next().unwrap_or_default();
                    let name = pieces.next().filter(|name| NAMES.contains(name));
                    let letters = plain.chars().filter(|c| !c.is_ascii_digit());
                    letters.chain(name.unwrap_or_default().chars()).collect()
                }
                _ => String::new(),
            };
            (refused.code(), sentence)
        }
    }
}

/// A whole file around a manifest.
fn around(manifest: &[u8], parts: &[u8], key: &PrivateKey) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(FORMAT.to_le_bytes());
    bytes.extend((manifest.len() as u32).to_le_bytes());
    bytes.extend(manifest);
    let signature = key.sign(&bytes);
    bytes.extend(signature);
    bytes.extend(parts);
    bytes
}

/// Manifest and parts of a file that has both.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = u32::from_le_bytes(bytes.get(12..16)?.try_into().ok()?) as usize;
    let manifest = bytes.get(16..16usize.checked_add(length)?)?;
    Some((manifest, bytes.get(16 + length + 64..)?))
}

/// The files that somebody thought of: name, content.
fn made_by_hand(key: &PrivateKey) -> Vec<(String, Vec<u8>)> {
    let release = Release {
        arch: "amd64".to_owned(),
        flavour: "core".to_owned(),
        version: 7,
        display: "0.7.0".to_owned(),
        floor: 5,
        created: 1_790_000_000,
        channel: Channel::Development,
        root_hash: "c3".repeat(32),
    };
    let parts = [vec![1; 64], vec![2; 32], vec![3; 16]];
    let [mut root, mut verity, mut uki] = parts.map(Cursor::new);
    let mut whole = Vec::new();
    let sign = |bytes: &[u8]| Ok(key.sign(bytes));
    bundle::pack(
        &release,
        [&mut root, &mut verity, &mut uki],
        sign,
        &mut whole,
    )
    .expect("parts in memory");
    let (manifest, parts) = split(&whole).expect("it was just made");
    let text = String::from_utf8(manifest.to_vec()).expect("JSON");
    let mut files = vec![("whole".to_owned(), whole.clone())];
    let mut add = |name: &str, bytes: Vec<u8>| files.push((name.to_owned(), bytes));
    let manifest_end = 16 + manifest.len();
    for (name, end) in [
        ("nothing", 0),
        ("half-magic", 4),
        ("half-header", 14),
        ("no-manifest", 16),
        ("half-manifest", 200),
        ("half-signature", manifest_end + 30),
        ("no-parts", manifest_end + 64),
        ("half-root", manifest_end + 100),
        ("last-byte-missing", whole.len() - 1),
    ] {
        add(&format!("cut-{name}"), whole[..end].to_vec());
    }
    add("one-byte-more", [whole.as_slice(), b"x"].concat());
    for (name, at, bit) in [
        ("magic", 0, 1),
        ("format", 8, 2),
        ("length", 12, 1),
        ("length-of-4-gib", 15, 0x80),
        ("manifest", 40, 1),
        ("signature", manifest_end + 10, 1),
        ("root", manifest_end + 70, 1),
        ("verity", manifest_end + 130, 1),
        ("uki", whole.len() - 3, 0x80),
    ] {
        let mut bytes = whole.clone();
        bytes[at] ^= bit;
        add(&format!("bit-in-{name}"), bytes);
    }
    let line_ends = whole.iter().copied().filter(|b| *b != b'\r').collect();
    add("transferred-as-text", line_ends);
    add("signed-by-a-stranger", {
        // Another seed, the same every time.
        let mut bytes = whole.clone();
        bytes[manifest_end..manifest_end + 64].fill(0x5a);
        bytes
    });
    add("no-manifest-at-all", around(b"", parts, key));
    add("manifest-of-null", around(b"null", parts, key));
    add("manifest-no-text", around(&[0xff; 32], parts, key));
    add("manifest-deep", around(&b"[".repeat(2000), parts, key));
    for (name, from, to) in [
        ("part-twice", r#""name":"verity""#, r#""name":"root""#),
        (
            "part-escapes",
            r#""name":"uki""#,
            r#""name":"../../etc/passwd""#,
        ),
        (
            "part-absolute",
            r#""name":"uki""#,
            r#""name":"/efi/EFI/BOOT/BOOTX64.EFI""#,
        ),
        ("part-with-nul", r#""name":"uki""#, r#""name":"uki\u0000""#),
        (
            "part-moves-cursor",
            r#""name":"uki""#,
            r#""name":"\u001b[2Juki""#,
        ),
        ("size-0", r#""size":64"#, r#""size":0"#),
        ("size-negative", r#""size":64"#, r#""size":-1"#),
        ("size-a-fraction", r#""size":64"#, r#""size":64.5"#),
        ("size-above-slot", r#""size":64"#, r#""size":4294967297"#),
        (
            "size-largest",
            r#""size":32"#,
            r#""size":18446744073709551615"#,
        ),
        (
            "size-beyond-u64",
            r#""size":32"#,
            r#""size":18446744073709551616"#,
        ),
        ("size-beyond-f64", r#""size":32"#, r#""size":1e999"#),
        ("size-one-more", r#""size":16"#, r#""size":17"#),
        ("size-one-less", r#""size":16"#, r#""size":15"#),
        ("version-0", r#""version":7"#, r#""version":0"#),
        (
            "version-below-its-floor",
            r#""version":7"#,
            r#""version":4"#,
        ),
        (
            "version-largest",
            r#""version":7"#,
            r#""version":18446744073709551615"#,
        ),
        (
            "version-twice",
            r#""version":7"#,
            r#""version":7,"version":9"#,
        ),
        (
            "version-older",
            r#""version":7,"display":"0.7.0","floor":5"#,
            r#""version":5,"display":"0.5.0","floor":5"#,
        ),
        (
            "field-unknown",
            r#""version":7"#,
            r#""version":7,"run":"sh""#,
        ),
        ("floor-missing", r#""floor":5,"#, ""),
        ("display-moves-cursor", r#""0.7.0""#, r#""\u001b[2J""#),
        ("root-hash-short", &"c3".repeat(32), "c3"),
        ("root-hash-no-digits", &"c3".repeat(32), &"zz".repeat(32)),
        ("channel-unknown", r#""development""#, r#""beta""#),
        (
            "product-other",
            r#""product":"palabre""#,
            r#""product":"tea""#,
        ),
        ("arch-other", r#""arch":"amd64""#, r#""arch":"arm64""#),
        (
            "flavour-other",
            r#""flavour":"core""#,
            r#""flavour":"room""#,
        ),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{name}");
        add(name, around(changed.as_bytes(), parts, key));
    }
    let mut value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let members = value["parts"].as_array().expect("a list").clone();
    for (name, members) in [
        ("parts-none", vec![]),
        ("parts-two", members[..2].to_vec()),
        ("parts-turned", members.iter().rev().cloned().collect()),
        (
            "parts-four",
            [members.clone(), vec![members[2].clone()]].concat(),
        ),
    ] {
        value["parts"] = members.into();
        add(name, around(value.to_string().as_bytes(), parts, key));
    }
    let long = format!("{text}{}", " ".repeat(MAX_MANIFEST));
    // Only its header: the rest would be 64 KiB of blanks.
    add(
        "manifest-too-long",
        around(long.as_bytes(), parts, key)[..64].to_vec(),
    );
    files
}

/// Changes a file of the corpus.
fn change(seeded: &mut Seeded, corpus: &[Vec<u8>], key: &PrivateKey) -> Vec<u8> {
    let mut bytes = corpus[seeded.below(corpus.len())].clone();
    let (mut manifest, mut parts) = match split(&bytes) {
        Some((manifest, parts)) if seeded.below(8) > 0 => (manifest.to_vec(), parts.to_vec()),
        _ => {
            seeded.damage(&mut bytes);
            if seeded.below(3) == 0 && !bytes.is_empty() {
                bytes.truncate(seeded.below(bytes.len()));
            }
            return bytes;
        }
    };
    for _ in 0..=seeded.below(3) {
        let at = seeded.below(manifest.len() + 1);
        match seeded.below(6) {
            0 => seeded.damage(&mut manifest),
            1 => drop(manifest.splice(at..at, WORDS[seeded.below(WORDS.len())].bytes())),
            2 => {
                let end = (at + 1 + seeded.below(12)).min(manifest.len());
                drop(manifest.splice(at.min(end)..end, WORDS[seeded.below(WORDS.len())].bytes()));
            }
            3 => {
                let end = (at + 1 + seeded.below(40)).min(manifest.len());
                drop(manifest.drain(at.min(end)..end));
            }
            4 => {
                let other = &corpus[seeded.below(corpus.len())];
                if let Some((other, _)) = split(other)
                    && !other.is_empty()
                {
                    let from = seeded.below(other.len());
                    manifest.truncate(at);
                    manifest.extend(&other[from..]);
                }
            }
            _ => seeded.damage(&mut parts),
        }
    }
    manifest.truncate(MOST);
    around(&manifest, &parts, key)
}

fn main() {
    let mut words = std::env::args().skip(1);
    let mut number = || {
        words
            .next()
            .map(|word| word.parse().expect("SECONDS and SEED are whole numbers"))
    };
    let seconds = number().unwrap_or(60);
    let mut seeded = Seeded(number().unwrap_or(1));
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus/bundle");
    let key = key(&folder);
    let public = key.public(Channel::Development);
    fs::write(folder.join("key.pub"), public.line()).expect("a folder that can be written");
    let (mut corpus, mut answers) = (Vec::new(), HashSet::new());
    for (name, bytes) in made_by_hand(&key) {
        let answer = answer(&bytes, &public);
        fs::write(folder.join(format!("{}--{name}", answer.0)), &bytes)
            .expect("a folder that can be written");
    }
    for file in fs::read_dir(&folder).expect("the corpus") {
        let bytes = fs::read(file.expect("a file").path()).expect("a file");
        answers.insert(answer(&bytes, &public));
        corpus.push(bytes);
    }
    let (began, mut rounds, mut found) = (Instant::now(), 0_u64, 0);
    while began.elapsed() < Duration::from_secs(seconds) {
        rounds += 1;
        let bytes = change(&mut seeded, &corpus, &key);
        let answer = answer(&bytes, &public);
        if bytes.len() > MOST || answers.contains(&answer) {
            continue;
        }
        found += 1;
        let name = format!("{}--found-{:08x}", answer.0, fingerprint(&bytes));
        fs::write(folder.join(name), &bytes).expect("a folder that can be written");
        answers.insert(answer);
        corpus.push(bytes);
    }
    let _ = writeln!(
        std::io::stdout(),
        "{rounds} bundles in {seconds} s, {} answers, {found} of them new; {} files in the corpus",
        answers.len(),
        corpus.len()
    );
}

/// A name for a content (FNV-1a, 32 bits).
fn fingerprint(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}
