//! Everything of a shard but its sockets: where requests are taken in, and where answers are given out.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use servekit_core::{
    Executor, Lease, Mailbox, ModelKey, Patience, Pending, Refusal, RequestScope, Scheduler, ShardCounters, Share,
    Ticket,
};
use servekit_wire::{Payload, StreamId};

use super::link::Link;
use super::slab::Slab;
use super::transport::Transport;
use crate::dialect::{Asked, Memory, Terms};
use crate::intent::Intent;
use crate::jitter::Jitter;
use crate::listing::{Listing, Placement, Recent, Version};
use crate::log::Sampler;
use crate::refusals::{Asker, Means};
use crate::shared::Shared;
use crate::timing::Told;

/// A request from its head to its answer.
pub(crate) struct Request {
    /// Number of its connection.
    pub link: u32,
    pub stream: StreamId,
    /// Its place among the open requests of its connection.
    place: u32,
    pub intent: Rc<Intent>,
    /// When its head can have come at the earliest.
    pub began_at: Instant,
    /// Bytes reserved for it in the shard's lease.
    pub bytes: u64,
    /// Counts it; only inferences are counted one by one.
    pub scope: Option<RequestScope>,
    pub stage: Stage,
}

/// How far a request has come.
pub(crate) enum Stage {
    /// Its body is coming.
    Reading,
    /// It is queued or runs.
    Waiting(Waiting),
    /// It is told of every change of its service's health.
    Watching {
        service: Box<str>,
        /// What was told last.
        told: Option<bool>,
    },
}

/// An accepted inference.
pub(crate) struct Waiting {
    pub ticket: Ticket,
    pub version: Arc<Version>,
    pub arrived_at: Instant,
    pub deadline: Instant,
    pub asked: Asked,
    /// Bytes of its inputs, as its queue and its model's quota count them.
    pub input_bytes: u64,
    pub rows: u32,
}

/// How urgent a request is.
#[derive(Clone, Copy)]
pub(crate) struct Urgency {
    /// Its class, the highest being 0.
    pub priority: u8,
    pub time: Patience,
}

/// Where a request may be queued, and how large it is there.
#[derive(Clone, Copy)]
pub(crate) struct Queued {
    placement: Placement,
    key: ModelKey,
    bytes: usize,
}

impl Request {
    /// Where it may be queued.
    pub(crate) fn queued(&self) -> Option<Queued> {
        let Stage::Waiting(Waiting { version, input_bytes, .. }) = &self.stage else { return None };
        Some(Queued {
            placement: version.served.placement_of(*input_bytes),
            key: version.key,
            bytes: *input_bytes as usize,
        })
    }
}

/// A model as one shard serves it.
pub(crate) struct Lane {
    pub version: Arc<Version>,
    /// What the model's requests on this shard hold.
    pub bytes: Share,
    /// Inline models only; missing after it broke, until the next batch.
    pub executor: Option<Box<dyn Executor>>,
    /// How its last requests looked.
    pub memory: Memory,
    /// When what its queue here reckons with was written down last.
    pub estimated_at: Instant,
}

/// See the module.
pub(crate) struct Desk {
    pub shared: Arc<Shared>,
    /// Number of the shard.
    pub index: usize,
    /// The time of this tick; read anew after each run.
    pub now: Instant,
    /// When what is read in this tick can have come at the earliest: it was there, unread, while the last one ran batches.
    pub heard_since: Instant,
    pub listing: Arc<Listing>,
    /// Clients are asked to go, with their next answer at the latest.
    pub asks_to_go: bool,
    /// The model that a message named last.
    pub recent: Recent,
    pub mailbox: Arc<Mailbox>,
    /// Requests that may be open at once: the mailbox has no more slots.
    pub slots: usize,
    pub requests: Slab<Request>,
    pub lease: Lease,
    pub counters: Arc<ShardCounters>,
    /// Queues of the inline models.
    pub scheduler: Scheduler,
    /// In the order of their keys.
    pub lanes: Vec<Lane>,
    /// What this tick took in for the pool.
    pub offers: Vec<(ModelKey, Box<Pending>)>,
    /// Answers are built in it.
    pub payload: Payload,
    pub jitter: Jitter,
    pub sampler: Sampler,
    /// Which answers tell their timing.
    pub told: Told,
    /// No request's deadline is earlier; it may be too early itself.
    pub deadline_min: Option<Instant>,
    /// Slots of requests that watch health.
    pub watches: Vec<u32>,
    /// Connections with something to read, or to go on with, in this tick.
    pub active: Vec<u32>,
    /// Connections with something to write, or to end, in this tick.
    pub dirty: Vec<u32>,
}

