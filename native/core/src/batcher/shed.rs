//! Which requests were given up, why, and how many of late.

use std::time::{Duration, Instant};

use crate::batch::Item;

/// Why a request was given up without a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shed {
    /// At its arrival: its answer was predicted to come too late.
    Arrival,
    /// In the queue: serving it would have made more of those behind it late.
    Window,
    /// In the queue: not even an immediate run would have answered it in time.
    Miss,
    /// In the queue: its deadline had passed.
    Expired,
}

impl Shed {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Arrival, Self::Window, Self::Miss, Self::Expired];

    /// Value of the metric's label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Arrival => "arrival",
            Self::Window => "window",
            Self::Miss => "miss",
            Self::Expired => "expired",
        }
    }
}

/// How many requests were given up, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShedCounts([u64; Shed::ALL.len()]);

impl ShedCounts {
    /// Those given up for this reason.
    #[must_use]
    pub const fn of(&self, shed: Shed) -> u64 {
        self.0[shed as usize]
    }

    /// All of them together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(crate) fn add(&mut self, shed: Shed, requests: u64) {
        self.0[shed as usize] += requests;
    }
}

/// Requests offered and given up in each tenth of the last second.
#[derive(Clone, Copy, Debug, Default)]
struct Tenth {
    offered: u64,
    shed: u64,
}

/// What was given up: counted for whoever asks, and as a share of what was offered during the last second.
#[derive(Debug)]
pub(crate) struct Shedding {
    counts: ShedCounts,
    tenths: [Tenth; 10],
    /// Sums over the tenths.
    recent: Tenth,
    /// The tenth in use, and when it ends.
    place: usize,
    ends_at: Option<Instant>,
    /// More than one in twenty was shed, and since then not less than one in a hundred.
    is_failing_fast: bool,
}

impl Shedding {
    pub(crate) fn new() -> Self {
        Self {
            counts: ShedCounts::default(),
            tenths: [Tenth::default(); 10],
            recent: Tenth::default(),
            place: 0,
            ends_at: None,
            is_failing_fast: false,
        }
    }

    /// Counts requests that came.
    pub(crate) fn offered(&mut self, requests: u64, now: Instant) {
        self.advance(now);
        self.tenths[self.place].offered += requests;
        self.recent.offered += requests;
    }

    /// Counts requests that were given up.
    pub(crate) fn shed(&mut self, shed: Shed, requests: u64) {
        self.counts.add(shed, requests);
        self.tenths[self.place].shed += requests;
        self.recent.shed += requests;
        self.is_failing_fast |= self.recent.shed * 20 > self.recent.offered;
    }

    /// Counts one that nobody waits for any more: as expired, where it was in time that its caller lacked.
    pub(crate) fn left(&mut self, item: &Item, now: Instant) {
        if item.deadline() <= now {
            self.shed(Shed::Expired, 1);
        }
    }

    /// Whether so much is shed that it is better told at arrival.
    pub(crate) fn is_failing_fast(&self) -> bool {
        self.is_failing_fast
    }

    /// Share of the requests of the last second that was given up, at most 1.
    pub(crate) fn share(&self) -> f64 {
        if self.recent.shed == 0 { 0.0 } else { (self.recent.shed as f64 / self.recent.offered.max(1) as f64).min(1.0) }
    }

    /// What was counted since this was asked last.
    pub(crate) fn take(&mut self) -> ShedCounts {
        std::mem::take(&mut self.counts)
    }

    /// Forgets tenths that are older than a second.
    fn advance(&mut self, now: Instant) {
        const TENTH: Duration = Duration::from_millis(100);
        let Some(ends_at) = self.ends_at else {
            self.ends_at = Some(now + TENTH);
            return;
        };
        if now < ends_at {
            return;
        }
        let passed = now.saturating_duration_since(ends_at);
        let tenths = 1 + (passed.as_millis() / TENTH.as_millis()) as u32;
        for _ in 0..tenths.min(self.tenths.len() as u32) {
            self.place = (self.place + 1) % self.tenths.len();
            let old = std::mem::take(&mut self.tenths[self.place]);
            self.recent.offered -= old.offered;
            self.recent.shed -= old.shed;
        }
        self.ends_at = Some(ends_at + TENTH * tenths);
        self.is_failing_fast &= self.recent.shed * 100 >= self.recent.offered.max(1);
    }
}
