//! What an administrator uploads in pieces: one file at a time, kept until it is installed, given up
//! or forgotten.
//!
//! Two files an upload: `<id>.json` says how long it will be, `<id>` holds what has come. The offset
//! is the length of the second, so a kill at any moment leaves an upload that goes on where it was.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{self, Algorithm};
use axum::body::BodyDataStream;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::BytesMut;
use futures_util::StreamExt;
use palabre_appliance::service::UploadId;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::problem::{ApplianceProblem as Refused, Problem};
use crate::secret::random;

/// The largest upload, in bytes: two thirds more than the largest bundle of any flavour, a room's of
/// some 420 MiB. Higher fills a small disk; lower refuses a real update.
pub(crate) const MAX_UPLOAD: u64 = 700 << 20;

/// How long an upload is kept after its last byte came.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// What an upload leaves free on the disk, in bytes: room for the database and the journal.
const RESERVE: u64 = 64 << 20;

/// Bytes gathered before they are written. Higher costs memory, lower costs system calls.
const PIECE: usize = 256 * 1024;

/// The largest piece with a checksum: it is held in memory until that is known to be right, one at a
/// time. Higher takes more of the memory that meetings need; lower wants more requests.
const MAX_CHECKED: u64 = 8 << 20;

/// The longest `Upload-Metadata` that is kept.
const MAX_METADATA: usize = 1024;

/// The folder of uploads.
#[derive(Debug)]
pub(crate) struct Uploads {
    folder: PathBuf,
    /// Held by whoever writes, beyond the end of the request when that is cut short.
    pen: Arc<Mutex<()>>,
}

/// One upload as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Upload {
    pub(crate) id: UploadId,
    /// How many bytes it will have.
    pub(crate) length: u64,
    /// How many have come.
    pub(crate) offset: u64,
    /// `Upload-Metadata` as it was given.
    pub(crate) metadata: Option<String>,
    /// When it will be forgotten.
    pub(crate) expires: SystemTime,
}

/// What a piece must hash to (tus `Upload-Checksum`).
#[derive(Debug)]
pub(crate) struct Checksum {
    algorithm: &'static Algorithm,
    hash: Vec<u8>,
}

impl Checksum {
    /// Reads the name of an algorithm and a hash in base64.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (name, hash) = text.split_once(' ')?;
        let algorithm = match name {
            "sha256" => &digest::SHA256,
            // The protocol wants it of every server. It finds what an accident changed; who changes an
            // update on purpose meets its signature.
            "sha1" => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            _ => return None,
        };
        let hash = BASE64_STANDARD.decode(hash).ok()?;
        (hash.len() == algorithm.output_len()).then_some(Self { algorithm, hash })
    }

    fn is_of(&self, piece: &[u8]) -> bool {
        digest::digest(self.algorithm, piece).as_ref() == self.hash
    }
}

/// What `<id>.json` says.
#[derive(Serialize, Deserialize)]
struct Told {
    length: u64,
    metadata: Option<String>,
}