impl Desk {
    /// An empty desk.
    pub(crate) fn new(shared: &Arc<Shared>, index: usize, mailbox: Arc<Mailbox>, slots: usize, now: Instant) -> Self {
        let requests_max = usize::try_from(shared.limits.queue_requests_max).unwrap_or(usize::MAX);
        let seed = now.elapsed().as_nanos() as u64 ^ ((index as u64 + 1) << 32);
        Self {
            shared: Arc::clone(shared),
            index,
            now,
            heard_since: now,
            listing: Arc::default(),
            asks_to_go: false,
            recent: Recent::default(),
            mailbox,
            slots,
            requests: Slab::default(),
            lease: shared.budget.lease(),
            counters: Arc::clone(&shared.counters[index]),
            scheduler: Scheduler::new(requests_max, 1),
            lanes: Vec::new(),
            offers: Vec::new(),
            payload: Payload::default(),
            jitter: Jitter::new(seed),
            sampler: Sampler::new(now),
            told: Told::new(shared.server_timing),
            deadline_min: None,
            watches: Vec::new(),
            active: Vec::new(),
            dirty: Vec::new(),
        }
    }

    /// Asks a client to go.
    pub(crate) fn part<T>(&mut self, link: &mut Link<T>) {
        link.is_leaving = false;
        link.wire.drain(self.now);
        self.resume(link);
        self.touch(link);
    }

    /// Has a connection go on in this tick with what it holds.
    pub(crate) fn resume<T>(&mut self, link: &mut Link<T>) {
        link.goes_on = true;
        self.activate(link);
    }

    /// Has a connection read in this tick.
    pub(crate) fn activate<T>(&mut self, link: &mut Link<T>) {
        if !link.active {
            link.active = true;
            self.active.push(link.number);
        }
    }

    /// Has a connection written, or ended, in this tick.
    pub(crate) fn touch<T>(&mut self, link: &mut Link<T>) {
        if !link.dirty {
            link.dirty = true;
            self.dirty.push(link.number);
        }
    }

    /// Opens a request; `None` where this shard has no slot left.
    pub(crate) fn open<T: Transport>(
        &mut self,
        link: &mut Link<T>,
        stream: StreamId,
        intent: &Rc<Intent>,
        bytes: u64,
    ) -> Option<u32> {
        let slot = self.requests.next_number();
        if slot as usize >= self.slots {
            return None;
        }
        let scope = self.scope(intent);
        let place = link.open.len() as u32;
        link.open.push((stream, slot));
        link.granted += bytes;
        if link.multiplexed {
            self.counters.stream_opened();
        }
        let request = Request {
            link: link.number,
            stream,
            place,
            intent: Rc::clone(intent),
            began_at: self.heard_since,
            bytes,
            scope,
            stage: Stage::Reading,
        };
        Some(self.requests.insert(request))
    }

