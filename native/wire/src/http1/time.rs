//! The limits of time.

use std::time::{Duration, Instant};

use super::head::Plan;
use super::{Http1, State};
use crate::Output;
use crate::event::{CloseReason, Violation};

/// The times from which limits run.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started_at: Instant,
    /// When the state's own time began: idleness, the first byte of a head, a body's head, an answer before its body.
    pub since: Instant,
    /// `since` is the first byte of a head.
    pub head_began: bool,
    /// When the socket last took bytes, or when there was first something to take.
    pub stall_since: Instant,
}

/// The connection is to go once the request in hand is answered.
#[derive(Clone, Copy, Debug)]
pub struct Leave {
    pub since: Instant,
    pub reason: Option<CloseReason>,
}

impl Clock {
    pub fn new(now: Instant, head_began: bool) -> Self {
        Self { started_at: now, since: now, head_began, stall_since: now }
    }
}

impl Http1 {
    /// See [`Connection::on_time`](crate::Connection::on_time).
    pub fn on_time(&mut self, now: Instant, output: &mut Output) {
        let limits = self.limits.clone();
        if !output.is_empty() && passed(self.clock.stall_since, limits.write_stall_max, now) {
            output.clear();
            self.end(Some(CloseReason::WriteTimeout));
            return;
        }
        let aged =
            !limits.connection_age_max.is_zero() && passed(self.clock.started_at, limits.connection_age_max, now);
        if aged && self.leave.is_none() {
            self.leave(Leave { since: now, reason: Some(CloseReason::Age) });
        }
        if let Some(leave) = self.leave
            && self.in_hand()
            && passed(leave.since, limits.connection_age_grace_max, now)
        {
            self.end(leave.reason);
        }
        self.check_state(now, output);
    }

    /// See [`Connection::wrote`](crate::Connection::wrote).
    pub fn wrote(&mut self, now: Instant, output: &Output) {
        self.clock.stall_since = now;
        if let State::Lingering(linger) = &mut self.state {
            linger.wrote(now, output);
        }
        if output.is_empty() && self.idle() {
            self.clock.since = now;
        }
    }

    fn check_state(&mut self, now: Instant, output: &Output) {
        let (since, limits) = (self.clock.since, &self.limits);
        match &mut self.state {
            State::Head if self.ahead.is_empty() => {
                if output.is_empty() && passed(since, limits.connection_idle_max, now) {
                    self.end(Some(CloseReason::Idle));
                }
            }
            State::Head => {
                if self.clock.head_began && passed(since, limits.header_read_max, now) {
                    let found = self.ahead.bytes().len() as u64;
                    (self.stream, self.plan) = (self.stream.wrapping_add(1), Plan::NONE);
                    self.refuse_late(found, None, now);
                }
            }
            State::Body(body) if !body.asked() => {
                let (found, expected) = (body.received_bytes() as u64, body.expected_bytes());
                let elapsed = now.saturating_duration_since(since);
                let due = u128::from(limits.body_bytes_per_second_min) * elapsed.as_millis() / 1_000;
                let slow = elapsed >= limits.body_grace_max && u128::from(found) < due;
                if slow || elapsed >= limits.body_read_max {
                    self.refuse_late(found, expected.map(|bytes| bytes as u64), now);
                }
            }
            State::Discarding(_) => {
                // The answer is out; a body that nobody wants gets no more time than the grace of one that is.
                if passed(since, limits.body_grace_max, now) {
                    self.end(None);
                }
            }
            State::Lingering(linger) => {
                if linger.is_over(now, output) {
                    self.state = State::Ended;
                }
            }
            State::Told | State::Body(_) | State::Answering | State::Refused(_) | State::Ended => {}
        }
    }

    fn refuse_late(&mut self, found: u64, expected: Option<u64>, now: Instant) {
        let elapsed = now.saturating_duration_since(self.clock.since);
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        self.ahead.clear();
        self.state = State::Refused(Some(Violation::ReadTimeout { found, expected, elapsed_ms }));
    }
}

fn passed(since: Instant, limit: Duration, now: Instant) -> bool {
    now.saturating_duration_since(since) >= limit
}
