//! Queues and lanes of the models that runner threads run.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use servekit_core::{
    Answers, Batch, Executor, Fault, ModelKey, Next, Outcome, Pending, Queued, Refusal, Refused, Scheduler, execute,
};

use crate::estimates::ESTIMATE_INTERVAL;
use crate::listing::Version;

/// What runners pull from. One lock guards it all: it is held for as long as it takes to put requests in or to take a
/// batch out, by shards once a tick and by runners once a batch; so nothing finer would pay.
pub(crate) struct Pool {
    state: Mutex<State>,
    /// Rung for one runner at a time, and only when one sleeps.
    bell: Condvar,
}

struct State {
    scheduler: Scheduler,
    /// In ascending order of their keys, as the scheduler has them.
    queues: Vec<Queue>,
    /// Runners that wait for the bell, and those among them that also look at the clock.
    sleeping: usize,
    timed: usize,
    /// Times the bell was rung and nobody has woken for it yet.
    rings: usize,
    is_stopping: bool,
}

/// What a model has beside its queue.
struct Queue {
    version: Arc<Version>,
    /// Lanes that nobody uses; the one used last is used next, as its buffers are warm. `None` stands for a lane that
    /// broke: whoever takes it makes another.
    lanes: Vec<Option<Box<dyn Executor>>>,
    /// When its estimate was written down last.
    estimated_at: Option<Instant>,
    /// Goes once no shard sends to it, it is empty and all its lanes are back.
    is_closing: bool,
}

/// A batch's model, and the lane it runs on.
struct Turn {
    version: Arc<Version>,
    lane: Option<Box<dyn Executor>>,
}

/// What a runner does next.
enum Step {
    Run(Turn),
    /// Nothing can run now; where rows are held back for others, until then.
    Sleep(Option<Instant>),
}

impl Pool {
    /// A pool without models, whose runs keep so many cores busy.
    pub(crate) fn new(requests_max: u64, cores: usize) -> Self {
        let requests_max = usize::try_from(requests_max).unwrap_or(usize::MAX);
        let scheduler = Scheduler::new(requests_max, u32::try_from(cores).unwrap_or(u32::MAX));
        let state = State { scheduler, queues: Vec::new(), sleeping: 0, timed: 0, rings: 0, is_stopping: false };
        Self { state: Mutex::new(state), bell: Condvar::new() }
    }

