//! The client's side of both protocols, as lean as a load generator wants it: requests are written from prepared
//! bytes, answers are read as far as they must be counted.
//!
//! Sans-I/O like the rest: the owner feeds what it reads, writes the output, and knows what time it is.

mod http1;
mod http2;

pub use http1::Http1Client;
pub use http2::{Call, Fields, Http2Client, Method};

/// Bytes of an answer that says no which are kept for people.
const EXCERPT_BYTES_MAX: usize = 512;

/// How one request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// An HTTP answer with this status.
    Http(u16),
    /// A gRPC answer with this status.
    Grpc(u8),
    /// The stream was reset with this code of HTTP/2.
    Reset(u32),
}

impl Status {
    /// Whether the request was served.
    #[must_use]
    pub fn is_ok(self) -> bool {
        matches!(self, Self::Http(200) | Self::Grpc(0))
    }
}

/// One answer, read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What the request was sent with; 0 in HTTP/1, where one request is on its way at most.
    pub token: u32,
    /// How it ended.
    pub status: Status,
    /// Bytes of the body, without framing of HTTP.
    pub body_bytes: u64,
    /// The connection takes no further request.
    pub closes: bool,
}

/// Bytes that no correct server sends; the connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// Keeps the beginning of what a refusal says.
fn keep_excerpt(excerpt: &mut Vec<u8>, bytes: &[u8]) {
    let room = EXCERPT_BYTES_MAX.saturating_sub(excerpt.len());
    excerpt.extend_from_slice(&bytes[..bytes.len().min(room)]);
}
