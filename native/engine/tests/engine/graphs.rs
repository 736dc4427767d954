//! Pipelines of several models: each runs as a leg with batches of its own, and requests go from leg to leg.

use std::time::{Duration, Instant};

use servekit_core::{Batching, Datatype, Inputs, Model, Outputs, Passage, Tensor, Timing, Way};
use servekit_engine::{Part, Pipeline};
use servekit_testing::{byte_strings, fp32, fp32_values, tensor};

use crate::kernels::{Plan, increment, only};
use crate::pipelines::{build, pipeline, texts};
use crate::rig::inputs;

const FLOATS: &str = r#"["n"]"#;
const FLOAT_ROWS: &str = r#"["rows", "n"]"#;
const ENTRIES: &str = r#"["k", "n"]"#;

fn int64(shape: &[i64], values: &[i64]) -> Tensor {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(Datatype::Int64, shape, data)
}

/// A request on its way.
struct Traveller {
    place: usize,
    way: Way,
    inputs: Inputs,
    rows: u32,
}

type Answer = Result<Outputs, String>;

/// What each request gets that goes through all legs, with as many rows of others in a run as come along.
fn answers(pipeline: &Pipeline, requests: &[Inputs]) -> Vec<Answer> {
    let route = pipeline.route().expect("there are several legs");
    let mut preparer = pipeline.preparer();
    let mut answers: Vec<Option<Answer>> = requests.iter().map(|_| None).collect();
    let mut travellers = Vec::new();
    for (place, request) in requests.iter().enumerate() {
        let rows = request[0].as_ref().map_or(0, |tensor| tensor.shape[0] as u32);
        let inputs = match &mut preparer {
            Some(preparer) => preparer.prepare(request, rows, &mut Vec::new()).expect("prepared"),
            None => request.clone(),
        };
        let rows = if pipeline.contract().is_batched() { rows } else { 1 };
        let way = Way::new(rows, route.depart(&inputs), Instant::now());
        travellers.push(Traveller { place, way, inputs, rows });
    }
    for (leg, model) in pipeline.legs().iter().enumerate() {
        let (here, later): (Vec<Traveller>, Vec<Traveller>) = travellers.into_iter().partition(|it| it.way.leg == leg);
        travellers = later;
        // One after the other where rows share no run.
        let together = if model.contract().is_batched() { here.len().max(1) } else { 1 };
        let mut here = here.into_iter().peekable();
        while here.peek().is_some() {
            let batch: Vec<Traveller> = here.by_ref().take(together).collect();
            let parts: Vec<Part<'_>> =
                batch.iter().map(|it| Part { inputs: &it.inputs, rows: it.rows as usize, is_whole: true }).collect();
            let total = batch.iter().map(|it| it.rows).sum();
            let ran = model.lane().expect("a lane").run_parts(&parts, total).expect("it runs");
            let mut start = 0;
            for mut it in batch {
                let rows = start..start + it.rows;
                start = rows.end;
                if let Some(fault) = ran.refused.iter().find(|fault| rows.contains(&fault.row)) {
                    let row = it.way.origin(fault.row - rows.start);
                    answers[it.place] = Some(Err(format!("row {row}: {}", fault.text)));
                    continue;
                }
                let own = |output: &Tensor| match together {
                    1 => output.clone(),
                    _ => output.rows(rows.start as usize, rows.len()),
                };
                let outputs: Outputs = ran.outputs.iter().map(own).collect();
                match route.pass(&mut it.way, outputs) {
                    Ok(Passage::On { inputs, rows }) => travellers.push(Traveller { inputs, rows, ..it }),
                    Ok(Passage::Arrived(outputs)) => answers[it.place] = Some(Ok(outputs)),
                    Err(refusal) => answers[it.place] = Some(Err(refusal.text.into_owned())),
                }
            }
        }
    }
    answers.into_iter().map(|answer| answer.expect("everybody is answered")).collect()
}

