//! What all stages have in common.

use servekit_core::{Datatype, Reason, Refusal, Tensor};

use crate::{Buffers, View};

/// Size of one axis of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// Always this many.
    Fixed(u64),
    /// Differs from row to row; the same name stands for the same size wherever it occurs in one stage.
    Symbol(Box<str>),
}

/// One input or output of a stage, for one row: no axis counts rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// By which a pipeline refers to it.
    pub name: Box<str>,
    /// Element type.
    pub dtype: Datatype,
    /// Axes of one row; empty for a single element.
    pub shape: Vec<Dim>,
}

impl Port {
    pub(crate) fn new(name: &str, dtype: Datatype, shape: Vec<Dim>) -> Self {
        Self { name: name.into(), dtype, shape }
    }
}

impl From<u64> for Dim {
    fn from(size: u64) -> Self {
        Self::Fixed(size)
    }
}

impl From<&str> for Dim {
    fn from(name: &str) -> Self {
        Self::Symbol(name.into())
    }
}

/// What bounds a single row. Nothing here has a default: the configuration hands over the effective numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageLimits {
    /// Pixels of an image, as its header says and before anything is allocated for them, and pixels that resizing
    /// would make. Decoding takes at most 16 bytes a pixel while it lasts, and usually 3.
    pub image_pixels_max: u64,
    /// Bytes of one text.
    pub text_bytes_max: u64,
}

/// A step that turns one row's tensors into others. It holds no state between rows, so lanes share it.
pub trait Stage: Send + Sync {
    /// What it takes, in this order.
    fn inputs(&self) -> &[Port];

    /// What it gives, in this order.
    fn outputs(&self) -> &[Port];

    /// Runs on one row and leaves the results in `buffers`, whose memory is used again for the next row: a picture is
    /// about a megabyte, and memory that new for every row costs a page fault every 4 KiB. A lane keeps one
    /// [`Buffers`] for every stage, and the next stage reads the results where they are.
    ///
    /// # Errors
    /// `ValueOutOfRange` for a row whose content cannot be used; `ShapeMismatch` and `DatatypeMismatch` for tensors
    /// that are not those of [`inputs`](Self::inputs). What is in the buffers then means nothing.
    fn run_into(&self, row: &[View<'_>], buffers: &mut Buffers) -> Result<(), Refusal>;

    /// Runs on one row, into memory of the results' own.
    ///
    /// # Errors
    /// As [`run_into`](Self::run_into).
    fn run(&self, row: &[Tensor]) -> Result<Vec<Tensor>, Refusal> {
        let row: Vec<View<'_>> = row.iter().map(View::from).collect();
        let mut buffers = Buffers::default();
        self.run_into(&row, &mut buffers)?;
        Ok(buffers.into_tensors())
    }
}

/// The refusal of a row whose content cannot be used.
pub(crate) fn unusable(text: String) -> Refusal {
    Refusal::new(Reason::ValueOutOfRange, text)
}

/// The tensors of a row, as many as there are ports.
pub(crate) fn inputs<'row, 'data, const COUNT: usize>(
    kind: &str,
    row: &'row [View<'data>],
) -> Result<&'row [View<'data>; COUNT], Refusal> {
    row.try_into().map_err(|_| {
        let text = format!("stage {kind} got {} tensors, {COUNT} are allowed; connect every input once", row.len());
        Refusal::new(Reason::ShapeMismatch, text)
    })
}

/// The only element of a BYTES tensor, which is a text of at most so many bytes.
pub(crate) fn text<'data>(port: &Port, tensor: &View<'data>, bytes_max: u64) -> Result<&'data str, Refusal> {
    let bytes = element(port, tensor)?;
    if bytes.len() as u64 > bytes_max {
        let found = bytes.len();
        let text = format!("'{}' has {found} bytes, at most {bytes_max} are allowed; split the text", port.name);
        return Err(unusable(text));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        const SHOWN_BYTES_MAX: usize = 4;
        let at = error.valid_up_to();
        let found = &bytes[at..bytes.len().min(at + SHOWN_BYTES_MAX)];
        let found: Vec<String> = found.iter().map(|byte| format!("{byte:02x}")).collect();
        let found = found.join(" ");
        unusable(format!("byte {at} of '{}' starts {found}, UTF-8 is allowed; encode the text as UTF-8", port.name))
    })
}

/// The only element of a BYTES tensor.
pub(crate) fn element<'data>(port: &Port, tensor: &View<'data>) -> Result<&'data [u8], Refusal> {
    if tensor.dtype != Datatype::Bytes {
        let text = format!(
            "input '{}' is {}, {} is allowed; send the bytes themselves",
            port.name,
            tensor.dtype,
            Datatype::Bytes
        );
        return Err(Refusal::new(Reason::DatatypeMismatch, text));
    }
    let only = tensor
        .data
        .split_first_chunk::<4>()
        .filter(|(length, bytes)| u64::from(u32::from_le_bytes(**length)) == bytes.len() as u64);
    only.map(|(_, bytes)| bytes).ok_or_else(|| {
        let text = format!("input '{}' is not one element, exactly 1 is allowed in a row; send one", port.name);
        Refusal::new(Reason::ShapeMismatch, text)
    })
}
