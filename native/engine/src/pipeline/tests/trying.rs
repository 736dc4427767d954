use std::sync::atomic::{AtomicUsize, Ordering};

use servekit_core::{Model as _, Refusal};

use super::*;
use crate::pipeline::{Pipeline, trying};

static CALLS: AtomicUsize = AtomicUsize::new(0);

/// Counts how often it is called.
unsafe extern "C" fn counting(call: *mut Call) -> i64 {
    CALLS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: only frames call it, with what `kernel_of_one` declares.
    unsafe { picky(call) }
}

fn pipeline(plan: &str) -> Pipeline {
    Pipeline::build(plan, &[], Path::new("/"), LIMITS).unwrap_or_else(|refusal| panic!("{refusal:?}: {plan}"))
}

fn refused(pipeline: &Pipeline, request: &Inputs) -> Refusal {
    pipeline.try_out(request, 1).expect_err("it is refused")
}

#[test]
fn each_step_has_the_median_of_several_runs() {
    let pipeline = pipeline(&plan_of_one(counting, "[]"));
    let found = pipeline.try_out(&inputs([fp32(&[2, 3], &[1.0; 6])]), 2).expect("tried");
    assert_eq!(found.len(), pipeline.steps().len());
    assert!(CALLS.load(Ordering::Relaxed) >= 3);
}

/// `y` is what the kernel makes of `x`; `colour` is a category.
fn plan_with_a_stage() -> String {
    let values = [
        value("x", "float32", r#"["n"]"#, "row", "0"),
        value("colour", "string", "[]", "row", "null"),
        value("category", "int64", "[1]", "row", "null"),
        value("y", "float32", r#"["n"]"#, "batch", "1"),
    ];
    let (values, kernel) = (values.join(", "), kernel_of_one(picky, "[]"));
    format!(
        r#"{{"version": 2, "name": "m", "raw": false, "values": [{values}], "slots": 2,
            "inputs": [{{"name": "x", "value": 0}}, {{"name": "colour", "value": 1}}],
            "stages": [{{"step": "before step 1 (lookup)", "kind": "lookup", "options": {{"categories": ["red"]}},
                         "inputs": [1], "outputs": [2]}}],
            "batch": [{{"step": "after step 1 (one)", "kernel": {kernel}, "inputs": [0], "outputs": [3]}}],
            "outputs": [{{"name": "y", "value": 3}}, {{"name": "category", "value": 2}}]}}"#
    )
}

#[test]
fn what_a_step_refuses_is_told_with_the_step() {
    let pipeline = pipeline(&plan_with_a_stage());
    let request = |x: f32, colour: &str| inputs([fp32(&[1, 1], &[x]), byte_strings(&[1], &[colour.as_bytes()])]);
    assert_eq!(pipeline.try_out(&request(1.0, "red"), 1).expect("tried").len(), 2);
    let refusal = refused(&pipeline, &request(1.0, "blue"));
    assert_eq!(refusal.reason, Reason::ValueOutOfRange);
    assert!(refusal.text.contains("before step 1 (lookup): "), "{}", refusal.text);
    let refusal = refused(&pipeline, &request(-1.0, "red"));
    assert_eq!((refusal.reason, &*refusal.text), (Reason::RowRejected, "after step 1 (one): too low"));
}

/// Each entry of `x` goes through the kernel; `count` says how many of them mean something.
fn plan_of_entries() -> String {
    let values = [
        value("x", "float32", r#"["k", "n"]"#, "row", "0"),
        value("count", "int64", "[1]", "row", "1"),
        value("y", "float32", r#"["k", "n"]"#, "batch", "2"),
    ];
    let (values, kernel) = (values.join(", "), kernel_of_one(picky, "[]"));
    format!(
        r#"{{"version": 2, "name": "m", "raw": false, "values": [{values}], "slots": 3,
            "inputs": [{{"name": "x", "value": 0}}, {{"name": "count", "value": 1}}], "stages": [],
            "batch": [{{"step": "after step 1 (one)", "kernel": {kernel}, "inputs": [0], "outputs": [2],
                        "each": {{"axis": "k", "count": 1}}}}],
            "outputs": [{{"name": "y", "value": 2}}]}}"#
    )
}

#[test]
fn a_leg_that_no_entry_comes_to_takes_no_time() {
    let pipeline = pipeline(&plan_of_entries());
    assert_eq!(pipeline.legs().len(), 2);
    let request = |values: &[f32], count: i64| {
        let count = tensor(Datatype::Int64, &[1, 1], count.to_le_bytes().to_vec());
        inputs([fp32(&[1, values.len() as i64, 1], values), count])
    };
    assert_eq!(pipeline.try_out(&request(&[1.0, 2.0], 0), 1).expect("tried"), [Duration::ZERO]);
    assert_ne!(pipeline.try_out(&request(&[1.0, 2.0], 2), 1).expect("tried"), [Duration::ZERO]);
    let refusal = refused(&pipeline, &request(&[1.0, -2.0], 2));
    assert_eq!(&*refusal.text, "after step 1 (one): too low");
    assert!(pipeline.try_out(&request(&[1.0, -2.0], 1), 1).is_ok(), "the entry that is too low means nothing");
}

#[test]
fn rows_beyond_a_batch_run_in_several() {
    let mut lane = lane(&plan_of_sums());
    let request = inputs([fp32(&[5, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0])]);
    let (mut once, mut several) = (Vec::new(), Vec::new());
    let whole = trying::run(&mut lane, &request, (5, 8), &mut once).expect("it runs");
    let parts = trying::run(&mut lane, &request, (5, 2), &mut several).expect("it runs");
    assert_eq!(whole, parts);
    assert_eq!((once.len(), several.len()), (2, 2));
}

#[test]
fn a_kernel_that_fails_as_a_whole_is_told() {
    let refusal = refused(&pipeline(&plan_of_one(broken, "[]")), &inputs([fp32(&[1, 1], &[1.0])]));
    assert_eq!(refusal.reason, Reason::RowRejected);
    assert!(refusal.text.starts_with("after step 1 (one): the kernel failed as a whole"), "{}", refusal.text);
}
