//! Outputs of classifiers that exporters write as a sequence of maps, one from label to probability for each row,
//! told as a matrix with one column a label.

use std::collections::BTreeMap;

use bytes::Bytes;
use ort::sys;
use servekit_core::{Datatype, Tensor};

use crate::capi::{ElementType, Value, api, check, default_allocator};
use crate::fault::Fault;
use crate::scan::Labels;
use crate::scatter::{elements_of, string_elements};

/// How the maps of one output become columns.
pub(crate) struct ZipMap {
    /// In the order of the file, which is that of the columns.
    pub(crate) labels: Box<[Box<str>]>,
    columns: Columns,
}

/// The column of each key.
enum Columns {
    Texts(BTreeMap<Box<[u8]>, usize>),
    Numbers(BTreeMap<i64, usize>),
}

impl ZipMap {
    /// `None` where keys of this type cannot be these labels.
    pub(crate) fn new(labels: &Labels, keys: ElementType) -> Option<Self> {
        match labels {
            Labels::Texts(texts) if keys == ElementType::STRING => {
                let columns = texts.iter().enumerate().map(|(column, text)| (text.as_bytes().into(), column)).collect();
                let labels = texts.iter().map(|text| text.as_str().into()).collect();
                Some(Self { labels, columns: Columns::Texts(columns) })
            }
            Labels::Numbers(numbers) if keys == ElementType::INT64 => {
                let columns = numbers.iter().enumerate().map(|(column, &number)| (number, column)).collect();
                let labels = numbers.iter().map(|number| number.to_string().into()).collect();
                Some(Self { labels, columns: Columns::Numbers(columns) })
            }
            _ => None,
        }
    }

    /// The matrix of a sequence: one row a map; what a map leaves out is 0.
    pub(crate) fn matrix(&self, sequence: &Value) -> Result<Tensor, Fault> {
        let mut rows = 0;
        // SAFETY: the sequence is alive, and `rows` valid for one number.
        check(unsafe { (api().GetValueCount)(sequence.pointer(), &raw mut rows) })?;
        let columns = self.labels.len();
        let mut matrix = vec![0_u8; rows * columns * size_of::<f32>()];
        for (index, row) in matrix.chunks_exact_mut((columns * size_of::<f32>()).max(1)).enumerate() {
            let map = part(sequence, index)?;
            self.fill(&map, row)?;
        }
        let shape = [rows as i64, columns as i64].into_iter().collect();
        Ok(Tensor { datatype: Datatype::Fp32, shape, data: Bytes::from(matrix) })
    }

    /// Puts a map's values into the columns of their keys.
    fn fill(&self, map: &Value, row: &mut [u8]) -> Result<(), Fault> {
        let (keys, values) = (part(map, 0)?, part(map, 1)?);
        let values: &[f32] = elements_of(&values, ElementType::FLOAT)?;
        let mut put = |column: Option<&usize>, value: &f32| {
            if let Some(cell) = column.and_then(|&column| row.chunks_exact_mut(4).nth(column)) {
                cell.copy_from_slice(&value.to_le_bytes());
            }
        };
        match &self.columns {
            Columns::Texts(columns) => {
                let keys = string_elements(&keys)?;
                keys.iter().zip(values).for_each(|(key, value)| put(columns.get(key), value));
            }
            Columns::Numbers(columns) => {
                let keys: &[i64] = elements_of(&keys, ElementType::INT64)?;
                keys.iter().zip(values).for_each(|(key, value)| put(columns.get(key), value));
            }
        }
        Ok(())
    }
}

/// A part of a sequence, or the keys (0) or values (1) of a map.
fn part(whole: &Value, index: usize) -> Result<Value, Fault> {
    let index = i32::try_from(index).map_err(|_| Fault::ours("a sequence has too many elements"))?;
    let allocator: *mut sys::OrtAllocator = default_allocator()?;
    // SAFETY: the whole and the allocator are alive; the library checks the index and copies the part.
    Value::create(|out| unsafe { (api().GetValue)(whole.pointer(), index, allocator, out) })
}
