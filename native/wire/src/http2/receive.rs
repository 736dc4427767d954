//! Requests: HEADERS, CONTINUATION, DATA, and the owner's decision to take one.

use std::time::Instant;

use super::body::{Body, Verdict};
use super::fault::{ErrorCode, Fault};
use super::flow::{ReceiveWindow, SendWindow};
use super::frame::{self, Frame, LARGEST, flag};
use super::heads::{Outcome, Request, TrailersOutcome};
use super::settings::WINDOW_BYTES_DEFAULT;
use super::stream::{Answer, Receiving, Stream};
use super::streams::Closed;
use super::{Block, Http2, Parting, Step};
use crate::event::{CloseReason, Event, StreamId, Violation};
use crate::grpc::PREFIX_BYTES;
use crate::head::Method;
use crate::hpack::Undecodable;
use crate::output::Output;

/// Bytes of a priority within HEADERS.
const PRIORITY_BYTES: usize = 5;

/// A header block and whose it is.
#[derive(Clone, Copy)]
struct Headers<'a> {
    stream: u32,
    end_stream: bool,
    block: &'a [u8],
}

impl Http2 {
    /// See [`Connection::accept`](crate::Connection::accept).
    pub(crate) fn accept(&mut self, stream: StreamId, grant: usize, output: &mut Output) {
        let Some(at) = self.streams.find(stream.0) else { return };
        if self.undecided == Some(stream.0) {
            self.undecided = None;
        }
        let stream = &mut self.streams[at];
        stream.body.grant = stream.body.grant.max(grant);
        match stream.receiving {
            Receiving::Offered => {}
            Receiving::OfferedEmpty => {
                stream.receiving = Receiving::Ended;
                let violation = Violation::Framing("no message in a call that takes one; send one");
                self.events.push_back(Event::Violation { stream: StreamId(stream.id), violation });
                return;
            }
            Receiving::Taking | Receiving::Dropping | Receiving::Ended => return,
        }
        let allowed = self.limits.request_body_bytes_max as u64;
        let framing = if stream.body.is_grpc() { PREFIX_BYTES as u64 } else { 0 };
        if let Some(found) = stream.body.expected().map(|expected| expected.saturating_sub(framing))
            && found > allowed
        {
            stream.receiving = Receiving::Dropping;
            let violation = Violation::BodyTooLarge { found, allowed };
            self.events.push_back(Event::Violation { stream: StreamId(stream.id), violation });
            return;
        }
        stream.receiving = Receiving::Taking;
        if std::mem::take(&mut stream.expects_continue) {
            self.put_continue(at, output);
        }
        self.raise_window(at, output);
    }

    pub(super) fn on_headers(
        &mut self,
        frame: Frame,
        payload: &[u8],
        now: Instant,
        output: &mut Output,
    ) -> Result<Step, Box<Fault>> {
        if frame.stream.is_multiple_of(2) {
            return Err(Fault::breach(ErrorCode::Protocol, "headers are on a stream without an odd number"));
        }
        if frame.stream <= self.last_stream
            && let Some(at) = self.streams.find(frame.stream)
            && self.streams[at].receiving == Receiving::Offered
        {
            self.undecided = Some(frame.stream);
            return Ok(Step::Waits);
        }
        let mut fragment = frame.unpadded(payload)?;
        if frame.has(flag::PRIORITY) {
            fragment = fragment
                .get(PRIORITY_BYTES..)
                .ok_or_else(|| Fault::breach(ErrorCode::FrameSize, "headers have no room for their priority"))?;
        }
        let end_stream = frame.has(flag::END_STREAM);
        if frame.has(flag::END_HEADERS) {
            self.on_block(Headers { stream: frame.stream, end_stream, block: fragment }, now, output)?;
        } else {
            let bytes = fragment.to_vec();
            self.block = Some(Block { stream: frame.stream, end_stream, bytes, continuations: 0, began_at: now });
        }
        Ok(Step::Taken)
    }

    pub(super) fn on_continuation(
        &mut self,
        frame: Frame,
        payload: &[u8],
        now: Instant,
        output: &mut Output,
    ) -> Result<(), Box<Fault>> {
        let Some(mut block) = self.block.take() else {
            return Err(Fault::breach(ErrorCode::Protocol, "continuation of no header block"));
        };
        block.continuations += 1;
        block.bytes.extend_from_slice(payload);
        if block.continuations > self.limits.continuation_frames_max {
            return Err(Fault::flood("too many continuations of a header block"));
        }
        if frame.has(flag::END_HEADERS) {
            let headers = Headers { stream: block.stream, end_stream: block.end_stream, block: &block.bytes };
            return self.on_block(headers, now, output);
        }
        if block.bytes.len() > self.limits.header_bytes_max {
            return Err(Fault::flood("header block grows beyond what fields may take"));
        }
        self.block = Some(block);
        Ok(())
    }

