//! Who is told at arrival, and who in the queue, that no answer would come in time.

use std::time::{Duration, Instant};

use super::classes::Place;
use super::plan::Plan;
use super::{Batcher, Shed};
use crate::outlook::{Outlook, overloaded};
use crate::{Answers, Item, Latency, Mode, Pending, Policy, Reason, Refusal};

/// Share of the remaining run that a newcomer is told to wait at least, where only the hopeless are refused.
const REMAINING: f64 = 0.8;
/// Deviations that are added to a run when a newcomer's answer is predicted.
const CAUTION: f64 = 0.5;
/// Batches of this many times the usual rows are not larger than what is known.
const FAMILIAR: f64 = 1.5;
/// Classes that are not asked for are looked through after this long, and later where they are many.
const PRUNING_MIN: Duration = Duration::from_millis(1);

impl Batcher {
    /// When a newcomer of one row and of this class would be answered; `None` where it would be served at once, or where
    /// nothing is refused on an estimate.
    #[must_use]
    pub fn outlook(&self, priority: u8, now: Instant) -> Option<Instant> {
        if !self.is_predicting() {
            return None;
        }
        let wait = self.forecast(Policy::class(priority), 1, self.classes.whole(), now);
        Some(now + wait + self.policy.egress)
    }

    /// Refuses a newcomer of whom no more is known than its class and its time, as one row: what it says of itself need
    /// not be read then. [`offer`](Self::offer) decides about everyone else.
    ///
    /// # Errors
    /// As those of `offer`.
    pub fn foresee(&mut self, priority: u8, time: Patience, now: Instant) -> Result<(), Refusal> {
        let deadline = time.deadline;
        if self.foreseen.is_some_and(|(at, least)| at == now && least <= deadline) {
            return Ok(());
        }
        if deadline <= now {
            self.count_refused(Shed::Expired, now);
            return Err(time.refusal(now));
        }
        if !self.is_predicting() {
            return Ok(());
        }
        let tier = Policy::class(priority);
        let Some(refusal) = self.lateness(tier, 1, self.classes.whole(), Patience { since: now, deadline }) else {
            self.foreseen = Some((now, deadline)).filter(|_| !self.is_failing_fast());
            return Ok(());
        };
        self.demand.observe(tier, 1, now);
        self.count_refused(Shed::Arrival, now);
        Err(refusal)
    }

    /// What a newcomer of these rows is told who would be answered too late, if it would be.
    pub(super) fn lateness(&self, tier: usize, rows: u32, latency: &Latency, time: Patience) -> Option<Refusal> {
        let Patience { since: now, deadline } = time;
        let wait = self.forecast(tier, rows, latency, now) + self.policy.egress;
        let is_late = now + wait > deadline;
        let allowed = deadline.saturating_duration_since(now);
        is_late.then(|| overloaded(&self.model, wait, allowed, self.drain(tier, latency, now)))
    }

    /// Counts one that was refused before it was offered.
    fn count_refused(&mut self, shed: Shed, now: Instant) {
        self.shedding.offered(1, now);
        self.shedding.shed(shed, 1);
    }

    /// Publishes the outlook of every class, and counts those who were refused by it.
    pub fn publish(&mut self, outlook: &Outlook, now: Instant) {
        // Without a queue that counts, all classes wait for the same.
        let is_common = !self.is_predicting() || !self.is_failing_fast();
        let common = if is_common { self.outlook(0, now) } else { None };
        for priority in 0..Policy::PRIORITIES_MAX as u8 {
            let answered_at = if is_common { common } else { self.outlook(priority, now) };
            outlook.publish(priority, answered_at);
            let refused = outlook.take_refused(priority);
            if refused > 0 {
                self.demand.observe(usize::from(priority), u32::try_from(refused).unwrap_or(u32::MAX), now);
                self.shedding.offered(refused, now);
                self.shedding.shed(Shed::Arrival, refused);
            }
        }
    }

    /// Whether newcomers are refused by the time their answer is predicted for, and not only where it is hopeless.
    pub(super) fn is_failing_fast(&self) -> bool {
        match self.policy.mode {
            Mode::FailFast => true,
            // What a stall or a burst has shed is over as soon as all can be served again.
            Mode::Auto => self.shedding.is_failing_fast() && self.is_overloaded(Policy::PRIORITIES_MAX - 1),
            Mode::Late => false,
        }
    }

