//! Takes the outputs of a run over: large ones are shared without a copy, small ones copied, so that the arena gets
//! its memory back at once.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use servekit_core::{Shape, Tensor, element_count};
use smallvec::SmallVec;

use crate::capi::{ElementType, Value, api, check};
use crate::fault::Fault;
use crate::session::Session;
use crate::signature::Port;

/// Up to this size copying costs less than keeping track of the library's own buffer.
const COPIED_BYTES_MAX: usize = 4096;

/// Addresses of the inputs of a run.
pub(crate) type Ranges = SmallVec<[Range<usize>; 4]>;

/// A tensor of the library, seen from outside.
struct View<'a> {
    element: ElementType,
    shape: &'a [i64],
    data: *const u8,
}

impl<'a> View<'a> {
    fn new(value: &'a Value) -> Result<Self, Fault> {
        let mut element = ElementType(0);
        let (mut shape, mut rank, mut data) = (std::ptr::null(), 0_usize, std::ptr::null_mut());
        // SAFETY: the value is alive and all places are valid for what is written; the enum has the i32's
        // representation. The library fails if the value is no tensor.
        check(unsafe {
            (api().GetTensorElementTypeAndShapeDataReference)(
                value.pointer(),
                (&raw mut element.0).cast(),
                &raw mut shape,
                &raw mut rank,
            )
        })?;
        // SAFETY: the shape has `rank` sizes and lives as long as the value, which is borrowed.
        let shape = if rank == 0 { &[][..] } else { unsafe { std::slice::from_raw_parts(shape, rank) } };
        if element != ElementType::STRING {
            // SAFETY: the value is alive and a tensor of plain numbers.
            check(unsafe { (api().GetTensorMutableData)(value.pointer(), &raw mut data) })?;
        }
        Ok(Self { element, shape, data: data.cast_const().cast() })
    }

    fn count(&self) -> Result<usize, Fault> {
        element_count(self.shape)
            .and_then(|count| usize::try_from(count).ok())
            .ok_or_else(|| Fault::ours("an output has an impossible shape"))
    }
}

/// Keeps the library's buffer alive while any slice of it is in use. The session too: an output may be one of its
/// weights.
struct Owner {
    _value: Value,
    data: *const u8,
    length: usize,
    _session: Arc<Session>,
}

// SAFETY: the buffer is only read, values may be released on any thread, and the session is shared already.
unsafe impl Send for Owner {}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `data` is the start of the value's buffer of `length` bytes, which nobody writes after the run.
        unsafe { std::slice::from_raw_parts(self.data, self.length) }
    }
}

/// Takes one output over. `inputs` are the addresses of the run's inputs: an output that lies in one of them is
/// copied, because that memory is used again.
pub(crate) fn take(value: Value, port: &Port, inputs: &Ranges, session: &Arc<Session>) -> Result<Tensor, Fault> {
    if let Some(zip_map) = &port.zip_map {
        return zip_map.matrix(&value);
    }
    let view = View::new(&value)?;
    if view.element != port.element {
        return Err(Fault::ours("an output has another type than the model declares"));
    }
    let shape = Shape::from_slice(view.shape);
    let data = match port.spec.datatype.element_bytes() {
        None => prefixed_strings(&value, view.count()?)?,
        Some(element_bytes) => {
            let length = view
                .count()?
                .checked_mul(element_bytes)
                .ok_or_else(|| Fault::ours("an output has an impossible shape"))?;
            let start = view.data as usize;
            if length == 0 || view.data.is_null() {
                Bytes::new()
            } else if length <= COPIED_BYTES_MAX || inputs.iter().any(|range| range.contains(&start)) {
                // SAFETY: the buffer has `length` bytes and lives until the value is released, after the copy.
                Bytes::copy_from_slice(unsafe { std::slice::from_raw_parts(view.data, length) })
            } else {
                let data = view.data;
                Bytes::from_owner(Owner { _value: value, data, length, _session: Arc::clone(session) })
            }
        }
    };
    Ok(Tensor { datatype: port.spec.datatype, shape, data })
}

/// Numbers that can be read in place.
pub(crate) trait Number: Copy {}
impl Number for f32 {}
impl Number for i64 {}

/// The elements of a tensor of exactly this type.
pub(crate) fn elements_of<T: Number>(value: &Value, element: ElementType) -> Result<&[T], Fault> {
    let view = View::new(value)?;
    let count = view.count()?;
    let is_of_type =
        view.element == element && element.datatype().and_then(|it| it.element_bytes()) == Some(size_of::<T>());
    if !is_of_type {
        return Err(Fault::ours("a map holds another type than the model declares"));
    }
    if count == 0 {
        return Ok(&[]);
    }
    // SAFETY: the buffer holds `count` elements of this type, aligned by the library, and lives as long as the value;
    // any bits are a valid number.
    Ok(unsafe { std::slice::from_raw_parts(view.data.cast(), count) })
}

/// The contents of a string tensor, one after the other, and where each begins.
struct Strings {
    text: Vec<u8>,
    starts: Vec<usize>,
}

impl Strings {
    fn read(value: &Value, count: usize) -> Result<Self, Fault> {
        if count == 0 {
            return Ok(Self { text: Vec::new(), starts: Vec::new() });
        }
        let mut length = 0;
        // SAFETY: the value is alive and a tensor of strings, `length` is valid for one number.
        check(unsafe { (api().GetStringTensorDataLength)(value.pointer(), &raw mut length) })?;
        let (mut text, mut starts) = (vec![0_u8; length], vec![0_usize; count]);
        // SAFETY: both buffers have the room that is told, and the library checks it against what it has.
        check(unsafe {
            (api().GetStringTensorContent)(
                value.pointer(),
                text.as_mut_ptr().cast(),
                text.len(),
                starts.as_mut_ptr(),
                starts.len(),
            )
        })?;
        Ok(Self { text, starts })
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let ends = self.starts.iter().skip(1).copied().chain([self.text.len()]);
        self.starts.iter().zip(ends).map(|(&start, end)| self.text.get(start..end).unwrap_or_default())
    }
}

/// The elements of a string tensor, each behind its length in 4 bytes.
fn prefixed_strings(value: &Value, count: usize) -> Result<Bytes, Fault> {
    let strings = Strings::read(value, count)?;
    let mut data = Vec::with_capacity(strings.text.len() + 4 * count);
    for string in strings.iter() {
        let length = u32::try_from(string.len()).map_err(|_| Fault::ours("an output string has more than 4 GiB"))?;
        data.extend_from_slice(&length.to_le_bytes());
        data.extend_from_slice(string);
    }
    Ok(data.into())
}

/// The elements of a string tensor.
pub(crate) fn string_elements(value: &Value) -> Result<Vec<Box<[u8]>>, Fault> {
    let view = View::new(value)?;
    if view.element != ElementType::STRING {
        return Err(Fault::ours("a map holds another type than the model declares"));
    }
    Ok(Strings::read(value, view.count()?)?.iter().map(Box::from).collect())
}
