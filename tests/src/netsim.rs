//! A network in memory: seeded loss, bursts, jitter, reordering, duplication, rate and queue.
//!
//! Bytes and the virtual time go in, bytes come out later or never. The same seed gives the
//! same network twice, so a failed run is repeated by its number.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// A small generator (SplitMix64): good enough to lose packets, the same on every machine.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts the sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Random(seed ^ 0x9E37_79B9_7F4A_7C15)
    }

    /// The next 64 bits.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.word() % end.max(1)
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        ((self.word() >> 11) as f64) < probability * (1u64 << 53) as f64
    }
}

/// How packets get lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// Not at all.
    None,
    /// Each by itself.
    Independent(f64),
    /// Gilbert-Elliott: a good state that loses nothing and a bad one that loses most.
    Bursts {
        /// Chance per packet to turn bad.
        begin: f64,
        /// Chance per packet to turn good again; its inverse is the mean burst length.
        end: f64,
        /// Share of packets lost in the bad state.
        lost: f64,
    },
}

/// One direction of a path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Path {
    /// Time every packet takes.
    pub delay: Duration,
    /// Further time, uniform from zero to this; packets keep their order.
    pub jitter: Duration,
    /// Share of packets that overtake: they skip the jitter and the order.
    pub reorder: f64,
    /// Share of packets that arrive twice.
    pub duplicate: f64,
    /// How packets get lost.
    pub loss: Loss,
    /// Bits per second, when limited; packets queue for it.
    pub rate: Option<u64>,
    /// Longest time in that queue; packets beyond are dropped at the tail.
    pub queue: Duration,
}

impl Path {
    /// Loses nothing, takes `delay`.
    pub const fn clean(delay: Duration) -> Self {
        Path {
            delay,
            jitter: Duration::ZERO,
            reorder: 0.0,
            duplicate: 0.0,
            loss: Loss::None,
            rate: None,
            queue: Duration::from_millis(300),
        }
    }
}

/// One direction of a path, with the packets that are on it.
#[derive(Debug)]
pub struct Link {
    path: Path,
    random: Random,
    flying: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>>,
    sent: u64,
    bad: bool,
    free_at: Option<Instant>,
    latest: Option<Instant>,
    /// Packets lost so far.
    pub lost: u64,
}

impl Link {
    /// An empty path.
    pub fn new(path: Path, seed: u64) -> Self {
        Link {
            path,
            random: Random::new(seed),
            flying: BinaryHeap::new(),
            sent: 0,
            bad: false,
            free_at: None,
            latest: None,
            lost: 0,
        }
    }

    /// Changes the path for packets sent from now on.
    pub fn set_path(&mut self, path: Path) {
        self.path = path;
    }

    /// Puts a packet on the path.
    pub fn send(&mut self, now: Instant, packet: &[u8]) {
        if self.loses() {
            self.lost += 1;
            return;
        }
        let mut at = now;
        if let Some(rate) = self.path.rate {
            let free_at = self.free_at.map_or(now, |free_at| free_at.max(now));
            if free_at - now > self.path.queue {
                self.lost += 1;
                return;
            }
            at = free_at + Duration::from_nanos(packet.len() as u64 * 8_000_000_000 / rate);
            self.free_at = Some(at);
        }
        at += self.path.delay;
        if !self.random.chance(self.path.reorder) {
            let jitter = self.path.jitter.as_nanos() as u64;
            at += Duration::from_nanos(self.random.below(jitter + 1));
            at = self.latest.map_or(at, |latest| latest.max(at));
            self.latest = Some(at);
        }
        let copies = 1 + u64::from(self.random.chance(self.path.duplicate));
        for _ in 0..copies {
            self.sent += 1;
            self.flying.push(Reverse((at, self.sent, packet.to_vec())));
        }
    }

    fn loses(&mut self) -> bool {
        match self.path.loss {
            Loss::None => false,
            Loss::Independent(share) => self.random.chance(share),
            Loss::Bursts { begin, end, lost } => {
                self.bad = match self.bad {
                    true => !self.random.chance(end),
                    false => self.random.chance(begin),
                };
                self.bad && self.random.chance(lost)
            }
        }
    }

    /// When the next packet arrives.
    pub fn deadline(&self) -> Option<Instant> {
        self.flying.peek().map(|Reverse((at, _, _))| *at)
    }

    /// A packet that has arrived by `now`.
    pub fn receive(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.deadline()? > now {
            return None;
        }
        self.flying.pop().map(|Reverse((_, _, packet))| packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn run(path: Path, seed: u64) -> Vec<(Duration, u8)> {
        let start = Instant::now();
        let mut link = Link::new(path, seed);
        for packet in 0..200u8 {
            link.send(start + MS * u32::from(packet), &[packet; 125]);
        }
        let mut arrivals = Vec::new();
        while let Some(at) = link.deadline() {
            let packet = link.receive(at).expect("it is due");
            arrivals.push((at - start, packet[0]));
        }
        arrivals
    }

    #[test]
    fn the_same_seed_gives_the_same_network() {
        let mut path = Path::clean(20 * MS);
        path.loss = Loss::Bursts {
            begin: 0.05,
            end: 0.3,
            lost: 0.9,
        };
        (path.jitter, path.reorder, path.duplicate) = (5 * MS, 0.1, 0.1);
        assert_eq!(run(path, 7), run(path, 7));
        assert_ne!(run(path, 7), run(path, 8));
    }

    #[test]
    fn a_clean_path_delays_and_keeps_everything() {
        let arrivals = run(Path::clean(20 * MS), 1);
        let expected: Vec<_> = (0..200u8).map(|n| (MS * (20 + u32::from(n)), n)).collect();
        assert_eq!(arrivals, expected);
    }

    #[test]
    fn a_slow_path_spaces_packets_and_drops_what_would_wait_too_long() {
        let mut path = Path::clean(Duration::ZERO);
        // 125 bytes take 2 ms at 500 kbit/s, and come each 1 ms.
        (path.rate, path.queue) = (Some(500_000), 50 * MS);
        let arrivals = run(path, 1);
        assert!(
            arrivals
                .windows(2)
                .all(|pair| pair[1].0 - pair[0].0 == 2 * MS)
        );
        assert!((120..150).contains(&arrivals.len()), "{}", arrivals.len());
    }

    #[test]
    fn bursts_lose_neighbours() {
        let mut path = Path::clean(Duration::ZERO);
        path.loss = Loss::Bursts {
            begin: 0.1,
            end: 0.2,
            lost: 1.0,
        };
        let arrived: Vec<_> = run(path, 3).into_iter().map(|(_, packet)| packet).collect();
        let lost: Vec<_> = (0..200u8)
            .filter(|packet| !arrived.contains(packet))
            .collect();
        let neighbours = lost
            .windows(2)
            .filter(|pair| pair[1] == pair[0] + 1)
            .count();
        assert!(neighbours * 2 > lost.len(), "{lost:?}");
    }
}
