//! Running a batch so that every caller gets their own answer, whatever the others sent.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::report::{Fault, Outcome, Report, Run};
use crate::split::does_not_fit;
use crate::{
    Answers, Batch, Contract, Dispatch, Executor, Item, Outputs, Ragged, Reason, Refusal, Reply, RowFault, RunFailure,
    RunOutputs, Tensor, Timing,
};

/// Runs a batch on a lane and answers all its requests; the batch has no items afterwards, what else it says stays.
///
/// A run that fails is taken apart by halves until the request at fault is alone: of 64 requests with one at fault,
/// 63 get their results after at most 12 further runs. A row that the run itself names takes only its own request along.
/// `contract` is that of runs ([`Model::run_contract`](crate::Model::run_contract)). Before each run, requests whose callers have left or whose
/// deadline has passed are taken out. `clock` is read before and after each run.
pub fn execute(
    executor: &mut dyn Executor,
    contract: &Contract,
    batch: &mut Batch,
    clock: &dyn Fn() -> Instant,
    answers: &mut Answers,
) -> Report {
    let mut now = clock();
    let mut lane =
        Lane { executor, contract, answers, report: Report::started(batch.run, now), dispatch: batch.dispatch };
    // Always the last items are run, and leave; so taking one out moves no other group. Groups are given by length.
    let items = &mut batch.items;
    let mut groups: SmallVec<[usize; 16]> = SmallVec::from_slice(&[items.len()]);
    while let Some(length) = groups.pop() {
        let start = items.len() - length;
        lane.leave_out(items, start, now);
        let length = items.len() - start;
        if length == 0 {
            continue;
        }
        let failure = lane.run(items, start, now, clock);
        now = clock();
        match failure {
            None => {}
            Some(Failure::Lost(text)) => lane.lose(items, &text),
            Some(Failure::Misshapen) => groups.extend(std::iter::repeat_n(1, length)),
            Some(_) if length > 1 => groups.extend([length - length / 2, length / 2]),
            Some(failure) => lane.refuse(items, failure),
        }
    }
    let mut report = lane.report;
    report.ended_at = now;
    report.conclude();
    report
}

/// Why a run answered nobody.
enum Failure {
    Rejected(String),
    Memory {
        asked: Option<u64>,
        allowed: u64,
    },
    Panicked(Fault),
    Lost(String),
    /// Its outputs do not have one row per row.
    Misshapen,
}

/// Items of several lengths ran together, padded to this one.
#[derive(Clone, Copy)]
struct Padded<'a> {
    ragged: &'a Ragged,
    length: u64,
}

impl<'a> Padded<'a> {
    /// `None` where all have one length.
    fn of(ragged: &'a Ragged, items: &[Item]) -> Option<Self> {
        let mut lengths = items.iter().map(|item| ragged.length(item.inputs()));
        let first = lengths.next()?;
        let (least, length) = lengths.fold((first, first), |(least, most), it| (least.min(it), most.max(it)));
        (least < length).then_some(Self { ragged, length })
    }

    /// An item's rows of the outputs, without the padding.
    fn cut(self, item: &Item, outputs: impl Iterator<Item = Tensor>) -> impl Iterator<Item = Tensor> {
        let length = usize::try_from(self.ragged.length(item.inputs())).unwrap_or(usize::MAX);
        outputs.zip(&self.ragged.outputs).map(move |(output, axis)| match axis {
            Some(axis) => output.cut(*axis, length),
            None => output,
        })
    }
}

struct Lane<'a> {
    executor: &'a mut dyn Executor,
    contract: &'a Contract,
    answers: &'a mut Answers,
    report: Report,
    dispatch: Dispatch,
}

