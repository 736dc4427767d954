//! The latency model follows services as they are: noisy, bent, stepped, stalled, slowed down and sped up again.
#![forbid(unsafe_code)]

use std::time::Duration;

use servekit_core::{Latency, Rules, Surface};
use servekit_testing::Dice;

const ROWS_MAX: u32 = 64;

fn rows_of(dice: &mut Dice, most: u32) -> u32 {
    1 + (dice.roll() * f64::from(most)) as u32
}

/// Log-normal with 8 % deviation; one in five hundred takes three times as long.
fn jitter(dice: &mut Dice) -> f64 {
    let normal = dice.normal();
    let stall = if dice.roll() < 0.002 { 3.0 } else { 1.0 };
    (0.08 * normal).exp() * stall
}

/// Microseconds of a run: a slope on an overhead, as of a GPU.
fn straight(rows: u32) -> f64 {
    2_000.0 + 100.0 * f64::from(rows)
}

/// Padded to multiples of eight.
fn stepped(rows: u32) -> f64 {
    straight(rows.next_multiple_of(8))
}

/// The slope doubles past 32 rows.
fn bent(rows: u32) -> f64 {
    straight(rows) + 100.0 * f64::from(rows.saturating_sub(32))
}

fn microseconds(time: f64) -> Duration {
    Duration::from_nanos((1e3 * time) as u64)
}

/// Shows the model so many runs of sizes up to `most`, with jitter.
fn teach(latency: &mut Latency, service: impl Fn(u32) -> f64, dice: &mut Dice, (most, runs): (u32, u32)) {
    for _ in 0..runs {
        let rows = rows_of(dice, most);
        latency.observe(rows, microseconds(service(rows) * jitter(dice)));
    }
}

fn repeat(latency: &mut Latency, (rows, time): (u32, f64), runs: u32) {
    for _ in 0..runs {
        latency.observe(rows, microseconds(time));
    }
}

/// How far an estimate is off, as a share of the truth; the worst of all sizes.
fn worst_error(estimate: impl Fn(u32) -> f64, service: impl Fn(u32) -> f64) -> f64 {
    (1..=ROWS_MAX).map(|rows| (estimate(rows) / service(rows) - 1.0).abs()).fold(0.0, f64::max)
}

fn mean_error(estimate: impl Fn(u32) -> f64, service: impl Fn(u32) -> f64) -> f64 {
    (1..=ROWS_MAX).map(|rows| (estimate(rows) / service(rows) - 1.0).abs()).sum::<f64>() / f64::from(ROWS_MAX)
}

fn expected(latency: &Latency) -> impl Fn(u32) -> f64 {
    |rows| 1e6 * latency.expected(rows).as_secs_f64()
}

fn line(latency: &Latency) -> impl Fn(u32) -> f64 {
    |rows| 1e6 * (latency.base().as_secs_f64() + f64::from(rows) * latency.per_row().as_secs_f64())
}

fn taught(service: impl Fn(u32) -> f64, seed: u64, runs: u32) -> Latency {
    let mut latency = Latency::new(ROWS_MAX);
    teach(&mut latency, service, &mut Dice::new(seed), (ROWS_MAX, runs));
    latency
}

#[test]
fn a_guess_is_shorter_than_any_target() {
    let latency = Latency::new(ROWS_MAX);
    assert_eq!(latency.samples(), 0);
    assert!(latency.cautious(1) < Duration::from_micros(100));
}

#[test]
fn the_first_run_replaces_the_guess() {
    for (rows, time) in [(1, 80.0), (8, 3_000.0), (64, 0.5), (0, 7e6)] {
        let mut latency = Latency::new(ROWS_MAX);
        repeat(&mut latency, (rows, time), 1);
        assert!((expected(&latency)(rows) / time - 1.0).abs() < 0.01);
        assert_eq!(latency.samples(), 1);
    }
}

#[test]
fn a_cold_first_run_is_forgotten_within_ten() {
    for factor in [3.0, 10.0, 300.0] {
        let mut latency = Latency::new(ROWS_MAX);
        repeat(&mut latency, (8, 1_000.0 * factor), 1);
        repeat(&mut latency, (8, 1_000.0), 10);
        assert!((expected(&latency)(8) / 1_000.0 - 1.0).abs() < 0.1, "{factor}: {}", expected(&latency)(8));
    }
}

#[test]
fn one_stall_moves_nothing_beyond_its_bound() {
    for seed in 0..20 {
        let before = taught(straight, seed, 304);
        for rows in [1, 20, 64] {
            let [stalled, usual] = [100.0, 1.0].map(|factor| {
                let mut after = before.clone();
                repeat(&mut after, (rows, factor * straight(rows)), 1);
                assert!(after.spread() < 1.1 * before.spread());
                // The table is rewritten after two runs for each of its rows: so many show what the stall did to it.
                repeat(&mut after, (32, straight(32)), 2 * ROWS_MAX);
                after
            });
            let moved = worst_error(expected(&stalled), expected(&usual));
            assert!(moved < 0.05, "seed {seed}, at {rows}: {moved}");
        }
    }
}

