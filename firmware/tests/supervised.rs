//! The program under systemd, as far as systemd's end of it is a socket: it is ready when it says so, and says it is alive.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use palabre_tests::network::isolated;

/// After which systemd would start it anew.
const WATCHDOG: Duration = Duration::from_secs(8);

/// A start takes less, on a busy machine too.
const START: Duration = Duration::from_secs(60);

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The next thing that is said, within this time.
fn next(socket: &UnixDatagram, within: Duration) -> String {
    socket.set_read_timeout(Some(within)).expect("a time");
    let mut buffer = [0; 256];
    let length = socket
        .recv(&mut buffer)
        .unwrap_or_else(|error| panic!("nothing within {within:?}: {error}"));
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

/// The first line of the answer to `GET /readyz`.
fn readyz() -> std::io::Result<String> {
    let mut stream = TcpStream::connect("127.0.0.1:7880")?;
    stream
        .write_all(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:7880\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

#[test]
fn systemd_hears_that_the_program_is_ready_and_then_that_it_is_alive() {
    if !isolated() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    // Without a path, as systemd may choose, and in this network alone.
    let address = SocketAddr::from_abstract_name("palabre/notify").expect("a name");
    let socket = UnixDatagram::bind_addr(&address).expect("a socket");
    let program = Command::new(env!("CARGO_BIN_EXE_palabre"))
        .current_dir(folder.path())
        .env("NOTIFY_SOCKET", "@palabre/notify")
        .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string())
        .stdout(Stdio::null())
        .spawn()
        .expect("the program starts");
    let program = Running(program);

    assert_eq!(next(&socket, START), "READY=1");
    assert_eq!(readyz().expect("it is ready"), "HTTP/1.1 200 OK");
    let (mut last, mut beats) = (Instant::now(), 0);
    while beats < 5 {
        assert_eq!(next(&socket, WATCHDOG), "WATCHDOG=1");
        let gap = last.elapsed();
        assert!(gap <= WATCHDOG / 2, "{gap:?} without a beat");
        (last, beats) = (Instant::now(), beats + 1);
    }
    drop(program);
}
