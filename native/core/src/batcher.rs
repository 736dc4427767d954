//! The queue of one model, and the rule by which its rows leave it.

mod lanes;
mod shed;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lanes::{Lanes, Running};
use shed::Shedding;
pub use shed::{Shed, ShedCounts};

use crate::shape_class::{ClassKey, ShapeClass, has_key, write_key};
use crate::{Answers, Batch, Dispatch, Item, Pending, Policy, Reason, Refusal, Report, RunId};

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Run the batch that was filled.
    Run,
    /// Ask again at this time: a better batch is expected until then. The greedy rule never waits.
    WaitUntil(Instant),
    /// There is nothing to run.
    Idle,
}

/// What waits in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queued {
    /// Requests; one that is cut counts until its last row has left.
    pub requests: usize,
    /// Their rows.
    pub rows: usize,
    /// Bytes of their inputs.
    pub bytes: usize,
}

impl Queued {
    fn add(&mut self, item: &Item) {
        self.requests += 1;
        self.rows += item.rows();
        self.bytes += item.bytes();
    }

    fn subtract(&mut self, item: &Item) {
        self.requests -= 1;
        self.rows -= item.rows();
        self.bytes -= item.bytes();
    }
}

/// A request that was not queued, and why. The holder answers it.
#[derive(Debug)]
pub struct Refused {
    /// As it was offered.
    pub pending: Box<Pending>,
    /// Its answer.
    pub refusal: Refusal,
}

/// The queue of one model. Greedy and work-conserving: asked for a batch, it gives what there is, oldest first.
#[derive(Debug)]
pub struct Batcher {
    /// For texts.
    model: Arc<str>,
    policy: Policy,
    /// Memory is short: batches have half of their rows.
    is_pressed: bool,
    /// Slots of classes, empty ones among them: they keep their memory for the next shape.
    classes: Vec<ShapeClass>,
    /// Slot of each class that has a key.
    slots: HashMap<ClassKey, usize>,
    /// Slots whose class is empty and forgotten.
    free: Vec<usize>,
    /// One entry per class that is not empty, oldest head first. A head may have left since: then its entry is too old
    /// and is put right when it comes up.
    order: BinaryHeap<Reverse<(Instant, usize)>>,
    queued: Queued,
    /// Requests whose callers left since the last sweep, and their bytes.
    left_requests: usize,
    left_bytes: usize,
    /// Smoothed duration of a run, for saying when to come back.
    run: Duration,
    lanes: Lanes,
    shedding: Shedding,
    /// Where the key of an offered request is written, so that looking it up allocates nothing.
    key: ClassKey,
}

impl Batcher {
    /// An empty queue for the model of this name.
    #[must_use]
    pub fn new(model: impl Into<Arc<str>>, policy: Policy) -> Self {
        Self {
            model: model.into(),
            policy,
            is_pressed: false,
            classes: Vec::new(),
            slots: HashMap::new(),
            free: Vec::new(),
            order: BinaryHeap::new(),
            queued: Queued::default(),
            left_requests: 0,
            left_bytes: 0,
            run: Duration::ZERO,
            lanes: Lanes::default(),
            shedding: Shedding::new(),
            key: ClassKey::new(),
        }
    }

    /// Queues a request.
    ///
    /// # Errors
    /// `QueueFull`, or `DeadlineExceeded` where its time has already passed.
    pub fn offer(&mut self, pending: impl Into<Box<Pending>>, now: Instant) -> Result<(), Box<Refused>> {
        let pending = pending.into();
        if pending.deadline <= now {
            let waited = now.saturating_duration_since(pending.arrived_at);
            let allowed = pending.deadline.saturating_duration_since(pending.arrived_at);
            return Err(Box::new(Refused { pending, refusal: Refusal::deadline(waited, allowed) }));
        }
        if self.queued.requests >= self.policy.requests_max && self.left_requests > 0 {
            self.sweep();
        }
        if self.queued.requests >= self.policy.requests_max {
            let refusal = self.full();
            return Err(Box::new(Refused { pending, refusal }));
        }
        let slot = self.slot(&pending);
        let class = &mut self.classes[slot];
        if !class.is_ordered {
            class.is_ordered = true;
            self.order.push(Reverse((pending.arrived_at, slot)));
        }
        let item = Item::whole(pending);
        self.queued.add(&item);
        class.items.push_back(item);
        Ok(())
    }

