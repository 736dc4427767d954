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

/// Counts of values up to and including each bound, and their sum. One writer.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One more than bounds.
    counts: Box<[Counter]>,
    sum: Counter,
}

impl Histogram {
    /// Of durations in nanoseconds.
    #[must_use]
    pub fn seconds() -> Self {
        Self::of(&NANOSECONDS)
    }

    /// Of rows.
    #[must_use]
    pub fn rows() -> Self {
        Self::of(&ROWS)
    }

    fn of(bounds: &'static [u64]) -> Self {
        Self { bounds, counts: (0..=bounds.len()).map(|_| Counter::default()).collect(), sum: Counter::default() }
    }

    /// Counts one value.
    pub fn observe(&self, value: u64) {
        self.counts[self.bounds.partition_point(|&bound| bound < value)].add(1);
        self.sum.add(value);
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