    /// Refuses what has expired, and what there is no room for.
    pub(super) fn admit(&mut self, pending: &Pending, now: Instant) -> Result<(), Refusal> {
        if pending.deadline <= now {
            self.shedding.shed(Shed::Expired, 1);
            return Err(Patience { since: pending.arrived_at, deadline: pending.deadline }.refusal(now));
        }
        let requests_max = self.policy.requests_max;
        if self.queued().requests >= requests_max && self.left_requests > 0 {
            self.sweep(now);
        }
        if self.queued().requests >= requests_max { Err(self.full(now)) } else { Ok(()) }
    }

    /// Refuses what could not be answered in time, as far as can be told.
    pub(super) fn predict(&mut self, pending: &Pending, place: Place, now: Instant) -> Result<(), Refusal> {
        let tier = Policy::class(pending.priority);
        let hope = Hope { now, place, rows: pending.rows, deadline: pending.deadline };
        if self.hope.is_some_and(|known| known.covers(&hope)) {
            return Ok(());
        }
        let time = Patience { since: now, deadline: pending.deadline };
        let Some(refusal) = self.lateness(tier, pending.rows, self.classes.latency(place), time) else {
            // What waits makes no difference to the hopeless.
            self.hope = Some(hope).filter(|_| !self.is_failing_fast());
            return Ok(());
        };
        self.shedding.shed(Shed::Arrival, 1);
        Err(refusal)
    }

    /// Answers the requests that a plan gives up.
    pub(super) fn give_up(&mut self, plan: &Plan, now: Instant, answers: &mut Answers) {
        if plan.shed == 0 {
            return;
        }
        let latency = self.classes.latency(plan.longest());
        let (run, retry_after) = (latency.cautious(plan.rows), self.drain(plan.tier, latency, now));
        for _ in 0..plan.shed {
            let Some(item) = self.pop(plan.class, plan.bucket, plan.tier) else { return };
            self.shed(Shed::Window, item, (now, run, retry_after), answers);
        }
    }

    /// Drops from the fronts of a class's queues what nobody waits for, and answers what would be late even if it ran
    /// now. Tells whether there was any.
    pub(super) fn prune(&mut self, class: usize, now: Instant, answers: &mut Answers) -> bool {
        let mut is_changed = false;
        for bucket in 0..self.classes.slots()[class].buckets.len() {
            let mut tiers = self.classes.slots()[class].waiting();
            while tiers != 0 {
                let tier = tiers.trailing_zeros() as usize;
                tiers &= tiers - 1;
                while let Some(fate) = self.fate(Place { class, bucket }, tier, now) {
                    is_changed = true;
                    let Some(item) = self.pop(class, bucket, tier) else { break };
                    let Fate::Shed(shed) = fate else {
                        self.shedding.left(&item, now);
                        continue;
                    };
                    let latency = self.classes.latency(Place { class, bucket });
                    let times = (now, self.run_time(latency, item.row_count()), self.drain(tier, latency, now));
                    self.shed(shed, item, times, answers);
                }
            }
        }
        is_changed
    }

    /// Prunes all classes now and then, where there are several: one that is never asked for must not keep the dead.
    pub(super) fn prune_all(&mut self, now: Instant, answers: &mut Answers) {
        let classes = self.classes.active_count();
        if classes < 2 || self.pruning_at.is_some_and(|at| now < at) {
            return;
        }
        self.pruning_at = Some(now + PRUNING_MIN + Duration::from_micros(classes as u64));
        for index in (0..classes).rev() {
            let class = self.classes.active(index);
            if self.prune(class, now, answers) {
                self.classes.settle(class);
            }
        }
        self.find_first();
    }

    /// Why the first request of a queue is not to be run, if it is not.
    pub(super) fn fate(&self, place: Place, tier: usize, now: Instant) -> Option<Fate> {
        let front = self.classes.slots()[place.class].buckets[place.bucket].tiers[tier].front()?;
        if !front.item.is_waiting() {
            return Some(Fate::Left);
        }
        let has_target = !self.policy.target.is_zero();
        if (!has_target || front.due <= now) && front.item.deadline() <= now {
            return Some(Fate::Shed(Shed::Expired));
        }
        // Somebody who came while a lane was free is run even so: estimates may be wrong, and only runs put them right.
        let is_kept = self.is_due && self.backlog.queued().requests == 1;
        let may_miss = self.is_estimating() && !is_kept;
        let is_miss = || now + self.run_time(self.classes.latency(place), front.item.row_count()) > front.due;
        (may_miss && is_miss()).then_some(Fate::Shed(Shed::Miss))
    }

