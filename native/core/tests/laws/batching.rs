//! Which rows leave the queue together, and which never run.

use servekit_core::{Dispatch, Next, Queued, Reason, Shed};
use servekit_testing::{contract_alone, contract_of_rows, fp32};

use crate::{Bench, expired_at, in_ms, policy, rows};

#[test]
fn a_free_lane_takes_what_there_is() {
    let mut bench = Bench::new(contract_of_rows(1));
    assert_eq!(bench.next(), Next::Idle);
    let ticket = bench.offer_rows(&[1.0]);
    assert_eq!(bench.next(), Next::Run);
    assert_eq!((bench.batch.rows, bench.batch.dispatch), (1, Dispatch::Idle));
    bench.execute();
    assert_eq!(bench.answers(), [(ticket, Ok(vec![1.0]))].into());
}

#[test]
fn rows_leave_in_order_of_arrival_and_no_batch_has_too_many() {
    let mut bench = Bench::with(contract_of_rows(1), policy(4));
    for values in [&[1.0, 2.0][..], &[3.0], &[4.0, 5.0], &[6.0]] {
        bench.offer_rows(values);
    }
    let reports = bench.run_all();
    let recorded = bench.model.recorded();
    let batches: Vec<_> = recorded.iter().map(|run| run.values.clone()).collect();
    assert_eq!(batches, [vec![1.0, 2.0, 3.0], vec![4.0, 5.0, 6.0]]);
    assert_eq!(reports.iter().map(servekit_core::Report::rows).sum::<u32>(), 6);
    assert_eq!(bench.answers().len(), 4);
}

#[test]
fn a_batch_that_nothing_more_fits_is_full() {
    for (rows_max, dispatch) in [(2, Dispatch::Full), (3, Dispatch::Idle)] {
        let mut bench = Bench::with(contract_of_rows(1), policy(rows_max));
        bench.offer_rows(&[1.0]);
        bench.offer_rows(&[2.0]);
        bench.next();
        assert_eq!(bench.batch.dispatch, dispatch, "{rows_max}");
        bench.execute();
    }
}

#[test]
fn bytes_bound_a_batch_as_rows_do() {
    let mut bench = Bench::with(contract_of_rows(1), servekit_core::Policy { bytes_max: 8, ..policy(64) });
    for value in 0..5_u8 {
        bench.offer_rows(&[f32::from(value)]);
    }
    let runs: Vec<u32> = bench.run_all().iter().map(servekit_core::Report::rows).collect();
    assert_eq!(runs, [2, 2, 1]);
}

#[test]
fn shapes_that_differ_never_share_a_run_and_the_oldest_goes_first() {
    let mut bench = Bench::new(contract_of_rows(-1));
    let shapes = [[1, 2], [1, 3], [1, 2], [1, 4], [1, 3]];
    for shape in shapes {
        let pending = bench.inbox.request([fp32(&shape, &vec![1.0; shape[1] as usize])], bench.clock.now());
        bench.offer(pending);
        bench.clock.advance_ms(1);
    }
    bench.run_all();
    let items: Vec<usize> = bench.model.recorded().iter().map(|run| run.items).collect();
    assert_eq!(items, [2, 2, 1]);
    assert_eq!(bench.answers().len(), shapes.len());
}

#[test]
fn which_inputs_are_given_is_part_of_the_shape() {
    let mut bench = Bench::new(contract_of_rows(1));
    for given in [true, false, true] {
        let mut pending = bench.request(&[1.0]);
        pending.inputs.push(given.then(|| rows(&[2.0])));
        bench.offer(pending);
    }
    bench.next();
    assert_eq!(bench.batch.items.len(), 2);
    bench.next();
    assert_eq!(bench.batch.items.len(), 1);
}

#[test]
fn a_request_that_runs_alone_shares_with_nobody() {
    let mut bench = Bench::new(contract_of_rows(1));
    for (value, alone) in [(1.0, false), (2.0, true), (3.0, false), (4.0, false)] {
        let mut pending = bench.request(&[value]);
        pending.alone = alone;
        bench.offer(pending);
    }
    bench.run_all();
    let batches: Vec<_> = bench.model.recorded().into_iter().map(|run| run.values).collect();
    assert_eq!(batches, [vec![1.0], vec![2.0], vec![3.0, 4.0]]);
}

