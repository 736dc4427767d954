//! How a model prepares its requests that does what its test tells it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use servekit_core::{Inputs, Preparer, Reason, Refusal, Step, StepPlace, Tensor};

use crate::gate::Gate;
use crate::{Clock, fp32, fp32_values};

/// What the steps of a batch take: a kernel, and the model.
pub(crate) const BATCH_STEPS: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(4)];
/// What the one step of a preparation takes.
const ROW_STEP: Duration = Duration::from_millis(1);

/// The steps of a model that has such.
pub(crate) fn steps() -> Arc<[Step]> {
    let step = |name: &str, place| Step { name: name.into(), place };
    [step("decode", StepPlace::Row), step("scale by 2", StepPlace::Batch), step("model", StepPlace::Model)].into()
}

/// Doubles every value of the first input, which is FP32. Clones are handles of the same one.
#[derive(Clone, Debug, Default)]
pub struct Preparing {
    gate: Gate,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// First values of the requests that were begun.
    begun: Vec<f32>,
    refused: HashSet<u32>,
    panicking: HashSet<u32>,
    /// Columns of what it gives, for each of what it gets.
    widening: usize,
    preparers: usize,
}

impl Default for State {
    fn default() -> Self {
        Self { begun: Vec::new(), refused: HashSet::new(), panicking: HashSet::new(), widening: 1, preparers: 0 }
    }
}

impl Preparing {
    /// Requests that begin with this value are refused.
    pub fn refuse(&self, value: f32) {
        self.state().refused.insert(value.to_bits());
    }

    /// Requests that begin with this value make the preparer panic.
    pub fn panic_at(&self, value: f32) {
        self.state().panicking.insert(value.to_bits());
    }

    /// Inputs have so many times the columns afterwards.
    pub fn widen(&self, factor: usize) {
        self.state().widening = factor;
    }

    /// Each preparation lets this much time pass.
    pub fn take_time(&self, clock: &Clock, each: Duration) {
        self.gate.take_time(clock, each);
    }

    /// Preparations stop in the middle until [`release`](Self::release).
    pub fn hold(&self) {
        self.gate.hold();
    }

    /// Lets preparations go on.
    pub fn release(&self) {
        self.gate.release();
    }

    /// Waits until this many preparations are in the middle at once.
    pub fn wait_running(&self, count: usize) {
        self.gate.wait_running(count);
    }

    /// First values of the requests whose preparation has begun, and forgets them.
    #[must_use]
    pub fn begun(&self) -> Vec<f32> {
        std::mem::take(&mut self.state().begun)
    }

    /// How many preparers were made.
    #[must_use]
    pub fn preparers(&self) -> usize {
        self.state().preparers
    }

    pub(crate) fn preparer(&self) -> Box<dyn Preparer> {
        self.state().preparers += 1;
        Box::new(FakePreparer { preparing: self.clone() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct FakePreparer {
    preparing: Preparing,
}

impl Preparer for FakePreparer {
    fn prepare(&mut self, inputs: &Inputs, _rows: u32, steps: &mut Vec<Duration>) -> Result<Inputs, Refusal> {
        let values = inputs[0].as_ref().map(fp32_values).unwrap_or_default();
        let first = values.first().copied().unwrap_or_default();
        self.preparing.state().begun.push(first);
        self.preparing.gate.pass();
        let state = self.preparing.state();
        let has = |marked: &HashSet<u32>| marked.contains(&first.to_bits());
        let (panics, refuses, widening) = (has(&state.panicking), has(&state.refused), state.widening);
        drop(state);
        steps.push(ROW_STEP);
        if panics {
            // As a panic does, but past the hook, which would print it.
            std::panic::resume_unwind(Box::new("the test made the preparer panic"));
        }
        if refuses {
            return Err(Refusal::new(
                Reason::RowRejected,
                "step 'decode' refuses row 0 of this request; check its values",
            ));
        }
        Ok(inputs.iter().map(|input| input.as_ref().map(|input| doubled(input, widening))).collect())
    }
}

fn doubled(input: &Tensor, widening: usize) -> Tensor {
    let columns = input.shape.last().map_or(1, |&size| size.max(1) as usize);
    let values = fp32_values(input);
    let widened = values.chunks(columns).flat_map(|row| row.repeat(widening)).map(|value| value * 2.0);
    let mut shape = input.shape.clone();
    if let Some(last) = shape.last_mut() {
        *last *= widening as i64;
    }
    fp32(&shape, &widened.collect::<Vec<f32>>())
}
