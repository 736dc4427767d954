//! What ends a stream or a connection.

use crate::event::CloseReason;

/// Codes of RST_STREAM and GOAWAY (RFC 9113, section 7), those that we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum ErrorCode {
    None = 0,
    Protocol = 1,
    FlowControl = 3,
    StreamClosed = 5,
    FrameSize = 6,
    RefusedStream = 7,
    Cancel = 8,
    Compression = 9,
    EnhanceYourCalm = 11,
}

/// A breach that the connection does not survive. Boxed where it is returned: it happens once, and what returns it runs
/// for every frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) code: ErrorCode,
    pub(crate) reason: CloseReason,
    /// Goes out with GOAWAY, for whoever writes the client.
    pub(crate) debug: &'static str,
}

impl Fault {
    /// A breach of the protocol.
    #[cold]
    pub(crate) fn breach(code: ErrorCode, debug: &'static str) -> Box<Self> {
        Box::new(Self { code, reason: CloseReason::H2Protocol, debug })
    }

    /// Within the protocol, but too much of it.
    #[cold]
    pub(crate) fn flood(debug: &'static str) -> Box<Self> {
        Box::new(Self { code: ErrorCode::EnhanceYourCalm, reason: CloseReason::Calm, debug })
    }
}
