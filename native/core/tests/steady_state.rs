//! Queueing and answering allocate nothing once they have seen their largest load.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use servekit_core::{
    Answers, Batch, Batcher, Item, Mode, Next, Outlook, Outputs, Pending, Policy, Ragged, Reply, Report, Run, Timing,
};
use servekit_testing::{Clock, Inbox, contract_of_rows, fp32, limits};

/// A Batcher, its only lane, and what it has seen.
struct Steady {
    clock: Clock,
    inbox: Inbox,
    batcher: Batcher,
    batch: Batch,
    answers: Answers,
    outlook: Outlook,
    refused: usize,
}

impl Steady {
    fn new(policy: Policy) -> Self {
        let clock = Clock::new();
        Self {
            outlook: Outlook::new(clock.now()),
            inbox: Inbox::new(),
            batcher: Batcher::new("tiny", policy),
            batch: Batch::default(),
            answers: Answers::default(),
            refused: 0,
            clock,
        }
    }

    /// Offers all, forms batches until nothing waits, gives everyone their rows and takes the answers out.
    #[expect(clippy::vec_box, reason = "a queue takes requests boxed")]
    fn turn(&mut self, pending: &mut Vec<Box<Pending>>) {
        for pending in pending.drain(..) {
            self.refused += usize::from(self.batcher.offer(pending, self.clock.now()).is_err());
        }
        self.batcher.publish(&self.outlook, self.clock.now());
        while self.batcher.next(self.clock.now(), &mut self.batch, &mut self.answers) == Next::Run {
            let started_at = self.clock.now();
            let run = Duration::from_micros(100 + 10 * u64::from(self.batch.rows));
            self.clock.advance(run);
            let mut report = Report::started(self.batch.run, started_at);
            let requests = self.batch.items.len() as u32;
            let rows = self.batch.rows;
            report.runs.push(Run {
                rows,
                requests,
                rows_refused: 0,
                input: Duration::ZERO,
                run,
                output: Duration::ZERO,
            });
            for item in self.batch.items.drain(..) {
                let outputs: Outputs = item.inputs().iter().flatten().cloned().collect();
                item.answer(Ok(Reply { outputs, timing: Timing::default(), steps: None }), &mut self.answers);
            }
            self.batcher.ran(&report, self.clock.now());
        }
        self.refused += self.answers.drain().filter(|answer| answer.outcome.is_err()).count();
    }

    /// Turns of the same load until nothing grows any more, then counts what further ones allocate.
    fn allocated(&mut self, load: impl Fn(&Inbox, &Clock) -> Vec<Box<Pending>>) -> u64 {
        let mut allocated = 0;
        for turn in 0..50 {
            self.clock.advance(Duration::from_millis(3));
            let mut pending = load(&self.inbox, &self.clock);
            // Cloning once makes the bytes shared, which allocates: the reader of a request has done so by now.
            let _shared: Vec<_> = pending.iter().map(|pending| pending.inputs.clone()).collect();
            self.refused = if turn < 30 { 0 } else { self.refused };
            let counted = allocation_counter::measure(|| self.turn(&mut pending));
            allocated += if turn < 30 { 0 } else { counted.count_total };
        }
        allocated
    }
}

fn policy() -> Policy {
    Policy { rows_max: 16, requests_max: 1_000, ..Policy::of(&contract_of_rows(1), &limits()) }
}

/// Ninety requests of three shapes.
#[expect(clippy::vec_box, reason = "a queue takes requests boxed")]
fn shapes(inbox: &Inbox, clock: &Clock) -> Vec<Box<Pending>> {
    let shapes = [[1, 4], [2, 8], [1, 3]];
    let request = |index: usize| {
        let shape = shapes[index % shapes.len()];
        let input = fp32(&shape, &vec![1.0; (shape[0] * shape[1]) as usize]);
        Box::new(inbox.request([input], clock.now()))
    };
    (0..90).map(request).collect()
}

#[test]
fn a_steady_load_allocates_nothing() {
    assert_eq!(Steady::new(policy()).allocated(shapes), 0);
}

#[test]
fn priorities_and_deadlines_out_of_order_allocate_nothing() {
    let mut steady = Steady::new(Policy { target: Duration::from_millis(50), ..policy() });
    let load = |inbox: &Inbox, clock: &Clock| {
        let mut pending = shapes(inbox, clock);
        for (index, pending) in pending.iter_mut().enumerate() {
            pending.priority = (index % 4) as u8;
            pending.deadline = clock.now() + Duration::from_millis(40 + (index * 37 % 90) as u64);
        }
        pending
    };
    assert_eq!((steady.allocated(load), steady.refused), (0, 0));
}

#[test]
fn lengths_that_are_mixed_allocate_nothing() {
    let ragged = Ragged { inputs: [Some(1)].into(), outputs: [Some(1)].into(), length_max: 512, masks: [].into() };
    let target = Duration::from_millis(50);
    let mut steady = Steady::new(Policy { target, ragged: Some(Arc::new(ragged)), ..policy() });
    let load = |inbox: &Inbox, clock: &Clock| {
        let lengths = (0..90_usize).map(|index| 1 + index * 29 % 200);
        let request = |length: usize| {
            let mut pending = Box::new(inbox.request([fp32(&[1, length as i64], &vec![1.0; length])], clock.now()));
            pending.deadline = clock.now() + target;
            pending
        };
        lengths.map(request).collect()
    };
    assert_eq!((steady.allocated(load), steady.refused), (0, 0));
}

#[test]
fn shedding_allocates_the_texts_of_its_answers_and_nothing_else() {
    for mode in [Mode::Late, Mode::FailFast] {
        let mut steady = Steady::new(Policy { target: Duration::from_millis(1), mode, ..policy() });
        let load = |inbox: &Inbox, clock: &Clock| {
            let mut pending = shapes(inbox, clock);
            pending.iter_mut().for_each(|pending| pending.deadline = clock.now() + Duration::from_millis(1));
            pending
        };
        let allocated = steady.allocated(load);
        assert!(steady.refused > 100, "{mode:?}: {}", steady.refused);
        // Who is refused at once is also given back, in a box; the text of a passed deadline may grow once.
        let each = if mode == Mode::Late { 1 } else { 3 };
        assert!(allocated <= each * steady.refused as u64, "{mode:?}: {allocated} for {}", steady.refused);
    }
}

#[test]
fn an_item_is_not_larger_than_moving_it_is_worth() {
    assert!(size_of::<Item>() <= 32, "{} bytes", size_of::<Item>());
}
