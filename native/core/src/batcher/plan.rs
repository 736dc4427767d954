//! Which rows the next batch shall have.

use std::ops::Range;
use std::time::Instant;

use super::Batcher;
use super::classes::{Active, Place};
use super::hold::Holding;
use super::queue::Entry;
use super::ragged::Mixing;
use super::window::{View, Window};
use crate::Latency;

/// A batch before its rows are collected.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) class: usize,
    /// The priority that it is formed for; others fill it up.
    pub(super) tier: usize,
    /// Of its most urgent request.
    pub(super) bucket: usize,
    pub(super) due: Instant,
    /// The lengths that it mixes.
    pub(super) buckets: Range<usize>,
    /// Requests to give up before, from the front of the head's queue.
    pub(super) shed: usize,
    /// Requests behind those that are passed over.
    pub(super) passed: usize,
    /// Rows of this priority, or requests where nothing is batched.
    pub(super) rows: u32,
    /// Time allows no more rows.
    pub(super) is_bound: bool,
}

impl Plan {
    /// Where the longest that may be in it are.
    pub(super) fn longest(&self) -> Place {
        Place { class: self.class, bucket: self.buckets.end - 1 }
    }
}

impl Batcher {
    /// What to run if something leaves now. `None` where nothing of this priority waits in the class.
    pub(super) fn plan(&self, first: Active, now: Instant) -> Option<Plan> {
        let Active { class, tier, .. } = first;
        let (due, bucket) = self.classes.slots()[class].head(tier)?;
        let buckets = self.mixed(Place { class, bucket }, tier, now);
        let mut plan = Plan { class, tier, bucket, due, buckets, shed: 0, passed: 0, rows: 1, is_bound: false };
        let mut reserved = self.reserved(&plan);
        plan.rows = self.rows_of(&plan, reserved);
        if !self.is_estimating() || self.is_in_time(&plan, reserved, now) || !self.policy.rules.slack {
            return Some(plan);
        }
        if plan.buckets.len() > 1 {
            plan.buckets = bucket..bucket + 1;
            reserved = self.reserved(&plan);
            plan.rows = self.rows_of(&plan, reserved);
            if self.is_in_time(&plan, reserved, now) {
                return Some(plan);
            }
        }
        let Window { shed, passed, rows } = self.view(&plan, reserved, now).window();
        Some(Plan { shed, passed, rows, is_bound: rows < plan.rows, ..plan })
    }

    /// Until when this batch is held, if it is.
    pub(super) fn held(&self, plan: &Plan, now: Instant) -> Option<Instant> {
        let is_small = !plan.is_bound && plan.shed + plan.passed == 0;
        let head = self.classes.slots()[plan.class].buckets[plan.bucket].tiers[plan.tier].front()?;
        if is_small { self.hold(self.classes.latency(plan.longest()), head, now) } else { None }
    }

    /// Until when a batch of all that waits is held, this request being the most urgent.
    pub(super) fn hold(&self, latency: &Latency, head: &Entry, now: Instant) -> Option<Instant> {
        let policy = &self.policy;
        let may_hold = policy.lanes >= 2
            && policy.rules.hold
            && policy.batched
            && self.is_estimating()
            && self.classes.active_count() == 1;
        let rows = u32::try_from(self.backlog.queued().rows).unwrap_or(u32::MAX);
        if !may_hold || rows >= self.rows_max() || head.item.is_alone() {
            return None;
        }
        let holding = Holding {
            latency,
            rows,
            due: head.due,
            arrived_at: head.item.arrived_at(),
            last_arrival: self.demand.last()?,
            rows_per_s: self.demand.rows_per_s(),
            lanes: policy.lanes,
        };
        holding.until().filter(|until| *until > now)
    }

    /// Whether more rows are asked for, by this class and those before it, than all lanes can run in time.
    pub(super) fn is_overloaded(&self, tier: usize) -> bool {
        self.demand.rows_per_s_before(tier) > 0.98 * self.capacity()
    }

