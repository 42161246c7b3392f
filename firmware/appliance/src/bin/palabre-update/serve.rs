//! `palabre-update serve`: does for the program what it may ask of the box, and nothing else.
//!
//! Listens on one socket, believes the kernel about who is at its other end, and answers one
//! question a connection (`palabre_appliance::service`). A thread for each of a few connections;
//! what changes the box waits for its turn.

#[path = "install.rs"]
mod install;
#[path = "settings.rs"]
mod settings;
#[path = "support.rs"]
mod support;

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use palabre_appliance::arguments::{Arguments, Usage};
use palabre_appliance::boot::Bootloader;
use palabre_appliance::history::What;
use palabre_appliance::service::{
    Answer, MAX_REQUEST, PATIENCE, Progress, Refusal, Reply, Request, read_line,
};

use crate::installation::is_being_written;
use crate::system::systemctl;
use crate::{Failed, Places, look, previous, stay};

/// Connections at once. The program asks one question at a time for each administrator.
const CONNECTIONS: usize = 8;
/// The user of the program: `sysusers.d/palabre.conf`.
const PALABRE: u32 = 900;
/// Where the program puts what an administrator uploads.
const UPLOADS: &str = "/var/lib/palabre/program/upload";
/// The wait after a connection could not be accepted, which is the lack of something that comes back.
const PAUSE: Duration = Duration::from_millis(100);

/// What `serve` was told.
pub(crate) struct Line {
    socket: Option<PathBuf>,
    uploads: PathBuf,
    user: u32,
    confirm_within: Duration,
}

impl Line {
    pub(crate) fn from(arguments: &mut Arguments) -> Result<Self, Usage> {
        let user = match arguments.value("--user")? {
            None => PALABRE,
            Some(text) => text
                .parse()
                .map_err(|_| Usage("--user is the number of a user".to_owned()))?,
        };
        let confirm_within = arguments.seconds("--confirm-within", settings::CONFIRM_WITHIN)?;
        let uploads = arguments.value("--uploads")?;
        Ok(Self {
            socket: arguments.value("--socket")?.map(PathBuf::from),
            uploads: PathBuf::from(uploads.unwrap_or_else(|| UPLOADS.to_owned())),
            user,
            confirm_within,
        })
    }

    /// Serves until it is told to stop.
    pub(crate) fn serve(self, places: Places) -> Result<String, Failed> {
        let listener = self
            .listen()
            .map_err(|error| Failed::said("socket", error))?;
        let service = Arc::new(Service {
            places,
            uploads: self.uploads,
            user: self.user,
            confirm_within: self.confirm_within,
            turn: Mutex::default(),
            progress: Mutex::default(),
            trial: Mutex::default(),
            confirmed: Condvar::default(),
            support: Mutex::default(),
        });
        service.settle();
        let open = Arc::new(Open::default());
        leave_politely(&open).map_err(|error| Failed::said("system", error))?;
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                std::thread::sleep(PAUSE);
                continue;
            };
            let Some(place) = Connection::of(&open) else {
                continue;
            };
            let service = Arc::clone(&service);
            let thread = std::thread::Builder::new().name("question".to_owned());
            // Without a thread the connection closes, and the program says that the box is silent.
            let _ = thread.spawn(move || {
                let _place = place;
                service.attend(stream);
            });
        }
        Ok(String::new())
    }

    fn listen(&self) -> std::io::Result<UnixListener> {
        match &self.socket {
            Some(path) => {
                let _ = std::fs::remove_file(path);
                UnixListener::bind(path)
            }
            // systemd's `StandardInput=socket`.
            None => {
                let given = std::io::stdin().as_fd().try_clone_to_owned()?;
                match rustix::net::sockopt::socket_acceptconn(&given)? {
                    true => Ok(UnixListener::from(given)),
                    false => Err(std::io::Error::other("the standard input does not listen")),
                }
            }
        }
    }
}

/// The connections there are.
#[derive(Default)]
struct Open {
    count: Mutex<usize>,
    fewer: Condvar,
}

