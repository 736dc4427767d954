//! A rule that is left out is not followed, and nothing else changes.

use std::time::Duration;

use servekit_core::{Mode, Policy, Rules, Shed, ShedCounts};

use crate::service::{Fate, Service, linear};
use crate::slackline::{CAPACITY, gpu, load, warm, with_target};
use crate::{in_ms, policy, rows};

/// Twice what can be served, for a second, by these rules.
fn overloaded(rules: Rules) -> (Service, ShedCounts) {
    let mut service = gpu(Policy { mode: Mode::Late, rules, ..with_target(64) });
    warm(&mut service);
    service.batches.clear();
    service.batcher.take_shed();
    load(&mut service, 2.0 * CAPACITY, in_ms(1_250), 11);
    service.finish_all();
    let shed = service.batcher.take_shed();
    (service, shed)
}

/// Half of what four lanes can serve, for a second.
fn half_loaded(lanes: u32, rules: Rules) -> Service {
    let mut service = gpu(Policy { lanes, rules, ..with_target(64) });
    warm(&mut service);
    load(&mut service, 0.5 * f64::from(lanes) * CAPACITY, in_ms(1_250), 3);
    service.finish_all();
    service
}

fn fates(service: &Service) -> Vec<Option<Fate>> {
    service.offered.iter().map(|offered| offered.fate).collect()
}

#[test]
fn whoever_serves_follows_all_rules() {
    assert_eq!(policy(64).rules, Rules::ALL);
    assert_eq!(Rules::default(), Rules { slack: true, window: true, hold: true, change: true, clamp: true });
}

#[test]
fn without_the_window_the_first_go_first_and_the_dead_are_served() {
    let (whole, shed) = overloaded(Rules::ALL);
    assert!(whole.goodput(in_ms(400), in_ms(1_200)) > 0.45 && shed.of(Shed::Window) > 0);
    let (ablated, shed) = overloaded(Rules { window: false, ..Rules::ALL });
    assert!(ablated.goodput(in_ms(400), in_ms(1_200)) < 0.2);
    assert_eq!(shed.of(Shed::Window), 0);
}

#[test]
fn without_the_bound_of_its_slack_all_that_fits_leaves() {
    // Sixty rows gather while a single one runs for 2.1 ms, and 3 ms are left to the first of them then.
    let batch_of_the_urgent = |rules| {
        let mut service = gpu(Policy { rules, ..with_target(64) });
        warm(&mut service);
        let before = service.batches.len();
        for place in 0..61_u64 {
            let mut pending = service.inbox.request([rows(&[0.0])], service.clock.now());
            pending.deadline = service.clock.now() + Duration::from_micros(if place == 1 { 5_100 } else { 30_000 });
            service.offer(pending);
        }
        service.finish_all();
        service.batches[before + 1]
    };
    assert!((5..12).contains(&batch_of_the_urgent(Rules::ALL)));
    assert_eq!(batch_of_the_urgent(Rules { slack: false, ..Rules::ALL }), 60);
}

#[test]
fn without_the_hold_a_free_lane_takes_what_there_is() {
    let ablated = Rules { hold: false, ..Rules::ALL };
    assert!(half_loaded(4, ablated).batches.len() > half_loaded(4, Rules::ALL).batches.len());
    let mut service = gpu(Policy { lanes: 4, rules: ablated, ..with_target(64) });
    warm(&mut service);
    let pending = service.inbox.request([rows(&[0.0])], service.clock.now());
    let (before, now) = (service.batches.len(), service.elapsed());
    service.offer(pending);
    assert_eq!((service.batches.len(), service.elapsed()), (before + 1, now));
    service.finish_all();
}

#[test]
fn one_lane_is_the_same_with_and_without_the_hold() {
    let [whole, ablated] = [Rules::ALL, Rules { hold: false, ..Rules::ALL }].map(|rules| half_loaded(1, rules));
    assert_eq!(whole.batches, ablated.batches);
    assert_eq!(fates(&whole), fates(&ablated));
}

#[test]
fn rules_of_learning_reach_the_estimates() {
    let spread = |rules| {
        let mut service = Service::new(Policy { rules, ..with_target(64) }, linear(2_000.0, 100.0));
        warm(&mut service);
        load(&mut service, 0.3 * CAPACITY, in_ms(300), 3);
        service.stall(Duration::from_secs(1));
        service.finish_all();
        service.batcher.estimate().surfaces[0].surface.spread
    };
    assert!(spread(Rules { clamp: false, ..Rules::ALL }) > 2.0 * spread(Rules::ALL));
}