    /// Fills `batch` with what should run next. Requests whose callers have left are dropped, expired ones answered.
    pub fn next(&mut self, now: Instant, batch: &mut Batch, answers: &mut Answers) -> Next {
        batch.clear();
        self.sweep_where_worth(64);
        while let Some(Reverse((expected, slot))) = self.order.pop() {
            let head = self.classes[slot].items.front().map(Item::arrived_at);
            match head {
                None => self.forget(slot),
                Some(arrived_at) if arrived_at > expected => self.order.push(Reverse((arrived_at, slot))),
                Some(_) => {
                    self.fill(slot, now, batch, answers);
                    match self.classes[slot].items.front().map(Item::arrived_at) {
                        Some(arrived_at) => self.order.push(Reverse((arrived_at, slot))),
                        None => self.forget(slot),
                    }
                    if !batch.items.is_empty() {
                        let ends_at = now + self.run;
                        batch.run = self.lanes.start(Running { class: slot, generation: 0, bucket: 0, ends_at });
                        return Next::Run;
                    }
                }
            }
        }
        Next::Idle
    }

    /// Learns from a run: how long it took, and whether batches must be smaller.
    pub fn ran(&mut self, report: &Report, _now: Instant) {
        self.lanes.end(report.run);
        for run in &report.runs {
            self.run = if self.run.is_zero() { run.run } else { (self.run * 7 + run.run) / 8 };
        }
        if let Some(rows) = report.rows_max_worked {
            self.policy.rows_max = self.policy.rows_max.min(rows).max(1);
        }
        if report.is_unbatchable {
            self.policy.batched = false;
        }
    }

    /// Ends a batch that was given out and never ran; its lane is free again, and nothing is learnt.
    pub fn abandon(&mut self, run: RunId, _now: Instant) {
        self.lanes.end(run);
    }

    /// Nanoseconds that the most urgent request could still wait if its batch began now; less than zero where it is
    /// late, `None` where nothing is queued.
    #[must_use]
    pub fn laxity(&self, now: Instant) -> Option<i64> {
        let waited = now.saturating_duration_since(self.oldest()?) + self.run;
        Some(-i64::try_from(waited.as_nanos()).unwrap_or(i64::MAX))
    }

    /// When a newcomer of one row and of this class would be answered; `None` where it would be served at once.
    #[must_use]
    pub fn outlook(&self, _priority: u8, now: Instant) -> Option<Instant> {
        let remaining = self.lanes.remaining(self.policy.lanes, now);
        let is_estimated = !self.policy.target.is_zero() && !remaining.is_zero();
        is_estimated.then(|| now + remaining + self.run)
    }

    /// How many requests were given up without a run, by reason, since this was asked last.
    pub fn take_shed(&mut self) -> ShedCounts {
        self.shedding.take()
    }

    /// Halves batches while memory is short.
    pub fn press(&mut self, is_pressed: bool) {
        self.is_pressed = is_pressed;
    }

    /// Rows that the next batch may have.
    fn rows_max(&self) -> u32 {
        if self.is_pressed { (self.policy.rows_max / 2).max(1) } else { self.policy.rows_max }
    }

    /// Says that the caller of a queued request of this many bytes has left (its ticket is retired). Its rows are never
    /// run. Its memory comes back before the next batch forms, except in a long queue of which less than a 64th and
    /// less than 1 MiB has left: a sweep reads all of the queue, so leaving stays cheap however many leave.
    pub fn leave(&mut self, bytes: usize) {
        self.left_requests += 1;
        self.left_bytes += bytes;
        self.sweep_where_worth(8);
    }

    /// Answers all that is queued with this refusal.
    pub fn close(&mut self, refusal: &Refusal, answers: &mut Answers) {
        for class in &mut self.classes {
            for item in class.items.drain(..) {
                self.queued.subtract(&item);
                item.answer(Err(refusal.clone()), answers);
            }
        }
        self.left_requests = 0;
        self.left_bytes = 0;
    }

    /// What waits.
    #[must_use]
    pub fn queued(&self) -> Queued {
        self.queued
    }

    /// The bounds in force; a run that needed too much memory may have lowered them.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Arrival of the oldest request, or of an older one that has left; `None` where nothing is queued.
    #[must_use]
    pub fn oldest(&self) -> Option<Instant> {
        if self.queued.requests == 0 {
            return None;
        }
        self.order.peek().map(|Reverse((arrived_at, _))| *arrived_at)
    }

