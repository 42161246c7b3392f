//! The torture corpus of `sip-gateway/tests/torture`: own messages, one file each, named by the section of RFC 4475 or
//! RFC 5118 whose difficulty they hold. The first line of a file is the verdict it must get.

use super::super::event::Event;
use super::super::name::Name;
use super::super::{Config, Message};
use super::harness::*;

/// `expect:` line and bytes of every file: CR LF line ends, `\xHH` escapes, `{length}` replaced by the body's length.
pub(super) fn corpus() -> Vec<(String, String, Vec<u8>)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/torture");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let (expect, text) = text.split_once('\n').unwrap();
            let verdict = expect.strip_prefix("expect: ").unwrap().to_owned();
            let text = text.replace('\n', "\r\n");
            let length = text
                .trim_start()
                .split_once("\r\n\r\n")
                .map_or(0, |(_, body)| body.len());
            // After an empty declared body there may be a second message: then the length is said in the file.
            let length = if path.to_string_lossy().contains("octets-after") {
                0
            } else {
                length
            };
            let mut bytes = text.replace("{length}", &length.to_string()).into_bytes();
            while let Some(at) = bytes.windows(2).position(|pair| pair == b"\\x") {
                let byte =
                    u8::from_str_radix(std::str::from_utf8(&bytes[at + 2..at + 4]).unwrap(), 16)
                        .unwrap();
                bytes.splice(at..at + 4, [byte]);
            }
            (
                path.file_stem().unwrap().to_string_lossy().into_owned(),
                verdict,
                bytes,
            )
        })
        .collect()
}

fn verdict(bytes: &[u8]) -> String {
    let mut bench = Bench::new(Config::default());
    let replies = bench.bytes(bytes);
    match &replies[..] {
        [] => "dropped".into(),
        [reply] if reply.status() == Some(100) => {
            assert!(matches!(bench.events[..], [Event::Invite(_)]));
            "call".into()
        }
        [reply] if reply.status() == Some(200) => "200".into(),
        [reply] if reply.status() == Some(501) => "501".into(),
        [reply] => format!("{} {}", reply.status().unwrap(), reply.reason()),
        _ => panic!("more than one reply"),
    }
}

#[test]
fn every_message_gets_its_verdict() {
    let corpus = corpus();
    assert!(corpus.len() >= 90, "{} messages", corpus.len());
    let wrong: Vec<String> = corpus
        .iter()
        .map(|(name, expected, bytes)| (name, expected, verdict(bytes)))
        .filter(|(_, expected, found)| *expected != found)
        .map(|(name, expected, found)| format!("{name}: expected {expected}, found {found}"))
        .collect();
    assert!(
        wrong.is_empty(),
        "{}\n{} of {}",
        wrong.join("\n"),
        wrong.len(),
        corpus.len()
    );
}

#[test]
fn refusals_carry_what_helps() {
    let reply = |name: &str| -> Message {
        let (_, _, bytes) = corpus()
            .into_iter()
            .find(|(file, ..)| file.contains(name))
            .unwrap();
        Bench::new(Config::default()).bytes(&bytes).remove(0)
    };
    assert_eq!(
        reply("3.3.05").header(Name::Unsupported),
        Some("nothingSupportsThis, norThis")
    );
    assert_eq!(
        reply("3.3.06").header(Name::Accept),
        Some("application/sdp")
    );
    assert!(
        reply("3.3.07")
            .header(Name::Allow)
            .unwrap()
            .contains("INVITE")
    );
    assert!(reply("3.1.1.02").header(Name::Allow).is_some());
    assert_eq!(
        reply("compressed").header(Name::AcceptEncoding),
        Some("identity")
    );
    assert!(
        reply("srtp-only")
            .header(Name::Warning)
            .unwrap()
            .starts_with("302 192.0.2.1:5060 \"")
    );
    assert_eq!(reply("too-small").header(Name::MinSe), Some("90"));
    // The same request refused twice gets the same tag (RFC 3261 §8.2.7).
    let (_, _, bytes) = corpus()
        .into_iter()
        .find(|(file, ..)| file.contains("3.3.05"))
        .unwrap();
    let mut bench = Bench::new(Config::default());
    assert_eq!(
        bench.bytes(&bytes)[0].header(Name::To),
        bench.bytes(&bytes)[0].header(Name::To)
    );
    // The 100 of the tangled INVITE keeps all its Via values, received where it belongs.
    let reply = reply("3.1.1.01");
    let vias: Vec<&str> = reply.headers(Name::Via).collect();
    assert_eq!(vias.len(), 2);
    assert!(
        vias[0].starts_with("SIP  /   2.0  ")
            || vias[0].starts_with("SIP/2.0/UDP 198.51.100.7:5062"),
        "{vias:?}"
    );
    assert!(vias[0].contains("z9hG4bKsecond"), "{vias:?}");
}
