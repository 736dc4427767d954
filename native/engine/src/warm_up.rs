//! Runs a model at sizes from one row to a full batch before it is ready, so that its first requests find memory and
//! caches as later ones do, and batching starts from how long runs take. Bounded in time, and never a reason to refuse a
//! load.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use servekit_core::{ClassSurface, Inputs, Latency, Ragged, RunFailure, Surface, Tensor};

use crate::fault::Fault;
use crate::probe::{Accepted, Findings, RUN_MAX, Subject};
use crate::profile::{Profile, ProfileUse};
use crate::session::Session;
use crate::trial::{Trial, bytes_of};
use crate::values::Kind;

/// Runs of each size: the median of fewer says little.
const ROUNDS: usize = 3;
/// A model whose runs of all sizes take less is not kept from its requests for much longer.
const FAST: Duration = Duration::from_millis(20);
/// Of the time left, the part that the largest batch may take.
const LARGEST_SHARE: u32 = 6;
/// No length that is told apart is shorter.
const LENGTH_MIN: u64 = 8;
/// Lengths are this many times apart; as many as `LENGTHS` are tried, the longest first.
const LENGTH_STEP: u64 = 4;
const LENGTHS: u32 = 3;

/// What is run, and what bounds it.
pub(crate) struct WarmUp<'a> {
    pub(crate) subject: &'a Subject<'a>,
    pub(crate) session: &'a Arc<Session>,
    pub(crate) findings: &'a Findings,
    /// Lengths that may be mixed, each of which takes its own time.
    pub(crate) ragged: Option<&'a Ragged>,
    pub(crate) time_max: Duration,
}

/// What it gave.
pub(crate) struct Warmed {
    /// The first is what batching starts from; empty where nothing was run.
    pub(crate) surfaces: Vec<ClassSurface>,
    pub(crate) profile: ProfileUse,
    /// How many runs and how long, in words.
    pub(crate) text: String,
}

/// What was kept of earlier starts, as it was read.
pub(crate) enum Kept {
    Off,
    Read(Result<Option<Profile>, String>),
}

impl WarmUp<'_> {
    /// Runs the model, and finds out whether what was kept still holds.
    pub(crate) fn run(&self, kept: Kept) -> Result<Warmed, Fault> {
        let started_at = Instant::now();
        let (profile, mut profile_use) = match kept {
            Kept::Off => (None, ProfileUse::Off),
            Kept::Read(Ok(None)) => (None, ProfileUse::None),
            Kept::Read(Ok(profile)) => (profile, ProfileUse::None),
            Kept::Read(Err(why)) => (None, ProfileUse::Ignored(why)),
        };
        let Some(accepted) = self.findings.accepted.as_ref().filter(|_| !self.time_max.is_zero()) else {
            if profile.is_some() {
                profile_use = ProfileUse::Discarded("no run was made that it could be compared with".to_owned());
            }
            let text = "no runs".to_owned();
            return Ok(Warmed { surfaces: Vec::new(), profile: profile_use, text });
        };
        let deadline = started_at + self.time_max;
        let mut sweeps = self.sweeps(accepted, deadline)?;
        let usual = sweeps.len() / 2;
        let mut surfaces = Vec::new();
        if let Some(profile) = profile {
            let sweep = &mut sweeps[usual];
            sweep.probe(deadline);
            match profile.fitted((&sweep.shape, sweep.length), &sweep.medians()) {
                Ok((fitted, ratio)) => {
                    let samples = fitted.surfaces[0].surface.samples;
                    let text = format!("{samples} runs were kept, and runs take {ratio:.2} times as long now");
                    profile_use = ProfileUse::Used(text);
                    surfaces = fitted.surfaces;
                }
                Err(why) => profile_use = ProfileUse::Discarded(why),
            }
        }
        if surfaces.is_empty() {
            let count = sweeps.len() as u32;
            for (sweep, left) in sweeps.iter_mut().zip((1..=count).rev()) {
                sweep.fill(Instant::now() + deadline.saturating_duration_since(Instant::now()) / left);
            }
            let others = sweeps.iter().enumerate().filter(|(index, _)| *index != usual).map(|(_, sweep)| sweep);
            surfaces = sweeps[usual..=usual].iter().chain(others).filter_map(Sweep::known).collect();
        }
        let runs: u32 = sweeps.iter().map(|sweep| sweep.runs).sum();
        let text = format!("{runs} runs in {:.1} ms", started_at.elapsed().as_secs_f64() * 1e3);
        Ok(Warmed { surfaces, profile: profile_use, text })
    }

    /// One for each length, the longest first, because the arena grows once then.
    fn sweeps(&self, accepted: &Accepted, deadline: Instant) -> Result<Vec<Sweep>, Fault> {
        let rows_max = if self.findings.batching.is_ok() { self.findings.batch_rows_max.max(1) } else { 1 };
        let mut sweeps = Vec::new();
        for row in self.rows(accepted) {
            let by_bytes = self.subject.batch_bytes_max / bytes_of(&row).max(1);
            let rows_max = rows_max.min(u32::try_from(by_bytes).unwrap_or(u32::MAX)).max(1);
            let run_max = deadline.saturating_duration_since(Instant::now()).min(RUN_MAX);
            let trial = Trial::new(self.subject.graph, self.session, run_max)?;
            let mut sweep = Sweep::new(trial, row, rows_max);
            if self.findings.batching.is_ok() {
                sweep.name(self.ragged);
            }
            sweeps.push(sweep);
        }
        Ok(sweeps)
    }

    /// The row that the model answers, or one of each length.
    fn rows(&self, accepted: &Accepted) -> Vec<Inputs> {
        // A sample's values are real, so they are not stretched.
        let (Some(ragged), Some(kind)) = (self.ragged, accepted.kind) else { return vec![accepted.row.clone()] };
        let row = |length: u64| {
            let mut shapes = accepted.shapes();
            for (shape, axis) in shapes.iter_mut().zip(&ragged.inputs) {
                if let Some(size) = axis.and_then(|axis| shape.get_mut(axis)) {
                    *size = i64::try_from(length).unwrap_or(i64::MAX);
                }
            }
            let kind = if kind == Kind::Zeros { Kind::Usual } else { kind };
            self.subject.values().row(&shapes, kind, 0)
        };
        lengths(ragged.length_max).into_iter().map(row).collect()
    }
}

