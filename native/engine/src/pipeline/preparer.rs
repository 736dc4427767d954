//! What happens to a request before its batch forms: stages, row by row.

use std::sync::Arc;
use std::time::{Duration, Instant};

use servekit_core::{Inputs, Preparer, Reason, Refusal, Shape, Tensor, element_count, list};
use servekit_stages::{Buffer, Buffers, View};
use smallvec::SmallVec;

use super::axis::Sizes;
use super::layout::{Layout, Source, StageCall};
use super::memory::{Memory, Room};

/// What one request may come to, all rows together: a few bytes can stand for a large picture, and many rows for many
/// of them.
const PREPARED_BYTES_MAX: usize = 1 << 30;
/// What a stage keeps of its memory from one request to the next.
const KEPT_BYTES_MAX: usize = 32 << 20;

/// Prepares one request after the other, in memory of its own.
pub(super) struct RowPreparer {
    layout: Arc<Layout>,
    /// By stage.
    buffers: Vec<Buffers>,
    memory: Memory,
    /// By stage, over all rows of this request.
    durations: Vec<Duration>,
    sizes: Sizes,
}

/// The rows of one value, as far as they are done.
struct Stack {
    number: usize,
    stage: usize,
    output: usize,
    /// Of each row; `None` before the first.
    shape: Option<Shape>,
    /// Where rows of numbers go, and how far it is filled.
    room: Option<(Room, usize)>,
    /// Where rows of BYTES go.
    elements: Vec<u8>,
}

impl RowPreparer {
    pub(super) fn new(layout: Arc<Layout>) -> Self {
        Self {
            buffers: layout.stages.iter().map(|_| Buffers::default()).collect(),
            memory: Memory::new(layout.slots),
            durations: Vec::with_capacity(layout.stages.len()),
            sizes: Sizes::default(),
            layout,
        }
    }