    /// Takes the first request out of a queue.
    pub(super) fn pop(&mut self, class: usize, bucket: usize, tier: usize) -> Option<Item> {
        let class = self.classes.slot_mut(class);
        let item = class.buckets[bucket].tiers[tier].pop_front()?.item;
        class.removed(tier);
        self.backlog.subtract(tier, &item);
        Some(item)
    }

    /// Answers a request that is given up. Of the times, the first is now, the second how long its run would have taken,
    /// the last when to come back.
    pub(super) fn shed(&mut self, shed: Shed, item: Item, times: (Instant, Duration, Duration), answers: &mut Answers) {
        let (now, run, retry_after) = times;
        if !item.is_waiting() {
            return self.shedding.left(&item, now);
        }
        self.shedding.shed(shed, 1);
        if item.deadline() <= now {
            return item.expire(now, answers);
        }
        let wait = now.saturating_duration_since(item.arrived_at()) + run + self.policy.egress;
        let allowed = item.deadline().saturating_duration_since(item.arrived_at());
        item.answer(Err(overloaded(&self.model, wait, allowed, retry_after)), answers);
    }

    /// Whether a newcomer may be refused on an estimate: never while it could run at once.
    pub(super) fn is_predicting(&self) -> bool {
        self.is_estimating() && !(self.could_run_at_once() && self.is_preparing_nothing())
    }

    /// Whether a lane is free and nothing waits for it.
    pub(super) fn could_run_at_once(&self) -> bool {
        self.lanes.busy() < self.policy.lanes && self.backlog.queued().requests == 0
    }

    /// How long until a newcomer of these rows has run.
    fn forecast(&self, tier: usize, rows: u32, latency: &Latency, now: Instant) -> Duration {
        if !self.is_failing_fast() {
            let run = self.run_time(latency, rows);
            let remaining = self.lanes.remaining(self.policy.lanes, now);
            let run = run + self.preparation_time(rows);
            return if remaining.is_zero() { run } else { remaining.mul_f64(REMAINING) + run };
        }
        let waiting = self.waiting(tier);
        // While all could be served, nobody is given up for those who come later: the batch is no larger than its first
        // allows, nor than the target does.
        let is_overloaded = self.is_overloaded(tier);
        let rows_max = if is_overloaded { self.weight_max() } else { self.knee(latency) };
        let hopeless = if is_overloaded { self.hopeless(tier, latency, now) } else { 0 };
        let waiting = waiting.saturating_sub(hopeless);
        let ahead = self.ahead(waiting, rows_max, latency, now);
        let arriving = if is_overloaded { self.demand.rows_per_s_before(tier) } else { 0.0 };
        // Of those who come meanwhile each lane takes its part.
        let joining = arriving * ahead.as_secs_f64() / f64::from(self.policy.lanes.max(1));
        let beside = (waiting % rows_max as usize) as u32;
        let rows = if self.policy.batched { rows } else { 1 };
        // The batch that it will really ride in.
        let riding = rows.saturating_add(beside).saturating_add(joining as u32).min(rows_max).min(self.familiar());
        let run = if rows > rows_max { self.run_time(latency, rows) } else { latency.expected(riding) };
        self.preparation_wait(rows) + ahead + run.mul_f64(1.0 + CAUTION * latency.spread())
    }

    /// Rows, or requests, that go before a newcomer of this class, those that are being prepared among them.
    fn waiting(&self, tier: usize) -> usize {
        let waiting = self.backlog.before(tier, self.policy.batched);
        match &self.preparation {
            None => waiting,
            Some(preparation) if self.policy.batched => waiting + preparation.queued().rows,
            Some(preparation) => waiting + preparation.queued().requests,
        }
    }

