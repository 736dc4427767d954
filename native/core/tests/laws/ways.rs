//! Requests with a way before them are not answered when they have run, but handed on as they are.

use servekit_core::{Entries, Passed, Pending, Reason, Ticket, Way};
use servekit_testing::{contract_of_rows, fp32_values};

use crate::{Bench, expired_at, in_ms, policy};

/// A request in the second queue of its way, in which it has been for some time.
fn on_its_way(bench: &Bench, values: &[f32]) -> Pending {
    let pending = bench.request(values);
    let mut way = Way::new(pending.rows, Vec::new(), bench.clock.now());
    way.leg = 1;
    Pending { way: Some(Box::new(way)), ..pending }
}

fn offer(bench: &mut Bench, values: &[f32]) -> Ticket {
    let pending = on_its_way(bench, values);
    bench.offer(pending)
}

fn handed_on(bench: &mut Bench) -> Vec<(Ticket, Vec<f32>)> {
    let told = |passed: &Passed| (passed.pending.caller.ticket(), fp32_values(&passed.reply.outputs[0]));
    let passed = bench.answers.take_passed();
    let told = passed.iter().map(told).collect();
    passed.into_iter().for_each(|passed| passed.pending.caller.dismiss());
    told
}

#[test]
fn who_has_run_goes_on_and_others_of_the_batch_are_answered() {
    let mut bench = Bench::new(contract_of_rows(1));
    bench.model.refuse_row(3.0);
    let first = offer(&mut bench, &[1.0]);
    let answered = bench.offer_rows(&[2.0]);
    let refused = offer(&mut bench, &[3.0]);
    assert_eq!(bench.run_all().len(), 1);
    assert_eq!(handed_on(&mut bench), [(first, vec![1.0])]);
    let expected = [(answered, Ok(vec![2.0])), (refused, Err(Reason::RowRejected))];
    assert_eq!(bench.answers(), expected.into());
}

#[test]
fn parts_go_on_together_with_all_that_their_request_has() {
    let mut bench = Bench::with(contract_of_rows(1), policy(4));
    let values: Vec<f32> = (0..11_u8).map(f32::from).collect();
    let mut pending = on_its_way(&bench, &values);
    (pending.priority, pending.deadline) = (3, bench.clock.now() + in_ms(700));
    let (ticket, deadline) = (bench.offer(pending), bench.clock.now() + in_ms(700));
    assert_eq!(bench.run_all().len(), 3);
    assert!(bench.answers().is_empty());
    let [Passed { pending, reply }] = <[Passed; 1]>::try_from(bench.answers.take_passed()).expect("one request");
    assert_eq!((pending.caller.ticket(), pending.rows, pending.priority), (ticket, 11, 3));
    assert_eq!((pending.deadline, pending.way.as_ref().map(|way| way.leg)), (deadline, Some(1)));
    assert_eq!(fp32_values(&reply.outputs[0]), values);
    assert!(pending.caller.is_waiting(), "it was not answered");
    pending.caller.dismiss();
}

#[test]
fn a_part_that_is_refused_ends_the_way() {
    let mut bench = Bench::with(contract_of_rows(1), policy(2));
    bench.model.refuse_row(2.0);
    let ticket = offer(&mut bench, &[0.0, 1.0, 2.0, 3.0, 4.0]);
    bench.run_all();
    assert!(bench.answers.take_passed().is_empty());
    assert_eq!(bench.answers(), [(ticket, Err(Reason::RowRejected))].into());
}

#[test]
fn a_deadline_goes_along() {
    let mut bench = Bench::new(contract_of_rows(1));
    let pending = expired_at(on_its_way(&bench, &[1.0]), bench.clock.now() + in_ms(5));
    let ticket = bench.offer(pending);
    bench.clock.advance_ms(5);
    assert!(bench.run_all().is_empty());
    assert_eq!(bench.answers(), [(ticket, Err(Reason::DeadlineExceeded))].into());
}

#[test]
fn a_wait_is_counted_from_where_it_began() {
    let mut bench = Bench::new(contract_of_rows(1));
    let mut pending = on_its_way(&bench, &[1.0]);
    bench.clock.advance_ms(40);
    if let Some(way) = &mut pending.way {
        way.since = bench.clock.now();
    }
    let whole = bench.offer(pending);
    bench.clock.advance_ms(2);
    bench.run_all();
    let passed = bench.answers.take_passed();
    assert_eq!((passed[0].pending.caller.ticket(), passed[0].reply.timing.queue), (whole, in_ms(2)));
}

#[test]
fn a_row_is_told_by_the_row_of_the_request_that_it_is_of() {
    let mut bench = Bench::with(contract_of_rows(1), policy(4));
    bench.model.refuse_row(5.0);
    let mut entries = |rows: u32, origins: [u32; 6]| {
        let mut pending = on_its_way(&bench, &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        if let Some(way) = &mut pending.way {
            way.rows = rows;
            way.entries = Some(Entries { origins: origins.into(), rows: rows as usize, room: 6 });
        }
        bench.offer(pending);
        bench.run_all();
        bench.refusal().text.into_owned()
    };
    assert!(entries(3, [0, 0, 0, 2, 2, 2]).contains("refuses row 2 of this request"));
    assert!(entries(1, [0; 6]).contains("refuses this request"));
}

#[test]
fn one_who_is_dropped_on_the_way_is_told() {
    let mut bench = Bench::new(contract_of_rows(1));
    let ticket = offer(&mut bench, &[1.0]);
    bench.run_all();
    drop(bench.answers.take_passed());
    assert_eq!(bench.answers(), [(ticket, Err(Reason::Abandoned))].into());
}