#[test]
fn a_model_that_is_not_batched_runs_one_request_at_a_time_uncut() {
    let mut contract = contract_alone(100, 1);
    contract.model = "fake".into();
    let mut bench = Bench::with(contract, servekit_core::Policy { batched: false, ..policy(4) });
    let long: Vec<f32> = (0..100).map(|value| value as f32).collect();
    let tickets = [bench.offer_rows(&long), bench.offer_rows(&long)];
    assert_eq!(bench.run_all().len(), 2);
    let answers = bench.answers();
    assert!(tickets.iter().all(|ticket| answers[ticket] == Ok(long.clone())));
}

#[test]
fn a_request_without_rows_runs_by_itself_and_with_others() {
    let mut bench = Bench::new(contract_of_rows(1));
    let empty = bench.offer_rows(&[]);
    bench.run_all();
    assert_eq!(bench.answers(), [(empty, Ok(vec![]))].into());
    let tickets = [bench.offer_rows(&[1.0]), bench.offer_rows(&[]), bench.offer_rows(&[2.0])];
    bench.run_all();
    let expected = [vec![1.0], vec![], vec![2.0]];
    assert_eq!(bench.answers(), tickets.into_iter().zip(expected.map(Ok)).collect());
}

#[test]
fn the_queue_holds_as_many_as_allowed_and_not_one_more() {
    let mut bench = Bench::with(contract_of_rows(1), servekit_core::Policy { requests_max: 2, ..policy(4) });
    bench.offer_rows(&[1.0]);
    let second = bench.offer_rows(&[2.0]);
    let refused = bench.batcher.offer(bench.request(&[3.0]), bench.clock.now()).expect_err("the queue is full");
    let refusal = &refused.refusal;
    assert_eq!(refusal.reason, Reason::QueueFull);
    assert_eq!(refusal.text, "queue of 'fake' holds 2 of 2 requests: Exceeds maximum queue size; retry in 10 ms");
    assert_eq!(refusal.retry_after, Some(in_ms(10)));
    refused.pending.caller.dismiss();
    assert!(bench.answers().is_empty(), "the shard answers what it could not queue");

    bench.inbox.leave(second);
    bench.batcher.leave(4, bench.clock.now());
    bench.offer_rows(&[4.0]);
    bench.run_all();
    assert_eq!(bench.answers().len(), 2);
}

#[test]
fn the_wait_that_a_full_queue_names_is_that_of_its_batches() {
    let mut bench = Bench::with(contract_of_rows(1), servekit_core::Policy { requests_max: 5, ..policy(2) });
    bench.model.take_time(&bench.clock, in_ms(40));
    bench.offer_rows(&[0.0, 1.0]);
    bench.run_all();
    for value in 0..5_u8 {
        bench.offer_rows(&[f32::from(value)]);
    }
    let refused = bench.batcher.offer(bench.request(&[9.0]), bench.clock.now()).expect_err("the queue is full");
    assert_eq!(refused.refusal.retry_after, Some(in_ms(120)), "3 batches of 40 ms");
}

#[test]
fn a_caller_who_leaves_does_not_harm_the_batch() {
    let mut bench = Bench::with(contract_of_rows(1), policy(3));
    let [leaver, first, second] = [0.0, 1.0, 2.0].map(|value| bench.offer_rows(&[value]));
    bench.inbox.leave(leaver);
    bench.batcher.leave(4, bench.clock.now());
    assert_eq!(bench.batcher.queued(), Queued { requests: 2, rows: 2, bytes: 8 }, "its bytes are back at once");
    bench.run_all();
    assert_eq!(bench.model.recorded()[0].values, [1.0, 2.0]);
    assert_eq!(bench.answers(), [(first, Ok(vec![1.0])), (second, Ok(vec![2.0]))].into());
}

#[test]
fn who_was_told_elsewhere_that_the_time_is_up_counts_as_expired_and_who_went_before_does_not() {
    let mut bench = Bench::with(contract_of_rows(1), policy(8));
    let [told, gone, swept] = [0.0, 1.0, 2.0].map(|value| {
        let pending = expired_at(bench.request(&[value]), bench.clock.at_ms(50));
        bench.offer(pending)
    });
    bench.offer_rows(&[3.0]);
    bench.inbox.leave(gone);
    bench.batcher.leave(4, bench.clock.now());
    assert_eq!(bench.batcher.take_shed().total(), 0, "there was time");
    bench.clock.advance_ms(50);
    bench.inbox.leave(swept);
    bench.batcher.leave(4, bench.clock.now());
    bench.inbox.leave(told);
    bench.run_all();
    let counts = bench.batcher.take_shed();
    assert_eq!((counts.of(Shed::Expired), counts.total()), (2, 2));
}

