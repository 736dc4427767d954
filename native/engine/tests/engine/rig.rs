//! Finds the library, loads the models beside the tests, and runs them.

use std::path::{Path, PathBuf};
use std::process::Command;

use servekit_core::{Inputs, Limits, Refusal, RunFailure, RunOutputs, Tensor};
use servekit_engine::{DeviceChoice, Environment, Execution, Lane, LoadedModel, ModelSpec, Part, Settings};

const FIND_LIBRARY: &str = "
import glob, importlib.util, os
spec = importlib.util.find_spec('onnxruntime')
print(glob.glob(os.path.join(os.path.dirname(spec.origin), 'capi', 'libonnxruntime.so.1.*'))[0])
";

fn library() -> PathBuf {
    if let Some(path) = std::env::var_os("SERVEKIT_ORT_LIBRARY") {
        return path.into();
    }
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let found = Command::new(python).args(["-c", FIND_LIBRARY]).output().expect("python3 runs");
    let path = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    assert!(
        found.status.success() && !path.is_empty(),
        "no ONNX Runtime found; set SERVEKIT_ORT_LIBRARY to libonnxruntime.so.1.*, or install onnxruntime for python3"
    );
    path.into()
}

pub fn environment() -> Environment {
    let log = |level, text: &str| eprintln!("ONNX Runtime: {level:?}: {text}");
    Environment::open(&library(), Box::new(log)).expect("ONNX Runtime opens")
}

pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models").join(name)
}

pub fn spec_of(path: &Path) -> ModelSpec {
    ModelSpec {
        name: path.file_stem().expect("a file").to_string_lossy().into_owned(),
        version: "1".to_owned(),
        path: path.to_owned(),
        execution: Execution::Auto,
        batch_rows_max: None,
        batch_bytes_max: None,
        arena_bytes_max: None,
        links: false,
        samples: Vec::new(),
        trust_batching: false,
        intra_op: None,
        shared: None,
        latency_target_ms: None,
    }
}

pub fn spec(name: &str) -> ModelSpec {
    spec_of(&path(&format!("{name}.onnx")))
}

pub const SETTINGS: Settings = Settings {
    device: DeviceChoice::Cpu,
    cores: 2.0,
    intra_op: 1,
    lanes: 2,
    inline_run_us_max: 1_000_000,
    // As good as no bound: what is proved must not depend on how busy the machine is.
    proof_seconds_max: 60.0,
    warm_up_seconds_max: 2.0,
    profiles: None,
};

pub fn limits() -> Limits {
    servekit_testing::limits()
}

pub fn load(spec: &ModelSpec) -> Result<LoadedModel, Refusal> {
    environment().load(spec, &limits(), &SETTINGS)
}

pub fn model(name: &str) -> LoadedModel {
    load(&spec(name)).unwrap_or_else(|refusal| panic!("{name}: {refusal}"))
}

pub fn lane(name: &str) -> Lane {
    model(name).lane().expect("a lane")
}

pub fn inputs(tensors: impl IntoIterator<Item = Tensor>) -> Inputs {
    tensors.into_iter().map(Some).collect()
}

/// Runs one request.
pub fn run(lane: &mut Lane, inputs: &Inputs) -> Result<RunOutputs, RunFailure> {
    let rows = inputs.iter().flatten().find_map(|tensor| tensor.shape.first().copied()).unwrap_or(1);
    run_together(lane, &[inputs], rows)
}

/// Runs requests as one batch of so many rows.
pub fn run_together(lane: &mut Lane, requests: &[&Inputs], rows: i64) -> Result<RunOutputs, RunFailure> {
    let rows_of = |inputs: &Inputs| {
        let first = inputs.iter().flatten().next().and_then(|tensor| tensor.shape.first().copied());
        usize::try_from(first.unwrap_or(1)).expect("rows")
    };
    let parts: Vec<Part<'_>> =
        requests.iter().map(|inputs| Part { inputs, rows: rows_of(inputs), is_whole: true }).collect();
    lane.run_parts(&parts, u32::try_from(rows).expect("rows"))
}

/// The only output of a request that succeeds.
pub fn answer(lane: &mut Lane, tensors: impl IntoIterator<Item = Tensor>) -> Tensor {
    let outputs = run(lane, &inputs(tensors)).expect("answered").outputs;
    outputs.into_iter().next().expect("an output")
}
