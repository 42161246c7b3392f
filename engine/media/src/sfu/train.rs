//! Outgoing datagrams, gathered per destination into trains for UDP segmentation offload.
//!
//! A train is one contiguous buffer of equal-size datagrams, the last of which may be
//! shorter: one `UDP_SEGMENT` send each. Buffers are reused; nothing is sent from here.

use std::net::SocketAddr;

/// Largest datagram, in bytes: a full payload with our headers and tags.
pub const MAX_DATAGRAM: usize = 1_536;

/// Datagrams in one train at most. A higher value saves little (a train of 8 costs 30 % of
/// single sends, of 16 about 26 %) and makes larger bursts on slow links.
pub const MAX_SEGMENTS: usize = 16;

/// Flushes after which buffers that none of them needed are given back: at 50 to 500 flushes a
/// second, 8 to 80 s. Lower frees sooner and allocates more often.
const TRIM_EVERY: u64 = 4_096;

/// Buffers that are never given back.
const KEPT_BUFFERS: usize = 16;

/// Datagrams to one destination, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Train<'a> {
    /// Destination.
    pub to: SocketAddr,
    /// Size of every datagram but the last, in bytes.
    pub segment: usize,
    /// The datagrams, one after the other.
    pub bytes: &'a [u8],
}

impl<'a> Train<'a> {
    /// The datagrams one by one.
    pub fn datagrams(&self) -> std::slice::Chunks<'a, u8> {
        self.bytes.chunks(self.segment)
    }
}

#[derive(Debug)]
struct Buffer {
    to: SocketAddr,
    segment: usize,
    len: usize,
    /// A shorter datagram ended the train.
    closed: bool,
    bytes: Box<[u8]>,
}

/// The train a session appends to; stale after a flush.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OpenTrain {
    index: usize,
    /// Flush round it belongs to; 0 is none.
    round: u64,
}

/// All trains since the last flush.
#[derive(Debug)]
pub(super) struct Trains {
    buffers: Vec<Buffer>,
    /// The first `used` buffers hold this round's trains, in order.
    used: usize,
    round: u64,
    /// Most buffers used by one round since the last trim.
    most: usize,
}

impl Trains {
    pub(super) fn new() -> Self {
        Trains {
            buffers: Vec::new(),
            used: 0,
            round: 1,
            most: 0,
        }
    }

    /// Room for one datagram of exactly `len` bytes, at the end of `open` when it fits there
    /// and of a new train otherwise. The caller fills all of it.
    pub(super) fn append(&mut self, open: &mut OpenTrain, to: SocketAddr, len: usize) -> &mut [u8] {
        debug_assert!(0 < len && len <= MAX_DATAGRAM, "a datagram of {len} bytes");
        if self.fits(open, to, len) {
            let buffer = &mut self.buffers[open.index];
            buffer.closed = len < buffer.segment;
            let start = buffer.len;
            buffer.len += len;
            return &mut buffer.bytes[start..start + len];
        }
        if self.used == self.buffers.len() {
            let bytes = vec![0; MAX_SEGMENTS * MAX_DATAGRAM].into();
            self.buffers.push(Buffer {
                to,
                segment: 0,
                len: 0,
                closed: false,
                bytes,
            });
        }
        *open = OpenTrain {
            index: self.used,
            round: self.round,
        };
        self.used += 1;
        let buffer = &mut self.buffers[open.index];
        (buffer.to, buffer.segment, buffer.len, buffer.closed) = (to, len, len, false);
        &mut buffer.bytes[..len]
    }

    fn fits(&self, open: &OpenTrain, to: SocketAddr, len: usize) -> bool {
        self.segment(open).is_some_and(|segment| len <= segment)
            && self.buffers[open.index].to == to
    }

    /// Size of the datagrams of `open`, when one more may join it.
    pub(super) fn segment(&self, open: &OpenTrain) -> Option<usize> {
        let buffer = self
            .buffers
            .get(open.index)
            .filter(|_| open.round == self.round)?;
        let joinable = !buffer.closed && buffer.len < MAX_SEGMENTS * buffer.segment;
        joinable.then_some(buffer.segment)
    }

