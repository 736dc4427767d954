//! Requests that are prepared, one by one, before they can be in a batch; and when a batch goes before that.
//!
//! Of what there is to do for a model, a batch is first that is full, or whose most urgent row would be late if it waited
//! for one more preparation. Everything else that waits is prepared before, so that batches grow meanwhile. Without a
//! target nothing is ever urgent; there a batch goes first once its oldest row has waited for several runs.
//!
//! While more is asked for than can be served, who would be the first of a batch is given up unless a batch worth its run
//! can still be prepared before the deadline.

use std::time::{Duration, Instant};

use super::admission::Fate;
use super::backlog::{Backlog, Queued};
use super::queue::Queue;
use super::share::Shares;
use super::{Batcher, Patience, Refused, Shed};
use crate::{Answers, Item, Pending, Policy};

/// What one more preparation weighs in what a row's takes.
const WEIGHT: f64 = 1.0 / 16.0;
/// Of what a batch takes in all, its rows are worth its base when they take so many times as long.
const BASES_MIN: f64 = 9.0;
/// Share of the target that preparing and running one batch may take.
const CYCLE_MAX: f64 = 0.75;
/// Runs that a batch waits for, without a target, while more is prepared for it: they are a fifth of all work then.
const RUNS_WAITED: u32 = 4;

/// What waits for being prepared, and how long that takes.
#[derive(Debug)]
pub(crate) struct Preparation {
    /// Threads that prepare.
    runners: u32,
    /// By class, most urgent first.
    tiers: [Queue; Policy::PRIORITIES_MAX],
    shares: Shares,
    waiting: Backlog,
    /// Requests that runners are at; the memory of their inputs is not counted.
    out: Queued,
    /// Seconds that a row takes; zero before the first.
    row_s: f64,
    /// Since when a batch could leave.
    ready_since: Option<Instant>,
}

impl Preparation {
    fn new(runners: u32) -> Self {
        Self {
            runners: runners.max(1),
            tiers: Default::default(),
            shares: Shares::default(),
            waiting: Backlog::default(),
            out: Queued::default(),
            row_s: 0.0,
            ready_since: None,
        }
    }

    /// What waits, and what runners are at.
    pub(super) fn queued(&self) -> Queued {
        self.waiting.queued() + self.out
    }

    /// A batch has left; what stays behind counts from the next preparation on.
    pub(super) fn batch_left(&mut self) {
        self.ready_since = None;
    }

    /// Takes all out that waits.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Item> + '_ {
        self.waiting = Backlog::default();
        self.tiers.iter_mut().flat_map(Queue::drain)
    }

    /// Drops what nobody waits for, having shown it.
    pub(super) fn sweep(&mut self, mut left: impl FnMut(&Item)) {
        let waiting = &mut self.waiting;
        for (tier, queue) in self.tiers.iter_mut().enumerate() {
            queue.retain(|item| {
                let is_waiting = item.is_waiting();
                if !is_waiting {
                    waiting.subtract(tier, item);
                    left(item);
                }
                is_waiting
            });
        }
    }

    /// Rows per second, of these that lanes can run, if whoever runs them prepares them too.
    pub(super) fn bound(&self, rows_per_s: f64, policy: &Policy) -> f64 {
        let run_s = f64::from(policy.lanes * policy.cores) / rows_per_s;
        if self.row_s > 0.0 { rows_per_s.min(f64::from(self.runners) / (self.row_s + run_s)) } else { rows_per_s }
    }

    /// The class whose request is next.
    fn first(&self) -> Option<usize> {
        self.shares.first(self.waiting.waiting(), 1)
    }

    fn pop(&mut self, tier: usize) -> Option<Item> {
        let item = self.tiers[tier].pop_front()?.item;
        self.waiting.subtract(tier, &item);
        Some(item)
    }

    /// A runner takes this request.
    fn start(&mut self, tier: usize, item: &Item) {
        self.out.requests += 1;
        self.out.rows += item.rows();
        let mut taken = [0; Policy::PRIORITIES_MAX];
        taken[tier] = item.row_count().max(1);
        self.shares.dispatched(&taken, self.waiting.waiting(), 1);
    }

    fn end(&mut self, rows: u32) {
        self.out.requests -= 1;
        self.out.rows -= rows as usize;
    }

    fn learn(&mut self, rows: u32, took: Duration) {
        let row_s = took.as_secs_f64() / f64::from(rows.max(1));
        let weight = if self.row_s > 0.0 { WEIGHT } else { 1.0 };
        self.row_s += weight * (row_s - self.row_s);
    }

    /// How long this many rows take.
    fn time(&self, rows: u32) -> Duration {
        seconds(self.row_s * f64::from(rows))
    }

    /// How long until a newcomer of these rows is prepared, all others having gone before.
    fn wait(&self, rows: u32) -> Duration {
        seconds(self.row_s * self.queued().rows as f64 / f64::from(self.runners)) + self.time(rows)
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX / 4)
}

