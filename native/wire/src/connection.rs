//! One connection of either protocol, behind one surface.

use std::sync::Arc;
use std::time::Instant;

use crate::event::{CloseReason, Event, StreamId};
use crate::http1::Http1;
use crate::http2::{Http2, PREFACE};
use crate::limits::Limits;
use crate::output::Output;
use crate::payload::Payload;
use crate::reply::{GrpcStatus, Reply};

/// A connection from its first byte to its last. Its owner feeds what it reads to [`advance`](Self::advance), answers
/// the events, writes [`output`](Self::output) to the socket, and closes the socket when [`ended`](Self::ended) is
/// true and the output is empty.
#[derive(Debug)]
pub struct Connection {
    protocol: Protocol,
    output: Output,
    limits: Arc<Limits>,
    started_at: Instant,
}

#[derive(Debug)]
enum Protocol {
    /// Fewer bytes than tell the preface from a request line; they are a prefix of the preface.
    Unknown { seen: usize },
    Http1(Http1),
    Http2(Box<Http2>),
    /// Ended before a protocol was known.
    Ended { told: bool },
}

impl Connection {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new(limits: Arc<Limits>, now: Instant) -> Self {
        Self { protocol: Protocol::Unknown { seen: 0 }, output: Output::default(), limits, started_at: now }
    }

    /// Takes bytes from the front of `input` and returns the next event; `None` when nothing more can happen without
    /// more input. Bytes that were not taken by then must be given again first (see [`wants_input`](Self::wants_input)).
    /// Call it with empty input after an answer: HTTP/1 may hold the next, pipelined request already.
    pub fn advance(&mut self, input: &mut &[u8], now: Instant) -> Option<Event> {
        loop {
            match &mut self.protocol {
                Protocol::Unknown { seen } => {
                    let common = PREFACE[*seen..].iter().zip(input.iter()).take_while(|(a, b)| a == b).count();
                    let (known, whole) = (*seen + common, common == input.len());
                    if known == PREFACE.len() {
                        *input = &input[common..];
                        self.protocol = Protocol::Http2(Box::new(Http2::new(self.limits.clone(), now, &mut self.output)));
                    } else if whole {
                        *seen = known;
                        *input = &[];
                        return None;
                    } else {
                        self.protocol = Protocol::Http1(Http1::new(self.limits.clone(), &PREFACE[..*seen], now));
                    }
                }
                Protocol::Http1(http1) => return http1.advance(input, now, &mut self.output),
                Protocol::Http2(http2) => return http2.advance(input, now, &mut self.output),
                Protocol::Ended { .. } => return None,
            }
        }
    }

