//! One caller's fault is theirs alone.

use servekit_core::{Dispatch, Outcome, Reason, Report, Ticket};
use servekit_testing::{Inbox, contract_of_rows, limits};

use crate::{Bench, expired_at, in_ms, policy};

fn offer_each(bench: &mut Bench, count: u16) -> Vec<Ticket> {
    (0..count).map(|value| bench.offer_rows(&[f32::from(value)])).collect()
}

/// Everyone but these got their own row back; these got this.
fn assert_alone(bench: &mut Bench, tickets: &[Ticket], culprits: &[u16], reason: Reason) {
    let answers = bench.answers();
    assert_eq!(answers.len(), tickets.len());
    for (value, ticket) in (0_u16..).zip(tickets) {
        let expected = if culprits.contains(&value) { Err(reason) } else { Ok(vec![f32::from(value)]) };
        assert_eq!(answers[ticket], expected, "{value}");
    }
}

#[test]
fn one_bad_row_among_64_is_found_in_12_more_runs() {
    for culprit in [0, 17, 63] {
        let mut bench = Bench::new(contract_of_rows(1));
        bench.model.reject(f32::from(culprit));
        let tickets = offer_each(&mut bench, 64);
        let [report] = <[Report; 1]>::try_from(bench.run_all()).expect("one batch");
        assert!(report.runs.len() <= 1 + 12, "{} runs", report.runs.len());
        assert_eq!((report.requests(), report.rows(), report.outcome), (63, 63, Outcome::Refused));
        assert_alone(&mut bench, &tickets, &[culprit], Reason::RowRejected);
    }
}

#[test]
fn a_rejected_row_is_told_what_the_model_said() {
    let mut bench = Bench::new(contract_of_rows(1));
    bench.model.reject(0.0);
    offer_each(&mut bench, 1);
    bench.run_all();
    let text = "model 'fake' fails on this request alone, Gather: index 99 found; check its values";
    assert_eq!(bench.refusal().text, text);
}

#[test]
fn a_row_that_a_step_refuses_takes_its_own_request_along_and_nobody_else() {
    let mut bench = Bench::new(contract_of_rows(1));
    bench.model.refuse_row(17.0);
    bench.model.refuse_row(40.0);
    let tickets = offer_each(&mut bench, 64);
    let [report] = <[Report; 1]>::try_from(bench.run_all()).expect("one batch");
    assert_eq!((report.runs.len(), report.requests(), report.rows(), report.outcome), (1, 62, 62, Outcome::Refused));
    assert_alone(&mut bench, &tickets, &[17, 40], Reason::RowRejected);
}

#[test]
fn a_refused_row_is_named_by_its_place_in_its_request() {
    let mut bench = Bench::new(contract_of_rows(1));
    bench.model.refuse_row(9.0);
    let single = bench.offer_rows(&[1.0]);
    let several = bench.offer_rows(&[2.0, 3.0, 9.0, 9.0]);
    let report = bench.run_all().remove(0);
    assert_eq!((report.requests(), report.rows(), report.runs[0].rows), (1, 1, 5));
    let mut answers = bench.inbox.answers();
    answers.sort_by_key(|answer| answer.ticket.slot);
    assert_eq!(answers.iter().map(|answer| answer.ticket).collect::<Vec<_>>(), [single, several]);
    assert!(answers[0].outcome.is_ok());
    let refusal = answers.remove(1).outcome.expect_err("refused");
    let text = "model 'fake' refuses row 2 of this request, step 'check': 9.0 found; check its values";
    assert_eq!((refusal.reason, &*refusal.text), (Reason::RowRejected, text));
    bench.offer_rows(&[9.0]);
    assert!(bench.run_all()[0].runs[0].took_place());
    let text = "model 'fake' refuses this request, step 'check': 9.0 found; check its values";
    assert_eq!(bench.refusal().text, text);
}

#[test]
fn a_refused_row_of_an_oversize_request_is_counted_from_its_beginning() {
    let mut bench = Bench::new(contract_of_rows(1));
    bench.model.refuse_row(70.0);
    let values: Vec<f32> = (0..100_u8).map(f32::from).collect();
    bench.offer_rows(&values);
    bench.run_all();
    let text = "model 'fake' refuses row 70 of this request, step 'check': 70.0 found; check its values";
    assert_eq!(bench.refusal().text, text);
}

