//! What the program `palabre` may ask of the box: the types of the line between the two.
//!
//! `palabre` has no rights over the machine. The service `palabre-update serve` has, and does for it
//! what stands in [`Request`] and nothing else. One connection carries one question and one answer,
//! each a line of JSON of bounded length; a [`Answer::Support`] is followed by the bytes it counts.
//! Both ends come from one image, so the line needs no versions.

use std::fmt;
use std::io;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer, Serialize};

use crate::bundle::Image;
use crate::certificate::Facts;
use crate::history::{Event, Pending};
use crate::protection::Protection;
use crate::slots::{self, Report};
use crate::stick::{Network, Time};

/// The longest question, in bytes, its end of line included: a certificate, its chain and its key.
pub const MAX_REQUEST: usize = 256 * 1024;
/// The longest answer, in bytes, its end of line included: a history of a hundred events.
pub const MAX_ANSWER: usize = 1024 * 1024;
/// How long one side waits for the other's line. The slowest answer reads the partition table of a
/// slow card while an installation writes to it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// What runs, what each slot holds, what happened. [`Answer::Status`].
    Status,
    /// Install this upload in the other slot; [`Request::Progress`] tells how far it is.
    Install {
        /// Which file of the upload folder.
        upload: UploadId,
    },
    /// How far the installation is. [`Answer::Progress`].
    Progress,
    /// Start the other version next, once.
    Previous,
    /// Start what starts otherwise after all.
    Stay,
    /// Restart the machine: what starts next starts now.
    Restart,
    /// Stop the machine.
    Shutdown,
    /// Restart the machine and erase its data.
    FactoryReset,
    /// How the machine is reached. [`Answer::Network`].
    Network,
    /// Try this network; without [`Request::ConfirmNetwork`] the one before comes back.
    TryNetwork(Network),
    /// Keep the network that is tried. The program follows the box's addresses by itself.
    ConfirmNetwork,
    /// Go back to the network before the one that is tried.
    RevertNetwork,
    /// What time it is. [`Answer::Time`].
    Time,
    /// Ask these servers for the time, and live in this zone.
    SetTime(Time),
    /// What the certificate of the pages says. [`Answer::Certificate`].
    Certificate,
    /// Serve the pages with this certificate.
    SetCertificate {
        /// PEM of the certificate, and after it of those that issued it.
        chain: String,
        /// PEM of its private key.
        key: String,
    },
    /// Serve the pages with a new certificate that the box signs itself.
    SelfSign,
    /// How full the disk is. [`Answer::Storage`].
    Storage,
    /// What somebody needs who is asked for help. [`Answer::Support`].
    Support,
    /// Keep in the history that the data saved before this version are back.
    Restored {
        /// The newer version, which changed them.
        before: u64,
    },
}

/// What an answered question gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It was done, or begun.
    Done,
    /// Of [`Request::Status`].
    Status(Box<Status>),
    /// Of [`Request::Progress`].
    Progress(Progress),
    /// Of [`Request::Network`].
    Network(NetworkState),
    /// Of [`Request::Time`].
    Time(TimeState),
    /// Of [`Request::Certificate`]; nothing when there is none that can be read.
    Certificate(Option<Facts>),
    /// Of [`Request::Storage`].
    Storage(Storage),
    /// Of [`Request::Support`]: that many bytes of a `tar.gz` follow.
    Support {
        /// How many.
        bytes: u64,
    },
}

/// The answer's line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// What was asked for.
    Answer(Answer),
    /// Nothing was done.
    Refused(Refusal),
}

/// Why the box does not do it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// A word for programs, which never changes.
    pub code: String,
    /// A sentence, in English.
    pub what: String,
}

/// The name of a file of the upload folder: 32 lower-case hexadecimal digits, so that it can name
/// nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct UploadId(String);

impl UploadId {
    /// A new name, from 16 random bytes.
    pub fn new(random: [u8; 16]) -> Self {
        Self(crate::bundle::hex(&random))
    }

    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        (text.len() == 32 && text.bytes().all(plain)).then(|| Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for UploadId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("expected 32 hexadecimal digits"))
    }
}