    /// Rows, or requests, that wait before a newcomer and will be given up when the next batch forms. They keep nobody
    /// waiting: who is refused because of them is young, and missing from the batch that gives them up. Where classes
    /// compete all count, or the lower ones would wait in vain.
    fn hopeless(&self, tier: usize, latency: &Latency, now: Instant) -> usize {
        if self.backlog.waiting() != 1 << tier {
            return 0;
        }
        let Some(class) = self.first.map(|first| &self.classes.slots()[first.class]) else { return 0 };
        let Some((_, bucket)) = class.head(tier) else { return 0 };
        let queue = &class.buckets[bucket].tiers[tier];
        // With one lane the next batch takes all it can; with several, who is too late for a large one fits into a run of
        // the usual size.
        let lanes = self.policy.lanes;
        let run = if lanes > 1 {
            latency.expected(self.knee(latency))
        } else {
            latency.cautious(self.weight_max().min(self.familiar()))
        };
        let requests = queue.count_before(now + self.lanes.remaining(lanes, now) + run);
        if self.policy.batched { requests * queue.rows() / queue.len().max(1) } else { requests }
    }

    /// Rows of a batch that is not much larger than those that ran lately. Nobody is refused for what a larger one would
    /// take: it may be a guess, and where it refuses those who would fill that batch it stays one.
    fn familiar(&self) -> u32 {
        (FAMILIAR * self.rows_usual).ceil() as u32
    }

    /// How long until full batches of what waits have left.
    fn ahead(&self, waiting: usize, rows_max: u32, latency: &Latency, now: Instant) -> Duration {
        let batches = (waiting / rows_max as usize) as f64;
        let runs = latency.expected(rows_max).as_secs_f64() * batches / f64::from(self.policy.lanes.max(1));
        self.lanes.remaining(self.policy.lanes, now) + Duration::try_from_secs_f64(runs).unwrap_or(Duration::MAX / 4)
    }

    /// How long until what waits has run, and a full batch besides.
    pub(super) fn drain(&self, tier: usize, latency: &Latency, now: Instant) -> Duration {
        let rows_max = self.weight_max();
        let ahead = self.ahead(self.waiting(tier), rows_max, latency, now);
        self.preparation_wait(0) + ahead + latency.expected(rows_max)
    }

    /// How long a request of these rows runs by itself, in parts where it is larger than a batch.
    pub(super) fn run_time(&self, latency: &Latency, rows: u32) -> Duration {
        let rows_max = self.weight_max();
        if !self.policy.batched {
            return latency.expected(1);
        }
        if rows <= rows_max {
            return latency.expected(rows);
        }
        let rounds = rows.div_ceil(rows_max).div_ceil(self.policy.lanes.max(1));
        latency.expected(rows_max).saturating_mul(rounds)
    }

    fn full(&self, now: Instant) -> Refusal {
        const WAIT_MIN: Duration = Duration::from_millis(10);
        let latency = self.classes.whole();
        let is_known = latency.samples() > 0;
        let drain = self.drain(Policy::PRIORITIES_MAX - 1, latency, now);
        let wait = if is_known { drain.max(WAIT_MIN) } else { WAIT_MIN };
        let text = format!(
            "queue of '{}' holds {} of {} requests: Exceeds maximum queue size; retry in {} ms",
            self.model,
            self.queued().requests,
            self.policy.requests_max,
            wait.as_millis()
        );
        Refusal::new(Reason::QueueFull, text).retry_after(wait)
    }
}

/// From when and until when somebody waits.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// When they began to ask.
    pub since: Instant,
    /// No answer is of use from then on.
    pub deadline: Instant,
}

impl Patience {
    /// What somebody is told whose deadline has passed.
    pub(crate) fn refusal(self, now: Instant) -> Refusal {
        let Self { since, deadline } = self;
        Refusal::deadline(now.saturating_duration_since(since), deadline.saturating_duration_since(since))
    }
}

/// A newcomer that was not hopeless: neither are others that came at the same time with no more rows and no less time.
/// What a shard took in during one tick arrived at one time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hope {
    now: Instant,
    place: Place,
    rows: u32,
    deadline: Instant,
}

impl Hope {
    fn covers(&self, other: &Self) -> bool {
        self.now == other.now && self.deadline <= other.deadline && self.rows >= other.rows && self.place == other.place
    }
}

/// What becomes of a request that is not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nobody waits for it.
    Left,
    /// It is answered.
    Shed(Shed),
}
