//! The queues of several models, and which of them runs next: the most urgent among those that have had least of the
//! cores, as far as lanes and cores are free.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{
    Answers, Batch, Batcher, Next, Patience, Pending, Policy, Queued, Reason, Refusal, Refused, Report, RunId,
};

/// Names one loaded model version within the process; never given twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelKey(pub u32);

/// What somebody who may prepare requests does next.
#[derive(Debug)]
pub enum Turn {
    /// Run the batch that was filled.
    Run,
    /// Prepare this request of this model, and tell of it by [`Scheduler::prepared`] or [`Scheduler::spoiled`].
    Prepare(ModelKey, Box<Pending>),
    /// Nothing now; ask again at this time.
    WaitUntil(Instant),
    /// Nothing.
    Idle,
}

/// The least core time by which models may differ.
const QUANTUM_MIN: Duration = Duration::from_millis(2);

/// Queues of the models that share an executor: all pool models behind the pool's lock, or the inline models of one
/// shard.
///
/// Every batch that [`next`](Self::next) gives takes a lane of its model and as many cores as its runs keep busy; both
/// come back with [`ran`](Self::ran) or [`abandon`](Self::abandon), of which every batch has exactly one.
#[derive(Debug)]
pub struct Scheduler {
    /// Requests that may wait in all queues together.
    requests_max: usize,
    /// Cores that runs may keep busy together, and those that are free.
    cores: u32,
    cores_free: u32,
    /// In ascending order of their keys.
    lines: Vec<Line>,
    /// Sum over the queues.
    queued: Queued,
}

/// One model's queue, and what it has of the executor.
#[derive(Debug)]
struct Line {
    key: ModelKey,
    batcher: Batcher,
    /// What waits, as last seen; so the sum over all queues is brought up to date without looking at the others.
    queued: Queued,
    /// Of these, requests that a batch could be formed of, and those that could be prepared.
    runnable: usize,
    unprepared: usize,
    /// Requests that are being prepared; each keeps a core busy.
    preparing: u32,
    lanes_free: u32,
    /// Cores that each run takes: never more than there are, so that every model can run.
    cores: u32,
    /// Core time that it has had, or would have had if it had not been idle. The least goes first. One for all lines of a
    /// model.
    virtual_time: Duration,
    /// Whose legs these are, its own key for a model of one; and whether there are others.
    model: ModelKey,
    is_leg: bool,
    /// Longest recent occupation of a lane; forgotten slowly.
    run_longest: Duration,
    /// It waits for rows that are expected until then.
    held_until: Option<Instant>,
}

impl Scheduler {
    /// No models yet; this many requests may wait together, and runs keep this many cores busy.
    #[must_use]
    pub fn new(requests_max: usize, cores: u32) -> Self {
        let cores = cores.max(1);
        Self { requests_max, cores, cores_free: cores, lines: Vec::new(), queued: Queued::default() }
    }

    /// Opens a queue; one that has this key is kept as it is.
    pub fn add(&mut self, key: ModelKey, model: impl Into<Arc<str>>, policy: Policy) {
        let Err(place) = self.lines.binary_search_by_key(&key, |line| line.key) else { return };
        let line = Line {
            key,
            queued: Queued::default(),
            runnable: 0,
            unprepared: 0,
            preparing: 0,
            lanes_free: policy.lanes.max(1),
            cores: policy.cores.clamp(1, self.cores),
            virtual_time: Duration::ZERO,
            model: key,
            is_leg: false,
            run_longest: Duration::ZERO,
            held_until: None,
            batcher: Batcher::new(model, policy),
        };
        self.lines.insert(place, line);
    }

    /// Has all requests of a model prepared before they are in a batch, one by one on any of the cores. Only
    /// [`turn`](Self::turn) gives them out.
    pub fn prepare(&mut self, key: ModelKey) {
        if let Some(place) = self.place(key) {
            self.lines[place].batcher.prepare_on(self.cores);
        }
    }

    /// Makes a queue that has just been opened a further leg of the model of another one: they have one share of the cores
    /// together.
    pub fn join(&mut self, key: ModelKey, model: ModelKey) {
        let (Some(place), Some(first)) = (self.place(key), self.place(model)) else { return };
        self.lines[first].is_leg = true;
        let virtual_time = self.lines[first].virtual_time;
        let line = &mut self.lines[place];
        (line.model, line.is_leg, line.virtual_time) = (model, true, virtual_time);
    }

