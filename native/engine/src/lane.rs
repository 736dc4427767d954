//! What runs one batch at a time.

use std::ffi::c_char;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use ort::sys;
use servekit_core::{Executor, Inputs, Item, Outputs, RunFailure, RunOutputs, Tensor};

use crate::Terminator;
use crate::capi::{Handle, Value, api, check, cpu_memory};
use crate::control::Control;
use crate::fault::Fault;
use crate::gather::{Gather, Portion};
use crate::ragged::{Pad, Padding};
use crate::scatter::{self, Ranges};
use crate::session::Session;
use crate::signature::Signature;

/// What all lanes of a model share.
pub(crate) struct Graph {
    pub(crate) signature: Signature,
    /// Inputs that the model has answered once, to ask it again whether it is well. Set by the first success, at load
    /// or in service.
    pub(crate) golden: OnceLock<Inputs>,
    /// How rows of several lengths are made equal; empty where that would change answers. Set at load, before lanes
    /// are given out.
    pub(crate) padding: OnceLock<Padding>,
}

impl Graph {
    pub(crate) fn new(signature: Signature) -> Self {
        Self { signature, golden: OnceLock::new(), padding: OnceLock::new() }
    }
}

/// A request's share of a batch, for those who have no batch of the scheduler.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// Inputs of exactly these rows, in the contract's order.
    pub inputs: &'a Inputs,
    /// How many rows.
    pub rows: usize,
    /// Whether these are all the rows of their request.
    pub is_whole: bool,
}

impl Portion for Part<'_> {
    fn inputs(&self) -> &Inputs {
        self.inputs
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn is_whole(&self) -> bool {
        self.is_whole
    }
}

/// Runs one batch at a time, on buffers of its own.
pub struct Lane {
    graph: Arc<Graph>,
    session: Arc<Session>,
    control: Arc<Control>,
    memory: Handle<sys::OrtMemoryInfo>,
    gathers: Vec<Gather>,
    /// Names and values of the inputs of the run in hand; empty between runs, kept for their memory.
    input_names: Vec<*const c_char>,
    /// See `input_names`.
    input_values: Vec<*const sys::OrtValue>,
    /// Of all outputs, in the contract's order; they point into the signature.
    output_names: Vec<*const c_char>,
    /// Filled by the library, emptied by `scatter`.
    output_values: Vec<Option<Value>>,
    /// Called when the lane goes, to give its session back.
    give_back: Option<Box<dyn FnOnce() + Send>>,
}

// SAFETY: the pointers in it lead to memory that the lane owns or shares immutably (the signature's names), and none of
// it belongs to a thread.
unsafe impl Send for Lane {}

impl Lane {
    pub(crate) fn new(graph: Arc<Graph>, session: Arc<Session>) -> Result<Self, Fault> {
        let padding = graph.padding.get().cloned().unwrap_or_default();
        Self::with_padding(graph, session, &padding)
    }

    /// A lane that pads like this, whatever the graph says.
    pub(crate) fn with_padding(
        graph: Arc<Graph>,
        session: Arc<Session>,
        padding: &[Option<Pad>],
    ) -> Result<Self, Fault> {
        let pads = padding.iter().copied().chain(std::iter::repeat(None));
        let gathers = graph.signature.inputs.iter().zip(pads).map(|(port, pad)| Gather::new(port, pad)).collect();
        let output_names = graph.signature.outputs.iter().map(|port| port.name.as_ptr()).collect();
        Ok(Self {
            control: Control::new()?,
            memory: cpu_memory(sys::OrtAllocatorType::OrtArenaAllocator)?,
            gathers,
            input_names: Vec::with_capacity(graph.signature.inputs.len()),
            input_values: Vec::with_capacity(graph.signature.inputs.len()),
            output_names,
            output_values: Vec::with_capacity(graph.signature.outputs.len()),
            give_back: None,
            graph,
            session,
        })
    }

    /// Calls this when the lane goes.
    pub(crate) fn on_drop(mut self, give_back: Box<dyn FnOnce() + Send>) -> Self {
        self.give_back = Some(give_back);
        self
    }

    /// Stops runs of this lane from another thread.
    #[must_use]
    pub fn terminator(&self) -> Terminator {
        Terminator(Arc::clone(&self.control))
    }

