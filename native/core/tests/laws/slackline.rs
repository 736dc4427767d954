//! With a target: who can still be answered in time is, whoever else asks.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use servekit_core::{Mode, Patience, Policy, Reason, Shed};
use servekit_testing::Dice;

use crate::service::{Fate, Pace, Service, linear};
use crate::{in_ms, policy, rows};

/// 2 ms for a run and 0.1 ms for each row, to be answered within 15 ms: 54 rows are the best batch, 7,297 a second the
/// most that one lane can serve in time.
pub(crate) const CAPACITY: f64 = 7_297.0;
const TARGET: Duration = Duration::from_millis(15);

pub(crate) fn with_target(rows_max: u32) -> Policy {
    Policy { target: TARGET, requests_max: 10_000, ..policy(rows_max) }
}

pub(crate) fn gpu(policy: Policy) -> Service {
    Service::new(policy, linear(2_000.0, 100.0))
}

/// Requests of one row that may take as long as the target, until this time.
pub(crate) fn load(service: &mut Service, per_s: f64, until: Duration, seed: u64) {
    load_mixed(service, per_s, until, |_, _| {}, seed);
}

/// The same, each changed by the test.
fn load_mixed(
    service: &mut Service,
    per_s: f64,
    until: Duration,
    change: impl Fn(&mut Dice, &mut servekit_core::Pending),
    seed: u64,
) {
    let mut dice = Dice::new(seed);
    let mut at = service.elapsed();
    loop {
        at += Duration::from_secs_f64(dice.gap(per_s));
        if at >= until {
            return service.advance_to(until);
        }
        service.advance_to(at);
        let mut pending = service.inbox.request([rows(&[0.0])], service.clock.now());
        pending.deadline = service.clock.now() + service.batcher.policy().target;
        change(&mut dice, &mut pending);
        service.offer(pending);
    }
}

/// Enough runs to know how long they take.
pub(crate) fn warm(service: &mut Service) {
    load(service, CAPACITY / 2.0, in_ms(200), 1);
    service.advance_to(in_ms(250));
}

#[test]
fn what_comes_behind_a_queue_is_reckoned_with() {
    let mut service = gpu(with_target(64));
    assert_eq!(service.batcher.usual_run(), Duration::ZERO, "nothing is known yet");
    warm(&mut service);
    let usual = service.batcher.usual_run();
    assert!((in_ms(2)..in_ms(6)).contains(&usual), "{usual:?}");
    let mut overloaded = |behind: u64| {
        service.batcher.reserve(in_ms(behind));
        let start = service.elapsed();
        service.batches.clear();
        load(&mut service, CAPACITY * 1.5, start + in_ms(500), 5);
        service.finish_all();
        service.batches.iter().sum::<u32>() / service.batches.len() as u32
    };
    // Two runs have to fit into what is left of 15 ms: about 7 ms each, and with 7 ms behind them half as much.
    let (alone, followed) = (overloaded(0), overloaded(7));
    assert!(followed * 3 < alone * 2, "{alone} {followed}");
}

#[test]
fn below_capacity_nobody_is_lost() {
    for (load_share, least) in [(0.3, 1.0), (0.6, 0.995), (0.9, 0.97)] {
        let mut service = gpu(with_target(64));
        warm(&mut service);
        load(&mut service, load_share * CAPACITY, in_ms(2_000), 7);
        service.finish_all();
        let goodput = service.goodput(in_ms(300), in_ms(2_000));
        assert!(goodput >= least, "{load_share}: {goodput}");
    }
}

#[test]
fn overload_serves_nearly_all_that_could_be_served() {
    for mode in [Mode::Late, Mode::FailFast, Mode::Auto] {
        // max n / l(n) over batches whose rows can wait for the run before theirs: within a few points of C / load.
        for (load_share, least) in [(1.1, 0.87), (1.5, 0.66), (3.0, 0.33)] {
            let mut service = gpu(Policy { mode, ..with_target(64) });
            warm(&mut service);
            load(&mut service, load_share * CAPACITY, in_ms(2_000), 11);
            service.finish_all();
            let goodput = service.goodput(in_ms(400), in_ms(1_900));
            assert!(goodput >= least, "{mode:?} {load_share}: {goodput}");
        }
    }
}

#[test]
fn goodput_is_back_within_five_targets_of_a_stall() {
    for mode in [Mode::Late, Mode::FailFast] {
        let mut service = gpu(Policy { mode, ..with_target(64) });
        warm(&mut service);
        load(&mut service, 0.9 * CAPACITY, in_ms(600), 3);
        service.stall(20 * TARGET);
        let back = in_ms(600) + 25 * TARGET;
        load(&mut service, 0.9 * CAPACITY, back + in_ms(400), 5);
        service.finish_all();
        let goodput = service.goodput(back, back + in_ms(380));
        assert!(goodput >= 0.95, "{mode:?}: {goodput}");
    }
}

