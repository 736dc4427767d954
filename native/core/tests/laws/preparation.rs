//! Requests that are prepared before they can be in a batch.

use std::time::Duration;

use servekit_core::{
    Answers, Batch, Mode, Model, ModelKey, Next, Pending, Policy, Reason, Refusal, Report, Run, Scheduler, Shed,
    Surface, Ticket, Turn, execute,
};
use servekit_testing::{Clock, FakeModel, Inbox, contract_of_rows};

use crate::{in_ms, policy, rows};

const MODEL: ModelKey = ModelKey(0);
const OTHER: ModelKey = ModelKey(1);

/// A model that prepares, and another that does not.
struct Bench {
    clock: Clock,
    inbox: Inbox,
    scheduler: Scheduler,
    batch: Batch,
    answers: Answers,
}

/// Four rows a batch; runs take 10 ms and 1 ms a row.
fn learned(policy: Policy) -> Policy {
    let surface = Surface { base_ns: 10e6, row_ns: 1e6, spread: 0.0, corrections: Vec::new(), samples: 100 };
    Policy { surface: Some(surface), ..policy }
}

fn targeted(target_ms: u64, mode: Mode) -> Policy {
    Policy { target: in_ms(target_ms), mode, ..learned(policy(4)) }
}

impl Bench {
    fn new(policy: Policy, cores: u32) -> Self {
        let mut scheduler = Scheduler::new(1_000, cores);
        scheduler.add(MODEL, "prepares", policy);
        scheduler.prepare(MODEL);
        let (batch, answers) = (Batch::default(), Answers::default());
        Self { clock: Clock::new(), inbox: Inbox::new(), scheduler, batch, answers }
    }

    fn offer_to(&mut self, key: ModelKey, time: Duration) -> Result<Ticket, Refusal> {
        let mut pending = self.inbox.request([rows(&[1.0])], self.clock.now());
        pending.deadline = self.clock.now() + time;
        let ticket = pending.caller.ticket();
        self.scheduler.offer(key, pending, self.clock.now()).map(|()| ticket).map_err(|refused| {
            refused.pending.caller.dismiss();
            refused.refusal
        })
    }

    fn offer(&mut self, time_ms: u64) -> Result<Ticket, Refusal> {
        self.offer_to(MODEL, in_ms(time_ms))
    }

    fn offer_many(&mut self, count: usize, time_ms: u64) {
        for _ in 0..count {
            self.offer(time_ms).expect("there is room");
        }
    }

    fn turn(&mut self) -> Turn {
        let turn = self.scheduler.turn(self.clock.now(), &mut self.batch, &mut self.answers);
        self.answers.send();
        turn
    }

    /// The request that is to be prepared now.
    fn take(&mut self) -> Box<Pending> {
        match self.turn() {
            Turn::Prepare(MODEL, pending) => pending,
            other => panic!("a preparation is next, not {other:?}"),
        }
    }

    /// A preparation that took this long.
    fn give(&mut self, pending: Box<Pending>, took_ms: u64) {
        self.clock.advance_ms(took_ms);
        self.scheduler.prepared(MODEL, pending, in_ms(took_ms), self.clock.now()).expect("in time");
    }

    fn prepare(&mut self, took_ms: u64) {
        let pending = self.take();
        self.give(pending, took_ms);
    }

    /// Runs the batch that is next; says how many requests are in it.
    fn run(&mut self) -> usize {
        assert!(matches!(self.turn(), Turn::Run));
        let requests = self.batch.items.len();
        self.finish();
        requests
    }

    fn finish(&mut self) -> Report {
        let model = FakeModel::new(contract_of_rows(1));
        let clock = self.clock.clone();
        let report =
            execute(&mut *model.lane(), model.run_contract(), &mut self.batch, &|| clock.now(), &mut self.answers);
        self.answers.send();
        self.scheduler.ran(self.batch.key, &report, report.ended_at);
        report
    }

    fn reasons(&mut self) -> Vec<Option<Reason>> {
        self.inbox.answers().iter().map(|answer| answer.outcome.as_ref().err().map(|refusal| refusal.reason)).collect()
    }

