//! What a model must offer to be served; the engine implements it, tests fake it.

use std::sync::Arc;
use std::time::Duration;

use crate::{Contract, Inputs, Item, Outputs, Refusal, Route};

/// A loaded model version. Shared by everyone who serves it; dropped with the last of them.
pub trait Model: Send + Sync {
    /// What clients send and get.
    fn contract(&self) -> &Contract;

    /// What is queued and run: the same, unless requests are prepared. Then its inputs are those that a [`Preparer`]
    /// gives, and its outputs those of a run.
    fn run_contract(&self) -> &Contract {
        self.contract()
    }

    /// A preparer of its own for the calling thread; `None` where requests are queued as they were sent.
    fn preparer(&self) -> Option<Box<dyn Preparer>> {
        None
    }

    /// Steps around the model's run, and that run itself, where there are any: first those of a [`Preparer`], then
    /// those of an [`Executor`], in the order in which each gives their durations, then those of the route's legs.
    fn steps(&self) -> &[Step] {
        &[]
    }

    /// Where requests go that this model has run; `None` where they are answered then. With a route the outputs of a run
    /// are what the route takes.
    fn route(&self) -> Option<Arc<dyn Route>> {
        None
    }

    /// A lane of its own for the calling thread. Lanes of one model may run at the same time.
    ///
    /// # Errors
    /// `LaneLost` or `LoadRefused` where no further lane can be had.
    fn executor(&self) -> Result<Box<dyn Executor>, Refusal>;
}

/// One step of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What operators know it by.
    pub name: Box<str>,
    /// Where it runs.
    pub place: StepPlace,
}

/// Where a step runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepPlace {
    /// On single rows, before their batch forms.
    Row,
    /// On the batch, in compiled code.
    Batch,
    /// On the batch, in the model.
    Model,
}

impl StepPlace {
    /// As people read it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Row => "row",
            Self::Batch => "batch",
            Self::Model => "model",
        }
    }
}

/// Turns what a client has sent into what is queued, row by row: images decoded, texts tokenised. Keeps its buffers for
/// the next request.
pub trait Preparer: Send {
    /// Inputs in the order of [`Model::run_contract`], as many rows as there were. Adds the duration of each of its
    /// steps, over all rows, to `steps`; of those that ran where it fails.
    ///
    /// # Errors
    /// Why the request cannot be answered; others are not concerned.
    fn prepare(&mut self, inputs: &Inputs, rows: u32, steps: &mut Vec<Duration>) -> Result<Inputs, Refusal>;
}

/// A lane: runs one batch at a time and keeps its buffers for the next.
pub trait Executor: Send {
    /// Gathers the rows of all items, in order, and runs the model once. Outputs are those of the whole batch, in the
    /// contract's order; with `Batching::Rows` the first axis of each counts `rows`, which may be 0.
    ///
    /// # Errors
    /// See [`RunFailure`]. [`execute`](crate::execute) catches a panic, isolates it like a refused row and runs on: a lane
    /// must be usable after one.
    fn run(&mut self, items: &[Item], rows: u32) -> Result<RunOutputs, RunFailure>;
}

/// What a run gave.
#[derive(Debug, Default)]
pub struct RunOutputs {
    /// In the contract's order.
    pub outputs: Outputs,
    /// Time spent on gathering, running and taking outputs over.
    pub input: Duration,
    /// See `input`.
    pub run: Duration,
    /// See `input`.
    pub output: Duration,
    /// Rows that a step has refused; their outputs mean nothing. In ascending order, at most one of each row.
    pub refused: Vec<RowFault>,
    /// How long each step of the batch took, where a model has such.
    pub steps: Vec<Duration>,
}

/// One row of a batch that cannot be answered, while its neighbours can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowFault {
    /// Counted from 0, within the batch.
    pub row: u32,
    /// Which step, and why.
    pub text: Box<str>,
}

/// Why a run gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunFailure {
    /// The model refused its inputs; some row of the batch is at fault. The text is free of paths and addresses.
    Rejected(String),
    /// The run needed more memory than its lane may take.
    Memory {
        /// Bytes asked for, where known.
        asked: Option<u64>,
        /// Bytes allowed.
        allowed: u64,
    },
    /// The run was stopped because it took too long, or the lane is broken.
    Lost(String),
}
