//! Runs in a row that all took unusually long, or all unusually short.

use super::belief::Belief;

/// So many in a row are not chance.
const RUNS: usize = 6;
/// Deviations from which on a run surprises.
const DEVIATIONS: f64 = 1.5;
/// A run counts as at most this many, so that no single stall is believed.
const DEVIATIONS_MAX: f64 = 3.0;
/// Nor are so many deviations, however few the runs: six small surprises say as much as three large ones.
const EVIDENCE: f64 = DEVIATIONS * RUNS as f64;

#[derive(Clone, Debug, Default)]
pub(super) struct Surprises {
    /// Rows and nanoseconds; the first `count` are the present streak.
    runs: [(u32, f64); RUNS],
    count: usize,
    /// Deviations of the present streak, each run's up to a bound.
    evidence: f64,
    is_longer: bool,
    /// What was believed when the streak began, before its own runs bent it.
    before: Belief,
}

impl Surprises {
    pub fn is_one(&self, excess: f64, spread: f64) -> bool {
        excess.abs() > DEVIATIONS * spread
    }

    /// One more; tells whether the streak is now beyond chance.
    pub fn note(&mut self, rows: u32, time: f64, excess: f64, belief: &Belief) -> bool {
        let is_longer = excess > 0.0;
        if self.count == 0 || is_longer != self.is_longer {
            (self.before, self.is_longer) = (*belief, is_longer);
            (self.count, self.evidence) = (0, 0.0);
        }
        self.evidence += self.before.deviations(excess).min(DEVIATIONS_MAX);
        self.runs[self.count] = (rows, time);
        self.count += 1;
        self.count == RUNS || self.evidence >= EVIDENCE
    }

    /// Runs of the present streak.
    pub fn count(&self) -> usize {
        self.count
    }

    pub fn clear(&mut self) {
        self.count = 0;
    }

    pub fn before(&self) -> &Belief {
        &self.before
    }

    pub fn rows_mean(&self) -> f64 {
        self.runs[..self.count].iter().map(|&(rows, _)| f64::from(rows)).sum::<f64>() / self.count as f64
    }

    /// How many times the usual the runs of the present streak took.
    pub fn median(&self, usual: impl Fn(u32) -> f64) -> f64 {
        let mut factors = [0.0; RUNS];
        let factors = &mut factors[..self.count];
        for (factor, &(rows, time)) in factors.iter_mut().zip(&self.runs) {
            *factor = time / usual(rows);
        }
        factors.sort_unstable_by(f64::total_cmp);
        f64::midpoint(factors[(self.count - 1) / 2], factors[self.count / 2])
    }
}