#[test]
fn rows_of_leavers_never_run_even_if_nobody_tells_the_queue() {
    let mut bench = Bench::new(contract_of_rows(1));
    let leaver = bench.offer_rows(&[0.0]);
    bench.inbox.leave(leaver);
    assert_eq!(bench.next(), Next::Idle);
    assert_eq!(bench.batcher.queued(), Queued::default());
    assert!(bench.answers().is_empty());
}

#[test]
fn many_who_leave_a_long_queue_give_everything_back() {
    let mut bench = Bench::new(contract_of_rows(1));
    let tickets: Vec<_> = (0..1_000).map(|value| bench.offer_rows(&[value as f32])).collect();
    for (index, ticket) in tickets.into_iter().enumerate().filter(|(index, _)| index % 2 == 0) {
        bench.inbox.leave(ticket);
        bench.batcher.leave(4, bench.clock.now());
        let gone = 1_000 - bench.batcher.queued().requests;
        assert!((index / 2 + 1).abs_diff(gone) <= 1_000 / 8, "what has left and is still held stays a small share");
    }
    bench.run_all();
    assert_eq!(bench.answers().len(), 500);
    assert_eq!(bench.batcher.queued(), Queued::default());
}

#[test]
fn a_request_runs_until_its_deadline_and_never_from_then_on() {
    for (now_ms, expected) in [(99, Ok(vec![1.0])), (100, Err(Reason::DeadlineExceeded))] {
        let mut bench = Bench::new(contract_of_rows(1));
        let pending = expired_at(bench.request(&[1.0]), bench.clock.at_ms(100));
        let late = bench.offer(pending);
        let other = bench.offer_rows(&[2.0]);
        bench.clock.advance_ms(now_ms);
        bench.run_all();
        assert_eq!(bench.answers(), [(late, expected.clone()), (other, Ok(vec![2.0]))].into());
        assert_eq!(bench.model.recorded()[0].values.contains(&1.0), expected.is_ok());
    }
}

#[test]
fn the_text_of_a_passed_deadline_says_how_long_it_was() {
    let mut bench = Bench::new(contract_of_rows(1));
    let pending = expired_at(bench.request(&[1.0]), bench.clock.at_ms(100));
    bench.offer(pending);
    bench.clock.advance_ms(120);
    assert_eq!(bench.next(), Next::Idle);
    let text = "120 ms passed in the queue, the deadline allows 100 ms: Request timeout expired; allow longer";
    assert_eq!(bench.refusal().text, text);
}

#[test]
fn a_request_that_comes_too_late_is_not_queued() {
    let mut bench = Bench::new(contract_of_rows(1));
    let pending = expired_at(bench.request(&[1.0]), bench.clock.now());
    let refused = bench.batcher.offer(pending, bench.clock.now()).expect_err("it has expired");
    assert_eq!(refused.refusal.reason, Reason::DeadlineExceeded);
    assert_eq!(bench.batcher.queued(), Queued::default());
}

#[test]
fn a_queue_that_closes_answers_everyone() {
    let mut bench = Bench::with(contract_of_rows(1), policy(2));
    bench.offer_rows(&[0.0, 1.0, 2.0]);
    bench.offer_rows(&[3.0]);
    bench.next();
    let refusal = servekit_core::Refusal::new(Reason::Draining, "shutting down");
    bench.batcher.close(&refusal, &mut bench.answers);
    bench.execute();
    let answers = bench.answers();
    assert_eq!(answers.len(), 2);
    assert!(answers.values().all(|answer| *answer == Err(Reason::Draining)));
    assert_eq!(bench.batcher.queued(), Queued::default());
    assert_eq!(bench.next(), Next::Idle);
    bench.offer_rows(&[4.0]);
    assert_eq!(bench.next(), Next::Run);
}

#[test]
fn while_memory_is_short_batches_have_half_of_their_rows() {
    let mut bench = Bench::with(contract_of_rows(1), policy(4));
    for (is_pressed, expected) in [(true, vec![2, 2]), (false, vec![4])] {
        bench.batcher.press(is_pressed);
        for value in [1.0, 2.0, 3.0, 4.0] {
            bench.offer_rows(&[value]);
        }
        let reports = bench.run_all();
        assert_eq!(reports.iter().map(servekit_core::Report::rows).collect::<Vec<_>>(), expected);
    }
}
