//! Taking rows out of queues and into a batch.

use std::time::Instant;

use super::backlog::Backlog;
use super::classes::Classes;
use super::plan::Plan;
use super::queue::Queue;
use super::share::Shares;
use super::shed::Shedding;
use crate::shape_class::ShapeClass;
use crate::{Answers, Batch, Item, Policy};

/// What became of the first request of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It, or some of its rows, is in the batch.
    Taken,
    /// Nobody waits for it any more.
    Dropped,
    /// It stays where it is, and so do those behind it.
    Stays,
}

/// A batch that is being filled.
pub(super) struct Filling<'a> {
    pub(super) classes: &'a mut Classes,
    pub(super) backlog: &'a mut Backlog,
    pub(super) shedding: &'a mut Shedding,
    pub(super) policy: &'a Policy,
    pub(super) rows_max: u32,
    /// Runs are not to make anyone late who is taken.
    pub(super) is_estimating: bool,
    pub(super) now: Instant,
    pub(super) batch: &'a mut Batch,
    pub(super) answers: &'a mut Answers,
    /// Rows taken, by priority.
    pub(super) taken: [u32; Policy::PRIORITIES_MAX],
    /// Place of the longest bucket that something was taken from.
    pub(super) longest: usize,
    /// No further row fits.
    pub(super) is_full: bool,
}

