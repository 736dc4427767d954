//! Calls of compiled kernels: one C function each, of version 1 of the kernels' ABI.

use servekit_core::{Datatype, Shape, element_count};

use super::axis::{Axes, Sizes};
use super::memory::Held;
use crate::aligned::AlignedBuffer;
use crate::capi::ElementType;

/// Axes of a tensor that a kernel can see.
pub(super) const RANK_MAX: usize = 8;
/// Where scratch arrays begin.
const SCRATCH_ALIGNMENT: u64 = 64;
/// What a kernel returns when it is done.
const DONE: i64 = 1;

/// A compiled kernel.
pub(super) type Function = unsafe extern "C" fn(*mut Call) -> i64;

/// What a kernel sees of one tensor.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct View {
    pub(super) data: *mut u8,
    pub(super) dtype: i64,
    pub(super) rank: i64,
    pub(super) dims: [i64; RANK_MAX],
    pub(super) strides: [i64; RANK_MAX],
}

impl View {
    /// Of a tensor of this shape that lies nowhere yet.
    fn of(port: &Port, shape: &[i64]) -> Self {
        let mut view = Self {
            data: std::ptr::null_mut(),
            dtype: i64::from(ElementType::from(port.datatype).0),
            rank: shape.len() as i64,
            dims: [0; RANK_MAX],
            strides: [0; RANK_MAX],
        };
        let mut stride = port.datatype.element_bytes().unwrap_or(0) as i64;
        for (axis, &size) in shape.iter().enumerate().take(RANK_MAX).rev() {
            view.dims[axis] = size;
            view.strides[axis] = stride;
            // Of a tensor without elements no stride is used, so it may be anything.
            stride = stride.wrapping_mul(size);
        }
        view
    }

    /// Whether a tensor of this shape looks the same.
    fn has(&self, shape: &[i64]) -> bool {
        self.rank == shape.len() as i64 && self.dims.iter().zip(shape).all(|(own, size)| own == size)
    }
}

/// The one argument of a kernel.
#[repr(C)]
pub(super) struct Call {
    pub(super) tensors: *const View,
    pub(super) inputs: i64,
    pub(super) outputs: i64,
    pub(super) rows: i64,
    pub(super) scratch: *mut u8,
    pub(super) scratch_bytes: i64,
    pub(super) faults: *mut i64,
}

const _: () = assert!(size_of::<View>() == 152 && size_of::<Call>() == 56);

/// One tensor that a kernel is declared with.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) name: Box<str>,
    pub(super) datatype: Datatype,
    /// Of all rows, but for scratch.
    pub(super) axes: Axes,
}

impl Port {
    /// Adds its sizes to a shape; gives its bytes.
    fn measure(&self, what: &str, shape: &mut Shape, sizes: &Sizes) -> Result<u64, String> {
        let wrong = |why: &str| format!("{what} '{}': {why}", self.name);
        self.axes.extend(shape, sizes).map_err(|why| wrong(&why))?;
        let element_bytes = self.datatype.element_bytes().unwrap_or(1) as u64;
        let bytes = element_count(shape).and_then(|count| count.checked_mul(element_bytes));
        let allowed = isize::MAX as u64 - SCRATCH_ALIGNMENT;
        bytes.filter(|bytes| *bytes <= allowed).ok_or_else(|| wrong("it does not fit into memory; send smaller sizes"))
    }
}

/// A kernel, and what it is declared with.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) function: Function,
    pub(super) inputs: Box<[Port]>,
    pub(super) outputs: Box<[Port]>,
    pub(super) scratch: Box<[Port]>,
    /// Fault n is the n-th, counted from 1.
    pub(super) messages: Box<[Box<str>]>,
    /// The place of the name that counts rows.
    pub(super) rows: usize,
    /// Names in its axes.
    pub(super) names: usize,
}

/// What one call needs, for the inputs that it has. Used again for the next.
#[derive(Debug, Default)]
pub(super) struct Need {
    pub(super) rows: i64,
    pub(super) outputs: Vec<Output>,
    pub(super) scratch_bytes: u64,
    /// Of outputs and scratch together.
    pub(super) bytes: u64,
}

/// An output of one call.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) shape: Shape,
    pub(super) bytes: u64,
}

impl Kernel {
    /// Finds the sizes of everything, from those of the inputs.
    ///
    /// # Errors
    /// Which input does not fit, or which axis has no size.
    pub(super) fn measure<'a>(
        &self,
        inputs: impl Iterator<Item = &'a Held>,
        sizes: &mut Sizes,
        need: &mut Need,
    ) -> Result<(), String> {
        sizes.reset(self.names);
        for (port, held) in self.inputs.iter().zip(inputs) {
            if held.datatype != port.datatype || !port.axes.fit(&held.shape, sizes) {
                let (name, found) = (&port.name, servekit_core::list(&held.shape));
                return Err(format!(
                    "input '{name}' is {} {found}, {} {} is allowed with the sizes of the inputs before it",
                    held.datatype, port.datatype, port.axes
                ));
            }
        }
        need.rows = sizes.get(self.rows).unwrap_or(0);
        need.outputs.clear();
        for port in &self.outputs {
            let mut shape = Shape::new();
            let bytes = port.measure("output", &mut shape, sizes)?;
            need.outputs.push(Output { shape, bytes });
        }
        need.scratch_bytes = 0;
        for port in &self.scratch {
            let bytes = port.measure("scratch", &mut Shape::new(), sizes)?;
            need.scratch_bytes = need.scratch_bytes.saturating_add(bytes.next_multiple_of(SCRATCH_ALIGNMENT));
        }
        let bytes = need.outputs.iter().map(|output| output.bytes);
        need.bytes = bytes.fold(need.scratch_bytes, u64::saturating_add);
        Ok(())
    }
}

