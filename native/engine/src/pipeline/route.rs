//! The way of requests through the legs of a pipeline: what each leg takes of what the others gave.

use std::sync::Arc;

use bytes::Bytes;
use servekit_core::{
    Datatype, Entries, Inputs, Model, Outputs, Passage, Reason, Refusal, Route, Shape, Tensor, Way, list,
};

use super::axis::Sizes;
use super::layout::Layout;
use super::leg::Leg;
use super::plan::{Each, Named};

/// What passes between a leg and the others, by the numbers of values.
#[derive(Debug)]
pub(super) struct Pass {
    /// What it takes of legs before.
    pub(super) taken: Vec<usize>,
    /// What it makes for others.
    pub(super) given: Vec<usize>,
    /// Whether entries are its rows.
    pub(super) each: Option<Each>,
}

/// One leg as requests come through it.
struct Stop {
    layout: Arc<Layout>,
    /// Whether it counts rows, those of its requests or their entries.
    counts_rows: bool,
    pass: Pass,
    /// Of all values, whether anybody needs them once this leg has been entered.
    is_kept: Vec<bool>,
}

/// See [`Route`].
pub(super) struct Itinerary {
    stops: Vec<Stop>,
    later: Vec<Arc<dyn Model>>,
    /// Values that clients get.
    outputs: Vec<usize>,
}

impl Itinerary {
    /// The way through these legs, of which there are several.
    pub(super) fn new(legs: &[Arc<Leg>], passes: Vec<Pass>, outputs: &[Named]) -> Self {
        let outputs: Vec<usize> = outputs.iter().map(|output| output.value).collect();
        let mut is_kept: Vec<bool> = vec![false; legs[0].layout.values.len()];
        outputs.iter().for_each(|&number| is_kept[number] = true);
        let mut stops = Vec::with_capacity(legs.len());
        for (leg, pass) in legs.iter().zip(passes).rev() {
            let kept = is_kept.clone();
            let counts = pass.each.as_ref().and_then(|each| each.count);
            pass.taken.iter().copied().chain(counts).for_each(|number| is_kept[number] = true);
            let (layout, counts_rows) = (Arc::clone(&leg.layout), leg.contract.is_batched());
            stops.push(Stop { layout, counts_rows, pass, is_kept: kept });
        }
        stops.reverse();
        let later = legs[1..].iter().map(|leg| Arc::clone(leg) as Arc<dyn Model>).collect();
        Self { stops, later, outputs }
    }
}

impl Route for Itinerary {
    fn legs(&self) -> &[Arc<dyn Model>] {
        &self.later
    }

    fn depart(&self, inputs: &Inputs) -> Vec<Option<Tensor>> {
        let first = &self.stops[0].layout;
        let mut carried = vec![None; first.values.len()];
        for &place in &first.carried {
            carried[first.gathered[place]] = inputs.get(place).cloned().flatten();
        }
        carried
    }

    fn pass(&self, way: &mut Way, outputs: Outputs) -> Result<Passage, Refusal> {
        let stop = self.stops.get(way.leg).ok_or_else(|| self.lost("a leg"))?;
        for (&number, tensor) in stop.pass.given.iter().zip(outputs) {
            let tensor = if stop.pass.each.is_some() { self.spread(way, number, tensor)? } else { tensor };
            way.carried[number] = Some(tensor);
        }
        while let Some(stop) = self.stops.get(way.leg + 1) {
            way.leg += 1;
            let entered = match &stop.pass.each {
                None => {
                    way.entries = None;
                    let inputs = stop.pass.taken.iter().map(|&number| self.value(way, number).map(Some));
                    Some((inputs.collect::<Result<Inputs, Refusal>>()?, way.rows))
                }
                Some(each) => self.enter(way, stop, each.count)?,
            };
            let rows_kept = way.carried.iter_mut().zip(&stop.is_kept);
            rows_kept.filter(|(_, is_kept)| !**is_kept).for_each(|(value, _)| *value = None);
            if let Some((inputs, rows)) = entered {
                return Ok(Passage::On { inputs, rows: if stop.counts_rows { rows } else { 1 } });
            }
        }
        let outputs = self.outputs.iter().map(|&number| self.value(way, number));
        Ok(Passage::Arrived(outputs.collect::<Result<_, Refusal>>()?))
    }
}

