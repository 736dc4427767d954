//! The Open Inference Protocol over gRPC: `ModelInfer` by hand, straight between protobuf and tensors.

mod contents;
mod decode;
mod encode;
mod reader;

#[cfg(test)]
mod decode_tests;
#[cfg(test)]
mod encode_tests;

pub(crate) use decode::{Cover, decode, peek};
pub(crate) use encode::encode;
pub(super) use encode::{labels, letterhead, title};
