//! The rows of one value, as stages give them one after the other.

use servekit_core::{Reason, Refusal, Shape, Tensor, list};
use servekit_stages::Buffer;

use crate::pipeline::layout::Value;
use crate::pipeline::memory::{Memory, Room};
use crate::ragged::Pad;

/// What one value of a request may come to, all rows together: a few bytes can stand for a large picture, and many rows
/// for many of them.
const PREPARED_BYTES_MAX: usize = 1 << 30;

/// See the module.
pub(super) struct Stack {
    /// The value's.
    pub(super) number: usize,
    /// Who gives it.
    pub(super) stage: usize,
    /// See `stage`.
    pub(super) output: usize,
    /// How rows of several lengths are made equal; `None` where they must be.
    pad: Option<Pad>,
    /// Of the first row.
    shape: Option<Shape>,
    /// Where rows that are all alike go, and how far it is filled.
    room: Option<(Room, usize)>,
    /// Where rows of BYTES go, and those that will be padded.
    elements: Vec<u8>,
    /// Of each row that may be padded.
    pub(super) lengths: Vec<i64>,
}

impl Stack {
    /// No row yet.
    pub(super) fn new(number: usize, (stage, output): (usize, usize), pad: Option<Pad>) -> Self {
        let (elements, lengths) = (Vec::new(), Vec::new());
        Self { number, stage, output, pad, shape: None, room: None, elements, lengths }
    }

    /// Whether rows may have lengths of their own.
    pub(super) fn is_padded(&self) -> bool {
        self.pad.is_some()
    }

    /// Adds one more row, of so many.
    pub(super) fn push(
        &mut self,
        found: &Buffer,
        (row, rows): (usize, usize),
        memory: &mut Memory,
        slot: usize,
    ) -> Result<(), Refusal> {
        let shape = self.shape.get_or_insert_with(|| found.shape.clone());
        let along = self.pad.and_then(|pad| pad.axis.checked_sub(1));
        let is_alike = shape.len() == found.shape.len()
            && shape
                .iter()
                .zip(&found.shape)
                .enumerate()
                .all(|(axis, (one, other))| one == other || Some(axis) == along);
        if !is_alike {
            return Err(differing(row, &found.shape, shape));
        }
        let bytes = found.data.len();
        let is_stacked = along.is_none() && found.dtype.element_bytes().is_some();
        let total = if is_stacked { bytes.saturating_mul(rows) } else { self.elements.len().saturating_add(bytes) };
        check_size(total)?;
        if let Some(axis) = along {
            self.lengths.push(found.shape[axis]);
        }
        if !is_stacked {
            self.elements.extend_from_slice(&found.data);
            return Ok(());
        }
        let (room, filled) = self.room.get_or_insert_with(|| (memory.room(slot, total), 0));
        let place = room.bytes_mut().get_mut(*filled..*filled + bytes);
        place.ok_or_else(Refusal::abandoned)?.copy_from_slice(&found.data);
        *filled += bytes;
        Ok(())
    }

    /// The refusal of a row whose length is not that of the first.
    pub(super) fn uneven(&self, row: usize) -> Refusal {
        let first = self.shape.clone().unwrap_or_default();
        let mut other = first.clone();
        let axis = self.pad.and_then(|pad| pad.axis.checked_sub(1));
        if let (Some(size), Some(length)) = (axis.and_then(|axis| other.get_mut(axis)), self.lengths.get(row)) {
            *size = *length;
        }
        differing(row, &other, &first)
    }

    /// All rows as one tensor; those that may be padded all get this length.
    pub(super) fn finish(
        self,
        rows: usize,
        length: i64,
        value: &Value,
        memory: &mut Memory,
    ) -> Result<Tensor, Refusal> {
        let mut shape: Shape = std::iter::once(rows as i64).chain(self.shape.unwrap_or_default()).collect();
        let data = match (self.pad, self.room) {
            (Some(pad), _) => {
                if let Some(size) = shape.get_mut(pad.axis) {
                    *size = length;
                }
                let element_bytes = value.datatype.element_bytes().unwrap_or(1);
                let bytes = count(&shape).saturating_mul(element_bytes);
                check_size(bytes)?;
                let mut room = memory.room(value.slot, bytes);
                let rows = Rows { elements: &self.elements, lengths: &self.lengths, element_bytes };
                rows.pad(pad, &shape, room.bytes_mut()).ok_or_else(Refusal::abandoned)?;
                memory.written(room)
            }
            (None, Some((room, _))) => memory.written(room),
            (None, None) => self.elements.into(),
        };
        Ok(Tensor { datatype: value.datatype, shape, data })
    }
}

/// Rows one behind the other, without padding.
struct Rows<'a> {
    elements: &'a [u8],
    lengths: &'a [i64],
    element_bytes: usize,
}

impl Rows<'_> {
    /// Puts them into a tensor of this shape, each with padding behind its own along the axis. `None` where they are
    /// not what they say.
    fn pad(&self, pad: Pad, shape: &[i64], target: &mut [u8]) -> Option<()> {
        let blocks = count(shape.get(1..pad.axis)?);
        let inner = count(shape.get(pad.axis + 1..)?).saturating_mul(self.element_bytes);
        let step = count(shape.get(pad.axis..=pad.axis)?).saturating_mul(inner);
        let (mut elements, mut target) = (self.elements, target);
        for length in self.lengths {
            let own = usize::try_from(*length).ok()?.checked_mul(inner).filter(|own| *own <= step)?;
            for _ in 0..blocks {
                let (block, rest) = elements.split_at_checked(own)?;
                let (place, behind) = target.split_at_mut_checked(step)?;
                place[..own].copy_from_slice(block);
                pad.fill(&mut place[own..], self.element_bytes);
                (elements, target) = (rest, behind);
            }
        }
        (elements.is_empty() && target.is_empty()).then_some(())
    }
}

/// Elements of a shape; far too many where there are no so many.
fn count(sizes: &[i64]) -> usize {
    let sizes = sizes.iter().map(|&size| usize::try_from(size).unwrap_or(usize::MAX));
    sizes.fold(1, usize::saturating_mul)
}

fn check_size(bytes: usize) -> Result<(), Refusal> {
    if bytes <= PREPARED_BYTES_MAX {
        return Ok(());
    }
    let text = format!(
        "comes to {bytes} bytes for all rows, at most {PREPARED_BYTES_MAX} are allowed; send fewer rows in a request"
    );
    Err(Refusal::new(Reason::TensorTooLarge, text))
}

fn differing(row: usize, other: &[i64], first: &[i64]) -> Refusal {
    let (other, first) = (list(other), list(first));
    let text = format!(
        "is {other} for row {row}, {first} as for row 0 is allowed in one request; send rows that differ as one \
         request each"
    );
    Refusal::new(Reason::ShapeMismatch, text)
}
