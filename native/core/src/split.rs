//! A request of more rows than a batch may have: cut into parts that run by themselves, answered once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::{Answers, Caller, Inputs, Outputs, Pending, Prepared, Reason, Refusal, Reply, Tensor, Timing, Way};

/// What the parts of one request share.
#[derive(Debug)]
pub(crate) struct Split {
    /// Rows of the whole request.
    pub(crate) rows: u32,
    pub(crate) arrived_at: Instant,
    pub(crate) queued_at: Instant,
    pub(crate) deadline: Instant,
    pub(crate) priority: u8,
    pub(crate) alone: bool,
    /// Kept until the last part has gone.
    prepared: Option<Box<Prepared>>,
    /// Bytes that the outputs of all parts together may have.
    answer_bytes_max: u64,
    /// Parts may end on several lanes at once; held for as long as it takes to put one part's outputs in.
    merge: Mutex<Merge>,
}

/// What is there of the answer.
#[derive(Debug)]
struct Merge {
    /// `None` once answered, by the last part or by the first that failed; then no further part runs.
    caller: Option<Caller>,
    /// Of the request, while there is a caller.
    way: Option<Box<Way>>,
    /// Outputs with the row they begin at, in the order in which they came.
    parts: Vec<(u32, Outputs)>,
    rows: u32,
    bytes: u64,
    timing: Timing,
    /// Sums over the parts, without those of the preparation.
    steps: Vec<Duration>,
}

impl Split {
    /// Takes a request over; its inputs stay with the first part.
    pub(crate) fn of(pending: Pending, answer_bytes_max: u64) -> Part {
        let Pending { caller, inputs, rows, arrived_at, deadline, priority, alone, prepared, way } = pending;
        let queued_at = way.as_ref().map_or(arrived_at, |way| way.since);
        let (timing, steps) = (Timing::default(), Vec::new());
        let merge = Merge { caller: Some(caller), way, parts: Vec::new(), rows: 0, bytes: 0, timing, steps };
        let merge = Mutex::new(merge);
        let split = Self { rows, arrived_at, queued_at, deadline, priority, alone, prepared, answer_bytes_max, merge };
        Part { split: Arc::new(split), inputs, start: 0, rows }
    }

    fn merge(&self) -> MutexGuard<'_, Merge> {
        self.merge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether any part is still worth running.
    pub(crate) fn is_waiting(&self) -> bool {
        self.merge().caller.as_ref().is_some_and(Caller::is_waiting)
    }

    /// Looks at the way of the request, while it has one.
    pub(crate) fn with_way<T>(&self, look: impl FnOnce(Option<&Way>) -> T) -> T {
        look(self.merge().way.as_deref())
    }

    fn refuse(&self, refusal: Refusal, answers: &mut Answers) {
        let caller = self.merge().caller.take();
        if let Some(caller) = caller {
            answers.push(caller, Err(refusal));
        }
    }

    /// Puts the outputs of one part in; with the last one the caller is answered.
    fn deposit(&self, start: u32, rows: u32, reply: &Reply, answers: &mut Answers) {
        let mut merge = self.merge();
        if merge.caller.is_none() {
            return;
        }
        merge.bytes += reply.outputs.iter().map(|output| output.data.len() as u64).sum::<u64>();
        merge.rows += rows;
        merge.timing = together(merge.timing, reply.timing, merge.parts.is_empty());
        if let Some(steps) = &reply.steps {
            let sums = &mut merge.steps;
            sums.resize(sums.len().max(steps.len()), Duration::ZERO);
            sums.iter_mut().zip(steps).for_each(|(sum, step)| *sum += *step);
        }
        let outcome = if merge.bytes > self.answer_bytes_max {
            Err(too_large(merge.bytes, self.answer_bytes_max))
        } else {
            merge.parts.push((start, reply.outputs.iter().map(unpinned).collect()));
            if merge.rows < self.rows {
                return;
            }
            let (timing, before) = (merge.timing, self.prepared.as_ref().map_or(&[][..], |prepared| &prepared.steps));
            let steps = (!before.is_empty() || !merge.steps.is_empty()).then(|| [before, &merge.steps].concat().into());
            merged(&mut merge.parts, timing, self.rows).map(|outputs| Reply { outputs, timing, steps })
        };
        merge.parts = Vec::new();
        let (caller, way) = (merge.caller.take(), merge.way.take());
        drop(merge);
        if let Some(caller) = caller {
            let &Self { rows, arrived_at, deadline, priority, alone, .. } = self;
            let (inputs, prepared) = (Inputs::new(), None);
            let whole = Pending { caller, inputs, rows, arrived_at, deadline, priority, alone, prepared, way };
            answers.ran(Box::new(whole), outcome);
        }
    }
}

