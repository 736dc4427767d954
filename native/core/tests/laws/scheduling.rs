//! Several models behind one Scheduler.

use std::time::Duration;

use proptest::prelude::*;
use servekit_core::{Answers, Batch, Model, ModelKey, Next, Policy, Queued, Reason, Refusal, Scheduler, execute};
use servekit_testing::{Clock, FakeModel, Inbox, contract_of_rows};

use crate::{policy, rows};

struct Bench {
    clock: Clock,
    inbox: Inbox,
    scheduler: Scheduler,
    answers: Answers,
}

/// Models of four rows a batch, on so many cores.
fn bench(requests_max: usize, policies: impl IntoIterator<Item = Policy>, cores: u32) -> Bench {
    let mut scheduler = Scheduler::new(requests_max, cores);
    for (key, policy) in policies.into_iter().enumerate() {
        scheduler.add(ModelKey(key as u32), format!("model{key}"), policy);
    }
    Bench { clock: Clock::new(), inbox: Inbox::new(), scheduler, answers: Answers::default() }
}

fn lanes(lanes: u32, cores: u32) -> Policy {
    Policy { lanes, cores, ..policy(4) }
}

impl Bench {
    fn offer(&mut self, key: u32) -> Result<(), Reason> {
        self.offer_within(key, Duration::from_secs(3_600))
    }

    fn offer_within(&mut self, key: u32, time: Duration) -> Result<(), Reason> {
        let mut pending = self.inbox.request([rows(&[1.0])], self.clock.now());
        pending.deadline = self.clock.now() + time;
        self.scheduler.offer(ModelKey(key), pending, self.clock.now()).map_err(|refused| {
            refused.pending.caller.dismiss();
            refused.refusal.reason
        })
    }

    /// The batch that is next.
    fn take(&mut self) -> Option<Batch> {
        let mut batch = Batch::default();
        let next = self.scheduler.next(self.clock.now(), &mut batch, &mut self.answers);
        self.answers.send();
        (next == Next::Run).then_some(batch)
    }

    /// Runs a batch, which takes this long.
    fn run(&mut self, mut batch: Batch, time: Duration) {
        let model = FakeModel::new(contract_of_rows(1));
        model.take_time(&self.clock, time);
        let clock = self.clock.clone();
        let report = execute(&mut *model.lane(), model.contract(), &mut batch, &|| clock.now(), &mut self.answers);
        self.answers.send();
        self.scheduler.ran(batch.key, &report, report.ended_at);
    }

    /// The model whose batch is next, with its rows; it runs in no time.
    fn next(&mut self) -> Option<(u32, u32)> {
        let batch = self.take()?;
        let found = (batch.key.0, batch.rows);
        self.run(batch, Duration::ZERO);
        Some(found)
    }
}

#[test]
fn the_model_whose_request_can_wait_least_runs_next() {
    let urgent = || Policy { target: Duration::from_secs(1), ..policy(4) };
    let mut bench = bench(100, [urgent(), urgent(), urgent()], 1);
    for (key, milliseconds) in [(2, 500), (0, 900), (1, 300), (2, 800)] {
        bench.offer_within(key, Duration::from_millis(milliseconds)).expect("room");
    }
    assert_eq!(
        [bench.next(), bench.next(), bench.next(), bench.next()],
        [Some((1, 1)), Some((2, 2)), Some((0, 1)), None]
    );
    assert_eq!(bench.scheduler.queued(), Queued::default());
}

#[test]
fn a_model_without_a_free_lane_is_passed_over() {
    let mut bench = bench(100, [lanes(1, 1), lanes(2, 1)], 4);
    (0..4).for_each(|_| bench.offer_within(0, Duration::from_millis(100)).expect("room"));
    bench.offer(1).expect("room");
    let first = bench.take().expect("a lane is free");
    assert_eq!((first.key, first.rows), (ModelKey(0), 4));
    bench.offer_within(0, Duration::from_millis(100)).expect("room");
    let second = bench.take().expect("the other model has lanes");
    assert_eq!(second.key, ModelKey(1));
    assert!(bench.take().is_none() && !bench.scheduler.has_work(bench.clock.now()));
    bench.run(first, Duration::from_millis(1));
    assert!(bench.scheduler.has_work(bench.clock.now()));
    assert_eq!(bench.next(), Some((0, 1)));
    bench.scheduler.abandon(second.key, second.run, bench.clock.now());
    assert!(bench.scheduler.is_idle(ModelKey(0)) && bench.scheduler.is_idle(ModelKey(1)));
}

