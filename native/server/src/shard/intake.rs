//! From what the wire tells to requests in a queue.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use servekit_core::{
    Caller, Ending, Inputs, Patience, Pending, Reason, Refusal, Refused, RequestScope, Transport as Counted, Verdict,
};
use servekit_wire::{CloseReason, Event, Head, StreamId, Version as Protocol, Violation};

use super::desk::{Desk, Lane, Stage, Urgency, Waiting};
use super::link::Link;
use super::transport::Transport;
use crate::dialect::grpc::{self, Cover};
use crate::dialect::rest::{self, JsonLength};
use crate::dialect::{Decoded, Memory, Terms, Undecodable, with_id};
use crate::encoding;
use crate::intent::{Intent, JSON_LENGTH};
use crate::listing::{Listing, Phase, Placement, Served, Version};
use crate::refusals::{self, Asker};
use crate::routes::{self, ModelAction, Route, Rpc};

/// Granted to a body that does not say its length. More is asked for as it comes.
const GRANT_BYTES_FIRST: u64 = 8 << 10;

impl Desk {
    /// Acts on one event of a connection.
    pub(crate) fn event<T: Transport>(&mut self, link: &mut Link<T>, event: Event) {
        match event {
            Event::Head { stream, head, end } => self.head(link, stream, &head, end),
            Event::Grow { stream, bytes } => self.grow(link, stream, bytes as u64),
            Event::Body { stream, body, compressed } => {
                if let Some(slot) = link.slot(stream) {
                    self.body(link, slot, body, compressed);
                }
            }
            Event::Reset { stream } => {
                if let Some(slot) = link.slot(stream) {
                    self.leave(link, slot);
                }
            }
            Event::Violation { stream, violation } => self.violation(link, stream, &violation),
            Event::Dropped { reason } => self.counters.ended(ending(reason)),
            Event::Closing { reason } => {
                if let Some(reason) = reason {
                    self.counters.ended(ending(reason));
                }
            }
        }
    }

    fn head<T: Transport>(&mut self, link: &mut Link<T>, stream: StreamId, head: &Rc<Head>, end: bool) {
        link.multiplexed |= head.version == Protocol::Http2;
        if self.asks_to_go {
            self.part(link);
        }
        let intent = match self.intent(link, head) {
            Ok(intent) => intent,
            Err(refusal) => return self.refuse_head(link, stream, head, &refusal),
        };
        if let Err(refusal) = self.admit(&intent) {
            return self.turn_away(link, stream, &intent, &refusal);
        }
        match intent.route {
            Route::Model { action: ModelAction::Infer, .. } | Route::Rpc(_) => {}
            _ => return self.tell(link, stream, &intent),
        }
        let grant = match head.content_length {
            _ if end => 0,
            Some(bytes) if !head.grpc => bytes,
            _ => GRANT_BYTES_FIRST,
        };
        if let Err(refusal) = self.lease.reserve_bytes(grant) {
            return self.refuse_head(link, stream, head, &refusal);
        }
        let Some(slot) = self.open(link, stream, &intent, grant) else {
            self.lease.release_bytes(grant);
            return self.refuse_head(link, stream, head, &refusals::no_slot(self.slots));
        };
        if end {
            self.body(link, slot, Bytes::new(), false);
        } else {
            link.wire.accept(stream, grant as usize);
        }
    }

    /// What a head asks for, from the connection's memory where it can be.
    fn intent<T: Transport>(&self, link: &mut Link<T>, head: &Rc<Head>) -> Result<Rc<Intent>, Refusal> {
        match link.intent(head.id) {
            Some(intent) if intent.generation == self.listing.generation => Ok(Rc::clone(intent)),
            _ => {
                let intent = Rc::new(Intent::read(head, &self.listing, &self.shared.limits)?);
                link.remember(head.id, Rc::clone(&intent));
                Ok(intent)
            }
        }
    }

    /// Refuses what would be refused in the end anyhow, before any of its body is read.
    fn admit(&mut self, intent: &Intent) -> Result<(), Refusal> {
        let infers =
            matches!(intent.route, Route::Model { action: ModelAction::Infer, .. } | Route::Rpc(Rpc::ModelInfer));
        if !infers {
            return Ok(());
        }
        if self.listing.phase == Phase::Ending {
            return Err(refusals::draining());
        }
        let bytes = intent.head.content_length.unwrap_or(0);
        if !self.shared.pressure.admits(bytes) {
            return Err(refusals::memory_pressed(bytes));
        }
        // Of the body nothing is known yet: it is taken to be one row that says nothing of its urgency itself.
        match &intent.version {
            Some(version) => self.foresee(version, intent.terms, self.heard_since, bytes),
            None => Ok(()),
        }
    }