/// Runs one row and two, and says how long they take at best, for neighbours only ever make runs longer; `None`
/// where time is up before one is known.
pub(crate) fn sketch(
    subject: &Subject<'_>,
    session: &Arc<Session>,
    findings: &Findings,
    deadline: Instant,
) -> Result<Option<Latency>, Fault> {
    const ROWS_MAX: u32 = 2;
    let Some(accepted) = &findings.accepted else { return Ok(None) };
    let is_batched = findings.batching.is_ok();
    let rows_max = if is_batched { findings.batch_rows_max.clamp(1, ROWS_MAX) } else { 1 };
    let run_max = deadline.saturating_duration_since(Instant::now()).min(RUN_MAX);
    let trial = Trial::new(subject.graph, session, run_max)?;
    let mut sweep = Sweep::new(trial, accepted.row.clone(), rows_max);
    sweep.probe(deadline);
    Ok(sweep.best())
}

/// The lengths that are tried, the longest first.
fn lengths(length_max: u64) -> Vec<u64> {
    let mut lengths: Vec<u64> =
        (0..LENGTHS).map(|step| (length_max / LENGTH_STEP.pow(step)).max(LENGTH_MIN).min(length_max)).collect();
    lengths.dedup();
    lengths
}

/// All sizes of one length.
struct Sweep {
    trial: Trial,
    row: Inputs,
    /// In the words of those who tell classes apart; empty where none are.
    shape: String,
    length: Option<u64>,
    rows_max: u32,
    /// By rows, in the order in which they ran; without the first, which finds nothing prepared.
    times: BTreeMap<u32, Vec<Duration>>,
    runs: u32,
    /// The model has failed, so nothing more is tried.
    is_over: bool,
}

impl Sweep {
    fn new(trial: Trial, row: Inputs, rows_max: u32) -> Self {
        let (shape, length) = (String::new(), None);
        Self { trial, row, shape, length, rows_max, times: BTreeMap::new(), runs: 0, is_over: false }
    }

    /// Says of which class its row is.
    fn name(&mut self, ragged: Option<&Ragged>) {
        let ragged = ragged.filter(|ragged| ragged.mixes(&self.row));
        self.shape = shape_of(&self.row, ragged);
        self.length = ragged.map(|ragged| ragged.length(&self.row));
    }

    /// Runs the sizes that say most: one row, a quarter, and the largest batch that time allows.
    fn probe(&mut self, deadline: Instant) {
        let largest = self.prepare(deadline);
        self.rounds(&[largest, 1, (largest / 4).max(1)], deadline);
    }

    /// Runs all sizes, the largest first.
    fn fill(&mut self, deadline: Instant) {
        let largest = self.prepare(deadline);
        let next = |rows: &u32| (*rows > 1).then(|| 1 << (rows - 1).ilog2());
        let sizes: Vec<u32> = std::iter::successors(Some(largest), next).collect();
        self.rounds(&sizes, deadline);
    }

