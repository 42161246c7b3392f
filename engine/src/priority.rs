//! Real-time scheduling of the threads that packets pass through.

use crate::net::socket::schedule_round_robin;

/// How urgent a thread is to the kernel.
///
/// Round robin (`SCHED_RR`, POSIX.1-2024, 2.8.4): it runs before everything of ordinary priority, for as long as it has
/// something to do. The kernel keeps 5 % of the time for the rest (`sched_rt_runtime_us`), so that a flood of packets
/// slows the pages down but does not hang the box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Priority(Option<u8>);

impl Priority {
    /// `None` is ordinary scheduling; 1 to 50 real-time priority, a higher one first.
    #[must_use]
    pub fn new(value: Option<u8>) -> Self {
        Self(value)
    }

    /// The next more urgent one; ordinary stays ordinary.
    #[must_use]
    pub fn above(self) -> Self {
        Self(self.0.map(|value| value + 1))
    }

    /// Gives it to the calling thread.
    ///
    /// # Errors
    /// A sentence: the system refuses (no `CAP_SYS_NICE`, `RLIMIT_RTPRIO` too low). The thread goes on as it was.
    pub fn take(self) -> Result<(), String> {
        let Some(value) = self.0 else { return Ok(()) };
        schedule_round_robin(value).map_err(|error| {
            format!(
                "real-time priority {value} is refused ({error}): raise the limit RLIMIT_RTPRIO or unset media.priority"
            )
        })
    }

    /// [`take`](Self::take) for a thread that serves all the same when it is refused: the log says so.
    pub(crate) fn take_or_say(self, thread: &str) {
        if let Err(sentence) = self.take() {
            tracing::warn!(thread, "{sentence}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields 40 and 41 of proc(5)'s stat: real-time priority and policy of the calling thread.
    fn scheduling() -> (u8, u8) {
        let text = std::fs::read_to_string("/proc/thread-self/stat").expect("Linux has it");
        let (_, rest) = text
            .rsplit_once(')')
            .expect("the name stands in parentheses");
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields[number - 3].parse().expect("a small number");
        (field(40), field(41))
    }

    #[test]
    fn a_thread_gets_what_it_asks_for_or_is_told_why_not() {
        std::thread::spawn(|| {
            let ordinary = (0, 0);
            assert_eq!(Priority::default().above(), Priority::default());
            assert_eq!(Priority::default().take(), Ok(()));
            assert_eq!(scheduling(), ordinary);
            match Priority::new(Some(7)).above().take() {
                // 2 is SCHED_RR.
                Ok(()) => assert_eq!(scheduling(), (8, 2)),
                // Without the right to it, which is not a fault of ours.
                Err(sentence) => {
                    assert_eq!(scheduling(), ordinary);
                    assert!(sentence.contains("media.priority"), "{sentence}");
                }
            }
        })
        .join()
        .expect("the thread does not panic");
    }
}
