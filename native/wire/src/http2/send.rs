//! Answers: HEADERS, DATA and trailers, straight into the output as far as the peer's windows allow.

use std::time::Instant;

use super::Http2;
use super::fault::ErrorCode;
use super::frame::{self, Frame, HEADER_BYTES, flag, kind};
use super::queue::End;
use super::stream::{Answer, Receiving};
use crate::decimal;
use crate::event::StreamId;
use crate::grpc::{PREFIX_BYTES, Prefix, percent_encoded};
use crate::hpack;
use crate::output::Output;
use crate::payload::{Payload, Piece};
use crate::reply::{GrpcStatus, Reply};

/// `:status: 200` and `content-type: application/grpc`.
const GRPC_HEAD: &[u8] = b"\x88\x0f\x10\x10application/grpc";

/// `grpc-status: 0`.
const GRPC_OK: &[u8] = b"\x00\x0bgrpc-status\x010";

/// What stands in front of a message that is an answer of its own: HEADERS, the header of DATA, and gRPC's prefix.
const OPENING_BYTES: usize = HEADER_BYTES + GRPC_HEAD.len() + HEADER_BYTES + PREFIX_BYTES;

/// The bytes of an answer or of one message of it.
#[derive(Clone, Copy)]
struct Data<'a> {
    prefix: &'a [u8],
    payload: &'a Payload,
}

impl<'a> Data<'a> {
    fn len(self) -> usize {
        self.prefix.len() + self.payload.len()
    }

    fn pieces(self) -> impl Iterator<Item = Piece<'a>> {
        let prefix = (!self.prefix.is_empty()).then_some(Piece::Copied(self.prefix));
        prefix.into_iter().chain(self.payload.pieces())
    }
}

fn prefix(message: &Payload) -> [u8; PREFIX_BYTES] {
    // An answer is far below 4 GiB: its memory was reserved.
    Prefix { compressed: false, message_bytes: message.len() as u32 }.to_bytes()
}

impl Http2 {
    /// See [`Connection::reply`](crate::Connection::reply).
    pub(crate) fn reply(&mut self, stream: StreamId, reply: &Reply<'_>, now: Instant, output: &mut Output) {
        let Some(at) = self.answerable(stream, Answer::Awaited) else { return };
        let without_body = matches!(reply.status, 204 | 304);
        let end = without_body || self.streams[at].bodyless || reply.body.is_empty();
        self.put_headers(stream.0, end, output, |block| {
            hpack::status(block, reply.status);
            if !reply.content_type.is_empty() {
                hpack::field(block, "content-type", reply.content_type.as_bytes());
            }
            if !without_body {
                let mut length = Vec::with_capacity(20);
                decimal::push(reply.body.len() as u64, &mut length);
                hpack::field(block, "content-length", &length);
            }
            for (name, value) in reply.fields {
                hpack::field(block, name, value);
            }
        });
        self.streams[at].answer = Answer::Given;
        if !end {
            self.send_data(at, Data { prefix: &[], payload: reply.body }, true, now, output);
            if let Some(queue) = &mut self.streams[at].queue {
                queue.end = End::Data;
                return self.refuse_rest(at);
            }
        }
        self.answered(at, output);
    }

    /// See [`Connection::reply_grpc`](crate::Connection::reply_grpc).
    #[expect(clippy::too_many_arguments, reason = "the arguments of the connection's method, and its output")]
    pub(crate) fn reply_grpc(
        &mut self,
        stream: StreamId,
        message: Option<&Payload>,
        status: &GrpcStatus<'_>,
        now: Instant,
        output: &mut Output,
    ) {
        let Some(at) = self.answerable(stream, Answer::Awaited) else { return };
        let Some(message) = message else {
            self.put_headers(stream.0, true, output, |block| {
                block.extend_from_slice(GRPC_HEAD);
                push_status(block, status);
            });
            return self.answered(at, output);
        };
        if status.is_plain_ok() && self.reply_at_once(at, message, output) {
            return;
        }
        self.put_headers(stream.0, false, output, |block| block.extend_from_slice(GRPC_HEAD));
        self.send_data(at, Data { prefix: &prefix(message), payload: message }, false, now, output);
        self.finish_at(at, status, output);
    }

