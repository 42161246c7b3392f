//! Cuts a byte stream into messages (RFC 3261 §18.3). Content-Length is mandatory there; without it, or with an impossible
//! one, the stream cannot be followed any further.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;

use super::message::digits;
use super::name::Name;

/// Why a stream must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Head or body beyond the limit.
    #[error("a message larger than the limit")]
    TooLong,
    /// No usable Content-Length; the head is given so that it can be answered 400 first.
    #[error("no usable Content-Length")]
    ContentLength,
}

/// What the stream holds next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// One message.
    Message(Bytes),
    /// A double line break: the peer wants a single one back (RFC 5626 §3.5.1).
    Ping,
    /// A head whose body cannot be delimited, then the stream must be closed.
    Broken(Bytes, FrameError),
}

/// Bytes received and not yet cut.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: BytesMut,
    /// Where to go on looking for the end of the head.
    searched: usize,
    /// Length of the whole message once its head is read.
    whole: Option<usize>,
}

impl Framer {
    /// Adds bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes waiting.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Nothing is waiting.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The next whole frame, if it is there. `limit` bounds a message.
    pub fn pull(&mut self, limit: usize) -> Option<Frame> {
        if self.whole.is_none() {
            if self.buffer.starts_with(b"\r\n\r\n") {
                self.buffer.advance(4);
                self.searched = 0;
                return Some(Frame::Ping);
            }
            // One line break may be half of a ping: wait for what follows before dropping it.
            while self.buffer.len() > 2
                && self.buffer.starts_with(b"\r\n")
                && !b"\r\n\r".starts_with(&self.buffer)
            {
                self.buffer.advance(2);
                self.searched = 0;
            }
            let from = self.searched.saturating_sub(3);
            let Some(at) = memmem::find(&self.buffer[from..], b"\r\n\r\n") else {
                self.searched = self.buffer.len();
                return (self.buffer.len() > limit)
                    .then(|| self.broken(self.buffer.len(), FrameError::TooLong));
            };
            let head = from + at + 4;
            match content_length(&self.buffer[..head]) {
                Some(length) if length <= limit.saturating_sub(head) as u64 => {
                    self.whole = Some(head + length as usize)
                }
                Some(_) => return Some(self.broken(head, FrameError::TooLong)),
                None => return Some(self.broken(head, FrameError::ContentLength)),
            }
        }
        let whole = self.whole.filter(|whole| *whole <= self.buffer.len())?;
        self.whole = None;
        self.searched = 0;
        Some(Frame::Message(self.buffer.split_to(whole).freeze()))
    }

    fn broken(&mut self, head: usize, error: FrameError) -> Frame {
        let head = self.buffer.split_to(head).freeze();
        self.buffer.clear();
        self.searched = 0;
        Frame::Broken(head, error)
    }
}

/// Content-Length of a head; `None` if absent, twice, or no number.
fn content_length(head: &[u8]) -> Option<u64> {
    let mut found = None;
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        if Name::of(line[..colon].trim_ascii_end()) == Name::ContentLength {
            if found.is_some() {
                return None;
            }
            found = Some(digits(
                std::str::from_utf8(line[colon + 1..].trim_ascii()).ok()?,
            )?);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &str) -> String {
        format!("OPTIONS sip:x SIP/2.0\r\nl : {}\r\n\r\n{body}", body.len())
    }

    #[test]
    fn messages_come_out_whole_however_the_stream_is_cut() {
        let stream = format!(
            "\r\n{}\r\n\r\n{}{}",
            message("abc"),
            message(""),
            message("\r\n\r\n")
        );
        for cut in 1..stream.len() {
            let mut framer = Framer::default();
            let mut frames = Vec::new();
            for piece in stream.as_bytes().chunks(cut) {
                framer.push(piece);
                while let Some(frame) = framer.pull(1000) {
                    frames.push(frame);
                }
            }
            let expected: Vec<Frame> = vec![
                Frame::Message(message("abc").into()),
                Frame::Ping,
                Frame::Message(message("").into()),
                Frame::Message(message("\r\n\r\n").into()),
            ];
            assert_eq!(frames, expected, "cut every {cut}");
            assert!(framer.is_empty());
        }
    }

    #[test]
    fn what_cannot_be_delimited_is_broken() {
        let mut framer = Framer::default();
        framer.push(b"OPTIONS sip:x SIP/2.0\r\n\r\nrest");
        assert!(matches!(
            framer.pull(1000),
            Some(Frame::Broken(_, FrameError::ContentLength))
        ));
        for head in ["l: 5\r\nl: 5", "Content-Length: -1", "l: x", "l:"] {
            framer.push(format!("A x SIP/2.0\r\n{head}\r\n\r\n").as_bytes());
            assert!(
                matches!(
                    framer.pull(1000),
                    Some(Frame::Broken(_, FrameError::ContentLength))
                ),
                "{head}"
            );
        }
        framer.push(b"A x SIP/2.0\r\nl: 99999999999999999999999\r\n\r\n");
        assert!(matches!(
            framer.pull(1000),
            Some(Frame::Broken(_, FrameError::TooLong))
        ));
        framer.push(&[b'x'; 1001]);
        assert!(matches!(
            framer.pull(1000),
            Some(Frame::Broken(_, FrameError::TooLong))
        ));
        assert!(framer.is_empty());
    }
}
