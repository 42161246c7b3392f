//! Sequence and timestamp arithmetic: extension to 64 bits, gap-free renumbering.
//!
//! All of it is constant-size and constant-time per packet.

/// Extends 16-bit sequence numbers to 64 bits by nearest distance (RFC 3550 A.1 in spirit).
///
/// The first number seen is placed in the second cycle, so that packets from before it
/// have a place too.
#[derive(Clone, Copy, Debug, Default)]
pub struct SequenceExtender {
    highest: Option<u64>,
}

impl SequenceExtender {
    /// The extended number of `sequence`, which moves the window forward if it is the newest.
    pub fn extend(&mut self, sequence: u16) -> u64 {
        let extended = self.peek(sequence);
        if self.highest.is_none_or(|highest| extended > highest) {
            self.highest = Some(extended);
        }
        extended
    }

    /// As [`Self::extend`] without moving the window: for packets not yet authenticated.
    pub fn peek(&self, sequence: u16) -> u64 {
        let Some(highest) = self.highest else {
            return 0x1_0000 + u64::from(sequence);
        };
        let distance = i64::from(sequence.wrapping_sub(highest as u16) as i16);
        match highest.checked_add_signed(distance) {
            Some(extended) => extended,
            None => u64::from(sequence),
        }
    }

    /// The newest extended number so far.
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }
}

/// How many packets behind the newest can still be renumbered, in source numbers. A higher
/// value lets older retransmissions through and costs 1 bit twice per packet and stream.
pub const RENUMBER_WINDOW: u64 = 1024;

const WORDS: usize = (RENUMBER_WINDOW / 64) as usize;

/// Gives forwarded packets of a filtered, switched stream consecutive numbers.
///
/// Source numbers are extended ([`SequenceExtender`]). A packet left out on purpose takes no
/// outgoing number, so the receiver sees no loss; a packet lost before us keeps its number
/// free, so that a late arrival or retransmission still fits in its place. An outgoing number
/// is never given twice.
#[derive(Clone, Debug)]
pub struct Renumber {
    /// Newest source number handled since the last switch; `None` directly after one.
    highest: Option<u64>,
    /// Oldest source number of the current source: earlier ones belong to no outgoing number.
    oldest: u64,
    /// Outgoing number of the next packet if it directly follows `highest`.
    next: u64,
    /// Source numbers in the window that were forwarded or left out.
    handled: [u64; WORDS],
    /// Source numbers in the window that were left out when they were the newest.
    omitted: [u64; WORDS],
}

impl Renumber {
    /// Starts with `first` as the first outgoing number.
    pub fn new(first: u64) -> Self {
        Renumber {
            highest: None,
            oldest: 0,
            next: first,
            handled: [0; WORDS],
            omitted: [0; WORDS],
        }
    }

    /// The outgoing number for a packet that is forwarded. `None`: it came twice, was left out
    /// before, is older than the window or from before the last switch; do not forward it.
    pub fn forward(&mut self, source: u64) -> Option<u64> {
        match self.highest {
            None => {
                self.highest = Some(source);
                self.oldest = source;
            }
            Some(highest) if source > highest => {
                self.advance(highest, source);
                // Numbers in between stay free for packets that come late.
                self.next += source - highest - 1;
            }
            Some(highest) => return self.forward_late(highest, source),
        }
        set(&mut self.handled, source);
        let number = self.next;
        self.next += 1;
        Some(number)
    }

    /// Leaves a packet out: later packets close up over its place. A late packet that is left
    /// out keeps its free number, which the receiver will take for a loss.
    pub fn omit(&mut self, source: u64) {
        match self.highest {
            // Nothing sent from this source yet: nothing to close up over.
            None => {}
            Some(highest) if source > highest => {
                self.advance(highest, source);
                self.next += source - highest - 1;
                set(&mut self.handled, source);
                set(&mut self.omitted, source);
            }
            Some(highest) if self.in_window(highest, source) => set(&mut self.handled, source),
            Some(_) => {}
        }
    }

    /// Continues with another source: its first forwarded packet follows the last number given.
    pub fn switch(&mut self) {
        self.highest = None;
        self.handled = [0; WORDS];
        self.omitted = [0; WORDS];
    }

    /// Takes one number for a packet of our own, e.g. padding for a bandwidth probe.
    ///
    /// Packets of the source from before it that come late afterwards are refused.
    pub fn insert(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        // Numbers up to `highest` were given under the old offset: close the door to late ones.
        if let Some(highest) = self.highest {
            self.oldest = self.oldest.max(highest + 1);
        }
        number
    }

    /// The number the next packet in order would get.
    pub fn next(&self) -> u64 {
        self.next
    }

    fn in_window(&self, highest: u64, source: u64) -> bool {
        source >= self.oldest && highest - source < RENUMBER_WINDOW
    }

    fn forward_late(&mut self, highest: u64, source: u64) -> Option<u64> {
        if !self.in_window(highest, source) || is_set(&self.handled, source) {
            return None;
        }
        set(&mut self.handled, source);
        let omitted = count_between(&self.omitted, source + 1, highest);
        // `next` is the number after `highest`, which left-out packets did not move.
        Some(self.next - (highest - source + 1) + omitted)
    }

    fn advance(&mut self, highest: u64, source: u64) {
        if source - highest >= RENUMBER_WINDOW {
            self.handled = [0; WORDS];
            self.omitted = [0; WORDS];
        } else {
            for number in highest + 1..=source {
                clear(&mut self.handled, number);
                clear(&mut self.omitted, number);
            }
        }
        self.highest = Some(source);
    }
}

fn place(number: u64) -> (usize, u64) {
    let bit = number % RENUMBER_WINDOW;
    ((bit / 64) as usize, 1 << (bit % 64))
}

fn set(bits: &mut [u64; WORDS], number: u64) {
    let (word, mask) = place(number);
    bits[word] |= mask;
}

fn clear(bits: &mut [u64; WORDS], number: u64) {
    let (word, mask) = place(number);
    bits[word] &= !mask;
}

fn is_set(bits: &[u64; WORDS], number: u64) -> bool {
    let (word, mask) = place(number);
    bits[word] & mask != 0
}

/// Set bits for `from..=to`, at most a window apart.
fn count_between(bits: &[u64; WORDS], from: u64, to: u64) -> u64 {
    let mut count = 0;
    let mut number = from;
    while number <= to {
        let (word, _) = place(number);
        let low = number % 64;
        let span = (64 - low).min(to - number + 1);
        let mask = (u64::MAX >> (64 - span)) << low;
        count += u64::from((bits[word] & mask).count_ones());
        number += span;
    }
    count
}

/// Maps timestamps of a source onto an outgoing timeline by a constant offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimestampMap {
    offset: u32,
}

impl TimestampMap {
    /// Makes `source` appear as `outgoing` from now on.
    pub fn align(&mut self, source: u32, outgoing: u32) {
        self.offset = outgoing.wrapping_sub(source);
    }

    /// The outgoing timestamp.
    pub fn map(&self, source: u32) -> u32 {
        source.wrapping_add(self.offset)
    }
}