    fn shed(&mut self, shed: Shed) -> u64 {
        self.scheduler.batcher_mut(MODEL).expect("it is open").take_shed().of(shed)
    }

    fn assert_idle(&self) {
        assert_eq!(self.scheduler.queued().requests, 0);
        assert!(self.scheduler.is_idle(MODEL) && !self.scheduler.has_work(self.clock.now()));
    }
}

#[test]
fn what_was_prepared_runs_and_what_was_not_does_not() {
    let mut bench = Bench::new(policy(4), 1);
    bench.offer(1_000).expect("there is room");
    let pending = bench.take();
    assert!(matches!(bench.turn(), Turn::Idle), "it is out, and its core is busy");
    assert!(!bench.scheduler.is_idle(MODEL));
    bench.give(pending, 5);
    assert_eq!(bench.run(), 1);
    assert_eq!(bench.reasons(), [None]);
    bench.assert_idle();
}

#[test]
fn preparations_keep_no_more_cores_busy_than_there_are() {
    let mut bench = Bench::new(learned(policy(4)), 2);
    bench.offer_many(3, 1_000);
    let out = [bench.take(), bench.take()];
    assert!(matches!(bench.turn(), Turn::Idle) && !bench.scheduler.has_work(bench.clock.now()));
    out.into_iter().for_each(|pending| bench.give(pending, 1));
    bench.prepare(1);
    assert_eq!(bench.run(), 3);
    bench.assert_idle();
}

#[test]
fn the_earliest_deadline_is_prepared_first() {
    let mut bench = Bench::new(targeted(1_000, Mode::Late), 1);
    let tickets: Vec<Ticket> = [900, 300, 600].map(|time_ms| bench.offer(time_ms).expect("there is room")).into();
    let order: Vec<Ticket> = (0..3)
        .map(|_| {
            let pending = bench.take();
            let ticket = pending.caller.ticket();
            bench.give(pending, 1);
            ticket
        })
        .collect();
    assert_eq!(order, [tickets[1], tickets[2], tickets[0]]);
    assert_eq!(bench.run(), 3);
}

#[test]
fn an_undue_batch_grows_while_there_is_something_to_prepare() {
    let mut bench = Bench::new(targeted(1_000, Mode::Late), 1);
    bench.offer_many(3, 1_000);
    (0..3).for_each(|_| bench.prepare(5));
    assert_eq!(bench.run(), 3);
    bench.assert_idle();
}

#[test]
fn a_batch_that_would_be_late_after_one_more_preparation_goes_first() {
    let mut bench = Bench::new(targeted(100, Mode::Late), 1);
    bench.offer_many(4, 100);
    bench.prepare(45);
    // 55 ms are left: one more preparation of 45 ms and a run of 11 ms do not fit.
    assert_eq!(bench.run(), 1);
    assert_eq!(bench.reasons(), [None]);
    assert!(bench.scheduler.has_work(bench.clock.now()), "the others wait for being prepared");
}

#[test]
fn a_full_batch_goes_before_a_preparation() {
    let mut bench = Bench::new(targeted(10_000, Mode::Late), 1);
    bench.offer_many(6, 10_000);
    (0..4).for_each(|_| bench.prepare(1));
    assert_eq!(bench.run(), 4);
    (0..2).for_each(|_| bench.prepare(1));
    assert_eq!(bench.run(), 2);
    bench.assert_idle();
}

#[test]
fn without_a_target_a_batch_waits_for_several_runs_and_no_longer() {
    let mut bench = Bench::new(learned(Policy { rows_max: 64, ..policy(4) }), 1);
    bench.offer_many(64, 60_000);
    // Four runs of some 14 rows at 10 ms and 1 ms a row take as long as these preparations.
    let mut prepared = 0;
    loop {
        match bench.turn() {
            Turn::Prepare(_, pending) => bench.give(pending, 10),
            Turn::Run => break,
            other => panic!("{other:?}"),
        }
        prepared += 1;
    }
    assert!((7..=9).contains(&prepared), "{prepared}");
    assert_eq!(bench.finish().requests(), prepared);
}

