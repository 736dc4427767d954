//! Queues and lanes of the models that runner threads run.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use servekit_core::{
    Answers, Batch, Batcher, Dispatch, Executor, ModelKey, Next, Outcome, Pending, Queued, Reason, Refusal, Refused,
    Report, execute,
};

use crate::listing::Version;

/// What runners pull from. One lock guards it all: it is held for as long as it takes to put requests in or to take a
/// batch out, by shards once a tick and by runners once a batch; so nothing finer would pay.
///
/// The models' Batchers stand here side by side, not in one Scheduler, because a model whose lanes are all busy must be
/// passed over.
pub(crate) struct Pool {
    state: Mutex<State>,
    /// Rung for one runner at a time, and only when one sleeps.
    bell: Condvar,
}

#[derive(Default)]
struct State {
    queues: Vec<Queue>,
    /// Requests that may wait in all queues together.
    requests_max: usize,
    /// Sum over the queues.
    requests: usize,
    /// Runners that wait for the bell.
    sleeping: usize,
    /// Times the bell was rung and nobody has woken for it yet.
    rings: usize,
    is_stopping: bool,
}

struct Queue {
    version: Arc<Version>,
    batcher: Batcher,
    /// Lanes that nobody uses; the one used last is used next, as its buffers are warm. `None` stands for a lane that
    /// broke: whoever takes it makes another.
    lanes: Vec<Option<Box<dyn Executor>>>,
    /// Goes once no shard sends to it, it is empty and all its lanes are back.
    is_closing: bool,
}

/// A batch's model, and the lane it runs on.
struct Turn {
    version: Arc<Version>,
    lane: Option<Box<dyn Executor>>,
}

impl Pool {
    /// A pool without models.
    pub(crate) fn new(requests_max: u64) -> Self {
        let requests_max = usize::try_from(requests_max).unwrap_or(usize::MAX);
        Self { state: Mutex::new(State { requests_max, ..State::default() }), bell: Condvar::new() }
    }

    /// Opens a model's queue with all its lanes.
    ///
    /// # Errors
    /// Those of [`Model::executor`](servekit_core::Model::executor).
    pub(crate) fn open(&self, version: &Arc<Version>) -> Result<(), Refusal> {
        let served = &version.served;
        let lanes: Result<Vec<_>, Refusal> =
            (0..served.lanes.max(1)).map(|_| served.model.executor().map(Some)).collect();
        let batcher = Batcher::new(&*served.name, served.policy.clone());
        let queue = Queue { version: Arc::clone(version), batcher, lanes: lanes?, is_closing: false };
        self.lock().queues.push(queue);
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
        for (key, pending) in offers.drain(..) {
            if let Err(refusal) = state.offer(key, pending, now) {
                refused.push(*refusal);
            }
        }
        self.ring(state);
    }

    /// Halves the batches of all models while memory is short.
    pub(crate) fn press(&self, is_pressed: bool) {
        self.lock().queues.iter_mut().for_each(|queue| queue.batcher.press(is_pressed));
    }

    /// Says that the caller of a queued request has left; see [`Batcher::leave`].
    pub(crate) fn leave(&self, key: ModelKey, bytes: usize) {
        let mut state = self.lock();
        if let Some(place) = state.place(key) {
            state.change(place, |batcher| batcher.leave(bytes));
        }
    }

    /// What waits for one model, and the rows that its batches may have now.
    pub(crate) fn queued(&self, key: ModelKey) -> Option<(Queued, u32)> {
        let state = self.lock();
        let batcher = &state.queues[state.place(key)?].batcher;
        Some((batcher.queued(), batcher.policy().rows_max))
    }

    /// Ends all runners after the batch they are at; what is queued is answered with the refusal.
    pub(crate) fn stop(&self, refusal: &Refusal) {
        let mut answers = Answers::default();
        let mut state = self.lock();
        state.is_stopping = true;
        for place in 0..state.queues.len() {
            state.change(place, |batcher| batcher.close(refusal, &mut answers));
        }
        drop(state);
        self.bell.notify_all();
    }

    /// The life of a runner: pulls batches and runs them until the pool stops. `ran` is told of every batch.
    pub(crate) fn run(&self, ran: &mut dyn FnMut(&Version, Dispatch, &Report)) {
        let (mut batch, mut answers) = (Batch::default(), Answers::default());
        while let Some(Turn { version, lane }) = self.next(&mut batch, &mut answers) {
            // Expired requests were answered while the batch was formed; they do not wait for its end.
            answers.send();
            let lane = match lane.map_or_else(|| version.served.model.executor(), Ok) {
                Ok(mut lane) => {
                    let dispatch = batch.dispatch;
                    let contract = version.served.model.contract();
                    let report = execute(&mut *lane, contract, &mut batch, &Instant::now, &mut answers);
                    ran(&version, dispatch, &report);
                    self.learn(version.key, &report);
                    (report.outcome != Outcome::Lost).then_some(lane)
                }
                Err(refusal) => {
                    batch.items.drain(..).for_each(|item| item.answer(Err(refusal.clone()), &mut answers));
                    None
                }
            };
            answers.send();
            self.give_back(version.key, lane);
        }
    }

