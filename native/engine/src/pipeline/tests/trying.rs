use std::sync::atomic::{AtomicUsize, Ordering};

use servekit_core::{Model as _, Refusal};

use super::*;
use crate::pipeline::Pipeline;

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
        r#"{{"version": 1, "name": "m", "raw": false, "values": [{values}], "slots": 2,
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

#[test]
fn a_kernel_that_fails_as_a_whole_is_told() {
    let refusal = refused(&pipeline(&plan_of_one(broken, "[]")), &inputs([fp32(&[1, 1], &[1.0])]));
    assert_eq!(refusal.reason, Reason::RowRejected);
    assert!(refusal.text.starts_with("after step 1 (one): the kernel failed as a whole"), "{}", refusal.text);
}
