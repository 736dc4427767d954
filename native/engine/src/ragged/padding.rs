//! Rows of several lengths as one input: each padded along one axis to the longest of the batch.

use servekit_core::RunFailure;

use crate::gather::{Portion, inconsistent};

/// How one input is padded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pad {
    /// The axis that differs from row to row; never the first.
    pub(crate) axis: usize,
    /// What is put behind a row's own elements: as many bytes of it as the datatype has.
    pub(crate) element: [u8; 8],
}

/// How each input of a model is padded; `None` for those that have no length.
pub(crate) type Padding = Box<[Option<Pad>]>;

impl Pad {
    /// The greatest length among these portions; `None` where all have the same.
    pub(crate) fn longest<P: Portion>(self, portions: &[P], index: usize) -> Option<i64> {
        let mut lengths = portions.iter().filter_map(|portion| {
            let tensor = portion.inputs().get(index)?.as_ref()?;
            tensor.shape.get(self.axis).copied()
        });
        let first = lengths.next()?;
        let (least, most) = lengths.fold((first, first), |(least, most), it| (least.min(it), most.max(it)));
        (least < most).then_some(most)
    }

    /// Copies the rows of all portions, each padded to the length that `shape` has; they fill the target exactly, which
    /// has the bytes of this shape.
    pub(crate) fn gather<P: Portion>(
        self,
        portions: &[P],
        index: usize,
        shape: &[i64],
        target: &mut [u8],
    ) -> Result<(), RunFailure> {
        let (Some(before), Some(behind)) = (shape.get(1..self.axis), shape.get(self.axis + 1..)) else {
            return Err(inconsistent());
        };
        if target.is_empty() {
            return Ok(());
        }
        // Nothing is 0 or overflows: the product of all sizes is the number of the target's elements.
        let count = |sizes: &[i64]| sizes.iter().product::<i64>() as usize;
        let blocks_per_row = count(before);
        let step = target.len() / (count(&shape[..1]) * blocks_per_row);
        let position_bytes = step / count(&shape[self.axis..=self.axis]);
        let element_bytes = position_bytes / count(behind);
        let mut rest = target;
        for portion in portions {
            let tensor = portion.inputs().get(index).and_then(Option::as_ref).ok_or_else(inconsistent)?;
            let is_alike = tensor.shape.len() == shape.len()
                && tensor.shape.get(1..self.axis) == Some(before)
                && tensor.shape.get(self.axis + 1..) == Some(behind);
            let own = tensor.shape.get(self.axis).map_or(0, |&length| length.max(0) as usize) * position_bytes;
            let blocks = portion.rows() * blocks_per_row;
            if !is_alike || own > step || tensor.data.len() != blocks * own {
                return Err(inconsistent());
            }
            let (place, others) = rest.split_at_mut_checked(blocks * step).ok_or_else(inconsistent)?;
            rest = others;
            if own == step {
                place.copy_from_slice(&tensor.data);
                continue;
            }
            for (block, place) in place.chunks_exact_mut(step).enumerate() {
                let (front, tail) = place.split_at_mut(own);
                front.copy_from_slice(&tensor.data[block * own..(block + 1) * own]);
                self.fill(tail, element_bytes);
            }
        }
        if rest.is_empty() { Ok(()) } else { Err(inconsistent()) }
    }

    /// Fills what lies behind a row's own elements.
    pub(crate) fn fill(self, tail: &mut [u8], element_bytes: usize) {
        let element = &self.element[..element_bytes.clamp(1, self.element.len())];
        if element.iter().all(|&byte| byte == element[0]) {
            tail.fill(element[0]);
        } else {
            tail.chunks_exact_mut(element.len()).for_each(|place| place.copy_from_slice(element));
        }
    }
}

#[cfg(test)]
mod tests;