#[test]
fn a_stall_among_the_first_runs_is_bounded() {
    let mut latency = Latency::new(ROWS_MAX);
    repeat(&mut latency, (4, 1_000.0), 3);
    repeat(&mut latency, (4, 100_000.0), 1);
    assert!(expected(&latency)(4) < 1_300.0, "{}", expected(&latency)(4));
}

#[test]
fn a_noisy_service_is_known_within_three_per_cent() {
    for seed in 0..20 {
        let latency = taught(straight, seed, 2_000);
        let mean = mean_error(expected(&latency), straight);
        assert!(mean < 0.03, "seed {seed}: {mean}");
        assert!((0.05..0.11).contains(&latency.spread()), "seed {seed}: {}", latency.spread());
    }
}

#[test]
fn fifty_runs_are_enough_for_a_decision() {
    for seed in 0..20 {
        let latency = taught(straight, seed, 50);
        let worst = worst_error(expected(&latency), straight);
        assert!(worst < 0.15, "seed {seed}: {worst}");
    }
}

#[test]
fn nineteen_of_twenty_runs_keep_the_cautious_estimate() {
    let mut dice = Dice::new(7);
    let latency = taught(straight, 3, 2_000);
    let kept = (0..2_000)
        .filter(|_| {
            let rows = rows_of(&mut dice, ROWS_MAX);
            microseconds(straight(rows) * jitter(&mut dice)) <= latency.cautious(rows)
        })
        .count();
    assert!(kept > 1_800, "{kept}");
}

#[test]
fn a_halved_pace_is_learned_within_ten_runs_and_so_is_its_end() {
    for seed in 0..20 {
        let mut dice = Dice::new(100 + seed);
        let mut latency = taught(straight, seed, 500);
        for factor in [2.0, 1.0, 4.0, 1.0, 0.5] {
            let service = |rows: u32| factor * straight(rows);
            teach(&mut latency, service, &mut dice, (ROWS_MAX, 10));
            let mean = mean_error(expected(&latency), service);
            assert!(mean < 0.12, "seed {seed}, {factor}: {mean}");
            teach(&mut latency, service, &mut dice, (ROWS_MAX, 300));
            let mean = mean_error(expected(&latency), service);
            assert!(mean < 0.05, "seed {seed}, {factor}: {mean}");
        }
    }
}

#[test]
fn without_the_change_point_a_halved_pace_is_learned_slowly() {
    for seed in 0..20 {
        let [whole, drifting] = [true, false].map(|change| {
            let mut latency = taught(straight, seed, 500).under(Rules { change, ..Rules::ALL });
            let slow = |rows: u32| 2.0 * straight(rows);
            teach(&mut latency, slow, &mut Dice::new(100 + seed), (ROWS_MAX, 10));
            mean_error(expected(&latency), slow)
        });
        assert!(whole < 0.12 && drifting > 0.2, "seed {seed}: {whole} {drifting}");
    }
}

#[test]
fn without_clamping_one_stall_moves_all_that_is_known() {
    for seed in 0..20 {
        let before = taught(straight, seed, 304);
        let [whole, moved] = [true, false].map(|clamp| {
            let mut latency = before.clone().under(Rules { clamp, ..Rules::ALL });
            repeat(&mut latency, (32, 100.0 * straight(32)), 1);
            latency
        });
        assert!(line(&moved)(32) > 1.2 * line(&whole)(32), "seed {seed}");
        assert!(moved.spread() > 5.0 * before.spread(), "seed {seed}");
    }
}

#[test]
fn three_runs_tell_a_doubled_pace_and_two_do_not() {
    for seed in 0..20 {
        let mut latency = taught(straight, seed, 500);
        repeat(&mut latency, (32, 2.0 * straight(32)), 2);
        assert!(expected(&latency)(64) < 1.3 * straight(64), "seed {seed}: {}", expected(&latency)(64));
        repeat(&mut latency, (32, 2.0 * straight(32)), 1);
        let mean = mean_error(expected(&latency), |rows| 2.0 * straight(rows));
        assert!(mean < 0.1, "seed {seed}: {mean}");
    }
}

#[test]
fn a_steady_model_that_slows_down_a_little_is_not_thought_slow_at_once() {
    let steady = |latency: &mut Latency, factor: f64| {
        for rows in (1..=ROWS_MAX).cycle().take(1_000) {
            latency.observe(rows, microseconds(factor * straight(rows)));
        }
    };
    let mut latency = Latency::new(ROWS_MAX);
    steady(&mut latency, 1.0);
    repeat(&mut latency, (32, 1.04 * straight(32)), 3);
    assert!(worst_error(expected(&latency), straight) < 0.02);
    steady(&mut latency, 1.04);
    assert!(worst_error(expected(&latency), |rows| 1.04 * straight(rows)) < 0.01);
}

