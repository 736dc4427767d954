//! Tries a model on made-up inputs at load: what it takes and gives, how long a full batch takes, and how much memory
//! it needs. What cannot be tried is not trusted, and never a reason to refuse a model.

use std::sync::Arc;
use std::time::Duration;

use servekit_core::{Axis, Inputs, RunFailure, Shape};

use crate::fault::Fault;
use crate::lane::Graph;
use crate::scan::Clues;
use crate::session::Session;
use crate::signature::{Port, Signature};
use crate::trial::{Ran, Trial, in_words};
use crate::values::{Kind, Values};

/// What is tried, and what bounds it.
pub(crate) struct Subject<'a> {
    pub(crate) graph: &'a Arc<Graph>,
    pub(crate) clues: &'a Clues,
    /// Real rows, one request each; empty where values are made up.
    pub(crate) samples: Vec<Inputs>,
    pub(crate) batch_rows_max: u32,
    pub(crate) batch_bytes_max: u64,
    /// Slower models are timed once only: they do not run inline anyway.
    pub(crate) inline_run_us_max: u64,
}

impl Subject<'_> {
    /// Makes rows up for the model.
    pub(crate) fn values(&self) -> Values<'_> {
        let signature = &self.graph.signature;
        Values::new(signature, self.clues, shares_rows(signature).is_ok())
    }
}

/// What a probe has found.
pub(crate) struct Findings {
    /// Whether rows may share runs, as far as shapes tell; else why not, in words.
    pub(crate) batching: Result<(), String>,
    /// The first row that the model has answered.
    pub(crate) accepted: Option<Accepted>,
    /// The shapes of all outputs for one row.
    pub(crate) shapes: Option<Vec<Shape>>,
    /// The full batch.
    pub(crate) batch: Option<Batch>,
    /// Median of the runs of one row.
    pub(crate) one_row: Option<Duration>,
    /// Why nothing could be tried, in words.
    pub(crate) failure: Option<String>,
    /// Rows that a batch may have: fewer than asked for where memory ran out, or where no more were proved.
    pub(crate) batch_rows_max: u32,
    /// Whether any run has asked for more memory than the arena may have.
    pub(crate) ran_out_of_memory: bool,
    /// Most bytes that a run of a full batch is expected to take from the arena.
    pub(crate) peak_bytes: u64,
}

/// A row that the model answers.
pub(crate) struct Accepted {
    pub(crate) row: Inputs,
    /// How it was made up; `None` for a sample.
    pub(crate) kind: Option<Kind>,
}

impl Accepted {
    /// The shapes of its inputs; empty for one that was left out.
    pub(crate) fn shapes(&self) -> Vec<Shape> {
        self.row.iter().map(|tensor| tensor.as_ref().map_or_else(Shape::new, |tensor| tensor.shape.clone())).collect()
    }
}

/// The largest batch that was run.
pub(crate) struct Batch {
    pub(crate) rows: u32,
    pub(crate) input_bytes: u64,
    /// Median of its runs.
    pub(crate) run: Duration,
}

impl Batch {
    fn of(rows: u32, ran: &Ran) -> Self {
        Self { rows, input_bytes: ran.input_bytes, run: ran.time }
    }
}

/// Longer runs are stopped.
pub(crate) const RUN_MAX: Duration = Duration::from_secs(10);
/// The largest batch is cut to what one row's time lets expect.
const BATCH_RUN_MAX: Duration = Duration::from_millis(300);
/// Sizes of free axes, in the order in which they are tried: a usual one first, so that time and memory mean something.
const SIZES: [i64; 10] = [64, 1, 2, 3, 4, 8, 16, 32, 128, 224];
/// Values are tried in this order: plausible ones first.
const KINDS: [Kind; 4] = [Kind::Usual, Kind::Small, Kind::Ones, Kind::Zeros];
/// Batches that a model may have been exported for, one row of which it refuses.
const BAKED_ROWS: [u32; 12] = [2, 3, 4, 5, 6, 8, 10, 16, 32, 64, 100, 128];
const TIMED_RUNS: usize = 5;

/// Tries the model on this session.
pub(crate) fn probe(subject: &Subject<'_>, session: &Arc<Session>) -> Result<Findings, Fault> {
    let trial = Trial::new(subject.graph, session, RUN_MAX)?;
    let mut probe = Probe { trial, subject, signature: &subject.graph.signature, values: subject.values() };
    let mut findings = probe.find();
    findings.ran_out_of_memory = probe.trial.ran_out_of_memory;
    let peak = session.arena_bytes_peak().unwrap_or(0);
    findings.peak_bytes = findings.of_full_batch(peak);
    Ok(findings)
}

