//! HTTP/2 (RFC 9113), the server's side, for plain HTTP and gRPC.
//!
//! Frames are handled where they lie in the input; only one that came in pieces is put together first. What a frame
//! leads to is queued as events, mostly one, and no further frame is looked at before they were fetched. A request
//! whose owner has yet to decide keeps its next frame in the input: the peer's window stays shut meanwhile.

mod body;
mod calm;
mod control;
pub(crate) mod fault;
mod fields;
pub(crate) mod flow;
pub(crate) mod frame;
mod heads;
mod queue;
mod receive;
mod send;
pub(crate) mod settings;
mod stream;
mod streams;
mod time;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use calm::Calm;
use fault::{ErrorCode, Fault};
use flow::{ReceiveWindow, SendWindow};
use frame::{Frame, HEADER_BYTES, LARGEST, flag, kind};
use heads::Heads;
use settings::{PeerSettings, WINDOW_BYTES_DEFAULT};
use streams::Streams;
use time::Clocks;

use crate::event::{CloseReason, Event, StreamId};
use crate::limits::Limits;
use crate::linger::Linger;
use crate::output::Output;

/// What a client says first.
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection from after its preface to its end.
#[derive(Debug)]
pub(crate) struct Http2 {
    limits: Arc<Limits>,
    /// Told one by one, before anything else happens.
    events: VecDeque<Event>,
    /// The beginning of a frame that is not yet whole; or a whole one that waits for a decision.
    assembly: Vec<u8>,
    /// A header block that is not yet whole.
    block: Option<Block>,
    /// The stream whose owner must decide before the next frame is looked at.
    undecided: Option<u32>,
    heads: Heads,
    streams: Streams,
    /// The highest stream that the peer opened.
    last_stream: u32,
    peer: PeerSettings,
    /// The peer's SETTINGS came; nothing else may come first.
    greeted: bool,
    /// The peer knows our settings.
    acknowledged: bool,
    receive_window: ReceiveWindow,
    send_window: SendWindow,
    /// Whose turn it is to fill a window that many wait for.
    turn: usize,
    calm: Calm,
    clocks: Clocks,
    parting: Parting,
    /// The label of an ordinary end, once one has begun.
    parting_reason: Option<CloseReason>,
    /// The peer opens no more streams: it said so, or its input ended.
    peer_parts: bool,
    /// Something was answered that the peer has not shown to have read before everything ended.
    answered_last: bool,
    /// Everything has ended, and the peer may still have answers to read.
    linger: Option<Linger>,
    ended: bool,
}

/// A header block of several frames.
#[derive(Debug)]
struct Block {
    stream: u32,
    end_stream: bool,
    bytes: Vec<u8>,
    continuations: u32,
    began_at: Instant,
}

/// How far an ordinary end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parting {
    /// Not begun.
    None,
    /// The peer was told to open no more streams; those it opened before it heard that are still taken.
    Announced { at: Instant },
    /// The last stream is fixed. Over when all are answered.
    Final { at: Instant },
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Taken,
    /// Its stream is undecided; to be tried again.
    Waits,
}

impl Http2 {
    /// A connection whose preface was read. Our settings are the first thing that it writes.
    pub(crate) fn new(limits: Arc<Limits>, now: Instant, output: &mut Output) -> Self {
        settings::announce(&limits, output.buffer());
        let window = limits.connection_window_bytes_max.clamp(WINDOW_BYTES_DEFAULT, LARGEST);
        Self {
            limits,
            events: VecDeque::new(),
            assembly: Vec::new(),
            block: None,
            undecided: None,
            heads: Heads::new(),
            streams: Streams::new(),
            last_stream: 0,
            peer: PeerSettings::new(),
            greeted: false,
            acknowledged: false,
            receive_window: ReceiveWindow::new(window),
            send_window: SendWindow::new(WINDOW_BYTES_DEFAULT),
            turn: 0,
            calm: Calm::new(now),
            clocks: Clocks::new(now),
            parting: Parting::None,
            parting_reason: None,
            peer_parts: false,
            answered_last: false,
            linger: None,
            ended: false,
        }
    }

