//! The update bundle (`.plbu`): what a signature covers, and the order in which it is believed.
//!
//! ```text
//! 0     magic, 8 bytes: 89 "PLBU" 0D 0A 1A
//! 8     version of the format, u32 little-endian: 1
//! 12    length of the manifest, u32 little-endian: 1 to 65536
//! 16    manifest, JSON
//!       Ed25519 signature over everything above, 64 bytes
//!       root, verity, uki: exactly the sizes that the manifest gives, in this order, then the end
//! ```
//!
//! The signature is checked before the manifest is parsed, and every part is bound to it by size
//! and SHA-256. The file names no path: what is written where is the box's own decision.
//! [`open`] believes the manifest; [`Bundle::check_parts`] believes the parts, before a byte of
//! them is written; [`Bundle::copy_part`] hashes again what it copies, so that a file that
//! changes in between is refused too.

use std::collections::HashSet;
use std::io::{Read, Seek, SeekFrom, Write};

use aws_lc_rs::digest;
use palabre_init::cmdline::RootHash;
use serde::{Deserialize, Serialize};

use crate::keys::{Channel, PublicKey};

/// How a bundle starts. The first byte is no text and the line ends show a damaged transfer.
pub const MAGIC: [u8; 8] = *b"\x89PLBU\r\n\x1a";
/// The one version of the format.
pub const FORMAT: u32 = 1;
/// The longest manifest, in bytes. A real one has under 1000.
pub const MAX_MANIFEST: usize = 64 * 1024;
/// Bytes of an Ed25519 signature.
pub const SIGNATURE_BYTES: usize = 64;
/// What is read at once. A higher value buys little: the disk is slower.
const BUFFER: usize = 256 * 1024;

/// The parts, in the order of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The root file system.
    Root,
    /// Its hash tree, with the superblock.
    Verity,
    /// The signed unified kernel image.
    Uki,
}

impl Part {
    /// Every part, in the order of the file.
    pub const ALL: [Self; 3] = [Self::Root, Self::Verity, Self::Uki];

    /// The most bytes that a part may have: the largest slot of any flavour, and a kernel image
    /// that leaves room for the other one on the EFI system partition.
    pub fn max_bytes(self) -> u64 {
        match self {
            Self::Root => 4 << 30,
            Self::Verity => 64 << 20,
            Self::Uki => 128 << 20,
        }
    }

    /// Its name in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Verity => "verity",
            Self::Uki => "uki",
        }
    }
}

/// One part as the manifest gives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Which part.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// Its SHA-256, 64 hexadecimal digits.
    pub sha256: String,
}

/// What a bundle says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always `palabre`.
    pub product: String,
    /// `amd64` or `arm64`.
    pub arch: String,
    /// `core` or `room`.
    pub flavour: String,
    /// Rises with each release: the only thing that versions are compared by.
    pub version: u64,
    /// The version as people read it.
    pub display: String,
    /// Once this version has proved good, no version below this one is accepted.
    pub floor: u64,
    /// When it was made, seconds since 1970.
    pub created: u64,
    /// Whether it was made with keys for development.
    pub channel: Channel,
    /// The root hash that its kernel image boots.
    pub root_hash: String,
    /// The parts: root, verity, uki.
    pub parts: Vec<Member>,
}