    /// Runs parts of requests as one batch of so many rows; see [`Executor::run`].
    ///
    /// # Errors
    /// See [`RunFailure`].
    pub fn run_parts(&mut self, parts: &[Part<'_>], rows: u32) -> Result<RunOutputs, RunFailure> {
        self.run_portions(parts, rows)
    }

    fn run_portions<P: Portion>(&mut self, portions: &[P], rows: u32) -> Result<RunOutputs, RunFailure> {
        let started_at = Instant::now();
        self.release();
        let outcome = self.gather(portions, rows as usize).and_then(|ranges| {
            let gathered_at = Instant::now();
            self.run_session(gathered_at)?;
            let ran_at = Instant::now();
            let outputs = self.scatter(portions, rows, &ranges)?;
            Ok(RunOutputs {
                outputs,
                input: gathered_at - started_at,
                run: ran_at - gathered_at,
                output: ran_at.elapsed(),
                ..RunOutputs::default()
            })
        });
        self.release();
        if outcome.is_ok() && self.graph.golden.get().is_none() {
            self.keep_golden(portions);
        }
        outcome
    }

    /// Lets go of what belongs to one run. Also done before the next, in case a panic ended the last.
    fn release(&mut self) {
        self.input_names.clear();
        self.input_values.clear();
        self.output_values.clear();
        self.gathers.iter_mut().for_each(Gather::release);
    }

    fn gather<P: Portion>(&mut self, portions: &[P], rows: usize) -> Result<Ranges, RunFailure> {
        let mut ranges = Ranges::new();
        for (index, (gather, port)) in self.gathers.iter_mut().zip(&self.graph.signature.inputs).enumerate() {
            if let Some(given) = gather.fill(portions, index, rows, &self.memory)? {
                self.input_names.push(port.name.as_ptr());
                self.input_values.push(given.value);
                ranges.push(given.addresses);
            }
        }
        Ok(ranges)
    }

    fn run_session(&mut self, now: Instant) -> Result<(), RunFailure> {
        let _turn = self.session.turn.as_ref().map(|turn| turn.lock().unwrap_or_else(PoisonError::into_inner));
        self.output_values.resize_with(self.output_names.len(), || None);
        self.control.begin(now);
        // SAFETY: all arrays hold as many entries as told: names are C strings of the shared signature, inputs are
        // alive until `release`, outputs are null and may be filled with owned values (`Option<Handle>` is a nullable
        // pointer). The session may run on several threads at once, which the library documents for the CPU; where it
        // may not, the turn is held.
        let status = unsafe {
            (api().Run)(
                self.session.pointer(),
                self.control.options(),
                self.input_names.as_ptr(),
                self.input_values.as_ptr(),
                self.input_values.len(),
                self.output_names.as_ptr(),
                self.output_names.len(),
                self.output_values.as_mut_ptr().cast(),
            )
        };
        self.control.end();
        check(status).map_err(|fault| fault.into_run_failure(self.session.arena_bytes_max))
    }

    fn scatter<P: Portion>(&mut self, portions: &[P], rows: u32, ranges: &Ranges) -> Result<Outputs, RunFailure> {
        let is_alone = matches!(portions, [portion] if portion.is_whole());
        let mut outputs = Outputs::new();
        for (value, port) in self.output_values.drain(..).zip(&self.graph.signature.outputs) {
            let value =
                value.ok_or_else(|| RunFailure::Rejected(format!("output '{}' has no value", port.spec.name)))?;
            let tensor = scatter::take(value, port, ranges, &self.session)
                .map_err(|fault| fault.into_run_failure(self.session.arena_bytes_max))?;
            let found = tensor.shape.first().copied();
            if !is_alone && found != Some(i64::from(rows)) {
                let found = found.unwrap_or(1);
                let text = format!("output '{}' has {found} rows for a batch of {rows}", port.spec.name);
                return Err(RunFailure::Rejected(text));
            }
            outputs.push(tensor);
        }
        Ok(outputs)
    }

    /// Keeps a copy of a lone, small request that was answered.
    #[cold]
    fn keep_golden<P: Portion>(&self, portions: &[P]) {
        const GOLDEN_BYTES_MAX: usize = 1024 * 1024;
        let [portion] = portions else { return };
        let bytes: usize = portion.inputs().iter().flatten().map(|tensor| tensor.data.len()).sum();
        if portion.is_whole() && bytes <= GOLDEN_BYTES_MAX {
            let copied = |tensor: &Tensor| Tensor { data: Bytes::copy_from_slice(&tensor.data), ..tensor.clone() };
            let inputs = portion.inputs().iter().map(|tensor| tensor.as_ref().map(copied)).collect();
            let _ = self.graph.golden.set(inputs);
        }
    }
}

impl Executor for Lane {
    fn run(&mut self, items: &[Item], rows: u32) -> Result<RunOutputs, RunFailure> {
        self.run_portions(items, rows)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Some(give_back) = self.give_back.take() {
            give_back();
        }
    }
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Lane").field("inputs", &self.gathers.len()).finish_non_exhaustive()
    }
}
