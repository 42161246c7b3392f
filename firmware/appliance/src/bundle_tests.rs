//! Every way of tampering with a bundle, and what is answered.

use std::io::Cursor;

use palabre_init::mutate::Seeded;

use super::*;
use crate::keys::PrivateKey;

fn release() -> Release {
    Release {
        arch: "amd64".to_owned(),
        flavour: "core".to_owned(),
        version: 7,
        display: "0.7.0".to_owned(),
        floor: 5,
        created: 1_790_000_000,
        channel: Channel::Development,
        root_hash: "c3".repeat(32),
    }
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

fn contents() -> [Vec<u8>; 3] {
    [
        (0..600_000_u32).map(|i| (i * 7) as u8).collect(),
        vec![0x22; 5_000],
        b"MZ kernel".repeat(100),
    ]
}

fn packed(key: &PrivateKey) -> Vec<u8> {
    let [root, verity, uki] = contents();
    let (mut root, mut verity, mut uki) =
        (Cursor::new(root), Cursor::new(verity), Cursor::new(uki));
    let mut out = Vec::new();
    let parts = [&mut root, &mut verity, &mut uki];
    pack(&release(), parts, |bytes| Ok(key.sign(bytes)), &mut out).unwrap();
    out
}

/// Signs any manifest, as a holder of the key who means harm could.
fn signed(key: &PrivateKey, manifest: &str) -> Vec<u8> {
    let mut bytes = header(manifest.as_bytes());
    let signature = key.sign(&bytes);
    bytes.extend(signature);
    contents().iter().for_each(|part| bytes.extend(part));
    bytes
}

fn manifest_text(bytes: &[u8]) -> String {
    let length = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    String::from_utf8(bytes[16..16 + length].to_vec()).unwrap()
}

fn verdict(bytes: &[u8], keys: &[PublicKey]) -> Result<Manifest, Refused> {
    let mut bundle = open(Cursor::new(bytes), keys)?;
    bundle.check_parts(|_| {})?;
    Ok(bundle.manifest().clone())
}

fn code(bytes: &[u8], keys: &[PublicKey]) -> &'static str {
    verdict(bytes, keys).map_or_else(|refused| refused.code(), |_| "accepted")
}

#[test]
fn what_is_packed_is_read_with_either_key() {
    let (current, next) = (PrivateKey::generate(), PrivateKey::generate());
    let trusted = [
        current.public(Channel::Release),
        next.public(Channel::Release),
    ];
    for key in [&current, &next] {
        let bytes = packed(key);
        let mut bundle = open(Cursor::new(&bytes), &trusted).unwrap();
        let mut seen = 0;
        bundle.check_parts(|done| seen = done).unwrap();
        assert_eq!(
            seen,
            contents().iter().map(|part| part.len() as u64).sum::<u64>()
        );
        for (part, content) in Part::ALL.into_iter().zip(contents()) {
            let mut copy = Vec::new();
            bundle.copy_part(part, &mut copy, |_| {}).unwrap();
            assert!(copy == content, "{}", part.name());
        }
        let manifest = bundle.manifest();
        assert_eq!((manifest.version, manifest.floor), (7, 5));
        manifest.suits(&image(), 0).unwrap();
        assert_eq!(&look(Cursor::new(&bytes)).unwrap(), manifest);
    }
    assert!(
        packed(&current) == packed(&current),
        "packing is not reproducible"
    );
}

#[test]
fn a_bit_flipped_anywhere_is_refused() {
    let key = PrivateKey::generate();
    let trusted = [key.public(Channel::Release)];
    let bytes = packed(&key);
    let manifest = 16..16 + manifest_text(&bytes).len();
    let signature = manifest.end..manifest.end + 64;
    let [root, verity, uki] = contents();
    let root = signature.end..signature.end + root.len();
    let verity = root.end..root.end + verity.len();
    let uki = verity.end..verity.end + uki.len();
    assert_eq!(uki.end, bytes.len());
    let mut seeded = Seeded(3);
    for (region, expected) in [
        (0..8, "not-a-bundle"),
        (8..12, "bundle-format"),
        (manifest.clone(), "bundle-signature"),
        (signature, "bundle-signature"),
        (root, "part-hash"),
        (verity, "part-hash"),
        (uki, "part-hash"),
    ] {
        for _ in 0..20 {
            let mut bytes = bytes.clone();
            bytes[region.start + seeded.below(region.len())] ^= 1 << seeded.below(8);
            assert_eq!(code(&bytes, &trusted), expected);
        }
    }
    // Another length shifts what is signed, or is not a length.
    for bit in 0..32 {
        let mut bytes = bytes.clone();
        bytes[12 + bit / 8] ^= 1 << (bit % 8);
        let code = code(&bytes, &trusted);
        assert!(
            matches!(code, "bundle-signature" | "manifest-length"),
            "{code}"
        );
    }
}