/// Runs the largest batch once on another session, so that its arena grows once and requests find it ready.
pub(crate) fn warm_up(graph: &Arc<Graph>, session: &Arc<Session>, findings: &Findings) {
    let (Some(accepted), Some(batch)) = (&findings.accepted, &findings.batch) else { return };
    if let Ok(mut trial) = Trial::new(graph, session, RUN_MAX) {
        // Whether it succeeds is seen later: a probe never refuses a load.
        let _ = trial.run(&vec![&accepted.row; batch.rows as usize]);
    }
}

impl Findings {
    /// What a full batch takes, from what the largest one that was run took: at most in proportion to the rows.
    fn of_full_batch(&self, found: u64) -> u64 {
        let rows_run = self.batch.as_ref().map_or(1, |batch| u64::from(batch.rows.max(1)));
        let rows_max = if self.batching.is_ok() { u64::from(self.batch_rows_max) } else { 1 };
        found.saturating_mul(rows_max.max(rows_run)) / rows_run
    }

    /// What a full batch is expected to take, microseconds.
    pub(crate) fn predicted_run_us(&self) -> Option<u64> {
        self.batch.as_ref().map(|batch| self.of_full_batch(batch.run.as_micros() as u64))
    }
}

struct Probe<'a> {
    trial: Trial,
    subject: &'a Subject<'a>,
    signature: &'a Signature,
    values: Values<'a>,
}

impl Probe<'_> {
    fn find(&mut self) -> Findings {
        let mut findings = Findings {
            batching: shares_rows(self.signature).map_err(|why| why + &suspicion(self.subject.clues)),
            accepted: None,
            shapes: None,
            batch: None,
            one_row: None,
            failure: None,
            batch_rows_max: self.subject.batch_rows_max,
            ran_out_of_memory: false,
            peak_bytes: 0,
        };
        let (accepted, one) = match self.first_success() {
            Ok(success) => success,
            Err(text) => {
                if findings.batching.is_ok() {
                    findings.batching = self.find_baked_rows().map_or(Ok(()), Err);
                }
                findings.failure = Some(text);
                return findings;
            }
        };
        let one = self.faster_of_two(&accepted.row, one);
        let mut largest = None;
        if findings.batching.is_ok() {
            match self.try_rows(&accepted.row, &one, &mut findings.batch_rows_max) {
                Ok(batch) => largest = Some(batch),
                Err(why) => findings.batching = Err(why),
            }
        }
        findings.batch = self.time(&accepted.row, largest.unwrap_or_else(|| Batch::of(1, &one)));
        findings.one_row = self.time(&accepted.row, Batch::of(1, &one)).map(|batch| batch.run);
        findings.shapes = Some(one.outputs.into_iter().map(|output| output.shape).collect());
        findings.accepted = Some(accepted);
        findings
    }

    /// The first run of a model also sets things up, so that it says little of how long a row takes.
    fn faster_of_two(&mut self, row: &Inputs, first: Ran) -> Ran {
        const REPEATED_MAX: Duration = Duration::from_secs(1);
        if first.time > REPEATED_MAX {
            return first;
        }
        match self.trial.run_whole(row, 1) {
            Ok(second) if second.time < first.time => second,
            _ => first,
        }
    }

    /// Tries samples, then sizes and values in turn, with one row.
    fn first_success(&mut self) -> Result<(Accepted, Ran), String> {
        let mut first_problem = None;
        for row in self.subject.samples.iter().cloned() {
            match self.trial.run_whole(&row, 1) {
                Ok(ran) => return Ok((Accepted { row, kind: None }, ran)),
                Err(RunFailure::Lost(text)) => return Err(text),
                Err(failure) => _ = first_problem.get_or_insert(in_words(1, &failure)),
            }
        }
        let has_free_axes = self.signature.inputs.iter().any(is_free);
        let sizes = if has_free_axes { &SIZES[..] } else { &SIZES[..1] };
        for &size in sizes {
            let Some(shapes) = self.values.shapes(size, self.subject.batch_bytes_max) else {
                first_problem.get_or_insert_with(|| "made-up inputs of a usual size are too large".to_owned());
                continue;
            };
            for kind in KINDS {
                let row = self.values.row(&shapes, kind, 0);
                match self.trial.run_whole(&row, 1) {
                    Ok(ran) => return Ok((Accepted { row, kind: Some(kind) }, ran)),
                    Err(RunFailure::Lost(text)) => return Err(text),
                    Err(RunFailure::Rejected(text)) => first_problem = first_problem.or(Some(text)),
                    Err(RunFailure::Memory { .. }) => {}
                }
            }
        }
        Err(first_problem.unwrap_or_else(|| "memory ran out".to_owned()))
    }

    /// The number of rows that a model takes which refuses one, in words.
    fn find_baked_rows(&mut self) -> Option<String> {
        for size in [SIZES[0], SIZES[1]] {
            let shapes = self.values.shapes(size, self.subject.batch_bytes_max / u64::from(BAKED_ROWS[11]))?;
            for kind in [Kind::Usual, Kind::Ones] {
                let row = self.values.row(&shapes, kind, 0);
                let runs = |rows: &&u32| self.trial.run_whole(&row, **rows).is_ok();
                if let Some(rows) = BAKED_ROWS.iter().find(runs) {
                    return Some(format!(
                        "one made-up row fails and {rows} run, as if this size of batch were baked in{}",
                        suspicion(self.subject.clues)
                    ));
                }
            }
        }
        None
    }

    /// The largest batch first, so that the arena grows once; then small ones. Lowers `batch_rows_max` where memory
    /// runs out.
    fn try_rows(&mut self, row: &Inputs, one: &Ran, batch_rows_max: &mut u32) -> Result<Batch, String> {
        let baked = |why: String| format!("{why}{}", suspicion(self.subject.clues));
        check_rows(self.signature, one, one, 1).map_err(baked)?;
        let largest = loop {
            let rows = self.affordable_rows(one, *batch_rows_max);
            match self.trial.run_whole(row, rows) {
                Ok(ran) => {
                    check_rows(self.signature, one, &ran, rows).map_err(baked)?;
                    break Batch::of(rows, &ran);
                }
                Err(RunFailure::Memory { .. }) if rows > 1 => *batch_rows_max = rows / 2,
                Err(failure) => return Err(baked(in_words(rows, &failure))),
            }
        };
        for rows in [2, 3] {
            let ran = self.trial.run_whole(row, rows).map_err(|failure| baked(in_words(rows, &failure)))?;
            check_rows(self.signature, one, &ran, rows).map_err(baked)?;
        }
        Ok(largest)
    }

    /// Rows of a full batch, as far as bytes and time allow.
    fn affordable_rows(&self, one: &Ran, batch_rows_max: u32) -> u32 {
        let by_bytes = self.subject.batch_bytes_max / one.input_bytes.max(1);
        let by_time = BATCH_RUN_MAX.as_nanos() / one.time.as_nanos().max(1);
        let affordable = u64::try_from(by_time).unwrap_or(u64::MAX).min(by_bytes).max(3);
        u32::try_from(affordable).unwrap_or(u32::MAX).min(batch_rows_max).max(1)
    }

    /// Times a batch that has run once, cold; a slow one is not repeated.
    fn time(&mut self, row: &Inputs, batch: Batch) -> Option<Batch> {
        let slow = Duration::from_micros(self.subject.inline_run_us_max.saturating_mul(20));
        if batch.run > slow {
            return Some(batch);
        }
        let rows = vec![row; batch.rows as usize];
        let times = (0..TIMED_RUNS).map(|_| self.trial.run(&rows).map(|ran| ran.time));
        let mut times = times.collect::<Result<Vec<_>, _>>().ok()?;
        times.sort_unstable();
        Some(Batch { run: times[TIMED_RUNS / 2], ..batch })
    }
}

