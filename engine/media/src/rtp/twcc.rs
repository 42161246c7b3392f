//! Transport-wide congestion control feedback
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01): noting arrivals, writing, reading.
//!
//! It neither decides when feedback is due nor estimates bandwidth.

use std::time::{Duration, Instant};

use super::packet::WriteError;
use super::rtcp::{Feedback, RtcpError};
use super::seq::SequenceExtender;

/// Resolution of arrival times.
pub const TICK: Duration = Duration::from_micros(250);

/// Ticks in one unit of the reference time (64 ms).
const REFERENCE: i64 = 256;

/// Sequence numbers remembered for feedback. A higher value bridges longer silences between
/// feedback messages; 1,024 is about one second of a 10 Mbit/s sender.
const WINDOW: u64 = 1024;

/// Bytes of a feedback message's fixed part, after the two SSRCs.
const FIXED: usize = 8;

/// Statuses of a packet (draft §3.1.1).
const NOT_RECEIVED: u8 = 0;
const SMALL_DELTA: u8 = 1;
const LARGE_DELTA: u8 = 2;

/// Arrivals on one transport, to report to its sender.
#[derive(Clone, Debug)]
pub struct Arrivals {
    epoch: Instant,
    extender: SequenceExtender,
    /// Arrival in ticks since `epoch`, plus one; 0 for not received.
    ring: Box<[u32]>,
    /// First number of the next message.
    base: u64,
    pending: bool,
    messages: u8,
}

impl Arrivals {
    /// No arrivals; `epoch` is the origin of reference times, any instant before the first.
    pub fn new(epoch: Instant) -> Self {
        Arrivals {
            epoch,
            extender: SequenceExtender::default(),
            ring: vec![0; WINDOW as usize].into(),
            base: 0,
            pending: false,
            messages: 0,
        }
    }

    /// Notes the arrival of a packet. Repeated and very old numbers are ignored.
    pub fn insert(&mut self, sequence: u16, now: Instant) {
        let before = self.extender.highest();
        let sequence = self.extender.extend(sequence);
        match before {
            None => self.base = sequence,
            Some(highest) if sequence > highest => {
                if sequence - highest >= WINDOW {
                    self.ring.fill(0);
                } else {
                    for number in highest + 1..sequence {
                        self.ring[slot(number)] = 0;
                    }
                }
                self.ring[slot(sequence)] = 0;
                self.base = self.base.max((sequence + 1).saturating_sub(WINDOW));
            }
            Some(highest) => {
                let very_old = highest - sequence >= WINDOW;
                if very_old || self.ring[slot(sequence)] != 0 {
                    return;
                }
                // Reported as lost before, or from before the first: report it (again).
                self.base = self.base.min(sequence);
            }
        }
        let elapsed = now.saturating_duration_since(self.epoch);
        let ticks = (elapsed.as_micros() as u64 / TICK.as_micros() as u64) as u32;
        // Zero means absent. After 12 days the value wraps and one message is skewed.
        self.ring[slot(sequence)] = ticks.wrapping_add(1).max(1);
        self.pending = true;
    }

    /// Whether there is an arrival not yet reported.
    pub fn is_pending(&self) -> bool {
        self.pending
    }

