//! A batch of rows of several lengths: the model sees all of them, padded, and kernels those of one length after those
//! of another, without padding.

use std::ops::Range;
use std::time::{Duration, Instant};

use servekit_core::{Inputs, RowFault, RunFailure, RunOutputs, Shape, Tensor, element_count};
use smallvec::SmallVec;

use super::{PipelineLane, Rows};
use crate::gather::{Portion, inconsistent};
use crate::lane::Part;
use crate::pipeline::layout::{Layout, Work};
use crate::pipeline::lengths::Lengths;
use crate::pipeline::memory::{Data, Held, Room};

/// A row of the batch, with its length and where it is found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    length: i64,
    /// Within the batch.
    place: usize,
    portion: usize,
    /// Within its portion.
    own_place: usize,
}

/// A result of kernels, row after row as they come.
struct Target {
    number: usize,
    /// Without rows; of the first group.
    shape: Shape,
    room: Option<Room>,
}

impl PipelineLane {
    /// The rows by length, if there are several or some are padded; `None` where the batch is as any other.
    pub(super) fn lengths<P: Portion>(
        &self,
        portions: &[P],
        lengths: &Lengths,
    ) -> Result<Option<Vec<Row>>, RunFailure> {
        let column = self.layout.gathered.len();
        let (place, axis) =
            (0..column).find_map(|place| Some((place, lengths.pad(place)?.axis))).ok_or_else(inconsistent)?;
        let mut rows = Vec::new();
        let (mut is_even, mut first) = (true, None);
        for (portion, given) in portions.iter().enumerate() {
            let tensor = given.inputs().get(place).and_then(Option::as_ref).ok_or_else(inconsistent)?;
            let padded = tensor.shape.get(axis).copied().ok_or_else(inconsistent)?;
            let column = match (lengths.has_column, given.inputs().get(column)) {
                (false, _) => None,
                (true, Some(Some(column))) if column.data.len() == 8 * given.rows() => Some(column.data.as_chunks().0),
                (true, _) => return Err(inconsistent()),
            };
            for own_place in 0..given.rows() {
                let length = column.map_or(padded, |column| i64::from_le_bytes(column[own_place]));
                is_even &= length == padded && *first.get_or_insert(length) == length;
                rows.push(Row { length, place: rows.len(), portion, own_place });
            }
        }
        if is_even {
            return Ok(None);
        }
        rows.sort_by_key(|row| row.length);
        Ok(Some(rows))
    }

    /// Runs a batch of these rows.
    pub(super) fn run_groups<P: Portion>(
        &mut self,
        portions: &[P],
        lengths: &Lengths,
        rows: &[Row],
    ) -> Result<RunOutputs, RunFailure> {
        let layout = std::sync::Arc::clone(&self.layout);
        let total = Rows { count: rows.len() as i64, are_counted: true };
        let started_at = Instant::now();
        let (wholes, input) = self.run_padded(portions, lengths, total)?;
        let mut steps = vec![Duration::ZERO; layout.calls.len()];
        steps[0] = started_at.elapsed();
        let mut targets: SmallVec<[Target; 4]> = targets(&layout);
        let mut refused = Vec::new();
        for group in rows.chunk_by(|one, other| one.length == other.length) {
            self.begin_group(&layout, lengths, (portions, &wholes), group)?;
            let count = Rows { count: group.len() as i64, are_counted: true };
            for ((place, call), step) in layout.calls.iter().enumerate().zip(&mut steps).skip(1) {
                let begun_at = Instant::now();
                self.call(place, call, count)?;
                *step += begun_at.elapsed();
            }
            for fault in self.refused.drain(..) {
                let row = group.get(fault.row as usize).map_or(0, |row| row.place);
                refused.push(RowFault { row: row as u32, text: fault.text });
            }
            for target in &mut targets {
                self.place(target, group, rows.len())?;
            }
        }
        refused.sort_by_key(|fault| fault.row);
        let run = started_at.elapsed().saturating_sub(input);
        let ended_at = Instant::now();
        self.finish(portions, (targets, wholes), total)?;
        let outputs = self.outputs()?;
        Ok(RunOutputs { outputs, input, run, output: ended_at.elapsed(), refused, steps })
    }

