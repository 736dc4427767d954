//! How many rows per second are asked for, by class.

use std::time::Instant;

use crate::{Arrivals, Policy};

/// A request more weighs this much in the classes' shares.
const WEIGHT: f64 = 1.0 / 200.0;

/// Arrivals of a model, whatever becomes of them, and how its classes share them.
#[derive(Debug)]
pub(crate) struct Demand {
    arrivals: Arrivals,
    shares: [f64; Policy::PRIORITIES_MAX],
    /// The only class that was ever seen; `None` from the second one on.
    sole: Option<usize>,
}

impl Demand {
    pub(crate) fn new() -> Self {
        Self { arrivals: Arrivals::new(), shares: [0.0; Policy::PRIORITIES_MAX], sole: None }
    }

    pub(crate) fn observe(&mut self, tier: usize, rows: u32, now: Instant) {
        if self.arrivals.last().is_none() {
            self.sole = Some(tier);
            self.shares[tier] = 1.0;
        }
        self.arrivals.observe(rows, now);
        if self.sole != Some(tier) {
            self.sole = None;
            self.shares.iter_mut().for_each(|share| *share -= WEIGHT * *share);
            self.shares[tier] += WEIGHT;
        }
    }

    /// Rows per second of all classes.
    pub(crate) fn rows_per_s(&self) -> f64 {
        self.arrivals.rows_per_s()
    }

    /// Rows per second of this class and those that go before it.
    pub(crate) fn rows_per_s_before(&self, tier: usize) -> f64 {
        self.arrivals.rows_per_s() * self.shares[..=tier].iter().sum::<f64>()
    }

    /// When somebody came last.
    pub(crate) fn last(&self) -> Option<Instant> {
        self.arrivals.last()
    }
}