    /// Whether bytes from the socket would be taken now. While false, leave them in the socket: this is how HTTP/1
    /// bounds what is read ahead of the request in hand.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        match &self.protocol {
            Protocol::Unknown { .. } => true,
            Protocol::Http1(http1) => http1.wants_input(),
            Protocol::Http2(http2) => http2.wants_input(),
            Protocol::Ended { .. } => false,
        }
    }

    /// The request is wanted: its body may take up to `grant` bytes of memory from now on.
    pub fn accept(&mut self, stream: StreamId, grant: usize) {
        match &mut self.protocol {
            Protocol::Http1(http1) => http1.accept(stream, grant, &mut self.output),
            Protocol::Http2(http2) => http2.accept(stream, grant, &mut self.output),
            Protocol::Unknown { .. } | Protocol::Ended { .. } => {}
        }
    }

    /// Answers a request whole. A body that has not come yet is dropped, as LIMITS and DESIGN 11 say.
    /// An answer to a stream that is gone is dropped.
    pub fn reply(&mut self, stream: StreamId, reply: &Reply<'_>, now: Instant) {
        match &mut self.protocol {
            Protocol::Http1(http1) => http1.reply(stream, reply, now, &mut self.output),
            Protocol::Http2(http2) => http2.reply(stream, reply, now, &mut self.output),
            Protocol::Unknown { .. } | Protocol::Ended { .. } => {}
        }
    }

    /// Answers a unary gRPC call with one message and status OK, or, without a message, with a status alone.
    pub fn reply_grpc(&mut self, stream: StreamId, message: Option<&Payload>, status: &GrpcStatus<'_>, now: Instant) {
        if let Protocol::Http2(http2) = &mut self.protocol {
            http2.reply_grpc(stream, message, status, now, &mut self.output);
        }
    }

    /// Begins a gRPC answer of several messages.
    pub fn open_grpc(&mut self, stream: StreamId, now: Instant) {
        if let Protocol::Http2(http2) = &mut self.protocol {
            http2.open_grpc(stream, now, &mut self.output);
        }
    }

    /// Sends one message of an opened gRPC answer.
    pub fn send_grpc(&mut self, stream: StreamId, message: &Payload, now: Instant) {
        if let Protocol::Http2(http2) = &mut self.protocol {
            http2.send_grpc(stream, message, now, &mut self.output);
        }
    }

    /// Ends an opened gRPC answer.
    pub fn finish_grpc(&mut self, stream: StreamId, status: &GrpcStatus<'_>, now: Instant) {
        if let Protocol::Http2(http2) = &mut self.protocol {
            http2.finish_grpc(stream, status, now, &mut self.output);
        }
    }

    /// Checks the limits of time; call it a few times per shortest limit, and `advance` with empty input afterwards
    /// for what it found.
    pub fn on_time(&mut self, now: Instant) {
        match &mut self.protocol {
            Protocol::Unknown { .. } => {
                if now.saturating_duration_since(self.started_at) >= self.limits.handshake_max {
                    self.protocol = Protocol::Ended { told: false };
                }
            }
            Protocol::Http1(http1) => http1.on_time(now, &mut self.output),
            Protocol::Http2(http2) => http2.on_time(now, &mut self.output),
            Protocol::Ended { .. } => {}
        }
    }

    /// The event that `on_time` caused on a connection that has no protocol yet.
    pub fn ending(&mut self) -> Option<Event> {
        match &mut self.protocol {
            Protocol::Ended { told } if !*told => {
                *told = true;
                Some(Event::Closing { reason: Some(CloseReason::Handshake) })
            }
            _ => None,
        }
    }

    /// Asks the peer to go: GOAWAY, or `connection: close` with the next answer; an idle HTTP/1 connection ends at
    /// once. Open requests are finished.
    pub fn drain(&mut self, now: Instant) {
        match &mut self.protocol {
            Protocol::Unknown { .. } => self.protocol = Protocol::Ended { told: true },
            Protocol::Http1(http1) => http1.drain(now),
            Protocol::Http2(http2) => http2.drain(now, &mut self.output),
            Protocol::Ended { .. } => {}
        }
    }

    /// The peer will send no more. Requests that came whole are still answered.
    pub fn input_ended(&mut self, now: Instant) {
        match &mut self.protocol {
            Protocol::Unknown { .. } => self.protocol = Protocol::Ended { told: true },
            Protocol::Http1(http1) => http1.input_ended(now),
            Protocol::Http2(http2) => http2.input_ended(now),
            Protocol::Ended { .. } => {}
        }
    }

    /// What waits to be written.
    pub fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Tells that the socket took bytes: renews the write stall limit.
    pub fn wrote(&mut self, now: Instant) {
        match &mut self.protocol {
            Protocol::Http1(http1) => http1.wrote(now, &mut self.output),
            Protocol::Http2(http2) => http2.wrote(now, &mut self.output),
            Protocol::Unknown { .. } | Protocol::Ended { .. } => {}
        }
    }

    /// Requests in hand: head read, answer not yet written into the output.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        match &self.protocol {
            Protocol::Http1(http1) => http1.open_requests(),
            Protocol::Http2(http2) => http2.open_requests(),
            Protocol::Unknown { .. } | Protocol::Ended { .. } => 0,
        }
    }

    /// Bytes held for this connection: read ahead, bodies in the making, answers not yet written.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let protocol = match &self.protocol {
            Protocol::Http1(http1) => http1.held_bytes(),
            Protocol::Http2(http2) => http2.held_bytes(),
            Protocol::Unknown { .. } | Protocol::Ended { .. } => 0,
        };
        protocol + self.output.len()
    }

    /// Makes answers that wait own their bytes, so that shared buffers (an engine's outputs) are free again. Call it
    /// when a write left something over.
    pub fn detach(&mut self) {
        self.output.detach();
        if let Protocol::Http2(http2) = &mut self.protocol {
            http2.detach();
        }
    }

    /// Nothing more will be read or answered: write what is left of the output, then close the socket.
    #[must_use]
    pub fn ended(&self) -> bool {
        match &self.protocol {
            Protocol::Unknown { .. } => false,
            Protocol::Http1(http1) => http1.ended(),
            Protocol::Http2(http2) => http2.ended(),
            Protocol::Ended { .. } => true,
        }
    }

    /// HTTP/1 after a refusal that left a body unread: shut down writing once the output is empty, keep reading and
    /// dropping until [`ended`](Self::ended), so that the answer is not lost to a reset.
    #[must_use]
    pub fn lingering(&self) -> bool {
        matches!(&self.protocol, Protocol::Http1(http1) if http1.lingering())
    }
}
