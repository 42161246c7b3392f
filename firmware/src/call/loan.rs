//! The room that the running program lends for the call: see `palabre_admin::synthetic`.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use palabre_admin::synthetic::{Answer, Lent, SOCKET};

use super::failure::{Failure, Step};

/// Longest answer read: two tokens and a few addresses take some 1.5 KB.
const ANSWER: u64 = 16 * 1024;

/// The room; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Loan {
    pub(crate) lent: Lent,
    _held: BufReader<UnixStream>,
}

impl Loan {
    /// Asks the program whose data is in `folder`, which must answer before `deadline`.
    pub(crate) fn of(folder: &Path, deadline: Instant) -> Result<Self, Failure> {
        let path = folder.join(SOCKET);
        let failed = |why: String| Failure::new(Step::Access, why);
        let stream = UnixStream::connect(&path).map_err(|error| {
            failed(format!(
                "no program answers at {}: {error}; is it running, with this storage.folder?",
                path.display()
            ))
        })?;
        // An answer in pieces, each in time, is longer than this by the program's own fault only.
        let left = deadline.saturating_duration_since(Instant::now());
        stream
            .set_read_timeout(Some(left.max(Duration::from_millis(1))))
            .map_err(|error| failed(format!("this machine keeps no time: {error}")))?;
        let mut held = BufReader::new(stream);
        let mut line = String::new();
        let read = held.by_ref().take(ANSWER).read_line(&mut line);
        if let Err(error) = read {
            return Err(failed(format!("the program lends no room: {error}")));
        }
        match serde_json::from_str(&line) {
            Ok(Answer::Lent(lent)) => Ok(Self { lent, _held: held }),
            Ok(Answer::Busy) => Err(failed("another synthetic call is under way".to_owned())),
            Ok(Answer::Unavailable) => Err(failed("its database does not answer".to_owned())),
            Err(_) => Err(failed("the program lends no room: it hung up".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixListener;

    use super::*;

    /// What is made of this answer.
    fn asked(answer: &'static [u8], stays: bool) -> Failure {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(SOCKET)).unwrap();
        let program = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.write_all(answer);
            if stays {
                let _ = stream.read(&mut [0]);
            }
        });
        let deadline = Instant::now() + Duration::from_millis(300);
        let failure = Loan::of(folder.path(), deadline).expect_err("no room");
        program.join().unwrap();
        assert!(Instant::now() < deadline + Duration::from_secs(3));
        failure
    }

    #[test]
    fn every_way_of_lending_nothing_is_told_in_time() {
        for (answer, stays, why) in [
            (&b"\"busy\"\n"[..], true, "under way"),
            (b"\"unavailable\"\n", true, "database"),
            (b"", false, "hung up"),
            (b"", true, "lends no room"),
            (b"{\"lent\":{}}\n", true, "hung up"),
            (b"\xFF\n", true, "lends no room"),
        ] {
            let failure = asked(answer, stays);
            assert_eq!(failure.step, Step::Access);
            assert!(failure.sentence.contains(why), "{failure}");
        }
        let long = Box::leak(vec![b'x'; 2 * ANSWER as usize].into_boxed_slice());
        assert_eq!(asked(long, false).step, Step::Access);
    }

    #[test]
    fn a_program_that_does_not_run_is_told_with_the_key_to_look_at() {
        let folder = tempfile::tempdir().unwrap();
        let failure = Loan::of(folder.path(), Instant::now()).expect_err("no program");
        assert!(failure.to_string().starts_with("access: "), "{failure}");
        assert!(failure.sentence.contains("storage.folder"), "{failure}");
    }
}
