//! A model's configuration as Triton's clients know it, as far as it is true here, and what is this server's own.

use std::time::Duration;

use serde_json::{Map, Value, json};
use servekit_core::{Datatype, TensorSpec};

use crate::listing::Served;

/// The answer of `GET v2/models/m/config`. `versions` are those served under the name.
pub(crate) fn model_config(served: &Served, versions: &[&str]) -> Value {
    let contract = served.model.contract();
    let is_batched = contract.is_batched();
    let is_ragged = |input: usize| {
        contract.ragged.as_ref().and_then(|ragged| ragged.inputs.get(input)).is_some_and(Option::is_some)
    };
    let inputs = contract.inputs.iter().enumerate().map(|(index, spec)| {
        let mut input = tensor(spec, is_batched);
        input.insert("format".into(), json!("FORMAT_NONE"));
        input.insert("allow_ragged_batch".into(), json!(is_ragged(index)));
        input.insert("optional".into(), json!(spec.optional));
        Value::Object(input)
    });
    let outputs = contract.outputs.iter().map(|spec| {
        let mut output = tensor(spec, is_batched);
        output.insert("label_filename".into(), json!(""));
        Value::Object(output)
    });
    let mut config = json!({
        "name": served.name,
        "platform": served.platform,
        "backend": served.platform.split('_').next(),
        "version_policy": {"specific": {"versions": numbers(versions)}},
        "max_batch_size": if is_batched { served.policy.rows_max } else { 0 },
        "input": inputs.collect::<Vec<_>>(),
        "output": outputs.collect::<Vec<_>>(),
        "instance_group": [instance_group(served)],
        "parameters": parameters(served),
        "servekit": own(served),
    });
    if is_batched {
        config["dynamic_batching"] = dynamic_batching(served);
    }
    config
}

/// Versions are whole numbers, and so in Triton's words.
fn numbers(versions: &[&str]) -> Vec<u64> {
    versions.iter().filter_map(|version| version.parse().ok()).collect()
}

/// What inputs and outputs have alike. The batch axis is not among the dimensions of models that have one.
fn tensor(spec: &TensorSpec, is_batched: bool) -> Map<String, Value> {
    let datatype = match spec.datatype {
        Datatype::Bytes => "STRING",
        other => other.name(),
    };
    let shape = spec.metadata_shape();
    let dimensions = shape.get(usize::from(is_batched && !spec.optional)..).unwrap_or_default();
    let mut tensor = Map::new();
    tensor.insert("name".into(), json!(spec.name));
    tensor.insert("data_type".into(), json!(format!("TYPE_{datatype}")));
    tensor.insert("dims".into(), json!(dimensions));
    tensor.insert("is_shape_tensor".into(), json!(false));
    tensor
}

/// The lanes. A device is `cpu`, or `cuda:` and its number.
fn instance_group(served: &Served) -> Value {
    let device = served.description.get("device").and_then(Value::as_str).unwrap_or("cpu");
    let gpu: Option<u64> = device.strip_prefix("cuda:").and_then(|number| number.parse().ok());
    json!({
        "name": format!("{}_0", served.name),
        "kind": if gpu.is_some() { "KIND_GPU" } else { "KIND_CPU" },
        "count": served.policy.lanes,
        "gpus": gpu.as_slice(),
    })
}

/// How the queue is told in Triton's words: each level of priority has its target for a timeout.
fn dynamic_batching(served: &Served) -> Value {
    let policy = |target: Duration| {
        let timeout_us = u64::try_from(target.as_micros()).unwrap_or(u64::MAX);
        json!({
            "timeout_action": "REJECT",
            "default_timeout_microseconds": timeout_us,
            "allow_timeout_override": true,
            "max_queue_size": served.policy.requests_max,
        })
    };
    let levels: Map<String, Value> =
        (1_u64..).zip(&served.targets).map(|(level, target)| (level.to_string(), policy(*target))).collect();
    json!({
        "preferred_batch_size": [],
        "max_queue_delay_microseconds": 0,
        "preserve_ordering": false,
        "priority_levels": served.levels(),
        "default_priority_level": served.priority_default,
        "default_queue_policy": policy(served.target(served.priority_default.saturating_sub(1))),
        "priority_queue_policy": levels,
    })
}

/// The most important of what is this server's own, where Triton's clients look for it.
fn parameters(served: &Served) -> Value {
    let text = |value: &str| json!({"string_value": value});
    let mut parameters = Map::new();
    parameters.insert("execution".into(), text(served.placement.name()));
    if let Some(verdict) = served.description.get("proof").and_then(|proof| proof.get("verdict")?.as_str()) {
        parameters.insert("batching_proof".into(), text(verdict));
    }
    Value::Object(parameters)
}

/// What Triton has no words for.
fn own(served: &Served) -> Value {
    let policy = &served.policy;
    let contract = served.model.contract();
    let ragged = contract.ragged.as_deref().map(|ragged| {
        json!({
            "inputs": axes(&contract.inputs, &ragged.inputs),
            "outputs": axes(&contract.outputs, &ragged.outputs),
            "length_max": ragged.length_max,
        })
    });
    let steps = served.model.steps().iter().map(|step| json!({"name": step.name, "place": step.place.name()}));
    let told = |key: &str| served.description.get(key).cloned().unwrap_or_default();
    // Why it was not used may name a file, which is the operator's to know.
    let profile = served.description.get("profile").and_then(Value::as_str).and_then(|text| text.split(':').next());
    json!({
        "execution": served.placement.name(),
        "steps": steps.collect::<Vec<_>>(),
        "device": told("device"),
        "proof": told("proof"),
        "ragged": ragged,
        "mode": policy.mode,
        "targets_ms": served.targets.iter().map(|target| target.as_secs_f64() * 1e3).collect::<Vec<_>>(),
        "priority_default": served.priority_default,
        "lanes": policy.lanes,
        "cores_per_lane": policy.cores,
        "intra_op": told("intra_op"),
        "warm_up": told("warm_up"),
        "profile": profile,
        "batch_rows_max": policy.rows_max,
        "batch_bytes_max": policy.bytes_max,
        "queue_requests_max": policy.requests_max,
    })
}

/// The axis of mixed lengths, by the names of those that have one.
fn axes(specs: &[TensorSpec], axes: &[Option<usize>]) -> Map<String, Value> {
    let found = specs.iter().zip(axes).filter_map(|(spec, axis)| Some((spec.name.to_string(), json!((*axis)?))));
    found.collect()
}

#[cfg(test)]
mod tests;