#[test]
fn everyone_at_fault_is_refused_and_nothing_runs_more_than_twice_as_often() {
    let mut bench = Bench::new(contract_of_rows(1));
    (0..8_u8).for_each(|value| bench.model.reject(f32::from(value)));
    let tickets = offer_each(&mut bench, 8);
    let reports = bench.run_all();
    assert_eq!(reports[0].runs.len(), 15);
    assert_alone(&mut bench, &tickets, &[0, 1, 2, 3, 4, 5, 6, 7], Reason::RowRejected);
}

#[test]
fn a_panic_in_the_engine_fails_its_request_alone_and_is_counted() {
    let mut bench = Bench::new(contract_of_rows(1));
    bench.model.panic_at(5.0);
    let tickets = offer_each(&mut bench, 16);
    let reports = bench.run_all();
    assert_eq!(reports[0].panics, 5, "16, 8, 4, 2 and 1 rows");
    let fault = reports[0].fault.clone().expect("the panic's text");
    assert_eq!(fault.text, "the test made the engine panic");
    assert_alone(&mut bench, &tickets, &[5], Reason::Internal);
    assert_eq!(fault.refusal().text, format!("internal error {:04x}, please report it with this number", fault.number));
    bench.offer_rows(&[1.0]);
    assert_eq!(bench.run_all()[0].outcome, Outcome::Done, "the lane lives on");
}

#[test]
fn a_lane_that_breaks_is_said_to_all_of_its_batch() {
    let mut bench = Bench::new(contract_of_rows(1));
    bench.model.lose();
    let tickets = offer_each(&mut bench, 3);
    let reports = bench.run_all();
    assert_eq!((reports[0].outcome, reports[0].runs.len()), (Outcome::Lost, 1));
    assert_alone(&mut bench, &tickets, &[0, 1, 2], Reason::LaneLost);
}

#[test]
fn a_batch_that_needs_too_much_memory_runs_in_halves_and_later_ones_are_smaller() {
    let mut bench = Bench::new(contract_of_rows(1));
    bench.model.fit_rows(16);
    let tickets = offer_each(&mut bench, 64);
    let report = bench.run_all().remove(0);
    assert_eq!(report.rows_max_worked, Some(16));
    assert_eq!(bench.batcher.policy().rows_max, 16);
    assert_alone(&mut bench, &tickets, &[], Reason::RunMemory);
    let _ = bench.model.recorded();
    offer_each(&mut bench, 64);
    bench.run_all();
    assert!(bench.model.recorded().iter().all(|run| run.rows == 16 && run.worked));
}

#[test]
fn a_request_that_alone_does_not_fit_is_refused_and_makes_nobodys_batches_small() {
    let mut bench = Bench::new(contract_of_rows(1));
    bench.model.fit_rows(4);
    let small = bench.offer_rows(&[1.0]);
    let large = bench.offer_rows(&[2.0; 5]);
    let report = bench.run_all().remove(0);
    assert_eq!(report.rows_max_worked, None);
    assert_eq!(bench.batcher.policy().rows_max, 64);
    assert_eq!(bench.answers(), [(small, Ok(vec![1.0])), (large, Err(Reason::RunMemory))].into());
    bench.offer_rows(&[3.0; 5]);
    bench.run_all();
    let text =
        "this request's run asked for 5 bytes, 4 bytes are allowed; send a smaller shape or raise arena_bytes_max";
    assert_eq!(bench.refusal().text, text);
}

#[test]
fn a_model_whose_outputs_lack_rows_is_run_singly_from_then_on() {
    let mut bench = Bench::new(contract_of_rows(1));
    bench.model.misshape();
    let tickets = offer_each(&mut bench, 3);
    let reports = bench.run_all();
    assert!(reports[0].is_unbatchable);
    let answers = bench.answers();
    for (value, ticket) in (0_u8..).zip(&tickets) {
        assert_eq!(answers[ticket], Ok(vec![f32::from(value); 2]), "all that the model gave for this request");
    }
    let _ = bench.model.recorded();
    offer_each(&mut bench, 3);
    assert_eq!(bench.run_all().len(), 3);
    assert!(bench.model.recorded().iter().all(|run| run.items == 1));
}