    fn on_block(&mut self, headers: Headers<'_>, now: Instant, output: &mut Output) -> Result<(), Box<Fault>> {
        if headers.stream > self.last_stream {
            self.last_stream = headers.stream;
            return self.on_request(headers, now, output);
        }
        if let Some(at) = self.streams.find(headers.stream) {
            return self.on_trailers(at, headers, output);
        }
        self.heads.skip(headers.block).map_err(undecodable)?;
        match self.streams.closed(headers.stream) {
            Closed::ByReset => Ok(()),
            Closed::Ended => Err(Fault::breach(ErrorCode::StreamClosed, "headers are on a stream that is closed")),
            Closed::Unknown => {
                Err(Fault::breach(ErrorCode::Protocol, "headers are on a stream below the last one opened"))
            }
        }
    }

    fn on_request(&mut self, headers: Headers<'_>, now: Instant, output: &mut Output) -> Result<(), Box<Fault>> {
        let outcome = self.heads.request(headers.block, &self.limits).map_err(undecodable)?;
        self.calm.opened();
        self.clocks.busy();
        let parted = matches!(self.parting, Parting::Final { .. });
        if parted || self.streams.len() >= self.limits.connection_streams_max as usize {
            frame::put_reset(output.buffer(), headers.stream, ErrorCode::RefusedStream);
            self.streams.close(headers.stream, true);
            if !parted {
                self.events.push_back(Event::Dropped { reason: CloseReason::Streams });
            }
            return self.calm.control(&self.limits, now);
        }
        match outcome {
            Outcome::Request(Request { head, expects_continue })
                if !headers.end_stream || head.content_length.unwrap_or(0) == 0 =>
            {
                let mut stream = self.stream(headers, Body::new(head.grpc, head.content_length), now);
                stream.bodyless = head.method == Method::Head;
                stream.expects_continue = expects_continue && !headers.end_stream;
                stream.receiving = match (headers.end_stream, head.grpc) {
                    (false, _) => Receiving::Offered,
                    (true, true) => Receiving::OfferedEmpty,
                    (true, false) => Receiving::Ended,
                };
                self.streams.push(stream);
                let stream = StreamId(headers.stream);
                self.events.push_back(Event::Head { stream, head, end: headers.end_stream });
                Ok(())
            }
            Outcome::Violation { violation, grpc, bodyless } => {
                let mut stream = self.stream(headers, Body::new(grpc, None), now);
                stream.bodyless = bodyless;
                self.streams.push(stream);
                self.events.push_back(Event::Violation { stream: StreamId(headers.stream), violation });
                Ok(())
            }
            Outcome::Request(_) | Outcome::Malformed => {
                frame::put_reset(output.buffer(), headers.stream, ErrorCode::Protocol);
                self.streams.close(headers.stream, true);
                self.calm.stream_error(&self.limits)
            }
        }
    }

    fn stream(&self, headers: Headers<'_>, body: Body, now: Instant) -> Stream {
        // A peer that has not seen our settings counts from the protocol's default.
        let window_least = if self.acknowledged { 0 } else { WINDOW_BYTES_DEFAULT };
        let window = self.limits.stream_window_bytes_max.clamp(window_least, LARGEST);
        Stream {
            id: headers.stream,
            receiving: if headers.end_stream { Receiving::Ended } else { Receiving::Dropping },
            answer: Answer::Awaited,
            bodyless: false,
            expects_continue: false,
            begun_at: now,
            body,
            receive_window: ReceiveWindow::new(window),
            send_window: SendWindow::new(self.peer.window_bytes),
            queue: None,
        }
    }

    fn on_trailers(&mut self, at: usize, headers: Headers<'_>, output: &mut Output) -> Result<(), Box<Fault>> {
        let trailers = self.heads.trailers(headers.block, &self.limits).map_err(undecodable)?;
        if !self.streams[at].peer_open() {
            return self.break_stream(at, ErrorCode::StreamClosed, output);
        }
        if !headers.end_stream || matches!(trailers, TrailersOutcome::Malformed) {
            return self.break_stream(at, ErrorCode::Protocol, output);
        }
        let stream = &mut self.streams[at];
        let verdict = match (stream.receiving, trailers) {
            (Receiving::Taking, TrailersOutcome::Violation(violation)) => Verdict::Broken(violation),
            (Receiving::Taking, _) => stream.body.take(&[], true, self.limits.request_body_bytes_max),
            _ => Verdict::Taken,
        };
        self.apply(at, verdict, true, output)
    }

