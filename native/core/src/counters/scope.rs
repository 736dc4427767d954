//! One request, counted from the door to its end.

use std::sync::Arc;
use std::time::Instant;

use super::{ModelCounters, ShardCounters, Transport, nanoseconds};
use crate::{Reason, Refusal, Reply, Timing};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// With a result that took this long.
    Answered(Timing),
    /// With a refusal.
    Refused(Reason),
}

impl Verdict {
    /// The verdict of an outcome.
    #[must_use]
    pub fn of(outcome: &Result<Reply, Refusal>) -> Self {
        match outcome {
            Ok(reply) => Self::Answered(reply.timing),
            Err(refusal) => Self::Refused(refusal.reason),
        }
    }
}

/// Place of results among the verdicts; cancelled ones and the catalogue follow.
pub(super) const OK: usize = 0;
const CANCELLED: usize = 1;

pub(super) fn verdict_label(verdict: usize) -> &'static str {
    match verdict {
        OK => "ok",
        CANCELLED => "cancelled",
        reason => Reason::ALL[reason - 2].entry().label,
    }
}

/// Opened where a request is first seen, closed with its verdict; dropped unclosed, its caller has left. It stays on
/// the shard that opened it.
#[derive(Debug)]
pub struct RequestScope {
    counted: Counted,
    transport: Transport,
    opened_at: Instant,
    /// Queued: it is owed an answer.
    is_accepted: bool,
    /// Neither closed nor dropped yet.
    is_open: bool,
    /// When the caller was last known to be there, for the duration of a request that is cancelled.
    seen_at: Instant,
}

/// Whose counters it changes. One pointer: that of a model leads to the shard's.
#[derive(Debug)]
enum Counted {
    Shard(Arc<ShardCounters>),
    Model(Arc<ModelCounters>),
}

impl RequestScope {
    /// A request of a model not yet known.
    #[must_use]
    pub fn open(shard: &Arc<ShardCounters>, transport: Transport, now: Instant) -> Self {
        shard.in_flight_requests.add(1);
        Self::new(Counted::Shard(Arc::clone(shard)), transport, now)
    }

    /// A request of this model.
    #[must_use]
    pub fn open_for(model: &Arc<ModelCounters>, transport: Transport, now: Instant) -> Self {
        model.shard.in_flight_requests.add(1);
        model.in_flight_requests.add(1);
        Self::new(Counted::Model(Arc::clone(model)), transport, now)
    }

    fn new(counted: Counted, transport: Transport, now: Instant) -> Self {
        Self { counted, transport, opened_at: now, is_accepted: false, is_open: true, seen_at: now }
    }

    /// The model is known now; of the same thread. Later calls change nothing.
    pub fn enter(&mut self, model: &Arc<ModelCounters>) {
        if matches!(self.counted, Counted::Shard(_)) {
            model.in_flight_requests.add(1);
            self.counted = Counted::Model(Arc::clone(model));
        }
    }

    /// What it is written in is known now.
    pub fn set_transport(&mut self, transport: Transport) {
        self.transport = transport;
    }

    /// It is complete, its bytes are reserved and it is queued: from now on it is owed an answer.
    pub fn accept(&mut self, now: Instant) {
        self.seen_at = now;
        if !self.is_accepted {
            self.is_accepted = true;
            let shard = self.shard();
            shard.accepted.add(1);
        }
    }

    /// Its caller has left at this time.
    pub fn cancel(mut self, now: Instant) {
        self.seen_at = now;
    }

    /// Its answer is written.
    pub fn close(mut self, verdict: Verdict, now: Instant) {
        if verdict == Verdict::Refused(Reason::Cancelled) {
            return self.cancel(now);
        }
        self.is_open = false;
        let shard = self.shard();
        if self.is_accepted {
            shard.answered.add(1);
        }
        let place = match verdict {
            Verdict::Answered(_) => OK,
            Verdict::Refused(reason) => {
                shard.refused(reason);
                reason as usize + 2
            }
        };
        let (duration, bucket) = self.leave(place, now);
        if let (Verdict::Answered(timing), Counted::Model(model)) = (verdict, &self.counted) {
            let queue = nanoseconds(timing.queue);
            model.queue.observe(queue);
            model.anatomy(self.transport).add(bucket, duration, queue, &timing);
        }
    }

    fn shard(&self) -> &ShardCounters {
        match &self.counted {
            Counted::Shard(shard) => shard,
            Counted::Model(model) => &model.shard,
        }
    }

    /// Not in flight any more. Says how long it was, in nanoseconds, and in which bucket a model counted that.
    fn leave(&self, place: usize, now: Instant) -> (u64, usize) {
        self.shard().in_flight_requests.subtract(1);
        let Counted::Model(model) = &self.counted else { return (0, 0) };
        model.in_flight_requests.subtract(1);
        let duration = nanoseconds(now.saturating_duration_since(self.opened_at));
        (duration, model.requests(self.transport, place).observe(duration))
    }
}

impl Drop for RequestScope {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        if self.is_accepted {
            self.shard().cancelled.add(1);
        }
        self.leave(CANCELLED, self.seen_at);
    }
}