    /// Waits for a batch; `None` when the pool stops.
    fn next(&self, batch: &mut Batch, answers: &mut Answers) -> Option<Turn> {
        let mut state = self.lock();
        loop {
            if let Some(turn) = state.take(batch, answers) {
                // One ring per batch: whoever takes one wakes the next runner where there is more to take.
                self.ring(state);
                return Some(turn);
            }
            if state.is_stopping {
                return None;
            }
            if !answers.is_empty() {
                drop(state);
                answers.send();
                state = self.lock();
                continue;
            }
            state.sleeping += 1;
            while state.rings == 0 && !state.is_stopping {
                state = self.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.rings = state.rings.saturating_sub(1);
            state.sleeping -= 1;
        }
    }

    fn learn(&self, key: ModelKey, report: &Report) {
        let mut state = self.lock();
        if let Some(place) = state.place(key) {
            state.queues[place].batcher.ran(report, report.ended_at);
        }
    }

    fn give_back(&self, key: ModelKey, lane: Option<Box<dyn Executor>>) {
        let mut state = self.lock();
        if let Some(place) = state.place(key) {
            state.queues[place].lanes.push(lane);
            state.bury(place);
        }
    }

    fn ring(&self, mut state: MutexGuard<'_, State>) {
        if state.sleeping > state.rings && state.has_work() {
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
        self.queues.iter().position(|queue| queue.version.key == key)
    }

    fn offer(&mut self, key: ModelKey, pending: Box<Pending>, now: Instant) -> Result<(), Box<Refused>> {
        if self.is_stopping {
            return Err(Box::new(Refused { pending, refusal: crate::refusals::draining() }));
        }
        let Some(place) = self.place(key) else {
            return Err(Box::new(Refused { pending, refusal: unloaded() }));
        };
        if self.requests >= self.requests_max {
            let refusal = self.full();
            return Err(Box::new(Refused { pending, refusal }));
        }
        self.change(place, |batcher| batcher.offer(pending, now))
    }

    /// Drops a queue that is closing and has nothing more to do.
    fn bury(&mut self, place: usize) {
        let queue = &self.queues[place];
        let is_whole = queue.lanes.len() == queue.version.served.lanes.max(1);
        let is_left = queue.version.shards.load(Ordering::Relaxed) == 0;
        if queue.is_closing && is_left && is_whole && queue.batcher.queued().requests == 0 {
            self.queues.remove(place);
        }
    }

    /// Fills the batch from the model that has a lane free and whose oldest request waits longest.
    fn take(&mut self, batch: &mut Batch, answers: &mut Answers) -> Option<Turn> {
        while let Some(place) = self.ready() {
            let next = self.change(place, |batcher| batcher.next(Instant::now(), batch, answers));
            if next == Next::Run {
                let queue = &mut self.queues[place];
                batch.key = queue.version.key;
                return Some(Turn { version: Arc::clone(&queue.version), lane: queue.lanes.pop().flatten() });
            }
        }
        None
    }

    fn has_work(&self) -> bool {
        self.ready().is_some()
    }

    fn ready(&self) -> Option<usize> {
        let free = self.queues.iter().enumerate().filter(|(_, queue)| !queue.lanes.is_empty());
        let waiting = free.filter_map(|(place, queue)| Some((queue.batcher.oldest()?, place)));
        waiting.min().map(|(_, place)| place)
    }

    /// Does something to one queue and brings the sum up to date.
    fn change<T>(&mut self, place: usize, work: impl FnOnce(&mut Batcher) -> T) -> T {
        let Queue { version, batcher, .. } = &mut self.queues[place];
        let before = batcher.queued().requests;
        let value = work(batcher);
        let after = batcher.queued().requests;
        self.requests = self.requests - before + after;
        version.queued.store(after, Ordering::Relaxed);
        value
    }

    fn full(&self) -> Refusal {
        const WAIT: Duration = Duration::from_millis(100);
        let text = format!(
            "queues of all models hold {} of {} requests: Exceeds maximum queue size; retry in {} ms",
            self.requests,
            self.requests_max,
            WAIT.as_millis()
        );
        Refusal::new(Reason::QueueFull, text).retry_after(WAIT)
    }
}

/// The refusal of a request that was decoded for a model that has gone meanwhile.
pub(crate) fn unloaded() -> Refusal {
    const WAIT: Duration = Duration::from_secs(1);
    let text = "the model was unloaded while this request came in; retry in 1000 ms";
    Refusal::new(Reason::ModelLoading, text).retry_after(WAIT)
}

impl fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Pool").finish_non_exhaustive()
    }
}
