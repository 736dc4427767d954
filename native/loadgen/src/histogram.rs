//! Times of very many requests in little memory.

/// Values of one power of two are told apart by this many bits: within 0.8 %.
const BITS: u32 = 7;
const STEPS: usize = 1 << BITS;
const BUCKETS: usize = (64 - BITS as usize + 1) * STEPS;

/// Counts of nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Vec<u32>,
    count: u64,
    max_ns: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], count: 0, max_ns: 0 }
    }
}

fn bucket(value: u64) -> usize {
    let power = (64 - value.leading_zeros()).saturating_sub(BITS + 1);
    (power as usize) * STEPS + (value >> power) as usize
}

/// The largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let power = (bucket / STEPS).saturating_sub(1);
    let step = (bucket - power * STEPS) as u64;
    (step << power) + ((1_u64 << power) - 1)
}

impl Histogram {
    pub(crate) fn record(&mut self, ns: u64) {
        self.counts[bucket(ns)] += 1;
        self.count += 1;
        self.max_ns = self.max_ns.max(ns);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn max_ns(&self) -> u64 {
        self.max_ns
    }

    /// What this share of `total` does not exceed; those of `total` that were not recorded took for ever: `None`.
    pub(crate) fn quantile_ns(&self, share: f64, total: u64) -> Option<u64> {
        let rank = ((total as f64 * share).ceil() as u64).max(1);
        if rank > self.count {
            return None;
        }
        let mut below = 0;
        for (bucket, &count) in self.counts.iter().enumerate() {
            below += u64::from(count);
            if below >= rank {
                return Some(upper(bucket).min(self.max_ns));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_within_a_hundredth() {
        let mut value = 0_u64;
        while value < u64::MAX / 3 {
            let upper = upper(bucket(value));
            assert!(upper >= value && upper - value <= value / 100, "{value} {upper}");
            value = value + value / 37 + 1;
        }
        assert!(bucket(u64::MAX) < BUCKETS);
        assert_eq!(upper(bucket(u64::MAX)), u64::MAX);
    }

    #[test]
    fn quantiles_agree_with_sorting() {
        let mut histogram = Histogram::default();
        let mut values: Vec<u64> = (0..10_000_u64).map(|at| at * at * 31 % 1_000_003).collect();
        values.iter().for_each(|&value| histogram.record(value));
        values.sort_unstable();
        for share in [0.001_f64, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let exact = values[(10_000.0 * share).ceil() as usize - 1];
            let found = histogram.quantile_ns(share, 10_000).expect("recorded");
            assert!(found >= exact && found - exact <= exact / 100, "{share}: {found} {exact}");
        }
    }

    #[test]
    fn what_was_never_answered_took_for_ever() {
        let mut histogram = Histogram::default();
        (0..98).for_each(|_| histogram.record(5));
        assert_eq!(histogram.quantile_ns(0.98, 100), Some(5));
        assert_eq!(histogram.quantile_ns(0.99, 100), None);
        assert_eq!(Histogram::default().quantile_ns(0.5, 0), None);
    }
}