/// The box as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The name of the box.
    pub host: String,
    /// Which start of the machine this is: another text after each.
    pub boot: String,
    /// What runs.
    pub image: Image,
    /// Whether it trusts keys that anybody can have.
    pub development: bool,
    /// Whether what runs has yet to prove good.
    pub on_trial: bool,
    /// What guards it.
    pub protection: Protection,
    /// Both slots.
    pub slots: Vec<Report>,
    /// The version that somebody asked for, once; nothing when it has started or was called off.
    pub once: Option<u64>,
    /// The oldest version that is still accepted.
    pub floor: u64,
    /// The update that was installed and is not good yet.
    pub pending: Option<Pending>,
    /// The last trial that failed, unless the same version proved good later.
    pub last_failure: Option<Event>,
    /// What happened, oldest first.
    pub history: Vec<Event>,
}

impl Status {
    /// The version that starts next, when it is another than the one that runs.
    pub fn starts_next(&self) -> Option<u64> {
        let next = self.slots.iter().find(|slot| slot.starts_next)?;
        next.version
            .filter(|version| *version != self.image.version)
    }
}

/// How the machine is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkState {
    /// What is in force after a restart; nothing was asked for when it is empty, which means DHCP.
    pub kept: Network,
    /// What is tried now.
    pub tried: Option<Tried>,
    /// The network ports, and the addresses they have.
    pub ports: Vec<Port>,
}

/// A network that is tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// The network.
    pub network: Network,
    /// Seconds until the one before comes back.
    pub seconds_left: u64,
}

/// A network port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = NetworkPort))]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its addresses, each with the length of its prefix.
    pub addresses: Vec<String>,
}

/// What time it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeState {
    /// What was asked for.
    pub kept: Time,
    /// Whether a server has confirmed the clock since the start.
    pub is_synchronised: bool,
    /// The clock, seconds since 1970.
    pub now: u64,
}

impl TimeState {
    /// Minutes since midnight around the box.
    pub fn minute_of_day(&self) -> u16 {
        let now = i64::try_from(self.now).unwrap_or(0);
        let there = self
            .kept
            .zone
            .as_ref()
            .and_then(|zone| zone.minute_of_day(now));
        let here = u16::try_from(self.now / 60 % (24 * 60)).unwrap_or(0);
        there.unwrap_or(here)
    }
}

/// How full the data partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storage {
    /// Bytes that it has.
    pub bytes: u64,
    /// Bytes that are free for the program.
    pub bytes_free: u64,
    /// Files that it can hold (inodes).
    pub files: u64,
    /// Files that it can still take.
    pub files_free: u64,
}

/// Where an installation stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// None was asked for since the service started.
    #[default]
    Idle,
    /// The bundle is being verified; nothing is written.
    Verifying,
    /// The other slot is being written.
    Writing,
    /// The new version starts next.
    Done,
    /// It was refused.
    Refused,
}

impl From<slots::Phase> for Phase {
    fn from(phase: slots::Phase) -> Self {
        match phase {
            slots::Phase::Verifying => Self::Verifying,
            slots::Phase::Writing => Self::Writing,
            slots::Phase::Done => Self::Done,
        }
    }
}

/// How far an installation is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Where it stands.
    pub phase: Phase,
    /// Bytes of the phase that are done.
    pub done: u64,
    /// All bytes of the phase; 0 before the bundle is open.
    pub all: u64,
    /// The version of the bundle, once that is known.
    pub version: Option<u64>,
    /// Which upload it is.
    pub upload: Option<UploadId>,
    /// Why it was refused.
    pub refused: Option<Refusal>,
}

impl Progress {
    /// Whether an installation runs now.
    pub fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Verifying | Phase::Writing)
    }
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// The service is not there, or broke off.
    #[error("the service of the box does not answer: {0}")]
    Io(#[from] io::Error),
    /// It said what is not understood.
    #[error("the service of the box is not understood: {0}")]
    Line(String),
    /// It refused.
    #[error("{}", .0.what)]
    Refused(Refusal),
}

