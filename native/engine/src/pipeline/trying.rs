//! What each step costs, found out on rows that nobody waits for.

use std::time::{Duration, Instant};

use servekit_core::{Inputs, Model, Reason, Refusal, RunFailure};

use super::Pipeline;
use crate::lane::Part;

/// The median of fewer would be told by the first, which finds nothing in the caches.
const RUNS_MIN: usize = 3;
/// More would change nothing.
const RUNS_MAX: usize = 101;
/// Past it no further run begins.
const TIME_MAX: Duration = Duration::from_millis(200);

impl Pipeline {
    /// Answers one request again and again, in a lane of its own, and gives the median of what each step took over all
    /// its `rows`, in the order of [`Model::steps`]. The request was checked against the contract.
    ///
    /// # Errors
    /// Why it cannot be answered, naming the step.
    pub fn try_out(&self, inputs: &Inputs, rows: u32) -> Result<Vec<Duration>, Refusal> {
        let (mut preparer, mut lane) = (self.preparer(), self.lane()?);
        let mut runs: Vec<Vec<Duration>> = Vec::new();
        let started_at = Instant::now();
        while runs.len() < RUNS_MIN || (runs.len() < RUNS_MAX && started_at.elapsed() < TIME_MAX) {
            let mut steps = Vec::with_capacity(self.steps().len());
            let prepared = match &mut preparer {
                Some(preparer) => preparer.prepare(inputs, rows, &mut steps)?,
                None => inputs.clone(),
            };
            let part = Part { inputs: &prepared, rows: rows as usize, is_whole: true };
            let ran = lane.run_parts(&[part], rows).map_err(refused)?;
            if let Some(fault) = ran.refused.first() {
                return Err(Refusal::new(Reason::RowRejected, fault.text.clone().into_string()));
            }
            steps.extend(ran.steps);
            runs.push(steps);
        }
        Ok((0..self.steps().len()).map(|step| median(&runs, step)).collect())
    }
}

/// Of the step at this place.
fn median(runs: &[Vec<Duration>], step: usize) -> Duration {
    let mut durations: Vec<Duration> = runs.iter().filter_map(|run| run.get(step).copied()).collect();
    durations.sort_unstable();
    durations.get(durations.len() / 2).copied().unwrap_or_default()
}

fn refused(failure: RunFailure) -> Refusal {
    match failure {
        RunFailure::Rejected(text) => Refusal::new(Reason::RowRejected, text),
        RunFailure::Memory { asked, allowed } => {
            let asked = asked.map_or_else(|| "more memory".to_owned(), |bytes| format!("{bytes} bytes"));
            let text = format!("a run asked for {asked}, {allowed} bytes are allowed; raise arena_bytes_max");
            Refusal::new(Reason::RunMemory, text)
        }
        RunFailure::Lost(text) => Refusal::new(Reason::LaneLost, text),
    }
}
