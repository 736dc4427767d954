use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::Arrivals;

/// One arrival after each gap, of so many rows.
fn after(gaps: impl IntoIterator<Item = (u32, Duration)>) -> Arrivals {
    let (mut arrivals, mut now) = (Arrivals::new(), Instant::now());
    for (rows, gap) in gaps {
        now += gap;
        arrivals.observe(rows, now);
    }
    arrivals
}

fn is_near(rate: f64, expected: f64, share: f64) -> bool {
    (rate / expected - 1.0).abs() <= share
}

const MILLISECOND: Duration = Duration::from_millis(1);

#[test]
fn nobody_and_one_instant_are_no_rate() {
    assert_eq!(Arrivals::new().rows_per_s(), 0.0);
    assert_eq!(Arrivals::new().last(), None);
    let tick = after((0..1_000).map(|_| (3, Duration::ZERO)));
    assert_eq!(tick.rows_per_s(), 0.0);
    assert!(tick.last().is_some());
}

#[test]
fn the_second_instant_gives_the_rate() {
    assert!(is_near(after([(1, MILLISECOND); 2]).rows_per_s(), 1_000.0, 1e-6));
    assert!(is_near(after([(5, MILLISECOND); 2]).rows_per_s(), 5_000.0, 1e-6));
}

#[test]
fn requests_of_one_tick_count_as_their_rows() {
    let one_by_one = (0..5_000).map(|index| (1, if index % 50 == 0 { 10 * MILLISECOND } else { Duration::ZERO }));
    let at_once = (0..100).map(|_| (50, 10 * MILLISECOND));
    assert!(is_near(after(one_by_one).rows_per_s(), 5_000.0, 0.01));
    assert!(is_near(after(at_once).rows_per_s(), 5_000.0, 0.01));
}

#[test]
fn a_burst_before_the_present_instant_is_not_yet_a_rate() {
    let steady = (0..500).map(|_| (1, MILLISECOND));
    let burst = (0..1_000).map(|_| (1, Duration::ZERO));
    assert!(is_near(after(steady.chain(burst)).rows_per_s(), 1_000.0, 1e-3));
}

#[test]
fn a_long_silence_is_soon_forgotten() {
    let steady = || (0..500).map(|_| (1, MILLISECOND));
    let silence = [(1, Duration::from_secs(3_600))];
    let woken = after(steady().chain(silence));
    assert!(woken.rows_per_s() > 600.0, "{}", woken.rows_per_s());
    assert!(is_near(after(steady().chain(silence).chain(steady())).rows_per_s(), 1_000.0, 0.1));
}

#[test]
fn a_rate_that_changes_is_followed() {
    let steady = (0..500).map(|_| (1, MILLISECOND));
    let slow = (0..40).map(|_| (1, Duration::from_secs(1)));
    assert!(after(steady.clone().chain(slow)).rows_per_s() < 10.0);
    let fast = (0..1_000).map(|_| (1, MILLISECOND / 100));
    assert!(is_near(after(steady.chain(fast)).rows_per_s(), 100_000.0, 1.0));
}

#[test]
fn a_clock_that_steps_back_changes_nothing() {
    let now = Instant::now() + Duration::from_secs(10);
    let mut arrivals = Arrivals::new();
    arrivals.observe(1, now);
    arrivals.observe(1, now - Duration::from_secs(1));
    assert_eq!(arrivals.last(), Some(now));
    assert_eq!(arrivals.rows_per_s(), 0.0);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn any_arrivals_give_a_finite_rate(
        gaps in proptest::collection::vec(
            (
                prop_oneof![Just(0), Just(1), Just(u32::MAX), any::<u32>()],
                prop_oneof![Just(0), Just(1), 0..1_000_000_u64, 0..1_000_000_000_000_000_u64],
            ),
            0..300,
        ),
    ) {
        let (mut arrivals, mut now) = (Arrivals::new(), Instant::now());
        for (rows, gap) in gaps {
            now += Duration::from_nanos(gap);
            arrivals.observe(rows, now);
            let rate = arrivals.rows_per_s();
            prop_assert!((0.0..=1e12).contains(&rate), "{}", rate);
            prop_assert_eq!(arrivals.last(), Some(now));
        }
    }

    #[test]
    fn evenly_spaced_rows_give_their_rate(rows in 1..1_000_u32, gap in 1..1_000_000_000_u64, count in 2..400_usize) {
        let arrivals = after((0..count).map(|_| (rows, Duration::from_nanos(gap))));
        prop_assert!(is_near(arrivals.rows_per_s(), f64::from(rows) * 1e9 / gap as f64, 1e-6));
    }
}
