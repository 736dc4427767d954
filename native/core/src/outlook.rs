//! What a newcomer can hope for, for threads that do not own the queue.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::{Policy, Reason, Refusal};

/// The least wait that a refusal names.
const RETRY_MIN: Duration = Duration::from_millis(10);

/// A copy of [`Batcher::outlook`](crate::Batcher::outlook) for all classes of one model, read without a lock before a
/// request's body is. It may be a little old: `offer` decides, this only spares work.
#[derive(Debug)]
pub struct Outlook {
    /// Times are kept as nanoseconds from here.
    epoch: Instant,
    /// By class: when a newcomer would be answered; 0 where it would be served at once.
    answered_at: [AtomicU64; Policy::PRIORITIES_MAX],
    /// By class: requests refused here that the Batcher has not been told of.
    refused: [AtomicU64; Policy::PRIORITIES_MAX],
}

impl Outlook {
    /// The outlook of an idle model. No time before `epoch` can be published.
    #[must_use]
    pub fn new(epoch: Instant) -> Self {
        let zeros = || [const { AtomicU64::new(0) }; Policy::PRIORITIES_MAX];
        Self { epoch, answered_at: zeros(), refused: zeros() }
    }

    /// Tells when a newcomer of this class would be answered.
    pub fn publish(&self, priority: u8, answered_at: Option<Instant>) {
        let since = answered_at.map_or(0, |answered_at| answered_at.saturating_duration_since(self.epoch).as_nanos());
        let nanoseconds = u64::try_from(since).unwrap_or(u64::MAX);
        let published = &self.answered_at[Policy::class(priority)];
        // Nearly always nothing changes, and a store would take the line from the readers.
        if published.load(Ordering::Relaxed) != nanoseconds {
            published.store(nanoseconds, Ordering::Relaxed);
        }
    }

    /// Whether a request of this class can be answered by its deadline. One that is refused is counted, and
    /// [`Batcher::publish`](crate::Batcher::publish) learns of it.
    ///
    /// # Errors
    /// `Overloaded`, where its answer would come later.
    pub fn check(&self, model: &str, priority: u8, deadline: Instant, now: Instant) -> Result<(), Refusal> {
        let nanoseconds = self.answered_at[Policy::class(priority)].load(Ordering::Relaxed);
        if nanoseconds == 0 {
            return Ok(());
        }
        let answered_at = self.epoch + Duration::from_nanos(nanoseconds);
        if answered_at <= deadline || answered_at <= now {
            return Ok(());
        }
        self.refused[Policy::class(priority)].fetch_add(1, Ordering::Relaxed);
        let wait = answered_at.saturating_duration_since(now);
        Err(overloaded(model, wait, deadline.saturating_duration_since(now), wait))
    }

    /// How many of a class were refused since this was asked last.
    pub(crate) fn take_refused(&self, priority: u8) -> u64 {
        let refused = &self.refused[Policy::class(priority)];
        if refused.load(Ordering::Relaxed) == 0 { 0 } else { refused.swap(0, Ordering::Relaxed) }
    }
}

/// The answer of a request that would be answered after `wait`, and may take no longer than `allowed`.
pub(crate) fn overloaded(model: &str, wait: Duration, allowed: Duration, retry_after: Duration) -> Refusal {
    let retry_after = retry_after.max(RETRY_MIN);
    // One allocation: under overload this text is written more often than anything else.
    let mut text = String::with_capacity(model.len() + 96);
    let (wait, allowed) = (Milliseconds(wait), Milliseconds(allowed));
    let retry_ms = retry_after.as_millis();
    // Writing to a text cannot fail.
    let _written =
        write!(text, "'{model}' would answer in {wait}, the deadline allows {allowed}; retry in {retry_ms} ms");
    Refusal::new(Reason::Overloaded, text).retry_after(retry_after)
}

/// Whole milliseconds, or three digits of a time so short that they would say nothing.
struct Milliseconds(Duration);

impl std::fmt::Display for Milliseconds {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const WHOLE_FROM: Duration = Duration::from_millis(10);
        if self.0 >= WHOLE_FROM || self.0.is_zero() {
            write!(formatter, "{} ms", self.0.as_millis())
        } else {
            write!(formatter, "{:.3} ms", self.0.as_secs_f64() * 1e3)
        }
    }
}

#[cfg(test)]
mod tests;
