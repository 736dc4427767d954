use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::{Latency, Surface};
use crate::Rules;
use crate::shape_class::scaled;

const HOUR: Duration = Duration::from_secs(3_600);

fn any_rows() -> impl Strategy<Value = u32> {
    prop_oneof![2 => Just(0), 2 => Just(u32::MAX), 8 => 1..80_u32, 4 => 1..5_000_u32, 1 => any::<u32>()]
}

fn any_run() -> impl Strategy<Value = Duration> {
    prop_oneof![
        2 => Just(Duration::ZERO),
        2 => Just(Duration::MAX),
        1 => Just(Duration::from_nanos(1)),
        8 => (1_000..100_000_000_u64).prop_map(Duration::from_nanos),
        2 => any::<u64>().prop_map(Duration::from_nanos),
    ]
}

/// Every promise at once, at the sizes that matter.
fn is_sane(latency: &Latency, rows_max: u32) -> Result<(), TestCaseError> {
    let edges = [rows_max, rows_max.saturating_add(1), 4_096, 4_097, 5_000, 1 << 20, u32::MAX - 1, u32::MAX];
    let mut sizes: Vec<u32> = (0..=80).chain(edges).collect();
    sizes.sort_unstable();
    let mut last = Duration::ZERO;
    for &rows in &sizes {
        let (expected, cautious) = (latency.expected(rows), latency.cautious(rows));
        prop_assert!(last <= expected && !expected.is_zero());
        prop_assert!(expected <= cautious && cautious <= HOUR);
        last = expected;
        let fitting = latency.rows_fitting(cautious, u32::MAX);
        prop_assert!(fitting >= rows && latency.cautious(fitting) <= cautious);
        prop_assert!(fitting == u32::MAX || latency.cautious(fitting + 1) > cautious);
        let short = latency.rows_fitting(cautious - Duration::from_nanos(1), u32::MAX);
        prop_assert!(short < rows.max(1));
        prop_assert_eq!(latency.rows_fitting(cautious, rows_max), fitting.min(rows_max));
    }
    prop_assert!(latency.spread().is_finite() && latency.spread() >= 0.0);
    prop_assert!(latency.base() <= HOUR && latency.per_row() <= HOUR);
    for target in [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(10), Duration::MAX] {
        for lanes in [0, 1, 4] {
            let knee = latency.knee(target, lanes, rows_max);
            prop_assert!((1..=rows_max.max(1)).contains(&knee));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn any_runs_leave_sane_estimates(
        runs in proptest::collection::vec((any_rows(), any_run()), 0..200),
        rows_max in prop_oneof![Just(0), Just(1), Just(64), Just(u32::MAX), 1..300_u32],
    ) {
        let mut latency = Latency::new(rows_max);
        is_sane(&latency, rows_max)?;
        for (index, (rows, run)) in runs.into_iter().enumerate() {
            latency.observe(rows, run);
            if index % 16 == 0 {
                is_sane(&latency, rows_max)?;
            }
        }
        is_sane(&latency, rows_max)?;
    }
}

#[test]
fn a_surface_gives_back_what_was_learned() {
    let surface = Surface { base_ns: 1e6, row_ns: 1e5, spread: 0.1, corrections: vec![1.0; 64], samples: 500 };
    let latency = Latency::of(&surface, 64);
    assert_eq!(latency.surface(), surface);
    assert_eq!(latency.expected(10), Duration::from_millis(2));
}

#[test]
fn estimates_for_other_rows_are_learned_by_the_same_rules() {
    let rules = Rules { clamp: false, ..Rules::ALL };
    let latency = Latency::new(64).under(rules);
    assert_eq!(latency.clone().rules(), rules);
    assert_eq!(scaled(&latency, 2.0, 64).rules(), rules);
}
