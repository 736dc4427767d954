//! Rows of several lengths in one batch of a pipeline: the model sees them padded, and kernels do not.

use std::path::Path;

use servekit_core::{Datatype, Inputs, Model, Outputs, Reason, Tensor};
use servekit_engine::Pipeline;
use servekit_testing::{fp32_values, tensor};

use crate::kernels::{Plan, count, extent};
use crate::pipelines::{LIMITS, run, served, texts};
use crate::rig::inputs;

const MODEL: &str = "ragged_attention";
const IDS: &str = r#"["length"]"#;
const SEEN: &str = r#"["rows", "n", 4]"#;

/// Values 0 to 2 are ids and mask in front of the model, whatever gives them.
fn around_model(plan: Plan) -> Plan {
    plan.model(MODEL, &[("ids", 1), ("attention_mask", 2)], &[("mean", 4), ("seen", 5)])
        .kernel(extent, (5, "float32", SEEN), (6, "float32", r#"["rows", 1]"#))
        .kernel(count, (2, "int64", r#"["rows", "n"]"#), (7, "int64", r#"["rows", 1]"#))
        .output("count", 7)
        .output("extent", 6)
        .output("mean", 4)
}

fn values(first: (&str, &str)) -> Plan {
    Plan::default()
        .value("row", first.0, first.1)
        .value("row", "int64", IDS)
        .value("row", "int64", IDS)
        .value("row", "int64", IDS)
        .value("batch", "float32", "[4]")
        .value("batch", "float32", r#"["length", 4]"#)
        .value("batch", "float32", "[1]")
        .value("batch", "int64", "[1]")
}

/// Texts in, with their tokens numbered by a stage.
fn embedding(special_tokens: bool) -> Plan {
    let options = format!(r#"{{"special_tokens": {special_tokens}}}"#);
    let plan = values(("string", "[]")).input("text", 0).stage("tokenize", &options, 0, &[1, 2, 3]);
    around_model(plan).output("text", 0)
}

fn pipeline(plan: &Plan) -> Pipeline {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../stages/tests/data");
    Pipeline::build(&plan.json(), &served(&[MODEL]), &folder, LIMITS).unwrap_or_else(|refusal| panic!("{refusal}"))
}

fn int64(tensor: &Tensor) -> Vec<i64> {
    assert_eq!(tensor.datatype, Datatype::Int64);
    tensor.data.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
}

fn assert_close(one: &Tensor, other: &Tensor) {
    assert_eq!(one.shape, other.shape);
    for (one, other) in fp32_values(one).into_iter().zip(fp32_values(other)) {
        assert!((one - other).abs() <= 1e-3, "{one} {other}");
    }
}

/// Each row as it is answered alone is what it is among the others, but for rounding.
fn assert_same(whole: &Outputs, start: usize, alone: &Outputs) {
    for (index, (whole, alone)) in whole.iter().zip(alone).enumerate() {
        let own = whole.rows(start, alone.shape[0] as usize);
        if [1, 2].contains(&index) { assert_close(&own, alone) } else { assert_eq!(&own, alone) }
    }
}

const TEXTS: [&str; 7] =
    ["the cat", "a dog", "the cat sat on the mat", "the", "a dog ran on a mat", "", "sat on the mat"];

#[test]
fn texts_of_several_lengths_are_answered_as_alone() {
    let pipeline = pipeline(&embedding(true));
    let queued = pipeline.run_contract();
    let ragged = queued.ragged.as_deref().expect("lengths are mixed");
    assert_eq!(&*ragged.inputs, [None, Some(1), Some(1), None]);
    assert_eq!(&*ragged.outputs, [None; 4]);
    assert_eq!((ragged.masks.len(), ragged.masks[0].input), (1, 2));
    assert_eq!((queued.inputs.len(), pipeline.contract().inputs.len()), (4, 1));
    assert!(pipeline.contract().ragged.is_none());
    let mut lane = pipeline.legs()[0].lane().expect("a lane");
    let alone: Vec<_> =
        TEXTS.iter().map(|text| run(&pipeline, &mut lane, &[&texts(&[text])]).expect("answered").outputs).collect();
    let counts: Vec<i64> = alone.iter().map(|outputs| int64(&outputs[0])[0]).collect();
    assert_eq!(counts, [4, 4, 8, 3, 8, 2, 6]);
    let together = [vec![texts(&TEXTS)], TEXTS.iter().map(|text| texts(&[text])).collect(), {
        vec![texts(&TEXTS[..3]), texts(&[]), texts(&TEXTS[3..4]), texts(&TEXTS[4..])]
    }];
    for requests in together {
        let requests: Vec<&Inputs> = requests.iter().collect();
        let found = run(&pipeline, &mut lane, &requests).expect("answered");
        assert_eq!((found.refused.len(), found.steps.len()), (0, 3));
        for (row, alone) in alone.iter().enumerate() {
            assert_same(&found.outputs, row, alone);
        }
    }
}

#[test]
fn what_only_kernels_read_is_mixed_too() {
    // The kinds of tokens go to no model.
    let plan = values(("string", "[]"))
        .input("text", 0)
        .stage("tokenize", r#"{"special_tokens": false}"#, 0, &[1, 2, 3])
        .model(MODEL, &[("ids", 1), ("attention_mask", 2)], &[("mean", 4), ("seen", 5)])
        .kernel(count, (3, "int64", r#"["rows", "n"]"#), (7, "int64", r#"["rows", 1]"#))
        .output("count", 7)
        .output("mean", 4);
    let pipeline = pipeline(&plan);
    let ragged = pipeline.run_contract().ragged.as_deref().expect("lengths are mixed");
    assert_eq!(&*ragged.inputs, [Some(1), Some(1), Some(1), None]);
    let mut lane = pipeline.legs()[0].lane().expect("a lane");
    let requests = [texts(&["the cat sat", "the"]), texts(&["a dog"])];
    let found = run(&pipeline, &mut lane, &requests.iter().collect::<Vec<_>>()).expect("answered");
    assert_eq!(int64(&found.outputs[0]), [3, 1, 2]);
}

#[test]
fn what_is_queued_may_be_mixed() {
    let pipeline = pipeline(&embedding(true));
    let ragged = pipeline.run_contract().ragged.as_deref().expect("lengths are mixed");
    let mut preparer = pipeline.preparer().expect("it has a stage");
    let prepared = preparer.prepare(&texts(&["the cat sat", "the"]), 2, &mut Vec::new()).expect("prepared");
    assert!(ragged.mixes(&prepared));
    assert_eq!(ragged.length(&prepared), 5);
    let given: Vec<&Tensor> = prepared.iter().flatten().collect();
    assert_eq!(int64(given[1]), [2, 4, 5, 6, 3, 2, 4, 3, 0, 0]);
    assert_eq!(int64(given[2]), [1, 1, 1, 1, 1, 1, 1, 1, 0, 0]);
    assert_eq!(int64(given[3]), [5, 3]);
    let nothing = preparer.prepare(&texts(&[]), 0, &mut Vec::new()).expect("prepared");
    assert_eq!(nothing.iter().flatten().map(|tensor| tensor.shape[0]).collect::<Vec<_>>(), [0; 4]);
}

#[test]
fn refused_rows_keep_their_places() {
    let pipeline = pipeline(&embedding(true));
    let mut lane = pipeline.legs()[0].lane().expect("a lane");
    let requests = [texts(&["the cat sat", "the"]), texts(&["a cat"]), texts(&["a dog ran", "a"])];
    let found = run(&pipeline, &mut lane, &requests.iter().collect::<Vec<_>>()).expect("answered");
    let refused: Vec<(u32, &str)> = found.refused.iter().map(|fault| (fault.row, fault.text.as_ref())).collect();
    let text = "step 2 (kernel): it is negative";
    assert_eq!(refused, [(0, text), (3, text)]);
    assert_eq!(int64(&found.outputs[0]), [5, 3, 4, 5, 3]);
    let again = run(&pipeline, &mut lane, &[&texts(&["a", "a cat"])]).expect("answered");
    assert!(again.refused.is_empty());
}

#[test]
fn an_answer_that_is_still_held_is_not_written_over() {
    let pipeline = pipeline(&embedding(true));
    let mut lane = pipeline.legs()[0].lane().expect("a lane");
    let rows: Vec<String> = (0..1_500).map(|row| ["a", "a cat", "the mat sat on"][row % 3].to_owned()).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let held = run(&pipeline, &mut lane, &[&texts(&rows)]).expect("answered").outputs;
    let before: Vec<f32> = fp32_values(&held[1]);
    assert!(held[1].data.len() > 4096);
    run(&pipeline, &mut lane, &[&texts(&rows.iter().rev().copied().collect::<Vec<_>>())]).expect("answered");
    assert_eq!(fp32_values(&held[1]), before);
}

#[test]
fn rows_that_may_not_see_padding_are_refused_together() {
    let pipeline = pipeline(&embedding(false));
    let mut preparer = pipeline.preparer().expect("it has a stage");
    let refusal = preparer.prepare(&texts(&["the cat", ""]), 2, &mut Vec::new()).unwrap_err();
    assert_eq!(refusal.reason, Reason::ShapeMismatch);
    let text = "pipeline of 'own': before step 1 (tokenize): output 'v1' is [0] for row 1, [2] as for row 0 is allowed";
    assert!(refusal.text.starts_with(text), "{}", refusal.text);
    assert!(preparer.prepare(&texts(&["the cat", "the"]), 2, &mut Vec::new()).is_ok());
    assert!(preparer.prepare(&texts(&[""]), 1, &mut Vec::new()).is_ok());
}

#[test]
fn lengths_that_clients_send_are_mixed_too() {
    let plan = Plan::default()
        .value("row", "int64", IDS)
        .value("row", "int64", IDS)
        .value("batch", "float32", "[4]")
        .value("batch", "float32", r#"["length", 4]"#)
        .value("batch", "float32", "[1]")
        .input("ids", 0)
        .input("mask", 1)
        .model(MODEL, &[("ids", 0), ("attention_mask", 1)], &[("mean", 2), ("seen", 3)])
        .kernel(extent, (3, "float32", SEEN), (4, "float32", r#"["rows", 1]"#))
        .output("extent", 4);
    let pipeline = pipeline(&plan);
    assert!(pipeline.preparer().is_none() && pipeline.contract().ragged.is_some());
    assert_eq!(pipeline.contract(), pipeline.run_contract());
    let mut lane = pipeline.legs()[0].lane().expect("a lane");
    let request = |rows: i64, length: i64| {
        let numbers = |number: i64| (0..rows * length).map(|_| number).flat_map(i64::to_le_bytes).collect::<Vec<u8>>();
        let both = [numbers(7), numbers(1)];
        inputs(both.map(|data| tensor(Datatype::Int64, &[rows, length], data)))
    };
    let requests = [request(1, 3), request(0, 9), request(2, 6), request(1, 3), request(1, 2)];
    let found = run(&pipeline, &mut lane, &requests.iter().collect::<Vec<_>>()).expect("answered").outputs;
    let mut start = 0;
    for request in requests.iter().filter(|request| request[0].as_ref().is_some_and(|ids| ids.shape[0] > 0)) {
        let alone = run(&pipeline, &mut lane, &[request]).expect("answered").outputs;
        assert_close(&found[0].rows(start, alone[0].shape[0] as usize), &alone[0]);
        start += alone[0].shape[0] as usize;
    }
    let empty = [request(0, 4), request(0, 9)];
    let nothing = run(&pipeline, &mut lane, &empty.iter().collect::<Vec<_>>()).expect("answered").outputs;
    assert_eq!(nothing[0].shape.as_slice(), [0, 1]);
    let same = [request(2, 3), request(0, 9)];
    assert!(run(&pipeline, &mut lane, &same.iter().collect::<Vec<_>>()).is_ok());
}

#[test]
fn lengths_that_clients_would_see_are_not_mixed() {
    let pipeline = pipeline(&embedding(true).output("seen", 5));
    assert!(pipeline.run_contract().ragged.is_none());
    assert_eq!(pipeline.run_contract().inputs.len(), 3);
    let mut preparer = pipeline.preparer().expect("it has a stage");
    let refusal = preparer.prepare(&texts(&["the cat", "the"]), 2, &mut Vec::new()).unwrap_err();
    assert_eq!(refusal.reason, Reason::ShapeMismatch);
}