    /// Runs the model on everything; gives its outputs by number, and how long it gathered.
    fn run_padded<P: Portion>(
        &mut self,
        portions: &[P],
        lengths: &Lengths,
        rows: Rows,
    ) -> Result<(Wholes, Duration), RunFailure> {
        let Some(call) = self.layout.calls.first() else { return Err(inconsistent()) };
        let Work::Model { model, inputs, outputs } = &call.work else { return Err(inconsistent()) };
        let places: SmallVec<[Option<usize>; 4]> = inputs
            .iter()
            .map(|number| self.layout.gathered.iter().position(|gathered| Some(*gathered) == *number))
            .collect();
        let given = |portion: &P| -> Inputs {
            places.iter().map(|place| portion.inputs().get((*place)?).cloned().flatten()).collect()
        };
        let given: Vec<Inputs> = portions.iter().map(given).collect();
        let parts: Vec<Part<'_>> = portions
            .iter()
            .zip(&given)
            .map(|(portion, inputs)| Part { inputs, rows: portion.rows(), is_whole: true })
            .collect();
        let lane = self.models.get_mut(*model).ok_or_else(inconsistent)?;
        let count = u32::try_from(rows.count).unwrap_or(0);
        let found = lane.run_parts(&parts, count);
        let found = found.map_err(|failure| self.explained(&call.step, failure, rows))?;
        let mut wholes = Wholes::new();
        for ((tensor, number), axis) in found.outputs.into_iter().zip(outputs).zip(&lengths.outputs) {
            let Some(number) = *number else { continue };
            let has_axis = axis.is_none_or(|axis| axis < tensor.shape.len());
            if tensor.shape.first() != Some(&rows.count) || !has_axis {
                let (step, name) = (&call.step, &self.layout.values[number].name);
                let shape = servekit_core::list(&tensor.shape);
                let text = format!("{step}: '{name}' is {shape} for {} rows", rows.count);
                return Err(RunFailure::Rejected(text));
            }
            wholes.push(Whole { number, axis: *axis, tensor });
        }
        Ok((wholes, found.input))
    }

    /// Gives kernels what they read of these rows, without padding.
    fn begin_group<P: Portion>(
        &mut self,
        layout: &Layout,
        lengths: &Lengths,
        (portions, wholes): (&[P], &Wholes),
        group: &[Row],
    ) -> Result<(), RunFailure> {
        self.release_all();
        self.sizes.reset(layout.names);
        let rows = Rows { count: group.len() as i64, are_counted: true };
        self.sizes.agree(layout.rows, rows.count);
        for &number in &lengths.cut {
            let held = if let Some(whole) = wholes.iter().find(|whole| whole.number == number) {
                let rows = group.iter().map(|row| Some((&whole.tensor, row.place)));
                self.cut(number, whole.axis, rows, group)?
            } else {
                let place = layout.gathered.iter().position(|gathered| *gathered == number);
                let place = place.ok_or_else(inconsistent)?;
                let axis = lengths.pad(place).map(|pad| pad.axis);
                let rows = group
                    .iter()
                    .map(|row| Some((portions.get(row.portion)?.inputs().get(place)?.as_ref()?, row.own_place)));
                self.cut(number, axis, rows, group)?
            };
            self.settle("inputs", number, held, rows)?;
        }
        Ok(())
    }

    /// These rows as one tensor, of which each has the length of the group along the axis.
    fn cut<'a>(
        &mut self,
        number: usize,
        axis: Option<usize>,
        rows: impl Iterator<Item = Option<(&'a Tensor, usize)>>,
        group: &[Row],
    ) -> Result<Held, RunFailure> {
        let (layout, length) = (&self.layout, group.first().map_or(0, |row| row.length));
        let value = &layout.values[number];
        let element_bytes = value.datatype.element_bytes().ok_or_else(inconsistent)?;
        let mut rows = rows.peekable();
        let Some(Some((first, place))) = rows.peek().copied() else { return Err(inconsistent()) };
        let mut shape = first.shape.clone();
        *shape.first_mut().ok_or_else(inconsistent)? = group.len() as i64;
        if let Some(size) = axis.and_then(|axis| shape.get_mut(axis)) {
            *size = length;
        }
        if let ([_], Some(slice)) = (group, Blocks::of(first, axis, length, element_bytes))
            && slice.count == 1
        {
            let data = first.data.slice(slice.row(place)?.start..).slice(..slice.own);
            return Ok(Held::new(value.datatype, shape, Data::Shared(data)));
        }
        let bytes = element_count(&shape).and_then(|count| usize::try_from(count).ok()?.checked_mul(element_bytes));
        let mut room = self.memory.room(value.slot, bytes.ok_or_else(inconsistent)?);
        let mut rest = room.bytes_mut();
        for row in rows {
            let (tensor, place) = row.ok_or_else(inconsistent)?;
            let blocks = Blocks::of(tensor, axis, length, element_bytes).ok_or_else(inconsistent)?;
            let source = tensor.data.get(blocks.row(place)?).ok_or_else(inconsistent)?;
            for block in source.chunks_exact(blocks.step.max(1)) {
                let (target, behind) = rest.split_at_mut_checked(blocks.own).ok_or_else(inconsistent)?;
                target.copy_from_slice(&block[..blocks.own]);
                rest = behind;
            }
        }
        if !rest.is_empty() {
            return Err(inconsistent());
        }
        Ok(Held::new(value.datatype, shape, Data::Own(room)))
    }