#[test]
fn the_queue_holds_as_many_as_allowed_wherever_they_are() {
    let mut bench = Bench::new(Policy { requests_max: 3, ..policy(4) }, 2);
    bench.offer_many(3, 1_000);
    bench.prepare(1);
    let _out = bench.take();
    assert_eq!(bench.offer(1_000).expect_err("one of each kind holds a place").reason, Reason::QueueFull);
    assert_eq!(bench.scheduler.queued().requests, 3);
}

#[test]
fn who_has_expired_is_never_prepared() {
    let mut bench = Bench::new(policy(4), 1);
    bench.offer(10).expect("there is room");
    bench.clock.advance_ms(10);
    assert!(matches!(bench.turn(), Turn::Idle));
    assert_eq!((bench.reasons(), bench.shed(Shed::Expired)), (vec![Some(Reason::DeadlineExceeded)], 1));
    bench.assert_idle();
}

#[test]
fn who_expires_meanwhile_is_told_and_never_run() {
    let mut bench = Bench::new(policy(4), 1);
    bench.offer(10).expect("there is room");
    let pending = bench.take();
    bench.clock.advance_ms(10);
    let refused = bench.scheduler.prepared(MODEL, pending, in_ms(10), bench.clock.now()).expect_err("too late");
    assert_eq!(refused.refusal.reason, Reason::DeadlineExceeded);
    assert_eq!(bench.shed(Shed::Expired), 1);
    bench.assert_idle();
}

#[test]
fn who_could_not_be_answered_in_time_is_not_prepared() {
    let mut bench = Bench::new(targeted(100, Mode::Late), 1);
    bench.offer(100).expect("there is room");
    bench.prepare(20);
    assert_eq!(bench.run(), 1);
    bench.offer_many(2, 100);
    bench.clock.advance_ms(75);
    // The last of them runs whatever is expected of it.
    let _out = bench.take();
    assert_eq!((bench.shed(Shed::Miss), bench.reasons()), (1, vec![None, Some(Reason::Overloaded)]));
}

#[test]
fn who_leaves_is_never_prepared_and_frees_its_place() {
    let mut bench = Bench::new(Policy { requests_max: 1, ..policy(4) }, 1);
    let ticket = bench.offer(1_000).expect("there is room");
    bench.inbox.leave(ticket);
    bench.scheduler.leave(MODEL, 4, bench.clock.now());
    bench.offer(1_000).expect("its place is free");
    let other = bench.take();
    bench.inbox.leave(other.caller.ticket());
    bench.scheduler.leave(MODEL, 4, bench.clock.now());
    bench.give(other, 1);
    assert!(matches!(bench.turn(), Turn::Idle));
    bench.assert_idle();
}

#[test]
fn a_newcomer_is_told_of_what_is_prepared_before_it() {
    let mut bench = Bench::new(targeted(100, Mode::FailFast), 1);
    bench.offer(100).expect("nothing waits");
    bench.prepare(20);
    assert_eq!(bench.run(), 1);
    let accepted = (0..8).filter(|_| bench.offer(100).is_ok()).count();
    // Each takes 20 ms of preparation, and then there is the run.
    assert!((3..=4).contains(&accepted), "{accepted}");
    let refusal = bench.offer(100).expect_err("too many wait");
    assert_eq!(refusal.reason, Reason::Overloaded);
    let retry_after = refusal.retry_after.expect("a time");
    assert!(retry_after >= in_ms(20 * accepted as u64), "{retry_after:?}");
    let foresight = servekit_core::Patience { since: bench.clock.now(), deadline: bench.clock.now() + in_ms(100) };
    assert!(bench.scheduler.foresee(MODEL, 0, foresight, bench.clock.now()).is_err());
    assert_eq!(bench.shed(Shed::Arrival), 8 - accepted as u64 + 2);
}

#[test]
fn what_is_refused_gives_its_place_and_its_core_back() {
    let mut bench = Bench::new(policy(4), 1);
    bench.offer(1_000).expect("there is room");
    let pending = bench.take();
    bench.scheduler.spoiled(MODEL, pending.rows, in_ms(1));
    pending.caller.dismiss();
    bench.assert_idle();
    bench.offer(1_000).expect("there is room");
    bench.prepare(1);
    assert_eq!(bench.run(), 1);
}

