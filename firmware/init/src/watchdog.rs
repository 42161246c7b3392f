//! The watchdog of the board: a start that stands still from here on is ended by it.
//!
//! systemd sets it to its own time and speaks to it from then on. What hangs before, a kernel image or a root that somebody
//! spoiled, would wait for a person to switch the box off and on, and its tries would never be used up.
//!
//! Source: `Documentation/watchdog/watchdog-api.rst` and `include/uapi/linux/watchdog.h` of Linux.

use std::ffi::c_int;
use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, Instant};

use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

/// The one that systemd takes too.
const DEVICE: &str = "/dev/watchdog0";
/// Seconds without a word after which the board resets while drivers find disks. Lower ends a start beside a disk that is
/// dying, which the kernel gives up after about a minute; higher keeps a room waiting, three times until the version before
/// is back.
const PATIENCE: c_int = 90;
/// The same, from the hand-over until systemd speaks to it, which takes it seconds.
const HANDED_OVER: c_int = 60;
/// How often it hears a word while this program waits. A few times in what the most impatient boards allow.
const WORD: Duration = Duration::from_secs(5);
/// `WDIOC_SETTIMEOUT`.
const SET_TIMEOUT: Opcode = opcode::read_write::<c_int>(b'W', 6);
/// What the kernel shows on the console: less severe than this is not.
const CONSOLE: &str = "/proc/sys/kernel/printk";

/// A watchdog that runs.
pub(crate) struct Watchdog {
    device: File,
    seconds: Option<c_int>,
}

impl Watchdog {
    /// Starts it, where there is one whose driver is loaded.
    fn start() -> Option<Self> {
        let device = File::options().write(true).open(DEVICE).ok()?;
        let mut started = Self {
            device,
            seconds: None,
        };
        if !started.set(PATIENCE) {
            started.set(HANDED_OVER);
        }
        Some(started)
    }

    /// Asks for `seconds` of patience, and tells whether some are in force now: a board may give others, or refuse.
    fn set(&mut self, mut seconds: c_int) -> bool {
        // SAFETY: the opcode is that of a call which reads and writes one `int`.
        let set = unsafe {
            ioctl(
                &self.device,
                Updater::<SET_TIMEOUT, c_int>::new(&mut seconds),
            )
        };
        if set.is_ok() {
            self.seconds = Some(seconds);
        }
        set.is_ok()
    }

    /// After how many seconds it resets, when it can be told.
    pub(crate) fn seconds(&self) -> Option<c_int> {
        self.seconds
    }

    fn word(&mut self) {
        let _ = self.device.write_all(&[0]);
    }

    /// Leaves it to whoever comes next. It runs on.
    pub(crate) fn hand_over(mut self) {
        self.set(HANDED_OVER);
        self.word();
        // The kernel would say on every console that it was not stopped, as if that were an accident.
        let level = fs::read_to_string(CONSOLE);
        let _ = fs::write(CONSOLE, "2");
        drop(self);
        if let Ok(level) = level {
            let _ = fs::write(CONSOLE, level);
        }
    }
}

/// Says that all is well. One whose driver has come since the last word is started.
pub(crate) fn word(watchdog: &mut Option<Watchdog>) {
    match watchdog {
        Some(watchdog) => watchdog.word(),
        None => *watchdog = Watchdog::start(),
    }
}

/// Waits, and says meanwhile that all is well.
pub(crate) fn wait(watchdog: &mut Option<Watchdog>, pause: Duration) {
    let end = Instant::now() + pause;
    loop {
        word(watchdog);
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(WORD));
    }
}
