//! One question by plain HTTP to the program on this machine.

use std::io;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use palabre_appliance::arguments::Usage;

/// Bytes of `HTTP/1.1 200`.
pub(crate) const STATUS: usize = 12;

/// `http://ADDRESS:PORT/PATH`.
#[derive(Debug)]
pub(crate) struct Url {
    pub(crate) address: SocketAddr,
    path: String,
}

impl Url {
    /// Reads one. Without a port it is 80; names are not looked up.
    pub(crate) fn parse(text: &str) -> Result<Self, Usage> {
        let usage = || Usage("--url is http://ADDRESS:PORT/PATH".to_owned());
        let parts = text.strip_prefix("http://");
        let (address, path) = parts
            .and_then(|rest| rest.split_once('/'))
            .ok_or_else(usage)?;
        let plain = path.bytes().all(|b| b.is_ascii_graphic());
        let bare = |address: &str| Some(SocketAddr::new(address.parse().ok()?, 80));
        let address = address.parse().ok().or_else(|| bare(address));
        Ok(Self {
            address: address.filter(|_| plain).ok_or_else(usage)?,
            path: format!("/{path}"),
        })
    }

    /// The first `most` bytes of the answer, or all of a shorter one, within `patience`: a slow drip
    /// is as good as silence.
    pub(crate) fn get(&self, most: usize, patience: Duration) -> io::Result<Vec<u8>> {
        let deadline = Instant::now() + patience;
        let mut stream = TcpStream::connect_timeout(&self.address, patience)?;
        stream.set_write_timeout(Some(patience))?;
        // In one piece: a server may answer and close at the first.
        let request = format!(
            "GET {} HTTP/1.0\r\nHost: {}\r\n\r\n",
            self.path, self.address
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        while answer.len() < most {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            stream.set_read_timeout(Some(left))?;
            let mut piece = [0; 4096];
            match stream.read(&mut piece)? {
                0 => break,
                length => answer.extend(&piece[..length]),
            }
        }
        answer.truncate(most);
        Ok(answer)
    }
}

/// Whether an answer begins with the status 200.
pub(crate) fn is_ok(answer: &[u8]) -> bool {
    let status = &answer[..answer.len().min(STATUS)];
    status.starts_with(b"HTTP/1.") && status.ends_with(b" 200")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_port_means_80() {
        let address = |url: &str| Url::parse(url).map(|url| url.address.to_string());
        assert_eq!(address("http://127.0.0.1/readyz").unwrap(), "127.0.0.1:80");
        assert_eq!(
            address("http://127.0.0.1:8080/readyz").unwrap(),
            "127.0.0.1:8080"
        );
        assert_eq!(address("http://[::1]:81/readyz").unwrap(), "[::1]:81");
        for wrong in [
            "https://127.0.0.1/",
            "http://localhost/",
            "http://127.0.0.1",
            "http://127.0.0.1/a b",
        ] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