/// Rows of a split request that run together: while queued all that are left, in a batch those that fit.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) split: Arc<Split>,
    /// Of exactly these rows.
    pub(crate) inputs: Inputs,
    /// First row within the request.
    pub(crate) start: u32,
    pub(crate) rows: u32,
}

impl Part {
    /// Cuts the first rows off. One walk over all cuts, also for BYTES.
    pub(crate) fn take_front(&mut self, rows: u32) -> Self {
        let inputs = self.inputs.iter_mut().map(|input| input.as_mut().map(|tensor| tensor.take_rows(rows as usize)));
        let front = Self { split: Arc::clone(&self.split), inputs: inputs.collect(), start: self.start, rows };
        self.start += rows;
        self.rows -= rows;
        front
    }

    pub(crate) fn answer(self, outcome: Result<Reply, Refusal>, answers: &mut Answers) {
        match outcome {
            Ok(reply) => self.split.deposit(self.start, self.rows, &reply, answers),
            Err(refusal) => self.split.refuse(refusal, answers),
        }
    }
}

/// A copy: parts wait for each other, and a slice would keep its lane's whole output buffer from the next run.
fn unpinned(output: &Tensor) -> Tensor {
    Tensor { datatype: output.datatype, shape: output.shape.clone(), data: Bytes::copy_from_slice(&output.data) }
}

fn together(all: Timing, part: Timing, is_first: bool) -> Timing {
    Timing {
        queue: if is_first { part.queue } else { all.queue.min(part.queue) },
        input: all.input + part.input,
        run: all.run + part.run,
        output: all.output + part.output,
        batch_rows: all.batch_rows.max(part.batch_rows),
        dispatch: part.dispatch,
    }
}

fn merged(parts: &mut [(u32, Outputs)], timing: Timing, rows: u32) -> Result<Outputs, Refusal> {
    parts.sort_unstable_by_key(|(start, _)| *start);
    let output_count = parts.first().map_or(0, |(_, outputs)| outputs.len());
    let mut outputs = Outputs::with_capacity(output_count);
    for index in 0..output_count {
        let pieces: Option<Vec<Tensor>> = parts.iter().map(|(_, outputs)| outputs.get(index).cloned()).collect();
        let whole = pieces.and_then(|pieces| Tensor::concatenate(&pieces));
        outputs.push(whole.ok_or_else(|| does_not_fit(rows, timing.batch_rows))?);
    }
    Ok(outputs)
}

/// The outputs of a split request differ in shape from part to part.
pub(crate) fn does_not_fit(rows: u32, rows_max: u32) -> Refusal {
    let text = format!(
        "inference request batch-size must be <= {rows_max} here, {rows} found: outputs of its parts do not fit together; split the request"
    );
    Refusal::new(Reason::TooManyRows, text)
}

fn too_large(bytes: u64, bytes_max: u64) -> Refusal {
    let text =
        format!("answer of at least {bytes} bytes, at most {bytes_max} are allowed; ask for fewer rows or outputs");
    Refusal::new(Reason::ResponseTooLarge, text)
}