#[test]
fn a_pace_that_doubles_is_learned_and_not_fought() {
    let pace = Pace::new(std::cell::Cell::new(1.0));
    let shared = Pace::clone(&pace);
    let run_time = move |batch: &servekit_core::Batch| {
        Duration::from_secs_f64(shared.get() * (2_000.0 + 100.0 * f64::from(batch.rows)) * 1e-6)
    };
    let mut service = Service::new(with_target(64), Box::new(run_time));
    warm(&mut service);
    load(&mut service, 0.6 * CAPACITY, in_ms(800), 3);
    pace.set(2.0);
    load(&mut service, 0.6 * CAPACITY, in_ms(1_600), 4);
    pace.set(1.0);
    load(&mut service, 0.6 * CAPACITY, in_ms(2_400), 5);
    service.finish_all();
    // At half the pace, 4 ms + 0.2 ms a row leave 17 rows within the target: 2,350 rows of 4,378 asked for.
    let slow = service.goodput(in_ms(1_000), in_ms(1_600));
    assert!(slow >= 0.46, "{slow}");
    let again = service.goodput(in_ms(1_700), in_ms(2_300));
    assert!(again >= 0.97, "{again}");
}

#[test]
fn without_a_target_all_are_served_in_order_of_arrival() {
    let mut service = gpu(Policy { target: Duration::ZERO, ..with_target(64) });
    let far = |_: &mut Dice, pending: &mut servekit_core::Pending| pending.deadline += Duration::from_secs(60);
    load_mixed(&mut service, 0.9 * CAPACITY, in_ms(500), far, 3);
    service.finish_all();
    assert!(service.offered.iter().all(|offered| offered.fate == Some(Fate::Served { late: false })));
    assert_eq!(service.batcher.take_shed().total(), 0);
}

#[test]
fn what_was_shed_is_counted_by_its_reason() {
    let mut service = gpu(Policy { mode: Mode::Late, ..with_target(64) });
    warm(&mut service);
    service.batcher.take_shed();
    let before = service.offered.len();
    load(&mut service, 2.0 * CAPACITY, in_ms(600), 3);
    service.finish_all();
    let shed = service.batcher.take_shed();
    let refused = service.offered[before..].iter().filter(|offered| matches!(offered.fate, Some(Fate::Refused(_))));
    assert_eq!(shed.total(), refused.count() as u64);
    assert!(shed.of(Shed::Window) > shed.total() / 2, "{shed:?}");
    assert_eq!(service.batcher.take_shed().total(), 0);
}

#[test]
fn failing_fast_tells_nearly_all_at_once() {
    let mut service = gpu(Policy { mode: Mode::FailFast, ..with_target(64) });
    warm(&mut service);
    service.batcher.take_shed();
    load(&mut service, 2.0 * CAPACITY, in_ms(800), 3);
    service.finish_all();
    let shed = service.batcher.take_shed();
    assert!(shed.of(Shed::Arrival) * 10 >= shed.total() * 6, "{shed:?}");
}

#[test]
fn automatic_is_late_until_much_is_shed_and_again_when_little_is() {
    let mut service = gpu(with_target(64));
    warm(&mut service);
    assert!(!service.batcher.estimate().is_failing_fast);
    load(&mut service, 2.0 * CAPACITY, in_ms(800), 3);
    let estimate = service.batcher.estimate();
    assert!(estimate.is_failing_fast && estimate.shed_share > 0.2, "{estimate:?}");
    load(&mut service, 0.5 * CAPACITY, in_ms(2_200), 4);
    assert!(!service.batcher.estimate().is_failing_fast);
    service.finish_all();
}

#[test]
fn the_high_class_is_served_while_the_low_one_fills_what_is_left() {
    let mut service = gpu(with_target(64));
    warm(&mut service);
    let classes =
        |dice: &mut Dice, pending: &mut servekit_core::Pending| pending.priority = u8::from(dice.roll() > 0.3);
    load_mixed(&mut service, 1.3 * CAPACITY, in_ms(2_000), classes, 9);
    service.finish_all();
    let of = |priority| service.goodput_of(in_ms(400), in_ms(1_900), |offered| offered.priority == priority);
    assert!(of(0) >= 0.98, "{}", of(0));
    assert!(of(1) >= 0.58, "{}", of(1));
}

#[test]
fn a_flood_of_the_high_class_leaves_the_low_one_its_share() {
    let mut service = gpu(with_target(64));
    warm(&mut service);
    let classes =
        |dice: &mut Dice, pending: &mut servekit_core::Pending| pending.priority = u8::from(dice.roll() > 0.8);
    load_mixed(&mut service, 3.0 * CAPACITY, in_ms(2_000), classes, 9);
    service.finish_all();
    let served = |priority: u8| {
        let of = |offered: &&crate::service::Offered| {
            offered.at > in_ms(400) && offered.priority == priority && matches!(offered.fate, Some(Fate::Served { .. }))
        };
        service.offered.iter().filter(of).count() as f64
    };
    let share = served(1) / (served(0) + served(1));
    assert!(share >= 0.045, "{share}");
}

