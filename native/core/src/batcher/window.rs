//! Whom to serve when the most urgent request leaves no time for a full batch.

use std::time::{Duration, Instant};

use super::queue::{Entry, Queue};
use crate::Latency;

/// A queue whose first request cannot wait for all that could run with it.
pub(crate) struct View<'a> {
    pub(crate) queue: &'a Queue,
    pub(crate) latency: &'a Latency,
    /// Rows that the batch may have of this queue, and those that go to others besides.
    pub(crate) rows_max: u32,
    pub(crate) reserved: u32,
    /// Otherwise each request counts as one row.
    pub(crate) counts_rows: bool,
    pub(crate) now: Instant,
    /// When a lane takes what this batch leaves, if not the one that runs it.
    pub(crate) other_lane: Option<Duration>,
    /// Rows of this class and of those before it that arrive.
    pub(crate) rows_per_s: f64,
    /// More is asked for than can be served.
    pub(crate) is_overloaded: bool,
    /// Those behind the first count at all.
    pub(crate) weighs: bool,
}

/// What to do with such a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Requests to give up, from the front.
    pub(crate) shed: usize,
    /// Requests behind those that are passed over: another lane may take them.
    pub(crate) passed: usize,
    /// Rows to run of those behind both.
    pub(crate) rows: u32,
}

impl View<'_> {
    /// A small first batch where nobody is lost by it. Otherwise the first requests that leave a full batch behind them
    /// enough time begin it, and those before them are given up: serving the dead would make all others late. Who can
    /// still ride when another lane is free only steps aside.
    pub(crate) fn window(&self) -> Window {
        let Some(head) = self.queue.front() else { return Window { shed: 0, passed: 0, rows: 1 } };
        let waiting = self.waiting();
        let slack = head.due.saturating_duration_since(self.now);
        let fitting = self.latency.rows_fitting(slack, self.rows_max + self.reserved).saturating_sub(self.reserved);
        let rows = fitting.clamp(1, waiting.clamp(1, self.rows_max));
        let small = Window { shed: 0, passed: 0, rows };
        if !self.weighs || !self.is_overloaded && self.loses_nobody(rows, waiting) {
            return small;
        }
        match self.later(waiting) {
            Some(later) if !self.is_overloaded || self.rate(later.rows) > self.rate(rows) => later,
            _ => small,
        }
    }

    /// Whether those behind a first batch of these rows can still ride in the next.
    fn loses_nobody(&self, rows: u32, waiting: u32) -> bool {
        let mut before = 0;
        let next = self.queue.iter().find(|entry| {
            let is_next = before >= rows;
            before += self.weight(entry);
            is_next
        });
        let Some(next) = next else { return true };
        let begin = self.next_begin(self.latency.cautious(rows + self.reserved));
        let rest = waiting.saturating_sub(rows).clamp(1, self.rows_max);
        next.due >= self.now + begin + self.latency.cautious(rest + self.reserved)
    }

    /// The first request whose slack holds a batch of it and all behind it, as far as they fit.
    fn later(&self, waiting: u32) -> Option<Window> {
        let (mut left, mut rows, mut ends_at) = (waiting, 0, self.now);
        for (shed, entry) in self.queue.iter().enumerate() {
            let rows_here = left.clamp(1, self.rows_max);
            if rows_here != rows {
                rows = rows_here;
                ends_at = self.now + self.latency.cautious(rows + self.reserved);
            }
            if ends_at <= entry.due {
                return Some(self.split(shed, rows));
            }
            left = left.saturating_sub(self.weight(entry));
        }
        None
    }

    /// Whom of those before a batch of these rows to give up, and whom to pass over.
    fn split(&self, before: usize, rows: u32) -> Window {
        let run = self.latency.cautious(rows + self.reserved);
        let begin = self.next_begin(run);
        if begin >= run {
            return Window { shed: before, passed: 0, rows };
        }
        // The oldest who survive this run go first: the youngest have time for the other lane.
        let before = self.queue.count_before(self.now + run).min(before);
        // Whoever is passed over rides with those who come until then.
        let joining = self.rows_per_s * begin.as_secs_f64();
        let riding = (joining as u32).saturating_add(1).min(self.rows_max);
        let shed = self.queue.count_before(self.now + begin + self.latency.expected(riding)).min(before);
        Window { shed, passed: before - shed, rows }
    }

    /// How long until a lane takes what a batch leaves that runs for this long.
    fn next_begin(&self, run: Duration) -> Duration {
        self.other_lane.map_or(run, |other| run.min(other))
    }

    fn rate(&self, rows: u32) -> f64 {
        f64::from(rows) / self.latency.expected(rows + self.reserved).as_secs_f64()
    }

    fn waiting(&self) -> u32 {
        let waiting = if self.counts_rows { self.queue.rows() } else { self.queue.len() };
        u32::try_from(waiting).unwrap_or(u32::MAX)
    }

    fn weight(&self, entry: &Entry) -> u32 {
        if self.counts_rows { entry.item.row_count() } else { 1 }
    }
}