    /// Puts the group's rows of a result where they belong in the batch.
    fn place(&mut self, target: &mut Target, group: &[Row], total: usize) -> Result<(), RunFailure> {
        let value = &self.layout.values[target.number];
        let held = &self.values[target.number];
        let data = held.data.as_deref().ok_or_else(inconsistent)?;
        let (Some(shape), row_bytes) = (held.shape.get(1..), data.len() / group.len().max(1)) else {
            return Err(inconsistent());
        };
        if target.room.is_none() {
            target.shape = Shape::from_slice(shape);
            target.room = Some(self.memory.room(value.slot, row_bytes.saturating_mul(total)));
        }
        let Some(room) = target.room.as_mut().filter(|_| target.shape.as_slice() == shape) else {
            let text = format!("output '{}' has other sizes in rows of another length", value.name);
            return Err(RunFailure::Rejected(text));
        };
        let bytes = room.bytes_mut();
        for (row, data) in group.iter().zip(data.chunks_exact(row_bytes.max(1))) {
            let place = bytes.get_mut(row.place * row_bytes..(row.place + 1) * row_bytes);
            place.ok_or_else(inconsistent)?.copy_from_slice(data);
        }
        Ok(())
    }

    /// Everything that clients get is a value of the whole batch again.
    fn finish<P: Portion>(
        &mut self,
        portions: &[P],
        (targets, wholes): (SmallVec<[Target; 4]>, Wholes),
        rows: Rows,
    ) -> Result<(), RunFailure> {
        self.release_all();
        let layout = std::sync::Arc::clone(&self.layout);
        self.sizes.reset(layout.names);
        self.sizes.agree(layout.rows, rows.count);
        let is_output = |number: usize| layout.outputs.iter().any(|output| output.value == number);
        for (index, &number) in layout.gathered.iter().enumerate() {
            if is_output(number) {
                self.gather(portions, index, rows)?;
            }
        }
        for Whole { number, tensor, .. } in wholes {
            if is_output(number) {
                self.settle("outputs", number, tensor.into(), rows)?;
            }
        }
        for Target { number, shape, room } in targets {
            let data = Data::Own(room.ok_or_else(inconsistent)?);
            let shape = std::iter::once(rows.count).chain(shape).collect();
            let datatype = layout.values[number].datatype;
            self.settle("outputs", number, Held::new(datatype, shape, data), rows)?;
        }
        Ok(())
    }
}

/// An output of the model for the whole batch.
struct Whole {
    number: usize,
    /// Along which it is padded.
    axis: Option<usize>,
    tensor: Tensor,
}

type Wholes = SmallVec<[Whole; 4]>;

/// What kernels make and clients get.
fn targets(layout: &Layout) -> SmallVec<[Target; 4]> {
    let mut numbers: SmallVec<[usize; 4]> = SmallVec::new();
    for call in &layout.calls {
        if let Work::Kernel { outputs, .. } = &call.work {
            let is_output = |number: &&usize| layout.outputs.iter().any(|output| output.value == **number);
            numbers.extend(outputs.iter().filter(is_output).copied());
        }
    }
    numbers.into_iter().map(|number| Target { number, shape: Shape::new(), room: None }).collect()
}

/// A row of a padded tensor: blocks of which each begins with what is the row's own.
struct Blocks {
    count: usize,
    /// Bytes from one block to the next.
    step: usize,
    /// Bytes of the row's own.
    own: usize,
}

impl Blocks {
    fn of(tensor: &Tensor, axis: Option<usize>, length: i64, element_bytes: usize) -> Option<Self> {
        let bytes = |sizes: &[i64]| usize::try_from(element_count(sizes)?).ok()?.checked_mul(element_bytes);
        let Some(axis) = axis else {
            let own = bytes(tensor.shape.get(1..)?)?;
            return Some(Self { count: 1, step: own, own });
        };
        let count = usize::try_from(element_count(tensor.shape.get(1..axis)?)?).ok()?;
        let inner = bytes(tensor.shape.get(axis + 1..)?)?;
        let padded = usize::try_from(*tensor.shape.get(axis)?).ok()?;
        let length = usize::try_from(length).ok().filter(|length| *length <= padded)?;
        Some(Self { count, step: padded.checked_mul(inner)?, own: length.checked_mul(inner)? })
    }

    /// Where the row of this place lies.
    fn row(&self, place: usize) -> Result<Range<usize>, RunFailure> {
        let bytes = self.count.checked_mul(self.step).ok_or_else(inconsistent)?;
        let start = place.checked_mul(bytes).ok_or_else(inconsistent)?;
        Ok(start..start.checked_add(bytes).ok_or_else(inconsistent)?)
    }
}
