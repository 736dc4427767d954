//! The queue of one model, and the rule by which its rows leave it: at once when a lane is free, and under overload those
//! that can still be answered in time.

mod admission;
mod backlog;
mod classes;
mod demand;
mod estimate;
mod filling;
mod hold;
mod lanes;
mod plan;
mod preparation;
mod queue;
mod ragged;
mod share;
mod shed;
mod window;

use std::sync::Arc;
use std::time::{Duration, Instant};

use admission::Hope;
use backlog::Backlog;
use classes::{Active, Classes, Place, Sorting};
use demand::Demand;
use filling::Filling;
use lanes::{Lanes, Running};
use plan::Plan;
use preparation::{Preparation, signed_nanoseconds};
use ragged::Waste;
use share::Shares;
use shed::Shedding;

pub use admission::Patience;
pub use backlog::Queued;
pub use estimate::{ClassSurface, Estimate};
pub(crate) use queue::Queue;
pub use ragged::Padding;
pub use shed::{Shed, ShedCounts};

use crate::{Answers, Batch, Dispatch, Item, Latency, Pending, Policy, Refusal, Report, RunId};

/// What one more batch weighs in what is usual.
const USUAL_WEIGHT: f64 = 1.0 / 8.0;

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Run the batch that was filled.
    Run,
    /// Ask again at this time: a better batch is expected until then. Never without a target, nor with a single lane.
    WaitUntil(Instant),
    /// There is nothing to run.
    Idle,
}

/// A request that was not queued, and why. The holder answers it.
#[derive(Debug)]
pub struct Refused {
    /// As it was offered.
    pub pending: Box<Pending>,
    /// Its answer.
    pub refusal: Refusal,
}

/// The queue of one model. Asked for a batch by whoever has a free lane, it gives the most urgent rows there are.
///
/// With a target it sheds what cannot be answered in time and would make others late; without one it keeps the order of
/// arrival and sheds only what has expired.
#[derive(Debug)]
pub struct Batcher {
    /// For texts.
    model: Arc<str>,
    policy: Policy,
    /// Memory is short: batches have half of their rows.
    is_pressed: bool,
    classes: Classes,
    /// The class of the request that goes first; kept up to date by every change.
    first: Option<Active>,
    backlog: Backlog,
    /// What is prepared before it can be in a batch; `None` where nothing is.
    preparation: Option<Box<Preparation>>,
    demand: Demand,
    shedding: Shedding,
    shares: Shares,
    lanes: Lanes,
    waste: Waste,
    /// Rows, or requests, of the batches that left lately.
    rows_usual: f64,
    /// The last answer was to wait.
    is_held: bool,
    /// Since the last batch somebody came who could run at once: somebody is to run, whatever is expected of it.
    is_due: bool,
    /// The last newcomer that was not hopeless, as long as lanes and estimates are as they were.
    hope: Option<Hope>,
    /// The same of somebody of whom only the time was known: when they came and their deadline.
    foreseen: Option<(Instant, Instant)>,
    /// When classes that are not asked for are to be looked through.
    pruning_at: Option<Instant>,
    /// Requests whose callers left since the last sweep, and their bytes.
    left_requests: usize,
    left_bytes: usize,
}

impl Batcher {
    /// An empty queue for the model of this name.
    #[must_use]
    pub fn new(model: impl Into<Arc<str>>, policy: Policy) -> Self {
        let rows_max = if policy.batched { policy.rows_max } else { 1 };
        let latency = policy.surface.as_ref().map(|surface| Latency::of(surface, rows_max));
        let latency = latency.unwrap_or_else(|| Latency::new(rows_max)).under(policy.rules);
        Self {
            model: model.into(),
            is_pressed: false,
            classes: Classes::new(latency, Arc::clone(&policy.class_surfaces), rows_max),
            policy,
            first: None,
            backlog: Backlog::default(),
            preparation: None,
            demand: Demand::new(),
            shedding: Shedding::new(),
            shares: Shares::default(),
            lanes: Lanes::default(),
            waste: Waste::default(),
            rows_usual: 1.0,
            is_held: false,
            is_due: false,
            hope: None,
            foreseen: None,
            pruning_at: None,
            left_requests: 0,
            left_bytes: 0,
        }
    }