impl Filling<'_> {
    /// Takes what the plan says, and fills up with other priorities.
    pub(super) fn run(&mut self, plan: &Plan, shares: &Shares) {
        self.take_planned(plan);
        let others = self.backlog.waiting() & !(1 << plan.tier);
        if self.batch.items.is_empty() || others == 0 || self.is_closed() {
            return;
        }
        let mut due = plan.due;
        let is_other = |tier: &usize| others & (1 << tier) != 0;
        if shares.is_owing() {
            for tier in (0..Policy::PRIORITIES_MAX).filter(is_other) {
                let rows_max = (self.batch.rows + shares.owed(tier)).min(self.rows_max);
                due = self.fill_up(plan, tier, rows_max, due);
            }
        }
        for tier in (0..Policy::PRIORITIES_MAX).filter(is_other) {
            due = self.fill_up(plan, tier, self.rows_max, due);
        }
    }

    /// Takes the rows that the batch is formed for, the most urgent first.
    fn take_planned(&mut self, plan: &Plan) {
        while !self.is_closed() {
            let class = &self.classes.slots()[plan.class];
            let Some((_, bucket)) = class.head_of(plan.tier, plan.buckets.clone()) else { return };
            let items = self.batch.items.len();
            let mut queue = std::mem::take(self.queue(plan.class, bucket, plan.tier));
            let aside = plan.passed.min(queue.len());
            queue.put_aside(aside);
            // While one bucket is all there is, it stays in hand.
            let mut step = self.take(&mut queue, plan, plan.tier, plan.rows);
            while plan.buckets.len() == 1 && step != Step::Stays && queue.len() > aside && !self.is_closed() {
                step = self.take(&mut queue, plan, plan.tier, plan.rows);
            }
            queue.put_back(aside.min(queue.len()));
            *self.queue(plan.class, bucket, plan.tier) = queue;
            if self.batch.items.len() > items {
                self.longest = self.longest.max(bucket);
            }
            if step == Step::Stays || aside > 0 {
                return;
            }
        }
    }

    /// Fills up to so many rows with requests of another priority that make nobody late: those that would are left where
    /// they are, and bind nobody. Gives when the most urgent of the batch is due then.
    fn fill_up(&mut self, plan: &Plan, tier: usize, rows_max: u32, due: Instant) -> Instant {
        let mut due = due;
        for bucket in plan.buckets.clone() {
            if self.batch.rows >= rows_max || self.is_closed() {
                return due;
            }
            let mut queue = std::mem::take(self.queue(plan.class, bucket, tier));
            let aside = if self.is_estimating { self.binding(&queue, plan, rows_max, due) } else { 0 };
            queue.put_aside(aside);
            while queue.len() > aside && !self.is_closed() {
                let Some(front) = queue.front() else { break };
                let (front_due, rows) = (front.due, front.item.row_count().min(rows_max - self.batch.rows));
                if self.is_estimating && self.ends_at(plan, rows) > due.min(front_due) {
                    break;
                }
                match self.take(&mut queue, plan, tier, rows_max) {
                    Step::Taken => {
                        due = due.min(front_due);
                        self.longest = self.longest.max(bucket);
                    }
                    Step::Dropped => {}
                    Step::Stays => break,
                }
            }
            queue.put_back(aside.min(queue.len()));
            *self.queue(plan.class, bucket, tier) = queue;
        }
        due
    }

    /// How many of a queue's first requests would leave no time for all that could join the batch otherwise.
    fn binding(&self, queue: &Queue, plan: &Plan, rows_max: u32, due: Instant) -> usize {
        let rows = self.batch.rows;
        let latency = self.classes.latency(plan.longest());
        let slack = due.saturating_duration_since(self.now);
        let fitting = latency.rows_fitting(slack, rows_max).max(rows);
        let joining = (fitting - rows).min(u32::try_from(queue.rows()).unwrap_or(u32::MAX));
        let mut binding = queue.count_before(self.ends_at(plan, joining));
        // Those behind may be too few to fill it: then there is time for some before them.
        let mut behind = queue.iter().skip(binding).take(joining as usize).map(|entry| entry.item.row_count()).sum();
        while behind < joining {
            let Some(entry) = binding.checked_sub(1).and_then(|last| queue.get(last)) else { break };
            behind = entry.item.row_count().saturating_add(behind);
            if self.ends_at(plan, behind) > entry.due {
                break;
            }
            binding -= 1;
        }
        binding
    }

    /// Takes the first request of a queue, or what fits of one that is larger than a batch.
    fn take(&mut self, queue: &mut Queue, plan: &Plan, tier: usize, rows_max: u32) -> Step {
        let Some(entry) = queue.front() else { return Step::Stays };
        let item = &entry.item;
        let is_gone = !item.is_waiting();
        if is_gone || item.deadline() <= self.now {
            if let Some(item) = self.remove(queue, plan.class, tier) {
                self.shedding.left(&item, self.now);
                if !is_gone {
                    item.expire(self.now, self.answers);
                }
            }
            return Step::Dropped;
        }
        let is_first = self.batch.items.is_empty();
        if !is_first && item.is_alone() {
            return Step::Stays;
        }
        let (due, rows) = (entry.due, item.row_count());
        let fitting = self.fitting(item, rows_max);
        let is_oversize = rows > self.rows_max || item.bytes() > self.policy.bytes_max;
        if fitting < rows && (fitting == 0 || !is_oversize) {
            self.is_full |= self.fitting(item, self.rows_max) < rows;
            return Step::Stays;
        }
        let Some(item) = self.remove(queue, plan.class, tier) else { return Step::Dropped };
        self.taken[tier] += fitting;
        if fitting < rows {
            let (front, rest) = item.take_front(fitting, self.policy.answer_bytes_max);
            self.backlog.add(tier, &rest);
            self.classes.slot_mut(plan.class).added(tier);
            queue.push_front(due, rest);
            self.batch.push(front);
            self.is_full |= rows_max == self.rows_max;
            return Step::Stays;
        }
        self.batch.push(item);
        self.is_full |= self.batch.rows >= self.rows_max;
        Step::Taken
    }

    /// How many rows of this request fit into a batch of so many: all, some, or none. The first always fits, if need be
    /// in parts.
    fn fitting(&self, item: &Item, rows_max: u32) -> u32 {
        let rows = item.row_count();
        if !self.policy.batched {
            return rows;
        }
        let is_first = self.batch.items.is_empty();
        // What is not larger than a batch is never cut.
        let rows_max = if is_first && rows <= self.rows_max { self.rows_max } else { rows_max };
        let bytes_room = self.policy.bytes_max.saturating_sub(self.batch.bytes);
        let rows_room = rows_max.saturating_sub(self.batch.rows);
        ShapeClass::rows_fitting(item, rows_room, bytes_room).max(u32::from(is_first)).min(rows)
    }

    fn remove(&mut self, queue: &mut Queue, class: usize, tier: usize) -> Option<Item> {
        let item = queue.pop_front()?.item;
        self.backlog.subtract(tier, &item);
        self.classes.slot_mut(class).removed(tier);
        Some(item)
    }

    /// Whether nothing more may join: it is full, or holds what runs alone.
    fn is_closed(&self) -> bool {
        let is_alone = !self.policy.batched || self.batch.items.first().is_some_and(Item::is_alone);
        self.is_full || (is_alone && !self.batch.items.is_empty())
    }

    /// When the batch would have run, with so many rows more.
    fn ends_at(&self, plan: &Plan, rows: u32) -> Instant {
        self.now + self.classes.latency(plan.longest()).cautious(self.batch.rows + rows)
    }

    fn queue(&mut self, class: usize, bucket: usize, tier: usize) -> &mut Queue {
        &mut self.classes.slot_mut(class).buckets[bucket].tiers[tier]
    }
}
