//! Tensors of one row while stages work on it.

use fast_image_resize::Resizer;
use servekit_core::{Datatype, Shape, Tensor};

/// A tensor that somebody else owns.
#[derive(Clone, Copy, Debug)]
pub struct View<'data> {
    /// Element type.
    pub dtype: Datatype,
    /// Sizes of the axes.
    pub shape: &'data [i64],
    /// The elements, as in [`Tensor::data`].
    pub data: &'data [u8],
}

impl<'data> From<&'data Tensor> for View<'data> {
    fn from(tensor: &'data Tensor) -> Self {
        Self { dtype: tensor.datatype, shape: &tensor.shape, data: &tensor.data }
    }
}

/// A tensor whose memory serves one row after the other.
#[derive(Clone, Debug)]
pub struct Buffer {
    /// Element type.
    pub dtype: Datatype,
    /// Sizes of the axes.
    pub shape: Shape,
    /// The elements, as in [`Tensor::data`].
    pub data: Vec<u8>,
}

impl Default for Buffer {
    fn default() -> Self {
        Self { dtype: Datatype::Uint8, shape: Shape::new(), data: Vec::new() }
    }
}

impl Buffer {
    /// To be read by the next stage.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        View { dtype: self.dtype, shape: &self.shape, data: &self.data }
    }

    /// Takes this shape, and gives as many bytes to be filled. They hold what the row before has left, because
    /// clearing them would cost as much as filling them; so fill all of them.
    pub fn shaped(&mut self, dtype: Datatype, shape: &[i64], bytes: usize) -> &mut [u8] {
        self.dtype = dtype;
        self.shape.clear();
        self.shape.extend_from_slice(shape);
        self.data.resize(bytes, 0);
        &mut self.data
    }

    fn into_tensor(self) -> Tensor {
        Tensor { datatype: self.dtype, shape: self.shape, data: self.data.into() }
    }
}

/// Memory that a stage needs while it runs.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// An image on its way from one layout or size to another.
    pub(crate) pixels: Vec<u8>,
    /// Keeps the rows between the two passes of a resize.
    pub(crate) resizer: Resizer,
}

/// Memory for the results of one stage, and for its work. One lane owns it and hands it over with every row.
#[derive(Debug, Default)]
pub struct Buffers {
    outputs: Vec<Buffer>,
    scratch: Scratch,
}

impl Buffers {
    /// Results of the last run, in the order of the stage's outputs.
    #[must_use]
    pub fn outputs(&self) -> &[Buffer] {
        &self.outputs
    }

    /// Exactly this many buffers to be filled by a stage.
    pub fn outputs_mut<const COUNT: usize>(&mut self) -> &mut [Buffer; COUNT] {
        self.parts().0
    }

    /// Results of the last run, with their memory.
    #[must_use]
    pub fn into_tensors(self) -> Vec<Tensor> {
        self.outputs.into_iter().map(Buffer::into_tensor).collect()
    }

    /// Gives memory back if it has come to more than this, so that one large image is not paid for as long as the
    /// lane lives.
    pub fn trim(&mut self, bytes_max: usize) {
        let outputs: usize = self.outputs.iter().map(|output| output.data.capacity()).sum();
        let scratch = self.scratch.pixels.capacity() + self.scratch.resizer.size_of_internal_buffers();
        if outputs.saturating_add(scratch) > bytes_max {
            *self = Self::default();
        }
    }

    /// Buffers to be filled, and memory to work in.
    pub(crate) fn parts<const COUNT: usize>(&mut self) -> (&mut [Buffer; COUNT], &mut Scratch) {
        self.outputs.resize_with(COUNT, Buffer::default);
        let outputs = self.outputs.as_mut_slice().try_into().expect("it has just been given this length");
        (outputs, &mut self.scratch)
    }
}
