//! Counts by fixed bounds.

use serde::Serialize;

use super::Counter;
use super::snapshot::{Distribution, RowDistribution};

/// Upper bounds of durations, in nanoseconds: 25 µs to 60 s.
const NANOSECONDS: [u64; 25] = [
    25_000,
    50_000,
    75_000,
    100_000,
    150_000,
    250_000,
    500_000,
    750_000,
    1_000_000,
    2_500_000,
    5_000_000,
    7_500_000,
    10_000_000,
    25_000_000,
    50_000_000,
    75_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
];

/// Upper bounds of rows: powers of two up to `request_rows_max`.
const ROWS: [u64; 17] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536];

/// The bounds of all histograms, for whoever reads a snapshot. Behind the last bound there is one count more.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bounds {
    /// Of durations.
    pub seconds: Vec<f64>,
    /// Of rows.
    pub rows: Vec<u64>,
}

impl Bounds {
    /// The bounds in use.
    #[must_use]
    pub fn in_use() -> Self {
        Self { seconds: NANOSECONDS.iter().map(|&bound| seconds(bound)).collect(), rows: ROWS.to_vec() }
    }
}

/// Bounds, and where to look for a value among them.
#[derive(Debug)]
struct Scale {
    bounds: &'static [u64],
    /// For values of each length in bits, how many bounds are too low for all of them: few are left to compare with,
    /// because bounds lie about as far apart as powers of two.
    skipped: [u8; u64::BITS as usize + 1],
}

impl Scale {
    const fn of(bounds: &'static [u64]) -> Self {
        let mut skipped = [0; u64::BITS as usize + 1];
        let mut bits = 1;
        while bits < skipped.len() {
            let value_min = 1 << (bits - 1);
            let mut place = skipped[bits - 1];
            while (place as usize) < bounds.len() && bounds[place as usize] < value_min {
                place += 1;
            }
            skipped[bits] = place;
            bits += 1;
        }
        Self { bounds, skipped }
    }

    /// How many bounds are below the value.
    fn place(&self, value: u64) -> usize {
        let skipped = usize::from(self.skipped[(u64::BITS - value.leading_zeros()) as usize]);
        skipped + self.bounds[skipped..].iter().take_while(|&&bound| bound < value).count()
    }
}

static DURATIONS: Scale = Scale::of(&NANOSECONDS);
static ROW_COUNTS: Scale = Scale::of(&ROWS);

/// Counts of values up to and including each bound, and their sum. One writer.
#[derive(Debug)]
pub struct Histogram {
    scale: &'static Scale,
    /// One more than bounds.
    counts: Box<[Counter]>,
    sum: Counter,
}

impl Histogram {
    /// Buckets of durations: one more than bounds.
    pub(super) const BUCKETS_OF_SECONDS: usize = NANOSECONDS.len() + 1;

    /// Of durations in nanoseconds.
    #[must_use]
    pub fn seconds() -> Self {
        Self::of(&DURATIONS)
    }

    /// Of rows.
    #[must_use]
    pub fn rows() -> Self {
        Self::of(&ROW_COUNTS)
    }

    fn of(scale: &'static Scale) -> Self {
        Self { scale, counts: (0..=scale.bounds.len()).map(|_| Counter::default()).collect(), sum: Counter::default() }
    }

    /// Counts one value; says in which bucket.
    pub fn observe(&self, value: u64) -> usize {
        let bucket = self.scale.place(value);
        self.counts[bucket].add(1);
        self.sum.add(value);
        bucket
    }

    pub(crate) fn distribution(&self) -> Distribution {
        Distribution { counts: self.counts(), sum_s: seconds(self.sum.get()) }
    }

    pub(crate) fn row_distribution(&self) -> RowDistribution {
        RowDistribution { counts: self.counts(), sum: self.sum.get() }
    }

    fn counts(&self) -> Vec<u64> {
        self.counts.iter().map(Counter::get).collect()
    }
}

pub(crate) fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_finds_its_place_among_the_bounds() {
        for scale in [&DURATIONS, &ROW_COUNTS] {
            let near = scale.bounds.iter().flat_map(|&bound| [bound - 1, bound, bound + 1]);
            let powers = (0..u64::BITS).map(|bit| 1 << bit);
            for value in near.chain(powers).chain([0, u64::MAX]) {
                assert_eq!(scale.place(value), scale.bounds.partition_point(|&bound| bound < value), "{value}");
            }
        }
    }
}