impl Itinerary {
    /// Makes rows of the entries that mean something; `None` where there are none, and what the leg would give is put
    /// into the way.
    fn enter(&self, way: &mut Way, stop: &Stop, count: Option<usize>) -> Result<Option<(Inputs, u32)>, Refusal> {
        let taken = stop.pass.taken.iter().map(|&number| self.value(way, number));
        let taken = taken.collect::<Result<Vec<Tensor>, Refusal>>()?;
        let Some(&[front, behind, ..]) = taken.first().map(|tensor| tensor.shape.as_slice()) else {
            return Err(self.lost("entries"));
        };
        if let Some(place) = taken.iter().position(|tensor| !tensor.shape.starts_with(&[front, behind])) {
            let [found, first] = [place, 0].map(|place| self.value_name(stop.pass.taken[place]));
            let shape = list(&taken[place].shape);
            let text = format!(
                "'{found}' is {shape}, [{front},{behind},…] as '{first}' is allowed; send what belongs together"
            );
            return Err(self.refused(Reason::ShapeMismatch, &text));
        }
        let (rows, room) = (size(front), size(behind));
        let meant = match count {
            None => vec![room; rows],
            Some(number) => {
                let counts = whole_numbers(&self.value(way, number)?, rows);
                let counts = counts.ok_or_else(|| self.lost(self.value_name(number)))?;
                counts.into_iter().map(|count| size(count).min(room)).collect()
            }
        };
        if meant.iter().all(|&count| count == 0) {
            let mut sizes = Sizes::default();
            sizes.reset(stop.layout.names);
            for (&number, tensor) in stop.pass.taken.iter().zip(&taken) {
                stop.layout.values[number].axes.fit(&tensor.shape[2..], &mut sizes);
            }
            for &number in &stop.pass.given {
                way.carried[number] = Some(nothing(&stop.layout, number, (rows, room), &sizes));
            }
            return Ok(None);
        }
        let inputs: Inputs = taken.iter().map(|tensor| Some(entries_as_rows(tensor, room, &meant))).collect();
        let origins = meant.iter().enumerate().flat_map(|(row, &count)| std::iter::repeat_n(row as u32, count));
        let origins: Box<[u32]> = origins.collect();
        let count = u32::try_from(origins.len()).unwrap_or(u32::MAX);
        way.entries = Some(Entries { origins, rows, room });
        Ok(Some((inputs, count)))
    }

    /// Puts what entries came to back into the rows that they are of, zeros where an entry means nothing.
    fn spread(&self, way: &Way, number: usize, tensor: Tensor) -> Result<Tensor, Refusal> {
        let Some(Entries { origins, rows, room }) = &way.entries else { return Err(self.lost("entries")) };
        let (total, rows, room) = (origins.len(), *rows, *room);
        if tensor.shape.first().is_none_or(|&found| size(found) != total) {
            let (name, shape) = (self.value_name(number), list(&tensor.shape));
            let text = format!("'{name}' is {shape} for {total} entries, an entry each in front is allowed");
            return Err(self.refused(Reason::RowRejected, &format!("{text}; mend the model")));
        }
        let mut shape = Shape::from_slice(&[rows as i64, room as i64]);
        shape.extend_from_slice(&tensor.shape[1..]);
        let (datatype, entry_bytes) = (tensor.datatype, empty_bytes(&tensor, &tensor.shape[1..]));
        if total == rows * room {
            return Ok(Tensor { datatype, shape, data: tensor.data });
        }
        let (mut rest, mut origins) = (tensor, origins.iter().peekable());
        let mut data = Vec::with_capacity(rest.data.len() + (rows * room - total) * entry_bytes);
        for row in 0..rows {
            let count = std::iter::from_fn(|| origins.next_if(|origin| **origin as usize == row)).count();
            data.extend_from_slice(&rest.take_rows(count).data);
            data.resize(data.len() + (room - count) * entry_bytes, 0);
        }
        Ok(Tensor { datatype, shape, data: data.into() })
    }