    /// The slot of this request's shape class. Where nothing is batched all are one class.
    fn slot(&mut self, pending: &Pending) -> usize {
        let batched = self.policy.batched;
        let is_of =
            |class: &ShapeClass| if batched { has_key(&pending.inputs, &class.key) } else { class.key.is_empty() };
        // Nearly always the first one: compared without hashing.
        if self.classes.first().is_some_and(is_of) {
            return 0;
        }
        self.key.clear();
        if batched {
            write_key(&pending.inputs, &mut self.key);
        }
        if let Some(&slot) = self.slots.get(&self.key) {
            return slot;
        }
        let slot = match self.classes.first() {
            Some(first) if first.items.is_empty() && !first.is_ordered => 0,
            _ => self.free.pop().unwrap_or(self.classes.len()),
        };
        match self.classes.get_mut(slot) {
            Some(class) => {
                // Only the first may still be known by the key that it had.
                if self.slots.get(&class.key) == Some(&slot) {
                    self.slots.remove(&class.key);
                }
                class.key.clone_from(&self.key);
            }
            None => self.classes.push(ShapeClass { key: self.key.clone(), ..ShapeClass::default() }),
        }
        self.slots.insert(self.key.clone(), slot);
        slot
    }

    /// A class has run empty. The first stays known until another shape comes, so that a model with one shape never
    /// looks it up; the others' slots are for whatever shape comes next, so that many shapes leave little behind.
    fn forget(&mut self, slot: usize) {
        let class = &mut self.classes[slot];
        class.is_ordered = false;
        if slot > 0 {
            self.slots.remove(&class.key);
            self.free.push(slot);
        }
    }

    fn fill(&mut self, slot: usize, now: Instant, batch: &mut Batch, answers: &mut Answers) {
        let Policy { bytes_max, batched, answer_bytes_max, .. } = self.policy;
        let rows_max = self.rows_max();
        let items = &mut self.classes[slot].items;
        while let Some(head) = items.front() {
            let rows = head.row_count();
            let is_gone = !head.is_waiting();
            if is_gone || head.deadline() <= now {
                self.queued.subtract(head);
                if let Some(head) = items.pop_front().filter(|_| !is_gone) {
                    head.expire(now, answers);
                }
                continue;
            }
            let is_first = batch.items.is_empty();
            let is_alone = !batched || head.is_alone();
            if is_alone && !is_first {
                return;
            }
            let fitting = if batched {
                let bytes_room = bytes_max.saturating_sub(batch.bytes);
                ShapeClass::rows_fitting(head, rows_max - batch.rows, bytes_room).max(u32::from(is_first)).min(rows)
            } else {
                rows
            };
            let is_oversize = rows > rows_max || head.bytes() > bytes_max;
            if fitting < rows && (fitting == 0 || !is_oversize) {
                batch.dispatch = Dispatch::Full;
                return;
            }
            self.queued.subtract(head);
            let Some(head) = items.pop_front() else { return };
            if fitting < rows {
                let (front, rest) = head.take_front(fitting, answer_bytes_max);
                self.queued.add(&rest);
                items.push_front(rest);
                batch.push(front);
                batch.dispatch = Dispatch::Full;
                return;
            }
            batch.push(head);
            if batch.rows >= rows_max {
                batch.dispatch = Dispatch::Full;
                return;
            }
            if is_alone {
                return;
            }
        }
    }

    /// Sweeps where at least one in `share` has left, or many bytes.
    fn sweep_where_worth(&mut self, share: usize) {
        const LEFT_BYTES_KEPT_MAX: usize = 1 << 20;
        let is_worth = self.left_requests.saturating_mul(share) >= self.queued.requests
            || self.left_bytes >= LEFT_BYTES_KEPT_MAX.max(self.queued.bytes / 8);
        if self.left_requests > 0 && is_worth {
            self.sweep();
        }
    }

    /// Drops what nobody waits for.
    fn sweep(&mut self) {
        let queued = &mut self.queued;
        for class in &mut self.classes {
            class.items.retain(|item| {
                let is_waiting = item.is_waiting();
                if !is_waiting {
                    queued.subtract(item);
                }
                is_waiting
            });
        }
        self.left_requests = 0;
        self.left_bytes = 0;
    }

    fn full(&self) -> Refusal {
        const WAIT_MIN: Duration = Duration::from_millis(10);
        let batches = self.queued.rows.div_ceil(self.rows_max() as usize);
        let wait = self.run.saturating_mul(u32::try_from(batches).unwrap_or(u32::MAX)).max(WAIT_MIN);
        let text = format!(
            "queue of '{}' holds {} of {} requests: Exceeds maximum queue size; retry in {} ms",
            self.model,
            self.queued.requests,
            self.policy.requests_max,
            wait.as_millis()
        );
        Refusal::new(Reason::QueueFull, text).retry_after(wait)
    }
}
