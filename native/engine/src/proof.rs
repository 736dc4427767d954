//! Proves at load that a row is answered the same whoever shares its run, as far as experiments can: rows of several
//! scales run alone, then in batches of several sizes, at several places, among other rows, zeros, large values and
//! copies of themselves.
//!
//! What differs by more than rounding may (see `tolerance`) is looked at again. If at the same place of a batch of the
//! same size other neighbours give another answer, the rows are not independent. If they never do, only the size
//! matters, as it does where a model magnifies rounding; then the row alone, with inputs changed by as little as
//! rounding would, must give answers as far apart.

use std::sync::Arc;
use std::time::{Duration, Instant};

use servekit_core::{Datatype, Inputs, Outputs, RunFailure, Tensor};

use crate::fault::Fault;
use crate::model::{ProofSummary, Verdict};
use crate::probe::{Findings, RUN_MAX, Subject, suspicion};
use crate::session::Session;
use crate::tolerance;
use crate::trial::{Trial, bytes_of, in_words};
use crate::values::{Kind, nudged};

mod arrangement;
mod words;

use arrangement::{Arrangement, Step};

/// Proves, or finds out why not; ends at about this time with what is proved by then. `findings` say that shapes allow
/// it, and which row the model answers.
pub(crate) fn prove(
    subject: &Subject<'_>,
    session: &Arc<Session>,
    findings: &Findings,
    deadline: Instant,
) -> Result<ProofSummary, Fault> {
    let run_max = deadline.saturating_duration_since(Instant::now()).min(RUN_MAX);
    let mut prover = Prover {
        trial: Trial::new(subject.graph, session, run_max)?,
        subject,
        rows: Vec::new(),
        rows_max: rows_max(subject, findings),
        row_time: row_time(findings),
        deadline,
        sizes: Vec::new(),
        worst: Worst::default(),
        magnified: None,
    };
    let outcome = match prover.run_alone(findings) {
        Ok(()) => prover.run_together(),
        stopped => stopped,
    };
    Ok(prover.summary(outcome))
}

/// Rows of the largest batch that bytes allow.
fn rows_max(subject: &Subject<'_>, findings: &Findings) -> u32 {
    let row_bytes = findings.accepted.as_ref().map_or(1, |accepted| bytes_of(&accepted.row).max(1));
    let by_bytes = u32::try_from(subject.batch_bytes_max / row_bytes).unwrap_or(u32::MAX);
    findings.batch_rows_max.min(by_bytes).max(1)
}

/// What a row of a batch is expected to take.
fn row_time(findings: &Findings) -> Duration {
    let in_batch = findings.batch.as_ref().map(|batch| batch.run / batch.rows.max(1));
    findings.one_row.max(in_batch).unwrap_or_default()
}

struct Prover<'a> {
    trial: Trial,
    subject: &'a Subject<'a>,
    rows: Vec<Row>,
    rows_max: u32,
    row_time: Duration,
    deadline: Instant,
    /// Sizes of batches that were compared, in ascending order.
    sizes: Vec<u32>,
    worst: Worst,
    magnified: Option<Magnified>,
}

/// A row and what it was answered alone.
struct Row {
    name: &'static str,
    inputs: Inputs,
    alone: Outputs,
    /// Of each output, what differences are measured against.
    magnitudes: Vec<f64>,
    /// Differences up to this were found to be rounding that the model magnifies.
    magnified: f64,
}

/// The difference that came nearest to what is allowed.
#[derive(Clone, Copy, Debug, Default)]
struct Worst {
    difference: f64,
    tolerance: f64,
}

/// The largest difference that was found to be rounding, and what the experiment would have allowed.
#[derive(Clone, Copy, Debug)]
struct Magnified {
    share: f64,
    allowed: f64,
    /// Name of the row.
    row: &'static str,
}

/// Why a proof ends before all steps are done.
enum Stop {
    TimeIsUp,
    MemoryIsUp,
    Refuted(String),
    /// The model does not answer the same row twice alike.
    Random,
}

/// An output of a row that is further from the row alone than allowed.
struct Deviation {
    row: usize,
    place: usize,
    output: usize,
    share: f64,
}

