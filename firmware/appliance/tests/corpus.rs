//! Every bundle of the corpus gets the answer that its name begins with: `CODE--what-it-is`.
//! `examples/fuzz-bundle.rs` makes the corpus and looks for more.

use std::collections::BTreeSet;
use std::fs;
use std::io::Cursor;
use std::path::Path;

use palabre_appliance::bundle::{Image, open};
use palabre_appliance::keys::{Channel, PublicKey};

/// Every answer there is but one: a file that cannot be read is no content.
const ANSWERS: [&str; 19] = [
    "accepted",
    "bundle-format",
    "bundle-signature",
    "bundle-trailing",
    "bundle-truncated",
    "manifest-invalid",
    "manifest-length",
    "not-a-bundle",
    "other-arch",
    "other-flavour",
    "other-product",
    "part-duplicate",
    "part-hash",
    "part-order",
    "part-size",
    "part-unknown",
    "version-below-floor",
    "version-older",
    "version-same",
];

#[test]
fn every_bundle_of_the_corpus_gets_its_answer() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/bundle");
    let key = fs::read_to_string(folder.join("key.pub")).unwrap();
    let key = PublicKey::parse(&key).unwrap();
    let image = |version| Image {
        product: "palabre".to_owned(),
        arch: "amd64".to_owned(),
        flavour: "core".to_owned(),
        version,
        display: "0.6.0".to_owned(),
        floor: 0,
        channel: Channel::Development,
        created: 0,
    };
    let answer = |bytes: &[u8], version, floor| {
        let checked =
            open(Cursor::new(bytes), std::slice::from_ref(&key)).and_then(|mut bundle| {
                bundle.check_parts(|_| {})?;
                bundle.manifest().suits(&image(version), floor)
            });
        checked.map_or_else(|refused| refused.code(), |()| "accepted")
    };
    let mut answers = BTreeSet::new();
    let mut files = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name == "key.pub" {
            continue;
        }
        let bytes = fs::read(folder.join(&name)).unwrap();
        let (expected, _) = name.split_once("--").unwrap();
        let given = answer(&bytes, 6, 0);
        assert_eq!(given, expected, "{name}");
        answers.insert(given);
        if given == "accepted" {
            // The same file to boxes that have seen more.
            answers.insert(answer(&bytes, 6, u64::MAX));
            assert!(bytes.len() < 4096);
        }
        files += 1;
    }
    let missing: Vec<_> = ANSWERS
        .iter()
        .filter(|code| !answers.contains(*code))
        .collect();
    assert!(missing.is_empty(), "no file gets {missing:?}");
    assert!(files >= 60, "{files}");
}
