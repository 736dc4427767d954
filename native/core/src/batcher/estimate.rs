//! What a queue has learned, for people and for profile files.

use serde::{Deserialize, Serialize};

use super::Batcher;
use crate::Surface;

/// How long runs of one class take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassSurface {
    /// In words, input by input, such as `[?, 16], [?, n]`: `?` counts rows, `n` is a length that may differ. Empty for
    /// the surface of the model as a whole.
    pub shape: String,
    /// The longest of its lengths, where lengths are told apart.
    pub length: Option<u64>,
    /// What was learned.
    pub surface: Surface,
}

/// What a queue reckons with at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// How long runs take: first of the model as a whole, then of each class that differs.
    pub surfaces: Vec<ClassSurface>,
    /// Rows that are asked for per second.
    pub rows_per_s: f64,
    /// Rows of the batch of the best rate that the target allows.
    pub knee_rows: u32,
    /// Rows per second that all lanes can run in batches of that many.
    pub capacity_rows_per_s: f64,
    /// Newcomers are refused as soon as their answer is predicted to be late.
    pub is_failing_fast: bool,
    /// Of the requests of the last second, the share that was given up.
    pub shed_share: f64,
    /// Batches that may run at the same time.
    pub lanes: u32,
    /// Batches that do.
    pub lanes_busy: u32,
}

impl Batcher {
    /// What it reckons with now.
    #[must_use]
    pub fn estimate(&self) -> Estimate {
        Estimate {
            surfaces: self.surfaces(),
            rows_per_s: self.demand.rows_per_s(),
            knee_rows: self.knee(self.classes.whole()),
            capacity_rows_per_s: self.capacity(),
            is_failing_fast: self.is_failing_fast(),
            shed_share: self.shedding.share(),
            lanes: self.policy.lanes,
            lanes_busy: self.lanes.busy(),
        }
    }

    /// How long runs take: first of the model as a whole, then of each class that has a surface of its own.
    #[must_use]
    pub fn surfaces(&self) -> Vec<ClassSurface> {
        let whole = self.classes.whole().surface();
        let mut surfaces = vec![ClassSurface { shape: String::new(), length: None, surface: whole }];
        for class in self.classes.slots() {
            for bucket in &class.buckets {
                if let Some(latency) = &bucket.latency {
                    let length = (bucket.edge > 0).then_some(bucket.edge);
                    surfaces.push(ClassSurface { shape: class.shape(), length, surface: latency.surface() });
                }
            }
        }
        surfaces
    }
}
