//! Lengths that may be mixed: who shares a run, and what padding costs.

use std::sync::Arc;
use std::time::Duration;

use servekit_core::{Batch, Mode, Pending, Policy, Ragged, Tensor};
use servekit_testing::{Dice, Inbox, fp32};

use crate::policy;
use crate::service::{Fate, RunTime, Service};

/// One input of [rows, length], to be padded to at most 512.
fn ragged() -> Arc<Ragged> {
    Arc::new(Ragged { inputs: [Some(1)].into(), outputs: [Some(1)].into(), length_max: 512, masks: [].into() })
}

fn mixing(target_ms: u64) -> Policy {
    let (ragged, target) = (Some(ragged()), Duration::from_millis(target_ms));
    Policy { ragged, target, requests_max: 10_000, bytes_max: 1 << 30, ..policy(64) }
}

fn of_length(length: i64) -> Tensor {
    fp32(&[1, length], &vec![0.0; length as usize])
}

fn longest(batch: &Batch) -> i64 {
    batch.items.iter().filter_map(|item| item.inputs()[0].as_ref()).map(|input| input.shape[1]).max().unwrap_or(0)
}

/// Microseconds for a run and for each position, padding included.
fn positions(base_us: f64, position_us: f64) -> RunTime {
    Box::new(move |batch| {
        let positions = f64::from(batch.rows) * longest(batch) as f64;
        Duration::from_secs_f64((base_us + position_us * positions) * 1e-6)
    })
}

/// Log-normal lengths of median 48, cut at 512.
fn length(dice: &mut Dice) -> i64 {
    (48.0 * (0.8 * dice.normal()).exp()).clamp(1.0, 512.0) as i64
}

fn load(service: &mut Service, per_s: f64, time: Duration, seed: u64) {
    let mut dice = Dice::new(seed);
    let mut at = service.elapsed();
    let until = at + time;
    while at < until {
        at += Duration::from_secs_f64(dice.gap(per_s));
        service.advance_to(at);
        let length = length(&mut dice);
        let mut pending = service.inbox.request([of_length(length)], service.clock.now());
        pending.deadline = service.clock.now() + service.batcher.policy().target;
        service.offer(pending);
    }
}

/// 80 us and 0.2 us for a position: some 73,000 such rows a second at most.
fn text(mode: Mode) -> Service {
    Service::new(Policy { mode, ..mixing(10) }, positions(80.0, 0.2))
}

fn waste(service: &mut Service) -> f64 {
    let padding = service.batcher.take_padding();
    padding.padded as f64 / (padding.useful + padding.padded) as f64
}

#[test]
fn padding_wastes_less_than_a_sixth_of_what_is_computed() {
    for per_s in [18_000.0, 36_000.0, 54_000.0] {
        let mut service = text(Mode::Auto);
        load(&mut service, per_s, Duration::from_millis(100), 1);
        service.batcher.take_padding();
        load(&mut service, per_s, Duration::from_millis(500), 2);
        service.finish_all();
        let waste = waste(&mut service);
        assert!(waste <= 0.15, "{per_s}: {waste}");
        let goodput = service.goodput(Duration::from_millis(100), Duration::from_millis(600));
        assert!(goodput >= 0.995, "{per_s}: {goodput}");
    }
}

#[test]
fn lengths_that_are_asked_for_too_often_are_not_mixed_and_most_are_served() {
    let mut service = text(Mode::Late);
    load(&mut service, 90_000.0, Duration::from_millis(100), 1);
    service.batcher.take_padding();
    load(&mut service, 90_000.0, Duration::from_millis(400), 2);
    service.finish_all();
    let goodput = service.goodput(Duration::from_millis(200), Duration::from_millis(480));
    assert!(goodput >= 0.68, "{goodput}");
    assert!(waste(&mut service) <= 0.15);
}

/// What waits when the only lane comes back.
fn batch_of(policy: Policy, inputs: impl IntoIterator<Item = Pending>) -> Vec<Batch> {
    let now = std::time::Instant::now();
    let mut batcher = servekit_core::Batcher::new("fake", policy);
    for pending in inputs {
        batcher.offer(pending, now).expect("room");
    }
    let mut answers = servekit_core::Answers::default();
    let mut batches = Vec::new();
    loop {
        let mut batch = Batch::default();
        if batcher.next(now, &mut batch, &mut answers) != servekit_core::Next::Run {
            return batches;
        }
        batches.push(batch);
    }
}

#[test]
fn neighbouring_lengths_share_a_run_and_other_shapes_never_do() {
    let (inbox, now) = (Inbox::new(), std::time::Instant::now());
    let wide = |length: i64| fp32(&[1, length, 2], &vec![0.0; 2 * length as usize]);
    let requests = [of_length(40), wide(40), of_length(41), wide(39), of_length(40)];
    let batches = batch_of(mixing(0), requests.map(|tensor| inbox.request([tensor], now)));
    let ranks: Vec<Vec<usize>> = batches
        .iter()
        .map(|batch| batch.items.iter().filter_map(|item| item.inputs()[0].as_ref()).map(|x| x.shape.len()).collect())
        .collect();
    assert_eq!(ranks, [vec![2, 2, 2], vec![3, 3]]);
}

#[test]
fn lengths_past_those_that_were_proved_are_served_by_themselves() {
    let (inbox, now) = (Inbox::new(), std::time::Instant::now());
    let requests = [500, 600, 601, 510, 600].map(|length| inbox.request([of_length(length)], now));
    let mut batches: Vec<Vec<i64>> = batch_of(mixing(0), requests)
        .iter()
        .map(|batch| batch.items.iter().filter_map(|item| item.inputs()[0].as_ref()).map(|x| x.shape[1]).collect())
        .collect();
    batches.sort();
    assert_eq!(batches, [vec![500, 510], vec![600, 600], vec![601]]);
}

#[test]
fn without_load_lengths_are_mixed_only_as_far_as_padding_allows() {
    let mut service = text(Mode::Auto);
    load(&mut service, 3_000.0, Duration::from_secs(2), 1);
    service.finish_all();
    assert!(service.offered.iter().all(|offered| offered.fate == Some(Fate::Served { late: false })));
    assert!(waste(&mut service) <= 0.15);
}

#[test]
fn what_was_learned_of_each_length_is_known_after_a_restart() {
    let mut service = Service::new(mixing(40), positions(500.0, 3.0));
    load(&mut service, 300.0, Duration::from_millis(4_000), 5);
    service.finish_all();
    let learned = service.batcher.surfaces();
    assert!(learned.len() > 3, "{}", learned.len());
    let policy = Policy {
        surface: Some(learned[0].surface.clone()),
        class_surfaces: learned.iter().skip(1).cloned().collect(),
        ..mixing(40)
    };
    let mut again = Service::new(policy, positions(500.0, 3.0));
    for known in &learned[1..] {
        let length = known.length.expect("lengths are told apart") as i64;
        let pending = again.inbox.request([of_length(length)], again.clock.now());
        again.offer(pending);
    }
    let known = again.batcher.surfaces();
    for of_class in &learned[1..] {
        let found = known.iter().find(|known| (known.length, &known.shape) == (of_class.length, &of_class.shape));
        assert_eq!(found.map(|found| found.surface.samples > 0), Some(true), "{of_class:?}");
    }
    again.finish_all();
}