    /// Queues a request: for a batch, or for being prepared first.
    ///
    /// # Errors
    /// `QueueFull`; `DeadlineExceeded` where its time has already passed; `Overloaded` where it could not be answered in
    /// time, though never while a lane is free and nothing waits.
    pub fn offer(&mut self, pending: impl Into<Box<Pending>>, now: Instant) -> Result<(), Box<Refused>> {
        let pending = pending.into();
        let tier = Policy::class(pending.priority);
        if now < pending.deadline {
            // What comes too late asks for nothing any more: after a stall it would pass for a flood.
            self.demand.observe(tier, pending.rows, now);
        }
        self.shedding.offered(1, now);
        if let Err(refusal) = self.admit(&pending, now) {
            return Err(Box::new(Refused { pending, refusal }));
        }
        if self.preparation.is_some() {
            return self.offer_unprepared(pending, now);
        }
        let place = self.place(&pending);
        if self.could_run_at_once() {
            self.is_due = true;
        } else if self.is_estimating()
            && let Err(refusal) = self.predict(&pending, place, now)
        {
            return Err(Box::new(Refused { pending, refusal }));
        }
        self.insert(place, pending);
        Ok(())
    }

    fn place(&mut self, pending: &Pending) -> Place {
        let sorting = Sorting { is_batched: self.policy.batched, ragged: self.policy.ragged.as_deref() };
        self.classes.place(pending, sorting)
    }

    fn insert(&mut self, place: Place, pending: Box<Pending>) {
        let (tier, due) = (Policy::class(pending.priority), self.due(&pending));
        let item = Item::whole(pending);
        self.backlog.add(tier, &item);
        self.classes.insert(place, tier, due, item);
        match self.first {
            Some(first) if (tier, due) >= (first.tier, first.due) => {}
            None if self.backlog.queued().requests == 1 => self.first = Some(Active { class: place.class, tier, due }),
            _ => self.find_first(),
        }
    }

    /// Fills `batch` with what should run next, for a lane that is free. Every batch given out ends in exactly one of
    /// [`ran`](Self::ran) and [`abandon`](Self::abandon).
    ///
    /// Requests whose callers have left are dropped; those that are late, or would be, are answered.
    pub fn next(&mut self, now: Instant, batch: &mut Batch, answers: &mut Answers) -> Next {
        batch.clear();
        self.sweep_where_worth(64, now);
        self.prune_all(now, answers);
        if let Some(next) = self.take_sole(now, batch) {
            return next;
        }
        while let Some(first) = self.first {
            let is_changed = self.prune(first.class, now, answers);
            let plan = if is_changed { None } else { self.plan(first, now) };
            if let Some(plan) = plan {
                if let Some(until) = self.held(&plan, now) {
                    return self.wait(until);
                }
                self.form(&plan, now, batch, answers);
            }
            self.classes.settle(first.class);
            self.find_first();
            if !batch.items.is_empty() {
                return Next::Run;
            }
        }
        self.is_held = false;
        Next::Idle
    }

    /// Learns from a batch that has run: how long runs take, and whether batches must be smaller.
    pub fn ran(&mut self, report: &Report, _now: Instant) {
        (self.hope, self.foreseen) = (None, None);
        let running = self.lanes.end(report.run);
        // A run that failed may have ended anywhere.
        for run in report.runs.iter().filter(|run| run.took_place()) {
            let rows = if self.policy.batched { run.rows } else { 1 };
            self.classes.learn(running.as_ref(), rows, run.input + run.run + run.output);
        }
        if let Some(rows) = report.rows_max_worked {
            self.policy.rows_max = self.policy.rows_max.min(rows).max(1);
        }
        if report.is_unbatchable {
            self.policy.batched = false;
        }
    }

    /// Ends a batch that was given out and never ran; its lane is free again, and nothing is learned.
    pub fn abandon(&mut self, run: RunId, _now: Instant) {
        self.lanes.end(run);
    }

    /// Halves batches while memory is short.
    pub fn press(&mut self, is_pressed: bool) {
        self.is_pressed = is_pressed;
    }

    /// Says that the caller of a queued request of this many bytes has left (its ticket is retired). Its rows are never
    /// run. Its memory comes back before the next batch forms, except in a long queue of which less than a 64th and
    /// less than 1 MiB has left: a sweep reads all of the queue, so leaving stays cheap however many leave.
    pub fn leave(&mut self, bytes: usize, now: Instant) {
        self.left_requests += 1;
        self.left_bytes += bytes;
        self.sweep_where_worth(8, now);
    }

