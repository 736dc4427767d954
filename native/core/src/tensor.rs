//! Tensors as (datatype, shape, bytes).

use bytes::Bytes;
use smallvec::SmallVec;

use crate::Datatype;

/// Sizes of a tensor's axes; none is negative. Up to rank 4 it lives inline.
pub type Shape = SmallVec<[i64; 4]>;

/// Number of elements of a shape; `None` where it does not fit 64 bits or an axis is negative.
#[must_use]
pub fn element_count(shape: &[i64]) -> Option<u64> {
    // In one walk: an axis of size 0 makes up for others whose product does not fit.
    let (mut count, mut overflows, mut is_empty) = (1_u64, false, false);
    for &size in shape {
        let size = u64::try_from(size).ok()?;
        let (product, overflown) = count.overflowing_mul(size);
        count = product;
        overflows |= overflown;
        is_empty |= size == 0;
    }
    if is_empty { Some(0) } else { (!overflows).then_some(count) }
}

/// An array: row-major, little-endian, without padding. BYTES elements each have a 4-byte length in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Element type.
    pub datatype: Datatype,
    /// Sizes of the axes; empty for a scalar.
    pub shape: Shape,
    /// The elements. Shared: a slice of a request's body or of a batch's output.
    pub data: Bytes,
}

impl Tensor {
    /// Rows `start .. start + count` along the first axis, sharing the bytes. The caller has checked that they exist.
    #[must_use]
    pub fn rows(&self, start: usize, count: usize) -> Self {
        let mut shape = Shape::from_slice(&self.shape);
        let rows = shape.first().map_or(1, |&rows| rows.max(0) as usize);
        if let Some(first) = shape.first_mut() {
            *first = count as i64;
        }
        let data = match self.datatype.element_bytes() {
            Some(_) if rows == 0 => self.data.slice(0..0),
            Some(_) => {
                let row_bytes = self.data.len() / rows;
                self.data.slice(start * row_bytes..(start + count) * row_bytes)
            }
            None => {
                let row_elements = element_count(self.shape.get(1..).unwrap_or(&[])).unwrap_or(0) as usize;
                let from = end_of_elements(&self.data, 0, start * row_elements);
                let to = end_of_elements(&self.data, from, count * row_elements);
                self.data.slice(from..to)
            }
        };
        Self { datatype: self.datatype, shape, data }
    }

    /// Cuts the first `count` rows off and leaves the rest, sharing the bytes: taking a tensor apart row by row is one
    /// walk, also for BYTES. Takes what there is where that is less.
    #[must_use]
    pub fn take_rows(&mut self, count: usize) -> Self {
        let rows = self.shape.first().map_or(1, |&rows| rows.max(0) as usize);
        let count = count.min(rows);
        let bytes = match self.datatype.element_bytes() {
            Some(_) => self.data.len().checked_div(rows).unwrap_or(0) * count,
            None => {
                let row_elements = element_count(self.shape.get(1..).unwrap_or(&[])).unwrap_or(0) as usize;
                end_of_elements(&self.data, 0, count.saturating_mul(row_elements))
            }
        };
        let mut front = Shape::from_slice(&self.shape);
        if let (Some(taken), Some(left)) = (front.first_mut(), self.shape.first_mut()) {
            *taken = count as i64;
            *left = (rows - count) as i64;
        }
        Self { datatype: self.datatype, shape: front, data: self.data.split_to(bytes) }
    }

    /// The first `length` of this axis, in a buffer of their own; the tensor itself where it has no more. As much as is
    /// there where the bytes are fewer than the shape says.
    #[must_use]
    pub fn cut(self, axis: usize, length: usize) -> Self {
        let size = self.shape.get(axis).map_or(0, |&size| size.max(0) as usize);
        if size <= length {
            return self;
        }
        let count = |sizes: &[i64]| element_count(sizes).and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
        let (outer, inner) = (count(&self.shape[..axis]), count(&self.shape[axis + 1..]));
        let mut shape = self.shape.clone();
        shape[axis] = length as i64;
        let mut data = Vec::new();
        if let Some(element_bytes) = self.datatype.element_bytes() {
            let step = size.saturating_mul(inner).saturating_mul(element_bytes).max(1);
            let kept = length.saturating_mul(inner).saturating_mul(element_bytes);
            data.reserve_exact(kept.saturating_mul(outer).min(self.data.len()));
            self.data.chunks_exact(step).for_each(|block| data.extend_from_slice(&block[..kept]));
        } else {
            let mut start = 0;
            for _ in 0..outer {
                let end = end_of_elements(&self.data, start, length.saturating_mul(inner));
                data.extend_from_slice(&self.data[start..end]);
                start = end_of_elements(&self.data, end, (size - length).saturating_mul(inner));
            }
        }
        Self { datatype: self.datatype, shape, data: data.into() }
    }

    /// Parts one after the other along the first axis; all have the same datatype and the same sizes behind it.
    /// `None` where they do not fit together, or there is none.
    #[must_use]
    pub fn concatenate(parts: &[Self]) -> Option<Self> {
        let [first, rest @ ..] = parts else { return None };
        let mut rows = *first.shape.first()?;
        for part in rest {
            if part.datatype != first.datatype || part.shape.get(1..) != first.shape.get(1..) {
                return None;
            }
            rows = rows.checked_add(*part.shape.first()?)?;
        }
        let mut data = Vec::with_capacity(parts.iter().map(|part| part.data.len()).sum());
        parts.iter().for_each(|part| data.extend_from_slice(&part.data));
        let mut shape = first.shape.clone();
        shape[0] = rows;
        Some(Self { datatype: first.datatype, shape, data: data.into() })
    }

    /// The elements of a BYTES tensor, without their lengths; ends early where a length points past the end.
    pub fn elements(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest: &[u8] = &self.data;
        std::iter::from_fn(move || {
            let (length, behind) = rest.split_first_chunk::<4>()?;
            let length = u32::from_le_bytes(*length) as usize;
            let element = behind.get(..length)?;
            rest = &behind[length..];
            Some(element)
        })
    }
}

/// Where `count` BYTES elements end that begin at `from`; the end of the data where they run past it.
fn end_of_elements(data: &[u8], from: usize, count: usize) -> usize {
    let mut at = from;
    for _ in 0..count {
        let Some(length) = data.get(at..).and_then(|rest| rest.first_chunk::<4>()) else { return data.len() };
        at = (at + 4).saturating_add(u32::from_le_bytes(*length) as usize).min(data.len());
    }
    at
}

#[cfg(test)]
mod tests;
