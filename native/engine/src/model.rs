//! A model in service, and what is told about it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use servekit_core::{Contract, Executor, Model, Reason, Refusal, RunFailure, Tensor};

use crate::control::Control;
use crate::lane::{Graph, Lane, Part};
use crate::profile::Start;
use crate::ragged::Pad;
use crate::session::Session;

/// Where an operator wants batches to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Execution {
    /// As the probe says.
    #[default]
    Auto,
    /// On the shard that has the requests.
    Inline,
    /// On a runner.
    Pool,
}

/// Where batches of a model run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// On the shard that has the requests.
    Inline,
    /// On a runner.
    Pool,
}

/// What an operator wants models to run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// CUDA where it works, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// CUDA, or no load.
    Cuda,
}

/// A model to load; `None` where the limit of the same name holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSpec {
    /// Its name, for texts.
    pub name: String,
    /// Its version, for texts.
    pub version: String,
    /// The `.onnx` file.
    pub path: PathBuf,
    /// See [`Execution`].
    pub execution: Execution,
    /// Most rows of a batch.
    pub batch_rows_max: Option<u64>,
    /// Most bytes of a batch's inputs.
    pub batch_bytes_max: Option<u64>,
    /// Most bytes that a lane's runs may take.
    pub arena_bytes_max: Option<u64>,
    /// Whether its files may be links.
    pub links: bool,
    /// Real rows to try it with, before made-up ones: the inputs of one request. Empty where there are none.
    pub samples: Vec<Sample>,
    /// Whether rows are taken to be independent of each other without a proof.
    pub trust_batching: bool,
    /// Threads of one run; `None` is chosen at load.
    pub intra_op: Option<u32>,
    /// Why several queues run its file, which then has one thread a run; `None` where one queue does.
    pub shared: Option<String>,
    /// Answers are to be there within this; 0 is whenever. `None` is what follows from how long one row takes.
    pub latency_target_ms: Option<u64>,
}

/// One input of a model, filled by the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Name of the input.
    pub name: String,
    /// Rows along the first axis.
    pub tensor: Tensor,
}

/// What holds for all models of a process.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// See [`DeviceChoice`].
    pub device: DeviceChoice,
    /// Cores that all runs together may keep busy.
    pub cores: f64,
    /// Threads of one run that each runner has a core for; a model that would miss its latency target gets more.
    pub intra_op: u32,
    /// Batches of one model that may run at once: the greater of shards and runners.
    pub lanes: u32,
    /// A run of a full batch that takes at most this long runs inline.
    pub inline_run_us_max: u64,
    /// Time for the proof that rows may share runs; what is proved by then holds.
    pub proof_seconds_max: f64,
    /// Time for runs of all sizes before a model is ready, and for the choice of threads.
    pub warm_up_seconds_max: f64,
    /// Where run times are kept from one start to the next; may not be there yet. `None` keeps none.
    pub profiles: Option<PathBuf>,
}

/// Whether rows may share runs, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Verdict {
    /// Each row was answered the same, bit for bit, alone and among others.
    #[serde(rename = "exact")]
    Exact,
    /// The same, but for what rounding does when sums are taken in another order.
    #[serde(rename = "within tolerance")]
    WithinTolerance,
    /// It was found, or the model says, that they may not.
    #[serde(rename = "not batchable")]
    NotBatchable,
    /// They may, as the operator says; only shapes were looked at.
    #[serde(rename = "trusted")]
    Trusted,
    /// It could not be found out, so they do not.
    #[serde(rename = "unproved")]
    Unproved,
}

/// Whether rows may share runs, and how that is known.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProofSummary {
    /// See [`Verdict`].
    pub verdict: Verdict,
    /// Most that a row's answer differed between runs, as a share of the largest value; `None` without a comparison.
    pub difference: Option<f64>,
    /// What it may differ, in the same measure.
    pub tolerance: Option<f64>,
    /// Rows of the largest batch that was compared; 0 where none was.
    pub rows_proved: u32,
    /// In words.
    pub why: String,
}

/// All that is known of a loaded model beyond its contract.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Description {
    /// Where its batches run.
    pub execution: Placement,
    /// `cpu` or `cuda:0`.
    pub device: String,
    /// Version of ONNX Runtime.
    pub ort: String,
    /// SHA-256 of the model file, in hexadecimal; external data are not part of it.
    pub digest: String,
    /// Bytes of the model file.
    pub file_bytes: u64,
    /// Bytes of its weights, external ones included, as the file tells them.
    pub weights_bytes: u64,
    /// How long the load took, probes included.
    pub load_s: f64,
    /// Most rows of a batch; 1 where requests run alone.
    pub batch_rows_max: u32,
    /// Most bytes of a batch's inputs.
    pub batch_bytes_max: u64,
    /// Bytes that each lane's runs may take.
    pub arena_bytes_max: u64,
    /// Bytes of inputs of the largest batch that was timed for inline; larger ones belong on a runner.
    pub inline_bytes_max: u64,
    /// What a full batch is expected to take, from the largest batch of made-up rows that was run, microseconds; `None`
    /// where none could be run.
    pub predicted_run_us: Option<u64>,
    /// Rows of lengths up to this share runs, padded; `None` where only rows of one shape do.
    pub mixed_length_max: Option<u64>,
    /// What one row took, microseconds, the median; `None` where none could be run.
    pub one_row_us: Option<u64>,
    /// Whether rows may share runs.
    pub proof: ProofSummary,
    /// Batches that may run at once.
    pub lanes: u32,
    /// Threads of one run.
    pub intra_op: u32,
    /// Runs before the model was ready, in words.
    pub warm_up: String,
    /// Topic, and decision with its reason.
    pub decisions: Vec<(String, String)>,
}

