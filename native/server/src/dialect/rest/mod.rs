//! The Open Inference Protocol over HTTP: JSON, with Triton's extension for tensors in binary behind it.

mod decode;
mod encode;
mod form;
mod input;
mod length;
mod raw;

#[cfg(test)]
mod base64_tests;
#[cfg(test)]
mod decode_tests;
#[cfg(test)]
mod encode_tests;

pub(crate) use decode::decode;
pub(crate) use encode::{RestKind, encode};
pub(in crate::dialect) use encode::{labels, labels_text, letterhead, title};
pub(in crate::dialect) use form::Form;
pub(crate) use length::JsonLength;
