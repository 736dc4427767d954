//! The tensor datatypes of the Open Inference Protocol.

use std::fmt;

/// Element type of a tensor, by its OIP name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Datatype {
    /// One byte, 0 or 1
    Bool,
    /// Unsigned, 1 byte
    Uint8,
    /// Unsigned, 2 bytes
    Uint16,
    /// Unsigned, 4 bytes
    Uint32,
    /// Unsigned, 8 bytes
    Uint64,
    /// Signed, 1 byte
    Int8,
    /// Signed, 2 bytes
    Int16,
    /// Signed, 4 bytes
    Int32,
    /// Signed, 8 bytes
    Int64,
    /// IEEE 754 binary16
    Fp16,
    /// The upper half of a binary32
    Bf16,
    /// IEEE 754 binary32
    Fp32,
    /// IEEE 754 binary64
    Fp64,
    /// Byte strings; in [`Tensor::data`](crate::Tensor) each has a little-endian 4-byte length in front
    Bytes,
}

impl Datatype {
    /// All of them, in order of declaration.
    pub const ALL: [Self; 14] = [
        Self::Bool,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Fp16,
        Self::Bf16,
        Self::Fp32,
        Self::Fp64,
        Self::Bytes,
    ];

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Bf16 => "BF16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }

    /// The datatype of this name on the wire.
    #[must_use]
    pub fn parse(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|datatype| datatype.name().as_bytes() == name)
    }

    /// Bytes of one element; `None` for [`Bytes`](Self::Bytes), whose elements differ.
    #[must_use]
    pub const fn element_bytes(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }
}

impl fmt::Display for Datatype {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
