//! The box under the program, when there is one: a line to its service, what is uploaded for it, and
//! the restart that waits for meetings to end.
//!
//! The program has no rights over the machine; it asks (`palabre_appliance::service`).

mod restart;
mod uploads;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use palabre_appliance::bundle::Image;
use palabre_appliance::service::{
    Answer, MAX_ANSWER, PATIENCE, Phase, Progress, Reply, Request, Status, TimeState, Unanswered,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::config::ApplianceConfig;
use crate::live::LiveRooms;
use crate::problem::{ApplianceProblem, Problem};
use crate::store::Restored;

pub(crate) use restart::{Minute, When, restart_at_once};
pub(crate) use uploads::{Checksum, MAX_UPLOAD, Upload, Uploads};

/// How long a whole question may take: the service has [`PATIENCE`] for its side.
const DEADLINE: Duration = PATIENCE.saturating_add(Duration::from_secs(5));

/// How long a support bundle may take: it reads the journal, after everybody else.
const SUPPORT_DEADLINE: Duration = Duration::from_secs(28);

/// The most bytes of a support bundle: it is made of a few parts of 4 MiB before they are compressed.
const MAX_SUPPORT: u64 = 16 << 20;

/// The box. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Appliance(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    socket: PathBuf,
    uploads: Uploads,
    restart: restart::Schedule,
}

impl Appliance {
    /// The box that is configured, if one is; what is uploaded and what is planned is kept below
    /// `folder`, the program's own.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn new(config: &ApplianceConfig, folder: &Path) -> io::Result<Option<Self>> {
        let Some(socket) = config.socket.clone() else {
            return Ok(None);
        };
        let patience = restart::Patience {
            empty_for: config.empty_before_restart.duration(),
            notice: config.notice_before_restart.duration(),
        };
        Ok(Some(Self(Arc::new(Inner {
            socket,
            uploads: Uploads::new(&folder.join("upload"))?,
            restart: restart::Schedule::new(&folder.join("restart.json"), patience),
        }))))
    }

    /// Which version of the box this program belongs to: of the image on an appliance, else its own.
    pub fn version(config: &ApplianceConfig) -> String {
        let own = || env!("CARGO_PKG_VERSION").to_owned();
        if config.socket.is_none() {
            return own();
        }
        let read = std::fs::read(&config.image).map_err(|error| error.to_string());
        let image = read.and_then(|text| {
            serde_json::from_slice::<Image>(&text).map_err(|error| error.to_string())
        });
        match image {
            Ok(image) => image.version.to_string(),
            Err(error) => {
                tracing::warn!(
                    error,
                    "the image does not say its version (key appliance.image)"
                );
                own()
            }
        }
    }

    /// Tells the history of the box that an older version found its data put back.
    ///
    /// # Errors
    /// When the box does not answer: tell it again at the next start.
    pub async fn tell_restored(&self, restored: &Restored) -> Result<(), Problem> {
        let before = restored.before.parse().unwrap_or(0);
        self.tell(&Request::Restored { before }).await
    }

    /// Carries out the restart that is planned, once its time has come, and forgets uploads that
    /// nobody finished. Runs until it is dropped.
    pub async fn keep_watch(self, live: Arc<dyn LiveRooms>) {
        restart::keep_watch(&self, live.as_ref()).await;
    }

    pub(crate) fn uploads(&self) -> &Uploads {
        &self.0.uploads
    }

    pub(crate) fn restart(&self) -> &restart::Schedule {
        &self.0.restart
    }

    /// Asks the service.
    pub(crate) async fn ask(&self, request: &Request) -> Result<Answer, Problem> {
        let asked = async { self.converse(request).await.map(|(answer, _)| answer) };
        within(DEADLINE, asked).await
    }

    async fn converse(
        &self,
        request: &Request,
    ) -> Result<(Answer, BufReader<UnixStream>), Unanswered> {
        let mut stream = UnixStream::connect(&self.0.socket).await?;
        stream.write_all(request.line().as_bytes()).await?;
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        let mut bounded = (&mut reader).take(MAX_ANSWER as u64);
        bounded.read_until(b'\n', &mut line).await?;
        match line.pop() {
            Some(b'\n') => Ok((Reply::read(&line)?, reader)),
            _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        }
    }

    /// The support bundle, a `tar.gz`.
    pub(crate) async fn support(&self) -> Result<Vec<u8>, Problem> {
        let asked = async {
            let (answer, reader) = self.converse(&Request::Support).await?;
            let Answer::Support { bytes } = answer else {
                return Err(Unanswered::Line("it counts no bytes".to_owned()));
            };
            if bytes > MAX_SUPPORT {
                return Err(Unanswered::Line(format!("it has {bytes} bytes")));
            }
            let mut bundle = Vec::new();
            reader.take(bytes).read_to_end(&mut bundle).await?;
            match bundle.len() as u64 == bytes {
                true => Ok(bundle),
                false => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            }
        };
        within(SUPPORT_DEADLINE, asked).await
    }

    /// What time it is around the box.
    pub(crate) async fn time(&self) -> Result<TimeState, Problem> {
        match self.ask(&Request::Time).await? {
            Answer::Time(time) => Ok(time),
            other => Err(unexpected(&Request::Time, &other)),
        }
    }

    /// Asks for something that is done or refused.
    pub(crate) async fn tell(&self, request: &Request) -> Result<(), Problem> {
        match self.ask(request).await? {
            Answer::Done => Ok(()),
            other => Err(unexpected(request, &other)),
        }
    }

    /// The box as it is.
    pub(crate) async fn status(&self) -> Result<Status, Problem> {
        match self.ask(&Request::Status).await? {
            Answer::Status(status) => Ok(*status),
            other => Err(unexpected(&Request::Status, &other)),
        }
    }

    /// How far an installation is. What was uploaded for one that went well goes.
    pub(crate) async fn progress(&self) -> Result<Progress, Problem> {
        let progress = match self.ask(&Request::Progress).await? {
            Answer::Progress(progress) => progress,
            other => return Err(unexpected(&Request::Progress, &other)),
        };
        if let (Phase::Done, Some(id)) = (progress.phase, &progress.upload) {
            match self.uploads().remove(id) {
                // The next upload is being written: whoever asks next tidies up.
                Err(Problem::Appliance(ApplianceProblem::UploadBusy)) => {}
                other => other?,
            }
        }
        Ok(progress)
    }
}

async fn within<T>(
    deadline: Duration,
    asked: impl Future<Output = Result<T, Unanswered>>,
) -> Result<T, Problem> {
    let answer = tokio::time::timeout(deadline, asked).await;
    let answer = answer.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
    answer.map_err(|error| match error {
        Unanswered::Refused(refusal) => ApplianceProblem::Refused(refusal).into(),
        error => {
            tracing::error!(%error, "the box was asked in vain");
            ApplianceProblem::Silent.into()
        }
    })
}

/// An answer to another question.
pub(crate) fn unexpected(request: &Request, answer: &Answer) -> Problem {
    // Answers hold addresses and names: kinds only.
    let (request, answer) = (
        std::mem::discriminant(request),
        std::mem::discriminant(answer),
    );
    tracing::error!(?request, ?answer, "the box answered another question");
    ApplianceProblem::Silent.into()
}

/// How many people are in rooms now.
pub(crate) async fn participants(live: &dyn LiveRooms) -> Result<u32, Problem> {
    let rooms = live.list_rooms(Vec::new()).await?;
    Ok(rooms.iter().map(|room| room.num_participants).sum())
}