/// Why a bundle is refused. `code` is stable; the sentence is for people.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each sentence says it")]
pub enum Refused {
    #[error("the bundle cannot be read: {0}")]
    Io(#[from] std::io::Error),
    #[error("this file is not a Palabre update")]
    Magic,
    #[error("this update has format {0}; this box reads format 1")]
    Format(u32),
    #[error("the manifest has {0} bytes; 1 to 65536 are accepted")]
    ManifestLength(u32),
    #[error("the file ends too early: it was not copied completely")]
    Truncated,
    #[error("the file goes on after its last part")]
    Trailing,
    #[error("the signature is not by a key of this box")]
    Signature,
    #[error("the manifest is not understood: {0}")]
    Manifest(String),
    #[error("the manifest names the part `{0}`, which no update has")]
    UnknownPart(String),
    #[error("the manifest names the part `{0}` twice")]
    DuplicatePart(String),
    #[error("the parts are not root, verity and uki in this order")]
    PartOrder,
    #[error("the part `{part}` has {size} bytes; {most} fit")]
    PartSize {
        part: &'static str,
        size: u64,
        most: u64,
    },
    #[error("the part `{0}` is not what was signed: it was changed or damaged")]
    PartHash(&'static str),
    #[error("this is an update of `{0}`, not of Palabre")]
    Product(String),
    #[error("this update is for {theirs} machines; this one is {ours}")]
    Arch { theirs: String, ours: String },
    #[error("this update is the flavour {theirs}; this box is {ours}")]
    Flavour { theirs: String, ours: String },
    #[error("version {theirs} is older than the version that runs, {ours}")]
    Older { theirs: u64, ours: u64 },
    #[error("version {0} already runs")]
    Same(u64),
    #[error("version {theirs} is below {floor}, the oldest that is still safe")]
    BelowFloor { theirs: u64, floor: u64 },
}

impl Refused {
    /// A word for programs, which never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io(_) => "bundle-unreadable",
            Self::Magic => "not-a-bundle",
            Self::Format(_) => "bundle-format",
            Self::ManifestLength(_) => "manifest-length",
            Self::Truncated => "bundle-truncated",
            Self::Trailing => "bundle-trailing",
            Self::Signature => "bundle-signature",
            Self::Manifest(_) => "manifest-invalid",
            Self::UnknownPart(_) => "part-unknown",
            Self::DuplicatePart(_) => "part-duplicate",
            Self::PartOrder => "part-order",
            Self::PartSize { .. } => "part-size",
            Self::PartHash(_) => "part-hash",
            Self::Product(_) => "other-product",
            Self::Arch { .. } => "other-arch",
            Self::Flavour { .. } => "other-flavour",
            Self::Older { .. } => "version-older",
            Self::Same(_) => "version-same",
            Self::BelowFloor { .. } => "version-below-floor",
        }
    }
}

/// What a box compares an update with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Always `palabre`.
    pub product: String,
    /// `amd64` or `arm64`.
    pub arch: String,
    /// `core` or `room`.
    pub flavour: String,
    /// The version that runs.
    pub version: u64,
    /// The version as people read it.
    pub display: String,
    /// The oldest version that this image lets itself be replaced by.
    #[serde(default)]
    pub floor: u64,
    /// Whether it was made with keys for development.
    pub channel: Channel,
    /// When it was made, seconds since 1970: no clock of this box can be before.
    #[serde(default)]
    pub created: u64,
}

impl Manifest {
    /// Reads and checks a manifest whose signature is good.
    fn parse(bytes: &[u8]) -> Result<Self, Refused> {
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|error| Refused::Manifest(error.to_string()))?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Checks everything that does not depend on the box.
    fn check(&self) -> Result<(), Refused> {
        let mut named = HashSet::new();
        for member in &self.parts {
            if !Part::ALL.iter().any(|part| part.name() == member.name) {
                return Err(Refused::UnknownPart(printable(&member.name, MAX_WORD)));
            }
            if !named.insert(member.name.as_str()) {
                return Err(Refused::DuplicatePart(member.name.clone()));
            }
        }
        if !self
            .parts
            .iter()
            .map(|member| member.name.as_str())
            .eq(Part::ALL.map(Part::name))
        {
            return Err(Refused::PartOrder);
        }
        for part in Part::ALL {
            let member = self.member(part);
            let most = part.max_bytes();
            if member.size == 0 || member.size > most {
                return Err(Refused::PartSize {
                    part: part.name(),
                    size: member.size,
                    most,
                });
            }
            if RootHash::parse(&member.sha256).is_err() {
                return Err(Refused::Manifest(format!("sha256 of {}", part.name())));
            }
        }
        if RootHash::parse(&self.root_hash).is_err() {
            return Err(Refused::Manifest("root_hash".to_owned()));
        }
        if self.version == 0 || self.floor > self.version {
            return Err(Refused::Manifest("version and floor".to_owned()));
        }
        if self.display.len() > 64 || self.display.chars().any(char::is_control) {
            return Err(Refused::Manifest("display".to_owned()));
        }
        Ok(())
    }

    /// The part as the manifest gives it.
    pub fn member(&self, part: Part) -> &Member {
        &self.parts[part as usize]
    }

    /// The root hash.
    ///
    /// # Panics
    /// Never for a manifest that [`open`] gave, which checked it.
    pub fn root_hash(&self) -> RootHash {
        RootHash::parse(&self.root_hash).expect("checked when the manifest was read")
    }

