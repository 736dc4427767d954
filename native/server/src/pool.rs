//! Queues and lanes of the models that runner threads run, and the preparation of their requests.

mod passing;
mod preparing;
mod state;

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use passing::pass;
use preparing::Task;
use servekit_core::{Answers, Batch, Fault, ModelKey, Outcome, Pending, Queued, Refusal, Refused, Scheduler, execute};
use state::{Lent, Queue, State, Step, Work};

use crate::listing::Version;

/// What runners pull from. One lock guards it all: it is held for as long as it takes to put requests in or to take a
/// batch out, by shards once a tick and by runners once a batch, or once a request that is to be prepared; so nothing finer
/// would pay.
pub(crate) struct Pool {
    state: Mutex<State>,
    /// Rung for one runner at a time, and only when one sleeps.
    bell: Condvar,
}

impl Pool {
    /// A pool without models, whose runs keep so many cores busy.
    pub(crate) fn new(requests_max: u64, cores: usize) -> Self {
        let requests_max = usize::try_from(requests_max).unwrap_or(usize::MAX);
        let scheduler = Scheduler::new(requests_max, u32::try_from(cores).unwrap_or(u32::MAX));
        let state = State { scheduler, queues: Vec::new(), sleeping: 0, timed: 0, rings: 0, is_stopping: false };
        Self { state: Mutex::new(state), bell: Condvar::new() }
    }

    /// Opens a model's queue with all its lanes, and a preparer where it has such; those of its legs too.
    ///
    /// # Errors
    /// Those of [`Model::executor`](servekit_core::Model::executor); then nothing is open.
    pub(crate) fn open(&self, version: &Arc<Version>) -> Result<(), Refusal> {
        let queue = |version: &Arc<Version>| {
            let served = &version.served;
            let lanes: Result<Vec<_>, Refusal> =
                (0..served.policy.lanes.max(1)).map(|_| served.model.executor().map(Some)).collect();
            let (lanes, preparers) = (lanes?, Vec::from_iter(served.model.preparer()));
            Ok(Queue { version: Arc::clone(version), lanes, preparers, estimated_at: None, is_closing: false })
        };
        let legs = std::iter::once(version).chain(&version.legs);
        let queues = legs.map(queue).collect::<Result<Vec<_>, Refusal>>()?;
        let mut state = self.lock();
        for queue in queues {
            let Version { key, served, prepares, .. } = &*queue.version;
            state.scheduler.add(*key, &*served.name, served.policy.clone());
            if *prepares {
                state.scheduler.prepare(*key);
            }
            if *key != version.key {
                state.scheduler.join(*key, version.key);
            }
            let place = state.queues.partition_point(|other| other.version.key < *key);
            state.queues.insert(place, queue);
        }
        state.reckon(version.key);
        Ok(())
    }

    /// Ends a model's queue once no shard sends to it any more and what it holds was run.
    pub(crate) fn close(&self, key: ModelKey) {
        let mut state = self.lock();
        if let Some(place) = state.place(key) {
            state.queues[place].is_closing = true;
            state.bury(place);
        }
    }

    /// Says that a shard sends nothing more to this model.
    pub(crate) fn part(&self, version: &Version) {
        version.shards.fetch_sub(1, Ordering::Relaxed);
        let mut state = self.lock();
        if let Some(place) = state.place(version.key) {
            state.bury(place);
        }
    }

    /// Queues what a shard took in during a tick; what is not taken is put into `refused`.
    pub(crate) fn offer(&self, offers: &mut Vec<(ModelKey, Box<Pending>)>, now: Instant, refused: &mut Vec<Refused>) {
        let mut state = self.lock();
        let mut last = None;
        for (key, pending) in offers.drain(..) {
            if let Some(before) = last.filter(|&before| before != key) {
                state.publish(before, now);
            }
            last = Some(key);
            if let Err(refusal) = state.offer(key, pending, now) {
                refused.push(*refusal);
            }
        }
        if let Some(key) = last {
            state.publish(key, now);
        }
        self.ring(state, now);
    }

    /// Halves the batches of all models while memory is short.
    pub(crate) fn press(&self, is_pressed: bool) {
        self.lock().scheduler.press(is_pressed);
    }

    /// Says that the caller of a queued request has left; see [`Batcher::leave`](servekit_core::Batcher::leave).
    /// Nobody knows which leg it waits in, so all look through their queues where that is worth it.
    pub(crate) fn leave(&self, key: ModelKey, bytes: usize, now: Instant) {
        let mut state = self.lock();
        let journey = state.place(key).and_then(|place| state.queues[place].version.journey.clone());
        for &key in journey.as_ref().map_or(std::slice::from_ref(&key), |journey| &*journey.keys) {
            state.scheduler.leave(key, bytes, now);
            state.count(key);
        }
    }

    /// What waits for one model, and the rows that its batches may have now.
    pub(crate) fn queued(&self, key: ModelKey) -> Option<(Queued, u32)> {
        let state = self.lock();
        let batcher = state.scheduler.batcher(key)?;
        Some((batcher.queued(), batcher.policy().rows_max))
    }

    /// Ends all runners after the batch they are at; what is queued is answered with the refusal.
    pub(crate) fn stop(&self, refusal: &Refusal) {
        let mut answers = Answers::default();
        let mut state = self.lock();
        state.is_stopping = true;
        state.scheduler.refuse(refusal, &mut answers);
        drop(state);
        self.bell.notify_all();
    }