    /// Ends a queue. What waits in it is answered with this refusal; batches that have left it are not touched.
    pub fn close(&mut self, key: ModelKey, refusal: &Refusal, answers: &mut Answers) {
        let Some(place) = self.place(key) else { return };
        self.change(place, |line| line.batcher.close(refusal, answers));
        let line = self.lines.remove(place);
        self.cores_free += line.lanes_taken() * line.cores + line.preparing;
    }

    /// Answers all that waits with this refusal; the queues stay open.
    pub fn refuse(&mut self, refusal: &Refusal, answers: &mut Answers) {
        for place in 0..self.lines.len() {
            self.change(place, |line| line.batcher.close(refusal, answers));
        }
    }

    /// Queues a request.
    ///
    /// # Errors
    /// Those of [`Batcher::offer`]; `QueueFull` where all queues together are, `ModelLoading` where the queue is not open.
    pub fn offer(&mut self, key: ModelKey, pending: impl Into<Box<Pending>>, now: Instant) -> Result<(), Box<Refused>> {
        let pending = pending.into();
        let Some(place) = self.place(key) else {
            return Err(Box::new(Refused { pending, refusal: Refusal::unloaded() }));
        };
        if self.queued.requests >= self.requests_max {
            let refusal = self.full();
            return Err(Box::new(Refused { pending, refusal }));
        }
        if self.lines.len() > 1 && self.lines[place].is_idle() {
            self.catch_up(place);
        }
        self.change(place, |line| {
            line.held_until = None;
            line.batcher.offer(pending, now)
        })
    }

    /// Fills `batch` with what should run next, where no model prepares its requests. Those whose callers have left are
    /// dropped, those that cannot be served any more answered.
    pub fn next(&mut self, now: Instant, batch: &mut Batch, answers: &mut Answers) -> Next {
        match self.turn(now, batch, answers) {
            Turn::Run => Next::Run,
            Turn::WaitUntil(until) => Next::WaitUntil(until),
            Turn::Idle => Next::Idle,
            Turn::Prepare(key, pending) => {
                debug_assert!(false, "who prepares nothing asked for a model that prepares");
                let refusal = Refusal::abandoned();
                self.spoiled(key, pending.rows, Duration::ZERO);
                answers.push(pending.caller, Err(refusal));
                Next::Idle
            }
        }
    }

    /// Fills `batch` with what should run next, or gives a request that should be prepared before anything runs. Of the
    /// models that may go next that is settled by each for itself: see [`Batcher`].
    pub fn turn(&mut self, now: Instant, batch: &mut Batch, answers: &mut Answers) -> Turn {
        batch.clear();
        while let Some(place) = self.choose(now) {
            if self.lines[place].prepares_first(self.cores_free, now) {
                if let Some(pending) = self.change(place, |line| line.batcher.prepare(now, answers)) {
                    self.lines[place].preparing += 1;
                    self.cores_free -= 1;
                    return Turn::Prepare(self.lines[place].key, pending);
                }
                // All that waited was dropped or answered.
                continue;
            }
            let next = self.change(place, |line| {
                batch.key = line.key;
                line.batcher.next(now, batch, answers)
            });
            let line = &mut self.lines[place];
            match next {
                Next::Run => {
                    line.lanes_free -= 1;
                    self.cores_free -= line.cores;
                    return Turn::Run;
                }
                Next::WaitUntil(until) => line.held_until = Some(until),
                // All that waited was dropped or answered, so this line is not chosen again.
                Next::Idle => debug_assert_eq!(line.runnable, 0),
            }
        }
        self.held_until().map_or(Turn::Idle, Turn::WaitUntil)
    }

    /// Takes the lane of a batch back, and learns from its report.
    pub fn ran(&mut self, key: ModelKey, report: &Report, now: Instant) {
        let Some(place) = self.give_back(key) else { return };
        let took = report.ended_at.saturating_duration_since(report.started_at);
        self.charge(place, self.lines[place].virtual_time + took * self.lines[place].cores);
        self.change(place, |line| {
            line.run_longest = took.max(line.run_longest - line.run_longest / 16);
            line.batcher.ran(report, now);
        });
    }

    /// Takes the lane of a batch back that was never run.
    pub fn abandon(&mut self, key: ModelKey, run: RunId, now: Instant) {
        if let Some(place) = self.give_back(key) {
            self.change(place, |line| line.batcher.abandon(run, now));
        }
    }