    /// Whether a box with `image` may take this update. `floor` is what the box remembers.
    pub fn suits(&self, image: &Image, floor: u64) -> Result<(), Refused> {
        if self.product != image.product {
            return Err(Refused::Product(printable(&self.product, MAX_WORD)));
        }
        if self.arch != image.arch {
            return Err(Refused::Arch {
                theirs: printable(&self.arch, MAX_WORD),
                ours: image.arch.clone(),
            });
        }
        if self.flavour != image.flavour {
            return Err(Refused::Flavour {
                theirs: printable(&self.flavour, MAX_WORD),
                ours: image.flavour.clone(),
            });
        }
        let floor = floor.max(image.floor);
        if self.version < floor {
            return Err(Refused::BelowFloor {
                theirs: self.version,
                floor,
            });
        }
        match self.version.cmp(&image.version) {
            std::cmp::Ordering::Less => Err(Refused::Older {
                theirs: self.version,
                ours: image.version,
            }),
            std::cmp::Ordering::Equal => Err(Refused::Same(self.version)),
            std::cmp::Ordering::Greater => Ok(()),
        }
    }
}

/// The longest word of a manifest that is said, in characters.
const MAX_WORD: usize = 64;

/// What a file says, at most so many characters and none that controls, fit for a console.
pub(crate) fn printable(text: &str, most: usize) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .take(most)
        .collect()
}

/// A bundle whose manifest is signed by one of our keys.
#[derive(Debug)]
pub struct Bundle<R> {
    file: R,
    manifest: Manifest,
    parts_at: u64,
}

/// Opens a bundle: checks the signature, then reads the manifest, then the length of the file.
pub fn open<R: Read + Seek>(mut file: R, keys: &[PublicKey]) -> Result<Bundle<R>, Refused> {
    let (signed, signature) = read_signed(&mut file)?;
    if !keys.iter().any(|key| key.verifies(&signed, &signature)) {
        return Err(Refused::Signature);
    }
    let manifest = Manifest::parse(&signed[16..])?;
    let parts_at = (signed.len() + SIGNATURE_BYTES) as u64;
    // Each size is bounded by `check`, so the sum is far from the end of u64.
    let expected = parts_at + manifest.parts.iter().map(|member| member.size).sum::<u64>();
    let actual = file.seek(SeekFrom::End(0))?;
    match actual.cmp(&expected) {
        std::cmp::Ordering::Less => return Err(Refused::Truncated),
        std::cmp::Ordering::Greater => return Err(Refused::Trailing),
        std::cmp::Ordering::Equal => {}
    }
    Ok(Bundle {
        file,
        manifest,
        parts_at,
    })
}

/// The manifest of a bundle that nobody vouches for: to look at, never to act on.
pub fn look<R: Read>(mut file: R) -> Result<Manifest, Refused> {
    let (signed, _) = read_signed(&mut file)?;
    Manifest::parse(&signed[16..])
}

/// The signed bytes and the signature, of bounded length.
fn read_signed(file: &mut impl Read) -> Result<(Vec<u8>, [u8; SIGNATURE_BYTES]), Refused> {
    let mut header = [0; 16];
    fill(file, &mut header)?;
    if header[..8] != MAGIC {
        return Err(Refused::Magic);
    }
    let word = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    if word(8) != FORMAT {
        return Err(Refused::Format(word(8)));
    }
    let length = word(12) as usize;
    if length == 0 || length > MAX_MANIFEST {
        return Err(Refused::ManifestLength(word(12)));
    }
    let mut signed = vec![0; 16 + length];
    signed[..16].copy_from_slice(&header);
    fill(file, &mut signed[16..])?;
    let mut signature = [0; SIGNATURE_BYTES];
    fill(file, &mut signature)?;
    Ok((signed, signature))
}

fn fill(file: &mut impl Read, into: &mut [u8]) -> Result<(), Refused> {
    file.read_exact(into).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Refused::Truncated,
        _ => Refused::Io(error),
    })
}

/// A part could not be copied: the bundle is at fault, or the place it goes to.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] Refused),
    /// The place.
    #[error("cannot be written: {0}")]
    Write(std::io::Error),
}

