//! Tries a model on made-up inputs at load: whether rows may share runs, how long a full batch takes, and how much
//! memory it needs. What cannot be tried is not trusted, and never a reason to refuse a model.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use servekit_core::{Axis, Datatype, Inputs, RunFailure, Shape, Tensor, element_count};

use crate::Terminator;
use crate::fault::Fault;
use crate::lane::{Graph, Lane, Part};
use crate::session::Session;
use crate::signature::{Port, Signature};

/// What bounds a probe.
pub(crate) struct Bounds {
    pub(crate) batch_rows_max: u32,
    pub(crate) batch_bytes_max: u64,
    /// Slower models are timed once only: they do not run inline anyway.
    pub(crate) inline_run_us_max: u64,
}

/// What a probe has found.
pub(crate) struct Findings {
    /// Whether rows may share runs; else why not, in words.
    pub(crate) batching: Result<(), String>,
    /// The shapes of all outputs for one row.
    pub(crate) shapes: Option<Vec<Shape>>,
    /// The full batch.
    pub(crate) batch: Option<Batch>,
    /// Why nothing could be tried, in words.
    pub(crate) failure: Option<String>,
    /// Rows that a batch may have: fewer than asked for where memory ran out.
    pub(crate) batch_rows_max: u32,
    /// Whether any run has asked for more memory than the arena may have.
    pub(crate) ran_out_of_memory: bool,
    /// Most bytes that a run of a full batch is expected to take from the arena.
    pub(crate) peak_bytes: u64,
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
const RUN_MAX: Duration = Duration::from_secs(10);
/// The largest batch is cut to what one row's time lets expect.
const BATCH_RUN_MAX: Duration = Duration::from_millis(300);
/// Sizes of free axes, in the order in which they are tried: a usual one first, so that time and memory mean something.
const SIZES: [i64; 10] = [64, 1, 2, 3, 4, 8, 16, 32, 128, 224];
const TIMED_RUNS: usize = 5;

/// Tries the model of this session.
pub(crate) fn probe(graph: &Arc<Graph>, session: &Arc<Session>, bounds: &Bounds) -> Result<Findings, Fault> {
    let lane = Lane::new(Arc::clone(graph), Arc::clone(session))?;
    let _watch = Watch::over(lane.terminator());
    let mut probe = Probe { lane, signature: &graph.signature, bounds, ran_out_of_memory: false };
    let mut findings = probe.find();
    findings.ran_out_of_memory = probe.ran_out_of_memory;
    let peak = session.arena_bytes_peak().unwrap_or(0);
    findings.peak_bytes = findings.of_full_batch(peak);
    Ok(findings)
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
    lane: Lane,
    signature: &'a Signature,
    bounds: &'a Bounds,
    ran_out_of_memory: bool,
}

/// A way of making inputs up that the model has accepted.
#[derive(Clone, Copy)]
struct Recipe {
    size: i64,
    is_ones: bool,
}

/// One successful run.
struct Ran {
    time: Duration,
    input_bytes: u64,
    shapes: Vec<Shape>,
}

impl Probe<'_> {
    fn find(&mut self) -> Findings {
        let mut findings = Findings {
            batching: shares_rows(self.signature),
            shapes: None,
            batch: None,
            failure: None,
            batch_rows_max: self.bounds.batch_rows_max,
            ran_out_of_memory: false,
            peak_bytes: 0,
        };
        let (recipe, one) = match self.first_success() {
            Ok(success) => success,
            Err(text) => {
                if findings.batching.is_ok() {
                    findings.batching = Err("no made-up input ran, so sharing could not be tried".to_owned());
                }
                findings.failure = Some(text);
                return findings;
            }
        };
        let mut largest = None;
        if findings.batching.is_ok() {
            match self.try_rows(recipe, &one, &mut findings.batch_rows_max) {
                Ok(batch) => largest = Some(batch),
                Err(why) => findings.batching = Err(why),
            }
        }
        findings.batch = self.time(recipe, largest.unwrap_or_else(|| Batch::of(1, &one)));
        findings.shapes = Some(one.shapes);
        findings
    }