#[test]
fn a_slow_drift_is_followed() {
    let mut latency = taught(straight, 1, 500);
    let mut dice = Dice::new(2);
    for step in 0..1_000 {
        let factor = 1.0 + f64::from(step) / 1_000.0;
        teach(&mut latency, |rows| factor * straight(rows), &mut dice, (ROWS_MAX, 1));
    }
    let mean = mean_error(expected(&latency), |rows| 2.0 * straight(rows));
    assert!(mean < 0.12, "{mean}");
}

#[test]
fn one_size_alone_keeps_the_proportion_of_base_and_row() {
    let mut latency = Latency::new(ROWS_MAX);
    repeat(&mut latency, (8, 900.0), 100);
    let proportion = latency.base().as_secs_f64() / latency.per_row().as_secs_f64();
    for (time, runs) in [(1_800.0, 10), (1_900.0, 500), (300.0, 10)] {
        repeat(&mut latency, (8, time), runs);
        assert!((expected(&latency)(8) / time - 1.0).abs() < 0.02);
        let now = latency.base().as_secs_f64() / latency.per_row().as_secs_f64();
        assert!((now / proportion - 1.0).abs() < 0.01, "{now} {proportion}");
    }
}

#[test]
fn a_size_never_seen_is_guessed_between_equal_and_proportional() {
    for known in [1, 8, 64] {
        let mut latency = Latency::new(ROWS_MAX);
        repeat(&mut latency, (known, straight(known)), 200);
        for rows in 1..=ROWS_MAX {
            let proportion = f64::from(rows) / f64::from(known);
            let estimate = expected(&latency)(rows) / straight(known);
            assert!(estimate >= 0.99 * proportion.min(1.0) && estimate <= 1.01 * proportion.max(1.0));
        }
    }
}

#[test]
fn a_new_size_is_learned_at_once_and_leaves_the_known_one_alone() {
    for (known, new) in [(1, 64), (1, 2), (8, 1), (64, 1), (32, 64)] {
        let mut latency = Latency::new(ROWS_MAX);
        repeat(&mut latency, (known, straight(known)), 200);
        repeat(&mut latency, (new, straight(new)), 2);
        for rows in [known, new] {
            let error = (expected(&latency)(rows) / straight(rows) - 1.0).abs();
            assert!(error < 0.1, "{known} then {new}, at {rows}: {error}");
        }
    }
}

#[test]
fn a_stall_at_a_new_size_is_set_right_within_ten_runs() {
    for (known, new) in [(1, 64), (64, 1), (8, 32)] {
        let mut latency = Latency::new(ROWS_MAX);
        repeat(&mut latency, (known, straight(known)), 200);
        repeat(&mut latency, (new, 100.0 * straight(new)), 1);
        repeat(&mut latency, (new, straight(new)), 10);
        for rows in [known, new] {
            let error = (expected(&latency)(rows) / straight(rows) - 1.0).abs();
            assert!(error < 0.15, "{known} then {new}, at {rows}: {error}");
        }
    }
}

#[test]
fn quiet_and_busy_hours_do_not_undo_each_other() {
    for service in [straight, bent, stepped] {
        let mut dice = Dice::new(11);
        let mut latency = Latency::new(ROWS_MAX);
        for _ in 0..10 {
            for rows in [1, 64] {
                for _ in 0..100 {
                    latency.observe(rows, microseconds(service(rows) * jitter(&mut dice)));
                }
            }
        }
        for rows in [1, 64] {
            let error = (expected(&latency)(rows) / service(rows) - 1.0).abs();
            assert!(error < 0.1, "at {rows}: {error}");
        }
    }
}

#[test]
fn steps_are_known_better_by_the_table_than_by_the_line() {
    for seed in 0..10 {
        let latency = taught(stepped, seed, 4_000);
        let (table, line) = (mean_error(expected(&latency), stepped), mean_error(line(&latency), stepped));
        assert!(table < 0.5 * line, "seed {seed}: {table} {line}");
    }
}

#[test]
fn a_bent_service_is_known_within_eight_per_cent() {
    for seed in 0..10 {
        let latency = taught(bent, seed, 4_000);
        let mean = mean_error(expected(&latency), bent);
        assert!(mean < 0.04, "seed {seed}: {mean}");
        let worst = worst_error(expected(&latency), bent);
        assert!(worst < 0.12, "seed {seed}: {worst}");
    }
}

