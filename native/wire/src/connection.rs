//! One connection of either protocol, behind one surface.

use std::sync::Arc;
use std::time::{Duration, Instant};

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
}

#[derive(Debug)]
enum Protocol {
    /// Fewer bytes than tell the preface from a request line; they are a prefix of the preface. `since` is the first
    /// byte's time, or the connection's start.
    Unknown {
        seen: usize,
        since: Instant,
    },
    Http1(Box<Http1>),
    Http2(Box<Http2>),
    /// Ended before a protocol was known.
    Ended {
        reason: Option<CloseReason>,
        told: bool,
    },
}

/// Bytes of the preface that a method of HTTP/1 may well begin with; a peer that stops there is told by HTTP/1 that it
/// was too slow.
const AMBIGUOUS_BYTES_MAX: usize = b"PR".len();

impl Connection {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new(limits: Arc<Limits>, now: Instant) -> Self {
        Self { protocol: Protocol::Unknown { seen: 0, since: now }, output: Output::default(), limits }
    }

    /// Takes bytes from the front of `input` and returns the next event; `None` when nothing more can happen without
    /// more input. Bytes that were not taken by then must be given again first (see [`wants_input`](Self::wants_input)).
    /// Call it with empty input after an answer, where the connection [`goes_on`](Self::goes_on): HTTP/1 may hold the
    /// next, pipelined request already.
    pub fn advance(&mut self, input: &mut &[u8], now: Instant) -> Option<Event> {
        loop {
            match &mut self.protocol {
                Protocol::Http1(http1) => return http1.advance(input, now, &self.output),
                Protocol::Http2(http2) => return http2.advance(input, now, &mut self.output),
                Protocol::Unknown { .. } => {
                    if !self.choose(input, now) {
                        return None;
                    }
                }
                Protocol::Ended { told: true, .. } => return None,
                Protocol::Ended { reason, told } => {
                    *told = true;
                    return Some(Event::Closing { reason: *reason });
                }
            }
        }
    }

    /// Whether [`advance`](Self::advance) may have something to tell without being given more. Not so where all that
    /// came was told and is understood, which is how most requests and most answers leave a connection.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        match &self.protocol {
            Protocol::Http1(http1) => http1.goes_on(),
            Protocol::Http2(http2) => http2.goes_on(),
            Protocol::Unknown { .. } | Protocol::Ended { .. } => true,
        }
    }

    /// Compares the first bytes with the preface; false while that leaves the protocol open.
    fn choose(&mut self, input: &mut &[u8], now: Instant) -> bool {
        let Protocol::Unknown { seen, since } = &mut self.protocol else { return true };
        if input.is_empty() {
            return false;
        }
        if *seen == 0 {
            *since = now;
        }
        let common =
            PREFACE[*seen..].iter().zip(input.iter()).take_while(|(expected, found)| expected == found).count();
        let limits = self.limits.clone();
        if *seen + common == PREFACE.len() {
            *input = &input[common..];
            self.protocol = Protocol::Http2(Box::new(Http2::new(limits, now, &mut self.output)));
        } else if common == input.len() {
            *seen += common;
            *input = &[];
            return false;
        } else {
            self.protocol = Protocol::Http1(Box::new(Http1::new(limits, &PREFACE[..*seen], *since)));
        }
        true
    }

    /// Whether bytes from the socket would be taken now. While false, leave them in the socket (and its end unseen):
    /// this is how HTTP/1 bounds what is read ahead of the request in hand.
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

    /// Answers a request whole. A body that has not come yet is dropped: HTTP/1 reads and drops up to
    /// `discard_bytes_max` of it and stays open, else it closes and lingers. An answer to a stream that is gone is
    /// dropped.
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
            Protocol::Unknown { seen, since } => {
                let (seen, since) = (*seen, *since);
                self.check_handshake(seen, since, now);
            }
            Protocol::Http1(http1) => http1.on_time(now, &mut self.output),
            Protocol::Http2(http2) => http2.on_time(now, &mut self.output),
            Protocol::Ended { .. } => {}
        }
    }

    fn check_handshake(&mut self, seen: usize, since: Instant, now: Instant) {
        let passed = |limit: Duration| now.saturating_duration_since(since) >= limit;
        if (1..=AMBIGUOUS_BYTES_MAX).contains(&seen) {
            if passed(self.limits.header_read_max) {
                let mut http1 = Http1::new(self.limits.clone(), &PREFACE[..seen], since);
                http1.on_time(now, &mut self.output);
                self.protocol = Protocol::Http1(Box::new(http1));
            }
        } else if passed(self.limits.handshake_max) {
            self.protocol = Protocol::Ended { reason: Some(CloseReason::Handshake), told: false };
        }
    }

    /// Asks the peer to go: GOAWAY, or `connection: close` with the next answer; an idle HTTP/1 connection ends at
    /// once. Open requests are finished.
    pub fn drain(&mut self, now: Instant) {
        match &mut self.protocol {
            Protocol::Unknown { .. } => self.protocol = Protocol::Ended { reason: None, told: false },
            Protocol::Http1(http1) => http1.drain(now),
            Protocol::Http2(http2) => http2.drain(now, &mut self.output),
            Protocol::Ended { .. } => {}
        }
    }

    /// The peer will send no more: call it once everything it sent was taken, then `advance`. Requests that came whole
    /// are still answered.
    pub fn input_ended(&mut self, now: Instant) {
        match &mut self.protocol {
            Protocol::Unknown { .. } => self.protocol = Protocol::Ended { reason: None, told: false },
            Protocol::Http1(http1) => http1.input_ended(),
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
            Protocol::Http1(http1) => http1.wrote(now, &self.output),
            Protocol::Http2(http2) => http2.wrote(now, &mut self.output),
            Protocol::Unknown { .. } | Protocol::Ended { .. } => {}
        }
    }

    /// Whether a request is a gRPC call, and so is answered as one; known even where a violation was told instead of
    /// its head.
    #[must_use]
    pub fn is_grpc(&self, stream: StreamId) -> bool {
        matches!(&self.protocol, Protocol::Http2(http2) if http2.is_grpc(stream))
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

    /// After a refusal that left a body unread, and after the last answers of several streams: shut down writing once the
    /// output is empty, keep reading and dropping until [`ended`](Self::ended), so that no answer is lost to a reset.
    /// Never for longer than a second after the last byte was written.
    #[must_use]
    pub fn lingering(&self) -> bool {
        match &self.protocol {
            Protocol::Http1(http1) => http1.lingering(),
            Protocol::Http2(http2) => http2.lingering(),
            Protocol::Unknown { .. } | Protocol::Ended { .. } => false,
        }
    }

    /// Whether it was asked to go, and may bring requests that were sent before it heard; never for longer than a second.
    #[must_use]
    pub fn is_parting(&self) -> bool {
        matches!(&self.protocol, Protocol::Http2(http2) if http2.is_parting())
    }
}

#[cfg(test)]
mod tests;