impl<R: Read + Seek> Bundle<R> {
    /// What the bundle says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Reads every part once and compares its hash. `progress` gets the bytes done so far.
    pub fn check_parts(&mut self, mut progress: impl FnMut(u64)) -> Result<(), Refused> {
        let mut before = 0;
        for part in Part::ALL {
            let checked =
                self.copy_part(part, &mut std::io::sink(), |done| progress(before + done));
            match checked {
                Ok(()) => {}
                Err(CopyError::Bundle(refused)) => return Err(refused),
                Err(CopyError::Write(error)) => return Err(Refused::Io(error)),
            }
            before += self.manifest.member(part).size;
        }
        Ok(())
    }

    /// Copies one part to `into`, hashing what it copies. Only `Ok` makes the copy worth anything.
    pub fn copy_part(
        &mut self,
        part: Part,
        into: &mut dyn Write,
        mut progress: impl FnMut(u64),
    ) -> Result<(), CopyError> {
        let before: u64 = self.manifest.parts[..part as usize]
            .iter()
            .map(|member| member.size)
            .sum();
        let member = &self.manifest.parts[part as usize];
        self.file
            .seek(SeekFrom::Start(self.parts_at + before))
            .map_err(Refused::Io)?;
        let mut hash = digest::Context::new(&digest::SHA256);
        let mut buffer = vec![0; BUFFER];
        let mut done = 0;
        while done < member.size {
            let want = usize::try_from(member.size - done).map_or(BUFFER, |left| left.min(BUFFER));
            fill(&mut self.file, &mut buffer[..want])?;
            hash.update(&buffer[..want]);
            into.write_all(&buffer[..want]).map_err(CopyError::Write)?;
            done += want as u64;
            progress(done);
        }
        if hex(hash.finish().as_ref()) != member.sha256.to_ascii_lowercase() {
            return Err(CopyError::Bundle(Refused::PartHash(part.name())));
        }
        Ok(())
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the packer is told.
#[derive(Debug, Clone)]
pub struct Release {
    /// `amd64` or `arm64`.
    pub arch: String,
    /// `core` or `room`.
    pub flavour: String,
    /// See [`Manifest::version`].
    pub version: u64,
    /// See [`Manifest::display`].
    pub display: String,
    /// See [`Manifest::floor`].
    pub floor: u64,
    /// See [`Manifest::created`].
    pub created: u64,
    /// See [`Manifest::channel`].
    pub channel: Channel,
    /// The root hash, 64 hexadecimal digits.
    pub root_hash: String,
}

/// Writes a bundle of the three `parts` (root, verity, uki) to `into`. `sign` gets the bytes to
/// sign and answers the signature. The same input gives the same bytes.
pub fn pack<R: Read + Seek>(
    release: &Release,
    parts: [&mut R; 3],
    sign: impl FnOnce(&[u8]) -> Result<[u8; SIGNATURE_BYTES], std::io::Error>,
    into: &mut dyn Write,
) -> Result<(), Refused> {
    let mut members = Vec::new();
    let mut parts = parts;
    for (part, file) in Part::ALL.into_iter().zip(&mut parts) {
        file.seek(SeekFrom::Start(0))?;
        let mut hash = digest::Context::new(&digest::SHA256);
        let mut size = 0;
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            hash.update(&buffer[..read]);
            size += read as u64;
        }
        members.push(Member {
            name: part.name().to_owned(),
            size,
            sha256: hex(hash.finish().as_ref()),
        });
    }
    let manifest = Manifest {
        product: "palabre".to_owned(),
        arch: release.arch.clone(),
        flavour: release.flavour.clone(),
        version: release.version,
        display: release.display.clone(),
        floor: release.floor,
        created: release.created,
        channel: release.channel,
        root_hash: release.root_hash.clone(),
        parts: members,
    };
    manifest.check()?;
    let json = serde_json::to_vec(&manifest).expect("a manifest is plain data");
    let signed = header(&json);
    let signature = sign(&signed)?;
    into.write_all(&signed)?;
    into.write_all(&signature)?;
    for (file, member) in parts.iter_mut().zip(&manifest.parts) {
        file.seek(SeekFrom::Start(0))?;
        let copied = std::io::copy(&mut file.take(member.size), into)?;
        if copied != member.size {
            return Err(Refused::Truncated);
        }
    }
    Ok(())
}

/// The bytes that are signed.
fn header(json: &[u8]) -> Vec<u8> {
    let mut signed = MAGIC.to_vec();
    signed.extend(FORMAT.to_le_bytes());
    signed.extend((json.len() as u32).to_le_bytes());
    signed.extend(json);
    signed
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
