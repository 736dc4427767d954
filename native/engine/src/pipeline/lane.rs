//! What does all of a batch's work: gathers it, calls kernels and runs models in the plan's order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use servekit_core::{
    Executor, Inputs, Item, Outputs, RowFault, RunFailure, RunOutputs, Shape, Tensor, element_count, list,
};

use super::axis::Sizes;
use super::kernel::{Frame, Kernel, Site};
use super::layout::{BatchCall, Layout, Named, Value, Work};
use super::memory::{Data, Held, Memory};
use crate::gather::{Portion, gather_rows, inconsistent};
use crate::lane::{Lane as ModelLane, Part};

mod groups;

/// Up to this size copying an answer costs less than keeping its buffer from being used again.
const COPIED_BYTES_MAX: usize = 4096;

/// Runs one batch at a time through a pipeline, on buffers of its own.
pub struct PipelineLane {
    layout: Arc<Layout>,
    /// Whether the first axis of everything counts the batch's rows.
    counts_rows: bool,
    /// By model; a model that two steps run has one lane.
    models: Vec<ModelLane>,
    /// Most bytes that one call of a kernel may fill.
    kernel_bytes_max: u64,
    memory: Memory,
    frame: Frame,
    /// By call; those of models are not used.
    sites: Vec<Site>,
    /// Of the values of this batch.
    sizes: Sizes,
    /// Of the kernel in hand.
    kernel_sizes: Sizes,
    /// By number. None is there between batches.
    values: Vec<Held>,
    refused: Vec<RowFault>,
}

/// The batch in hand.
#[derive(Clone, Copy)]
struct Rows {
    count: i64,
    /// False where one request runs alone, and its rows are its own affair.
    are_counted: bool,
}

impl PipelineLane {
    pub(super) fn new(layout: Arc<Layout>, models: Vec<ModelLane>, kernel_bytes_max: u64, counts_rows: bool) -> Self {
        let held = |value: &Value| Held { datatype: value.datatype, shape: Shape::new(), data: None };
        let values = layout.values.iter().map(held).collect();
        Self {
            counts_rows,
            models,
            kernel_bytes_max,
            memory: Memory::new(layout.slots),
            frame: Frame::new(),
            sites: layout.calls.iter().map(|_| Site::default()).collect(),
            sizes: Sizes::default(),
            kernel_sizes: Sizes::default(),
            values,
            refused: Vec::new(),
            layout,
        }
    }

