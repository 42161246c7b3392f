//! Other work on the machine of a bench.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, spawn};

/// `media.priority` of the program beside others, as a box has it; its mixer gets 11.
pub(crate) const PRIORITY: u8 = 10;

/// The priority of those who send and listen: above the program's, so that what is late is the program.
pub(crate) const ABOVE: u8 = 40;

/// What else the machine does.
pub(crate) struct Crowd {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    command: Option<JoinHandle<u32>>,
}

impl Crowd {
    /// `busy` threads that only compute, and `command`, again and again.
    pub(crate) fn start(busy: usize, command: Option<&str>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..busy).map(|_| {
            let stop = Arc::clone(&stop);
            spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        });
        let threads = threads.collect();
        let command = command.map(|command| {
            let (stop, command) = (Arc::clone(&stop), command.to_owned());
            spawn(move || {
                let mut runs = 0;
                while !stop.load(Ordering::Relaxed) {
                    let mut shell = Command::new("sh");
                    // What it says would stand between the rows.
                    shell.args(["-c", &command]).stdout(Stdio::null());
                    let status = shell.spawn().and_then(|mut child: Child| child.wait());
                    assert!(
                        status.is_ok_and(|status| status.success()),
                        "the command failed: {command}"
                    );
                    runs += 1;
                }
                // What it wrote is on the disk before somebody measures alone again.
                let synced = Command::new("sync").status();
                assert!(synced.is_ok_and(|status| status.success()), "sync failed");
                runs
            })
        });
        Self {
            stop,
            threads,
            command,
        }
    }

    /// Asks all of them to end.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether the command, which ends in its own time, has.
    pub(crate) fn has_ended(&self) -> bool {
        self.command.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// How often the command ran.
    pub(crate) fn end(self) -> u32 {
        self.stop();
        for thread in self.threads {
            thread.join().expect("computing does not panic");
        }
        let runs = self.command.map(JoinHandle::join);
        runs.map_or(0, |runs| runs.expect("the command succeeds"))
    }
}