/// One call of a plan, and what its last inputs have made of it: most batches are like the one before.
#[derive(Default)]
pub(super) struct Site {
    need: Need,
    /// Of the last inputs and then of the outputs; empty where nothing is known of them. Where they point to means
    /// something only while the kernel is called.
    views: Vec<View>,
}

// SAFETY: pointers in views are written by the thread that makes a call, before the call reads them, and are never read
// otherwise.
unsafe impl Send for Site {}

impl Site {
    /// What a call on these inputs needs.
    ///
    /// # Errors
    /// See [`Kernel::measure`].
    #[inline]
    pub(super) fn measure<'a>(
        &mut self,
        kernel: &Kernel,
        inputs: impl Iterator<Item = &'a Held> + Clone,
        sizes: &mut Sizes,
    ) -> Result<&Need, String> {
        let mut is_known = !self.views.is_empty();
        for (view, held) in self.views.iter_mut().zip(inputs.clone()) {
            is_known &= view.has(&held.shape);
            view.data = held.start();
        }
        if !is_known {
            self.learn(kernel, inputs, sizes)?;
        }
        Ok(&self.need)
    }

    /// Measures a call whose inputs are not like the last.
    fn learn<'a>(
        &mut self,
        kernel: &Kernel,
        inputs: impl Iterator<Item = &'a Held> + Clone,
        sizes: &mut Sizes,
    ) -> Result<(), String> {
        self.views.clear();
        kernel.measure(inputs.clone(), sizes, &mut self.need)?;
        for (port, held) in kernel.inputs.iter().zip(inputs) {
            self.views.push(View { data: held.start(), ..View::of(port, &held.shape) });
        }
        let outputs = kernel.outputs.iter().zip(&self.need.outputs);
        self.views.extend(outputs.map(|(port, output)| View::of(port, &output.shape)));
        Ok(())
    }

    /// The outputs of the call that was measured, and what the kernel will see of them.
    pub(super) fn outputs(&mut self, kernel: &Kernel) -> impl Iterator<Item = (&Output, &mut View)> {
        self.need.outputs.iter().zip(&mut self.views[kernel.inputs.len()..])
    }
}

/// What calls of kernels need beside tensors; a lane keeps it for the next.
pub(super) struct Frame {
    /// Of the last call: 0 for a good row, or the number of a message.
    faults: Vec<i64>,
    /// One of them is not 0.
    has_faults: bool,
    scratch: AlignedBuffer,
}

impl Frame {
    pub(super) fn new() -> Self {
        Self { faults: Vec::new(), has_faults: false, scratch: AlignedBuffer::new() }
    }

    /// Calls the kernel of a site; false where it failed as a whole.
    ///
    /// # Safety
    /// The kernel is the compiled function that this declaration describes. The site was measured for this kernel, and
    /// points to memory that holds the inputs and that the outputs may be written to; nobody else knows of the outputs'
    /// memory, and all of it stays until the call returns.
    pub(super) unsafe fn call(&mut self, kernel: &Kernel, site: &Site) -> bool {
        let need = &site.need;
        let rows = usize::try_from(need.rows).unwrap_or(0);
        if self.has_faults || self.faults.len() != rows {
            self.faults.clear();
            self.faults.resize(rows, 0);
        }
        let scratch_bytes = usize::try_from(need.scratch_bytes).unwrap_or(usize::MAX);
        if scratch_bytes > 0 {
            self.scratch.room(scratch_bytes);
        }
        let mut call = Call {
            tensors: site.views.as_ptr(),
            inputs: kernel.inputs.len() as i64,
            outputs: kernel.outputs.len() as i64,
            rows: need.rows,
            scratch: self.scratch.start().as_ptr(),
            scratch_bytes: scratch_bytes as i64,
            faults: self.faults.as_mut_ptr(),
        };
        // SAFETY: the caller vouches for function, views and their memory. There is one fault a row, and scratch memory
        // of as many bytes as are told; both belong to this frame alone.
        let status = unsafe { (kernel.function)(&raw mut call) };
        self.has_faults = self.faults.iter().any(|fault| *fault != 0);
        status == DONE
    }

    /// Whether the last call refused rows.
    pub(super) fn has_faults(&self) -> bool {
        self.has_faults
    }

    /// Rows of the last call.
    pub(super) fn rows(&self) -> usize {
        self.faults.len()
    }

    /// Rows that the last call refused, and the numbers of their messages.
    pub(super) fn faults(&self) -> impl Iterator<Item = (usize, i64)> + '_ {
        self.faults.iter().copied().enumerate().filter(|(_, fault)| *fault != 0)
    }
}
