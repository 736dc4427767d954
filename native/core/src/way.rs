//! The way of a request whose model runs in several legs, each with a queue of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{Hold, Inputs, Model, Outputs, Pending, Refusal, Reply, Tensor, Timing};

/// Leads requests from leg to leg. The first leg is the model that has the route; requests come there by themselves.
pub trait Route: Send + Sync {
    /// The legs behind the first. What they say of clients means nothing: they are only run.
    fn legs(&self) -> &[Arc<dyn Model>];

    /// What a request takes along from the inputs of the first leg, by numbers that only the route knows.
    fn depart(&self, inputs: &Inputs) -> Vec<Option<Tensor>>;

    /// Leads a request on that has run in the leg of its way, with what the run gave. Puts the leg to which it goes into
    /// the way, and takes along what is needed later.
    ///
    /// # Errors
    /// Why this request cannot go on; others are not concerned.
    fn pass(&self, way: &mut Way, outputs: Outputs) -> Result<Passage, Refusal>;
}

/// Where a request goes next.
#[derive(Debug)]
pub enum Passage {
    /// Into the queue of another leg.
    On {
        /// In the order of that leg's contract.
        inputs: Inputs,
        /// As that contract counts them.
        rows: u32,
    },
    /// To its caller, with the outputs in the order of the model's contract.
    Arrived(Outputs),
}

/// How far a request has come, and what it has with it.
#[derive(Debug)]
pub struct Way {
    /// The leg whose queue it is in or has left, counted from 0.
    pub leg: usize,
    /// When it came into that queue.
    pub since: Instant,
    /// Of the request as it came; a leg may have more of it, or fewer.
    pub rows: u32,
    /// What is a row in this leg; `None` where it is a row of the request.
    pub entries: Option<Entries>,
    /// What is needed later, by the route's numbers.
    pub carried: Vec<Option<Tensor>>,
    /// What inputs and `carried` take, from the second leg on; given back with the answer.
    pub hold: Option<Hold>,
    /// Sums over the legs that are over; rows and dispatch are those of the last.
    pub timing: Timing,
    /// Of these legs, in the order of [`Model::steps`].
    pub steps: Vec<Duration>,
}

/// Rows of a leg that are entries of a request's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entries {
    /// The request's row that each of them is of, in ascending order.
    pub origins: Box<[u32]>,
    /// Rows of the request.
    pub rows: usize,
    /// Entries that each of them has room for.
    pub room: usize,
}

impl Way {
    /// At the beginning, in the queue of the first leg.
    #[must_use]
    pub fn new(rows: u32, carried: Vec<Option<Tensor>>, now: Instant) -> Self {
        let (timing, steps) = (Timing::default(), Vec::new());
        Self { leg: 0, since: now, rows, entries: None, carried, hold: None, timing, steps }
    }

    /// Bytes of what is needed later.
    #[must_use]
    pub fn carried_bytes(&self) -> usize {
        self.carried.iter().flatten().map(|tensor| tensor.data.len()).sum()
    }

    /// The request's row of a row in this leg.
    #[must_use]
    pub fn origin(&self, row: u32) -> u32 {
        self.entries.as_ref().and_then(|entries| entries.origins.get(row as usize)).copied().unwrap_or(row)
    }

    /// Adds what a leg took.
    pub fn note(&mut self, timing: Timing, steps: Option<Box<[Duration]>>) {
        let before = self.timing;
        self.timing = Timing {
            queue: before.queue + timing.queue,
            input: before.input + timing.input,
            run: before.run + timing.run,
            output: before.output + timing.output,
            ..timing
        };
        self.steps.extend(steps.into_iter().flatten());
    }

    /// The answer of a request that has arrived.
    #[must_use]
    pub fn reply(&mut self, outputs: Outputs) -> Reply {
        let steps = std::mem::take(&mut self.steps);
        Reply { outputs, timing: self.timing, steps: (!steps.is_empty()).then(|| steps.into()) }
    }
}

/// A request that has run in one leg, and goes on.
#[derive(Debug)]
pub struct Passed {
    /// With its [`Way`].
    pub pending: Box<Pending>,
    /// What the run gave.
    pub reply: Reply,
}