impl Open {
    fn count(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that counts until it is dropped.
struct Connection(Arc<Open>);

impl Connection {
    fn of(open: &Arc<Open>) -> Option<Self> {
        let mut count = open.count();
        let has_place = *count < CONNECTIONS;
        has_place.then(|| {
            *count += 1;
            Self(Arc::clone(open))
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        *self.0.count() -= 1;
        self.0.fewer.notify_all();
    }
}

/// Lets who has asked for the end of the machine hear that it comes: that end begins with the end of this program. To be
/// called before there are other threads.
fn leave_politely(open: &Arc<Open>) -> std::io::Result<()> {
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGTERM);
    ends.thread_block()?;
    let open = Arc::clone(open);
    let leave = move || {
        // An error is none that could end: the signal was blocked.
        let _ = ends.wait();
        let count = open.count();
        let _ = open
            .fewer
            .wait_timeout_while(count, PATIENCE, |count| *count > 0);
        std::process::exit(0);
    };
    std::thread::Builder::new()
        .name("end".to_owned())
        .spawn(leave)
        .map(drop)
}

/// What all connections share.
struct Service {
    places: Places,
    uploads: PathBuf,
    user: u32,
    confirm_within: Duration,
    /// Held by whoever changes the box.
    turn: Mutex<()>,
    progress: Mutex<Progress>,
    /// The network that is tried.
    trial: Mutex<Option<settings::Trial>>,
    /// Wakes who waits for the end of it.
    confirmed: Condvar,
    /// Held by whoever makes a support bundle, which takes memory and time.
    support: Mutex<()>,
}

impl Service {
    fn attend(self: Arc<Self>, mut stream: UnixStream) {
        let mut more = Vec::new();
        let reply = match self.question(&mut stream) {
            Ok(request) => match self.answer(request, &mut more) {
                Ok(answer) => Reply::Answer(answer),
                Err(failed) => Reply::Refused(refusal(failed)),
            },
            Err(refusal) => Reply::Refused(refusal),
        };
        // Who does not read its answer has gone.
        let _ = stream.set_write_timeout(Some(PATIENCE));
        let said = stream.write_all(reply.line().as_bytes());
        let _ = said.and_then(|()| stream.write_all(&more));
    }

    fn question(&self, stream: &mut UnixStream) -> Result<Request, Refusal> {
        let refused = |code: &str, what: &dyn std::fmt::Display| Refusal {
            code: code.to_owned(),
            what: what.to_string(),
        };
        let peer = rustix::net::sockopt::socket_peercred(&*stream)
            .map_err(|error| refused("forbidden", &error))?;
        // Read in any case: who is cut off while writing does not hear why.
        let line = read_line(stream, MAX_REQUEST, PATIENCE)
            .map_err(|error| refused("request-invalid", &error))?;
        if peer.uid.as_raw() != self.user {
            let what = "the box does this for its own program only";
            return Err(refused("forbidden", &what));
        }
        serde_json::from_slice(&line).map_err(|error| refused("request-invalid", &error))
    }

    /// Answers; `more` gets the bytes that follow a support bundle's line.
    fn answer(self: &Arc<Self>, request: Request, more: &mut Vec<u8>) -> Result<Answer, Failed> {
        match request {
            Request::Status => Ok(Answer::Status(Box::new(look(&self.places)?))),
            Request::Progress => Ok(Answer::Progress(self.progress().clone())),
            Request::Network => Ok(Answer::Network(self.network()?)),
            Request::Time => Ok(Answer::Time(self.time())),
            Request::Certificate => Ok(Answer::Certificate(self.certificate())),
            Request::Storage => Ok(Answer::Storage(self.storage()?)),
            Request::Support => {
                let one = self.support.try_lock();
                if matches!(one, Err(TryLockError::WouldBlock)) {
                    let what = "another support bundle is being made";
                    return Err(Failed::said("support-busy", what));
                }
                *more = support::bundle(&self.places)?;
                let bytes = more.len() as u64;
                Ok(Answer::Support { bytes })
            }
            Request::Install { upload } => self.install(upload).map(|()| Answer::Done),
            Request::Previous => self.change(|| previous(&self.places).map(drop)),
            Request::Stay => self.change(|| stay(&self.places).map(drop)),
            Request::Restart => self.change(|| systemctl(&["reboot"])),
            Request::Shutdown => self.change(|| systemctl(&["poweroff"])),
            Request::FactoryReset => self.change(|| {
                let mut boot = self.places.boot();
                boot.factory_reset(true)
                    .map_err(|error| Failed::said("firmware", error))?;
                systemctl(&["reboot"]).inspect_err(|_| {
                    // Else the next start, whoever asks for it, would erase what somebody was told is still there.
                    if let Err(error) = boot.factory_reset(false) {
                        eprintln!("the next start erases the data: {error}");
                    }
                })
            }),
            Request::TryNetwork(network) => self.change(|| self.try_network(network)),
            Request::ConfirmNetwork => self.in_turn(|| self.confirm_network()),
            Request::RevertNetwork => self.in_turn(|| self.revert_network()),
            Request::SetTime(time) => self.change(|| self.set_time(time)),
            Request::SetCertificate { chain, key } => {
                self.change(|| self.set_certificate(&chain, &key))
            }
            Request::SelfSign => self.change(|| self.self_sign()),
            Request::Restored { before } => {
                crate::remember(&self.places, What::Restored, before, "");
                Ok(Answer::Done)
            }
        }
    }

    /// Changes the box, unless an installation is changing it: one of this service, or one from a stick.
    fn change(&self, change: impl FnOnce() -> Result<(), Failed>) -> Result<Answer, Failed> {
        let _turn = self.turn();
        if self.progress().is_running() || is_being_written(&self.places) {
            return Err(Failed::said("installing", "an installation is running"));
        }
        change().map(|()| Answer::Done)
    }

    /// Ends what was begun, while an installation runs too: it may take longer than a network is tried.
    fn in_turn(&self, change: impl FnOnce() -> Result<(), Failed>) -> Result<Answer, Failed> {
        let _turn = self.turn();
        change().map(|()| Answer::Done)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trial(&self) -> MutexGuard<'_, Option<settings::Trial>> {
        let mut trial = self.trial.lock().unwrap_or_else(PoisonError::into_inner);
        self.forget_replaced(&mut trial);
        trial
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the program is told of a failure.
fn refusal(failed: Failed) -> Refusal {
    let (code, what) = match failed {
        Failed::Said { code, what } => (code, what),
        Failed::Usage(Usage(what)) => ("request-invalid", what),
    };
    Refusal {
        code: code.to_owned(),
        what,
    }
}