    /// Runs parts of requests as one batch of so many rows; see [`Executor::run`].
    ///
    /// # Errors
    /// See [`RunFailure`].
    pub fn run_parts(&mut self, parts: &[Part<'_>], rows: u32) -> Result<RunOutputs, RunFailure> {
        self.run_portions(parts, rows)
    }

    fn run_portions<P: Portion>(&mut self, portions: &[P], rows: u32) -> Result<RunOutputs, RunFailure> {
        // A panic may have left something of the last batch.
        self.release_all();
        let outcome = self.run_batch(portions, rows);
        self.release_all();
        outcome
    }

    fn release_all(&mut self) {
        self.values.iter_mut().for_each(|held| self.memory.release(held));
        self.refused.clear();
    }

    fn run_batch<P: Portion>(&mut self, portions: &[P], rows: u32) -> Result<RunOutputs, RunFailure> {
        let started_at = Instant::now();
        let layout = Arc::clone(&self.layout);
        self.sizes.reset(layout.names);
        if let Some(lengths) = layout.lengths.as_ref().filter(|_| self.counts_rows)
            && let Some(rows) = self.lengths(portions, lengths)?
        {
            return self.run_groups(portions, lengths, &rows);
        }
        let rows = self.rows(portions, rows)?;
        self.sizes.agree(layout.rows, rows.count);
        for (index, _) in layout.is_run.iter().enumerate().filter(|(_, is_run)| **is_run) {
            self.gather(portions, index, rows)?;
        }
        let gathered_at = Instant::now();
        let mut steps: Vec<Duration> = Vec::with_capacity(layout.calls.len());
        let mut begun_at = gathered_at;
        for (place, call) in layout.calls.iter().enumerate() {
            self.call(place, call, rows)?;
            for &number in &call.released {
                self.memory.release(&mut self.values[number]);
            }
            let ended_at = Instant::now();
            steps.push(ended_at - begun_at);
            begun_at = ended_at;
        }
        let outputs = self.outputs()?;
        Ok(RunOutputs {
            outputs,
            input: gathered_at - started_at,
            run: begun_at - gathered_at,
            output: begun_at.elapsed(),
            refused: std::mem::take(&mut self.refused),
            steps,
        })
    }

    /// Rows of a batch; of a request that may run only alone, what its tensors say.
    fn rows<P: Portion>(&self, portions: &[P], rows: u32) -> Result<Rows, RunFailure> {
        if self.counts_rows {
            return Ok(Rows { count: i64::from(rows), are_counted: true });
        }
        let [portion] = portions else { return Err(inconsistent()) };
        let first = portion.inputs().iter().flatten().next().and_then(|tensor| tensor.shape.first());
        Ok(Rows { count: first.copied().unwrap_or(1), are_counted: false })
    }

    /// Puts the rows of one value together; those of a lone request are taken as they lie.
    fn gather<P: Portion>(&mut self, portions: &[P], index: usize, rows: Rows) -> Result<(), RunFailure> {
        let number = self.layout.gathered[index];
        let value = &self.layout.values[number];
        let tensors = || {
            portions.iter().map(|portion| {
                let tensor = portion.inputs().get(index).and_then(Option::as_ref);
                tensor.map(|tensor| (portion.rows(), tensor)).ok_or_else(inconsistent)
            })
        };
        // One without rows may have any length, because it brings none.
        let has_rows = |tensor: &Result<(usize, &Tensor), _>| tensor.as_ref().is_ok_and(|(rows, _)| *rows > 0);
        let Some(first) = tensors().find(has_rows).or_else(|| tensors().next()) else { return Err(inconsistent()) };
        let (_, first) = first?;
        let mut is_even = first.datatype == value.datatype;
        for tensor in tensors().filter(|_| rows.are_counted) {
            let (rows, tensor) = tensor?;
            is_even &= tensor.datatype == first.datatype && tensor.shape.first() == Some(&(rows as i64));
            is_even &= rows == 0 || tensor.shape.get(1..) == first.shape.get(1..);
        }
        let mut shape = first.shape.clone();
        if let (true, Some(first)) = (rows.are_counted, shape.first_mut()) {
            *first = rows.count;
        }
        let bytes = value.datatype.element_bytes().map(|element_bytes| {
            element_count(&shape).and_then(|count| usize::try_from(count).ok()?.checked_mul(element_bytes))
        });
        let data = match (portions, bytes) {
            _ if !is_even => return Err(inconsistent()),
            (_, Some(None)) => return Err(inconsistent()),
            ([_], None) => Data::Shared(first.data.clone()),
            (portions, None) => Data::Shared(gathered_bytes(portions, index)),
            ([_], Some(Some(bytes))) if first.data.len() != bytes => return Err(inconsistent()),
            ([_], Some(_)) if is_aligned(&first.data, value.alignment) => Data::Shared(first.data.clone()),
            (portions, Some(Some(bytes))) => {
                let mut room = self.memory.room(value.slot, bytes);
                let total = usize::try_from(rows.count).unwrap_or(0);
                match portions {
                    [_] => room.bytes_mut().copy_from_slice(&first.data),
                    _ => gather_rows(portions, index, bytes.checked_div(total).unwrap_or(0), room.bytes_mut())?,
                }
                Data::Own(room)
            }
        };
        self.settle("inputs", number, Held::new(value.datatype, shape, data), rows)
    }

    /// A value is there; see [`Self::check`].
    fn settle(&mut self, step: &str, number: usize, held: Held, rows: Rows) -> Result<(), RunFailure> {
        self.values[number] = held;
        self.check(step, number, rows)
    }

    /// Makes sure that a value has the rows of the batch, and the shape that the plan says.
    #[inline]
    fn check(&mut self, step: &str, number: usize, rows: Rows) -> Result<(), RunFailure> {
        let (value, held) = (&self.layout.values[number], &self.values[number]);
        let fits = match held.shape.split_first() {
            Some((count, shape)) => {
                (!rows.are_counted || *count == rows.count) && value.axes.fit(shape, &mut self.sizes)
            }
            None => false,
        };
        if fits && held.datatype == value.datatype { Ok(()) } else { Err(unexpected(step, (value, held), rows)) }
    }

    /// Makes the call of this place.
    fn call(&mut self, place: usize, call: &BatchCall, rows: Rows) -> Result<(), RunFailure> {
        match &call.work {
            Work::Kernel { kernel, inputs, outputs } => {
                for &number in inputs {
                    self.align(number)?;
                }
                self.call_kernel(place, (&call.step, kernel), (inputs, outputs))?;
                if self.frame.has_faults() {
                    self.note_faults((&call.step, kernel), outputs, rows);
                }
                for &number in outputs.iter().rev() {
                    self.check(&call.step, number, rows)?;
                }
                Ok(())
            }
            Work::Model { model, inputs, outputs } => self.run_model(&call.step, *model, (inputs, outputs), rows),
        }
    }

    /// Calls a kernel on the values of these numbers, inputs and outputs.
    fn call_kernel(
        &mut self,
        place: usize,
        (step, kernel): (&str, &Kernel),
        (inputs, outputs): (&[usize], &[usize]),
    ) -> Result<(), RunFailure> {
        let rejected = |why: &str| RunFailure::Rejected(format!("{step}: {why}"));
        let Self { layout, sites, values, kernel_sizes, memory, frame, kernel_bytes_max, .. } = self;
        let site = &mut sites[place];
        let taken = inputs.iter().map(|&number| &values[number]);
        let need = site.measure(kernel, taken, kernel_sizes).map_err(|why| rejected(&why))?;
        if need.bytes > *kernel_bytes_max {
            return Err(RunFailure::Memory { asked: Some(need.bytes), allowed: *kernel_bytes_max });
        }
        for (&number, (output, view)) in outputs.iter().zip(site.outputs(kernel)) {
            let (value, held) = (&layout.values[number], &mut values[number]);
            // Within what a kernel may fill, so within the address space.
            let room = memory.room(value.slot, output.bytes as usize);
            view.data = room.start().as_ptr();
            (held.datatype, held.data) = (value.datatype, Some(Data::Own(room)));
            held.shape = Shape::from_slice(&output.shape);
        }
        // SAFETY: the plan describes this kernel, whose declaration the site was measured from. Inputs are values of
        // this batch, which `values` keeps and nobody writes; outputs are rooms, which share their memory with nobody
        // and stay in `values` until the call has returned.
        let is_done = unsafe { frame.call(kernel, site) };
        if is_done {
            return Ok(());
        }
        Err(rejected("the kernel failed as a whole; it raised an exception, or rows do not fit it"))
    }

    /// Remembers which rows a kernel has refused. Their outputs become zeros: what comes after must not stumble over
    /// what the last batch left there, because that would harm the neighbours.
    fn note_faults(&mut self, (step, kernel): (&str, &Kernel), outputs: &[usize], rows: Rows) {
        let total = self.frame.rows();
        for (row, fault) in self.frame.faults() {
            for &number in outputs {
                let Some(Data::Own(room)) = &mut self.values[number].data else { continue };
                let bytes = room.bytes_mut();
                let row_bytes = bytes.len() / total;
                bytes[row * row_bytes..(row + 1) * row_bytes].fill(0);
            }
            let message = usize::try_from(fault - 1).ok().and_then(|index| kernel.messages.get(index));
            let message = message.map_or("the kernel refused it and did not say why", AsRef::as_ref);
            let (answered, text) = if rows.are_counted {
                (row, format!("{step}: {message}"))
            } else {
                // The request is one row to everybody else.
                (0, format!("{step}: row {row}: {message}"))
            };
            let answered = u32::try_from(answered).unwrap_or(u32::MAX);
            // A row that an earlier step has refused is told what that said.
            if let Err(place) = self.refused.binary_search_by_key(&answered, |refused| refused.row) {
                self.refused.insert(place, RowFault { row: answered, text: text.into() });
            }
        }
    }

    /// Makes sure that a kernel finds a value where it may begin.
    fn align(&mut self, number: usize) -> Result<(), RunFailure> {
        let value = &self.layout.values[number];
        let data = self.values[number].data.as_mut().ok_or_else(inconsistent)?;
        if let Data::Shared(bytes) = data
            && !is_aligned(bytes, value.alignment)
        {
            let mut room = self.memory.room(value.slot, bytes.len());
            room.bytes_mut().copy_from_slice(bytes);
            *data = Data::Own(room);
        }
        Ok(())
    }

    /// Runs a model on the values of these numbers, by its inputs and outputs.
    fn run_model(
        &mut self,
        step: &str,
        model: usize,
        (inputs, outputs): (&[Option<usize>], &[Option<usize>]),
        rows: Rows,
    ) -> Result<(), RunFailure> {
        let Self { values, memory, .. } = self;
        let given: Inputs = inputs.iter().map(|number| memory.shared(&mut values[(*number)?])).collect();
        let lane = self.models.get_mut(model).ok_or_else(inconsistent)?;
        let count = u32::try_from(rows.count).unwrap_or(0);
        let part = Part { inputs: &given, rows: count as usize, is_whole: true };
        let found = lane.run_parts(&[part], count).map_err(|failure| self.explained(step, failure, rows))?;
        for (tensor, number) in found.outputs.into_iter().zip(outputs) {
            if let Some(number) = *number {
                self.settle(step, number, tensor.into(), rows)?;
            }
        }
        Ok(())
    }

    /// Says which step a model failed in. Where kernels had refused all rows before, what they said is the reason.
    fn explained(&self, step: &str, failure: RunFailure, rows: Rows) -> RunFailure {
        match failure {
            RunFailure::Rejected(text) => match self.refused.first() {
                Some(fault) if !rows.are_counted || self.refused.len() as i64 == rows.count => {
                    RunFailure::Rejected(fault.text.as_ref().to_owned())
                }
                _ => RunFailure::Rejected(format!("{step}: {text}")),
            },
            RunFailure::Lost(text) => RunFailure::Lost(format!("{step}: {text}")),
            failure @ RunFailure::Memory { .. } => failure,
        }
    }

    fn outputs(&mut self) -> Result<Outputs, RunFailure> {
        let Self { layout, values, memory, .. } = self;
        let output = |named: &Named| {
            let held = &mut values[named.value];
            let data = held.data.as_deref().ok_or_else(inconsistent)?;
            if data.len() > COPIED_BYTES_MAX {
                return memory.shared(held).ok_or_else(inconsistent);
            }
            let data = Bytes::copy_from_slice(data);
            Ok(Tensor { datatype: held.datatype, shape: Shape::from_slice(&held.shape), data })
        };
        layout.outputs.iter().map(output).collect()
    }
}

impl Executor for PipelineLane {
    fn run(&mut self, items: &[Item], rows: u32) -> Result<RunOutputs, RunFailure> {
        self.run_portions(items, rows)
    }
}

impl std::fmt::Debug for PipelineLane {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("PipelineLane").field("pipeline", &self.layout.name).finish_non_exhaustive()
    }
}

/// What is wrong with a value that is not as the plan says.
#[cold]
fn unexpected(step: &str, (value, held): (&Value, &Held), rows: Rows) -> RunFailure {
    RunFailure::Rejected(format!(
        "{step}: '{}' is {} {}, {} {} a row is expected for {} rows, and names stand for one size each",
        value.name,
        held.datatype,
        list(&held.shape),
        value.datatype,
        value.axes,
        rows.count
    ))
}

/// The elements of all portions, one behind the other; each has its own length in front.
fn gathered_bytes<P: Portion>(portions: &[P], index: usize) -> Bytes {
    let tensors = || portions.iter().filter_map(|portion| portion.inputs().get(index)?.as_ref());
    let mut data = Vec::with_capacity(tensors().map(|tensor| tensor.data.len()).sum());
    tensors().for_each(|tensor| data.extend_from_slice(&tensor.data));
    data.into()
}

fn is_aligned(data: &[u8], alignment: usize) -> bool {
    data.is_empty() || (data.as_ptr() as usize).is_multiple_of(alignment)
}
