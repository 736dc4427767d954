//! What a connection tells its owner.

use std::rc::Rc;

use bytes::Bytes;

use crate::Head;

/// One request of a connection: the HTTP/2 stream number, or a count of requests in HTTP/1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// Something the owner must act on, in the order in which it happened.
#[derive(Debug)]
pub enum Event {
    /// A head has been read. The owner calls [`accept`](crate::Connection::accept) before the next `advance`, or
    /// answers at once (then the body is dropped). With `end`, there is no body and no `Body` event follows.
    Head {
        /// Names the request from here on.
        stream: StreamId,
        /// Shared with the cache of heads seen on this connection.
        head: Rc<Head>,
        /// No body follows.
        end: bool,
    },
    /// The body will have this many bytes, more than was granted: `accept` with more, or answer with a refusal.
    /// No byte beyond the grant has been stored; the flow stands still until the owner decides.
    Grow {
        /// The request.
        stream: StreamId,
        /// Needed in all, where the peer said it; else what has come plus room to go on.
        bytes: usize,
    },
    /// The whole body of an HTTP request, or the one message of a gRPC call (without its five-byte prefix).
    Body {
        /// The request.
        stream: StreamId,
        /// Owned by the receiver alone; nothing else pins its memory.
        body: Bytes,
        /// gRPC: the compressed flag of the prefix. False in plain HTTP (there, `content-encoding` tells).
        compressed: bool,
    },
    /// The peer has left this request: nothing can be answered, and the stream is gone.
    Reset {
        /// The request.
        stream: StreamId,
    },
    /// A stream was ended by us without an answer, while its connection goes on. Where the owner knows the request,
    /// `Reset` tells of it too.
    Dropped {
        /// Label of `servekit_connections_closed_total`.
        reason: CloseReason,
    },
    /// The peer broke a rule of this request. The owner answers it with a refusal (HTTP/1 closes after that answer
    /// where the rule says so: [`Violation::closes`]).
    Violation {
        /// The request; HTTP/1 gives one even when no head could be read, so that the answer can be written.
        stream: StreamId,
        /// What was found, and what is allowed.
        violation: Violation,
    },
    /// The connection is over, or will be as soon as what it still has to say is written. Told once, and again only
    /// where the peer does not take that: `WriteTimeout`.
    Closing {
        /// Label of `servekit_connections_closed_total`; `None` for an ordinary end.
        reason: Option<CloseReason>,
    },
}

/// A broken rule of *head* or *body* with the numbers that an answer quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Malformed: what was found and what is allowed, in words.
    Framing(&'static str),
    /// Request line or `:path` too long.
    UriTooLong {
        /// Bytes found (at least).
        found: usize,
        /// Bytes allowed.
        allowed: usize,
    },
    /// Too many fields.
    Headers {
        /// Fields found (at least).
        found: usize,
        /// Fields allowed.
        allowed: usize,
    },
    /// Fields too large together.
    HeaderBytes {
        /// Bytes found (at least).
        found: usize,
        /// Bytes allowed.
        allowed: usize,
    },
    /// Neither HTTP/1.0, HTTP/1.1 nor HTTP/2.
    Version,
    /// Body or message too large, by its announced or its read size.
    BodyTooLarge {
        /// Bytes found (at least).
        found: u64,
        /// Bytes allowed.
        allowed: u64,
    },
    /// Too many chunks.
    Chunks {
        /// Chunks allowed.
        allowed: usize,
    },
    /// Head or body came too slowly.
    ReadTimeout {
        /// Bytes of it that came.
        found: u64,
        /// Bytes of it that were announced, where that is known.
        expected: Option<u64>,
        /// Milliseconds that passed.
        elapsed_ms: u64,
    },
}

impl Violation {
    /// Whether an HTTP/1 connection ends with the answer: all do, since what follows cannot be told apart.
    #[must_use]
    pub fn closes(&self) -> bool {
        true
    }
}

/// Why a connection or a stream was ended by us or by a fault; ordinary ends have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// No first byte in time, or no HTTP/2 preface after its beginning.
    Handshake,
    /// No request for too long.
    Idle,
    /// Lived long enough.
    Age,
    /// One stream more than may be open.
    Streams,
    /// A peer's breach of HTTP/2.
    H2Protocol,
    /// A peer's flood of frames.
    Calm,
    /// No sign of life.
    DeadPeer,
    /// The peer took no byte of what was to be written.
    WriteTimeout,
}