#[test]
fn a_queue_that_closes_answers_what_waits_and_what_comes_back() {
    let mut bench = Bench::new(policy(4), 2);
    bench.offer_many(3, 1_000);
    bench.prepare(1);
    let out = bench.take();
    bench.scheduler.close(MODEL, &Refusal::unloaded(), &mut bench.answers);
    bench.answers.send();
    assert_eq!(bench.reasons(), [Some(Reason::ModelLoading); 2]);
    let refused = bench.scheduler.prepared(MODEL, out, in_ms(1), bench.clock.now()).expect_err("it is closed");
    assert_eq!(refused.refusal.reason, Reason::ModelLoading);
    bench.scheduler.add(OTHER, "other", Policy { cores: 2, ..policy(4) });
    bench.offer_to(OTHER, in_ms(1_000)).expect("there is room");
    assert_eq!(bench.scheduler.next(bench.clock.now(), &mut bench.batch, &mut bench.answers), Next::Run);
}

#[test]
fn what_is_prepared_counts_as_the_models_core_time() {
    let mut bench = Bench::new(learned(policy(4)), 1);
    bench.scheduler.add(OTHER, "other", policy(1));
    let (mut prepared_ms, mut ran_ms) = (0_u64, 0_u64);
    for _ in 0..400 {
        for key in [MODEL, OTHER] {
            let _full = bench.offer_to(key, in_ms(3_600_000));
        }
        match bench.turn() {
            Turn::Prepare(_, pending) => {
                bench.give(pending, 9);
                prepared_ms += 9;
            }
            Turn::Run => {
                let key = bench.batch.key;
                let model = FakeModel::new(contract_of_rows(1));
                model.take_time(&bench.clock, in_ms(3));
                let clock = bench.clock.clone();
                let (batch, answers) = (&mut bench.batch, &mut bench.answers);
                let report = execute(&mut *model.lane(), model.run_contract(), batch, &|| clock.now(), answers);
                bench.scheduler.ran(key, &report, report.ended_at);
                if key == MODEL {
                    prepared_ms += 3;
                } else {
                    ran_ms += 3;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(prepared_ms.abs_diff(ran_ms) < 100, "{prepared_ms} and {ran_ms}");
}

/// For 20 s requests come evenly, a half more than one core can serve; says how many of them were answered in time.
fn answered_under_overload(mode: Mode) -> usize {
    let mut bench = Bench::new(Policy { rows_max: 16, ..targeted(150, mode) }, 1);
    let start = bench.clock.now();
    let (mut arrival, mut answered) = (start, 0);
    while bench.clock.now() < start + Duration::from_secs(20) {
        while arrival <= bench.clock.now() {
            let _refused = bench.offer_to(MODEL, (arrival + in_ms(150)).saturating_duration_since(bench.clock.now()));
            arrival += in_ms(4);
        }
        match bench.turn() {
            Turn::Prepare(_, pending) => bench.give(pending, ROW_MS),
            Turn::Run => {
                bench.clock.advance(in_ms(BASE_MS) + in_ms(1) * bench.batch.rows);
                let ended_at = bench.clock.now();
                answered += bench.batch.items.iter().filter(|item| item.deadline() >= ended_at).count();
                let mut report = Report::started(bench.batch.run, ended_at);
                let (rows, requests) = (bench.batch.rows, bench.batch.items.len() as u32);
                let (run, none) = (in_ms(BASE_MS) + in_ms(1) * rows, Duration::ZERO);
                report.runs.push(Run { rows, requests, rows_refused: 0, input: none, run, output: none });
                bench.batch.clear();
                bench.scheduler.ran(MODEL, &report, ended_at);
            }
            _ => bench.clock.advance_ms(1),
        }
        let _answers = bench.inbox.answers();
    }
    answered
}

const ROW_MS: u64 = 5;
const BASE_MS: u64 = 11;

#[test]
fn under_overload_nearly_as_many_are_answered_as_could_be() {
    // Full batches, one after the other.
    let could = 20_000 * 16 / (16 * (ROW_MS + 1) + BASE_MS);
    for mode in [Mode::FailFast, Mode::Auto, Mode::Late] {
        let answered = answered_under_overload(mode);
        assert!(answered as u64 * 10 >= could * 9, "{mode:?}: {answered} of {could}");
    }
}
