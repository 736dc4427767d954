//! What the pool's lock guards: queues, and the lanes and preparers that nobody uses.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use servekit_core::{Answers, Batch, Executor, ModelKey, Pending, Preparer, Refusal, Refused, Scheduler, Turn};

use super::preparing::{Task, check_row};
use crate::estimates::ESTIMATE_INTERVAL;
use crate::listing::{Journey, Version};

/// A request that comes into a leg waits for what runs there, and then runs itself.
const BEHIND: f64 = 1.5;

/// See the module.
pub(super) struct State {
    pub(super) scheduler: Scheduler,
    /// In ascending order of their keys, as the scheduler has them.
    pub(super) queues: Vec<Queue>,
    /// Runners that wait for the bell, and those among them that also look at the clock.
    pub(super) sleeping: usize,
    pub(super) timed: usize,
    /// Times the bell was rung and nobody has woken for it yet.
    pub(super) rings: usize,
    pub(super) is_stopping: bool,
}

/// What a model has beside its queue.
pub(super) struct Queue {
    pub(super) version: Arc<Version>,
    /// Lanes that nobody uses; the one used last is used next, as its buffers are warm. `None` stands for a lane that
    /// broke: whoever takes it makes another.
    pub(super) lanes: Vec<Option<Box<dyn Executor>>>,
    /// Preparers that nobody uses; empty where requests are not prepared. Whoever finds none makes another, so there are
    /// never more than runners.
    pub(super) preparers: Vec<Box<dyn Preparer>>,
    /// When its estimate was written down last.
    pub(super) estimated_at: Option<Instant>,
    /// Goes once no shard sends to it, it is empty and all its lanes are back.
    pub(super) is_closing: bool,
}

/// A batch's model, and the lane it runs on.
pub(super) struct Lent {
    pub(super) version: Arc<Version>,
    pub(super) lane: Option<Box<dyn Executor>>,
}

/// Something to do outside of the lock.
pub(super) enum Work {
    Run(Lent),
    Prepare(Task),
}

/// What a runner does next.
pub(super) enum Step {
    Work(Work),
    /// Nothing can run now; where rows are held back for others, until then.
    Sleep(Option<Instant>),
}

impl State {
    pub(super) fn place(&self, key: ModelKey) -> Option<usize> {
        self.queues.binary_search_by_key(&key, |queue| queue.version.key).ok()
    }

    pub(super) fn offer(&mut self, key: ModelKey, pending: Box<Pending>, now: Instant) -> Result<(), Box<Refused>> {
        if self.is_stopping {
            return Err(Box::new(Refused { pending, refusal: crate::refusals::draining() }));
        }
        self.scheduler.offer(key, pending, now)
    }

    /// Queues a request that goes on to this leg.
    pub(super) fn go_on(&mut self, key: ModelKey, pending: Box<Pending>, now: Instant) -> Result<(), Box<Refused>> {
        let fits = self
            .place(key)
            .map_or(Ok(()), |place| check_row(&self.queues[place].version, pending.bytes(), pending.rows));
        match fits {
            Ok(()) => self.offer(key, pending, now),
            Err(refusal) => Err(Box::new(Refused { pending, refusal })),
        }
    }

    /// Queues a request that was prepared, and takes its preparer back.
    pub(super) fn prepared(&mut self, task: Task, now: Instant) -> Result<(), Box<Refused>> {
        let Task { version, preparer, pending, took, refusal } = task;
        if let Some(place) = self.place(version.key) {
            self.queues[place].preparers.extend(preparer);
        }
        let refusal = refusal.or_else(|| self.is_stopping.then(crate::refusals::draining));
        match refusal {
            None => self.scheduler.prepared(version.key, pending, took, now),
            Some(refusal) => {
                self.scheduler.spoiled(version.key, pending.rows, took);
                Err(Box::new(Refused { pending, refusal }))
            }
        }
    }