#[test]
fn several_lanes_hold_small_batches_and_make_nobody_late() {
    let mut service = gpu(Policy { lanes: 4, ..with_target(64) });
    warm(&mut service);
    load(&mut service, 4.0 * 0.5 * CAPACITY, in_ms(1_500), 3);
    service.finish_all();
    let goodput = service.goodput(in_ms(300), in_ms(1_500));
    assert!(goodput >= 0.995, "{goodput}");
}

#[test]
fn several_lanes_at_their_capacity_lose_few() {
    // 49 rows fit the target even after waiting for a turn. Who steps aside for a larger batch is often in time for the
    // next lane; were they given up instead, 90 and 89 in a hundred would be served.
    let capacity = 4.0 * 49.0 / 595e-6;
    for (mode, least) in [(Mode::Late, 0.93), (Mode::FailFast, 0.92)] {
        let policy = Policy { mode, lanes: 4, target: Duration::from_micros(752), ..with_target(128) };
        let mut service = Service::new(policy, linear(56.0, 11.0));
        warm(&mut service);
        load(&mut service, 1.02 * capacity, in_ms(310), 3);
        service.finish_all();
        let goodput = service.goodput(in_ms(260), in_ms(309));
        assert!(goodput >= least, "{mode:?}: {goodput}");
    }
}

#[test]
fn nobody_is_refused_while_a_lane_is_free_even_if_the_model_is_too_slow() {
    let mut service = Service::new(with_target(8), linear(40_000.0, 1_000.0));
    for turn in 0..20_u64 {
        service.advance_to(in_ms(turn * 100));
        let mut pending = service.inbox.request([rows(&[0.0])], service.clock.now());
        pending.deadline = service.clock.now() + TARGET;
        service.offer(pending);
    }
    service.finish_all();
    assert!(service.offered.iter().all(|offered| offered.fate == Some(Fate::Served { late: true })));
}

#[test]
fn who_is_foreseen_to_be_late_would_have_been_refused_when_offered() {
    for mode in [Mode::FailFast, Mode::Late] {
        let mut service = gpu(Policy { mode, ..with_target(4) });
        warm(&mut service);
        for _ in 0..13 {
            let mut pending = service.inbox.request([rows(&[0.0])], service.clock.now());
            pending.deadline += TARGET;
            service.offer(pending);
        }
        service.batcher.take_shed();
        let now = service.clock.now();
        let mut refused = 0;
        for tenths in 0.. {
            let deadline = now + Duration::from_micros(100 * tenths);
            let foreseen = service.batcher.foresee(0, Patience { since: now, deadline }, now).map_err(|it| it.reason);
            let mut pending = service.inbox.request([rows(&[0.0])], now);
            (pending.deadline, pending.priority) = (deadline, 0);
            service.offer(pending);
            let told = service.offered.last().and_then(|offered| offered.fate);
            assert_eq!(foreseen.err().map(Fate::Refused), told, "{mode:?}: {tenths}");
            if told.is_none() {
                break;
            }
            refused += 1;
        }
        assert!(refused > 10, "{mode:?}: {refused}");
        assert_eq!(service.batcher.take_shed().total(), 2 * refused, "each was counted each time");
        service.finish_all();
    }
}

#[test]
fn a_refusal_says_what_was_predicted_and_when_to_come_back() {
    let mut service = gpu(Policy { mode: Mode::FailFast, ..with_target(4) });
    warm(&mut service);
    for _ in 0..13 {
        let mut pending = service.inbox.request([rows(&[0.0])], service.clock.now());
        pending.deadline += TARGET;
        service.offer(pending);
    }
    let mut pending = service.inbox.request([rows(&[0.0])], service.clock.now());
    pending.deadline = service.clock.now() + in_ms(5);
    let refused = service.batcher.offer(pending, service.clock.now()).expect_err("12 others go before");
    assert_eq!(refused.refusal.reason, Reason::Overloaded);
    let text = &refused.refusal.text;
    assert!(text.starts_with("'fake' would answer in 11 ms, the deadline allows 5.000 ms; retry in 1"), "{text}");
    refused.pending.caller.dismiss();
    service.finish_all();
}

/// A request of the random law.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    gap_us: u32,
    rows: u32,
    priority: u8,
    deadline_us: u32,
    alone: bool,
}

