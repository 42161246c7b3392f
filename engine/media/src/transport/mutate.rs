//! A seeded mutator of datagrams for tests: flips, cuts, repeats, splices, boundary values.

/// Deterministic source of mutated datagrams (xorshift64*).
pub(crate) struct Mutator(u64);

impl Mutator {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `bound`, 0 when `bound` is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        if bound == 0 {
            0
        } else {
            (self.next() % bound as u64) as usize
        }
    }

    /// True `percent` times in a hundred.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// A copy of `seed` with one to four changes.
    pub(crate) fn mutate(&mut self, seed: &[u8]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(8) {
                0 => bytes.truncate(at),
                1 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                2 if !bytes.is_empty() => bytes[at] = self.next() as u8,
                3 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7F, 0x80, 0xFF][self.below(5)],
                4 => bytes.insert(at, self.next() as u8),
                5 if !bytes.is_empty() => {
                    bytes.remove(at);
                }
                6 => {
                    let end = at + self.below(bytes.len() - at + 1).min(64);
                    let piece = bytes[at..end].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, piece);
                }
                7 if bytes.len() >= 2 => {
                    let at = self.below(bytes.len() - 1);
                    let value = [0, 1, 3, 0x7FFF, 0x8000, 0xFFFF][self.below(6)];
                    bytes[at..at + 2].copy_from_slice(&u16::to_be_bytes(value));
                }
                _ => bytes.push(self.next() as u8),
            }
        }
        bytes
    }
}
