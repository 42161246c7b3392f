//! Bounds of the core's tables: what a stranger can make it hold. No behaviour but the defaults.

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
