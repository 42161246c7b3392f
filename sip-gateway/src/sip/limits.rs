//! Bounds of the core's tables: what a stranger can make it hold. Counts, never refuses by itself.

use std::collections::HashMap;
use std::net::IpAddr;

use super::random::KeyedHasher;

/// Largest numbers of everything a peer can make the core keep.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Server transactions of new requests. Higher stands a larger burst and costs about 1 KB each for 32 s; above it 503.
    /// Requests inside known dialogs may use twice as many, so that a full box can still be hung up on.
    pub transactions: usize,
    /// The same for one source (an IPv4 address or an IPv6 /64). Over UDP a call holds two for 32 s.
    pub transactions_per_source: usize,
    /// Dialogs, early ones included; above it 503.
    pub dialogs: usize,
    /// Dialogs of one source; above it 503.
    pub dialogs_per_source: usize,
    /// Stream connections; above it the newest is closed.
    pub connections: usize,
    /// Stream connections of one source.
    pub connections_per_source: usize,
    /// Bytes of a message on a stream, head and body. A datagram is bounded by its own nature.
    pub message: usize,
    /// Seconds said in Retry-After with 503.
    pub retry_after: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            transactions: 32_768,
            transactions_per_source: 16_384,
            dialogs: 2_000,
            dialogs_per_source: 1_000,
            connections: 1_024,
            connections_per_source: 64,
            message: 65_535,
            retry_after: 10,
        }
    }
}

/// Whom a table entry is charged to: an IPv4 address, or the /64 of an IPv6 one, since whoever has one address has them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Source(u128);

impl Source {
    pub(super) fn of(address: IpAddr) -> Source {
        match address.to_canonical() {
            IpAddr::V4(address) => Source(u128::from(u32::from(address))),
            IpAddr::V6(address) => Source(u128::from(address) | u128::from(u64::MAX)),
        }
    }
}

/// What one source holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) transactions: usize,
    pub(super) dialogs: usize,
    pub(super) connections: usize,
}

/// What all sources hold; entries of idle sources are removed.
#[derive(Debug)]
pub(super) struct Loads(HashMap<Source, Load, KeyedHasher>);

impl Loads {
    pub(super) fn new(hasher: KeyedHasher) -> Loads {
        Loads(HashMap::with_hasher(hasher))
    }

    pub(super) fn of(&self, source: Source) -> Load {
        self.0.get(&source).copied().unwrap_or_default()
    }

    pub(super) fn change(&mut self, source: Source, change: impl FnOnce(&mut Load)) {
        let load = self.0.entry(source).or_default();
        change(load);
        if *load == Load::default() {
            self.0.remove(&source);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