    /// Gives the answer of nearly every call: status OK behind one message, which the windows let through whole. Its
    /// three frames differ from call to call in a few bytes only, so they are put together without looking further.
    /// False, and nothing is done, where the answer is not one of these.
    fn reply_at_once(&mut self, at: usize, message: &Payload, output: &mut Output) -> bool {
        let stream = self.streams[at].id;
        let length = PREFIX_BYTES + message.len();
        let windows = self.send_window.open().min(self.streams[at].send_window.open());
        if length > windows.min(self.peer.frame_bytes_max) || self.peer.table_shrunk {
            return false;
        }
        let head = Frame { length: GRPC_HEAD.len(), kind: kind::HEADERS, flags: flag::END_HEADERS, stream };
        let data = Frame { length, kind: kind::DATA, flags: 0, stream };
        let flags = flag::END_HEADERS | flag::END_STREAM;
        let status = Frame { length: GRPC_OK.len(), kind: kind::HEADERS, flags, stream };
        let mut opening = [0; OPENING_BYTES];
        let (head_bytes, data_bytes) = opening.split_at_mut(HEADER_BYTES + GRPC_HEAD.len());
        head_bytes[..HEADER_BYTES].copy_from_slice(&head.to_bytes());
        head_bytes[HEADER_BYTES..].copy_from_slice(GRPC_HEAD);
        data_bytes[..HEADER_BYTES].copy_from_slice(&data.to_bytes());
        data_bytes[HEADER_BYTES..].copy_from_slice(&prefix(message));
        let mut ending = [0; HEADER_BYTES + GRPC_OK.len()];
        ending[..HEADER_BYTES].copy_from_slice(&status.to_bytes());
        ending[HEADER_BYTES..].copy_from_slice(GRPC_OK);
        output.buffer().extend_from_slice(&opening);
        output.payload(message);
        output.buffer().extend_from_slice(&ending);
        self.send_window.fill(length);
        self.calm.sent(3);
        self.answered(at, output);
        true
    }

    /// See [`Connection::open_grpc`](crate::Connection::open_grpc).
    pub(crate) fn open_grpc(&mut self, stream: StreamId, _now: Instant, output: &mut Output) {
        let Some(at) = self.answerable(stream, Answer::Awaited) else { return };
        self.put_headers(stream.0, false, output, |block| block.extend_from_slice(GRPC_HEAD));
        self.streams[at].answer = Answer::Opened;
    }

    /// See [`Connection::send_grpc`](crate::Connection::send_grpc).
    pub(crate) fn send_grpc(&mut self, stream: StreamId, message: &Payload, now: Instant, output: &mut Output) {
        let Some(at) = self.answerable(stream, Answer::Opened) else { return };
        self.send_data(at, Data { prefix: &prefix(message), payload: message }, false, now, output);
    }

    /// See [`Connection::finish_grpc`](crate::Connection::finish_grpc).
    pub(crate) fn finish_grpc(
        &mut self,
        stream: StreamId,
        status: &GrpcStatus<'_>,
        _now: Instant,
        output: &mut Output,
    ) {
        if let Some(at) = self.answerable(stream, Answer::Opened) {
            self.finish_at(at, status, output);
        }
    }

    /// `100`: the peer may send its body.
    pub(super) fn put_continue(&mut self, at: usize, output: &mut Output) {
        self.put_headers(self.streams[at].id, false, output, |block| hpack::status(block, 100));
    }

    /// Fills the windows with what is queued, a frame of each stream in turn.
    pub(super) fn send_queued(&mut self, now: Instant, output: &mut Output) {
        let mut blocked = 0;
        while blocked < self.streams.len() && self.send_window.open() > 0 {
            if self.turn >= self.streams.len() {
                self.turn = 0;
            }
            let open_before = self.streams.len();
            let sent = self.send_frame_of(self.turn, now, output);
            blocked = if sent { 0 } else { blocked + 1 };
            // A stream that is done has made room for another one in its place.
            self.turn += usize::from(self.streams.len() == open_before);
        }
    }

