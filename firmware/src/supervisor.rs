//! What systemd is told of the program (sd_notify(3)): once that it is ready, then again and again that its parts answer,
//! so that a program that hangs is started anew. Where nobody listens nothing is told.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// Beats in the time after which the program is started anew. More forgives more of them being late; fewer wake the
/// threads less often.
const BEATS: u32 = 4;

/// Between two looks at whether all parts are ready. Longer has whoever waits for the program wait longer.
const LOOK: Duration = Duration::from_millis(250);

/// Whoever started the program and wants to hear of it.
#[derive(Debug)]
pub(crate) struct Supervisor {
    socket: UnixDatagram,
    /// How long without a beat until it starts the program anew, if ever.
    patience: Option<Duration>,
}

impl Supervisor {
    /// The one that the environment names, if it does.
    ///
    /// # Errors
    /// When what it names cannot be spoken to.
    pub(crate) fn of(environment: impl Fn(&str) -> Option<OsString>) -> io::Result<Option<Self>> {
        let Some(name) = environment("NOTIFY_SOCKET") else {
            return Ok(None);
        };
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(&name)?,
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        let socket = UnixDatagram::unbound()?;
        // Media do not wait for who does not read.
        socket.set_nonblocking(true)?;
        socket.connect_addr(&address)?;
        let number = |key| environment(key)?.to_str()?.parse::<u64>().ok();
        // Set for another process, it came here by inheritance.
        let is_ours = number("WATCHDOG_PID").is_none_or(|id| id == u64::from(std::process::id()));
        let patience = number("WATCHDOG_USEC").filter(|patience| is_ours && *patience > 0);
        Ok(Some(Self {
            socket,
            patience: patience.map(Duration::from_micros),
        }))
    }

    /// Tells that the program is ready once `is_ready`, then that it is alive as long as `answers`. Whoever takes too
    /// long to answer does not.
    pub(crate) async fn keep<R, A>(self, is_ready: impl Fn() -> R, answers: impl Fn() -> A)
    where
        R: Future<Output = bool>,
        A: Future<Output = bool>,
    {
        while !is_ready().await {
            sleep(LOOK).await;
        }
        self.tell("READY=1");
        let Some(patience) = self.patience else {
            return;
        };
        let every = (patience / BEATS).max(Duration::from_millis(1));
        let mut beats = interval(every);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            match timeout(every, answers()).await {
                Ok(true) => self.tell("WATCHDOG=1"),
                _ => tracing::error!(
                    "a thread of the media does not answer; if none comes, the program is started anew"
                ),
            }
        }
    }

    fn tell(&self, what: &str) {
        if let Err(error) = self.socket.send(what.as_bytes()) {
            tracing::warn!(%error, what, "systemd was not told");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Who listens, and where.
    struct Listener {
        socket: UnixDatagram,
        _folder: tempfile::TempDir,
        name: OsString,
    }

    impl Listener {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("notify");
            let socket = UnixDatagram::bind(&path).unwrap();
            socket.set_nonblocking(true).unwrap();
            Self {
                socket,
                _folder: folder,
                name: path.into(),
            }
        }

        fn supervisor(&self, more: &[(&str, &str)]) -> Supervisor {
            let mut known = HashMap::from([("NOTIFY_SOCKET", self.name.clone())]);
            known.extend(
                more.iter()
                    .map(|(key, value)| (*key, OsString::from(value))),
            );
            Supervisor::of(|key| known.get(key).cloned())
                .unwrap()
                .unwrap()
        }

        /// What has been said since the last time.
        fn heard(&self) -> Vec<String> {
            let mut buffer = [0; 64];
            let next = || match self.socket.recv(&mut buffer) {
                Ok(length) => Some(String::from_utf8(buffer[..length].to_vec()).unwrap()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                Err(error) => panic!("{error}"),
            };
            std::iter::from_fn(next).collect()
        }
    }

    /// What a part of the program does.
    #[derive(Clone, Default)]
    struct Part(Arc<AtomicBool>, Arc<AtomicBool>);

    impl Part {
        fn is_well(&self, is_well: bool) {
            self.0.store(is_well, Ordering::Relaxed);
        }

        fn hangs(&self, hangs: bool) {
            self.1.store(hangs, Ordering::Relaxed);
        }

        async fn answer(self) -> bool {
            if self.1.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            self.0.load(Ordering::Relaxed)
        }
    }

    /// Time stands still but jumps to the next timer whenever everybody waits.
    #[tokio::test(start_paused = true)]
    async fn a_part_that_does_not_answer_stops_the_beats() {
        let listener = Listener::new();
        let supervisor = listener.supervisor(&[("WATCHDOG_USEC", "30000000")]);
        let (all, media) = (Part::default(), Part::default());
        media.is_well(true);
        let (ready, answers) = (all.clone(), media.clone());
        let kept = supervisor.keep(
            move || ready.clone().answer(),
            move || answers.clone().answer(),
        );
        let kept = tokio::spawn(kept);
        sleep(Duration::from_secs(60)).await;
        assert!(listener.heard().is_empty(), "it is not ready");

        all.is_well(true);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(listener.heard(), ["READY=1", "WATCHDOG=1"]);
        for _ in 0..10 {
            sleep(Duration::from_secs(15)).await;
            let heard = listener.heard();
            assert!(
                !heard.is_empty() && heard.iter().all(|what| what == "WATCHDOG=1"),
                "{heard:?}"
            );
        }

        for stop in [Part::hangs as fn(&Part, bool), |part, stops| {
            part.is_well(!stops)
        }] {
            stop(&media, true);
            sleep(Duration::from_secs(120)).await;
            assert!(listener.heard().is_empty(), "it does not answer");
            stop(&media, false);
            sleep(Duration::from_secs(15)).await;
            assert!(!listener.heard().is_empty(), "it answers again");
        }
        kept.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_told_what_they_did_not_ask_for() {
        let listener = Listener::new();
        let not_ours = (std::process::id() + 1).to_string();
        for more in [
            &[][..],
            &[("WATCHDOG_USEC", "0")],
            &[("WATCHDOG_USEC", "soon")],
            &[
                ("WATCHDOG_USEC", "30000000"),
                ("WATCHDOG_PID", not_ours.as_str()),
            ],
        ] {
            let supervisor = listener.supervisor(more);
            supervisor.keep(|| async { true }, || async { true }).await;
            assert_eq!(listener.heard(), ["READY=1"], "{more:?}");
        }
        assert!(Supervisor::of(|_| None).unwrap().is_none());
        for wrong in ["notify", "vsock:2:1234", "/absent/notify"] {
            let named = |key: &str| (key == "NOTIFY_SOCKET").then(|| wrong.into());
            assert!(Supervisor::of(named).is_err(), "{wrong}");
        }
    }
}
