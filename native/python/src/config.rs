//! The one configuration that crosses: everything that Python decided, every key present, unknown keys refused.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use servekit_server::core::{Limits, Mode};

/// The whole configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where data is served.
    pub data: Data,
    /// What runs models.
    pub execution: Execution,
    /// How requests become batches.
    pub batching: Batching,
    /// What is told while serving.
    pub log: Log,
    /// Absolute path of ONNX Runtime's shared library.
    pub onnxruntime_library: PathBuf,
    /// Effective numbers.
    pub limits: Limits,
    /// Served from the start.
    pub models: Vec<Model>,
}

/// Where data is served.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Address to bind.
    pub host: String,
    /// 0 takes a free port; `None` is no such listener.
    pub http_port: Option<u16>,
    /// As `http_port`.
    pub grpc_port: Option<u16>,
    /// Path of a Unix socket.
    pub uds: Option<PathBuf>,
}

/// Which device runs models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// CUDA where it works, else CPU.
    Auto,
    /// CPU.
    Cpu,
    /// CUDA, or no start.
    Cuda,
}

/// What runs models.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Execution {
    /// Which device.
    pub device: Device,
    /// Network threads; `None` is the core plan's number.
    pub shards: Option<usize>,
    /// Pool threads; `None` is the core plan's number.
    pub runners: Option<usize>,
    /// A model whose full batch runs faster than this runs on the network thread itself.
    pub inline_run_us_max: u64,
}

/// Which answers say where their time went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerTiming {
    /// None.
    Off,
    /// Some, as often as a measurement needs and no caller notices.
    Sampled,
    /// All.
    Always,
}

/// How requests become batches; what a model says itself wins.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batching {
    /// When a request that cannot be answered in time is told so.
    pub mode: Mode,
    /// Whether rows are taken to be independent of each other without a proof.
    pub trust_batching: bool,
    /// Time for the proof at load; what is proved by then holds.
    pub proof_seconds_max: f64,
    /// Time for runs of all sizes before a model is ready.
    pub warm_up_seconds_max: f64,
    /// Threads of one run; `None` is chosen at load.
    pub intra_op: Option<u32>,
    /// Absolute path of the folder in which run times are kept from one start to the next; `None` keeps none. It may
    /// not be there yet.
    pub profiles: Option<PathBuf>,
    /// Which answers say where their time went.
    pub server_timing: ServerTiming,
    /// From the end of a run until its answers are on their way.
    pub egress_reserve_us: u64,
    /// Level of a request that names none, 1 being the highest.
    pub priority_default: u8,
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// What is told while serving.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Form of lines.
    pub format: LogFormat,
    /// Python's word for what is told; the access log is ruled by `access_sample` alone.
    pub level: String,
    /// Share of requests with a line of their own, 0 to 1.
    pub access_sample: f64,
}

/// Where a model's runs take place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// Decided by probing.
    Auto,
    /// On the shard.
    Inline,
    /// On a runner.
    Pool,
}

/// One model to serve; `None` takes the limit of the same name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Name that clients use.
    pub name: String,
    /// Version that clients may name.
    pub version: String,
    /// Absolute path of the .onnx file.
    pub path: PathBuf,
    /// Where it runs.
    pub execution: Placement,
    /// Rows of a batch.
    pub batch_rows_max: Option<u64>,
    /// Bytes of a batch's inputs.
    pub batch_bytes_max: Option<u64>,
    /// Requests that may wait.
    pub queue_requests_max: Option<u64>,
    /// Memory of a lane's run.
    pub arena_bytes_max: Option<u64>,
    /// Deadline of requests that bring none; 0 is none.
    pub latency_target_ms: Option<u64>,
    /// The same for single levels, 1 being the highest.
    pub latency_targets_ms: BTreeMap<u8, u64>,
    /// As in `Batching`, for this model.
    pub mode: Option<Mode>,
    /// As in `Batching`, for this model.
    pub trust_batching: Option<bool>,
    /// As in `Batching`, for this model.
    pub intra_op: Option<u32>,
    /// Why several queues run its file; `None` where one does.
    pub shared: Option<String>,
    /// Real rows to try the model with; empty where values are made up. One request's inputs.
    pub samples: Vec<Sample>,
    /// Whether files of the model may be links.
    pub links: bool,
    /// Whether the server is only ready while this model is.
    pub required: bool,
    /// What happens to its requests before and after its runs.
    pub pipeline: Option<Pipeline>,
    /// Why it cannot be served, where that is known already.
    pub failed: Option<String>,
}

impl Model {
    /// Every name under which it is served, its own first.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let raw = self.pipeline.as_ref().is_some_and(|pipeline| pipeline.raw);
        [Some(self.name.clone()), raw.then(|| self.raw_name())].into_iter().flatten()
    }

    /// The name of its own tensors, where a pipeline has taken its name.
    pub fn raw_name(&self) -> String {
        format!("{}.raw", self.name)
    }

    /// Models that have to be loaded before it can be served.
    pub fn others(&self) -> &[String] {
        self.pipeline.as_ref().map_or(&[], |pipeline| &pipeline.models)
    }
}

/// A pipeline that was planned, its kernels compiled.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// The plan, as JSON of its own.
    pub plan: String,
    /// Tells what it computes from what others do; the same in every process.
    pub digest: String,
    /// Absolute path of the folder in which its steps look for files.
    pub folder: PathBuf,
    /// Whether the model's own tensors are served too.
    pub raw: bool,
    /// Other models that it runs.
    pub models: Vec<String>,
}

/// One input of a model, filled by the operator.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Name of the input.
    pub name: String,
    /// Datatype as the protocol spells it.
    pub datatype: String,
    /// Shape, with the rows on the batch axis.
    pub shape: Vec<i64>,
    /// Raw elements, little endian, as the protocol's binary tensors have them.
    pub base64: String,
}
