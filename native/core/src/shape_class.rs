//! Queued requests whose rows may share a run.

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::{Inputs, Item};

/// Which inputs are given, and the sizes of their axes behind the first: requests with equal keys fit together.
pub(crate) type ClassKey = SmallVec<[i64; 8]>;

/// Stands for an input that was left out; no axis has this size, no rank this value.
const ABSENT: i64 = -1;

/// Writes the key of these inputs into `key`, whose memory is used again.
pub(crate) fn write_key(inputs: &Inputs, key: &mut ClassKey) {
    key.clear();
    for input in inputs {
        match input {
            None => key.push(ABSENT),
            Some(tensor) => {
                key.push(tensor.shape.len() as i64);
                key.extend_from_slice(tensor.shape.get(1..).unwrap_or(&[]));
            }
        }
    }
}

/// Whether these inputs have this key; cheaper than writing theirs and comparing it.
pub(crate) fn has_key(inputs: &Inputs, key: &[i64]) -> bool {
    let mut rest = key.iter();
    inputs.iter().all(|input| match input {
        None => rest.next() == Some(&ABSENT),
        Some(tensor) => {
            let sizes = tensor.shape.get(1..).unwrap_or(&[]);
            rest.next() == Some(&(tensor.shape.len() as i64)) && sizes.iter().all(|size| rest.next() == Some(size))
        }
    }) && rest.next().is_none()
}

/// One queue, in order of arrival.
#[derive(Debug, Default)]
pub(crate) struct ShapeClass {
    pub(crate) key: ClassKey,
    pub(crate) items: VecDeque<Item>,
    /// It has its one entry in the Batcher's order of classes.
    pub(crate) is_ordered: bool,
}

impl ShapeClass {
    /// How many of the first item's rows fit into this many rows and bytes: all of them, some, or none.
    pub(crate) fn rows_fitting(item: &Item, rows_room: u32, bytes_room: usize) -> u32 {
        let rows = item.row_count();
        let bytes = item.bytes();
        if rows <= rows_room && bytes <= bytes_room {
            return rows;
        }
        // Rounded up, so that rows of uneven size (BYTES) rather leave room than exceed it.
        let row_bytes = bytes.div_ceil(rows.max(1) as usize).max(1);
        rows_room.min(u32::try_from(bytes_room / row_bytes).unwrap_or(u32::MAX)).min(rows)
    }
}
