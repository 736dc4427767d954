//! What running a batch came to, for counters, logs and the Batcher.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::{Reason, Refusal, RunId};

/// One run of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Rows in it.
    pub rows: u32,
    /// Requests, or parts of such, that it answered; 0 where it failed.
    pub requests: u32,
    /// Rows of requests that it answered with a refusal, because a step refused one of them.
    pub rows_refused: u32,
    /// Gathering inputs.
    pub input: Duration,
    /// The model; all of a run that failed.
    pub run: Duration,
    /// Taking outputs over.
    pub output: Duration,
}

impl Run {
    /// Whether it ended as runs do, so that how long it took says something about others.
    #[must_use]
    pub fn took_place(&self) -> bool {
        self.requests > 0 || self.rows_refused > 0
    }

    /// Rows that it answered with a result.
    #[must_use]
    pub fn rows_answered(&self) -> u32 {
        if self.requests > 0 { self.rows - self.rows_refused } else { 0 }
    }
}

/// How a batch ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// Everyone who still waited got a result.
    #[default]
    Done,
    /// Some request failed alone and was refused; the others got their results.
    Refused,
    /// The lane broke; it must be replaced.
    Lost,
}

/// A defect of ours: its text is for the log, its number for the caller. The same text has the same number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Told to the caller.
    pub number: u16,
    /// What happened. Never told to a caller.
    pub text: String,
}

impl Fault {
    /// The fault of this text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        // FNV-1a, folded: short, and the same in every process, so that reports of one defect can be put together.
        let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        Self { number: (hash >> 16) as u16 ^ hash as u16, text: String::from(text) }
    }

    /// The fault of this panic.
    #[must_use]
    pub fn of_panic(payload: &(dyn std::any::Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        Self::of(text.unwrap_or("panic without a text"))
    }

    /// The answer to a request that met it.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        Refusal::new(Reason::Internal, format!("internal error {:04x}, please report it with this number", self.number))
    }
}

/// What running a batch came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// That of the batch.
    pub run: RunId,
    /// When the first run could begin.
    pub started_at: Instant,
    /// When the last had ended.
    pub ended_at: Instant,
    /// Nearly always one; more where a run failed and was taken apart. None where nobody waited any more.
    pub runs: SmallVec<[Run; 1]>,
    /// Time in the queue, summed over the requests answered with a result.
    pub queue: Duration,
    /// How long each step of the batch took, where the model has such; over all runs.
    pub steps: Vec<Duration>,
    /// How it ended.
    pub outcome: Outcome,
    /// Runs that panicked.
    pub panics: u32,
    /// The first panic, or why the lane broke: for the log.
    pub fault: Option<Fault>,
    /// Some run needed too much memory: rows that batches should have at most, the largest that worked, and not less
    /// than half of the smallest that did not. `None` also where it was the fault of one request alone, so that nobody
    /// can make everyone's batches small.
    pub rows_max_worked: Option<u32>,
    /// The outputs did not have one row per row, against the contract: the model must no longer be batched.
    pub is_unbatchable: bool,
    pub(crate) rows_min_failed: Option<u32>,
    pub(crate) memory_refused: bool,
    pub(crate) rows_max_answered: u32,
}

impl Report {
    /// Of a batch whose first run begins now: what has happened is put in by whoever runs it.
    #[must_use]
    pub fn started(run: RunId, now: Instant) -> Self {
        Self {
            run,
            started_at: now,
            ended_at: now,
            runs: SmallVec::new(),
            queue: Duration::ZERO,
            steps: Vec::new(),
            outcome: Outcome::Done,
            panics: 0,
            fault: None,
            rows_max_worked: None,
            is_unbatchable: false,
            rows_min_failed: None,
            memory_refused: false,
            rows_max_answered: 0,
        }
    }

    /// Adds what the steps of one run took.
    pub(crate) fn add_steps(&mut self, steps: &[Duration]) {
        self.steps.resize(self.steps.len().max(steps.len()), Duration::ZERO);
        self.steps.iter_mut().zip(steps).for_each(|(sum, step)| *sum += *step);
    }

    pub(crate) fn conclude(&mut self) {
        self.rows_max_worked = self
            .rows_min_failed
            .filter(|_| !self.memory_refused)
            .map(|failed| self.rows_max_answered.max(failed / 2).max(1));
    }

    /// Rows that were answered with a result.
    #[must_use]
    pub fn rows(&self) -> u32 {
        self.runs.iter().map(Run::rows_answered).sum()
    }

    /// Requests, or parts of such, that were answered with a result.
    #[must_use]
    pub fn requests(&self) -> u32 {
        self.runs.iter().map(|run| run.requests).sum()
    }

    /// Time the model ran, over all runs.
    #[must_use]
    pub fn run_time(&self) -> Duration {
        self.runs.iter().map(|run| run.run).sum()
    }
}
