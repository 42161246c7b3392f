//! A deterministic mutator for the tests of this crate and of the updater: the same seed makes
//! the same damage on every machine.

/// A small seeded generator (SplitMix64, Steele et al. 2014).
#[derive(Debug, Clone)]
pub struct Seeded(pub u64);

impl Seeded {
    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.draw() % end as u64) as usize
    }

    /// Damages `bytes` in one to four places: a bit, a byte, a field at an extreme, a swap.
    pub fn damage(&mut self, bytes: &mut [u8]) {
        if bytes.is_empty() {
            return;
        }
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(5) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = self.draw() as u8,
                2 => {
                    let width = [1, 2, 4, 8][self.below(4)].min(bytes.len() - at);
                    let fill = [0x00, 0xff, 0x7f, 0x80][self.below(4)];
                    bytes[at..at + width].fill(fill);
                }
                3 => {
                    let other = self.below(bytes.len());
                    bytes.swap(at, other);
                }
                _ => bytes[at] = bytes[at].wrapping_add(1),
            }
        }
    }
}
