//! A request between its decoding and its answer.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::{Caller, Dispatch, Hold, Tensor, Way};

/// Inputs in the contract's order; `None` where an optional one was left out. Most models have one; room for more would
/// be moved along with every request.
pub type Inputs = SmallVec<[Option<Tensor>; 1]>;

/// Outputs in the contract's order.
pub type Outputs = SmallVec<[Tensor; 1]>;

/// An accepted request that waits for its run. Boxed once and for all: it goes through a queue and a batch, and is too
/// large to be moved that often.
#[derive(Debug)]
pub struct Pending {
    /// Who gets the answer.
    pub caller: Caller,
    /// Checked against the contract.
    pub inputs: Inputs,
    /// As the contract counts them.
    pub rows: u32,
    /// When it became complete.
    pub arrived_at: Instant,
    /// From this moment on its answer is of no use: it is never run.
    pub deadline: Instant,
    /// Its class: 0 goes before 1, and so on.
    pub priority: u8,
    /// Runs with no other request: it overrides a default of the model, or its connection has sent failing rows.
    pub alone: bool,
    /// What is known of it since its inputs were prepared; `None` where that is not done, or not yet.
    pub prepared: Option<Box<Prepared>>,
    /// How far it has come, where its model runs in several legs.
    pub way: Option<Box<Way>>,
}

/// What preparing a request came to, besides its inputs.
#[derive(Debug, Default)]
pub struct Prepared {
    /// How long each of the preparer's steps took.
    pub steps: Vec<Duration>,
    /// What its inputs take more than they did as they were sent; given back with the answer.
    pub hold: Option<Hold>,
}

impl Pending {
    /// Bytes of its inputs.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.inputs.iter().flatten().map(|tensor| tensor.data.len()).sum()
    }
}

/// How long each step of a request's way took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// From arrival to the start of its batch; its preparation, where it has one, is part of that.
    pub queue: Duration,
    /// Gathering the batch's inputs.
    pub input: Duration,
    /// The model's run.
    pub run: Duration,
    /// Taking the batch's outputs apart.
    pub output: Duration,
    /// Rows of the batch.
    pub batch_rows: u32,
    /// Why the batch left its queue when it did.
    pub dispatch: Dispatch,
}

/// A result.
#[derive(Clone, Debug)]
pub struct Reply {
    /// In the contract's order, all of them; the dialect picks those that were asked for.
    pub outputs: Outputs,
    /// For metrics and `Server-Timing`.
    pub timing: Timing,
    /// How long each step of the model took, in the order of [`Model::steps`](crate::Model::steps), over all rows that took
    /// it together; `None` where it has no steps.
    pub steps: Option<Box<[Duration]>>,
}
