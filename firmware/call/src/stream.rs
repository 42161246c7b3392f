//! What carries a WebSocket to the program. The one place that knows: TLS will be a second kind.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// An open connection that never waits.
pub(crate) type Stream = TcpStream;

/// Connects before `deadline`.
pub(crate) fn connect(address: SocketAddr, deadline: Instant) -> io::Result<Stream> {
    let left = deadline.saturating_duration_since(Instant::now());
    // Zero is refused as a mistake; what is out of time fails all the same.
    let stream = TcpStream::connect_timeout(&address, left.max(Duration::from_millis(1)))?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}