    /// Answers all that is queued with this refusal.
    pub fn close(&mut self, refusal: &Refusal, answers: &mut Answers) {
        let backlog = &mut self.backlog;
        self.classes.each_mut(|class| {
            class.empty(|tier, item| {
                backlog.subtract(tier, &item);
                item.answer(Err(refusal.clone()), answers);
            });
        });
        if let Some(preparation) = &mut self.preparation {
            preparation.drain().for_each(|item| item.answer(Err(refusal.clone()), answers));
        }
        self.left_requests = 0;
        self.left_bytes = 0;
        self.find_first();
    }

    /// What waits, what is being prepared included.
    #[must_use]
    pub fn queued(&self) -> Queued {
        match &self.preparation {
            None => self.backlog.queued(),
            Some(preparation) => self.backlog.queued() + preparation.queued(),
        }
    }

    /// The bounds in force; a run that needed too much memory may have lowered them.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Nanoseconds that the most urgent request could still wait if its batch, or its preparation, began now; less than zero where it would be
    /// late, `None` where nothing is queued.
    #[must_use]
    pub fn laxity(&self, now: Instant) -> Option<i64> {
        let (ready, unprepared) = (self.batch_laxity(now), self.unprepared_laxity(now));
        ready.into_iter().chain(unprepared).min()
    }

    fn batch_laxity(&self, now: Instant) -> Option<i64> {
        let first = self.first?;
        let bucket = self.classes.slots()[first.class].head(first.tier)?.1;
        let latency = self.classes.latency(Place { class: first.class, bucket });
        let rows = u32::try_from(self.backlog.queued().rows).unwrap_or(u32::MAX).clamp(1, self.weight_max());
        let due = self.head()?.deadline();
        Some(signed_nanoseconds(due, now + self.policy.egress + latency.cautious(rows)))
    }

    /// How long a run takes of as many rows as batches had lately; nothing before the first run is known.
    #[must_use]
    pub fn usual_run(&self) -> Duration {
        let latency = self.classes.whole();
        if latency.samples() == 0 { Duration::ZERO } else { latency.expected(self.rows_usual.ceil() as u32) }
    }

    /// Changes [`Policy::egress`] for all who are queued from now on: other queues come behind this one.
    pub fn reserve(&mut self, egress: Duration) {
        self.policy.egress = egress;
        (self.hope, self.foreseen) = (None, None);
    }

    /// How many requests were given up without a run, by reason, since this was asked last.
    pub fn take_shed(&mut self) -> ShedCounts {
        self.shedding.take()
    }

    /// What mixing lengths has cost since this was asked last.
    pub fn take_padding(&mut self) -> Padding {
        self.waste.take()
    }

    /// Rows that the next batch may have.
    fn rows_max(&self) -> u32 {
        if self.is_pressed { (self.policy.rows_max / 2).max(1) } else { self.policy.rows_max }
    }

    /// Rows, or requests where nothing is batched, that the next batch may have.
    fn weight_max(&self) -> u32 {
        if self.policy.batched { self.rows_max() } else { 1 }
    }

    /// Whether estimates decide anything: there is a target, and there is something to estimate from.
    fn is_estimating(&self) -> bool {
        !self.policy.target.is_zero() && self.classes.whole().samples() > 0
    }

    /// What a request is ordered by.
    fn due(&self, pending: &Pending) -> Instant {
        if self.policy.target.is_zero() {
            pending.arrived_at
        } else if self.policy.egress.is_zero() {
            pending.deadline
        } else {
            pending.deadline.checked_sub(self.policy.egress).unwrap_or(pending.deadline)
        }
    }

    fn find_first(&mut self) {
        let tier = self.shares.first(self.backlog.waiting(), self.weight_max());
        self.first = tier.and_then(|tier| self.classes.first(tier));
    }

    fn head(&self) -> Option<&Item> {
        let Active { class, tier, .. } = self.first?;
        let class = &self.classes.slots()[class];
        let (_, bucket) = class.head(tier)?;
        Some(&class.buckets[bucket].tiers[tier].front()?.item)
    }

