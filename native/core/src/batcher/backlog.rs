//! How much waits, in all and by class.

use crate::{Item, Policy};

/// What waits in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queued {
    /// Requests; one that is cut counts until its last row has left.
    pub requests: usize,
    /// Their rows.
    pub rows: usize,
    /// Bytes of their inputs.
    pub bytes: usize,
}

impl std::ops::Add for Queued {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { requests: self.requests + other.requests, rows: self.rows + other.rows, bytes: self.bytes + other.bytes }
    }
}

/// Sums over the queues of a model, so that no decision adds them up.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    queued: Queued,
    requests: [usize; Policy::PRIORITIES_MAX],
    rows: [usize; Policy::PRIORITIES_MAX],
    /// One bit per class in which requests wait.
    waiting: u8,
}

impl Backlog {
    pub(crate) fn add(&mut self, tier: usize, item: &Item) {
        self.queued.requests += 1;
        self.queued.rows += item.rows();
        self.queued.bytes += item.bytes();
        self.requests[tier] += 1;
        self.rows[tier] += item.rows();
        self.waiting |= 1 << tier;
    }

    pub(crate) fn subtract(&mut self, tier: usize, item: &Item) {
        self.queued.requests -= 1;
        self.queued.rows -= item.rows();
        self.queued.bytes -= item.bytes();
        self.requests[tier] -= 1;
        self.rows[tier] -= item.rows();
        if self.requests[tier] == 0 {
            self.waiting &= !(1 << tier);
        }
    }

    pub(crate) fn queued(&self) -> Queued {
        self.queued
    }

    /// One bit per class in which requests wait.
    pub(crate) fn waiting(&self) -> u8 {
        self.waiting
    }

    /// Rows, or requests, that go before a newcomer of this class.
    pub(crate) fn before(&self, tier: usize, counts_rows: bool) -> usize {
        let counts = if counts_rows { &self.rows } else { &self.requests };
        counts[..=tier].iter().sum()
    }
}