    /// Refuses early what a queue would refuse: that of a shard by itself, that of the pool by what is known outside of
    /// it. The queue is asked again at the offer.
    fn foresee(&mut self, version: &Version, terms: Terms, began_at: Instant, bytes: u64) -> Result<(), Refusal> {
        let Served { name, policy, .. } = &version.served;
        let (held, allowed) = (version.queued.load(Ordering::Relaxed), policy.requests_max);
        if held >= allowed {
            return Err(refusals::queue_full(name, held, allowed));
        }
        let Urgency { priority, time } = self.urgency(terms, version, began_at);
        match version.served.placement_of(bytes) {
            Placement::Inline => self.scheduler.foresee(version.key, priority, time, self.now),
            Placement::Pool => version.outlook.check(name, priority, time.deadline, self.now),
        }
    }

    /// Opens the scope that counts an inference; nothing else is counted one by one.
    pub(super) fn scope(&self, intent: &Intent) -> Option<RequestScope> {
        match (&intent.route, &intent.version) {
            (_, Some(version)) => {
                let transport = if intent.has_json_length { Counted::HttpBinary } else { Counted::HttpJson };
                Some(RequestScope::open_for(&version.counters[self.index], transport, self.now))
            }
            (Route::Rpc(Rpc::ModelInfer), None) => Some(RequestScope::open(&self.counters, Counted::Grpc, self.now)),
            _ => None,
        }
    }

    /// Refuses a request that is well formed, before its body: its model counts it.
    fn turn_away<T: Transport>(&mut self, link: &mut Link<T>, stream: StreamId, intent: &Intent, refusal: &Refusal) {
        match self.scope(intent) {
            Some(scope) => scope.close(Verdict::Refused(refusal.reason), self.now),
            None => self.counters.refused(refusal.reason),
        }
        let asker = Asker { grpc: intent.head.grpc, ..Asker::default() };
        self.refuse(link, stream, refusal, asker);
    }

    fn refuse_head<T: Transport>(&mut self, link: &mut Link<T>, stream: StreamId, head: &Head, refusal: &Refusal) {
        self.counters.refused(refusal.reason);
        let allow = if refusal.reason == Reason::MethodNotAllowed { routes::allowed_methods(head) } else { "" };
        let asker = Asker { grpc: head.grpc, allow, close: false };
        self.refuse(link, stream, refusal, asker);
    }

    fn grow<T: Transport>(&mut self, link: &mut Link<T>, stream: StreamId, bytes: u64) {
        let Some(slot) = link.slot(stream) else { return };
        let Some(request) = self.requests.get_mut(slot) else { return };
        let more = bytes.saturating_sub(request.bytes);
        let granted = if self.shared.pressure.admits(bytes) {
            self.lease.reserve_bytes(more)
        } else {
            Err(refusals::memory_pressed(bytes))
        };
        match granted {
            Ok(()) => {
                request.bytes += more;
                link.granted += more;
                link.wire.accept(stream, bytes as usize);
            }
            Err(refusal) => self.finish(link, slot, Err(&refusal)),
        }
    }

    fn violation<T: Transport>(&mut self, link: &mut Link<T>, stream: StreamId, violation: &Violation) {
        let refusal = refusals::violated(violation);
        if let Some(slot) = link.slot(stream) {
            return self.finish(link, slot, Err(&refusal));
        }
        self.counters.refused(refusal.reason);
        let asker = Asker { grpc: link.wire.is_grpc(stream), allow: "", close: violation.closes() };
        self.refuse(link, stream, &refusal, asker);
    }