    /// Queues a request that was prepared, which took this long.
    ///
    /// # Errors
    /// `DeadlineExceeded` where its time has passed meanwhile, `ModelLoading` where the queue is not open any more.
    pub fn prepared(
        &mut self,
        key: ModelKey,
        pending: Box<Pending>,
        took: Duration,
        now: Instant,
    ) -> Result<(), Box<Refused>> {
        let Some(place) = self.end_preparation(key, took) else {
            return Err(Box::new(Refused { pending, refusal: Refusal::unloaded() }));
        };
        self.change(place, |line| {
            line.held_until = None;
            line.batcher.prepared(pending, took, now)
        })
    }

    /// Ends the preparation of a request of these rows that is refused; it took this long.
    pub fn spoiled(&mut self, key: ModelKey, rows: u32, took: Duration) {
        if let Some(place) = self.end_preparation(key, took) {
            self.change(place, |line| line.batcher.spoiled(rows));
        }
    }

    /// Whether some batch could run now, or some request be prepared, as far as can be told without forming it.
    #[must_use]
    pub fn has_work(&self, now: Instant) -> bool {
        self.lines.iter().any(|line| line.is_ready(self.cores_free, now))
    }

    /// The earliest end of a wait for rows that are expected.
    #[must_use]
    pub fn held_until(&self) -> Option<Instant> {
        let waiting = self.lines.iter().filter(|line| line.can_run(self.cores_free));
        waiting.filter_map(|line| line.held_until).min()
    }

    /// Halves the batches of all models while memory is short.
    pub fn press(&mut self, is_pressed: bool) {
        self.lines.iter_mut().for_each(|line| line.batcher.press(is_pressed));
    }

    /// Says that the caller of a request of this model, of this many bytes, has left; see [`Batcher::leave`].
    pub fn leave(&mut self, key: ModelKey, bytes: usize, now: Instant) {
        if let Some(place) = self.place(key) {
            self.change(place, |line| line.batcher.leave(bytes, now));
        }
    }

    /// Refuses a newcomer of whom little is known; see [`Batcher::foresee`]. Whoever asks for a model that is not open
    /// is refused later.
    ///
    /// # Errors
    /// As those of [`offer`](Self::offer).
    pub fn foresee(&mut self, key: ModelKey, priority: u8, time: Patience, now: Instant) -> Result<(), Refusal> {
        self.batcher_mut(key).map_or(Ok(()), |batcher| batcher.foresee(priority, time, now))
    }

    /// What waits in all queues.
    #[must_use]
    pub fn queued(&self) -> Queued {
        self.queued
    }

    /// The queue of one model: what waits, and the bounds in force.
    #[must_use]
    pub fn batcher(&self, key: ModelKey) -> Option<&Batcher> {
        self.place(key).map(|place| &self.lines[place].batcher)
    }

    /// The same, to take counts out of it.
    pub fn batcher_mut(&mut self, key: ModelKey) -> Option<&mut Batcher> {
        self.place(key).map(|place| &mut self.lines[place].batcher)
    }

    /// Whether nothing of this model waits or runs; so also for one that is not open.
    #[must_use]
    pub fn is_idle(&self, key: ModelKey) -> bool {
        self.place(key).is_none_or(|place| self.lines[place].is_idle())
    }

    fn place(&self, key: ModelKey) -> Option<usize> {
        self.lines.binary_search_by_key(&key, |line| line.key).ok()
    }

    /// The line whose batch is next: of those that have had no more than a quantum above the least, the one whose most
    /// urgent request can wait least; of a model's legs the last that has something to do.
    fn choose(&self, now: Instant) -> Option<usize> {
        let ready = || self.lines.iter().enumerate().filter(|(_, line)| line.is_ready(self.cores_free, now));
        let (first, _) = ready().next()?;
        if ready().nth(1).is_none() {
            return Some(first);
        }
        let least = ready().map(|(_, line)| line.virtual_time).min()?;
        let most = least + Self::quantum(self.run_longest());
        let fair = ready().filter(|(_, line)| line.virtual_time <= most);
        let urgent = fair.min_by_key(|(_, line)| line.batcher.laxity(now).unwrap_or(i64::MAX));
        let (place, Line { model, is_leg, .. }) = urgent?;
        if !is_leg {
            return Some(place);
        }
        // What has been done for a request is lost if it becomes late further on, so the last leg goes first.
        ready().filter(|(_, line)| line.model == *model).map(|(place, _)| place).next_back()
    }