    /// The life of a runner: pulls batches and runs them, and prepares requests, until the pool stops. It counts as the
    /// thread of this number; `fault` takes what went wrong.
    pub(crate) fn run(&self, thread: usize, fault: &dyn Fn(&Fault)) {
        let (mut batch, mut answers) = (Batch::default(), Answers::default());
        while let Some(work) = self.next(&mut batch, &mut answers, thread) {
            // Expired requests were answered while the batch was formed; they do not wait for its end.
            answers.send();
            match work {
                Work::Run(lent) => self.run_batch(lent, &mut batch, &mut answers, (thread, fault)),
                Work::Prepare(mut task) => {
                    task.run(thread, fault);
                    self.take_prepared(task, &mut answers);
                    answers.send();
                }
            }
        }
    }

    /// Runs a batch on a lane, or on a new one where that is missing.
    fn run_batch(
        &self,
        lent: Lent,
        batch: &mut Batch,
        answers: &mut Answers,
        (thread, fault): (usize, &dyn Fn(&Fault)),
    ) {
        let Lent { version, lane } = lent;
        match lane.map_or_else(|| version.served.model.executor(), Ok) {
            Ok(mut lane) => {
                let dispatch = batch.dispatch;
                let contract = version.served.model.run_contract();
                let report = execute(&mut *lane, contract, batch, &Instant::now, answers);
                version.counters[thread].ran(dispatch, &report);
                report.fault.iter().for_each(fault);
                let passed = if version.journey.is_some() { pass(&version, thread, answers) } else { Vec::new() };
                answers.send();
                let lane = (report.outcome != Outcome::Lost).then_some(lane);
                let key = version.key;
                let tell = |scheduler: &mut Scheduler| scheduler.ran(key, &report, report.ended_at);
                self.give_back(Lent { version, lane }, tell, passed, answers);
            }
            Err(refusal) => {
                batch.items.drain(..).for_each(|item| item.answer(Err(refusal.clone()), answers));
                answers.send();
                let (key, run) = (version.key, batch.run);
                let tell = |scheduler: &mut Scheduler| scheduler.abandon(key, run, Instant::now());
                self.give_back(Lent { version, lane: None }, tell, Vec::new(), answers);
            }
        }
    }

    /// Queues a request that was prepared; one that is refused is answered.
    fn take_prepared(&self, task: Task, answers: &mut Answers) {
        let (key, now) = (task.key(), Instant::now());
        let mut state = self.lock();
        let refused = state.prepared(task, now);
        state.publish(key, now);
        if let Some(place) = state.place(key) {
            state.bury(place);
        }
        drop(state);
        if let Err(refused) = refused {
            answers.push(refused.pending.caller, Err(refused.refusal));
        }
    }

    /// Waits for a batch, or for a request to prepare; `None` when the pool stops.
    fn next(&self, batch: &mut Batch, answers: &mut Answers, thread: usize) -> Option<Work> {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let step = state.step(now, batch, answers);
            state.count_given_up(thread);
            let until = match step {
                Step::Work(work) => {
                    // One ring per batch or request: whoever takes one wakes the next runner where there is more to take.
                    self.ring(state, now);
                    return Some(work);
                }
                Step::Sleep(until) => until,
            };
            if state.is_stopping {
                return None;
            }
            if !answers.is_empty() {
                drop(state);
                answers.send();
                state = self.lock();
                continue;
            }
            state = self.sleep(state, until.map(|until| until.saturating_duration_since(now)));
        }
    }

    /// Sleeps until the bell rings for this runner, or for as long as rows are held back.
    fn sleep<'s>(&self, mut state: MutexGuard<'s, State>, timeout: Option<Duration>) -> MutexGuard<'s, State> {
        let rested = |state: &mut State| state.rings == 0 && !state.is_stopping;
        state.sleeping += 1;
        match timeout {
            None => state = self.bell.wait_while(state, rested).unwrap_or_else(PoisonError::into_inner),
            Some(timeout) => {
                state.timed += 1;
                let waited = self.bell.wait_timeout_while(state, timeout, rested);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                state.timed -= 1;
            }
        }
        state.rings = state.rings.saturating_sub(1);
        state.sleeping -= 1;
        state
    }

    /// Puts a lane back where it came from, and tells the scheduler what became of its batch. Those who go on to another
    /// leg are queued there before a queue may close for having nothing to do; who is not taken is answered.
    fn give_back(
        &self,
        Lent { version, lane }: Lent,
        tell: impl FnOnce(&mut Scheduler),
        passed: Vec<(ModelKey, Box<Pending>)>,
        answers: &mut Answers,
    ) {
        let mut state = self.lock();
        tell(&mut state.scheduler);
        let now = Instant::now();
        for (key, pending) in passed {
            if let Err(refused) = state.go_on(key, pending, now) {
                answers.push(refused.pending.caller, Err(refused.refusal));
            }
            state.count(key);
        }
        state.reckon(version.key);
        state.publish(version.key, now);
        state.estimate(version.key, now);
        if let Some(place) = state.place(version.key) {
            state.queues[place].lanes.push(lane);
            state.bury(place);
        }
        drop(state);
        answers.send();
    }

    /// Wakes a runner where one sleeps and there is something to do, or to wait for, that no other one sees to.
    fn ring(&self, mut state: MutexGuard<'_, State>, now: Instant) {
        if state.sleeping <= state.rings {
            return;
        }
        let is_held = || state.timed == 0 && state.scheduler.held_until().is_some();
        if state.scheduler.has_work(now) || is_held() {
            state.rings += 1;
            drop(state);
            self.bell.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Pool").finish_non_exhaustive()
    }
}
