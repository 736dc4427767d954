//! Runs rows padded beside longer ones and compares with the same rows alone, at ever greater lengths.

use std::sync::Arc;
use std::time::{Duration, Instant};

use servekit_core::{Datatype, Inputs, Outputs, RunFailure};

use super::rows::{Rows, Shade, is_signed, negative};
use super::{Padding, Roles};
use crate::fault::Fault;
use crate::probe::{RUN_MAX, Subject};
use crate::session::Session;
use crate::signature::Port;
use crate::tolerance;
use crate::trial::{Ran, Trial};
use crate::values::nudged;

/// The first length that is tried, with all kinds of rows and neighbours.
pub(super) const LENGTH_FIRST: usize = 8;
/// Nobody's rows are longer, and the arena would grow for nothing.
const LENGTH_MAX: usize = 8192;
/// Up to this length a batch has six rows of as many lengths, then three.
const SMALL_LENGTH_MAX: usize = 16;
/// Up to this length memory is no reason not to try.
const USUAL_LENGTH_MAX: usize = 512;
/// Time and memory grow at most with the square of a length.
const GROWTH: u32 = 4;

/// Why a proof did not go on.
pub(super) enum Stop {
    /// Padding changes answers, in words.
    Differs(String),
    /// The model fails, in words.
    Fails(String),
    /// A run would need too much memory, in words.
    Memory(String),
    /// Time is up.
    Time,
}

impl Stop {
    /// Why lengths are not mixed, or no longer ones are.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Differs(text) | Self::Fails(text) | Self::Memory(text) => text.clone(),
            Self::Time => "proof_seconds_max was up".to_owned(),
        }
    }
}

/// How far the proof came.
pub(super) struct Reach {
    /// Lengths from 1 to this were proved.
    pub(super) length_max: usize,
    /// Why no longer ones were.
    pub(super) why: String,
}

/// Tries one model.
pub(super) struct Ladder<'a> {
    subject: &'a Subject<'a>,
    session: &'a Arc<Session>,
    until: Instant,
    pub(super) rows: Rows<'a>,
    /// Runs rows by themselves.
    alone: Trial,
    /// Of each output its axis of the length.
    pub(super) outputs: Box<[Option<usize>]>,
    /// Those that the model accepts.
    shades: Vec<Shade>,
    /// Largest values so far of each output, of rows that are not large and of those that are: one near zero comes of
    /// terms as large as the others'.
    magnitudes: [Vec<f64>; 2],
    /// Greatest difference that was found and allowed, as a share of the largest value.
    pub(super) difference: f64,
}

/// A row of a batch.
pub(super) struct Member {
    pub(super) length: usize,
    pub(super) inputs: Inputs,
    pub(super) is_large: bool,
}

impl<'a> Ladder<'a> {
    /// Finds out which rows the model accepts, and where its outputs have the length. Ends at about this time.
    pub(super) fn new(
        subject: &'a Subject<'a>,
        session: &'a Arc<Session>,
        rows: Rows<'a>,
        roles: &Roles,
        until: Instant,
    ) -> Result<Self, Stop> {
        let run_max = until.saturating_duration_since(Instant::now()).min(RUN_MAX);
        let mut ladder = Self {
            alone: Trial::new(subject.graph, session, run_max).map_err(failed)?,
            magnitudes: [0, 1].map(|_| vec![0.0; subject.graph.signature.outputs.len()]),
            outputs: Box::default(),
            shades: Vec::new(),
            difference: 0.0,
            subject,
            session,
            until,
            rows,
        };
        ladder.find_negatives(roles)?;
        ladder.find_shades(roles)?;
        ladder.find_outputs(roles)?;
        Ok(ladder)
    }

    /// A lane that pads like this.
    pub(super) fn padded(&self, padding: &Padding) -> Result<Trial, Stop> {
        let run_max = self.time_left().min(RUN_MAX);
        Trial::padded(self.subject.graph, self.session, run_max, padding).map_err(failed)
    }

