//! What a model's queues reckon with, for people: written down by whoever owns a queue, read by whoever asks.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use servekit_core::{ClassSurface, Estimate};

/// How often an estimate is written down while batches run.
pub(crate) const ESTIMATE_INTERVAL: Duration = Duration::from_millis(250);

/// One place for each shard's own queue and one for the pool's. Locked a few times a second.
#[derive(Debug)]
pub(crate) struct Estimates(Box<[Mutex<Option<Estimate>>]>);

impl Estimates {
    /// For so many shards.
    pub(crate) fn new(shards: usize) -> Self {
        Self((0..=shards).map(|_| Mutex::default()).collect())
    }

    /// Writes down what a shard's queue reckons with.
    pub(crate) fn note_shard(&self, shard: usize, estimate: Estimate) {
        *locked(&self.0[shard]) = Some(estimate);
    }

    /// Writes down what the pool's queue reckons with.
    pub(crate) fn note_pool(&self, estimate: Estimate) {
        *locked(&self.0[self.0.len() - 1]) = Some(estimate);
    }

    /// All queues together: rates, lanes and capacity are added up, and what is believed of runs is taken from whoever
    /// has seen most of them. `None` before the first batch.
    pub(crate) fn merged(&self) -> Option<Estimate> {
        let mut noted: Vec<Estimate> = self.0.iter().filter_map(|place| locked(place).clone()).collect();
        noted.sort_by_key(|estimate| std::cmp::Reverse(samples(&estimate.surfaces)));
        let mut estimates = noted.into_iter();
        let mut merged = estimates.next()?;
        for other in estimates {
            let (ours, theirs) = (merged.rows_per_s, other.rows_per_s);
            if ours + theirs > 0.0 {
                merged.shed_share = (merged.shed_share * ours + other.shed_share * theirs) / (ours + theirs);
            }
            merged.rows_per_s += theirs;
            merged.capacity_rows_per_s += other.capacity_rows_per_s;
            merged.is_failing_fast |= other.is_failing_fast;
            merged.lanes += other.lanes;
            merged.lanes_busy += other.lanes_busy;
        }
        Some(merged)
    }
}

fn samples(surfaces: &[ClassSurface]) -> u64 {
    surfaces.iter().map(|known| known.surface.samples).max().unwrap_or(0)
}

fn locked(place: &Mutex<Option<Estimate>>) -> MutexGuard<'_, Option<Estimate>> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use servekit_core::Surface;

    use super::*;

    fn estimate(samples: u64, rows_per_s: f64, shed_share: f64) -> Estimate {
        let surface = Surface { base_ns: samples as f64, row_ns: 1.0, spread: 0.1, corrections: Vec::new(), samples };
        Estimate {
            surfaces: vec![ClassSurface { shape: String::new(), length: None, surface }],
            rows_per_s,
            knee_rows: 8,
            capacity_rows_per_s: 100.0,
            is_failing_fast: false,
            shed_share,
            lanes: 1,
            lanes_busy: 0,
        }
    }

    #[test]
    fn queues_of_one_model_are_added_up_and_the_most_experienced_is_believed() {
        let estimates = Estimates::new(2);
        assert_eq!(estimates.merged(), None);
        estimates.note_shard(1, estimate(7, 30.0, 0.0));
        estimates.note_pool(estimate(9, 10.0, 0.4));
        let merged = estimates.merged().expect("two queues have told");
        assert_eq!((merged.rows_per_s, merged.capacity_rows_per_s, merged.lanes), (40.0, 200.0, 2));
        assert_eq!(merged.surfaces[0].surface.samples, 9);
        assert!((merged.shed_share - 0.1).abs() < 1e-12);
    }
}