impl Lane<'_> {
    /// Takes out what need not run, from `start` on.
    fn leave_out(&mut self, items: &mut Vec<Item>, start: usize, now: Instant) {
        let mut index = start;
        while index < items.len() {
            let item = &items[index];
            if !item.is_waiting() {
                items.remove(index);
            } else if item.deadline() <= now {
                items.remove(index).expire(now, self.answers);
            } else {
                index += 1;
            }
        }
    }

    /// Runs the items from `start` on; answers them and takes them out unless it fails.
    fn run(
        &mut self,
        items: &mut Vec<Item>,
        start: usize,
        started_at: Instant,
        clock: &dyn Fn() -> Instant,
    ) -> Option<Failure> {
        let rows: u32 = items[start..].iter().map(Item::row_count).sum();
        let result = catch_unwind(AssertUnwindSafe(|| self.executor.run(&items[start..], rows)));
        let failure = match result {
            Ok(Ok(outputs)) => return self.answer(items, start, outputs, started_at),
            Ok(Err(RunFailure::Rejected(text))) => Failure::Rejected(text),
            Ok(Err(RunFailure::Memory { asked, allowed })) => {
                self.report.rows_min_failed = Some(self.report.rows_min_failed.map_or(rows, |least| least.min(rows)));
                Failure::Memory { asked, allowed }
            }
            Ok(Err(RunFailure::Lost(text))) => Failure::Lost(text),
            Err(payload) => {
                let fault = Fault::of_panic(payload.as_ref());
                self.report.panics += 1;
                self.report.fault.get_or_insert_with(|| fault.clone());
                Failure::Panicked(fault)
            }
        };
        let run = clock().saturating_duration_since(started_at);
        let (input, output) = (Duration::ZERO, Duration::ZERO);
        self.report.runs.push(Run { rows, requests: 0, rows_refused: 0, run, input, output });
        Some(failure)
    }

    /// Gives each item its rows of the outputs, or the refusal of one of its rows.
    fn answer(
        &mut self,
        items: &mut Vec<Item>,
        start: usize,
        outputs: RunOutputs,
        started_at: Instant,
    ) -> Option<Failure> {
        let RunOutputs { mut outputs, input, run, output, refused, steps } = outputs;
        let requests = (items.len() - start) as u32;
        let rows: u32 = items[start..].iter().map(Item::row_count).sum();
        let padded = self.contract.ragged.as_deref().and_then(|ragged| Padded::of(ragged, &items[start..]));
        let fits = outputs.iter().all(|output| output.shape.first() == Some(&i64::from(rows)))
            && padded.is_none_or(|padded| padded.ragged.fits(&outputs, padded.length));
        let is_sole = requests == 1 && items[start].is_whole();
        // A request that overrides a default shares no class with one that does not.
        let is_misshapen = !fits && self.contract.counts_rows(items[start].inputs());
        self.report.is_unbatchable |= is_misshapen;
        let answered = if is_misshapen && !is_sole { 0 } else { requests };
        self.report.runs.push(Run { rows, requests: answered, rows_refused: 0, run, input, output });
        if !steps.is_empty() {
            self.report.add_steps(&steps);
        }
        if is_misshapen && requests > 1 {
            return Some(Failure::Misshapen);
        }
        if is_misshapen && !is_sole {
            self.refuse_part(items);
            return None;
        }
        // What a shard took in during one tick came at one time.
        let (mut queued_at, mut queue) = (started_at, Duration::ZERO);
        let mut faults = Faults { rest: &refused, row: 0 };
        for item in items.drain(start..) {
            let fault = faults.first_of(&item);
            if item.queued_at() != queued_at {
                queued_at = item.queued_at();
                queue = started_at.saturating_duration_since(queued_at);
            }
            let timing = Timing { queue, input, run, output, batch_rows: rows, dispatch: self.dispatch };
            let mut reply = Reply { outputs: Outputs::new(), timing, steps: steps_of(&item, &steps) };
            if is_sole {
                std::mem::swap(&mut reply.outputs, &mut outputs);
            } else {
                let own = outputs.iter_mut().map(|output| output.take_rows(item.rows()));
                match padded {
                    None => reply.outputs.extend(own),
                    Some(padded) => reply.outputs.extend(padded.cut(&item, own)),
                }
            }
            let outcome = match fault {
                None => {
                    self.report.queue += queue;
                    Ok(reply)
                }
                Some((row, text)) => Err(self.refuse_row(&item, row, text)),
            };
            item.answer(outcome, self.answers);
        }
        self.report.rows_max_answered = self.report.rows_max_answered.max(rows);
        None
    }

    /// A step has refused a row of an item that has run. The run took place, and its other rows have their outputs.
    #[cold]
    fn refuse_row(&mut self, item: &Item, row: u32, text: &str) -> Refusal {
        self.report.outcome = Outcome::Refused;
        if let Some(run) = self.report.runs.last_mut() {
            run.requests -= 1;
            run.rows_refused += item.row_count();
        }
        row_refused(&self.contract.model, item.named_row(row), text)
    }

    /// The last item is a part whose outputs cannot be put together with the others'.
    fn refuse_part(&mut self, items: &mut Vec<Item>) {
        let Some(item) = items.pop() else { return };
        self.report.outcome = Outcome::Refused;
        let refusal = does_not_fit(item.request_rows(), item.row_count());
        item.answer(Err(refusal), self.answers);
    }

    /// The last item failed alone.
    fn refuse(&mut self, items: &mut Vec<Item>, failure: Failure) {
        let Some(item) = items.pop() else { return };
        self.report.outcome = Outcome::Refused;
        let refusal = match failure {
            Failure::Rejected(text) => row_rejected(&self.contract.model, &text),
            Failure::Memory { asked, allowed } => {
                self.report.memory_refused = true;
                run_memory(asked, allowed)
            }
            Failure::Panicked(fault) => fault.refusal(),
            Failure::Lost(_) | Failure::Misshapen => lane_lost(&self.contract.model),
        };
        item.answer(Err(refusal), self.answers);
    }

    /// The lane is gone: nothing of the batch can run.
    fn lose(&mut self, items: &mut Vec<Item>, text: &str) {
        self.report.outcome = Outcome::Lost;
        self.report.fault = Some(Fault::of(text));
        for item in items.drain(..) {
            item.answer(Err(lane_lost(&self.contract.model)), self.answers);
        }
    }
}