#[test]
fn one_wrong_size_does_not_raise_all_larger_ones() {
    let mut corrections = vec![1.0; 64];
    corrections[3] = 8.0;
    let surface = Surface { base_ns: 2e6, row_ns: 1e5, spread: 0.08, corrections, samples: 500 };
    let mut latency = Latency::of(&surface, ROWS_MAX);
    let mut dice = Dice::new(3);
    for _ in 0..1_000 {
        let rows = 8 + rows_of(&mut dice, ROWS_MAX - 8);
        latency.observe(rows, microseconds(straight(rows) * jitter(&mut dice)));
    }
    for rows in 12..=ROWS_MAX {
        let error = (expected(&latency)(rows) / straight(rows) - 1.0).abs();
        assert!(error < 0.1, "at {rows}: {error}");
    }
}

#[test]
fn the_knee_is_the_fastest_batch_that_fits() {
    for service in [straight, stepped, bent] {
        let latency = taught(service, 5, 2_000);
        let time = |rows| latency.expected(rows).as_secs_f64();
        for (target_ms, lanes, rows_max) in [(0, 1, 64), (15, 1, 64), (15, 4, 64), (8, 2, 64), (1, 1, 64), (0, 1, 7)] {
            let target = Duration::from_millis(target_ms);
            let bound = target.as_secs_f64() / (1.0 + 1.0 / f64::from(lanes));
            let fits = |rows: &u32| target.is_zero() || time(*rows) <= bound;
            let rate = |rows: u32| f64::from(rows) / time(rows);
            let best = (1..=rows_max).filter(fits).map(rate).fold(0.0, f64::max);
            let knee = latency.knee(target, lanes, rows_max);
            assert!(knee <= rows_max);
            assert!(rate(knee) >= 0.999_999 * best, "{target_ms} ms, {lanes} lanes: {knee}");
        }
    }
}

#[test]
fn larger_batches_than_the_table_holds_lie_on_the_line() {
    let latency = taught(straight, 1, 500);
    let far = expected(&latency)(1_000);
    assert!((far / straight(1_000) - 1.0).abs() < 0.15, "{far}");
    let slack = latency.cautious(1_000);
    assert!((1_000..1_002).contains(&latency.rows_fitting(slack, u32::MAX)));
}

#[test]
fn an_alien_surface_is_clamped() {
    let alien = Surface {
        base_ns: f64::NAN,
        row_ns: f64::INFINITY,
        spread: -1.0,
        corrections: vec![f32::NAN, -3.0, f32::INFINITY, 1e30],
        samples: u64::MAX,
    };
    let mut latency = Latency::of(&alien, ROWS_MAX);
    assert_eq!(latency.per_row(), Duration::from_secs(60));
    assert_eq!(latency.surface().corrections.len(), 64);
    assert_eq!(latency.surface().corrections[4..], [1.0; 60]);
    teach(&mut latency, straight, &mut Dice::new(1), (ROWS_MAX, 1_000));
    let mean = mean_error(expected(&latency), straight);
    assert!(mean < 0.08, "{mean}");
    let long = Surface { corrections: vec![1.0; 1_000], ..alien };
    assert_eq!(Latency::of(&long, ROWS_MAX).surface().corrections.len(), 64);
}

#[test]
fn a_surface_survives_being_written_and_read() -> serde_json::Result<()> {
    let latency = taught(stepped, 1, 2_000);
    let surface: Surface = serde_json::from_str(&serde_json::to_string(&latency.surface())?)?;
    assert_eq!(surface.corrections, latency.surface().corrections);
    let again = Latency::of(&surface, ROWS_MAX);
    assert!(worst_error(expected(&again), expected(&latency)) < 0.1);
    let more = r#"{"base_ns":1,"row_ns":1,"spread":0,"corrections":[],"samples":1,"owner":"x"}"#;
    assert!(serde_json::from_str::<Surface>(more).is_err());
    Ok(())
}

#[test]
fn a_remembered_surface_yields_to_what_is_seen() {
    let remembered = taught(straight, 1, 2_000).surface();
    let mut latency = Latency::of(&remembered, ROWS_MAX);
    let service = |rows: u32| 3.0 * straight(rows);
    teach(&mut latency, service, &mut Dice::new(2), (ROWS_MAX, 10));
    assert!(mean_error(expected(&latency), service) < 0.12);
}

#[test]
fn learning_and_asking_allocate_nothing() {
    let mut latency = Latency::new(ROWS_MAX);
    let mut dice = Dice::new(1);
    let counted = allocation_counter::measure(|| {
        for factor in [1.0, 3.0] {
            teach(&mut latency, |rows| factor * straight(rows), &mut dice, (ROWS_MAX, 1_000));
            let fitting = latency.rows_fitting(Duration::from_millis(5), 64);
            let knee = latency.knee(Duration::from_millis(15), 1, 64);
            assert!(fitting <= 64 && knee <= 64);
        }
    });
    assert_eq!(counted.count_total, 0);
}
