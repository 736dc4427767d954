//! Which batches are out, and when their lanes are expected back.

use std::time::{Duration, Instant};

use crate::RunId;

/// A batch between its dispatch and its report.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    /// Slot of its shape class.
    pub(crate) class: usize,
    /// Which shape that slot stood for; it may stand for another by the time the batch returns.
    pub(crate) generation: u32,
    /// The bucket of its longest member.
    pub(crate) edge: u64,
    /// When its lane is expected back.
    pub(crate) ends_at: Instant,
}

/// The batches that are out. There are as many as lanes, and few: a scan is cheaper than any order.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    /// By [`RunId`]; places are used again.
    runs: Vec<Option<Running>>,
    busy: u32,
}

impl Lanes {
    /// Counts a batch that leaves.
    pub(crate) fn start(&mut self, running: Running) -> RunId {
        self.busy += 1;
        let place = self.runs.iter().position(Option::is_none).unwrap_or_else(|| {
            self.runs.push(None);
            self.runs.len() - 1
        });
        self.runs[place] = Some(running);
        RunId(place as u32)
    }

    /// Counts a batch that has returned; `None` where none of this name is out.
    pub(crate) fn end(&mut self, run: RunId) -> Option<Running> {
        let ended = self.runs.get_mut(run.0 as usize)?.take()?;
        self.busy -= 1;
        Some(ended)
    }

    /// Batches that are out.
    pub(crate) fn busy(&self) -> u32 {
        self.busy
    }

    /// How long until one of this many lanes is free; zero where one is, or is overdue.
    pub(crate) fn remaining(&self, lanes: u32, now: Instant) -> Duration {
        if self.busy < lanes {
            return Duration::ZERO;
        }
        self.first_end(now).unwrap_or(Duration::ZERO)
    }

    /// How long until a lane is free besides the one that is free now; `None` where there is no other.
    pub(crate) fn remaining_besides(&self, lanes: u32, now: Instant) -> Option<Duration> {
        if self.busy + 1 < lanes { Some(Duration::ZERO) } else { self.first_end(now) }
    }

    fn first_end(&self, now: Instant) -> Option<Duration> {
        let first = self.runs.iter().flatten().map(|running| running.ends_at).min()?;
        Some(first.saturating_duration_since(now))
    }
}