    /// Proves lengths as far as time, memory and the model allow.
    pub(super) fn climb(&mut self, padded: &mut Trial, roles: &Roles) -> Result<Reach, Stop> {
        let (mut length_max, mut length) = (0, LENGTH_FIRST);
        let stop = loop {
            if length > LENGTH_MAX {
                return Ok(Reach { length_max, why: "none were tried".to_owned() });
            }
            let started_at = Instant::now();
            match self.prove(padded, roles, length) {
                Ok(()) if length_max == 0 => {
                    self.try_samples(padded, roles)?;
                    length_max = length;
                }
                Ok(()) => length_max = length,
                Err(stop @ Stop::Fails(_)) => {
                    length_max = self.bisect(padded, roles, length_max..length)?;
                    break stop;
                }
                Err(stop) => break stop,
            }
            if started_at.elapsed() * GROWTH > self.time_left() {
                break Stop::Time;
            }
            if length >= USUAL_LENGTH_MAX && self.is_memory_short() {
                break Stop::Memory("they would take most of the arena".to_owned());
            }
            length *= 2;
        };
        if length_max < 2 || matches!(stop, Stop::Differs(_)) {
            return Err(stop);
        }
        Ok(Reach { length_max, why: stop.text() })
    }

    /// The greatest length that works, between one that does (or 0) and one that fails.
    fn bisect(&mut self, padded: &mut Trial, roles: &Roles, mut range: std::ops::Range<usize>) -> Result<usize, Stop> {
        while range.len() > 1 {
            let middle = range.start + range.len() / 2;
            match self.prove(padded, roles, middle) {
                Ok(()) => range.start = middle,
                Err(Stop::Fails(_)) => range.end = middle,
                Err(stop @ Stop::Differs(_)) => return Err(stop),
                Err(Stop::Memory(_) | Stop::Time) => break,
            }
        }
        Ok(range.start)
    }

    /// Whether rows twice as long might need what lanes are to share: a proof must not be what fills the arena.
    fn is_memory_short(&self) -> bool {
        let peak = self.session.arena_bytes_peak().unwrap_or(0);
        peak.saturating_mul(u64::from(GROWTH)) > self.session.arena_bytes_max / 2
    }

    /// Runs the operator's own rows beside longer ones.
    fn try_samples(&mut self, padded: &mut Trial, roles: &Roles) -> Result<(), Stop> {
        const SAMPLES_MAX: usize = 4;
        let subject = self.subject;
        for inputs in subject.samples.iter().take(SAMPLES_MAX).cloned() {
            let lengths = self.rows.axes.iter().zip(&inputs).filter_map(|(axis, input)| {
                let size = *input.as_ref()?.shape.get((*axis)?)?;
                usize::try_from(size).ok()
            });
            let length = lengths.max().unwrap_or(0);
            if length == 0 {
                continue;
            }
            let other = self.member(length + length.max(LENGTH_FIRST), self.shades[0], roles)?;
            match self.compare(padded, &[Member { length, inputs, is_large: false }, other]) {
                // Too long for the model, most likely.
                Ok(()) | Err(Stop::Fails(_)) => {}
                Err(stop) => return Err(stop),
            }
        }
        Ok(())
    }

    /// Runs rows of this and lesser lengths together: of all kinds and in all places while they are short.
    pub(super) fn prove(&mut self, padded: &mut Trial, roles: &Roles, length: usize) -> Result<(), Stop> {
        let lengths = if length <= SMALL_LENGTH_MAX { part_lengths(length) } else { vec![length, length / 2 + 1, 1] };
        let turns = match length {
            ..=LENGTH_FIRST => self.shades.len(),
            _ => lengths.len() / 3,
        };
        for turn in 0..turns {
            // The longest is in another place each time, and each length comes in another kind.
            let member = |place: usize| {
                let length = lengths[(place + turn) % lengths.len()];
                self.member(length, self.shades[(place + turn + length) % self.shades.len()], roles)
            };
            let members = (0..lengths.len()).map(member).collect::<Result<Vec<_>, _>>()?;
            self.compare(padded, &members)?;
        }
        Ok(())
    }

