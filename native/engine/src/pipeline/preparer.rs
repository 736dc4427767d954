//! What happens to a request before its batch forms: stages, row by row.

use std::sync::Arc;
use std::time::{Duration, Instant};

use servekit_core::{Datatype, Inputs, Preparer, Reason, Refusal, Tensor, element_count};
use servekit_stages::{Buffers, View};
use smallvec::SmallVec;

use super::axis::Sizes;
use super::layout::{Layout, Source, StageCall};
use super::memory::Memory;

mod stack;

use stack::Stack;

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
                let value = &layout.values[stack.number];
                stack
                    .push(found, (row, rows), &mut self.memory, value.slot)
                    .map_err(|refusal| placed(&layout, stack, &refusal))?;
            }
        }
        self.gathered(inputs, rows, stacks)
    }

    /// Of all values that stages make for the batch, nothing yet.
    fn stacks(&self) -> SmallVec<[Stack; 4]> {
        let layout = &self.layout;
        let stack = |(place, &number): (usize, &usize)| match layout.values[number].source {
            Some(Source::Stage { stage, output }) => {
                let pad = layout.lengths.as_ref().and_then(|lengths| lengths.pad(place));
                Some(Stack::new(number, (stage, output), pad))
            }
            _ => None,
        };
        layout.gathered.iter().enumerate().filter_map(stack).collect()
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
        let lengths = self.lengths(inputs, rows, &stacks)?;
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let differing = stacks.iter().find(|stack| stack.is_padded()).and_then(|stack| {
            let row = lengths.iter().position(|length| *length != lengths[0])?;
            Some(placed(&layout, stack, &stack.uneven(row)))
        });
        let mut stacks = stacks.into_iter();
        let mut gathered = Inputs::new();
        for &number in &layout.gathered {
            let value = &layout.values[number];
            let tensor = match value.source {
                Some(Source::Input(input)) => inputs.get(input).cloned().flatten(),
                _ => match stacks.next() {
                    Some(stack) if rows > 0 => {
                        let named = |refusal: Refusal| {
                            refused(&layout, refusal.reason, &format!("'{}' {}", value.name, refusal.text))
                        };
                        Some(stack.finish(rows, longest, value, &mut self.memory).map_err(named)?)
                    }
                    _ => Some(self.nothing(inputs, number)),
                },
            };
            gathered.push(Some(tensor.ok_or_else(|| missing(&layout, &value.name))?));
        }
        if let Some(known) = layout.lengths.as_ref().filter(|lengths| lengths.has_column) {
            let data: Vec<u8> = lengths.iter().flat_map(|length| length.to_le_bytes()).collect();
            let shape = std::iter::once(rows as i64).collect();
            gathered.push(Some(Tensor { datatype: Datatype::Int64, shape, data: data.into() }));
            // Rows that may not see padding are not padded for each other's sake.
            if let Some(refusal) = differing.filter(|_| lengths.contains(&0) || !known.ragged.mixes(&gathered)) {
                return Err(refusal);
            }
        }
        Ok(gathered)
    }

    /// The length of each row, where rows may have lengths of their own; those of all values agree in it.
    fn lengths(&self, inputs: &Inputs, rows: usize, stacks: &[Stack]) -> Result<Vec<i64>, Refusal> {
        let layout = &self.layout;
        let Some(known) = &layout.lengths else { return Ok(Vec::new()) };
        let mut lengths: Option<(Vec<i64>, usize)> = None;
        for (place, &number) in layout.gathered.iter().enumerate() {
            let Some(pad) = known.pad(place) else { continue };
            let own = match layout.values[number].source {
                Some(Source::Input(input)) => {
                    let tensor = inputs.get(input).and_then(Option::as_ref);
                    let length = tensor.and_then(|tensor| tensor.shape.get(pad.axis)).copied();
                    vec![length.unwrap_or(0); rows]
                }
                _ => stacks.iter().find(|stack| stack.number == number).map_or(Vec::new(), |it| it.lengths.clone()),
            };
            match &lengths {
                Some((first, other)) if *first != own => {
                    let row = first.iter().zip(&own).position(|(one, other)| one != other).unwrap_or(0);
                    let (name, other) = (&layout.values[number].name, &layout.values[*other].name);
                    let (found, expected) = (own.get(row).unwrap_or(&0), first.get(row).unwrap_or(&0));
                    let text = format!(
                        "row {row}: '{name}' has length {found}, {expected} as '{other}' is allowed; send what belongs \
                         together"
                    );
                    return Err(refused(layout, Reason::ShapeMismatch, &text));
                }
                Some(_) => {}
                None => lengths = Some((own, number)),
            }
        }
        Ok(lengths.map_or(Vec::new(), |(lengths, _)| lengths))
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

/// The refusal of what a stage gave, with its place.
fn placed(layout: &Layout, stack: &Stack, refusal: &Refusal) -> Refusal {
    let (step, name) = (&layout.stages[stack.stage].step, &layout.values[stack.number].name);
    refused(layout, refusal.reason, &format!("{step}: output '{name}' {}", refusal.text))
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