    /// Drops a queue that is closing and has nothing more to do; then the leg behind it closes.
    pub(super) fn bury(&mut self, mut place: usize) {
        loop {
            let Queue { version, is_closing, .. } = &self.queues[place];
            let (key, is_left) = (version.key, version.shards.load(Ordering::Relaxed) == 0);
            if !*is_closing || !is_left || !self.scheduler.is_idle(key) {
                return;
            }
            let next = version.next_leg();
            self.queues.remove(place);
            self.scheduler.close(key, &Refusal::unloaded(), &mut Answers::default());
            let Some(next) = next.and_then(|next| self.place(next)) else { return };
            self.queues[next].is_closing = true;
            place = next;
        }
    }

    /// Takes the batch that is next, with a lane for it, or the request that is to be prepared.
    pub(super) fn step(&mut self, now: Instant, batch: &mut Batch, answers: &mut Answers) -> Step {
        let turn = self.scheduler.turn(now, batch, answers);
        let until = match turn {
            Turn::Run => {
                if let Some(place) = self.place(batch.key) {
                    self.publish(batch.key, now);
                    let Queue { version, lanes, .. } = &mut self.queues[place];
                    let (version, lane) = (Arc::clone(version), lanes.pop().flatten());
                    return Step::Work(Work::Run(Lent { version, lane }));
                }
                None
            }
            Turn::Prepare(key, pending) => {
                if let Some(place) = self.place(key) {
                    let Queue { version, preparers, .. } = &mut self.queues[place];
                    let task = Task::new(Arc::clone(version), preparers.pop(), pending);
                    return Step::Work(Work::Prepare(task));
                }
                None
            }
            Turn::WaitUntil(until) => Some(until),
            Turn::Idle => None,
        };
        // What waited may have been dropped.
        self.queues.iter().for_each(|queue| self.count(queue.version.key));
        Step::Sleep(until)
    }

    /// Tells shards what a newcomer must expect of this model.
    pub(super) fn publish(&mut self, key: ModelKey, now: Instant) {
        let (Some(place), Some(batcher)) = (self.place(key), self.scheduler.batcher_mut(key)) else { return };
        let version = &self.queues[place].version;
        version.queued.store(batcher.queued().requests, Ordering::Relaxed);
        batcher.publish(&version.outlook, now);
    }

    /// Has the legs before this one reckon with the time that it and those behind it take.
    pub(super) fn reckon(&mut self, key: ModelKey) {
        let Some(place) = self.place(key) else { return };
        let Some(Journey { keys, .. }) = self.queues[place].version.journey.clone() else { return };
        let mut behind = Duration::ZERO;
        for &leg in keys.iter().rev() {
            let (Some(place), Some(batcher)) = (self.place(leg), self.scheduler.batcher_mut(leg)) else { return };
            batcher.reserve(self.queues[place].version.served.policy.egress + behind);
            behind += batcher.usual_run().mul_f64(BEHIND);
        }
    }

    /// Writes down what this model's queue reckons with, now and then.
    pub(super) fn estimate(&mut self, key: ModelKey, now: Instant) {
        let (Some(place), Some(batcher)) = (self.place(key), self.scheduler.batcher(key)) else { return };
        let Queue { version, estimated_at, .. } = &mut self.queues[place];
        if estimated_at.is_none_or(|at| now.saturating_duration_since(at) >= ESTIMATE_INTERVAL) {
            *estimated_at = Some(now);
            version.estimates.note_pool(batcher.estimate());
        }
    }

    /// Counts what queues gave up, and what mixing lengths has cost.
    pub(super) fn count_given_up(&mut self, thread: usize) {
        for Queue { version, .. } in &self.queues {
            if let Some(batcher) = self.scheduler.batcher_mut(version.key) {
                version.counters[thread].gave(batcher);
            }
        }
    }

    pub(super) fn count(&self, key: ModelKey) {
        if let (Some(place), Some(batcher)) = (self.place(key), self.scheduler.batcher(key)) {
            self.queues[place].version.queued.store(batcher.queued().requests, Ordering::Relaxed);
        }
    }
}
