//! One request of a connection, from its HEADERS to the end of its answer.

use std::time::Instant;

use super::body::Body;
use super::flow::{ReceiveWindow, SendWindow};
use super::queue::Queue;

/// Where the request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receiving {
    /// The head was told; the owner has not decided.
    Offered,
    /// As `Offered`, of a gRPC call whose HEADERS ended the stream: accepting it brings up that its message is missing.
    OfferedEmpty,
    /// Accepted: data is stored.
    Taking,
    /// Refused: data is dropped.
    Dropping,
    /// The peer said END_STREAM.
    Ended,
}

/// Where the answer stands. A stream whose answer is out is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing sent but perhaps `100`.
    Awaited,
    /// Messages are sent one by one.
    Opened,
    /// Given whole; what the peer's windows held back is queued.
    Given,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: u32,
    pub(super) receiving: Receiving,
    pub(super) answer: Answer,
    /// HEAD: the answer has no body.
    pub(super) bodyless: bool,
    /// `expect: 100-continue`, until it is answered.
    pub(super) expects_continue: bool,
    /// When the head was complete.
    pub(super) begun_at: Instant,
    pub(super) body: Body,
    pub(super) receive_window: ReceiveWindow,
    pub(super) send_window: SendWindow,
    /// Only while the peer's windows hold something back.
    pub(super) queue: Option<Box<Queue>>,
}

impl Stream {
    /// Whether the peer may still send data.
    pub(super) fn peer_open(&self) -> bool {
        !matches!(self.receiving, Receiving::Ended | Receiving::OfferedEmpty)
    }

    pub(super) fn queue(&mut self, now: Instant) -> &mut Queue {
        self.queue.get_or_insert_with(|| Box::new(Queue::new(now)))
    }

    /// Memory in use for what came and what waits to go.
    pub(super) fn held_bytes(&self) -> usize {
        self.body.stored_bytes() + self.queue.as_ref().map_or(0, |queue| queue.bytes())
    }
}
