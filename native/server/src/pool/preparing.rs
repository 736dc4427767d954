//! What a runner does with one request before it can be in a batch.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use servekit_core::{Contract, Fault, Hold, Inputs, ModelKey, Pending, Prepared, Preparer, Refusal, check_row_bytes};

use crate::listing::Version;
use crate::refusals;

/// A request out of its queue, with what prepares it.
pub(super) struct Task {
    pub(super) version: Arc<Version>,
    /// `None` stands for one that has yet to be made, or that broke.
    pub(super) preparer: Option<Box<dyn Preparer>>,
    pub(super) pending: Box<Pending>,
    /// How long it took.
    pub(super) took: Duration,
    /// Why it cannot be answered, if it cannot.
    pub(super) refusal: Option<Refusal>,
}

impl Task {
    /// A request that nothing was done with.
    pub(super) fn new(version: Arc<Version>, preparer: Option<Box<dyn Preparer>>, pending: Box<Pending>) -> Self {
        Self { version, preparer, pending, took: Duration::ZERO, refusal: None }
    }

    /// Whose it is.
    pub(super) fn key(&self) -> ModelKey {
        self.version.key
    }

    /// Prepares the request. It counts as this thread; `fault` takes what went wrong.
    pub(super) fn run(&mut self, thread: usize, fault: &dyn Fn(&Fault)) {
        let started_at = Instant::now();
        let mut steps = Vec::new();
        let outcome = self.prepare(&mut steps, thread, fault);
        self.took = started_at.elapsed();
        self.version.counters[thread].prepared(&steps);
        self.refusal = outcome.and_then(|inputs| self.put(inputs, steps)).err();
    }

    fn prepare(
        &mut self,
        steps: &mut Vec<Duration>,
        thread: usize,
        report: &dyn Fn(&Fault),
    ) -> Result<Inputs, Refusal> {
        let (version, pending) = (&self.version, &self.pending);
        let refused = |fault: &Fault| {
            report(fault);
            Err(fault.refusal())
        };
        let Some(mut preparer) = self.preparer.take().or_else(|| version.served.model.preparer()) else {
            return refused(&Fault::of(&format!("'{}' has no further preparer", version.served.name)));
        };
        // What a panic leaves behind goes with the preparer; the steps are only counted.
        let outcome = catch_unwind(AssertUnwindSafe(|| preparer.prepare(&pending.inputs, pending.rows, steps)));
        let inputs = match outcome {
            Ok(outcome) => {
                self.preparer = Some(preparer);
                outcome?
            }
            Err(payload) => {
                version.counters[thread].panicked();
                return refused(&Fault::of_panic(payload.as_ref()));
            }
        };
        match is_whole(&inputs, version.served.model.run_contract(), pending.rows) {
            true => Ok(inputs),
            false => refused(&Fault::of(&format!("a preparer of '{}' gave other inputs or rows", version.served.name))),
        }
    }

    /// Puts the inputs in place of those that were sent, if there is room for them in a batch and in the model's memory.
    fn put(&mut self, inputs: Inputs, steps: Vec<Duration>) -> Result<(), Refusal> {
        let (version, pending) = (&self.version, &mut self.pending);
        let sent = pending.bytes();
        pending.way = version.departing(&inputs, pending.rows, pending.arrived_at);
        pending.inputs = inputs;
        let bytes = pending.bytes();
        check_row(version, bytes, pending.rows)?;
        let hold = hold(version, bytes.saturating_sub(sent))?;
        pending.prepared = Some(Box::new(Prepared { steps, hold }));
        Ok(())
    }
}

/// Checks that the inputs of a request, of so many bytes, fit into batches of this queue.
pub(super) fn check_row(version: &Version, bytes: usize, rows: u32) -> Result<(), Refusal> {
    let row_bytes = bytes / rows.max(1) as usize;
    check_row_bytes(row_bytes as u64, "one prepared row", version.served.policy.bytes_max as u64)
}

/// Takes so many of the bytes that requests of this model may hold; `None` for none.
pub(super) fn hold(version: &Version, bytes: usize) -> Result<Option<Hold>, Refusal> {
    let full = || refusals::model_memory_full(&version.served.name, bytes as u64, version.bytes.free());
    if bytes == 0 { Ok(None) } else { version.bytes.hold(bytes as u64).ok_or_else(full).map(Some) }
}

/// Whether these are the inputs of so many rows; a request that overrides a default counts as one, whatever its inputs.
fn is_whole(inputs: &Inputs, contract: &Contract, rows: u32) -> bool {
    let has_rows = |tensor: &servekit_core::Tensor| tensor.shape.first() == Some(&i64::from(rows));
    inputs.len() == contract.inputs.len() && (!contract.counts_rows(inputs) || inputs.iter().flatten().all(has_rows))
}
