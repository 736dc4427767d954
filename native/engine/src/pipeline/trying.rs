//! What each step costs, found out on rows that nobody waits for.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use servekit_core::{Inputs, Model, Outputs, Passage, Reason, Refusal, RunFailure, Tensor, Way};

use super::{Pipeline, PipelineLane};
use crate::lane::Part;

/// The median of fewer would be told by the first, which finds nothing in the caches.
const RUNS_MIN: usize = 3;
/// More would change nothing.
const RUNS_MAX: usize = 101;
/// Past it no further run begins.
const TIME_MAX: Duration = Duration::from_millis(200);

impl Pipeline {
    /// Answers one request again and again, in lanes of its own, and gives the median of what each step took over all
    /// its `rows`, in the order of [`Model::steps`]; nothing for steps that no entry of its rows came to. The request was
    /// checked against the contract.
    ///
    /// # Errors
    /// Why it cannot be answered, naming the step.
    pub fn try_out(&self, inputs: &Inputs, rows: u32) -> Result<Vec<Duration>, Refusal> {
        let mut preparer = self.preparer();
        let mut lanes = self.legs.iter().map(|leg| leg.lane()).collect::<Result<Vec<_>, _>>()?;
        let mut runs: Vec<Vec<Duration>> = Vec::new();
        let started_at = Instant::now();
        while runs.len() < RUNS_MIN || (runs.len() < RUNS_MAX && started_at.elapsed() < TIME_MAX) {
            let mut steps = Vec::with_capacity(self.steps.len());
            let prepared = match &mut preparer {
                Some(preparer) => preparer.prepare(inputs, rows, &mut steps)?,
                None => inputs.clone(),
            };
            self.travel(&mut lanes, prepared, rows, &mut steps)?;
            runs.push(steps);
        }
        Ok((0..self.steps.len()).map(|step| median(&runs, step)).collect())
    }

    /// From the first leg to the last.
    fn travel(
        &self,
        lanes: &mut [PipelineLane],
        mut inputs: Inputs,
        mut rows: u32,
        steps: &mut Vec<Duration>,
    ) -> Result<(), Refusal> {
        let route = self.route();
        let mut way = route.as_ref().map(|route| Way::new(rows, route.depart(&inputs), Instant::now()));
        let mut place = 0;
        loop {
            let (leg, lane) = (&self.legs[place], &mut lanes[place]);
            let outputs = run(lane, &inputs, (rows, leg.batch_rows_max()), steps)?;
            let (Some(route), Some(way)) = (&route, &mut way) else { return Ok(()) };
            let passage = route.pass(way, outputs)?;
            let Passage::On { inputs: next, rows: count } = passage else {
                steps.resize(self.steps.len(), Duration::ZERO);
                return Ok(());
            };
            (place, inputs, rows) = (way.leg, next, count);
            // Of legs that nothing came to.
            steps.resize(self.legs[..place].iter().map(|leg| leg.steps.len()).sum(), Duration::ZERO);
        }
    }
}

/// Runs all rows in a lane, in batches of at most so many; adds what each step took to `steps`.
pub(super) fn run(
    lane: &mut PipelineLane,
    inputs: &Inputs,
    (rows, rows_max): (u32, u32),
    steps: &mut Vec<Duration>,
) -> Result<Outputs, Refusal> {
    let (first, mut start, mut outputs) = (steps.len(), 0, Outputs::new());
    while start < rows || start == 0 {
        let count = (rows - start).min(rows_max);
        let own = |tensor: &Tensor| tensor.rows(start as usize, count as usize);
        let part: Cow<'_, Inputs> = match count == rows {
            true => Cow::Borrowed(inputs),
            false => Cow::Owned(inputs.iter().map(|tensor| tensor.as_ref().map(own)).collect()),
        };
        let part = Part { inputs: &part, rows: count as usize, is_whole: true };
        let ran = lane.run_parts(&[part], count).map_err(refused)?;
        if let Some(fault) = ran.refused.first() {
            return Err(Refusal::new(Reason::RowRejected, fault.text.clone().into_string()));
        }
        steps.resize(first + ran.steps.len(), Duration::ZERO);
        steps[first..].iter_mut().zip(&ran.steps).for_each(|(all, step)| *all += *step);
        if start == 0 {
            outputs = ran.outputs;
        } else {
            let joined =
                outputs.iter().zip(&ran.outputs).map(|(all, more)| Tensor::concatenate(&[all.clone(), more.clone()]));
            outputs = joined.collect::<Option<_>>().ok_or_else(uneven)?;
        }
        start += count.max(1);
    }
    Ok(outputs)
}

fn uneven() -> Refusal {
    Refusal::new(Reason::RowRejected, "outputs of one row differ in shape from those of another; try other rows")
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
