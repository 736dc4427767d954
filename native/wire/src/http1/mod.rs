//! HTTP/1.0 and HTTP/1.1: one request in hand at a time, pipelined ones wait in a bounded read-ahead.

mod ahead;
mod answer;
mod body;
mod chunks;
mod fields;
mod head;
mod time;

use std::sync::Arc;
use std::time::Instant;

use ahead::ReadAhead;
use answer::Told;
use body::{Body, Progress};
use head::{BodyPlan, HeadReader, Persistence, Plan, Reading};
use time::{Clock, Leave};

use crate::event::{CloseReason, Event, StreamId, Violation};
use crate::linger::Linger;
use crate::{Limits, Output, Reply};

/// One HTTP/1 connection.
#[derive(Debug)]
pub struct Http1 {
    limits: Arc<Limits>,
    state: State,
    heads: HeadReader,
    ahead: ReadAhead,
    /// The number of the request in hand, or of the last one.
    stream: u32,
    /// What the head in hand asked for.
    plan: Plan,
    /// Something followed the head at once, so the peer does not wait for `100 Continue`.
    body_began: bool,
    clock: Clock,
    /// Set once the connection is to end with the request in hand.
    leave: Option<Leave>,
    /// The peer sends no more.
    input_ended: bool,
    /// Told before anything else once the connection is ending.
    reset: Option<StreamId>,
    /// An end that is not yet told, and its reason.
    closing: Option<Option<CloseReason>>,
}

#[derive(Debug)]
enum State {
    /// Between requests, or within a head.
    Head,
    /// A head was told; the owner accepts it or answers at once.
    Told,
    /// The body is being read.
    Body(Body),
    /// The request is the owner's; its answer is awaited.
    Answering,
    /// A broken rule, told or still to tell; its answer is awaited, and nothing is read any more.
    Refused(Option<Violation>),
    /// Answered before the body was read: so many bytes of it are dropped, then the next request is read.
    Discarding(u64),
    /// Answered, and closing; what still comes is dropped for a while after the answer was written.
    Lingering(Linger),
    /// Over.
    Ended,
}

/// What a step of `advance` came to.
enum Step {
    Tell(Event),
    Again,
    Wait,
}

impl Http1 {
    /// A connection that began with these bytes, at this time.
    pub fn new(limits: Arc<Limits>, prefix: &[u8], now: Instant) -> Self {
        Self {
            limits,
            state: State::Head,
            heads: HeadReader::default(),
            ahead: ReadAhead::of(prefix),
            stream: 0,
            plan: Plan::NONE,
            body_began: false,
            clock: Clock::new(now, !prefix.is_empty()),
            leave: None,
            input_ended: false,
            reset: None,
            closing: None,
        }
    }

    /// See [`Connection::advance`](crate::Connection::advance).
    pub fn advance(&mut self, input: &mut &[u8], now: Instant, output: &Output) -> Option<Event> {
        loop {
            let step = match &mut self.state {
                State::Head => self.advance_head(input, now, output),
                State::Body(_) => self.advance_body(input),
                State::Told | State::Answering => {
                    self.ahead.fill(input, self.limits.connection_read_bytes_max);
                    Step::Wait
                }
                State::Discarding(_) => self.discard(input, now),
                State::Refused(violation) => {
                    *input = &[];
                    let stream = StreamId(self.stream);
                    violation.take().map_or(Step::Wait, |violation| Step::Tell(Event::Violation { stream, violation }))
                }
                State::Lingering(_) | State::Ended => {
                    *input = &[];
                    self.tell_end()
                }
            };
            match step {
                Step::Tell(event) => return Some(event),
                Step::Again => {}
                Step::Wait => return None,
            }
        }
    }

    /// See [`Connection::goes_on`](crate::Connection::goes_on).
    pub fn goes_on(&self) -> bool {
        match self.state {
            State::Head => !self.ahead.is_empty() || self.input_ended || self.leave.is_some(),
            // What comes meanwhile is kept.
            State::Told | State::Answering => false,
            _ => true,
        }
    }

    /// See [`Connection::wants_input`](crate::Connection::wants_input).
    pub fn wants_input(&self) -> bool {
        match self.state {
            State::Head => self.ahead.room(self.head_bytes_max()) > 0,
            State::Body(ref body) => !body.asked() || self.ahead.room(self.limits.connection_read_bytes_max) > 0,
            State::Told | State::Answering => self.ahead.room(self.limits.connection_read_bytes_max) > 0,
            State::Discarding(_) | State::Lingering(_) => true,
            State::Refused(_) | State::Ended => false,
        }
    }

