//! Packets of one stream in order of their extended sequence number, in bounded memory.
//!
//! Owns the slots and their buffers, which are reused. It never decides when a packet is played.

/// Packets remembered, played ones included: 1.28 s at 20 ms each. More tolerates longer bursts.
pub(super) const CAPACITY: u64 = 64;

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Coded audio.
    Audio,
    /// RFC 3389 comfort noise: a pause begins.
    Noise,
    /// A packet of the stream that is not audio (a telephone event): nothing is missing here.
    Other,
}

#[derive(Debug)]
struct Slot {
    sequence: Option<u64>,
    timestamp: i64,
    kind: Kind,
    payload: Vec<u8>,
}

/// One packet, borrowed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored<'a> {
    pub(super) sequence: u64,
    pub(super) timestamp: i64,
    pub(super) kind: Kind,
    pub(super) payload: &'a [u8],
}

/// The ring.
#[derive(Debug)]
pub(super) struct Ring {
    slots: Vec<Slot>,
    newest: Option<u64>,
}

impl Ring {
    pub(super) fn new() -> Self {
        let slots = (0..CAPACITY)
            .map(|_| Slot {
                sequence: None,
                timestamp: 0,
                kind: Kind::Other,
                payload: Vec::new(),
            })
            .collect();
        Self {
            slots,
            newest: None,
        }
    }

    /// Stores a packet; `false` when it is there already or older than the ring reaches.
    pub(super) fn insert(
        &mut self,
        sequence: u64,
        timestamp: i64,
        kind: Kind,
        payload: &[u8],
    ) -> bool {
        let too_old = self
            .newest
            .is_some_and(|newest| sequence + CAPACITY <= newest);
        let slot = &mut self.slots[(sequence % CAPACITY) as usize];
        if too_old || slot.sequence == Some(sequence) {
            return false;
        }
        slot.sequence = Some(sequence);
        slot.timestamp = timestamp;
        slot.kind = kind;
        slot.payload.clear();
        slot.payload.extend_from_slice(payload);
        self.newest = self.newest.max(Some(sequence));
        true
    }

    pub(super) fn packet(&self, sequence: u64) -> Option<Stored<'_>> {
        let slot = &self.slots[(sequence % CAPACITY) as usize];
        (slot.sequence == Some(sequence)).then_some(Stored {
            sequence,
            timestamp: slot.timestamp,
            kind: slot.kind,
            payload: &slot.payload,
        })
    }

    /// The oldest packet at or after `sequence`.
    pub(super) fn first_from(&self, sequence: u64) -> Option<Stored<'_>> {
        let newest = self.newest?;
        let oldest = (newest + 1).saturating_sub(CAPACITY).max(sequence);
        (oldest..=newest).find_map(|s| self.packet(s))
    }

    pub(super) fn clear(&mut self) {
        self.newest = None;
        for slot in &mut self.slots {
            slot.sequence = None;
        }
    }
}