    fn member(&self, length: usize, shade: Shade, roles: &Roles) -> Result<Member, Stop> {
        let inputs = self.rows.row(length, shade, roles).ok_or_else(too_large)?;
        Ok(Member { length, inputs, is_large: shade == Shade::Large })
    }

    /// Runs rows together, each padded to the longest, and alone.
    pub(super) fn compare(&mut self, padded: &mut Trial, members: &[Member]) -> Result<(), Stop> {
        let mut alone = Vec::with_capacity(members.len());
        for member in members {
            let outputs = self.run(&[&member.inputs], None)?.outputs;
            let magnitudes = &mut self.magnitudes[usize::from(member.is_large)];
            for (magnitude, output) in magnitudes.iter_mut().zip(&outputs) {
                *magnitude = magnitude.max(tolerance::magnitude(output));
            }
            alone.push(outputs);
        }
        let inputs: Vec<&Inputs> = members.iter().map(|member| &member.inputs).collect();
        let together = self.run(&inputs, Some(padded))?.outputs;
        let longest = members.iter().map(|member| member.length).max().unwrap_or(0);
        for (place, (member, expected)) in members.iter().zip(&alone).enumerate() {
            let own = |(whole, axis): (&servekit_core::Tensor, &Option<usize>)| match axis {
                Some(axis) => whole.rows(place, 1).cut(*axis, member.length),
                None => whole.rows(place, 1),
            };
            let found: Outputs = together.iter().zip(&self.outputs).map(own).collect();
            self.judge(member, longest, expected, &found)?;
        }
        Ok(())
    }

    /// Whether what a row was answered among others is what it was answered alone.
    fn judge(&mut self, member: &Member, longest: usize, alone: &Outputs, found: &Outputs) -> Result<(), Stop> {
        let magnitudes = &self.magnitudes[usize::from(member.is_large)];
        for (index, (expected, found)) in alone.iter().zip(found).enumerate() {
            let share = tolerance::share(tolerance::difference(expected, found), magnitudes[index]);
            let allowed = tolerance::relative(expected.datatype, self.subject.clues.coarsest);
            if share > allowed || share.is_nan() {
                let name = &self.output(index).spec.name;
                let length = member.length;
                let by =
                    if share.is_finite() { format!(" by {share:.1e} of its largest value") } else { String::new() };
                return Err(Stop::Differs(format!(
                    "padding a row of length {length} to {longest} changes output '{name}'{by}"
                )));
            }
            self.difference = self.difference.max(share);
        }
        Ok(())
    }

    fn output(&self, index: usize) -> &Port {
        &self.subject.graph.signature.outputs[index]
    }

    /// Runs rows on this lane, or on the one that pads nothing.
    fn run(&mut self, rows: &[&Inputs], lane: Option<&mut Trial>) -> Result<Ran, Stop> {
        if self.time_left().is_zero() {
            return Err(Stop::Time);
        }
        lane.unwrap_or(&mut self.alone).run(rows).map_err(|failure| match failure {
            RunFailure::Lost(_) if Instant::now() >= self.until => Stop::Time,
            RunFailure::Rejected(text) | RunFailure::Lost(text) => Stop::Fails(format!("the model fails: {text}")),
            RunFailure::Memory { allowed, .. } => Stop::Memory(format!("they need more than {allowed} bytes")),
        })
    }