impl Prover<'_> {
    /// Makes rows up and runs each alone. Those that fail are left out, for the model may refuse such values.
    fn run_alone(&mut self, findings: &Findings) -> Result<(), Stop> {
        const ROWS: [(Kind, u64); 8] = [
            (Kind::Usual, 0),
            (Kind::Large, 0),
            (Kind::Zeros, 0),
            (Kind::Usual, 1),
            (Kind::Small, 0),
            (Kind::Large, 1),
            (Kind::Ones, 0),
            (Kind::Usual, 2),
        ];
        const SAMPLES_MAX: usize = 16;
        let Some(accepted) = &findings.accepted else { return Err(Stop::TimeIsUp) };
        let shapes = accepted.shapes();
        let values = self.subject.values();
        let samples = self.subject.samples.iter().take(SAMPLES_MAX).map(|row| ("samples", row.clone()));
        // The accepted row comes first: others may all fail.
        let base = accepted.kind.map(|kind| (kind.name(), accepted.row.clone()));
        let others = ROWS.into_iter().filter(|(kind, seed)| *seed > 0 || Some(*kind) != accepted.kind);
        let others = others.map(|(kind, seed)| (kind.name(), values.row(&shapes, kind, seed)));
        let rows = samples.chain(base).chain(others);
        // Large rows are few, so that all of them together are no larger than a batch.
        for (name, inputs) in rows.take((self.rows_max as usize).max(2)) {
            self.expect_time(1)?;
            match self.trial.run(&[&inputs]) {
                Ok(ran) => self.keep(name, inputs, ran.outputs, findings)?,
                Err(RunFailure::Lost(_)) if self.is_late() => return Err(Stop::TimeIsUp),
                Err(_) => {}
            }
        }
        self.measure();
        if self.rows.is_empty() { Err(Stop::TimeIsUp) } else { Ok(()) }
    }

    /// Takes a row in, if its outputs have the shapes that one row's outputs have.
    fn keep(&mut self, name: &'static str, inputs: Inputs, alone: Outputs, findings: &Findings) -> Result<(), Stop> {
        let shapes = findings.shapes.as_deref().unwrap_or_default();
        for ((port, found), expected) in self.subject.graph.signature.outputs.iter().zip(&alone).zip(shapes) {
            if found.shape != *expected {
                let (found, expected) = (servekit_core::list(&found.shape), servekit_core::list(expected));
                return Err(self.refuted(&format!(
                    "the shape of output '{}' depends on values: {expected} for one row, {found} for one of {name}",
                    port.spec.name
                )));
            }
        }
        self.rows.push(Row { name, inputs, alone, magnitudes: Vec::new(), magnified: 0.0 });
        Ok(())
    }

    /// An output is measured against its largest value, in rows of the same scale: one that happens to be near zero
    /// comes of terms as large as the others'.
    fn measure(&mut self) {
        let scale = |row: &Row| [Kind::Large, Kind::Small].into_iter().find(|kind| kind.name() == row.name);
        let outputs = self.subject.graph.signature.outputs.len();
        let largest = |of: &Row| -> Vec<f64> {
            let rows = self.rows.iter().filter(|row| scale(row) == scale(of));
            let of_rows = |most: Vec<f64>, row: &Row| {
                most.iter().zip(&row.alone).map(|(most, output)| most.max(tolerance::magnitude(output))).collect()
            };
            rows.fold(vec![0.0; outputs], of_rows)
        };
        let magnitudes: Vec<Vec<f64>> = self.rows.iter().map(largest).collect();
        for (row, magnitudes) in self.rows.iter_mut().zip(magnitudes) {
            row.magnitudes = magnitudes;
        }
    }

    /// Runs rows together, small batches first; the largest batch that was compared bounds what is proved.
    fn run_together(&mut self) -> Result<(), Stop> {
        for step in arrangement::steps(self.rows_max) {
            let rows = match step {
                Step::Required { rows, .. } | Step::Further { rows, .. } => rows,
                Step::Largest => self.affordable_rows().ok_or(Stop::TimeIsUp)?,
            };
            let is_further = matches!(step, Step::Further { .. });
            let stopped = self.expect_time(rows).and_then(|()| self.compare(step.arrangement(), rows as usize));
            match stopped {
                Ok(()) if self.sizes.last().is_none_or(|&last| last < rows) => self.sizes.push(rows),
                Ok(()) => {}
                // What is behind may be smaller, and everything that is needed is done.
                Err(Stop::TimeIsUp | Stop::MemoryIsUp) if is_further => {}
                Err(stop) => return Err(stop),
            }
        }
        let is_less = self.sizes.last().is_some_and(|&rows| rows < self.rows_max);
        if is_less { Err(Stop::TimeIsUp) } else { Ok(()) }
    }

    /// Rows of the largest batch that there is time for, if that is more than was compared before.
    fn affordable_rows(&self) -> Option<u32> {
        // Some of the time is kept back, for rows in large batches may take longer.
        let left = self.deadline.saturating_duration_since(Instant::now()).mul_f64(0.9);
        let by_time = left.as_nanos() / self.row_time.as_nanos().max(1);
        let rows = u32::try_from(by_time).unwrap_or(u32::MAX).min(self.rows_max);
        (self.sizes.last().is_none_or(|&last| rows > last)).then_some(rows)
    }

    fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }

    fn expect_time(&self, rows: u32) -> Result<(), Stop> {
        let end = Instant::now().checked_add(self.row_time.saturating_mul(rows));
        if end.is_some_and(|end| end <= self.deadline) { Ok(()) } else { Err(Stop::TimeIsUp) }
    }

    /// Runs one batch and compares each row with itself alone.
    fn compare(&mut self, arrangement: Arrangement, size: usize) -> Result<(), Stop> {
        let named = |name: &str| self.rows.iter().position(|row| row.name == name);
        let order = arrangement.order(size, self.rows.len(), &|kind| named(kind.name()));
        let outputs = self.run_order(&order)?;
        for (place, &row) in order.iter().enumerate() {
            if let Some(deviation) = self.deviation(&outputs, row, place) {
                self.judge(&order, &outputs, &deviation)?;
            }
        }
        Ok(())
    }

    fn run_order(&mut self, order: &[usize]) -> Result<Outputs, Stop> {
        let rows: Vec<&Inputs> = order.iter().map(|&row| &self.rows[row].inputs).collect();
        match self.trial.run(&rows) {
            Ok(ran) => Ok(ran.outputs),
            Err(RunFailure::Memory { .. }) => Err(Stop::MemoryIsUp),
            Err(RunFailure::Lost(_)) if self.is_late() => Err(Stop::TimeIsUp),
            Err(failure) => {
                let text = in_words(order.len() as u32, &failure);
                Err(self.refuted(&format!("{text}, though each of them runs alone")))
            }
        }
    }

    /// The first output of the row at this place that is too far from the row alone; notes the others' differences.
    fn deviation(&mut self, outputs: &Outputs, row: usize, place: usize) -> Option<Deviation> {
        let expected = &self.rows[row];
        for (output, (whole, alone)) in outputs.iter().zip(&expected.alone).enumerate() {
            let difference = tolerance::difference(alone, &whole.rows(place, 1));
            if difference == 0.0 {
                continue;
            }
            let share = tolerance::share(difference, expected.magnitudes[output]);
            let allowed = tolerance::relative(alone.datatype, self.subject.clues.coarsest);
            if share > allowed.max(expected.magnified) {
                return Some(Deviation { row, place, output, share });
            }
            if share <= allowed {
                self.worst.note(share, allowed);
            }
        }
        None
    }

    /// Whether a deviation is rounding that the model magnifies, or a dependence.
    fn judge(&mut self, order: &[usize], outputs: &Outputs, deviation: &Deviation) -> Result<(), Stop> {
        let Deviation { row, place, output, share } = *deviation;
        let again = self.run_order(&[row])?;
        if self.largest_share(&again, row, output) > 0.0 {
            return Err(Stop::Random);
        }
        let found: Vec<_> = outputs.iter().map(|whole| whole.rows(place, 1)).collect();
        for neighbour in self.neighbours(row) {
            let mut other = vec![neighbour; order.len()];
            other[place] = row;
            self.expect_time(order.len() as u32)?;
            let outputs = self.run_order(&other)?;
            let is_same = |(whole, found): (&Tensor, _)| tolerance::difference(&whole.rows(place, 1), found) == 0.0;
            if !outputs.iter().zip(&found).all(is_same) {
                let name = &self.subject.graph.signature.outputs[output].spec.name;
                let text = words::influence(name, self.rows[neighbour].name, order.len(), share);
                return Err(self.refuted(&text));
            }
        }
        let allowed = self.sensitivity(row, output)?;
        if share > allowed {
            let name = &self.subject.graph.signature.outputs[output].spec.name;
            return Err(self.refuted(&words::size_matters(name, order.len(), place, share)));
        }
        if self.magnified.is_none_or(|before| share >= before.share) {
            self.magnified = Some(Magnified { share, allowed, row: self.rows[row].name });
        }
        // Batches of other sizes round otherwise, but not much more; looking at each again would take long.
        const FACTOR: f64 = 2.0;
        self.rows[row].magnified = (FACTOR * share).min(allowed);
        Ok(())
    }

    /// Rows that a row is put among to see whether they matter: copies of itself, and one of each kind that tells most.
    fn neighbours(&self, row: usize) -> Vec<usize> {
        let kinds = [Kind::Zeros, Kind::Large, Kind::Usual];
        let named = |kind: Kind| self.rows.iter().rposition(|row| row.name == kind.name());
        let mut neighbours: Vec<usize> = kinds.into_iter().filter_map(named).chain([row]).collect();
        neighbours.dedup();
        neighbours
    }

    /// How far apart answers to the row alone lie that differ in their inputs by as little as rounding.
    fn sensitivity(&mut self, row: usize, output: usize) -> Result<f64, Stop> {
        const NUDGES: u64 = 4;
        /// Rounding in the middle of a model may be magnified more than at its inputs.
        const FACTOR: f64 = 4.0;
        let mut most = 0.0_f64;
        let coarsest = self.subject.clues.coarsest;
        let share = match tolerance::relative(self.rows[row].alone[output].datatype, coarsest) {
            // Labels and counts come of numbers that are usually these.
            0.0 => tolerance::relative(Datatype::Fp32, coarsest),
            share => share,
        };
        for seed in 0..NUDGES {
            let Some(nudged) = nudged(&self.rows[row].inputs, share, seed) else { return Ok(tolerance::MAGNIFIED_MAX) };
            self.expect_time(1)?;
            if let Ok(ran) = self.trial.run(&[&nudged]) {
                most = most.max(self.largest_share(&ran.outputs, row, output));
            }
        }
        Ok(most * FACTOR)
    }

    /// How far an output of the row alone is from the one kept.
    fn largest_share(&self, outputs: &Outputs, row: usize, output: usize) -> f64 {
        let expected = &self.rows[row];
        let difference = outputs.get(output).map_or(0.0, |found| tolerance::difference(&expected.alone[output], found));
        tolerance::share(difference, expected.magnitudes[output])
    }

    fn refuted(&self, text: &str) -> Stop {
        Stop::Refuted(format!("{text}{}", suspicion(self.subject.clues)))
    }

    fn summary(&self, outcome: Result<(), Stop>) -> ProofSummary {
        let rows_proved = self.sizes.last().copied().unwrap_or(0);
        let unproved = |why: String| ProofSummary {
            verdict: Verdict::Unproved,
            difference: None,
            tolerance: None,
            rows_proved,
            why,
        };
        let limit = match outcome {
            Ok(()) => None,
            Err(Stop::Refuted(why)) => return ProofSummary { verdict: Verdict::NotBatchable, ..unproved(why) },
            Err(Stop::Random) => return unproved(words::random(self.subject.clues)),
            Err(Stop::TimeIsUp) => Some("time was up"),
            Err(Stop::MemoryIsUp) => Some("memory was short"),
        };
        if rows_proved < 2 && self.rows_max > 1 {
            return unproved(words::nothing_proved(limit.unwrap_or("nothing ran")));
        }
        let is_exact = self.worst.tolerance == 0.0 && self.magnified.is_none();
        // A label next to a tie is not apart by a number.
        let magnified = self.magnified.filter(|found| found.share.is_finite());
        let (difference, tolerance) = match magnified {
            Some(found) => (found.share, Some(found.allowed)),
            None if self.worst.tolerance > 0.0 => (self.worst.difference, Some(self.worst.tolerance)),
            None => (0.0, self.least_tolerance()),
        };
        ProofSummary {
            verdict: if is_exact { Verdict::Exact } else { Verdict::WithinTolerance },
            difference: Some(difference),
            tolerance,
            rows_proved: rows_proved.max(1),
            why: words::proved(&self.sizes, self.worst, self.magnified, limit),
        }
    }

    /// What the output may differ that may differ least; `None` where none may.
    fn least_tolerance(&self) -> Option<f64> {
        let outputs = self.subject.graph.signature.outputs.iter();
        let of_output = |datatype| tolerance::relative(datatype, self.subject.clues.coarsest);
        outputs.map(|port| of_output(port.spec.datatype)).filter(|found| *found > 0.0).min_by(f64::total_cmp)
    }
}

impl Worst {
    fn note(&mut self, difference: f64, tolerance: f64) {
        if self.tolerance == 0.0 || difference / tolerance > self.difference / self.tolerance {
            *self = Self { difference, tolerance };
        }
    }
}
