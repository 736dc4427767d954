//! What does all of a batch's work: gathers it, calls kernels and runs models in the plan's order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use servekit_core::{Executor, Inputs, Item, Outputs, RowFault, RunFailure, RunOutputs, Tensor, element_count, list};

use super::axis::Sizes;
use super::kernel::{Frame, Kernel, Site};
use super::layout::{BatchCall, Layout, Work};
use super::memory::{Memory, Room};
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
    /// Where outputs of the call in hand go.
    rooms: Vec<Room>,
    /// Of the values of this batch.
    sizes: Sizes,
    /// Of the kernel in hand.
    kernel_sizes: Sizes,
    /// By number, from when it is made until nobody reads it any more. Empty between batches.
    values: Vec<Option<Tensor>>,
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
        let values = layout.values.iter().map(|_| None).collect();
        Self {
            counts_rows,
            models,
            kernel_bytes_max,
            memory: Memory::new(layout.slots),
            frame: Frame::new(),
            sites: layout.calls.iter().map(|_| Site::default()).collect(),
            rooms: Vec::new(),
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
        self.values.iter_mut().for_each(|value| *value = None);
        self.rooms.clear();
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
                self.values[number] = None;
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
            ([_], None) => first.data.clone(),
            (portions, None) => gathered_bytes(portions, index),
            ([_], Some(Some(bytes))) if first.data.len() != bytes => return Err(inconsistent()),
            ([_], Some(_)) if is_aligned(&first.data, value.alignment) => first.data.clone(),
            (portions, Some(Some(bytes))) => {
                let mut room = self.memory.room(value.slot, bytes);
                let total = usize::try_from(rows.count).unwrap_or(0);
                match portions {
                    [_] => room.bytes_mut().copy_from_slice(&first.data),
                    _ => gather_rows(portions, index, bytes.checked_div(total).unwrap_or(0), room.bytes_mut())?,
                }
                self.memory.written(room)
            }
        };
        self.settle("inputs", number, Tensor { datatype: value.datatype, shape, data }, rows)
    }

    /// A value is there: it has the rows of the batch, and the shape that the plan says.
    fn settle(&mut self, step: &str, number: usize, tensor: Tensor, rows: Rows) -> Result<(), RunFailure> {
        let value = &self.layout.values[number];
        let is_counted = !rows.are_counted || tensor.shape.first() == Some(&rows.count);
        let fits = tensor.shape.get(1..).is_some_and(|shape| value.axes.fit(shape, &mut self.sizes));
        if !is_counted || !fits || tensor.datatype != value.datatype {
            return Err(RunFailure::Rejected(format!(
                "{step}: '{}' is {} {}, {} {} a row is expected for {} rows, and names stand for one size each",
                value.name,
                tensor.datatype,
                list(&tensor.shape),
                value.datatype,
                value.axes,
                rows.count
            )));
        }
        self.values[number] = Some(tensor);
        Ok(())
    }

    /// Makes the call of this place.
    fn call(&mut self, place: usize, call: &BatchCall, rows: Rows) -> Result<(), RunFailure> {
        match &call.work {
            Work::Kernel { kernel, inputs, outputs } => {
                for &number in inputs {
                    self.align(number)?;
                }
                self.call_kernel(place, (&call.step, kernel), (inputs, outputs))?;
                self.note_faults(&call.step, kernel, rows);
                self.take_outputs(place, (&call.step, kernel), outputs, rows)
            }
            Work::Model { model, inputs, outputs } => self.run_model(&call.step, *model, (inputs, outputs), rows),
        }
    }

    /// Calls a kernel on the values of these numbers, inputs and outputs; leaves the outputs where they were written.
    fn call_kernel(
        &mut self,
        place: usize,
        (step, kernel): (&str, &Kernel),
        (inputs, outputs): (&[usize], &[usize]),
    ) -> Result<(), RunFailure> {
        let rejected = |why: &str| RunFailure::Rejected(format!("{step}: {why}"));
        let Self { layout, sites, values, kernel_sizes, memory, rooms, frame, kernel_bytes_max, .. } = self;
        let (site, values) = (&mut sites[place], values.as_slice());
        let taken = inputs.iter().filter_map(|&number| values[number].as_ref());
        let need = site.measure(kernel, taken.clone(), kernel_sizes).map_err(|why| rejected(&why))?;
        let needed = need.bytes();
        if needed > *kernel_bytes_max {
            return Err(RunFailure::Memory { asked: Some(needed), allowed: *kernel_bytes_max });
        }
        rooms.clear();
        // Within what a kernel may fill, so within the address space.
        let made = need.outputs.iter().zip(outputs);
        rooms.extend(made.map(|(output, &number)| memory.room(layout.values[number].slot, output.bytes as usize)));
        let given = rooms.iter_mut().map(|room| room.bytes_mut().as_mut_ptr());
        site.point(taken.map(|tensor| start(&tensor.data).cast_mut()).chain(given));
        // SAFETY: the plan describes this kernel, whose declaration the site was measured from. Inputs are values of
        // this batch, which `values` keeps and nobody writes; outputs are rooms, which share their memory with nobody
        // and stay where they are until they are handed over.
        let is_done = unsafe { frame.call(kernel, site) };
        if is_done {
            return Ok(());
        }
        Err(rejected("the kernel failed as a whole; it raised an exception, or rows do not fit it"))
    }

    /// Makes values of what a kernel has written.
    fn take_outputs(
        &mut self,
        place: usize,
        (step, kernel): (&str, &Kernel),
        outputs: &[usize],
        rows: Rows,
    ) -> Result<(), RunFailure> {
        for (output, (&number, port)) in outputs.iter().zip(&kernel.outputs).enumerate().rev() {
            let Some(room) = self.rooms.pop() else { return Err(inconsistent()) };
            let shape = self.sites[place].need().outputs[output].shape.clone();
            let data = self.memory.written(room);
            self.settle(step, number, Tensor { datatype: port.datatype, shape, data }, rows)?;
        }
        Ok(())
    }

    /// Remembers which rows a kernel has refused. Their outputs become zeros: what comes after must not stumble over
    /// what the last batch left there, because that would harm the neighbours.
    fn note_faults(&mut self, step: &str, kernel: &Kernel, rows: Rows) {
        let total = self.frame.rows();
        for (row, fault) in self.frame.faults() {
            for room in &mut self.rooms {
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
        let tensor = self.values[number].as_mut().ok_or_else(inconsistent)?;
        if !is_aligned(&tensor.data, value.alignment) {
            let mut room = self.memory.room(value.slot, tensor.data.len());
            room.bytes_mut().copy_from_slice(&tensor.data);
            tensor.data = self.memory.written(room);
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
        let given: Inputs = inputs.iter().map(|number| self.values[(*number)?].clone()).collect();
        let lane = self.models.get_mut(model).ok_or_else(inconsistent)?;
        let count = u32::try_from(rows.count).unwrap_or(0);
        let part = Part { inputs: &given, rows: count as usize, is_whole: true };
        let found = lane.run_parts(&[part], count).map_err(|failure| self.explained(step, failure, rows))?;
        for (tensor, number) in found.outputs.into_iter().zip(outputs) {
            if let Some(number) = *number {
                self.settle(step, number, tensor, rows)?;
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

    fn outputs(&self) -> Result<Outputs, RunFailure> {
        let output = |number: usize| {
            let mut tensor = self.values[number].clone().ok_or_else(inconsistent)?;
            if tensor.data.len() <= COPIED_BYTES_MAX {
                tensor.data = Bytes::copy_from_slice(&tensor.data);
            }
            Ok(tensor)
        };
        self.layout.outputs.iter().map(|named| output(named.value)).collect()
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

/// Where bytes begin; for none, a place that any kernel may be told.
fn start(data: &[u8]) -> *const u8 {
    #[repr(align(64))]
    struct Line;
    if data.is_empty() { std::ptr::NonNull::<Line>::dangling().as_ptr().cast() } else { data.as_ptr() }
}