    fn time_left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Whole numbers below zero are made up only where the model takes them: most tables do not.
    fn find_negatives(&mut self, roles: &Roles) -> Result<(), Stop> {
        for index in 0..self.rows.ports.len() {
            let port = &self.rows.ports[index];
            if !is_signed(port.spec.datatype) || roles.hides(index).is_some() {
                continue;
            }
            let mut row = self.rows.row(2, Shade::Usual, roles).ok_or_else(too_large)?;
            let Some(Some(tensor)) = row.get_mut(index) else { continue };
            *tensor = negative(tensor);
            match self.run(&[&row], None) {
                Ok(_) => self.rows.takes_negatives[index] = true,
                Err(Stop::Time) => return Err(Stop::Time),
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn find_shades(&mut self, roles: &Roles) -> Result<(), Stop> {
        let mut failure = None;
        for shade in Shade::ALL {
            let row = self.rows.row(3, shade, roles).ok_or_else(too_large)?;
            match self.is_steady(&row) {
                Ok(true) => self.shades.push(shade),
                Ok(false) => {}
                Err(stop @ Stop::Time) => return Err(stop),
                Err(stop) => failure = failure.or(Some(stop)),
            }
        }
        // One kind of row proves little.
        if self.shades.len() < 2 {
            return Err(failure.unwrap_or_else(|| Stop::Differs("the model magnifies rounding".to_owned())));
        }
        Ok(())
    }

    /// Whether the answer to a row changes in proportion when its inputs change by as little as answers may: where it
    /// leaps, rounding alone could make the difference that is looked for.
    fn is_steady(&mut self, row: &Inputs) -> Result<bool, Stop> {
        /// Sums are taken in double or single steps of what is allowed, divided by about this.
        const GAIN_MAX: f64 = 256.0;
        let answer = self.run(&[row], None)?.outputs;
        let coarsest = self.subject.clues.coarsest;
        let Some(nudged) = nudged(row, tolerance::relative(Datatype::Fp32, coarsest), 0) else { return Ok(true) };
        let other = self.run(&[&nudged], None)?.outputs;
        Ok(answer.iter().zip(&other).all(|(answer, other)| {
            let share = tolerance::share(tolerance::difference(answer, other), tolerance::magnitude(answer));
            let allowed = tolerance::relative(answer.datatype, coarsest);
            allowed == 0.0 || share <= GAIN_MAX * allowed
        }))
    }

    /// Which axis of each output has the length, by the shapes of several lengths: names alone would be believed.
    fn find_outputs(&mut self, roles: &Roles) -> Result<(), Stop> {
        const LENGTHS: [usize; 3] = [3, 5, 4];
        let mut shapes = Vec::new();
        for length in LENGTHS {
            let row = self.rows.row(length, self.shades[0], roles).ok_or_else(too_large)?;
            let ran = self.run(&[&row, &row], None)?;
            shapes.push(ran.outputs.into_iter().map(|output| output.shape).collect::<Vec<_>>());
        }
        let axis = |output: usize| {
            let of = |length: usize| shapes[length].get(output).map_or(&[][..], |shape| shape.as_slice());
            let name = &self.output(output).spec.name;
            let mut axes = (1..of(0).len()).filter(|&axis| (1..3).any(|it| of(it).get(axis) != of(0).get(axis)));
            let is_length = |axis: usize| (0..3).all(|it| of(it).get(axis) == Some(&(LENGTHS[it] as i64)));
            match (axes.next(), axes.next()) {
                (None, _) if (1..3).all(|it| of(it) == of(0)) => Ok(None),
                (Some(axis), None) if is_length(axis) => Ok(Some(axis)),
                (Some(_), Some(_)) => Err(Stop::Differs(format!("output '{name}' has the length in two axes"))),
                _ => Err(Stop::Differs(format!(
                    "output '{name}' has shapes {} and {} for lengths 3 and 5, neither fixed nor with the length",
                    servekit_core::list(of(0)),
                    servekit_core::list(of(1))
                ))),
            }
        };
        self.outputs = (0..self.subject.graph.signature.outputs.len()).map(axis).collect::<Result<_, _>>()?;
        Ok(())
    }
}

/// Six lengths up to this one.
fn part_lengths(length: usize) -> Vec<usize> {
    [8, 1, 7, 5, 2, 3].map(|eighths| (length * eighths / 8).max(1)).to_vec()
}

fn failed(fault: Fault) -> Stop {
    Stop::Fails(fault.text)
}

fn too_large() -> Stop {
    Stop::Memory("they are larger than a batch may be".to_owned())
}