    /// Whether many are given up while several queues compete: what one of them keeps by a small batch the others lose.
    fn is_crowded(&self) -> bool {
        let has_several = self.classes.active_count() > 1 || self.policy.ragged.is_some();
        has_several && self.shedding.is_failing_fast()
    }

    /// Rows per second that all lanes together can run so that the target is met.
    pub(super) fn capacity(&self) -> f64 {
        let latency = self.classes.whole();
        let knee = self.knee(latency);
        let rows_per_s = f64::from(self.policy.lanes) * f64::from(knee) / latency.expected(knee).as_secs_f64();
        self.preparation.as_ref().map_or(rows_per_s, |preparation| preparation.bound(rows_per_s, &self.policy))
    }

    /// The batch of the best rate that the target allows.
    pub(super) fn knee(&self, latency: &Latency) -> u32 {
        latency.knee(self.policy.target, self.policy.lanes, self.weight_max())
    }

    /// Lengths to mix with that of the head: its own only, while padding has cost much and nobody has waited long.
    fn mixed(&self, head: Place, tier: usize, now: Instant) -> Range<usize> {
        let class = &self.classes.slots()[head.class];
        let own = head.bucket..head.bucket + 1;
        if class.buckets.len() == 1 {
            return own;
        }
        let is_waiting_long = || {
            let entry = class.buckets[head.bucket].tiers[tier].front();
            let is_late =
                |entry: &Entry| now.saturating_duration_since(entry.item.arrived_at()) * 2 > self.policy.target;
            !self.policy.target.is_zero() && entry.is_some_and(is_late)
        };
        if !(self.waste.is_affordable() || is_waiting_long()) {
            return own;
        }
        let (whole, rows_max, rows_mean) = (self.classes.whole(), self.weight_max(), self.waste.rows_mean());
        Mixing { class, tier, whole, rows_max, rows_mean }.range(head.bucket)
    }

    /// Rows kept free for classes that are owed some.
    fn reserved(&self, plan: &Plan) -> u32 {
        let others = self.backlog.waiting() & !(1 << plan.tier);
        if others == 0 || !self.shares.is_owing() {
            return 0;
        }
        let class = &self.classes.slots()[plan.class];
        let waiting = |tier: usize| -> usize {
            class.buckets[plan.buckets.clone()].iter().map(|bucket| bucket.tiers[tier].rows()).sum()
        };
        let owed = (0..crate::Policy::PRIORITIES_MAX)
            .filter(|tier| others & (1 << tier) != 0)
            .map(|tier| self.shares.owed(tier).min(u32::try_from(waiting(tier)).unwrap_or(u32::MAX)));
        owed.sum::<u32>().min(self.weight_max() - 1)
    }

    fn rows_of(&self, plan: &Plan, reserved: u32) -> u32 {
        let queues = self.classes.slots()[plan.class].buckets[plan.buckets.clone()].iter();
        let counts = queues.map(|bucket| &bucket.tiers[plan.tier]);
        let waiting: usize = counts.map(|queue| if self.policy.batched { queue.rows() } else { queue.len() }).sum();
        u32::try_from(waiting).unwrap_or(u32::MAX).clamp(1, self.weight_max() - reserved)
    }

    fn is_in_time(&self, plan: &Plan, reserved: u32, now: Instant) -> bool {
        now + self.classes.latency(plan.longest()).cautious(plan.rows + reserved) <= plan.due
    }

    fn view(&self, plan: &Plan, reserved: u32, now: Instant) -> View<'_> {
        View {
            queue: &self.classes.slots()[plan.class].buckets[plan.bucket].tiers[plan.tier],
            latency: self.classes.latency(plan.longest()),
            rows_max: self.weight_max() - reserved,
            reserved,
            counts_rows: self.policy.batched,
            now,
            other_lane: self.lanes.remaining_besides(self.policy.lanes, now),
            rows_per_s: self.demand.rows_per_s_before(plan.tier),
            is_overloaded: self.is_overloaded(plan.tier) || self.is_crowded(),
            weighs: self.policy.rules.window,
        }
    }
}
