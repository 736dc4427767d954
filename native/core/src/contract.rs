//! What a model takes and gives, and the checks that keep everything else away from its batches.

use std::sync::Arc;

use crate::tensor::element_count;
use crate::{Datatype, Limits, Reason, Refusal, Tensor};

/// Size of one axis in a contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Always this many.
    Fixed(i64),
    /// Free; the name is the model's, or empty.
    Symbol(Box<str>),
}

impl Axis {
    /// As metadata shows it: -1 where free.
    #[must_use]
    pub fn size(&self) -> i64 {
        match self {
            Self::Fixed(size) => *size,
            Self::Symbol(_) => -1,
        }
    }
}

/// One input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name in the model.
    pub name: Box<str>,
    /// Element type.
    pub datatype: Datatype,
    /// All axes, the batch axis included; empty for a scalar.
    pub axes: Box<[Axis]>,
    /// Input: has a default in the model and may be left out.
    pub optional: bool,
    /// Output: one label per column, where the model has them (ZipMap); clients see them in the metadata.
    pub labels: Option<Box<[Box<str>]>>,
    /// Input of BYTES: in JSON its elements stand in base64, because they are no texts.
    pub base64: bool,
}

impl TensorSpec {
    /// The shape as metadata shows it.
    #[must_use]
    pub fn metadata_shape(&self) -> Vec<i64> {
        self.axes.iter().map(Axis::size).collect()
    }
}

/// How requests share runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Batching {
    /// The first axis of every input and output counts rows; any number of rows of one shape class run together.
    Rows,
    /// One request a run, for this reason.
    Alone(Box<str>),
}

/// A free axis behind the first that inputs share (a length): rows that differ in it run together, padded to the longest,
/// because padding was proved to change nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ragged {
    /// Of each input its axis of that length, `None` where it has none. Never the first, which counts rows.
    pub inputs: Box<[Option<usize>]>,
    /// Of each output its axis of that length, at which it is cut back to the request's own.
    pub outputs: Box<[Option<usize>]>,
    /// Lengths up to this are mixed; the proof reached no further.
    pub length_max: u64,
    /// Inputs that hide positions. A row that hides all of itself may see its padding, so it is not mixed; empty where
    /// even that was proved to be harmless.
    pub masks: Box<[Mask]>,
}

/// An input that tells which positions count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Its position.
    pub input: usize,
    /// The element that hides.
    pub hides: Box<[u8]>,
}

impl Ragged {
    /// The length of these inputs; 0 where none of those given has the axis. With [`Self::mixes`] they agree in it.
    #[must_use]
    pub fn length(&self, inputs: &[Option<Tensor>]) -> u64 {
        self.lengths(inputs).max().unwrap_or(0)
    }

    /// Whether these inputs may run beside others of another length, as long as these may too. Others share a run with
    /// inputs of exactly their sizes only, as if nothing were ragged.
    #[must_use]
    pub fn mixes(&self, inputs: &[Option<Tensor>]) -> bool {
        let mut lengths = self.lengths(inputs);
        let Some(length) = lengths.next() else { return false };
        (1..=self.length_max).contains(&length) && lengths.all(|other| other == length) && self.shows(inputs)
    }

    /// Whether these outputs of a run have this length wherever they are to be cut back.
    pub(crate) fn fits(&self, outputs: &[Tensor], length: u64) -> bool {
        let size = |(axis, output): (&Option<usize>, &Tensor)| axis.map(|axis| output.shape.get(axis).copied());
        let mut sizes = self.outputs.iter().zip(outputs).filter_map(size);
        sizes.all(|size| size.is_some_and(|size| u64::try_from(size) == Ok(length)))
    }

    fn lengths<'a>(&'a self, inputs: &'a [Option<Tensor>]) -> impl Iterator<Item = u64> + 'a {
        self.inputs.iter().zip(inputs).filter_map(|(axis, input)| {
            let (axis, input) = ((*axis)?, input.as_ref()?);
            input.shape.get(axis).map(|&size| size.unsigned_abs())
        })
    }

    /// Whether no row hides all of itself. Looks at one element of nearly every row.
    fn shows(&self, inputs: &[Option<Tensor>]) -> bool {
        self.masks.iter().all(|mask| {
            let Some(Some(tensor)) = inputs.get(mask.input) else { return true };
            let rows = tensor.shape.first().map_or(1, |&rows| rows.unsigned_abs() as usize);
            let row_bytes = tensor.data.len().checked_div(rows).unwrap_or(0).max(1);
            let element_bytes = mask.hides.len().max(1);
            let mut elements = tensor.data.chunks_exact(row_bytes).map(|row| row.chunks_exact(element_bytes));
            elements.all(|mut row| row.any(|element| *element != *mask.hides))
        })
    }
}

