//! Sleeping until there is something to do, and being woken by another thread.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::MediaSocket;

/// Wakes a sleeping thread (an eventfd).
#[derive(Debug)]
pub struct Wake {
    file: File,
}

impl Wake {
    /// A wake that nobody has called yet.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just created and nobody else owns it.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        Ok(Self { file })
    }

    /// Ends the other side's sleep, now or as soon as it begins.
    pub fn call(&self) {
        // Fails only when the counter is full, and then the sleeper wakes anyway.
        let _ = (&self.file).write(&1u64.to_ne_bytes());
    }

    /// Forgets calls so far.
    pub fn clear(&self) {
        let _ = (&self.file).read(&mut [0; 8]);
    }

    /// Sleeps until called or until `timeout`.
    pub fn sleep(&self, timeout: Duration) {
        let _ = wait(&[(self.file.as_raw_fd(), libc::POLLIN)], Some(timeout));
        self.clear();
    }
}

/// Sleeps until a datagram arrives, `wake` is called or `timeout` has passed (`None`: for ever).
pub fn sleep(socket: &MediaSocket, wake: &Wake, timeout: Option<Duration>) {
    let sources = [
        (socket.socket.as_raw_fd(), libc::POLLIN),
        (wake.file.as_raw_fd(), libc::POLLIN),
    ];
    if wait(&sources, timeout).is_ok_and(|ready| ready & 2 != 0) {
        wake.clear();
    }
}

/// `ppoll`: a bit for each source that is ready, the first is bit 0.
pub(super) fn wait(
    sources: &[(libc::c_int, libc::c_short)],
    timeout: Option<Duration>,
) -> io::Result<u32> {
    let mut polled = [libc::pollfd {
        fd: -1,
        events: 0,
        revents: 0,
    }; 2];
    for (entry, &(fd, events)) in polled.iter_mut().zip(sources) {
        (entry.fd, entry.events) = (fd, events);
    }
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: timeout.as_secs().min(3600) as libc::time_t,
        tv_nsec: timeout.subsec_nanos() as libc::c_long,
    });
    let timeout = timeout
        .as_ref()
        .map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the array and the optional timespec live on this stack during the call; entries
    // beyond `sources` have a negative descriptor, which ppoll ignores.
    let count = unsafe {
        libc::ppoll(
            polled.as_mut_ptr(),
            polled.len() as libc::nfds_t,
            timeout,
            std::ptr::null(),
        )
    };
    if count < 0 {
        return Err(io::Error::last_os_error());
    }
    let ready = polled.iter().enumerate();
    Ok(ready.fold(0, |bits, (index, entry)| {
        bits | u32::from(entry.revents != 0) << index
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_before_sleep_ends_it_at_once() {
        let wake = Wake::new().unwrap();
        wake.call();
        let start = std::time::Instant::now();
        wake.sleep(Duration::from_secs(60));
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}
