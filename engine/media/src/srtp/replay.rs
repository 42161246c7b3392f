//! Replay protection (RFC 3711 §3.3.2): a sliding window of accepted indices for each SSRC,
//! and a bounded table of them.

use super::SrtpError;

/// Accepted indices: the highest and a bitmap of the `64 * WORDS` up to it.
#[derive(Clone, Debug)]
pub(super) struct Window<const WORDS: usize> {
    highest: u64,
    /// Bit `index % (64 * WORDS)`.
    accepted: [u64; WORDS],
}

impl<const WORDS: usize> Window<WORDS> {
    const SIZE: u64 = 64 * WORDS as u64;

    /// A window in which `index` was accepted and nothing older will be known.
    fn starting(index: u64) -> Self {
        let mut window = Window {
            highest: index,
            accepted: [0; WORDS],
        };
        window.mark(index);
        window
    }

    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    /// Whether a packet of this index may still be accepted.
    pub(super) fn check(&self, index: u64) -> Result<(), SrtpError> {
        if index > self.highest {
            return Ok(());
        }
        if self.highest - index >= Self::SIZE {
            return Err(SrtpError::Old);
        }
        let (word, mask) = Self::place(index);
        if self.accepted[word] & mask != 0 {
            return Err(SrtpError::Repeated);
        }
        Ok(())
    }

    /// Notes an authentic packet that passed [`Self::check`].
    fn accept(&mut self, index: u64) {
        if index > self.highest {
            if index - self.highest >= Self::SIZE {
                self.accepted = [0; WORDS];
            } else {
                for skipped in self.highest + 1..index {
                    let (word, mask) = Self::place(skipped);
                    self.accepted[word] &= !mask;
                }
            }
            self.highest = index;
        }
        self.mark(index);
    }

    fn mark(&mut self, index: u64) {
        let (word, mask) = Self::place(index);
        self.accepted[word] |= mask;
    }

    fn place(index: u64) -> (usize, u64) {
        let bit = index % Self::SIZE;
        ((bit / 64) as usize, 1 << (bit % 64))
    }
}

/// The windows of all streams of a session, by SSRC.
#[derive(Debug)]
pub(super) struct Streams<const WORDS: usize> {
    /// Apart from the windows: a session's sources then fit a few cache lines.
    sources: Vec<u32>,
    windows: Vec<Window<WORDS>>,
    limit: usize,
    /// Where the last one was found.
    last: usize,
}

/// A stream's place in the table, valid until the table changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(usize);

impl<const WORDS: usize> Streams<WORDS> {
    pub(super) fn new(limit: usize) -> Self {
        Streams {
            sources: Vec::new(),
            windows: Vec::new(),
            limit,
            last: 0,
        }
    }

    pub(super) fn find(&mut self, ssrc: u32) -> Option<Place> {
        if self.sources.get(self.last) == Some(&ssrc) {
            return Some(Place(self.last));
        }
        self.last = self.sources.iter().position(|source| *source == ssrc)?;
        Some(Place(self.last))
    }

    pub(super) fn window(&self, Place(at): Place) -> &Window<WORDS> {
        &self.windows[at]
    }

    /// Whether a new stream would find no room.
    pub(super) fn is_full(&self) -> bool {
        self.sources.len() >= self.limit
    }

    /// Notes an authentic packet, whose stream is new without a place.
    pub(super) fn accept(&mut self, place: Option<Place>, ssrc: u32, index: u64) {
        match place {
            Some(Place(at)) => self.windows[at].accept(index),
            None => {
                self.sources.push(ssrc);
                self.windows.push(Window::starting(index));
            }
        }
    }

    pub(super) fn remove(&mut self, ssrc: u32) {
        if let Some(Place(at)) = self.find(ssrc) {
            self.sources.swap_remove(at);
            self.windows.swap_remove(at);
        }
    }
}