impl Batcher {
    /// From now on every request is prepared first, by so many threads.
    pub(crate) fn prepare_on(&mut self, runners: u32) {
        self.preparation = Some(Box::new(Preparation::new(runners)));
    }

    /// Requests that a runner could prepare now.
    pub(crate) fn unprepared(&self) -> usize {
        self.preparation.as_ref().map_or(0, |preparation| preparation.waiting.queued().requests)
    }

    /// Requests that a batch could be formed of now.
    pub(crate) fn runnable(&self) -> usize {
        self.backlog.queued().requests
    }

    /// Queues a request that was admitted for being prepared.
    pub(super) fn offer_unprepared(&mut self, pending: Box<Pending>, now: Instant) -> Result<(), Box<Refused>> {
        let (tier, due) = (Policy::class(pending.priority), self.due(&pending));
        let time = Patience { since: now, deadline: pending.deadline };
        if self.is_predicting()
            && let Some(refusal) = self.lateness(tier, pending.rows, self.classes.whole(), time)
        {
            self.shedding.shed(Shed::Arrival, 1);
            return Err(Box::new(Refused { pending, refusal }));
        }
        let item = Item::whole(pending);
        if let Some(preparation) = &mut self.preparation {
            preparation.waiting.add(tier, &item);
            preparation.tiers[tier].insert(due, item);
        }
        Ok(())
    }

    /// Takes the request that is to be prepared next; it comes back by exactly one of [`prepared`](Self::prepared) and
    /// [`spoiled`](Self::spoiled). Before it, those are dropped whose callers have left, and those answered that are late
    /// or would be.
    pub(crate) fn prepare(&mut self, now: Instant, answers: &mut Answers) -> Option<Box<Pending>> {
        self.sweep_where_worth(64, now);
        while let Some(tier) = self.preparation.as_ref().and_then(|preparation| preparation.first()) {
            let fate = self.unprepared_fate(tier, now);
            let preparation = self.preparation.as_mut()?;
            let item = preparation.pop(tier)?;
            match fate {
                None => {
                    preparation.start(tier, &item);
                    return item.into_whole();
                }
                Some(Fate::Left) => self.shedding.left(&item, now),
                Some(Fate::Shed(shed)) => {
                    let latency = self.classes.whole();
                    let run = self.preparation_time(item.row_count()) + self.run_time(latency, item.row_count());
                    let times = (now, run, self.drain(tier, latency, now));
                    self.shed(shed, item, times, answers);
                }
            }
        }
        None
    }

    /// Queues a request that was prepared, which took this long. It keeps the place it had.
    ///
    /// # Errors
    /// `DeadlineExceeded` where its time has passed meanwhile.
    pub(crate) fn prepared(&mut self, pending: Box<Pending>, took: Duration, now: Instant) -> Result<(), Box<Refused>> {
        if let Some(preparation) = &mut self.preparation {
            preparation.end(pending.rows);
            preparation.learn(pending.rows, took);
            preparation.ready_since.get_or_insert(now);
        }
        // How long preparing takes has part in what newcomers are told.
        (self.hope, self.foreseen) = (None, None);
        if !pending.caller.is_waiting() {
            self.shedding.left(&Item::whole(pending), now);
            return Ok(());
        }
        if pending.deadline <= now {
            self.shedding.shed(Shed::Expired, 1);
            let refusal = Patience { since: pending.arrived_at, deadline: pending.deadline }.refusal(now);
            return Err(Box::new(Refused { pending, refusal }));
        }
        let place = self.place(&pending);
        self.is_due |= self.could_run_at_once();
        self.insert(place, pending);
        Ok(())
    }

    /// Ends the preparation of a request of these rows that is refused.
    pub(crate) fn spoiled(&mut self, rows: u32) {
        if let Some(preparation) = &mut self.preparation {
            preparation.end(rows);
        }
        (self.hope, self.foreseen) = (None, None);
    }