    /// The rows of the largest batch that time allows, which has run once then.
    fn prepare(&mut self, deadline: Instant) -> u32 {
        if let Some(&known) = self.times.keys().next_back() {
            return known;
        }
        // The first run finds nothing prepared.
        let first = self.run(1);
        let Some(one) = self.run(1).or(first) else { return 1 };
        let share = deadline.saturating_duration_since(Instant::now()) / LARGEST_SHARE;
        let by_time = share.as_nanos() / one.as_nanos().max(1);
        let largest = u32::try_from(by_time).unwrap_or(u32::MAX).clamp(1, self.rows_max);
        if largest > 1 {
            self.run(largest);
        }
        largest
    }

    fn rounds(&mut self, sizes: &[u32], deadline: Instant) {
        let started_at = Instant::now();
        let mut was_fast = true;
        for round in 0..ROUNDS {
            if round > 0 && was_fast && started_at.elapsed() > FAST {
                break;
            }
            for &rows in sizes {
                if self.times.get(&rows).is_some_and(|times| times.len() > round) {
                    continue;
                }
                if self.is_over || Instant::now() + self.expected(rows) > deadline {
                    break;
                }
                if let Some(time) = self.run(rows) {
                    self.times.entry(rows).or_default().push(time);
                }
            }
            was_fast &= started_at.elapsed() < FAST;
        }
    }

    /// By the runs of this size, or else by those of the next larger one.
    fn expected(&self, rows: u32) -> Duration {
        self.times.range(rows..).find_map(|(_, times)| times.last().copied()).unwrap_or_default()
    }

    /// What a lane is occupied for.
    fn run(&mut self, rows: u32) -> Option<Duration> {
        let copies = vec![&self.row; rows as usize];
        let started_at = Instant::now();
        let ran = self.trial.run(&copies);
        let time = started_at.elapsed();
        self.runs += 1;
        match ran {
            Ok(_) => Some(time),
            Err(RunFailure::Memory { .. }) => None,
            Err(RunFailure::Rejected(_) | RunFailure::Lost(_)) => {
                self.is_over = true;
                None
            }
        }
    }

    fn medians(&self) -> Vec<(u32, Duration)> {
        let median = |times: &Vec<Duration>| {
            let mut times = times.clone();
            times.sort_unstable();
            times.get(times.len() / 2).copied()
        };
        self.times.iter().filter_map(|(&rows, times)| Some((rows, median(times)?))).collect()
    }

    /// Taught by all runs, round by round, so that each size counts from the start.
    fn latency(&self) -> Option<Latency> {
        let largest = *self.times.keys().next_back()?;
        let mut latency = Latency::new(self.rows_max.max(largest));
        for round in 0..ROUNDS {
            for (&rows, times) in self.times.iter().rev() {
                if let Some(&time) = times.get(round) {
                    latency.observe(rows, time);
                }
            }
        }
        Some(latency)
    }

    /// Taught by the shortest run of each size.
    fn best(&self) -> Option<Latency> {
        let largest = *self.times.keys().next_back()?;
        let mut latency = Latency::new(self.rows_max.max(largest));
        for (&rows, times) in self.times.iter().rev() {
            times.iter().min().into_iter().for_each(|&time| latency.observe(rows, time));
        }
        Some(latency)
    }

    fn known(&self) -> Option<ClassSurface> {
        let surface: Surface = self.latency()?.surface();
        Some(ClassSurface { shape: self.shape.clone(), length: self.length, surface })
    }
}

/// The shape of a row, input by input, as queues call it: `[?, 16], [?, n]`, where `?` counts rows and `n` is a length
/// that may differ; `-` for an input that is left out.
fn shape_of(row: &Inputs, ragged: Option<&Ragged>) -> String {
    let input = |(place, tensor): (usize, &Option<Tensor>)| {
        let Some(tensor) = tensor else { return "-".to_owned() };
        let mixed = ragged.and_then(|ragged| *ragged.inputs.get(place)?);
        let size = |(axis, size): (usize, &i64)| {
            if mixed == Some(axis) { ", n".to_owned() } else { format!(", {size}") }
        };
        format!("[?{}]", tensor.shape.iter().enumerate().skip(1).map(size).collect::<String>())
    };
    row.iter().enumerate().map(input).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_few_and_the_longest_comes_first() {
        assert_eq!(lengths(512), [512, 128, 32]);
        assert_eq!(lengths(64), [64, 16, 8]);
        assert_eq!(lengths(16), [16, 8]);
        assert_eq!(lengths(4), [4]);
    }
}
