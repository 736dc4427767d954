use std::sync::Arc;
use std::time::Duration;

use servekit_core::{Batching, Contract, Policy, Ragged};
use servekit_testing::FakeModel;

use super::*;
use crate::dialect::fixtures::{contract, limits, text};
use crate::listing::Placement;

fn served(contract: Contract) -> Served {
    Served {
        name: contract.model.clone(),
        version: "3".into(),
        policy: Policy::of(&contract, &limits()),
        model: Arc::new(FakeModel::new(contract)),
        placement: Placement::Pool,
        inline_bytes_max: 0,
        targets: [50, 100].map(Duration::from_millis).into(),
        priority_default: 2,
        required: true,
        platform: "onnxruntime_onnx".into(),
        properties: Vec::new(),
        description: json!({"device": "cpu", "proof": {"verdict": "exact"}, "profile": "ignored: /srv/secret", "decisions": [["device", "/srv/secret"]]})
            .as_object()
            .cloned()
            .expect("an object"),
        legs: Vec::new(),
    }
}

#[test]
fn a_batched_model_is_told_in_tritons_words() {
    let mut text = text();
    let ragged =
        Ragged { inputs: [Some(1), Some(1)].into(), outputs: [None].into(), length_max: 512, masks: Box::default() };
    text.ragged = Some(Arc::new(ragged));
    let config = model_config(&served(text), &["1", "3"]);
    assert_eq!(
        (&config["name"], &config["platform"], &config["backend"], &config["max_batch_size"]),
        (&json!("text"), &json!("onnxruntime_onnx"), &json!("onnxruntime"), &json!(64))
    );
    assert_eq!(
        config["input"][1],
        json!({
            "name": "mask", "data_type": "TYPE_INT64", "format": "FORMAT_NONE", "dims": [-1],
            "is_shape_tensor": false, "allow_ragged_batch": true, "optional": false,
        })
    );
    assert_eq!(
        config["output"],
        json!([{"name": "y", "data_type": "TYPE_FP32", "dims": [2], "label_filename": "", "is_shape_tensor": false}])
    );
    assert_eq!(config["instance_group"], json!([{"name": "text_0", "kind": "KIND_CPU", "count": 1, "gpus": []}]));
    assert_eq!(config["version_policy"], json!({"specific": {"versions": [1, 3]}}));
    let batching = &config["dynamic_batching"];
    assert_eq!((&batching["priority_levels"], &batching["default_priority_level"]), (&json!(2), &json!(2)));
    assert_eq!(batching["default_queue_policy"]["default_timeout_microseconds"], 100_000);
    assert_eq!(batching["priority_queue_policy"]["1"]["default_timeout_microseconds"], 50_000);
    assert_eq!(config["parameters"]["batching_proof"], json!({"string_value": "exact"}));
    let own = &config["servekit"];
    assert_eq!(own["profile"], "ignored");
    assert_eq!((&own["mode"], &own["targets_ms"]), (&json!("auto"), &json!([50.0, 100.0])));
    assert_eq!(own["ragged"], json!({"inputs": {"ids": 1, "mask": 1}, "outputs": {}, "length_max": 512}));
    assert!(!config.to_string().contains("secret"), "files of the server are nobody's business");
}

#[test]
fn a_model_that_runs_alone_has_no_batch_axis() {
    let mut words = contract("words", &[("w", "BYTES", &[4])], &[("y", "BF16", &[4, 2])]);
    words.batching = Batching::Alone("its first axis is fixed".into());
    let mut served = served(words);
    served.description.insert("device".into(), json!("cuda:1"));
    let config = model_config(&served, &["3"]);
    assert_eq!((&config["max_batch_size"], &config["dynamic_batching"]), (&json!(0), &Value::Null));
    assert_eq!((&config["input"][0]["data_type"], &config["input"][0]["dims"]), (&json!("TYPE_STRING"), &json!([4])));
    assert_eq!(config["output"][0]["dims"], json!([4, 2]));
    assert_eq!(config["instance_group"][0]["kind"], "KIND_GPU");
    assert_eq!(config["instance_group"][0]["gpus"], json!([1]));
}