/// `(x + 1) * 2 + 1`, doubled again by the same model, and what was on the way.
fn twice() -> Plan {
    Plan::default()
        .value("row", "float32", FLOATS)
        .value("batch", "float32", FLOATS)
        .value("batch", "float32", FLOATS)
        .value("batch", "float32", FLOATS)
        .value("batch", "float32", FLOATS)
        .input("x", 0)
        .kernel(increment, (0, "float32", FLOAT_ROWS), (1, "float32", FLOAT_ROWS))
        .model("wide", &[("x", 1)], &[("y", 2)])
        .kernel(increment, (2, "float32", FLOAT_ROWS), (3, "float32", FLOAT_ROWS))
        .model("wide", &[("x", 3)], &[("y", 4)])
        .output("last", 4)
        .output("sent", 0)
        .output("first", 2)
}

/// Each entry is doubled; `count` says how many of them mean something.
fn entries(count: Option<usize>) -> Plan {
    Plan::default()
        .value("row", "float32", ENTRIES)
        .value("row", "int64", "[1]")
        .value("batch", "float32", ENTRIES)
        .value("batch", "int64", "[]")
        .value("batch", "float32", ENTRIES)
        .input("x", 0)
        .input("count", 1)
        .kernel(only, (1, "int64", r#"["rows", 1]"#), (3, "int64", r#"["rows"]"#))
        .kernel(increment, (0, "float32", FLOAT_ROWS), (2, "float32", FLOAT_ROWS))
        .each(r#""k""#, count)
        .model("wide", &[("x", 2)], &[("y", 4)])
        .each(r#""k""#, count)
        .output("y", 4)
        .output("count", 3)
}

fn counted(shape: &[i64], values: &[f32], counts: &[i64]) -> Inputs {
    inputs([fp32(shape, values), int64(&[shape[0], 1], counts)])
}

#[test]
fn every_model_has_a_leg_and_gets_what_was_made_before() {
    let pipeline = pipeline(&twice(), &["wide"]);
    let names: Vec<&str> = pipeline.legs().iter().map(|leg| leg.name()).collect();
    assert_eq!(names, ["wide", "wide 2"]);
    let steps: Vec<&str> = pipeline.steps().iter().map(|step| &*step.name).collect();
    assert_eq!(steps, ["kernel", "wide", "kernel 2", "wide 2"]);
    assert_eq!(pipeline.legs().iter().map(|leg| leg.steps().len()).collect::<Vec<_>>(), [3, 1]);
    let requests = [(1, 5.0), (3, 7.0), (2, 0.5)].map(|(rows, from): (i64, f32)| {
        let values: Vec<f32> = (0..rows * 2).map(|index| from + index as f32).collect();
        inputs([fp32(&[rows, 2], &values)])
    });
    for (answer, request) in answers(&pipeline, &requests).into_iter().zip(&requests) {
        let (outputs, sent) = (answer.expect("answered"), request[0].as_ref().expect("sent"));
        assert_eq!(&outputs[1], sent);
        let first: Vec<f32> = fp32_values(sent).iter().map(|x| (x + 1.0) * 2.0).collect();
        assert_eq!(fp32_values(&outputs[2]), first);
        assert_eq!(fp32_values(&outputs[0]), first.iter().map(|y| (y + 1.0) * 2.0).collect::<Vec<f32>>());
    }
}

#[test]
fn a_row_that_is_refused_goes_no_further_and_its_neighbours_do() {
    let pipeline = pipeline(&twice(), &["wide"]);
    let requests = [1.0, -3.0, 2.0].map(|value| inputs([fp32(&[1, 1], &[value])]));
    let answers = answers(&pipeline, &requests);
    assert_eq!(answers[1], Err("row 0: step 1 (kernel): it is negative".to_owned()));
    let last = |place: usize| fp32_values(&answers[place].as_ref().expect("answered")[0]);
    assert_eq!((last(0), last(2)), (vec![10.0], vec![14.0]));
}

#[test]
fn entries_are_rows_to_those_that_say_so() {
    let pipeline = pipeline(&entries(Some(3)), &["wide"]);
    assert_eq!(pipeline.legs().len(), 2);
    assert_eq!(pipeline.contract().outputs[0].metadata_shape(), [-1, -1, -1]);
    let requests = [
        counted(&[2, 3, 1], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], &[3, 3]),
        counted(&[3, 2, 1], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], &[1, 0, 2]),
        counted(&[1, 2, 1], &[1.0, 2.0], &[0]),
        counted(&[1, 2, 1], &[1.0, 2.0], &[99]),
        counted(&[0, 2, 1], &[], &[]),
        counted(&[1, 4, 1], &[1.0, 2.0, 3.0, 4.0], &[2]),
    ];
    let expected: [(&[i64], &[f32]); 6] = [
        (&[2, 3, 1], &[2.0, 4.0, 6.0, 8.0, 10.0, 12.0]),
        (&[3, 2, 1], &[2.0, 0.0, 0.0, 0.0, 10.0, 12.0]),
        (&[1, 2, 1], &[0.0, 0.0]),
        (&[1, 2, 1], &[4.0, 6.0]),
        (&[0, 2, 1], &[]),
        (&[1, 4, 1], &[4.0, 6.0, 0.0, 0.0]),
    ];
    for (place, request) in requests.iter().enumerate() {
        // Alone, as the first axis behind rows differs.
        let outputs = answers(&pipeline, std::slice::from_ref(request)).remove(0).expect("answered");
        assert_eq!(outputs[0], fp32(expected[place].0, expected[place].1), "{place}");
    }
    // Entries of several requests share a run, whatever their number.
    let together = answers(&pipeline, &requests[2..4]);
    assert_eq!(fp32_values(&together[0].as_ref().expect("answered")[0]), [0.0, 0.0]);
    assert_eq!(fp32_values(&together[1].as_ref().expect("answered")[0]), [4.0, 6.0]);
}

#[test]
fn all_entries_are_meant_where_nothing_counts_them() {
    let pipeline = pipeline(&entries(None), &["wide"]);
    let request = counted(&[1, 3, 2], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], &[0]);
    let outputs = answers(&pipeline, &[request]).remove(0).expect("answered");
    assert_eq!(outputs[0], fp32(&[1, 3, 2], &[2.0, 4.0, 6.0, 8.0, 10.0, 12.0]));
}

#[test]
fn an_entry_that_is_refused_is_its_row() {
    let pipeline = pipeline(&entries(Some(3)), &["wide"]);
    let bad = counted(&[3, 2, 1], &[0.0, -1.0, 2.0, 3.0, 4.0, -5.0], &[1, 2, 2]);
    let good = counted(&[1, 2, 1], &[1.0, 2.0], &[2]);
    let answers = answers(&pipeline, &[bad, good]);
    // The entry of row 0 that is negative means nothing.
    assert_eq!(answers[0], Err("row 2: step 2 (kernel): it is negative".to_owned()));
    assert_eq!(fp32_values(&answers[1].as_ref().expect("answered")[0]), [4.0, 6.0]);
}

#[test]
fn entries_may_be_texts() {
    let plan = Plan::default()
        .value("row", "string", r#"["k", 3]"#)
        .value("row", "int64", "[]")
        .value("batch", "string", r#"["k", 3]"#)
        .input("x", 0)
        .input("count", 1)
        .model("same_BYTES", &[("x", 0)], &[("y", 2)])
        .each(r#""k""#, Some(1))
        .output("y", 2);
    let pipeline = pipeline(&plan, &["same_BYTES"]);
    let texts: [&[u8]; 12] = [b"a", b"bb", b"", b"cccc", b"d", b"e", b"0", b"1", b"2", b"3", b"4", b"5"];
    let shown = |entries: &[usize]| {
        let text = |place: usize| if entries.contains(&(place / 3)) { texts[place] } else { b"" };
        byte_strings(&[2, 2, 3], &(0..12).map(text).collect::<Vec<_>>())
    };
    for (counts, meant) in [([2, 2], &[0, 1, 2, 3][..]), ([1, 2], &[0, 2, 3]), ([1, 0], &[0]), ([0, 0], &[])] {
        let request = inputs([shown(&[0, 1, 2, 3]), int64(&[2], &counts)]);
        let outputs = answers(&pipeline, &[request]).remove(0).expect("answered");
        assert_eq!(outputs[0], shown(meant), "{counts:?}");
    }
}

#[test]
fn entries_of_what_clients_send_have_a_leg_before_them() {
    let plan = Plan::default()
        .value("row", "float32", ENTRIES)
        .value("batch", "float32", ENTRIES)
        .input("x", 0)
        .model("wide", &[("x", 0)], &[("y", 1)])
        .each(r#""k""#, None)
        .output("y", 1);
    let pipeline = pipeline(&plan, &["wide"]);
    assert_eq!(pipeline.legs().iter().map(|leg| leg.models().len()).collect::<Vec<_>>(), [0, 1]);
    let request = inputs([fp32(&[2, 2, 1], &[1.0, 2.0, 3.0, 4.0])]);
    let outputs = answers(&pipeline, &[request]).remove(0).expect("answered");
    assert_eq!(outputs[0], fp32(&[2, 2, 1], &[2.0, 4.0, 6.0, 8.0]));
}

#[test]
fn a_stage_of_the_first_leg_is_carried_to_the_last() {
    let plan = Plan::default()
        .value("row", "string", "[]")
        .value("row", "int64", "[1]")
        .value("batch", "int64", "[]")
        .value("batch", "float32", "[2]")
        .value("batch", "float32", "[2]")
        .input("text", 0)
        .stage("lookup", r#"{"categories": ["a", "b", "c"]}"#, 0, &[1])
        .kernel(only, (1, "int64", r#"["rows", 1]"#), (2, "int64", r#"["rows"]"#))
        .model("pick", &[("i", 2)], &[("y", 3)])
        .model("wide", &[("x", 3)], &[("y", 4)])
        .output("y", 4)
        .output("place", 1)
        .output("text", 0);
    let pipeline = pipeline(&plan, &["pick", "wide"]);
    let outputs = answers(&pipeline, &[texts(&["c", "a"])]).remove(0).expect("answered");
    assert_eq!(fp32_values(&outputs[0]), [8.0, 10.0, 0.0, 2.0]);
    assert_eq!(outputs[1], int64(&[2, 1], &[2, 0]));
    assert_eq!(Some(&outputs[2]), texts(&["c", "a"])[0].as_ref());
}

#[test]
fn one_model_that_shares_no_run_makes_all_legs_run_alone() {
    let plan = Plan::default()
        .value("row", "float32", "[3]")
        .value("batch", "float32", "[3]")
        .value("batch", "float32", "[3]")
        .input("x", 0)
        .model("wide", &[("x", 0)], &[("y", 1)])
        .model("fixed", &[("x", 1)], &[("y", 2)])
        .output("y", 2);
    let pipeline = pipeline(&plan, &["wide", "fixed"]);
    assert!(matches!(pipeline.contract().batching, Batching::Alone(_)));
    assert!(pipeline.legs().iter().all(|leg| !leg.contract().is_batched() && leg.batch_rows_max() == 1));
    let outputs = answers(&pipeline, &[inputs([fp32(&[2, 3], &[1.0; 6])])]).remove(0).expect("answered");
    assert_eq!(outputs[0], fp32(&[2, 3], &[-2.0; 6]));
}

#[test]
fn entries_that_are_none_are_refused_at_load() {
    let plan = |shape: &str| {
        Plan::default()
            .value("row", "float32", shape)
            .value("batch", "float32", ENTRIES)
            .input("x", 0)
            .model("wide", &[("x", 0)], &[("y", 1)])
            .each(r#""k""#, None)
            .output("y", 1)
    };
    for shape in ["[3]", r#"["n", "k"]"#, "[]"] {
        let text = build(&plan(shape), &["wide"]).expect_err("it is refused");
        assert!(text.contains("where each entry is to be a row"), "{text}");
    }
    let text = build(&entries(Some(77)), &["wide"]).expect_err("it is refused");
    assert!(text.contains("value 77 of 5 does not exist"), "{text}");
}

#[test]
fn what_legs_took_is_told_together() {
    let mut way = Way::new(1, Vec::new(), Instant::now());
    let millis = Duration::from_millis;
    let timing = |run| Timing { queue: millis(1), run: millis(run), batch_rows: run as u32, ..Timing::default() };
    way.note(timing(2), Some([millis(2)].into()));
    way.note(timing(3), Some([millis(1), millis(2)].into()));
    let reply = way.reply(Outputs::new());
    assert_eq!((reply.timing.queue, reply.timing.run, reply.timing.batch_rows), (millis(2), millis(5), 3));
    assert_eq!(reply.steps.as_deref(), Some(&[millis(2), millis(1), millis(2)][..]));
}
