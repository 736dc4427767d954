//! Limits of time: handshake, heads, bodies, stalls, signs of life, idleness and age.

use std::time::{Duration, Instant};

use super::fault::{ErrorCode, Fault};
use super::frame::{self, kind};
use super::stream::{Receiving, Stream};
use super::{Http2, Parting};
use crate::event::{CloseReason, Event, StreamId, Violation};
use crate::limits::Limits;
use crate::output::Output;

/// Tells the answer to our question whether the peer has heard that we part.
pub(super) const PARTING_PING: &[u8; 8] = b"parting?";
const LIVING_PING: &[u8; 8] = b"living??";

/// How long the peer has to answer [`PARTING_PING`].
const PARTING_MAX: Duration = Duration::from_secs(1);

/// When things last happened.
#[derive(Debug)]
pub(super) struct Clocks {
    started_at: Instant,
    heard_at: Instant,
    /// The question whether the peer lives is out since then.
    asked_at: Option<Instant>,
    /// Meaningful while a frame is put together.
    pub(super) assembly_began_at: Instant,
    /// No stream was open at this and every later look.
    idle_since: Option<Instant>,
    /// Output waited at this and every later look.
    output_since: Option<Instant>,
    wrote_at: Instant,
    /// The input ended: the peer's silence means nothing any more.
    deaf: bool,
}

impl Clocks {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            started_at: now,
            heard_at: now,
            asked_at: None,
            assembly_began_at: now,
            idle_since: None,
            output_since: None,
            wrote_at: now,
            deaf: false,
        }
    }

    /// The peer sent something.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.asked_at = None;
    }

    /// Nothing more will be heard.
    pub(super) fn deafen(&mut self) {
        self.deaf = true;
        self.asked_at = None;
    }

    pub(super) fn is_deaf(&self) -> bool {
        self.deaf
    }

    /// A stream was opened.
    pub(super) fn busy(&mut self) {
        self.idle_since = None;
    }
}

fn passed(since: Instant, now: Instant, limit: Duration) -> bool {
    now.saturating_duration_since(since) >= limit
}

impl Http2 {
    /// See [`Connection::on_time`](crate::Connection::on_time).
    pub(crate) fn on_time(&mut self, now: Instant, output: &mut Output) {
        if self.ended {
            return self.check_end(now, output);
        }
        if self.output_stalled(now, output) {
            return self.give_up(CloseReason::WriteTimeout, output);
        }
        if let Err(fault) = self.check_opening(now) {
            return self.fail(&fault, output);
        }
        if !self.check_life(now, output) {
            return self.give_up(CloseReason::DeadPeer, output);
        }
        self.check_streams(now, output);
        self.check_idle(now, output);
        self.check_age(now, output);
    }

    pub(crate) fn wrote(&mut self, now: Instant, output: &mut Output) {
        self.clocks.wrote_at = now;
        if let Some(linger) = &mut self.linger {
            linger.wrote(now, output);
        }
    }

    /// Ends the connection of a peer that will take nothing more.
    fn give_up(&mut self, reason: CloseReason, output: &mut Output) {
        output.clear();
        self.finish(Some(reason));
    }

    /// What was to be said when everything ended is taken in time, and so is the peer's own end.
    fn check_end(&mut self, now: Instant, output: &mut Output) {
        if self.output_stalled(now, output) {
            output.clear();
            self.linger = None;
        } else {
            self.linger.take_if(|linger| linger.is_over(now, output));
        }
    }

    fn output_stalled(&mut self, now: Instant, output: &Output) -> bool {
        if output.is_empty() {
            self.clocks.output_since = None;
            return false;
        }
        let since = *self.clocks.output_since.get_or_insert(now);
        passed(since.max(self.clocks.wrote_at), now, self.limits.write_stall_max)
    }

