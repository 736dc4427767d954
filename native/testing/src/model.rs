//! A model that gives its inputs back, or does what its test tells it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use servekit_core::{
    Contract, Executor, Item, Model, Outputs, Preparer, Refusal, Route, RowFault, RunFailure, RunOutputs, Step, Tensor,
};

use crate::gate::Gate;
use crate::preparer::{BATCH_STEPS, steps};
use crate::{Chain, Clock, Preparing, fp32_values};

/// What one run was given.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// Rows of the batch.
    pub rows: u32,
    /// Requests, or parts of such.
    pub items: usize,
    /// First value of each row of the first input, where that is FP32; rows are told apart by it.
    pub values: Vec<f32>,
    /// It gave outputs.
    pub worked: bool,
}

/// A model that gives each input back as the output of the same place. Clones are handles of the same one.
#[derive(Clone, Debug)]
pub struct FakeModel {
    contract: Arc<Contract>,
    preparing: Option<Preparing>,
    chain: Option<Chain>,
    steps: Arc<[Step]>,
    gate: Gate,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    recorded: Vec<Recorded>,
    /// Bits of values whose rows are rejected.
    rejected: HashSet<u32>,
    /// Bits of values whose rows make the engine panic.
    panicking: HashSet<u32>,
    /// Bits of values whose rows are refused by a step, each by itself.
    refused: HashSet<u32>,
    rows_max: Option<u32>,
    is_lost: bool,
    is_misshapen: bool,
}

impl FakeModel {
    /// A model with this contract.
    #[must_use]
    pub fn new(contract: Contract) -> Self {
        Self {
            contract: Arc::new(contract),
            preparing: None,
            chain: None,
            steps: Arc::default(),
            gate: Gate::default(),
            state: Arc::default(),
        }
    }

    /// A model with this contract that prepares its requests, and has steps.
    #[must_use]
    pub fn preparing(contract: Contract) -> (Self, Preparing) {
        let preparing = Preparing::default();
        let model = Self { preparing: Some(preparing.clone()), steps: steps(), ..Self::new(contract) };
        (model, preparing)
    }

    /// The same, from which this way leads on.
    #[must_use]
    pub fn leading(self, chain: &Chain) -> Self {
        Self { chain: Some(chain.clone()), ..self }
    }

    /// Rows that begin with this value are refused by a step of the run; the others of their batch are not.
    pub fn refuse_row(&self, value: f32) {
        self.state().refused.insert(value.to_bits());
    }

    /// Runs with a row that begins with this value are rejected.
    pub fn reject(&self, value: f32) {
        self.state().rejected.insert(value.to_bits());
    }

    /// Runs with a row that begins with this value panic.
    pub fn panic_at(&self, value: f32) {
        self.state().panicking.insert(value.to_bits());
    }

    /// Runs of more rows do not fit its memory.
    pub fn fit_rows(&self, rows_max: u32) {
        self.state().rows_max = Some(rows_max);
    }

    /// Its lanes break at their next run.
    pub fn lose(&self) {
        self.state().is_lost = true;
    }

    /// Its outputs have one row more than its inputs.
    pub fn misshape(&self) {
        self.state().is_misshapen = true;
    }

    /// A run lets this much time pass.
    pub fn take_time(&self, clock: &Clock, each: Duration) {
        self.gate.take_time(clock, each);
    }

    /// Runs stop in the middle until [`release`](Self::release).
    pub fn hold(&self) {
        self.gate.hold();
    }

    /// Lets runs go on.
    pub fn release(&self) {
        self.gate.release();
    }

    /// Waits until this many runs are in the middle at once.
    pub fn wait_running(&self, count: usize) {
        self.gate.wait_running(count);
    }

    /// The runs so far, and forgets them.
    #[must_use]
    pub fn recorded(&self) -> Vec<Recorded> {
        std::mem::take(&mut self.state().recorded)
    }

    /// A lane.
    #[must_use]
    pub fn lane(&self) -> Box<dyn Executor> {
        Box::new(FakeExecutor { model: self.clone() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Model for FakeModel {
    fn contract(&self) -> &Contract {
        &self.contract
    }

    fn preparer(&self) -> Option<Box<dyn Preparer>> {
        self.preparing.as_ref().map(Preparing::preparer)
    }

    fn steps(&self) -> &[Step] {
        &self.steps
    }

    fn route(&self) -> Option<Arc<dyn Route>> {
        self.chain.clone().map(|chain| Arc::new(chain) as Arc<dyn Route>)
    }

    fn executor(&self) -> Result<Box<dyn Executor>, Refusal> {
        Ok(self.lane())
    }
}

struct FakeExecutor {
    model: FakeModel,
}

impl Executor for FakeExecutor {
    fn run(&mut self, items: &[Item], rows: u32) -> Result<RunOutputs, RunFailure> {
        self.model.gate.pass();
        let outputs = echo(items);
        let values = row_values(outputs.first(), rows);
        let mut state = self.model.state();
        let meets = |marked: &HashSet<u32>| values.iter().any(|value| marked.contains(&value.to_bits()));
        let panics = meets(&state.panicking);
        let failure = if state.is_lost {
            Some(RunFailure::Lost(String::from("the test broke the lane")))
        } else if let Some(allowed) = state.rows_max.filter(|&rows_max| rows > rows_max) {
            Some(RunFailure::Memory { asked: Some(u64::from(rows)), allowed: u64::from(allowed) })
        } else {
            meets(&state.rejected).then(|| RunFailure::Rejected(String::from("Gather: index 99 found.")))
        };
        let worked = failure.is_none() && !panics;
        let refused = faults(&values, &state.refused);
        state.recorded.push(Recorded { rows, items: items.len(), values, worked });
        let is_misshapen = state.is_misshapen;
        drop(state);
        if panics {
            // As a panic does, but past the hook, which would print it.
            std::panic::resume_unwind(Box::new("the test made the engine panic"));
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
        let outputs = if is_misshapen { outputs.iter().map(with_one_row_more).collect() } else { outputs };
        let steps = if self.model.steps.is_empty() { Vec::new() } else { BATCH_STEPS.to_vec() };
        Ok(RunOutputs { outputs, run: self.model.gate.time(), refused, steps, ..RunOutputs::default() })
    }
}

/// Those of the rows that begin with one of these values.
fn faults(values: &[f32], refused: &HashSet<u32>) -> Vec<RowFault> {
    let rows = (0..).zip(values).filter(|(_, value)| refused.contains(&value.to_bits()));
    rows.map(|(row, value)| RowFault { row, text: format!("step 'check': {value:?} found").into() }).collect()
}

/// Each input of all items, one after the other.
fn echo(items: &[Item]) -> Outputs {
    let inputs = items.first().map_or(0, |item| item.inputs().len());
    (0..inputs)
        .filter_map(|index| {
            let parts: Vec<Tensor> = items.iter().filter_map(|item| item.inputs()[index].clone()).collect();
            if let [scalar] = parts.as_slice() { Some(scalar.clone()) } else { Tensor::concatenate(&parts) }
        })
        .collect()
}

fn row_values(output: Option<&Tensor>, rows: u32) -> Vec<f32> {
    let Some(output) = output.filter(|output| output.datatype == servekit_core::Datatype::Fp32 && rows > 0) else {
        return Vec::new();
    };
    let values = fp32_values(output);
    values.chunks((values.len() / rows as usize).max(1)).filter_map(|row| row.first().copied()).collect()
}

fn with_one_row_more(output: &Tensor) -> Tensor {
    let first = output.rows(0, 1);
    Tensor::concatenate(&[output.clone(), first]).unwrap_or_else(|| output.clone())
}
