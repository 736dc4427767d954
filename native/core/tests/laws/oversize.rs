//! Requests of more rows than a batch may have.

use servekit_core::{Answers, Batch, Model, Next, Policy, Queued, Reason, execute};
use servekit_testing::{byte_strings, contract_of_rows, fp32};

use crate::{Bench, policy};

fn count(rows: u16) -> Vec<f32> {
    (0..rows).map(f32::from).collect()
}

#[test]
fn an_oversize_request_runs_in_parts_and_is_answered_once() {
    for (rows, runs) in [(4, 1), (5, 2), (8, 2), (11, 3)] {
        let mut bench = Bench::with(contract_of_rows(1), policy(4));
        let values = count(rows);
        let ticket = bench.offer_rows(&values);
        assert_eq!(bench.run_all().len(), runs, "{rows}");
        assert_eq!(bench.answers(), [(ticket, Ok(values))].into());
        assert_eq!(bench.inbox.wakes(), 1);
    }
}

#[test]
fn parts_fill_batches_with_their_neighbours() {
    let mut bench = Bench::with(contract_of_rows(1), policy(4));
    let before = bench.offer_rows(&[100.0]);
    let long = bench.offer_rows(&count(6));
    let after = bench.offer_rows(&[200.0]);
    bench.run_all();
    let batches: Vec<_> = bench.model.recorded().into_iter().map(|run| run.values).collect();
    assert_eq!(batches, [vec![100.0, 0.0, 1.0, 2.0], vec![3.0, 4.0, 5.0, 200.0]]);
    let expected = [(before, Ok(vec![100.0])), (long, Ok(count(6))), (after, Ok(vec![200.0]))];
    assert_eq!(bench.answers(), expected.into());
}

#[test]
fn bytes_cut_a_request_as_rows_do() {
    let mut bench = Bench::with(contract_of_rows(1), Policy { bytes_max: 12, ..policy(64) });
    let ticket = bench.offer_rows(&count(7));
    let rows: Vec<u32> = bench.run_all().iter().map(servekit_core::Report::rows).collect();
    assert_eq!(rows, [3, 3, 1]);
    assert_eq!(bench.answers(), [(ticket, Ok(count(7)))].into());
}

#[test]
fn a_row_larger_than_a_batch_still_runs() {
    let mut bench = Bench::with(contract_of_rows(4), Policy { bytes_max: 8, ..policy(64) });
    let pending = bench.inbox.request([fp32(&[2, 4], &count(8))], bench.clock.now());
    let ticket = bench.offer(pending);
    assert_eq!(bench.run_all().len(), 2);
    assert_eq!(bench.answers(), [(ticket, Ok(count(8)))].into());
}

#[test]
fn parts_may_end_in_any_order_on_several_lanes() {
    let mut bench = Bench::with(contract_of_rows(1), policy(2));
    let ticket = bench.offer_rows(&count(6));
    let mut batches = [Batch::default(), Batch::default(), Batch::default()];
    for batch in &mut batches {
        assert_eq!(bench.batcher.next(bench.clock.now(), batch, &mut bench.answers), Next::Run);
    }
    let mut answers = Answers::default();
    for index in [2, 0, 1] {
        assert!(bench.answers().is_empty());
        let mut lane = bench.model.lane();
        let clock = bench.clock.clone();
        execute(&mut *lane, bench.model.contract(), &mut batches[index], &|| clock.now(), &mut answers);
        answers.send();
    }
    assert_eq!(bench.answers(), [(ticket, Ok(count(6)))].into());
}

#[test]
fn byte_strings_are_cut_and_merged_whole() {
    let mut bench = Bench::with(contract_of_rows(1), policy(2));
    let elements: [&[u8]; 5] = [b"", b"one", b"a longer element", b"\xff\0", b"last"];
    let whole = byte_strings(&[5, 1], &elements);
    let pending = bench.inbox.request([whole.clone()], bench.clock.now());
    bench.offer(pending);
    assert_eq!(bench.run_all().len(), 3);
    let answer = bench.inbox.answers().remove(0);
    assert_eq!(answer.outcome.expect("a result").outputs[0], whole);
}

#[test]
fn the_first_failure_answers_and_the_other_parts_are_not_run() {
    let mut bench = Bench::with(contract_of_rows(1), policy(2));
    bench.model.reject(3.0);
    let long = bench.offer_rows(&count(10));
    let other = bench.offer_rows(&[50.0]);
    bench.run_all();
    let runs: Vec<_> = bench.model.recorded().into_iter().map(|run| run.values).collect();
    assert_eq!(runs, [vec![0.0, 1.0], vec![2.0, 3.0], vec![50.0]]);
    assert_eq!(bench.answers(), [(long, Err(Reason::RowRejected)), (other, Ok(vec![50.0]))].into());
    assert_eq!(bench.batcher.queued(), Queued::default());
}

#[test]
fn who_leaves_in_the_middle_has_no_further_part_run() {
    let mut bench = Bench::with(contract_of_rows(1), policy(2));
    let long = bench.offer_rows(&count(10));
    bench.next();
    bench.execute();
    bench.inbox.leave(long);
    assert!(bench.run_all().is_empty());
    assert!(bench.answers().is_empty());
}

#[test]
fn the_deadline_holds_between_parts() {
    let mut bench = Bench::with(contract_of_rows(1), policy(2));
    let pending = crate::expired_at(bench.request(&count(4)), bench.clock.at_ms(10));
    let long = bench.offer(pending);
    bench.next();
    bench.execute();
    bench.clock.advance_ms(10);
    bench.run_all();
    assert_eq!(bench.answers(), [(long, Err(Reason::DeadlineExceeded))].into());
    assert_eq!(bench.model.recorded().len(), 1);
}

#[test]
fn an_answer_too_large_to_be_sent_ends_early() {
    let mut bench = Bench::with(contract_of_rows(1), Policy { answer_bytes_max: 16, ..policy(2) });
    let fits = bench.offer_rows(&count(4));
    bench.run_all();
    let exceeds = bench.offer_rows(&count(20));
    bench.run_all();
    assert_eq!(bench.answers(), [(fits, Ok(count(4))), (exceeds, Err(Reason::ResponseTooLarge))].into());
    assert_eq!(bench.model.recorded().len(), 2 + 3);
}

#[test]
fn parts_whose_outputs_do_not_fit_together_are_refused() {
    let mut bench = Bench::with(contract_of_rows(1), policy(2));
    bench.model.misshape();
    let long = bench.offer_rows(&count(4));
    bench.run_all();
    assert_eq!(bench.answers(), [(long, Err(Reason::TooManyRows))].into());
}

#[test]
fn a_split_request_that_runs_alone_shares_no_part() {
    let mut bench = Bench::with(contract_of_rows(1), policy(4));
    let mut pending = bench.request(&count(6));
    pending.alone = true;
    bench.offer(pending);
    bench.offer_rows(&[50.0]);
    bench.run_all();
    let rows: Vec<u32> = bench.model.recorded().into_iter().map(|run| run.rows).collect();
    assert_eq!(rows, [4, 2, 1]);
}
