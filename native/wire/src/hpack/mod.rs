//! Header compression for HTTP/2 (RFC 7541): a whole decoder, and an encoder that keeps no table of its own.

mod decoder;
mod encoder;
mod huffman;
mod integer;
mod table;

#[cfg(test)]
mod tests;

pub(crate) use decoder::Decoder;
pub(crate) use encoder::{field, indexed, remembered, status, table_closed};
pub(crate) use table::FIELD_BYTES;

/// A block that cannot be decoded: both sides' tables differ from now on, so the connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Undecodable(pub(crate) &'static str);
