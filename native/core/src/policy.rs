//! What an operator wants of one model's queue, and what its load has found.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{ClassSurface, Contract, Limits, Ragged, Surface};

/// When a request that cannot be served in time is told so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Late, and at arrival while more than one in twenty is shed and more is asked for than can be served.
    #[default]
    Auto,
    /// When a batch is formed, or at arrival where it is hopeless; serves the most.
    Late,
    /// At arrival; costs least and lets callers turn elsewhere.
    FailFast,
}

/// Rules that a simulation may leave out, for ablations: what each of them is worth. Whoever serves follows all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A batch is no larger than the slack of its most urgent request allows. Otherwise all that fits leaves at once, and
    /// only those are given up that not even a run of their own could answer in time.
    pub slack: bool,
    /// Where that slack is short, those who have it are weighed against those behind them. Otherwise they always go first.
    pub window: bool,
    /// With several lanes a small batch waits for rows that are expected.
    pub hold: bool,
    /// A few surprising runs in a row are a new pace. Otherwise the estimate drifts there, run by run.
    pub change: bool,
    /// A run that took unusually long, or unusually short, counts as one at the edge of what is usual.
    pub clamp: bool,
}

impl Rules {
    /// Every rule is in force.
    pub const ALL: Self = Self { slack: true, window: true, hold: true, change: true, clamp: true };
}

impl Default for Rules {
    fn default() -> Self {
        Self::ALL
    }
}

/// How one model's rows are queued and leave the queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Rows of a batch. Requests of more are cut into parts.
    pub rows_max: u32,
    /// Bytes of a batch's inputs. Requests of more are cut into parts.
    pub bytes_max: usize,
    /// Whether requests of several callers may share a run; otherwise each runs by itself, uncut.
    pub batched: bool,
    /// Requests that may wait.
    pub requests_max: usize,
    /// Bytes that the merged answer of a cut request may have.
    pub answer_bytes_max: u64,
    /// Requests are to be answered this long after their arrival; zero is no target: nothing is shed by an estimate, and
    /// rows leave in order of arrival.
    pub target: Duration,
    /// When those that cannot be served in time are told.
    pub mode: Mode,
    /// From the end of a run until an answer is on its way.
    pub egress: Duration,
    /// Batches that may run at the same time.
    pub lanes: u32,
    /// Cores that one run keeps busy.
    pub cores: u32,
    /// Lengths that may be mixed.
    pub ragged: Option<Arc<Ragged>>,
    /// How long runs took when the model was served before, to start from.
    pub surface: Option<Surface>,
    /// The same of single classes.
    pub class_surfaces: Arc<[ClassSurface]>,
    /// Which rules are in force.
    pub rules: Rules,
}

impl Policy {
    /// Classes that are told apart. Those past the last go with it.
    pub const PRIORITIES_MAX: usize = 8;

    /// The place of this class among those that are told apart.
    #[must_use]
    pub const fn class(priority: u8) -> usize {
        let last = Self::PRIORITIES_MAX - 1;
        if (priority as usize) < last { priority as usize } else { last }
    }

    /// The policy of a model that sets nothing of its own and that one lane runs, without a target. The contract is that of
    /// its runs, see [`Model::run_contract`](crate::Model::run_contract).
    #[must_use]
    pub fn of(contract: &Contract, limits: &Limits) -> Self {
        Self {
            rows_max: u32::try_from(limits.batch_rows_max).unwrap_or(u32::MAX),
            bytes_max: usize::try_from(limits.batch_bytes_max).unwrap_or(usize::MAX),
            batched: contract.is_batched(),
            requests_max: usize::try_from(limits.model_queue_requests_max).unwrap_or(usize::MAX),
            answer_bytes_max: limits.response_body_bytes_max,
            target: Duration::ZERO,
            mode: Mode::Auto,
            egress: Duration::ZERO,
            lanes: 1,
            cores: 1,
            ragged: contract.ragged.clone(),
            surface: None,
            class_surfaces: Arc::default(),
            rules: Rules::ALL,
        }
    }
}