/// Whether the first axes of all inputs and outputs may count rows, by what the model says; else why not. Exporters
/// declare outputs of one row where they mean one of each row: there runs decide.
pub(crate) fn shares_rows(signature: &Signature) -> Result<(), String> {
    let inputs = signature.inputs.iter().filter(|port| !port.spec.optional).map(|port| ("input", port));
    let outputs = signature.outputs.iter().filter(|port| port.has_shape).map(|port| ("output", port));
    if inputs.clone().next().is_none() {
        return Err("the model has no input of its own".to_owned());
    }
    for (word, port) in inputs.chain(outputs) {
        let name = &port.spec.name;
        match port.spec.axes.first() {
            Some(Axis::Symbol(_)) => {}
            Some(Axis::Fixed(1)) if word == "output" => {}
            Some(Axis::Fixed(size)) => return Err(format!("first axis of {word} '{name}' is fixed at {size}")),
            None => return Err(format!("{word} '{name}' is a scalar")),
        }
    }
    Ok(())
}

/// Whether all outputs have so many rows, each like that of one row alone.
pub(crate) fn check_rows(signature: &Signature, one: &Ran, ran: &Ran, rows: u32) -> Result<(), String> {
    for ((port, one), found) in signature.outputs.iter().zip(&one.outputs).zip(&ran.outputs) {
        let (one, found) = (&one.shape, &found.shape);
        let is_like_one = found.first() == Some(&i64::from(rows)) && found.get(1..) == one.get(1..);
        if !is_like_one {
            let found = servekit_core::list(found);
            return Err(format!("{rows} made-up rows gave output '{}' the shape {found}", port.spec.name));
        }
    }
    Ok(())
}

/// What in the graph may be the reason, as the end of a text.
pub(crate) fn suspicion(clues: &Clues) -> String {
    if clues.suspects.is_empty() { String::new() } else { format!("; the graph has {}", clues.suspects.join(", ")) }
}

/// Whether an axis behind the first may have any size, or the first of an input that cannot be batched.
fn is_free(port: &Port) -> bool {
    !port.spec.optional && port.spec.axes.iter().any(|axis| matches!(axis, Axis::Symbol(_)))
}