    /// See [`Connection::advance`](crate::Connection::advance).
    pub(crate) fn advance(&mut self, input: &mut &[u8], now: Instant, output: &mut Output) -> Option<Event> {
        if !input.is_empty() {
            self.clocks.heard(now);
        }
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if self.ended {
                *input = &[];
                return None;
            }
            if self.undecided.is_some() {
                return None;
            }
            match self.next_frame(input, now, output) {
                Ok(true) => {}
                Ok(false) => return None,
                Err(fault) => self.fail(&fault, output),
            }
        }
    }

    /// See [`Connection::goes_on`](crate::Connection::goes_on).
    pub(crate) fn goes_on(&self) -> bool {
        !self.events.is_empty() || !self.assembly.is_empty()
    }

    pub(crate) fn wants_input(&self) -> bool {
        self.undecided.is_none() && (!self.ended || self.lingering())
    }

    pub(crate) fn open_requests(&self) -> usize {
        self.streams.len()
    }

    pub(crate) fn held_bytes(&self) -> usize {
        let streams: usize = self.streams.iter().map(stream::Stream::held_bytes).sum();
        streams + self.assembly.len() + self.block.as_ref().map_or(0, |block| block.bytes.len())
    }

    pub(crate) fn detach(&mut self) {
        for queue in self.streams.iter_mut().filter_map(|stream| stream.queue.as_mut()) {
            queue.detach();
        }
    }

    pub(crate) fn ended(&self) -> bool {
        self.ended && !self.lingering()
    }

    /// See [`Connection::lingering`](crate::Connection::lingering).
    pub(crate) fn lingering(&self) -> bool {
        self.linger.is_some()
    }

    /// Whether a stream is a gRPC call, even one whose head could not be told.
    pub(crate) fn is_grpc(&self, stream: StreamId) -> bool {
        self.streams.find(stream.0).is_some_and(|at| self.streams[at].body.is_grpc())
    }

    /// Begins an ordinary end, or takes its second step.
    pub(crate) fn drain(&mut self, now: Instant, output: &mut Output) {
        match self.parting {
            Parting::None if !self.ended => {
                frame::put_goaway(output.buffer(), LARGEST, ErrorCode::None, "");
                frame::put_ping(output.buffer(), 0, time::PARTING_PING);
                self.parting = Parting::Announced { at: now };
            }
            Parting::Announced { at } => self.part(at, output),
            Parting::None | Parting::Final { .. } => {}
        }
    }

    /// Whether the peer may not have heard yet that it is to open no more streams.
    pub(crate) fn is_parting(&self) -> bool {
        !self.ended && matches!(self.parting, Parting::Announced { .. })
    }

    pub(crate) fn input_ended(&mut self, _now: Instant) {
        self.linger = None;
        if self.ended {
            return;
        }
        let mut at = 0;
        while at < self.streams.len() {
            let stream = &self.streams[at];
            if stream.peer_open() && stream.answer != stream::Answer::Given {
                self.events.push_back(Event::Reset { stream: StreamId(stream.id) });
                self.remove(at, false);
            } else {
                at += 1;
            }
        }
        self.clocks.deafen();
        self.peer_parts = true;
        self.settle();
    }

    /// The second GOAWAY: streams above the last one so far are refused from now on.
    fn part(&mut self, began_at: Instant, output: &mut Output) {
        frame::put_goaway(output.buffer(), self.last_stream, ErrorCode::None, "");
        self.parting = Parting::Final { at: began_at };
        self.settle();
    }

    /// Ends the connection if an ordinary end has begun and nothing is open any more.
    fn settle(&mut self) {
        let parted = matches!(self.parting, Parting::Final { .. }) || self.peer_parts;
        if parted && self.streams.is_empty() && !self.ended {
            if self.answered_last && !self.clocks.is_deaf() {
                self.linger = Some(Linger::default());
            }
            self.finish(self.parting_reason);
        }
    }

    /// Ends the connection at once.
    fn finish(&mut self, reason: Option<CloseReason>) {
        if self.ended {
            return;
        }
        self.ended = true;
        self.undecided = None;
        self.assembly = Vec::new();
        self.block = None;
        for id in self.streams.clear() {
            self.events.push_back(Event::Reset { stream: StreamId(id) });
        }
        self.events.push_back(Event::Closing { reason });
    }

    /// Ends the connection for a breach.
    fn fail(&mut self, fault: &Fault, output: &mut Output) {
        if !self.ended {
            frame::put_goaway(output.buffer(), self.last_stream, fault.code, fault.debug);
            self.finish(Some(fault.reason));
        }
    }

    /// Forgets a stream; `reset` if the peer has yet to learn that.
    fn remove(&mut self, at: usize, reset: bool) {
        let id = self.streams[at].id;
        if self.undecided == Some(id) {
            self.undecided = None;
        }
        self.streams.remove(at, reset);
        self.answered_last |= self.peer_parts || self.parting != Parting::None;
        if self.streams.is_empty() {
            self.settle();
        }
    }

    /// Handles the next frame; false if it is not whole.
    fn next_frame(&mut self, input: &mut &[u8], now: Instant, output: &mut Output) -> Result<bool, Box<Fault>> {
        if self.assembly.is_empty() {
            if let Some((header, rest)) = input.split_first_chunk::<HEADER_BYTES>() {
                let frame = self.header(header)?;
                if let Some((payload, rest)) = rest.split_at_checked(frame.length) {
                    if self.on_frame(frame, payload, now, output)? == Step::Taken {
                        *input = rest;
                    }
                    return Ok(true);
                }
            }
            self.clocks.assembly_began_at = now;
        }
        if !self.assemble(input)? {
            return Ok(false);
        }
        let assembly = std::mem::take(&mut self.assembly);
        let step = match assembly.split_first_chunk::<HEADER_BYTES>() {
            Some((header, payload)) => self.on_frame(Frame::parse(header), payload, now, output),
            None => Ok(Step::Taken),
        };
        self.assembly = assembly;
        if step? == Step::Taken {
            self.assembly.clear();
        }
        Ok(true)
    }

    /// Moves input to the frame in the making; true once it is whole.
    fn assemble(&mut self, input: &mut &[u8]) -> Result<bool, Box<Fault>> {
        self.fill_assembly(input, HEADER_BYTES);
        let Some(header) = self.assembly.first_chunk() else { return Ok(false) };
        let frame_bytes = HEADER_BYTES + self.header(header)?.length;
        self.fill_assembly(input, frame_bytes);
        Ok(self.assembly.len() == frame_bytes)
    }

    fn fill_assembly(&mut self, input: &mut &[u8], to: usize) {
        let (taken, rest) = input.split_at(to.saturating_sub(self.assembly.len()).min(input.len()));
        self.assembly.extend_from_slice(taken);
        *input = rest;
    }

    fn header(&self, header: &[u8; HEADER_BYTES]) -> Result<Frame, Box<Fault>> {
        let frame = Frame::parse(header);
        if frame.length > settings::frame_bytes_max(&self.limits) as usize {
            return Err(Fault::breach(ErrorCode::FrameSize, "frame is larger than our max frame size"));
        }
        Ok(frame)
    }

    fn on_frame(
        &mut self,
        frame: Frame,
        payload: &[u8],
        now: Instant,
        output: &mut Output,
    ) -> Result<Step, Box<Fault>> {
        if !self.greeted && (frame.kind != kind::SETTINGS || frame.has(flag::ACK)) {
            return Err(Fault::breach(ErrorCode::Protocol, "first frame is not settings"));
        }
        if let Some(block) = &self.block
            && (frame.kind != kind::CONTINUATION || frame.stream != block.stream)
        {
            return Err(Fault::breach(ErrorCode::Protocol, "header block is interrupted by another frame"));
        }
        match frame.kind {
            kind::DATA => return self.on_data(frame, payload, now, output),
            kind::HEADERS => return self.on_headers(frame, payload, now, output),
            kind::CONTINUATION => self.on_continuation(frame, payload, now, output),
            kind::WINDOW_UPDATE => self.on_window_update(frame, payload, now, output),
            kind::RST_STREAM => self.on_reset(frame, payload, now),
            kind::SETTINGS => self.on_settings(frame, payload, now, output),
            kind::PING => self.on_ping(frame, payload, now, output),
            kind::PRIORITY => self.on_priority(frame, now, output),
            kind::GOAWAY => self.on_goaway(frame),
            kind::PUSH_PROMISE => Err(Fault::breach(ErrorCode::Protocol, "a client may not promise a push")),
            _ => self.calm.control(&self.limits, now),
        }?;
        Ok(Step::Taken)
    }
}