    /// Fills a stream's window with what it has queued.
    pub(super) fn send_queued_of(&mut self, at: usize, now: Instant, output: &mut Output) {
        let id = self.streams[at].id;
        while self.send_frame_of(at, now, output) && self.streams.find(id) == Some(at) {}
    }

    /// Sends one frame of what a stream has queued; false if it has none or the windows are shut.
    fn send_frame_of(&mut self, at: usize, now: Instant, output: &mut Output) -> bool {
        let windows = self.send_window.open().min(self.streams[at].send_window.open());
        let frame_bytes_max = self.peer.frame_bytes_max;
        let stream = &mut self.streams[at];
        let Some(queue) = &mut stream.queue else { return false };
        let length = queue.bytes().min(windows).min(frame_bytes_max);
        if length == 0 {
            return false;
        }
        let last = length == queue.bytes();
        let flags = if last && matches!(queue.end, End::Data) { flag::END_STREAM } else { 0 };
        Frame { length, kind: kind::DATA, flags, stream: stream.id }.put(output.buffer());
        queue.move_to(output, length);
        queue.moved_at = now;
        let end = last.then(|| std::mem::replace(&mut queue.end, End::Open));
        stream.send_window.fill(length);
        self.send_window.fill(length);
        self.calm.sent(1);
        if let Some(end) = end {
            self.streams[at].queue = None;
            self.end_at(at, end, output);
        }
        true
    }

    /// The stream's place if its answer has come to this point. To answer is to decide.
    fn answerable(&self, stream: StreamId, answer: Answer) -> Option<usize> {
        self.streams.find(stream.0).filter(|&at| self.streams[at].answer == answer)
    }

    fn finish_at(&mut self, at: usize, status: &GrpcStatus<'_>, output: &mut Output) {
        let stream = &mut self.streams[at];
        stream.answer = Answer::Given;
        if let Some(queue) = &mut stream.queue {
            let mut block = Vec::new();
            push_status(&mut block, status);
            queue.end = End::Trailers(block);
            self.refuse_rest(at);
            return;
        }
        let id = stream.id;
        self.put_headers(id, true, output, |block| push_status(block, status));
        self.answered(at, output);
    }

    /// Ends an answer whose bytes were queued and are out now.
    fn end_at(&mut self, at: usize, end: End, output: &mut Output) {
        match end {
            End::Open => {}
            End::Data => self.answered(at, output),
            End::Trailers(trailers) => {
                self.put_headers(self.streams[at].id, true, output, |block| block.extend_from_slice(&trailers));
                self.answered(at, output);
            }
        }
    }

    /// The answer's end is out: the stream is gone. A peer that is still sending is told to stop; one that has sent
    /// nothing of its body yet only if it begins, because clients lose an answer that a reset follows at once.
    fn answered(&mut self, at: usize, output: &mut Output) {
        let stream = &self.streams[at];
        let (id, peer_open) = (stream.id, stream.peer_open());
        let has_begun = stream.receiving == Receiving::Dropping || stream.body.received() > 0;
        if peer_open && has_begun {
            frame::put_reset(output.buffer(), id, ErrorCode::None);
        } else if peer_open {
            self.streams.expect_no_more(id);
        }
        self.remove(at, peer_open);
    }

    /// The answer is given but not out: what still comes of the request is dropped.
    fn refuse_rest(&mut self, at: usize) {
        let stream = &mut self.streams[at];
        if stream.peer_open() {
            stream.receiving = Receiving::Dropping;
            stream.body.clear();
        }
        if self.undecided == Some(stream.id) {
            self.undecided = None;
        }
    }

