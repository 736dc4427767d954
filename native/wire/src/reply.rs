//! What the owner of a connection answers.

use crate::Payload;

/// A complete HTTP answer.
#[derive(Debug)]
pub struct Reply<'a> {
    /// Status code.
    pub status: u16,
    /// `content-type`; empty for none.
    pub content_type: &'a str,
    /// Further fields; names in lower case. Neither `content-length` nor `connection`: those are the connection's.
    pub fields: &'a [(&'a str, &'a [u8])],
    /// The body; to HEAD only its length is told.
    pub body: &'a Payload,
    /// HTTP/1: close after this answer.
    pub close: bool,
}

/// The end of a gRPC call.
#[derive(Debug)]
pub struct GrpcStatus<'a> {
    /// 0 (OK) to 16.
    pub code: u8,
    /// Percent-encoded by the connection; empty for none.
    pub message: &'a str,
    /// Further trailing metadata; names in lower case.
    pub fields: &'a [(&'a str, &'a [u8])],
}

impl GrpcStatus<'static> {
    /// Success without metadata.
    pub const OK: Self = Self { code: 0, message: "", fields: &[] };
}

impl GrpcStatus<'_> {
    /// Whether it is [`GrpcStatus::OK`].
    pub(crate) fn is_plain_ok(&self) -> bool {
        self.code == 0 && self.message.is_empty() && self.fields.is_empty()
    }
}