    pub(super) fn on_data(
        &mut self,
        frame: Frame,
        payload: &[u8],
        now: Instant,
        output: &mut Output,
    ) -> Result<Step, Box<Fault>> {
        let Some(at) = self.streams.find(frame.stream) else {
            return self.on_data_astray(frame, output).map(|()| Step::Taken);
        };
        let data = frame.unpadded(payload)?;
        let end = frame.has(flag::END_STREAM);
        let stream = &mut self.streams[at];
        let verdict = match stream.receiving {
            Receiving::Offered => {
                self.undecided = Some(frame.stream);
                return Ok(Step::Waits);
            }
            Receiving::Taking => stream.body.take(data, end, self.limits.request_body_bytes_max),
            Receiving::Dropping => Verdict::Taken,
            Receiving::Ended | Receiving::OfferedEmpty => {
                self.take_window(frame.length, output)?;
                self.break_stream(at, ErrorCode::StreamClosed, output)?;
                return Ok(Step::Taken);
            }
        };
        if let Verdict::Grow(bytes) = verdict {
            self.undecided = Some(frame.stream);
            self.events.push_back(Event::Grow { stream: StreamId(frame.stream), bytes });
            return Ok(Step::Waits);
        }
        if !stream.receive_window.take(frame.length) {
            return Err(Fault::breach(ErrorCode::FlowControl, "data exceeds the window of its stream"));
        }
        self.take_window(frame.length, output)?;
        if data.is_empty() && !end {
            self.calm.control(&self.limits, now)?;
        }
        let stays = !end && self.streams[at].receiving == Receiving::Taking;
        self.apply(at, verdict, end, output)?;
        if stays && self.streams.find(frame.stream) == Some(at) {
            if let Some(increment) = self.streams[at].receive_window.give_back(frame.length) {
                frame::put_window_update(output.buffer(), frame.stream, increment);
            }
            self.raise_window(at, output);
        }
        Ok(Step::Taken)
    }

    /// Does what a verdict other than `Grow` asks for.
    fn apply(&mut self, at: usize, verdict: Verdict, end: bool, output: &mut Output) -> Result<(), Box<Fault>> {
        let stream = &mut self.streams[at];
        let id = StreamId(stream.id);
        if end {
            stream.receiving = Receiving::Ended;
        }
        match verdict {
            Verdict::Taken | Verdict::Grow(_) => {}
            Verdict::Whole { body, compressed } => self.events.push_back(Event::Body { stream: id, body, compressed }),
            Verdict::Broken(violation) => {
                stream.body.clear();
                if !end {
                    stream.receiving = Receiving::Dropping;
                }
                self.events.push_back(Event::Violation { stream: id, violation });
            }
            Verdict::Malformed => return self.break_stream(at, ErrorCode::Protocol, output),
        }
        Ok(())
    }

    /// DATA on a stream that is not open.
    fn on_data_astray(&mut self, frame: Frame, output: &mut Output) -> Result<(), Box<Fault>> {
        if frame.stream.is_multiple_of(2) || frame.stream > self.last_stream {
            return Err(Fault::breach(ErrorCode::Protocol, "data is on a stream that was not opened"));
        }
        if self.streams.closed(frame.stream) != Closed::ByReset {
            return Err(Fault::breach(ErrorCode::StreamClosed, "data is on a stream that is closed"));
        }
        if self.streams.has_to_stop(frame.stream) && !frame.has(flag::END_STREAM) {
            frame::put_reset(output.buffer(), frame.stream, ErrorCode::None);
        }
        self.take_window(frame.length, output)
    }

    /// Takes data from the connection's window and gives it back, for it is stored or dropped at once.
    fn take_window(&mut self, bytes: usize, output: &mut Output) -> Result<(), Box<Fault>> {
        if !self.receive_window.take(bytes) {
            return Err(Fault::breach(ErrorCode::FlowControl, "data exceeds the window of the connection"));
        }
        if let Some(increment) = self.receive_window.give_back(bytes) {
            frame::put_window_update(output.buffer(), 0, increment);
        }
        Ok(())
    }

    /// A large body may use all of the connection's window, or each window's worth of it would cost a round trip.
    fn raise_window(&mut self, at: usize, output: &mut Output) {
        let stream = &mut self.streams[at];
        let bytes = stream.body.expected().unwrap_or_else(|| stream.body.received());
        if bytes > u64::from(self.limits.stream_window_bytes_max)
            && let Some(increment) = stream.receive_window.raise(self.limits.connection_window_bytes_max.min(LARGEST))
        {
            frame::put_window_update(output.buffer(), stream.id, increment);
        }
    }

    /// Resets a stream for the peer's fault.
    pub(super) fn break_stream(&mut self, at: usize, code: ErrorCode, output: &mut Output) -> Result<(), Box<Fault>> {
        let id = self.streams[at].id;
        frame::put_reset(output.buffer(), id, code);
        self.events.push_back(Event::Reset { stream: StreamId(id) });
        self.remove(at, true);
        self.calm.stream_error(&self.limits)
    }
}

fn undecodable(Undecodable(what): Undecodable) -> Box<Fault> {
    Fault::breach(ErrorCode::Compression, what)
}