    /// Takes a request out of the books, with all that is reserved for it: it has its answer, or its caller has left.
    pub(crate) fn remove<T>(&mut self, link: &mut Link<T>, slot: u32) {
        let Some(request) = self.requests.get(slot) else { return };
        let (place, number, bytes) = (request.place, slot, request.bytes);
        match &request.stage {
            Stage::Reading => link.granted -= bytes,
            Stage::Waiting(Waiting { ticket, version, input_bytes, .. }) => {
                link.waiting -= 1;
                self.mailbox.retire(*ticket);
                self.lease.release_request();
                let (key, input_bytes) = (version.key, *input_bytes);
                if let Some(lane) = self.lane(key) {
                    lane.bytes.release(input_bytes);
                }
            }
            Stage::Watching { .. } => self.watches.retain(|&watch| watch != number),
        }
        self.requests.discard(slot);
        self.lease.release_bytes(bytes);
        if link.multiplexed {
            self.counters.stream_closed();
        }
        link.open.swap_remove(place as usize);
        if let Some(&(_, moved)) = link.open.get(place as usize)
            && let Some(moved) = self.requests.get_mut(moved)
        {
            moved.place = place;
        }
    }

    /// A request whose caller has left: what is queued of it never runs.
    pub(crate) fn leave<T>(&mut self, link: &mut Link<T>, slot: u32) {
        let Some(request) = self.requests.get_mut(slot) else { return };
        if let Some(scope) = request.scope.take() {
            scope.cancel(self.now);
        }
        let queued = request.queued();
        self.remove(link, slot);
        if let Some(queued) = queued {
            self.forget(queued);
        }
    }

    /// Tells a queue that nobody waits any more for a request.
    pub(crate) fn forget(&mut self, queued: Queued) {
        let Queued { placement, key, bytes } = queued;
        match placement {
            Placement::Inline => self.scheduler.leave(key, bytes, self.now),
            Placement::Pool => self.shared.pool.leave(key, bytes, self.now),
        }
    }

    /// The lane of a model on this shard.
    pub(crate) fn lane(&mut self, key: ModelKey) -> Option<&mut Lane> {
        let place = self.lanes.binary_search_by_key(&key, |lane| lane.version.key).ok()?;
        Some(&mut self.lanes[place])
    }

    /// Answers a request that is in no book with a refusal.
    pub(crate) fn refuse<T>(&mut self, link: &mut Link<T>, stream: StreamId, refusal: &Refusal, asker: Asker) {
        let means = Means { jitter: &mut self.jitter, payload: &mut self.payload, now: self.now };
        means.answer(&mut link.wire, stream, refusal, asker);
        self.touch(link);
    }

    /// Asks to be woken for this deadline.
    pub(crate) fn expect(&mut self, deadline: Instant) {
        self.deadline_min = Some(self.deadline_min.map_or(deadline, |earliest| earliest.min(deadline)));
    }

    /// How urgent a request is: as its caller says, or as the model or the server says for those who say nothing.
    pub(crate) fn urgency(&self, terms: Terms, version: &Version, began_at: Instant) -> Urgency {
        let (limits, served) = (&self.shared.limits, &version.served);
        let priority = terms.level.unwrap_or(served.priority_default).saturating_sub(1);
        let unsaid = || match served.target(priority) {
            Duration::ZERO => Duration::from_millis(limits.queue_wait_ms_max),
            target => target,
        };
        // A caller counts from when it began to ask; for whoever says nothing time runs from when all was there.
        let (from, patience) = match terms.timeout {
            Some(timeout) => (began_at, timeout),
            None => (self.heard_since, unsaid()),
        };
        let mut allowed_ms = limits.deadline_ms_max;
        if !version.steps.is_empty() {
            allowed_ms = allowed_ms.min(limits.pipeline_ms_max);
        }
        let deadline = from + patience.min(Duration::from_millis(allowed_ms));
        Urgency { priority, time: Patience { since: from, deadline } }
    }

    /// Requests that somebody waits for; those who watch health wait for nothing.
    pub(crate) fn awaited(&self) -> usize {
        self.requests.len() - self.watches.len()
    }
}