    /// Takes back the last `by` bytes appended to `open`: the datagram turned out shorter.
    pub(super) fn cancel(&mut self, open: &mut OpenTrain, len: usize) {
        let buffer = &mut self.buffers[open.index];
        buffer.len -= len;
        if buffer.len == 0 {
            // An empty train is skipped by the iterator; a new one is opened next time.
            open.round = 0;
        } else {
            buffer.closed = false;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Train<'_>> {
        self.buffers[..self.used]
            .iter()
            .filter(|buffer| buffer.len > 0)
            .map(|buffer| Train {
                to: buffer.to,
                segment: buffer.segment,
                bytes: &buffer.bytes[..buffer.len],
            })
    }

    /// Which flush the trains are for.
    pub(super) fn round(&self) -> u64 {
        self.round
    }

    pub(super) fn is_empty(&self) -> bool {
        self.used == 0
    }

    pub(super) fn flushed(&mut self) {
        self.most = self.most.max(self.used);
        self.used = 0;
        self.round += 1;
        // What a burst needed once (24 KiB a train) is not kept for ever.
        if self.round.is_multiple_of(TRIM_EVERY) {
            self.buffers.truncate(self.most.max(KEPT_BUFFERS));
            self.most = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn lengths(trains: &Trains) -> Vec<(u16, Vec<usize>)> {
        trains
            .iter()
            .map(|train| {
                (
                    train.to.port(),
                    train.datagrams().map(<[u8]>::len).collect(),
                )
            })
            .collect()
    }

    #[test]
    fn equal_sizes_join_a_shorter_one_ends_and_a_longer_one_starts_a_train() {
        let mut trains = Trains::new();
        let mut open = OpenTrain::default();
        for len in [100, 100, 90, 90, 100] {
            trains.append(&mut open, to(1), len).fill(1);
        }
        assert_eq!(
            lengths(&trains),
            [(1, vec![100, 100, 90]), (1, vec![90]), (1, vec![100])]
        );
    }

    #[test]
    fn sessions_interleave_without_mixing_and_a_flush_empties_all() {
        let mut trains = Trains::new();
        let (mut a, mut b) = (OpenTrain::default(), OpenTrain::default());
        for _ in 0..20 {
            trains.append(&mut a, to(1), 50);
            trains.append(&mut b, to(2), 50);
        }
        assert_eq!(
            lengths(&trains),
            [
                (1, vec![50; 16]),
                (2, vec![50; 16]),
                (1, vec![50; 4]),
                (2, vec![50; 4])
            ]
        );
        trains.flushed();
        assert!(trains.is_empty());
        trains.append(&mut a, to(3), 10);
        assert_eq!(lengths(&trains), [(3, vec![10])]);
        assert_eq!(trains.buffers.len(), 4, "buffers are reused");
    }

    #[test]
    fn buffers_of_a_burst_are_given_back_and_those_in_use_are_kept() {
        let mut trains = Trains::new();
        let burst = |trains: &mut Trains, count: u16| {
            for port in 0..count {
                trains.append(&mut OpenTrain::default(), to(port), 100);
            }
            trains.flushed();
        };
        burst(&mut trains, 200);
        for _ in 0..2 * TRIM_EVERY {
            burst(&mut trains, 40);
        }
        assert_eq!(trains.buffers.len(), 40);
        for _ in 0..2 * TRIM_EVERY {
            burst(&mut trains, 1);
        }
        assert_eq!(trains.buffers.len(), KEPT_BUFFERS);
    }

    #[test]
    fn a_cancelled_datagram_leaves_no_trace() {
        let mut trains = Trains::new();
        let mut open = OpenTrain::default();
        trains.append(&mut open, to(1), 40);
        trains.cancel(&mut open, 40);
        trains.append(&mut open, to(1), 60);
        trains.append(&mut open, to(1), 50);
        trains.cancel(&mut open, 50);
        trains.append(&mut open, to(1), 60);
        assert_eq!(lengths(&trains), [(1, vec![60, 60])]);
    }
}