/// Rows that a run has refused, and those that no item was asked about yet.
struct Faults<'f> {
    rest: &'f [RowFault],
    /// Of the batch, the first of the next item.
    row: u32,
}

impl<'f> Faults<'f> {
    /// The first fault of the next item, by its row in the item's request.
    #[inline]
    fn first_of(&mut self, item: &Item) -> Option<(u32, &'f str)> {
        if self.rest.is_empty() {
            return None;
        }
        let start = self.row;
        self.row += item.row_count();
        let count = self.rest.iter().take_while(|fault| fault.row < self.row).count();
        let (own, rest) = self.rest.split_at(count);
        self.rest = rest;
        own.first().map(|fault| (item.first_row() + fault.row.saturating_sub(start), &*fault.text))
    }
}

/// What the steps of an item took, with those of its preparation in front.
#[inline]
fn steps_of(item: &Item, steps: &[Duration]) -> Option<Box<[Duration]>> {
    let before = item.prepared_steps();
    (!before.is_empty() || !steps.is_empty()).then(|| [before, steps].concat().into())
}

fn row_refused(model: &str, row: Option<u32>, text: &str) -> Refusal {
    let found = told(text);
    let text = match row {
        Some(row) => format!("model '{model}' refuses row {row} of this request, {found}; check its values"),
        None => format!("model '{model}' refuses this request, {found}; check its values"),
    };
    Refusal::new(Reason::RowRejected, text)
}

fn row_rejected(model: &str, text: &str) -> Refusal {
    let text = format!("model '{model}' fails on this request alone, {}; check its values", told(text));
    Refusal::new(Reason::RowRejected, text)
}

/// What somebody else wrote, fit for an answer.
fn told(text: &str) -> String {
    const TEXT_CHARACTERS_MAX: usize = 300;
    text.trim_end_matches(['.', '\n', ' '])
        .chars()
        .take(TEXT_CHARACTERS_MAX)
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect()
}

fn run_memory(asked: Option<u64>, allowed: u64) -> Refusal {
    let asked = asked.map_or_else(|| String::from("more"), |bytes| format!("{bytes} bytes"));
    let text = format!(
        "this request's run asked for {asked}, {allowed} bytes are allowed; send a smaller shape or raise arena_bytes_max"
    );
    Refusal::new(Reason::RunMemory, text)
}

fn lane_lost(model: &str) -> Refusal {
    const WAIT: Duration = Duration::from_millis(100);
    let text = format!("the lane that ran this batch of '{model}' ended, a new one is starting; retry in 100 ms");
    Refusal::new(Reason::LaneLost, text).retry_after(WAIT)
}
