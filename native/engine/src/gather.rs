//! Puts the rows of a batch together as one input of the model.

use std::ops::Range;

use ort::sys;
use servekit_core::{Datatype, Inputs, Item, RunFailure, Shape, Tensor, element_count};

use crate::aligned::AlignedBuffer;
use crate::capi::{Handle, Value, api, check, default_allocator};
use crate::fault::Fault;
use crate::ragged::Pad;
use crate::signature::Port;

/// A request's share of a batch.
pub(crate) trait Portion {
    /// Inputs of exactly its rows.
    fn inputs(&self) -> &Inputs;
    /// How many rows.
    fn rows(&self) -> usize;
    /// Whether these are all the rows of its request.
    fn is_whole(&self) -> bool;
}

impl Portion for Item {
    fn inputs(&self) -> &Inputs {
        self.inputs()
    }

    fn rows(&self) -> usize {
        self.rows()
    }

    fn is_whole(&self) -> bool {
        self.is_whole()
    }
}

/// Up to this size a lone request is copied too: the buffer's value is made already.
const COPIED_BYTES_MAX: usize = 4096;

/// One input of a lane: its buffer, and the library's views of it.
pub(crate) struct Gather {
    datatype: Datatype,
    /// Where rows may differ in one axis: how they are made equal.
    pad: Option<Pad>,
    buffer: AlignedBuffer,
    /// The library's view of the buffer with this shape; made again when the shape changes or the buffer moves.
    view: Option<(Shape, Value)>,
    /// A value of one run only: a request's own bytes, or strings.
    single: Option<Value>,
}

/// What a run is given for one input.
pub(crate) struct Given {
    pub(crate) value: *const sys::OrtValue,
    /// Where its bytes lie.
    pub(crate) addresses: Range<usize>,
}

impl Gather {
    pub(crate) fn new(port: &Port, pad: Option<Pad>) -> Self {
        Self { datatype: port.spec.datatype, pad, buffer: AlignedBuffer::new(), view: None, single: None }
    }

    /// Lets go of what belongs to the last run.
    pub(crate) fn release(&mut self) {
        self.single = None;
    }

    /// The input with these rows; `None` where it was left out. What it points to stays until [`Self::release`] or
    /// the next call, and as long as the portions.
    pub(crate) fn fill<P: Portion>(
        &mut self,
        portions: &[P],
        index: usize,
        rows: usize,
        memory: &Handle<sys::OrtMemoryInfo>,
    ) -> Result<Option<Given>, RunFailure> {
        let Some(first) = portions.first().and_then(|portion| portion.inputs().get(index)?.as_ref()) else {
            return Ok(None);
        };
        let is_alone = portions.len() == 1;
        let mut shape = first.shape.clone();
        if let (false, Some(size)) = (is_alone, shape.first_mut()) {
            *size = rows as i64;
        }
        // A request alone has one length, so it is never padded.
        let padded = self.pad.and_then(|pad| Some((pad, pad.longest(portions, index)?)));
        if let Some((pad, length)) = padded {
            shape[pad.axis] = length;
        }
        let lost = |fault: Fault| RunFailure::Lost(fault.text);
        let Some(element_bytes) = self.datatype.element_bytes() else {
            return self.fill_strings(portions, index, &shape).map(Some);
        };
        let bytes = element_count(&shape).and_then(|count| usize::try_from(count).ok()?.checked_mul(element_bytes));
        let bytes = bytes.ok_or_else(inconsistent)?;
        if is_alone && bytes > COPIED_BYTES_MAX && is_aligned(&first.data, element_bytes) {
            return self.lend(first, bytes, memory).map(Some);
        }
        if self.buffer.room(bytes) {
            self.view = None;
        }
        let target = self.buffer.first(bytes);
        if is_alone {
            target.copy_from_slice(first.data.get(..bytes).ok_or_else(inconsistent)?);
        } else if let Some((pad, _)) = padded {
            pad.gather(portions, index, &shape, target)?;
        } else {
            gather_rows(portions, index, bytes.checked_div(rows).unwrap_or(0), target)?;
        }
        let start = self.buffer.start().as_ptr();
        let value = match &mut self.view {
            Some((known, value)) if *known == shape => &*value,
            view => {
                *view = None;
                // SAFETY: the buffer is valid for `bytes` bytes, and the view goes before it moves.
                let value = unsafe { tensor_over(start, bytes, &shape, self.datatype, memory) }.map_err(lost)?;
                &view.insert((shape, value)).1
            }
        };
        Ok(Some(Given { value: value.pointer(), addresses: range(start, bytes) }))
    }