    /// Tries sizes and values in turn, with one row.
    fn first_success(&mut self) -> Result<(Recipe, Ran), String> {
        let has_free_axes = self.signature.inputs.iter().any(is_free);
        let sizes = if has_free_axes { &SIZES[..] } else { &SIZES[..1] };
        let mut first_problem = None;
        for &size in sizes {
            for is_ones in [true, false] {
                let recipe = Recipe { size, is_ones };
                match self.run(recipe, 1) {
                    Ok(ran) => return Ok((recipe, ran)),
                    Err(RunFailure::Lost(text)) => return Err(text),
                    Err(RunFailure::Rejected(text)) => first_problem = first_problem.or(Some(text)),
                    Err(RunFailure::Memory { .. }) => {}
                }
            }
        }
        Err(first_problem.unwrap_or_else(|| "memory ran out".to_owned()))
    }

    /// The largest batch first, so that the arena grows once; then small ones. Lowers `batch_rows_max` where memory
    /// runs out.
    fn try_rows(&mut self, recipe: Recipe, one: &Ran, batch_rows_max: &mut u32) -> Result<Batch, String> {
        check_rows(self.signature, &one.shapes, one, 1)?;
        let largest = loop {
            let rows = self.affordable_rows(one, *batch_rows_max);
            match self.run(recipe, rows) {
                Ok(ran) => {
                    check_rows(self.signature, &one.shapes, &ran, rows)?;
                    break Batch::of(rows, &ran);
                }
                Err(RunFailure::Memory { .. }) if rows > 1 => *batch_rows_max = rows / 2,
                Err(failure) => return Err(in_words(rows, &failure)),
            }
        };
        for rows in [2, 3] {
            let ran = self.run(recipe, rows).map_err(|failure| in_words(rows, &failure))?;
            check_rows(self.signature, &one.shapes, &ran, rows)?;
        }
        Ok(largest)
    }

    /// Rows of a full batch, as far as bytes and time allow.
    fn affordable_rows(&self, one: &Ran, batch_rows_max: u32) -> u32 {
        let by_bytes = self.bounds.batch_bytes_max / one.input_bytes.max(1);
        let by_time = BATCH_RUN_MAX.as_nanos() / one.time.as_nanos().max(1);
        let affordable = u64::try_from(by_time).unwrap_or(u64::MAX).min(by_bytes).max(3);
        u32::try_from(affordable).unwrap_or(u32::MAX).min(batch_rows_max).max(1)
    }

    /// Times a batch that has run once, cold; a slow one is not repeated.
    fn time(&mut self, recipe: Recipe, batch: Batch) -> Option<Batch> {
        let slow = Duration::from_micros(self.bounds.inline_run_us_max.saturating_mul(20));
        if batch.run > slow {
            return Some(batch);
        }
        let times = (0..TIMED_RUNS).map(|_| self.run(recipe, batch.rows).map(|ran| ran.time));
        let mut times = times.collect::<Result<Vec<_>, _>>().ok()?;
        times.sort_unstable();
        Some(Batch { run: times[TIMED_RUNS / 2], ..batch })
    }

    fn run(&mut self, recipe: Recipe, rows: u32) -> Result<Ran, RunFailure> {
        let inputs = made_up(self.signature, recipe, i64::from(rows), self.bounds.batch_bytes_max)
            .ok_or_else(|| RunFailure::Rejected("made-up inputs of a usual size are too large".to_owned()))?;
        let ran = self.lane.run_parts(&[Part { inputs: &inputs, rows: rows as usize, is_whole: true }], rows);
        self.ran_out_of_memory |= matches!(ran, Err(RunFailure::Memory { .. }));
        let ran = ran?;
        Ok(Ran {
            time: ran.run,
            input_bytes: inputs.iter().flatten().map(|tensor| tensor.data.len() as u64).sum(),
            shapes: ran.outputs.into_iter().map(|output| output.shape).collect(),
        })
    }
}

/// Whether the first axes of all inputs and outputs may count rows, by what the model says; else why not.
fn shares_rows(signature: &Signature) -> Result<(), String> {
    let inputs = signature.inputs.iter().filter(|port| !port.spec.optional).map(|port| ("input", port));
    let outputs = signature.outputs.iter().filter(|port| port.has_shape).map(|port| ("output", port));
    if inputs.clone().next().is_none() {
        return Err("the model has no input of its own".to_owned());
    }
    for (word, port) in inputs.chain(outputs) {
        let name = &port.spec.name;
        match port.spec.axes.first() {
            Some(Axis::Symbol(_)) => {}
            Some(Axis::Fixed(size)) => return Err(format!("first axis of {word} '{name}' is fixed at {size}")),
            None => return Err(format!("{word} '{name}' is a scalar")),
        }
    }
    Ok(())
}

