//! Tags, branches and Call-IDs out of a seed the shell draws from the OS. Never seeds itself.

use std::hash::{BuildHasher, DefaultHasher, Hasher};

/// A keyed stream of identifiers: SipHash of a counter under a 256-bit secret. Unguessable as long as the seed is;
/// the same seed gives the same stream, which is what tests want.
#[derive(Debug, Clone)]
pub struct Random {
    seed: [u8; 32],
    counter: u64,
}

impl Random {
    /// `seed` must be fresh OS randomness outside tests.
    pub fn new(seed: [u8; 32]) -> Self {
        Random { seed, counter: 0 }
    }

    /// Next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.counter += 1;
        self.keyed(&self.counter.to_be_bytes())
    }

    /// Sixteen hex digits: a tag, or what follows `z9hG4bK` in a branch.
    pub fn token(&mut self) -> String {
        format!("{:016x}", self.draw())
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    /// The same text gives the same number, unknown to who does not hold the seed (RFC 3261 §8.2.7: the tag of a stateless answer).
    pub fn keyed(&self, text: &[u8]) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.seed);
        hasher.write(text);
        hasher.finish()
    }

    /// A 128-bit key of a tuple of texts, unknown to who does not hold the seed: table keys without the texts.
    pub(super) fn key(&self, texts: &[&str]) -> u128 {
        let half = |side: u8| {
            let mut hasher = DefaultHasher::new();
            hasher.write(&self.seed);
            hasher.write_u8(side);
            for text in texts {
                hasher.write_usize(text.len());
                hasher.write(text.as_bytes());
            }
            hasher.finish()
        };
        u128::from(half(0)) << 64 | u128::from(half(1))
    }

    /// A hasher for tables whose keys strangers choose.
    pub fn hasher(&mut self) -> KeyedHasher {
        KeyedHasher(self.draw())
    }
}

/// SipHash behind a secret first word, so that nobody can aim at one bucket.
#[derive(Debug, Clone)]
pub struct KeyedHasher(u64);

impl BuildHasher for KeyedHasher {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_by_seed_and_differ_between_seeds() {
        let mut one = Random::new([1; 32]);
        let mut same = Random::new([1; 32]);
        let mut other = Random::new([2; 32]);
        let first: Vec<u64> = (0..100).map(|_| one.draw()).collect();
        assert!(first.iter().all(|value| *value == same.draw()));
        assert!(first.iter().all(|value| *value != other.draw()));
        assert_eq!(one.token().len(), 16);
    }
}