#[test]
fn who_leaves_or_expires_between_forming_and_running_is_not_run() {
    let mut bench = Bench::new(contract_of_rows(1));
    let leaver = bench.offer_rows(&[1.0]);
    let pending = expired_at(bench.request(&[2.0]), bench.clock.at_ms(10));
    let late = bench.offer(pending);
    let good = bench.offer_rows(&[3.0]);
    bench.next();
    assert_eq!(bench.batch.items.len(), 3);
    bench.inbox.leave(leaver);
    bench.clock.advance_ms(10);
    let report = bench.execute();
    assert_eq!((report.requests(), report.rows()), (1, 1));
    assert_eq!(bench.model.recorded()[0].values, [3.0]);
    assert_eq!(bench.answers(), [(late, Err(Reason::DeadlineExceeded)), (good, Ok(vec![3.0]))].into());
}

#[test]
fn who_expires_while_a_batch_is_taken_apart_is_not_run_again() {
    let mut bench = Bench::new(contract_of_rows(1));
    bench.model.take_time(&bench.clock, in_ms(10));
    bench.model.reject(1.0);
    let pending = expired_at(bench.request(&[0.0]), bench.clock.at_ms(5));
    let late = bench.offer(pending);
    let bad = bench.offer_rows(&[1.0]);
    bench.run_all();
    assert_eq!(bench.answers(), [(late, Err(Reason::DeadlineExceeded)), (bad, Err(Reason::RowRejected))].into());
    assert_eq!(bench.model.recorded().len(), 2, "both together, then the bad one");
}

#[test]
fn a_batch_that_everyone_has_left_does_not_run() {
    let mut bench = Bench::new(contract_of_rows(1));
    let leaver = bench.offer_rows(&[1.0]);
    bench.next();
    bench.inbox.leave(leaver);
    assert!(bench.execute().runs.is_empty());
    assert!(bench.model.recorded().is_empty());
    assert!(bench.answers().is_empty());
}

#[test]
fn an_answer_tells_how_long_each_step_took() {
    let mut bench = Bench::new(contract_of_rows(1));
    bench.model.take_time(&bench.clock, in_ms(7));
    bench.offer_rows(&[1.0]);
    bench.clock.advance_ms(3);
    bench.offer_rows(&[2.0]);
    let report = bench.run_all().remove(0);
    let timings: Vec<_> =
        bench.inbox.answers().into_iter().map(|answer| answer.outcome.expect("a result").timing).collect();
    assert_eq!(timings.iter().map(|timing| timing.queue).collect::<Vec<_>>(), [in_ms(3), in_ms(0)]);
    assert!(timings.iter().all(|timing| timing.run == in_ms(7) && timing.batch_rows == 2));
    assert_eq!((report.queue, report.run_time(), report.ended_at - report.started_at), (in_ms(3), in_ms(7), in_ms(7)));
}

#[test]
fn answers_of_a_batch_wake_each_shard_once() {
    let mut bench = Bench::new(contract_of_rows(1));
    let other = Inbox::new();
    for value in 0..4_u8 {
        bench.offer_rows(&[f32::from(value)]);
        let pending = other.request([crate::rows(&[9.0])], bench.clock.now());
        bench.offer(pending);
    }
    bench.run_all();
    assert_eq!((bench.inbox.wakes(), other.wakes()), (1, 1));
    assert_eq!((bench.answers().len(), other.answers().len()), (4, 4));
}

#[test]
fn a_batch_that_is_dropped_answers_everyone() {
    let mut bench = Bench::new(contract_of_rows(1));
    let tickets = offer_each(&mut bench, 2);
    bench.next();
    bench.batch.clear();
    assert_alone(&mut bench, &tickets, &[0, 1], Reason::Abandoned);
}

#[test]
fn a_batch_says_after_its_run_why_it_was_formed() {
    let mut bench = Bench::with(contract_of_rows(1), policy(2));
    offer_each(&mut bench, 2);
    bench.next();
    bench.execute();
    assert_eq!((bench.batch.dispatch, bench.batch.items.len()), (Dispatch::Full, 0));
}

#[test]
fn the_usual_policy_is_that_of_the_limits() {
    let policy = servekit_core::Policy::of(&contract_of_rows(1), &limits());
    assert_eq!((policy.rows_max, policy.bytes_max, policy.requests_max, policy.batched), (64, 64 << 20, 16_384, true));
}
