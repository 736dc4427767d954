//! Whether rows may share runs is found by running them.

use servekit_core::{Batching, Datatype, Limits, Model, Reason};
use servekit_engine::{LoadedModel, ModelSpec, ProofSummary, Sample, Settings, Verdict};
use servekit_testing::{fp32, tensor};

use crate::rig::{SETTINGS, environment, limits, load, model, spec};

/// What was found; checks that the contract and the decisions say the same.
fn proof(model: &LoadedModel) -> &ProofSummary {
    let description = model.description();
    let proof = &description.proof;
    let is_batched = matches!(proof.verdict, Verdict::Exact | Verdict::WithinTolerance | Verdict::Trusted);
    let expected = if is_batched { Batching::Rows } else { Batching::Alone(proof.why.as_str().into()) };
    assert_eq!(model.contract().batching, expected);
    let told = &description.decisions.iter().find(|(topic, _)| topic == "batching").expect("decided").1;
    assert!(told.ends_with(&proof.why), "{told}");
    assert_eq!(description.batch_rows_max == 1, !is_batched);
    proof
}

#[test]
fn rows_that_influence_each_other_run_alone() {
    let table = [
        ("depends_mean", "ReduceMean over axis 0"),
        ("depends_softmax", "Softmax over axis 0"),
        ("depends_sum", "CumSum over axis 0"),
        ("depends_large", "ReduceMax over axis 0"),
        ("depends_repeated", "output 'y' of a row"),
        ("depends_scale", "DynamicQuantizeLinear, one scale for all rows"),
    ];
    for (name, expected) in table {
        let model = model(name);
        let proof = proof(&model);
        assert_eq!(proof.verdict, Verdict::NotBatchable, "{name}: {proof:?}");
        let says_so = proof.why.starts_with("rows influence each other") && proof.why.contains(expected);
        assert!(says_so, "{name}: {}", proof.why);
    }
}

#[test]
fn a_model_that_answers_differently_each_time_cannot_be_proved() {
    for (name, expected) in [("random", "RandomNormalLike"), ("depends_normalize", "BatchNormalization in training")] {
        let model = model(name);
        let proof = proof(&model);
        assert_eq!(proof.verdict, Verdict::Unproved, "{name}: {proof:?}");
        assert!(proof.why.contains("differently each time") && proof.why.contains(expected), "{}", proof.why);
    }
}

#[test]
fn what_a_model_makes_of_the_size_of_a_batch_is_no_rounding() {
    let model = model("divided");
    let proof = proof(&model);
    assert_eq!(proof.verdict, Verdict::NotBatchable);
    assert!(proof.why.starts_with("output 'y' of row 0 in a batch of 2 is"), "{}", proof.why);
}

#[test]
fn a_baked_batch_is_named() {
    let told = model("baked_told");
    assert_eq!(proof(&told).why, "first axis of output 'y' is fixed at 8; the graph has Reshape to a first axis of 8");
    let found = model("baked");
    assert!(proof(&found).why.starts_with("one made-up row fails and 8 run"), "{}", proof(&found).why);
}

#[test]
fn rows_along_another_axis_are_found() {
    for name in ["across", "across_sum"] {
        let model = model(name);
        let proof = proof(&model);
        assert_eq!(proof.verdict, Verdict::NotBatchable);
        let expected = "rows lie along axis 1 of input 'x' and axis 1 of output 'y'";
        assert!(proof.why.contains(expected), "{name}: {}", proof.why);
    }
}

#[test]
fn rows_that_are_independent_share_runs() {
    let names = [
        "embedding",
        "layers",
        "halves",
        "symbols",
        "shapeless",
        "declares_one",
        "masked",
        "same_BYTES",
        "pick",
        "nonfinite",
        "zipmap_strings",
        "optional",
    ];
    for name in names {
        let model = model(name);
        let proof = proof(&model);
        let is_proved = matches!(proof.verdict, Verdict::Exact | Verdict::WithinTolerance);
        assert!(is_proved, "{name}: {proof:?}");
        assert_eq!(proof.rows_proved, 64, "{name}");
        let is_within = proof.tolerance.is_none_or(|tolerance| proof.difference.expect("compared") <= tolerance);
        assert!(is_within && proof.why.contains("batches of 2, 3, 8 and 64"), "{name}: {proof:?}");
    }
}

#[test]
fn an_output_that_only_claims_one_row_is_shown_with_rows() {
    let model = model("declares_one");
    assert_eq!(model.contract().outputs[0].metadata_shape(), [-1]);
}

#[test]
fn the_operator_may_be_trusted_instead() {
    let trusted = |name| ModelSpec { trust_batching: true, ..spec(name) };
    for name in ["depends_sum", "picky"] {
        let model = load(&trusted(name)).expect("loaded");
        assert_eq!(proof(&model).verdict, Verdict::Trusted, "{name}");
    }
    // Trust does not make shapes fit.
    let model = load(&trusted("doubled")).expect("loaded");
    assert_eq!(proof(&model).verdict, Verdict::NotBatchable);
}

#[test]
fn what_time_does_not_allow_is_not_proved() {
    let settings = Settings { proof_seconds_max: 0.0, ..SETTINGS };
    let model = environment().load(&spec("wide"), &limits(), &settings).expect("loaded");
    let proof = proof(&model);
    assert_eq!((proof.verdict, proof.rows_proved), (Verdict::Unproved, 0));
    assert!(proof.why.contains("raise proof_seconds_max"), "{}", proof.why);
}

#[test]
fn batches_are_no_larger_than_bytes_let_be_proved() {
    // A row of 64 floats; the axis is free, so shorter rows could come in larger batches.
    let limits = Limits { batch_bytes_max: 10 * 256, ..limits() };
    let model = environment().load(&spec("wide"), &limits, &SETTINGS).expect("loaded");
    assert_eq!((proof(&model).rows_proved, model.description().batch_rows_max), (10, 10));
}

#[test]
fn samples_are_tried_where_nothing_that_is_made_up_runs() {
    let unproved = model("picky");
    assert_eq!(proof(&unproved).verdict, Verdict::Unproved);
    let rows = |rows: &[i64]| rows.iter().flat_map(|row| row.to_le_bytes()).collect::<Vec<_>>();
    let sample = Sample { name: "i".to_owned(), tensor: tensor(Datatype::Int64, &[2], rows(&[-4, -1])) };
    let model = load(&ModelSpec { samples: vec![sample], ..spec("picky") }).expect("loaded");
    assert_eq!((proof(&model).verdict, proof(&model).rows_proved), (Verdict::Exact, 64));
}

#[test]
fn samples_that_fit_no_input_are_refused() {
    let sample = |name: &str, columns: i64| Sample {
        name: name.to_owned(),
        tensor: fp32(&[1, columns], &vec![1.0; usize::try_from(columns).expect("few")]),
    };
    for (sample, expected) in [(sample("z", 3), "there is no input 'z'"), (sample("x", 4), "unexpected shape")] {
        let refusal = load(&ModelSpec { samples: vec![sample], ..spec("same_FP32") }).map(|_| ()).expect_err(expected);
        assert_eq!(refusal.reason, Reason::ModelFile);
        assert!(refusal.text.contains("samples") && refusal.text.contains(expected), "{refusal}");
    }
}

#[test]
fn a_description_tells_the_proof_and_the_time_of_a_row() {
    let model = model("layers");
    let description = model.description();
    assert!(description.one_row_us.is_some_and(|time_us| time_us > 0), "{description:?}");
    assert!(description.predicted_run_us >= description.one_row_us, "{description:?}");
}