    fn prepare_rows(&mut self, inputs: &Inputs) -> Result<Inputs, Refusal> {
        let layout = Arc::clone(&self.layout);
        let mut feeds: SmallVec<[Feed<'_>; 4]> = SmallVec::new();
        for (named, input) in layout.inputs.iter().zip(inputs.iter().map(Some).chain(std::iter::repeat(None))) {
            let tensor = input.and_then(Option::as_ref).ok_or_else(|| missing(&layout, &named.name))?;
            feeds.push(Feed::of(tensor).ok_or_else(|| missing(&layout, &named.name))?);
        }
        let rows = feeds.first().map_or(0, |feed| feed.rows);
        if let Some(uneven) = feeds.iter().position(|feed| feed.rows != rows) {
            let (first, name, found) = (&layout.inputs[0].name, &layout.inputs[uneven].name, feeds[uneven].rows);
            let text =
                format!("input '{name}' has {found} rows, {rows} as in '{first}' are allowed; send as many in each");
            return Err(refused(&layout, Reason::ShapeMismatch, &text));
        }
        let mut stacks = self.stacks();
        for row in 0..rows {
            let views: SmallVec<[View<'_>; 4]> = feeds.iter_mut().map(Feed::next).collect();
            for (index, call) in layout.stages.iter().enumerate() {
                self.run(index, call, &views).map_err(|refusal| told(&layout, &call.step, (row, rows), &refusal))?;
            }
            for stack in &mut stacks {
                let found = &self.buffers[stack.stage].outputs()[stack.output];
                let step = &layout.stages[stack.stage].step;
                let value = &layout.values[stack.number];
                stack.push(found, (row, rows), &mut self.memory, value.slot).map_err(|refusal| {
                    let text = format!("{step}: output '{}' {}", value.name, refusal.text);
                    refused(&layout, refusal.reason, &text)
                })?;
            }
        }
        self.gathered(inputs, rows, stacks)
    }

    /// Of all values that stages make for the batch, nothing yet.
    fn stacks(&self) -> SmallVec<[Stack; 4]> {
        let stack = |&number: &usize| match self.layout.values[number].source {
            Some(Source::Stage { stage, output }) => {
                Some(Stack { number, stage, output, shape: None, room: None, elements: Vec::new() })
            }
            _ => None,
        };
        self.layout.gathered.iter().filter_map(stack).collect()
    }

    /// Runs one stage on one row of what the client sent, and of what the stages before gave.
    fn run(&mut self, index: usize, call: &StageCall, sent: &[View<'_>]) -> Result<(), Refusal> {
        let (before, from) = self.buffers.split_at_mut(index);
        let taken: SmallVec<[View<'_>; 4]> = call
            .inputs
            .iter()
            .filter_map(|&number| match self.layout.values[number].source? {
                Source::Input(input) => sent.get(input).copied(),
                Source::Stage { stage, output } => Some(before.get(stage)?.outputs().get(output)?.view()),
            })
            .collect();
        if self.durations.len() == index {
            self.durations.push(Duration::ZERO);
        }
        let started_at = Instant::now();
        let outcome = call.stage.run_into(&taken, &mut from[0]);
        self.durations[index] += started_at.elapsed();
        outcome
    }

    /// All values that rows bring into the batch.
    fn gathered(&mut self, inputs: &Inputs, rows: usize, stacks: SmallVec<[Stack; 4]>) -> Result<Inputs, Refusal> {
        let layout = Arc::clone(&self.layout);
        let mut stacks = stacks.into_iter();
        let mut gathered = Inputs::new();
        for &number in &layout.gathered {
            let tensor = match layout.values[number].source {
                Some(Source::Input(input)) => inputs.get(input).cloned().flatten(),
                _ => match stacks.next() {
                    Some(stack) if rows > 0 => stack.finish(rows, layout.values[number].datatype, &mut self.memory),
                    _ => Some(self.nothing(inputs, number)),
                },
            };
            let tensor = tensor.ok_or_else(|| missing(&layout, &layout.values[number].name))?;
            gathered.push(Some(tensor));
        }
        Ok(gathered)
    }

    /// No rows of a value. Sizes that only a row could tell are 0 as well.
    fn nothing(&mut self, inputs: &Inputs, number: usize) -> Tensor {
        let layout = &self.layout;
        self.sizes.reset(layout.names);
        for (named, tensor) in layout.inputs.iter().zip(inputs) {
            if let Some(shape) = tensor.as_ref().and_then(|tensor| tensor.shape.get(1..)) {
                layout.values[named.value].axes.fit(shape, &mut self.sizes);
            }
        }
        let value = &layout.values[number];
        let sizes = value.axes.0.iter().map(|axis| axis.size(&self.sizes).unwrap_or(0));
        Tensor { datatype: value.datatype, shape: std::iter::once(0).chain(sizes).collect(), data: bytes::Bytes::new() }
    }
}

impl Preparer for RowPreparer {
    fn prepare(&mut self, inputs: &Inputs, _rows: u32, steps: &mut Vec<Duration>) -> Result<Inputs, Refusal> {
        self.durations.clear();
        let outcome = self.prepare_rows(inputs);
        if outcome.is_ok() {
            // Of no rows no stage ran, which took no time.
            self.durations.resize(self.layout.stages.len(), Duration::ZERO);
        }
        steps.append(&mut self.durations);
        self.buffers.iter_mut().for_each(|buffers| buffers.trim(KEPT_BYTES_MAX));
        outcome
    }
}

impl Stack {
    /// Adds one more row, of so many.
    fn push(
        &mut self,
        found: &Buffer,
        (row, rows): (usize, usize),
        memory: &mut Memory,
        slot: usize,
    ) -> Result<(), Refusal> {
        let shape = self.shape.get_or_insert_with(|| found.shape.clone());
        if *shape != found.shape {
            let (other, first) = (list(&found.shape), list(shape));
            return Err(Refusal::new(
                Reason::ShapeMismatch,
                format!(
                    "is {other} for row {row}, {first} as for row 0 is allowed in one request; send rows that differ \
                     as one request each"
                ),
            ));
        }
        let bytes = found.data.len();
        let total = if found.dtype.element_bytes().is_some() {
            bytes.saturating_mul(rows)
        } else {
            self.elements.len() + bytes
        };
        if total > PREPARED_BYTES_MAX {
            return Err(Refusal::new(
                Reason::TensorTooLarge,
                format!(
                    "comes to {total} bytes for all rows, at most {PREPARED_BYTES_MAX} are allowed; send fewer rows"
                ),
            ));
        }
        if found.dtype.element_bytes().is_none() {
            self.elements.extend_from_slice(&found.data);
            return Ok(());
        }
        let (room, filled) = self.room.get_or_insert_with(|| (memory.room(slot, total), 0));
        let place = room.bytes_mut().get_mut(*filled..*filled + bytes);
        place.ok_or_else(Refusal::abandoned)?.copy_from_slice(&found.data);
        *filled += bytes;
        Ok(())
    }

    /// All rows as one tensor.
    fn finish(self, rows: usize, datatype: servekit_core::Datatype, memory: &mut Memory) -> Option<Tensor> {
        let shape = std::iter::once(rows as i64).chain(self.shape?).collect();
        let data = match self.room {
            Some((room, _)) => memory.written(room),
            None => self.elements.into(),
        };
        Some(Tensor { datatype, shape, data })
    }
}

/// One input of a request, row after row.
struct Feed<'a> {
    tensor: &'a Tensor,
    /// Without the rows.
    shape: &'a [i64],
    rows: usize,
    /// Elements of BYTES in a row.
    elements: usize,
    /// Bytes of a row of anything else.
    row_bytes: usize,
    rest: &'a [u8],
}

impl<'a> Feed<'a> {
    /// `None` for a tensor without rows.
    fn of(tensor: &'a Tensor) -> Option<Self> {
        let (&rows, shape) = tensor.shape.split_first()?;
        let rows = usize::try_from(rows).ok()?;
        let elements = usize::try_from(element_count(shape)?).ok()?;
        let row_bytes = tensor.data.len().checked_div(rows).unwrap_or(0);
        Some(Self { tensor, shape, rows, elements, row_bytes, rest: &tensor.data })
    }

    fn next(&mut self) -> View<'a> {
        let end = match self.tensor.datatype.element_bytes() {
            Some(_) => self.row_bytes,
            None => (0..self.elements).fold(0, |at, _| end_of_element(self.rest, at)),
        };
        let (data, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, &[]));
        self.rest = rest;
        View { dtype: self.tensor.datatype, shape: self.shape, data }
    }
}

/// Where the BYTES element ends that begins here; the end of the data where it says that it runs past it.
fn end_of_element(data: &[u8], at: usize) -> usize {
    let Some((length, _)) = data.get(at..).and_then(<[u8]>::split_first_chunk::<4>) else { return data.len() };
    (at + 4).saturating_add(u32::from_le_bytes(*length) as usize).min(data.len())
}

fn refused(layout: &Layout, reason: Reason, text: &str) -> Refusal {
    Refusal::new(reason, format!("pipeline of '{}': {text}", layout.name))
}

/// A stage's refusal, with its place.
fn told(layout: &Layout, step: &str, (row, rows): (usize, usize), refusal: &Refusal) -> Refusal {
    let text =
        if rows > 1 { format!("{step}: row {row}: {}", refusal.text) } else { format!("{step}: {}", refusal.text) };
    Refusal { retry_after: refusal.retry_after, ..refused(layout, refusal.reason, &text) }
}

/// Requests were checked against the contract before; this is our own mistake.
#[cold]
fn missing(layout: &Layout, name: &str) -> Refusal {
    let text = format!("'{name}' has no rows, please report this");
    refused(layout, Reason::Abandoned, &text)
}
