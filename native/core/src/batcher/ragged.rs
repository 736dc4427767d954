//! Which lengths share a run.

use std::ops::Range;

use crate::shape_class::{Bucket, ShapeClass};
use crate::{Batch, Latency, Ragged};

/// Lengths that one class tells apart.
pub(crate) const BUCKETS_MAX: usize = 24;
/// Of the positions computed, the share that may be padding before lengths are no longer mixed beyond their bucket.
const PADDING_MAX: f64 = 0.11;
/// A batch more weighs this much in the remembered share.
const WEIGHT: f64 = 1.0 / 64.0;

/// Edges of buckets: 1.3 apart, so that rows of one bucket, padded to its longest, waste about a tenth.
const EDGES: [u64; 64] = {
    let mut edges = [8_u64; 64];
    let mut place = 1;
    while place < edges.len() {
        edges[place] = (edges[place - 1] * 13).div_ceil(10);
        place += 1;
    }
    edges
};

/// The edge of the bucket that rows of this length belong to.
pub(crate) fn edge(length: u64) -> u64 {
    EDGES.get(EDGES.partition_point(|&edge| edge < length)).copied().unwrap_or(u64::MAX)
}

/// There are buckets enough: rows of this edge go with the next longer, or the longest is widened for them.
pub(crate) fn widen(buckets: &mut [Bucket], place: usize, edge: u64) -> usize {
    if place < buckets.len() {
        return place;
    }
    if let Some(longest) = buckets.last_mut() {
        (longest.edge, longest.extent) = (edge, edge as f64);
    }
    buckets.len() - 1
}

/// Positions that runs computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Padding {
    /// Of requests' own lengths, times their rows.
    pub useful: u64,
    /// Added, so that rows of a batch are of one length.
    pub padded: u64,
}

/// What lengths in one batch have cost.
#[derive(Debug, Default)]
pub(crate) struct Waste {
    counted: Padding,
    /// Positions of a usual batch, useful and padded; old batches fade.
    useful_mean: f64,
    padded_mean: f64,
    rows_mean: f64,
}

impl Waste {
    /// Counts a batch.
    pub(crate) fn add(&mut self, batch: &Batch, ragged: &Ragged) {
        let (mut useful, mut longest) = (0, 0);
        for item in &batch.items {
            let length = ragged.length(item.inputs());
            useful += length * u64::from(item.row_count());
            longest = longest.max(length);
        }
        let rows = u64::from(batch.rows);
        let padded = (rows * longest).saturating_sub(useful);
        self.counted.useful += useful;
        self.counted.padded += padded;
        self.useful_mean += WEIGHT * (useful as f64 - self.useful_mean);
        self.padded_mean += WEIGHT * (padded as f64 - self.padded_mean);
        self.rows_mean += WEIGHT * (rows as f64 - self.rows_mean);
    }

    /// What was counted since this was asked last.
    pub(crate) fn take(&mut self) -> Padding {
        std::mem::take(&mut self.counted)
    }

    /// Whether so little was wasted of late that lengths of several buckets may be mixed.
    pub(crate) fn is_affordable(&self) -> bool {
        self.padded_mean <= PADDING_MAX * (self.useful_mean + self.padded_mean)
    }

    /// Rows of a usual batch.
    pub(crate) fn rows_mean(&self) -> f64 {
        self.rows_mean.max(1.0)
    }
}

/// How to weigh ranges of buckets.
pub(crate) struct Mixing<'a> {
    pub(crate) class: &'a ShapeClass,
    pub(crate) tier: usize,
    /// For buckets without a surface of their own.
    pub(crate) whole: &'a Latency,
    pub(crate) rows_max: u32,
    /// Rows of a usual batch.
    pub(crate) rows_mean: f64,
}

impl Mixing<'_> {
    /// The neighbouring buckets around `head` whose rows together make the most of a run: what they would cost in
    /// batches of their own kind, for what they cost in one as long as its longest.
    pub(crate) fn range(&self, head: usize) -> Range<usize> {
        let buckets = self.class.buckets.len();
        let own = head..head + 1;
        let mut best = (self.worth(&own), own);
        for start in (0..=head).rev() {
            if start < head && self.rows(start) == 0 {
                continue;
            }
            for end in head + 1..=buckets {
                if end > head + 1 && self.rows(end - 1) == 0 {
                    continue;
                }
                let range = start..end;
                let worth = self.worth(&range);
                if worth > best.0 {
                    best = (worth, range);
                }
            }
        }
        best.1
    }

    fn rows(&self, bucket: usize) -> usize {
        self.class.buckets[bucket].tiers[self.tier].rows()
    }

    fn latency(&self, bucket: usize) -> &Latency {
        self.class.buckets[bucket].latency.as_deref().unwrap_or(self.whole)
    }

    fn worth(&self, range: &Range<usize>) -> f64 {
        let (mut rows, mut useful) = (0.0, 0.0);
        for bucket in range.clone() {
            let count = self.rows(bucket) as f64;
            let latency = self.latency(bucket);
            let base = latency.base().as_secs_f64() / count.max(self.rows_mean);
            rows += count;
            useful += count * (base + latency.per_row().as_secs_f64());
        }
        let taken = f64::min(rows, f64::from(self.rows_max)).max(1.0);
        let cost = self.latency(range.end - 1).expected(taken as u32).as_secs_f64();
        useful * (taken / rows.max(1.0)) / cost
    }
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS_MAX, edge, widen};
    use crate::shape_class::Bucket;

    #[test]
    fn edges_are_a_third_apart_at_most_and_hold_every_length() {
        for length in 1..10_000_u64 {
            let found = edge(length);
            assert!(found >= length && (found <= 8 || found * 10 <= length * 14), "{length} {found}");
        }
        assert_eq!(edge(u64::MAX), u64::MAX);
    }

    #[test]
    fn lengths_past_the_last_bucket_widen_it_and_others_go_with_the_next_longer() {
        let mut buckets: Vec<Bucket> = (1..=BUCKETS_MAX as u64).map(|edge| Bucket::new(edge * 10, 1.0)).collect();
        assert_eq!(widen(&mut buckets, 3, 35), 3);
        assert_eq!(buckets[3].edge, 40);
        assert_eq!(widen(&mut buckets, BUCKETS_MAX, 999), BUCKETS_MAX - 1);
        assert_eq!(buckets[BUCKETS_MAX - 1].edge, 999);
    }
}