    /// Writes the feedback control information for as many packets as fit `buffer`; its
    /// length, a multiple of 4.
    pub(super) fn write(&mut self, buffer: &mut [u8]) -> Result<usize, WriteError> {
        let highest = self
            .extender
            .highest()
            .expect("pending feedback has arrivals");
        let first = (self.base..=highest).find_map(|number| self.ticks(number));
        let first = first.expect("pending feedback has an arrival in the window");
        let reference = first.div_euclid(REFERENCE);

        // First pass: statuses, as long as the worst chunk encoding and the deltas fit.
        let mut statuses = [NOT_RECEIVED; WINDOW as usize];
        let (mut count, mut deltas) = (0usize, 0usize);
        let mut previous = reference * REFERENCE;
        for number in self.base..=highest {
            let (status, size) = match self.ticks(number) {
                None => (NOT_RECEIVED, 0),
                Some(ticks) => match ticks - previous {
                    0..=255 => (SMALL_DELTA, 1),
                    delta if i16::try_from(delta).is_ok() => (LARGE_DELTA, 2),
                    // A pause of more than 8 s: the next message starts there.
                    _ => break,
                },
            };
            let chunks = 2 * (count + 1).div_ceil(7);
            if FIXED + chunks + deltas + size + 3 > buffer.len() {
                break;
            }
            statuses[count] = status;
            count += 1;
            deltas += size;
            if let Some(ticks) = self.ticks(number) {
                previous = ticks;
            }
        }
        let statuses = &statuses[..count];
        if !statuses.iter().any(|status| *status != NOT_RECEIVED) {
            return Err(WriteError::Full);
        }

        buffer[0..2].copy_from_slice(&(self.base as u16).to_be_bytes());
        buffer[2..4].copy_from_slice(&(count as u16).to_be_bytes());
        let head = ((reference as u32 & 0xFF_FFFF) << 8) | u32::from(self.messages);
        buffer[4..8].copy_from_slice(&head.to_be_bytes());
        let mut len = FIXED + write_chunks(statuses, &mut buffer[FIXED..]);

        let mut previous = reference * REFERENCE;
        for (number, status) in (self.base..).zip(statuses) {
            let Some(ticks) = self.ticks(number) else {
                continue;
            };
            let delta = (ticks - previous) as i16;
            previous = ticks;
            if *status == SMALL_DELTA {
                buffer[len] = delta as u8;
                len += 1;
            } else {
                buffer[len..len + 2].copy_from_slice(&delta.to_be_bytes());
                len += 2;
            }
        }
        while !len.is_multiple_of(4) {
            buffer[len] = 0;
            len += 1;
        }
        self.messages = self.messages.wrapping_add(1);
        self.base += count as u64;
        self.pending = (self.base..=highest).any(|number| self.ticks(number).is_some());
        Ok(len)
    }

    fn ticks(&self, number: u64) -> Option<i64> {
        match self.ring[slot(number)] {
            0 => None,
            ticks => Some(i64::from(ticks) - 1),
        }
    }
}

fn slot(number: u64) -> usize {
    (number % WINDOW) as usize
}

/// Encodes statuses as chunks (draft §3.1.2 to §3.1.4); the bytes written, at most two for
/// each seven statuses.
fn write_chunks(statuses: &[u8], buffer: &mut [u8]) -> usize {
    let (mut rest, mut len) = (statuses, 0);
    while let Some(&first) = rest.first() {
        let run = rest
            .iter()
            .take_while(|status| **status == first)
            .count()
            .min(8191);
        let ones = &rest[..rest.len().min(14)];
        let (chunk, taken) = if run >= 14 || run == rest.len() || (run >= 7 && first == LARGE_DELTA)
        {
            ((u16::from(first) << 13) | run as u16, run)
        } else if ones.len() > 7 && !ones.contains(&LARGE_DELTA) {
            let bits = ones
                .iter()
                .enumerate()
                .fold(0, |bits, (n, s)| bits | (u16::from(*s) << (13 - n)));
            (0x8000 | bits, ones.len())
        } else {
            let twos = &rest[..rest.len().min(7)];
            let bits = twos
                .iter()
                .enumerate()
                .fold(0, |bits, (n, s)| bits | (u16::from(*s) << (12 - 2 * n)));
            (0xC000 | bits, twos.len())
        };
        buffer[len..len + 2].copy_from_slice(&chunk.to_be_bytes());
        len += 2;
        rest = &rest[taken..];
    }
    len
}

/// A parsed feedback message.
#[derive(Clone, Copy, Debug)]
pub struct TransportFeedback<'a> {
    /// Who reports.
    pub parties: Feedback,
    /// First sequence number reported on.
    pub base_sequence: u16,
    /// How many consecutive numbers are reported on, lost ones included.
    pub count: u16,
    /// Number of this message, to find lost ones.
    pub message: u8,
    /// 24-bit signed, in units of 64 ms.
    reference: i32,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

/// One packet that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Transport-wide sequence number.
    pub sequence: u16,
    /// When, in [`TICK`]s of the receiver's clock from an unknown origin; wraps after 12 days.
    pub ticks: i64,
}