    /// SETTINGS, and each head, come in time.
    fn check_opening(&self, now: Instant) -> Result<(), Box<Fault>> {
        if !self.greeted && passed(self.clocks.started_at, now, self.limits.handshake_max) {
            let (code, reason) = (ErrorCode::Protocol, CloseReason::Handshake);
            return Err(Box::new(Fault { code, reason, debug: "no settings in time" }));
        }
        let frame_kind = self.assembly.get(3).copied();
        let head_since = match &self.block {
            Some(block) => Some(block.began_at),
            None if self.assembly.is_empty() || frame_kind == Some(kind::DATA) || self.undecided.is_some() => None,
            None => Some(self.clocks.assembly_began_at),
        };
        if head_since.is_some_and(|since| passed(since, now, self.limits.header_read_max)) {
            return Err(Fault::flood("a head comes too slowly"));
        }
        Ok(())
    }

    /// False once the peer is taken for dead.
    fn check_life(&mut self, now: Instant, output: &mut Output) -> bool {
        if let Some(asked_at) = self.clocks.asked_at {
            return !passed(asked_at, now, self.limits.keepalive_timeout_max);
        }
        let silent = passed(self.clocks.heard_at, now, self.limits.keepalive_interval);
        // While the owner decides we do not listen, so that silence means nothing.
        if silent && !self.streams.is_empty() && self.undecided.is_none() && !self.clocks.deaf {
            frame::put_ping(output.buffer(), 0, LIVING_PING);
            self.clocks.asked_at = Some(now);
        }
        true
    }

    fn check_streams(&mut self, now: Instant, output: &mut Output) {
        let mut at = 0;
        while at < self.streams.len() {
            let stream = &mut self.streams[at];
            let id = StreamId(stream.id);
            if stream.queue.as_ref().is_some_and(|queue| passed(queue.moved_at, now, self.limits.write_stall_max)) {
                frame::put_reset(output.buffer(), stream.id, ErrorCode::Cancel);
                self.events.push_back(Event::Reset { stream: id });
                self.events.push_back(Event::Dropped { reason: CloseReason::WriteTimeout });
                self.remove(at, true);
                continue;
            }
            if self.undecided != Some(stream.id)
                && let Some(violation) = slow(stream, now, &self.limits)
            {
                stream.receiving = Receiving::Dropping;
                stream.body.clear();
                self.events.push_back(Event::Violation { stream: id, violation });
            }
            at += 1;
        }
    }

    fn check_idle(&mut self, now: Instant, output: &mut Output) {
        if !self.streams.is_empty() || self.ended {
            return;
        }
        if self.clocks.idle_since.is_some() && self.assembly.is_empty() && self.events.is_empty() {
            self.assembly = Vec::new();
            self.events = std::collections::VecDeque::new();
            self.streams.shrink();
        }
        let since = *self.clocks.idle_since.get_or_insert(now);
        if passed(since, now, self.limits.connection_idle_max) {
            frame::put_goaway(output.buffer(), self.last_stream, ErrorCode::None, "");
            self.finish(Some(CloseReason::Idle));
        }
    }

    fn check_age(&mut self, now: Instant, output: &mut Output) {
        let age_max = self.limits.connection_age_max;
        let grace_max = self.limits.connection_age_grace_max;
        match self.parting {
            Parting::None if !age_max.is_zero() && passed(self.clocks.started_at, now, age_max) => {
                self.parting_reason = Some(CloseReason::Age);
                self.drain(now, output);
            }
            Parting::Announced { at } if passed(at, now, PARTING_MAX) => self.part(at, output),
            Parting::Final { at } if passed(at, now, grace_max) => self.finish(self.parting_reason),
            Parting::None | Parting::Announced { .. } | Parting::Final { .. } => {}
        }
    }
}

/// Whether a body comes too slowly.
fn slow(stream: &Stream, now: Instant, limits: &Limits) -> Option<Violation> {
    if stream.receiving != Receiving::Taking {
        return None;
    }
    let elapsed = now.saturating_duration_since(stream.begun_at);
    let found = stream.body.received();
    let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    let least = limits.body_bytes_per_second_min.saturating_mul(elapsed_ms) / 1_000;
    let too_slow = elapsed >= limits.body_read_max || (elapsed >= limits.body_grace_max && found < least);
    too_slow.then(|| Violation::ReadTimeout { found, expected: stream.body.expected(), elapsed_ms })
}