    /// The request's own bytes as the input.
    fn lend(
        &mut self,
        tensor: &Tensor,
        bytes: usize,
        memory: &Handle<sys::OrtMemoryInfo>,
    ) -> Result<Given, RunFailure> {
        if tensor.data.len() < bytes {
            return Err(inconsistent());
        }
        let start = tensor.data.as_ptr().cast_mut();
        // SAFETY: the bytes are there, aligned for their type, and outlive the run: the batch that lends them is
        // borrowed during it. The library never writes to the inputs of a graph.
        let value = unsafe { tensor_over(start, bytes, &tensor.shape, self.datatype, memory) };
        let value = self.single.insert(value.map_err(|fault| RunFailure::Lost(fault.text))?);
        Ok(Given { value: value.pointer(), addresses: range(start, bytes) })
    }

    fn fill_strings<P: Portion>(&mut self, portions: &[P], index: usize, shape: &[i64]) -> Result<Given, RunFailure> {
        let lost = |fault: Fault| RunFailure::Lost(fault.text);
        let count = element_count(shape).and_then(|count| usize::try_from(count).ok()).ok_or_else(inconsistent)?;
        let value = self.single.insert(string_tensor(shape).map_err(lost)?);
        let mut position = 0;
        for portion in portions {
            let tensor = portion.inputs().get(index).and_then(Option::as_ref).ok_or_else(inconsistent)?;
            for element in tensor.elements() {
                if position == count {
                    return Err(inconsistent());
                }
                set_string(value, position, element).map_err(lost)?;
                position += 1;
            }
        }
        if position < count {
            return Err(inconsistent());
        }
        Ok(Given { value: value.pointer(), addresses: 0..0 })
    }
}

/// Copies the rows of all portions, which fill the target exactly.
pub(crate) fn gather_rows<P: Portion>(
    portions: &[P],
    index: usize,
    row_bytes: usize,
    target: &mut [u8],
) -> Result<(), RunFailure> {
    let mut rest = target;
    for portion in portions {
        let tensor = portion.inputs().get(index).and_then(Option::as_ref).ok_or_else(inconsistent)?;
        if tensor.data.len() != portion.rows() * row_bytes {
            return Err(inconsistent());
        }
        let (place, behind) = rest.split_at_mut_checked(tensor.data.len()).ok_or_else(inconsistent)?;
        place.copy_from_slice(&tensor.data);
        rest = behind;
    }
    if rest.is_empty() { Ok(()) } else { Err(inconsistent()) }
}

/// Requests were checked against the contract before; this is our own mistake, and no memory is touched.
#[cold]
pub(crate) fn inconsistent() -> RunFailure {
    RunFailure::Lost("a batch does not hold the rows it says, please report this".to_owned())
}

/// The library's operators may read whole elements, by instructions that need their alignment.
fn is_aligned(data: &[u8], element_bytes: usize) -> bool {
    (data.as_ptr() as usize).is_multiple_of(element_bytes)
}

fn range(start: *const u8, bytes: usize) -> Range<usize> {
    start as usize..start as usize + bytes
}

/// A tensor over memory of ours.
///
/// # Safety
/// `start` is valid for `bytes` bytes, which hold a tensor of this shape, for as long as the value is used.
unsafe fn tensor_over(
    start: *mut u8,
    bytes: usize,
    shape: &[i64],
    datatype: Datatype,
    memory: &Handle<sys::OrtMemoryInfo>,
) -> Result<Value, Fault> {
    let number = crate::capi::ElementType::from(datatype).number();
    // SAFETY: the caller vouches for the bytes; shape and memory are alive, and the shape is copied.
    Value::create(|out| unsafe {
        (api().CreateTensorWithDataAsOrtValue)(
            memory.pointer(),
            start.cast(),
            bytes,
            shape.as_ptr(),
            shape.len(),
            number,
            out,
        )
    })
}

/// A tensor of empty strings.
fn string_tensor(shape: &[i64]) -> Result<Value, Fault> {
    let allocator = default_allocator()?;
    let number = sys::ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING;
    // SAFETY: the allocator lives as long as the process, and the shape is copied.
    Value::create(|out| unsafe { (api().CreateTensorAsOrtValue)(allocator, shape.as_ptr(), shape.len(), number, out) })
}

/// Writes one string, NUL bytes included.
fn set_string(value: &Value, position: usize, element: &[u8]) -> Result<(), Fault> {
    let mut place = std::ptr::null_mut();
    // SAFETY: the value is alive and a tensor of strings; the library checks the position and makes room for the
    // element's bytes, which do not overlap it.
    unsafe {
        check((api().GetResizedStringTensorElementBuffer)(value.pointer(), position, element.len(), &raw mut place))?;
        std::ptr::copy_nonoverlapping(element.as_ptr(), place.cast(), element.len());
    }
    Ok(())
}