#[test]
fn runs_never_keep_more_cores_busy_than_there_are() {
    let mut bench = bench(100, [lanes(2, 2), lanes(2, 1), lanes(1, 9)], 2);
    bench.offer_within(0, Duration::from_millis(10)).expect("room");
    let wide = bench.take().expect("two cores are free");
    bench.offer(1).expect("room");
    bench.offer(2).expect("room");
    assert!(bench.take().is_none(), "no core is free");
    bench.run(wide, Duration::from_millis(1));
    let narrow = bench.take().expect("two cores are free");
    assert_eq!(narrow.key, ModelKey(1));
    assert!(bench.take().is_none(), "one core is too few for a run that takes all");
    bench.run(narrow, Duration::from_millis(1));
    assert_eq!(bench.take().map(|batch| batch.key), Some(ModelKey(2)), "who asks for more than there are gets all");
}

#[test]
fn the_last_leg_that_has_something_to_do_goes_before_the_others() {
    let urgent = || Policy { target: Duration::from_secs(1), ..policy(4) };
    let mut bench = bench(100, [urgent(), urgent(), urgent(), urgent()], 1);
    bench.scheduler.join(ModelKey(1), ModelKey(0));
    bench.scheduler.join(ModelKey(2), ModelKey(0));
    for (key, milliseconds) in [(0, 300), (1, 500), (2, 900), (3, 400)] {
        bench.offer_within(key, Duration::from_millis(milliseconds)).expect("room");
    }
    let order: Vec<u32> = std::iter::from_fn(|| bench.next()).map(|(key, _)| key).collect();
    // The model with the legs is first by its most urgent request, then the other one is.
    assert_eq!(order, [2, 1, 0, 3]);
}

#[test]
fn legs_of_a_model_have_one_share_of_the_cores() {
    // Models 1 and 2 are legs of 0, and 3 is a model of its own; all always have work.
    let mut bench = bench(1_000, [policy(4), policy(4), policy(4), policy(4)], 1);
    bench.scheduler.join(ModelKey(1), ModelKey(0));
    bench.scheduler.join(ModelKey(2), ModelKey(0));
    let mut turns = [0_u32; 4];
    (0..4).for_each(|key| bench.offer(key).expect("room"));
    for _ in 0..200 {
        let batch = bench.take().expect("a lane is free");
        let key = batch.key.0;
        turns[key as usize] += 1;
        bench.run(batch, Duration::from_millis(10));
        bench.offer(key).expect("room");
    }
    assert!((95..=105).contains(&turns[3]), "{turns:?}");
}

#[test]
fn a_model_that_was_idle_does_not_get_back_what_it_left_unused() {
    let mut bench = bench(1_000, [policy(4), policy(4)], 1);
    for _ in 0..50 {
        bench.offer(0).expect("room");
        let batch = bench.take().expect("a lane is free");
        bench.offer(0).expect("room");
        bench.run(batch, Duration::from_millis(10));
        bench.next();
        bench.offer(0).expect("room");
    }
    let mut turns = [0_u32; 2];
    for _ in 0..20 {
        bench.offer_within(1, Duration::from_millis(50)).expect("room");
        bench.offer(0).expect("room");
        let batch = bench.take().expect("a lane is free");
        turns[batch.key.0 as usize] += 1;
        bench.run(batch, Duration::from_millis(10));
    }
    assert!(turns[0] >= 8, "{turns:?}");
}

