//! Runs in a row that all took unusually long, or all unusually short.

use super::belief::Belief;

/// So many in a row are not chance.
pub(super) const RUNS: usize = 6;
/// Deviations from which on a run surprises.
const DEVIATIONS: f64 = 1.5;

#[derive(Clone, Debug, Default)]
pub(super) struct Surprises {
    /// Rows and nanoseconds; the first `count` are the present streak.
    runs: [(u32, f64); RUNS],
    count: usize,
    is_longer: bool,
    /// What was believed when the streak began, before its own runs bent it.
    before: Belief,
}

impl Surprises {
    pub fn is_one(&self, excess: f64, spread: f64) -> bool {
        excess.abs() > DEVIATIONS * spread
    }

    /// One more; tells whether the streak is now long enough.
    pub fn note(&mut self, rows: u32, time: f64, is_longer: bool, belief: &Belief) -> bool {
        if self.count == 0 || is_longer != self.is_longer {
            (self.before, self.is_longer) = (*belief, is_longer);
            self.count = 0;
        }
        self.runs[self.count] = (rows, time);
        self.count += 1;
        self.count == RUNS
    }

    pub fn clear(&mut self) {
        self.count = 0;
    }

    pub fn before(&self) -> &Belief {
        &self.before
    }

    pub fn rows_mean(&self) -> f64 {
        self.runs.iter().map(|&(rows, _)| f64::from(rows)).sum::<f64>() / RUNS as f64
    }

    /// How many times the usual the runs of a full streak took.
    pub fn median(&self, usual: impl Fn(u32) -> f64) -> f64 {
        let mut factors = self.runs.map(|(rows, time)| time / usual(rows));
        factors.sort_unstable_by(f64::total_cmp);
        f64::midpoint(factors[RUNS / 2 - 1], factors[RUNS / 2])
    }
}
