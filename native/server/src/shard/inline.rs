//! Models that a shard runs itself, when it has read everything that is ready.

use std::sync::atomic::Ordering;
use std::time::Duration;

use servekit_core::{Answers, Batcher, ModelKey, Next, Outcome, Refusal, execute};

use super::desk::{Desk, Lane};
use super::transport::Transport;
use super::{HEARING_MAX, Shard};
use crate::dialect::Memory;
use crate::estimates::ESTIMATE_INTERVAL;
use crate::listing::Placement;

/// How long a shard runs batches before it looks at its connections again.
const DISPATCH_MAX: Duration = Duration::from_micros(500);

impl Desk {
    /// Opens and closes lanes so that they are those of the listing.
    pub(super) fn change_lanes(&mut self, answers: &mut Answers) {
        let Self { listing, scheduler, lanes, shared, now, .. } = self;
        lanes.retain(|lane| {
            let is_served = listing.served().any(|version| version.key == lane.version.key);
            if !is_served {
                scheduler.close(lane.version.key, &Refusal::unloaded(), answers);
                shared.pool.part(&lane.version);
            }
            is_served
        });
        for version in listing.served() {
            let Err(place) = lanes.binary_search_by_key(&version.key, |lane| lane.version.key) else { continue };
            let mut lane = Lane {
                version: version.clone(),
                bytes: version.bytes.share(),
                executor: None,
                memory: Memory::default(),
                estimated_at: *now,
            };
            if version.served.placement == Placement::Inline {
                // A lane that cannot be had is asked for again by its first batch, which tells why.
                lane.executor = version.served.model.executor().ok();
                scheduler.add(version.key, &*version.served.name, version.served.inline_policy());
            }
            version.shards.fetch_add(1, Ordering::Relaxed);
            lanes.insert(place, lane);
        }
    }
}

impl Desk {
    /// Counts what this shard's own queues gave up, and what mixing lengths has cost.
    fn count_given_up(&mut self) {
        let inline = self.lanes.iter().filter(|lane| lane.version.served.placement == Placement::Inline);
        for lane in inline {
            if let Some(batcher) = self.scheduler.batcher_mut(lane.version.key) {
                lane.version.counters[self.index].gave(batcher);
            }
        }
    }

    /// Writes down what this shard's own queue of a model reckons with.
    fn estimate(&mut self, key: ModelKey) {
        let (now, index) = (self.now, self.index);
        let Some(estimate) = self.scheduler.batcher(key).map(Batcher::estimate) else { return };
        if let Some(lane) = self.lane(key) {
            lane.estimated_at = now;
            lane.version.estimates.note_shard(index, estimate);
        }
    }
}

impl<T: Transport> Shard<T> {
    /// Hands what this tick took in to the pool, and runs inline batches: all, unless that takes long. Then the rest
    /// waits for the next tick, so that who asks meanwhile is heard, and counted from when they asked.
    pub(super) fn dispatch(&mut self) {
        self.offer();
        if self.desk.scheduler.queued().requests == 0 {
            return;
        }
        self.desk.now = (self.clock)();
        // A shard that is behind with reading runs as long as it reads.
        let until = self.desk.now + if self.is_behind() { HEARING_MAX } else { DISPATCH_MAX };
        self.runs_long = false;
        loop {
            let next = self.desk.scheduler.next(self.desk.now, &mut self.batch, &mut self.answers);
            if next == Next::Run {
                self.run_batch();
            }
            self.settle();
            self.runs_long |= self.desk.now >= until;
            if next != Next::Run || self.desk.scheduler.queued().requests == 0 || self.runs_long {
                break;
            }
            // Read anew before each batch, so that none holds a request whose time has passed during the last.
            self.desk.now = (self.clock)();
        }
        self.desk.count_given_up();
    }

    fn offer(&mut self) {
        if self.desk.offers.is_empty() {
            return;
        }
        let mut refused = Vec::new();
        self.desk.shared.pool.offer(&mut self.desk.offers, self.desk.now, &mut refused);
        for refused in refused {
            self.answers.push(refused.pending.caller, Err(refused.refusal));
        }
        self.settle();
    }

    fn run_batch(&mut self) {
        let (key, dispatch, index) = (self.batch.key, self.batch.dispatch, self.desk.index);
        let run = self.batch.run;
        let refusal = match self.desk.lane(key) {
            None => Refusal::unloaded(),
            Some(lane) => match lane.executor.take().map_or_else(|| lane.version.served.model.executor(), Ok) {
                Err(refusal) => refusal,
                Ok(mut executor) => {
                    let contract = lane.version.served.model.run_contract();
                    let report = execute(&mut *executor, contract, &mut self.batch, &*self.clock, &mut self.answers);
                    lane.version.counters[index].ran(dispatch, &report);
                    let is_due = lane.estimated_at + ESTIMATE_INTERVAL <= report.ended_at;
                    if report.outcome != Outcome::Lost {
                        lane.executor = Some(executor);
                    }
                    if let Some(fault) = &report.fault {
                        self.desk.shared.log.fault(fault);
                    }
                    self.desk.scheduler.ran(key, &report, report.ended_at);
                    self.desk.now = report.ended_at;
                    if is_due {
                        self.desk.estimate(key);
                    }
                    return;
                }
            },
        };
        self.batch.items.drain(..).for_each(|item| item.answer(Err(refusal.clone()), &mut self.answers));
        self.desk.scheduler.abandon(key, run, self.desk.now);
    }
}