    /// See [`Connection::accept`](crate::Connection::accept).
    pub fn accept(&mut self, stream: StreamId, grant: usize, output: &mut Output) {
        if stream.0 != self.stream {
            return;
        }
        match &mut self.state {
            State::Told => {
                if self.waits_for_continue() {
                    output.buffer().extend_from_slice(answer::CONTINUE);
                }
                self.state = State::Body(Body::new(self.plan.body, grant));
            }
            State::Body(body) => body.grant(grant),
            _ => {}
        }
    }

    /// See [`Connection::reply`](crate::Connection::reply).
    pub fn reply(&mut self, stream: StreamId, reply: &Reply<'_>, now: Instant, output: &mut Output) {
        if stream.0 != self.stream || !self.in_hand() {
            return;
        }
        let unread = self.unread_bytes();
        let lasts = unread.is_some_and(|bytes| bytes <= self.limits.discard_bytes_max as u64)
            && self.plan.persistence != Persistence::Close
            && !reply.close
            && self.leave.is_none()
            && !(self.input_ended && self.ahead.is_empty());
        let told = match (lasts, self.plan.persistence) {
            (false, _) => Told::Close,
            (true, Persistence::KeepAsked) => Told::KeepAlive,
            (true, _) => Told::Nothing,
        };
        if output.is_empty() {
            self.clock.stall_since = now;
        }
        answer::write(reply, told, !self.plan.head_only, output);
        self.clock.since = now;
        self.state = match unread {
            Some(0) if lasts => State::Head,
            Some(unread) if lasts => State::Discarding(unread),
            // Closing with bytes of the peer unread would make its system drop the answer.
            _ if !self.input_ended && (unread != Some(0) || !self.ahead.is_empty()) => {
                State::Lingering(Linger::default())
            }
            _ => State::Ended,
        };
        if !lasts {
            self.ahead.clear();
            self.closing = Some(self.leave.and_then(|leave| leave.reason));
        }
    }

    /// See [`Connection::drain`](crate::Connection::drain).
    pub fn drain(&mut self, now: Instant) {
        self.leave(Leave { since: now, reason: None });
    }

    /// See [`Connection::input_ended`](crate::Connection::input_ended). What the end means for a request that is
    /// half read is found by the next `advance`.
    pub fn input_ended(&mut self) {
        self.input_ended = true;
        if matches!(self.state, State::Lingering(_)) {
            self.state = State::Ended;
        }
    }

    /// See [`Connection::open_requests`](crate::Connection::open_requests).
    pub fn open_requests(&self) -> usize {
        usize::from(self.in_hand())
    }

    /// See [`Connection::held_bytes`](crate::Connection::held_bytes).
    pub fn held_bytes(&self) -> usize {
        let body = if let State::Body(body) = &self.state { body.held_bytes() } else { 0 };
        self.ahead.held_bytes() + self.heads.held_bytes() + body
    }

    /// See [`Connection::ended`](crate::Connection::ended).
    pub fn ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// See [`Connection::lingering`](crate::Connection::lingering).
    pub fn lingering(&self) -> bool {
        matches!(self.state, State::Lingering(_))
    }

    fn in_hand(&self) -> bool {
        matches!(self.state, State::Told | State::Body(_) | State::Answering | State::Refused(_))
    }

    /// Between requests with nothing of the next one read.
    fn idle(&self) -> bool {
        matches!(self.state, State::Head) && self.ahead.is_empty()
    }

    /// The most that one head can take before it breaks a limit, or what may be read ahead if that is more.
    fn head_bytes_max(&self) -> usize {
        let head_bytes_max = self.limits.request_line_bytes_max + self.limits.header_bytes_max + 1;
        head_bytes_max.max(self.limits.connection_read_bytes_max)
    }

    fn waits_for_continue(&self) -> bool {
        matches!(self.state, State::Told) && self.plan.continues && !self.body_began
    }

    /// Bytes of the body in hand that have not been read; `None` where that is not known, or whether they come at all.
    fn unread_bytes(&self) -> Option<u64> {
        match &self.state {
            State::Told if self.waits_for_continue() => None,
            State::Told => match self.plan.body {
                BodyPlan::Length(length) => Some(length),
                BodyPlan::Chunked => None,
            },
            State::Body(body) => body.expected_bytes().map(|expected| (expected - body.received_bytes()) as u64),
            State::Refused(_) => None,
            _ => Some(0),
        }
    }