    /// Longest recent run of all models.
    fn run_longest(&self) -> Duration {
        self.lines.iter().map(|line| line.run_longest).max().unwrap_or_default()
    }

    /// Core time by which a model may be ahead when it is chosen: less would only make batches smaller.
    fn quantum(run_longest: Duration) -> Duration {
        QUANTUM_MIN.max(run_longest * 2)
    }

    /// A model that was idle does not get back what it left unused, except for what one may be behind that always has
    /// work: one that only waits for its callers' next requests is not idle.
    fn catch_up(&mut self, place: usize) {
        let busy = self.lines.iter().filter(|line| !line.is_idle());
        if let Some(least) = busy.map(|line| line.virtual_time).min() {
            let run_longest = self.run_longest();
            let start = least.saturating_sub(Self::quantum(run_longest) + run_longest);
            self.charge(place, self.lines[place].virtual_time.max(start));
        }
    }

    /// Sets the core time that a line's model has had.
    fn charge(&mut self, place: usize, virtual_time: Duration) {
        let &Line { model, is_leg, .. } = &self.lines[place];
        self.lines[place].virtual_time = virtual_time;
        if is_leg {
            let legs = self.lines.iter_mut().filter(|line| line.model == model);
            legs.for_each(|line| line.virtual_time = virtual_time);
        }
    }

    /// Takes a lane of this model back.
    fn give_back(&mut self, key: ModelKey) -> Option<usize> {
        let place = self.place(key)?;
        let line = &mut self.lines[place];
        debug_assert!(line.lanes_taken() > 0, "a lane came back that was never taken");
        line.lanes_free += 1;
        self.cores_free += line.cores;
        Some(place)
    }

    /// Takes the core back that prepared a request of this model, and charges the model for it.
    fn end_preparation(&mut self, key: ModelKey, took: Duration) -> Option<usize> {
        let place = self.place(key)?;
        let line = &mut self.lines[place];
        debug_assert!(line.preparing > 0, "a request came back that was never given out");
        line.preparing -= 1;
        self.cores_free += 1;
        line.run_longest = took.max(line.run_longest);
        let virtual_time = line.virtual_time + took;
        self.charge(place, virtual_time);
        Some(place)
    }

    /// Does something to one line and brings the sum up to date.
    #[inline]
    fn change<T>(&mut self, place: usize, work: impl FnOnce(&mut Line) -> T) -> T {
        let line = &mut self.lines[place];
        let value = work(line);
        let (before, after) = (line.queued, line.batcher.queued());
        line.queued = after;
        line.runnable = line.batcher.runnable();
        line.unprepared = line.batcher.unprepared();
        self.queued.requests = self.queued.requests - before.requests + after.requests;
        self.queued.rows = self.queued.rows - before.rows + after.rows;
        self.queued.bytes = self.queued.bytes - before.bytes + after.bytes;
        value
    }

    fn full(&self) -> Refusal {
        const WAIT: Duration = Duration::from_millis(100);
        let text = format!(
            "queues of all models hold {} of {} requests: Exceeds maximum queue size; retry in {} ms",
            self.queued.requests,
            self.requests_max,
            WAIT.as_millis()
        );
        Refusal::new(Reason::QueueFull, text).retry_after(WAIT)
    }
}

impl Line {
    fn lanes_taken(&self) -> u32 {
        self.batcher.policy().lanes.max(1) - self.lanes_free
    }

    fn is_idle(&self) -> bool {
        self.queued.requests == 0 && self.lanes_taken() == 0
    }

    /// Whether it has something to run, and what it takes.
    fn can_run(&self, cores_free: u32) -> bool {
        self.runnable > 0 && self.lanes_free > 0 && self.cores <= cores_free
    }

    /// Whether it has something to prepare, and a core for it.
    fn can_prepare(&self, cores_free: u32) -> bool {
        self.unprepared > 0 && cores_free > 0
    }

    /// Whether it prepares something before it runs anything; asked where it can do one of both.
    fn prepares_first(&self, cores_free: u32, now: Instant) -> bool {
        let may_run = || self.can_run(cores_free) && !self.is_held(now);
        self.can_prepare(cores_free) && !(may_run() && self.batcher.goes_first(now))
    }

    fn is_held(&self, now: Instant) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }

    fn is_ready(&self, cores_free: u32, now: Instant) -> bool {
        self.can_prepare(cores_free) || self.can_run(cores_free) && !self.is_held(now)
    }
}