/// A model in service.
pub struct LoadedModel {
    contract: Contract,
    description: Description,
    graph: Arc<Graph>,
    /// One for all lanes, or one for each.
    sessions: Vec<Arc<Session>>,
    /// Sessions that no lane has; unused where one is shared. A lock, because lanes come and go on any thread, rarely.
    spare: Arc<Mutex<Vec<Arc<Session>>>>,
    /// Of the lanes given out, to stop runs that take too long. Locked when a lane is made or runs are looked through.
    controls: Mutex<Vec<Weak<Control>>>,
    start: Start,
}

impl LoadedModel {
    pub(crate) fn new(
        contract: Contract,
        description: Description,
        graph: Arc<Graph>,
        sessions: Vec<Arc<Session>>,
        start: Start,
    ) -> Self {
        let spare = Arc::new(Mutex::new(sessions.clone()));
        Self { contract, description, graph, sessions, spare, controls: Mutex::default(), start }
    }

    /// How rows of several lengths are made equal, by input; empty where they are not.
    pub(crate) fn padding(&self) -> &[Option<Pad>] {
        self.graph.padding.get().map_or(&[], AsRef::as_ref)
    }

    /// What is known of it.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// What its batching starts from.
    #[must_use]
    pub fn start(&self) -> &Start {
        &self.start
    }

    /// A lane that can be stopped; the same as [`Model::executor`] otherwise.
    ///
    /// # Errors
    /// `LoadRefused` where all lanes are taken, `LaneLost` where the library makes none.
    pub fn lane(&self) -> Result<Lane, Refusal> {
        let lost = |text: &str| {
            let text = format!("a lane of model '{}' cannot be made: {text}; retry later", self.contract.model);
            Refusal::new(Reason::LaneLost, text).retry_after(Duration::from_secs(1))
        };
        let shared = self.sessions.first().ok_or_else(|| lost("it has no session"))?;
        let lane = if shared.is_shared() {
            Lane::new(Arc::clone(&self.graph), Arc::clone(shared)).map_err(|fault| lost(&fault.text))?
        } else {
            let session = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop().ok_or_else(|| {
                let text = format!(
                    "all {} lanes of model '{}' are taken, no further one is allowed; wait for one",
                    self.sessions.len(),
                    self.contract.model
                );
                Refusal::new(Reason::LoadRefused, text).retry_after(Duration::from_secs(1))
            })?;
            let (spare, returned) = (Arc::clone(&self.spare), Arc::clone(&session));
            let give_back = move || spare.lock().unwrap_or_else(PoisonError::into_inner).push(returned);
            match Lane::new(Arc::clone(&self.graph), session) {
                Ok(lane) => lane.on_drop(Box::new(give_back)),
                Err(fault) => {
                    give_back();
                    return Err(lost(&fault.text));
                }
            }
        };
        let mut controls = self.controls.lock().unwrap_or_else(PoisonError::into_inner);
        controls.retain(|control| control.strong_count() > 0);
        controls.push(Arc::downgrade(&lane.terminator().0));
        Ok(lane)
    }

    /// Stops every run that has taken longer than `run_max`; says how many. Their batches are answered as lost.
    pub fn stop_overdue(&self, now: Instant, run_max: Duration) -> usize {
        let controls = self.controls.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = controls.iter().filter_map(Weak::upgrade);
        alive.filter(|control| crate::Terminator(Arc::clone(control)).stop_overdue(now, run_max)).count()
    }

    /// Runs the inputs again that the model has answered before; fine where there are none yet.
    ///
    /// # Errors
    /// `ModelFailed` if it does not answer them any more.
    pub fn probe_golden(&self) -> Result<(), Refusal> {
        let (Some(inputs), Some(session)) = (self.graph.golden.get(), self.sessions.first()) else { return Ok(()) };
        let failed = |text: &str| {
            let text = format!("model '{}' fails on its own test row: {text}; retry later", self.contract.model);
            Refusal::new(Reason::ModelFailed, text).retry_after(Duration::from_secs(5))
        };
        let mut lane = Lane::new(Arc::clone(&self.graph), Arc::clone(session)).map_err(|fault| failed(&fault.text))?;
        match lane.run_parts(&[Part { inputs, rows: 1, is_whole: true }], 1) {
            Ok(_) => Ok(()),
            Err(RunFailure::Rejected(text) | RunFailure::Lost(text)) => Err(failed(&text)),
            Err(RunFailure::Memory { allowed, .. }) => Err(failed(&format!("{allowed} bytes are too few for it"))),
        }
    }
}

impl Model for LoadedModel {
    fn contract(&self) -> &Contract {
        &self.contract
    }

    fn executor(&self) -> Result<Box<dyn Executor>, Refusal> {
        Ok(Box::new(self.lane()?))
    }
}

impl std::fmt::Debug for LoadedModel {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LoadedModel").field("contract", &self.contract).finish_non_exhaustive()
    }
}