#[test]
fn all_queues_together_hold_as_many_as_allowed_and_not_one_more() {
    let mut bench = bench(2, [policy(4), policy(4)], 1);
    assert_eq!([bench.offer(0), bench.offer(1), bench.offer(1)], [Ok(()), Ok(()), Err(Reason::QueueFull)]);
    assert_eq!(bench.scheduler.queued(), Queued { requests: 2, rows: 2, bytes: 8 });
    bench.next();
    assert_eq!(bench.offer(1), Ok(()));
}

#[test]
fn a_model_that_closes_answers_its_own_and_takes_no_more() {
    let mut bench = bench(100, [policy(4), policy(4)], 1);
    for key in [0, 1, 0] {
        bench.offer(key).expect("room");
    }
    bench.scheduler.close(ModelKey(0), &Refusal::new(Reason::ModelLoading, "unloaded"), &mut bench.answers);
    bench.answers.send();
    let answers = bench.inbox.answers();
    assert_eq!(answers.len(), 2);
    assert_eq!(bench.offer(0), Err(Reason::ModelLoading));
    assert_eq!(bench.scheduler.queued().requests, 1);
    assert_eq!(bench.next(), Some((1, 1)));
}

#[test]
fn cores_of_a_model_that_closes_while_it_runs_come_back_once() {
    let mut bench = bench(100, [policy(4), policy(4)], 1);
    bench.offer(0).expect("room");
    let running = bench.take().expect("a lane is free");
    bench.scheduler.close(ModelKey(0), &Refusal::new(Reason::ModelLoading, "unloaded"), &mut bench.answers);
    bench.run(running, Duration::from_millis(1));
    bench.offer(1).expect("room");
    let batch = bench.take().expect("the core is free");
    bench.offer(1).expect("room");
    assert!(bench.take().is_none());
    bench.run(batch, Duration::ZERO);
    assert_eq!(bench.next(), Some((1, 1)));
}

#[test]
fn leavers_of_one_model_do_not_hold_up_another() {
    let mut bench = bench(100, [policy(4), policy(4)], 1);
    let pending = bench.inbox.request([rows(&[1.0])], bench.clock.now());
    let ticket = pending.caller.ticket();
    bench.scheduler.offer(ModelKey(0), pending, bench.clock.now()).expect("room");
    bench.clock.advance_ms(1);
    bench.offer(1).expect("room");
    bench.inbox.leave(ticket);
    assert_eq!(bench.next(), Some((1, 1)));
    bench.scheduler.leave(ModelKey(0), 4, bench.clock.now());
    assert_eq!(bench.next(), None);
    assert_eq!(bench.scheduler.queued(), Queued::default());
}

#[test]
fn a_queue_that_is_open_is_not_opened_again() {
    let mut bench = bench(100, [policy(4)], 1);
    bench.offer(0).expect("room");
    bench.scheduler.add(ModelKey(0), "model0", policy(1));
    assert_eq!(bench.next(), Some((0, 1)));
    assert_eq!(bench.scheduler.batcher(ModelKey(0)).expect("open").policy().rows_max, 4);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the models' run times, two that always have work differ in core time by a quantum and a batch at most.
    #[test]
    fn models_that_always_have_work_get_equal_core_time(times_us in [200_u64..20_000, 200_u64..20_000]) {
        let mut bench = bench(1_000, [policy(4), policy(4)], 1);
        let mut had = [Duration::ZERO; 2];
        for _ in 0..200 {
            for key in 0..2 {
                let within = Duration::from_millis([3_600_000, 5][key as usize]);
                if bench.scheduler.batcher(ModelKey(key)).is_some_and(|batcher| batcher.queued().requests < 2) {
                    prop_assert_eq!(bench.offer_within(key, within), Ok(()));
                }
            }
            if let Some(batch) = bench.take() {
                let model = batch.key.0 as usize;
                let time = Duration::from_micros(times_us[model]);
                bench.run(batch, time);
                had[model] += time;
            }
            let longest = Duration::from_micros(times_us[0].max(times_us[1]));
            let allowed = Duration::from_millis(2).max(longest * 2) + longest;
            prop_assert!(had[0].abs_diff(had[1]) <= allowed, "{had:?} of {times_us:?}");
        }
    }
}