impl Request {
    /// Its line.
    pub fn line(&self) -> String {
        let line = serde_json::to_string(self).expect("a question is plain data");
        line + "\n"
    }
}

impl Reply {
    /// Its line.
    pub fn line(&self) -> String {
        let line = serde_json::to_string(self).expect("an answer is plain data");
        line + "\n"
    }

    /// Reads the line of an answer.
    pub fn read(line: &[u8]) -> Result<Answer, Unanswered> {
        match serde_json::from_slice(line) {
            Ok(Self::Answer(answer)) => Ok(answer),
            Ok(Self::Refused(refusal)) => Err(Unanswered::Refused(refusal)),
            Err(error) => Err(Unanswered::Line(error.to_string())),
        }
    }
}

/// Asks, waiting at most [`PATIENCE`] for each side; for who has no runtime of its own.
pub fn ask(socket: &Path, request: &Request) -> Result<Answer, Unanswered> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(request.line().as_bytes())?;
    let line = read_line(&mut stream, MAX_ANSWER, PATIENCE)?;
    Reply::read(&line)
}

/// Reads up to the end of a line, of at most `most` bytes, within `patience`. What comes after the
/// line in the same piece is an error: nobody says more than one thing before the answer.
pub fn read_line(stream: &mut UnixStream, most: usize, patience: Duration) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + patience;
    let mut line = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let mut piece = [0; 8192];
        let length = match stream.read(&mut piece) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if line.len() + length > most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        match piece[..length].iter().position(|b| *b == b'\n') {
            None => line.extend(&piece[..length]),
            Some(at) if at + 1 == length => {
                line.extend(&piece[..at]);
                return Ok(line);
            }
            Some(_) => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_names_a_file_and_never_a_place() {
        let good = "0123456789abcdef0123456789abcdef";
        assert_eq!(UploadId::parse(good).unwrap().as_str(), good);
        assert_eq!(UploadId::new([0xa5; 16]).as_str(), "a5".repeat(16));
        for wrong in [
            "",
            "..",
            "../../../../etc/shadow0123456789a",
            "0123456789ABCDEF0123456789ABCDEF",
            "0123456789abcdef0123456789abcde/",
            "0123456789abcdef0123456789abcdef0",
            "0123456789abcdef0123456789abcde\0",
        ] {
            assert_eq!(UploadId::parse(wrong), None, "{wrong}");
            let line = serde_json::json!({"install": {"upload": wrong}}).to_string();
            assert!(serde_json::from_str::<Request>(&line).is_err(), "{line}");
        }
    }

    #[test]
    fn questions_are_short_words() {
        assert_eq!(Request::FactoryReset.line(), "\"factory-reset\"\n");
        let install = Request::Install {
            upload: UploadId::new([1; 16]),
        };
        assert_eq!(
            install.line(),
            format!("{{\"install\":{{\"upload\":\"{}\"}}}}\n", "01".repeat(16))
        );
        for wrong in [
            "\"format-disk\"",
            "{}",
            "{\"install\":{}}",
            "{\"install\":{\"upload\":\"01010101010101010101010101010101\",\"path\":\"/\"}}",
            "null",
        ] {
            assert!(serde_json::from_str::<Request>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_line_is_bounded_in_length_and_time() {
        let asked = |sent: &[u8], most| {
            let (mut ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(sent).unwrap();
            read_line(&mut ours, most, Duration::from_millis(50)).map_err(|e| e.kind())
        };
        assert_eq!(asked(b"\"status\"\n", 100).unwrap(), b"\"status\"");
        assert_eq!(asked(b"12345\n", 5), Err(io::ErrorKind::FileTooLarge));
        assert_eq!(asked(b"a\nb", 100), Err(io::ErrorKind::InvalidData));
        // A line that never ends: by the clock.
        let waits = asked(b"half", 100).unwrap_err();
        assert!(
            matches!(waits, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
            "{waits:?}"
        );
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let gone = read_line(&mut ours, 100, PATIENCE).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::UnexpectedEof);
    }
}
