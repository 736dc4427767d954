//! A way through several models that does what its test tells it.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use servekit_core::{Entries, Inputs, Model, Outputs, Passage, Reason, Refusal, Route, Tensor, Way};

use crate::{FakeModel, fp32, fp32_values};

/// Gives each model what the one before gave, and carries what was sent along. Clients get what the last one gave, and
/// with it nothing else. Clones are handles of the same one.
#[derive(Clone)]
pub struct Chain {
    legs: Arc<[Arc<dyn Model>]>,
    refused: Arc<Mutex<HashSet<u32>>>,
    copies: u32,
}

impl Chain {
    /// A way through these, behind the first. They get so many copies of each row, of which the last counts.
    #[must_use]
    pub fn new(legs: &[FakeModel], copies: u32) -> Self {
        let legs = legs.iter().map(|leg| Arc::new(leg.clone()) as Arc<dyn Model>).collect();
        Self { legs, refused: Arc::default(), copies }
    }

    /// Requests whose first value is this one go no further than the first leg.
    pub fn refuse(&self, value: f32) {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).insert(value.to_bits());
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Chain").field("legs", &self.legs.len()).finish_non_exhaustive()
    }
}

impl Route for Chain {
    fn legs(&self) -> &[Arc<dyn Model>] {
        &self.legs
    }

    fn depart(&self, inputs: &Inputs) -> Vec<Option<Tensor>> {
        inputs.to_vec()
    }

    fn pass(&self, way: &mut Way, outputs: Outputs) -> Result<Passage, Refusal> {
        let sent = way.carried[0].as_ref().map(fp32_values).unwrap_or_default();
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if sent.first().is_some_and(|value| refused.contains(&value.to_bits())) {
            return Err(Refusal::new(Reason::RowRejected, "nothing leads on from here; check its values"));
        }
        let mut outputs = outputs;
        if way.entries.take().is_some() {
            outputs = outputs.iter().map(|output| every(output, self.copies as usize)).collect();
        }
        way.leg += 1;
        if way.leg > self.legs.len() {
            return Ok(Passage::Arrived(outputs));
        }
        let inputs = outputs.iter().map(|output| Some(repeated(output, self.copies as usize))).collect();
        let (rows, room) = (way.rows, self.copies as usize);
        let origins = (0..rows * self.copies).map(|row| row / self.copies).collect();
        way.entries = Some(Entries { origins, rows: rows as usize, room });
        Ok(Passage::On { inputs, rows: rows * self.copies })
    }
}

/// Each row so many times.
fn repeated(tensor: &Tensor, copies: usize) -> Tensor {
    let values = fp32_values(tensor);
    let columns = (values.len() / (tensor.shape[0].max(1) as usize)).max(1);
    let values: Vec<f32> = values.chunks(columns).flat_map(|row| row.repeat(copies)).collect();
    of_rows(tensor, tensor.shape[0] * copies as i64, &values)
}

/// The last of every so many rows.
fn every(tensor: &Tensor, copies: usize) -> Tensor {
    let values = fp32_values(tensor);
    let columns = (values.len() / (tensor.shape[0].max(1) as usize)).max(1);
    let values: Vec<f32> = values.chunks(columns).skip(copies - 1).step_by(copies).flatten().copied().collect();
    of_rows(tensor, tensor.shape[0] / copies as i64, &values)
}

fn of_rows(like: &Tensor, rows: i64, values: &[f32]) -> Tensor {
    let mut shape = like.shape.clone();
    shape[0] = rows;
    fp32(&shape, values)
}
