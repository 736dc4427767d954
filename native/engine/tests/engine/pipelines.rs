//! Steps around models: what runs together is answered as if it ran alone.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use servekit_core::{Batching, Datatype, Inputs, Item, Model, Reason, RowFault, RunFailure, RunOutputs};
use servekit_engine::{LoadedModel, Part, Pipeline, PipelineLane};
use servekit_stages::StageLimits;
use servekit_testing::{Inbox, byte_strings, fp32, fp32_values};

use crate::kernels::{Plan, channels, increment, only};
use crate::rig::{environment, inputs, limits, model, spec};

pub const LIMITS: StageLimits = StageLimits { image_pixels_max: 100_000, text_bytes_max: 1_024 };
const FLOATS: &str = r#"["n"]"#;
const FLOAT_ROWS: &str = r#"["rows", "n"]"#;

pub fn served(names: &[&str]) -> Vec<(String, Arc<LoadedModel>)> {
    names.iter().map(|name| ((*name).to_owned(), Arc::new(model(name)))).collect()
}

pub fn build(plan: &Plan, names: &[&str]) -> Result<Pipeline, String> {
    Pipeline::build(&plan.json(), &served(names), Path::new("/"), LIMITS).map_err(|refusal| {
        assert_eq!(refusal.reason, Reason::ModelFile);
        refusal.text.into_owned()
    })
}

pub fn pipeline(plan: &Plan, names: &[&str]) -> Pipeline {
    build(plan, names).unwrap_or_else(|why| panic!("{why}"))
}

/// Each number plus one, doubled by a model, plus one.
fn sandwich() -> Plan {
    Plan::default()
        .value("row", "float32", FLOATS)
        .value("batch", "float32", FLOATS)
        .value("batch", "float32", FLOATS)
        .value("batch", "float32", FLOATS)
        .input("x", 0)
        .kernel(increment, (0, "float32", FLOAT_ROWS), (1, "float32", FLOAT_ROWS))
        .model("wide", &[("x", 1)], &[("y", 2)])
        .kernel(increment, (2, "float32", FLOAT_ROWS), (3, "float32", FLOAT_ROWS))
        .output("y", 3)
        .output("doubled", 2)
}

