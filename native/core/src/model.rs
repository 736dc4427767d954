//! What a model must offer to be served; the engine implements it, tests fake it.

use crate::{Contract, Item, Outputs, Refusal};

/// A loaded model version. Shared by everyone who serves it; dropped with the last of them.
pub trait Model: Send + Sync {
    /// What it takes and gives.
    fn contract(&self) -> &Contract;

    /// A lane of its own for the calling thread. Lanes of one model may run at the same time.
    ///
    /// # Errors
    /// `LaneLost` or `LoadRefused` where no further lane can be had.
    fn executor(&self) -> Result<Box<dyn Executor>, Refusal>;
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
#[derive(Debug)]
pub struct RunOutputs {
    /// In the contract's order.
    pub outputs: Outputs,
    /// Time spent on gathering, running and taking outputs over.
    pub input: std::time::Duration,
    /// See `input`.
    pub run: std::time::Duration,
    /// See `input`.
    pub output: std::time::Duration,
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
