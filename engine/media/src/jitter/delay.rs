//! How late packets come, and how long playout must therefore wait.
//!
//! Owns the base transit (the fastest packet of the last seconds) and a forgetting histogram of
//! lateness above it. It never holds packets.

/// Lateness resolution in microseconds: finer follows the percentile closer, at more memory.
const BUCKET: i64 = 5_000;
const BUCKETS: usize = (MAX_TARGET / BUCKET) as usize + 1;
/// Weight kept by the past at each packet: 0.995 remembers about 200 packets, 4 s at 20 ms.
/// Higher is steadier, lower follows a changing network faster.
const FORGET: f32 = 0.995;
/// Part of the packets that must come in time. Higher loses less, waits longer.
const PERCENTILE: f32 = 0.97;
/// Lateness waited for at most, in microseconds: above it nobody can converse.
pub(super) const MAX_TARGET: i64 = 400_000;
/// The base transit is the minimum over one to two of these (microseconds): long enough to find a
/// fast packet, short enough to follow clock drift.
const BASE_WINDOW: i64 = 5_000_000;

/// Estimator for one stream. Times are microseconds from any fixed origin.
#[derive(Debug)]
pub(super) struct DelayEstimate {
    histogram: [f32; BUCKETS],
    weight: f32,
    /// Transit that bucket 0 stands for: within a bucket of the base.
    anchor: i64,
    base: Option<Base>,
    lateness: i64,
}

#[derive(Debug)]
struct Base {
    window_start: i64,
    current: i64,
    previous: i64,
}

impl DelayEstimate {
    pub(super) fn new() -> Self {
        Self {
            histogram: [0.0; BUCKETS],
            weight: 0.0,
            anchor: 0,
            base: None,
            lateness: 0,
        }
    }

    /// A packet whose media time is `media` arrived at `arrival`.
    pub(super) fn arrived(&mut self, arrival: i64, media: i64) {
        let transit = arrival - media;
        let base = self.base.get_or_insert(Base {
            window_start: arrival,
            current: transit,
            previous: transit,
        });
        if arrival - base.window_start > BASE_WINDOW {
            base.previous = base.current;
            base.current = transit;
            base.window_start = arrival;
        }
        base.current = base.current.min(transit);
        let fastest = base.current.min(base.previous);
        if self.weight == 0.0 {
            self.anchor = fastest;
        }
        self.follow(fastest);
        let lateness = transit - self.anchor;
        let bucket = ((lateness.max(0) + BUCKET / 2) / BUCKET).min(BUCKETS as i64 - 1);
        for weight in &mut self.histogram {
            *weight *= FORGET;
        }
        self.histogram[bucket as usize] += 1.0;
        self.weight = self.weight * FORGET + 1.0;

        let mut covered = 0.0;
        let needed = PERCENTILE * self.weight;
        let bucket = self
            .histogram
            .iter()
            .position(|weight| {
                covered += weight;
                covered >= needed
            })
            .unwrap_or(BUCKETS - 1);
        self.lateness = (bucket as i64 * BUCKET).min(MAX_TARGET);
    }

    /// Moves the histogram when the base has moved by whole buckets: what was late against the old
    /// base is as much later or earlier against the new one.
    fn follow(&mut self, fastest: i64) {
        let moved = (fastest - self.anchor) / BUCKET;
        self.anchor += moved * BUCKET;
        let distance = (moved.unsigned_abs() as usize).min(BUCKETS);
        if moved > 0 {
            let early: f32 = self.histogram[..distance].iter().sum();
            self.histogram.copy_within(distance.., 0);
            self.histogram[BUCKETS - distance..].fill(0.0);
            self.histogram[0] += early;
        } else if moved < 0 {
            let late: f32 = self.histogram[BUCKETS - distance..].iter().sum();
            self.histogram.copy_within(..BUCKETS - distance, distance);
            self.histogram[..distance].fill(0.0);
            self.histogram[BUCKETS - 1] += late;
        }
    }

    /// Lateness above the base transit that playout should be ready for, in microseconds.
    pub(super) fn lateness(&self) -> i64 {
        self.lateness
    }

    /// When media of time `media` would have arrived on the fastest path seen; 0 before any packet.
    pub(super) fn fastest_arrival(&self, media: i64) -> i64 {
        media
            + self
                .base
                .as_ref()
                .map_or(0, |base| base.current.min(base.previous))
    }

    pub(super) fn reset(&mut self) {
        *self = Self {
            lateness: self.lateness,
            ..Self::new()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_percentile() {
        let mut estimate = DelayEstimate::new();
        for n in 0..2_000i64 {
            // 0 to 80 ms in a fixed shuffle: the 97th percentile is 77.6 ms.
            let lateness = (n * 37 % 81) * 1_000;
            estimate.arrived(n * 20_000 + lateness, n * 20_000);
        }
        assert!(
            (75_000..=80_000).contains(&estimate.lateness()),
            "{}",
            estimate.lateness()
        );
    }

    #[test]
    fn it_has_a_bound_and_forgets() {
        let mut estimate = DelayEstimate::new();
        for n in 0..500 {
            estimate.arrived(n * 20_000, n * 20_000);
        }
        assert_eq!(estimate.lateness(), 0);
        for n in 500..600 {
            estimate.arrived(n * 20_000 + n % 2 * 900_000, n * 20_000);
        }
        assert_eq!(estimate.lateness(), MAX_TARGET);
        for n in 600..1_500 {
            estimate.arrived(n * 20_000, n * 20_000);
        }
        assert_eq!(estimate.lateness(), 0);
    }

    #[test]
    fn a_path_that_becomes_slower_for_good_needs_no_more_delay_in_the_end() {
        let mut estimate = DelayEstimate::new();
        for n in 0..300 {
            estimate.arrived(n * 20_000, n * 20_000);
        }
        for n in 300..360 {
            estimate.arrived(n * 20_000 + 120_000, n * 20_000);
        }
        assert_eq!(estimate.lateness(), 120_000);
        for n in 360..900 {
            estimate.arrived(n * 20_000 + 120_000, n * 20_000);
        }
        assert_eq!(estimate.lateness(), 0);
        assert_eq!(estimate.fastest_arrival(0), 120_000);
    }

    #[test]
    fn the_base_follows_a_drifting_clock() {
        // A sender 500 ppm slow: transit grows 10 us a packet, lateness must not.
        let mut estimate = DelayEstimate::new();
        for n in 0..30_000 {
            estimate.arrived(n * 20_010, n * 20_000);
        }
        assert!(estimate.lateness() <= BUCKET, "{}", estimate.lateness());
    }
}
