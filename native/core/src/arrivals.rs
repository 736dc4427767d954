//! How many rows arrive per second.

use std::time::Instant;

#[cfg(test)]
mod tests;

/// Rows that the estimate remembers: one more weighs a two-hundredth.
const MEMORY_ROWS: f64 = 200.0;
/// A silence counts as at most this many usual gaps: an hour without requests is forgotten after as many rows, and a
/// rate that fell a thousandfold is known after some twenty.
const SILENCE_GAPS_MAX: f64 = 100.0;
/// Nanoseconds between rows; no estimate is faster than 10^12 rows a second.
const GAP_NS_MIN: f64 = 1e-3;

/// An average of the gaps between rows, the newest weighing most.
///
/// Rows of one instant are one arrival: a tick that brings many shows how many there were only when the next one comes.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    last: Option<Instant>,
    /// Rows that arrived at `last`.
    rows_at_last: f64,
    /// Mean nanoseconds from one row to the next.
    gap_ns: f64,
    /// Rows that the mean was learned from, as long as they are fewer than it remembers.
    seen: f64,
}

impl Arrivals {
    /// Nobody came yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A request of these rows arrived. A time before the last one counts as that.
    pub fn observe(&mut self, rows: u32, now: Instant) {
        let rows = f64::from(rows.max(1));
        let Some(last) = self.last else {
            (self.last, self.rows_at_last) = (Some(now), rows);
            return;
        };
        let silence = now.saturating_duration_since(last);
        if silence.is_zero() {
            self.rows_at_last += rows;
            return;
        }
        // Without the detour over 128 bits.
        self.learn(1e9 * silence.as_secs() as f64 + f64::from(silence.subsec_nanos()));
        (self.last, self.rows_at_last) = (Some(now), rows);
    }

    fn learn(&mut self, silence_ns: f64) {
        let mut gap_ns = (silence_ns / self.rows_at_last).max(GAP_NS_MIN);
        if self.seen > 0.0 {
            gap_ns = gap_ns.min(SILENCE_GAPS_MAX * self.gap_ns);
        }
        let weight = self.rows_at_last / (self.seen.min(MEMORY_ROWS - 1.0) + self.rows_at_last);
        self.gap_ns += weight * (gap_ns - self.gap_ns);
        self.seen = (self.seen + self.rows_at_last).min(MEMORY_ROWS);
    }

    /// Zero until rows came at two different times.
    #[must_use]
    pub fn rows_per_s(&self) -> f64 {
        if self.seen > 0.0 { 1e9 / self.gap_ns.max(GAP_NS_MIN) } else { 0.0 }
    }

    /// When somebody came last.
    #[must_use]
    pub fn last(&self) -> Option<Instant> {
        self.last
    }
}
