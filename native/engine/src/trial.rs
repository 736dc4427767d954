//! Runs rows on a session while a model loads, the way they will run in service.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use servekit_core::{Inputs, Outputs, RunFailure, Tensor};

use crate::Terminator;
use crate::fault::Fault;
use crate::lane::{Graph, Lane, Part};
use crate::ragged::Padding;
use crate::session::Session;

/// A lane of its own, watched.
pub(crate) struct Trial {
    lane: Lane,
    /// Whether any run has asked for more memory than the arena may have.
    pub(crate) ran_out_of_memory: bool,
    _watch: Option<Watch>,
}

/// One successful run.
pub(crate) struct Ran {
    pub(crate) time: Duration,
    pub(crate) input_bytes: u64,
    pub(crate) outputs: Outputs,
}

impl Trial {
    /// Longer runs than `run_max` are stopped.
    pub(crate) fn new(graph: &Arc<Graph>, session: &Arc<Session>, run_max: Duration) -> Result<Self, Fault> {
        Ok(Self::on(Lane::new(Arc::clone(graph), Arc::clone(session))?, run_max))
    }

    /// The same with rows of several lengths, padded like this.
    pub(crate) fn padded(
        graph: &Arc<Graph>,
        session: &Arc<Session>,
        run_max: Duration,
        padding: &Padding,
    ) -> Result<Self, Fault> {
        Ok(Self::on(Lane::with_padding(Arc::clone(graph), Arc::clone(session), padding)?, run_max))
    }

    fn on(lane: Lane, run_max: Duration) -> Self {
        let watch = Watch::over(lane.terminator(), run_max);
        Self { lane, ran_out_of_memory: false, _watch: watch }
    }

    /// Rows of one request each, as one batch.
    pub(crate) fn run(&mut self, rows: &[&Inputs]) -> Result<Ran, RunFailure> {
        let parts: Vec<Part<'_>> = rows.iter().map(|inputs| Part { inputs, rows: 1, is_whole: true }).collect();
        let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        self.run_parts(&parts, count)
    }

    /// So many copies of a row as one request, whose outputs may have any shape.
    pub(crate) fn run_whole(&mut self, row: &Inputs, rows: u32) -> Result<Ran, RunFailure> {
        if rows == 1 {
            return self.run(&[row]);
        }
        let copies = |tensor: &Option<Tensor>| match tensor {
            Some(tensor) => Tensor::concatenate(&vec![tensor.clone(); rows as usize]).map(Some),
            None => Some(None),
        };
        let whole: Option<Inputs> = row.iter().map(copies).collect();
        let whole = whole.ok_or_else(|| RunFailure::Rejected("a scalar has no rows".to_owned()))?;
        self.run_parts(&[Part { inputs: &whole, rows: rows as usize, is_whole: true }], rows)
    }

    fn run_parts(&mut self, parts: &[Part<'_>], rows: u32) -> Result<Ran, RunFailure> {
        let ran = self.lane.run_parts(parts, rows);
        self.ran_out_of_memory |= matches!(ran, Err(RunFailure::Memory { .. }));
        let ran = ran?;
        Ok(Ran {
            time: ran.run,
            input_bytes: parts.iter().map(|part| bytes_of(part.inputs)).sum(),
            outputs: ran.outputs,
        })
    }
}

/// Bytes of all inputs.
pub(crate) fn bytes_of(inputs: &Inputs) -> u64 {
    inputs.iter().flatten().map(|tensor| tensor.data.len() as u64).sum()
}

/// A failed run of so many rows, in words.
pub(crate) fn in_words(rows: u32, failure: &RunFailure) -> String {
    match failure {
        RunFailure::Rejected(text) | RunFailure::Lost(text) => format!("{rows} made-up rows failed: {text}"),
        RunFailure::Memory { allowed, .. } => format!("{rows} made-up rows need more than {allowed} bytes"),
    }
}

/// Stops runs that take too long, for as long as it lives.
struct Watch {
    /// Closed when the watch ends.
    _end: Sender<()>,
}

impl Watch {
    fn over(terminator: Terminator, run_max: Duration) -> Option<Self> {
        const LOOK_EVERY: Duration = Duration::from_millis(100);
        let (end, ended) = channel();
        let watch = move || {
            while ended.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                let _ = terminator.stop_overdue(Instant::now(), run_max);
            }
        };
        // Without a thread the runs go on unwatched.
        std::thread::Builder::new().name("servekit-probe".to_owned()).spawn(watch).ok()?;
        Some(Self { _end: end })
    }
}
