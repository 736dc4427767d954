//! The queues of several models, and which of them runs next.

use std::sync::Arc;
use std::time::Instant;

use crate::{Answers, Batch, Batcher, Next, Pending, Policy, Queued, Reason, Refusal, Refused, Report};

/// Names one loaded model version within the process; never given twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelKey(pub u32);

/// Queues of the models that share an executor: all pool models behind the pool's lock, or the inline models of one
/// shard. The model whose oldest request waits longest runs next.
#[derive(Debug)]
pub struct Scheduler {
    /// Requests that may wait in all queues together.
    requests_max: usize,
    /// Ascending; the two below go with it, place by place. Apart, so that choosing a model reads one small array.
    keys: Vec<ModelKey>,
    /// Arrival of each model's oldest request.
    heads: Vec<Option<Instant>>,
    batchers: Vec<Batcher>,
    /// Sum over the batchers.
    queued: Queued,
}

impl Scheduler {
    /// No models yet; this many requests may wait together.
    #[must_use]
    pub fn new(requests_max: usize) -> Self {
        Self { requests_max, keys: Vec::new(), heads: Vec::new(), batchers: Vec::new(), queued: Queued::default() }
    }

    /// Opens a queue; one that has this key is kept as it is.
    pub fn add(&mut self, key: ModelKey, model: impl Into<Arc<str>>, policy: Policy) {
        if let Err(place) = self.keys.binary_search(&key) {
            self.keys.insert(place, key);
            self.heads.insert(place, None);
            self.batchers.insert(place, Batcher::new(model, policy));
        }
    }

    /// Ends a queue. What waits in it is answered with this refusal; batches that have left it are not touched.
    pub fn close(&mut self, key: ModelKey, refusal: &Refusal, answers: &mut Answers) {
        let Some(place) = self.place(key) else { return };
        self.keys.remove(place);
        self.heads.remove(place);
        self.batchers.remove(place).close(refusal, answers);
        self.count();
    }

    /// Queues a request.
    ///
    /// # Errors
    /// `QueueFull` or `DeadlineExceeded`, see [`Batcher::offer`]; `ModelLoading` where the queue is not open.
    pub fn offer(&mut self, key: ModelKey, pending: impl Into<Box<Pending>>, now: Instant) -> Result<(), Box<Refused>> {
        let pending = pending.into();
        let Some(place) = self.place(key) else {
            return Err(Box::new(Refused { pending, refusal: not_ready() }));
        };
        if self.queued.requests >= self.requests_max {
            let refusal = self.full();
            return Err(Box::new(Refused { pending, refusal }));
        }
        self.change(place, |batcher| batcher.offer(pending, now))
    }

    /// Fills `batch` from the queue whose oldest request waits longest. Requests whose callers have left are dropped,
    /// expired ones answered.
    pub fn next(&mut self, now: Instant, batch: &mut Batch, answers: &mut Answers) -> Next {
        batch.clear();
        loop {
            let oldest = self.heads.iter().enumerate().filter_map(|(place, head)| head.map(|head| (head, place))).min();
            let Some((_, place)) = oldest else { return Next::Idle };
            batch.key = self.keys[place];
            let next = self.change(place, |batcher| batcher.next(now, batch, answers));
            if next != Next::Idle {
                return next;
            }
        }
    }

    /// Learns from a run of this model.
    pub fn ran(&mut self, key: ModelKey, report: &Report, now: Instant) {
        if let Some(place) = self.place(key) {
            self.batchers[place].ran(report, now);
        }
    }

    /// Halves the batches of all models while memory is short.
    pub fn press(&mut self, is_pressed: bool) {
        self.batchers.iter_mut().for_each(|batcher| batcher.press(is_pressed));
    }

    /// Says that the caller of a request of this model, of this many bytes, has left; see [`Batcher::leave`].
    pub fn leave(&mut self, key: ModelKey, bytes: usize) {
        if let Some(place) = self.place(key) {
            self.change(place, |batcher| batcher.leave(bytes));
        }
    }

    /// What waits in all queues.
    #[must_use]
    pub fn queued(&self) -> Queued {
        self.queued
    }

    /// The queue of one model: what waits, and the bounds in force.
    #[must_use]
    pub fn batcher(&self, key: ModelKey) -> Option<&Batcher> {
        self.place(key).map(|place| &self.batchers[place])
    }

    fn place(&self, key: ModelKey) -> Option<usize> {
        self.keys.binary_search(&key).ok()
    }

    /// Does something to one queue and brings the sums up to date.
    #[inline]
    fn change<T>(&mut self, place: usize, work: impl FnOnce(&mut Batcher) -> T) -> T {
        let batcher = &mut self.batchers[place];
        let before = batcher.queued();
        let value = work(batcher);
        let after = batcher.queued();
        self.heads[place] = batcher.oldest();
        self.queued.requests = self.queued.requests - before.requests + after.requests;
        self.queued.rows = self.queued.rows - before.rows + after.rows;
        self.queued.bytes = self.queued.bytes - before.bytes + after.bytes;
        value
    }

    fn count(&mut self) {
        self.queued = self.batchers.iter().map(Batcher::queued).fold(Queued::default(), |sum, queued| Queued {
            requests: sum.requests + queued.requests,
            rows: sum.rows + queued.rows,
            bytes: sum.bytes + queued.bytes,
        });
    }

    fn full(&self) -> Refusal {
        const WAIT: std::time::Duration = std::time::Duration::from_millis(100);
        let text = format!(
            "queues of all models hold {} of {} requests: Exceeds maximum queue size; retry in {} ms",
            self.queued.requests,
            self.requests_max,
            WAIT.as_millis()
        );
        Refusal::new(Reason::QueueFull, text).retry_after(WAIT)
    }
}

fn not_ready() -> Refusal {
    const WAIT: std::time::Duration = std::time::Duration::from_millis(1000);
    let text = "the model was unloaded while this request came in; retry in 1000 ms";
    Refusal::new(Reason::ModelLoading, text).retry_after(WAIT)
}
