//! An installation that the program asked for: which file it may be, and how far it is.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use palabre_appliance::service::{Phase, Progress, UploadId};
use rustix::fs::{CWD, FileType, Mode, OFlags};

use super::{Service, refusal};
use crate::{Before, Failed};

impl Service {
    /// Begins to install an upload.
    pub(super) fn install(self: &Arc<Self>, upload: UploadId) -> Result<(), Failed> {
        let _turn = self.turn();
        if self.progress().is_running() {
            return Err(Failed::said("installing", "an installation is running"));
        }
        let file = self.open(&upload)?;
        *self.progress() = Progress {
            phase: Phase::Verifying,
            upload: Some(upload),
            ..Progress::default()
        };
        let service = Arc::clone(self);
        let thread = std::thread::Builder::new().name("install".to_owned());
        let begun = thread.spawn(move || service.carry_out(file));
        begun.map(drop).map_err(|error| {
            *self.progress() = Progress::default();
            Failed::said("system", error)
        })
    }

    fn carry_out(&self, file: File) {
        let done = catch_unwind(AssertUnwindSafe(|| {
            // Whoever asks has the history before them: a failure may have had another cause.
            crate::install(
                &self.places,
                file,
                Before::TriedAgain,
                &mut |phase, done, all, version| {
                    let mut progress = self.progress();
                    // `Done` is what this function says, once everything is remembered.
                    if phase != palabre_appliance::slots::Phase::Done {
                        progress.phase = phase.into();
                    }
                    (progress.done, progress.all, progress.version) = (done, all, Some(version));
                },
            )
        }));
        let mut progress = self.progress();
        match done {
            Ok(Ok(version)) => {
                progress.phase = Phase::Done;
                progress.version = Some(version);
            }
            Ok(Err(failed)) => {
                progress.phase = Phase::Refused;
                progress.refused = Some(refusal(failed));
            }
            Err(_) => {
                progress.phase = Phase::Refused;
                let failed = Failed::said("bug", "the installation ended by a bug");
                progress.refused = Some(refusal(failed));
            }
        }
    }

    /// Opens an upload: a file of its own, in the upload folder, written by the program. The folder
    /// belongs to the program, which may be somebody else's by now: no name in it is trusted to be
    /// what it was a moment ago.
    fn open(&self, upload: &UploadId) -> Result<File, Failed> {
        let refused = |path: &Path, why: &str| {
            Failed::said("upload-unknown", format!("{}: {why}", path.display()))
        };
        let folder = rustix::fs::openat(
            CWD,
            &self.uploads,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let folder = folder.map_err(|error| refused(&self.uploads, &error.to_string()))?;
        let name = Path::new(upload.as_str());
        // NONBLOCK: a FIFO would wait for its writer for ever.
        let file = rustix::fs::openat(
            &folder,
            name,
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let file = file.map_err(|error| refused(name, &error.to_string()))?;
        let found = rustix::fs::fstat(&file).map_err(|error| refused(name, &error.to_string()))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(refused(name, "not a file"));
        }
        if found.st_uid != self.user || found.st_nlink != 1 {
            return Err(refused(name, "not a file of the program's own"));
        }
        Ok(File::from(file))
    }
}