fn arrival() -> impl Strategy<Value = Arrival> {
    let gap_us = prop_oneof![3 => Just(0_u32), 5 => 0..400_u32, 1 => 0..20_000_u32];
    (gap_us, 0..12_u32, 0..4_u8, 100..40_000_u32, proptest::bool::weighted(0.05))
        .prop_map(|(gap_us, rows, priority, deadline_us, alone)| Arrival { gap_us, rows, priority, deadline_us, alone })
}

fn play(service: &mut Service, arrivals: &[Arrival]) {
    let mut at = service.elapsed();
    for arrival in arrivals {
        at += Duration::from_micros(u64::from(arrival.gap_us));
        service.advance_to(at);
        let values: Vec<f32> = (0..arrival.rows).map(|row| row as f32).collect();
        let mut pending = service.inbox.request([rows(&values)], service.clock.now());
        pending.deadline = service.clock.now() + Duration::from_micros(u64::from(arrival.deadline_us));
        pending.priority = arrival.priority;
        pending.alone = arrival.alone;
        service.offer(pending);
    }
    service.finish_all();
}

fn check(strategy: &impl Strategy<Value = (Vec<Arrival>, u32, u8)>, law: impl Fn(Vec<Arrival>, u32, u8)) {
    let config = Config { cases: 192, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let outcome = runner.run(strategy, |(arrivals, lanes, mode)| {
        law(arrivals, lanes, mode);
        Ok(())
    });
    outcome.expect("a law that holds");
}

fn mode_of(number: u8) -> Mode {
    [Mode::Auto, Mode::Late, Mode::FailFast][usize::from(number)]
}

#[test]
fn whoever_is_admitted_is_served_or_told_once_and_never_both() {
    let strategy = (proptest::collection::vec(arrival(), 1..150), 1..4_u32, 0..3_u8);
    check(&strategy, |arrivals, lanes, mode| {
        for is_batched in [true, false] {
            let policy = Policy { lanes, mode: mode_of(mode), batched: is_batched, ..with_target(8) };
            let mut service = Service::new(policy, linear(500.0, 100.0));
            // What each batch is checked for, and that nothing is left, is the service's part.
            play(&mut service, &arrivals);
            let refused = service.offered.iter().filter(|offered| matches!(offered.fate, Some(Fate::Refused(_))));
            assert_eq!(service.batcher.take_shed().total(), refused.count() as u64);
        }
    });
}

#[test]
fn where_runs_take_what_is_expected_nobody_is_served_late() {
    let strategy = (proptest::collection::vec(arrival(), 1..150), 1..4_u32, 0..3_u8);
    check(&strategy, |arrivals, lanes, mode| {
        let mut service = Service::new(Policy { lanes, mode: mode_of(mode), ..with_target(12) }, linear(500.0, 100.0));
        load(&mut service, 2_000.0, in_ms(600), 1);
        service.finish_all();
        let before = service.offered.len();
        let fair: Vec<Arrival> = arrivals
            .into_iter()
            .map(|arrival| Arrival { deadline_us: arrival.deadline_us + 2_000, ..arrival })
            .collect();
        play(&mut service, &fair);
        let late = service.offered[before..].iter().filter(|offered| offered.fate == Some(Fate::Served { late: true }));
        assert_eq!(late.count(), 0);
    });
}

#[test]
fn the_order_of_equals_changes_no_counts() {
    let strategy = (proptest::collection::vec(0..4_u8, 1..120), 1..4_u32, 0..3_u8).prop_map(|(ties, lanes, mode)| {
        let arrival = |priority| Arrival { gap_us: 0, rows: 1, priority, deadline_us: 3_000, alone: false };
        (ties.into_iter().map(arrival).collect(), lanes, mode)
    });
    check(&strategy, |arrivals: Vec<Arrival>, lanes, mode| {
        let counts = |arrivals: &[Arrival]| {
            let mut service =
                Service::new(Policy { lanes, mode: mode_of(mode), ..with_target(8) }, linear(500.0, 100.0));
            load(&mut service, 2_000.0, in_ms(300), 1);
            service.finish_all();
            let before = service.offered.len();
            // A lane is kept busy, so that all of them are there when the next batch forms.
            let first = Arrival { gap_us: 0, rows: 8, priority: 0, deadline_us: 30_000, alone: true };
            play(&mut service, &[&vec![first; lanes as usize], arrivals].concat());
            [0, 1, 2, 3].map(|priority| {
                let of = |offered: &&crate::service::Offered| offered.priority == priority;
                let served = |offered: &&crate::service::Offered| matches!(offered.fate, Some(Fate::Served { .. }));
                service.offered[before..].iter().filter(of).filter(served).count()
            })
        };
        let mut reversed = arrivals.clone();
        reversed.reverse();
        // Whose estimate it is at arrival depends on who came before; what the queue does with them must not.
        if mode_of(mode) == Mode::Late {
            assert_eq!(counts(&arrivals), counts(&reversed));
        }
    });
}