    fn value(&self, way: &Way, number: usize) -> Result<Tensor, Refusal> {
        way.carried[number].clone().ok_or_else(|| self.lost(self.value_name(number)))
    }

    fn value_name(&self, number: usize) -> &str {
        &self.stops[0].layout.values[number].name
    }

    fn refused(&self, reason: Reason, text: &str) -> Refusal {
        Refusal::new(reason, format!("pipeline of '{}': {text}", self.stops[0].layout.name))
    }

    /// Plans were checked before; this is our own mistake.
    #[cold]
    fn lost(&self, what: &str) -> Refusal {
        self.refused(Reason::Abandoned, &format!("{what} is missing between two steps, please report this"))
    }
}

/// No size is less than nothing.
fn size(axis: i64) -> usize {
    usize::try_from(axis).unwrap_or(0)
}

/// One whole number a row; `None` where there are others, or none.
fn whole_numbers(tensor: &Tensor, rows: usize) -> Option<Vec<i64>> {
    fn read<const BYTES: usize>(data: &[u8], number: impl Fn([u8; BYTES]) -> i64) -> Vec<i64> {
        data.as_chunks().0.iter().map(|bytes| number(*bytes)).collect()
    }
    let data = &tensor.data;
    let found = match tensor.datatype {
        Datatype::Int8 => read(data, |bytes| i64::from(i8::from_le_bytes(bytes))),
        Datatype::Int16 => read(data, |bytes| i64::from(i16::from_le_bytes(bytes))),
        Datatype::Int32 => read(data, |bytes| i64::from(i32::from_le_bytes(bytes))),
        Datatype::Int64 => read(data, i64::from_le_bytes),
        Datatype::Uint8 => read(data, |bytes| i64::from(u8::from_le_bytes(bytes))),
        Datatype::Uint16 => read(data, |bytes| i64::from(u16::from_le_bytes(bytes))),
        Datatype::Uint32 => read(data, |bytes| i64::from(u32::from_le_bytes(bytes))),
        Datatype::Uint64 => read(data, |bytes| i64::try_from(u64::from_le_bytes(bytes)).unwrap_or(i64::MAX)),
        _ => return None,
    };
    (found.len() == rows).then_some(found)
}

/// The first entries of each row as rows, without the others; the bytes are shared where they lie together.
fn entries_as_rows(tensor: &Tensor, room: usize, meant: &[usize]) -> Tensor {
    let (rows, total) = (meant.len(), meant.iter().sum::<usize>());
    let shape =
        |count: usize| -> Shape { std::iter::once(count as i64).chain(tensor.shape[2..].iter().copied()).collect() };
    let mut rest = Tensor { datatype: tensor.datatype, shape: shape(rows * room), data: tensor.data.clone() };
    if total == rows * room {
        return rest;
    }
    if let [count] = meant {
        return rest.take_rows(*count);
    }
    let mut data = Vec::with_capacity(rest.data.len().div_ceil(rows * room) * total);
    for &count in meant {
        data.extend_from_slice(&rest.take_rows(count).data);
        drop(rest.take_rows(room - count));
    }
    Tensor { datatype: tensor.datatype, shape: shape(total), data: data.into() }
}

/// What a leg would give that none of the entries goes through.
fn nothing(layout: &Layout, number: usize, (rows, room): (usize, usize), sizes: &Sizes) -> Tensor {
    let value = &layout.values[number];
    let mut shape = Shape::from_slice(&[rows as i64, room as i64]);
    shape.extend(value.axes.0.iter().map(|axis| axis.size(sizes).unwrap_or(0)));
    let mut tensor = Tensor { datatype: value.datatype, shape: Shape::new(), data: Bytes::new() };
    tensor.data = vec![0; empty_bytes(&tensor, &shape)].into();
    tensor.shape = shape;
    tensor
}

/// Bytes of zeros, or of empty texts, of this shape.
fn empty_bytes(like: &Tensor, shape: &[i64]) -> usize {
    const EMPTY_TEXT_BYTES: usize = 4;
    let elements: usize = shape.iter().map(|&axis| size(axis)).product();
    elements * like.datatype.element_bytes().unwrap_or(EMPTY_TEXT_BYTES)
}