    /// Sends data as far as the windows allow, and queues the rest.
    #[expect(clippy::too_many_arguments, reason = "what, whose, how it ends, when and where to")]
    fn send_data(&mut self, at: usize, data: Data<'_>, end: bool, now: Instant, output: &mut Output) {
        let frame_bytes_max = self.peer.frame_bytes_max;
        let stream = &mut self.streams[at];
        let windows = self.send_window.open().min(stream.send_window.open());
        let sendable = if stream.queue.is_some() { 0 } else { data.len().min(windows) };
        if sendable == data.len() && sendable <= frame_bytes_max {
            // One frame, as nearly always.
            let flags = if end { flag::END_STREAM } else { 0 };
            Frame { length: sendable, kind: kind::DATA, flags, stream: stream.id }.put(output.buffer());
            output.buffer().extend_from_slice(data.prefix);
            output.payload(data.payload);
            stream.send_window.fill(sendable);
            self.send_window.fill(sendable);
            return self.calm.sent(1);
        }
        let (mut left, mut frame_left) = (sendable, 0);
        for piece in data.pieces() {
            let mut from = 0;
            while left > 0 && from < piece_bytes(&piece) {
                if frame_left == 0 {
                    frame_left = left.min(frame_bytes_max);
                    let last = end && frame_left == left && sendable == data.len();
                    let flags = if last { flag::END_STREAM } else { 0 };
                    Frame { length: frame_left, kind: kind::DATA, flags, stream: stream.id }.put(output.buffer());
                    self.calm.sent(1);
                }
                let part = frame_left.min(piece_bytes(&piece) - from);
                match &piece {
                    Piece::Copied(bytes) => output.buffer().extend_from_slice(&bytes[from..from + part]),
                    Piece::Shared(bytes) => output.share(bytes.slice(from..from + part)),
                }
                from += part;
                frame_left -= part;
                left -= part;
            }
            if from < piece_bytes(&piece) {
                stream.queue(now).push(&piece, from);
            }
        }
        stream.send_window.fill(sendable);
        self.send_window.fill(sendable);
    }

    /// Appends HEADERS; `fill` appends the block. One larger than the peer's frames goes on in CONTINUATION.
    fn put_headers(&mut self, stream: u32, end: bool, output: &mut Output, fill: impl FnOnce(&mut Vec<u8>)) {
        self.calm.sent(1);
        let buffer = output.buffer();
        let start = buffer.len();
        let flags = if end { flag::END_STREAM } else { 0 };
        Frame { length: 0, kind: kind::HEADERS, flags: flags | flag::END_HEADERS, stream }.put(buffer);
        if std::mem::take(&mut self.peer.table_shrunk) {
            hpack::table_closed(buffer);
        }
        fill(buffer);
        let length = buffer.len() - start - HEADER_BYTES;
        if length <= self.peer.frame_bytes_max {
            let [_, length @ ..] = (length as u32).to_be_bytes();
            buffer[start..start + length.len()].copy_from_slice(&length);
            return;
        }
        let block = buffer.split_off(start + HEADER_BYTES);
        buffer.truncate(start);
        let mut fragments = block.chunks(self.peer.frame_bytes_max).peekable();
        let (mut kind, mut flags) = (kind::HEADERS, flags);
        while let Some(fragment) = fragments.next() {
            let last = if fragments.peek().is_none() { flag::END_HEADERS } else { 0 };
            Frame { length: fragment.len(), kind, flags: flags | last, stream }.put(buffer);
            buffer.extend_from_slice(fragment);
            (kind, flags) = (kind::CONTINUATION, 0);
        }
    }
}

fn piece_bytes(piece: &Piece<'_>) -> usize {
    match piece {
        Piece::Copied(bytes) => bytes.len(),
        Piece::Shared(bytes) => bytes.len(),
    }
}

/// Appends `grpc-status` and what goes with it.
fn push_status(block: &mut Vec<u8>, status: &GrpcStatus<'_>) {
    if status.code == 0 {
        block.extend_from_slice(GRPC_OK);
    } else {
        let digits = [b'0' + status.code / 10 % 10, b'0' + status.code % 10];
        hpack::field(block, "grpc-status", &digits[usize::from(status.code < 10)..]);
    }
    if !status.message.is_empty() {
        hpack::field(block, "grpc-message", &percent_encoded(status.message));
    }
    for (name, value) in status.fields {
        hpack::field(block, name, value);
    }
}