    /// Gives up what the plan gives up, and collects what it takes.
    fn form(&mut self, plan: &Plan, now: Instant, batch: &mut Batch, answers: &mut Answers) {
        self.give_up(plan, now, answers);
        let (rows_max, is_estimating) = (self.rows_max(), self.is_estimating());
        let mut filling = Filling {
            classes: &mut self.classes,
            backlog: &mut self.backlog,
            shedding: &mut self.shedding,
            policy: &self.policy,
            rows_max,
            is_estimating,
            now,
            batch,
            answers,
            taken: [0; Policy::PRIORITIES_MAX],
            longest: plan.buckets.start,
            is_full: false,
        };
        filling.run(plan, &self.shares);
        let Filling { taken, longest, is_full, .. } = filling;
        if batch.items.is_empty() {
            return;
        }
        self.shares.dispatched(&taken, self.backlog.waiting(), rows_max);
        batch.dispatch = match () {
            () if is_full => Dispatch::Full,
            () if plan.is_bound => Dispatch::Window,
            () => Dispatch::Idle,
        };
        self.depart(Place { class: plan.class, bucket: longest }, now, batch);
    }

    /// Takes the only request that waits: a quiet model's usual case, in which there is nothing to weigh. `None` where
    /// there are others, or this one needs a closer look.
    fn take_sole(&mut self, now: Instant, batch: &mut Batch) -> Option<Next> {
        let first = self.first.filter(|_| self.backlog.queued().requests == 1)?;
        let Active { class, tier, .. } = first;
        let (_, bucket) = self.classes.slots()[class].head(tier)?;
        let place = Place { class, bucket };
        let entry = self.classes.slots()[class].buckets[bucket].tiers[tier].front()?;
        let (rows, rows_max) = (entry.item.row_count(), self.rows_max());
        let is_oversize = self.policy.batched && (rows > rows_max || entry.item.bytes() > self.policy.bytes_max);
        if is_oversize || self.fate(place, tier, now).is_some() {
            return None;
        }
        if let Some(until) = self.hold(self.classes.latency(place), entry, now) {
            return Some(self.wait(until));
        }
        batch.push(self.pop(class, bucket, tier)?);
        batch.dispatch = if rows == rows_max { Dispatch::Full } else { Dispatch::Idle };
        self.classes.settle(class);
        self.first = None;
        self.shares.forget();
        self.depart(place, now, batch);
        Some(Next::Run)
    }

    fn wait(&mut self, until: Instant) -> Next {
        self.is_held = true;
        Next::WaitUntil(until)
    }

    /// Counts a batch that leaves. `longest` is the last bucket that it has rows of.
    fn depart(&mut self, longest: Place, now: Instant, batch: &mut Batch) {
        if !self.policy.batched || batch.items.first().is_some_and(Item::is_alone) {
            batch.dispatch = Dispatch::Alone;
        } else if self.is_held && batch.dispatch == Dispatch::Idle {
            batch.dispatch = Dispatch::Held;
        }
        self.is_held = false;
        self.is_due = false;
        if let Some(preparation) = &mut self.preparation {
            preparation.batch_left();
        }
        (self.hope, self.foreseen) = (None, None);
        let latency = self.classes.latency(longest);
        let rows = if self.policy.batched { batch.rows } else { 1 };
        self.rows_usual += USUAL_WEIGHT * (f64::from(rows) - self.rows_usual);
        let ends_at = now + latency.expected(rows);
        let class = &self.classes.slots()[longest.class];
        let (generation, edge) = (class.generation, class.buckets[longest.bucket].edge);
        batch.run = self.lanes.start(Running { class: longest.class, generation, edge, ends_at });
        if let Some(ragged) = self.policy.ragged.as_ref().filter(|_| edge > 0) {
            self.waste.add(batch, ragged);
        }
    }

    /// Sweeps where at least one in `share` has left, or many bytes.
    fn sweep_where_worth(&mut self, share: usize, now: Instant) {
        const LEFT_BYTES_KEPT_MAX: usize = 1 << 20;
        if self.left_requests == 0 {
            return;
        }
        let queued = self.queued();
        let is_worth = self.left_requests.saturating_mul(share) >= queued.requests
            || self.left_bytes >= LEFT_BYTES_KEPT_MAX.max(queued.bytes / 8);
        if is_worth {
            self.sweep(now);
        }
    }

    /// Drops what nobody waits for.
    fn sweep(&mut self, now: Instant) {
        let (backlog, shedding) = (&mut self.backlog, &mut self.shedding);
        self.classes.each_mut(|class| {
            class.retain(|tier, item| {
                let is_waiting = item.is_waiting();
                if !is_waiting {
                    backlog.subtract(tier, item);
                    shedding.left(item, now);
                }
                is_waiting
            });
        });
        if let Some(preparation) = &mut self.preparation {
            preparation.sweep(|item| shedding.left(item, now));
        }
        self.left_requests = 0;
        self.left_bytes = 0;
        self.find_first();
    }
}
