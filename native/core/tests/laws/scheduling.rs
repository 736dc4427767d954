//! Several models behind one Scheduler.

use servekit_core::{Answers, Batch, ModelKey, Next, Queued, Reason, Refusal, Scheduler};
use servekit_testing::{Clock, Inbox};

use crate::{policy, rows};

struct Bench {
    clock: Clock,
    inbox: Inbox,
    scheduler: Scheduler,
    batch: Batch,
    answers: Answers,
}

fn bench(requests_max: usize, models: u32) -> Bench {
    let mut scheduler = Scheduler::new(requests_max);
    (0..models).for_each(|key| scheduler.add(ModelKey(key), format!("model{key}"), policy(4)));
    let (clock, inbox) = (Clock::new(), Inbox::new());
    Bench { clock, inbox, scheduler, batch: Batch::default(), answers: Answers::default() }
}

impl Bench {
    fn offer(&mut self, key: u32) -> Result<(), Reason> {
        let pending = self.inbox.request([rows(&[1.0])], self.clock.now());
        self.scheduler.offer(ModelKey(key), pending, self.clock.now()).map_err(|refused| {
            refused.pending.caller.dismiss();
            refused.refusal.reason
        })
    }

    /// The model whose batch is next, with its rows.
    fn next(&mut self) -> Option<(u32, u32)> {
        let next = self.scheduler.next(self.clock.now(), &mut self.batch, &mut self.answers);
        self.answers.send();
        (next == Next::Run).then_some((self.batch.key.0, self.batch.rows))
    }
}

#[test]
fn the_model_whose_request_waits_longest_runs_next() {
    let mut bench = bench(100, 3);
    for key in [2, 0, 2, 1, 0] {
        bench.offer(key).expect("room");
        bench.clock.advance_ms(1);
    }
    assert_eq!(
        [bench.next(), bench.next(), bench.next(), bench.next()],
        [Some((2, 2)), Some((0, 2)), Some((1, 1)), None]
    );
    assert_eq!(bench.scheduler.queued(), Queued::default());
}

#[test]
fn all_queues_together_hold_as_many_as_allowed_and_not_one_more() {
    let mut bench = bench(2, 2);
    assert_eq!([bench.offer(0), bench.offer(1), bench.offer(1)], [Ok(()), Ok(()), Err(Reason::QueueFull)]);
    assert_eq!(bench.scheduler.queued(), Queued { requests: 2, rows: 2, bytes: 8 });
    bench.next();
    assert_eq!(bench.offer(1), Ok(()));
}

#[test]
fn a_model_that_closes_answers_its_own_and_takes_no_more() {
    let mut bench = bench(100, 2);
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
fn leavers_of_one_model_do_not_hold_up_another() {
    let mut bench = bench(100, 2);
    let pending = bench.inbox.request([rows(&[1.0])], bench.clock.now());
    let ticket = pending.caller.ticket();
    bench.scheduler.offer(ModelKey(0), pending, bench.clock.now()).expect("room");
    bench.clock.advance_ms(1);
    bench.offer(1).expect("room");
    bench.inbox.leave(ticket);
    assert_eq!(bench.next(), Some((1, 1)));
    assert_eq!(bench.scheduler.queued(), Queued::default());
    bench.scheduler.leave(ModelKey(0), 4);
    assert_eq!(bench.next(), None);
}

#[test]
fn a_queue_that_is_open_is_not_opened_again() {
    let mut bench = bench(100, 1);
    bench.offer(0).expect("room");
    bench.scheduler.add(ModelKey(0), "model0", policy(1));
    assert_eq!(bench.next(), Some((0, 1)));
    assert_eq!(bench.scheduler.batcher(ModelKey(0)).expect("open").policy().rows_max, 4);
}
