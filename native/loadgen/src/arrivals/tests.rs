use super::*;

const SEED: u64 = 11;

fn times_s(arrivals: &Arrivals, rate: f64, count: usize) -> Vec<f64> {
    let mut schedule = Schedule::new(arrivals, Some(rate), SEED).expect("a schedule");
    (0..count).map(|_| schedule.next_ns() as f64 / NS_PER_S).collect()
}

fn gaps_s(times_s: &[f64]) -> Vec<f64> {
    times_s.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// Mean, and standard deviation over mean.
fn moments(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    (mean, variance.sqrt() / mean)
}

/// Requests in each of the spans of a run.
fn counts(times_s: &[f64], span_s: f64) -> Vec<f64> {
    let mut counts = vec![0.0; (times_s[times_s.len() - 1] / span_s) as usize];
    for time_s in times_s {
        if let Some(count) = counts.get_mut((time_s / span_s) as usize) {
            *count += 1.0;
        }
    }
    counts
}

fn near(found: f64, expected: f64, share: f64) -> bool {
    (found - expected).abs() <= share * expected
}

#[test]
fn every_shape_keeps_its_mean_rate_and_never_goes_back() {
    for arrivals in [
        Arrivals::Poisson,
        Arrivals::Constant,
        Arrivals::Mmpp { low_s: 1.0, high_s: 0.5 },
        Arrivals::Onoff { on_s: 0.7, off_s: 0.3 },
        Arrivals::Diurnal { period_s: 5.0 },
    ] {
        let times_s = times_s(&arrivals, 1_000.0, 400_000);
        assert!(times_s.windows(2).all(|pair| pair[0] <= pair[1]), "{arrivals:?}");
        let rate = times_s.len() as f64 / times_s[times_s.len() - 1];
        assert!(near(rate, 1_000.0, 0.04), "{arrivals:?} gives {rate}");
    }
}

#[test]
fn poisson_gaps_vary_as_much_as_they_last() {
    let (mean, variation) = moments(&gaps_s(&times_s(&Arrivals::Poisson, 200.0, 200_000)));
    assert!(near(mean, 0.005, 0.01) && near(variation, 1.0, 0.01), "{mean} {variation}");
}

#[test]
fn constant_gaps_do_not_vary_nor_drift() {
    let times_s = times_s(&Arrivals::Constant, 3.0, 300_001);
    assert!((times_s[300_000] - 100_000.0).abs() < 1e-6);
    assert!(moments(&gaps_s(&times_s)).1 < 1e-6);
}

#[test]
fn mmpp_has_the_two_rates_it_says() {
    let mut schedule = Schedule::new(&Arrivals::Mmpp { low_s: 20.0, high_s: 10.0 }, Some(1_000.0), SEED).expect("one");
    let (mut counts, mut spent_s, mut before_s) = ([0_u32; 2], [0.0; 2], 0.0);
    for _ in 0..1_000_000 {
        schedule.next_ns();
        let Shape::Turns(turns) = &schedule.shape else { panic!("turns") };
        counts[turns.state] += 1;
        spent_s[turns.state] += schedule.at_s - before_s;
        before_s = schedule.at_s;
    }
    assert!(near(f64::from(counts[0]) / spent_s[0], 400.0, 0.02), "{counts:?} {spent_s:?}");
    assert!(near(f64::from(counts[1]) / spent_s[1], 2_200.0, 0.02), "{counts:?} {spent_s:?}");
}

#[test]
fn bursts_are_ten_to_one() {
    let counts = counts(&times_s(&Arrivals::Onoff { on_s: 1.0, off_s: 1.0 }, 1_100.0, 220_000), 1.0);
    let sum = |from: usize| counts.iter().skip(from).step_by(2).sum::<f64>();
    assert!(near(sum(0) / sum(1), 10.0, 0.05), "{}", sum(0) / sum(1));
}

#[test]
fn a_day_swings_three_to_one_and_begins_at_night() {
    let counts = counts(&times_s(&Arrivals::Diurnal { period_s: 60.0 }, 2_000.0, 600_000), 1.0);
    let at = |second: usize| (0..4).map(|day| counts[day * 60 + second] + counts[day * 60 + second + 1]).sum::<f64>();
    assert!(near(at(29) / at(0), 3.0, 0.06), "{}", at(29) / at(0));
}

#[test]
fn a_trace_is_replayed_stretched_and_repeated() {
    let shape = |rate| recorded(&[1.0, 1.25, 2.0], rate).expect("a trace");
    let mut own = Schedule { dice: Dice::new(0, 0), rate: 1.0, at_s: 0.0, shape: shape(None) };
    let times: Vec<u64> = (0..6).map(|_| own.next_ns() / 1_000_000).collect();
    assert_eq!(times, [0, 250, 1_000, 1_500, 1_750, 2_500], "again after one mean gap");
    let mut fast = Schedule { dice: Dice::new(0, 0), rate: 1.0, at_s: 0.0, shape: shape(Some(20.0)) };
    let times: Vec<u64> = (0..4).map(|_| fast.next_ns() / 1_000_000).collect();
    assert_eq!(times, [0, 25, 100, 150]);
    assert!(recorded(&[1.0, 1.0], None).is_err());
}

#[test]
fn a_seed_gives_the_same_times_again() {
    for arrivals in [Arrivals::Poisson, Arrivals::Mmpp { low_s: 1.0, high_s: 1.0 }] {
        let draw = |seed| {
            let mut schedule = Schedule::new(&arrivals, Some(10.0), seed).expect("a schedule");
            (0..100).map(|_| schedule.next_ns()).collect::<Vec<_>>()
        };
        assert_eq!(draw(4), draw(4));
        assert_ne!(draw(4), draw(5));
    }
}
