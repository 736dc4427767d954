//! Queueing and answering allocate nothing once they have seen their largest load.
#![forbid(unsafe_code)]

use servekit_core::{Answers, Batch, Batcher, Item, Next, Outputs, Pending, Policy, Reply, Report, Timing};
use servekit_testing::{Clock, Inbox, contract_of_rows, fp32, limits};

/// Offers all, forms batches until nothing waits, gives everyone their rows and takes the answers out.
#[expect(clippy::vec_box, reason = "a queue takes requests boxed")]
fn turn(
    batcher: &mut Batcher,
    pending: &mut Vec<Box<Pending>>,
    batch: &mut Batch,
    answers: &mut Answers,
    clock: &Clock,
) {
    for pending in pending.drain(..) {
        assert!(batcher.offer(pending, clock.now()).is_ok());
    }
    while batcher.next(clock.now(), batch, answers) == Next::Run {
        for item in batch.items.drain(..) {
            let outputs: Outputs = item.inputs().iter().flatten().cloned().collect();
            item.answer(Ok(Reply { outputs, timing: Timing::default() }), answers);
        }
        batcher.ran(&Report::started(batch.run, clock.now()), clock.now());
    }
    assert!(answers.drain().all(|answer| answer.outcome.is_ok()));
}

#[test]
fn a_steady_load_allocates_nothing() {
    let (clock, inbox) = (Clock::new(), Inbox::new());
    let policy = Policy { rows_max: 16, requests_max: 1_000, ..Policy::of(&contract_of_rows(1), &limits()) };
    let mut batcher = Batcher::new("tiny", policy);
    let (mut batch, mut answers) = (Batch::default(), Answers::default());
    let shapes = [[1, 4], [2, 8], [1, 3]];
    let load = || -> Vec<Box<Pending>> {
        (0..90)
            .map(|index| {
                let shape = shapes[index % shapes.len()];
                let input = fp32(&shape, &vec![1.0; (shape[0] * shape[1]) as usize]);
                Box::new(inbox.request([input], clock.now()))
            })
            .collect()
    };
    for _ in 0..3 {
        turn(&mut batcher, &mut load(), &mut batch, &mut answers, &clock);
    }
    for _ in 0..20 {
        let mut pending = load();
        // Cloning once makes the bytes shared, which allocates: the reader of a request has done so by now.
        let _shared: Vec<_> = pending.iter().map(|pending| pending.inputs.clone()).collect();
        let counted = allocation_counter::measure(|| {
            turn(&mut batcher, &mut pending, &mut batch, &mut answers, &clock);
        });
        assert_eq!(counted.count_total, 0);
    }
}

#[test]
fn an_item_is_not_larger_than_moving_it_is_worth() {
    assert!(size_of::<Item>() <= 32, "{} bytes", size_of::<Item>());
}