/// Inputs, outputs and batching of one model version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    /// The model's name, for texts.
    pub model: Box<str>,
    /// In the model's order.
    pub inputs: Box<[TensorSpec]>,
    /// In the model's order.
    pub outputs: Box<[TensorSpec]>,
    /// How requests share runs.
    pub batching: Batching,
    /// Lengths that may be mixed, where padding is harmless.
    pub ragged: Option<Arc<Ragged>>,
}

impl Contract {
    /// Position of the input of this name.
    pub fn input(&self, name: &[u8]) -> Option<usize> {
        self.inputs.iter().position(|spec| spec.name.as_bytes() == name)
    }

    /// Position of the output of this name.
    pub fn output(&self, name: &[u8]) -> Option<usize> {
        self.outputs.iter().position(|spec| spec.name.as_bytes() == name)
    }

    /// Whether requests of several callers may run together.
    #[must_use]
    pub fn is_batched(&self) -> bool {
        matches!(self.batching, Batching::Rows)
    }

    /// Whether the first axis of these inputs counts rows. An input with a default need not have one row per row, so a
    /// request that gives it runs alone, as one row.
    #[must_use]
    pub fn counts_rows(&self, inputs: &[Option<Tensor>]) -> bool {
        self.is_batched() && !self.overrides(inputs)
    }

    /// Whether an input with a default of its own is among those given.
    #[must_use]
    pub fn overrides(&self, inputs: &[Option<Tensor>]) -> bool {
        self.inputs.iter().zip(inputs).any(|(spec, tensor)| spec.optional && tensor.is_some())
    }

    /// Checks datatype and shape of one input before any of its bytes is looked at.
    ///
    /// # Errors
    /// `TensorTooLarge`, `DatatypeMismatch`, `ShapeMismatch`, in this order.
    pub fn check_head(&self, input: usize, datatype: Datatype, shape: &[i64], limits: &Limits) -> Result<(), Refusal> {
        let spec = &self.inputs[input];
        let (name, model) = (&spec.name, &self.model);
        if shape.len() as u64 > limits.tensor_rank_max {
            let text = format!(
                "input '{name}' has rank {}, at most {} are allowed; reshape it",
                shape.len(),
                limits.tensor_rank_max
            );
            return Err(Refusal::new(Reason::TensorTooLarge, text));
        }
        if let Some(index) = shape.iter().position(|&size| size < 0) {
            let text = format!(
                "unexpected shape for input '{name}' for model '{model}'. Expected {}, got {}; axis {index} is negative, sizes from 0 are allowed",
                list(&spec.metadata_shape()),
                list(shape)
            );
            return Err(Refusal::new(Reason::ShapeMismatch, text));
        }
        if element_count(shape).is_none_or(|count| count > limits.tensor_elements_max) {
            let text = format!(
                "input '{name}' of shape {} has more than {} elements, which is the most allowed; split the request",
                list(shape),
                limits.tensor_elements_max
            );
            return Err(Refusal::new(Reason::TensorTooLarge, text));
        }
        if datatype != spec.datatype {
            let text = format!(
                "inference input '{name}' data-type is '{datatype}', but model '{model}' expects '{}'; convert it first",
                spec.datatype
            );
            return Err(Refusal::new(Reason::DatatypeMismatch, text));
        }
        let fits = shape.len() == spec.axes.len()
            && spec.axes.iter().zip(shape).all(|(axis, &size)| !matches!(axis, Axis::Fixed(fixed) if *fixed != size));
        if !fits {
            let text = format!(
                "unexpected shape for input '{name}' for model '{model}'. Expected {}, got {}; send the expected sizes, -1 stands for any",
                list(&spec.metadata_shape()),
                list(shape)
            );
            return Err(Refusal::new(Reason::ShapeMismatch, text));
        }
        Ok(())
    }

