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
/// Seconds without a word after which the board resets. Lower ends a slow start, of which systemd's own takes seconds only;
/// higher keeps a room waiting, three times until the version before is back.
const PATIENCE: c_int = 60;
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
    pub(crate) fn start() -> Option<Self> {
        let device = File::options().write(true).open(DEVICE).ok()?;
        let mut seconds = PATIENCE;
        // SAFETY: the opcode is that of a call which reads and writes one `int`.
        let set = unsafe { ioctl(&device, Updater::<SET_TIMEOUT, c_int>::new(&mut seconds)) };
        let seconds = set.is_ok().then_some(seconds);
        Some(Self { device, seconds })
    }

    /// After how many seconds it resets, when it can be told.
    pub(crate) fn seconds(&self) -> Option<c_int> {
        self.seconds
    }

    /// Says that all is well.
    pub(crate) fn word(&mut self) {
        let _ = self.device.write_all(&[0]);
    }

    /// Leaves it to whoever comes next. It runs on.
    pub(crate) fn hand_over(mut self) {
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

/// Waits, and says meanwhile that all is well.
pub(crate) fn wait(watchdog: &mut Option<Watchdog>, pause: Duration) {
    let end = Instant::now() + pause;
    loop {
        if let Some(watchdog) = watchdog {
            watchdog.word();
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(WORD));
    }
}