#[test]
fn a_file_cut_or_continued_is_refused() {
    let key = PrivateKey::generate();
    let trusted = [key.public(Channel::Release)];
    let bytes = packed(&key);
    for end in (0..1200).chain([bytes.len() - 1, bytes.len() - 1000, bytes.len() / 2]) {
        assert_eq!(code(&bytes[..end], &trusted), "bundle-truncated", "{end}");
    }
    let longer = [bytes.as_slice(), b"x"].concat();
    assert_eq!(code(&longer, &trusted), "bundle-trailing");
}

#[test]
fn a_stranger_s_key_is_refused_before_the_manifest_is_read() {
    let (key, stranger) = (PrivateKey::generate(), PrivateKey::generate());
    let trusted = [key.public(Channel::Release)];
    assert_eq!(code(&packed(&stranger), &trusted), "bundle-signature");
    assert_eq!(code(&packed(&key), &[]), "bundle-signature");
    assert_eq!(
        code(&signed(&stranger, "not even JSON"), &trusted),
        "bundle-signature"
    );
    assert_eq!(
        code(&signed(&key, "not even JSON"), &trusted),
        "manifest-invalid"
    );
}

#[test]
fn signed_manifests_that_make_no_sense_are_refused() {
    let key = PrivateKey::generate();
    let trusted = [key.public(Channel::Release)];
    let good = manifest_text(&packed(&key));
    assert_eq!(code(&signed(&key, &good), &trusted), "accepted");
    let verity_hash = hex(digest::digest(&digest::SHA256, &contents()[1]).as_ref());
    for (from, to, expected) in [
        (r#""name":"verity""#, r#""name":"root""#, "part-duplicate"),
        (
            r#""name":"uki""#,
            r#""name":"../../etc/passwd""#,
            "part-unknown",
        ),
        (
            r#""name":"uki""#,
            r#""name":"/efi/EFI/BOOT/BOOTX64.EFI""#,
            "part-unknown",
        ),
        (r#""name":"uki""#, r#""name":"initrd""#, "part-unknown"),
        (r#""size":600000"#, r#""size":0"#, "part-size"),
        (r#""size":600000"#, r#""size":4294967297"#, "part-size"),
        (r#""size":5000"#, r#""size":67108865"#, "part-size"),
        (
            r#""size":5000"#,
            r#""size":18446744073709551615"#,
            "part-size",
        ),
        (r#""size":5000"#, r#""size":-1"#, "manifest-invalid"),
        (r#""size":600000"#, r#""size":600001"#, "bundle-truncated"),
        (r#""size":600000"#, r#""size":599999"#, "bundle-trailing"),
        (r#""version":7"#, r#""version":0"#, "manifest-invalid"),
        (r#""version":7"#, r#""version":4"#, "manifest-invalid"),
        (
            r#""version":7"#,
            r#""version":7,"version":9"#,
            "manifest-invalid",
        ),
        (
            r#""version":7"#,
            r#""version":7,"run":"sh""#,
            "manifest-invalid",
        ),
        (r#""floor":5,"#, "", "manifest-invalid"),
        (r#""0.7.0""#, "\"\\u001b[2J\"", "manifest-invalid"),
        (verity_hash.as_str(), "00", "manifest-invalid"),
    ] {
        let changed = good.replacen(from, to, 1);
        assert_ne!(changed, good, "{from}");
        assert_eq!(code(&signed(&key, &changed), &trusted), expected, "{to}");
    }
    // The parts of one more, one fewer, and another order.
    let mut value: serde_json::Value = serde_json::from_str(&good).unwrap();
    let parts = value["parts"].as_array().unwrap().clone();
    for (parts, expected) in [
        (vec![], "part-order"),
        (parts[..2].to_vec(), "part-order"),
        (
            vec![parts[1].clone(), parts[0].clone(), parts[2].clone()],
            "part-order",
        ),
        (
            [parts.clone(), vec![parts[2].clone()]].concat(),
            "part-duplicate",
        ),
    ] {
        value["parts"] = parts.into();
        assert_eq!(code(&signed(&key, &value.to_string()), &trusted), expected);
    }
    let long = format!("{}{}", good, " ".repeat(MAX_MANIFEST));
    assert_eq!(code(&signed(&key, &long), &trusted), "manifest-length");
    assert_eq!(code(&signed(&key, ""), &trusted), "manifest-length");
}

#[test]
fn an_update_for_another_box_is_refused() {
    let key = PrivateKey::generate();
    let bytes = packed(&key);
    let manifest = verdict(&bytes, &[key.public(Channel::Release)]).unwrap();
    let answer = |change: fn(&mut Image), floor: u64| {
        let mut image = image();
        change(&mut image);
        manifest
            .suits(&image, floor)
            .map_or_else(|refused| refused.code(), |()| "accepted")
    };
    assert_eq!(answer(|_| {}, 7), "accepted");
    assert_eq!(answer(|image| image.arch = "arm64".into(), 0), "other-arch");
    assert_eq!(
        answer(|image| image.flavour = "room".into(), 0),
        "other-flavour"
    );
    assert_eq!(
        answer(|image| image.product = "tea".into(), 0),
        "other-product"
    );
    assert_eq!(answer(|image| image.version = 8, 0), "version-older");
    assert_eq!(answer(|image| image.version = 7, 0), "version-same");
    assert_eq!(answer(|_| {}, 8), "version-below-floor");
    assert_eq!(answer(|image| image.floor = 8, 0), "version-below-floor");
}

#[test]
fn a_file_that_changes_between_check_and_copy_is_refused() {
    let key = PrivateKey::generate();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), packed(&key)).unwrap();
    let trusted = [key.public(Channel::Release)];
    let mut bundle = open(std::fs::File::open(file.path()).unwrap(), &trusted).unwrap();
    bundle.check_parts(|_| {}).unwrap();
    let mut changed = packed(&key);
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    std::fs::write(file.path(), changed).unwrap();
    let copied = bundle.copy_part(Part::Root, &mut std::io::sink(), |_| {});
    assert!(matches!(
        copied,
        Err(CopyError::Bundle(Refused::PartHash("root")))
    ));
}

/// Nothing but the original is ever accepted, and nothing panics. Half of the damage is signed
/// anew, so that it reaches the parser.
#[test]
fn damage_is_never_accepted() {
    let key = PrivateKey::generate();
    let trusted = [key.public(Channel::Release)];
    let small = {
        let parts = [vec![1; 64], vec![2; 32], vec![3; 16]];
        let [mut root, mut verity, mut uki] = parts.map(Cursor::new);
        let mut out = Vec::new();
        let parts = [&mut root, &mut verity, &mut uki];
        pack(&release(), parts, |bytes| Ok(key.sign(bytes)), &mut out).unwrap();
        out
    };
    let mut seeded = Seeded(0xb1);
    for round in 0..20_000 {
        let mut bytes = small.clone();
        seeded.damage(&mut bytes);
        if round % 8 == 0 {
            bytes.truncate(seeded.below(bytes.len()));
        }
        if bytes == small {
            continue;
        }
        assert_ne!(code(&bytes, &trusted), "accepted");
    }
    let text = manifest_text(&small);
    for _ in 0..20_000 {
        let mut manifest = text.clone().into_bytes();
        seeded.damage(&mut manifest);
        if let Ok(read) = Manifest::parse(&manifest) {
            for part in Part::ALL {
                assert!((1..=part.max_bytes()).contains(&read.member(part).size));
            }
            read.root_hash();
        }
    }
}
