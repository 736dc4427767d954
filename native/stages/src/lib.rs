//! What happens to one row before its batch forms: images decoded and resized, text tokenised,
//! categories numbered, base64 undone.
//!
//! A [`Stage`] is built once, at load, by [`build`]; then many lanes run it, each with [`Buffers`] of its own. What a
//! client sent can make a stage refuse the row, with the answer `value`, but never more than that.
#![forbid(unsafe_code)]

mod base64_text;
mod buffers;
mod catalogue;
mod containment;
mod image;
mod lookup;
mod model_file;
mod options;
mod resize;
mod stage;
mod tokenize;

pub use buffers::{Buffer, Buffers, View};
pub use catalogue::{KINDS, build};
pub use stage::{Dim, Port, Stage, StageLimits};