impl<'a> TransportFeedback<'a> {
    /// Checks that the chunks cover the count and that every delta is there.
    pub(super) fn parse(parties: Feedback, fci: &'a [u8]) -> Result<Self, RtcpError> {
        let (fixed, rest) = fci
            .split_first_chunk::<FIXED>()
            .ok_or(RtcpError::Feedback)?;
        let base_sequence = u16::from_be_bytes([fixed[0], fixed[1]]);
        let count = u16::from_be_bytes([fixed[2], fixed[3]]);
        let head = u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
        let (mut covered, mut chunks, mut needed) = (0usize, 0usize, 0usize);
        while covered < usize::from(count) {
            let chunk = rest[chunks..]
                .first_chunk::<2>()
                .ok_or(RtcpError::Feedback)?;
            let chunk = Chunk(u16::from_be_bytes(*chunk));
            chunks += 2;
            let len = chunk.len().min(usize::from(count) - covered);
            if len == 0 {
                return Err(RtcpError::Feedback);
            }
            needed += chunk.delta_bytes(len).ok_or(RtcpError::Feedback)?;
            covered += len;
        }
        let deltas = rest[chunks..].get(..needed).ok_or(RtcpError::Feedback)?;
        Ok(TransportFeedback {
            parties,
            base_sequence,
            count,
            message: head as u8,
            reference: (head as i32) >> 8,
            chunks: &rest[..chunks],
            deltas,
        })
    }

    /// The packets that arrived, in order of their numbers. Numbers in
    /// `base_sequence .. base_sequence + count` that are not among them did not arrive.
    pub fn arrivals(&self) -> ArrivalsRead<'a> {
        ArrivalsRead {
            chunks: self.chunks,
            deltas: self.deltas,
            sequence: self.base_sequence,
            left: usize::from(self.count),
            chunk: Chunk(0),
            at: 0,
            ticks: i64::from(self.reference) * REFERENCE,
        }
    }
}

/// A packet status chunk.
#[derive(Clone, Copy, Debug)]
struct Chunk(u16);

impl Chunk {
    /// Statuses it holds.
    fn len(self) -> usize {
        match self.0 >> 14 {
            0 | 1 => usize::from(self.0 & 0x1FFF),
            2 => 14,
            _ => 7,
        }
    }

    fn status(self, at: usize) -> u8 {
        let status = match self.0 >> 14 {
            0 | 1 => self.0 >> 13,
            2 => self.0 >> (13 - at) & 1,
            _ => self.0 >> (12 - 2 * at) & 3,
        };
        status as u8
    }

    fn is_run(self) -> bool {
        self.0 >> 15 == 0
    }

    /// Delta bytes of the first `len` statuses; `None` with a reserved status.
    fn delta_bytes(self, len: usize) -> Option<usize> {
        let size = |status| match status {
            NOT_RECEIVED => Some(0),
            SMALL_DELTA => Some(1),
            LARGE_DELTA => Some(2),
            _ => None,
        };
        if self.is_run() {
            return Some(size(self.status(0))? * len);
        }
        (0..len).try_fold(0, |sum, at| Some(sum + size(self.status(at))?))
    }
}

/// Iterates over the arrivals of a [`TransportFeedback`].
///
/// A run of lost packets costs one step, so the work is bounded by the message's length.
#[derive(Clone, Debug)]
pub struct ArrivalsRead<'a> {
    chunks: &'a [u8],
    deltas: &'a [u8],
    sequence: u16,
    left: usize,
    chunk: Chunk,
    /// Statuses of `chunk` already given.
    at: usize,
    ticks: i64,
}

impl Iterator for ArrivalsRead<'_> {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        while self.left > 0 {
            if self.at == self.chunk.len() {
                let (chunk, rest) = self.chunks.split_first_chunk::<2>()?;
                (self.chunks, self.chunk, self.at) = (rest, Chunk(u16::from_be_bytes(*chunk)), 0);
            }
            let status = self.chunk.status(self.at);
            if status == NOT_RECEIVED && self.chunk.is_run() {
                let skipped = (self.chunk.len() - self.at).min(self.left);
                self.sequence = self.sequence.wrapping_add(skipped as u16);
                self.left -= skipped;
                self.at = self.chunk.len();
                continue;
            }
            let sequence = self.sequence;
            self.sequence = sequence.wrapping_add(1);
            self.left -= 1;
            self.at += 1;
            let delta = match status {
                SMALL_DELTA => {
                    let (delta, rest) = self.deltas.split_first()?;
                    self.deltas = rest;
                    i64::from(*delta)
                }
                LARGE_DELTA => {
                    let (delta, rest) = self.deltas.split_first_chunk::<2>()?;
                    self.deltas = rest;
                    i64::from(i16::from_be_bytes(*delta))
                }
                _ => continue,
            };
            self.ticks += delta;
            return Some(Arrival {
                sequence,
                ticks: self.ticks,
            });
        }
        None
    }
}