    fn body<T: Transport>(&mut self, link: &mut Link<T>, slot: u32, body: Bytes, compressed: bool) {
        let Some(request) = self.requests.get_mut(slot) else { return };
        let intent = Rc::clone(&request.intent);
        // What was granted and not needed goes back at once.
        let unused = request.bytes.saturating_sub(body.len() as u64);
        request.bytes -= unused;
        link.granted -= unused;
        self.lease.release_bytes(unused);
        let inflated = match compressed || intent.encoding.is_some() {
            true => self.inflated(link, slot, body, compressed),
            false => Ok(body),
        };
        let taken = inflated.and_then(|body| match &intent.route {
            Route::Rpc(Rpc::ModelInfer) | Route::Model { .. } => self.accept(link, slot, &intent, &body),
            _ => self.call(link, slot, &body),
        });
        if let Err(refusal) = taken {
            self.finish(link, slot, Err(&refusal));
        }
    }

    /// The body as it was before its sender compressed it.
    fn inflated<T>(&mut self, link: &mut Link<T>, slot: u32, body: Bytes, compressed: bool) -> Result<Bytes, Refusal> {
        let Some(request) = self.requests.get(slot) else { return Ok(body) };
        let encoding = request.intent.encoding;
        let is_grpc = request.intent.head.grpc;
        let encoding = match (encoding, is_grpc, compressed) {
            (Some(encoding), false, _) | (Some(encoding), true, true) => encoding,
            (None, _, true) => return Err(refusals::unnamed_encoding()),
            _ => return Ok(body),
        };
        let inflated = encoding::inflate(&body, encoding, &self.shared.limits)?;
        self.rebook(link, slot, inflated.len() as u64)?;
        Ok(inflated)
    }

    /// Changes what is reserved for a request that is being read.
    fn rebook<T>(&mut self, link: &mut Link<T>, slot: u32, bytes: u64) -> Result<(), Refusal> {
        let Some(request) = self.requests.get_mut(slot) else { return Ok(()) };
        if bytes > request.bytes {
            self.lease.reserve_bytes(bytes - request.bytes)?;
        } else {
            self.lease.release_bytes(request.bytes - bytes);
        }
        link.granted = link.granted - request.bytes + bytes;
        request.bytes = bytes;
        Ok(())
    }

    /// Decodes an inference, and books it: from here on it is owed an answer.
    fn accept<T: Transport>(
        &mut self,
        link: &mut Link<T>,
        slot: u32,
        intent: &Intent,
        body: &Bytes,
    ) -> Result<(), Refusal> {
        let meant = self.meant(slot, intent, body)?;
        let Decoded { inputs, rows, overrides, terms, asked } = match self.decode(intent, body, &meant) {
            Ok(decoded) => decoded,
            Err(Undecodable { refusal }) => return Err(refusal),
        };
        let version = meant.version;
        let Some(request) = self.requests.get(slot) else { return Ok(()) };
        let Urgency { priority, time: Patience { deadline, .. } } =
            self.urgency(terms.within(intent.terms), &version, request.began_at);
        let input_bytes = bytes_of(&inputs);
        let booked = match input_bytes > body.len() as u64 {
            true => self.rebook(link, slot, input_bytes).and_then(|()| self.book(&version, input_bytes)),
            false => self.book(&version, input_bytes),
        };
        booked.map_err(|refusal| with_id(refusal, asked.id.as_deref()))?;
        let ticket = self.mailbox.issue(slot);
        let alone = overrides || link.runs_alone(self.now);
        let Some(request) = self.requests.get_mut(slot) else { return Ok(()) };
        link.granted -= request.bytes;
        link.waiting += 1;
        if let Some(scope) = &mut request.scope {
            scope.accept(self.now);
        }
        let (key, placement, arrived_at) = (version.key, version.served.placement_of(input_bytes), self.now);
        let way = if version.prepares { None } else { version.departing(&inputs, rows, arrived_at) };
        request.stage = Stage::Waiting(Waiting { ticket, version, arrived_at, deadline, asked, input_bytes, rows });
        self.expect(deadline);
        let caller = Caller::new(ticket, Arc::clone(&self.mailbox));
        let prepared = None;
        let pending = Pending { caller, inputs, rows, arrived_at, deadline, priority, alone, prepared, way };
        let pending = Box::new(pending);
        match placement {
            Placement::Pool => {
                self.offers.push((key, pending));
                Ok(())
            }
            Placement::Inline => self.scheduler.offer(key, pending, self.now).map_err(|refused| {
                let Refused { pending, refusal } = *refused;
                // Answered here and now, so what the caller would put into the mailbox is not needed.
                pending.caller.dismiss();
                refusal
            }),
        }
    }