impl Uploads {
    /// Uploads in `folder`, which is made.
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        let mut maker = fs::DirBuilder::new();
        maker.recursive(true).mode(0o700).create(folder)?;
        let uploads = Self {
            folder: folder.to_owned(),
            pen: Arc::default(),
        };
        uploads.forget_old()?;
        Ok(uploads)
    }

    fn path(&self, id: &UploadId) -> PathBuf {
        self.folder.join(id.as_str())
    }

    fn told(&self, id: &UploadId) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    /// The upload there is, if there is one.
    pub(crate) fn present(&self) -> Result<Option<Upload>, Problem> {
        for name in names(&self.folder).map_err(broken)? {
            if let Some(upload) = UploadId::parse(&name).and_then(|id| self.read(&id)) {
                return Ok(Some(upload));
            }
        }
        Ok(None)
    }

    /// One upload.
    pub(crate) fn find(&self, id: &UploadId) -> Result<Upload, Problem> {
        self.read(id).ok_or(Refused::UploadUnknown.into())
    }

    /// An upload that is whole and not too old.
    fn read(&self, id: &UploadId) -> Option<Upload> {
        let told: Told = serde_json::from_slice(&fs::read(self.told(id)).ok()?).ok()?;
        let data = fs::metadata(self.path(id)).ok()?;
        let upload = Upload {
            id: id.clone(),
            length: told.length,
            offset: data.len(),
            metadata: told.metadata,
            expires: data.modified().ok()? + KEPT,
        };
        (upload.expires > SystemTime::now()).then_some(upload)
    }

    /// Begins an upload of `length` bytes.
    pub(crate) fn create(&self, length: u64, metadata: Option<String>) -> Result<Upload, Problem> {
        let _pen = self.pen()?;
        self.sweep().map_err(broken)?;
        if length > MAX_UPLOAD {
            return Err(Refused::UploadTooLarge { most: MAX_UPLOAD }.into());
        }
        if metadata.as_ref().is_some_and(|m| m.len() > MAX_METADATA) {
            return Err(Refused::UploadHeader("Upload-Metadata").into());
        }
        if let Some(present) = self.present()? {
            return Err(Refused::UploadPresent(present.id).into());
        }
        let disk = rustix::fs::statvfs(&self.folder).map_err(|error| broken(error.into()))?;
        if length + RESERVE > disk.f_bavail.saturating_mul(disk.f_frsize) {
            return Err(Problem::StorageFull);
        }
        let mut bytes = [0; 16];
        random(&mut bytes);
        let id = UploadId::new(bytes);
        let told = Told { length, metadata };
        let text = serde_json::to_vec(&told).expect("an upload is plain data");
        let made = private(&self.told(&id))
            .and_then(|mut file| file.write_all(&text))
            .and_then(|()| private(&self.path(&id)));
        made.map_err(broken)?;
        self.find(&id)
    }

    /// Takes what comes at `offset`, as it comes: what has come stays when the rest does not.
    pub(crate) async fn append(
        &self,
        id: &UploadId,
        offset: u64,
        mut body: BodyDataStream,
    ) -> Result<Upload, Problem> {
        let mut pen = self.pen()?;
        let upload = self.find(id)?;
        if offset != upload.offset {
            return Err(Refused::UploadOffset.into());
        }
        let path = self.path(id);
        let opened = fs::OpenOptions::new().append(true).open(path);
        let mut file = opened.map_err(broken)?;
        let mut left = upload.length - upload.offset;
        let mut gathered = BytesMut::with_capacity(PIECE);
        let mut is_over = false;
        while !is_over {
            match body.next().await {
                Some(Ok(chunk)) if chunk.len() as u64 > left => {
                    return Err(Refused::UploadTooLarge {
                        most: upload.length,
                    }
                    .into());
                }
                Some(Ok(chunk)) => {
                    left -= chunk.len() as u64;
                    gathered.extend_from_slice(&chunk);
                }
                // Whoever sent it has gone, or is done.
                Some(Err(_)) | None => is_over = true,
            }
            if gathered.len() >= PIECE || is_over {
                let piece = gathered.split().freeze();
                // The pen goes along: a request that is cut short lets nobody else write before
                // this piece is.
                let written = tokio::task::spawn_blocking(move || {
                    let done = file.write_all(&piece);
                    let done = done.and_then(|()| if is_over { file.sync_data() } else { Ok(()) });
                    (done, file, pen)
                });
                let (done, same_file, same_pen) = written
                    .await
                    .map_err(|error| broken(io::Error::other(error)))?;
                (file, pen) = (same_file, same_pen);
                done.map_err(broken)?;
            }
        }
        drop(pen);
        self.find(id)
    }

    /// Takes what comes at `offset` once it is known to be what `checksum` says: all of it, or nothing.
    pub(crate) async fn append_checked(
        &self,
        id: &UploadId,
        offset: u64,
        mut body: BodyDataStream,
        checksum: &Checksum,
    ) -> Result<Upload, Problem> {
        let pen = self.pen()?;
        let upload = self.find(id)?;
        if offset != upload.offset {
            return Err(Refused::UploadOffset.into());
        }
        let most = MAX_CHECKED.min(upload.length - upload.offset);
        let mut piece = BytesMut::new();
        while let Some(chunk) = body.next().await {
            // Cut short, it is not what was to come.
            let chunk = chunk.map_err(|_| Refused::UploadChecksum)?;
            if (piece.len() + chunk.len()) as u64 > most {
                return Err(Refused::UploadTooLarge { most }.into());
            }
            piece.extend_from_slice(&chunk);
        }
        if !checksum.is_of(&piece) {
            return Err(Refused::UploadChecksum.into());
        }
        let path = self.path(id);
        let written = tokio::task::spawn_blocking(move || {
            let _pen = pen;
            let mut file = fs::OpenOptions::new().append(true).open(path)?;
            file.write_all(&piece).and_then(|()| file.sync_data())
        });
        let written = written
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        written.map_err(broken)?;
        self.find(id)
    }

    /// Gives an upload up. One that is not there is given up already.
    pub(crate) fn remove(&self, id: &UploadId) -> Result<(), Problem> {
        let _pen = self.pen()?;
        self.erase(id).map_err(broken)
    }

    fn erase(&self, id: &UploadId) -> io::Result<()> {
        gone(fs::remove_file(self.path(id)))?;
        gone(fs::remove_file(self.told(id)))
    }

    /// Forgets what nobody went on with, unless somebody writes just now.
    pub(super) fn forget_old(&self) -> io::Result<()> {
        match self.pen() {
            Ok(_pen) => self.sweep(),
            Err(_) => Ok(()),
        }
    }

    /// Erases what is no upload: too old, or half of one that was being made or given up. For who
    /// holds the pen.
    fn sweep(&self) -> io::Result<()> {
        for name in names(&self.folder)? {
            let id = UploadId::parse(name.trim_end_matches(".json"));
            if let Some(id) = id.filter(|id| self.read(id).is_none()) {
                self.erase(&id)?;
            }
        }
        Ok(())
    }

    fn pen(&self) -> Result<OwnedMutexGuard<()>, Problem> {
        let pen = Arc::clone(&self.pen).try_lock_owned();
        pen.map_err(|_| Refused::UploadBusy.into())
    }
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(folder)?;
    entries
        .map(|entry| entry.map(|e| e.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// Makes a file, for this program only.
fn private(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn broken(error: io::Error) -> Problem {
    if error.kind() == io::ErrorKind::StorageFull {
        return Problem::StorageFull;
    }
    tracing::error!(%error, "an upload cannot be kept");
    Problem::Unavailable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_one_of_two_kinds() {
        let sha256 = "sha256 ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";
        assert!(Checksum::parse(sha256).unwrap().is_of(b"abc"));
        let sha1 = "sha1 qZk+NkcGgWq6PiVxeFDCbJzQ2J0=";
        assert!(Checksum::parse(sha1).unwrap().is_of(b"abc"));
        assert!(!Checksum::parse(sha1).unwrap().is_of(b"abd"));
        for wrong in [
            "",
            "sha256",
            "sha256 ",
            "sha256 qZk+NkcGgWq6PiVxeFDCbJzQ2J0=",
            "md5 kAFQmDzST7DWlj99KOF/cg==",
            "SHA256 ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
            "sha1 not base64",
        ] {
            assert!(Checksum::parse(wrong).is_none(), "{wrong}");
        }
    }
}