    fn advance_head(&mut self, input: &mut &[u8], now: Instant, output: &Output) -> Step {
        let read = if self.ahead.is_empty() {
            self.heads.read(input, &self.limits)
        } else {
            self.ahead.fill(input, self.head_bytes_max());
            self.heads.read(self.ahead.bytes(), &self.limits)
        };
        let (head, plan) = match read {
            Err(violation) => {
                self.plan = Plan::NONE;
                return self.refuse_head(violation);
            }
            Ok(Reading { taken, found: None }) => return self.wait_for_head(taken, input, now),
            Ok(Reading { taken, found: Some(found) }) => {
                self.skip(taken, input);
                found
            }
        };
        self.clock.head_began = false;
        self.plan = plan;
        let allowed = self.limits.request_body_bytes_max as u64;
        if let BodyPlan::Length(found) = plan.body
            && found > allowed
        {
            return self.refuse_head(Violation::BodyTooLarge { found, allowed });
        }
        self.stream = self.stream.wrapping_add(1);
        self.clock.since = now;
        self.body_began = !input.is_empty() || !self.ahead.is_empty();
        if plan.continues && output.is_empty() {
            self.clock.stall_since = now;
        }
        let end = plan.body == BodyPlan::Length(0);
        self.state = if end { State::Answering } else { State::Told };
        Step::Tell(Event::Head { stream: StreamId(self.stream), head, end })
    }

    /// No whole head is here. Keeps what there is, or ends the connection where nothing more is to come.
    fn wait_for_head(&mut self, taken: usize, input: &mut &[u8], now: Instant) -> Step {
        if taken > 0 {
            self.skip(taken, input);
            return Step::Again;
        }
        self.ahead.fill(input, self.head_bytes_max());
        if self.input_ended || (self.leave.is_some() && self.ahead.is_empty()) {
            self.end(self.leave.and_then(|leave| leave.reason));
            return Step::Again;
        }
        if !self.ahead.is_empty() {
            self.ahead.compact();
            if !self.clock.head_began {
                (self.clock.head_began, self.clock.since) = (true, now);
            }
        }
        Step::Wait
    }

    fn advance_body(&mut self, input: &mut &[u8]) -> Step {
        let State::Body(body) = &mut self.state else { return Step::Wait };
        let progress = if self.ahead.is_empty() {
            body.take(input, &self.limits)
        } else {
            let mut bytes = self.ahead.bytes();
            let before = bytes.len();
            let progress = body.take(&mut bytes, &self.limits);
            let taken = before - bytes.len();
            self.ahead.consume(taken);
            progress
        };
        let stream = StreamId(self.stream);
        match progress {
            Ok(Progress::Done(body)) => {
                self.state = State::Answering;
                Step::Tell(Event::Body { stream, body, compressed: false })
            }
            Ok(Progress::Grow(bytes)) => Step::Tell(Event::Grow { stream, bytes }),
            Ok(Progress::More) if !input.is_empty() => Step::Again,
            Ok(Progress::More) => {
                if self.input_ended {
                    self.end(None);
                    return Step::Again;
                }
                Step::Wait
            }
            Ok(Progress::Asked) => {
                self.ahead.fill(input, self.limits.connection_read_bytes_max);
                Step::Wait
            }
            Err(violation) => Step::Tell(self.refuse(violation)),
        }
    }

    fn discard(&mut self, input: &mut &[u8], now: Instant) -> Step {
        let State::Discarding(left) = &mut self.state else { return Step::Wait };
        let here = if self.ahead.is_empty() { input.len() } else { self.ahead.bytes().len() };
        let taken = here.min(usize::try_from(*left).unwrap_or(usize::MAX));
        *left -= taken as u64;
        if *left == 0 {
            self.state = State::Head;
            self.clock.since = now;
        } else if taken == 0 {
            if self.input_ended {
                self.end(None);
                return Step::Again;
            }
            return Step::Wait;
        }
        self.skip(taken, input);
        Step::Again
    }

    /// Drops bytes from the front of what is unread.
    fn skip(&mut self, bytes: usize, input: &mut &[u8]) {
        if self.ahead.is_empty() {
            *input = &input[bytes..];
        } else {
            self.ahead.consume(bytes);
        }
    }

    /// Refuses something that no event has told of yet.
    fn refuse_head(&mut self, violation: Violation) -> Step {
        self.stream = self.stream.wrapping_add(1);
        Step::Tell(self.refuse(violation))
    }

    fn refuse(&mut self, violation: Violation) -> Event {
        self.state = State::Refused(None);
        self.ahead.clear();
        Event::Violation { stream: StreamId(self.stream), violation }
    }

    fn leave(&mut self, leave: Leave) {
        self.leave.get_or_insert(leave);
        if self.idle() {
            self.end(leave.reason);
        }
    }

    /// Ends the connection, and the request in hand with it.
    fn end(&mut self, reason: Option<CloseReason>) {
        if self.in_hand() {
            self.reset = Some(StreamId(self.stream));
        }
        self.state = State::Ended;
        self.ahead.clear();
        self.closing = Some(reason);
    }

    fn tell_end(&mut self) -> Step {
        if let Some(stream) = self.reset.take() {
            return Step::Tell(Event::Reset { stream });
        }
        match self.closing.take() {
            Some(reason) => Step::Tell(Event::Closing { reason }),
            None => Step::Wait,
        }
    }
}

#[cfg(test)]
mod tests;