    /// Finds the model of an inference. Where a message names it, the model counts it from here on, and may refuse it.
    fn meant(&mut self, slot: u32, intent: &Intent, body: &Bytes) -> Result<Meant, Refusal> {
        match &intent.route {
            Route::Model { name, version, .. } => {
                let version = match &intent.version {
                    Some(version) if intent.generation == self.listing.generation => version,
                    _ => self.listing.find(name, version)?,
                };
                Ok(Meant { version: Arc::clone(version), is_told: false })
            }
            Route::Rpc(_) => {
                let lanes = &mut self.lanes;
                let known = self
                    .recent
                    .last(&self.listing)
                    .and_then(|version| Some((version, memory(lanes, version, &self.listing)?.message_terms(body)?)));
                let is_told = known.is_some();
                let (version, terms) = match known {
                    Some((version, terms)) => (Arc::clone(version), terms),
                    None => {
                        let Cover { name, version, terms } = grpc::peek(body, &self.shared.limits)?;
                        routes::check_version(version)?;
                        (Arc::clone(self.recent.find(&self.listing, name, version)?), terms)
                    }
                };
                let Some(request) = self.requests.get_mut(slot) else { return Err(Refusal::abandoned()) };
                let began_at = request.began_at;
                if let Some(scope) = &mut request.scope {
                    scope.enter(&version.counters[self.index]);
                }
                self.foresee(&version, terms.within(intent.terms), began_at, body.len() as u64)?;
                Ok(Meant { version, is_told })
            }
            _ => Err(Refusal::abandoned()),
        }
    }

    /// Reads the body of an inference by its model's contract.
    #[inline]
    fn decode(&mut self, intent: &Intent, body: &Bytes, meant: &Meant) -> Result<Decoded, Undecodable> {
        let Meant { version, is_told } = meant;
        let mut unknown = Memory::default();
        let memory = memory(&mut self.lanes, version, &self.listing).unwrap_or(&mut unknown);
        let (contract, limits) = (version.served.model.contract(), &self.shared.limits);
        match (memory.told().filter(|_| *is_told), &intent.route) {
            (Some(outline), _) => outline.decode(body, contract, limits),
            (None, Route::Rpc(_)) => grpc::decode(body, contract, limits, memory),
            _ => {
                let length = match intent.has_json_length {
                    true => JsonLength::from_values(intent.head.fields_named(JSON_LENGTH)),
                    false => JsonLength::Absent,
                };
                rest::decode(body, length, contract, limits, memory)
            }
        }
    }

    /// Reserves a place in the queue and the model's part of memory.
    fn book(&mut self, version: &Version, input_bytes: u64) -> Result<(), Refusal> {
        self.lease.reserve_request()?;
        let Some(lane) = self.lane(version.key) else {
            self.lease.release_request();
            return Err(Refusal::unloaded());
        };
        if lane.bytes.reserve(input_bytes) {
            return Ok(());
        }
        let free = lane.bytes.free();
        self.lease.release_request();
        Err(refusals::model_memory_full(&version.served.name, input_bytes, free))
    }
}

/// Who is to answer an inference.
struct Meant {
    version: Arc<Version>,
    /// Its message is the last one again but for its tensors.
    is_told: bool,
}

/// What is remembered of a model's requests.
fn memory<'l>(lanes: &'l mut [Lane], version: &Version, listing: &Listing) -> Option<&'l mut Memory> {
    let place = lanes.binary_search_by_key(&version.key, |lane| lane.version.key).ok()?;
    Some(lanes[place].memory.under(listing.generation))
}

fn bytes_of(inputs: &Inputs) -> u64 {
    inputs.iter().flatten().map(|tensor| tensor.data.len() as u64).sum()
}

fn ending(reason: CloseReason) -> Ending {
    match reason {
        CloseReason::Handshake => Ending::Handshake,
        CloseReason::Idle => Ending::Idle,
        CloseReason::Age => Ending::Age,
        CloseReason::Streams => Ending::Streams,
        CloseReason::H2Protocol => Ending::H2Protocol,
        CloseReason::Calm => Ending::Calm,
        CloseReason::DeadPeer => Ending::DeadPeer,
        CloseReason::WriteTimeout => Ending::WriteTimeout,
    }
}