    /// Opens a model's queue with all its lanes.
    ///
    /// # Errors
    /// Those of [`Model::executor`](servekit_core::Model::executor).
    pub(crate) fn open(&self, version: &Arc<Version>) -> Result<(), Refusal> {
        let served = &version.served;
        let lanes: Result<Vec<_>, Refusal> =
            (0..served.policy.lanes.max(1)).map(|_| served.model.executor().map(Some)).collect();
        let queue = Queue { version: Arc::clone(version), lanes: lanes?, estimated_at: None, is_closing: false };
        let mut state = self.lock();
        state.scheduler.add(version.key, &*served.name, served.policy.clone());
        let place = state.queues.partition_point(|queue| queue.version.key < version.key);
        state.queues.insert(place, queue);
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
    pub(crate) fn leave(&self, key: ModelKey, bytes: usize, now: Instant) {
        let mut state = self.lock();
        state.scheduler.leave(key, bytes, now);
        state.count(key);
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

    /// The life of a runner: pulls batches and runs them until the pool stops. It counts as the thread of this number;
    /// `fault` takes what went wrong.
    pub(crate) fn run(&self, thread: usize, fault: &dyn Fn(&Fault)) {
        let (mut batch, mut answers) = (Batch::default(), Answers::default());
        while let Some(Turn { version, lane }) = self.next(&mut batch, &mut answers, thread) {
            // Expired requests were answered while the batch was formed; they do not wait for its end.
            answers.send();
            match lane.map_or_else(|| version.served.model.executor(), Ok) {
                Ok(mut lane) => {
                    let dispatch = batch.dispatch;
                    let contract = version.served.model.contract();
                    let report = execute(&mut *lane, contract, &mut batch, &Instant::now, &mut answers);
                    version.counters[thread].ran(dispatch, &report);
                    report.fault.iter().for_each(fault);
                    answers.send();
                    let lane = (report.outcome != Outcome::Lost).then_some(lane);
                    self.give_back(&version, lane, |scheduler| scheduler.ran(version.key, &report, report.ended_at));
                }
                Err(refusal) => {
                    batch.items.drain(..).for_each(|item| item.answer(Err(refusal.clone()), &mut answers));
                    answers.send();
                    let run = batch.run;
                    self.give_back(&version, None, |scheduler| scheduler.abandon(version.key, run, Instant::now()));
                }
            }
        }
    }

    /// Waits for a batch; `None` when the pool stops.
    fn next(&self, batch: &mut Batch, answers: &mut Answers, thread: usize) -> Option<Turn> {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let step = state.step(now, batch, answers);
            state.count_given_up(thread);
            let until = match step {
                Step::Run(turn) => {
                    // One ring per batch: whoever takes one wakes the next runner where there is more to take.
                    self.ring(state, now);
                    return Some(turn);
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

    /// Puts a lane back where it came from, and tells the scheduler what became of its batch.
    fn give_back(&self, version: &Version, lane: Option<Box<dyn Executor>>, tell: impl FnOnce(&mut Scheduler)) {
        let mut state = self.lock();
        tell(&mut state.scheduler);
        let now = Instant::now();
        state.publish(version.key, now);
        state.estimate(version.key, now);
        if let Some(place) = state.place(version.key) {
            state.queues[place].lanes.push(lane);
            state.bury(place);
        }
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

impl State {
    fn place(&self, key: ModelKey) -> Option<usize> {
        self.queues.binary_search_by_key(&key, |queue| queue.version.key).ok()
    }

    fn offer(&mut self, key: ModelKey, pending: Box<Pending>, now: Instant) -> Result<(), Box<Refused>> {
        if self.is_stopping {
            return Err(Box::new(Refused { pending, refusal: crate::refusals::draining() }));
        }
        self.scheduler.offer(key, pending, now)
    }

    /// Drops a queue that is closing and has nothing more to do.
    fn bury(&mut self, place: usize) {
        let Queue { version, is_closing, .. } = &self.queues[place];
        let (key, is_left) = (version.key, version.shards.load(Ordering::Relaxed) == 0);
        if *is_closing && is_left && self.scheduler.is_idle(key) {
            self.queues.remove(place);
            self.scheduler.close(key, &Refusal::unloaded(), &mut Answers::default());
        }
    }

    /// Takes the batch that is next, with a lane for it.
    fn step(&mut self, now: Instant, batch: &mut Batch, answers: &mut Answers) -> Step {
        let next = self.scheduler.next(now, batch, answers);
        if next == Next::Run
            && let Some(place) = self.place(batch.key)
        {
            self.publish(batch.key, now);
            let Queue { version, lanes, .. } = &mut self.queues[place];
            return Step::Run(Turn { version: Arc::clone(version), lane: lanes.pop().flatten() });
        }
        // What waited may have been dropped.
        self.queues.iter().for_each(|queue| self.count(queue.version.key));
        Step::Sleep(if let Next::WaitUntil(until) = next { Some(until) } else { None })
    }

    /// Tells shards what a newcomer must expect of this model.
    fn publish(&mut self, key: ModelKey, now: Instant) {
        let (Some(place), Some(batcher)) = (self.place(key), self.scheduler.batcher_mut(key)) else { return };
        let version = &self.queues[place].version;
        version.queued.store(batcher.queued().requests, Ordering::Relaxed);
        batcher.publish(&version.outlook, now);
    }

    /// Writes down what this model's queue reckons with, now and then.
    fn estimate(&mut self, key: ModelKey, now: Instant) {
        let (Some(place), Some(batcher)) = (self.place(key), self.scheduler.batcher(key)) else { return };
        let Queue { version, estimated_at, .. } = &mut self.queues[place];
        if estimated_at.is_none_or(|at| now.saturating_duration_since(at) >= ESTIMATE_INTERVAL) {
            *estimated_at = Some(now);
            version.estimates.note_pool(batcher.estimate());
        }
    }

    /// Counts what queues gave up, and what mixing lengths has cost.
    fn count_given_up(&mut self, thread: usize) {
        for Queue { version, .. } in &self.queues {
            if let Some(batcher) = self.scheduler.batcher_mut(version.key) {
                version.counters[thread].gave(batcher);
            }
        }
    }

    fn count(&self, key: ModelKey) {
        if let (Some(place), Some(batcher)) = (self.place(key), self.scheduler.batcher(key)) {
            self.queues[place].version.queued.store(batcher.queued().requests, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Pool").finish_non_exhaustive()
    }
}