/// Whether all outputs have so many rows, each like that of one row alone.
fn check_rows(signature: &Signature, one: &[Shape], ran: &Ran, rows: u32) -> Result<(), String> {
    for ((port, one), found) in signature.outputs.iter().zip(one).zip(&ran.shapes) {
        let is_like_one = found.first() == Some(&i64::from(rows)) && found.get(1..) == one.get(1..);
        if !is_like_one {
            let found = servekit_core::list(found);
            return Err(format!("{rows} made-up rows gave output '{}' the shape {found}", port.spec.name));
        }
    }
    Ok(())
}

fn in_words(rows: u32, failure: &RunFailure) -> String {
    match failure {
        RunFailure::Rejected(text) | RunFailure::Lost(text) => format!("{rows} made-up rows failed: {text}"),
        RunFailure::Memory { allowed, .. } => format!("{rows} made-up rows need more than {allowed} bytes"),
    }
}

/// Whether an axis behind the first may have any size, or the first of an input that cannot be batched.
fn is_free(port: &Port) -> bool {
    !port.spec.optional && port.spec.axes.iter().any(|axis| matches!(axis, Axis::Symbol(_)))
}

/// Inputs of so many rows; `None` where they are larger than a batch may be. Optional ones are left out.
fn made_up(signature: &Signature, recipe: Recipe, rows: i64, bytes_max: u64) -> Option<Inputs> {
    let is_batched = shares_rows(signature).is_ok();
    let mut bytes_left = bytes_max;
    let input = |port: &Port| {
        if port.spec.optional {
            return Some(None);
        }
        let size = |(index, axis): (usize, &Axis)| match axis {
            Axis::Fixed(size) => *size,
            Axis::Symbol(_) if index == 0 && is_batched => rows,
            Axis::Symbol(_) => recipe.size,
        };
        let shape: Shape = port.spec.axes.iter().enumerate().map(size).collect();
        let element = made_up_element(port.spec.datatype, recipe.is_ones);
        let bytes = element_count(&shape)?.checked_mul(element.len() as u64)?;
        bytes_left = bytes_left.checked_sub(bytes)?;
        let data = element.repeat(usize::try_from(bytes).ok()? / element.len());
        Some(Some(Tensor { datatype: port.spec.datatype, shape, data: data.into() }))
    };
    signature.inputs.iter().map(input).collect()
}

/// One, or zero, as an element of a tensor.
fn made_up_element(datatype: Datatype, is_one: bool) -> &'static [u8] {
    match (datatype, is_one) {
        (Datatype::Bytes, true) => b"\x01\0\0\x001",
        (Datatype::Bytes, false) => b"\0\0\0\0",
        (Datatype::Fp16, true) => &[0x00, 0x3c],
        (Datatype::Bf16, true) => &[0x80, 0x3f],
        (Datatype::Fp32, true) => &[0, 0, 0x80, 0x3f],
        (Datatype::Fp64, true) => &[0, 0, 0, 0, 0, 0, 0xf0, 0x3f],
        (_, true) => &[1, 0, 0, 0, 0, 0, 0, 0][..datatype.element_bytes().unwrap_or(1)],
        (_, false) => &[0; 8][..datatype.element_bytes().unwrap_or(1)],
    }
}

/// Stops runs that take too long, for as long as it lives.
struct Watch {
    /// Closed when the watch ends.
    _end: Sender<()>,
}

impl Watch {
    fn over(terminator: Terminator) -> Option<Self> {
        const LOOK_EVERY: Duration = Duration::from_millis(100);
        let (end, ended) = channel();
        let watch = move || {
            while ended.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                let _ = terminator.stop_overdue(Instant::now(), RUN_MAX);
            }
        };
        // Without a thread the probe goes on unwatched.
        std::thread::Builder::new().name("servekit-probe".to_owned()).spawn(watch).ok()?;
        Some(Self { _end: end })
    }
}