/// A text's number, and the row of the table that it picks.
fn picked() -> Plan {
    Plan::default()
        .value("row", "string", "[]")
        .value("row", "int64", "[1]")
        .value("batch", "int64", "[]")
        .value("batch", "float32", "[2]")
        .input("text", 0)
        .stage("lookup", r#"{"categories": ["a", "b", "c", "d", "beyond"], "unknown": -1}"#, 0, &[1])
        .kernel(only, (1, "int64", r#"["rows", 1]"#), (2, "int64", r#"["rows"]"#))
        .model("pick", &[("i", 2)], &[("y", 3)])
        .output("y", 3)
}

pub fn texts(texts: &[&str]) -> Inputs {
    let elements: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
    inputs([byte_strings(&[texts.len() as i64], &elements)])
}

/// Prepares requests and runs them as one batch.
pub fn run(pipeline: &Pipeline, lane: &mut PipelineLane, requests: &[&Inputs]) -> Result<RunOutputs, RunFailure> {
    let mut preparer = pipeline.preparer();
    let prepared: Vec<Inputs> = requests
        .iter()
        .map(|request| match &mut preparer {
            Some(preparer) => preparer.prepare(request, 0, &mut Vec::new()).expect("prepared"),
            None => (*request).clone(),
        })
        .collect();
    let rows = |inputs: &Inputs| inputs[0].as_ref().map_or(0, |tensor| tensor.shape[0] as usize);
    let parts: Vec<Part<'_>> =
        prepared.iter().map(|inputs| Part { inputs, rows: rows(inputs), is_whole: true }).collect();
    let total: usize = parts.iter().map(|part| part.rows).sum();
    lane.run_parts(&parts, total as u32)
}

#[test]
fn a_batch_of_several_requests_is_each_of_them_alone() {
    let pipeline = pipeline(&sandwich(), &["wide", "pick"]);
    assert!(pipeline.contract().is_batched() && pipeline.preparer().is_none());
    assert_eq!((pipeline.legs()[0].models().len(), pipeline.legs()[0].batch_rows_max() > 1), (1, true));
    let places: Vec<&str> = pipeline.steps().iter().map(|step| step.place.name()).collect();
    assert_eq!(places, ["batch", "model", "batch"]);
    let mut lane = pipeline.legs()[0].lane().expect("a lane");
    for width in [1_i64, 3, 2_000] {
        let request = |rows: i64, from: i64| {
            let values: Vec<f32> = (0..rows * width).map(|index| (from + index) as f32).collect();
            inputs([fp32(&[rows, width], &values)])
        };
        let requests: Vec<Inputs> = [(1, 5), (3, 7), (0, 1), (2, 4)].map(|(rows, from)| request(rows, from)).into();
        let together = run(&pipeline, &mut lane, &requests.iter().collect::<Vec<_>>()).expect("answered");
        assert_eq!(together.steps.len(), 3);
        let mut start = 0;
        for request in &requests {
            let alone = run(&pipeline, &mut lane, &[request]).expect("answered").outputs;
            let given = request[0].as_ref().expect("given");
            let expected: Vec<f32> = fp32_values(given).iter().map(|value| 2.0 * (value + 1.0) + 1.0).collect();
            assert_eq!(fp32_values(&alone[0]), expected);
            for (whole, alone) in together.outputs.iter().zip(&alone) {
                assert_eq!(&whole.rows(start, given.shape[0] as usize), alone);
            }
            start += given.shape[0] as usize;
        }
    }
}

#[test]
fn an_answer_that_is_still_held_is_not_written_over() {
    let pipeline = pipeline(&sandwich(), &["wide"]);
    let mut lane = pipeline.legs()[0].lane().expect("a lane");
    let mut answer = |value: f32, rows: i64| {
        let request = inputs([fp32(&[rows, 2_000], &vec![value; rows as usize * 2_000])]);
        run(&pipeline, &mut lane, &[&request]).expect("answered").outputs
    };
    let held: Vec<_> = (0..8).map(|value| (value as f32, answer(value as f32, 1 + value % 3))).collect();
    for (value, outputs) in held {
        assert!(fp32_values(&outputs[0]).iter().all(|&found| found == 2.0 * value + 3.0));
        assert!(fp32_values(&outputs[1]).iter().all(|&found| found == 2.0 * value + 2.0));
    }
}

#[test]
fn rows_go_through_stages_kernels_and_a_model() {
    let pipeline = pipeline(&picked(), &["pick"]);
    let contract = pipeline.contract();
    assert_eq!((contract.inputs[0].datatype, contract.inputs[0].base64), (Datatype::Bytes, false));
    assert_eq!(contract.outputs[0].metadata_shape(), [-1, 2]);
    assert_eq!(pipeline.run_contract().inputs[0].datatype, Datatype::Int64);
    assert_eq!(pipeline.steps().len(), 3);
    let mut lane = pipeline.legs()[0].lane().expect("a lane");
    let outputs = run(&pipeline, &mut lane, &[&texts(&["c", "a"]), &texts(&[]), &texts(&["d"])]).expect("answered");
    assert_eq!(fp32_values(&outputs.outputs[0]), [4.0, 5.0, 0.0, 1.0, 6.0, 7.0]);
    assert_eq!(run(&pipeline, &mut lane, &[&texts(&[])]).expect("answered").outputs[0].shape.as_slice(), [0, 2]);
}

#[test]
fn a_picture_becomes_numbers() {
    let plan = Plan::default()
        .value("row", "bytes", "[]")
        .value("row", "uint8", r#"["height", "width", 3]"#)
        .value("batch", "float32", "[3]")
        .value("batch", "float32", "[3]")
        .input("image", 0)
        .stage("decode_image", "{}", 0, &[1])
        .kernel(channels, (1, "uint8", r#"["rows", "height", "width", 3]"#), (2, "float32", r#"["rows", 3]"#))
        .model("same_FP32", &[("x", 2)], &[("y", 3)])
        .output("means", 3);
    let pipeline = pipeline(&plan, &["same_FP32"]);
    assert!(pipeline.contract().inputs[0].base64);
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../stages/tests/data/colours.png");
    let file = std::fs::read(data).expect("a picture");
    let pixels = std::fs::read(format!("{data}.rgb")).expect("its pixels");
    let mut lane = pipeline.legs()[0].lane().expect("a lane");
    let request = inputs([byte_strings(&[2], &[&file, &file])]);
    let means = fp32_values(&run(&pipeline, &mut lane, &[&request]).expect("answered").outputs[0]);
    for (channel, mean) in means.iter().enumerate() {
        let levels = pixels.iter().skip(channel % 3).step_by(3).map(|&level| f64::from(level));
        let expected = levels.sum::<f64>() / (pixels.len() / 3) as f64;
        assert!((f64::from(*mean) - expected).abs() < 0.01, "{mean} {expected}");
    }
    let mut preparer = pipeline.preparer().expect("it has a stage");
    let cut = inputs([byte_strings(&[1], &[&file[..file.len() / 2]])]);
    let refusal = preparer.prepare(&cut, 1, &mut Vec::new()).unwrap_err();
    assert_eq!(refusal.reason, Reason::ValueOutOfRange);
    assert!(refusal.text.starts_with("pipeline of 'own': before step 1 (decode_image): "), "{}", refusal.text);
}

#[test]
fn a_refused_row_does_not_make_the_model_fail_for_its_neighbours() {
    let pipeline = pipeline(&picked(), &["pick"]);
    let mut lane = pipeline.legs()[0].lane().expect("a lane");
    // An unknown text is -1, which the kernel refuses; the model would take it for the last row, or fail.
    let outputs = run(&pipeline, &mut lane, &[&texts(&["b", "what"]), &texts(&["c"])]).expect("answered");
    let fault = RowFault { row: 1, text: "step 1 (kernel): it is negative".into() };
    assert_eq!(outputs.refused, [fault]);
    assert_eq!(fp32_values(&outputs.outputs[0].rows(0, 1)), [2.0, 3.0]);
    assert_eq!(fp32_values(&outputs.outputs[0].rows(2, 1)), [4.0, 5.0]);
}

#[test]
fn a_model_that_fails_is_named() {
    let pipeline = pipeline(&picked(), &["pick"]);
    let mut lane = pipeline.legs()[0].lane().expect("a lane");
    let failure = run(&pipeline, &mut lane, &[&texts(&["a", "beyond"])]).unwrap_err();
    let RunFailure::Rejected(text) = &failure else { panic!("{failure:?}") };
    assert!(text.starts_with("model (pick): Gather: "), "{text}");
    assert!(run(&pipeline, &mut lane, &[&texts(&["a"])]).is_ok());
}

#[test]
fn requests_run_through_the_schedulers_hands() {
    let pipeline = pipeline(&sandwich(), &["wide"]);
    let mut executor = pipeline.executor().expect("a lane");
    let inbox = Inbox::new();
    let item = |rows: i64, value: f32| {
        let request = inbox.request([fp32(&[rows, 2], &vec![value; 2 * rows as usize])], Instant::now());
        Item::whole(Box::new(request))
    };
    let outputs = executor.run(&[item(1, 1.0), item(2, -2.0)], 3).expect("answered");
    assert_eq!(fp32_values(&outputs.outputs[0].rows(0, 1)), [5.0, 5.0]);
    assert_eq!(outputs.refused.iter().map(|fault| fault.row).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn texts_go_into_a_model_as_they_are() {
    let plan = Plan::default()
        .value("row", "string", "[3]")
        .value("batch", "string", "[3]")
        .input("texts", 0)
        .model("same_BYTES", &[("x", 0)], &[("y", 1)])
        .output("texts", 1);
    let pipeline = pipeline(&plan, &["same_BYTES"]);
    let mut lane = pipeline.legs()[0].lane().expect("a lane");
    let one = inputs([byte_strings(&[1, 3], &[b"a", b"", b"ccc"])]);
    let two = inputs([byte_strings(&[2, 3], &[b"1", b"2", b"3", b"4", b"5", b"6\0"])]);
    let outputs = run(&pipeline, &mut lane, &[&one, &two]).expect("answered").outputs;
    assert_eq!(Some(outputs[0].rows(0, 1)), one[0]);
    assert_eq!(Some(outputs[0].rows(1, 2)), two[0]);
}

#[test]
fn a_model_whose_rows_share_no_run_makes_requests_run_alone() {
    let fixed = |model: &str| {
        Plan::default()
            .value("row", "float32", "[3]")
            .value("batch", "float32", "[3]")
            .input("x", 0)
            .model(model, &[("x", 0)], &[("y", 1)])
            .output("y", 1)
    };
    let alone = pipeline(&fixed("fixed"), &["fixed"]);
    let Batching::Alone(why) = &alone.contract().batching else { panic!("it is batched") };
    assert!(why.contains("model 'fixed': first axis of input 'x' is fixed at 2"), "{why}");
    assert_eq!(alone.legs()[0].batch_rows_max(), 1);
    let mut lane = alone.legs()[0].lane().expect("a lane");
    let request = inputs([fp32(&[2, 3], &[1.0; 6])]);
    let outputs = lane.run_parts(&[Part { inputs: &request, rows: 1, is_whole: true }], 1).expect("answered").outputs;
    assert_eq!(outputs[0], fp32(&[2, 3], &[-1.0; 6]));
    let weights = Plan::default()
        .value("row", "float32", "[3]")
        .value("row", "float32", "[]")
        .value("batch", "float32", "[3]")
        .input("x", 0)
        .input("w", 1)
        .model("optional", &[("x", 0), ("w", 1)], &[("y", 2)])
        .output("y", 2);
    let replaced = pipeline(&weights, &["optional"]);
    let Batching::Alone(why) = &replaced.contract().batching else { panic!("it is batched") };
    assert_eq!(why.as_ref(), "model 'optional': input 'w' replaces what all rows share");
    let usual = fixed("optional");
    assert!(pipeline(&usual, &["optional"]).contract().is_batched());
}

#[test]
fn a_shape_that_the_plan_does_not_know_is_told() {
    let plan = Plan::default()
        .value("row", "float32", FLOATS)
        .value("batch", "float32", "[4]")
        .input("x", 0)
        .model("wide", &[("x", 0)], &[("y", 1)])
        .output("y", 1);
    let pipeline = pipeline(&plan, &["wide"]);
    let mut lane = pipeline.legs()[0].lane().expect("a lane");
    let request = |width: i64| inputs([fp32(&[1, width], &vec![1.0; width as usize])]);
    assert!(run(&pipeline, &mut lane, &[&request(4)]).is_ok());
    let failure = run(&pipeline, &mut lane, &[&request(5)]).unwrap_err();
    let RunFailure::Rejected(text) = &failure else { panic!("{failure:?}") };
    assert!(text.starts_with("model (wide): 'v1' is FP32 [1,5], FP32 [4] a row is expected for 1 rows"), "{text}");
}

#[test]
fn labels_of_a_model_are_those_of_the_pipeline() {
    let loaded = model("zipmap_strings");
    let place = loaded.contract().outputs.iter().position(|spec| spec.labels.is_some()).expect("labels");
    let (input, output) = (&loaded.contract().inputs[0], &loaded.contract().outputs[place]);
    let plan = Plan::default()
        .value("row", "float32", &format!("[{}]", input.axes[1].size()))
        .value("batch", "float32", &format!("[{}]", output.axes[1].size()))
        .input("x", 0)
        .model("zipmap_strings", &[(&input.name, 0)], &[(&output.name, 1)])
        .output("scores", 1);
    let pipeline = pipeline(&plan, &["zipmap_strings"]);
    assert_eq!(pipeline.contract().outputs[0].labels, output.labels);
}

#[test]
fn a_plan_that_does_not_know_its_models_is_refused() {
    let plan = |input: &str, output: &str, dtype: &str, shape: &str| {
        Plan::default()
            .value("row", dtype, shape)
            .value("batch", "float32", shape)
            .input("x", 0)
            .model("wide", &[(input, 0)], &[(output, 1)])
            .output("y", 1)
    };
    let table = [
        (plan("x", "y", "float32", FLOATS), &[][..], "model (wide): model 'wide' is not served"),
        (plan("z", "y", "float32", FLOATS), &["wide"], "model (wide): 'z' is no input of model 'wide'"),
        (plan("x", "z", "float32", FLOATS), &["wide"], "model (wide): 'z' is no output of model 'wide'"),
        (plan("x", "y", "int64", FLOATS), &["wide"], "input 'x' is INT64 [n] a row, model 'wide' takes FP32 [-1, -1]"),
        (plan("x", "y", "float32", "[]"), &["wide"], "input 'x' is FP32 [] a row"),
    ];
    for (plan, names, expected) in table {
        let text = build(&plan, names).expect_err("it is refused");
        assert!(text.starts_with("pipeline of 'own': ") && text.contains(expected), "{text}");
    }
    let idle = Plan::default()
        .value("row", "float32", "[2]")
        .value("batch", "float32", "[2]")
        .input("a", 0)
        .model("two", &[("a", 0)], &[("c", 1)])
        .output("c", 1);
    let text = build(&idle, &["two"]).expect_err("it is refused");
    assert!(text.contains("model (two): input 'b' of model 'two' has no value"), "{text}");
    let text = Pipeline::build("{", &[], Path::new("/"), LIMITS).expect_err("it is refused").text;
    assert!(text.starts_with("a pipeline: its plan cannot be read"), "{text}");
}

#[test]
fn a_contract_is_known_without_a_trial() {
    for name in ["two", "wide", "same_BYTES", "zipmap_strings", "external", "optional", "picky"] {
        let known = environment().contract_of(&spec(name), &limits()).expect("read");
        let loaded = model(name);
        assert_eq!(known.inputs, loaded.contract().inputs, "{name}");
        assert_eq!(known.outputs.len(), loaded.contract().outputs.len(), "{name}");
        for (known, loaded) in known.outputs.iter().zip(&loaded.contract().outputs) {
            assert_eq!((&known.name, known.datatype, &known.labels), (&loaded.name, loaded.datatype, &loaded.labels));
        }
    }
    for name in ["unknown_operator", "external_parent", "sequence"] {
        assert!(environment().contract_of(&spec(name), &limits()).is_err(), "{name}");
    }
}