    /// Checks that all inputs are there and agree, and counts the rows of the request: the size of the first axis, or
    /// 1 where the request runs alone. `inputs` are in the contract's order, heads already checked.
    ///
    /// # Errors
    /// `UnknownTensor` for a missing input, `ByteSizeMismatch`, `ShapeMismatch` where inputs differ in rows,
    /// `TooManyRows`, `TensorTooLarge` for a row that no batch can hold.
    pub fn check_set(&self, inputs: &[Option<Tensor>], limits: &Limits) -> Result<u32, Refusal> {
        // One walk for what nearly every request passes; only a request that does not is looked at again, to say why.
        let (mut is_complete, mut overrides, mut is_even, mut misfit) = (true, false, true, None);
        let (mut bytes, mut rows) = (0, None);
        for (index, spec) in self.inputs.iter().enumerate() {
            let Some(Some(tensor)) = inputs.get(index) else {
                is_complete &= spec.optional;
                continue;
            };
            overrides |= spec.optional;
            let found = tensor.data.len() as u64;
            bytes += found;
            if let Some(element_bytes) = spec.datatype.element_bytes() {
                let expected = element_count(&tensor.shape).unwrap_or(u64::MAX).saturating_mul(element_bytes as u64);
                if expected != found && misfit.is_none() {
                    misfit = Some((spec, expected, found));
                }
            }
            if let Some(&count) = tensor.shape.first() {
                is_even &= *rows.get_or_insert(count) == count;
            }
        }
        if !is_complete {
            return Err(self.incomplete(inputs));
        }
        if let Some((spec, expected, found)) = misfit {
            return Err(self.byte_size(spec, expected, found));
        }
        if overrides || !self.is_batched() {
            check_row_bytes(bytes, "the request, which is one row,", limits.batch_bytes_max)?;
            return Ok(1);
        }
        if !is_even {
            return Err(self.uneven(inputs));
        }
        let rows = rows.unwrap_or(1);
        if rows as u64 > limits.request_rows_max {
            let text = format!(
                "inference request batch-size must be <= {} for '{}', {rows} found; split the request",
                limits.request_rows_max, self.model
            );
            return Err(Refusal::new(Reason::TooManyRows, text));
        }
        check_row_bytes(bytes / rows.max(1) as u64, "one row", limits.batch_bytes_max)?;
        Ok(rows as u32)
    }

    /// The refusal of a tensor whose bytes do not match its shape.
    #[must_use]
    pub fn byte_size(&self, spec: &TensorSpec, expected: u64, found: u64) -> Refusal {
        let text = format!(
            "input byte size mismatch for input '{}' for model '{}'. Expected {expected}, got {found}; send the bytes its shape needs",
            spec.name, self.model
        );
        Refusal::new(Reason::ByteSizeMismatch, text)
    }

    /// Inputs do not all have the first one's rows.
    #[cold]
    fn uneven(&self, inputs: &[Option<Tensor>]) -> Refusal {
        let counts = |(spec, tensor): (_, &Option<Tensor>)| Some((spec, *tensor.as_ref()?.shape.first()?));
        let mut counted = self.inputs.iter().zip(inputs).filter_map(counts);
        let first = counted.next();
        let other = counted.find(|(_, count)| first.is_some_and(|(_, expected)| expected != *count));
        let (Some((first, expected)), Some((spec, count))) = (first, other) else { return Refusal::abandoned() };
        let text = format!(
            "unexpected shape for input '{}' for model '{}'. Expected {expected} rows as in '{}', got {count}; send the same number of rows in every input",
            spec.name, self.model, first.name
        );
        Refusal::new(Reason::ShapeMismatch, text)
    }

    #[cold]
    fn incomplete(&self, inputs: &[Option<Tensor>]) -> Refusal {
        let missing: Vec<&str> = self
            .inputs
            .iter()
            .zip(inputs)
            .filter(|(spec, tensor)| tensor.is_none() && !spec.optional)
            .map(|(spec, _)| spec.name.as_ref())
            .collect();
        let expected = self.inputs.iter().filter(|spec| !spec.optional).count();
        let text = format!(
            "expected {expected} inputs but got {} inputs for model '{}', '{}' is missing; add it",
            expected - missing.len(),
            self.model,
            missing.join("', '")
        );
        Refusal::new(Reason::UnknownTensor, text)
    }
}

/// Checks that one row fits into a batch of so many bytes.
///
/// # Errors
/// `TensorTooLarge`.
pub fn check_row_bytes(row_bytes: u64, what: &str, allowed: u64) -> Result<(), Refusal> {
    if row_bytes > allowed {
        let text = format!(
            "{what} has {row_bytes} bytes, at most {allowed} are allowed; send smaller rows or raise batch_bytes_max"
        );
        return Err(Refusal::new(Reason::TensorTooLarge, text));
    }
    Ok(())
}

/// `[1,-1]`, as texts write shapes.
#[must_use]
pub fn list(shape: &[i64]) -> String {
    const AXES_SHOWN_MAX: usize = 16;
    let mut text = String::from("[");
    for (index, size) in shape.iter().take(AXES_SHOWN_MAX).enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(&size.to_string());
    }
    text.push_str(if shape.len() > AXES_SHOWN_MAX { ",…]" } else { "]" });
    text
}