    /// Whether a batch goes before the next preparation; see the module.
    pub(crate) fn goes_first(&self, now: Instant) -> bool {
        let Some(preparation) = &self.preparation else { return true };
        let (ready, policy) = (self.backlog.queued(), &self.policy);
        let weight = if policy.batched { ready.rows } else { ready.requests };
        let is_full = weight >= self.weight_max() as usize || ready.bytes >= policy.bytes_max;
        if is_full || self.unprepared() == 0 || self.head().is_some_and(Item::is_alone) {
            return true;
        }
        let next = preparation.first().and_then(|tier| preparation.tiers[tier].front());
        let reserve = preparation.time(next.map_or(1, |entry| entry.item.row_count()));
        if self.batch_laxity(now).is_some_and(|laxity| laxity <= nanoseconds(reserve)) {
            return true;
        }
        let rows = u32::try_from(ready.rows).unwrap_or(u32::MAX).max(1);
        let waited = preparation.ready_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        policy.target.is_zero() && waited >= self.run_time(self.classes.whole(), rows) * RUNS_WAITED
    }

    /// As [`laxity`](Self::laxity), of the request that is to be prepared next.
    pub(super) fn unprepared_laxity(&self, now: Instant) -> Option<i64> {
        let preparation = self.preparation.as_ref()?;
        let item = &preparation.tiers[preparation.first()?].front()?.item;
        let rows = item.row_count();
        let took = preparation.time(rows) + self.run_time(self.classes.whole(), rows) + self.policy.egress;
        Some(signed_nanoseconds(item.deadline(), now + took))
    }

    /// Whether nothing is prepared, nor waits for that.
    pub(super) fn is_preparing_nothing(&self) -> bool {
        self.preparation.as_ref().is_none_or(|preparation| preparation.queued().requests == 0)
    }

    /// How long rows take to be prepared.
    pub(super) fn preparation_time(&self, rows: u32) -> Duration {
        self.preparation.as_ref().map_or(Duration::ZERO, |preparation| preparation.time(rows))
    }

    /// How long until a newcomer of these rows is prepared.
    pub(super) fn preparation_wait(&self, rows: u32) -> Duration {
        self.preparation.as_ref().map_or(Duration::ZERO, |preparation| preparation.wait(rows))
    }

    /// Why the first request of this class is not to be prepared, if it is not.
    fn unprepared_fate(&self, tier: usize, now: Instant) -> Option<Fate> {
        let preparation = self.preparation.as_ref()?;
        let item = &preparation.tiers[tier].front()?.item;
        if !item.is_waiting() {
            return Some(Fate::Left);
        }
        if item.deadline() <= now {
            return Some(Fate::Shed(Shed::Expired));
        }
        // The only one there is runs whatever is expected: estimates may be wrong, and only runs put them right.
        let may_miss = self.is_estimating() && self.queued().requests > 1;
        let rows = item.row_count();
        let took = || self.preparation_time(rows) + self.run_time(self.classes.whole(), rows) + self.policy.egress;
        if may_miss && now + took() > item.deadline() {
            return Some(Fate::Shed(Shed::Miss));
        }
        let is_first = self.runnable() == 0 && preparation.out.requests == 0;
        let is_short = || now + self.cycle() > item.deadline();
        (may_miss && is_first && self.is_overloaded(tier) && is_short()).then_some(Fate::Shed(Shed::Window))
    }

    /// How long it takes to prepare and run a batch that is worth its run. More is asked for than can be served, and whoever
    /// is the first of a batch decides how many others may be in it: without this all would be prepared at the last moment,
    /// and run one by one.
    fn cycle(&self) -> Duration {
        let (latency, Some(preparation)) = (self.classes.whole(), &self.preparation) else { return Duration::ZERO };
        let row_s = preparation.row_s / f64::from(preparation.runners) + latency.per_row().as_secs_f64();
        let base_s = (latency.base() + self.policy.egress).as_secs_f64();
        let allowed_s = CYCLE_MAX * self.policy.target.as_secs_f64() - base_s;
        let rows = (BASES_MIN * base_s).min(allowed_s) / row_s.max(1e-9);
        let rows = (rows as u32).clamp(1, self.weight_max());
        seconds(preparation.row_s * f64::from(rows) / f64::from(preparation.runners))
            + latency.cautious(rows)
            + self.policy.egress
    }
}

/// From one moment to a later one; less than zero where that is earlier.
pub(super) fn signed_nanoseconds(later: Instant, now: Instant) -> i64 {
    if later >= now { nanoseconds(later - now) } else { -nanoseconds(now - later) }
}

fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}
